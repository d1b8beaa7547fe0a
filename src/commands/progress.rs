//! How far a command has come, on a terminal's standard error.

use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

const REDRAW: Duration = Duration::from_millis(200);

pub struct Progress(ProgressBar);

impl Progress {
    /// `steps`, if it is known how many there are. Shows nothing where standard error is no terminal.
    pub fn new(doing: String, steps: Option<u64>) -> Self {
        let (bar, template) = match steps {
            Some(steps) => (ProgressBar::new(steps), "{elapsed_precise} {prefix} [{wide_bar}] {percent}% {msg}"),
            None => (ProgressBar::no_length(), "{elapsed_precise} {prefix} {spinner} {msg}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bar.with_style(style).with_prefix(doing);
        bar.enable_steady_tick(REDRAW);
        Progress(bar)
    }

    pub fn has_end(&self) -> bool {
        self.0.length().is_some()
    }

    pub fn at(&self, step: u64, messages: u64) {
        self.0.set_position(step);
        let rate = messages as f64 / self.0.elapsed().as_secs_f64().max(0.001);
        self.0.set_message(format!("{} messages, {}/s", HumanCount(messages), HumanCount(rate as u64)));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
