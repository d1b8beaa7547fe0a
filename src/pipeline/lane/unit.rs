//! What goes into one send.

use std::collections::BTreeMap;

use trestle_core::{PartitionId, Position, Slice};

use super::LaneTask;
use crate::policy::retry::Failures;

impl LaneTask {
    /// Takes the next unit from what is pending; empty when there is none, or when the head is not to be sent.
    pub(super) fn gather(&mut self) -> Vec<Slice> {
        let limits = self.context.sink.limits();
        let rated = self.rated_unit();
        let mut messages = self.bisect.as_ref().map_or(limits.unit_messages, |b| b.unit).min(rated.0).max(1);
        let mut bytes = limits.unit_bytes.min(rated.1);
        let mut unit = Vec::new();
        while let Some(front) = self.pending.front_mut() {
            if !front.batch().is_current() {
                self.pending.pop_front();
                continue;
            }
            let condemned = condemned_of(&self.failures, front);
            let (mut fit, mut used, mut whole) = (0, 0, true);
            for message in front.iter() {
                let size = message.size();
                let too_much = used + size > bytes && (fit > 0 || !unit.is_empty());
                if message.defect.is_some() || condemned == Some(message.position) || fit == messages || too_much {
                    whole = false;
                    break;
                }
                fit += 1;
                used += size;
            }
            if fit > 0 {
                unit.push(front.take_front(fit));
            }
            if !whole {
                break;
            }
            self.pending.pop_front();
            messages -= fit;
            bytes = bytes.saturating_sub(used);
            if messages == 0 || bytes == 0 {
                break;
            }
        }
        unit
    }

    /// Takes the message that is sent next past the head, which is taken already: the first that may be sent, and what lies
    /// before it.
    pub(super) fn take_witness(&mut self) -> Option<(Vec<Slice>, Slice)> {
        let mut skipped = Vec::new();
        while let Some(mut slice) = self.pending.pop_front() {
            if !slice.batch().is_current() {
                continue;
            }
            let condemned = condemned_of(&self.failures, &slice);
            let sendable = |m: &trestle_core::Message| m.defect.is_none() && condemned != Some(m.position);
            let Some(at) = slice.iter().position(sendable) else {
                skipped.push(slice);
                continue;
            };
            if at > 0 {
                skipped.push(slice.take_front(at));
            }
            let witness = slice.take_front(1);
            if !slice.is_empty() {
                self.pending.push_front(slice);
            }
            return Some((skipped, witness));
        }
        self.put_back(skipped);
        None
    }

    /// Puts slices back in front of what is pending.
    pub(super) fn put_back(&mut self, slices: Vec<Slice>) {
        for slice in slices.into_iter().rev() {
            self.pending.push_front(slice);
        }
    }
}

/// Where the slice's source partition has a message that may not be sent any more.
pub(super) fn condemned_of(failures: &BTreeMap<PartitionId, Failures>, slice: &Slice) -> Option<Position> {
    failures.get(&slice.batch().partition).filter(|f| f.condemned).map(|f| f.position)
}
