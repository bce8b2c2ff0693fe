//! The few calls of librdkafka that the loops need, in their batch form.
//!
//! Nothing of the host is used here: the loops are what it is measured against. All `unsafe` of the
//! benchmark is in this file.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::slice;

use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t::{RD_KAFKA_RESP_ERR__QUEUE_FULL, RD_KAFKA_RESP_ERR_NO_ERROR};
use tributary_harness::{Context, Error, Result};

/// Messages handed over by one call.
const CHUNK: usize = 256;
const PARTITION_ANY: i32 = -1;

/// What the delivery reports say so far.
#[derive(Debug, Default)]
struct Delivered {
    good: u64,
    failed: u64,
}

/// A producer for one topic. It is not shared, so its reports come in its own calls.
pub struct Producer {
    client: *mut sys::rd_kafka_t,
    topic: *mut sys::rd_kafka_topic_t,
    delivered: *mut Delivered,
    chunk: Vec<sys::rd_kafka_message_t>,
}

impl Producer {
    pub fn new(bootstrap: &str, topic: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let conf = configure(bootstrap, settings)?;
        let delivered = Box::into_raw(Box::<Delivered>::default());
        // SAFETY: `conf` is live; `delivered` lives until after the client is destroyed (see `drop`).
        unsafe {
            sys::rd_kafka_conf_set_opaque(conf, delivered.cast());
            sys::rd_kafka_conf_set_dr_msg_cb(conf, Some(on_delivery));
        }
        let client = create(sys::rd_kafka_type_t::RD_KAFKA_PRODUCER, conf)?;
        let name = CString::new(topic).context("a topic name with a zero byte")?;
        // SAFETY: the client is live, the name ends with zero, and no topic configuration is given.
        let topic = unsafe { sys::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut()) };
        Ok(Self { client, topic, delivered, chunk: Vec::with_capacity(CHUNK) })
    }

    /// Sends values, copied by the call; waits where the queue is full.
    pub fn send(&mut self, values: &[&[u8]]) {
        for values in values.chunks(CHUNK) {
            let mut left = values;
            while !left.is_empty() {
                let taken = self.send_chunk(left);
                self.poll(if taken < left.len() { 100 } else { 0 });
                left = &left[taken..];
            }
        }
    }

    fn send_chunk(&mut self, values: &[&[u8]]) -> usize {
        self.chunk.clear();
        self.chunk.extend(values.iter().map(|value| sys::rd_kafka_message_t {
            err: RD_KAFKA_RESP_ERR_NO_ERROR,
            rkt: ptr::null_mut(),
            partition: PARTITION_ANY,
            payload: value.as_ptr().cast_mut().cast(),
            len: value.len(),
            key: ptr::null_mut(),
            key_len: 0,
            offset: 0,
            _private: ptr::null_mut(),
        }));
        let count = i32::try_from(self.chunk.len()).expect("a chunk is small");
        // SAFETY: topic and messages are live; with F_COPY librdkafka keeps no pointer into the values.
        let taken = unsafe {
            let flags = sys::RD_KAFKA_MSG_F_COPY;
            sys::rd_kafka_produce_batch(self.topic, PARTITION_ANY, flags, self.chunk.as_mut_ptr(), count)
        };
        // A full queue refuses the rest of the chunk, so what was taken comes first.
        let refused = |message: &sys::rd_kafka_message_t| message.err == RD_KAFKA_RESP_ERR__QUEUE_FULL;
        let first_refused = self.chunk.iter().position(refused).unwrap_or(self.chunk.len());
        debug_assert_eq!(usize::try_from(taken).ok(), Some(first_refused));
        first_refused
    }

    /// Takes delivery reports.
    pub fn poll(&mut self, timeout_ms: i32) {
        // SAFETY: the client is live.
        unsafe { sys::rd_kafka_poll(self.client, timeout_ms) };
    }

    /// Messages acknowledged so far.
    pub fn delivered(&self) -> u64 {
        // SAFETY: it is live, and the reports, which are what else touches it, come only in calls that take `&mut self`.
        unsafe { (*self.delivered).good }
    }

    /// Waits until all is acknowledged; the number of messages that are.
    pub fn finish(&mut self) -> Result<u64> {
        // SAFETY: the client is live; the reports, which are what else touches `delivered`, come only in this call.
        let (code, delivered) = unsafe { (sys::rd_kafka_flush(self.client, 60_000), &*self.delivered) };
        if code != RD_KAFKA_RESP_ERR_NO_ERROR || delivered.failed > 0 {
            return Err(Error::new(format!("flush: {code:?}, {} messages failed", delivered.failed)));
        }
        Ok(delivered.good)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // SAFETY: all three are live and owned; the client goes before what its reports point to.
        unsafe {
            sys::rd_kafka_topic_destroy(self.topic);
            sys::rd_kafka_destroy(self.client);
            drop(Box::from_raw(self.delivered));
        }
    }
}

unsafe extern "C" fn on_delivery(
    _client: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    delivered: *mut c_void,
) {
    // SAFETY: librdkafka passes a live message, and the opaque pointer of the configuration, which is a
    // `Delivered` that nobody else looks at during `rd_kafka_poll` and `rd_kafka_flush`.
    let (error, delivered) = unsafe { ((*message).err, &mut *delivered.cast::<Delivered>()) };
    if error == RD_KAFKA_RESP_ERR_NO_ERROR {
        delivered.good += 1;
    } else {
        delivered.failed += 1;
    }
}

