//! The policies of a route: what it says itself, what `defaults` says for all routes, and whether the two make sense.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use serde_json::Value;

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

/// What `defaults` says and a route does not say otherwise becomes the route's.
pub fn inherit(table: &mut Value) {
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
    /// Where they stand: a route, or a cluster.
    pub at: [&'a str; 2],
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
    pub fn timeouts(&mut self, route: &shape::Route, window: Option<(&str, Time)>) {
        let (send, revoke) = (route.send_timeout, route.revoke_timeout);
        self.within(&["send_timeout"], send, SEND_TIMEOUT);
        if send > revoke {
            let problem = format!(
                "a partition that is taken away waits for its sends for the `revoke_timeout` of {revoke}, and a send may take {send}: \
                 what is not confirmed by then comes twice"
            );
            let mistake = self.at(&["send_timeout"], problem);
            self.mistakes.push(mistake.expected(format!("at most {revoke}, or a longer `revoke_timeout`")).warning());
        }
        if let Some((option, window)) = window
            && revoke.0 > window.0 / 2
        {
            let problem = format!(
                "it is more than half of the `{option}` of its source, {window}: the group would go on without it"
            );
            let expected = format!("at most {}, or a longer `{option}`", Time(window.0 / 2));
            let mistake = self.at(&["revoke_timeout"], problem);
            self.mistakes.push(mistake.expected(expected));
        }
    }

    pub fn hung_after(&mut self, route: &shape::Route) -> Duration {
        let (send, least) = (route.send_timeout, Time(route.send_timeout.0 * 2));
        let Some(written) = route.hung_after else { return least.0.max(HUNG_AFTER_DEFAULT) };
        if self.within(&["hung_after"], written, HUNG_AFTER) && written < least {
            let problem = format!("a send may take {send}, the `send_timeout`, without anything being wrong");
            let mistake = self.at(&["hung_after"], problem);
            self.mistakes.push(mistake.expected(format!("at least {least}")));
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
            self.mistakes.push(mistake);
        }
    }

    pub fn within<T: PartialOrd + Display>(&mut self, keys: &[&str], value: T, range: RangeInclusive<T>) -> bool {
        let within = range.contains(&value);
        if !within {
            let expected = format!("{} to {}", range.start(), range.end());
            let mistake = self.at(keys, format!("{value} is out of range")).expected(expected);
            self.mistakes.push(mistake);
        }
        within
    }

    /// Points at what the route says, else at what `defaults` says for it.
    fn at(&self, keys: &[&str], problem: impl Into<String>) -> Mistake {
        let [own, default] = self.paths(keys);
        let path = if !written(self.root, &own) && written(self.root, &default) { default } else { own };
        Mistake::on(self.root, &path, problem)
    }

    fn is_written(&self, keys: &[&str]) -> bool {
        self.paths(keys).iter().any(|path| written(self.root, path))
    }

    fn paths<'b>(&'b self, keys: &[&'b str]) -> [Vec<&'b str>; 2] {
        [[&self.at, keys].concat(), [&["defaults"], keys].concat()]
    }
}

fn written(root: &Node, path: &[&str]) -> bool {
    path.iter().try_fold(root, |node, name| node.get(name).map(|(_, next)| next)).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_routes_own_setting_wins_key_by_key() {
        let mut table = json!({
            "defaults": { "retry": { "max": "9s", "retries": 9 }, "send_timeout": "9s", "rate": { "messages": 9 } },
            "routes": { "a": { "retry": { "max": "1s" }, "send_timeout": null }, "b": { "rate": "nonsense" } },
        });
        inherit(&mut table);
        let expected = json!({
            "a": { "retry": { "max": "1s", "retries": 9 }, "send_timeout": "9s", "rate": { "messages": 9 } },
            "b": { "retry": { "max": "9s", "retries": 9 }, "send_timeout": "9s", "rate": "nonsense" },
        });
        assert_eq!(table["routes"], expected);
    }
}
