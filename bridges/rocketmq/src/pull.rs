//! Pulls: how messages of a queue are asked for, and what the answer holds.

use std::time::Duration;

use bytes::Bytes;
use trestle_core::{Cause, Defect, Message, Position};

use crate::{
    remoting::{
        Answer, Request,
        codes::{answer, request},
    },
    route::Queue,
    tags::Tags,
    translate,
    wire::{self, Record},
};

/// More than brokers give by default (32), so that those which are set to give more do.
const MESSAGES: u32 = 64;
// PullSysFlag.java: hold the request when there is no message, and take the subscription from the request.
const SUSPEND: u32 = 2;
const SUBSCRIPTION: u32 = 4;

/// A member of no group has this one, which every broker has from the start, for its tools (`MixAll.TOOLS_CONSUMER_GROUP`):
/// under another name the broker would make a group, or refuse.
pub const NO_GROUP: &str = "TOOLS_CONSUMER";

/// What a pull asks for, from an offset on.
pub struct Wanted<'a> {
    pub group: &'a str,
    pub topic: &'a str,
    pub tags: &'a Tags,
    /// For so long the broker holds the request while there is no message.
    pub suspend: Option<Duration>,
}

pub fn request(wanted: &Wanted<'_>, queue: &Queue, from: u64) -> Request {
    let Wanted { group, topic, tags, suspend } = *wanted;
    about_queue(request::PULL_MESSAGE, group, topic, queue)
        .field("queueOffset", from)
        .field("maxMsgNums", MESSAGES)
        .field("sysFlag", SUBSCRIPTION | suspend.map_or(0, |_| SUSPEND))
        .field("commitOffset", 0)
        .field("suspendTimeoutMillis", suspend.unwrap_or_default().as_millis())
        .field("subscription", &tags.expression)
        .field("subVersion", tags.version)
        .field("expressionType", "TAG")
}

pub fn about_queue(code: i32, group: &str, topic: &str, queue: &Queue) -> Request {
    Request::new(code)
        .field("consumerGroup", group)
        .field("topic", topic)
        .field("queueId", queue.id)
        .field("bname", &queue.broker)
}

/// Whether an answer without messages means that those from `cursor` to its `nextBeginOffset` have other tags, and not that
/// they are gone (`GetMessageStatus`, which is the answer's remark).
pub fn has_other_tags(answer: &Answer, cursor: u64, tags: &Tags) -> bool {
    const GONE: &str = "MESSAGE_WAS_REMOVING";
    let deleted = answer.number("minOffset").is_some_and(|first| first > 0 && first as u64 > cursor);
    answer.code == answer::PULL_RETRY_IMMEDIATELY && !tags.is_all() && !deleted && answer.remark != GONE
}

/// The messages of an answer, from `cursor` on, that have one of the tags; one over `largest` bytes is a defect.
pub fn messages(answer: Bytes, cursor: u64, largest: usize, tags: &Tags) -> Vec<Message> {
    let mut expected = cursor;
    let mut messages = Vec::new();
    for record in wire::records(answer, largest) {
        let message = match record {
            Record::Message(stored) if !tags.wants(translate::tag_of(&stored.properties).as_deref()) => continue,
            Record::Message(stored) if stored.body.len() > largest => {
                let detail = format!("{} bytes; at most {largest} are carried", stored.body.len());
                let mut message = translate::defect(stored.offset, stored.body, detail.clone());
                message.defect = Some(Box::new(Defect { cause: Cause::TooLarge, detail }));
                message
            }
            Record::Message(stored) => translate::read(stored),
            Record::Defect { offset, raw, detail } => translate::defect(offset.unwrap_or(expected), raw, detail),
        };
        let Position::Offset(offset) = message.position else { continue };
        // A pull into an inner batch begins before the offset that was asked for.
        if offset >= expected {
            expected = offset + 1;
            messages.push(message);
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn messages_with_other_tags_are_told_from_those_that_are_gone() {
        let answer = |code, remark: &str, first: u64| Answer {
            code,
            remark: remark.into(),
            fields: HashMap::from([("minOffset".into(), first.to_string())]),
            body: Bytes::new(),
        };
        let tags = Tags::parse("a").unwrap();
        let retry = |remark, first| has_other_tags(&answer(answer::PULL_RETRY_IMMEDIATELY, remark, first), 10, &tags);
        assert!(retry("NO_MATCHED_MESSAGE", 0) && retry("NO_MATCHED_MESSAGE", 10));
        assert!(!retry("NO_MATCHED_MESSAGE", 11) && !retry("MESSAGE_WAS_REMOVING", 0));
        let unmatched = answer(answer::PULL_RETRY_IMMEDIATELY, "NO_MATCHED_MESSAGE", 0);
        assert!(!has_other_tags(&unmatched, 10, &Tags::parse("*").unwrap()), "without tags nothing is left out");
        assert!(!has_other_tags(&answer(answer::PULL_OFFSET_MOVED, "OFFSET_TOO_SMALL", 0), 10, &tags));
    }
}
