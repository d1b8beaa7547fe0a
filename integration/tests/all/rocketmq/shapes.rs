//! What is written comes back as it was, and what cannot be written is refused alone.

use anyhow::{Result, ensure};
use bytes::Bytes;
use trestle_core::{Cause, FaultKind, Message, Outcome, Scope, Start};

use super::rig::*;

const LARGEST: usize = 4 << 20;

#[tokio::test]
async fn every_shape_of_message_comes_back_as_it_was() -> Result<()> {
    let connector = connector(&namesrv().await?)?;
    let topic = topic(&connector, "shapes", 1).await?;
    let key = |key: &'static [u8]| Some(Bytes::from_static(key));
    let many: Vec<String> = (0..130).map(|n| format!("header-{n}")).collect();
    let many: Vec<(&[u8], Option<&[u8]>)> = many.iter().map(|name| (name.as_bytes(), Some(&b"v"[..]))).collect();
    let sent: Vec<Message> = vec![
        Message { value: None, ..message("") },
        Message { value: Some(Bytes::new()), key: key(b""), ..message("") },
        Message { key: key(b"\x00\xffkey"), time: Some(1_790_000_000_123), ..message("-") },
        Message { key: key(b"two words"), time: Some(0), ..message("value") },
        Message { key: key("größe".as_bytes()), time: Some(-1), ..message(vec![0, 1, 2, 255]) },
        Message {
            headers: headers(&[(b"z", Some(b"1")), (b"a", Some(b"2")), (b"m", Some("世界 😀".as_bytes()))]),
            ..message("order")
        },
        Message {
            headers: headers(&[(b"b", Some(b"x\x01y\x02z")), (b"a", Some(b"1")), (b"n", Some(b"\n"))]),
            ..message("control")
        },
        Message {
            headers: headers(&[(b"t", Some(b"1")), (b"\xff\xfe", Some(b"\x00")), (b"t", None), (b"", Some(b""))]),
            ..message("odd")
        },
        Message {
            headers: headers(&[
                (b"KEYS", Some(b"k")),
                (b"TAGS", Some(b"red")),
                (b"DELAY", Some(b"3")),
                (b"WAIT", Some(b"false")),
            ]),
            ..message("reserved")
        },
        Message {
            headers: headers(&[(b"trestle-time", Some(b"1")), (b"trestle-envelope", Some(b"["))]),
            ..message("ours")
        },
        Message { headers: headers(&many), ..message("many") },
        Message { headers: headers(&[(b"z", Some(b"1")), (b"a", Some(b"2"))]), ..message(vec![b'x'; LARGEST]) },
        Message { headers: headers(&[(b"long", Some(&[b'x'; 32_600]))]), ..message("long header") },
    ];
    let sink = connector.sink(sink_spec(&topic)).await?;
    store(&mut *lane(&sink, 0).await?, sent.clone()).await?;

    let mut member = Member::join(&connector, quick_spec(&topic, &unique("group"))).await?;
    let read = member.read(sent.len()).await?;
    for (sent, (_, read)) in sent.iter().zip(&read) {
        let mut read = read.clone();
        read.position = sent.position;
        let name = sent
            .value
            .as_deref()
            .map_or_else(|| "null".into(), |v| String::from_utf8_lossy(&v[..v.len().min(20)]).into_owned());
        ensure!(&read == sent, "{name} came back otherwise: {:?} {:?}", read.headers, read.time);
    }
    member.control.close().await;
    Ok(())
}

/// Otherwise the broker answers code 13 for all of them.
#[tokio::test]
async fn what_no_broker_takes_is_refused_alone_and_before_it_is_sent() -> Result<()> {
    let connector = connector(&namesrv().await?)?;
    let topic = topic(&connector, "refused", 1).await?;
    let sink = connector.sink(sink_spec(&topic)).await?;
    let mut lane = lane(&sink, 0).await?;
    let too_large = message(vec![b'x'; LARGEST + 1]);
    let too_long = Message { headers: headers(&[(b"h", Some(&[b'x'; 32_760]))]), ..message("v") };
    for (bad, cause) in [(too_large, Cause::TooLarge), (too_long, Cause::IllegalProperty)] {
        let sent = lane.send(unit(vec![message("1"), message("2"), bad, message("3")])).await;
        match &sent.runs[..] {
            [(2, Outcome::Stored), (1, Outcome::Refused(fault)), (1, Outcome::NotSent)] => {
                ensure!((&fault.kind, fault.scope) == (&FaultKind::Rejected(cause), Scope::Message), "{fault:?}");
            }
            _ => anyhow::bail!("{sent:?}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn topics_are_created_grown_and_described() -> Result<()> {
    let connector = connector(&namesrv().await?)?;
    let topic = topic(&connector, "grown", 2).await?;
    let sink = connector.sink(sink_spec(&topic)).await?;
    ensure!(sink.partitions() == 2);
    let grown = connector.ensure(&topic, trestle_core::Ensure { partitions: 5, durable: None }).await?;
    ensure!(grown.partitions == 5 && grown.max_message == Some(LARGEST), "{grown:?}");
    ensure!(grown.losses.iter().any(|loss| loss.contains("fileReservedTime")), "{grown:?}");
    ensure!(connector.ensure(&topic, trestle_core::Ensure { partitions: 3, durable: None }).await?.partitions == 5);
    let unknown = connector.sink(sink_spec(&unique("unknown"))).await.err().map(|fault| fault.kind);
    ensure!(unknown == Some(FaultKind::Unavailable(trestle_core::Why::UnknownTopic)), "{unknown:?}");
    let odd = connector.describe("with.dot").await.err().map(|fault| fault.detail).unwrap_or_default();
    ensure!(odd.contains("`.`"), "{odd}");
    Ok(())
}

#[tokio::test]
async fn a_new_group_begins_where_start_says_and_an_old_one_where_it_was() -> Result<()> {
    let connector = connector(&namesrv().await?)?;
    let topic = topic(&connector, "begin", 1).await?;
    fill(&connector, &topic, 0..10).await?;
    let group = unique("group");
    let mut member = Member::join(&connector, quick_spec(&topic, &group)).await?;
    ensure!(member.read(10).await?.len() == 10);
    member.control.close().await;
    let mut late = Member::join(
        &connector,
        trestle_core::SourceSpec { start: Start::Latest, ..quick_spec(&topic, &unique("late")) },
    )
    .await?;
    while late.held.is_empty() {
        late.next(SOON).await?;
    }
    // The position of the group that begins at the end is made at once; wait until it is.
    while late.control.lag().iter().any(|lag| lag.behind > 0)
        || late.next(std::time::Duration::from_millis(500)).await?.is_some()
    {}
    fill(&connector, &topic, 10..20).await?;
    let mut again = Member::join(&connector, quick_spec(&topic, &group)).await?;
    for member in [&mut again, &mut late] {
        let numbers: Vec<u64> = member.read(10).await?.iter().map(|(_, m)| number(m)).collect::<Result<_>>()?;
        ensure!(numbers == (10..20).collect::<Vec<_>>(), "{numbers:?}");
        member.control.close().await;
    }
    Ok(())
}
