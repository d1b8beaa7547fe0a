//! What is logged, and how it is changed while it runs.

use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
};

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

/// The environment variable that says what is logged at the start.
const VARIABLE: &str = "TRESTLE_LOG";
/// Trestle says each change of state. Clients repeat every failed attempt at lower levels.
pub const DEFAULT: &str = "error,trestle=info";
/// The target of lines about who changes what; no filter leaves them out.
pub const AUDIT: &str = "audit";
/// Characters of a filter, and pairs in it.
const LONGEST: usize = 1_024;
const MOST_PAIRS: usize = 64;
const EXPECTED: &str = "LEVEL or TARGET=LEVEL, with commas between several, as in `error,trestle=debug`; levels are off, \
                        error, warn, info, debug and trace";

/// The filter that holds now.
pub struct Filter {
    text: Mutex<String>,
    put: Box<dyn Fn(Targets) -> Result<(), String> + Send + Sync>,
}

impl Filter {
    /// `put` makes another one hold.
    pub fn new(text: &str, put: impl Fn(Targets) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Filter { text: Mutex::new(text.to_owned()), put: Box::new(put) }
    }

    /// As it was written.
    pub fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives back the one that held until now. A wrong one changes nothing.
    pub fn set(&self, text: &str) -> Result<String, String> {
        let targets = parse(text)?;
        let mut held = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        (self.put)(targets)?;
        Ok(std::mem::replace(&mut *held, text.to_owned()))
    }
}

/// Text on a terminal, JSON otherwise. To be called once.
pub fn start() -> Filter {
    let written = std::env::var(VARIABLE).ok();
    let wanted = written.as_deref().map(parse);
    let text = written.as_deref().filter(|_| matches!(wanted, Some(Ok(_)))).unwrap_or(DEFAULT);
    let (filter, handle) = reload::Layer::new(parse(text).unwrap_or_default());
    let registry = tracing_subscriber::registry().with(filter);
    if std::io::stderr().is_terminal() {
        registry.with(tracing_subscriber::fmt::layer().with_target(false).with_writer(std::io::stderr)).init();
    } else {
        registry.with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).init();
    }
    if let Some(Err(problem)) = wanted {
        tracing::error!(problem, expected = EXPECTED, "{VARIABLE} is wrong: {DEFAULT} holds");
    }
    Filter::new(text, move |targets| handle.reload(targets).map_err(|error| error.to_string()))
}

/// What is wrong is said in words. A word that is no level would be taken for a target of which everything is logged, and
/// nothing else.
fn parse(text: &str) -> Result<Targets, String> {
    if text.chars().count() > LONGEST || text.split(',').count() > MOST_PAIRS {
        return Err(format!("it has more than {LONGEST} characters, or {MOST_PAIRS} pairs"));
    }
    let mut targets = Targets::new();
    for pair in text.split(',').map(str::trim) {
        let (target, level) = pair.split_once('=').map_or((None, pair), |(target, level)| (Some(target.trim()), level));
        let level = level.trim();
        // Nothing would be taken for `error`.
        let known = Some(level).filter(|level| !level.is_empty()).and_then(|level| level.parse::<LevelFilter>().ok());
        let level = known.ok_or_else(|| format!("`{level}` is no level: expected {EXPECTED}"))?;
        targets = match target {
            None => targets.with_default(level),
            Some(target) if is_target(target) => targets.with_target(target, level),
            Some(target) => return Err(format!("`{target}` is no target: expected {EXPECTED}")),
        };
    }
    Ok(targets.with_target(AUDIT, LevelFilter::INFO))
}

fn is_target(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || ['_', ':', '-', '.'].contains(&c))
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_filter_says_what_is_logged_and_who_changes_what_always_is() {
        let targets = parse("error, trestle=debug").unwrap();
        assert!(targets.would_enable("trestle::supervisor", &Level::DEBUG));
        assert!(!targets.would_enable("rdkafka", &Level::WARN));
        for text in [DEFAULT, "off", "audit=off", "trace"] {
            assert!(parse(text).unwrap().would_enable(AUDIT, &Level::INFO), "{text}");
        }
    }

    #[test]
    fn a_wrong_filter_changes_nothing_and_says_what_is_wrong() {
        let filter = Filter::new(DEFAULT, |_| Ok(()));
        let long = "a".repeat(LONGEST + 1);
        let many = vec!["info"; MOST_PAIRS + 1].join(",");
        for (text, says) in [
            ("debg", "`debg` is no level"),
            ("trestle=loud", "`loud` is no level"),
            ("", "`` is no level"),
            ("info,", "`` is no level"),
            ("=info", "`` is no target"),
            ("trestle[span]=info", "`trestle[span]` is no target"),
            (&long, "more than"),
            (&many, "more than"),
        ] {
            let said = filter.set(text).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
        }
        assert_eq!(filter.set("debug"), Ok(DEFAULT.to_owned()));
        assert_eq!(filter.text(), "debug");
    }
}
