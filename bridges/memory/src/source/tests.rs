use std::time::Duration;

use trestle_core::{Batch, Connector, Event, Fault, PartitionId, Position, Start};

use crate::{Cluster, Revokes, testing::*};

const ALL: u64 = u64::MAX;

fn cluster(partitions: u32, messages: u64) -> Cluster {
    let cluster = Cluster::new(7);
    cluster.create("t", partitions);
    (0..messages).for_each(|n| _ = cluster.produce("t", (n % u64::from(partitions)) as u32, message(n)));
    cluster
}

fn numbers(batch: &Batch) -> Vec<u64> {
    batch.messages.iter().map(number).collect()
}

fn settle(batch: &Batch) {
    batch.ack.settle(0..batch.messages.len() as u32);
}

async fn idle(source: &mut Box<dyn trestle_core::Source>) -> bool {
    tokio::time::timeout(Duration::from_secs(5), source.next()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn credit_ends_with_the_message_that_crosses_the_line() {
    let cluster = cluster(1, 10);
    cluster.configure(|s| s.fetch = 100..=100);
    let (mut source, control) = source(&cluster).await;
    assert_eq!(assigned(&mut source).await, [0]);
    assert!(idle(&mut source).await, "nothing before start");
    control.start(PartitionId(0), None);
    assert!(idle(&mut source).await, "nothing without credit");
    control.credit(PartitionId(0), message(0).size() as u64 + 1);
    let first = batch(&mut source).await;
    assert_eq!(numbers(&first), [0, 1]);
    assert!(idle(&mut source).await);
    control.credit(PartitionId(0), ALL);
    assert_eq!(numbers(&batch(&mut source).await), (2..10).collect::<Vec<_>>());
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_batch_is_read_again_and_holes_are_stepped_over() {
    let cluster = cluster(1, 3);
    cluster.hole("t", 0, 5);
    assert_eq!(cluster.produce("t", 0, message(3)), 8);
    cluster.configure(|s| s.fetch = 2..=2);
    let (mut source, control) = source(&cluster).await;
    assigned(&mut source).await;
    control.start(PartitionId(0), None);
    control.credit(PartitionId(0), ALL);
    let (first, second) = (batch(&mut source).await, batch(&mut source).await);
    assert_eq!((numbers(&first), numbers(&second)), (vec![0, 1], vec![2, 3]));
    first.ack.settle([0].into_iter());
    settle(&second);
    drop((first, second));
    let again = batch(&mut source).await;
    assert_eq!(numbers(&again), [1]);
    settle(&again);
    assert!(idle(&mut source).await, "what settled above it is not handed out again");
    assert_eq!(cluster.committed("t", "g", 0), Some(9));
}

#[tokio::test(start_paused = true)]
async fn a_disturbed_source_mends_itself_and_hands_nothing_out_twice() {
    let cluster = cluster(1, 20);
    cluster.configure(|s| s.fetch = 3..=3);
    let (mut source, control) = source(&cluster).await;
    assigned(&mut source).await;
    control.start(PartitionId(0), None);
    control.credit(PartitionId(0), ALL);
    let mut held = vec![batch(&mut source).await];
    cluster.disturb("t", Fault::down("test"));
    assert!(source.next().await.is_err());
    while held.iter().map(|b| b.messages.len()).sum::<usize>() < 20 {
        held.push(batch(&mut source).await);
    }
    assert_eq!(held.iter().flat_map(numbers).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn retention_is_a_gap_and_the_partition_stands_still_until_it_is_started_again() {
    let cluster = cluster(1, 10);
    let (mut source, control) = source(&cluster).await;
    assigned(&mut source).await;
    control.start(PartitionId(0), Some(Position::Offset(2)));
    cluster.cut("t", 0, 6);
    control.credit(PartitionId(0), ALL);
    let Event::Gap { from, to, .. } = next(&mut source).await else { panic!("no gap") };
    assert_eq!((from, to), (Position::Offset(2), Position::Offset(6)));
    assert!(idle(&mut source).await);
    control.start(PartitionId(0), Some(to));
    control.credit(PartitionId(0), ALL);
    let batch = batch(&mut source).await;
    assert_eq!(numbers(&batch)[0], 6);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_began_at_the_end_keeps_its_place() {
    let cluster = cluster(1, 10);
    for _ in 0..2 {
        let (mut source, control) = cluster.source(source_spec(Start::Latest)).await.unwrap();
        assigned(&mut source).await;
        control.start(PartitionId(0), None);
        control.credit(PartitionId(0), ALL);
        cluster.produce("t", 0, message(10));
        assert_eq!(numbers(&batch(&mut source).await)[0], 10);
        control.close().await;
        control.close().await;
        assert!(idle(&mut source).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_partition_is_given_away_when_it_is_let_go() {
    let cluster = cluster(2, 10);
    let (mut first, control) = source(&cluster).await;
    assert_eq!(assigned(&mut first).await, [0, 1]);
    (0..2).for_each(|p| control.start(PartitionId(p), None));
    control.credit(PartitionId(1), ALL);
    let batch = batch(&mut first).await;
    let (mut second, _) = source(&cluster).await;
    let Event::Revoked { partitions, lost: false, done } = next(&mut first).await else { panic!("no revoke") };
    assert_eq!(partitions, [PartitionId(1)]);
    assert!(!batch.is_current());
    tokio::select! {
        biased;
        _ = first.next() => panic!("nothing happens"),
        true = idle(&mut second) => {}
    }
    settle(&batch);
    drop(done);
    let (_, given) = tokio::join!(idle(&mut first), assigned(&mut second));
    assert_eq!(given, [1]);
    assert_eq!(cluster.committed("t", "g", 1), Some(batch.messages.len() as u64), "settled after the revoke");
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_commits_nothing_more_and_joins_again() {
    let cluster = cluster(1, 10);
    let (mut source, control) = source(&cluster).await;
    assigned(&mut source).await;
    control.start(PartitionId(0), None);
    control.credit(PartitionId(0), ALL);
    let batch = batch(&mut source).await;
    cluster.lose_session("t", "g", cluster.members("t", "g")[0]);
    settle(&batch);
    assert!(control.commit(vec![PartitionId(0)]).await.is_err(), "a zombie");
    assert_eq!(cluster.zombie_commits("t", "g").len(), 1);
    let Event::Revoked { lost: true, .. } = next(&mut source).await else { panic!("not lost") };
    assert_eq!(assigned(&mut source).await, [0]);
    assert_eq!(cluster.committed("t", "g", 0), None);
}

#[tokio::test(start_paused = true)]
async fn a_crashed_member_is_removed_after_its_session_and_an_unpolled_one_expelled() {
    let cluster = cluster(2, 0);
    let (mut crashed, _) = source(&cluster).await;
    assigned(&mut crashed).await;
    drop(crashed);
    let (mut unpolled, _) = source(&cluster).await;
    let begin = tokio::time::Instant::now();
    let mut owned = 0;
    while owned < 2 {
        owned += assigned(&mut unpolled).await.len();
    }
    assert_eq!(begin.elapsed(), Duration::from_secs(10));
    tokio::time::advance(Duration::from_secs(301)).await;
    let (mut third, _) = source(&cluster).await;
    assert_eq!(assigned(&mut third).await, [0, 1]);
    let Event::Revoked { lost: true, .. } = next(&mut unpolled).await else { panic!("not lost") };
}

#[tokio::test(start_paused = true)]
async fn where_revokes_are_told_after_the_fact_they_are_lost() {
    let cluster = cluster(2, 0);
    cluster.configure(|s| s.revokes = Revokes::After);
    let (mut first, _) = source(&cluster).await;
    assigned(&mut first).await;
    let (mut second, _) = source(&cluster).await;
    assert_eq!(assigned(&mut second).await, [1]);
    let Event::Revoked { lost: true, .. } = next(&mut first).await else { panic!("not lost") };
}

#[tokio::test(start_paused = true)]
async fn new_partitions_are_handed_to_the_group() {
    let cluster = cluster(1, 0);
    let (mut source, _) = source(&cluster).await;
    assigned(&mut source).await;
    cluster.create("t", 3);
    assert_eq!(assigned(&mut source).await, [1, 2]);
}
