//! Letters from writing to replay, over the memory connector.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so at once")]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use trestle_core::{BoxFuture, Cause, Connector, Fault, Message, Position, SinkSpec};
use trestle_dlq::{DeadLetters, Fate, Letter, Pending, Place, Report, Rules, Target};
use trestle_memory::{Cluster, Poison};

const LETTERS: &str = "letters";
const QUARANTINE: &str = "letters-quarantine";
const TARGET: &str = "target";
const PARTITIONS: u32 = 3;

fn cluster() -> Cluster {
    let cluster = Cluster::new(7);
    cluster.create(LETTERS, 1);
    cluster.create(QUARANTINE, 1);
    cluster.create(TARGET, PARTITIONS);
    cluster
}

fn spec(topic: &str) -> SinkSpec {
    SinkSpec {
        topic: topic.into(),
        route: "route".into(),
        hop: "deliver",
        fenced: false,
        split_large: false,
        send_timeout: Duration::from_secs(1),
        guarantee: Default::default(),
        options: Default::default(),
    }
}

fn message(number: u64) -> Message {
    let mut message = Message::at(Position::Offset(number));
    message.key = Some(format!("key {}", number % 5).into());
    message.value = Some(number.to_string().into());
    message.time = Some(number as i64);
    message.headers.push("own", None);
    message
}

async fn open(cluster: &Cluster, topic: &str) -> DeadLetters {
    DeadLetters::new(cluster.connector().sink(spec(topic)).await.unwrap())
}

async fn bury(cluster: &Cluster, numbers: impl IntoIterator<Item = u64>) {
    let letters = open(cluster, LETTERS).await;
    for number in numbers {
        let report = Report {
            route: "route".into(),
            hop: "deliver".into(),
            origin: "memory".into(),
            target: "memory".into(),
            source: format!("memory/source/{}/{number}", number % 2),
            cause: Cause::TooLarge,
            error: "too large".into(),
            attempts: 1,
            first_failed: SystemTime::now(),
            last_failed: SystemTime::now(),
            replays: 0,
        };
        letters.write(&message(number), &report).await.unwrap();
    }
}

async fn pending(cluster: &Cluster) -> Pending {
    Pending::open(cluster.connector(), LETTERS, 1 << 20).await.unwrap()
}

async fn all(pending: &mut Pending) -> Vec<Letter> {
    let mut letters = Vec::new();
    while let Some(letter) = pending.next().await.unwrap() {
        letters.push(letter);
    }
    letters
}

fn numbers(letters: &[Letter]) -> Vec<u64> {
    letters.iter().map(|letter| number(&letter.message)).collect()
}

fn number(message: &Message) -> u64 {
    std::str::from_utf8(message.value.as_ref().unwrap()).unwrap().parse().unwrap()
}

fn place<'a>(cluster: &'a Cluster, topic: &'static str) -> Place<'a> {
    Box::new(move || {
        Box::pin(async move { Ok(open(cluster, topic).await) }) as BoxFuture<'a, Result<DeadLetters, Fault>>
    })
}

fn rules(cluster: &Cluster) -> Rules<'_> {
    let (letters, quarantine) = (place(cluster, LETTERS), place(cluster, QUARANTINE));
    Rules { most_replays: 2, patience: Duration::from_secs(30), letters, quarantine }
}

async fn target(cluster: &Cluster) -> Target {
    Target::new(cluster.connector().sink(spec(TARGET)).await.unwrap(), false)
}

/// What the target holds, by partition.
fn delivered(cluster: &Cluster) -> BTreeMap<u32, Vec<u64>> {
    let of = |partition| cluster.stored(TARGET, partition).iter().map(|stored| number(&stored.message)).collect();
    (0..PARTITIONS).map(|partition| (partition, of(partition))).collect()
}

