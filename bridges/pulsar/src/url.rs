//! Service URLs: `pulsar://host:port` and `pulsar+ssl://host:port`, several hosts separated by commas.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BrokerUrl {
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

impl BrokerUrl {
    /// `host:port`, an IPv6 host in brackets.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Every host of a service URL, in its order.
    pub fn parse_all(url: &str) -> Result<Vec<BrokerUrl>, String> {
        let (hosts, tls) = if let Some(hosts) = url.strip_prefix("pulsar://") {
            (hosts, false)
        } else if let Some(hosts) = url.strip_prefix("pulsar+ssl://") {
            (hosts, true)
        } else {
            return Err(format!("`{url}` must begin with pulsar:// or pulsar+ssl://"));
        };
        hosts.trim_end_matches('/').split(',').map(|host| BrokerUrl::parse_host(host.trim(), tls)).collect()
    }

    fn parse_host(text: &str, tls: bool) -> Result<BrokerUrl, String> {
        let default = if tls { 6651 } else { 6650 };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| format!("`{port}` in `{text}` is not a port"))?)
            }
            _ => (text, default),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(format!("`{text}` is not host:port"));
        }
        Ok(BrokerUrl { host: host.into(), port, tls })
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "pulsar+ssl" } else { "pulsar" }, self.address())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(url: &str) -> Result<Vec<String>, String> {
        Ok(BrokerUrl::parse_all(url)?.iter().map(BrokerUrl::to_string).collect())
    }

    #[test]
    fn every_host_of_a_service_url_is_read() {
        assert_eq!(texts("pulsar://a:1,b,[::1]:3/").unwrap(), ["pulsar://a:1", "pulsar://b:6650", "pulsar://[::1]:3"]);
        assert_eq!(texts("pulsar+ssl://[::1],c").unwrap(), ["pulsar+ssl://[::1]:6651", "pulsar+ssl://c:6651"]);
    }

    #[test]
    fn what_is_no_service_url_is_refused_by_name() {
        for url in ["http://a", "pulsar://", "pulsar://a:x", "pulsar://a/b", "pulsar://a,,b"] {
            assert!(texts(url).is_err(), "{url}");
        }
    }
}
