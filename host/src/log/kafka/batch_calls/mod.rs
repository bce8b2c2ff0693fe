//! The calls into librdkafka: clients, batches out, batches in.
//!
//! The only directory of the log with `unsafe`. Everything else sees safe types: [`Client`] owns a handle and
//! the state its callbacks write to, [`Messages`] owns fetched messages, and no pointer leaves.
//!
//! Threads: a `Client` belongs to one thread at a time. Its delivery, error and rebalance callbacks run
//! inside that thread's own calls; only the log callback runs on librdkafka's threads, and touches nothing
//! but [`ClientLog`].
//!
//! Destroying a client joins its threads and can hang, so it happens on a thread of its own, always.

mod admin;
mod consume;
#[cfg(target_os = "linux")]
mod poll;
mod produce;
mod transactions;

pub(super) use consume::{Message, Messages};
pub(super) use transactions::group_metadata;

use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use super::super::deliveries::Deliveries;
use super::super::{CommittedOffset, LogError, TopicPartition};
use super::client_log::ClientLog;
use super::errors;
use super::settings::{ClientKind, NativeSettings};
use crate::group::wire::security::oauth::Tokens;

/// librdkafka's `RD_KAFKA_PARTITION_UA`: the partitioner decides.
const PARTITION_UNASSIGNED: i32 = -1;

/// A rebalance as librdkafka announced it; it waits until the assignment is changed.
#[derive(Debug)]
pub(super) enum Rebalance {
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
}

/// Ends a consumer's waiting, from any thread; does nothing once the client is gone.
#[derive(Default)]
pub(super) struct QueueWaker {
    /// A reference of its own to the consumer's queue.
    queue: Mutex<Option<NonNull<sys::rd_kafka_queue_t>>>,
    woken: AtomicBool,
}

// SAFETY: the queue is only used under the lock, by a call that librdkafka allows from any thread.
unsafe impl Send for QueueWaker {}
// SAFETY: as above.
unsafe impl Sync for QueueWaker {}

impl QueueWaker {
    /// Wakes the consumer, or keeps its next call from waiting.
    pub(super) fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        if let Some(queue) = *self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
            // SAFETY: the reference is live until it is taken out, under this lock.
            unsafe { sys::rd_kafka_queue_yield(queue.as_ptr()) }
        }
    }

    fn close(&self) {
        if let Some(queue) = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // SAFETY: owned, and not used again.
            unsafe { sys::rd_kafka_queue_destroy(queue.as_ptr()) }
        }
    }
}

/// What the callbacks write to. Lives as long as the native client.
struct Shared {
    log: ClientLog,
    /// For OAUTHBEARER.
    tokens: Option<Tokens>,
    /// For consumers.
    waker: Arc<QueueWaker>,
    /// Touched by the owning thread only, never while it is inside a call that runs callbacks.
    state: UnsafeCell<State>,
}

#[derive(Default)]
struct State {
    deliveries: Deliveries,
    rebalances: Vec<Rebalance>,
    fatal: Option<LogError>,
    consumer_queue: Option<NonNull<sys::rd_kafka_queue_t>>,
    closing: bool,
}

/// How long a transactional producer that ends waits for answers to what it has sent.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// A producer or consumer of librdkafka.
pub(super) struct Client {
    native: Option<Native>,
}

/// The handle and all that it points to, which are freed together.
struct Native {
    rk: NonNull<sys::rd_kafka_t>,
    topics: HashMap<String, NonNull<sys::rd_kafka_topic_t>>,
    chunk: Vec<sys::rd_kafka_message_t>,
    shared: Box<Shared>,
    kind: ClientKind,
    /// It has a `transactional.id`.
    transactional: bool,
}

// SAFETY: librdkafka's handles may be used from any thread; `Shared` is only reached through `Client`,
// which is not `Sync`, and through callbacks that run inside the owning thread's calls.
unsafe impl Send for Native {}

/// A list of partitions with offsets, owned.
struct PartitionList(NonNull<sys::rd_kafka_topic_partition_list_t>);

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: the list was made by librdkafka, is owned, and is not used again.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.0.as_ptr()) }
    }
}

