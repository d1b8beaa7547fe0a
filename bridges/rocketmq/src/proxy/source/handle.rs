//! Mends the handles that a proxy inside a broker gives out.

/// Fields of a handle (`ReceiptHandle.java`): where its checkpoint begins, the revive queue, the queue, and the message's own offset.
const CHECKPOINT: usize = 0;
const REVIVE_QUEUE: usize = 3;
const QUEUE: usize = 6;
const OFFSET: usize = 7;
/// `KeyBuilder.java`, `POP_ORDER_REVIVE_QUEUE`: of a FIFO group, which has no checkpoints.
const ORDERED: &str = "999";

/// The handle by which a message is known whose invisibility was changed.
///
/// A broker then notes a checkpoint of this message alone, and a proxy inside it (`LocalMessageService.changeInvisibleTime`, 5.5.0)
/// answers the place of the one before, that of all messages which were handed out together. What is acknowledged or renewed
/// by such a handle comes again nevertheless. A proxy beside the brokers answers the right one, which this does not change; nor does
/// it change what is no such handle.
pub fn of_its_own(handle: String) -> String {
    let fields: Vec<&str> = handle.split(' ').collect();
    let Some(offset) = fields.get(OFFSET) else { return handle };
    let number = |at: usize| fields.get(at).is_some_and(|text| text.parse::<u64>().is_ok());
    if ![CHECKPOINT, QUEUE, OFFSET].into_iter().all(number) || fields.get(REVIVE_QUEUE) == Some(&ORDERED) {
        return handle;
    }
    let rest = fields.get(CHECKPOINT + 1..).unwrap_or_default();
    [&[*offset], rest].concat().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkpoint_is_the_messages_own_and_other_handles_stay_as_they_are() {
        let mended = |handle: &str| of_its_own(handle.to_owned());
        assert_eq!(mended("7 1700 10000 3 0 broker-a 2 19 4711"), "19 1700 10000 3 0 broker-a 2 19 4711");
        for other in [
            "19 1700 10000 3 0 broker-a 2 19 4711",
            "7 1700 10000 999 0 broker-a 2 19",
            "7 1700 10000 3 0 broker-a 2",
            "7 1700 10000 3 0 broker a 2 19",
            "AQAAAXo=",
            "",
        ] {
            assert_eq!(mended(other), other);
        }
    }
}
