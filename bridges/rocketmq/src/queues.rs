use trestle_core::PartitionId;

use crate::{place::place, route::Queue};

/// The queues of a topic by partition number. Only grows: a queue keeps its number while its broker is away, and new ones
/// are numbered behind the rest.
#[derive(Clone, Debug, Default)]
pub struct Queues {
    numbered: Vec<Queue>,
    /// Numbers in the order of the sorted list, which is what the Java selectors choose from.
    sorted: Vec<u32>,
}

impl Queues {
    /// Adds what is new, given sorted, and says how many were added.
    pub fn grow(&mut self, now: Vec<Queue>) -> usize {
        let before = self.numbered.len();
        for queue in now {
            if !self.numbered.contains(&queue) {
                self.numbered.push(queue);
            }
        }
        self.sorted = (0..self.len()).collect();
        let numbered = &self.numbered;
        self.sorted.sort_by_key(|number| numbered.get(*number as usize));
        self.numbered.len() - before
    }

    pub fn len(&self) -> u32 {
        self.numbered.len() as u32
    }

    pub fn get(&self, partition: PartitionId) -> Option<&Queue> {
        self.numbered.get(partition.0 as usize)
    }

    pub fn partition(&self, queue: &Queue) -> Option<PartitionId> {
        self.numbered.iter().position(|known| known == queue).map(|at| PartitionId(at as u32))
    }

    /// Where the Java clients' `SelectMessageQueueByHash` puts a key.
    pub fn place(&self, key: &[u8]) -> PartitionId {
        let at = place(key, self.len());
        PartitionId(self.sorted.get(at as usize).copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(list: &[(&str, u32)]) -> Vec<Queue> {
        list.iter().map(|(broker, id)| Queue { broker: (*broker).into(), id: *id }).collect()
    }

    #[test]
    fn numbers_stay_when_the_topic_grows_or_a_broker_leaves() {
        let mut list = Queues::default();
        assert_eq!(list.grow(queues(&[("a", 0), ("b", 0)])), 2);
        assert_eq!(list.grow(queues(&[("a", 0), ("a", 1), ("b", 0)])), 1);
        assert_eq!(list.grow(queues(&[("b", 0)])), 0);
        assert_eq!(list.len(), 3);
        assert_eq!(list.get(PartitionId(1)).unwrap().broker, "b");
        assert_eq!(list.partition(&queues(&[("a", 1)])[0]), Some(PartitionId(2)));
    }

    #[test]
    fn keys_go_to_the_queue_that_java_picks_from_the_sorted_list_also_after_growth() {
        let mut grown = Queues::default();
        grown.grow(queues(&[("a", 0), ("b", 0)]));
        grown.grow(queues(&[("a", 0), ("a", 1), ("b", 0)]));
        let mut fresh = Queues::default();
        fresh.grow(queues(&[("a", 0), ("a", 1), ("b", 0)]));
        for key in ["a", "b", "c", "order-17"] {
            let queue = |queues: &Queues| queues.get(queues.place(key.as_bytes())).cloned();
            assert_eq!(queue(&grown), queue(&fresh));
        }
        assert_eq!(Queues::default().place(b"x"), PartitionId(0));
    }
}
