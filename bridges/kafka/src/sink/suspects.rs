//! Messages that the broker may refuse for what they say, as far as that can be foreseen.
//!
//! A refused record keeps its whole batch out, and batches behind that one are on their way by then: some may be stored before
//! what was in front of it is sent again. So a suspect travels alone. That it is one decides nothing else: the broker does.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use trestle_core::Message;

use crate::{
    options::{IN_HEADER, UNTIMELY},
    topic::TopicConfig,
    translate::{NO_TIME, record_time},
};

/// `message.timestamp.after.max.ms` where the topic does not say it: Kafka's default since 4.0, an hour.
const DEFAULT_AFTER_MS: i64 = 3_600_000;
/// As far apart the clocks of this machine and the broker may be.
const CLOCKS_APART_MS: i64 = 300_000;

pub(super) struct Suspects {
    /// A topic that is compacted takes no message without a key.
    compacted: bool,
    before_ms: i64,
    after_ms: i64,
    /// A message whose time is not taken travels without one; see [`UNTIMELY`].
    in_header: bool,
}

impl Suspects {
    pub(super) fn of(topic: &TopicConfig, options: &BTreeMap<String, String>) -> Self {
        Suspects {
            compacted: topic.compacted(),
            before_ms: topic.before_ms.unwrap_or(i64::MAX),
            after_ms: topic.after_ms.unwrap_or(DEFAULT_AFTER_MS),
            in_header: options.get(UNTIMELY).map(String::as_str) == Some(IN_HEADER),
        }
    }

    /// The time for the record, and the header that says what the record cannot.
    pub(super) fn time(&self, message: &Message, now: i64) -> (i64, Option<String>) {
        match record_time(message) {
            (time, None) if self.in_header && self.untimely(time, now) => (NO_TIME, Some(time.to_string())),
            said => said,
        }
    }

    /// `now`: see [`now`].
    pub(super) fn hold(&self, message: &Message, now: i64) -> bool {
        let (time, _) = self.time(message, now);
        self.untimely(time, now) || (self.compacted && message.key.is_none())
    }

    fn untimely(&self, time: i64, now: i64) -> bool {
        let earliest = now.saturating_sub(self.before_ms.saturating_sub(CLOCKS_APART_MS));
        let latest = now.saturating_add(self.after_ms.saturating_sub(CLOCKS_APART_MS));
        // A record without a time is taken whatever the limits are.
        time != NO_TIME && !(earliest..=latest).contains(&time)
    }
}

/// Milliseconds since 1970-01-01T00:00Z.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use trestle_core::Position;

    use super::*;

    const NOW: i64 = 1_700_000_000_000;
    const MINUTE: i64 = 60_000;

    fn held(topic: &TopicConfig, time: Option<i64>) -> bool {
        let message = Message { time, key: Some(Bytes::from("k")), ..Message::at(Position::Offset(0)) };
        Suspects::of(topic, &BTreeMap::new()).hold(&message, NOW)
    }

    #[test]
    fn what_is_near_or_beyond_a_limit_of_the_topic_is_suspect_and_nothing_else() {
        let unknown = TopicConfig::default();
        for time in [None, Some(0), Some(-1), Some(1), Some(-1_000), Some(NOW), Some(NOW + 54 * MINUTE)] {
            assert!(!held(&unknown, time), "{time:?}");
        }
        // The broker reckons in the same way, and refuses the very first times although any age is allowed.
        for time in [NOW + 56 * MINUTE, i64::MAX, i64::MIN] {
            assert!(held(&unknown, Some(time)), "{time}");
        }
        let any = TopicConfig { after_ms: Some(i64::MAX), before_ms: Some(i64::MAX), ..unknown.clone() };
        assert!(!held(&any, Some(NOW + 525_600 * MINUTE)) && !held(&any, Some(-1_000)));
        let narrow = TopicConfig { before_ms: Some(60 * MINUTE), ..unknown };
        assert!(held(&narrow, Some(NOW - 56 * MINUTE)) && !held(&narrow, Some(NOW - 54 * MINUTE)));
        assert!(!held(&narrow, Some(0)), "written without a time");
    }

    #[test]
    fn a_time_that_is_not_taken_may_travel_in_a_header() {
        let options = BTreeMap::from([(UNTIMELY.to_owned(), IN_HEADER.to_owned())]);
        let suspects = Suspects::of(&TopicConfig::default(), &options);
        let message = |time| Message { time: Some(time), ..Message::at(Position::Offset(0)) };
        let late = NOW + 90 * MINUTE;
        assert_eq!(suspects.time(&message(late), NOW), (NO_TIME, Some(late.to_string())));
        assert!(!suspects.hold(&message(late), NOW), "it is taken then");
        assert_eq!(suspects.time(&message(NOW), NOW), (NOW, None));
    }

    #[test]
    fn a_compacted_topic_is_suspected_of_refusing_what_has_no_key() {
        let compacted = TopicConfig { cleanup_policy: Some("compact,delete".into()), ..TopicConfig::default() };
        let suspects = Suspects::of(&compacted, &BTreeMap::new());
        assert!(suspects.hold(&Message::at(Position::Offset(0)), NOW));
        assert!(!held(&compacted, None));
    }
}
