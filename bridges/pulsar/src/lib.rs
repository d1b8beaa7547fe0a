//! Pulsar, over our own data plane on the binary protocol.

mod access;
mod account;
mod acknowledged;
mod acks;
mod admin;
mod batch;
mod chunks;
mod classify;
mod cluster;
mod compress;
mod connection;
mod connector;
mod envelope;
mod frame;
#[doc(hidden)]
pub mod fuzz;
mod http;
mod lane;
mod marks;
#[doc(hidden)]
pub mod micro;
mod place;
mod policies;
mod pool;
mod protobuf;
mod reader;
mod schema;
mod settings;
mod sink;
mod source;
mod survey;
mod tls;
mod topic;
mod topics;
mod translate;
mod url;

use std::{collections::BTreeMap, sync::Arc};

use trestle_core::{Connector, OptionsOf, WrongOption};

pub use account::ACCOUNTS;
pub use settings::{Settings, Tls};

/// The connector of one Pulsar cluster, which the route table calls `cluster`. Connects to nothing; an error says which
/// setting is wrong, or which of the files it names cannot be read.
pub fn connector(cluster: &str, settings: Settings) -> Result<Arc<dyn Connector>, String> {
    Ok(Arc::new(connector::PulsarConnector::new(cluster, &settings)?))
}

/// The options that are wrong: a name that is not known, or a value that its name does not take.
pub fn check_options(of: OptionsOf, options: &BTreeMap<String, String>) -> Vec<WrongOption> {
    let known = match of {
        // They are settings of their own.
        OptionsOf::Cluster => &[],
        OptionsOf::Source => source::options::NAMES,
        OptionsOf::Sink => sink::Options::NAMES,
    };
    let wrong = |(name, value): (&String, &String)| {
        if !known.contains(&name.as_str()) {
            return Some(WrongOption::unknown(name, known));
        }
        let one = BTreeMap::from([(name.clone(), value.clone())]);
        let problem = match of {
            OptionsOf::Sink => sink::Options::parse(&one).err(),
            _ => source::options::Options::parse(&one).err().map(|fault| fault.detail),
        };
        problem.map(|problem| WrongOption::value(name, problem))
    };
    options.iter().filter_map(wrong).collect()
}

/// Whether several members of a group read one partition at the same time, by the options of a topic that is read. Wrong
/// ones say nothing.
pub fn spreads(options: &BTreeMap<String, String>) -> bool {
    source::options::Options::parse(options).is_ok_and(|options| options.subscription_type.is_spread())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_option_is_told_on_its_own() {
        let options = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let wrong = check_options(
            OptionsOf::Source,
            &options(&[("ackTimeoutMillis", "1"), ("receiverQueueSize", "0"), ("recieverQueueSize", "1")]),
        );
        let said: Vec<_> = wrong.iter().map(|w| (w.name.as_str(), w.known.is_some())).collect();
        assert_eq!(said, [("receiverQueueSize", false), ("recieverQueueSize", true)]);
        let sink = options(&[("compressionType", "LZ4"), ("receiverQueueSize", "1")]);
        assert_eq!(check_options(OptionsOf::Sink, &sink).len(), 1);
    }
}
