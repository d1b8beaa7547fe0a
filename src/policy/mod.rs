//! One policy a file. None knows what it is applied to.

pub mod backoff;
pub mod gate;
pub mod retry;
