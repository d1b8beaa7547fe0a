//! A new subscription that begins at a time.
//!
//! The protocol can only make a subscription at one end of a topic, and set one that is there to a time. What lies between is
//! bridged by a property of the subscription, made together with it: as long as it is there nobody has read, and whoever finds
//! it sets the subscription again, to the time that it says. Properties are read and taken away by REST alone, so without an
//! `admin` URL there is no telling whether a subscription is new.

use std::sync::atomic::Ordering;

use pulsar::message::proto::KeyValue;
use trestle_core::{Fault, Start};

use super::{consumer::Subscription, options::illegal};
use crate::{cluster::Cluster, pool::Use, topic::Topic};

/// Milliseconds since 1970-01-01T00:00Z to which the subscription is still to be set.
const PROPERTY: &str = "trestle-begins-at";

/// Whether a new subscription can begin there.
pub(super) fn check(cluster: &Cluster, topic: &Topic, start: &Start) -> Result<(), Fault> {
    match start {
        Start::Earliest | Start::Latest => Ok(()),
        Start::Time(_) if cluster.admin.is_some() => Ok(()),
        Start::Time(_) => Err(illegal(format!(
            "to begin reading {topic} at a time, the cluster's `admin` URL has to be set: the binary protocol does not tell \
             whether a subscription is new, and one that is not must not be moved (cluster {})",
            cluster.name
        ))),
        Start::Offsets(_) => Err(illegal(format!(
            "{topic} on cluster {} cannot be read from offsets, because Pulsar has none: begin at `earliest`, `latest` or a \
             time",
            cluster.name
        ))),
    }
}

impl Subscription {
    /// Sets a subscription that is new, or was left half made, to where it is to begin. Asks once.
    pub(super) async fn begin(&self) -> Result<(), Fault> {
        let (Start::Time(time), Some(admin)) = (&self.start, &self.cluster.admin) else { return Ok(()) };
        if self.begun.load(Ordering::Relaxed) {
            return Ok(());
        }
        let topic = Topic::of(&self.topic)?;
        let pending = match admin.subscription_properties(&topic, &self.group).await? {
            None => Some(*time),
            Some(properties) => properties.get(PROPERTY).and_then(|time| time.parse().ok()),
        };
        if let Some(time) = pending {
            let connection = self.cluster.connect(&self.topic, Use::Consume(0)).await?;
            let property = KeyValue { key: PROPERTY.into(), value: time.to_string() };
            let consumer = self.subscribe(connection, vec![property]).await?;
            let sought = consumer.seek_time(time).await;
            // The broker closes every consumer of a subscription that it sets, and may be done with it.
            let _ = consumer.close().await;
            sought.map_err(|error| self.fault("going to the time to begin at in", &error))?;
            admin.set_subscription_properties(&topic, &self.group, &Default::default()).await?;
            tracing::info!(topic = self.topic, group = self.group, time, "a new subscription begins at this time");
        }
        self.begun.store(true, Ordering::Relaxed);
        Ok(())
    }
}
