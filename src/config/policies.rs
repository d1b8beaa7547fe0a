//! The policies of a route: what it says itself, what `defaults` says for all routes, and whether the two make sense.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use serde_json::{Map, Value, json};

use super::{
    mistake::Mistake,
    quantity::{Size, Time},
    shape,
    yaml::Node,
};
use crate::policy::{dead_letter_limit::DeadLetterLimit, gate::GatePolicy, rate::Rate, retry::Retry};

const DELAY: RangeInclusive<Time> = Time::millis(1)..=Time::millis(3_600_000);
const SEND_TIMEOUT: RangeInclusive<Time> = Time::millis(100)..=Time::millis(300_000);
const HUNG_AFTER: RangeInclusive<Time> = Time::millis(5_000)..=Time::millis(3_600_000);
const HUNG_AFTER_DEFAULT: Duration = Duration::from_secs(60);
const MESSAGES_A_SECOND: RangeInclusive<u32> = 1..=100_000_000;
const BYTES_A_SECOND: RangeInclusive<Size> = Size(1 << 10)..=Size::mib(1 << 20);
/// One time is remembered for each dead letter of the window.
const MOST_DEAD_LETTERS: RangeInclusive<u32> = 0..=100_000;
const WITHIN: RangeInclusive<Time> = Time::millis(1_000)..=Time::millis(86_400_000);

/// What a hop may say otherwise than its route.
pub const OF_A_HOP: [&str; 10] = [
    "order",
    "set_aside",
    "retry",
    "gate",
    "rate",
    "send_timeout",
    "revoke_timeout",
    "hung_after",
    "commit_interval",
    "max_ahead",
];

/// What `defaults` says and a route does not say otherwise becomes the route's, and that its hops'.
pub fn inherit(table: &mut Value) {
    from_defaults(table);
    let routes = table.get_mut("routes").and_then(Value::as_object_mut);
    for route in routes.into_iter().flat_map(|routes| routes.values_mut()).filter(|route| route.is_object()) {
        let said = |key: &&str| Some(((*key).to_owned(), route.get(*key)?.clone()));
        let policies: Value = OF_A_HOP.iter().filter_map(said).collect::<Map<_, _>>().into();
        fill(&mut route["hops"], &json!({ "stage": policies, "deliver": policies }));
    }
}

fn from_defaults(table: &mut Value) {
    let Some(defaults) = table.get("defaults").cloned() else { return };
    let routes = table.get_mut("routes").and_then(Value::as_object_mut);
    for route in routes.into_iter().flat_map(|routes| routes.values_mut()) {
        fill(route, &defaults);
    }
}

/// Key by key, as deep as both are mappings.
fn fill(own: &mut Value, default: &Value) {
    match (own, default) {
        (Value::Object(own), Value::Object(defaults)) => {
            for (key, default) in defaults {
                fill(own.entry(key).or_insert(Value::Null), default);
            }
        }
        (own @ Value::Null, default) => *own = default.clone(),
        _ => {}
    }
}

/// Checks the policies of one route, or a setting of the same form elsewhere.
pub struct Policies<'a> {
    pub root: &'a Node,
    pub mistakes: &'a mut Vec<Mistake>,
    /// Where they may stand: a hop, its route and the defaults, or a cluster. The first wins.
    pub at: &'a [&'a [&'a str]],
}

