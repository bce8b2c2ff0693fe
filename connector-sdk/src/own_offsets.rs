//! Sinks that keep their offsets in their own store, so that every record is written exactly once.
//!
//! A store with transactions gets a table beside the rows: `connector`, `topic`, `partition` (together its key), `next_offset` (null: none
//! yet) and `epoch`. Each transaction writes rows and the offset behind them, and checks the epoch; so after a crash the table says what is
//! there, whatever the consumer group says. [`SinkTask::open`](crate::SinkTask::open) adds one to the epochs of its partitions and answers
//! with their offsets, so the worker goes on from there, and a former task that does not know yet (a process that stood still) finds an epoch
//! that is not its own, and writes nothing more. The group's offsets follow, for display: leave
//! [`pre_commit`](crate::SinkTask::pre_commit) as it is.
//!
//! A sink implements [`OffsetTable`] on its store, and lets [`OwnOffsets`] keep the books:
//!
//! ```no_run
//! # use tributary_sdk::own_offsets::*; use tributary_sdk::*;
//! # struct Store; impl OffsetTable for Store {
//! #   fn claim(&mut self, _: &str, _: &[TopicPartition]) -> Result<Vec<Claimed>> { todo!() }
//! #   fn read(&mut self, _: &str, _: &[TopicPartition]) -> Result<Vec<Claimed>> { todo!() }
//! #   fn alter(&mut self, _: &str, _: &[TopicPartitionOffset]) -> Result<()> { todo!() } }
//! # impl Store { fn write(&mut self, _: &Batch, _: &Entry) -> Result<bool> { todo!() } }
//! # struct Task { store: Store, offsets: OwnOffsets } impl Task {
//! fn open(&mut self, partitions: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
//!     self.offsets.open(&mut self.store, partitions)
//! }
//!
//! fn put(&mut self, batch: Batch, _: &mut Failures) -> Result<()> {
//!     let Some((batch, entry)) = self.offsets.begin(&mut self.store, &batch)? else { return Ok(()) };
//!     // One transaction: the rows, and UPDATE … SET next_offset = … WHERE connector, topic, partition and epoch are the entry's, and
//!     // next_offset IS NOT DISTINCT FROM its previous one.
//!     let written = self.store.write(&batch, &entry);
//!     self.offsets.end(entry, written)
//! }
//! # }
//! ```
//!
//! # Rows that cannot be written
//!
//! The offset in the table moves past all rows of its transaction, so rows named in [`Failures`](crate::sink::Failures) must not be among
//! those that it passes: one that is to be retried is refused when it is put again, as the table says that it is there, and one that fails
//! for good is not read again after a restart, also with `errors.tolerance=none`. Let `put` fail before anything of the batch is written: with
//! [`Error::Retriable`](crate::Error::Retriable) where another attempt may help, otherwise by naming every row of it as failed for good.
//! Only where the loss of a bad row is what the user wants (`errors.tolerance=all`) may the rows around it be written without it.
//!
//! For the same reason records have to come once, and in the order of their offsets: a transform that makes several batches of the same
//! records is refused.
//!
//! Behind transforms that keep state, records come through an outbox topic, whose offsets count: [`Batch::place`] has the partition that `open`
//! named and the offsets there, whatever topic and offset the records themselves have. The worker asks
//! [`exactly_once_support`](crate::SinkConnector::exactly_once_support) whether to make one.
//!
//! There, the dead letters of refused rows are committed before the next call of `put` or `pre_commit`, and not before `put` returns. So a sink that
//! commits in `put` leaves its offset in front of rows that it refuses, for the next `put` to pass; or it passes them in a transaction that it
//! commits in `flush` (which `pre_commit` calls) or with the next `put`, and rolls back in `close`.
//!
//! Records of transactions that were aborted must not be read: set `consumer.override.isolation.level=read_committed` where the topic is written
//! in transactions, as the outputs of `KafkaSink` are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::batch::Batch;
use crate::errors::{Error, Result};
use crate::sink::{TopicPartition, TopicPartitionOffset};

/// An entry of the table as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Whose.
    pub partition: TopicPartition,
    /// How often the partition was opened.
    pub epoch: i64,
    /// The offset behind the last record that is there; `None`: there is none yet.
    pub next_offset: Option<i64>,
}

/// What a transaction writes to the table, together with its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The connector's name.
    pub connector: Arc<str>,
    /// Whose.
    pub partition: TopicPartition,
    /// It is written only where the table has this epoch.
    pub epoch: i64,
    /// What the table has before. A store that writes the entry only where this is so, too, cannot write a batch a second time, whatever its
    /// transaction that was in doubt has come to.
    pub previous: Option<i64>,
    /// The offset behind the last record of the transaction.
    pub next_offset: i64,
}

