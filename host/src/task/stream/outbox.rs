//! Between the chain and a sink that keeps its own offsets: a topic with the chain's results.
//!
//! Timers and watermarks do not run alike twice, so such a sink cannot be given results again and know which of them it has. So they are
//! written to a topic first, in the transaction that has the input's offsets and the state, and the sink is given what is committed there:
//! the same records at the same offsets, whatever happens. Partition n has the results of the last stage's partition n, in their order.
//!
//! The two halves depend on each other in nothing. What the sink was given goes on where it is when a transaction comes to nothing, and a
//! transaction does not wait for the sink. Where the sink begins is for it to say; the group's offsets follow every
//! `offset.flush.interval.ms`, for display, and so that used records can be deleted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arrow_array::{Int32Array, StringArray, builder::BinaryBuilder};
use tributary_sdk::Batch;

use super::stages::OutboxTopic;
use crate::log::{FetchedBatch, LogRecords, TopicPartition};
use crate::task::delivery::Part;
use crate::task::errors::TaskError;
use crate::transform::stateful::outbox::{Reader, Writer};

/// The sink's half.
pub struct Outbox {
    topic: OutboxTopic,
    reader: Reader,
    /// Next-to-read offsets behind what the sink was given, by partition that is open.
    given: BTreeMap<TopicPartition, i64>,
    /// How often the group's offsets follow, and when the next time is.
    interval: Duration,
    next: Instant,
}

impl Outbox {
    /// Nothing is open.
    pub fn new(topic: OutboxTopic, interval: Duration) -> Self {
        Self { topic, reader: Reader::default(), given: BTreeMap::new(), interval, next: Instant::now() + interval }
    }

    /// A partition as the sink knows it.
    pub fn labelled(&self, partition: &TopicPartition) -> TopicPartition {
        TopicPartition { topic: self.topic.label.clone(), partition: partition.partition }
    }

    /// The sink's partition as the log knows it.
    pub fn unlabelled(&self, partition: i32) -> TopicPartition {
        TopicPartition { topic: self.topic.topic.clone(), partition }
    }

    /// The sink has everything of a partition up to here.
    pub fn gave(&mut self, partition: &TopicPartition, next: i64) {
        self.given.insert(partition.clone(), next);
    }

    /// Where a partition is read on.
    pub fn place(&self, partition: &TopicPartition) -> Option<i64> {
        self.given.get(partition).copied()
    }

    /// Partitions are not read any more.
    pub fn forget(&mut self, partitions: &[TopicPartition]) {
        self.given.retain(|partition, _| !partitions.contains(partition));
    }

    /// Whether no partition is open.
    pub fn is_closed(&self) -> bool {
        self.given.is_empty()
    }

    /// The sink is to be asked for offsets with the next commit.
    pub fn hurry(&mut self) {
        self.next = Instant::now();
    }

    /// Offsets to be offered to the sink now: those that have moved.
    pub fn offered(&mut self, committed: &BTreeMap<TopicPartition, i64>) -> Vec<(TopicPartition, i64)> {
        if Instant::now() < self.next {
            return Vec::new();
        }
        self.next = Instant::now() + self.interval;
        let moved = |(partition, next): &(&TopicPartition, &i64)| committed.get(partition) != Some(*next);
        self.given.iter().filter(moved).map(|(partition, next)| (partition.clone(), *next)).collect()
    }

    /// Records as the sink is given them.
    pub fn read(&mut self, fetched: &FetchedBatch) -> Result<Vec<Batch>, TaskError> {
        let place = self.labelled(&fetched.topic_partition);
        let read = self.reader.read(fetched.records.values.iter(), &place, &fetched.offsets);
        read.map_err(|error| {
            let TopicPartition { topic, partition } = &fetched.topic_partition;
            TaskError::new(format!("{topic}-{partition}: {error}"))
        })
    }

    /// Whether the log has what the sink wants to begin with. It lasts until the group's offset has passed it.
    pub fn check(&self, at: &TopicPartition, begin: i64, (first, end): (i64, i64)) -> Result<(), TaskError> {
        let TopicPartition { topic, partition } = at;
        if begin < first {
            return Err(TaskError::new(format!(
                "{topic}-{partition} is to be read from offset {begin} on, and begins at {first}: results that the connector had are \
                 deleted, and its own store does not have them any more (was an older copy of it restored?). Either stop the connector and \
                 set the offset to {first}, which leaves those results out, or reset its offsets, so that all is made anew"
            )));
        }
        self.check_end(at, begin, end)
    }

