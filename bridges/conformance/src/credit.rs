//! A source hands out what it was granted, and no more.

use trestle_core::{PartitionId, Start};

use crate::{Subject, rig::*};

pub async fn nothing_is_handed_out_before_start(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..10).await;
    let mut member = rig.member_from(Start::Earliest, None).await;
    member.owns(1).await;
    member.is_quiet("nothing is handed out before start").await;
    member.control.start(PartitionId(0), None);
    member.control.credit(PartitionId(0), PLENTY);
    assert_eq!(member.numbers(10).await, upto(10));
    member.close().await;
}

pub async fn nothing_is_handed_out_without_credit(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..10).await;
    let mut member = rig.member_from(Start::Earliest, None).await;
    member.owns(1).await;
    member.control.start(PartitionId(0), None);
    member.is_quiet("a started partition has no credit").await;
    member.control.credit(PartitionId(0), PLENTY);
    assert_eq!(member.numbers(10).await, upto(10));
    member.close().await;
}

pub async fn credit_is_kept_to_the_message_that_crosses_the_line(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..50).await;
    // Three messages and a half.
    let credit = numbered(0).size() as u64 * 7 / 2;
    let mut member = rig.member_from(Start::Earliest, Some(credit)).await;
    let mut come = vec![member.batch().await];
    come.extend(member.until_quiet().await);
    let sizes: Vec<usize> = come.iter().flat_map(|b| &b.messages).map(|m| m.size()).collect();
    let before_the_last: usize = sizes[..sizes.len() - 1].iter().sum();
    assert!((before_the_last as u64) < credit, "{} messages of {sizes:?} for {credit} bytes", sizes.len());
    member.credit(PLENTY);
    come.extend(member.batches(50 - count(&come)).await);
    assert_eq!(all_numbers(&come), upto(50), "what was held back comes next");
    member.close().await;
}

pub async fn credit_zero_pauses_and_credit_given_back_resumes(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..20).await;
    let mut member = rig.member().await;
    let mut come = vec![member.batch().await];
    member.credit(0);
    come.extend(member.until_quiet().await);
    rig.write(0, 20..40).await;
    let paused = member.until_quiet().await;
    assert!(paused.is_empty(), "credit 0 pauses, but there came {:?}", all_numbers(&paused));
    assert!(member.revoked.is_empty(), "a paused member that is polled keeps its partitions");
    member.credit(PLENTY);
    come.extend(member.batches(40 - count(&come)).await);
    assert_eq!(all_numbers(&come), upto(40));
    member.close().await;
}

pub async fn small_credits_bring_everything_once_and_in_order(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..200).await;
    // Now and then enough for one message only, or for a few.
    let mut credits = [1, 300, 5_000].into_iter().cycle();
    let mut member = rig.member_from(Start::Earliest, Some(1)).await;
    let mut come = Vec::new();
    while come.len() < 200 {
        let batch = member.batch().await;
        settle(&batch);
        come.extend(numbers(&batch));
        member.credit(credits.next().unwrap());
    }
    assert_eq!(come, upto(200));
    member.close().await;
}
