//! [`TransactionalProducer`] on the embedded log.
//!
//! Promises: a transaction is one transaction of the file, so its records, and a group's offsets, are there together or not
//! at all, and never half: not for readers, not after kill -9. What is sent waits in memory for the commit. The latest
//! producer that was initialised with an id fences the earlier ones, those of other processes too: each commit checks the
//! epoch that the file has for the id.
//!
//! Fails: a record that is too large, or for a partition that is not there, is refused alone and at once. A commit that
//! fails for now (a full disk) leaves nothing behind: abort, and do the transaction again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::super::{
    ClientSettings, Completion, GroupMetadata, LogError, LogProducer, LogRecords, NextStep, TopicPartition,
    TransactionError, TransactionalProducer,
};
use super::Inner;
use super::admin::store_offsets;
use super::database::from_sqlite;
use super::outbox::Parcel;
use super::producer::EmbeddedProducer;

/// Between the group's name and the member's number in [`GroupMetadata`].
const SEPARATOR: char = '\n';

pub(super) struct EmbeddedTransactions {
    inner: Arc<Inner>,
    id: Arc<str>,
    producer: EmbeddedProducer,
    epoch: Option<i64>,
    open: Option<Open>,
}

#[derive(Default)]
struct Open {
    parcels: Vec<Parcel>,
    offsets: Vec<GroupOffsets>,
}

#[derive(Clone)]
struct GroupOffsets {
    group: String,
    member: u64,
    offsets: Vec<(TopicPartition, Option<i64>)>,
}

/// A member's place in its group.
pub(super) fn membership(group: &str, member: u64) -> GroupMetadata {
    GroupMetadata(format!("{group}{SEPARATOR}{member}").into_bytes())
}

/// Takes the id over: whoever had it before commits nothing more. The new epoch.
pub(super) fn fence(inner: &Inner, id: &str) -> Result<i64, LogError> {
    let id = id.to_owned();
    inner.writer.change(move |connection| {
        let raised = connection.query_row(
            "INSERT INTO producers (id, epoch) VALUES (?1, 1) ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
            [&id],
            |row| row.get(0),
        );
        raised
            .map(|epoch| (epoch, false))
            .map_err(|error| from_sqlite(&error, &format!("fencing the transactional id {id}")))
    })
}

impl EmbeddedTransactions {
    pub(super) fn new(inner: Arc<Inner>, id: &str, settings: &ClientSettings) -> Self {
        let producer = EmbeddedProducer::staging(inner.clone(), settings);
        Self { inner, id: id.into(), producer, epoch: None, open: None }
    }

    fn stage(&mut self) {
        let parcels = self.producer.stage();
        if let Some(open) = &mut self.open {
            open.parcels.extend(parcels);
        }
    }

    fn misused(&self, what: &str) -> TransactionError {
        let id = &self.id;
        TransactionError {
            error: LogError::fatal(format!("{what} with the transactional id {id}; this is a bug of the worker")),
            next: NextStep::Close,
        }
    }
}

impl LogProducer for EmbeddedTransactions {
    fn send(
        &mut self,
        topic: &str,
        records: &LogRecords,
        from_row: usize,
        token: u64,
        timeout: Duration,
    ) -> Result<usize, LogError> {
        if self.open.is_none() {
            return Err(self.misused("sending outside of a transaction").error);
        }
        self.producer.send(topic, records, from_row, token, timeout)
    }

    fn finish(&mut self, token: u64) {
        self.stage();
        self.producer.finish(token);
    }

    fn poll(&mut self, _timeout: Duration) -> Result<Vec<Completion>, LogError> {
        self.stage();
        self.producer.poll(Duration::ZERO)
    }

    fn in_flight(&self) -> usize {
        self.producer.in_flight()
    }

    fn flush(&mut self, _timeout: Duration) -> Result<(), LogError> {
        self.stage();
        Ok(())
    }

    fn close(self: Box<Self>, _timeout: Duration) -> Result<(), LogError> {
        Ok(())
    }
}

