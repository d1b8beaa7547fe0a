//! What the versions are of schemas that messages bring to a topic.

use std::borrow::Cow;

use bytes::Bytes;
use pulsar::message::proto::{CommandGetOrCreateSchema, Schema, ServerError, base_command::Type};
use trestle_core::{Cause, Fault, Message};

use super::{NAME, OPTION, kept};
use crate::{
    classify,
    connection::{Connection, RequestError, command},
};

/// Schemas of one partition that are remembered; the one that was not needed for longest is registered again.
const MOST: usize = 64;

/// Of one partition that is written.
pub(crate) struct Restored {
    /// Whether they are restored at all.
    restore: bool,
    /// Headers, and what each stands for. The newest first.
    found: Vec<(Bytes, Found)>,
}

enum Found {
    /// It is no schema of ours: a header like any other.
    Foreign,
    Version(Vec<u8>),
    Refused(Fault),
}

impl Restored {
    pub fn new(restore: bool) -> Self {
        Restored { restore, found: Vec::new() }
    }

    /// The message as the topic gets it, and the version of its schema, empty without one; an error says why the topic does
    /// not take the schema.
    pub fn of<'a>(&self, message: &'a Message) -> Result<(Cow<'a, Message>, &[u8]), Fault> {
        let untyped = (Cow::Borrowed(message), &[][..]);
        let Some(header) = self.header(message) else { return Ok(untyped) };
        match self.found.iter().find(|(known, _)| known == header) {
            Some((_, Found::Version(version))) => {
                let headers = message.headers.iter().filter(|header| header.name != NAME).cloned().collect();
                Ok((Cow::Owned(Message { headers, ..message.clone() }), version))
            }
            Some((_, Found::Refused(fault))) => Err(fault.clone()),
            Some((_, Found::Foreign)) | None => Ok(untyped),
        }
    }

    /// Registers the schemas that these messages bring, as far as that was not done. One that the topic refuses is the fault of
    /// its messages; an error says that nobody knows.
    pub async fn register<'a>(
        &mut self,
        connection: &Connection,
        topic: &str,
        messages: impl Iterator<Item = &'a Message>,
    ) -> Result<(), RequestError> {
        // Someone may have changed what the topic takes since.
        self.found.retain(|(_, found)| !matches!(found, Found::Refused(_)));
        // Not while messages are looked at that need them.
        self.found.truncate(MOST);
        for message in messages {
            let Some(header) = self.header(message) else { continue };
            if self.found.first().is_some_and(|(known, _)| known == header) {
                continue;
            }
            let newest = match self.found.iter().position(|(known, _)| known == header) {
                Some(at) => self.found.remove(at),
                None => {
                    let found = match kept::decode(header) {
                        Some(schema) => ask(connection, topic, schema).await?,
                        None => Found::Foreign,
                    };
                    (header.clone(), found)
                }
            };
            self.found.insert(0, newest);
        }
        Ok(())
    }

    /// The header that may be a schema. Of several with its name none is.
    fn header<'a>(&self, message: &'a Message) -> Option<&'a Bytes> {
        if !self.restore {
            return None;
        }
        let mut named = message.headers.iter().filter(|header| header.name == NAME);
        let header = named.next()?;
        header.value.as_ref().filter(|_| named.next().is_none())
    }
}

async fn ask(connection: &Connection, topic: &str, schema: Schema) -> Result<Found, RequestError> {
    let answer = connection.request(|request_id| {
        let mut ask = command(Type::GetOrCreateSchema);
        ask.get_or_create_schema = Some(CommandGetOrCreateSchema { request_id, topic: topic.into(), schema });
        ask
    });
    let answer = answer.await?.get_or_create_schema_response.unwrap_or_default();
    let message = answer.error_message.unwrap_or_default();
    match (answer.error_code.and_then(|error| ServerError::try_from(error).ok()), answer.schema_version) {
        (None, Some(version)) => Ok(Found::Version(version)),
        (Some(ServerError::IncompatibleSchema), _) => {
            let detail = format!(
                "the schema of the message (header `{NAME}`) is refused by {topic}: {message}; change the compatibility \
                 strategy of the namespace, or set `{OPTION}: leave` on the target to write the message without it"
            );
            Ok(Found::Refused(Fault::rejected(Cause::Refused, detail)))
        }
        (error, _) => {
            let error = error.unwrap_or(ServerError::UnknownError);
            Err(RequestError::Refused { address: connection.address().into(), error, message })
        }
    }
}

/// Nobody knows what the version of a schema is.
pub(crate) fn unregistered(topic: &str, error: &RequestError) -> Fault {
    classify::fault(format!("registering a schema with {topic}"), error)
}

#[cfg(test)]
impl Restored {
    /// Headers that were registered, with the version that each got or why it is refused.
    pub fn knowing(known: &[(&'static str, Result<u8, &str>)]) -> Self {
        let found = |(header, answer): &(&'static str, Result<u8, &str>)| {
            let found = match answer {
                Ok(version) => Found::Version(vec![*version]),
                Err(why) => Found::Refused(Fault::rejected(Cause::Refused, *why)),
            };
            (Bytes::from(*header), found)
        };
        Restored { restore: true, found: known.iter().map(found).collect() }
    }
}

#[cfg(test)]
mod tests {
    use trestle_core::Position;

    use super::*;

    fn message(schemas: &[&'static str]) -> Message {
        let mut message = Message::at(Position::Offset(0));
        message.headers.push("a", Some(Bytes::from("1")));
        schemas.iter().for_each(|schema| message.headers.push(NAME, Some(Bytes::from(*schema))));
        message.headers.push("b", None);
        message
    }

    fn restored(restore: bool) -> Restored {
        let mut restored = Restored::knowing(&[("good", Ok(3)), ("bad", Err("no"))]);
        restored.found.push((Bytes::from("foreign"), Found::Foreign));
        Restored { restore, ..restored }
    }

    #[test]
    fn a_restored_schema_is_no_header_any_more() {
        let restored = restored(true);
        let message = message(&["good"]);
        let (plain, version) = restored.of(&message).unwrap();
        assert_eq!(version, [3]);
        let names: Vec<_> = plain.headers.iter().map(|header| &header.name[..]).collect();
        assert_eq!(names, [b"a", b"b"]);
    }

    #[test]
    fn what_is_no_schema_or_not_to_be_restored_stays_as_it_is() {
        let restore = restored(true);
        for message in [message(&[]), message(&["foreign"]), message(&["good", "good"])] {
            assert_eq!(restore.of(&message).unwrap(), (Cow::Borrowed(&message), &[][..]));
        }
        let (leave, message) = (restored(false), message(&["good"]));
        assert_eq!(leave.of(&message).unwrap(), (Cow::Borrowed(&message), &[][..]));
    }

    #[test]
    fn a_refused_schema_refuses_its_message() {
        assert!(restored(true).of(&message(&["bad"])).unwrap_err().detail.contains("no"));
    }
}
