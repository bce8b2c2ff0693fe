//! Records and group calls of a consumer.

use std::ffi::{CStr, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use super::super::super::{CommittedOffset, LogError, TopicPartition};
use super::super::errors;
use super::{Client, PARTITION_UNASSIGNED, PartitionList, c_string, millis, read_commits, text};

/// How long the coordinator may take to answer a commit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

impl Client {
    /// Pops up to `max` messages, waiting up to `timeout` until there are as many. Returns early for a rebalance.
    pub(in super::super) fn consume<'m>(
        &mut self,
        messages: &'m mut Messages,
        max: usize,
        timeout: Duration,
    ) -> &'m Messages {
        messages.clear();
        messages.raw.reserve(max);
        let Some(queue) = self.state().consumer_queue else { return messages };
        // SAFETY: the queue is live, there is room for `max` pointers, and the call initialises as many as it says.
        unsafe {
            let count = sys::rd_kafka_consume_batch_queue(
                queue.as_ptr(),
                millis(timeout),
                messages.raw.as_mut_ptr().cast(),
                max,
            );
            messages.raw.set_len(count.max(0) as usize);
        }
        messages
    }

    /// Joins the group with these topics.
    pub(in super::super) fn subscribe(&mut self, topics: &[String]) -> Result<(), LogError> {
        let partitions: Vec<_> = topics
            .iter()
            .map(|topic| TopicPartition { topic: topic.as_str().into(), partition: PARTITION_UNASSIGNED })
            .collect();
        let list = PartitionList::new(partitions.iter().map(|p| (p, sys::RD_KAFKA_OFFSET_INVALID as i64)))?;
        // SAFETY: the handle and the list are live; the list is copied.
        let code = unsafe { sys::rd_kafka_subscribe(self.rk(), list.0.as_ptr()) };
        errors::check(code, || format!("subscribing to {}", topics.join(",")))
    }

    /// Replaces the assignment; `None` gives it up. An offset of `None` means the committed one.
    pub(in super::super) fn assign(
        &mut self,
        partitions: Option<&[(TopicPartition, Option<i64>)]>,
    ) -> Result<(), LogError> {
        let list = partitions
            .map(|partitions| {
                PartitionList::new(partitions.iter().map(|(p, o)| (p, o.unwrap_or(sys::RD_KAFKA_OFFSET_STORED as i64))))
            })
            .transpose()?;
        let list = list.as_ref().map_or(ptr::null(), |list| list.0.as_ptr() as *const _);
        // SAFETY: the handle is live, the list is null or live, and is copied.
        errors::check(unsafe { sys::rd_kafka_assign(self.rk(), list) }, || "assigning partitions".into())
    }

    /// Stops or resumes delivery; records fetched before are dropped and fetched again.
    pub(in super::super) fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) -> Result<(), LogError> {
        let list = PartitionList::new(partitions.iter().map(|p| (p, 0)))?;
        // SAFETY: the handle and the list are live.
        let code = unsafe {
            if paused {
                sys::rd_kafka_pause_partitions(self.rk(), list.0.as_ptr())
            } else {
                sys::rd_kafka_resume_partitions(self.rk(), list.0.as_ptr())
            }
        };
        let operation = if paused { "pausing" } else { "resuming" };
        errors::check(code, || format!("{operation} partitions"))?;
        list.check(operation)
    }

    /// Moves the position of one partition. `__STATE` while the partition is only being started.
    pub(in super::super) fn seek(
        &mut self,
        partition: &TopicPartition,
        offset: i64,
        timeout: Duration,
    ) -> Result<(), LogError> {
        let list = PartitionList::new([(partition, offset)].into_iter())?;
        // SAFETY: the handle and the list are live; a returned error is owned and freed.
        unsafe {
            let error = sys::rd_kafka_seek_partitions(self.rk(), list.0.as_ptr(), millis(timeout));
            if !error.is_null() {
                let code = sys::rd_kafka_error_code(error);
                sys::rd_kafka_error_destroy(error);
                errors::check(code, || format!("seeking {}-{} to {offset}", partition.topic, partition.partition))?;
            }
        }
        list.check("seeking")
    }

    /// Commits next-to-read offsets and waits for the answer, at most for [`COMMIT_TIMEOUT`]: librdkafka's own waiting call
    /// has no end while the coordinator is away.
    pub(in super::super) fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        let list = PartitionList::new(offsets.iter().map(|(p, o)| (p, *o)))?;
        // SAFETY: the handle and the list are live; the queue is destroyed below, and librdkafka keeps its own reference
        // to it while an answer is under way. The event, where one came, is read before it is destroyed.
        let code = unsafe {
            let queue = sys::rd_kafka_queue_new(self.rk());
            let mut code = sys::rd_kafka_commit_queue(self.rk(), list.0.as_ptr(), queue, None, std::ptr::null_mut());
            if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                let event = sys::rd_kafka_queue_poll(queue, millis(COMMIT_TIMEOUT));
                code = if event.is_null() {
                    Code::RD_KAFKA_RESP_ERR__TIMED_OUT
                } else {
                    let code = sys::rd_kafka_event_error(event);
                    let answers = sys::rd_kafka_event_topic_partition_list(event);
                    let refused = (!answers.is_null())
                        .then(|| std::slice::from_raw_parts((*answers).elems, (*answers).cnt as usize))
                        .and_then(|answers| {
                            answers.iter().map(|answer| answer.err).find(|&err| err != Code::RD_KAFKA_RESP_ERR_NO_ERROR)
                        });
                    sys::rd_kafka_event_destroy(event);
                    if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { refused.unwrap_or(code) } else { code }
                };
            }
            sys::rd_kafka_queue_destroy(queue);
            code
        };
        errors::check(code, || format!("committing offsets of {} partitions", offsets.len()))
    }

    /// The group's committed offsets.
    pub(in super::super) fn committed(
        &mut self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, Option<i64>)>, LogError> {
        let list = PartitionList::new(partitions.iter().map(|p| (p, sys::RD_KAFKA_OFFSET_INVALID as i64)))?;
        // SAFETY: the handle and the list are live.
        let code = unsafe { sys::rd_kafka_committed(self.rk(), list.0.as_ptr(), millis(timeout)) };
        errors::check(code, || "reading committed offsets".into())?;
        list.check("reading the committed offset of")?;
        Ok(list.read().into_iter().map(|(p, offset, _)| (p, (offset >= 0).then_some(offset))).collect())
    }

    /// The same with metadata; those without an offset are left out.
    pub(in super::super) fn committed_with(
        &mut self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<CommittedOffset>, LogError> {
        let list = PartitionList::new(partitions.iter().map(|p| (p, sys::RD_KAFKA_OFFSET_INVALID as i64)))?;
        // SAFETY: the handle and the list are live.
        let code = unsafe { sys::rd_kafka_committed(self.rk(), list.0.as_ptr(), millis(timeout)) };
        errors::check(code, || "reading committed offsets".into())?;
        list.check("reading the committed offset of")?;
        // SAFETY: the list is live.
        let mut commits = unsafe { read_commits(list.0.as_ptr()) };
        commits.retain(|commit| commit.offset >= 0);
        Ok(commits)
    }

    /// The next offset to be delivered, where a record was delivered already.
    pub(in super::super) fn positions(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Option<i64>)>, LogError> {
        let list = PartitionList::new(partitions.iter().map(|p| (p, sys::RD_KAFKA_OFFSET_INVALID as i64)))?;
        // SAFETY: the handle and the list are live.
        errors::check(unsafe { sys::rd_kafka_position(self.rk(), list.0.as_ptr()) }, || "reading positions".into())?;
        Ok(list.read().into_iter().map(|(p, offset, _)| (p, (offset >= 0).then_some(offset))).collect())
    }

    /// The member's id and generation, where it is in its group.
    pub(in super::super) fn membership(&mut self) -> Option<(String, i32)> {
        // SAFETY: the handle is live; the metadata is owned, its strings are copied, and it is freed.
        unsafe {
            let metadata = sys::rd_kafka_consumer_group_metadata(self.rk());
            if metadata.is_null() {
                return None;
            }
            let member = text(sys::rd_kafka_consumer_group_metadata_member_id(metadata));
            let generation = sys::rd_kafka_consumer_group_metadata_generation_id(metadata);
            sys::rd_kafka_consumer_group_metadata_destroy(metadata);
            (generation >= 0 && !member.is_empty()).then_some((member, generation))
        }
    }

    /// First and next offset as the last fetch told them; no request is made.
    pub(in super::super) fn known_watermarks(&mut self, partition: &TopicPartition) -> Option<(i64, i64)> {
        let topic = c_string(&partition.topic).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the handle is live and the two results are ours.
        let code = unsafe {
            sys::rd_kafka_get_watermark_offsets(self.rk(), topic.as_ptr(), partition.partition, &mut low, &mut high)
        };
        (code == Code::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some((low, high))
    }
}

/// Fetched messages, owned until the next fetch.
#[derive(Default)]
pub(in super::super) struct Messages {
    raw: Vec<NonNull<sys::rd_kafka_message_t>>,
}

// SAFETY: messages may be read and destroyed from any thread.
unsafe impl Send for Messages {}

impl Drop for Messages {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Messages {
    /// Frees the messages. A client can only be destroyed in full once its messages are.
    pub(in super::super) fn clear(&mut self) {
        for message in self.raw.drain(..) {
            // SAFETY: owned, and not used again.
            unsafe { sys::rd_kafka_message_destroy(message.as_ptr()) }
        }
    }

    pub(in super::super) fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        // SAFETY: the messages live until `clear`, which needs `&mut self`.
        let at = |i: usize| unsafe { self.raw[i].as_ref() };
        (0..self.raw.len()).map(move |i| Message { raw: at(i), next: (i + 1 < self.raw.len()).then(|| at(i + 1)) })
    }

    pub(in super::super) fn len(&self) -> usize {
        self.raw.len()
    }
}

/// One fetched record, or an error in a record's place.
#[derive(Clone, Copy)]
pub(in super::super) struct Message<'a> {
    raw: &'a sys::rd_kafka_message_t,
    /// The one fetched after it.
    next: Option<&'a sys::rd_kafka_message_t>,
}

