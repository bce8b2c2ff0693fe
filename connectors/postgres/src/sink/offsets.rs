//! The table with offsets, where each record is written exactly once.

use tributary_sdk::own_offsets::{Claimed, Entry, OffsetTable};
use tributary_sdk::{Error, Result, TopicPartition, TopicPartitionOffset};

use super::config::SinkConfig;
use super::names::schema_and_table;
use super::session::{connect, told};
use crate::client::{Connection, Interrupts, PgError, identifier, literal};

/// Begins a transaction that does not wait for ever for the task before, which may stand still in the middle of one.
pub(super) const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '10s'";

/// The table, on connections of its own: a task's may be in the middle of a transaction.
pub(super) struct Offsets<'a> {
    config: &'a SinkConfig,
    interrupts: &'a Interrupts,
    table: String,
}

impl<'a> Offsets<'a> {
    pub fn new(config: &'a SinkConfig, interrupts: &'a Interrupts, table: &str) -> Self {
        Self { config, interrupts, table: quoted(table) }
    }

    fn within<T>(&self, what: &str, run: impl FnOnce(&mut Connection) -> Result<T, PgError>) -> Result<T> {
        let mut connection = connect(self.config, self.interrupts)?;
        let outcome = run(&mut connection).map_err(|error| told(&error, what))?;
        connection.close();
        Ok(outcome)
    }

    /// The entries that a statement for each partition answers, in one transaction; the table is made before, where that is asked for.
    fn entries(
        &self,
        what: &str,
        partitions: &[TopicPartition],
        make: bool,
        statement: impl Fn(&TopicPartition) -> String,
    ) -> Result<Vec<Claimed>> {
        self.within(what, |connection| {
            if make {
                self.prepare(connection)?;
            }
            connection.query(BEGIN)?;
            let mut found = Vec::with_capacity(partitions.len());
            for at in partitions {
                let rows = connection.query(&statement(at))?;
                found.push(claimed(at, rows.first().map_or(&[], Vec::as_slice))?);
            }
            connection.commit()?;
            Ok(found)
        })
    }

    /// Makes the table. `IF NOT EXISTS` does not keep two that make it at the same time apart, and a missing right to make it does not matter where it is there.
    fn prepare(&self, connection: &mut Connection) -> Result<(), PgError> {
        let found = connection.query(&format!("SELECT pg_catalog.to_regclass({})", literal(&self.table)))?;
        if found.first().and_then(|row| row.first()).is_some_and(Option::is_some) {
            return Ok(());
        }
        connection
            .query(&format!(
                "BEGIN; SELECT pg_catalog.pg_advisory_xact_lock(7305815, pg_catalog.hashtext({})); CREATE TABLE IF NOT EXISTS {} (connector text NOT NULL, topic text NOT NULL, partition int NOT NULL, \
                 next_offset bigint, epoch bigint NOT NULL, PRIMARY KEY (connector, topic, partition)); COMMIT",
                literal(&self.table),
                self.table
            ))
            .map(drop)
    }
}

fn quoted(name: &str) -> String {
    match schema_and_table(name.trim()) {
        (Some(schema), table) => format!("{}.{}", identifier(schema), identifier(table)),
        (None, table) => identifier(table),
    }
}

fn values(connector: &str, at: &TopicPartition) -> String {
    format!("{}, {}, {}", literal(connector), literal(&at.topic), at.partition)
}

/// The statement that moves an offset within a transaction; it touches no row if the epoch or what it moves on from is another one.
pub(super) fn advance(table: &str, entry: &Entry) -> String {
    let Entry { connector, partition: TopicPartition { topic, partition }, epoch, previous, next_offset } = entry;
    let previous = previous.map_or_else(|| "NULL".into(), |offset| offset.to_string());
    format!(
        "UPDATE {} SET next_offset = {next_offset} WHERE connector = {} AND topic = {} AND partition = {partition} AND epoch = {epoch} AND next_offset IS NOT DISTINCT FROM {previous}",
        quoted(table),
        literal(connector),
        literal(topic)
    )
}

fn claimed(at: &TopicPartition, row: &[Option<String>]) -> Result<Claimed, PgError> {
    let number = |at: usize| row.get(at).cloned().flatten().map(|text| text.parse::<i64>());
    let wrong = || PgError::Refused("the table of offsets has an entry that is none".into());
    let epoch = number(0).ok_or_else(wrong)?.map_err(|_| wrong())?;
    Ok(Claimed { partition: at.clone(), epoch, next_offset: number(1).transpose().map_err(|_| wrong())? })
}

impl OffsetTable for Offsets<'_> {
    fn claim(&mut self, connector: &str, partitions: &[TopicPartition]) -> Result<Vec<Claimed>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        self.entries("opening partitions in the table of offsets", partitions, true, |at| {
            format!(
                "INSERT INTO {} AS o VALUES ({}, NULL, 1) ON CONFLICT (connector, topic, partition) DO UPDATE SET epoch = o.epoch + 1 RETURNING epoch, next_offset",
                self.table,
                values(connector, at)
            )
        })
    }

    fn read(&mut self, connector: &str, partitions: &[TopicPartition]) -> Result<Vec<Claimed>> {
        // The lock waits for a commit that was not answered and is still under way.
        self.entries("reading the table of offsets", partitions, false, |at| {
            format!(
                "SELECT epoch, next_offset FROM {} WHERE (connector, topic, partition) = ({}) FOR UPDATE",
                self.table,
                values(connector, at)
            )
        })
    }

    fn alter(&mut self, connector: &str, offsets: &[TopicPartitionOffset]) -> Result<()> {
        self.within("changing the table of offsets", |connection| {
            self.prepare(connection)?;
            connection.query(BEGIN)?;
            for TopicPartitionOffset { topic, partition, offset } in offsets {
                let at = TopicPartition { topic: topic.clone(), partition: *partition };
                let offset = offset.map_or("NULL".into(), |offset| offset.to_string());
                connection.query(&format!(
                    "INSERT INTO {} AS o VALUES ({}, {offset}, 1) ON CONFLICT (connector, topic, partition) DO UPDATE SET epoch = o.epoch + 1, next_offset = excluded.next_offset",
                    self.table,
                    values(connector, &at)
                ))?;
            }
            connection.commit()
        })
    }
}

/// A missing right to make or write the table says what to do.
pub(super) fn explained(error: Error, table: &str) -> Error {
    match error {
        Error::Failed(message) if message.contains("SQLSTATE 42") => Error::Failed(format!(
            "{message}; the role needs SELECT, INSERT and UPDATE on {}, or the right to make it",
            quoted(table)
        )),
        error => error,
    }
}
