//! The sink: what is refused, what is not, and how topics are made.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
    producer::{BaseProducer, BaseRecord, Producer},
};
use trestle_core::{Durable, Ensure, FaultKind, Message, Outcome, Why};
use trestle_integration::until;

use super::rig::*;

fn numbered(numbers: std::ops::Range<u32>) -> Vec<Message> {
    numbers.map(|number| message(number.to_be_bytes().to_vec())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_record_that_the_broker_refuses_is_told_apart_and_nothing_behind_it_is_stored_before() -> Result<()> {
    let servers = servers().await?;
    let topic = unique("refused");
    create_topic(&servers, &topic, 1, &[("message.timestamp.after.max.ms", "3600000")]).await?;
    let sink = connector(&servers, &[])?.sink(sink_spec(&topic)).await?;
    let mut lane = lane(&sink, 0).await?;
    let mut messages = numbered(0..500);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    messages[250].time = Some(now + 24 * 3_600_000);
    let sent = lane.send(unit(messages.clone())).await;
    ensure!(sent.len() == 500, "{}", sent.len());
    let mut at = 0;
    let mut failed = false;
    for (count, outcome) in &sent.runs {
        match outcome {
            Outcome::Stored => ensure!(!failed, "stored behind a failure: {:?}", said(&sent)),
            Outcome::Refused(fault) => {
                ensure!(at == 250 && *count == 1, "{at}: {:?}", said(&sent));
                ensure!(fault.kind == FaultKind::Rejected(trestle_core::Cause::Refused), "{fault}");
            }
            Outcome::NotSent => {}
            Outcome::Unknown(fault) => bail!("{fault}"),
        }
        failed |= !matches!(outcome, Outcome::Stored);
        at += count;
    }
    eprintln!("{:?}", said(&sent));
    // The rest goes through once the one is gone.
    let stored =
        sent.runs.first().map_or(0, |(count, outcome)| if matches!(outcome, Outcome::Stored) { *count } else { 0 });
    messages.remove(250);
    let again = lane.send(unit(messages.split_off(stored))).await;
    ensure!(said(&again) == [format!("{} stored", 499 - stored)], "{:?}", said(&again));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_topic_never_takes_is_rejected_at_once_with_its_cause() -> Result<()> {
    let servers = servers().await?;
    let (small, compacted) = (unique("small"), unique("compacted"));
    create_topic(&servers, &small, 1, &[("max.message.bytes", "100000")]).await?;
    create_topic(&servers, &compacted, 1, &[("cleanup.policy", "compact")]).await?;
    let connector = connector(&servers, &[])?;
    let sink = connector.sink(sink_spec(&small)).await?;
    ensure!(sink.limits().unit_bytes < 100_000, "{:?}", sink.limits());
    let mut to = lane(&sink, 0).await?;
    let begin = Instant::now();
    let sent = to.send(unit(vec![message(vec![1; 200_000])])).await;
    ensure!(said(&sent) == ["1 refused Rejected(TooLarge) Message"], "{:?}", said(&sent));
    ensure!(begin.elapsed() < Duration::from_secs(2));
    let sent = to.send(unit(vec![message("a"), message(vec![1; 200_000]), message("b")])).await;
    ensure!(said(&sent) == ["1 stored", "1 refused Rejected(TooLarge) Message", "1 not sent"], "{:?}", said(&sent));
    let sent = to.send(unit(vec![message("after")])).await;
    ensure!(said(&sent) == ["1 stored"], "{:?}", said(&sent));

    let sink = connector.sink(sink_spec(&compacted)).await?;
    let mut to = lane(&sink, 0).await?;
    let keyed = Message { key: Some(Bytes::from("k")), ..message("v") };
    let sent = to.send(unit(vec![keyed.clone(), message("no key"), keyed.clone()])).await;
    let refused = ["1 stored", "1 refused Rejected(Refused) Message", "1 not sent"];
    ensure!(said(&sent) == refused, "{:?}", said(&sent));

    // What is refused unforeseen: the topic is compacted only now. What is in front of it in the same batch is innocent, and
    // would be dead-lettered in its place were it not stored.
    let unforeseen = unique("unforeseen");
    create_topic(&servers, &unforeseen, 1, &[]).await?;
    let mut to = lane(&connector.sink(sink_spec(&unforeseen)).await?, 0).await?;
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", &servers).create()?;
    let compact = AlterConfig::new(ResourceSpecifier::Topic(&unforeseen)).set("cleanup.policy", "compact");
    for result in admin.alter_configs([&compact], &AdminOptions::new()).await? {
        result.map_err(|(_, code)| anyhow::anyhow!("{code}"))?;
    }
    let to = tokio::sync::Mutex::new(&mut to);
    until("the topic takes no message without a key", SOON, || async {
        let sent = to.lock().await.send(unit(vec![message("no key")])).await;
        Ok((said(&sent) == ["1 refused Rejected(Refused) Message"]).then_some(()))
    })
    .await?;
    let sent = to.lock().await.send(unit(vec![keyed.clone(), message("no key"), keyed.clone()])).await;
    ensure!(said(&sent)[..2] == refused[..2], "{:?}", said(&sent));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_missing_is_unknown_and_not_made_in_passing() -> Result<()> {
    let servers = servers().await?;
    let topic = unique("nowhere");
    let connector = connector(&servers, &[])?;
    for _ in 0..2 {
        let Err(fault) = connector.sink(sink_spec(&topic)).await else { bail!("a sink of nothing") };
        ensure!(fault.kind == FaultKind::Unavailable(Why::UnknownTopic), "{fault}");
        let Err(fault) = connector.describe(&topic).await else { bail!("a description of nothing") };
        ensure!(fault.kind == FaultKind::Unavailable(Why::UnknownTopic), "{fault}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_made_and_grown_and_never_shrunk_and_what_could_lose_messages_is_refused() -> Result<()> {
    let servers = servers().await?;
    let topic = unique("made");
    let connector = connector(&servers, &[])?;
    for (wanted, there) in [(2, 2), (5, 5), (3, 5)] {
        let info = connector.ensure(&topic, Ensure { partitions: wanted, durable: None }).await?;
        ensure!(info.partitions == there, "{info:?}");
    }
    ensure!(connector.describe(&topic).await?.max_message.is_some());
    let durable = || Ensure { partitions: 1, durable: Some(Durable { subscription: "s".into() }) };
    let Err(fault) = connector.ensure(&topic, durable()).await else { bail!("retention of a week is durable") };
    ensure!(fault.detail.contains("retention.ms"), "{fault}");
    let info = connector.ensure(&unique("durable"), durable()).await?;
    ensure!(info.warnings.is_empty(), "{:?}", info.warnings);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_aborted_is_never_handed_out_and_holds_no_commit_back() -> Result<()> {
    let servers = servers().await?;
    let (topic, group) = (unique("aborted"), unique("group"));
    create_topic(&servers, &topic, 1, &[]).await?;
    let (to, name) = (servers.clone(), topic.clone());
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", &to).set("transactional.id", &name).create()?;
        producer.init_transactions(SOON)?;
        for round in 0..4 {
            producer.begin_transaction()?;
            for _ in 0..100 {
                let payload = if round % 2 == 0 { "aborted" } else { "committed" };
                let record = BaseRecord::<(), str>::to(&name).payload(payload).partition(0);
                producer.send(record).map_err(|(error, _)| error)?;
            }
            producer.flush(SOON)?;
            if round % 2 == 0 {
                producer.abort_transaction(SOON)?;
            } else {
                producer.commit_transaction(SOON)?;
            }
        }
        anyhow::Ok(())
    })
    .await??;
    let connector = connector(&servers, &[])?;
    let mut member = Member::join(&connector, source_spec(&topic, &group)).await?;
    let partitions = member.assigned(None).await?;
    let read = member.read(200).await?;
    ensure!(read.iter().all(|(_, m)| m.value.as_deref() == Some(b"committed")));
    member.control.commit(partitions).await?;
    let committed = committed(&servers, &group, &topic, 1).await?;
    ensure!(*committed.get(&0).context("no commit")? == 403, "{committed:?}");
    member.control.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_in_flight_of_many_lanes_are_all_stored_in_order() -> Result<()> {
    let servers = servers().await?;
    let (topic, group) = (unique("lanes"), unique("group"));
    create_topic(&servers, &topic, 4, &[]).await?;
    let connector = connector(&servers, &[])?;
    let sink = connector.sink(sink_spec(&topic)).await?;
    const UNITS: u32 = 50;
    let begin = Instant::now();
    let mut lanes = Vec::new();
    for partition in 0..4 {
        let mut to = lane(&sink, partition).await?;
        lanes.push(tokio::spawn(async move {
            for round in 0..UNITS {
                let sent = to.send(unit(numbered(round * 500..(round + 1) * 500))).await;
                ensure!(said(&sent) == ["500 stored"], "{:?}", said(&sent));
            }
            Ok(())
        }));
    }
    for lane in lanes {
        lane.await??;
    }
    eprintln!("{:.0} messages a second", 4.0 * 500.0 * f64::from(UNITS) / begin.elapsed().as_secs_f64());
    let mut member = Member::join(&connector, source_spec(&topic, &group)).await?;
    member.assigned(None).await?;
    let mut next = [0u32; 4];
    for (partition, message) in member.read(4 * 500 * UNITS as usize).await? {
        let expected = &mut next[partition.0 as usize];
        ensure!(message.value.as_deref() == Some(&expected.to_be_bytes()[..]), "{partition}: not {expected}");
        *expected += 1;
    }
    member.control.close().await;
    Ok(())
}
