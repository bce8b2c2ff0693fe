//! Records that are written to a topic before anything is measured.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tributary_harness::{Context, KafkaBroker, Result};

use crate::settings::PRODUCER;

/// Writes to a topic of one partition, as quickly as the client takes it.
pub struct Produced {
    producer: BaseProducer,
    sent: u64,
}

impl Produced {
    /// Makes the topic.
    pub fn new(broker: &KafkaBroker, topic: &str) -> Result<Self> {
        broker.create_topic(topic, 1, &[])?;
        let mut config = broker.client();
        for (key, value) in PRODUCER {
            config.set(*key, *value);
        }
        Ok(Self { producer: config.create()?, sent: 0 })
    }

    /// Waits while the client's queue is full.
    pub fn send(&mut self, mut record: BaseRecord<'_, String, String>) -> Result<()> {
        while let Err((error, back)) = self.producer.send(record) {
            if error.rdkafka_error_code() != Some(rdkafka::types::RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            record = back;
            self.producer.poll(Duration::from_millis(10));
        }
        if self.sent.is_multiple_of(1000) {
            self.producer.poll(Duration::ZERO);
        }
        self.sent += 1;
        Ok(())
    }

    /// All of it is there.
    pub fn finish(self) -> Result<()> {
        self.producer.flush(Duration::from_secs(120)).context("cannot produce the records")?;
        Ok(())
    }
}
