//! Dead letters: how a message that could not be delivered is written down so that it can be read, judged and replayed.

mod format;
#[doc(hidden)]
pub mod fuzz;
mod join;
mod letter;
mod marked_topic;
mod pending;
mod replay;
mod write;

pub use format::{PREFIX, Report, dead_letter, is_dead_letter, is_part, restore};
pub use letter::Letter;
pub use pending::{Pending, SUBSCRIPTION};
pub use replay::{Fate, Place, Rules, Target};
pub use write::DeadLetters;