impl PartitionList {
    fn new<'a>(partitions: impl ExactSizeIterator<Item = (&'a TopicPartition, i64)>) -> Result<Self, LogError> {
        // SAFETY: allocates; never null (librdkafka aborts without memory).
        let list =
            unsafe { Self(NonNull::new_unchecked(sys::rd_kafka_topic_partition_list_new(partitions.len() as c_int))) };
        for (partition, offset) in partitions {
            let topic = c_string(&partition.topic)?;
            // SAFETY: the list is live, the name is copied, and the element is valid until the next change of the list.
            unsafe {
                (*sys::rd_kafka_topic_partition_list_add(list.0.as_ptr(), topic.as_ptr(), partition.partition)).offset =
                    offset
            };
        }
        Ok(list)
    }

    /// Partition, offset and error of each element.
    fn read(&self) -> Vec<(TopicPartition, i64, Code)> {
        // SAFETY: the list is live and owned.
        unsafe { read_list(self.0.as_ptr()) }
    }

    fn check(&self, operation: &str) -> Result<(), LogError> {
        for (partition, _, code) in self.read() {
            errors::check(code, || format!("{operation} {}-{}", partition.topic, partition.partition))?;
        }
        Ok(())
    }
}

/// The same with metadata, without the error.
///
/// # Safety
/// `list` is null or a live list.
unsafe fn read_commits(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<CommittedOffset> {
    // SAFETY: the caller's promise.
    let read = unsafe { read_list(list) };
    let with = |(i, (partition, offset, _)): (usize, (TopicPartition, i64, Code))| {
        // SAFETY: as many elements as were read; metadata is null or has as many bytes.
        let metadata = unsafe {
            let element = &*(*list).elems.add(i);
            match element.metadata.is_null() {
                true => "".into(),
                false => {
                    let bytes = std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size);
                    String::from_utf8_lossy(bytes).into()
                }
            }
        };
        CommittedOffset { partition, offset, metadata }
    };
    read.into_iter().enumerate().map(with).collect()
}

/// # Safety
/// `list` is null or a live list.
unsafe fn read_list(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<(TopicPartition, i64, Code)> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: `elems` has `cnt` initialised elements whose topics are C strings.
    unsafe {
        (0..(*list).cnt as usize)
            .map(|i| {
                let element = &*(*list).elems.add(i);
                let topic: Arc<str> = CStr::from_ptr(element.topic).to_string_lossy().into();
                (TopicPartition { topic, partition: element.partition }, element.offset, element.err)
            })
            .collect()
    }
}

/// # Safety
/// `text` is null or a C string.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text).to_string_lossy().into_owned() }
}

fn c_string(text: &str) -> Result<CString, LogError> {
    CString::new(text)
        .map_err(|_| LogError::fatal(format!("{text:?} holds a NUL character, which Kafka's names cannot")))
}

/// Rounded up: what is less than a millisecond would not be waited for at all, and be asked again and again.
fn millis(timeout: Duration) -> c_int {
    timeout.as_nanos().div_ceil(1_000_000).min(c_int::MAX as u128) as c_int
}

unsafe extern "C" fn on_log(rk: *const sys::rd_kafka_t, level: c_int, facility: *const c_char, line: *const c_char) {
    // SAFETY: librdkafka calls with a live handle, whose opaque is the `Shared` that outlives it, and C strings.
    unsafe {
        let shared = sys::rd_kafka_opaque(rk) as *const Shared;
        if !shared.is_null() {
            // Only `log` is borrowed, which is `Sync`.
            (*shared).log.line(level, &text(facility), &text(line));
        }
    }
}

unsafe extern "C" fn on_error(rk: *mut sys::rd_kafka_t, code: c_int, reason: *const c_char, opaque: *mut c_void) {
    // SAFETY: runs inside the owning thread's call, which holds no reference into `state`; `opaque` is the `Shared`.
    unsafe {
        let shared = &*(opaque as *const Shared);
        let state = &mut *shared.state.get();
        let code: Code = errors::from_raw(code);
        if code == Code::RD_KAFKA_RESP_ERR__FATAL {
            let mut reason = [0 as c_char; 512];
            let code = sys::rd_kafka_fatal_error(rk, reason.as_mut_ptr(), reason.len());
            state.fatal =
                Some(errors::fatal(code, &format!("client {}: {}", shared.log.client(), text(reason.as_ptr()))));
        } else if errors::ends_client(code) {
            state.fatal = Some(errors::from_code(code, &format!("client {}: {}", shared.log.client(), text(reason))));
        } else {
            shared.log.broker_away(&text(reason));
        }
    }
}

