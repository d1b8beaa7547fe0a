//! The pages over a real connection, as far as no cluster is asked.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{Api, MOST_AT_ONCE, READ_LIMIT};
use crate::{
    admin::{
        self,
        rig::{Server, TABLE, serve},
    },
    config,
    pipeline::Status,
    supervisor::{Applied, Order, Refused, desk},
};

const ROUTE: &str = "/api/v1/routes/orders/dead-letters";

async fn post_problem(server: &Server, status: u16, what: &str, body: &str) -> String {
    server.problem(status, "POST", &format!("{ROUTE}/{what}"), "Content-Type: application/json\r\n", body).await
}

#[tokio::test]
async fn what_is_served_is_in_the_document_and_the_reverse() {
    let mut server = serve(TABLE).await;
    server.supervise(|order| {
        if let Order::Reload { answer } = order {
            let _ =
                answer.send(Ok(Applied { generation: 2, difference: Default::default(), needs_restart: Vec::new() }));
        }
    });
    let (status, _, body) = server.ask("GET", "/api/v1/openapi.json", "", "").await;
    let document: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, document["openapi"].as_str()), (200, Some("3.1.0")));
    let paths = document["paths"].as_object().unwrap();
    let methods = |(path, methods): (&String, &Value)| {
        methods.as_object().unwrap().keys().map(|method| format!("{method} {path}")).collect::<Vec<_>>()
    };
    let told: BTreeSet<String> = paths.iter().flat_map(methods).collect();
    let pages = admin::pages();
    let served = pages.iter().flat_map(|page| page.methods.iter().map(|method| format!("{method} {}", page.path)));
    assert_eq!(told, served.collect());
    for reference in body.split("\"$ref\": \"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    // What the document names, somebody answers.
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{route}", "none").replace("{id}", "7");
            let (status, _, body) = server.ask(&method.to_uppercase(), &path, "", "").await;
            assert_ne!(status, 405, "{method} {path}");
            // Asked without the body that it needs.
            let wants_a_body = status == 415 && [super::PLAN, "/api/v1/log-level"].contains(&path.as_str());
            let known = status == 200 || body.contains("no route `none`") || wants_a_body;
            assert!(known, "{method} {path}: {status} {body}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_that_says_so() {
    let server = serve(TABLE).await;
    let none = server.problem(404, "GET", "/api/v1/routes/none/dead-letters", "", "").await;
    assert!(none.contains("no route `none`"), "{none}");
    let nothing = server.problem(404, "GET", "/api/v2/routes", "", "").await;
    assert!(nothing.contains("there is no /api/v2/routes") && nothing.contains("openapi.json"), "{nothing}");
    let wrong = server.problem(405, "GET", &format!("{ROUTE}/purge"), "", "").await;
    assert!(wrong.contains("does not take GET"), "{wrong}");
    server.problem(405, "DELETE", ROUTE, "", "").await;
    assert_eq!(server.ask("GET", "/elsewhere", "", "").await.0, 404);
}

#[tokio::test]
async fn what_is_wrong_with_a_question_is_named() {
    let server = serve(TABLE).await;
    for (question, says) in [
        ("?limit=0", "`limit` is `0`: give a number from 1 to 1000"),
        ("?limit=1001", "1 to 1000"),
        ("?limit=many", "`limit` is `many`"),
        ("?next=nowhere", "`next` is `nowhere`"),
        ("?cuase=timeout", "unknown field `cuase`"),
        ("?since=yesterday", "like 2h"),
        ("/stats?limit=5", "unknown field `limit`"),
        ("/7?body=xml", "`body`: unknown variant `xml`"),
        ("/7?cause=timeout", "`cause` is not known here"),
    ] {
        let said = server.problem(400, "GET", &format!("{ROUTE}{question}"), "", "").await;
        assert!(said.contains(says), "{question}: {said}");
    }
    for (what, body, says) in [
        ("purge", "", "no JSON"),
        ("purge", "[{}, true]", "the body is no JSON object"),
        ("purge", r#"{ "selection": [], "confirm": true }"#, "`selection` is no JSON object"),
        ("purge", r#"{ "confrm": true }"#, "unknown field `confrm`"),
        ("purge", r#"{ "selection": { "cuase": "timeout" }, "confirm": true }"#, "`selection"),
        ("purge", r#"{ "confirm": true, "dry_run": true }"#, "both true"),
        ("replay", r#"{ "dry_run": false }"#, "`confirm: true` is needed"),
        ("replay", r#"{ "rate": 0 }"#, "`rate` is 0: give a number from 1 to 10000"),
        ("replay", r#"{ "most_replays": 101 }"#, "from 1 to 100"),
    ] {
        let said = post_problem(&server, 400, what, body).await;
        assert!(said.contains(says), "{body}: {said}");
    }
    let kind = server.problem(415, "POST", &format!("{ROUTE}/purge"), "Content-Type: text/plain\r\n", "{}").await;
    assert!(kind.contains("application/json"), "{kind}");
    post_problem(&server, 413, "purge", &" ".repeat((64 << 10) + 1)).await;
}

#[tokio::test]
async fn a_page_from_elsewhere_is_refused_and_the_servers_own_is_not() {
    let server = serve(TABLE).await;
    let evil = "Origin: http://evil.example\r\nContent-Type: application/json\r\n";
    for (method, path) in [("POST", format!("{ROUTE}/purge")), ("GET", ROUTE.to_owned())] {
        let said = server.problem(403, method, &path, evil, "{}").await;
        assert!(said.contains("http://evil.example may not ask"), "{said}");
    }
    let own = format!("Origin: http://{}\r\n", server.address);
    assert_eq!(server.ask("GET", "/api/v1/openapi.json", &own, "").await.0, 200);
    assert_eq!(server.ask("GET", "/livez", evil, "").await.0, 200, "health is everybody's");
}

#[tokio::test]
async fn letters_of_a_topic_are_changed_by_one_at_a_time() {
    let server = serve(TABLE).await;
    let route = server.api.table_with("orders").unwrap().1;
    let alone = server.api.alone(&route).unwrap();
    for what in ["purge", "replay"] {
        let said = post_problem(&server, 409, what, r#"{ "confirm": true }"#).await;
        assert!(said.contains("main/dead") && said.contains("already"), "{said}");
    }
    drop(alone);
    assert!(server.api.alone(&route).is_ok());
}

#[tokio::test]
async fn few_read_at_a_time_and_nobody_once_it_stops() {
    let server = serve(TABLE).await;
    let all = server.api.at_once.try_acquire_many(MOST_AT_ONCE as u32).unwrap();
    let said = server.problem(503, "GET", ROUTE, "", "").await;
    assert!(said.contains("4 requests read letters already"), "{said}");
    drop(all);
    // The cluster never answers; a process that stops does not wait for it.
    let (answer, ()) = tokio::join!(server.problem(503, "GET", ROUTE, "", ""), async {
        while server.api.at_once.available_permits() == MOST_AT_ONCE {
            tokio::task::yield_now().await;
        }
        server.stop.send_replace(true);
    });
    assert!(answer.contains("stopping"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn reading_takes_no_longer_than_it_may() {
    let table = config::check(Path::new("table.yaml"), TABLE, &|_| None).table.unwrap();
    let (_stop, stopping) = watch::channel(false);
    let api = Api::new(watch::channel(Arc::new(table)).1, stopping, desk(watch::channel(Default::default()).1).0);
    let begin = Instant::now();
    let problem = api.read(std::future::pending::<Result<(), String>>()).await.unwrap_err();
    assert_eq!((problem.status.as_u16(), begin.elapsed().as_secs()), (504, READ_LIMIT.as_secs()));
    let problem = api.read(async { Err::<(), _>("main: no answer".into()) }).await.unwrap_err();
    assert_eq!((problem.status.as_u16(), problem.detail.as_str()), (502, "main: no answer"));
}

async fn told(server: &Server, path: &str) -> Value {
    let (status, _, body) = server.ask("GET", path, "", "").await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn a_route_is_told_with_what_it_waits_for_and_since_when() {
    let server = serve(TABLE).await;
    let status = Arc::new(Status::new("orders", "deliver"));
    server.statuses.send_replace(Arc::from([status.clone()]));
    status.started();
    status.set("partition 3", "main: no answer");
    let since = status.waits()[0].1.since;
    status.set("partition 3", "main: it is down");
    assert_eq!(status.waits()[0].1.since, since, "since it waits, in whatever words");
    let route = told(&server, "/api/v1/routes/orders").await;
    let (hop, wait) = (&route["hops"][0], &route["hops"][0]["waits"][0]);
    assert_eq!(
        (&route["state"], &hop["from"], &hop["to"]),
        (&json!("waiting"), &json!("main/orders"), &json!("main/copied"))
    );
    assert_eq!((&wait["what"], &wait["why"]), (&json!("partition 3"), &json!("main: it is down")));
    assert_eq!(wait["since"], humantime::format_rfc3339_millis(since).to_string());
    assert_eq!(told(&server, "/api/v1/status").await["routes"], json!({ "running": 0, "waiting": 1, "paused": 0 }));
    status.clear("partition 3");
    assert_eq!(told(&server, "/api/v1/routes").await["routes"][0]["state"], "running");
    server.news.send_modify(|news| {
        news.paused.insert("orders".into());
        news.refused = Some((std::time::UNIX_EPOCH, "it has 1 mistake".into()));
    });
    assert_eq!(told(&server, "/api/v1/routes/orders").await["state"], "paused");
    let instance = told(&server, "/api/v1/status").await;
    assert_eq!(instance["refused_table"], json!({ "at": "1970-01-01T00:00:00.000Z", "why": "it has 1 mistake" }));
    let clusters = told(&server, "/api/v1/clusters").await;
    assert_eq!(clusters, json!({ "clusters": [{ "name": "main", "type": "kafka", "routes": ["orders"] }] }));
}

#[tokio::test]
async fn orders_go_to_the_supervisor_and_its_answer_comes_back() {
    let mut server = serve(TABLE).await;
    server.supervise(|order| match order {
        Order::Pause { route, answer } => drop(answer.send(Ok(route == "orders"))),
        Order::Resume { answer, .. } => drop(answer.send(Err(Refused::Failed("it is broken".into())))),
        Order::Reload { answer } => drop(answer.send(Err(Refused::Table(vec!["line 3: unknown key".into()])))),
    });
    let (status, _, body) = server.ask("POST", "/api/v1/routes/orders/pause", "", "").await;
    let paused: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, paused), (200, json!({ "route": "orders", "state": "paused", "changed": true })));
    let broken = server.problem(500, "POST", "/api/v1/routes/orders/resume", "", "").await;
    assert_eq!(broken, "it is broken");
    let wrong = server.problem(422, "POST", "/api/v1/reload", "", "").await;
    assert!(wrong.contains("line 3: unknown key") && wrong.contains("stays as it is"), "{wrong}");
    let none = server.problem(404, "POST", "/api/v1/routes/none/pause", "", "").await;
    assert!(none.contains("no route `none`"), "{none}");
}

#[tokio::test]
async fn what_is_logged_is_changed_and_the_old_filter_told() {
    let server = serve(TABLE).await;
    let put = |body: &'static str| {
        let server = &server;
        async move { server.ask("PUT", "/api/v1/log-level", "Content-Type: application/json\r\n", body).await }
    };
    let (status, _, body) = put(r#"{ "filter": "debug" }"#).await;
    assert_eq!(status, 200, "{body}");
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(told, json!({ "filter": "debug", "was": crate::logging::DEFAULT }));
    let (status, _, body) = put(r#"{ "filter": "debg" }"#).await;
    assert!(status == 400 && body.contains("`debg` is no level"), "{status} {body}");
    let (_, _, body) = server.ask("GET", "/api/v1/log-level", "", "").await;
    assert!(body.contains("\"debug\""), "{body}");
}

#[tokio::test]
async fn what_a_table_would_change_is_told_by_names_alone() {
    let server = serve(TABLE).await;
    let new = config::check(Path::new("new.yaml"), &TABLE.replace("topic: copied", "topic: elsewhere"), &|_| None);
    let wanted = new.table.unwrap().written.shown().to_string();
    let json_type = "Content-Type: application/json\r\n";
    let (status, _, body) = server.ask("POST", super::PLAN, json_type, &wanted).await;
    assert_eq!(status, 200, "{body}");
    let plan: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(plan["changed"], json!([{ "route": "orders", "keys": ["to.topic"] }]), "{plan}");
    assert!(!body.contains("copied"), "{body}");
}
