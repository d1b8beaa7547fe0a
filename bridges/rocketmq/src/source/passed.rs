/// What a queue holds that is not wanted, as far as the group's position may step over it: messages with other tags behind the
/// last one that was read. Those in front of it are stepped over when it is committed.
#[derive(Debug, Default)]
pub struct Passed {
    /// Everything that was read below this offset is settled and committed, or lay before the beginning.
    committed: u64,
    /// From this offset on up to that one nothing is wanted.
    hole: Option<(u64, u64)>,
}

impl Passed {
    pub fn begin(at: u64) -> Self {
        Passed { committed: at, hole: None }
    }

    /// A pull from `cursor` on gave messages up to `last`, if any; the next one begins at `next`.
    pub fn pull(&mut self, cursor: u64, last: Option<u64>, next: u64) {
        let from = match (last, self.hole) {
            (Some(last), _) => last + 1,
            (None, Some((from, to))) if to == cursor => from,
            (None, _) => cursor,
        };
        self.hole = (next > from).then_some((from, next));
    }

    /// The position to commit when messages up to `settled`, or no more than before, are settled.
    pub fn next(&self, settled: Option<u64>) -> u64 {
        let next = settled.map_or(self.committed, |settled| settled + 1);
        // Only when nothing between was read and is not settled.
        self.hole.filter(|(from, _)| *from <= next).map_or(next, |(_, to)| to.max(next))
    }

    pub fn commit(&mut self, settled: u64) {
        self.committed = settled + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_of_which_nothing_is_wanted_is_stepped_over() {
        let mut passed = Passed::begin(5);
        assert_eq!(passed.next(None), 5);
        passed.pull(5, None, 8);
        passed.pull(8, None, 20);
        assert_eq!(passed.next(None), 20);
    }

    #[test]
    fn nothing_that_is_not_settled_is_stepped_over() {
        let mut passed = Passed::begin(5);
        passed.pull(5, Some(7), 10);
        assert_eq!(passed.next(None), 5, "up to 7 nothing is settled");
        assert_eq!(passed.next(Some(6)), 7);
        assert_eq!(passed.next(Some(7)), 10);
        passed.commit(7);
        assert_eq!(passed.next(None), 10);
        passed.pull(10, Some(10), 15);
        assert_eq!(passed.next(None), 8, "10 is on its way");
        assert_eq!(passed.next(Some(10)), 15);
    }

    #[test]
    fn what_is_read_again_is_judged_anew() {
        let mut passed = Passed::begin(0);
        passed.pull(0, Some(3), 10);
        passed.pull(10, None, 20);
        assert_eq!(passed.next(Some(3)), 20);
        // A rewind to 2, of which nothing has settled.
        passed.pull(2, Some(3), 10);
        assert_eq!(passed.next(Some(1)), 2);
        assert_eq!(passed.next(Some(3)), 10);
    }

    #[test]
    fn without_holes_the_position_is_behind_the_last_message() {
        let mut passed = Passed::begin(0);
        passed.pull(0, Some(9), 10);
        assert_eq!((passed.next(None), passed.next(Some(4)), passed.next(Some(9))), (0, 5, 10));
    }
}
