//! Routes of topics that a pattern finds, of several at once, and circles.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use trestle_core::{Message, Position};
use trestle_integration::{Bridge, until};

use super::site::{Protocol, Site, Topic};
use crate::parts::unique;

const SOON: Duration = Duration::from_secs(60);

fn messages(topic: &str, count: usize) -> Vec<Message> {
    let message = |number: usize| {
        let mut message = Message::at(Position::Offset(0));
        message.key = Some(Bytes::from(format!("{topic}-{number}")));
        message.value = Some(Bytes::from(number.to_string()));
        message.time = Some(1_700_000_000_000);
        message.headers.push("kind", Some(Bytes::from_static(if number % 4 == 3 { b"heartbeat" } else { b"order" })));
        message
    };
    (0..count).map(message).collect()
}

/// The values in the topic, sorted, once so many are there.
async fn values(site: &Site, topic: &Topic, count: usize) -> Result<Vec<usize>> {
    let read = || async {
        let read = site.read(topic).await?;
        let text =
            |message: &Message| String::from_utf8_lossy(message.value.as_deref().unwrap_or_default()).into_owned();
        let mut values: Vec<usize> = read.values().flatten().map(|m| text(m).parse()).collect::<Result<_, _>>()?;
        values.sort_unstable();
        ensure!(values.len() >= count, "{} of {count}", values.len());
        Ok(Some(values))
    };
    until(&format!("{count} messages are in {}", topic.name), SOON, read).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_finds_topics_of_every_protocol_also_while_it_runs() -> Result<()> {
    let site = Site::shared().await?;
    let run = unique("many");
    let (mut routes, mut ways) = (String::new(), Vec::new());
    for (at, from) in Protocol::ALL.into_iter().enumerate() {
        let to = Protocol::ALL[(at + 1) % 3];
        let (name, pattern) = (format!("{run}-{}", from.name()), from.topic(&format!("{run}-{}-.*", from.name())).name);
        let target = to.topic("{topic}-copy").name;
        routes += &format!(
            "  {name}:
    from: {{ cluster: {}, pattern: \"{pattern}\", look_every: 1s }}
    to: {{ cluster: {}, topic: \"{target}\" }}
    transform: [{{ drop: {{ header: kind, equals: heartbeat }} }}]
    dead_letter: {{ cluster: pulsar }}
",
            from.name(),
            to.name()
        );
        ways.push((from, to, name));
    }
    let first: Vec<(Topic, Topic)> = ways.iter().map(|(from, to, name)| pair(*from, *to, name, "a")).collect();
    for (from, _) in &first {
        site.make(from, 2).await?;
        site.write(from, 1, &messages(&from.name, 20)).await?;
    }
    let mut bridge = Bridge::start(&format!("{}routes:\n{routes}", site.clusters())).await?;
    let kept: Vec<usize> = (0..20).filter(|number| number % 4 != 3).collect();
    for (_, to) in &first {
        ensure!(values(&site, to, kept.len()).await? == kept, "in {}", to.name);
    }
    let second: Vec<(Topic, Topic)> = ways.iter().map(|(from, to, name)| pair(*from, *to, name, "b")).collect();
    for (from, to) in &second {
        site.make(from, 2).await?;
        site.write(from, 0, &messages(&from.name, 20)).await?;
        ensure!(values(&site, to, kept.len()).await? == kept, "in {}", to.name);
    }
    bridge.ready(SOON).await?;
    let metrics = bridge.metrics().await?;
    for (_, _, name) in &ways {
        for topic in ["a", "b"] {
            let of = format!("{name}:{name}-{topic}");
            let filtered = metrics.sum("trestle_messages_filtered_total", &[("route", &of), ("reason", "transform")]);
            ensure!(filtered == 5.0, "{of}: {filtered} were left out");
        }
    }
    bridge.fine();
    Ok(())
}

fn pair(from: Protocol, to: Protocol, name: &str, which: &str) -> (Topic, Topic) {
    (from.topic(&format!("{name}-{which}")), to.topic(&format!("{name}-{which}-copy")))
}

/// As many tables as there are clusters could not see it: the stamps do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_are_kept_alike_each_way_and_nothing_goes_round() -> Result<()> {
    let site = Site::shared().await?;
    let run = unique("alike");
    let (one, other) = (Protocol::Kafka.topic(&run), Protocol::Pulsar.topic(&run));
    for topic in [&one, &other] {
        site.make(topic, 2).await?;
    }
    let route = |name: &str, from: &Topic, to: &Topic| {
        format!(
            "  {run}-{name}: {{ from: {{ {} }}, to: {{ {} }}, stamp: true, dead_letter: {{ cluster: pulsar }} }}\n",
            from.entry(),
            to.entry()
        )
    };
    let mut there = Bridge::start(&format!("{}routes:\n{}", site.clusters(), route("there", &one, &other))).await?;
    let mut back = Bridge::start(&format!("{}routes:\n{}", site.clusters(), route("back", &other, &one))).await?;
    there.ready(SOON).await?;
    back.ready(SOON).await?;
    site.write(&one, 0, &messages(&run, 10)).await?;
    site.write(&other, 1, &messages(&run, 10)).await?;
    for (bridge, name) in [(&there, "there"), (&back, "back")] {
        until(&format!("what came {name} is left out"), SOON, || async {
            let metrics = bridge.metrics().await?;
            let of = [("route", format!("{run}-{name}"))];
            let labels: Vec<(&str, &str)> = of.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let left = metrics.sum("trestle_messages_filtered_total", &labels);
            ensure!(left == 10.0, "{left} are left out");
            Ok(Some(()))
        })
        .await?;
    }
    let twice: Vec<usize> = (0..10).flat_map(|number| [number, number]).collect();
    for topic in [&one, &other] {
        ensure!(values(&site, topic, 20).await? == twice, "in {}", topic.name);
    }
    there.fine();
    back.fine();
    Ok(())
}