/// Runs on librdkafka's background thread; fetching a token may take a while there.
unsafe extern "C" fn on_token_refresh(rk: *mut sys::rd_kafka_t, _: *const c_char, opaque: *mut c_void) {
    // SAFETY: `opaque` is the `Shared`, of which only `tokens` and `log` are looked at, which are `Sync`; strings are
    // copied during the calls.
    unsafe {
        let shared = opaque as *const Shared;
        let Some(tokens) = &(*shared).tokens else { return };
        let failed = |reason: &str| {
            (*shared).log.broker_away(reason);
            let reason = CString::new(reason.replace('\0', " ")).unwrap_or_default();
            sys::rd_kafka_oauthbearer_set_token_failure(rk, reason.as_ptr());
        };
        let token = match tokens.token() {
            Ok(token) => token,
            Err(reason) => return failed(&reason),
        };
        let (Ok(value), Ok(principal)) = (CString::new(token.value), CString::new(token.principal)) else {
            return failed("the token holds a NUL character");
        };
        let mut reason = [0 as c_char; 512];
        let code = sys::rd_kafka_oauthbearer_set_token(
            rk,
            value.as_ptr(),
            token.expires_ms,
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            reason.as_mut_ptr(),
            reason.len(),
        );
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            failed(&text(reason.as_ptr()));
        }
    }
}

unsafe extern "C" fn on_delivery(
    _: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: as in `on_error`; the message is live during the call.
    unsafe {
        let state = &mut *(*(opaque as *const Shared)).state.get();
        let message_ref = &*message;
        let outcome = match message_ref.err {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok((message_ref.partition, message_ref.offset)),
            code => {
                let topic = text(sys::rd_kafka_topic_name(message_ref.rkt));
                Err(errors::from_code(code, &format!("writing to {topic}-{}", message_ref.partition)))
            }
        };
        state.deliveries.report_at(message_ref._private as usize, outcome);
    }
}

unsafe extern "C" fn on_rebalance(
    rk: *mut sys::rd_kafka_t,
    code: Code,
    partitions: *mut sys::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    // SAFETY: as in `on_error`; the list is live during the call.
    unsafe {
        let state = &mut *(*(opaque as *const Shared)).state.get();
        if state.closing {
            sys::rd_kafka_assign(rk, ptr::null());
            return;
        }
        let partitions = read_list(partitions).into_iter().map(|(partition, ..)| partition).collect();
        state.rebalances.push(match code {
            Code::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assigned(partitions),
            _ if sys::rd_kafka_assignment_lost(rk) != 0 => Rebalance::Lost(partitions),
            _ => Rebalance::Revoked(partitions),
        });
        // A consume call would go on waiting for records until its time-out.
        if let Some(queue) = state.consumer_queue {
            sys::rd_kafka_queue_yield(queue.as_ptr());
        }
    }
}

