//! A credential that is wrong: routes wait and say which one of which cluster, lose and dead-letter nothing, and go on once the
//! file that holds it is mended.

use std::{env, fs, path::PathBuf};

use anyhow::{Result, ensure};
use trestle_integration::{
    Bridge, Brokers, Kafka, Pulsar, RocketMq, Settings, free_port,
    oracle::{Load, Writer},
    until,
};

use crate::parts::{SOON, unique};

const USER: &str = "trestle";
const SECRET: &str = "right-0123456789";
const COUNT: u64 = 200;

/// In a folder of its own, for as long as it lives.
struct Secret(PathBuf);

impl Secret {
    fn new(value: &str) -> Result<Secret> {
        let secret = Secret(env::temp_dir().join(unique("secret")));
        secret.put(value)?;
        Ok(secret)
    }

    fn put(&self, value: &str) -> Result<()> {
        Ok(fs::write(&self.0, value)?)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// There and back again over a cluster that asks for a credential. `secured`: its settings; `topic`: one there; `says`: what
/// is told of a credential that is wrong.
async fn waits_and_goes_on(secured: &str, topic: &str, secret: &Secret, right: &str, says: &str) -> Result<()> {
    let open = &Brokers::shared().await?.kafka;
    let (source, target) = (unique("credentials"), unique("credentials"));
    for topic in [&source, &target] {
        open.create_topic(topic, 4).await?;
    }
    let mut bridge = Bridge::start(&format!(
        "clusters:
  open: {{ type: kafka, servers: \"{}\" }}
  secured: {{ {secured} }}
routes:
  there:
    from: {{ cluster: open, topic: {source} }}
    to: {{ cluster: secured, topic: \"{topic}\" }}
    dead_letter: {{ cluster: open, topic: {source}-dead }}
  back:
    from: {{ cluster: secured, topic: \"{topic}\" }}
    to: {{ cluster: open, topic: {target} }}
    dead_letter: {{ cluster: open, topic: {target}-dead }}
",
        open.servers
    ))
    .await?;
    Writer::start(&open.servers, &source, Load::new(source.as_str(), COUNT), None)?.finish().await?;
    let told = || async {
        let (_, reasons) = bridge.readiness().await?;
        let of = |route: &str| {
            reasons.lines().any(|line| line.starts_with(route) && line.contains("secured") && line.contains(says))
        };
        // The way back may first miss the topic, which the way there is to make.
        ensure!(
            of("there/") && (of("back/") || reasons.contains("back/deliver: start: unavailable (unknown topic)")),
            "{reasons}"
        );
        Ok(Some(()))
    };
    until("routes say which credential is wrong", SOON, told).await?;
    secret.put(right)?;
    let carried = || async {
        let metrics = bridge.metrics().await?;
        let of = |name: &str, route: &str| metrics.sum(name, &[("route", route)]) as u64;
        let dead =
            of("trestle_messages_dead_lettered_total", "there") + of("trestle_messages_dead_lettered_total", "back");
        ensure!(dead == 0, "{dead} dead letters");
        Ok((of("trestle_messages_delivered_total", "back") == COUNT).then_some(()))
    };
    until("everything went there and back", SOON, carried).await?;
    bridge.ready(SOON).await?;
    ensure!(bridge.terminate(SOON).await? == Some(0), "{}", bridge.about());
    let leaks = bridge.log_lines(right)?;
    ensure!(leaks.is_empty(), "{leaks:?}");
    bridge.fine();
    Ok(())
}

#[tokio::test]
async fn kafka_by_scram() -> Result<()> {
    let port = free_port();
    let kafka = Kafka::start_with(Settings::default().scram(port)).await?;
    kafka.set_user(USER, SECRET).await?;
    let secret = Secret::new("wrong")?;
    let secured = format!(
        "type: kafka, servers: \"127.0.0.1:{port}\", options: {{ security.protocol: sasl_plaintext, \
         sasl.mechanism: SCRAM-SHA-256, sasl.username: {USER}, sasl.password: \"${{file:{}}}\" }}",
        secret.0.display()
    );
    waits_and_goes_on(&secured, &unique("scram"), &secret, SECRET, "Check the credentials").await
}

#[tokio::test]
async fn pulsar_by_token() -> Result<()> {
    let pulsar = Pulsar::start_with(Settings::default().secured()).await?;
    let secret = Secret::new("x.y.z")?;
    let secured = format!(
        "type: pulsar, url: \"{}\", admin: \"{}\", token_file: \"{}\"",
        pulsar.url,
        pulsar.admin,
        secret.0.display()
    );
    let topic = format!("persistent://public/default/{}", unique("token"));
    waits_and_goes_on(&secured, &topic, &secret, Settings::TRESTLE, "token").await
}

#[tokio::test]
async fn rocketmq_by_acl() -> Result<()> {
    let rocketmq = RocketMq::start_with(Settings::default().acl(USER, SECRET)).await?;
    let secret = Secret::new("wrong")?;
    let secured = format!(
        "type: rocketmq, namesrv: \"{}\", access_key: {USER}, secret_key: \"${{file:{}}}\"",
        rocketmq.namesrv,
        secret.0.display()
    );
    waits_and_goes_on(&secured, &unique("acl"), &secret, SECRET, "secret_key").await
}
