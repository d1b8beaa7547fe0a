//! How a lane keeps to the rates it is limited to: it waits for its turn before each unit, and goes on with all else meanwhile.

use trestle_core::BoxFuture;

use super::{InFlight, LaneTask, unit::condemned_of};
use crate::policy::rate::{Limiter, Turn};

impl LaneTask {
    /// A turn to wait for, when there is something that may be sent and room in the window for it.
    pub(super) fn ask_for_a_turn(&self, in_flight: &InFlight) -> Option<BoxFuture<'static, Turn>> {
        let room = self.window().is_some_and(|window| in_flight.len() < window);
        let front = self.pending.front().filter(|_| room)?;
        let head = front.first()?;
        let sendable = head.defect.is_none() && condemned_of(&self.failures, front) != Some(head.position);
        // An ended epoch is dropped with the next sweep.
        (sendable && front.batch().is_current()).then(|| {
            let turn: BoxFuture<'static, Turn> = Box::pin(Limiter::turn(self.context.rates.clone()));
            turn
        })
    }

    /// Messages and bytes of a unit at most, by the rates.
    pub(super) fn rated_unit(&self) -> (usize, usize) {
        let units = self.context.rates.iter().map(|limit| limit.unit());
        units.fold((usize::MAX, usize::MAX), |least, unit| (least.0.min(unit.0), least.1.min(unit.1)))
    }
}

/// Resolves with the turn that is waited for, and never when there is none.
pub(super) async fn granted(turn: &mut Option<BoxFuture<'static, Turn>>) -> Turn {
    match turn {
        Some(turn) => turn.await,
        None => std::future::pending().await,
    }
}
