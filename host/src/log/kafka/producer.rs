//! [`LogProducer`] through librdkafka's batch calls.
//!
//! Promises: rows of one partition are written in the order they were sent (`enable.idempotence`), each row
//! is acknowledged or refused exactly once, and memory is bounded by `queue.buffering.max.*`: when the
//! client's queue is full, `send` waits and takes what fits. Values are not copied; the Arrow buffers stay
//! alive until their token completes.
//!
//! Fails: a broker that is away is waited for, as long as `delivery.timeout.ms` says (by default for ever).
//! librdkafka takes a timestamp of 0 for none, and so stamps a record of 1970-01-01T00:00:00Z with the time of sending.
//! After a fatal error of the client (fenced, or a gap in the idempotent sequence) every call returns it:
//! make a new producer and send again what was not completed.

use std::time::{Duration, Instant};

use super::super::{
    Completion, GroupMetadata, LogError, LogProducer, LogRecords, TopicPartition, TransactionError,
    TransactionalProducer,
};
use super::batch_calls::Client;

/// How long to serve reports before trying again to hand over rows.
const FULL_WAIT: Duration = Duration::from_millis(100);

pub(super) struct KafkaProducer {
    client: Client,
}

impl KafkaProducer {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }
}

impl LogProducer for KafkaProducer {
    fn send(
        &mut self,
        topic: &str,
        records: &LogRecords,
        from_row: usize,
        token: u64,
        timeout: Duration,
    ) -> Result<usize, LogError> {
        self.client.fatal()?;
        let slot = self.client.deliveries().open(token);
        self.client.deliveries().keep(slot, records.values.values());
        let deadline = Instant::now() + timeout;
        let mut row = from_row;
        loop {
            row += self.client.produce(topic, records, row, slot)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if row >= records.len() || left.is_zero() {
                // Reports are collected here too, so that a caller who only sends keeps the queue moving.
                self.client.serve(Duration::ZERO);
                return Ok(row - from_row);
            }
            self.client.serve(left.min(FULL_WAIT));
            self.client.fatal()?;
        }
    }

    fn finish(&mut self, token: u64) {
        self.client.deliveries().finish(token);
    }

    fn poll(&mut self, timeout: Duration) -> Result<Vec<Completion>, LogError> {
        let deadline = Instant::now() + timeout;
        self.client.serve(Duration::ZERO);
        while !self.client.deliveries().has_completed() {
            self.client.fatal()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.client.serve(left);
        }
        Ok(self.client.deliveries().take_completed())
    }

    fn in_flight(&self) -> usize {
        self.client.in_flight()
    }

    fn flush(&mut self, timeout: Duration) -> Result<(), LogError> {
        let deadline = Instant::now() + timeout;
        while self.client.in_flight() > 0 {
            self.client.fatal()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let rows = self.client.in_flight();
                return Err(LogError::retriable(format!(
                    "flushing the Kafka producer: {rows} rows were not acknowledged within {timeout:?}: check the brokers, then flush again"
                )));
            }
            self.client.flush(left.min(FULL_WAIT));
        }
        Ok(())
    }

    fn close(self: Box<Self>, timeout: Duration) -> Result<(), LogError> {
        self.client.close(timeout)
    }
}

impl TransactionalProducer for KafkaProducer {
    fn init(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        self.client.init_transactions(timeout)
    }

    fn begin(&mut self) -> Result<(), TransactionError> {
        self.client.fatal()?;
        self.client.begin_transaction()
    }

    fn send_offsets(
        &mut self,
        offsets: &[(TopicPartition, i64)],
        group: &GroupMetadata,
        timeout: Duration,
    ) -> Result<(), TransactionError> {
        self.client.send_offsets_to_transaction(offsets, &group.0, timeout)
    }

    fn commit(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        self.client.commit_transaction(timeout)
    }

    fn abort(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        self.client.abort_transaction(timeout)
    }

    fn as_producer(&mut self) -> &mut dyn LogProducer {
        self
    }

    fn close_transactional(self: Box<Self>, timeout: Duration) -> Result<(), LogError> {
        self.client.close(timeout)
    }
}
