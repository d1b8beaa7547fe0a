//! HTTP/1.1 as the REST interface needs it: one request a connection, small bodies, bounded in size and time.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{access::Access, url::BrokerUrl};

/// A whole exchange. Creating a topic of many partitions takes seconds.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(20);
/// Head and body of an answer, at most.
const LARGEST_ANSWER: u64 = 8 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// Of a redirect.
    pub location: Option<String>,
}

/// `http://host:port` or `https://host:port`.
pub(crate) fn parse_base(url: &str) -> Result<BrokerUrl, String> {
    let (rest, tls, default) = if let Some(rest) = url.strip_prefix("http://") {
        (rest, "pulsar", 80)
    } else if let Some(rest) = url.strip_prefix("https://") {
        (rest, "pulsar+ssl", 443)
    } else {
        return Err(format!("`{url}` must begin with http:// or https://"));
    };
    let host = rest.trim_end_matches('/');
    let port = if host.rsplit(']').next().is_some_and(|tail| tail.contains(':')) {
        String::new()
    } else {
        format!(":{default}")
    };
    let all = BrokerUrl::parse_all(&format!("{tls}://{host}{port}")).map_err(|e| format!("`{url}`: {e}"))?;
    match <[BrokerUrl; 1]>::try_from(all) {
        Ok([base]) => Ok(base),
        Err(_) => Err(format!("`{url}` must name one host")),
    }
}

/// Makes one request; `body` is JSON, or empty.
pub(crate) async fn request(
    access: &Access,
    base: &BrokerUrl,
    method: &str,
    path: &str,
    body: &str,
) -> Result<Answer, String> {
    let exchange = async {
        let (mut reader, mut writer) = access.dial(base).await?;
        let authorization = match access.token().await?.map(String::from_utf8) {
            Some(Ok(token)) => format!("Authorization: Bearer {token}\r\n"),
            Some(Err(_)) => return Err("the token is not text".into()),
            None => String::new(),
        };
        let address = base.address();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}Accept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        writer.write_all(head.as_bytes()).await.map_err(|e| e.to_string())?;
        writer.flush().await.map_err(|e| e.to_string())?;
        let mut answer = Vec::new();
        // Servers often end TLS without saying so; whether the answer is whole is judged by its own lengths.
        let end = (&mut reader).take(LARGEST_ANSWER).read_to_end(&mut answer).await;
        parse(&answer).ok_or_else(|| match end {
            Err(e) => e.to_string(),
            Ok(_) => format!("{} bytes that are no whole HTTP answer", answer.len()),
        })
    };
    match timeout(EXCHANGE_TIMEOUT, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer in {EXCHANGE_TIMEOUT:?}")),
    }
}

/// A whole answer, or `None`.
fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let rest = answer.get(end + 4..)?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let (mut length, mut chunked, mut location) = (None, false, None);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.parse::<usize>().ok()?),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "location" => location = Some(value.to_string()),
            _ => {}
        }
    }
    let body = match length {
        _ if chunked => dechunk(rest)?,
        Some(length) => rest.get(..length)?.to_vec(),
        None => rest.to_vec(),
    };
    Some(Answer { status, body, location })
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(rest.get(..end)?).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let start = end + 2;
        let stop = start.checked_add(size)?;
        body.extend_from_slice(rest.get(start..stop)?);
        rest = rest.get(stop.checked_add(2)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_a_length_in_chunks_or_until_the_end_are_read() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbodyrest",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2;x=y\r\ndy\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nbody",
        ] {
            let answer = parse(answer.as_bytes()).unwrap();
            assert_eq!((answer.status, &answer.body[..]), (200, &b"body"[..]));
        }
        let moved = parse(b"HTTP/1.1 307 Moved\r\nLocation: http://b/x\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!(moved.location.as_deref(), Some("http://b/x"));
    }

    #[test]
    fn a_cut_answer_is_no_answer() {
        let whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
        for cut in 0..whole.len() - 4 {
            assert!(parse(&whole[..cut]).is_none(), "{cut}");
        }
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody").is_none());
        assert!(dechunk(b"ffffffffffffffff\r\nx").is_none());
    }

    #[test]
    fn the_rest_url_names_one_host() {
        assert_eq!(parse_base("http://a:8080/").unwrap().address(), "a:8080");
        assert_eq!(parse_base("https://[::1]").unwrap().address(), "[::1]:443");
        assert!(parse_base("a:8080").is_err() && parse_base("http://a,b").is_err());
    }
}
