use trestle_core::{Account, Accounts};

/// See `translate` and `envelope` for the exact form.
pub const ACCOUNTS: Accounts = Accounts {
    read: Account {
        key: "the message's key, decoded where it is marked as base64; an ordering key becomes the last header, \
              `trestle-pulsar-ordering-key`",
        value: "the payload, decompressed, byte for byte, whatever its schema; batches are taken apart and chunks put together",
        null: "a message marked as null is a tombstone; an empty payload is another thing",
        headers: "the properties, in their order, and what the property `trestle-envelope` holds in its place; the schema of \
                  a typed message becomes the header `trestle-pulsar-schema`, or is left behind with `trestle.schema: leave`",
        time: "the event time; where a foreign producer set none, the publish time, as the protocol says",
        order: "that of each partition",
        delay: "a delayed message comes when it is due, and the header `trestle-pulsar-deliver-at` says when that was",
        size: "any that the broker stores; chunks of a message that never becomes whole are a dead letter",
        repeats: "what is settled is acknowledged entry by entry, as `commit_interval` says: after a crash what settled since \
                  then comes again; when a partition changes hands the broker waits for one second",
    },
    written: Account {
        key: "UTF-8 as it is, anything else as base64, marked as Pulsar's clients mark it; none stays none",
        value: "as it is, byte for byte, batched",
        null: "a null value is marked as null (`null_value`); compaction takes an empty one for null as well",
        headers: "UTF-8 with a name of its own as a property, readable by every client; repeats, null values and other bytes \
                  in the property `trestle-envelope`, in their place, which a Trestle that reads it undoes; a schema in the \
                  header `trestle-pulsar-schema` is registered with the topic, and the message is one of that schema, unless \
                  `trestle.schema: leave`",
        time: "as the event time from 1 ms on; none, zero and earlier ones in `trestle-envelope`",
        order: "each target partition gets its messages in order",
        delay: "none: the header `trestle-pulsar-deliver-at` stays a header",
        size: "the broker's `maxMessageSize`; a larger one is a dead letter, which Pulsar chunks",
        repeats: "after a send whose answer is lost the end of the topic is read, and what arrived is not sent again",
    },
};