impl TransactionalProducer for EmbeddedTransactions {
    fn init(&mut self, _timeout: Duration) -> Result<(), TransactionError> {
        match fence(&self.inner, &self.id) {
            Ok(epoch) => {
                self.epoch = Some(epoch);
                Ok(())
            }
            Err(error) if error.retriable => Err(TransactionError { error, next: NextStep::Retry }),
            Err(error) => Err(TransactionError::fatal(error)),
        }
    }

    fn begin(&mut self) -> Result<(), TransactionError> {
        if self.epoch.is_none() || self.open.is_some() {
            return Err(self.misused("beginning a transaction before init, or inside of another one,"));
        }
        self.open = Some(Open::default());
        Ok(())
    }

    fn send_offsets(
        &mut self,
        offsets: &[(TopicPartition, i64)],
        group: &GroupMetadata,
        _timeout: Duration,
    ) -> Result<(), TransactionError> {
        let known = std::str::from_utf8(&group.0).ok().and_then(|text| {
            let (group, member) = text.rsplit_once(SEPARATOR)?;
            Some((group.to_owned(), member.parse().ok()?))
        });
        let (Some((group, member)), Some(open)) = (known, &mut self.open) else {
            return Err(self.misused("adding offsets without a group or a transaction"));
        };
        let offsets = offsets.iter().map(|(partition, offset)| (partition.clone(), Some(*offset))).collect();
        open.offsets.push(GroupOffsets { group, member, offsets });
        Ok(())
    }

    fn commit(&mut self, _timeout: Duration) -> Result<(), TransactionError> {
        self.stage();
        let (Some(Open { parcels, offsets }), Some(epoch)) = (self.open.take(), self.epoch) else {
            return Err(self.misused("committing without a transaction"));
        };
        // Not the log itself: dropping the last of it on its own writing thread would wait for itself.
        let (inner, id) = (Arc::downgrade(&self.inner), self.id.clone());
        let outcome = self.inner.writer.transaction(parcels, move |connection| {
            check_epoch(connection, &id, epoch)?;
            offsets.iter().try_for_each(|offsets| offsets.store(connection, &inner))
        });
        outcome.map_err(|error| {
            let next = match error.code {
                Some(code) if super::super::is_fenced(code) => NextStep::Fenced,
                // Nothing of it is there: it may be done again, by this member or another one.
                _ => NextStep::Abort,
            };
            // So that the abort that follows has something to abort.
            self.open = Some(Open::default());
            TransactionError { error, next }
        })
    }

    fn abort(&mut self, _timeout: Duration) -> Result<(), TransactionError> {
        self.stage();
        self.open = None;
        Ok(())
    }

    fn as_producer(&mut self) -> &mut dyn LogProducer {
        self
    }

    fn close_transactional(self: Box<Self>, _timeout: Duration) -> Result<(), LogError> {
        Ok(())
    }
}

fn check_epoch(connection: &Connection, id: &str, mine: i64) -> Result<(), LogError> {
    let found: Option<i64> = connection
        .prepare_cached("SELECT epoch FROM producers WHERE id = ?1")
        .and_then(|mut query| query.query_row([id], |row| row.get(0)).optional())
        .map_err(|error| from_sqlite(&error, &format!("committing with the transactional id {id}")))?;
    if found == Some(mine) {
        return Ok(());
    }
    Err(LogError {
        message: format!("committing with the transactional id {id}: another producer has taken it over"),
        retriable: false,
        code: Some("PRODUCER_FENCED"),
    })
}

impl GroupOffsets {
    fn store(&self, connection: &Connection, inner: &Weak<Inner>) -> Result<(), LogError> {
        let Self { group, member, offsets } = self;
        if let Some(inner) = inner.upgrade() {
            inner.groups().check_owner(group, *member, offsets.iter().map(|(partition, _)| partition))?;
        }
        store_offsets(connection, group, offsets)
            .map_err(|error| from_sqlite(&error, &format!("committing offsets of group {group}")))
    }
}
