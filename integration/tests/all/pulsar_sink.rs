//! The sink of the Pulsar connector, on real brokers.

pub mod rig;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use tokio::time::{sleep, timeout};
use trestle_core::{Cause, Durable, Ensure, FaultKind, LaneKey, Message, Outcome, PartitionId, SinkSpec, Why};
use trestle_integration::{Brokers, Pulsar, Settings, free_port};

use self::rig::{Owner, connector, judge, key, message, numbered, read_all, read_numbers, settings, spec};
use crate::parts::{SOON, runs};

#[tokio::test]
async fn a_hundred_thousand_messages_arrive_once_and_in_order() -> Result<()> {
    const EACH: u64 = 25_000;
    let pulsar = &Brokers::shared().await?.pulsar;
    pulsar.create_topic("public/default/hundred", 4).await?;
    let sink = connector(pulsar).sink(spec("hundred")).await?;
    let mut owners = try_join_all((0..4).map(|partition| Owner::open(&sink, partition))).await?;
    for owner in &mut owners {
        owner.push(numbered(0..EACH, 1024))?;
    }
    let begin = Instant::now();
    let delivered = owners.into_iter().map(|mut owner| async move {
        owner.deliver().await?;
        ensure!(owner.faults.is_empty(), "{:?}", owner.faults);
        owner.lane.close().await;
        Ok(owner.stored)
    });
    let stored: usize = try_join_all(delivered).await?.iter().sum();
    eprintln!("{stored} messages in {:?}", begin.elapsed());
    for partition in 0..4 {
        let numbers =
            read_numbers(pulsar, &format!("persistent://public/default/hundred-partition-{partition}")).await?;
        ensure!(judge(&numbers, EACH)? == 0);
    }
    Ok(())
}

/// Sends 30,000 messages, does `fault` when a third of them is stored, and judges what arrived.
async fn under_load<F: Future<Output = Result<()>>>(
    pulsar: &Pulsar,
    sink_spec: SinkSpec,
    fault: impl FnOnce() -> F,
) -> Result<(usize, usize)> {
    const ALL: u64 = 30_000;
    let topic = format!("persistent://public/default/{}-partition-0", sink_spec.topic);
    let sink = connector(pulsar).sink(sink_spec).await?;
    let mut owner = Owner::open(&sink, 0).await?;
    owner.push(numbered(0..ALL / 3, 1024))?;
    owner.deliver().await?;
    owner.push(numbered(ALL / 3..ALL, 1024))?;
    let (delivered, fault) = tokio::join!(timeout(SOON * 3, owner.deliver()), fault());
    fault?;
    delivered??;
    let repeats = judge(&read_numbers(pulsar, &topic).await?, ALL)?;
    eprintln!("{} unknown, {repeats} repeats, faults {:?}", owner.unknown, owner.faults);
    let unknown = owner.unknown;
    owner.lane.close().await;
    Ok((unknown, repeats))
}

#[tokio::test]
async fn a_killed_broker_loses_nothing_and_repeats_nothing_that_can_be_seen() -> Result<()> {
    let pulsar = Pulsar::start().await?;
    for (topic, fenced) in [("killed-shared", false), ("killed-fenced", true)] {
        pulsar.create_topic(&format!("public/default/{topic}"), 1).await?;
        let kill = || async {
            pulsar.broker.kill().await?;
            pulsar.broker.start().await
        };
        let (_, repeats) = under_load(&pulsar, SinkSpec { fenced, ..spec(topic) }, kill).await?;
        ensure!(repeats == 0, "{repeats} repeats: the lane looks at the topic's end before it sends again");
    }
    Ok(())
}

#[tokio::test]
async fn a_frozen_broker_answers_no_probe_and_all_arrives_once_it_thaws() -> Result<()> {
    let pulsar = Pulsar::start().await?;
    pulsar.create_topic("public/default/frozen", 1).await?;
    let sink = connector(&pulsar).sink(spec("frozen")).await?;
    let freeze = || async {
        pulsar.broker.pause().await?;
        let asked = Instant::now();
        let probed = sink.probe(PartitionId(0)).await;
        ensure!(probed.is_err(), "a frozen broker answered");
        ensure!(asked.elapsed() < Duration::from_secs(4), "the probe took {:?}", asked.elapsed());
        sleep(Duration::from_secs(8)).await;
        pulsar.broker.unpause().await
    };
    let thawed = SinkSpec { fenced: true, ..spec("frozen") };
    under_load(&pulsar, thawed, freeze).await?;
    Ok(())
}

