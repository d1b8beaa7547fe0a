//! What was received and is not acknowledged: whose it is, by which handle, until when, and what of it waits to be handed out.
//! No I/O.
//!
//! - What the pipeline gives back is handed out again from here. Given back to the group it would count as an attempt, and after
//!   some of those (`retryMaxTimes`) the broker moves a message away.
//! - A message whose invisibility ran out comes again, with another handle, and so does one whose acknowledgement a broker forgot
//!   that was killed. While it is held, or was settled not long ago, it is known again and not handed out twice.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use tokio::time::{Duration, Instant};
use trestle_core::{Message, Position};

use super::incoming::Incoming;
use crate::proxy::protocol::AckEntry;

/// Nothing more is received while so much is held; what was asked for before may come on top.
pub const HELD_MESSAGES: usize = 2_048;
pub const HELD_BYTES: usize = 32 << 20;
/// Messages remembered that were settled, the latest.
const REMEMBERED: usize = 16_384;

/// A message's number, in the order of arrival.
pub type Number = u64;

#[derive(Default)]
pub struct Hold {
    held: BTreeMap<Number, Held>,
    numbers: HashMap<Position, Number>,
    /// Not handed out in this epoch.
    waiting: VecDeque<Number>,
    next: Number,
    /// Of messages that are not settled.
    bytes: usize,
    remembered: Remembered,
}

pub struct Held {
    /// The broker that handed it out.
    pub broker: usize,
    position: Position,
    id: String,
    /// None: it ran out, and the message is to come again.
    handle: Option<String>,
    attempt: i32,
    /// None: settled.
    message: Option<Message>,
    /// From then on somebody else may be given it.
    visible_at: Instant,
    /// Not to be renewed before.
    renew_at: Instant,
    /// Something is being asked about it.
    busy: bool,
}

/// What an acknowledgement came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acked {
    Done,
    /// The handle means nothing any more.
    RanOut,
    Failed,
}

/// What a renewal came to.
pub enum Renewed {
    Done {
        handle: String,
        visible_at: Instant,
    },
    RanOut,
    /// Perhaps renewed. Which handle counts is not known then: it may come again though it is acknowledged.
    Failed,
}

/// Part of the time that a message is invisible after which it is renewed.
const RENEWED_AFTER: u32 = 3;
/// Between attempts to renew.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

impl Hold {
    /// Takes what was received, invisible for `invisible` from `since` on.
    pub fn arrive(&mut self, broker: usize, incoming: Incoming, since: Instant, invisible: Duration) {
        let Incoming { mut message, id, handle, attempt } = incoming;
        let (visible_at, renew_at) = (since + invisible, since + invisible / RENEWED_AFTER);
        let mut settled = false;
        loop {
            match self.numbers.get(&message.position).and_then(|number| self.held.get_mut(number)) {
                // It comes again: the newer handle counts, and what is being asked about the older one says nothing.
                Some(held) if held.attempt < attempt => {
                    let handle = Some(handle);
                    (held.handle, held.broker, held.attempt) = (handle, broker, attempt);
                    (held.visible_at, held.renew_at, held.busy) = (visible_at, renew_at, false);
                    return;
                }
                // Its like, sent twice: each is a message.
                Some(_) => message.position = following(message.position),
                None => {
                    settled |= attempt > 1 && self.remembered.known.contains(&message.position);
                    break;
                }
            }
        }
        let (number, position) = (self.next, message.position);
        self.next += 1;
        self.numbers.insert(position, number);
        let message = (!settled).then_some(message);
        if let Some(message) = &message {
            self.bytes += message.size();
            self.waiting.push_back(number);
        }
        let (busy, handle) = (false, Some(handle));
        let held = Held { broker, position, id, handle, attempt, message, visible_at, renew_at, busy };
        self.held.insert(number, held);
    }

    pub fn is_full(&self) -> bool {
        self.held.len() >= HELD_MESSAGES || self.bytes >= HELD_BYTES
    }

    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Bytes of what waits to be handed out.
    pub fn waiting_bytes(&self) -> usize {
        let sizes = self.waiting.iter().filter_map(|number| self.held.get(number)?.message.as_ref());
        sizes.map(Message::size).sum()
    }

    /// What is to be handed out next: at most so many messages, and bytes up to the message that crosses the line.
    pub fn take(&mut self, messages: usize, bytes: u64) -> Vec<Message> {
        let (mut taken, mut sum) = (Vec::new(), 0);
        while taken.len() < messages && sum < bytes {
            let Some(number) = self.waiting.pop_front() else { break };
            let Some(message) = self.held.get(&number).and_then(|held| held.message.clone()) else { continue };
            sum += message.size() as u64;
            taken.push(message);
        }
        taken
    }

