//! [`LogProducer`] on the embedded log.
//!
//! Promises: rows of one partition are stored in the order they were sent; a completed token is on the disk;
//! `send` waits while `buffer.memory` bytes (32 MiB) wait for their commit.
//!
//! Fails: a row larger than `max.request.size` or the topic's `max.message.bytes`, or for a partition that is
//! not there, is refused alone. When a transaction fails (disk full), all rows then in flight come back as
//! failed with a retriable reason, and `send` refuses with the same reason until `poll` has told of them, so
//! that no later row overtakes an earlier one.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow_array::{Array, BinaryArray, ListArray, StringArray, StructArray};

use super::super::{ClientSettings, Completion, LogError, LogProducer, LogRecords, Waker};
use super::Inner;
use super::catalog::Topic;
use super::outbox::{Outbox, Parcel, State};
use super::partitioner::{self, Sticky};
use super::record_batch::{Record, record_size};

/// Rows encoded before the lock is given up for a moment, so that the writer can take them.
const CHUNK_BYTES: usize = 1 << 20;

pub(super) struct EmbeddedProducer {
    inner: Arc<Inner>,
    outbox: Arc<Outbox>,
    max_request: usize,
    sticky: Sticky,
    /// What was sent waits for a commit instead of being written at once.
    transactional: bool,
}

impl EmbeddedProducer {
    pub(super) fn new(inner: Arc<Inner>, settings: &ClientSettings) -> Self {
        let number = |name: &str, default: usize| settings.get(name).and_then(|v| v.parse().ok()).unwrap_or(default);
        Self {
            inner,
            outbox: Arc::new(Outbox::new(number("buffer.memory", 32 << 20))),
            max_request: number("max.request.size", 1 << 20),
            sticky: Sticky::default(),
            transactional: false,
        }
    }

    /// A producer whose records stay in memory until they are taken with [`Self::stage`].
    pub(super) fn staging(inner: Arc<Inner>, settings: &ClientSettings) -> Self {
        Self { outbox: Arc::new(Outbox::new(usize::MAX)), transactional: true, ..Self::new(inner, settings) }
    }

    /// What was sent since the last call.
    pub(super) fn stage(&self) -> Vec<Parcel> {
        self.outbox.stage()
    }

    /// Encodes rows from `row` on until the chunk or the room is used up; the next row.
    fn encode(&mut self, state: &mut State, rows: &Rows<'_>, mut row: usize, slot: usize) -> usize {
        let mut bytes = 0;
        while row < rows.records.len() && bytes < CHUNK_BYTES && self.outbox.has_room(state) {
            bytes += self.encode_row(state, rows, row, slot);
            row += 1;
        }
        row
    }

    #[inline]
    fn encode_row(&mut self, state: &mut State, rows: &Rows<'_>, row: usize, slot: usize) -> usize {
        let records = rows.records;
        let key = records.keys.as_ref().and_then(|keys| cell(keys, row));
        let value = cell(&records.values, row);
        let headers = rows.headers(row);
        let size = record_size(key, value, headers.clone().map(|(k, v)| k.len() + v.map_or(0, <[u8]>::len) + 8).sum());
        if size > rows.max_bytes.min(self.max_request) {
            state.deliveries.sent(slot, 1);
            state.deliveries.report_rows(slot, row..row + 1, Some(&rows.too_large(size)));
            return 0;
        }
        let topic = rows.topic;
        let count = topic.partitions.len() as i32;
        let number = match &records.partitions {
            Some(partitions) if partitions.is_valid(row) => partitions.value(row),
            _ if count == 1 => 0,
            _ => key.map_or_else(|| self.sticky.next(size, count), |key| partitioner::by_key(key, count)),
        };
        let Some(partition) = usize::try_from(number).ok().and_then(|n| topic.partitions.get(n)) else {
            state.deliveries.sent(slot, 1);
            state.deliveries.report_rows(slot, row..row + 1, Some(&rows.no_partition(number)));
            return 0;
        };
        let timestamp = records.timestamps.as_ref().filter(|t| t.is_valid(row)).map_or(rows.now, |t| t.value(row));
        let at = state.open(&topic.name, number, partition, size);
        state.push(at, slot, row, |encoder| encoder.push(Record { timestamp, key, value }, headers));
        size
    }
}