/// The most that can lie between a record's value and the key or value of the record after it, if the first has no
/// headers: its header count (1), and the length (5), attributes (1), timestamp (10), offset (5), key length (5) and
/// value length (5) of the second.
const MAX_GAP: usize = 32;

impl<'a> Message<'a> {
    /// The error that takes the place of a record.
    #[inline]
    pub(in super::super) fn error(self) -> Option<(Code, String)> {
        if self.raw.err == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        // SAFETY: the message is live, and an error message has a C string for its text.
        Some((self.raw.err, unsafe { text(sys::rd_kafka_message_errstr(self.raw)) }))
    }

    /// Whether it tells of the end of its partition instead of being a record.
    #[inline]
    pub(in super::super) fn is_end(self) -> bool {
        self.raw.err == Code::RD_KAFKA_RESP_ERR__PARTITION_EOF
    }

    /// The same for two records of one fetch exactly when their topics are the same.
    #[inline]
    pub(in super::super) fn topic_id(self) -> usize {
        self.raw.rkt as usize
    }

    pub(in super::super) fn topic_name(self) -> String {
        if self.raw.rkt.is_null() {
            return String::new();
        }
        // SAFETY: a message keeps its topic alive, and the name is a C string.
        unsafe { text(sys::rd_kafka_topic_name(self.raw.rkt)) }
    }