/// A consumer that is a member of a group.
pub struct Consumer {
    client: *mut sys::rd_kafka_t,
    queue: *mut sys::rd_kafka_queue_t,
    messages: Vec<*mut sys::rd_kafka_message_t>,
}

impl Consumer {
    pub fn new(bootstrap: &str, group: &str, topic: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let conf = configure(bootstrap, settings)?;
        set(conf, "group.id", group)?;
        let client = create(sys::rd_kafka_type_t::RD_KAFKA_CONSUMER, conf)?;
        let name = CString::new(topic).context("a topic name with a zero byte")?;
        // SAFETY: the client is live; the list is copied by `subscribe` and freed here.
        let (code, queue) = unsafe {
            sys::rd_kafka_poll_set_consumer(client);
            let topics = sys::rd_kafka_topic_partition_list_new(1);
            sys::rd_kafka_topic_partition_list_add(topics, name.as_ptr(), PARTITION_ANY);
            let code = sys::rd_kafka_subscribe(client, topics);
            sys::rd_kafka_topic_partition_list_destroy(topics);
            (code, sys::rd_kafka_queue_get_consumer(client))
        };
        let consumer = Self { client, queue, messages: Vec::with_capacity(4096) };
        if code != RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(Error::new(format!("cannot subscribe to {topic}: {code:?}")));
        }
        Ok(consumer)
    }

    /// Calls `each` with the values that are there, at most some thousands; waits up to a tenth of a second.
    pub fn receive(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        // SAFETY: the queue is live, there is room for as many pointers, and the call fills in as many as it says.
        unsafe {
            let room = self.messages.capacity();
            let count = sys::rd_kafka_consume_batch_queue(self.queue, 100, self.messages.as_mut_ptr(), room);
            self.messages.set_len(usize::try_from(count).unwrap_or(0));
        }
        let mut count = 0;
        let mut outcome = Ok(());
        for message in self.messages.drain(..) {
            // SAFETY: the message is live and owned until it is destroyed, once, below.
            unsafe {
                let m = &*message;
                if outcome.is_ok() {
                    if m.err != RD_KAFKA_RESP_ERR_NO_ERROR {
                        outcome = Err(Error::new(format!("consuming: {:?}", m.err)));
                    } else {
                        let value = if m.len == 0 { &[] } else { slice::from_raw_parts(m.payload.cast::<u8>(), m.len) };
                        outcome = each(value);
                        count += 1;
                    }
                }
                if outcome.is_ok() {
                    sys::rd_kafka_offset_store_message(message);
                }
                sys::rd_kafka_message_destroy(message);
            }
        }
        outcome.map(|()| count)
    }

    /// Commits what was received, waiting for the answer.
    pub fn commit(&mut self) -> Result<()> {
        // SAFETY: the client is live; without a list it commits the stored offsets.
        let code = unsafe { sys::rd_kafka_commit(self.client, ptr::null(), 0) };
        if code == RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(());
        }
        Err(Error::new(format!("commit: {code:?}")))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // SAFETY: both are live and owned.
        unsafe {
            sys::rd_kafka_queue_destroy(self.queue);
            sys::rd_kafka_consumer_close(self.client);
            sys::rd_kafka_destroy(self.client);
        }
    }
}

fn configure(bootstrap: &str, settings: &[(&str, &str)]) -> Result<*mut sys::rd_kafka_conf_t> {
    // SAFETY: takes nothing.
    let conf = unsafe { sys::rd_kafka_conf_new() };
    set(conf, "bootstrap.servers", bootstrap)?;
    for (key, value) in settings {
        set(conf, key, value)?;
    }
    Ok(conf)
}

fn set(conf: *mut sys::rd_kafka_conf_t, key: &str, value: &str) -> Result<()> {
    let (name, text) = (CString::new(key).context("a zero byte")?, CString::new(value).context("a zero byte")?);
    let mut error = [0 as c_char; 512];
    // SAFETY: `conf` is live, both strings end with zero, and the buffer is as long as the call is told.
    let result = unsafe { sys::rd_kafka_conf_set(conf, name.as_ptr(), text.as_ptr(), error.as_mut_ptr(), error.len()) };
    if result == sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
        return Ok(());
    }
    Err(Error::new(format!("{key}={value}: {}", message(&error))))
}

/// Takes the configuration over.
fn create(kind: sys::rd_kafka_type_t, conf: *mut sys::rd_kafka_conf_t) -> Result<*mut sys::rd_kafka_t> {
    let mut error = [0 as c_char; 512];
    // SAFETY: `conf` is live and from here on the client's; the buffer is as long as the call is told.
    let client = unsafe { sys::rd_kafka_new(kind, conf, error.as_mut_ptr(), error.len()) };
    if client.is_null() {
        return Err(Error::new(format!("cannot make a Kafka client: {}", message(&error))));
    }
    Ok(client)
}

fn message(buffer: &[c_char]) -> String {
    // SAFETY: librdkafka ends what it writes with zero, and the buffer was zero before.
    unsafe { CStr::from_ptr(buffer.as_ptr()) }.to_string_lossy().into_owned()
}
