use trestle_core::{Account, Accounts};

/// See `translate` for the exact form, `topic` for what a topic's settings do.
pub const ACCOUNTS: Accounts = Accounts {
    read: Account {
        key: "the record's key, byte for byte; no key is not an empty one",
        value: "the record's value, byte for byte",
        null: "a null value is a tombstone and stays one; an empty value is another thing",
        headers: "in their order, with repeats, null values and any bytes",
        time: "the record's own, in milliseconds, or none (-1); of a topic with LogAppendTime the broker's, because the \
               producer's was lost before",
        order: "that of each partition; only committed transactions, and a partition waits behind one that is open",
        delay: "Kafka has none",
        size: "any that the broker stores",
        repeats: "positions are committed as `commit_interval` says: after a crash what settled since then is read again; a \
                  hand-over between members waits for what is in flight",
    },
    written: Account {
        key: "as it is, byte for byte, or null",
        value: "as it is, byte for byte",
        null: "a null value as a null value, which compaction takes for a tombstone; an empty one as an empty one",
        headers: "as they are, with repeats, null values and any bytes",
        time: "as the record's time; 0 and -1, which librdkafka takes for something else, in the header `trestle-time`, which \
               a Trestle that reads it undoes. A topic with LogAppendTime puts its own time instead; brokers refuse times more \
               than an hour ahead (`message.timestamp.after.max.ms`): a dead letter, or with the option `trestle.untimely: header` a \
               record without a time, and the exact one in that header",
        order: "each target partition gets its messages in order, by an idempotent producer with `durability: replicated`",
        delay: "none: what was to come later comes at once, and a header still says when it was to come",
        size: "`max.message.bytes` of the topic; a larger one is a dead letter",
        repeats: "a send whose answer is lost is sent again and may be there twice; an instance that was frozen may still \
                  write what its successor writes",
    },
};