#[tokio::test(start_paused = true)]
async fn letters_are_delivered_as_they_were_in_order_and_dealt_with() {
    let cluster = cluster();
    bury(&cluster, 0..50).await;
    let mut pending = pending(&cluster).await;
    let letters = all(&mut pending).await;
    assert_eq!(numbers(&letters), (0..50).collect::<Vec<_>>());
    let fates = target(&cluster).await.replay(&letters, &rules(&cluster)).await.unwrap();
    assert!(fates.iter().all(|fate| *fate == Fate::Delivered));
    let delivered = delivered(&cluster);
    assert_eq!(delivered.values().map(Vec::len).sum::<usize>(), 50);
    assert!(delivered.values().all(|numbers| numbers.is_sorted()), "{delivered:?}");
    let first = &cluster.stored(TARGET, 0)[0].message;
    assert_eq!(*first, Message { position: first.position, ..message(number(first)) }, "nothing was added");
    pending.handled(&letters).await.unwrap();
    assert!(all(&mut self::pending(&cluster).await).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_not_noted_comes_again_with_the_same_ids_and_nothing_else_does() {
    let cluster = cluster();
    bury(&cluster, 0..30).await;
    let mut pending = pending(&cluster).await;
    let letters = all(&mut pending).await;
    pending.handled(&letters[..10]).await.unwrap();
    // The second window was delivered, and the process killed before it was noted.
    let again = all(&mut self::pending(&cluster).await).await;
    assert_eq!(numbers(&again), (10..30).collect::<Vec<_>>());
    let ids = |letters: &[Letter]| letters.iter().map(|letter| letter.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&again), ids(&letters[10..]));
}

#[tokio::test(start_paused = true)]
async fn letters_that_were_left_stay_and_those_around_them_do_not() {
    let cluster = cluster();
    bury(&cluster, 0..20).await;
    let mut pending = pending(&cluster).await;
    let (kept, taken): (Vec<_>, Vec<_>) =
        all(&mut pending).await.into_iter().partition(|letter| number(&letter.message) % 3 == 1);
    kept.iter().for_each(|letter| pending.leave(letter));
    pending.handled(&taken).await.unwrap();
    assert_eq!(numbers(&all(&mut self::pending(&cluster).await).await), [1, 4, 7, 10, 13, 16, 19]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_refused_again_is_a_letter_with_one_replay_more_and_then_quarantined() {
    for poison in [Poison::Message, Poison::Batch] {
        let cluster = cluster();
        bury(&cluster, 0..20).await;
        cluster.poison(TARGET, poison, |message| number(message) == 7);
        let mut target = target(&cluster).await;
        let mut pending = pending(&cluster).await;
        let letters = all(&mut pending).await;
        let id = letters[7].id.clone();
        let fates = target.replay(&letters, &rules(&cluster)).await.unwrap();
        assert_eq!(fates[7], Fate::Returned(Cause::Refused), "{poison:?}");
        assert_eq!(
            fates.iter().filter(|fate| **fate == Fate::Delivered).count(),
            19,
            "{poison:?}: no other went with it"
        );
        pending.handled(&letters).await.unwrap();
        let again = all(&mut self::pending(&cluster).await).await;
        assert_eq!((numbers(&again), again[0].replays), (vec![7], 1), "{poison:?}");
        assert_eq!((&again[0].id, again[0].cause.as_str(), again[0].attempts), (&id, "refused", 2));
        let fates = target.replay(&again, &rules(&cluster)).await.unwrap();
        assert_eq!(fates, [Fate::Quarantined(Cause::Refused)]);
        let quarantined = &cluster.stored(QUARANTINE, 0)[0].message;
        let quarantined = Letter::read(trestle_core::PartitionId(0), quarantined).unwrap();
        assert_eq!((quarantined.replays, &quarantined.id), (2, &id));
        assert_eq!(delivered(&cluster).values().map(Vec::len).sum::<usize>(), 19);
    }
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_was_written_twice_is_delivered_once() {
    let cluster = cluster();
    bury(&cluster, [3, 3, 4]).await;
    let letters = all(&mut pending(&cluster).await).await;
    let fates = target(&cluster).await.replay(&letters, &rules(&cluster)).await.unwrap();
    assert_eq!(fates, [Fate::Delivered, Fate::Known, Fate::Delivered]);
    assert_eq!(delivered(&cluster).values().map(Vec::len).sum::<usize>(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_down_for_a_while_costs_no_letter_and_one_that_stays_down_ends_the_replay() {
    let cluster = cluster();
    bury(&cluster, 0..20).await;
    let letters = all(&mut pending(&cluster).await).await;
    for partition in 0..PARTITIONS {
        cluster.down(TARGET, partition, trestle_core::Why::Down);
    }
    let fault = target(&cluster).await.replay(&letters, &rules(&cluster)).await.unwrap_err();
    assert!(fault.to_string().contains("unavailable"), "{fault}");
    let comes_back = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        (0..PARTITIONS).for_each(|partition| cluster.up(TARGET, partition));
    };
    let mut target = target(&cluster).await;
    let rules = rules(&cluster);
    let (fates, ()) = tokio::join!(target.replay(&letters, &rules), comes_back);
    assert!(fates.unwrap().iter().all(|fate| *fate == Fate::Delivered));
    assert!(delivered(&cluster).values().all(|numbers| numbers.is_sorted()));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_letter_is_left_alone() {
    let cluster = cluster();
    bury(&cluster, 0..3).await;
    cluster.produce(LETTERS, 0, message(100));
    bury(&cluster, 3..5).await;
    let mut pending = pending(&cluster).await;
    let letters = all(&mut pending).await;
    assert_eq!((numbers(&letters), pending.foreign()), (vec![0, 1, 2, 3, 4], 1));
    let connector: Arc<dyn Connector> = cluster.connector();
    assert!(Pending::open(connector, "nowhere", 1 << 20).await.is_err());
}
