//! Where a new subscription begins, and which topics there are to read.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;
use trestle_core::{Connector, SourceSpec, Start};
use trestle_integration::{Brokers, Pulsar};

use super::{
    rig::{Reader, numbers, settle_all, spec},
    types::of_type,
};
use crate::{
    parts::PLENTY,
    pulsar_sink::rig::{Owner, connector, numbered, spec as sink_spec},
};

fn now() -> Result<i64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64)
}

/// Writes 0 to 99 into partition 0, then 100 to 199, and tells a time between; partition 1 stays empty.
async fn written(pulsar: &Pulsar, connector: &Arc<dyn Connector>, topic: &str) -> Result<i64> {
    pulsar.create_topic(&format!("public/default/{topic}"), 2).await?;
    let sink = connector.sink(sink_spec(topic)).await?;
    let mut owner = Owner::open(&sink, 0).await?;
    owner.push(numbered(0..100, 100))?;
    owner.deliver().await?;
    // The clock is what is waited for: two messages of one millisecond cannot be told apart.
    sleep(Duration::from_millis(20)).await;
    let between = now()?;
    owner.push(numbered(100..200, 100))?;
    owner.deliver().await?;
    owner.lane.close().await;
    Ok(between)
}

async fn read(connector: &Arc<dyn Connector>, spec: SourceSpec, first: u64, end: u64) -> Result<()> {
    let mut reader = Reader::open(connector, spec, PLENTY).await?;
    let mut next = first;
    while next < end {
        let batch = reader.next().await.with_context(|| format!("waiting for {next}"))?;
        for number in numbers(&batch) {
            ensure!(number == next, "{number} instead of {next}");
            next += 1;
        }
        settle_all(&batch);
    }
    reader.control.close().await;
    Ok(())
}

#[tokio::test]
async fn a_new_subscription_begins_at_a_time_and_one_that_is_there_goes_on() -> Result<()> {
    let pulsar = &Brokers::shared().await?.pulsar;
    let connector = connector(pulsar);
    let time = written(pulsar, &connector, "at-a-time").await?;
    for kind in ["Failover", "Exclusive", "Shared"] {
        let at = |time| SourceSpec { start: Start::Time(time), group: kind.into(), ..of_type("at-a-time", kind) };
        read(&connector, at(time), 100, 150).await?;
        // Whatever is asked for now: it stands where it stands.
        let mut reader = Reader::open(&connector, at(0), PLENTY).await?;
        if let Some(batch) = reader.batch(Duration::from_secs(2)).await? {
            ensure!(numbers(&batch)[0] >= 150, "{kind} began again at {}", numbers(&batch)[0]);
        }
        reader.control.close().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_subscription_that_was_left_half_made_is_set_to_its_time() -> Result<()> {
    let pulsar = &Brokers::shared().await?.pulsar;
    let connector = connector(pulsar);
    let time = written(pulsar, &connector, "half-made").await?;
    // As it is between its making and its setting.
    let path = "persistent/public/default/half-made-partition-0/subscription/readers";
    pulsar.rest("PUT", path, r#"{"ledgerId":-1,"entryId":-1,"partitionIndex":-1}"#).await?;
    pulsar.rest("PUT", &format!("{path}/properties"), &format!(r#"{{"trestle-begins-at":"{time}"}}"#)).await?;
    // Another start does not undo what was decided.
    read(&connector, SourceSpec { start: Start::Time(0), ..spec("half-made") }, 100, 200).await?;
    // One that others made is where it is.
    pulsar
        .rest("PUT", &path.replace("readers", "others"), r#"{"ledgerId":-1,"entryId":-1,"partitionIndex":-1}"#)
        .await?;
    let others = SourceSpec { start: Start::Time(time), group: "others".into(), ..spec("half-made") };
    read(&connector, others, 0, 200).await
}

#[tokio::test]
async fn a_start_that_cannot_be_is_refused_and_says_why() -> Result<()> {
    let pulsar = &Brokers::shared().await?.pulsar;
    pulsar.create_topic("public/default/no-start", 1).await?;
    let settings = serde_json::from_value(serde_json::json!({ "url": pulsar.url }))?;
    let without = trestle_pulsar::connector("staging", settings).map_err(anyhow::Error::msg)?;
    for (start, said) in [(Start::Time(1), "`admin`"), (Start::Offsets(BTreeMap::new()), "offsets")] {
        let refused = without.source(SourceSpec { start, ..spec("no-start") }).await.err().context("taken")?;
        ensure!(refused.detail.contains(said), "{refused}");
    }
    Ok(())
}

#[tokio::test]
async fn a_namespace_is_asked_for_its_topics_and_tells_each_once() -> Result<()> {
    let pulsar = &Brokers::shared().await?.pulsar;
    pulsar.rest("PUT", "namespaces/public/listed", "").await?;
    for (topic, partitions) in [("orders", 3), ("plain", 0), ("orders-billing-RETRY", 0), ("orders-billing-DLQ", 2)] {
        pulsar.create_topic(&format!("public/listed/{topic}"), partitions).await?;
    }
    // A policy of a topic is kept in a topic of the namespace.
    pulsar
        .rest(
            "POST",
            "persistent/public/listed/orders/retention",
            r#"{"retentionTimeInMinutes":1,"retentionSizeInMB":1}"#,
        )
        .await?;
    let there = connector(pulsar).topics("persistent://public/listed/orders-.*").await?;
    let names = ["orders", "orders-billing-DLQ", "orders-billing-RETRY", "plain"];
    ensure!(there == names.map(|name| format!("persistent://public/listed/{name}")), "{there:?}");
    ensure!(connector(pulsar).topics("persistent://public/.*/orders").await.is_err());
    Ok(())
}
