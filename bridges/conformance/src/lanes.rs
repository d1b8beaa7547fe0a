//! The ordered way into a partition.

use bytes::Bytes;
use futures::{StreamExt, future::join_all, stream::FuturesOrdered};
use trestle_core::{Cause, FaultKind, Message, Outcome, PartitionId, Scope};

use crate::{Subject, rig::*};

pub async fn order_holds_over_several_windows_of_sends(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    let mut writer = rig.writer(0).await;
    // The connection is made by one send, so that the windows meet a healthy lane.
    writer.write(vec![numbered(0)]).await;
    let window = writer.lane.window();
    assert!(window > 0);
    let (mut next, end) = (1, 1 + 25 * (window as u64 * 4 + 3));
    let mut flying = FuturesOrdered::new();
    while next < end || !flying.is_empty() {
        while next < end && flying.len() < window {
            let size = (1 + next * 7 % 49).min(end - next);
            let sent = writer.lane.send(unit((next..next + size).map(numbered).collect()));
            flying.push_back(async move { (size, sent.await) });
            next += size;
        }
        let Some((size, sent)) = rig.in_time("send", flying.next()).await else { break };
        assert_eq!(sent.len(), size as usize, "outcomes speak of exactly the messages sent");
        if stored_front(&sent) < sent.len() {
            // The cluster is busy: what was in flight was not stored, and is sent again.
            assert_busy(&sent);
            let mut unsent = size - stored_front(&sent) as u64;
            while let Some((size, sent)) = rig.in_time("send", flying.next()).await {
                assert_eq!(stored_front(&sent), 0, "behind a failure nothing is stored: {sent:?}");
                unsent += size;
            }
            next -= unsent;
            tokio::time::sleep(BUSY).await;
        }
    }
    let mut member = rig.member().await;
    assert_eq!(member.numbers(end as usize).await, upto(end));
    member.close().await;
}

pub async fn a_healthy_partition_answers_a_probe(subject: &dyn Subject) {
    let rig = Rig::new(subject, 2).await;
    let sink = rig.sink(false).await;
    assert_eq!(sink.partitions(), 2);
    for partition in [PartitionId(0), PartitionId(1)] {
        rig.patient("probe", || sink.probe(partition)).await;
    }
    let mut member = rig.member().await;
    member.owns(2).await;
    member.is_quiet("a probe writes nothing").await;
    member.close().await;
}

pub async fn a_key_has_one_place(subject: &dyn Subject) {
    let rig = Rig::new(subject, 3).await;
    let (one, other) = (rig.sink(false).await, rig.sink(false).await);
    let keys: Vec<Vec<u8>> = (0..300).map(|n: u32| format!("key-{n}").into_bytes()).collect();
    let odd: [&[u8]; 4] = [b"", b"\xff\x00\xfe", "ключ".as_bytes(), &[b'x'; 5000]];
    let mut seen = std::collections::BTreeSet::new();
    for key in keys.iter().map(Vec::as_slice).chain(odd) {
        let place = one.place(key);
        assert!(place.0 < one.partitions());
        assert_eq!(place, other.place(key), "{key:?}");
        seen.insert(place);
    }
    assert_eq!(seen.len(), 3, "keys are spread over all partitions");
}

pub async fn a_message_too_large_is_refused_alone_and_its_neighbours_are_stored_in_order(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    let giant = giant(&rig).await;
    let mut writer = rig.writer(0).await;
    writer.write(vec![numbered(0)]).await;
    let messages = vec![numbered(1), numbered(2), giant.clone(), numbered(3), numbered(4)];
    let sent = rig.in_time("send", writer.lane.send(unit(messages))).await;
    assert_eq!(sent.len(), 5, "outcomes speak of exactly the messages sent");
    let outcomes: Vec<&Outcome> = sent.runs.iter().flat_map(|(n, outcome)| std::iter::repeat_n(outcome, *n)).collect();
    let Outcome::Refused(fault) = outcomes[2] else { panic!("the giant is refused: {sent:?}") };
    assert_eq!(fault.kind, FaultKind::Rejected(Cause::TooLarge), "{fault}");
    assert!(matches!(fault.scope, Scope::Message | Scope::Batch), "{fault}");
    // A lane may store what is in front of it or not; what is behind it must wait.
    let front = stored_front(&sent);
    let known = |o: &&Outcome| matches!(o, Outcome::NotSent | Outcome::Refused(_));
    assert!(outcomes[front..].iter().all(known), "a prefix is stored, and surely nothing else: {sent:?}");
    if fault.scope == Scope::Message {
        let others = outcomes.iter().enumerate().filter(|(at, _)| *at != 2);
        let refused = others.map(|(_, o)| o).any(|o| matches!(o, Outcome::Refused(f) if f.scope == Scope::Message));
        assert!(!refused, "it alone is refused: {sent:?}");
    }
    writer.write((1 + front as u64..3).map(numbered).collect()).await;
    let sent = rig.in_time("send", writer.lane.send(unit(vec![giant]))).await;
    assert_eq!(first_fault(&sent).map(|f| f.kind), Some(FaultKind::Rejected(Cause::TooLarge)), "also alone: {sent:?}");
    writer.write(vec![numbered(3), numbered(4)]).await;
    let mut member = rig.member().await;
    assert_eq!(member.numbers(5).await, upto(5));
    member.is_quiet("nothing else was stored").await;
    member.close().await;
}