impl LogProducer for EmbeddedProducer {
    fn send(
        &mut self,
        topic: &str,
        records: &LogRecords,
        from_row: usize,
        token: u64,
        timeout: Duration,
    ) -> Result<usize, LogError> {
        let topic = self.inner.topic_for_writing(topic)?;
        let rows = Rows::new(records, &topic)?;
        let deadline = Instant::now() + timeout;
        let outbox = self.outbox.clone();
        let mut row = from_row;
        let mut state = outbox.lock();
        let slot = state.deliveries.open(token);
        loop {
            if let Some(error) = &state.failed {
                if row > from_row {
                    break;
                }
                return Err(error.clone());
            }
            row = self.encode(&mut state, &rows, row, slot);
            if !self.transactional && state.announce() {
                self.inner.writer.append(&outbox);
            }
            if row >= records.len() {
                break;
            }
            if outbox.has_room(&state) {
                drop(state);
                state = outbox.lock();
                continue;
            }
            match outbox.wait(state, deadline) {
                Some(again) => state = again,
                None => break,
            }
        }
        Ok(row - from_row)
    }

    fn finish(&mut self, token: u64) {
        self.outbox.lock().deliveries.finish(token);
    }

    fn poll(&mut self, timeout: Duration) -> Result<Vec<Completion>, LogError> {
        let deadline = Instant::now() + timeout;
        let mut state = self.outbox.lock();
        loop {
            if state.deliveries.has_completed() {
                break;
            }
            match self.outbox.wait(state, deadline) {
                Some(again) => state = again,
                None => {
                    state = self.outbox.lock();
                    break;
                }
            }
        }
        let completed = state.deliveries.take_completed();
        if completed.iter().any(|c| !c.failed.is_empty()) || state.deliveries.in_flight() == 0 {
            state.failed = None;
        }
        Ok(completed)
    }

    fn set_waker(&mut self, waker: Waker) {
        self.outbox.set_waker(waker);
    }

    fn in_flight(&self) -> usize {
        self.outbox.lock().deliveries.in_flight()
    }

    fn flush(&mut self, timeout: Duration) -> Result<(), LogError> {
        let deadline = Instant::now() + timeout;
        let mut state = self.outbox.lock();
        while state.deliveries.in_flight() > 0 {
            let rows = state.deliveries.in_flight();
            state = self.outbox.wait(state, deadline).ok_or_else(|| {
                LogError::retriable(format!(
                    "flushing the embedded log's producer: {rows} rows were not committed within {timeout:?}"
                ))
            })?;
        }
        Ok(())
    }

    fn close(self: Box<Self>, _timeout: Duration) -> Result<(), LogError> {
        Ok(())
    }
}

/// The rows of one call and where they go.
struct Rows<'a> {
    records: &'a LogRecords,
    headers: Option<(&'a ListArray, &'a StringArray, &'a BinaryArray)>,
    topic: &'a Topic,
    max_bytes: usize,
    now: i64,
}

impl<'a> Rows<'a> {
    fn new(records: &'a LogRecords, topic: &'a Topic) -> Result<Self, LogError> {
        let headers = match &records.headers {
            None => None,
            Some(list) => {
                let entries = list.values().as_any().downcast_ref::<StructArray>();
                let columns = entries.and_then(|entries| {
                    let keys = entries.column(0).as_any().downcast_ref::<StringArray>()?;
                    Some((list, keys, entries.column(1).as_any().downcast_ref::<BinaryArray>()?))
                });
                Some(columns.ok_or_else(|| LogError::fatal("headers are not a list of {key: Utf8, value: Binary}"))?)
            }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        Ok(Self { records, headers, topic, max_bytes: topic.number("max.message.bytes").max(0) as usize, now })
    }

    #[inline]
    fn headers(&self, row: usize) -> impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone + use<'a> {
        let headers = self.headers.filter(|(list, ..)| list.is_valid(row));
        let range = headers.map_or(0..0, |(list, ..)| {
            let offsets = list.value_offsets();
            offsets[row] as usize..offsets[row + 1] as usize
        });
        range.map(move |i| {
            let (_, keys, values) = headers.expect("the range is empty without headers");
            (keys.value(i).as_bytes(), cell(values, i))
        })
    }

    fn too_large(&self, size: usize) -> LogError {
        LogError {
            message: format!(
                "writing to {}: a record of {size} bytes is too large: raise the producer's max.request.size and the topic's max.message.bytes ({}), or send smaller records",
                self.topic.name, self.max_bytes
            ),
            retriable: false,
            code: Some("MSG_SIZE_TOO_LARGE"),
        }
    }

    fn no_partition(&self, number: i32) -> LogError {
        LogError {
            message: format!(
                "writing to {}: partition {number} is not there, the topic has {}: write to another one, or create the topic with more",
                self.topic.name,
                self.topic.partitions.len()
            ),
            retriable: false,
            code: Some("_UNKNOWN_PARTITION"),
        }
    }
}

#[inline]
fn cell(column: &BinaryArray, row: usize) -> Option<&[u8]> {
    column.is_valid(row).then(|| column.value(row))
}