impl Client {
    /// Makes a client of these settings. Settings unknown to librdkafka are named in one log line.
    pub(super) fn new(kind: ClientKind, mut settings: NativeSettings, name: &str) -> Result<Self, LogError> {
        #[cfg(target_os = "linux")]
        poll::link();
        let transactional = settings.values.contains_key("transactional.id");
        let brokers = settings.values.get("bootstrap.servers").cloned().unwrap_or_default();
        let log = ClientLog::new(name, brokers);
        let shared = Box::new(Shared {
            log,
            tokens: settings.tokens.take(),
            waker: Arc::default(),
            state: UnsafeCell::default(),
        });
        // SAFETY: `conf` is owned until `rd_kafka_new` succeeds and is destroyed on every other path; the opaque
        // outlives the client, since `Native` frees it after `rd_kafka_destroy` has returned.
        let rk = unsafe {
            let conf = sys::rd_kafka_conf_new();
            let mut reason = [0 as c_char; 512];
            for (key, value) in &settings.values {
                let (name, setting) = match (c_string(key), c_string(value)) {
                    (Ok(name), Ok(setting)) => (name, setting),
                    (Err(error), _) | (_, Err(error)) => {
                        sys::rd_kafka_conf_destroy(conf);
                        return Err(error);
                    }
                };
                match sys::rd_kafka_conf_set(conf, name.as_ptr(), setting.as_ptr(), reason.as_mut_ptr(), reason.len()) {
                    sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => {}
                    sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_UNKNOWN => settings.left_out.push(key.clone()),
                    sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_INVALID => {
                        sys::rd_kafka_conf_destroy(conf);
                        let reason = if key.contains("password") { "refused".into() } else { text(reason.as_ptr()) };
                        return Err(LogError::fatal(format!("client setting {key}: {reason}")));
                    }
                }
            }
            sys::rd_kafka_conf_set_opaque(conf, &*shared as *const Shared as *mut c_void);
            sys::rd_kafka_conf_set_log_cb(conf, Some(on_log));
            sys::rd_kafka_conf_set_error_cb(conf, Some(on_error));
            if shared.tokens.is_some() {
                sys::rd_kafka_conf_set_oauthbearer_token_refresh_cb(conf, Some(on_token_refresh));
                sys::rd_kafka_conf_enable_sasl_queue(conf, 1);
            }
            let kind = match kind {
                ClientKind::Producer => {
                    sys::rd_kafka_conf_set_dr_msg_cb(conf, Some(on_delivery));
                    sys::rd_kafka_type_t::RD_KAFKA_PRODUCER
                }
                ClientKind::Consumer => {
                    sys::rd_kafka_conf_set_rebalance_cb(conf, Some(on_rebalance));
                    sys::rd_kafka_type_t::RD_KAFKA_CONSUMER
                }
            };
            match NonNull::new(sys::rd_kafka_new(kind, conf, reason.as_mut_ptr(), reason.len())) {
                Some(rk) => rk,
                None => {
                    sys::rd_kafka_conf_destroy(conf);
                    return Err(LogError::fatal(format!("making the Kafka client {name}: {}", text(reason.as_ptr()))));
                }
            }
        };
        if !settings.left_out.is_empty() && !settings.told {
            tracing::info!(
                client = name,
                settings = settings.left_out.join(" "),
                "client settings without an equivalent are left out"
            );
        }
        let mut native = Native { rk, topics: HashMap::new(), chunk: Vec::new(), shared, kind, transactional };
        if native.shared.tokens.is_some() {
            // SAFETY: the handle is live; from here on its own thread asks for tokens, whatever the owner does.
            let error = unsafe { sys::rd_kafka_sasl_background_callbacks_enable(rk.as_ptr()) };
            if !error.is_null() {
                // SAFETY: the error is owned, and not used again.
                unsafe { sys::rd_kafka_error_destroy(error) };
                native.destroy();
                return Err(LogError::fatal(format!("client {name}: its tokens cannot be renewed")));
            }
        }
        if kind == ClientKind::Consumer {
            // SAFETY: the handle is live; errors and logs come through the same queue as records from here on.
            unsafe {
                sys::rd_kafka_poll_set_consumer(rk.as_ptr());
                native.shared.state.get_mut().consumer_queue =
                    NonNull::new(sys::rd_kafka_queue_get_consumer(rk.as_ptr()));
                *native.shared.waker.queue.lock().unwrap_or_else(PoisonError::into_inner) =
                    NonNull::new(sys::rd_kafka_queue_get_consumer(rk.as_ptr()));
            }
        }
        Ok(Self { native: Some(native) })
    }

    fn native(&self) -> &Native {
        self.native.as_ref().expect("taken only when closed")
    }

    fn rk(&self) -> *mut sys::rd_kafka_t {
        self.native().rk.as_ptr()
    }

    fn state(&mut self) -> &mut State {
        self.native.as_mut().expect("taken only when closed").shared.state.get_mut()
    }

    /// Sends in flight and their reports.
    pub(super) fn deliveries(&mut self) -> &mut Deliveries {
        &mut self.state().deliveries
    }

    /// Rows in flight.
    pub(super) fn in_flight(&self) -> usize {
        // SAFETY: `self` is borrowed, so no call that runs callbacks is under way, and `Client` is not `Sync`.
        unsafe { (*self.native().shared.state.get()).deliveries.in_flight() }
    }

    /// Rebalances announced since the last call.
    pub(super) fn take_rebalances(&mut self) -> Vec<Rebalance> {
        std::mem::take(&mut self.state().rebalances)
    }

    /// What ends this consumer's waiting.
    pub(super) fn waker(&self) -> Arc<QueueWaker> {
        self.native().shared.waker.clone()
    }

    /// Whether it was woken since the last call.
    pub(super) fn take_woken(&self) -> bool {
        self.native().shared.waker.woken.swap(false, Ordering::AcqRel)
    }

    /// An error after which this client does nothing more.
    pub(super) fn fatal(&mut self) -> Result<(), LogError> {
        self.state().fatal.clone().map_or(Ok(()), Err)
    }

    /// What librdkafka or the client itself has to say about a broker that is away.
    pub(super) fn log(&self) -> &ClientLog {
        &self.native().shared.log
    }

    /// Serves delivery reports and errors, waiting up to `timeout` for the first.
    pub(super) fn serve(&mut self, timeout: Duration) {
        // SAFETY: the handle is live and no reference into the state is held.
        unsafe { sys::rd_kafka_poll(self.rk(), millis(timeout)) };
    }

