//! Rows to librdkafka's queues.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::ptr::{self, NonNull};

use arrow_array::{Array, BinaryArray, Int32Array, StringArray, StructArray};
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use super::super::super::deliveries::Deliveries;
use super::super::super::{LogError, LogRecords};
use super::super::errors;
use super::{Client, PARTITION_UNASSIGNED};

/// Messages handed over in one call: few enough that their descriptions stay in the first-level cache.
const PRODUCE_CHUNK: usize = 256;

impl Client {
    /// Hands over rows from `from_row` on until the queue is full; the number taken. Rows that are refused
    /// at once count as taken and are reported to their slot.
    pub(in super::super) fn produce(
        &mut self,
        topic: &str,
        records: &LogRecords,
        from_row: usize,
        slot: usize,
    ) -> Result<usize, LogError> {
        let rkt = self.topic(topic)?;
        let stamped = records.timestamps.as_ref().is_some_and(|t| t.null_count() < t.len());
        let mut row = from_row;
        while row < records.len() {
            let rows = row..records.len().min(row + PRODUCE_CHUNK);
            let wanted = rows.len();
            // Of a topic that it does not know yet, librdkafka's batch call adds partition -1 to the transaction when rows name
            // their partitions one by one; neither the other call nor one partition for the whole batch does that.
            let mixed = records.partitions.as_ref().is_some_and(|partitions| !is_one(partitions, &rows));
            let taken = if stamped || mixed || records.headers.is_some() {
                self.produce_rows(rkt, topic, records, rows, slot)
            } else {
                self.produce_chunk(rkt, topic, records, rows, slot)
            }?;
            row += taken;
            if taken < wanted {
                break;
            }
        }
        Ok(row - from_row)
    }

    /// One `rd_kafka_produce_batch`.
    fn produce_chunk(
        &mut self,
        rkt: NonNull<sys::rd_kafka_topic_t>,
        topic: &str,
        records: &LogRecords,
        rows: Range<usize>,
        slot: usize,
    ) -> Result<usize, LogError> {
        let native = self.native.as_mut().expect("taken only when closed");
        native.chunk.clear();
        let first_word = Deliveries::word(slot, rows.start);
        for (word, row) in (first_word..).zip(rows) {
            let (payload, len) = cell(&records.values, row);
            let (key, key_len) = records.keys.as_ref().map_or((ptr::null_mut(), 0), |keys| cell(keys, row));
            native.chunk.push(sys::rd_kafka_message_t {
                err: Code::RD_KAFKA_RESP_ERR_NO_ERROR,
                rkt: ptr::null_mut(),
                partition: explicit_partition(records, row),
                payload,
                len,
                key,
                key_len,
                offset: 0,
                _private: word as *mut c_void,
            });
        }
        let partition = native.chunk.first().map_or(PARTITION_UNASSIGNED, |message| message.partition);
        // SAFETY: the topic is live and of this client; the chunk is initialised. Payloads are not copied: they
        // point into the values buffer, which `Deliveries` keeps until the row's report, the last use librdkafka
        // makes of it (or, for rows never reported, until after `rd_kafka_destroy`). Keys are copied by the call.
        let good = unsafe {
            sys::rd_kafka_produce_batch(
                rkt.as_ptr(),
                partition,
                0,
                native.chunk.as_mut_ptr(),
                native.chunk.len() as c_int,
            )
        } as usize;
        let count = native.chunk.len();
        let deliveries = &mut native.shared.state.get_mut().deliveries;
        if good == count {
            deliveries.sent(slot, count);
            return Ok(count);
        }
        // (A row for a partition that is not there stays accounted for in the client's queue until it is destroyed:
        // librdkafka forgets to free it. So rows in flight are counted here, not asked for there.)
        let full = |message: &sys::rd_kafka_message_t| message.err == Code::RD_KAFKA_RESP_ERR__QUEUE_FULL;
        let taken = native.chunk.iter().position(full).unwrap_or(count);
        deliveries.sent(slot, taken);
        for message in native.chunk[..taken].iter().filter(|m| m.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR) {
            let error = errors::from_code(message.err, &format!("writing to {topic}"));
            deliveries.report(message._private as usize, Some(error));
        }
        Ok(taken)
    }

