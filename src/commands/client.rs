//! Asks a running instance over its admin address.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use serde_json::Value;

/// Of connecting, and of each read.
const LIMIT: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const MOST_ANSWER: u64 = 64 << 20;
/// The environment variable with the credential.
pub const TOKEN_VARIABLE: &str = "TRESTLE_TOKEN";

/// The command line's check of an address: HOST:PORT, with or without `http://` before it.
pub fn address(text: &str) -> Result<String, String> {
    if text.starts_with("https://") {
        return Err("the admin server speaks no TLS: ask it directly, by http://HOST:PORT".into());
    }
    super::health::address(text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/'))
}

/// What is told under this path: the answer's JSON, where it is 200.
pub fn get(address: &str, path: &str) -> Result<Value, String> {
    told(address, path, request(address, "GET", path, "")?)
}

/// The same, of a body of JSON.
pub fn post(address: &str, path: &str, body: &Value) -> Result<Value, String> {
    told(address, path, request(address, "POST", path, &body.to_string())?)
}

fn told(address: &str, path: &str, (status, body): (u16, String)) -> Result<Value, String> {
    let url = format!("http://{address}{path}");
    if status != 200 {
        let problem: Value = serde_json::from_str(&body).unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or("it says no more");
        let hint =
            if status == 401 { format!("; {TOKEN_VARIABLE} is where the token is looked for") } else { String::new() };
        return Err(format!("{url} answered {status}: {detail}{hint}"));
    }
    serde_json::from_str(&body).map_err(|error| format!("{url}: the answer is no JSON: {error}"))
}

/// Status and body.
fn request(address: &str, method: &str, path: &str, body: &str) -> Result<(u16, String), String> {
    let url = format!("http://{address}{path}");
    let token = std::env::var(TOKEN_VARIABLE).ok();
    let credential = match token.as_deref().map(str::trim) {
        Some(token) if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            return Err(format!("{TOKEN_VARIABLE} has characters that an HTTP header cannot hold"));
        }
        Some(token) => format!("Authorization: Bearer {token}\r\n"),
        None => String::new(),
    };
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\n{credential}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(address, request.as_bytes()).map_err(|error| format!("{url}: {error}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{url}: the answer is no HTTP"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| format!("{url}: the answer is no HTTP"))?, body.to_owned()))
}

fn exchange(address: &str, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = connect(address, LIMIT)?;
    // A server that has seen enough may answer before all is written.
    let written = stream.write_all(request);
    let mut answer = Vec::new();
    stream.take(MOST_ANSWER).read_to_end(&mut answer)?;
    if answer.is_empty() { written.map(|()| answer) } else { Ok(answer) }
}

/// The first of the host's addresses that takes a connection. `limit`: of each of them, and of each read and write.
pub fn connect(address: &str, limit: Duration) -> std::io::Result<TcpStream> {
    let mut failed = std::io::Error::new(ErrorKind::NotFound, "the host has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => {
                stream.set_read_timeout(Some(limit))?;
                stream.set_write_timeout(Some(limit))?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
