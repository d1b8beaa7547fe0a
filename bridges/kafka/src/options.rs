//! What `options:` of a cluster or topic may say: librdkafka's own names, but for what Trestle's promises rest on.

use std::collections::BTreeMap;

use rdkafka::{ClientConfig, error::KafkaError};
use trestle_core::{OptionsOf, WrongOption};

/// Settings that Trestle's promises rest on, and why each cannot be set.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "it is `servers` of the cluster"),
    ("metadata.broker.list", "it is `servers` of the cluster"),
    ("group.id", "it is `group` of the route"),
    ("group.protocol", "partitions are handed over by the classic, cooperative protocol"),
    ("enable.auto.commit", "only settled messages are committed"),
    ("enable.auto.offset.store", "only settled messages are committed"),
    ("auto.offset.reset", "it is `start` of the route, and a position that is gone is reported as a gap"),
    ("enable.partition.eof", "nothing here asks for it"),
    ("queued.max.messages.kbytes", "it follows from the memory limit"),
    ("queued.min.messages", "it follows from the memory limit"),
    ("fetch.queue.backoff.ms", "bounded queues need it short"),
    ("enable.idempotence", "order depends on it; `durability` of the cluster decides"),
    ("acks", "`durability` of the cluster decides"),
    ("request.required.acks", "`durability` of the cluster decides"),
    ("max.in.flight", "order depends on it"),
    ("max.in.flight.requests.per.connection", "order depends on it"),
    ("retries", "order depends on it"),
    ("message.send.max.retries", "order depends on it"),
    ("enable.gapless.guarantee", "order is kept by sending one unit at a time"),
    ("message.timeout.ms", "it is the route's send timeout"),
    ("delivery.timeout.ms", "it is the route's send timeout"),
    ("message.max.bytes", "the topic's own limit counts"),
    ("transactional.id", "messages are not written in transactions"),
    ("allow.auto.create.topics", "topics are made with the partitions they need, or not at all"),
    ("partitioner", "keys are placed as Java clients place them"),
    ("statistics.interval.ms", "nobody would read them"),
];

/// Names to set, so that a misspelt one can be told what it should have been; librdkafka itself knows them all.
pub const NAMES: &[&str] = &[
    "api.version.fallback.ms",
    "api.version.request",
    "api.version.request.timeout.ms",
    "batch.num.messages",
    "batch.size",
    "broker.address.family",
    "broker.address.ttl",
    "broker.version.fallback",
    "check.crcs",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.codec",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "coordinator.query.interval.ms",
    "debug",
    "enable.sasl.oauthbearer.unsecure.jwt",
    "enable.ssl.certificate.verification",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "group.instance.id",
    "heartbeat.interval.ms",
    "isolation.level",
    "linger.ms",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "message.copy.max.bytes",
    "metadata.max.age.ms",
    "metadata.recovery.strategy",
    "partition.assignment.strategy",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.kerberos.keytab",
    "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.principal",
    "sasl.kerberos.service.name",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.extensions",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "session.timeout.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.providers",
    "ssl.sigalgs.list",
    "sticky.partitioning.linger.ms",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.interval.ms",
    "transaction.timeout.ms",
];

/// Of a topic written to, and Trestle's own: what becomes of a message whose time the topic does not take.
pub(crate) const UNTIMELY: &str = "trestle.untimely";
/// It is refused, and becomes a dead letter. The default.
const DEAD_LETTER: &str = "dead-letter";
/// It is written without a time, which is taken whatever the limits are, and its own travels in a header.
pub(crate) const IN_HEADER: &str = "header";

/// Whether librdkafka has nothing to do with an option.
pub(crate) fn is_own(name: &str) -> bool {
    name == UNTIMELY
}

pub(crate) const ASSIGNMENT: &str = "partition.assignment.strategy";
pub(crate) const COOPERATIVE: &str = "cooperative-sticky";
/// Strategies of groups that take everything away before they assign anew, for the sake of other members that know no better.
const EAGER: [&str; 2] = ["range", "roundrobin"];

/// How a group with these strategies hands partitions over. All members must do it the same way, so they do not mix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Assignment {
    Cooperative,
    Eager,
}

pub(crate) fn assignment(strategies: &str) -> Option<Assignment> {
    match strategies.split(',').map(str::trim).collect::<Vec<_>>().as_slice() {
        [COOPERATIVE] => Some(Assignment::Cooperative),
        eager if eager.iter().all(|name| EAGER.contains(name)) => Some(Assignment::Eager),
        _ => None,
    }
}

