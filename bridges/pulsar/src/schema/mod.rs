//! The schema of typed messages: a header on the way, restored at the topic that is written.
//!
//! A Pulsar message names a version of its topic's schema, and the broker keeps what the versions are. Neither means anything
//! in another topic, so the definition itself travels, as the header [`NAME`]: in JSON, the same bytes for the same schema.

mod kept;
mod known;
mod restored;

pub(crate) use self::{
    known::Known,
    restored::{Restored, unregistered},
};

/// Header that holds the schema of a message.
pub(crate) const NAME: &str = "trestle-pulsar-schema";
/// The option of a topic: whether its schemas travel, or are restored.
pub(crate) const OPTION: &str = "trestle.schema";

/// What the option says; `or` is what else it may say than `leave`, which is what it says where it is not given.
pub(crate) fn option(value: Option<&String>, or: &str) -> Result<bool, String> {
    match value.map(String::as_str) {
        None => Ok(true),
        Some("leave") => Ok(false),
        Some(value) if value == or => Ok(true),
        Some(value) => Err(format!("`{OPTION}: {value}`: {or} or leave is meant")),
    }
}
