//! Who is let through, over a real connection.

use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::admin::{
    auth::{MOST_REFUSED, WINDOW},
    rig::{Server, TABLE, serve},
};

const ROUTE: &str = "/api/v1/routes/orders/dead-letters";
const DOCUMENT: &str = "/api/v1/openapi.json";
const OPS: &str = "Authorization: Bearer token-of-the-operators\r\n";
const VIEWER: &str = "Authorization: Bearer token-of-the-viewers\r\n";
const CHANGER: &str = "Authorization: Bearer token-of-the-changers\r\n";

async fn guarded(metrics: &str) -> Server {
    let text = format!(
        "{TABLE}
admin:
  auth:
    tokens:
      ops: {{ token: token-of-the-operators, scopes: [view, operate] }}
      viewer: {{ token: token-of-the-viewers, scopes: [view] }}
      changer: {{ token: token-of-the-changers, scopes: [operate] }}
    metrics: {metrics}
"
    );
    serve(&text).await
}

#[tokio::test]
async fn without_a_credential_only_health_is_told() {
    let server = guarded("view").await;
    for open in ["/livez", "/readyz"] {
        assert_eq!(server.ask("GET", open, "", "").await.0, 200, "{open}");
    }
    for (method, path) in [
        ("GET", "/metrics"),
        ("GET", DOCUMENT),
        ("POST", &format!("{ROUTE}/purge")),
        ("GET", "/api/v2"),
        ("GET", "/elsewhere"),
        ("GET", "/livez/"),
    ] {
        let (status, head, body) = server.ask(method, path, "", "{}").await;
        assert_eq!(status, 401, "{method} {path}: {body}");
        assert!(head.contains("www-authenticate: bearer realm=\"trestle\"\r\n"), "{head}");
        assert!(head.contains("application/problem+json") && body.contains("a credential is needed"), "{head} {body}");
    }
}

#[tokio::test]
async fn a_credential_opens_what_its_scopes_say() {
    let server = guarded("view").await;
    let purge = format!("{ROUTE}/purge");
    for (who, reads, changes) in [(OPS, 200, 415), (VIEWER, 200, 403), (CHANGER, 403, 415)] {
        for read in [DOCUMENT, "/metrics"] {
            assert_eq!(server.ask("GET", read, who, "").await.0, reads, "{who} {read}");
        }
        // What is let through is refused for want of a type.
        let (status, head, body) = server.ask("POST", &purge, who, "{}").await;
        assert_eq!(status, changes, "{who}");
        if status == 403 {
            assert!(head.contains("error=\"insufficient_scope\", scope=\"operate\""), "{head}");
            assert!(body.contains("token `viewer` lacks the scope `operate`"), "{body}");
        }
    }
    assert_eq!(server.ask("DELETE", "/livez", "", "").await.0, 405);
    let said = server.problem(405, "DELETE", DOCUMENT, OPS, "").await;
    assert!(said.contains("does not take DELETE"), "{said}");
}

#[tokio::test]
async fn metrics_are_open_where_the_table_says_so() {
    let server = guarded("open").await;
    assert_eq!(server.ask("GET", "/metrics", "", "").await.0, 200);
    assert_eq!(server.ask("GET", DOCUMENT, "", "").await.0, 401);
}

#[tokio::test]
async fn bad_credentials_are_refused_and_then_not_looked_at() {
    let server = guarded("open").await;
    let bad = "Authorization: Bearer token-of-nobody-at-all\r\n";
    let begin = tokio::time::Instant::now();
    let mut waited = false;
    // Also where a slow machine takes more than one window for them.
    while !waited && begin.elapsed() < WINDOW * 30 {
        for _ in 0..=MOST_REFUSED {
            let (status, head, body) = server.ask("GET", DOCUMENT, bad, "").await;
            assert!(!body.contains("token-of-nobody"), "{body}");
            match status {
                401 => assert!(head.contains("error=\"invalid_token\""), "{head}"),
                429 => {
                    assert!(head.contains("retry-after: 1"), "{head}");
                    waited = true;
                }
                other => panic!("{other}: {body}"),
            }
        }
    }
    assert!(waited);
    assert_eq!(server.ask("GET", "/readyz", bad, "").await.0, 200, "health is always open");
    // And then it may ask again.
    while server.ask("GET", DOCUMENT, OPS, "").await.0 == 429 {
        assert!(begin.elapsed() < WINDOW * 60);
        tokio::task::yield_now().await;
    }
}

/// Collects what is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn who_asks_for_a_change_is_noted_with_what_came_of_it_and_without_the_credential() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let server = guarded("view").await;
    let purge = format!("{ROUTE}/purge");
    server.ask("POST", &purge, OPS, "{}").await;
    server.ask("POST", &purge, VIEWER, "{}").await;
    server.ask("GET", DOCUMENT, OPS, "").await;
    server.ask("GET", DOCUMENT, "Authorization: Bearer token-of-nobody-at-all\r\n", "").await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let audit: Vec<&Value> =
        lines.iter().filter(|line| line["target"] == "audit").map(|line| &line["fields"]).collect();
    assert_eq!(audit.len(), 2, "{text}");
    for line in &audit {
        assert_eq!(
            (&line["who"], &line["by"], &line["path"]),
            (&"ops".into(), &"token".into(), &purge.as_str().into())
        );
        assert!(line["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{line}");
    }
    assert_eq!(audit[1]["status"], 415);
    // The others are refused, which is told as well.
    assert!(lines.iter().filter(|line| line["level"] == "WARN").count() >= 2, "{text}");
    assert!(!text.contains("token-of-"), "{text}");
}
