//! Transactions, and the group metadata that go into them.

use std::ffi::c_void;
use std::ptr;
use std::time::Duration;

use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use super::super::super::transactions::{NextStep, TransactionError, is_fenced};
use super::super::super::{LogError, TopicPartition};
use super::super::errors;
use super::{Client, PartitionList, c_string, millis, text};

/// Takes over and frees an error that librdkafka returned; null is none.
///
/// # Safety
/// `error` is null or owned by the caller, who does not use it again.
unsafe fn outcome(error: *mut sys::rd_kafka_error_t, operation: &str) -> Result<(), TransactionError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: live until it is destroyed here; the text is copied.
    unsafe {
        let code: Code = sys::rd_kafka_error_code(error);
        let mut described = errors::from_code(code, operation);
        described.message = format!("{}: {}", described.message, text(sys::rd_kafka_error_string(error)));
        let next = match described.code {
            Some(name) if is_fenced(name) => NextStep::Fenced,
            _ if sys::rd_kafka_error_is_fatal(error) != 0 => NextStep::Close,
            _ if sys::rd_kafka_error_txn_requires_abort(error) != 0 => NextStep::Abort,
            _ if sys::rd_kafka_error_is_retriable(error) != 0 => NextStep::Retry,
            _ => NextStep::Close,
        };
        described.retriable = next == NextStep::Retry;
        sys::rd_kafka_error_destroy(error);
        Err(TransactionError { error: described, next })
    }
}

impl Client {
    pub(in super::super) fn init_transactions(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        // SAFETY: the handle is live; no reference into the state is held while callbacks run. (So for all of these.)
        unsafe { outcome(sys::rd_kafka_init_transactions(self.rk(), millis(timeout)), "starting as the only producer") }
    }

    pub(in super::super) fn begin_transaction(&mut self) -> Result<(), TransactionError> {
        // SAFETY: as above.
        unsafe { outcome(sys::rd_kafka_begin_transaction(self.rk()), "beginning a transaction") }
    }

    pub(in super::super) fn commit_transaction(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        // SAFETY: as above; delivery reports are served inside.
        unsafe { outcome(sys::rd_kafka_commit_transaction(self.rk(), millis(timeout)), "committing a transaction") }
    }

    pub(in super::super) fn abort_transaction(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        // SAFETY: as above.
        unsafe { outcome(sys::rd_kafka_abort_transaction(self.rk(), millis(timeout)), "aborting a transaction") }
    }

    pub(in super::super) fn send_offsets_to_transaction(
        &mut self,
        offsets: &[(TopicPartition, i64)],
        group: &[u8],
        timeout: Duration,
    ) -> Result<(), TransactionError> {
        let operation = "adding offsets to a transaction";
        let list = PartitionList::new(offsets.iter().map(|(partition, offset)| (partition, *offset)))?;
        let mut metadata = ptr::null_mut();
        // SAFETY: the buffer is read during the call; on success `metadata` is owned and freed below, after its last use.
        unsafe {
            let read = sys::rd_kafka_consumer_group_metadata_read(&mut metadata, group.as_ptr().cast(), group.len());
            outcome(read, operation)?;
            let sent = sys::rd_kafka_send_offsets_to_transaction(self.rk(), list.0.as_ptr(), metadata, millis(timeout));
            sys::rd_kafka_consumer_group_metadata_destroy(metadata);
            outcome(sent, operation)
        }
    }

    /// This consumer's membership, serialized.
    pub(in super::super) fn group_metadata(&mut self) -> Result<Vec<u8>, LogError> {
        let mut buffer: *mut c_void = ptr::null_mut();
        let mut size = 0;
        // SAFETY: the handle is live; metadata and buffer are owned, and freed with librdkafka's own calls.
        unsafe {
            let metadata = sys::rd_kafka_consumer_group_metadata(self.rk());
            if metadata.is_null() {
                return Err(LogError::retriable("reading the group membership: this consumer has none"));
            }
            let written = sys::rd_kafka_consumer_group_metadata_write(metadata, &mut buffer, &mut size);
            sys::rd_kafka_consumer_group_metadata_destroy(metadata);
            outcome(written, "reading the group membership").map_err(|error| error.error)?;
            let copy = std::slice::from_raw_parts(buffer.cast::<u8>(), size).to_vec();
            sys::rd_kafka_mem_free(ptr::null_mut(), buffer);
            match generation(&copy) {
                // The broker would take offsets from nobody as from a client that manages partitions by itself.
                Some(generation) if generation < 0 => Err(LogError {
                    message: "reading the group membership: this consumer is not a member of its group any more".into(),
                    retriable: true,
                    code: Some("UNKNOWN_MEMBER_ID"),
                }),
                _ => Ok(copy),
            }
        }
    }
}

/// A membership, serialized, of a member that is none of librdkafka's.
pub(in super::super) fn group_metadata(
    group: &str,
    generation: i32,
    member: &str,
    instance: Option<&str>,
) -> Result<Vec<u8>, LogError> {
    let operation = "writing the group membership";
    let (group, member) = (c_string(group)?, c_string(member)?);
    let instance = instance.map(c_string).transpose()?;
    let mut buffer: *mut c_void = ptr::null_mut();
    let mut size = 0;
    // SAFETY: the texts are copied; metadata and buffer are owned, and freed with librdkafka's own calls.
    unsafe {
        let metadata = sys::rd_kafka_consumer_group_metadata_new_with_genid(
            group.as_ptr(),
            generation,
            member.as_ptr(),
            instance.as_ref().map_or(ptr::null(), |instance| instance.as_ptr()),
        );
        if metadata.is_null() {
            return Err(LogError::fatal(format!("{operation}: it has no group")));
        }
        let written = sys::rd_kafka_consumer_group_metadata_write(metadata, &mut buffer, &mut size);
        sys::rd_kafka_consumer_group_metadata_destroy(metadata);
        outcome(written, operation).map_err(|error| error.error)?;
        let copy = std::slice::from_raw_parts(buffer.cast::<u8>(), size).to_vec();
        sys::rd_kafka_mem_free(ptr::null_mut(), buffer);
        Ok(copy)
    }
}

/// The generation in serialized metadata: librdkafka writes it behind a word that names its layout.
fn generation(metadata: &[u8]) -> Option<i32> {
    let rest = metadata.strip_prefix(b"CGMDv2:")?;
    Some(i32::from_ne_bytes(rest.get(..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_has_its_generation() {
        let written = group_metadata("g", 7, "m", Some("c-0")).unwrap();
        assert_eq!(generation(&written), Some(7));
        assert!(written.ends_with(b"m\0\0c-0\0"), "{written:?}");
        assert!(group_metadata("g", 7, "m", None).unwrap().ends_with(b"m\0\x01"));
    }
}