/// The table, in a store that can write rows and the table in one transaction. Errors that may pass are retriable.
pub trait OffsetTable {
    /// In one transaction: adds one to the epochs of these partitions (an entry that is missing begins with epoch 1), and reads them.
    fn claim(&mut self, connector: &str, partitions: &[TopicPartition]) -> Result<Vec<Claimed>>;

    /// Reads them, once every transaction is over that might still write them: one whose commit was not answered may be committed later.
    fn read(&mut self, connector: &str, partitions: &[TopicPartition]) -> Result<Vec<Claimed>>;

    /// In one transaction: sets offsets (`None`: as if nothing was written yet), and adds one to the epochs. For
    /// [`SinkConnector::alter_offsets`](crate::SinkConnector::alter_offsets).
    fn alter(&mut self, connector: &str, offsets: &[TopicPartitionOffset]) -> Result<()>;
}

#[derive(Debug)]
struct Held {
    epoch: i64,
    next_offset: Option<i64>,
    /// What the table had when it was read last: records before this come again because the worker does not know it, and are there. Those
    /// from here up to `next_offset` were written by this task, which is not given them a second time, unless something is wrong.
    found: Option<i64>,
}

/// The books of one task.
#[derive(Debug)]
pub struct OwnOffsets {
    connector: Arc<str>,
    held: BTreeMap<TopicPartition, Held>,
    /// Partitions of which it is not known whether the last transaction was committed.
    doubted: BTreeSet<TopicPartition>,
}

impl OwnOffsets {
    /// No partition is open. `connector` is the connector's name (`name` in its config), under which the table has the offsets.
    pub fn new(connector: impl Into<Arc<str>>) -> Self {
        Self { connector: connector.into(), held: BTreeMap::new(), doubted: BTreeSet::new() }
    }

    /// What [`SinkTask::open`](crate::SinkTask::open) has to do and to answer.
    pub fn open(
        &mut self,
        table: &mut impl OffsetTable,
        partitions: &[TopicPartitionOffset],
    ) -> Result<Vec<TopicPartitionOffset>> {
        let wanted = partitions.iter().map(|at| TopicPartition { topic: at.topic.clone(), partition: at.partition });
        let claimed = table.claim(&self.connector, &wanted.collect::<Vec<_>>())?;
        let mut elsewhere = Vec::new();
        for Claimed { partition, epoch, next_offset } in claimed {
            if next_offset.is_some() {
                let (topic, partition) = (partition.topic.clone(), partition.partition);
                elsewhere.push(TopicPartitionOffset { topic, partition, offset: next_offset });
            }
            self.doubted.remove(&partition);
            self.held.insert(partition, Held { epoch, next_offset, found: next_offset });
        }
        Ok(elsewhere)
    }

    /// Whether the task has the partition.
    pub fn holds(&self, partition: &TopicPartition) -> bool {
        self.held.contains_key(partition)
    }

    /// Whether it is not known how much of a batch's partition is there, so that [`begin`](Self::begin) looks it up.
    pub fn doubts(&self, batch: &Batch) -> bool {
        batch.place().is_some_and(|(at, _)| self.doubted.contains(&at))
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// What [`SinkTask::close`](crate::SinkTask::close) has to do.
    pub fn close(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.held.remove(partition);
            self.doubted.remove(partition);
        }
    }

    /// The records of a batch that are not there yet, and what is to be written with them. `None`: all of them are there.
    pub fn begin(&mut self, table: &mut impl OffsetTable, batch: &Batch) -> Result<Option<(Batch, Entry)>> {
        let Some((partition, offsets)) = batch.place() else {
            return Err(Error::failed(
                "records without offsets (results of stateful transforms) cannot be written exactly once: the connector has to say in \
                 exactly_once_support that it keeps its own offsets, so that they come through an outbox topic",
            ));
        };
        if self.doubted.contains(&partition) {
            for found in table.read(&self.connector, std::slice::from_ref(&partition))? {
                let held = self.held.get_mut(&found.partition).filter(|held| held.epoch == found.epoch);
                let held = held.ok_or_else(|| fenced(&self.connector, &partition))?;
                if found.next_offset < held.next_offset {
                    return Err(gone_back(&self.connector, &partition, held.next_offset, found.next_offset));
                }
                (held.next_offset, held.found) = (found.next_offset, found.next_offset);
            }
            self.doubted.remove(&partition);
        }
        let Some(held) = self.held.get(&partition) else {
            return Err(Error::failed(format!(
                "records of {}-{} were put, and the partition is not open: a transform has renamed their topic, which an \
                 exactly-once sink cannot follow",
                partition.topic, partition.partition
            )));
        };
        let found = held.found.unwrap_or(i64::MIN);
        // Not a binary search: what a transform made of the batch need not be in order.
        let first = offsets.values().iter().position(|offset| *offset >= found).unwrap_or(batch.len());
        let again = held.next_offset.and_then(|next| offsets.values()[first..].iter().find(|offset| **offset < next));
        if let Some(again) = again {
            return Err(Error::failed(format!(
                "the record {again} of {}-{} was put again by a task that has already moved the offset in its store past it, so it may \
                 be missing there, and is not skipped. Either the connector names rows in its failures that its offset then passes: it has to \
                 refuse the batch instead. Or a transform makes several batches of the same records, or their transaction was done again \
                 because transforms keep state: the connector has to say in exactly_once_support that it keeps its own offsets",
                partition.topic, partition.partition
            )));
        }
        let Some(last) = offsets.values()[first..].iter().max() else { return Ok(None) };
        let (connector, epoch, previous) = (self.connector.clone(), held.epoch, held.next_offset);
        let entry = Entry { connector, partition, epoch, previous, next_offset: last + 1 };
        Ok(Some((batch.slice(first, batch.len() - first), entry)))
    }

