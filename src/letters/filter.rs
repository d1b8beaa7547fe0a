//! Which letters are meant.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::{Deserialize, Deserializer};
use trestle_dlq::Letter;

/// What is not said is any. As options of the command line, and as JSON.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Letters of this route
    #[arg(long)]
    #[serde(skip)]
    pub route: Option<String>,
    /// Letters with this id
    #[arg(long)]
    pub id: Option<String>,
    /// Letters of this cause: too_large, timeout, illegal_property, untranslatable or refused
    #[arg(long)]
    pub cause: Option<String>,
    /// Letters of this hop: stage or deliver
    #[arg(long)]
    pub hop: Option<String>,
    /// Letters of messages that came from this protocol
    #[arg(long)]
    pub origin: Option<String>,
    /// Letters of messages that this protocol did not take
    #[arg(long)]
    pub target: Option<String>,
    /// Letters of messages with this key
    #[arg(long)]
    pub key: Option<String>,
    /// Letters that failed last at this time or later: 2026-01-31T12:00:00Z, or how long ago, as in 2h
    #[arg(long, value_parser = moment)]
    #[serde(deserialize_with = "written_moment")]
    pub since: Option<i64>,
    /// Letters that failed last before this time
    #[arg(long, value_parser = moment)]
    #[serde(deserialize_with = "written_moment")]
    pub until: Option<i64>,
}

impl Filter {
    pub fn takes(&self, letter: &Letter) -> bool {
        let same = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let key = letter.message.key.as_deref();
        // Of a route with several topics, those of all its topics.
        let of_route = |wanted: &str| {
            letter.route.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        };
        self.route.as_deref().is_none_or(of_route)
            && same(&self.id, &letter.id)
            && same(&self.cause, &letter.cause)
            && same(&self.hop, &letter.hop)
            && same(&self.origin, &letter.origin)
            && same(&self.target, &letter.target)
            && self.key.as_ref().is_none_or(|wanted| Some(wanted.as_bytes()) == key)
            && self.since.is_none_or(|since| letter.last_failed.is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| letter.last_failed.is_some_and(|at| at < until))
    }
}

/// Milliseconds since 1970-01-01T00:00Z.
fn moment(text: &str) -> Result<i64, String> {
    let at = match humantime::parse_rfc3339_weak(text) {
        Ok(at) => at,
        Err(_) => {
            let ago = humantime::parse_duration(text)
                .map_err(|_| "give a time like 2026-01-31T12:00:00Z, or how long ago, like 2h".to_owned())?;
            SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH)
        }
    };
    Ok(at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64))
}

fn written_moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| moment(&text)).transpose().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_date_or_how_long_ago() {
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(1_000));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let ago = now - moment("2h").unwrap();
        assert!((7_199_000..7_260_000).contains(&ago), "{ago}");
        assert!(moment("yesterday").unwrap_err().contains("like 2h"));
    }

    #[test]
    fn a_filter_in_json_takes_no_unknown_names() {
        let read = |json: &str| serde_json::from_str::<Filter>(json).map_err(|error| error.to_string());
        let filter = read(r#"{ "cause": "timeout", "since": "1970-01-01T00:00:01Z" }"#).unwrap();
        assert_eq!((filter.cause.as_deref(), filter.since), (Some("timeout"), Some(1_000)));
        assert_eq!(read("{}"), Ok(Filter::default()));
        // What is misspelt would else mean every letter.
        assert!(read(r#"{ "cuase": "timeout" }"#).unwrap_err().contains("unknown field `cuase`"));
        assert!(read(r#"{ "route": "other" }"#).is_err(), "the route is not the filter's to say");
        assert!(read(r#"{ "since": "yesterday" }"#).unwrap_err().contains("like 2h"));
    }
}