    /// Whether it has everything in front of it.
    pub fn check_end(&self, partition: &TopicPartition, begin: i64, end: i64) -> Result<(), TaskError> {
        let TopicPartition { topic, partition } = partition;
        if begin > end {
            return Err(TaskError::new(format!(
                "{topic}-{partition} is to be read from offset {begin} on, and ends at {end}: the offset is that of another topic, or records \
                 have been lost. Stop the connector and set the offset to where it has to go on, or reset its offsets, so that all is made anew"
            )));
        }
        Ok(())
    }
}

/// The partition of the outbox that has the results of a partition of the last stage.
pub fn partition(topic: &OutboxTopic, partition: i32) -> i32 {
    partition.rem_euclid(topic.partitions.max(1))
}

/// A batch that leaves the chain, of a partition of the last stage: what is to be written, and rows that cannot be, with the reasons.
pub fn write(topic: &OutboxTopic, partition: i32, batch: &Batch) -> Result<(Part, Vec<(usize, String)>), TaskError> {
    let writer = Writer::new(batch).map_err(|error| TaskError::of_call("the outbox", error))?;
    let (mut values, mut bytes, mut refused) = (BinaryBuilder::new(), Vec::new(), Vec::new());
    let mut rows = 0;
    for row in 0..batch.len() {
        bytes.clear();
        match writer.write(row, &mut bytes) {
            Ok(()) => {
                values.append_value(&bytes);
                rows += 1;
            }
            Err(message) => refused.push((row, message)),
        }
    }
    let partition = self::partition(topic, partition);
    let records = LogRecords {
        keys: None,
        values: values.finish(),
        headers: None,
        timestamps: None,
        partitions: Some(Int32Array::from(vec![partition; rows])),
    };
    let part = Part { topic: topic.topic.clone(), source_partition: None, records, offsets: None::<StringArray> };
    Ok((part, refused))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_sdk::Column;

    fn topic() -> OutboxTopic {
        OutboxTopic { topic: "o".into(), label: "o@7".into(), partitions: 3 }
    }

    fn at(partition: i32) -> TopicPartition {
        TopicPartition { topic: "o".into(), partition }
    }

    #[test]
    fn results_of_a_partition_stay_together() {
        let batch = Batch::new("t", Column::text(StringArray::from(vec!["a", "b"])));
        let (part, refused) = write(&topic(), 2, &batch).unwrap();
        assert_eq!(
            (&*part.topic, part.records.partitions.unwrap().values().as_ref(), refused.len()),
            ("o", [2, 2].as_slice(), 0)
        );
    }

    #[test]
    fn offsets_follow_what_was_given() {
        let mut outbox = Outbox::new(topic(), Duration::from_secs(3600));
        outbox.gave(&at(0), 5);
        outbox.gave(&at(1), 7);
        let committed = BTreeMap::from([(at(0), 5), (at(1), 3)]);
        assert!(outbox.offered(&committed).is_empty());
        outbox.hurry();
        assert_eq!(outbox.offered(&committed), [(at(1), 7)]);
        assert!(outbox.offered(&committed).is_empty());
        outbox.forget(&[at(1)]);
        assert_eq!((outbox.place(&at(0)), outbox.place(&at(1)), outbox.is_closed()), (Some(5), None, false));
        assert_eq!((&*outbox.labelled(&at(2)).topic, outbox.unlabelled(2)), ("o@7", at(2)));
    }

    #[test]
    fn what_is_not_there_is_not_skipped() {
        let outbox = Outbox::new(topic(), Duration::ZERO);
        let check = |begin| outbox.check(&at(0), begin, (10, 20)).map_err(|error| error.message);
        assert!(check(9).unwrap_err().contains("begins at 10"));
        assert!(check(21).unwrap_err().contains("ends at 20"));
        assert!(outbox.check_end(&at(0), 21, 20).is_err() && outbox.check_end(&at(0), 20, 20).is_ok());
        assert_eq!((check(10), check(20)), (Ok(()), Ok(())));
    }
}
