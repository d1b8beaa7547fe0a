//! `trestle top`: what a running instance does, on a terminal, over its API.

mod sample;
mod screen;

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
};

use self::{
    sample::Sample,
    screen::{Screen, lines},
};
use super::{Exit, answer, client};

/// Shows the instance at `address` until a key ends it; with `once`, or without a terminal, one sample as lines.
pub fn top(address: &str, every: Duration, once: bool) -> Exit {
    let first = match ask(address) {
        Ok(sample) => sample,
        Err(problem) => return failed(&problem),
    };
    if once || !std::io::stdout().is_terminal() {
        answer(&lines(&first));
        return Exit::Fine;
    }
    let terminal = match ratatui::try_init() {
        Ok(terminal) => terminal,
        Err(error) => return failed(&format!("the terminal cannot be used: {error}; --once prints lines")),
    };
    let shown = show(terminal, address, every, first);
    ratatui::restore();
    shown.map_or_else(|error| failed(&format!("the terminal went away: {error}")), |()| Exit::Fine)
}

fn show(mut terminal: DefaultTerminal, address: &str, every: Duration, first: Sample) -> std::io::Result<()> {
    let mut screen = Screen { sample: first, ..Screen::default() };
    let mut asked = Instant::now();
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        if event::poll(every.saturating_sub(asked.elapsed()))? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                    KeyCode::Up | KeyCode::Char('k') => screen.step(-1),
                    KeyCode::Down | KeyCode::Char('j') => screen.step(1),
                    _ => {}
                },
                _ => {}
            }
            continue;
        }
        let before = std::mem::replace(&mut asked, Instant::now());
        match ask(address) {
            Ok(sample) => {
                screen.sample = sample.since(&screen.sample, asked - before);
                screen.problem = None;
                screen.step(0);
            }
            // What was told last stays to be read.
            Err(problem) => screen.problem = Some(problem),
        }
    }
}

fn ask(address: &str) -> Result<Sample, String> {
    Ok(Sample::of(&client::get(address, "/api/v1/status")?, &client::get(address, "/api/v1/routes")?))
}

fn failed(problem: &str) -> Exit {
    eprintln!("error: {problem}");
    Exit::Failed
}
