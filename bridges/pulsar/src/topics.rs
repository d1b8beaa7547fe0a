//! Which topics a cluster has.

use std::collections::BTreeSet;

use trestle_core::{Fault, FaultKind, Scope, Why};

use crate::{cluster::Cluster, topic::Topic};

impl Cluster {
    /// Full names of the topics of the namespace that `like` names. Asked of the broker in one answer, which it refuses when
    /// that is larger than a message may be (some 50,000 names at 5 MiB).
    pub async fn topics(&self, like: &str) -> Result<Vec<String>, Fault> {
        let unknown = |detail| Fault::new(FaultKind::Unavailable(Why::UnknownTopic), Scope::Cluster, detail);
        let namespace = namespace_of(like).map_err(unknown)?;
        let there = self.topics_of(&namespace).await?;
        let readable: BTreeSet<String> = there.iter().filter_map(|name| readable(name)).collect();
        Ok(readable.into_iter().collect())
    }
}

/// The namespace in front of a pattern, as the namespace of a topic of any name: `REGEX`, `tenant/namespace/REGEX` or
/// `persistent://tenant/namespace/REGEX`.
fn namespace_of(like: &str) -> Result<Topic, String> {
    let rest = match like.split_once("://") {
        Some(("persistent", rest)) => rest,
        Some((other, _)) => return Err(format!("`{like}`: `{other}://` is not `persistent://`")),
        None => like,
    };
    let full = like.contains("://");
    let (tenant, namespace) = match rest.splitn(3, '/').collect::<Vec<_>>()[..] {
        [_] if !full => ("public", "default"),
        [tenant, namespace, _] => (tenant, namespace),
        _ => return Err(format!("`{like}` is not `persistent://tenant/namespace/PATTERN`")),
    };
    // What a name of a tenant or namespace may have (`NamedEntity`); a dot stands for itself.
    let legal = |c: char| c.is_ascii_alphanumeric() || "-=:._".contains(c);
    if [tenant, namespace].iter().any(|part| part.is_empty() || !part.chars().all(legal)) {
        return Err(format!(
            "`{like}`: tenant and namespace have to be written out; only what follows may be a pattern"
        ));
    }
    Ok(Topic { domain: "persistent", tenant: tenant.into(), namespace: namespace.into(), name: String::new() })
}

/// The name without a partition's number; nothing for a topic that the brokers keep for themselves (`SystemTopicNames`).
fn readable(name: &str) -> Option<String> {
    let whole = match name.rsplit_once("-partition-") {
        Some((whole, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => whole,
        _ => name,
    };
    let local = whole.rsplit('/').next().unwrap_or(whole);
    let system = local.starts_with("__") || local.ends_with("__transaction_pending_ack");
    (whole.starts_with("persistent://") && !system).then(|| whole.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_begins_with_a_namespace_that_is_none() {
        for (like, namespace) in
            [("orders-.*", "public/default"), ("t/n/a/.*|b", "t/n"), ("persistent://t.1/n-2/.*", "t.1/n-2")]
        {
            assert_eq!(namespace_of(like).unwrap().namespace(), namespace);
        }
        for like in [
            "non-persistent://t/n/.*",
            "persistent://t/n",
            "t/n",
            "t/.*/a",
            "persistent://(a|b)/n/x",
            "/n/x",
            "persistent://x",
        ] {
            assert!(namespace_of(like).is_err(), "{like}");
        }
    }

    #[test]
    fn partitions_are_one_topic_and_system_topics_none() {
        let of = |local: &str| readable(&format!("persistent://t/n/{local}"));
        for (local, name) in [
            ("orders-partition-0", Some("orders")),
            ("orders-partition-12", Some("orders")),
            ("orders-partition-x", Some("orders-partition-x")),
            ("orders-partition-", Some("orders-partition-")),
            ("orders-group-RETRY", Some("orders-group-RETRY")),
            ("orders-group-DLQ", Some("orders-group-DLQ")),
            ("__change_events", None),
            ("__change_events-partition-0", None),
            ("__transaction_buffer_snapshot", None),
            ("orders-sub__transaction_pending_ack", None),
        ] {
            assert_eq!(of(local), name.map(|name| format!("persistent://t/n/{name}")), "{local}");
        }
        assert_eq!(readable("non-persistent://t/n/x"), None);
    }
}
