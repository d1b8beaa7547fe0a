use anyhow::{Result, ensure};
use testcontainers::{ImageExt, core::IntoContainerPort};

use super::{Container, Settings, container::image};
use crate::{TcpProxy, free_port, http};

/// A standalone broker with its own bookie.
///
/// Judge it alive by producing, not by its process: a broker short of direct memory hangs without an exit.
pub struct Pulsar {
    /// `pulsar://HOST:PORT`
    pub url: String,
    /// `http://HOST:PORT`, the REST interface; never behind the proxy.
    pub admin: String,
    pub broker: Container,
    /// Between the clients and the broker, when asked for by [`Settings::proxied`].
    pub proxy: Option<TcpProxy>,
}

impl Pulsar {
    pub async fn start() -> Result<Pulsar> {
        Pulsar::start_with(Settings::default()).await
    }

    pub async fn start_with(settings: Settings) -> Result<Pulsar> {
        let proxied = settings.proxied;
        let (broker, (port, published, web)) = Container::start_new("pulsar", move || {
            let settings = settings.clone();
            async move {
                // As with Kafka: the number inside is the one that is advertised, the proxy's when there is one.
                let (port, web) = (free_port(), free_port());
                let published = if settings.proxied { free_port() } else { port };
                let mut request = image("pulsar")
                    .with_mapped_port(published, port.tcp())
                    .with_mapped_port(web, web.tcp())
                    .with_env_var("PORT", port.to_string())
                    .with_env_var("WEB", web.to_string())
                    .with_env_var("NAME", "127.0.0.1");
                for (key, value) in settings.all_env() {
                    request = request.with_env_var(key, value);
                }
                for (path, content) in settings.files {
                    request = request.with_copy_to(path, content);
                }
                for port in settings.ports {
                    request = request.with_mapped_port(port, port.tcp());
                }
                Ok((request, (port, published, web)))
            }
        })
        .await?;
        let proxy = if proxied { Some(TcpProxy::start(port, published).await?) } else { None };
        Ok(Pulsar {
            url: format!("pulsar://127.0.0.1:{port}"),
            admin: format!("http://127.0.0.1:{web}"),
            broker,
            proxy,
        })
    }

    /// `topic` as `TENANT/NAMESPACE/NAME`; with 0 partitions a topic without any.
    pub async fn create_topic(&self, topic: &str, partitions: u32) -> Result<()> {
        if partitions == 0 {
            self.rest("PUT", &format!("persistent/{topic}"), "").await.map(drop)
        } else {
            self.rest("PUT", &format!("persistent/{topic}/partitions"), &partitions.to_string()).await.map(drop)
        }
    }

    /// A request to `/admin/v2/PATH`; an error unless the answer is 2xx.
    pub async fn rest(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let (status, answer) =
            http::request(method, self.admin.trim_start_matches("http://"), &format!("/admin/v2/{path}"), body).await?;
        ensure!((200..300).contains(&status), "Pulsar answered {method} {path} with {status}: {answer}");
        Ok(answer)
    }
}
