//! The brokers, and the routes between them.

use std::time::Duration;

use anyhow::Result;
use trestle_integration::{Kafka, Mode, Pulsar, RocketMq, Settings, TcpProxy};

use crate::{
    counts::Place,
    shape::{Pair, Protocol},
};

pub struct Site {
    kafka: Kafka,
    pulsar: Pulsar,
    rocketmq: RocketMq,
}

impl Site {
    /// `proxied`: behind proxies that can delay.
    pub async fn start(proxied: bool) -> Result<Site> {
        let settings = || if proxied { Settings::default().proxied() } else { Settings::default() };
        // RocketMQ's own default; the image of the tests syncs every message.
        let asynchronous = settings().conf("flushDiskType=ASYNC_FLUSH");
        let (kafka, pulsar, rocketmq) = tokio::try_join!(
            Kafka::start_with(settings()),
            Pulsar::start_with(settings()),
            RocketMq::start_with(asynchronous)
        )?;
        let site = Site { kafka, pulsar, rocketmq };
        // What was written stays for every measurement that reads it.
        site.pulsar.rest("PUT", "namespaces/public/bench", "").await?;
        let forever = r#"{"retentionTimeInMinutes":-1,"retentionSizeInMB":-1}"#;
        site.pulsar.rest("POST", "namespaces/public/bench/retention", forever).await?;
        Ok(site)
    }

    /// From now on the way to this cluster, and back, takes this long; to the others it takes no time.
    pub fn delay(&self, to: Option<(Protocol, Duration)>) {
        for protocol in Protocol::ALL {
            let mode = match to {
                Some((delayed, delay)) if delayed == protocol => Mode::Delay(delay),
                _ => Mode::Pass,
            };
            if let Some(proxy) = self.proxy(protocol) {
                proxy.set(mode);
            }
        }
    }

    fn proxy(&self, protocol: Protocol) -> Option<&TcpProxy> {
        match protocol {
            Protocol::Kafka => self.kafka.proxy.as_ref(),
            Protocol::Pulsar => self.pulsar.proxy.as_ref(),
            Protocol::RocketMq => self.rocketmq.proxy.as_ref(),
        }
    }

    pub fn place(&self, protocol: Protocol, name: &str) -> Place {
        let topic = name.to_owned();
        match protocol {
            Protocol::Kafka => Place::Kafka { servers: self.kafka.servers.clone(), topic },
            Protocol::Pulsar => {
                let topic = format!("persistent://public/bench/{name}");
                Place::Pulsar { url: self.pulsar.url.clone(), admin: self.pulsar.admin.clone(), topic }
            }
            Protocol::RocketMq => {
                let (namesrv, broker) = (self.rocketmq.namesrv.clone(), self.rocketmq.address().to_owned());
                Place::RocketMq { namesrv, broker, topic }
            }
        }
    }

    /// A route table with one route, called `name`.
    pub fn table(&self, name: &str, from: &Place, via: Option<&Place>, to: &Place) -> String {
        let end = |place: &Place| format!("{{ cluster: {}, topic: \"{}\" }}", place.protocol(), place.topic());
        let via = via.map_or(String::new(), |via| format!("    via: {}\n", end(via)));
        format!(
            r#"clusters:
  kafka: {{ type: kafka, servers: "{}" }}
  pulsar: {{ type: pulsar, url: "{}", admin: "{}" }}
  rocketmq: {{ type: rocketmq, namesrv: "{}" }}
routes:
  {name}:
    from: {}
{via}    to: {}
"#,
            self.kafka.servers,
            self.pulsar.url,
            self.pulsar.admin,
            self.rocketmq.namesrv,
            end(from),
            end(to),
        )
    }
}

/// The places of a route that carries what is in `from`.
pub struct Way {
    pub from: Place,
    pub via: Option<Place>,
    pub to: Place,
    /// The route's name, and the group it reads with.
    pub name: String,
}

impl Way {
    pub fn new(site: &Site, pair: Pair, from: Place, name: String) -> Way {
        let via = pair.via.map(|via| site.place(via, &format!("{name}-via")));
        Way { from, via, to: site.place(pair.to, &name), name }
    }

    pub fn table(&self, site: &Site) -> String {
        site.table(&self.name, &self.from, self.via.as_ref(), &self.to)
    }
}
