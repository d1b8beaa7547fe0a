//! The calls into librdkafka that `rdkafka` lacks: events with their partition, waking a poll, header names that are not
//! UTF-8, the produce call with raw headers. All the unsafe code of this crate.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr::{self, NonNull},
    slice,
    sync::Arc,
    time::Duration,
};

use rdkafka::{
    TopicPartitionList, bindings as sys,
    client::{Client, ClientContext},
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use trestle_core::Message;

/// A queue of events of one client. It keeps memory of its own, but must be dropped before its client is destroyed.
pub(crate) struct Queue(NonNull<sys::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues are made to be used from several threads.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// Messages, rebalances, answers to commits and errors of a consumer.
    pub(crate) fn of_consumer<C: ClientContext>(client: &Client<C>) -> Option<Queue> {
        // SAFETY: the client's pointer is valid while it is borrowed; the answer is a new reference or null.
        NonNull::new(unsafe { sys::rd_kafka_queue_get_consumer(client.native_ptr()) }).map(Queue)
    }

    /// Delivery reports and errors of a producer.
    pub(crate) fn of_producer<C: ClientContext>(client: &Client<C>) -> Option<Queue> {
        // SAFETY: as above.
        NonNull::new(unsafe { sys::rd_kafka_queue_get_main(client.native_ptr()) }).map(Queue)
    }

    /// Waits for an event, `timeout` at most or until [`Queue::wake`].
    pub(crate) fn poll(&self, timeout: Duration) -> Option<Event> {
        let millis = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the queue is alive; the answer is an event that is ours, or null.
        NonNull::new(unsafe { sys::rd_kafka_queue_poll(self.0.as_ptr(), millis) }).map(Event)
    }

    /// Commits these positions; the answer comes to this queue. (An asynchronous commit of the library is answered to a
    /// callback only, which the library does not set.)
    pub(crate) fn commit<C: ClientContext>(
        &self,
        client: &Client<C>,
        positions: &TopicPartitionList,
    ) -> Result<(), RDKafkaErrorCode> {
        // SAFETY: client, list and queue are alive during the call, which copies the list.
        let error = unsafe {
            sys::rd_kafka_commit_queue(client.native_ptr(), positions.ptr(), self.0.as_ptr(), None, ptr::null_mut())
        };
        code(error).map_or(Ok(()), Err)
    }

    /// Asks what the topic is now; the answer comes to this queue, an error as well, within `limit`.
    pub(crate) fn ask_topic<C: ClientContext>(&self, client: &Client<C>, topic: &CStr, limit: Duration) {
        let mut names = [topic.as_ptr()];
        let millis = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the name is copied; collection and options are ours and not needed after the call. Where the limit is refused
        // the client's own holds.
        unsafe {
            let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
            let options = sys::rd_kafka_AdminOptions_new(client.native_ptr(), operation);
            sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
            let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            sys::rd_kafka_DescribeTopics(client.native_ptr(), topics, options, self.0.as_ptr());
            sys::rd_kafka_TopicCollection_destroy(topics);
            sys::rd_kafka_AdminOptions_destroy(options);
        }
    }

    /// Ends the poll that is waiting now, or else the next one.
    pub(crate) fn wake(&self) {
        // SAFETY: the queue is alive.
        unsafe { sys::rd_kafka_queue_yield(self.0.as_ptr()) }
    }
}

/// What was fetched of one partition, apart from everything else: what is not taken out of it stays, and librdkafka fetches no
/// more of it. Must be dropped before its client is destroyed.
pub(crate) struct PartitionQueue {
    queue: Queue,
    /// librdkafka has the address of the inner box.
    _woken: Box<Woken>,
}

type Woken = Box<dyn Fn() + Send + Sync>;

impl PartitionQueue {
    /// `woken` is called, by a thread of librdkafka that must not wait, when there is something in a queue that was empty.
    pub(crate) fn of<C: ClientContext>(
        client: &Client<C>,
        topic: &CStr,
        partition: i32,
        woken: impl Fn() + Send + Sync + 'static,
    ) -> Option<PartitionQueue> {
        unsafe extern "C" fn call(_: *mut sys::rd_kafka_t, woken: *mut c_void) {
            // SAFETY: the box that it points to outlives the calls, which end in `drop`.
            unsafe { (*woken.cast::<Woken>())() }
        }
        let mut woken: Box<Woken> = Box::new(Box::new(woken));
        // SAFETY: the client's pointer is valid while it is borrowed and the name is copied; the answer is a new reference or
        // null. Forwarded to nowhere the partition has a queue of its own.
        let queue = unsafe {
            let queue = sys::rd_kafka_queue_get_partition(client.native_ptr(), topic.as_ptr(), partition);
            let queue = Queue(NonNull::new(queue)?);
            sys::rd_kafka_queue_forward(queue.0.as_ptr(), ptr::null_mut());
            let address: *mut Woken = &mut *woken;
            sys::rd_kafka_queue_cb_event_enable(queue.0.as_ptr(), Some(call), address.cast());
            queue
        };
        Some(PartitionQueue { queue, _woken: woken })
    }

    /// The next event, if there is one.
    pub(crate) fn next(&self) -> Option<Event> {
        self.queue.poll(Duration::ZERO)
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: the queue is alive; calls are made under its lock, which this takes.
        unsafe { sys::rd_kafka_queue_cb_event_enable(self.queue.0.as_ptr(), None, ptr::null_mut()) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: our reference, given back once.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// What a queue handed out. Owns what it shows.
pub(crate) struct Event(NonNull<sys::rd_kafka_event_t>);

/// The kinds of events that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Fetched,
    Delivered,
    Rebalance,
    Committed,
    /// The answer to [`Queue::ask_topic`].
    Topic,
    Error,
    Log,
    Other,
}

/// One partition of an event, with the offset and the error that came with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub partition: i32,
    pub offset: i64,
    pub error: Option<RDKafkaErrorCode>,
}

impl Event {
    pub(crate) fn kind(&self) -> Kind {
        // SAFETY: the event is alive, here and in all methods below.
        match unsafe { sys::rd_kafka_event_type(self.0.as_ptr()) } {
            sys::RD_KAFKA_EVENT_FETCH => Kind::Fetched,
            sys::RD_KAFKA_EVENT_DR => Kind::Delivered,
            sys::RD_KAFKA_EVENT_REBALANCE => Kind::Rebalance,
            sys::RD_KAFKA_EVENT_OFFSET_COMMIT => Kind::Committed,
            sys::RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT => Kind::Topic,
            sys::RD_KAFKA_EVENT_ERROR => Kind::Error,
            sys::RD_KAFKA_EVENT_LOG => Kind::Log,
            _ => Kind::Other,
        }
    }

    pub(crate) fn error(&self) -> Option<RDKafkaErrorCode> {
        // SAFETY: see `kind`.
        code(unsafe { sys::rd_kafka_event_error(self.0.as_ptr()) })
    }

    /// The error in librdkafka's and the broker's words.
    pub(crate) fn text(&self) -> String {
        // SAFETY: the string belongs to the event, or is static.
        unsafe { text(sys::rd_kafka_event_error_string(self.0.as_ptr())) }
    }

    /// Nothing can be done with this client any more.
    pub(crate) fn is_fatal(&self) -> bool {
        // SAFETY: see `kind`.
        unsafe { sys::rd_kafka_event_error_is_fatal(self.0.as_ptr()) != 0 }
    }

    /// The partition an error is about.
    pub(crate) fn place(&self) -> Option<Place> {
        // SAFETY: the answer is ours to destroy, or null.
        unsafe {
            let found = NonNull::new(sys::rd_kafka_event_topic_partition(self.0.as_ptr()))?;
            let place = read_place(found.as_ref());
            sys::rd_kafka_topic_partition_destroy(found.as_ptr());
            Some(place)
        }
    }

    /// The partitions of a rebalance or of a commit's answer.
    pub(crate) fn places(&self) -> Vec<Place> {
        // SAFETY: the list belongs to the event and holds `cnt` elements.
        unsafe {
            let Some(list) = sys::rd_kafka_event_topic_partition_list(self.0.as_ptr()).as_ref() else {
                return Vec::new();
            };
            let count = usize::try_from(list.cnt).unwrap_or(0);
            if count == 0 {
                return Vec::new();
            }
            slice::from_raw_parts(list.elems, count).iter().map(read_place).collect()
        }
    }

    /// The identity of the topic that was asked for, where there is one and the broker knows identities (KIP-516).
    pub(crate) fn topic_id(&self) -> Option<(i64, i64)> {
        // SAFETY: result, descriptions and id belong to the event; a description is valid when there is one.
        unsafe {
            let result = sys::rd_kafka_event_DescribeTopics_result(self.0.as_ptr());
            let mut count = 0;
            let topics = (!result.is_null()).then(|| sys::rd_kafka_DescribeTopics_result_topics(result, &mut count))?;
            if topics.is_null() || count == 0 {
                return None;
            }
            let topic = *topics;
            let error = sys::rd_kafka_TopicDescription_error(topic);
            if !error.is_null() && code(sys::rd_kafka_error_code(error)).is_some() {
                return None;
            }
            let id = sys::rd_kafka_TopicDescription_topic_id(topic);
            let id = (!id.is_null()).then(|| {
                (sys::rd_kafka_Uuid_most_significant_bits(id), sys::rd_kafka_Uuid_least_significant_bits(id))
            })?;
            (id != (0, 0)).then_some(id)
        }
    }

    /// Level (as in syslog), facility and line of a log event.
    pub(crate) fn log(&self) -> Option<(i32, String, String)> {
        let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the strings belong to the event.
        unsafe {
            let found = sys::rd_kafka_event_log(self.0.as_ptr(), &mut facility, &mut line, &mut level) == 0;
            found.then(|| (level, text(facility), text(line)))
        }
    }

    /// The record of a fetch event: there is one at most.
    pub(crate) fn into_record(self) -> Option<Record> {
        // SAFETY: the message belongs to the event, which the answer owns.
        let message = NonNull::new(unsafe { sys::rd_kafka_event_message_next(self.0.as_ptr()) }.cast_mut())?;
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive; the headers stay its own.
        let error = unsafe { sys::rd_kafka_message_headers(message.as_ptr(), &mut headers) };
        let headers = NonNull::new(headers).filter(|_| code(error).is_none());
        Some(Record { message, headers, _event: self })
    }

    /// Calls `each` for every delivery report of the event.
    pub(crate) fn reports(&self, mut each: impl FnMut(Report)) {
        // SAFETY: the array is filled with messages of the event, at most as many as it has room for.
        unsafe {
            let count = sys::rd_kafka_event_message_count(self.0.as_ptr());
            let mut messages: Vec<*const sys::rd_kafka_message_t> = vec![ptr::null(); count];
            let filled = sys::rd_kafka_event_message_array(self.0.as_ptr(), messages.as_mut_ptr(), count);
            for message in messages.into_iter().take(filled).filter_map(|m| m.as_ref()) {
                use sys::rd_kafka_msg_status_t::*;
                let possible = sys::rd_kafka_message_status(message) != RD_KAFKA_MSG_STATUS_NOT_PERSISTED;
                let tag = message._private as usize;
                let error = code(message.err);
                let words =
                    error.map(|_| text(sys::rd_kafka_message_produce_errstr(message))).filter(|t| !t.is_empty());
                let innocent = words.as_ref().is_some_and(|words| words.starts_with(INNOCENT));
                let error = if innocent { Some(RDKafkaErrorCode::InvalidDifferentRecord) } else { error };
                each(Report { tag, error, perhaps_stored: possible, words: words.map(Into::into) });
            }
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is ours and is given back once.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// What became of one produced message; `tag` is what [`produce`] was given.
pub(crate) struct Report {
    pub tag: usize,
    pub error: Option<RDKafkaErrorCode>,
    pub perhaps_stored: bool,
    /// The broker's own, where it said more than a code.
    pub words: Option<Arc<str>>,
}

/// librdkafka gives the code of one refused record to its whole batch, and tells the others apart by these words only
/// (`rd_kafka_msgbatch_handle_Produce_result_record_errors`). Should they change, a batch is refused as a whole.
const INNOCENT: &str = "Failed to append record because it was part of a batch";

/// One record as librdkafka holds it.
pub(crate) struct Record {
    message: NonNull<sys::rd_kafka_message_t>,
    headers: Option<NonNull<sys::rd_kafka_headers_t>>,
    _event: Event,
}

impl Record {
    fn message(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: the message lives as long as its event, and nobody writes to it.
        unsafe { self.message.as_ref() }
    }

    pub(crate) fn partition(&self) -> i32 {
        self.message().partition
    }

    pub(crate) fn offset(&self) -> i64 {
        self.message().offset
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        // SAFETY: the buffers belong to the message.
        unsafe { bytes(self.message().key, self.message().key_len) }
    }

    pub(crate) fn value(&self) -> Option<&[u8]> {
        // SAFETY: as above.
        unsafe { bytes(self.message().payload, self.message().len) }
    }

    /// Milliseconds; -1 is none.
    pub(crate) fn time(&self) -> i64 {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive.
        let time = unsafe { sys::rd_kafka_message_timestamp(self.message(), &mut kind) };
        if kind == sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE { -1 } else { time }
    }

    pub(crate) fn header_count(&self) -> usize {
        // SAFETY: the headers belong to the message.
        self.headers.map_or(0, |headers| unsafe { sys::rd_kafka_header_cnt(headers.as_ptr()) })
    }

    /// Names and values in order.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        (0..self.header_count()).map_while(move |index| {
            let headers = self.headers?.as_ptr();
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            // SAFETY: name and value belong to the message.
            unsafe {
                let error = sys::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size);
                if code(error).is_some() || name.is_null() {
                    return None;
                }
                Some((header_name(name), bytes(value, size)))
            }
        })
    }
}

/// A header's name in full. librdkafka shows where it begins and not how long it is, so that one with a NUL in it would be
/// cut there. The length stands in front of the name and of the pointer to the value: `rd_kafka_header_s` in
/// `rdkafka_header.h` of librdkafka 2.12, which is built with this crate; the test below holds it to that.
///
/// # Safety
/// `name` was given by `rd_kafka_header_get_all`, and its headers live for `'a`.
unsafe fn header_name<'a>(name: *const c_char) -> &'a [u8] {
    #[repr(C)]
    struct Front {
        name_size: usize,
        value: *const c_void,
    }
    // SAFETY: the name lies in a `rd_kafka_header_s`, right behind these two fields, and is as long as the first one says.
    unsafe {
        let front = name.byte_sub(size_of::<Front>()).cast::<Front>().read_unaligned();
        slice::from_raw_parts(name.cast(), front.name_size)
    }
}

/// A topic of one producer, found once. Must be dropped before its client is destroyed.
pub(crate) struct Topic(NonNull<sys::rd_kafka_topic_t>);

// SAFETY: librdkafka's topics are made to be used from several threads.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

impl Topic {
    pub(crate) fn of<C: ClientContext>(client: &Client<C>, name: &CStr) -> Option<Topic> {
        // SAFETY: the client's pointer is valid while it is borrowed and the name is copied; the answer is a new reference or
        // null. Without settings of its own it has those of the client.
        NonNull::new(unsafe { sys::rd_kafka_topic_new(client.native_ptr(), name.as_ptr(), ptr::null_mut()) }).map(Topic)
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: our reference, given back once.
        unsafe { sys::rd_kafka_topic_destroy(self.0.as_ptr()) }
    }
}

/// Hands a message to the producer, which copies it. `time` 0 would become the present: librdkafka cannot say it.
pub(crate) fn produce<C: ClientContext>(
    client: &Client<C>,
    topic: &Topic,
    partition: i32,
    message: &Message,
    time: i64,
    extra_header: Option<(&[u8], &[u8])>,
    tag: usize,
) -> Result<(), RDKafkaErrorCode> {
    use sys::rd_kafka_vtype_t::*;
    let (key, key_len) = pointer(message.key.as_deref());
    let (value, value_len) = pointer(message.value.as_deref());
    let count = message.headers.len() + usize::from(extra_header.is_some());
    // SAFETY: every pointer is valid during the call; RD_KAFKA_MSG_F_COPY copies key and value, and the headers are ours
    // until the call succeeded. Vararg types are those of the macros in rdkafka.h.
    unsafe {
        let headers = if count == 0 { ptr::null_mut() } else { sys::rd_kafka_headers_new(count) };
        let native = message.headers.iter().map(|h| (&h.name[..], h.value.as_deref()));
        for (name, content) in native.chain(extra_header.map(|(name, content)| (name, Some(content)))) {
            let (content, content_len) = pointer(content);
            let name_len = name.len() as isize;
            sys::rd_kafka_header_add(headers, name.as_ptr().cast(), name_len, content, content_len as isize);
        }
        let error = sys::rd_kafka_producev(
            client.native_ptr(),
            RD_KAFKA_VTYPE_RKT,
            topic.0.as_ptr(),
            RD_KAFKA_VTYPE_PARTITION,
            partition,
            RD_KAFKA_VTYPE_MSGFLAGS,
            sys::RD_KAFKA_MSG_F_COPY as c_int,
            RD_KAFKA_VTYPE_KEY,
            key,
            key_len,
            RD_KAFKA_VTYPE_VALUE,
            value,
            value_len,
            RD_KAFKA_VTYPE_TIMESTAMP,
            time,
            RD_KAFKA_VTYPE_HEADERS,
            headers,
            RD_KAFKA_VTYPE_OPAQUE,
            tag as *mut c_void,
            RD_KAFKA_VTYPE_END,
        );
        match code(error) {
            None => Ok(()),
            Some(error) => {
                if !headers.is_null() {
                    sys::rd_kafka_headers_destroy(headers);
                }
                Err(error)
            }
        }
    }
}

/// Lowest and end offset of a partition as the last fetch told them, without asking the broker.
pub(crate) fn known_end<C: ClientContext>(client: &Client<C>, topic: &CString, partition: i32) -> Option<i64> {
    let (mut low, mut high) = (-1, -1);
    // SAFETY: client and name are alive during the call.
    let error = unsafe {
        sys::rd_kafka_get_watermark_offsets(client.native_ptr(), topic.as_ptr(), partition, &mut low, &mut high)
    };
    (code(error).is_none() && high >= 0).then_some(high)
}

fn code(error: RDKafkaRespErr) -> Option<RDKafkaErrorCode> {
    (error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| error.into())
}

fn read_place(element: &sys::rd_kafka_topic_partition_t) -> Place {
    Place { partition: element.partition, offset: element.offset, error: code(element.err) }
}

/// Null stays null; an empty slice has an address that is not null.
fn pointer(content: Option<&[u8]>) -> (*const c_void, usize) {
    content.map_or((ptr::null(), 0), |content| (content.as_ptr().cast(), content.len()))
}

/// # Safety
/// `start` is null, or `len` bytes live there for `'a`.
unsafe fn bytes<'a>(start: *const c_void, len: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    Some(unsafe { slice::from_raw_parts(start.cast(), len) })
}

/// # Safety
/// `string` is null or a C string.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_name_is_read_in_full_whatever_is_in_it() {
        let names: [&[u8]; 5] = [b"plain", b"", b"a\0b", b"\0", b"\xff\0"];
        // SAFETY: the headers live until they are destroyed, and the pointers are valid during each call.
        unsafe {
            let headers = sys::rd_kafka_headers_new(1);
            for (name, value) in names.iter().flat_map(|name| [(name, None), (name, Some(&b"v\0w"[..]))]) {
                let (value, size) = pointer(value);
                sys::rd_kafka_header_add(headers, name.as_ptr().cast(), name.len() as isize, value, size as isize);
            }
            for (index, expected) in names.iter().flat_map(|name| [name, name]).enumerate() {
                let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
                sys::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size);
                assert_eq!(&header_name(name), expected);
            }
            sys::rd_kafka_headers_destroy(headers);
        }
    }
}