    /// What became of the transaction: `Ok(false)`, that the table has another epoch, so that nothing was written. After an error it is looked
    /// up before the next one.
    pub fn end(&mut self, entry: Entry, written: Result<bool>) -> Result<()> {
        match written {
            Ok(true) => {
                if let Some(held) = self.held.get_mut(&entry.partition) {
                    held.next_offset = Some(entry.next_offset);
                }
                Ok(())
            }
            Ok(false) => Err(fenced(&entry.connector, &entry.partition)),
            Err(error) => {
                self.doubted.insert(entry.partition);
                Err(error)
            }
        }
    }
}

/// A store that has forgotten transactions (a standby that was behind has become the primary, a backup was restored) is read anew from where it is.
fn gone_back(connector: &str, partition: &TopicPartition, held: Option<i64>, found: Option<i64>) -> Error {
    let shown = |offset: Option<i64>| offset.map_or_else(|| "none".into(), |offset| offset.to_string());
    Error::failed(format!(
        "{connector} has written {}-{} up to the offset {}, and its store now says {}: the store has gone back to an earlier state, as after a \
         failover to a standby that was behind. A restart of the task goes on from where the store is",
        partition.topic,
        partition.partition,
        shown(held),
        shown(found)
    ))
}

fn fenced(connector: &str, partition: &TopicPartition) -> Error {
    Error::failed(format!(
        "another task of {connector} has opened {}-{}, or its offsets were changed: this one writes nothing more",
        partition.topic, partition.partition
    ))
}

#[cfg(test)]
mod tests {
    use arrow_array::StringArray;

    use super::*;
    use crate::Column;
    use crate::batch::{Offsets, Origin};

    #[derive(Default)]
    struct Table(BTreeMap<TopicPartition, (i64, Option<i64>)>);

    impl OffsetTable for Table {
        fn claim(&mut self, connector: &str, partitions: &[TopicPartition]) -> Result<Vec<Claimed>> {
            partitions.iter().for_each(|at| self.0.entry(at.clone()).or_default().0 += 1);
            self.read(connector, partitions)
        }
        fn read(&mut self, _: &str, partitions: &[TopicPartition]) -> Result<Vec<Claimed>> {
            let entry =
                |at: &TopicPartition| Claimed { partition: at.clone(), epoch: self.0[at].0, next_offset: self.0[at].1 };
            Ok(partitions.iter().map(entry).collect())
        }
        fn alter(&mut self, _: &str, _: &[TopicPartitionOffset]) -> Result<()> {
            Ok(())
        }
    }

    impl Table {
        fn write(&mut self, entry: &Entry) -> bool {
            let found = self.0.get_mut(&entry.partition).filter(|found| found.0 == entry.epoch);
            found.map(|found| found.1 = Some(entry.next_offset)).is_some()
        }
    }

