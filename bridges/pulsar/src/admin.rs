//! Pulsar's REST interface (`/admin/v2`): what the binary protocol cannot create or tell.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;
use tokio::time::sleep;
use trestle_core::{Fault, FaultKind, Why};

use crate::{
    access::Access,
    acknowledged::Acknowledged,
    http::{self, Answer},
    policies::Policies,
    topic::Topic,
    url::BrokerUrl,
};

/// A broker that does not own a topic sends the client to the one that does.
const MAX_REDIRECTS: usize = 5;
/// Requests at a time where each partition needs one.
const SIDE_BY_SIDE: usize = 8;
/// How often a subscription that is being made is asked for again, and how long each time is waited.
const BUSY_TRIES: u32 = 20;
const BUSY_DELAY: Duration = Duration::from_millis(100);

pub(crate) struct Admin {
    cluster: String,
    base: BrokerUrl,
    access: Access,
}

impl Admin {
    /// `cluster`: its name in the route table.
    pub fn new(cluster: &str, url: &str, access: Access) -> Result<Admin, String> {
        let base = http::parse_base(url).map_err(|e| format!("`admin`: {e}"))?;
        Ok(Admin { cluster: cluster.into(), base, access })
    }

    /// Creates the namespace if it is not there. Never a tenant: that is a decision about who owns what.
    pub async fn ensure_namespace(&self, topic: &Topic) -> Result<(), Fault> {
        let path = format!("namespaces/{}", topic.namespace());
        if self.call("GET", &path, "").await?.status == 200 {
            return Ok(());
        }
        let created = self.call("PUT", &path, "").await?;
        match created.status {
            200..300 => {
                tracing::info!(namespace = topic.namespace(), "namespace created");
                Ok(())
            }
            409 if text(&created).contains("exist") => Ok(()),
            404 => Err(Fault::unavailable(
                Why::UnknownTopic,
                format!(
                    "namespace {} cannot be created: {}; create tenant `{}` (`pulsar-admin tenants create {}`)",
                    topic.namespace(),
                    text(&created),
                    topic.tenant,
                    topic.tenant
                ),
            )),
            _ => Err(self.fault("PUT", &path, &created)),
        }
    }

    /// Partitions of the topic: 0 when it has none, nothing when there is no such topic.
    pub async fn partitions(&self, topic: &Topic) -> Result<Option<u32>, Fault> {
        #[derive(serde::Deserialize)]
        struct Metadata {
            partitions: u32,
        }
        let path = format!("{}/partitions?checkAllowAutoCreation=false", path(topic));
        let answer = self.call("GET", &path, "").await?;
        if answer.status == 404 {
            return Ok(None);
        }
        let partitions = self.json::<Metadata>("GET", &path, &answer)?.partitions;
        if partitions > 0 {
            return Ok(Some(partitions));
        }
        // Older brokers answer 0 for a topic that is not there, too.
        let path = format!("persistent/{}", topic.namespace());
        let all: Vec<String> = self.get(&path).await?;
        Ok(all.contains(&topic.to_string()).then_some(0))
    }

    pub async fn create_topic(&self, topic: &Topic, partitions: u32) -> Result<(), Fault> {
        let path = format!("{}/partitions", path(topic));
        let answer = self.call("PUT", &path, &partitions.to_string()).await?;
        match answer.status {
            200..300 => tracing::info!(%topic, partitions, "topic created"),
            409 => {} // another replica was faster
            _ => return Err(self.fault("PUT", &path, &answer)),
        }
        Ok(())
    }

    pub async fn grow_topic(&self, topic: &Topic, partitions: u32) -> Result<(), Fault> {
        let path = format!("{}/partitions", path(topic));
        let answer = self.call("POST", &path, &partitions.to_string()).await?;
        match answer.status {
            200..300 => tracing::info!(%topic, partitions, "partitions added"),
            _ => return Err(self.fault("POST", &path, &answer)),
        }
        Ok(())
    }

    /// Creates a subscription at the beginning of each partition that does not have it; `partitions` is 0 for a topic without.
    pub async fn ensure_subscription(&self, topic: &Topic, partitions: u32, name: &str) -> Result<(), Fault> {
        let paths = (0..partitions.max(1)).map(|index| {
            let suffix = if partitions > 0 { format!("-partition-{index}") } else { String::new() };
            format!("{}{suffix}/subscription/{}", path(topic), encode(name))
        });
        let create = |path: String| async move {
            // `MessageId.earliest`; 409 says that there is one, wherever it stands.
            let earliest = r#"{"ledgerId":-1,"entryId":-1,"partitionIndex":-1}"#;
            let mut tries = 0;
            loop {
                let answer = self.call("PUT", &path, earliest).await?;
                match answer.status {
                    200..300 | 409 => return Ok(()),
                    // Somebody else makes it at this moment: the other hop of a route that is new.
                    412 if tries < BUSY_TRIES => tries += 1,
                    _ => return Err(self.fault("PUT", &path, &answer)),
                }
                sleep(BUSY_DELAY).await;
            }
        };
        stream::iter(paths).map(create).buffer_unordered(SIDE_BY_SIDE).try_collect().await
    }

