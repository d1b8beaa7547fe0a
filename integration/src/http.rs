use std::time::Duration;

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(30);

/// One HTTP/1.0 request with a JSON body; gives the status and the body. Enough for a broker's REST interface in a test,
/// without a client of its own.
pub async fn request(method: &str, address: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(LIMIT, exchange)
        .await
        .with_context(|| format!("{method} {address}{path} took longer than {LIMIT:?}"))??;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("{method} {address}{path} answered no HTTP: {answer:?}"))?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}
