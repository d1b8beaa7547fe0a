//! RocketMQ's remoting protocol, as far as a test's admin work and the oracle need it: `mqadmin` takes 5 s a call.
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
    let mut connection = Connection::open(address).await?;
    let answer = connection.request(code, &fields, body).await?;
    ensure!(answer.header["code"] == 0, "RocketMQ request {code} to {address} was refused: {}", answer.header);
    Ok(answer.body)
}

pub struct Connection {
    address: String,
    stream: TcpStream,
    requests: u32,
}

/// Whatever its code says.
pub struct Answer {
    pub header: Value,
    pub body: Vec<u8>,
}

impl Connection {
    pub async fn open(address: &str) -> Result<Connection> {
        let stream =
            timeout(LIMIT, TcpStream::connect(address)).await?.with_context(|| format!("RocketMQ at {address}"))?;
        Ok(Connection { address: address.to_owned(), stream, requests: 0 })
    }

    /// One after the other; after an error the connection is of no use any more.
    pub async fn request(&mut self, code: u32, fields: &Value, body: &[u8]) -> Result<Answer> {
        let about = format!("RocketMQ request {code} to {}", self.address);
        timeout(LIMIT, self.exchange(code, fields, body))
            .await
            .with_context(|| format!("{about} took longer than {LIMIT:?}"))?
            .context(about)
    }

    async fn exchange(&mut self, code: u32, fields: &Value, body: &[u8]) -> Result<Answer> {
        self.requests += 1;
        let header = json!({
            "code": code, "flag": 0, "language": "JAVA", "opaque": self.requests, "version": 453, "extFields": fields,
        });
        let header = header.to_string();
        let mut frame = Vec::new();
        frame.extend(u32::try_from(4 + header.len() + body.len())?.to_be_bytes());
        frame.extend(u32::try_from(header.len())?.to_be_bytes());
        frame.extend(header.as_bytes());
        frame.extend(body);
        self.stream.write_all(&frame).await?;

        let length = self.stream.read_u32().await? as usize;
        let header_length = (self.stream.read_u32().await? & 0x00FF_FFFF) as usize;
        ensure!(
            length <= LARGEST_ANSWER_BYTES && header_length + 4 <= length,
            "no remoting answer: length {length}, header {header_length}"
        );
        let mut answer = vec![0; length - 4];
        self.stream.read_exact(&mut answer).await?;
        let body = answer.split_off(header_length);
        let header: Value = serde_json::from_slice(&answer)?;
        ensure!(header["opaque"] == self.requests, "the answer to another request: {header}");
        Ok(Answer { header, body })
    }
}
