//! The limit: librdkafka's batch calls with the same settings and nothing around them.

use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;

const PRODUCER: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("partitioner", "murmur2_random"),
    ("linger.ms", "5"),
    ("batch.size", "1000000"),
    ("batch.num.messages", "10000"),
    ("queue.buffering.max.kbytes", "32768"),
    ("queue.buffering.max.messages", "200000"),
];
const CONSUMER: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("auto.offset.reset", "earliest"),
    ("partition.assignment.strategy", "range"),
    ("fetch.queue.backoff.ms", "10"),
    ("queued.max.messages.kbytes", "32768"),
    ("queued.min.messages", "50000"),
];

fn client(
    kind: sys::rd_kafka_type_t,
    bootstrap: &str,
    settings: &[(&str, &str)],
    delivered: *mut u64,
) -> *mut sys::rd_kafka_t {
    let mut reason = [0 as c_char; 512];
    // SAFETY: `conf` is owned until it becomes the client's; all strings end with zero; `delivered` outlives the client.
    unsafe {
        let conf = sys::rd_kafka_conf_new();
        for (key, value) in settings.iter().chain(&[("bootstrap.servers", bootstrap)]) {
            let (key, value) = (CString::new(*key).unwrap(), CString::new(*value).unwrap());
            sys::rd_kafka_conf_set(conf, key.as_ptr(), value.as_ptr(), reason.as_mut_ptr(), reason.len());
        }
        if !delivered.is_null() {
            sys::rd_kafka_conf_set_opaque(conf, delivered.cast());
            sys::rd_kafka_conf_set_dr_msg_cb(conf, Some(on_delivery));
        }
        let client = sys::rd_kafka_new(kind, conf, reason.as_mut_ptr(), reason.len());
        assert!(!client.is_null());
        client
    }
}

unsafe extern "C" fn on_delivery(
    _: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    delivered: *mut c_void,
) {
    // SAFETY: a live message, and the counter that only these calls touch.
    unsafe { *delivered.cast::<u64>() += u64::from((*message).err == RD_KAFKA_RESP_ERR_NO_ERROR) }
}

pub fn produce(bootstrap: &str, topic: &str, records: usize, line: &str) -> String {
    let mut delivered = 0_u64;
    let client = client(sys::rd_kafka_type_t::RD_KAFKA_PRODUCER, bootstrap, PRODUCER, &mut delivered);
    let name = CString::new(topic).unwrap();
    // SAFETY: everything is live until it is destroyed at the end.
    unsafe {
        let topic = sys::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut());
        let message = sys::rd_kafka_message_t {
            err: RD_KAFKA_RESP_ERR_NO_ERROR,
            rkt: ptr::null_mut(),
            partition: -1,
            payload: line.as_ptr() as *mut c_void,
            len: line.len(),
            key: ptr::null_mut(),
            key_len: 0,
            offset: 0,
            _private: ptr::null_mut(),
        };
        let mut chunk = vec![message; 256];
        let mut sent = 0;
        while sent < records {
            let count = chunk.len().min(records - sent);
            let taken =
                sys::rd_kafka_produce_batch(topic, -1, sys::RD_KAFKA_MSG_F_COPY, chunk.as_mut_ptr(), count as i32);
            sent += taken as usize;
            sys::rd_kafka_poll(client, if (taken as usize) < count { 100 } else { 0 });
        }
        sys::rd_kafka_flush(client, 60_000);
        assert_eq!(ptr::read_volatile(&delivered), records as u64);
        sys::rd_kafka_topic_destroy(topic);
        sys::rd_kafka_destroy(client);
    }
    String::new()
}

pub fn consume(bootstrap: &str, topic: &str, records: usize) -> String {
    static GROUP: AtomicU32 = AtomicU32::new(0);
    let group = format!("raw-{}", GROUP.fetch_add(1, Ordering::Relaxed));
    let settings: Vec<_> = CONSUMER.iter().copied().chain([("group.id", group.as_str())]).collect();
    let client = client(sys::rd_kafka_type_t::RD_KAFKA_CONSUMER, bootstrap, &settings, ptr::null_mut());
    let name = CString::new(topic).unwrap();
    let (mut count, mut bytes) = (0, 0);
    let begin = std::time::Instant::now();
    let mut first = None;
    // SAFETY: everything is live until it is destroyed; the process outlives the client that is left open.
    unsafe {
        sys::rd_kafka_poll_set_consumer(client);
        let topics = sys::rd_kafka_topic_partition_list_new(1);
        sys::rd_kafka_topic_partition_list_add(topics, name.as_ptr(), -1);
        sys::rd_kafka_subscribe(client, topics);
        sys::rd_kafka_topic_partition_list_destroy(topics);
        let queue = sys::rd_kafka_queue_get_consumer(client);
        let mut messages = vec![ptr::null_mut(); 4096];
        while count < records {
            let n = sys::rd_kafka_consume_batch_queue(queue, 20, messages.as_mut_ptr(), messages.len());
            for message in &messages[..n.max(0) as usize] {
                first.get_or_insert_with(|| begin.elapsed());
                bytes += (**message).len;
                count += 1;
                sys::rd_kafka_message_destroy(*message);
            }
        }
        sys::rd_kafka_queue_destroy(queue);
        let client = client as usize;
        std::thread::spawn(move || {
            sys::rd_kafka_consumer_close(client as *mut sys::rd_kafka_t);
            sys::rd_kafka_destroy(client as *mut sys::rd_kafka_t);
        });
    }
    let rate = count as f64 / (begin.elapsed() - first.unwrap_or_default()).as_secs_f64();
    format!("{:.0} MB, first after {:?}, then {:.2} M/s", bytes as f64 / 1e6, first.unwrap_or_default(), rate / 1e6)
}