    /// What a subscription has acknowledged of one partition, or of a topic without; `None` when there is no subscription.
    pub async fn acknowledged(
        &self,
        topic: &Topic,
        index: u32,
        partitioned: bool,
        subscription: &str,
    ) -> Result<Option<Acknowledged>, Fault> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Cursor {
            mark_delete_position: String,
            individually_deleted_messages: String,
        }
        #[derive(serde::Deserialize)]
        struct Stats {
            cursors: BTreeMap<String, Cursor>,
        }
        let suffix = if partitioned { format!("-partition-{index}") } else { String::new() };
        let mut stats: Stats = self.get(&format!("{}{suffix}/internalStats", path(topic))).await?;
        // Cursors are named as in paths.
        let name = encode(subscription);
        let Some(cursor) = stats.cursors.remove(&name) else { return Ok(None) };
        let Cursor { mark_delete_position: upto, individually_deleted_messages: ranges } = cursor;
        let unread = || {
            Fault::down(format!("what {subscription} has acknowledged of {topic} is told as `{upto}` and `{ranges}`"))
        };
        Acknowledged::parse(&upto, &ranges).map(Some).ok_or_else(unread)
    }

    /// The policies that hold for the topic: its own, else the namespace's, else the broker's.
    pub async fn policies(&self, topic: &Topic) -> Result<Policies, Fault> {
        let applied = |policy: &str| format!("{}/{policy}?applied=true", path(topic));
        Ok(Policies {
            message_ttl_seconds: self.get_optional(&applied("messageTTL")).await?,
            backlog_quotas: self.get_optional(&applied("backlogQuotaMap")).await?.unwrap_or_default(),
            inactive: self.get_optional(&applied("inactiveTopicPolicies")).await?,
            // Has no topic level.
            subscription_expiration_minutes: self
                .get_optional(&format!("namespaces/{}/subscriptionExpirationTime", topic.namespace()))
                .await?,
            max_message: self.get_optional(&applied("maxMessageSize")).await?,
        })
    }

    /// The properties of a subscription of `topic`, one partition or a topic without any; `None` when there is none.
    pub async fn subscription_properties(
        &self,
        topic: &Topic,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, Fault> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Subscription {
            #[serde(default)]
            subscription_properties: Option<BTreeMap<String, String>>,
        }
        #[derive(serde::Deserialize)]
        struct Stats {
            subscriptions: BTreeMap<String, Subscription>,
        }
        let mut stats: Stats = self.get(&format!("{}/stats", path(topic))).await?;
        let there = stats.subscriptions.remove(name);
        Ok(there.map(|subscription| subscription.subscription_properties.unwrap_or_default()))
    }

    /// Replaces all of them.
    pub async fn set_subscription_properties(
        &self,
        topic: &Topic,
        name: &str,
        properties: &BTreeMap<String, String>,
    ) -> Result<(), Fault> {
        let path = format!("{}/subscription/{}/properties", path(topic), encode(name));
        let body = serde_json::to_string(properties).map_err(|e| Fault::down(e.to_string()))?;
        let answer = self.call("PUT", &path, &body).await?;
        match answer.status {
            200..300 => Ok(()),
            _ => Err(self.fault("PUT", &path, &answer)),
        }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.base.address()
    }

    /// Of the broker that answers: "4.0.4".
    pub async fn version(&self) -> Result<String, Fault> {
        let path = "brokers/version";
        let answer = self.call("GET", path, "").await?;
        match answer.status {
            200 => Ok(String::from_utf8_lossy(&answer.body).trim().to_owned()),
            _ => Err(self.fault("GET", path, &answer)),
        }
    }

    /// How many brokers share the cluster.
    pub async fn brokers(&self) -> Result<usize, Fault> {
        self.get::<Vec<String>>("brokers").await.map(|brokers| brokers.len())
    }

    /// What stands in the way of making the topic.
    pub async fn obstacle(&self, topic: &Topic) -> Result<Option<String>, Fault> {
        if self.call("GET", &format!("namespaces/{}", topic.namespace()), "").await?.status != 404 {
            return Ok(None);
        }
        let tenant = &topic.tenant;
        // Whoever may not ask for tenants is answered something else.
        let missing = self.call("GET", &format!("tenants/{tenant}"), "").await?.status == 404;
        Ok(missing.then(|| format!("there is no tenant `{tenant}`; create it: `pulsar-admin tenants create {tenant}`")))
    }

    /// The policies that a new topic of the namespace would have; those of the broker's own file are not told.
    pub async fn namespace_policies(&self, topic: &Topic) -> Result<Policies, Fault> {
        let of = |policy: &str| format!("namespaces/{}/{policy}", topic.namespace());
        Ok(Policies {
            message_ttl_seconds: self.get_optional(&of("messageTTL")).await.or_else(none_yet)?,
            backlog_quotas: self.get_optional(&of("backlogQuotaMap")).await.or_else(none_yet)?.unwrap_or_default(),
            inactive: self.get_optional(&of("inactiveTopicPolicies")).await.or_else(none_yet)?,
            subscription_expiration_minutes: self
                .get_optional(&of("subscriptionExpirationTime"))
                .await
                .or_else(none_yet)?,
            max_message: None,
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Fault> {
        let answer = self.call("GET", path, "").await?;
        self.json("GET", path, &answer)
    }

    /// What is not set is answered with an empty body, `null` or 204.
    async fn get_optional<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Fault> {
        let answer = self.call("GET", path, "").await?;
        if (200..300).contains(&answer.status) && answer.body.is_empty() {
            return Ok(None);
        }
        self.json("GET", path, &answer)
    }

    fn json<T: DeserializeOwned>(&self, method: &str, path: &str, answer: &Answer) -> Result<T, Fault> {
        if !(200..300).contains(&answer.status) {
            return Err(self.fault(method, path, answer));
        }
        let what =
            |e| Fault::down(format!("{}: {method} {path} answered what cannot be read: {e}", self.base.address()));
        serde_json::from_slice(&answer.body).map_err(what)
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Result<Answer, Fault> {
        let (mut base, mut target) = (self.base.clone(), format!("/admin/v2/{path}"));
        for _ in 0..MAX_REDIRECTS {
            let lost = |e| Fault::down(format!("REST interface {}: {method} {path}: {e}", base.address()));
            let answer = http::request(&self.access, &base, method, &target, body).await.map_err(lost)?;
            let Some(location) = answer.location.as_deref().filter(|_| (301..=308).contains(&answer.status)) else {
                return Ok(answer);
            };
            let moved =
                location.find("://").and_then(|at| location.get(at + 3..)?.find('/').map(|slash| at + 3 + slash));
            let Some((host, rest)) = moved.and_then(|at| location.split_at_checked(at)) else {
                return Err(Fault::down(format!("{}: redirected to `{location}`", self.base.address())));
            };
            let host =
                http::parse_base(host).map_err(|e| Fault::down(format!("{}: redirected: {e}", base.address())))?;
            (base, target) = (host, rest.to_string());
        }
        Err(Fault::down(format!("{}: {method} {path}: redirected {MAX_REDIRECTS} times", self.base.address())))
    }

    fn fault(&self, method: &str, path: &str, answer: &Answer) -> Fault {
        let detail = format!(
            "REST interface {} of cluster {} answered {method} {path} with {}: {}",
            self.base.address(),
            self.cluster,
            answer.status,
            text(answer)
        );
        match answer.status {
            // Who is known and may not is often answered 401 as well (`PulsarWebResource`).
            401 if !detail.contains("Unauthorized to") => Fault::unavailable(
                Why::Authentication,
                format!("{detail}. Check the cluster's `token` or `token_file`"),
            ),
            401 | 403 => Fault::unavailable(Why::Permission, detail),
            404 => Fault::unavailable(Why::UnknownTopic, detail),
            _ => Fault::down(detail),
        }
    }
}

/// A namespace that is not there has no policies.
fn none_yet<T>(fault: Fault) -> Result<Option<T>, Fault> {
    if fault.kind == FaultKind::Unavailable(Why::UnknownTopic) { Ok(None) } else { Err(fault) }
}

fn path(topic: &Topic) -> String {
    format!("{}/{}/{}", topic.domain, topic.namespace(), encode(&topic.name))
}

/// Percent-encodes a path segment.
fn encode(segment: &str) -> String {
    let mut encoded = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The broker's own words: `{"reason": ...}`, or the body as it is.
fn text(answer: &Answer) -> String {
    #[derive(serde::Deserialize)]
    struct Reason {
        // Where nobody was let in, the server in front of Pulsar answers.
        #[serde(alias = "message")]
        reason: String,
    }
    let reason = serde_json::from_slice(&answer.body).map(|r: Reason| r.reason);
    let body = || String::from_utf8_lossy(&answer.body).split_whitespace().collect::<Vec<_>>().join(" ");
    reason.unwrap_or_else(|_| body().chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_stay_one_segment_of_the_path() {
        assert_eq!(encode("a/b c%é"), "a%2Fb%20c%25%C3%A9");
    }

    #[test]
    fn the_brokers_own_words_are_kept() {
        let answer = |body: &str| Answer { status: 412, body: body.into(), location: None };
        assert_eq!(text(&answer(r#"{"reason":"no such thing"}"#)), "no such thing");
        assert_eq!(text(&answer("oops")), "oops");
    }
}
