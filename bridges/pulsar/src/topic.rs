//! Topic names, in full and in short.

use std::fmt;

use trestle_core::{Fault, FaultKind, Scope, Why};

/// `persistent://tenant/namespace/name`, without a partition's number.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Topic {
    pub domain: &'static str,
    pub tenant: String,
    pub namespace: String,
    pub name: String,
}

impl Topic {
    /// As [`Topic::parse`]; a name that is wrong names no topic.
    pub fn of(text: &str) -> Result<Topic, Fault> {
        Topic::parse(text).map_err(|e| Fault::new(FaultKind::Unavailable(Why::UnknownTopic), Scope::Cluster, e))
    }

    /// Reads `name`, `tenant/namespace/name` and `persistent://tenant/namespace/name`, as Pulsar's clients do.
    pub fn parse(text: &str) -> Result<Topic, String> {
        let (domain, rest) = match text.split_once("://") {
            Some(("persistent", rest)) => ("persistent", rest),
            Some(("non-persistent", _)) => {
                return Err(format!("`{text}`: a non-persistent topic stores nothing, so nothing could be promised"));
            }
            Some((other, _)) => return Err(format!("`{text}`: `{other}://` is not `persistent://`")),
            None => ("persistent", text),
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let (tenant, namespace, name) = match parts[..] {
            [name] if !text.contains("://") => ("public", "default", name),
            [tenant, namespace, name] => (tenant, namespace, name),
            _ => return Err(format!("`{text}` is not `persistent://tenant/namespace/name`")),
        };
        if [tenant, namespace, name].iter().any(|part| part.is_empty()) {
            return Err(format!("`{text}` has an empty part"));
        }
        Ok(Topic { domain, tenant: tenant.into(), namespace: namespace.into(), name: name.into() })
    }

    /// The full name of partition `index`; of the topic itself when it has no partitions.
    pub fn partition(&self, index: u32, partitioned: bool) -> String {
        if partitioned { format!("{self}-partition-{index}") } else { self.to_string() }
    }

    /// `tenant/namespace`.
    pub fn namespace(&self) -> String {
        format!("{}/{}", self.tenant, self.namespace)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}/{}", self.domain, self.tenant, self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_what_they_mean_to_pulsars_clients() {
        for (text, full) in [
            ("orders", "persistent://public/default/orders"),
            ("t/n/orders", "persistent://t/n/orders"),
            ("persistent://t/n/orders", "persistent://t/n/orders"),
        ] {
            assert_eq!(Topic::parse(text).unwrap().to_string(), full);
        }
        assert_eq!(Topic::parse("o").unwrap().partition(3, true), "persistent://public/default/o-partition-3");
    }

    #[test]
    fn what_is_no_topic_to_rely_on_is_refused() {
        for text in ["non-persistent://a/b/c", "kafka://a/b/c", "a/b", "persistent://a", "a//c", ""] {
            assert!(Topic::parse(text).is_err(), "{text}");
        }
    }
}
