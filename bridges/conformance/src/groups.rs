//! Several members of one group.

use std::collections::{BTreeMap, BTreeSet};

use trestle_core::{Batch, PartitionId};

use crate::{Subject, rig::*};

pub async fn a_second_member_gets_partitions_and_nothing_is_lost(subject: &dyn Subject) {
    let rig = Rig::new(subject, 4).await;
    for partition in 0..4 {
        rig.write(partition, 0..50).await;
    }
    let mut first = rig.member().await;
    first.owns(4).await;
    let mut seen = Seen::default();
    while seen.count() < 100 {
        seen.settle(first.batch().await);
    }
    let mut second = rig.member().await;
    // Both read on while the partitions move, and messages keep coming.
    let patience = tokio::time::Instant::now() + rig.features.patience;
    let write = async {
        for partition in 0..4 {
            rig.write(partition, 50..100).await;
        }
    };
    let read = async {
        while seen.count() < 400 || second.trackers.is_empty() || first.trackers.is_empty() {
            assert!(tokio::time::Instant::now() < patience, "{} of 400 messages came", seen.count());
            tokio::select! {
                batch = first.batch() => seen.settle(batch),
                batch = second.batch() => seen.settle(batch),
                () = tokio::time::sleep(rig.features.quiet) => {}
            }
        }
    };
    tokio::join!(write, read);
    assert!(!first.revoked.is_empty(), "the first heard that partitions go");
    if rig.features.revokes_before {
        assert!(first.revoked.iter().all(|(_, lost, _)| !lost), "by the handshake");
    }
    let (mine, yours): (BTreeSet<_>, BTreeSet<_>) =
        (first.trackers.keys().copied().collect(), second.trackers.keys().copied().collect());
    assert!(mine.is_disjoint(&yours) && mine.len() + yours.len() == 4, "{mine:?} and {yours:?}");
    seen.complete(4, 100);
    second.close().await;
    first.close().await;
}

pub async fn what_settles_during_a_revoke_is_not_read_again(subject: &dyn Subject) {
    if !subject.features().revokes_before {
        return;
    }
    let rig = Rig::new(subject, 2).await;
    rig.write(0, 0..20).await;
    rig.write(1, 0..20).await;
    let mut first = rig.member().await;
    first.hold_revokes = true;
    let held = first.batches(40).await;
    let mut second = rig.member().await;
    first.hears_of_a_revoke().await;
    let (partitions, lost, done) = first.revoked.pop().unwrap();
    assert!(!lost, "told before");
    assert!(
        held.iter().all(|b| b.is_current() != partitions.contains(&b.partition.0)),
        "its epoch is over, and no other"
    );
    held.iter().for_each(settle);
    let ids: Vec<PartitionId> = partitions.iter().map(|p| PartitionId(*p)).collect();
    rig.patient("a commit during a revoke", || first.control.commit(ids.clone())).await;
    second.is_quiet("nothing moves before done").await;
    assert!(second.trackers.is_empty(), "nothing moves before done");
    drop(done);
    second.owns(partitions.len()).await;
    for partition in &partitions {
        assert!(second.trackers.contains_key(partition));
        rig.write(*partition, 20..21).await;
    }
    let come = second.numbers(partitions.len()).await;
    assert!(come.iter().all(|n| *n == 20), "{come:?}: only what is new");
    second.close().await;
    first.close().await;
}

pub async fn partitions_of_a_member_that_leaves_are_given_to_the_other(subject: &dyn Subject) {
    let rig = Rig::new(subject, 4).await;
    let mut first = rig.member().await;
    first.owns(4).await;
    let mut second = rig.member().await;
    let patience = tokio::time::Instant::now() + rig.features.patience;
    while first.trackers.len() == 4 || first.trackers.len() + second.trackers.len() != 4 {
        assert!(tokio::time::Instant::now() < patience, "both have partitions");
        let quiet = async { (first.until_quiet().await, second.until_quiet().await) };
        let _ = quiet.await;
    }
    first.close().await;
    second.owns(4).await;
    for partition in 0..4 {
        rig.write(partition, 0..10).await;
    }
    let mut seen = Seen::default();
    while seen.count() < 40 {
        seen.settle(second.batch().await);
    }
    seen.complete(4, 10);
    second.close().await;
}

/// What came at least once.
#[derive(Default)]
struct Seen(BTreeMap<u32, BTreeSet<u64>>);

impl Seen {
    fn settle(&mut self, batch: Batch) {
        settle(&batch);
        self.0.entry(batch.partition.0).or_default().extend(numbers(&batch));
    }

    fn count(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    fn complete(&self, partitions: u32, messages: u64) {
        for partition in 0..partitions {
            let seen = self.0.get(&partition).map(|s| s.iter().copied().collect::<Vec<_>>());
            assert_eq!(seen, Some(upto(messages)), "partition {partition}");
        }
    }
}
