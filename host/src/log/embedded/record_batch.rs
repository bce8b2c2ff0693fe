//! Kafka's record batch (magic 2), exactly as on the wire, from and to columns.
//!
//! | Offset | Field | |
//! |---|---|---|
//! | 0 | base offset | i64; set when the batch is stored, outside the checksum |
//! | 8 | length of what follows | i32 |
//! | 12 | leader epoch | i32 |
//! | 16 | magic | i8 = 2 |
//! | 17 | CRC-32C of what follows | u32 |
//! | 21 | attributes | i16: compression 0–2, log append time 3, transactional 4, control 5 |
//! | 23 | last offset delta | i32 |
//! | 27, 35 | first and largest timestamp | i64 |
//! | 43, 51, 53 | producer id, epoch, first sequence | i64, i16, i32; −1 |
//! | 57 | records | i32 |
//!
//! Each record: length, attributes (i8), timestamp delta, offset delta, key, value, headers; lengths are
//! zigzag varints, −1 for null.
//!
//! Written uncompressed. Reading refuses what is not whole or not right (checksum, lengths, counts) with the
//! place where it went wrong, and never panics. Control batches hold no records for a reader.

use super::super::run_builder::RunBuilder;
use super::varint;

/// Bytes before the first record.
pub(super) const HEADER: usize = 61;
const COMPRESSION: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const CONTROL: i16 = 0x20;

/// One record to write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) timestamp: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
}

/// Builds one batch.
#[derive(Debug)]
pub(super) struct BatchEncoder {
    bytes: Vec<u8>,
    count: i32,
    first_timestamp: i64,
    max_timestamp: i64,
}

impl BatchEncoder {
    pub(super) fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity.max(HEADER));
        bytes.resize(HEADER, 0);
        Self { bytes, count: 0, first_timestamp: 0, max_timestamp: i64::MIN }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn records(&self) -> i32 {
        self.count
    }

    /// Bytes so far, the header included.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record at the next offset.
    #[inline]
    pub(super) fn push<'h>(
        &mut self,
        record: Record<'_>,
        headers: impl ExactSizeIterator<Item = (&'h [u8], Option<&'h [u8]>)> + Clone,
    ) {
        self.push_at(self.count, record, headers);
    }

    /// Adds a record at an offset delta of its own, larger than those before: compaction leaves gaps.
    #[inline]
    pub(super) fn push_at<'h>(
        &mut self,
        offset_delta: i32,
        record: Record<'_>,
        headers: impl ExactSizeIterator<Item = (&'h [u8], Option<&'h [u8]>)> + Clone,
    ) {
        if self.count == 0 {
            self.first_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        let delta = record.timestamp.wrapping_sub(self.first_timestamp);
        let mut length = 1
            + varint::size(delta)
            + varint::size(i64::from(offset_delta))
            + size_of(record.key)
            + size_of(record.value);
        length += varint::size(headers.len() as i64);
        for (key, value) in headers.clone() {
            length += size_of(Some(key)) + size_of(value);
        }
        self.bytes.reserve(length + 5);
        varint::put(&mut self.bytes, length as i64);
        self.bytes.push(0);
        varint::put(&mut self.bytes, delta);
        varint::put(&mut self.bytes, i64::from(offset_delta));
        put_bytes(&mut self.bytes, record.key);
        put_bytes(&mut self.bytes, record.value);
        varint::put(&mut self.bytes, headers.len() as i64);
        for (key, value) in headers {
            put_bytes(&mut self.bytes, Some(key));
            put_bytes(&mut self.bytes, value);
        }
        self.count += 1;
    }

    /// The batch with a base offset of 0; [`set_base_offset`] gives it its place.
    pub(super) fn finish(self) -> EncodedBatch {
        let last = self.count - 1;
        self.finish_at(last)
    }

    /// The same, for a batch that ends at `last_offset_delta` though its last records may be gone.
    pub(super) fn finish_at(self, last_offset_delta: i32) -> EncodedBatch {
        let Self { mut bytes, count, first_timestamp, max_timestamp } = self;
        let max_timestamp = if count == 0 { -1 } else { max_timestamp };
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[12..16].copy_from_slice(&0_i32.to_be_bytes());
        bytes[16] = 2;
        bytes[21..23].copy_from_slice(&0_i16.to_be_bytes());
        bytes[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&first_timestamp.to_be_bytes());
        bytes[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
        bytes[43..57].fill(0xff);
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        EncodedBatch { bytes, last_offset_delta, max_timestamp }
    }
}

/// Bytes of a record with these parts, at most: what `max.request.size` bounds.
pub(super) fn record_size(key: Option<&[u8]>, value: Option<&[u8]>, headers: usize) -> usize {
    key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + headers + 32
}

#[inline]
fn size_of(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint::size(bytes.len() as i64) + bytes.len())
}

#[inline]
fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => varint::put(out, -1),
    }
}

/// A finished batch.
#[derive(Debug)]
pub(super) struct EncodedBatch {
    pub(super) bytes: Vec<u8>,
    pub(super) last_offset_delta: i32,
    pub(super) max_timestamp: i64,
}

/// Gives a batch its place. The checksum does not cover it.
pub(super) fn set_base_offset(batch: &mut [u8], offset: i64) {
    batch[..8].copy_from_slice(&offset.to_be_bytes());
}

/// Why bytes are not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at} of the record batch")]
pub(super) struct BatchError {
    what: &'static str,
    at: usize,
}

