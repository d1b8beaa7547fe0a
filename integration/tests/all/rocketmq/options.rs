//! What the options of a topic that is written make of messages, as RocketMQ's own client sees it, and as our source undoes it.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use trestle_core::{Cause, Connector, Fault, FaultKind, Message, Outcome, Scope, SinkSpec, Why};
use trestle_integration::{RocketMq, Settings};

use super::rig::*;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

fn spec<const N: usize>(topic: &str, list: [(&str, &str); N]) -> SinkSpec {
    SinkSpec { options: options(list), ..sink_spec(topic) }
}

async fn send(connector: &dyn Connector, spec: SinkSpec, messages: &[Message]) -> Result<()> {
    let sink = connector.sink(spec).await?;
    store(&mut *lane(&sink, 0).await?, messages.to_vec()).await
}

/// What came is what was sent, position aside.
fn same(sent: &[&Message], read: &[Message]) -> Result<()> {
    ensure!(sent.len() == read.len(), "{} of {}", read.len(), sent.len());
    for (sent, read) in sent.iter().zip(read) {
        let read = Message { position: sent.position, ..read.clone() };
        ensure!(&&read == sent, "{read:?} was {sent:?}");
    }
    Ok(())
}

#[tokio::test]
async fn keys_tag_and_message_group_are_native_and_the_message_comes_back_exact() -> Result<()> {
    let connector = connector(&namesrv().await?)?;
    let topic = topic(&connector, "options", 1).await?;
    let key = |key: &[u8]| Some(Bytes::copy_from_slice(key));
    let (long, id) = ("x".repeat(100), |id: &'static [u8]| (&b"id"[..], Some(id)));
    let sent = [
        Message { key: key(b"k"), headers: headers(&[id(b"1 2"), (b"TAGS", Some(b"red"))]), ..message("both") },
        Message {
            key: key(b"\x00\xff"),
            headers: headers(&[id(b"k"), (b"kind", Some(b"blue"))]),
            ..message("odd key")
        },
        Message { key: key(long.as_bytes()), headers: headers(&[(b"a", Some(b"1"))]), ..message("long key") },
        Message { headers: headers(&[id(b"1"), id(b"2"), (b"kind", None)]), ..message("repeats") },
        message("nothing"),
    ];
    let from = [("keys", "header:id"), ("tag", "header:kind"), ("messageGroup", "key")];
    send(&*connector, spec(&topic, from), &sent).await?;
    let constant = [("keys", "constant:c"), ("tag", "constant:red"), ("messageGroup", "header:id")];
    send(&*connector, spec(&topic, constant), &sent[..2]).await?;

    let native = native(&topic, 7, "*").await?;
    let shown: Vec<_> = native.iter().map(|n| [&n.body, &n.keys, &n.tag, &n.group].map(String::as_str)).collect();
    // printf '\0\377' | sha1sum, and the same of a hundred x.
    let (odd, long) =
        ("sha1:aa3e5dcdd77b153f2e59bd0d8794fde33cb4e486", "sha1:50e483690ec481f4af7f6fb524b2b99eb1716565");
    let expected = [
        ["both", "1 2", "null", "k"],
        ["odd key", "k", "blue", odd],
        ["long key", "null", "null", long],
        ["repeats", "2", "null", "null"],
        ["nothing", "null", "null", "null"],
        ["both", "c", "red", "1 2"],
        ["odd key", "c", "red", "k"],
    ];
    ensure!(shown == expected, "{shown:#?}");

    let mut member = Member::join(&connector, quick_spec(&topic, &unique("group"))).await?;
    let read: Vec<Message> = member.read(7).await?.into_iter().map(|(_, message)| message).collect();
    same(&sent.iter().chain(&sent[..2]).collect::<Vec<_>>(), &read)?;
    member.control.close().await;
    Ok(())
}

/// The broker would otherwise take a tag of its own making, or none.
#[tokio::test]
async fn a_header_that_does_not_fit_its_option_has_its_message_refused_and_no_other() -> Result<()> {
    let connector = connector(&namesrv().await?)?;
    let topic = topic(&connector, "unfit", 1).await?;
    let with = |value: &[u8]| Message { headers: headers(&[(b"h", Some(value))]), ..message("v") };
    let far = (now() + 30 * 24 * 3_600_000).to_string();
    for (option, value, says) in [
        ("keys", &b" "[..], "blank"),
        ("tag", b"a|b", "`|`"),
        ("deliverAt", b"soon", "no number"),
        ("delayLevel", b"19", "it has 18"),
        // The broker itself says no.
        ("deliverAt", far.as_bytes(), "timer message illegal"),
    ] {
        let sink = connector.sink(spec(&topic, [(option, "header:h")])).await?;
        let sent = lane(&sink, 0).await?.send(unit(vec![message("1"), with(value), message("2")])).await;
        let [(1, Outcome::Stored), (1, Outcome::Refused(fault)), (1, Outcome::NotSent)] = &sent.runs[..] else {
            anyhow::bail!("{option}: {sent:?}")
        };
        let Fault { kind: FaultKind::Rejected(cause), scope: Scope::Message, detail, .. } = fault else {
            anyhow::bail!("{option}: {fault:?}")
        };
        let brokers = value == far.as_bytes();
        ensure!(*cause == if brokers { Cause::Refused } else { Cause::IllegalProperty }, "{fault:?}");
        ensure!(detail.contains(says), "{fault}");
    }
    let wrong = connector.sink(spec(&topic, [("tag", "constant:a b")])).await.err().context("it is no tag")?;
    ensure!(wrong.detail.contains("tag: `constant:a b`"), "{wrong}");
    Ok(())
}

#[tokio::test]
async fn delayed_messages_come_when_they_are_due_and_the_others_at_once_in_order() -> Result<()> {
    let connector = connector(&namesrv().await?)?;
    let topic = topic(&connector, "due", 1).await?;
    let (begin, past) = (now(), (now() - 60_000).to_string());
    let due = begin + 20_000;
    let header = |value: &str| headers(&[(b"z", Some(b"1")), (b"due", Some(value.as_bytes())), (b"a", Some(b"2"))]);
    let sent = [
        message("first"),
        Message { key: Some("k".into()), headers: header(&due.to_string()), ..message("timed") },
        Message { headers: header(&past), ..message("past") },
        Message { headers: headers(&[(b"level", Some(b"2"))]), ..message("level") },
        Message { headers: headers(&[(b"level", Some(b"0"))]), ..message("no level") },
        message("last"),
    ];
    let from = [("deliverAt", "header:due"), ("delayLevel", "header:level"), ("tag", "constant:t")];
    send(&*connector, spec(&topic, from), &sent).await?;
    ensure!(now() < begin + 4_000, "sending took too long to tell anything");
    let mut member = Member::join(&connector, quick_spec(&topic, &unique("group"))).await?;
    let read: Vec<Message> = member.read(6).await?.into_iter().map(|(_, message)| message).collect();
    let [first, timed, past, level, no_level, last] = &sent;
    same(&[first, past, no_level, last, level, timed], &read)?;
    member.control.close().await;

    let native = native(&topic, 6, "t").await?;
    let find = |body: &str| native.iter().find(|n| n.body == body).context("not there");
    let (level, timed, first) = (find("level")?, find("timed")?, find("first")?);
    // 5 s, and the broker's timer rounds to 1 s.
    ensure!((4_000..15_000).contains(&(level.stored_at - first.stored_at)), "{native:?}");
    ensure!((due - 2_000..due + 10_000).contains(&timed.stored_at), "{native:?}");
    ensure!((timed.deliver_at, timed.keys.as_str()) == (due, "k"), "{timed:?}");
    ensure!(level.level == "2", "{level:?}");
    Ok(())
}

#[tokio::test]
async fn without_its_timer_a_broker_is_not_written_to_with_a_time() -> Result<()> {
    let rocketmq = RocketMq::start_with(Settings::default().conf("timerWheelEnable=false")).await?;
    let connector = connector(&rocketmq.namesrv)?;
    let topic = topic(&connector, "timerless", 1).await?;
    let fault = connector.sink(spec(&topic, [("deliverAt", "header:due")])).await.err().context("it has no timer")?;
    ensure!(fault.kind == FaultKind::Unavailable(Why::Down) && fault.detail.contains("timerWheelEnable"), "{fault}");
    connector.sink(spec(&topic, [("delayLevel", "header:due")])).await?;
    Ok(())
}