    /// One `rd_kafka_produceva` a row, for timestamps and headers, which a batch call cannot carry.
    fn produce_rows(
        &mut self,
        rkt: NonNull<sys::rd_kafka_topic_t>,
        topic: &str,
        records: &LogRecords,
        rows: Range<usize>,
        slot: usize,
    ) -> Result<usize, LogError> {
        use sys::rd_kafka_vtype_t as Type;
        let rk = self.rk();
        let start = rows.start;
        for row in rows {
            let (payload, len) = cell(&records.values, row);
            let (key, key_len) = records.keys.as_ref().map_or((ptr::null_mut(), 0), |keys| cell(keys, row));
            let headers = record_headers(records, row)?;
            let timestamp = records.timestamps.as_ref().filter(|t| t.is_valid(row)).map_or(0, |t| t.value(row));
            let mut arguments = [vu(Type::RD_KAFKA_VTYPE_END, |_| {}); 7];
            arguments[0] = vu(Type::RD_KAFKA_VTYPE_RKT, |u| u.rkt = rkt.as_ptr());
            arguments[1] = vu(Type::RD_KAFKA_VTYPE_PARTITION, |u| u.i32_ = explicit_partition(records, row));
            arguments[2] = vu(Type::RD_KAFKA_VTYPE_VALUE, |u| {
                u.mem = sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr: payload, size: len }
            });
            arguments[3] = vu(Type::RD_KAFKA_VTYPE_KEY, |u| {
                u.mem = sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr: key, size: key_len }
            });
            arguments[4] = vu(Type::RD_KAFKA_VTYPE_OPAQUE, |u| u.ptr = Deliveries::word(slot, row) as *mut c_void);
            arguments[5] = vu(Type::RD_KAFKA_VTYPE_TIMESTAMP, |u| u.i64_ = timestamp);
            let mut count = 6;
            if let Some(headers) = headers {
                arguments[6] = vu(Type::RD_KAFKA_VTYPE_HEADERS, |u| u.headers = headers.as_ptr());
                count = 7;
            }
            // SAFETY: as in `produce_chunk`; `count` arguments are initialised. Headers are taken over only by a call
            // that succeeds, and freed here otherwise.
            let code = unsafe {
                let error = sys::rd_kafka_produceva(rk, arguments.as_ptr(), count);
                if error.is_null() {
                    Code::RD_KAFKA_RESP_ERR_NO_ERROR
                } else {
                    let code = sys::rd_kafka_error_code(error);
                    sys::rd_kafka_error_destroy(error);
                    if let Some(headers) = headers {
                        sys::rd_kafka_headers_destroy(headers.as_ptr());
                    }
                    code
                }
            };
            if code == Code::RD_KAFKA_RESP_ERR__QUEUE_FULL {
                return Ok(row - start);
            }
            let deliveries = self.deliveries();
            deliveries.sent(slot, 1);
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                deliveries
                    .report(Deliveries::word(slot, row), Some(errors::from_code(code, &format!("writing to {topic}"))));
            }
        }
        Ok(records.len().min(start + PRODUCE_CHUNK) - start)
    }
}

/// Whether these rows are all for one partition, or for none in particular.
fn is_one(partitions: &Int32Array, rows: &Range<usize>) -> bool {
    let of = |row: usize| partitions.is_valid(row).then(|| partitions.value(row));
    rows.clone().all(|row| of(row) == of(rows.start))
}

/// Pointer and length of a cell; null for null, and not null for an empty one.
#[inline]
fn cell(column: &BinaryArray, row: usize) -> (*mut c_void, usize) {
    if column.is_null(row) {
        return (ptr::null_mut(), 0);
    }
    let value = column.value(row);
    (value.as_ptr() as *mut c_void, value.len())
}

#[inline]
fn explicit_partition(records: &LogRecords, row: usize) -> i32 {
    match &records.partitions {
        Some(partitions) if partitions.is_valid(row) => partitions.value(row),
        _ => PARTITION_UNASSIGNED,
    }
}

fn vu(kind: sys::rd_kafka_vtype_t, set: impl FnOnce(&mut sys::rd_kafka_vu_s__bindgen_ty_1)) -> sys::rd_kafka_vu_t {
    // SAFETY: a union of integers and pointers, for all of which zero is a value.
    let mut u: sys::rd_kafka_vu_s__bindgen_ty_1 = unsafe { std::mem::zeroed() };
    set(&mut u);
    sys::rd_kafka_vu_t { vtype: kind, u }
}

/// The row's headers as librdkafka's list, owned by the caller; `None` when it has none.
fn record_headers(records: &LogRecords, row: usize) -> Result<Option<NonNull<sys::rd_kafka_headers_t>>, LogError> {
    let Some(list) = records.headers.as_ref().filter(|h| h.is_valid(row) && h.value_length(row) > 0) else {
        return Ok(None);
    };
    let entries = list.values().as_any().downcast_ref::<StructArray>();
    let columns = entries.and_then(|e| {
        Some((e.column(0).as_any().downcast_ref::<StringArray>()?, e.column(1).as_any().downcast_ref::<BinaryArray>()?))
    });
    let Some((keys, values)) = columns else {
        return Err(LogError::fatal("headers are not a list of {key: Utf8, value: Binary}"));
    };
    let offsets = list.value_offsets();
    let range = offsets[row] as usize..offsets[row + 1] as usize;
    // SAFETY: the list is owned; names and values are copied with their lengths; a null value is a null pointer.
    unsafe {
        let headers = sys::rd_kafka_headers_new(range.len());
        for i in range {
            let key = keys.value(i);
            let (value, len) = cell(values, i);
            sys::rd_kafka_header_add(headers, key.as_ptr().cast(), key.len() as isize, value, len as isize);
        }
        Ok(NonNull::new(headers))
    }
}