/// The options that are wrong. A cluster's, a source's and a sink's are the same: librdkafka passes over those that its
/// other half knows.
pub fn check_options(of: OptionsOf, options: &BTreeMap<String, String>) -> Vec<WrongOption> {
    let wrong = |(name, value): (&String, &String)| match (name.as_str(), of) {
        (UNTIMELY, OptionsOf::Sink) => {
            let problem = format!("`{name}` is {DEAD_LETTER} or {IN_HEADER}");
            (![DEAD_LETTER, IN_HEADER].contains(&value.as_str())).then(|| WrongOption::value(name, problem))
        }
        (UNTIMELY, _) => Some(WrongOption::value(name, format!("`{name}` is an option of a topic that is written"))),
        _ => wrong(name, value),
    };
    options.iter().filter_map(wrong).collect()
}

/// All that is wrong in one sentence.
pub(crate) fn refused(of: OptionsOf, options: &BTreeMap<String, String>) -> Result<(), String> {
    let wrong = check_options(of, options);
    if wrong.is_empty() {
        return Ok(());
    }
    Err(wrong.into_iter().map(|wrong| wrong.problem).collect::<Vec<_>>().join("; "))
}

fn wrong(name: &str, value: &str) -> Option<WrongOption> {
    if let Some((_, why)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        return Some(WrongOption::value(name, format!("`{name}` cannot be set: {why}")));
    }
    if name == ASSIGNMENT && assignment(value).is_none() {
        let problem = format!("`{name}` is {COOPERATIVE}, or of {}, with a comma between them", EAGER.join(" and "));
        return Some(WrongOption::value(name, problem));
    }
    match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => None,
        Err(KafkaError::ClientConfig(_, said, ..)) if said.starts_with("No such configuration property") => {
            Some(WrongOption::unknown(name, NAMES))
        }
        Err(KafkaError::ClientConfig(_, said, ..)) => Some(WrongOption::value(name, format!("`{name}`: {said}"))),
        Err(error) => Some(WrongOption::value(name, format!("`{name}`: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn an_option_that_a_promise_rests_on_is_refused_with_its_reason() {
        let error = refused(OptionsOf::Source, &options(&[("group.id", "x"), ("acks", "1")])).unwrap_err();
        assert!(error.contains("`group.id` cannot be set: it is `group` of the route"), "{error}");
        assert!(error.contains("`acks` cannot be set"), "{error}");
        let error = refused(OptionsOf::Source, &options(&[(ASSIGNMENT, "range,cooperative-sticky")])).unwrap_err();
        assert!(error.contains("cooperative-sticky"), "{error}");
        assert_eq!(assignment("range, roundrobin"), Some(Assignment::Eager));
        assert_eq!(refused(OptionsOf::Source, &options(&[(ASSIGNMENT, "range,roundrobin")])), Ok(()));
    }

    #[test]
    fn an_option_of_our_own_is_one_of_a_topic_that_is_written() {
        let wrong = |of, value| check_options(of, &options(&[(UNTIMELY, value)])).pop().map(|wrong| wrong.problem);
        assert_eq!((wrong(OptionsOf::Sink, "header"), wrong(OptionsOf::Sink, "dead-letter")), (None, None));
        assert!(wrong(OptionsOf::Sink, "clamp").unwrap().contains("dead-letter or header"));
        assert!(wrong(OptionsOf::Source, "header").unwrap().contains("that is written"));
    }

    #[test]
    fn a_wrong_name_is_told_apart_from_a_wrong_value() {
        let pairs = [("compression.type", "zstd"), ("linger.ms", "soon"), ("session.timeout", "1")];
        let wrong = check_options(OptionsOf::Source, &options(&pairs));
        let said: Vec<_> = wrong.iter().map(|w| (w.name.as_str(), w.known.is_some())).collect();
        assert_eq!(said, [("linger.ms", false), ("session.timeout", true)]);
    }

    #[test]
    fn every_name_that_is_suggested_is_one_that_can_be_set() {
        for name in NAMES {
            let known = wrong(name, "cooperative-sticky").is_none_or(|wrong| wrong.known.is_none());
            assert!(known && OWNED.iter().all(|(owned, _)| owned != name), "{name}");
        }
    }
}
