use bytes::Bytes;
use trestle_core::{Message, Position};

use super::*;

const PARTITIONS: u32 = 3;
const COUNT: u64 = 3_000;
/// Of message 0; each further one is a millisecond younger.
const BEGAN: i64 = 1_700_000_000_000;
/// So little that nearly everything goes through files.
const MEMORY: usize = 20_000;

/// A topic, by partition.
type Topic = Vec<Vec<Message>>;

fn message(number: u64) -> Message {
    let mut message = Message::at(Position::Offset(0));
    message.key = Some(format!("key {}", number % 50).into());
    message.value = Some(format!("value {number}").into());
    message.time = Some(BEGAN + number as i64);
    message.headers.push("number", Some(number.to_string().into()));
    message
}

fn topic(messages: impl IntoIterator<Item = Message>) -> Topic {
    let mut topic = vec![Vec::new(); PARTITIONS as usize];
    for message in messages {
        // By the key's last digit.
        let place = message.key.as_ref().and_then(|key| key.last()).map_or(0, |last| u32::from(*last) % PARTITIONS);
        topic[place as usize].push(message);
    }
    topic
}

fn window() -> Window {
    let until = BEGAN + COUNT as i64;
    Window { from: BEGAN, until, settled: until, whole: true }
}

fn judged(from: &Topic, to: &Topic, letters: &[Message], window: Window) -> Findings {
    let mut judge = Judge::new(window, MEMORY, 5);
    let letters = vec![letters.to_vec()];
    for (side, topic) in [(Side::From, from), (Side::To, to), (Side::Letter, &letters)] {
        for (messages, partition) in topic.iter().zip(0..) {
            for (message, ordinal) in messages.iter().zip(0..) {
                let at = Place { partition, ordinal, position: Position::Offset(1_000 + ordinal) };
                judge.see(Record { content: Content::of(message), side, at }).unwrap();
            }
        }
    }
    judge.findings(|| {}).unwrap()
}

/// Counts of everything that is wrong.
fn wrong(findings: &Findings) -> [u64; 5] {
    let Findings { missing, repeated, reordered, changed, unexpected, .. } = findings;
    [missing.count, repeated.count, reordered.count, changed.count, unexpected.count]
}

fn spoiled(spoil: impl FnOnce(&mut Topic)) -> Findings {
    let from = topic((0..COUNT).map(message));
    let mut to = from.clone();
    spoil(&mut to);
    judged(&from, &to, &[], window())
}

#[test]
fn equal_topics_are_sound() {
    let findings = spoiled(|_| {});
    assert_eq!((wrong(&findings), findings.matched), ([0; 5], COUNT));
}

#[test]
fn partitions_may_be_others_as_long_as_order_is_kept() {
    let from = topic((0..COUNT).map(message));
    let to = vec![(0..COUNT).map(message).collect()];
    assert_eq!(wrong(&judged(&from, &to, &[], window())), [0; 5]);
}

#[test]
fn a_dropped_message_is_missing_at_its_place() {
    let findings = spoiled(|to| drop(to[1].remove(40)));
    assert_eq!((wrong(&findings), findings.at_the_end), ([1, 0, 0, 0, 0], 0));
    let place = findings.missing.first()[0].place;
    assert_eq!((place.partition, place.position), (1, Position::Offset(1_040)));
}

#[test]
fn what_is_missing_at_the_end_may_be_on_its_way() {
    let findings = spoiled(|to| to[1].truncate(600));
    let missing = findings.missing.count;
    assert!(missing > 0 && wrong(&findings) == [missing, 0, 0, 0, 0] && findings.at_the_end == missing);
}

#[test]
fn a_repeated_message_is_told_and_does_not_count_as_reordered() {
    let findings = spoiled(|to| {
        let again = to[2][10].clone();
        to[2].insert(500, again);
    });
    assert_eq!(wrong(&findings), [0, 1, 0, 0, 0]);
    assert_eq!(findings.repeated.first()[0].place.position, Position::Offset(1_500));
}

