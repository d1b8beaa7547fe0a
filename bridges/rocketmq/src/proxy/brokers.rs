//! Which brokers have a topic, and where each is received from.

use std::collections::BTreeMap;

use super::{
    client::{CallError, Client, endpoints, granted},
    protocol::{Address, QUERY_ROUTE, QueryRouteRequest, QueryRouteResponse, Resource},
};

/// `enum Permission`: NONE and WRITE.
const UNREADABLE: [i32; 2] = [1, 3];
/// Brokers of one topic at most; each has a connection of its own.
pub const MOST_BROKERS: usize = 64;

/// Asks the proxy at `address` which brokers hand out the topic: their names, and the proxy of each.
pub async fn readable(client: &Client, address: &str, topic: &str) -> Result<BTreeMap<String, String>, CallError> {
    let request = QueryRouteRequest { topic: Resource::named(topic), endpoints: endpoints(address) };
    let answer: QueryRouteResponse = client.call(QUERY_ROUTE, request).await?;
    granted(answer.status.clone())?;
    Ok(proxies(answer, address))
}

/// A proxy beside the brokers is the way to all of them. One inside a broker knows that broker alone, so that there are several.
/// What is one and the same for all is the one that was asked, which is known to be reachable.
fn proxies(answer: QueryRouteResponse, asked: &str) -> BTreeMap<String, String> {
    let mut told: BTreeMap<String, Option<Address>> = BTreeMap::new();
    for queue in answer.queues.into_iter().filter(|queue| !UNREADABLE.contains(&queue.permission)) {
        let Some(broker) = queue.broker.filter(|broker| !broker.name.is_empty()) else { continue };
        let address = broker.endpoints.and_then(|endpoints| endpoints.addresses.into_iter().next());
        // Replicas (not 0) have the same messages.
        if broker.id == 0 || !told.contains_key(&broker.name) {
            told.insert(broker.name, address);
        }
    }
    let mut addresses = told.values().flatten();
    let first = addresses.next();
    let same = addresses.all(|address| Some(address) == first);
    let at = |address: Option<Address>| match address {
        Some(Address { host, port }) if !same && host.contains(':') => format!("[{host}]:{port}"),
        Some(Address { host, port }) if !same => format!("{host}:{port}"),
        _ => asked.to_owned(),
    };
    told.into_iter().map(|(broker, address)| (broker, at(address))).take(MOST_BROKERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::protocol::{Broker, Endpoints, MessageQueue};

    fn queue(broker: &str, id: i32, host: &str, permission: i32) -> MessageQueue {
        let addresses = vec![Address { host: host.into(), port: 8081 }];
        let endpoints = Some(Endpoints { scheme: 1, addresses });
        MessageQueue { permission, broker: Some(Broker { name: broker.into(), id, endpoints }), ..Default::default() }
    }

    fn read(queues: Vec<MessageQueue>) -> Vec<(String, String)> {
        proxies(QueryRouteResponse { status: None, queues }, "known:9").into_iter().collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(broker, at)| ((*broker).to_owned(), (*at).to_owned())).collect()
    }

    #[test]
    fn the_proxy_that_was_asked_is_the_way_to_all_brokers_unless_each_has_its_own() {
        let one = vec![queue("a", 0, "10.0.0.1", 4), queue("a", 0, "10.0.0.1", 4), queue("b", 0, "10.0.0.1", 2)];
        assert_eq!(read(one), pairs(&[("a", "known:9"), ("b", "known:9")]));
        let own = vec![queue("a", 1, "10.0.0.9", 4), queue("a", 0, "10.0.0.1", 4), queue("b", 0, "::2", 4)];
        assert_eq!(read(own), pairs(&[("a", "10.0.0.1:8081"), ("b", "[::2]:8081")]));
    }

    #[test]
    fn what_cannot_be_read_is_left_out_and_too_many_brokers_are_cut() {
        assert_eq!(read(vec![queue("a", 0, "h", 3), queue("b", 0, "h", 1), MessageQueue::default()]), []);
        let many = (0..100).map(|n| queue(&format!("b{n}"), 0, "h", 4)).collect();
        assert_eq!(read(many).len(), MOST_BROKERS);
    }
}