    /// The pipeline has nothing in hand any more: all that is not settled and still ours waits again. What somebody else may have
    /// been given by now comes from the broker, if it comes to us.
    pub fn restart(&mut self, now: Instant) {
        let lost: Vec<Number> = self.unsettled().filter(|(_, held)| !held.is_ours(now)).map(|(n, _)| *n).collect();
        for number in lost {
            self.remove(number);
        }
        self.waiting = self.unsettled().map(|(number, _)| *number).collect();
    }

    fn unsettled(&self) -> impl Iterator<Item = (&Number, &Held)> {
        self.held.iter().filter(|(_, held)| held.message.is_some())
    }

    /// These are settled; answers those of them that cannot be acknowledged and are forgotten.
    pub fn settle(&mut self, positions: &[Position]) -> Vec<Position> {
        let mut forgotten = Vec::new();
        for position in positions {
            let Some(number) = self.numbers.get(position).copied() else {
                forgotten.push(*position);
                continue;
            };
            let Some(held) = self.held.get_mut(&number) else { continue };
            self.bytes -= held.message.take().map_or(0, |message| message.size());
            if held.handle.is_none() {
                self.remove(number);
                self.remembered.add(*position);
                forgotten.push(*position);
            }
        }
        forgotten
    }

    /// What of a broker's messages can be acknowledged now, at most so many; they are busy then.
    pub fn acknowledge(&mut self, broker: usize, most: usize) -> Vec<(Number, AckEntry)> {
        let due = |held: &&mut Held| held.broker == broker && held.message.is_none() && !held.busy;
        let all = self.held.iter_mut().map(|(number, held)| (*number, held)).filter(|(_, held)| due(held));
        all.filter_map(|(number, held)| held.claim().map(|entry| (number, entry))).take(most).collect()
    }

    /// Whether [`Hold::acknowledge`] would answer anything.
    pub fn owes(&self, broker: usize) -> bool {
        self.held.values().any(|held| held.broker == broker && held.message.is_none() && !held.busy)
    }

    /// The message's position, where nothing more is to be done about it.
    pub fn acknowledged(&mut self, number: Number, entry: &AckEntry, acked: Acked) -> Option<Position> {
        let held = self.held.get_mut(&number)?;
        if held.handle.as_ref() != Some(&entry.receipt_handle) {
            // It came again meanwhile, and is acknowledged by its newer handle.
            return None;
        }
        held.busy = false;
        let position = held.position;
        if acked == Acked::Failed {
            return None;
        }
        self.remove(number);
        self.remembered.add(position);
        Some(position)
    }

    /// Messages whose invisibility is to be renewed, at most so many; they are busy then.
    pub fn renew(&mut self, now: Instant, most: usize) -> Vec<(Number, usize, AckEntry)> {
        let due = |held: &&mut Held| held.message.is_some() && !held.busy && held.renew_at <= now;
        let all = self.held.iter_mut().map(|(number, held)| (*number, held)).filter(|(_, held)| due(held));
        let claimed = all.filter_map(|(number, held)| held.claim().map(|entry| (number, held.broker, entry)));
        claimed.take(most).collect()
    }

    pub fn renewed(&mut self, number: Number, entry: &AckEntry, renewed: Renewed, now: Instant, invisible: Duration) {
        let Some(held) = self.held.get_mut(&number) else { return };
        if held.handle.as_ref() != Some(&entry.receipt_handle) {
            return;
        }
        held.busy = false;
        match renewed {
            Renewed::Done { handle, visible_at } => {
                (held.handle, held.visible_at) = (Some(handle), visible_at);
                held.renew_at = visible_at - (invisible - invisible / RENEWED_AFTER);
            }
            Renewed::RanOut => held.handle = None,
            Renewed::Failed => held.renew_at = now + RENEW_AGAIN,
        }
    }

    /// All that is not settled, to be given back; nothing is held of it then.
    pub fn give_back(&mut self) -> Vec<(usize, AckEntry)> {
        let numbers: Vec<Number> = self.unsettled().map(|(number, _)| *number).collect();
        let entries = numbers.into_iter().filter_map(|number| {
            let mut held = self.remove(number)?;
            Some((held.broker, held.claim()?))
        });
        entries.collect()
    }

