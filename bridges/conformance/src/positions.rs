//! Where reading begins, goes on and goes back to.

use std::time::Duration;

use futures::FutureExt;
use trestle_core::{Event, PartitionId, Start};

use crate::{Subject, rig::*};

pub async fn a_new_source_goes_on_at_the_committed_position(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..30).await;
    let mut member = rig.member().await;
    let read = member.numbers(30).await;
    assert_eq!(read, upto(30));
    member.close().await;
    rig.write(0, 30..40).await;
    let mut member = rig.member().await;
    let read = member.numbers(10).await;
    assert_eq!(
        read,
        (30..40).collect::<Vec<_>>(),
        "nothing settled comes again after an orderly close, and nothing is skipped"
    );
    member.close().await;
}

pub async fn an_unsettled_message_is_never_skipped(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..30).await;
    let mut member = rig.member().await;
    let batches = member.batches(30).await;
    for batch in &batches {
        let others = (0..batch.messages.len() as u32).filter(|at| number(&batch.messages[*at as usize]) != 7);
        batch.ack.settle(others.collect::<Vec<_>>().into_iter());
    }
    member.close().await;
    drop(batches);
    let mut member = rig.member().await;
    let first = member.batch().await;
    assert_eq!(number(&first.messages[0]), 7, "reading goes on at the one that was not settled");
    member.close().await;
}

pub async fn an_answered_commit_survives_a_crash(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..20).await;
    let mut member = rig.member().await;
    assert_eq!(member.numbers(20).await, upto(20));
    rig.patient("commit", || member.control.commit(vec![PartitionId(0)])).await;
    member.crash().await;
    rig.write(0, 20..21).await;
    let mut member = rig.member().await;
    assert_eq!(member.numbers(1).await, [20]);
    member.close().await;
}

pub async fn settled_positions_are_committed_unasked(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..20).await;
    let mut member = rig.member().await;
    assert_eq!(member.numbers(20).await, upto(20));
    member.is_quiet("there is no more").await;
    // At least the quiet time, and a few intervals.
    let _ = tokio::time::timeout(COMMIT_INTERVAL * 5, member.batch()).await;
    member.crash().await;
    rig.write(0, 20..21).await;
    let mut member = rig.member().await;
    assert_eq!(member.numbers(1).await, [20]);
    member.close().await;
}

pub async fn a_dropped_batch_is_read_again_from_the_lowest_unsettled_in_order(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..30).await;
    let mut member = rig.member().await;
    for _ in 0..2 {
        // The whole of it is thrown away.
        assert_eq!(all_numbers(&member.batches(30).await), upto(30));
    }
    let batches = member.batches(30).await;
    let settled = |n: u64| n < 5 || n.is_multiple_of(3);
    for batch in &batches {
        let some = (0..batch.messages.len() as u32).filter(|at| settled(number(&batch.messages[*at as usize])));
        batch.ack.settle(some.collect::<Vec<_>>().into_iter());
    }
    let epoch = batches[0].epoch;
    member.credit(1);
    drop(batches);
    rig.write(0, 30..35).await;
    let expected: Vec<u64> = (0..35).filter(|n| *n >= 30 || !settled(*n)).collect();
    let mut again = Vec::new();
    while again.len() < expected.len() {
        // In small pieces, settled at once, so that what settled before lies ahead of reading.
        let batch = member.batch().await;
        assert!(batch.epoch > epoch, "in a new epoch");
        settle(&batch);
        again.extend(numbers(&batch));
        member.credit(1);
    }
    assert_eq!(again, expected, "settled ones stay settled, the rest comes in order");
    member.credit(PLENTY);
    member.is_quiet("nothing else comes").await;
    member.close().await;
    rig.write(0, 35..36).await;
    let mut member = rig.member().await;
    assert_eq!(member.numbers(1).await, [35]);
    member.close().await;
}

pub async fn within_an_epoch_nothing_is_handed_out_twice(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..300).await;
    let mut member = rig.member().await;
    let mut held = Vec::new();
    while count(&held) < 300 {
        held.push(member.batch().await);
        // Pausing and resuming makes some clients read again.
        member.credit(0);
        member.credit(PLENTY);
    }
    held.extend(member.until_quiet().await);
    assert_eq!(all_numbers(&held), upto(300), "nobody dropped anything");
    assert!(held.iter().all(|b| b.epoch == held[0].epoch && b.is_current()));
    let positions: Vec<_> = held.iter().flat_map(|b| &b.messages).map(|m| m.position).collect();
    assert!(positions.is_sorted_by(|a, b| a < b), "positions grow");
    member.close().await;
}

