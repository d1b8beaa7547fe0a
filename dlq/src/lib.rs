//! Dead letters: how a message that could not be delivered is written down so that it can be read, judged and replayed.

mod format;
#[doc(hidden)]
pub mod fuzz;
mod write;

pub use format::{PREFIX, Report, dead_letter, is_dead_letter, is_part, restore};
pub use write::DeadLetters;
