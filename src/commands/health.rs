//! `trestle health`: whether a running Trestle is alive, for a container's health check in an image without a shell.

use std::{
    io::{Read, Write},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::{Exit, client::connect};

/// Finding the host, connecting and the whole answer together.
const LIMIT: Duration = Duration::from_secs(3);
/// More of an answer than its first line needs.
const LONGEST_LINE: u64 = 256;

/// Asks `/livez` at HOST:PORT; says on standard error why it is not alive.
pub fn health(address: &str) -> Exit {
    match alive(address, LIMIT) {
        Ok(()) => Exit::Fine,
        Err(problem) => {
            eprintln!("{problem}");
            Exit::Failed
        }
    }
}

/// The command line's check of its argument.
pub fn address(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    if matches!(port, Some(Ok(_))) { Ok(text.to_owned()) } else { Err("it is not HOST:PORT".into()) }
}

fn alive(address: &str, limit: Duration) -> Result<(), String> {
    let (answer, answered) = mpsc::channel();
    let asked = address.to_owned();
    // A thread, because looking a host up has no timeout of its own. It ends with the process.
    thread::spawn(move || answer.send(status(&asked, limit)));
    match answered.recv_timeout(limit) {
        Ok(Ok(status)) if status.starts_with("HTTP/1.") && status.split(' ').nth(1) == Some("200") => Ok(()),
        Ok(Ok(status)) => Err(format!("http://{address}/livez answered `{}`", status.trim_end())),
        Ok(Err(error)) => Err(format!("http://{address}/livez: {error}")),
        Err(_) => Err(format!("http://{address}/livez: no answer within {limit:?}")),
    }
}

/// The first line of the answer.
fn status(address: &str, limit: Duration) -> std::io::Result<String> {
    let mut stream = connect(address, limit)?;
    stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(LONGEST_LINE).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, time::Instant};

    use super::*;

    /// A server that takes one connection and answers this.
    fn server(answer: Option<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 64];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /livez HTTP/1.0\r\n"));
            match answer {
                Some(answer) => stream.write_all(answer.as_bytes()).unwrap(),
                None => thread::sleep(Duration::from_secs(60)),
            }
        });
        address
    }

    #[test]
    fn only_an_answer_of_200_is_health() {
        assert_eq!(health(&server(Some("HTTP/1.0 200 OK\r\n\r\nok\n"))), Exit::Fine);
        let sick = server(Some("HTTP/1.1 503 Service Unavailable\r\n\r\n200\n"));
        assert_eq!(
            alive(&sick, LIMIT),
            Err(format!("http://{sick}/livez answered `HTTP/1.1 503 Service Unavailable`"))
        );
        assert!(alive(&server(Some("SSH-2.0-x 200\r\n")), LIMIT).is_err());
        assert!(alive(&server(Some("")), LIMIT).is_err());
    }

    #[test]
    fn nobody_there_and_a_frozen_server_are_said_within_the_limit() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        assert!(alive(&free, LIMIT).unwrap_err().contains("refused"));
        let begin = Instant::now();
        let frozen = alive(&server(None), Duration::from_millis(200)).unwrap_err();
        assert!(frozen.starts_with("http://127.0.0.1:") && begin.elapsed() < Duration::from_secs(2), "{frozen}");
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in ["127.0.0.1:9464", "localhost:1", "[::1]:9464"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in ["9464", ":9464", "localhost", "localhost:x", "http://localhost:1/x"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
