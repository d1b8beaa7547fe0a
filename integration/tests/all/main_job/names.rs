//! RocketMQ's name servers die and come back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;
use trestle_integration::{
    Brokers, RocketMq, Settings,
    oracle::{Load, Row, Target},
    until,
};

use super::rig::{Job, SOON, Site, says, short_or_soak};

#[tokio::test]
async fn dead_name_servers_cost_nothing_while_one_is_left_and_no_message_when_none_is() -> Result<()> {
    let shared = Brokers::shared().await?;
    // The shortest that a broker takes.
    let settings = Settings::default().name_servers(2).conf("registerNameServerPeriod=10000");
    let rocketmq = RocketMq::start_with(settings).await?;
    let [one, two] = &rocketmq.name_servers[..] else { anyhow::bail!("not two name servers") };
    let site = Site::of(&shared.kafka, &shared.pulsar, &rocketmq);
    let job = Job::prepare(site, "nameless", Load::new("", 400_000)).await?;

    one.kill().await?;
    let mut first = job.ready().await.context("the first name server is dead, the second is not")?;
    let backup = rocketmq.namesrv.split(';').nth(1).context("one name server")?;
    let mut target = Target::open(backup, &job.name).await?;
    let writer = job.write(500)?;
    job.arrived(&mut target, 500, SOON).await?;

    one.start().await?;
    registered(&rocketmq).await?;
    two.kill().await?;
    job.flows_again(&writer, &mut target, "the first name server, and the second dead,").await?;

    one.kill().await?;
    sleep(Duration::from_secs(short_or_soak(5, 60))).await;
    let mut recovered = job.flows_again(&writer, &mut target, "no name server").await.with_context(|| first.about())?;
    let (status, body) = first.readiness().await?;
    ensure!(status == 200, "what is open needs no name server: {body}");
    // Who starts now has to wait.
    let code = first.terminate(SOON).await?;
    ensure!(code == Some(0), "exit code {code:?}");
    let mut second = job.start().await?;
    says(&second, &["/deliver", "cannot connect"]).await?;
    two.start().await?;
    second.ready(2 * SOON).await?;
    recovered = recovered.max(job.flows_again(&writer, &mut target, "the second name server").await?);

    writer.stop();
    let ledger = writer.finish().await?;
    let verdict = job.judged(&mut target, &ledger).await.with_context(|| second.about())?;
    println!("{verdict}");
    verdict.sound()?;
    ensure!(verdict.dead.is_empty() && verdict.repeated.is_empty(), "{verdict}");
    let fault = "name servers: first dead at start, second, all".into();
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: Some(recovered), bridge: &second }.record()?;
    first.fine();
    second.fine();
    Ok(())
}

/// The first name server knows the broker again.
async fn registered(rocketmq: &RocketMq) -> Result<()> {
    let address = format!("\"{}\"", rocketmq.address());
    let knows = || async { Ok(rocketmq.cluster_info().await?.contains(&address).then_some(())) };
    until("the broker has registered again", SOON, knows).await
}
