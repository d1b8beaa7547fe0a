//! What an instance tells of its hops at one moment, and how fast that changed since the moment before.

use std::time::Duration;

use serde_json::Value;

/// Everything on the screen.
#[derive(Clone, Default, Debug)]
pub struct Sample {
    /// As in `trestle 0.1.0, up 2m, table 3`.
    pub title: String,
    /// Why the last table was refused.
    pub refused: Option<String>,
    pub hops: Vec<Hop>,
}

#[derive(Clone, Default, Debug)]
pub struct Hop {
    pub route: String,
    pub name: String,
    /// `running`, `waiting` or `paused`, as its route is.
    pub state: String,
    pub way: String,
    pub delivered: u64,
    /// Messages delivered in a second; none before there are two samples.
    pub rate: Option<f64>,
    /// Messages, or Pulsar's entries, behind the source's end.
    pub behind: Option<u64>,
    /// Age of the oldest message that is not settled.
    pub oldest: Duration,
    pub in_flight: u64,
    pub dead: u64,
    /// What it waits for, why and since when.
    pub waits: Vec<String>,
}

impl Sample {
    /// Of the answers to `/api/v1/status` and `/api/v1/routes`.
    pub fn of(status: &Value, routes: &Value) -> Self {
        let up = Duration::from_secs(status["uptime_seconds"].as_u64().unwrap_or_default());
        let title = format!(
            "trestle {}, up {}, table {}",
            text(&status["version"]),
            humantime::format_duration(up),
            status["generation"]
        );
        let refused = status["refused_table"]["why"].as_str().map(str::to_owned);
        let routes = routes["routes"].as_array().into_iter().flatten();
        let hops =
            routes.flat_map(|route| route["hops"].as_array().into_iter().flatten().map(|hop| of_hop(route, hop)));
        Sample { title, refused, hops: hops.collect() }
    }

    /// With rates, from what was so long before.
    pub fn since(mut self, before: &Sample, passed: Duration) -> Self {
        for hop in &mut self.hops {
            let was = before.hops.iter().find(|was| (&was.route, &was.name) == (&hop.route, &hop.name));
            // Fewer than before: it was started again in between.
            let more = was.and_then(|was| hop.delivered.checked_sub(was.delivered));
            hop.rate = more.filter(|_| !passed.is_zero()).map(|more| more as f64 / passed.as_secs_f64());
        }
        self
    }
}

fn of_hop(route: &Value, hop: &Value) -> Hop {
    // Numbers come as they are in the metrics, with a fraction.
    let number = |key: &str| hop[key].as_f64();
    let count = |key: &str| number(key).unwrap_or_default() as u64;
    let wait =
        |wait: &Value| format!("{}: {} (since {})", text(&wait["what"]), text(&wait["why"]), text(&wait["since"]));
    Hop {
        route: text(&route["name"]),
        name: text(&hop["name"]),
        state: text(&route["state"]),
        way: format!("{} -> {}", text(&hop["from"]), text(&hop["to"])),
        delivered: count("delivered"),
        rate: None,
        behind: number("lag_messages").map(|behind| behind as u64),
        oldest: Duration::from_secs_f64(number("lag_seconds").unwrap_or_default().clamp(0.0, 1e9)),
        in_flight: count("in_flight_messages"),
        dead: count("dead_lettered"),
        waits: hop["waits"].as_array().into_iter().flatten().map(wait).collect(),
    }
}

/// What comes from elsewhere is shown, and moves no cursor.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or("?").chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;

    /// Two hops of a route, the second of which waits.
    pub fn told(delivered: f64) -> Sample {
        let status = json!({ "version": "0.1.0", "uptime_seconds": 125, "generation": 3, "refused_table": null });
        let hop = |name: &str, waits: Value| {
            json!({
                "name": name, "from": "main/orders", "to": "billing/or\u{1b}[2Jders", "waits": waits, "delivered": delivered,
                "dead_lettered": 2.0, "in_flight_messages": 7.0, "lag_seconds": 1.5, "lag_messages": null,
            })
        };
        let waits = json!([{ "what": "partition 3", "why": "no answer", "since": "2026-01-31T12:00:00.000Z" }]);
        let hops = [hop("stage", json!([])), hop("deliver", waits)];
        let routes = json!({ "routes": [{ "name": "orders", "state": "waiting", "hops": hops }] });
        Sample::of(&status, &routes)
    }

    #[test]
    fn rates_are_between_two_samples_and_none_over_a_restart() {
        let (first, second) = (told(100.0), told(400.0));
        assert_eq!(first.title, "trestle 0.1.0, up 2m 5s, table 3");
        assert_eq!(first.hops[0].rate, None);
        let later = second.clone().since(&first, Duration::from_secs(2));
        assert_eq!((later.hops[0].rate, later.hops[0].delivered), (Some(150.0), 400));
        assert_eq!(first.since(&second, Duration::from_secs(2)).hops[0].rate, None);
    }

    #[test]
    fn what_is_told_is_shown_without_control_characters() {
        let sample = told(1.0);
        assert_eq!(sample.hops[1].waits, ["partition 3: no answer (since 2026-01-31T12:00:00.000Z)"]);
        assert_eq!(sample.hops[0].way, "main/orders -> billing/or [2Jders");
        assert_eq!((sample.hops[0].behind, sample.hops[0].dead, sample.hops[0].in_flight), (None, 2, 7));
    }
}
