use std::{ops::Range, sync::Arc};

use crate::{Batch, Message};

/// The messages of one batch that go to one target partition, in order. A cheap clone: it shares the batch.
#[derive(Clone)]
pub struct Slice {
    batch: Arc<Batch>,
    picks: Picks,
}

#[derive(Clone)]
enum Picks {
    Range(Range<u32>),
    List(Arc<[u32]>, Range<u32>),
}

impl Slice {
    /// All messages of the batch.
    pub fn whole(batch: Arc<Batch>) -> Self {
        let end = batch.messages.len() as u32;
        Slice { batch, picks: Picks::Range(0..end) }
    }

    /// The messages at these ascending indexes.
    pub fn picked(batch: Arc<Batch>, indexes: Vec<u32>) -> Self {
        let end = indexes.len() as u32;
        Slice { batch, picks: Picks::List(indexes.into(), 0..end) }
    }

    pub fn batch(&self) -> &Arc<Batch> {
        &self.batch
    }

    fn range(&self) -> &Range<u32> {
        match &self.picks {
            Picks::Range(range) | Picks::List(_, range) => range,
        }
    }

    pub fn len(&self) -> usize {
        self.range().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn index(&self, at: u32) -> u32 {
        match &self.picks {
            Picks::Range(_) => at,
            Picks::List(list, _) => list[at as usize],
        }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Message> {
        self.range().clone().map(|at| &self.batch.messages[self.index(at) as usize])
    }

    pub fn first(&self) -> Option<&Message> {
        self.iter().next()
    }

    /// Bytes of the slice's messages, as charged to the budget.
    pub fn bytes(&self) -> usize {
        if self.len() == self.batch.messages.len() { self.batch.bytes } else { self.iter().map(Message::size).sum() }
    }

    /// Settles every message of the slice.
    pub fn settle(self) {
        self.batch.ack.settle(self.range().clone().map(|at| self.index(at)));
    }

    /// Cuts the first `messages` off and returns them; `self` keeps the rest.
    pub fn take_front(&mut self, messages: usize) -> Slice {
        let mut front = self.clone();
        let range = self.range();
        let cut = range.start + (messages as u32).min(range.len() as u32);
        match (&mut front.picks, &mut self.picks) {
            (Picks::Range(a) | Picks::List(_, a), Picks::Range(b) | Picks::List(_, b)) => {
                a.end = cut;
                b.start = cut;
            }
        }
        front
    }

    /// Parts the slice in two, each in order: the messages of which `apart` is true, and the others.
    pub fn part(self, apart: impl Fn(&Message) -> bool) -> (Slice, Slice) {
        let (mut taken, mut others) = (Vec::new(), Vec::new());
        for at in self.range().clone() {
            let index = self.index(at);
            if apart(&self.batch.messages[index as usize]) { &mut taken } else { &mut others }.push(index);
        }
        (Slice::picked(self.batch.clone(), taken), Slice::picked(self.batch, others))
    }
}