#[tokio::test]
async fn an_unloaded_topic_is_followed_without_loss_or_repeats() -> Result<()> {
    let pulsar = Pulsar::start().await?;
    pulsar.create_topic("public/default/unloaded", 1).await?;
    let unload = || async {
        for _ in 0..3 {
            pulsar.rest("PUT", "persistent/public/default/unloaded-partition-0/unload", "").await?;
            pulsar.rest("PUT", "namespaces/public/default/unload", "").await?;
        }
        Ok(())
    };
    let (_, repeats) = under_load(&pulsar, spec("unloaded"), unload).await?;
    ensure!(repeats == 0, "{repeats} repeats");
    Ok(())
}

#[tokio::test]
async fn a_newer_lane_fences_an_older_one_for_good() -> Result<()> {
    let pulsar = &Brokers::shared().await?.pulsar;
    pulsar.create_topic("public/default/fenced", 1).await?;
    let fenced = || SinkSpec { fenced: true, ..spec("fenced") };
    // Two instances: they share no connection.
    let (old, new) = (connector(pulsar).sink(fenced()).await?, connector(pulsar).sink(fenced()).await?);
    let mut older = Owner::open(&old, 0).await?;
    ensure!(runs(&older.send(numbered(0..10, 100)).await?) == [(10, "stored")]);
    let mut newer = Owner::open(&new, 0).await?;
    ensure!(runs(&newer.send(numbered(10..20, 100)).await?) == [(10, "stored")]);
    let deadline = Instant::now() + SOON;
    for offset in 100.. {
        let sent = older.send(numbered(offset..offset + 1, 100)).await?;
        match sent.runs.first() {
            Some((_, Outcome::Refused(fault))) if fault.kind == FaultKind::Fenced => break,
            Some((_, Outcome::Stored)) => bail!("stored behind the newer one's back"),
            other => ensure!(Instant::now() < deadline, "never fenced: {other:?}"),
        }
    }
    // The older one's last attempt may have cost the newer one its producer, but never its place.
    let deadline = Instant::now() + SOON;
    loop {
        let sent = newer.send(numbered(20..30, 100)).await?;
        let Some((_, outcome)) = sent.runs.first() else { bail!("no outcome") };
        match outcome {
            Outcome::Stored => break,
            Outcome::Refused(fault) | Outcome::Unknown(fault) if fault.kind == FaultKind::Fenced => {
                bail!("the newer one was fenced: {fault}")
            }
            other => ensure!(Instant::now() < deadline, "the newer one does not go on: {other:?}"),
        }
    }
    ensure!(judge(&read_numbers(pulsar, "persistent://public/default/fenced-partition-0").await?, 30)? == 0);
    // The lane's own exclusive producer does not make a probe fail.
    new.probe(PartitionId(0)).await?;
    Ok(())
}

