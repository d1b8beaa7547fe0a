//! What the pipeline promises, one promise a test, over the memory connector and under paused time.

mod dead_letters;
mod edits;
mod hangs;
mod leaving;
mod orders;
mod outages;
mod rates;
mod rig;
mod too_many;
