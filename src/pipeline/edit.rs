//! What a hop does to messages before they are placed: its transforms, and its stamp.

use trestle_core::Batch;

use super::meter::Meter;
use crate::policy::{
    stamp::{Seen, Stamp},
    transform::{self, Transform},
};

/// What the first hop of a route does; the second has nothing left to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    pub transforms: Vec<Transform>,
    pub stamp: Option<Stamp>,
}

impl Edits {
    /// Carries them out on a batch that just arrived, and settles what does not go on. What goes on, ascending; `None`: all of
    /// it. A record that could not be read as a message goes on as it is, to the dead letters.
    pub(super) fn apply(&self, batch: &mut Batch, meter: &Meter) -> Option<Vec<u32>> {
        if self.transforms.is_empty() && self.stamp.is_none() {
            return None;
        }
        let (mut filtered, mut again) = (Vec::new(), Vec::new());
        let partition = batch.partition;
        for (index, message) in (0..).zip(&mut batch.messages).filter(|(_, message)| message.defect.is_none()) {
            if !transform::apply(&self.transforms, message) {
                filtered.push(index);
            } else if self.stamp.as_ref().is_some_and(|stamp| stamp.put(partition, message) == Seen::Again) {
                again.push(index);
            }
        }
        if filtered.is_empty() && again.is_empty() {
            return None;
        }
        meter.filtered("transform", filtered.len());
        meter.filtered("loop", again.len());
        let gone = [filtered, again].concat();
        batch.ack.settle(gone.iter().copied());
        let gone: std::collections::BTreeSet<u32> = gone.into_iter().collect();
        Some((0..batch.messages.len() as u32).filter(|index| !gone.contains(index)).collect())
    }
}
