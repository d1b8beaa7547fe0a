//! Who waits for which delivery reports.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::oneshot;

use crate::native::Report;

/// A message's tag holds the number of its unit and its place in it.
const PLACE_BITS: u32 = 32;
const _: () = assert!(usize::BITS >= 2 * PLACE_BITS, "tags need 64 bits");

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Pending,
    Stored,
    Failed { code: Code, perhaps_stored: bool, words: Option<Arc<str>> },
}

/// Units in flight of one producer.
#[derive(Default)]
pub(super) struct Units {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u32,
    units: HashMap<u32, Unit>,
}

struct Unit {
    fates: Vec<Fate>,
    resolved: usize,
    /// Messages that were handed to the client, once all are.
    handed_over: Option<usize>,
    failed: bool,
    answer: oneshot::Sender<Vec<Fate>>,
}

impl Units {
    /// A unit of at most `messages`. The answer comes when every message handed over was reported.
    pub(super) fn open(&self, messages: usize) -> (u32, oneshot::Receiver<Vec<Fate>>) {
        let (answer, fates) = oneshot::channel();
        let mut state = self.lock();
        let number = state.next;
        state.next = state.next.wrapping_add(1);
        let fates_now = vec![Fate::Pending; messages];
        let unit = Unit { fates: fates_now, resolved: 0, handed_over: None, failed: false, answer };
        state.units.insert(number, unit);
        (number, fates)
    }

    pub(super) fn tag(unit: u32, place: usize) -> usize {
        ((unit as usize) << PLACE_BITS) | place
    }

    /// Whether a message of the unit failed already, so that nothing more of it may follow.
    pub(super) fn has_failed(&self, unit: u32) -> bool {
        self.lock().units.get(&unit).is_some_and(|unit| unit.failed)
    }

    pub(super) fn handed_over(&self, unit: u32, messages: usize) {
        let mut state = self.lock();
        if let Some(open) = state.units.get_mut(&unit) {
            open.handed_over = Some(messages);
            open.fates.truncate(messages);
        }
        state.close_if_resolved(unit);
    }

    /// Takes the reports of one event. True when a unit has failed of which messages are still in the client.
    pub(super) fn report(&self, reports: &[Report]) -> bool {
        let mut state = self.lock();
        let mut failed = Vec::new();
        for report in reports {
            let (number, place) = ((report.tag >> PLACE_BITS) as u32, report.tag & ((1 << PLACE_BITS) - 1));
            let Some(unit) = state.units.get_mut(&number) else { continue };
            let Some(fate) = unit.fates.get_mut(place).filter(|fate| **fate == Fate::Pending) else { continue };
            *fate = match report.error {
                None => Fate::Stored,
                Some(code) => Fate::Failed { code, perhaps_stored: report.perhaps_stored, words: report.words.clone() },
            };
            unit.resolved += 1;
            if report.error.is_some() && !std::mem::replace(&mut unit.failed, true) {
                failed.push(number);
            }
            state.close_if_resolved(number);
        }
        failed.iter().any(|number| state.units.contains_key(number))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change below is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close_if_resolved(&mut self, number: u32) {
        if self.units.get(&number).is_some_and(|unit| unit.handed_over == Some(unit.resolved))
            && let Some(unit) = self.units.remove(&number)
        {
            // Whoever asked may have been cancelled.
            let _ = unit.answer.send(unit.fates);
        }
    }
}

/// Shared by a producer and its thread.
pub(super) type SharedUnits = Arc<Units>;

#[cfg(test)]
mod tests {
    use super::*;

    fn report(unit: u32, place: usize, error: Option<Code>) -> Report {
        Report { tag: Units::tag(unit, place), error, perhaps_stored: false, words: None }
    }

    #[test]
    fn a_unit_is_answered_when_its_last_report_is_in_whatever_came_first() {
        let units = Units::default();
        let (unit, mut fates) = units.open(3);
        assert!(!units.report(&[report(unit, 1, None), report(unit, 0, None)]));
        units.handed_over(unit, 3);
        assert!(fates.try_recv().is_err());
        assert!(!units.report(&[report(unit, 2, None)]));
        assert_eq!(fates.try_recv().unwrap(), vec![Fate::Stored; 3]);
    }

    #[test]
    fn a_unit_cut_short_waits_for_what_was_handed_over_only() {
        let units = Units::default();
        let (unit, mut fates) = units.open(5);
        units.report(&[report(unit, 0, None)]);
        units.handed_over(unit, 1);
        assert_eq!(fates.try_recv().unwrap(), vec![Fate::Stored]);
        let (unit, mut fates) = units.open(5);
        units.handed_over(unit, 0);
        assert_eq!(fates.try_recv().unwrap(), vec![]);
    }

    #[test]
    fn a_failure_is_told_once_and_only_while_the_rest_could_still_be_stored() {
        let units = Units::default();
        let (unit, _fates) = units.open(3);
        units.handed_over(unit, 3);
        assert!(units.report(&[report(unit, 0, Some(Code::MessageTimedOut))]));
        assert!(units.has_failed(unit));
        assert!(!units.report(&[report(unit, 1, Some(Code::PurgeQueue))]), "told already");
        let (unit, _fates) = units.open(1);
        units.handed_over(unit, 1);
        assert!(!units.report(&[report(unit, 0, Some(Code::MessageTimedOut))]), "nothing is left");
    }
}
