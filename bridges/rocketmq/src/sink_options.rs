//! Options of a topic that is written.

use std::collections::BTreeMap;

use trestle_core::WrongOption;

/// Options of a topic written to. A header that is named in one and that a message lacks, or that is null, does nothing; of
/// several with the name the last one counts. A header whose value does not fit has its message refused.
pub const SINK_OPTIONS: [&str; 7] = [
    // `true`: a property `trestle-id` made of route, source partition and position, by which receivers can drop repeats.
    "trestleId",
    // KEYS, by which RocketMQ finds messages: `key` (the message's key, where it is one word of text; the default),
    // `header:NAME` or `constant:TEXT`. Blanks separate several keys.
    "keys",
    // TAGS, by which consumers choose: `header:NAME` or `constant:TEXT`. Without it a header TAGS that can be a tag is one.
    "tag",
    // `__SHARDINGKEY`, the message group of FIFO topics: `key` or `header:NAME`. One that is no text, blank or longer than
    // 63 bytes, which gRPC clients refuse, becomes `sha1:` and the SHA-1 of its bytes in hexadecimal.
    "messageGroup",
    // `true` is `messageGroup: key`, where that is not set.
    "shardingKey",
    // TIMER_DELIVER_MS: `header:NAME` with milliseconds since 1970-01-01T00:00Z. Delivered within the broker's
    // `timerPrecisionMs` (1 s), at once when the time has passed, and refused beyond its `timerMaxDelaySec` (3 days). The header
    // that a delayed message of Pulsar has is `trestle-pulsar-deliver-at`; without this option it stays a header.
    "deliverAt",
    // DELAY: `header:NAME` or `constant:N`, a level of the broker's `messageDelayLevel`; 0 in a header is none.
    "delayLevel",
];
// Messages with a delay are sent one by one, because brokers overlook delays in batches: some thousand a second and queue.

/// Where a value of each message comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    Key,
    Header(String),
    Constant(String),
}

/// [`SINK_OPTIONS`], read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SinkOptions {
    pub id: bool,
    pub keys: Option<Taken>,
    pub tag: Option<Taken>,
    pub message_group: Option<Taken>,
    /// Name of the header.
    pub deliver_at: Option<String>,
    pub delay_level: Option<Taken>,
}

impl SinkOptions {
    /// All that is wrong, or what the options come to.
    pub fn read(options: &BTreeMap<String, String>) -> Result<Self, Vec<WrongOption>> {
        let (mut read, mut wrong, mut sharding_key) = (SinkOptions::default(), Vec::new(), false);
        for (name, value) in options {
            let result = match name.as_str() {
                "trestleId" => switch(value).map(|on| read.id = on),
                "shardingKey" => switch(value).map(|on| sharding_key = on),
                "keys" => taken(value, &[KEY, HEADER, CONSTANT], keys).map(|keys| {
                    read.keys = Some(keys).filter(|keys| *keys != Taken::Key);
                }),
                "tag" => taken(value, &[HEADER, CONSTANT], tag).map(|tag| read.tag = Some(tag)),
                "messageGroup" => taken(value, &[KEY, HEADER], |_| None).map(|group| read.message_group = Some(group)),
                "deliverAt" => taken(value, &[HEADER], |_| None).map(|from| match from {
                    Taken::Header(header) => read.deliver_at = Some(header),
                    Taken::Key | Taken::Constant(_) => {}
                }),
                "delayLevel" => taken(value, &[HEADER, CONSTANT], level).map(|from| read.delay_level = Some(from)),
                _ => {
                    wrong.push(WrongOption::unknown(name, &SINK_OPTIONS));
                    continue;
                }
            };
            wrong.extend(result.err().map(|problem| WrongOption::value(name, format!("{name}: `{value}` {problem}"))));
        }
        if sharding_key && read.message_group.is_none() {
            read.message_group = Some(Taken::Key);
        }
        if wrong.is_empty() { Ok(read) } else { Err(wrong) }
    }
}

