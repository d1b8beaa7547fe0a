//! One policy a file. None knows what it is applied to.

pub mod backoff;
pub mod dead_letter_limit;
pub mod gate;
pub mod order;
pub mod rate;
pub mod retry;
pub mod stamp;
pub mod transform;