pub async fn a_source_starts_where_it_is_told(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..20).await;
    let mut member = rig.member().await;
    let batches = member.batches(20).await;
    let position = batches.iter().flat_map(|b| &b.messages).find(|m| number(m) == 12).unwrap().position;
    member.close().await;
    drop(batches);
    let mut member = rig.member_from(Start::Earliest, None).await;
    member.owns(1).await;
    member.control.start(PartitionId(0), Some(position));
    member.control.credit(PartitionId(0), PLENTY);
    assert_eq!(member.numbers(8).await, (12..20).collect::<Vec<_>>());
    member.close().await;
}

pub async fn earliest_is_the_first_message_and_latest_behind_the_last(subject: &dyn Subject) {
    let mut rig = Rig::new(subject, 1).await;
    rig.write(0, 0..10).await;
    let mut earliest = rig.member().await;
    assert_eq!(earliest.numbers(10).await, upto(10));
    earliest.close().await;
    rig.group = format!("{}-latest", rig.group);
    subject.prepare_group(&rig.topic, &rig.group).await;
    let mut latest = rig.member_from(Start::Latest, Some(PLENTY)).await;
    latest.owns(1).await;
    latest.is_quiet("what was there before is not read").await;
    rig.write(0, 10..12).await;
    assert_eq!(latest.numbers(2).await, [10, 11]);
    latest.close().await;
}

pub async fn a_group_that_began_at_the_end_keeps_its_place(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..10).await;
    let mut member = rig.member_from(Start::Latest, Some(PLENTY)).await;
    member.owns(1).await;
    member.is_quiet("what was there before is not read").await;
    rig.write(0, 10..12).await;
    let unsettled = member.batches(2).await;
    member.close().await;
    drop(unsettled);
    let mut member = rig.member_from(Start::Latest, Some(PLENTY)).await;
    assert_eq!(member.numbers(2).await, [10, 11], "they came after the group began, and were never settled");
    member.close().await;
}

pub async fn next_may_be_cancelled_at_any_time(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..100).await;
    let (mut source, control) = rig.source(Start::Earliest).await;
    let read = async {
        let mut come = Vec::new();
        let mut round = 0;
        while come.len() < 100 {
            // Dropped after one poll, after another task ran, after a little time: in turns.
            round += 1;
            let event = match round % 3 {
                0 => source.next().now_or_never(),
                1 => {
                    tokio::select! { biased; event = source.next() => Some(event), () = tokio::task::yield_now() => None }
                }
                _ => tokio::time::timeout(Duration::from_millis(1), source.next()).await.ok(),
            };
            match event {
                Some(Ok(Event::Assigned(trackers))) => {
                    for tracker in trackers {
                        control.start(tracker.partition(), None);
                        control.credit(tracker.partition(), 400);
                    }
                }
                Some(Ok(Event::Batch(batch))) => {
                    settle(&batch);
                    come.extend(numbers(&batch));
                    control.credit(batch.partition, 400);
                }
                _ => tokio::task::yield_now().await,
            }
        }
        come
    };
    assert_eq!(rig.in_time("100 messages", read).await, upto(100));
    rig.in_time("close", control.close()).await;
}

pub async fn closing_twice_is_fine_and_next_stays_pending(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..10).await;
    let (mut source, control) = rig.source(Start::Earliest).await;
    let first = rig.in_time("an assignment", async {
        loop {
            if let Ok(Event::Assigned(trackers)) = source.next().await {
                return trackers;
            }
        }
    });
    let trackers = first.await;
    control.start(trackers[0].partition(), None);
    control.credit(trackers[0].partition(), PLENTY);
    let closing = async {
        rig.in_time("close", control.close()).await;
        rig.in_time("close", control.close()).await;
    };
    let polling = async { while source.next().await.is_ok() {} };
    // Polled while it closes, for a client may need that.
    tokio::select! {
        () = polling => panic!("a closing source does not fail"),
        () = closing => {}
    }
    let late = tokio::time::timeout(rig.features.quiet, source.next()).await;
    assert!(late.is_err(), "next stays pending after close");
    drop(source);
    rig.in_time("close", control.close()).await;
}
