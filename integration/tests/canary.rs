//! Every secret of a table is a canary, and nothing that Trestle says or writes may hold one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so at once")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use trestle::config::{self, is_secret};

const PATIENCE: Duration = Duration::from_secs(60);
/// In every secret.
const CANARY: &str = "canary-tweets-";
/// Secret by their keys, but a name for what holds one: of a map, a file or an address.
const NAMES: [&str; 3] = ["tokens", "token_file", "sasl.oauthbearer.token.endpoint.url"];
/// What librdkafka, as it is built here, looks at when it is set, and may then call wrong.
const READ_AT_ONCE: [&str; 4] =
    ["sasl.oauthbearer.client.secret", "ssl.key.pem", "ssl.key.password", "ssl.keystore.password"];

/// A secret's value: long enough for all, and known by its end.
fn canary(of: &str) -> String {
    format!("{CANARY}{}-0123456789abcdef", of.replace(['.', '_', ' '], "-"))
}

/// Keys of the schema and of the clients' options that hold secrets.
fn secret_keys() -> BTreeSet<String> {
    fn walk(schema: &Value, keys: &mut BTreeSet<String>) {
        match schema {
            Value::Object(object) => {
                let properties = object.get("properties").and_then(Value::as_object);
                keys.extend(
                    properties.into_iter().flat_map(|all| all.keys()).filter(|key| is_secret(key, false)).cloned(),
                );
                object.values().for_each(|value| walk(value, keys));
            }
            Value::Array(all) => all.iter().for_each(|value| walk(value, keys)),
            _ => {}
        }
    }
    let mut keys = BTreeSet::new();
    walk(&config::published_schema(), &mut keys);
    keys.extend(trestle_kafka::OPTIONS.iter().filter(|name| is_secret(name, false)).map(|name| (*name).to_owned()));
    NAMES.iter().for_each(|name| assert!(keys.remove(*name), "{name} is no key any more"));
    keys
}

struct Aviary {
    folder: tempfile::TempDir,
    address: String,
}

