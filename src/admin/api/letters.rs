//! Letters of a route: listed, shown, counted. Nothing is changed by looking.

use std::collections::BTreeMap;

use axum::{
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::StatusCode,
    response::Response,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use trestle_dlq::Letter;

use super::{Api, PATIENCE, json};
use crate::{
    admin::{Admin, problem::Problem},
    config::{Route, Table},
    letters::{After, Filter, Listed, Page, Pick, as_json, by_hour, date, find, page, readable},
};

/// Letters of a page, where nothing is said, and at most.
const LIMIT: usize = 50;
const MOST_LETTERS: usize = 1_000;

type Asked = Result<Query<BTreeMap<String, String>>, QueryRejection>;

/// How a body is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    /// JSON where it is, else text where it is, else base64.
    #[default]
    Auto,
    Json,
    Text,
    Base64,
    Hex,
}

/// `GET .../dead-letters`
pub async fn list(
    State(admin): State<Admin>,
    route: Result<Path<String>, PathRejection>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (table, route) = of_route(&admin.api, route)?;
    let mut asked = query(asked)?;
    let limit =
        match asked.remove("limit") {
            None => LIMIT,
            Some(limit) => limit.parse().ok().filter(|limit| (1..=MOST_LETTERS).contains(limit)).ok_or_else(|| {
                Problem::wrong(format!("`limit` is `{limit}`: give a number from 1 to {MOST_LETTERS}"))
            })?,
        };
    let after = match asked.remove("next") {
        None => After::default(),
        Some(next) => After::parse(&next)
            .ok_or_else(|| Problem::wrong(format!("`next` is `{next}`: give it as the page before told it")))?,
    };
    let filter = Filter { route: Some(route.name.clone()), ..known(asked)? };
    let pick = pick(&table, &route, &filter);
    let Page { letters, count, more, foreign, after } = admin.api.read(page(&pick, after, 0, limit)).await?;
    let listed: Vec<Value> =
        letters.iter().map(|Listed { topic, letter, bytes }| as_json(topic, letter, *bytes)).collect();
    let next = (more > 0).then(|| after.to_string());
    Ok(json(&json!({ "letters": listed, "count": count, "more": more, "foreign": foreign, "next": next })))
}

/// `GET .../dead-letters/stats`
pub async fn stats(
    State(admin): State<Admin>,
    route: Result<Path<String>, PathRejection>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (table, route) = of_route(&admin.api, route)?;
    let filter = Filter { route: Some(route.name.clone()), ..known(query(asked)?)? };
    let pick = pick(&table, &route, &filter);
    let counts = admin.api.read(by_hour(&pick)).await?;
    let row = |((hour, _, cause), count): (&(i64, String, String), &u64)| json!({ "hour": date(*hour), "cause": cause, "count": count });
    let rows: Vec<Value> = counts.iter().map(row).collect();
    Ok(json(&json!({ "letters": counts.values().sum::<u64>(), "by_hour": rows })))
}

/// `GET .../dead-letters/{id}`
pub async fn show(
    State(admin): State<Admin>,
    path: Result<Path<(String, String)>, PathRejection>,
    asked: Asked,
) -> Result<Response, Problem> {
    let Path((route, id)) = path.map_err(|rejection| Problem::wrong(rejection.body_text()))?;
    let (table, route) = admin.api.table_with(&route)?;
    let mut asked = query(asked)?;
    let form = asked.remove("body").map_or(Ok(Form::Auto), |form| {
        known_value(Value::String(form)).map_err(|why| Problem::wrong(format!("`body`: {why}")))
    })?;
    if let Some(name) = asked.keys().next() {
        return Err(Problem::wrong(format!("`{name}` is not known here: only `body` is")));
    }
    let filter = Filter { route: Some(route.name.clone()), id: Some(id.clone()), ..Filter::default() };
    let pick = pick(&table, &route, &filter);
    let found = admin.api.read(find(&pick, 1)).await?;
    match found.first() {
        Some((topic, letter)) => Ok(json(&shown(topic, letter, form)?)),
        None => {
            let detail = format!("route {} has no letter {id} that nobody has dealt with", route.name);
            Err(Problem::new(StatusCode::NOT_FOUND, detail))
        }
    }
}

fn of_route(
    api: &Api,
    route: Result<Path<String>, PathRejection>,
) -> Result<(std::sync::Arc<Table>, std::sync::Arc<Route>), Problem> {
    let Path(route) = route.map_err(|rejection| Problem::wrong(rejection.body_text()))?;
    api.table_with(&route)
}

/// Letters of one route, where it keeps them.
pub fn pick<'a>(table: &'a Table, route: &Route, filter: &'a Filter) -> Pick<'a> {
    Pick { table, topics: vec![route.dead_letter.clone()], filter, patience: PATIENCE }
}

fn query(asked: Asked) -> Result<BTreeMap<String, String>, Problem> {
    asked.map(|Query(asked)| asked).map_err(|rejection| Problem::wrong(rejection.body_text()))
}

fn known(asked: BTreeMap<String, String>) -> Result<Filter, Problem> {
    known_value(json!(asked)).map_err(Problem::wrong)
}

/// The error names the field.
pub fn known_value<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| match error.path().to_string().as_str() {
        "." => error.inner().to_string(),
        path => format!("`{path}`: {}", error.inner()),
    })
}

fn shown(topic: &str, letter: &Letter, form: Form) -> Result<Value, Problem> {
    let value = letter.message.value.as_deref();
    let mut shown = as_json(topic, letter, value.map(<[u8]>::len));
    let header = |header: &trestle_core::Header| json!([readable(&header.name), header.value.as_deref().map(readable)]);
    shown["time"] = json!(letter.message.time);
    shown["headers"] = letter.message.headers.iter().map(header).collect();
    let (form, body) = match value {
        None => ("null", Value::Null),
        Some(value) => body(value, form)?,
    };
    shown["body_form"] = json!(form);
    shown["body"] = body;
    Ok(shown)
}

fn body(value: &[u8], form: Form) -> Result<(&'static str, Value), Problem> {
    let parsed = || serde_json::from_slice::<Value>(value).ok().map(|json| ("json", json));
    let text = || std::str::from_utf8(value).ok().map(|text| ("text", json!(text)));
    let base64 = || ("base64", json!(BASE64_STANDARD.encode(value)));
    let not = |what: &str| {
        let detail = format!("its body is no {what}: ask for `body=base64` or `body=hex`");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    };
    match form {
        Form::Auto => Ok(parsed().or_else(text).unwrap_or_else(base64)),
        Form::Json => parsed().ok_or_else(|| not("JSON")),
        Form::Text => text().ok_or_else(|| not("UTF-8")),
        Form::Base64 => Ok(base64()),
        Form::Hex => Ok(("hex", json!(value.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_told_as_what_it_is_or_as_asked() {
        let told = |value: &[u8], form| body(value, form).map_err(|problem| problem.status.as_u16());
        assert_eq!(told(b"{\"a\": 1}", Form::Auto), Ok(("json", json!({ "a": 1 }))));
        assert_eq!(told(b"plain", Form::Auto), Ok(("text", json!("plain"))));
        assert_eq!(told(b"\xff\x00", Form::Auto), Ok(("base64", json!("/wA="))));
        assert_eq!(told(b"{\"a\": 1}", Form::Text), Ok(("text", json!("{\"a\": 1}"))));
        assert_eq!(told(b"\xff\x00", Form::Hex), Ok(("hex", json!("ff00"))));
        assert_eq!((told(b"plain", Form::Json), told(b"\xff", Form::Text)), (Err(422), Err(422)));
    }
}