    /// Sends without lingering and serves reports until nothing is queued or `timeout` passes.
    pub(super) fn flush(&mut self, timeout: Duration) {
        // SAFETY: as in `serve`.
        unsafe { sys::rd_kafka_flush(self.rk(), millis(timeout)) };
    }

    fn topic(&mut self, name: &str) -> Result<NonNull<sys::rd_kafka_topic_t>, LogError> {
        let native = self.native.as_mut().expect("taken only when closed");
        if let Some(topic) = native.topics.get(name) {
            return Ok(*topic);
        }
        let c_name = c_string(name)?;
        // SAFETY: the handle is live; a null configuration means the client's defaults; the name is copied.
        let topic = unsafe { sys::rd_kafka_topic_new(native.rk.as_ptr(), c_name.as_ptr(), ptr::null_mut()) };
        let topic = NonNull::new(topic)
            .ok_or_else(|| LogError::fatal(format!("topic name {name:?} is refused by the Kafka client")))?;
        native.topics.insert(name.to_owned(), topic);
        Ok(topic)
    }

    /// Frees the client on a thread of its own, waiting at most `timeout`; what was not sent is dropped.
    pub(super) fn close(mut self, timeout: Duration) -> Result<(), LogError> {
        let name = self.log().client().to_owned();
        let done = self.retire();
        match done.recv_timeout(timeout) {
            Err(mpsc::RecvTimeoutError::Timeout) => {
                tracing::warn!(
                    client = name,
                    ?timeout,
                    "the Kafka client did not close in time and is left to close by itself"
                );
                Err(LogError::retriable(format!(
                    "closing the Kafka client {name} took longer than {timeout:?}; it is left to close by itself"
                )))
            }
            _ => Ok(()),
        }
    }

    fn retire(&mut self) -> mpsc::Receiver<()> {
        let (sender, done) = mpsc::channel();
        if let Some(native) = self.native.take() {
            let spawned = std::thread::Builder::new().name("kafka-close".into()).spawn(move || {
                native.destroy();
                let _ = sender.send(());
            });
            if let Err(error) = spawned {
                // The closure, and the client with it, was dropped without being destroyed: a leak, not a crash.
                tracing::error!(%error, "no thread to close a Kafka client on; it is leaked");
            }
        }
        done
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.retire());
    }
}

impl Native {
    fn destroy(mut self) {
        let rk = self.rk.as_ptr();
        self.shared.waker.close();
        self.shared.state.get_mut().closing = true;
        // SAFETY: nothing else uses the handle; topics and the queue are released before it, and `shared` (with the
        // buffers that queued messages point into) is freed after it, when this function returns.
        unsafe {
            match self.kind {
                ClientKind::Producer => {
                    if self.transactional {
                        // While it ends, librdkafka frees the text of the last transaction error and keeps the pointer; an answer that comes
                        // after that and says that the producer is fenced frees it again. So what is under way is answered first.
                        sys::rd_kafka_purge(rk, sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_NON_BLOCKING);
                        sys::rd_kafka_flush(rk, millis(ANSWERED_WITHIN));
                    }
                    let purge = sys::RD_KAFKA_PURGE_F_QUEUE
                        | sys::RD_KAFKA_PURGE_F_INFLIGHT
                        | sys::RD_KAFKA_PURGE_F_NON_BLOCKING;
                    sys::rd_kafka_purge(rk, purge);
                }
                ClientKind::Consumer => {
                    sys::rd_kafka_consumer_close(rk);
                }
            }
            for topic in self.topics.values() {
                sys::rd_kafka_topic_destroy(topic.as_ptr());
            }
            let queue = self.shared.state.get_mut().consumer_queue.take();
            if let Some(queue) = queue {
                sys::rd_kafka_queue_destroy(queue.as_ptr());
            }
            sys::rd_kafka_destroy(rk);
        }
    }
}

/// Kafka's name of an error, such as `MSG_SIZE_TOO_LARGE`.
pub(super) fn code_name(code: Code) -> &'static str {
    // SAFETY: librdkafka answers with a static C string for every code.
    unsafe { CStr::from_ptr(sys::rd_kafka_err2name(code)) }.to_str().unwrap_or("UNKNOWN")
}

/// librdkafka's description of an error.
pub(super) fn code_text(code: Code) -> &'static str {
    // SAFETY: as for the name.
    unsafe { CStr::from_ptr(sys::rd_kafka_err2str(code)) }.to_str().unwrap_or("unknown error")
}
