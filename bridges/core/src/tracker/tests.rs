use super::*;

fn messages(offsets: impl IntoIterator<Item = u64>) -> Vec<Message> {
    let message = |offset| Message::at(Position::Offset(offset));
    offsets.into_iter().map(message).collect()
}

fn offsets(batch: &Batch) -> Vec<Position> {
    batch.messages.iter().map(|m| m.position).collect()
}

fn at(offsets: impl IntoIterator<Item = u64>) -> Vec<Position> {
    offsets.into_iter().map(Position::Offset).collect()
}

fn tracker() -> Arc<Tracker> {
    Tracker::new(PartitionId(0), || {})
}

#[test]
fn only_the_settled_prefix_may_be_committed() {
    let tracker = tracker();
    let batch = tracker.admit(messages(0..10)).unwrap();
    batch.ack.settle([1, 2].into_iter());
    assert_eq!(tracker.commit_point(), None);
    batch.ack.settle([0].into_iter());
    assert_eq!(tracker.commit_point(), Some(Position::Offset(2)));
    tracker.committed(Position::Offset(2));
    assert_eq!(tracker.commit_point(), None);
}

#[test]
fn a_dropped_batch_is_read_again_and_what_settled_of_it_is_skipped() {
    let tracker = tracker();
    let first = tracker.admit(messages(0..4)).unwrap();
    let second = tracker.admit(messages(4..8)).unwrap();
    first.ack.settle([0, 2].into_iter());
    drop(first);
    assert!(!second.is_current(), "the epoch is over for every batch of it");
    assert_eq!(tracker.restart(), None, "a batch of the old epoch still lives");
    assert!(tracker.admit(messages(8..9)).is_none(), "nothing is handed out between epochs");
    second.ack.settle([3].into_iter());
    drop(second);
    assert_eq!(tracker.restart(), Some(Restart::At(Position::Offset(1))));
    let again = tracker.admit(messages(1..10)).unwrap();
    assert_eq!(offsets(&again), at([1, 3, 4, 5, 6, 8, 9]));
    again.ack.settle(0..7);
    assert_eq!(tracker.commit_point(), Some(Position::Offset(9)));
}

#[test]
fn what_settled_above_a_dropped_message_is_not_handed_out_when_the_prefix_overtakes_reading() {
    let tracker = tracker();
    let batch = tracker.admit(messages(0..6)).unwrap();
    batch.ack.settle(1..6);
    drop(batch);
    tracker.restart().unwrap();
    let again = tracker.admit(messages(0..1)).unwrap();
    again.ack.settle(0..1);
    assert_eq!(tracker.commit_point(), Some(Position::Offset(5)));
    assert!(tracker.admit(messages(1..6)).is_none());
    assert_eq!(offsets(&tracker.admit(messages(4..8)).unwrap()), at([6, 7]));
}

#[test]
fn what_settled_in_an_earlier_epoch_stays_settled_when_the_prefix_passes_reading() {
    let tracker = tracker();
    let batch = tracker.admit(messages(0..6)).unwrap();
    batch.ack.settle([2, 3].into_iter());
    drop(batch);
    tracker.restart().unwrap();
    let front = tracker.admit(messages(0..2)).unwrap();
    front.ack.settle(0..2);
    assert_eq!(tracker.commit_point(), Some(Position::Offset(3)));
    let rest = tracker.admit(messages(2..6)).unwrap();
    assert_eq!(offsets(&rest), at([4, 5]));
    drop((front, rest));
}

#[test]
fn within_an_epoch_no_position_is_handed_out_twice() {
    let tracker = tracker();
    let first = tracker.admit(messages(0..4)).unwrap();
    let second = tracker.admit(messages(2..6)).unwrap();
    assert_eq!(offsets(&second), at([4, 5]));
    drop((first, second));
}

#[test]
fn how_far_reading_is_ahead_starts_over_with_each_epoch() {
    let tracker = tracker();
    let batch = tracker.admit(messages(0..10)).unwrap();
    let one = batch.bytes / 10;
    assert_eq!(tracker.ahead(), (10, 10 * one));
    batch.ack.settle([0, 1, 5].into_iter());
    assert_eq!(tracker.ahead(), (8, 8 * one));
    drop(batch);
    assert_eq!(tracker.ahead(), (0, 0), "else nothing would be read again");
    tracker.restart().unwrap();
    let again = tracker.admit(messages(2..7)).unwrap();
    assert_eq!(tracker.ahead(), (5, 5 * one));
    again.ack.settle(0..4);
    assert_eq!(tracker.ahead(), (0, 0));
}

#[test]
fn what_the_broker_no_longer_has_does_not_hold_the_prefix_back() {
    let tracker = tracker();
    drop(tracker.admit(messages(0..4)).unwrap());
    assert_eq!(tracker.restart(), Some(Restart::At(Position::Offset(0))));
    let again = tracker.admit(messages([0, 3])).unwrap();
    again.ack.settle(0..2);
    assert_eq!(tracker.commit_point(), Some(Position::Offset(3)));
}

#[test]
fn what_becomes_visible_late_is_handed_out_in_its_place() {
    let tracker = tracker();
    let batch = tracker.admit(messages([0, 2])).unwrap();
    batch.ack.settle([1].into_iter());
    drop(batch);
    tracker.restart().unwrap();
    let again = tracker.admit(messages(0..4)).unwrap();
    assert_eq!(offsets(&again), at([0, 1, 3]));
    again.ack.settle([0].into_iter());
    assert_eq!(tracker.commit_point(), Some(Position::Offset(0)));
    again.ack.settle([1].into_iter());
    assert_eq!(tracker.commit_point(), Some(Position::Offset(2)));
    drop(again);
}

#[test]
fn a_lost_assignment_is_never_committed_and_a_revoked_one_still_is() {
    for lost in [false, true] {
        let tracker = tracker();
        let batch = tracker.admit(messages(0..2)).unwrap();
        tracker.end(lost);
        batch.ack.settle(0..2);
        assert_eq!(tracker.commit_point().is_some(), !lost);
        drop(batch);
        assert_eq!(tracker.restart(), None, "an ended assignment is not read on");
    }
}

#[tokio::test]
async fn the_source_is_woken_when_the_last_batch_of_an_ended_epoch_is_gone() {
    let woken = Arc::new(AtomicU64::new(0));
    let count = woken.clone();
    let tracker = Tracker::new(PartitionId(0), move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let (first, second) = (tracker.admit(messages(0..1)).unwrap(), tracker.admit(messages(1..2)).unwrap());
    tracker.end_epoch();
    drop(first);
    assert_eq!(woken.load(Ordering::Relaxed), 0);
    drop(second);
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    tracker.idle().await;
}
