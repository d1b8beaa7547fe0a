use std::{collections::VecDeque, time::Duration};

use trestle_core::{Cause, Fault, FaultKind, Message, Scope};

/// What happens to one send.
#[derive(Clone, Debug)]
pub enum FaultSpec {
    /// It takes this much longer. Longer than `send_timeout`: `Unknown(Timeout)`, and the seed decides what was stored.
    Delay(Duration),
    /// It never ends, against what a lane promises; nothing is stored.
    Hang,
    /// All of it is `Refused`; nothing is stored.
    Refuse(Fault),
    /// The first `stored` messages are stored, the next is `Refused`, the rest `NotSent`.
    RefuseAt { stored: usize, fault: Fault },
    /// The first `told` messages are confirmed and the rest are `Unknown`, although the first `stored` are stored. A
    /// `Timeout` comes when `send_timeout` is over, anything else at once.
    Unconfirmed { told: usize, stored: usize, fault: Fault },
    /// All of it is stored, not as safely as configured: `Unknown(Unsure)`, or `Stored` to a sink that accepts that.
    Unsure,
    /// Another instance takes the partition over: every lane opened so far is fenced.
    Fence,
    /// All of it is `Refused`, but sends in flight behind it are stored all the same, which a correct lane never does.
    OrderBreak(Fault),
}

impl FaultSpec {
    /// Nothing is stored and nothing is answered.
    pub fn timeout() -> Self {
        FaultSpec::Unconfirmed { told: 0, stored: 0, fault: Fault::timeout("memory: no answer") }
    }

    /// Everything is stored and nothing is answered.
    pub fn lost_response() -> Self {
        FaultSpec::Unconfirmed { told: 0, stored: usize::MAX, fault: Fault::timeout("memory: the answer was lost") }
    }

    /// The connection breaks when `stored` messages are stored; nothing was confirmed.
    pub fn disconnect(stored: usize) -> Self {
        FaultSpec::Unconfirmed { told: 0, stored, fault: Fault::down("memory: connection lost") }
    }

    pub fn throttle(delay: Duration) -> Self {
        FaultSpec::Refuse(Fault::new(FaultKind::Throttled(delay), Scope::Partition, "memory: throttled"))
    }
}

/// What a frozen partition does not answer. A send or probe that hangs goes on when the partition thaws in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freeze {
    /// Sends, probes and opening a lane hang.
    Everything,
    /// Sends hang; probes answer (a full disk, missing replicas).
    Writes,
}

/// What a poisonous message does to a send that contains it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Poison {
    /// It is `Rejected` alone; those before it are stored.
    Message,
    /// The whole send is `Rejected`, with scope `Batch`.
    Batch,
    /// The whole send times out; nothing is stored.
    Timeout,
}

impl Poison {
    pub(crate) fn fault(self) -> Fault {
        let rejected = FaultKind::Rejected(Cause::Refused);
        match self {
            Poison::Message => Fault::new(rejected, Scope::Message, "memory: poison"),
            Poison::Batch => Fault::new(rejected, Scope::Batch, "memory: poison in the batch"),
            Poison::Timeout => Fault::timeout("memory: no answer (poison)"),
        }
    }
}

pub(crate) type Plan = Box<dyn FnMut(&[Message]) -> Option<FaultSpec> + Send>;
pub(crate) type Predicate = Box<dyn Fn(&Message) -> bool + Send>;

/// What is wrong with one target partition.
#[derive(Default)]
pub(crate) struct PartitionFaults {
    /// One a send, first come first served.
    pub queue: VecDeque<FaultSpec>,
    /// Asked for each send that finds the queue empty.
    pub plan: Option<Plan>,
    pub frozen: Option<Freeze>,
    pub down: Option<Fault>,
}

impl PartitionFaults {
    pub fn take(&mut self, unit: &[Message]) -> Option<FaultSpec> {
        self.queue.pop_front().or_else(|| self.plan.as_mut()?(unit))
    }
}
