//! What the versions are that messages of a topic name.

use std::collections::VecDeque;

use bytes::Bytes;
use pulsar::message::proto::{CommandGetSchema, MessageMetadata, ServerError, base_command::Type};

use super::kept;
use crate::{
    connection::{Connection, RequestError, command},
    frame::Payload,
};

/// Versions of one partition that are remembered; the one that was not needed for longest is asked for again.
const MOST: usize = 64;

/// Of one partition that is read.
pub(crate) struct Known {
    /// Whether they are wanted at all.
    keep: bool,
    /// Versions, and the header of each; none for one that the broker no longer has. The newest first.
    headers: VecDeque<(Vec<u8>, Option<Bytes>)>,
}

impl Known {
    pub fn new(keep: bool) -> Self {
        Known { keep, headers: VecDeque::new() }
    }

    /// The header of what an entry holds, once [`Known::learn`] was asked.
    pub fn header(&self, payload: &Payload) -> Option<&Bytes> {
        let version = self.version(payload)?;
        self.headers.iter().find(|(known, _)| known == version)?.1.as_ref()
    }

    /// Asks the broker what the version is that an entry names, if that is not known. Nothing is known after an error.
    pub async fn learn(&mut self, connection: &Connection, topic: &str, payload: &Payload) -> Result<(), RequestError> {
        let Some(version) = self.version(payload) else { return Ok(()) };
        if self.headers.front().is_some_and(|(known, _)| known == version) {
            return Ok(());
        }
        let version = version.to_vec();
        let found = self.headers.iter().position(|(known, _)| *known == version);
        let newest = match found.and_then(|at| self.headers.remove(at)) {
            Some(known) => known,
            None => {
                let header = ask(connection, topic, &version).await?;
                (version, header)
            }
        };
        self.headers.push_front(newest);
        self.headers.truncate(MOST);
        Ok(())
    }

    fn version<'a>(&self, payload: &'a Payload) -> Option<&'a [u8]> {
        let metadata: &MessageMetadata = payload.metadata.as_ref().ok().filter(|_| self.keep)?;
        // Java's client says an empty one of messages without a schema.
        metadata.schema_version.as_deref().filter(|version| !version.is_empty())
    }
}

async fn ask(connection: &Connection, topic: &str, version: &[u8]) -> Result<Option<Bytes>, RequestError> {
    let answer = connection.request(|request_id| {
        let mut ask = command(Type::GetSchema);
        ask.get_schema =
            Some(CommandGetSchema { request_id, topic: topic.into(), schema_version: Some(version.to_vec()) });
        ask
    });
    let answer = answer.await?.get_schema_response.unwrap_or_default();
    match (answer.error_code.and_then(|error| ServerError::try_from(error).ok()), answer.schema) {
        (None, Some(schema)) => Ok(Some(kept::encode(&schema))),
        // `ServerCnx.handleGetSchema` says so of a version that is gone: nobody can tell any more what it was.
        (None | Some(ServerError::TopicNotFound), _) => {
            let number = version.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            tracing::warn!(topic, version = number, "messages name a version of a schema that the topic does not have");
            Ok(None)
        }
        (Some(error), _) => Err(RequestError::Refused {
            address: connection.address().into(),
            error,
            message: answer.error_message.unwrap_or_default(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(version: Option<&[u8]>) -> Payload {
        let metadata = MessageMetadata { schema_version: version.map(<[u8]>::to_vec), ..Default::default() };
        Payload { metadata: Ok(metadata), data: Bytes::new() }
    }

    #[test]
    fn entries_that_name_no_version_or_are_not_wanted_have_no_header() {
        let header = Bytes::from("schema");
        let of = |keep| Known { keep, headers: [(vec![7], Some(header.clone()))].into() };
        assert_eq!(of(true).header(&payload(Some(&[7]))), Some(&header));
        assert_eq!(of(true).header(&payload(Some(&[8]))), None);
        assert_eq!(of(true).header(&payload(Some(&[]))), None);
        assert_eq!(of(true).header(&payload(None)), None);
        assert_eq!(of(false).header(&payload(Some(&[7]))), None);
    }
}
