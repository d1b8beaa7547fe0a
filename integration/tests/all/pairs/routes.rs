//! Routes of one bridge, what is written into them, and what has to come out.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use trestle_core::{Message, PartitionId};
use trestle_dlq::Letter;
use trestle_integration::{Bridge, until};

use super::{
    nasty::difference,
    site::{Protocol, Site, Topic},
};

/// For all messages of a test, on a busy machine.
const LONG: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct Route {
    pub name: String,
    pub from: Topic,
    pub via: Option<Topic>,
    pub to: Topic,
    /// Else by key.
    pub same_partitions: bool,
}

impl Route {
    /// A send that a busy machine answers late is not sent again, so that each message comes once.
    fn entry(&self) -> String {
        let Route { name, from, via, to, same_partitions } = self;
        let via = via.as_ref().map_or_else(String::new, |via| format!("\n    via: {{ {} }}", via.entry()));
        let partitioning = if *same_partitions { "same" } else { "key" };
        format!(
            "  {name}:
    from: {{ {} }}{via}
    to: {{ {} }}
    partitioning: {partitioning}
    send_timeout: 30s
    dead_letter: {{ cluster: pulsar }}
",
            from.entry(),
            to.entry()
        )
    }

    fn letters(&self) -> Topic {
        let name = format!("persistent://public/dlq-pulsar-bridge/{}", self.name);
        Topic { protocol: Protocol::Pulsar, name, any_time: true }
    }

    /// Whether each topic on the way can store the message.
    fn carries(&self, message: &Message) -> bool {
        // Staging says in a header what its topic does not take as a time.
        let via = self.via.clone().map(Topic::of_any_time);
        via.iter().chain([&self.to]).all(|topic| topic.takes(message))
    }

    /// Waits until everything is accounted for: received = delivered + dead-lettered, on each hop. `written` by partition.
    pub async fn judge(&self, site: &Site, bridge: &Bridge, written: &BTreeMap<u32, Vec<Message>>) -> Result<()> {
        let dead: Vec<&Message> = written.values().flatten().filter(|message| !self.carries(message)).collect();
        let all: usize = written.values().map(Vec::len).sum();
        if let Err(error) = self.settled(bridge, all, dead.len()).await {
            return Err(error.context(format!("dead letters: {:?}", self.reasons(site).await?)));
        }
        let sink = site.sink(&self.to).await?;
        let mut wanted: BTreeMap<u32, Vec<&Message>> = BTreeMap::new();
        for (partition, messages) in written {
            for message in messages.iter().filter(|message| self.carries(message)) {
                let key = message.key.as_ref().filter(|_| !self.same_partitions);
                let PartitionId(target) =
                    key.map_or(PartitionId(*partition % sink.partitions()), |key| sink.place(key));
                wanted.entry(target).or_default().push(message);
            }
        }
        let got = site.read(&self.to).await?;
        ensure!(got.keys().eq(wanted.keys()), "in partitions {:?}, not {:?}", got.keys(), wanted.keys());
        for (partition, wanted) in &wanted {
            same(&format!("partition {partition}"), wanted, &got[partition])?;
        }
        self.judge_letters(site, &dead).await
    }

    /// Waits until so many messages are received, and so many of them dead-lettered on any hop.
    pub async fn settled(&self, bridge: &Bridge, all: usize, dead: usize) -> Result<()> {
        until(&format!("{} has settled {all} messages", self.name), LONG, || async {
            let metrics = bridge.metrics().await?;
            let mut left = all as u64;
            let mut letters = 0;
            for hop in ["stage", "deliver"].into_iter().skip(usize::from(self.via.is_none())) {
                let count = |name: &str| {
                    metrics.sum(&format!("trestle_messages_{name}_total"), &[("route", &self.name), ("hop", hop)])
                        as u64
                };
                let (received, delivered, dead) = (count("received"), count("delivered"), count("dead_lettered"));
                ensure!(
                    received == left && received == delivered + dead,
                    "hop {hop}: of {left} messages {received} received, {delivered} delivered, {dead} dead-lettered"
                );
                (left, letters) = (delivered, letters + dead);
            }
            ensure!(letters == dead as u64, "{letters} dead letters, not {dead}");
            Ok(Some(()))
        })
        .await
    }

    /// How many dead letters say what.
    async fn reasons(&self, site: &Site) -> Result<BTreeMap<String, usize>> {
        let mut reasons = BTreeMap::new();
        for (partition, messages) in site.read(&self.letters()).await? {
            let letters = messages.iter().filter_map(|message| Letter::read(PartitionId(partition), message));
            letters.for_each(|letter| *reasons.entry(format!("{}: {}", letter.cause, letter.error)).or_default() += 1);
        }
        Ok(reasons)
    }

    /// The dead letters are these messages, whole, each with a cause.
    async fn judge_letters(&self, site: &Site, wanted: &[&Message]) -> Result<()> {
        let mut letters = Vec::new();
        for (partition, messages) in site.read(&self.letters()).await? {
            for message in &messages {
                letters.push(Letter::read(PartitionId(partition), message).context("no dead letter")?);
            }
        }
        for letter in &letters {
            ensure!(!letter.cause.is_empty() && !letter.error.is_empty(), "no reason: {letter:?}");
            ensure!(letter.route == self.name, "of the route {}", letter.route);
        }
        // Several partitions write into one topic, so that only what each of them wrote has an order.
        let mut left: Vec<&Message> = letters.iter().map(|letter| &letter.message).collect();
        for wanted in wanted {
            let at = left.iter().position(|letter| difference(wanted, letter).is_none());
            let nearest = left.first().and_then(|letter| difference(wanted, letter));
            let at =
                at.with_context(|| format!("not among the dead letters as it was; against the next: {nearest:?}"))?;
            left.remove(at);
        }
        ensure!(left.is_empty(), "{} dead letters too many", left.len());
        Ok(())
    }
}

/// Each message in its place, exact.
pub fn same(what: &str, wanted: &[&Message], got: &[Message]) -> Result<()> {
    for (at, (wanted, got)) in wanted.iter().zip(got).enumerate() {
        if let Some(difference) = difference(wanted, got) {
            anyhow::bail!("{what}, message {at} of {}: {difference}", wanted_of(wanted));
        }
    }
    ensure!(wanted.len() == got.len(), "{what}: {} messages, not {}", got.len(), wanted.len());
    Ok(())
}

fn wanted_of(message: &Message) -> String {
    format!("key {:?}, {} headers, time {:?}", message.key, message.headers.len(), message.time)
}

/// One bridge with all these routes, ready.
pub async fn start(site: &Site, routes: &[Route]) -> Result<Bridge> {
    let routes: String = routes.iter().map(Route::entry).collect();
    let mut bridge = Bridge::start(&format!("{}routes:\n{routes}", site.clusters())).await?;
    bridge.ready(LONG).await?;
    Ok(bridge)
}