const KEY: &str = "key";
const HEADER: &str = "header:NAME";
const CONSTANT: &str = "constant:TEXT";

fn switch(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| "is neither true nor false".into())
}

/// One of `forms`; `problem` says what a constant has against it.
fn taken(value: &str, forms: &[&str], problem: fn(&str) -> Option<&'static str>) -> Result<Taken, String> {
    let taken = match value.split_once(':') {
        None if value == KEY => Some((KEY, Taken::Key)),
        Some(("header", name)) if !name.is_empty() => Some((HEADER, Taken::Header(name.to_owned()))),
        Some(("constant", text)) => Some((CONSTANT, Taken::Constant(text.to_owned()))),
        _ => None,
    };
    match taken {
        Some((form, taken)) if forms.contains(&form) => match &taken {
            Taken::Constant(text) => problem(text).map_or(Ok(taken.clone()), |problem| Err(problem.to_owned())),
            _ => Ok(taken),
        },
        _ => Err(format!("is none of {}", forms.join(", "))),
    }
}

fn keys(text: &str) -> Option<&'static str> {
    crate::stamp::keys(text.as_bytes()).err()
}

fn tag(text: &str) -> Option<&'static str> {
    crate::stamp::tag(text.as_bytes()).err()
}

fn level(text: &str) -> Option<&'static str> {
    match crate::stamp::number(text.as_bytes()) {
        Some(1..) => None,
        _ => Some("is no delay level, which is a number from 1 on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&str, &str)]) -> Result<SinkOptions, Vec<String>> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        SinkOptions::read(&options).map_err(|wrong| wrong.into_iter().map(|w| w.problem).collect())
    }

    #[test]
    fn each_option_has_its_forms() {
        let header = |name: &str| Some(Taken::Header(name.into()));
        let all = read(&[
            ("trestleId", "true"),
            ("keys", "header:order id"),
            ("tag", "constant:red"),
            ("messageGroup", "header:a:b"),
            ("shardingKey", "true"),
            ("deliverAt", "header:due"),
            ("delayLevel", "constant:3"),
        ]);
        let expected = SinkOptions {
            id: true,
            keys: header("order id"),
            tag: Some(Taken::Constant("red".into())),
            message_group: header("a:b"),
            deliver_at: Some("due".into()),
            delay_level: Some(Taken::Constant("3".into())),
        };
        assert_eq!(all.unwrap(), expected);
        assert_eq!(read(&[("keys", "key"), ("shardingKey", "false")]).unwrap(), SinkOptions::default());
        assert_eq!(read(&[("shardingKey", "true")]).unwrap(), read(&[("messageGroup", "key")]).unwrap());
    }

    #[test]
    fn what_an_option_does_not_take_is_told_with_its_name() {
        for (name, value, says) in [
            ("trestleId", "yes", "neither true nor false"),
            ("keys", "order", "none of key, header:NAME, constant:TEXT"),
            ("keys", "constant: ", "blank"),
            ("keys", "constant:a\u{2}b", "control"),
            ("tag", "key", "none of header:NAME, constant:TEXT"),
            ("tag", "header:", "none of"),
            ("tag", "constant:a|b", "`|`"),
            ("tag", "constant:a b", "blank"),
            ("tag", "constant:", "empty"),
            ("messageGroup", "constant:x", "none of key, header:NAME"),
            ("deliverAt", "constant:1", "none of header:NAME"),
            ("delayLevel", "constant:0", "no delay level"),
            ("delayLevel", "constant:x", "no delay level"),
        ] {
            let wrong = read(&[(name, value)]).unwrap_err();
            assert!(wrong[0].starts_with(name) && wrong[0].contains(says), "{wrong:?}");
        }
        assert!(read(&[("tags", "a")]).unwrap_err()[0].contains("no option `tags`"));
    }
}
