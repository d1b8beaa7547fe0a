//! What RocketMQ's own client writes is read as a person would want it: tags, FIFO, delay and transactions.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use trestle_core::Message;

use super::rig::*;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    std::str::from_utf8(message.headers.get(name)?).ok()
}

/// Sorted, without UNIQ_KEY, which every message has.
fn names(message: &Message) -> Vec<String> {
    let mut names: Vec<_> = message.headers.iter().map(|h| String::from_utf8_lossy(&h.name).into_owned()).collect();
    names.retain(|name| name != "UNIQ_KEY");
    names.sort();
    names
}

#[tokio::test]
async fn native_messages_keep_key_tag_group_and_properties() -> Result<()> {
    let (rocketmq, connector) = (broker().await?, connector(&namesrv().await?)?);
    let topic = topic(&connector, "native", 1).await?;
    let sent = ["plain", "all,keys=k1 k2,tag=red,group=g 1,color=dark red", "fifo,group=g"];
    rocketmq.native(&[&["send", topic.as_str()], &sent[..]].concat()).await?;
    let mut member = Member::join(&connector, quick_spec(&topic, &unique("group"))).await?;
    let read = member.read(3).await?;
    ensure!(values(&read) == ["plain", "all", "fifo"], "{:?}", values(&read));
    let [(_, plain), (_, all), (_, fifo)] = &read[..] else { anyhow::bail!("three came") };
    ensure!(plain.key.is_none() && names(plain).is_empty() && header(plain, "UNIQ_KEY").is_some(), "{plain:?}");
    ensure!(all.key.as_deref() == Some(b"k1 k2"), "{all:?}");
    ensure!(names(all) == ["TAGS", "__SHARDINGKEY", "color"], "{:?}", names(all));
    let read = [header(all, "TAGS"), header(all, "__SHARDINGKEY"), header(all, "color")];
    ensure!(read == [Some("red"), Some("g 1"), Some("dark red")], "{read:?}");
    ensure!(header(fifo, "__SHARDINGKEY") == Some("g"), "{fifo:?}");
    member.control.close().await;
    Ok(())
}

/// By level and by time; both leave only what says something of the message.
#[tokio::test]
async fn native_messages_with_a_delay_come_when_they_are_due() -> Result<()> {
    let (rocketmq, connector) = (broker().await?, connector(&namesrv().await?)?);
    let topic = topic(&connector, "delayed", 1).await?;
    let mut member = Member::join(&connector, quick_spec(&topic, &unique("group"))).await?;
    // The client takes some seconds to start.
    let due = now() + 20_000;
    let timed = format!("timed,deliverAt={due},a=1");
    rocketmq.native(&["send", &topic, "level,level=2,a=1", &timed, "now,a=1"]).await?;
    ensure!(now() < due - 1_000, "the client took too long to tell anything");
    let read = member.read(2).await?;
    ensure!(values(&read) == ["now", "level"], "{:?}", values(&read));
    ensure!(now() < due, "the timed one should come last");
    let level = &read[1].1;
    ensure!(names(level) == ["DELAY", "a"] && header(level, "DELAY") == Some("2"), "{level:?}");
    let read = member.read(1).await?;
    // The broker rounds down to its timerPrecisionMs, 1 s.
    ensure!(values(&read) == ["timed"] && now() >= due - 2_000, "{:?} at {}", values(&read), now() - due);
    let timed = &read[0].1;
    ensure!(names(timed) == ["TIMER_DELIVER_MS", "a"], "{:?}", names(timed));
    ensure!(header(timed, "TIMER_DELIVER_MS") == Some(due.to_string().as_str()), "{timed:?}");
    ensure!(timed.time.context("no time")? < due - 1_000, "the time of birth, not of delivery");
    member.control.close().await;
    Ok(())
}

#[tokio::test]
async fn of_transactions_only_what_was_committed_is_read() -> Result<()> {
    let (rocketmq, connector) = (broker().await?, connector(&namesrv().await?)?);
    let topic = topic(&connector, "transactions", 1).await?;
    let sent = ["commit 1,a=1,tag=red", "rollback 1", "commit 2,keys=k", "rollback 2"];
    rocketmq.native(&[&["transact", topic.as_str()], &sent[..]].concat()).await?;
    rocketmq.native(&["send", &topic, "end"]).await?;
    let mut member = Member::join(&connector, quick_spec(&topic, &unique("group"))).await?;
    let read = member.read(3).await?;
    let mut came = values(&read);
    came.sort();
    ensure!(came == ["commit 1", "commit 2", "end"], "{came:?}");
    for (_, message) in &read {
        let expected: &[&str] = if message.value.as_deref() == Some(b"commit 1") { &["TAGS", "a"] } else { &[] };
        ensure!(names(message) == expected, "{:?}", names(message));
    }
    member.control.close().await;
    Ok(())
}
