//! Pulls: how messages of a queue are asked for, and what the answer holds.

use std::time::Duration;

use bytes::Bytes;
use trestle_core::{Cause, Defect, Message, Position};

use crate::{
    remoting::{Request, codes::request},
    route::Queue,
    translate,
    wire::{self, Record},
};

/// More than brokers give by default (32), so that those which are set to give more do.
const MESSAGES: u32 = 64;
// PullSysFlag.java: hold the request when there is no message, and take the subscription from the request.
const SUSPEND: u32 = 2;
const SUBSCRIPTION: u32 = 4;

/// Asks for messages from an offset on. With `suspend` the broker holds the request for so long while there is none.
pub fn request(group: &str, topic: &str, queue: &Queue, from: u64, suspend: Option<Duration>) -> Request {
    about_queue(request::PULL_MESSAGE, group, topic, queue)
        .field("queueOffset", from)
        .field("maxMsgNums", MESSAGES)
        .field("sysFlag", SUBSCRIPTION | suspend.map_or(0, |_| SUSPEND))
        .field("commitOffset", 0)
        .field("suspendTimeoutMillis", suspend.unwrap_or_default().as_millis())
        .field("subscription", "*")
        .field("subVersion", 0)
        .field("expressionType", "TAG")
}

pub fn about_queue(code: i32, group: &str, topic: &str, queue: &Queue) -> Request {
    Request::new(code)
        .field("consumerGroup", group)
        .field("topic", topic)
        .field("queueId", queue.id)
        .field("bname", &queue.broker)
}

/// The messages of an answer, from `cursor` on; one over `largest` bytes is a defect.
pub fn messages(answer: Bytes, cursor: u64, largest: usize) -> Vec<Message> {
    let mut expected = cursor;
    let mut messages = Vec::new();
    for record in wire::records(answer, largest) {
        let message = match record {
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