#[test]
fn swapped_messages_are_one_reordered_message() {
    let findings = spoiled(|to| to[0].swap(7, 8));
    assert_eq!(wrong(&findings), [0, 0, 1, 0, 0]);
    let moved = findings.reordered.first()[0];
    assert_eq!((moved.to.position, moved.from.position), (Position::Offset(1_008), Position::Offset(1_007)));
    assert_eq!(moved.behind.position, Position::Offset(1_008));
}

#[test]
fn a_changed_message_is_told_with_what_has_changed() {
    type Change = fn(&mut Message);
    let changes: [(&str, Change); 4] = [
        ("value", |m| m.value = None),
        ("key", |m| m.key = Some(Bytes::new())),
        ("headers", |m| m.headers.push("more", None)),
        ("time", |m| m.time = Some(BEGAN)),
    ];
    for (part, change) in changes {
        let findings = spoiled(|to| change(&mut to[1][40]));
        assert_eq!(wrong(&findings), [0, 0, 0, 1, 0], "{part}");
        let changed = findings.changed.first()[0];
        assert_eq!((changed.from.position, changed.to.position), (Position::Offset(1_040), Position::Offset(1_040)));
        assert_eq!(changed.what, [part]);
    }
}

#[test]
fn what_only_the_target_has_is_unexpected_unless_it_may_be_too_new() {
    let invented = |time| Message { time, value: Some("invented".into()), key: None, ..message(0) };
    let with = |time| spoiled(|to| to[0].push(invented(time)));
    assert_eq!(wrong(&with(Some(BEGAN + 5))), [0, 0, 0, 0, 1]);
    let undated = with(None);
    assert_eq!((wrong(&undated), undated.undated), ([0; 5], 1));
    let from = topic((0..COUNT).map(message));
    let mut to = from.clone();
    to[0].push(invented(Some(BEGAN + 5)));
    let new = judged(&from, &to, &[], Window { settled: BEGAN + 4, ..window() });
    assert_eq!((wrong(&new), new.undated), ([0; 5], 1));
}

#[test]
fn what_is_outside_the_window_is_not_judged() {
    let from = topic((0..COUNT).map(message));
    let to = topic((100..COUNT - 100).map(message));
    let window = Window { from: BEGAN + 100, until: BEGAN + COUNT as i64 - 101, ..window() };
    let findings = judged(&from, &to, &[], window);
    assert_eq!((wrong(&findings), findings.outside), ([0; 5], 200));
    assert_eq!(wrong(&judged(&from, &to, &[], self::window())), [200, 0, 0, 0, 0]);
}

#[test]
fn a_dead_letter_accounts_for_its_message_whole_or_in_parts() {
    let from = topic((0..COUNT).map(message));
    let to = topic((2..COUNT).map(message));
    let part = Message { value: Some("val".into()), ..message(1) };
    let findings = judged(&from, &to, &[message(0), part], window());
    assert_eq!((wrong(&findings), findings.dead_lettered), ([0; 5], 2));
    assert_eq!(wrong(&judged(&from, &to, &[message(0)], window())), [1, 0, 0, 0, 0]);
}

#[test]
fn equal_messages_are_counted() {
    let same = |count| vec![vec![message(0); count]];
    let counted = |from, to| wrong(&judged(&same(from), &same(to), &[], window()));
    assert_eq!(counted(5, 5), [0; 5]);
    assert_eq!(counted(5, 3), [2, 0, 0, 0, 0]);
    assert_eq!(counted(5, 8), [0, 3, 0, 0, 0]);
    assert_eq!(counted(5_000, 5_000), [0; 5], "more than are looked at one by one");
}

#[test]
fn many_findings_are_all_counted_and_the_first_are_listed() {
    let findings = spoiled(|to| to.iter_mut().for_each(|partition| partition.reverse()));
    let reordered = findings.reordered.count;
    assert_eq!(reordered, COUNT - u64::from(PARTITIONS), "all but the one in front");
    assert_eq!(findings.reordered.first().len(), 5);
    let none = spoiled(|to| to.iter_mut().for_each(Vec::clear));
    assert_eq!(wrong(&none), [COUNT, 0, 0, 0, 0]);
    let positions: Vec<_> = none.missing.first().iter().map(|at| (at.place.partition, at.place.ordinal)).collect();
    assert_eq!(positions, [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]);
}