    fn remove(&mut self, number: Number) -> Option<Held> {
        let held = self.held.remove(&number)?;
        self.numbers.remove(&held.position);
        self.bytes -= held.message.as_ref().map_or(0, Message::size);
        Some(held)
    }
}

impl Held {
    fn is_ours(&self, now: Instant) -> bool {
        self.handle.is_some() && now < self.visible_at
    }

    fn claim(&mut self) -> Option<AckEntry> {
        let receipt_handle = self.handle.clone()?;
        self.busy = true;
        Some(AckEntry { message_id: self.id.clone(), receipt_handle })
    }
}

fn following(position: Position) -> Position {
    match position {
        Position::Entry { ledger, entry, index } => Position::Entry { ledger, entry, index: index.wrapping_add(1) },
        Position::Offset(offset) => Position::Offset(offset.wrapping_add(1)),
    }
}

/// The latest so many.
#[derive(Default)]
struct Remembered {
    order: VecDeque<Position>,
    known: BTreeSet<Position>,
}

impl Remembered {
    fn add(&mut self, position: Position) {
        if self.known.insert(position) {
            self.order.push_back(position);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVISIBLE: Duration = Duration::from_secs(30);

    fn incoming(n: u64, attempt: i32, handle: &str) -> Incoming {
        let mut message = Message::at(Position::Entry { ledger: n, entry: 7, index: 0 });
        message.value = Some(vec![b'x'; 100].into());
        Incoming { message, id: format!("id {n}"), handle: handle.into(), attempt }
    }

    fn arrive(hold: &mut Hold, n: u64, attempt: i32, handle: &str) {
        hold.arrive(0, incoming(n, attempt, handle), Instant::now(), INVISIBLE);
    }

    fn taken(hold: &mut Hold) -> Vec<Position> {
        hold.take(usize::MAX, u64::MAX).iter().map(|message| message.position).collect()
    }

    fn at(n: u64, index: u32) -> Position {
        Position::Entry { ledger: n, entry: 7, index }
    }

    fn acks(hold: &mut Hold) -> Vec<(Number, AckEntry)> {
        hold.acknowledge(0, usize::MAX)
    }

    fn handles(entries: &[(Number, AckEntry)]) -> Vec<&str> {
        entries.iter().map(|(_, entry)| entry.receipt_handle.as_str()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_settled_is_acknowledged_once_by_its_handle() {
        let mut hold = Hold::default();
        (1..4).for_each(|n| arrive(&mut hold, n, 1, &format!("h{n}")));
        assert_eq!(taken(&mut hold), [at(1, 0), at(2, 0), at(3, 0)]);
        assert!(acks(&mut hold).is_empty() && !hold.owes(0));
        assert!(hold.settle(&[at(3, 0), at(1, 0)]).is_empty());
        let due = acks(&mut hold);
        assert_eq!(handles(&due), ["h1", "h3"]);
        assert!(acks(&mut hold).is_empty(), "an answer is awaited");
        assert_eq!(hold.acknowledged(due[0].0, &due[0].1, Acked::Failed), None);
        assert_eq!(hold.acknowledged(due[1].0, &due[1].1, Acked::Done), Some(at(3, 0)));
        assert_eq!(handles(&acks(&mut hold)), ["h1"], "once more");
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_again_while_it_is_held_is_not_handed_out_again_and_has_the_newer_handle() {
        let mut hold = Hold::default();
        arrive(&mut hold, 1, 1, "old");
        assert_eq!(taken(&mut hold).len(), 1);
        arrive(&mut hold, 1, 2, "new");
        assert!(!hold.is_waiting());
        hold.settle(&[at(1, 0)]);
        let due = acks(&mut hold);
        assert_eq!(handles(&due), ["new"]);
        arrive(&mut hold, 1, 3, "newest");
        assert_eq!(hold.acknowledged(due[0].0, &due[0].1, Acked::RanOut), None, "of the handle before");
        assert_eq!(handles(&acks(&mut hold)), ["newest"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_sent_twice_is_two() {
        let mut hold = Hold::default();
        arrive(&mut hold, 1, 1, "a");
        arrive(&mut hold, 1, 1, "b");
        assert_eq!(taken(&mut hold), [at(1, 0), at(1, 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_settled_when_its_handle_ran_out_is_acknowledged_when_it_comes_again() {
        let mut hold = Hold::default();
        arrive(&mut hold, 1, 1, "a");
        arrive(&mut hold, 2, 1, "b");
        taken(&mut hold);
        hold.settle(&[at(1, 0)]);
        let due = acks(&mut hold);
        assert_eq!(hold.acknowledged(due[0].0, &due[0].1, Acked::RanOut), Some(at(1, 0)));
        let renewal = hold.renew(Instant::now() + INVISIBLE, 9).remove(0);
        hold.renewed(renewal.0, &renewal.2, Renewed::RanOut, Instant::now(), INVISIBLE);
        assert_eq!(hold.settle(&[at(2, 0)]), [at(2, 0)]);
        arrive(&mut hold, 1, 2, "a2");
        arrive(&mut hold, 2, 2, "b2");
        assert!(!hold.is_waiting());
        assert_eq!(handles(&acks(&mut hold)), ["a2", "b2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_is_handed_out_again_in_its_order_unless_it_may_be_anothers() {
        let mut hold = Hold::default();
        (1..5).for_each(|n| arrive(&mut hold, n, 1, &format!("h{n}")));
        assert_eq!(hold.take(3, u64::MAX).len(), 3);
        hold.settle(&[at(2, 0)]);
        let renewals = hold.renew(Instant::now() + INVISIBLE / 3, 1);
        hold.renewed(renewals[0].0, &renewals[0].2, Renewed::RanOut, Instant::now(), INVISIBLE);
        hold.restart(Instant::now());
        assert_eq!(taken(&mut hold), [at(3, 0), at(4, 0)]);
        hold.restart(Instant::now() + INVISIBLE);
        assert!(!hold.is_waiting());
        assert_eq!(hold.bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_is_renewed_long_before_it_runs_out() {
        let mut hold = Hold::default();
        let begin = Instant::now();
        arrive(&mut hold, 1, 1, "a");
        assert!(hold.renew(begin + INVISIBLE / 4, 9).is_empty());
        let (number, broker, entry) = hold.renew(begin + INVISIBLE / 3, 9).remove(0);
        assert_eq!((broker, entry.receipt_handle.as_str()), (0, "a"));
        assert!(hold.renew(begin + INVISIBLE / 2, 9).is_empty(), "it is being renewed");
        let visible_at = begin + 2 * INVISIBLE;
        hold.renewed(number, &entry, Renewed::Done { handle: "b".into(), visible_at }, begin + INVISIBLE, INVISIBLE);
        assert!(hold.renew(begin + INVISIBLE, 9).is_empty());
        let (number, _, entry) = hold.renew(begin + INVISIBLE + INVISIBLE / 3, 9).remove(0);
        assert_eq!(entry.receipt_handle, "b");
        let now = begin + INVISIBLE + INVISIBLE / 3;
        hold.renewed(number, &entry, Renewed::Failed, now, INVISIBLE);
        assert!(hold.renew(now, 9).is_empty());
        assert_eq!(hold.renew(now + RENEW_AGAIN, 9).len(), 1, "tried again");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_broker_hands_out_once_more_though_it_was_acknowledged_is_acknowledged_again() {
        let mut hold = Hold::default();
        arrive(&mut hold, 1, 1, "a");
        taken(&mut hold);
        hold.settle(&[at(1, 0)]);
        let due = acks(&mut hold);
        assert_eq!(hold.acknowledged(due[0].0, &due[0].1, Acked::Done), Some(at(1, 0)));
        arrive(&mut hold, 1, 2, "b");
        assert!(!hold.is_waiting());
        assert_eq!(handles(&acks(&mut hold)), ["b"]);
        // Where an operator set the group back it is delivered for the first time once more.
        let mut hold = Hold::default();
        hold.remembered.add(at(1, 0));
        arrive(&mut hold, 1, 1, "c");
        assert!(hold.is_waiting());
    }

    #[tokio::test(start_paused = true)]
    async fn so_much_is_held_and_no_more() {
        let mut hold = Hold::default();
        for n in 0..HELD_MESSAGES as u64 {
            assert!(!hold.is_full());
            arrive(&mut hold, n, 1, "h");
        }
        assert!(hold.is_full());
        assert_eq!(hold.give_back().len(), HELD_MESSAGES);
        assert!(!hold.is_full() && !hold.owes(0));
        let mut large = incoming(1, 1, "h");
        large.message.value = Some(vec![0; HELD_BYTES].into());
        hold.arrive(0, large, Instant::now(), INVISIBLE);
        assert!(hold.is_full());
        (0..2 * REMEMBERED as u64).for_each(|n| hold.remembered.add(at(n, 0)));
        assert_eq!((hold.remembered.order.len(), hold.remembered.known.len()), (REMEMBERED, REMEMBERED));
    }
}
