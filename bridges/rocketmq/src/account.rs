use trestle_core::{Account, Accounts};

/// See `translate` for the exact form.
pub const ACCOUNTS: Accounts = Accounts {
    read: Account {
        key: "KEYS, or what `trestle-key` holds exactly; a foreign message with several KEYS has them all in its key, with \
              blanks between them",
        value: "the body, decompressed, byte for byte",
        null: "RocketMQ has neither null nor empty bodies; what `trestle-value` calls so is so again",
        headers: "the properties, the tag as TAGS, and what the property `trestle-envelope` holds in its place; what brokers and \
                  clients note for themselves is left behind. A gRPC proxy shows properties in no order, so that they come by name, \
                  and hides some that say how a message was sent (DELAY, CORRELATION_ID)",
        time: "what `trestle-time` says, else the time at which the producer made the message",
        order: "that of each queue; through a gRPC proxy none that holds between instances",
        delay: "a delayed message comes when it is due, a transactional one when it is committed",
        size: "any that the broker stores",
        repeats: "positions are committed as `commit_interval` says: after a crash, and when a queue changes hands, what settled \
                  since then is read again. Through a gRPC proxy each message is acknowledged on its own: after a crash what an \
                  instance had comes again when its `invisibleDuration` (60 s) is over, and after more deliveries than the group \
                  allows (`retryMaxTimes`, 16) the broker moves a message to `%DLQ%GROUP`",
    },
    written: Account {
        key: "as KEYS where that can say it (text without blanks and control characters), else as base64 in `trestle-key`",
        value: "as it is, byte for byte",
        null: "RocketMQ takes neither: a body of one byte, and `trestle-value` says `null` or `empty`, which a Trestle that \
               reads it undoes; other clients see the one byte",
        headers: "plain text with a name of its own as a property, readable by every client; repeats, empty and null values, \
                  control characters, other bytes and RocketMQ's own names in the property `trestle-envelope`",
        time: "exactly, in `trestle-time`; the time that RocketMQ shows is that of the sending",
        order: "each queue gets its messages in order; through a gRPC proxy, which chooses queues, only those of one message group \
                (`messageGroup`) share a queue",
        delay: "none, unless the target's options say so",
        size: "4 MiB (`maxMessageSize`), and 32,767 bytes for key and headers (16,384 through a gRPC proxy); a larger one is a dead \
               letter",
        repeats: "a send whose answer is lost is sent again and may be there twice; an instance that was frozen may still \
                  write what its successor writes. With the option `trestleId` receivers can tell",
    },
};