#[tokio::test]
async fn a_second_producer_of_the_same_lane_waits_until_the_first_is_gone() -> Result<()> {
    let pulsar = &Brokers::shared().await?.pulsar;
    pulsar.create_topic("public/default/shared", 1).await?;
    let (one, two) = (connector(pulsar).sink(spec("shared")).await?, connector(pulsar).sink(spec("shared")).await?);
    let first = one.lane(key(0)).await?;
    let busy = two.lane(key(0)).await.err().context("two producers of one name")?;
    ensure!(busy.kind == FaultKind::Unavailable(Why::Down), "{busy}");
    // A lane of no source partition in particular is nobody's alone.
    let everyone = LaneKey { source: None, ..key(0) };
    let (a, b) = (one.lane(everyone).await?, two.lane(everyone).await?);
    first.close().await;
    two.lane(key(0)).await?.close().await;
    a.close().await;
    b.close().await;
    Ok(())
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_alone_or_split() -> Result<()> {
    const SIX: usize = 6 << 20;
    let pulsar = &Brokers::shared().await?.pulsar;
    pulsar.create_topic("public/default/large", 1).await?;
    let connector = connector(pulsar);
    let with_large = |from: u64| vec![message(from, "a"), message(from + 1, vec![7; SIX]), message(from + 2, "b")];

    let sink = connector.sink(spec("large")).await?;
    let mut owner = Owner::open(&sink, 0).await?;
    let sent = owner.send(with_large(0)).await?;
    ensure!(runs(&sent) == [(1, "stored"), (1, "refused"), (1, "not sent")], "{sent:?}");
    let Some((_, Outcome::Refused(fault))) = sent.runs.get(1) else { bail!("{sent:?}") };
    ensure!(fault.kind == FaultKind::Rejected(Cause::TooLarge) && fault.detail.contains("6291456"), "{fault}");
    ensure!(runs(&owner.send(vec![message(3, "c")]).await?) == [(1, "stored")], "the lane goes on");
    owner.lane.close().await;

    let sink = connector.sink(SinkSpec { split_large: true, ..spec("large") }).await?;
    let mut owner = Owner::open(&sink, 0).await?;
    ensure!(runs(&owner.send(with_large(0)).await?) == [(3, "stored")]);
    let all = read_all(pulsar, "persistent://public/default/large-partition-0").await?;
    let plain: Vec<_> = all.iter().filter(|m| m.metadata().uuid.is_none()).map(|m| m.payload.data.clone()).collect();
    ensure!(plain == [b"a", b"c", b"a", b"b"]);
    let chunks: Vec<_> = all.iter().filter(|m| m.metadata().uuid.is_some()).collect();
    ensure!(chunks.iter().map(|m| m.metadata().chunk_id()).collect::<Vec<_>>() == [0, 1]);
    ensure!(chunks.iter().all(|m| m.metadata().total_chunk_msg_size() == SIX as i32));
    ensure!(chunks.iter().map(|m| m.payload.data.len()).sum::<usize>() == SIX);
    Ok(())
}

#[tokio::test]
async fn the_largest_message_that_the_sink_lets_through_is_taken_by_the_broker() -> Result<()> {
    let pulsar = &Brokers::shared().await?.pulsar;
    pulsar.create_topic("public/default/exact", 1).await?;
    let sink = connector(pulsar).sink(spec("exact")).await?;
    let mut owner = Owner::open(&sink, 0).await?;
    let mut fits = 0;
    // The entry's own metadata is less than 200 bytes.
    for (offset, over) in (0..200).rev().step_by(5).enumerate() {
        let sent = owner.send(vec![message(offset as u64, vec![7; (5 << 20) - over])]).await?;
        match runs(&sent)[..] {
            [(1, "stored")] => fits += 1,
            [(1, "refused")] => {}
            _ => bail!("{over} bytes below 5 MiB: {sent:?}"),
        }
    }
    ensure!(fits > 5, "{fits}");
    Ok(())
}

#[tokio::test]
async fn tombstones_keys_headers_and_times_are_there_for_other_clients() -> Result<()> {
    let pulsar = &Brokers::shared().await?.pulsar;
    pulsar.create_topic("public/default/shapes", 1).await?;
    for (option, unit) in [("NONE", 1), ("NONE", 2), ("LZ4", 2), ("ZSTD", 2)] {
        let mut with_compression = spec("shapes");
        with_compression.options.insert("compressionType".into(), option.into());
        let sink = connector(pulsar).sink(with_compression).await?;
        let mut owner = Owner::open(&sink, 0).await?;
        let shape = |offset| {
            let mut shape = Message { value: None, key: Some(Bytes::from_static(&[0, 255])), ..message(offset, "") };
            shape.headers.push("trace", Some(Bytes::from("1")));
            shape.headers.push("twice", Some(Bytes::from("a")));
            shape.headers.push("twice", Some(Bytes::from("b")));
            shape
        };
        ensure!(runs(&owner.send((0..unit).map(shape).collect()).await?) == [(unit as usize, "stored")], "{option}");
        owner.lane.close().await;
    }
    // The reading crate is built without decompression; what it shows of the uncompressed ones is enough here.
    let stats = pulsar.rest("GET", "persistent/public/default/shapes-partition-0/stats", "").await?;
    ensure!(stats.contains("\"msgInCounter\":7"), "{stats}");
    Ok(())
}

#[tokio::test]
async fn ensure_makes_a_durable_place_and_refuses_one_where_messages_could_vanish() -> Result<()> {
    let pulsar = &Brokers::shared().await?.pulsar;
    let connector = connector(pulsar);
    let topic = "persistent://public/dlq-pulsar-bridge/orders";
    ensure!(connector.describe(topic).await.err().map(|f| f.kind) == Some(FaultKind::Unavailable(Why::UnknownTopic)));
    ensure!(
        connector.sink(spec("missing")).await.err().map(|f| f.kind) == Some(FaultKind::Unavailable(Why::UnknownTopic))
    );
    let durable = |partitions| Ensure { partitions, durable: Some(Durable { subscription: "trestle-dlq".into() }) };
    ensure!(connector.ensure(topic, durable(2)).await?.partitions == 2);
    let info = connector.ensure(topic, durable(4)).await?;
    ensure!((info.partitions, info.max_message) == (4, Some(5 << 20)), "{info:?}");
    ensure!(connector.ensure(topic, durable(1)).await?.partitions == 4, "nothing is taken away");
    for partition in 0..4 {
        let path = format!("persistent/public/dlq-pulsar-bridge/orders-partition-{partition}/subscriptions");
        ensure!(pulsar.rest("GET", &path, "").await?.contains("trestle-dlq"));
    }
    let namespace = "namespaces/public/dlq-pulsar-bridge";
    for (set, body, clear, named) in [
        ("messageTTL", "60", "messageTTL", "TTL"),
        ("subscriptionExpirationTime", "5", "subscriptionExpirationTime", "subscription"),
        (
            "backlogQuota?backlogQuotaType=destination_storage",
            r#"{"limitSize":1000,"limitTime":-1,"policy":"consumer_backlog_eviction"}"#,
            "backlogQuota?backlogQuotaType=destination_storage",
            "consumer_backlog_eviction",
        ),
        (
            "inactiveTopicPolicies",
            r#"{"inactiveTopicDeleteMode":"delete_when_subscriptions_caught_up","maxInactiveDurationSeconds":60,"deleteWhileInactive":true}"#,
            "inactiveTopicPolicies",
            "caught_up",
        ),
    ] {
        pulsar.rest("POST", &format!("{namespace}/{set}"), body).await?;
        // Policies reach the topic in the background.
        let deadline = Instant::now() + SOON;
        loop {
            match connector.ensure(topic, durable(4)).await {
                Err(fault) if fault.detail.contains(named) => break,
                other => ensure!(Instant::now() < deadline, "{named} was not noticed: {other:?}"),
            }
            sleep(Duration::from_millis(100)).await;
        }
        pulsar.rest("DELETE", &format!("{namespace}/{clear}"), "").await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_the_rest_interface_a_subscription_is_made_over_the_binary_protocol() -> Result<()> {
    let pulsar = &Brokers::shared().await?.pulsar;
    pulsar.create_topic("public/default/no-rest", 2).await?;
    let connector = trestle_pulsar::connector("staging", trestle_pulsar::Settings { admin: None, ..settings(pulsar) });
    let connector = connector.map_err(anyhow::Error::msg)?;
    let ensure = |partitions| Ensure { partitions, durable: Some(Durable { subscription: "next hop".into() }) };
    let info = connector.ensure("no-rest", ensure(2)).await?;
    ensure!(info.partitions == 2 && info.unchecked.iter().any(|w| w.contains("`admin`")), "{info:?}");
    let there = pulsar.rest("GET", "persistent/public/default/no-rest-partition-1/subscriptions", "").await?;
    ensure!(there.contains("next hop"), "{there}");
    let few = connector.ensure("no-rest", ensure(3)).await.err().context("partitions from nowhere")?;
    ensure!(few.detail.contains("admin"), "{few}");
    let none = connector.ensure("no-such-topic", ensure(1)).await.err().context("a topic from nowhere")?;
    ensure!(none.kind == FaultKind::Unavailable(Why::UnknownTopic), "{none}");
    Ok(())
}

#[tokio::test]
async fn a_used_up_backlog_quota_is_an_outage_and_not_a_silence() -> Result<()> {
    let pulsar = Pulsar::start_with(Settings::default().conf("backlogQuotaCheckIntervalInSeconds=1")).await?;
    pulsar.create_topic("public/default/full", 1).await?;
    let connector = connector(&pulsar);
    let durable = Some(Durable { subscription: "nobody-reads".into() });
    connector.ensure("full", Ensure { partitions: 1, durable }).await?;
    let quota = r#"{"limitSize":10000,"limitTime":-1,"policy":"producer_exception"}"#;
    pulsar.rest("POST", "namespaces/public/default/backlogQuota?backlogQuotaType=destination_storage", quota).await?;
    let sink = connector.sink(spec("full")).await?;
    let mut owner = Owner::open(&sink, 0).await?;
    let deadline = Instant::now() + SOON;
    for offset in (0..).step_by(100) {
        let sent = owner.send(numbered(offset..offset + 100, 1024)).await?;
        match sent.runs.first() {
            Some((_, Outcome::Refused(fault))) if fault.detail.contains("quota") => {
                ensure!(fault.kind == FaultKind::Unavailable(Why::Down), "{fault}");
                break;
            }
            other => ensure!(Instant::now() < deadline, "{other:?}"),
        }
    }
    let probed = sink.probe(PartitionId(0)).await.err().context("the probe went through")?;
    ensure!(probed.kind == FaultKind::Unavailable(Why::Down), "{probed}");
    Ok(())
}

#[tokio::test]
async fn with_broker_deduplication_nothing_is_dropped_silently() -> Result<()> {
    let pulsar = Pulsar::start_with(Settings::default().conf("brokerDeduplicationEnabled=true")).await?;
    pulsar.create_topic("public/default/dedup", 1).await?;
    let kill = || async {
        pulsar.broker.kill().await?;
        pulsar.broker.start().await
    };
    let (_, repeats) = under_load(&pulsar, spec("dedup"), kill).await?;
    ensure!(repeats == 0);
    // Another process begins to count where the last one ended.
    let sink = connector(&pulsar).sink(spec("dedup")).await?;
    let mut owner = Owner::open(&sink, 0).await?;
    ensure!(runs(&owner.send(numbered(30_000..30_500, 10)).await?) == [(500, "stored")]);
    ensure!(judge(&read_numbers(&pulsar, "persistent://public/default/dedup-partition-0").await?, 30_500)? == 0);
    Ok(())
}

#[tokio::test]
async fn a_broker_that_wants_a_token_gets_it_and_a_wrong_one_is_said_loudly() -> Result<()> {
    let pulsar = Pulsar::start_with(Settings::default().secured()).await?;
    let with = |token: Option<&str>| {
        let settings = trestle_pulsar::Settings { token: token.map(str::to_owned), ..settings(&pulsar) };
        trestle_pulsar::connector("staging", settings).map_err(anyhow::Error::msg)
    };
    let right = with(Some(Settings::TRESTLE))?;
    right.ensure("secured", Ensure { partitions: 1, durable: None }).await?;
    let sink = right.sink(spec("secured")).await?;
    let mut owner = Owner::open(&sink, 0).await?;
    ensure!(runs(&owner.send(numbered(0..10, 10)).await?) == [(10, "stored")]);
    for (token, why) in
        [(None, Why::Authentication), (Some("x.y.z"), Why::Authentication), (Some(Settings::NOBODY), Why::Permission)]
    {
        let fault = with(token)?.sink(spec("secured")).await.err().context("let in")?;
        ensure!(fault.kind == FaultKind::Unavailable(why), "{fault}");
        let fault = with(token)?.describe("secured").await.err().context("let in over REST")?;
        ensure!(fault.kind == FaultKind::Unavailable(why), "{fault}");
    }
    Ok(())
}

#[tokio::test]
async fn over_tls_the_brokers_certificate_and_name_are_checked() -> Result<()> {
    let port = free_port();
    let secured = Settings::default()
        .file("/tls/broker.pem", include_bytes!("pulsar_sink/tls/broker.pem"))
        .file("/tls/broker.key", include_bytes!("pulsar_sink/tls/broker.key"))
        .conf(format!("brokerServicePortTls={port}"))
        .conf("tlsCertificateFilePath=/tls/broker.pem")
        .conf("tlsKeyFilePath=/tls/broker.key")
        .port(port);
    let pulsar = Pulsar::start_with(secured).await?;
    pulsar.create_topic("public/default/tls", 1).await?;
    // Asked for when it runs: a kept build may be older than the checkout's place.
    let ca = std::env::var("CARGO_MANIFEST_DIR")? + "/tests/all/pulsar_sink/tls/ca.pem";
    let open = async |host: &str, tls: serde_json::Value| {
        let settings = serde_json::json!({ "url": format!("pulsar+ssl://{host}:{port}"), "tls": tls });
        let connector =
            trestle_pulsar::connector("staging", serde_json::from_value(settings)?).map_err(anyhow::Error::msg)?;
        let sink = connector.sink(spec("tls")).await?;
        let mut owner = Owner::open(&sink, 0).await?;
        let sent = owner.send(numbered(0..500, 1024)).await?;
        owner.lane.close().await;
        anyhow::Ok(runs(&sent))
    };
    ensure!(open("127.0.0.1", serde_json::json!({ "ca": ca })).await? == [(500, "stored")]);
    let stranger =
        open("127.0.0.1", serde_json::json!({})).await.err().context("a stranger's certificate was taken")?;
    ensure!(format!("{stranger:#}").contains("certificate"), "{stranger:#}");
    let other = open("localhost", serde_json::json!({ "ca": ca })).await.err().context("another's name was taken")?;
    ensure!(format!("{other:#}").contains("certificate"), "{other:#}");
    ensure!(open("localhost", serde_json::json!({ "ca": ca, "insecure_hostname": true })).await? == [(500, "stored")]);
    Ok(())
}
