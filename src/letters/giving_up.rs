//! Letters that nobody wants any more.

use super::{Letters, Pick};

/// Letters that are given up at a time.
const WINDOW: usize = 100;

/// How many letters it were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GivenUp {
    pub letters: u64,
    /// It ended early: there may be more.
    pub stopped: bool,
}

/// Counts the letters, and gives them up if it is meant. Ends early once `stop` says so; what was given up by then stays so.
pub async fn give_up(pick: &Pick<'_>, meant: bool, stop: impl Fn() -> bool) -> Result<GivenUp, String> {
    let mut given_up = GivenUp::default();
    for topic in &pick.topics {
        let Some(mut letters) = Letters::open(topic, pick.table.memory.largest_message, pick.patience).await? else {
            continue;
        };
        let mut window = Vec::new();
        loop {
            given_up.stopped = given_up.stopped || stop();
            let letter = if given_up.stopped { None } else { letters.next().await? };
            let end = letter.is_none();
            match letter {
                Some(letter) if pick.filter.takes(&letter) => window.push(letter),
                Some(letter) => letters.leave(&letter),
                None => {}
            }
            if end || window.len() == WINDOW {
                if meant {
                    letters.handled(&window).await?;
                }
                given_up.letters += window.len() as u64;
                window.clear();
            }
            if end {
                break;
            }
        }
    }
    Ok(given_up)
}
