//! What is written comes back as it was.

use anyhow::{Result, ensure};
use bytes::Bytes;
use trestle_core::{Headers, Message};

use super::rig::*;

#[tokio::test]
async fn every_shape_of_message_comes_back_as_it_was() -> Result<()> {
    let servers = servers().await?;
    let (topic, group) = (unique("shapes"), unique("group"));
    create_topic(&servers, &topic, 1, &[]).await?;
    let connector = connector(&servers, &[])?;
    let mut headers = Headers::default();
    headers.push("twice", Some(Bytes::from("first")));
    headers.push(Bytes::from_static(b"\xff\xfe"), Some(Bytes::from_static(b"\x00\x01")));
    headers.push("twice", None);
    headers.push("", Some(Bytes::new()));
    headers.push("twice", Some(Bytes::from("third")));
    let now = 1_790_000_000_123;
    let sent: Vec<Message> = vec![
        Message { key: None, value: None, ..message("") },
        Message { key: Some(Bytes::new()), ..message("") },
        Message { key: Some(Bytes::from_static(b"\x00\xffkey")), time: Some(now), ..message("value") },
        Message { headers, ..message("with headers") },
        Message { time: Some(0), ..message("1970") },
        Message { time: Some(1), ..message("1970 and a bit") },
        Message { time: None, ..message("no time") },
        Message { time: Some(-1), ..message("just before 1970") },
    ];
    let sink = connector.sink(sink_spec(&topic)).await?;
    let outcome = lane(&sink, 0).await?.send(unit(sent.clone())).await;
    ensure!(matches!(&outcome.runs[..], [(8, trestle_core::Outcome::Stored)]), "{outcome:?}");

    let mut member = Member::join(&connector, source_spec(&topic, &group)).await?;
    member.assigned(None).await?;
    let read = member.read(sent.len()).await?;
    for (sent, (_, read)) in sent.iter().zip(&read) {
        let read = Message { position: sent.position, ..read.clone() };
        ensure!(&read == sent, "sent {sent:?}\nread {read:?}");
    }
    member.control.close().await;
    Ok(())
}