pub async fn nothing_in_flight_behind_a_failed_send_is_stored(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    let giant = giant(&rig).await;
    let mut writer = rig.writer(0).await;
    writer.write(vec![numbered(0)]).await;
    let behind = writer.lane.window().min(4) - 1;
    if behind == 0 {
        return;
    }
    let mut sends = vec![writer.lane.send(unit(vec![giant]))];
    sends.extend((0..behind as u64).map(|n| writer.lane.send(unit(vec![numbered(100 + n)]))));
    let sent = rig.in_time("sends", join_all(sends)).await;
    for sent in sent {
        assert_eq!(stored_front(&sent), 0, "behind a failure nothing is stored: {sent:?}");
    }
    writer.write(vec![numbered(1), numbered(2)]).await;
    let mut member = rig.member().await;
    assert_eq!(member.numbers(3).await, upto(3));
    member.is_quiet("nothing else was stored").await;
    member.close().await;
}

async fn giant(rig: &Rig<'_>) -> Message {
    let info = rig.patient("describe", || rig.connector.describe(&rig.topic)).await;
    let bytes = rig.features.too_large.or(info.max_message.map(|max| max + 1));
    let bytes = bytes.expect("the subject or the cluster says what is too large");
    Message { value: Some(Bytes::from(vec![7; bytes])), ..plain() }
}

pub async fn a_newer_fenced_lane_ends_the_older_one(subject: &dyn Subject) {
    if !subject.features().fences {
        return;
    }
    let rig = Rig::new(subject, 1).await;
    let (old_sink, new_sink) = (rig.sink(true).await, rig.sink(true).await);
    let mut old = Writer { rig: &rig, lane: rig.lane(&old_sink, 0, true).await, sink: old_sink };
    old.write(vec![numbered(0)]).await;
    let mut new = Writer { rig: &rig, lane: rig.lane(&new_sink, 0, true).await, sink: new_sink };
    let deadline = tokio::time::Instant::now() + rig.features.patience;
    for _ in 0..2 {
        // It may find its connection closed before it hears why.
        loop {
            let sent = rig.in_time("send", old.lane.send(unit(vec![numbered(99)]))).await;
            let fault = first_fault(&sent).unwrap_or_else(|| panic!("a fenced lane stores nothing: {sent:?}"));
            if fault.kind == FaultKind::Fenced {
                break;
            }
            assert!(
                matches!(fault.kind, FaultKind::Unavailable(_)) && tokio::time::Instant::now() < deadline,
                "{fault}"
            );
            tokio::time::sleep(BUSY).await;
        }
    }
    new.write(vec![numbered(1)]).await;
    let mut member = rig.member().await;
    assert_eq!(member.numbers(2).await, [0, 1]);
    member.is_quiet("nothing of the fenced lane was stored").await;
    member.close().await;
}

pub async fn a_lane_can_be_closed_and_opened_again(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    for fenced in [false, subject.features().fences] {
        let sink = rig.sink(fenced).await;
        for _ in 0..2 {
            let lane = rig.lane(&sink, 0, fenced).await;
            let mut writer = Writer { rig: &rig, lane, sink: sink.clone() };
            writer.write(vec![numbered(0)]).await;
            rig.in_time("close", writer.lane.close()).await;
        }
    }
    let mut member = rig.member().await;
    assert_eq!(member.numbers(4).await, [0; 4]);
    member.close().await;
}