    #[inline]
    pub(in super::super) fn partition(self) -> i32 {
        self.raw.partition
    }

    #[inline]
    pub(in super::super) fn offset(self) -> i64 {
        self.raw.offset
    }

    #[inline]
    pub(in super::super) fn key(self) -> Option<&'a [u8]> {
        // SAFETY: the key is null or has as many bytes, which live as long as the message.
        unsafe { bytes(self.raw.key, self.raw.key_len) }
    }

    #[inline]
    pub(in super::super) fn value(self) -> Option<&'a [u8]> {
        // SAFETY: as for the key.
        unsafe { bytes(self.raw.payload, self.raw.len) }
    }

    /// Milliseconds since the epoch.
    #[inline]
    pub(in super::super) fn timestamp(self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is live.
        let timestamp = unsafe { sys::rd_kafka_message_timestamp(self.raw, &mut kind) };
        (kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(timestamp)
    }

    /// Whether the record plainly has no headers. librdkafka would parse them anew, with an allocation, to say that
    /// there are none, at a fifth of the cost of consuming a record. But the count of headers is the byte after
    /// the value, and where the record behind it in the fetch buffer begins closely enough, there are none if
    /// that byte is 0.
    #[inline]
    fn ends_without_headers(self) -> bool {
        let Some(next) = self.next else { return false };
        let behind = if next.key.is_null() { next.payload } else { next.key };
        if self.raw.payload.is_null() || behind.is_null() || next.rkt != self.raw.rkt {
            return false;
        }
        let end = self.raw.payload as usize + self.raw.len;
        let gap = (behind as usize).wrapping_sub(end);
        if next.partition != self.raw.partition || next.offset != self.raw.offset + 1 || !(1..=MAX_GAP).contains(&gap) {
            return false;
        }
        // SAFETY: both records are live, follow each other in their partition, and lie closer together than any two
        // buffers of a fetch could have them; so the byte between them belongs to the buffer that holds both.
        unsafe { *(end as *const u8) == 0 }
    }

    /// Calls `each` with every header in order. `Err` with the reason when they cannot be read.
    #[inline]
    pub(in super::super) fn headers(self, mut each: impl FnMut(&str, Option<&[u8]>)) -> Result<(), String> {
        if self.ends_without_headers() {
            return Ok(());
        }
        let mut headers = ptr::null_mut();
        // SAFETY: the message is live; the list belongs to it and its names and values live as long.
        unsafe {
            match sys::rd_kafka_message_headers(self.raw, &mut headers) {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
                Code::RD_KAFKA_RESP_ERR__NOENT => return Ok(()),
                code => return Err(errors::from_code(code, "reading headers").message),
            }
            let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
            let mut i = 0;
            while sys::rd_kafka_header_get_all(headers, i, &mut name, &mut value, &mut len)
                == Code::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                each(&CStr::from_ptr(name).to_string_lossy(), bytes(value as *mut c_void, len));
                i += 1;
            }
        }
        Ok(())
    }
}

/// # Safety
/// `start` is null or points to `len` bytes that live for `'a`.
#[inline]
unsafe fn bytes<'a>(start: *mut c_void, len: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(unsafe { std::slice::from_raw_parts(start.cast(), len) })
}