/// A batch whose header and checksum are right.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchReader<'a> {
    bytes: &'a [u8],
    base_offset: i64,
    attributes: i16,
    first_timestamp: i64,
    max_timestamp: i64,
    last_offset_delta: i32,
    count: i32,
}

/// A record read. Header keys and values are still encoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadRecord<'a> {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    headers: i64,
    encoded_headers: &'a [u8],
}

impl<'a> BatchReader<'a> {
    /// Reads the header of the one batch that `bytes` are.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let bad = |what, at| Err(BatchError { what, at });
        if bytes.len() < HEADER {
            return bad("the header is cut short", bytes.len());
        }
        let i32_at = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let i64_at = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        if bytes[16] != 2 {
            return bad("another format than magic 2", 16);
        }
        if i32_at(8) as i64 != bytes.len() as i64 - 12 {
            return bad("a length other than that of the bytes", 8);
        }
        if i32_at(17) as u32 != crc32c::crc32c(&bytes[21..]) {
            return bad("a wrong checksum", 17);
        }
        let attributes = i16::from_be_bytes([bytes[21], bytes[22]]);
        if attributes & COMPRESSION != 0 {
            return bad("compression, which is not supported here,", 21);
        }
        let (base_offset, last_offset_delta, count) = (i64_at(0), i32_at(23), i32_at(57));
        if base_offset.checked_add(i64::from(last_offset_delta)).is_none() {
            return bad("an offset beyond the largest", 0);
        }
        // A record is at least seven bytes: a count beyond that is not worth a try.
        if count < 0 || last_offset_delta < 0 || count as usize > (bytes.len() - HEADER) / 7 + 1 {
            return bad("an impossible number of records", 57);
        }
        Ok(Self {
            bytes,
            base_offset,
            attributes,
            first_timestamp: i64_at(27),
            max_timestamp: i64_at(35),
            last_offset_delta,
            count,
        })
    }

    pub(super) fn base_offset(&self) -> i64 {
        self.base_offset
    }

    pub(super) fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Calls `each` with every record in order.
    pub(super) fn for_each(
        &self,
        mut each: impl FnMut(ReadRecord<'a>) -> Result<(), BatchError>,
    ) -> Result<(), BatchError> {
        if self.attributes & CONTROL != 0 {
            return Ok(());
        }
        let mut rest = &self.bytes[HEADER..];
        let mut previous = -1;
        for _ in 0..self.count {
            let at = self.bytes.len() - rest.len();
            let bad = |what| BatchError { what, at };
            let length = varint::take(&mut rest).ok_or(bad("a cut record length"))?;
            let length = usize::try_from(length)
                .ok()
                .filter(|l| *l <= rest.len())
                .ok_or(bad("a record longer than the batch"))?;
            let (mut record, after) = rest.split_at(length);
            rest = after;
            let record = self.record(&mut record, &mut previous).ok_or(bad("a malformed record"))?;
            each(record)?;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(BatchError { what: "bytes after the last record", at: self.bytes.len() - rest.len() })
        }
    }

    #[inline]
    fn record(&self, input: &mut &'a [u8], previous: &mut i64) -> Option<ReadRecord<'a>> {
        *input = input.get(1..)?;
        let timestamp_delta = varint::take(input)?;
        let offset_delta = varint::take(input)?;
        if offset_delta <= *previous || offset_delta > i64::from(self.last_offset_delta) {
            return None;
        }
        *previous = offset_delta;
        let key = take_bytes(input)?;
        let value = take_bytes(input)?;
        let headers = varint::take(input).filter(|count| *count >= 0)?;
        let timestamp = if self.attributes & LOG_APPEND_TIME != 0 {
            self.max_timestamp
        } else {
            self.first_timestamp.checked_add(timestamp_delta)?
        };
        if headers == 0 && !input.is_empty() {
            return None;
        }
        let offset = self.base_offset + offset_delta;
        Some(ReadRecord { offset, timestamp, key, value, headers, encoded_headers: input })
    }

    /// Adds the records from `from_offset` on to a run.
    pub(super) fn read_into(&self, run: &mut RunBuilder, from_offset: i64) -> Result<(), BatchError> {
        self.for_each(|record| {
            if record.offset < from_offset {
                return Ok(());
            }
            run.push(record.offset, (record.timestamp >= 0).then_some(record.timestamp), record.key, record.value);
            record.for_each_header(|key, value| run.header(&String::from_utf8_lossy(key), value))
        })
    }
}

impl<'a> ReadRecord<'a> {
    /// Calls `each` with key and value of every header in order.
    #[inline]
    pub(super) fn for_each_header(&self, mut each: impl FnMut(&'a [u8], Option<&'a [u8]>)) -> Result<(), BatchError> {
        let mut input = self.encoded_headers;
        for _ in 0..self.headers {
            let header = take_bytes(&mut input).flatten().and_then(|key| Some((key, take_bytes(&mut input)?)));
            let (key, value) = header.ok_or(BatchError { what: "a malformed header", at: self.offset as usize })?;
            each(key, value);
        }
        if input.is_empty() {
            Ok(())
        } else {
            Err(BatchError { what: "bytes after the last header", at: self.offset as usize })
        }
    }
}

/// Length and bytes; `Some(None)` for null, `None` when malformed.
#[inline]
fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match varint::take(input)? {
        -1 => Some(None),
        length => {
            let length = usize::try_from(length).ok().filter(|l| *l <= input.len())?;
            let (bytes, rest) = input.split_at(length);
            *input = rest;
            Some(Some(bytes))
        }
    }
}