    fn at() -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: 0 }
    }

    fn opened(table: &mut Table) -> (OwnOffsets, Vec<TopicPartitionOffset>) {
        let mut own = OwnOffsets::new("c");
        let asked = TopicPartitionOffset { topic: "t".into(), partition: 0, offset: Some(0) };
        let elsewhere = own.open(table, &[asked]).unwrap();
        (own, elsewhere)
    }

    fn batch(offsets: std::ops::Range<i64>) -> Batch {
        let mut batch =
            Batch::new("t", Column::text(offsets.clone().map(|n| Some(n.to_string())).collect::<StringArray>()));
        batch.partition = Some(0);
        batch.offsets = Offsets::Sink(offsets.collect::<Vec<_>>().into());
        batch
    }

    #[test]
    fn what_is_there_is_not_written_again() {
        let mut table = Table::default();
        let (mut own, elsewhere) = opened(&mut table);
        assert!(elsewhere.is_empty());
        let (rows, entry) = own.begin(&mut table, &batch(0..10)).unwrap().unwrap();
        assert_eq!((rows.len(), entry.epoch, entry.next_offset), (10, 1, 10));
        let written = table.write(&entry);
        own.end(entry, Ok(written)).unwrap();
        let (mut next, elsewhere) = opened(&mut table);
        assert_eq!(elsewhere[0].offset, Some(10));
        assert!(next.begin(&mut table, &batch(5..10)).unwrap().is_none());
        let (rows, entry) = next.begin(&mut table, &batch(5..12)).unwrap().unwrap();
        assert_eq!((rows.len(), entry.epoch, entry.next_offset), (2, 2, 12));
        // The former task is not asked for more.
        let (_, late) = own.begin(&mut table, &batch(10..11)).unwrap().unwrap();
        let written = table.write(&late);
        assert!(own.end(late, Ok(written)).unwrap_err().to_string().contains("writes nothing more"));
    }

    #[test]
    fn after_an_error_the_table_tells_what_is_there() {
        let mut table = Table::default();
        let (mut own, _) = opened(&mut table);
        let (_, entry) = own.begin(&mut table, &batch(0..10)).unwrap().unwrap();
        // It was committed, and the answer was lost.
        assert!(table.write(&entry));
        own.end(entry, Err(Error::retriable("gone"))).unwrap_err();
        assert!(own.begin(&mut table, &batch(0..10)).unwrap().is_none());
        let (_, entry) = own.begin(&mut table, &batch(10..11)).unwrap().unwrap();
        own.end(entry, Err(Error::retriable("gone"))).unwrap_err();
        opened(&mut table);
        assert!(own.begin(&mut table, &batch(10..11)).is_err(), "another task has opened it meanwhile");
        own.close(&[at()]);
        assert!(own.begin(&mut table, &batch(10..11)).unwrap_err().to_string().contains("not open"));
    }

    #[test]
    fn records_are_known_by_their_origin() {
        let mut table = Table::default();
        let (mut own, _) = opened(&mut table);
        let mut outbox = batch(7..9);
        outbox.offsets = Offsets::None;
        assert!(own.begin(&mut table, &outbox).unwrap_err().to_string().contains("exactly_once_support"));
        outbox.topic = "orders".into();
        let offsets = vec![0, 3].into();
        outbox.origin = Some(Origin { topic: "t".into(), partition: 0, offsets });
        let (rows, entry) = own.begin(&mut table, &outbox).unwrap().unwrap();
        assert_eq!((&*rows.topic, entry.partition.clone(), entry.next_offset), ("orders", at(), 4));
        let written = table.write(&entry);
        own.end(entry, Ok(written)).unwrap();
        assert_eq!(opened(&mut table).1[0].offset, Some(4));
    }

    #[test]
    fn what_this_task_has_passed_is_not_skipped() {
        let mut table = Table::default();
        let (mut own, _) = opened(&mut table);
        let (_, entry) = own.begin(&mut table, &batch(0..10)).unwrap().unwrap();
        let written = table.write(&entry);
        own.end(entry, Ok(written)).unwrap();
        // One of them was named as to be retried.
        let error = own.begin(&mut table, &batch(4..5)).unwrap_err();
        assert!(matches!(&error, Error::Failed(message) if message.contains("record 4 of t-0")), "{error:?}");
        // The rest of a batch does not hide it.
        assert!(own.begin(&mut table, &batch(9..12)).is_err());
        let (rows, _) = own.begin(&mut table, &batch(10..12)).unwrap().unwrap();
        assert_eq!(rows.len(), 2);
        // Another task cannot tell, and the worker gives it only what is not there.
        let (mut next, _) = opened(&mut table);
        assert!(next.begin(&mut table, &batch(4..5)).unwrap().is_none());
    }

    #[test]
    fn a_store_that_has_gone_back_is_not_followed_in_silence() {
        let mut table = Table::default();
        let (mut own, _) = opened(&mut table);
        let (_, entry) = own.begin(&mut table, &batch(0..10)).unwrap().unwrap();
        let written = table.write(&entry);
        own.end(entry, Ok(written)).unwrap();
        let (_, entry) = own.begin(&mut table, &batch(10..12)).unwrap().unwrap();
        assert_eq!(entry.previous, Some(10));
        own.end(entry, Err(Error::retriable("gone"))).unwrap_err();
        // The standby knows eight of them.
        table.0.get_mut(&at()).unwrap().1 = Some(8);
        let error = own.begin(&mut table, &batch(10..12)).unwrap_err();
        assert!(matches!(&error, Error::Failed(message) if message.contains("up to the offset 10")), "{error:?}");
        let (_, elsewhere) = opened(&mut table);
        assert_eq!(elsewhere[0].offset, Some(8));
    }
}