impl Policies<'_> {
    pub fn retry(&mut self, retry: &shape::Retry) -> Retry {
        self.delays("retry", retry.initial, retry.max);
        let shape::Retry { initial, max, multiplier, jitter, retries } = *retry;
        Retry { initial: initial.0, max: max.0, multiplier, jitter, retries }
    }

    pub fn gate(&mut self, gate: &shape::Gate, send_timeout: Time) -> GatePolicy {
        self.delays("gate", gate.initial, gate.max);
        let probe = gate.probe.unwrap_or(send_timeout);
        if gate.probe.is_some() {
            self.within(&["gate", "probe"], probe, SEND_TIMEOUT);
        }
        GatePolicy { failures: gate.failures, initial: gate.initial.0, max: gate.max.0, probe: probe.0 }
    }

    pub fn rate(&mut self, rate: &shape::Rate) -> Rate {
        let (messages, bytes) = (rate.messages.at(), rate.bytes.at());
        if let Some(messages) = messages {
            self.within(&["rate", "messages"], messages, MESSAGES_A_SECOND);
        }
        if let Some(bytes) = bytes {
            self.within(&["rate", "bytes"], bytes, BYTES_A_SECOND);
        }
        Rate { messages, bytes: bytes.map(|size| size.0) }
    }

    pub fn dead_letter_limit(&mut self, written: &shape::DeadLetter) -> Option<DeadLetterLimit> {
        let most = written.most.at()?;
        self.within(&["dead_letter", "most"], most, MOST_DEAD_LETTERS);
        self.within(&["dead_letter", "within"], written.within, WITHIN);
        Some(DeadLetterLimit { most, within: written.within.0 })
    }

    /// A partition that is taken away waits for what is in flight for `revoke_timeout`, and its group for no longer than
    /// `window`, an option of the source's client, if it has one.
    pub fn timeouts(&mut self, hop: &shape::HopPolicies, window: Option<(&str, Time)>) {
        let (send, revoke) = (hop.send_timeout, hop.revoke_timeout);
        self.within(&["send_timeout"], send, SEND_TIMEOUT);
        if send > revoke {
            let problem = format!(
                "a partition that is taken away waits for its sends for the `revoke_timeout` of {revoke}, and a send may take {send}: \
                 what is not confirmed by then comes twice"
            );
            let mistake = self.at(&["send_timeout"], problem);
            self.push(mistake.expected(format!("at most {revoke}, or a longer `revoke_timeout`")).warning());
        }
        if let Some((option, window)) = window
            && revoke.0 > window.0 / 2
        {
            let problem = format!(
                "it is more than half of the `{option}` of its source, {window}: the group would go on without it"
            );
            let expected = format!("at most {}, or a longer `{option}`", Time(window.0 / 2));
            let mistake = self.at(&["revoke_timeout"], problem);
            self.push(mistake.expected(expected));
        }
    }

    pub fn hung_after(&mut self, hop: &shape::HopPolicies) -> Duration {
        let (send, least) = (hop.send_timeout, Time(hop.send_timeout.0 * 2));
        let Some(written) = hop.hung_after else { return least.0.max(HUNG_AFTER_DEFAULT) };
        if self.within(&["hung_after"], written, HUNG_AFTER) && written < least {
            let problem = format!("a send may take {send}, the `send_timeout`, without anything being wrong");
            let mistake = self.at(&["hung_after"], problem);
            self.push(mistake.expected(format!("at least {least}")));
        }
        written.0
    }

    fn delays(&mut self, policy: &'static str, initial: Time, max: Time) {
        if self.within(&[policy, "initial"], initial, DELAY)
            && self.within(&[policy, "max"], max, DELAY)
            && initial > max
        {
            // One of them may be nobody's but ours.
            let mistake = if self.is_written(&[policy, "max"]) {
                self.at(&[policy, "max"], format!("the longest delay is shorter than the first, {initial}"))
            } else {
                self.at(&[policy, "initial"], format!("the first delay is longer than the longest, {max}"))
            };
            self.push(mistake);
        }
    }

    pub fn within<T: PartialOrd + Display>(&mut self, keys: &[&str], value: T, range: RangeInclusive<T>) -> bool {
        let within = range.contains(&value);
        if !within {
            let expected = format!("{} to {}", range.start(), range.end());
            let mistake = self.at(keys, format!("{value} is out of range")).expected(expected);
            self.push(mistake);
        }
        within
    }

    /// Points at the place that wins.
    fn at(&self, keys: &[&str], problem: impl Into<String>) -> Mistake {
        let path = self.place(keys).unwrap_or_else(|| [self.at.first().copied().unwrap_or_default(), keys].concat());
        Mistake::on(self.root, &path, problem)
    }

    fn is_written(&self, keys: &[&str]) -> bool {
        self.place(keys).is_some()
    }

    fn place<'b>(&'b self, keys: &[&'b str]) -> Option<Vec<&'b str>> {
        let mut places = self.at.iter().map(|base| [base, keys].concat());
        places.find(|path| is_written(self.root, path))
    }

    /// Hops share what their route says, and its mistakes.
    fn push(&mut self, mistake: Mistake) {
        if self.mistakes.iter().all(|known| (&known.path, &known.problem) != (&mistake.path, &mistake.problem)) {
            self.mistakes.push(mistake);
        }
    }
}

pub fn is_written(root: &Node, path: &[&str]) -> bool {
    path.iter().try_fold(root, |node, name| node.get(name).map(|(_, next)| next)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_routes_own_setting_wins_key_by_key() {
        let mut table = json!({
            "defaults": { "retry": { "max": "9s", "retries": 9 }, "send_timeout": "9s", "rate": { "messages": 9 } },
            "routes": { "a": { "retry": { "max": "1s" }, "send_timeout": null }, "b": { "rate": "nonsense" } },
        });
        from_defaults(&mut table);
        let expected = json!({
            "a": { "retry": { "max": "1s", "retries": 9 }, "send_timeout": "9s", "rate": { "messages": 9 } },
            "b": { "retry": { "max": "9s", "retries": 9 }, "send_timeout": "9s", "rate": "nonsense" },
        });
        assert_eq!(table["routes"], expected);
    }
}
