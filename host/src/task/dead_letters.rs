//! Records that failed and are tolerated, kept in a topic with the reason in their headers (`errors.deadletterqueue.*`).
//!
//! A dead letter carries key, value and headers as they were read. It is acknowledged before the offset of the record that it
//! stands for may be committed.

use std::time::{Duration, Instant};

use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ListArray};

use super::errors::{FailedRecord, TaskError};
use super::rows;
use crate::log::{FetchedBatch, HEADER_FIELDS, LogProducer};

/// The dead-letter queue of one task.
pub struct DeadLetters {
    /// Topic that they go to.
    pub topic: String,
    /// Whether the reason is put into headers.
    pub context_headers: bool,
    /// The connector's name.
    pub connector: String,
    /// The task's number.
    pub task: u32,
    /// The task's own producer for them.
    pub producer: Box<dyn LogProducer>,
    /// How long an acknowledgement is waited for.
    pub timeout: Duration,
    /// Number of the last send.
    pub sent: u64,
}

impl DeadLetters {
    /// Hands failed records over.
    pub fn send(&mut self, fetched: &FetchedBatch, failed: &[FailedRecord]) -> Result<(), TaskError> {
        let mut failed = failed.iter().collect::<Vec<_>>();
        failed.sort_by_key(|record| record.row);
        failed.dedup_by_key(|record| record.row);
        let picked = failed.iter().map(|record| record.row).collect::<Vec<_>>();
        let mut records =
            rows::take_records(&fetched.records, &picked).map_err(|error| TaskError::new(error.to_string()))?;
        // Any partition will do, and the key decides as for all records.
        records.partitions = None;
        if self.context_headers {
            records.headers = Some(self.headers(fetched, &failed, records.headers.as_ref()));
        }
        self.sent += 1;
        let deadline = Instant::now() + self.timeout;
        let mut from = 0;
        while from < records.len() {
            from += self
                .producer
                .send(&self.topic, &records, from, self.sent, Duration::from_millis(100))
                .map_err(|error| self.failed(&error.message))?;
            self.collect(Duration::ZERO)?;
            if Instant::now() > deadline {
                return Err(self.failed(&format!("no room in the producer within {:?}", self.timeout)));
            }
        }
        self.producer.finish(self.sent);
        Ok(())
    }

    /// Waits until every dead letter is acknowledged.
    pub fn flush(&mut self) -> Result<(), TaskError> {
        if self.producer.in_flight() > 0 {
            let flushed = self.producer.flush(self.timeout);
            flushed.map_err(|error| self.failed(&error.message))?;
        }
        self.collect(Duration::ZERO)
    }

    /// Frees the producer.
    pub fn close(self) {
        self.producer.close(Duration::from_secs(1)).unwrap_or_else(|error| tracing::warn!("{error}"));
    }

    fn collect(&mut self, timeout: Duration) -> Result<(), TaskError> {
        let completions = self.producer.poll(timeout).map_err(|error| self.failed(&error.message))?;
        match completions.into_iter().flat_map(|completion| completion.failed).next() {
            Some((_, error)) => Err(self.failed(&error.message)),
            None => Ok(()),
        }
    }

    fn failed(&self, reason: &str) -> TaskError {
        TaskError::new(format!("a failed record could not be kept in dead-letter topic {}: {reason}", self.topic))
    }

    /// The records' own headers, then Connect's context headers.
    fn headers(&self, fetched: &FetchedBatch, failed: &[&FailedRecord], own: Option<&ListArray>) -> ListArray {
        let item = StructBuilder::new(
            HEADER_FIELDS.clone(),
            vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())],
        );
        let mut list = ListBuilder::new(item).with_field(arrow_schema::Field::new(
            "item",
            arrow_schema::DataType::Struct(HEADER_FIELDS.clone()),
            false,
        ));
        for (row, record) in failed.iter().enumerate() {
            let item = list.values();
            let mut add = |key: &str, value: Option<&[u8]>| {
                item.field_builder::<StringBuilder>(0).expect("the key").append_value(key);
                item.field_builder::<BinaryBuilder>(1).expect("the value").append_option(value);
                item.append(true);
            };
            if let Some(own) = own.filter(|own| own.is_valid(row)) {
                let own = own.value(row);
                let (keys, values) =
                    (own.as_struct().column(0).as_string::<i32>(), own.as_struct().column(1).as_binary::<i32>());
                for header in 0..keys.len() {
                    add(keys.value(header), values.is_valid(header).then(|| values.value(header)));
                }
            }
            let partition = &fetched.topic_partition;
            let context: [(&str, String); 10] = [
                ("topic", partition.topic.to_string()),
                ("partition", partition.partition.to_string()),
                ("offset", fetched.offsets.value(record.row).to_string()),
                ("connector.name", self.connector.clone()),
                ("task.id", self.task.to_string()),
                ("stage", record.stage.name().to_owned()),
                ("class.name", record.class.clone()),
                ("exception.class.name", "org.apache.kafka.connect.errors.DataException".to_owned()),
                ("exception.message", record.message.clone()),
                ("exception.stacktrace", record.message.clone()),
            ];
            for (key, value) in &context {
                add(&format!("__connect.errors.{key}"), Some(value.as_bytes()));
            }
            list.append(true);
        }
        list.finish()
    }
}
