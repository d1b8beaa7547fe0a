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
    let mut begin = 1;
    let mut flying = FuturesOrdered::new();
    let sends = window * 4 + 3;
    for send in 0..sends {
        if flying.len() == window {
            all_stored(rig.in_time("send", flying.next()).await);
        }
        let end = begin + 1 + (send as u64 * 7) % 40;
        let messages: Vec<Message> = (begin..end).map(numbered).collect();
        let size = messages.len();
        let sent = writer.lane.send(unit(messages));
        flying.push_back(async move { (size, sent.await) });
        begin = end;
    }
    while !flying.is_empty() {
        all_stored(rig.in_time("send", flying.next()).await);
    }
    let mut member = rig.member().await;
    assert_eq!(member.numbers(begin as usize).await, upto(begin));
    member.close().await;
}

fn all_stored(sent: Option<(usize, trestle_core::Sent)>) {
    let (size, sent) = sent.unwrap();
    assert_eq!(sent.len(), size, "outcomes speak of exactly the messages sent");
    assert_eq!(stored_front(&sent), size, "a healthy cluster stores: {sent:?}");
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
    let messages = vec![numbered(1), numbered(2), giant, numbered(3), numbered(4)];
    let sent = rig.in_time("send", writer.lane.send(unit(messages))).await;
    assert_eq!(sent.len(), 5, "outcomes speak of exactly the messages sent");
    let outcomes: Vec<&Outcome> = sent.runs.iter().flat_map(|(n, outcome)| std::iter::repeat_n(outcome, *n)).collect();
    let Outcome::Refused(fault) = outcomes[2] else { panic!("the giant is refused: {sent:?}") };
    assert_eq!((&fault.kind, fault.scope), (&FaultKind::Rejected(Cause::TooLarge), Scope::Message), "{fault}");
    // A lane may store what is in front of it or not; what is behind it must wait.
    let front = stored_front(&sent);
    assert!(outcomes[front..].iter().all(|o| !matches!(o, Outcome::Stored)), "a prefix is stored: {sent:?}");
    let known = |o: &&Outcome| matches!(o, Outcome::NotSent | Outcome::Refused(_));
    assert!(outcomes[front..].iter().all(known), "it is known what was not stored: {sent:?}");
    writer.write((1 + front as u64..5).map(numbered).collect()).await;
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
    let mut old = rig.lane(&old_sink, 0, true).await;
    let sent = rig.in_time("send", old.send(unit(vec![numbered(0)]))).await;
    assert_eq!(stored_front(&sent), 1, "{sent:?}");
    let mut new = rig.lane(&new_sink, 0, true).await;
    let sent = rig.in_time("send", old.send(unit(vec![numbered(99)]))).await;
    assert_eq!(first_fault(&sent).map(|f| f.kind), Some(FaultKind::Fenced), "{sent:?}");
    let sent = rig.in_time("send", old.send(unit(vec![numbered(99)]))).await;
    assert_eq!(first_fault(&sent).map(|f| f.kind), Some(FaultKind::Fenced), "it stays fenced: {sent:?}");
    let sent = rig.in_time("send", new.send(unit(vec![numbered(1)]))).await;
    assert_eq!(stored_front(&sent), 1, "the newer one is not disturbed: {sent:?}");
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
            let mut lane = rig.lane(&sink, 0, fenced).await;
            let sent = rig.in_time("send", lane.send(unit(vec![numbered(0)]))).await;
            assert_eq!(stored_front(&sent), 1, "{sent:?}");
            rig.in_time("close", lane.close()).await;
        }
    }
    let mut member = rig.member().await;
    assert_eq!(member.numbers(4).await, [0; 4]);
    member.close().await;
}
