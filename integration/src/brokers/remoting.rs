//! RocketMQ's remoting protocol, as far as a test's admin work needs it: `mqadmin` takes 5 s a call.
//!
//! A frame is length (4), header length (4, the highest byte names the encoding, 0 = JSON), header, body
//! (`RemotingCommand.java`).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(15);
const LARGEST_ANSWER_BYTES: usize = 16 << 20;

/// One request on a connection of its own; gives the answer's body. Any code but 0 is an error.
pub async fn call(address: &str, code: u32, fields: Value, body: &[u8]) -> Result<Vec<u8>> {
    timeout(LIMIT, exchange(address, code, fields, body))
        .await
        .with_context(|| format!("RocketMQ request {code} to {address} took longer than {LIMIT:?}"))?
        .with_context(|| format!("RocketMQ request {code} to {address}"))
}

async fn exchange(address: &str, code: u32, fields: Value, body: &[u8]) -> Result<Vec<u8>> {
    let header = json!({"code": code, "flag": 0, "language": "JAVA", "opaque": 1, "version": 453, "extFields": fields})
        .to_string();
    let mut stream = TcpStream::connect(address).await?;
    let mut frame = Vec::new();
    frame.extend(u32::try_from(4 + header.len() + body.len())?.to_be_bytes());
    frame.extend(u32::try_from(header.len())?.to_be_bytes());
    frame.extend(header.as_bytes());
    frame.extend(body);
    stream.write_all(&frame).await?;

    let length = stream.read_u32().await? as usize;
    let header_length = (stream.read_u32().await? & 0x00FF_FFFF) as usize;
    ensure!(
        length <= LARGEST_ANSWER_BYTES && header_length + 4 <= length,
        "no remoting answer: length {length}, header {header_length}"
    );
    let mut answer = vec![0; length - 4];
    stream.read_exact(&mut answer).await?;
    let body = answer.split_off(header_length);
    let header: Value = serde_json::from_slice(&answer)?;
    ensure!(header["code"] == 0, "refused: {header}");
    Ok(body)
}
