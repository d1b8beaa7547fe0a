//! Property names that RocketMQ uses itself (`MessageConst.java` of 5.5.0, and names that 4.x adds).

/// What the broker or a client library notes about one storage, one delivery or the transaction of a message. It says nothing
/// of the message, and is left behind when the message moves on.
const BOOKKEEPING: [&str; 25] = [
    "CLUSTER",
    "WAIT",
    "MSG_REGION",
    "TRACE_ON",
    "MIN_OFFSET",
    "MAX_OFFSET",
    "INNER_NUM",
    "INNER_BASE",
    "POP_CK",
    "1ST_POP_TIME",
    "CONSUME_START_TIME",
    // Of a transaction: who sends it, and where its half message lay. The id of the transaction is the message's UNIQ_KEY.
    "TRAN_MSG",
    "PGROUP",
    "TRAN_PREPARED_QUEUE_OFFSET",
    "TRANS_OFFSET",
    "TRANSACTION_CHECK_TIMES",
    "__transactionId__",
    // The client's namespace.
    "INSTANCE_ID",
    // Of a delay: where it waited, and since when.
    "REAL_TOPIC",
    "REAL_QID",
    "TIMER_OUT_MS",
    "TIMER_ENQUEUE_MS",
    "TIMER_DEQUEUE_MS",
    "TIMER_ROLL_TIMES",
    "TIMER_ROLL_LABEL",
];

const MEANINGFUL: [&str; 44] = [
    "KEYS",
    "TAGS",
    "DELAY",
    "RETRY_TOPIC",
    "ORIGIN_GROUP",
    "BUYER_ID",
    "ORIGIN_MESSAGE_ID",
    "TRANSFER_FLAG",
    "CORRECTION_FLAG",
    "MQ2_FLAG",
    "RECONSUME_TIME",
    "UNIQ_KEY",
    "EXTEND_UNIQ_INFO",
    "MAX_RECONSUME_TIMES",
    "_SYS_MSG_PRIORITY_",
    "DUP_INFO",
    "CHECK_IMMUNITY_TIME_IN_SECONDS",
    "CORRELATION_ID",
    "REPLY_TO_CLIENT",
    "TTL",
    "ARRIVE_TIME",
    "PUSH_REPLY_TIME",
    "MSG_TYPE",
    "POP_CK_OFFSET",
    "__SHARDINGKEY",
    "__LITE_TOPIC",
    "PROPERTY_FORWARD_QUEUE_ID",
    "REDIRECT",
    "INNER_MULTI_DISPATCH",
    "INNER_MULTI_QUEUE_OFFSET",
    "TRACE_CONTEXT",
    "TIMER_DELAY_SEC",
    "TIMER_DELIVER_MS",
    "__BORNHOST",
    "BORN_TIMESTAMP",
    "TIMER_DEL_UNIQKEY",
    "TIMER_DELAY_LEVEL",
    "TIMER_DELAY_MS",
    "DLQ_ORIGIN_TOPIC",
    "DLQ_ORIGIN_MESSAGE_ID",
    "K",
    "TIMER_IN_MS",
    "TIMER_DEL_FLAG",
    "BORN_HOST",
];

/// The broker puts the checksum of the properties behind this.
const CHECKSUM: &str = "__CRC32#";
const TRANSIENT: &str = "__RMQ.TRANSIENT.";

/// A header of this name cannot travel as a property of this name.
pub fn is_reserved(name: &[u8]) -> bool {
    is_bookkeeping(name) || MEANINGFUL.iter().any(|known| known.as_bytes() == name)
}

/// See [`BOOKKEEPING`].
pub fn is_bookkeeping(name: &[u8]) -> bool {
    BOOKKEEPING.iter().any(|known| known.as_bytes() == name)
        || name.starts_with(CHECKSUM.as_bytes())
        || name.starts_with(TRANSIENT.as_bytes())
}