impl Aviary {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("jwt.key"), canary("jwt key of thirty-two bytes at least")).unwrap();
        fs::write(folder.path().join("token"), canary("token_file")).unwrap();
        // Nobody else takes it in between but by a very bad chance.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        Aviary { folder, address }
    }

    /// A table with a canary for each key; `change` is made to its text.
    fn table(&self, name: &str, change: impl Fn(String) -> String) -> String {
        let folder = self.folder.path().display();
        let sasl = "security.protocol: sasl_plaintext, sasl.username: me";
        let text = format!(
            r#"
clusters:
  k1: {{ type: kafka, servers: "127.0.0.1:1", options: {{ {sasl}, sasl.mechanism: PLAIN, sasl.password: "{password}" }} }}
  k2: {{ type: kafka, servers: "127.0.0.1:1", options: {{ {sasl}, sasl.mechanism: SCRAM-SHA-256, sasl.password: "{scram}" }} }}
  p1: {{ type: pulsar, url: "pulsar://127.0.0.1:1", token: "{token}" }}
  p2: {{ type: pulsar, url: "pulsar://127.0.0.1:1", token_file: "{folder}/token" }}
  r1: {{ type: rocketmq, namesrv: "127.0.0.1:1", access_key: me, secret_key: "{secret}" }}
routes:
  one: {{ from: {{ cluster: k1, topic: one }}, to: {{ cluster: k2, topic: one }}, dead_letter: {{ cluster: p1, topic: "persistent://public/default/dead-one" }} }}
  two:
    from: {{ cluster: p2, topic: "persistent://public/default/two" }}
    via: {{ cluster: p1, topic: "persistent://public/default/staged" }}
    to: {{ cluster: r1, topic: two }}
    transform: [{{ set: {{ header: from-the-environment, value: "${{CANARY}}" }} }}]
admin:
  listen: "{address}"
  auth:
    tokens: {{ ops: {{ token: "{admin}", scopes: [view, operate] }} }}
    jwt: {{ algorithm: HS256, key_file: "{folder}/jwt.key", issuer: i, audience: a }}
shutdown: {{ grace: 5s }}
"#,
            password = canary("sasl.password"),
            scram = canary("sasl.password of scram"),
            token = canary("token"),
            secret = canary("secret_key"),
            address = self.address,
            admin = canary("admin token"),
        );
        let file = self.folder.path().join(name);
        fs::write(&file, change(text)).unwrap();
        file.display().to_string()
    }

    fn trestle(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(trestle_integration::bridge_binary().unwrap());
        command.args(arguments).env("CANARY", canary("environment")).env("TRESTLE_TOKEN", canary("admin token"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What a command says that ends by itself.
    fn says(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.trestle(arguments).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.code().is_some() && !said.is_empty(), "{arguments:?}: {status}");
        said
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        self.ask_as(&format!("Authorization: Bearer {}\r\n", canary("admin token")), method, path, body)
    }

    /// `who`: a line of the head, or none.
    fn ask_as(&self, who: &str, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let head = format!("{who}Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        stream.write_all(format!("{method} {path} HTTP/1.0\r\n{head}\r\n{body}").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or_else(|| std::io::Error::other("no HTTP"))?, answer))
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn silent(said: &BTreeMap<String, String>) {
    for (what, text) in said {
        let line = text.lines().find(|line| line.contains(CANARY));
        assert!(
            line.is_none(),
            "{what} holds a secret: {}",
            line.unwrap_or_default().chars().take(2_000).collect::<String>()
        );
        // The authorization of HTTP, and the halves of a value that was cut.
        assert!(!text.contains("tweets"), "{what} holds a part of a secret");
    }
}

#[test]
fn every_key_that_holds_a_secret_has_a_canary() {
    let aviary = Aviary::new();
    let text = fs::read_to_string(aviary.table("table.yaml", |text| text)).unwrap();
    for key in secret_keys() {
        let there = READ_AT_ONCE.contains(&key.as_str()) || text.contains(&canary(&key));
        assert!(there, "`{key}` is a new secret: give it a canary in this test's table");
    }
}

#[test]
fn what_is_said_of_a_table_holds_no_secret() {
    let aviary = Aviary::new();
    let right = aviary.table("right.yaml", |text| text);
    let mut said = BTreeMap::new();
    for arguments in [
        &["check", &right][..],
        &["check", &right, "--output", "json"],
        &["explain", &right],
        &["explain", &right, "--output", "json"],
    ] {
        said.insert(arguments.join(" "), aviary.says(arguments));
    }
    let table =
        config::check(Path::new("table.yaml"), &fs::read_to_string(&right).unwrap(), &|_| Some(canary("environment")));
    let table = table.table.unwrap_or_else(|| panic!("the table is wrong: {:#?}", table.mistakes));
    said.insert("Debug".into(), format!("{table:?}"));
    said.insert("shown".into(), table.written.shown().to_string());
    // Each secret is another one, or of another form, or at a key that is not known.
    type Change = Box<dyn Fn(String) -> String>;
    let wrongs: [(&str, Change); 6] = [
        ("another", Box::new(|text| text.replace(CANARY, "canary-tweets-again-"))),
        (
            "typo",
            Box::new(|text| {
                text.replace("sasl.password", "sasl.pasword")
                    .replace("secret_key", "secret_kye")
                    .replace("token:", "tokn:")
            }),
        ),
        (
            "list",
            Box::new(|text| {
                text.replace(&format!("\"{CANARY}"), &format!("[\"{CANARY}"))
                    .replace("0123456789abcdef\"", "0123456789abcdef\"]")
            }),
        ),
        ("broken", Box::new(|text| text.replace("0123456789abcdef\" }", "0123456789abcdef }"))),
        ("short", Box::new(|text| text.replace("-0123456789abcdef", " with spaces"))),
        (
            "everywhere",
            Box::new(|text| text.replace("earliest", "latest").replace("cluster: k1", "cluster: \"${CANARY}\"")),
        ),
    ];
    for (name, change) in wrongs {
        let wrong = aviary.table(name, change);
        said.insert(format!("check {name}"), aviary.says(&["check", &wrong]));
        said.insert(format!("check {name} as JSON"), aviary.says(&["check", &wrong, "--output", "json"]));
        said.insert(format!("plan {name}"), aviary.says(&["plan", &wrong, "--with", &right, "--output", "json"]));
    }
    for key in READ_AT_ONCE {
        let option = format!("sasl.username: me, {key}: \"{}\"", canary(key));
        let table = aviary
            .table(key, |text| text.replacen("sasl.username: me", &option, 1).replace("sasl_plaintext", "sasl_ssl"));
        said.insert(format!("check {key}"), aviary.says(&["check", &table]));
    }
    silent(&said);
}

#[test]
fn what_a_running_instance_tells_and_logs_holds_no_secret() {
    let aviary = Aviary::new();
    let table = aviary.table("table.yaml", |text| text);
    let log = aviary.folder.path().join("log");
    let mut command = aviary.trestle(&["run", &table]);
    command.env("TRESTLE_LOG", "trace").stderr(fs::File::create(&log).unwrap());
    let running = Running(command.spawn().unwrap());
    // Each cluster was asked, in vain.
    let asked = |aviary: &Aviary| {
        let answer = aviary.ask("GET", "/api/v1/routes", "").ok();
        assert!(answer.as_ref().is_none_or(|(status, _)| *status == 200), "{answer:?}");
        answer.is_some_and(|(_, body)| !body.contains("\"starting\""))
    };
    aviary.until("every hop has asked its cluster", asked);
    let mut said = BTreeMap::new();
    // Nobody's credential is told either.
    for who in [String::new(), format!("Authorization: Bearer {}\r\n", canary("of nobody"))] {
        let (status, body) = aviary.ask_as(&who, "POST", "/api/v1/reload", "").unwrap();
        assert_eq!(status, 401, "{body}");
        said.insert(format!("as {who}").replace(CANARY, ""), body);
    }
    let (_, document) = aviary.ask("GET", "/api/v1/openapi.json", "").unwrap();
    let document: Value = serde_json::from_str(document.split_once("\r\n\r\n").unwrap().1).unwrap();
    // Beside each other: those about dead letters wait for clusters that never answer.
    let asking: Vec<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let path = path.replace("{route}", "two").replace("{id}", "7");
            methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let mut answered = 0;
    std::thread::scope(|scope| {
        let asked: Vec<_> = asking
            .iter()
            .map(|(method, path)| (method, path, scope.spawn(|| aviary.ask(method, path, "{}").unwrap())))
            .collect();
        for (method, path, answer) in asked {
            let (status, body) = answer.join().unwrap();
            answered += u32::from(status == 200);
            said.insert(format!("{method} {path}"), body);
        }
    });
    assert!(answered > 10, "{said:#?}");
    said.insert("plan".into(), aviary.says(&["plan", &table, "--admin", &aviary.address]));
    // A wrong table, by a reload.
    aviary.table("table.yaml", |text| text.replace("sasl.password", "sasl.pasword"));
    let (status, body) = aviary.ask("POST", "/api/v1/reload", "").unwrap();
    assert_eq!(status, 422, "{body}");
    said.insert("reload".into(), body);
    said.insert("status".into(), aviary.ask("GET", "/api/v1/status", "").unwrap().1);
    drop(running);
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("\"level\":\"DEBUG\""), "nothing was logged but what always is");
    said.insert("log".into(), log);
    silent(&said);
}
