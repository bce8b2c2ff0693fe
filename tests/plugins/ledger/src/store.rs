//! The database: rows, and the offsets behind them.

use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};
use tributary_sdk::arrow::array::Array;
use tributary_sdk::own_offsets::{Claimed, Entry, OffsetTable};
use tributary_sdk::sink::Failures;
use tributary_sdk::{Batch, Error, Result, TopicPartition, TopicPartitionOffset};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS lines (line TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS offsets (
        connector TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
        next_offset INTEGER, epoch INTEGER NOT NULL,
        PRIMARY KEY (connector, topic, partition)
    ) WITHOUT ROWID;";

/// An open database.
pub struct Store(Connection);

fn error(what: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::retriable(format!("{what}: {error}")),
        _ => Error::failed(format!("{what}: {error}")),
    }
}

impl Store {
    /// Opens a database, and makes its tables.
    pub fn open(file: &str) -> Result<Self> {
        let failed = error("opening the database");
        let connection = Connection::open(file).map_err(&failed)?;
        connection.busy_timeout(Duration::from_secs(10)).map_err(&failed)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(&failed)?;
        connection.execute_batch(TABLES).map_err(&failed)?;
        Ok(Self(connection))
    }

    /// Writes rows with their entry, if that has the table's epoch; answers whether.
    pub fn write(&mut self, batch: &Batch, entry: &Entry, failures: &mut Failures) -> Result<bool> {
        let failed = error("writing rows");
        let Some(texts) = batch.value.as_text() else {
            // All of them: the offset must not pass a row that failed. See `own_offsets`.
            (0..batch.len()).for_each(|row| failures.fail(row, "the value is no text"));
            return Ok(true);
        };
        let transaction = self.begin("writing rows")?;
        let Entry { connector, partition: TopicPartition { topic, partition }, epoch, previous, next_offset } = entry;
        let sql = "UPDATE offsets SET next_offset = ?1 \
                   WHERE connector = ?2 AND topic = ?3 AND partition = ?4 AND epoch = ?5 AND next_offset IS ?6";
        let changed =
            transaction.execute(sql, params![next_offset, &**connector, &**topic, partition, epoch, previous]);
        if changed.map_err(&failed)? == 0 {
            return Ok(false);
        }
        {
            let mut insert = transaction.prepare_cached("INSERT INTO lines VALUES (?1)").map_err(&failed)?;
            for row in (0..batch.len()).filter(|row| texts.is_valid(*row)) {
                insert.execute([texts.value(row)]).map_err(&failed)?;
            }
        }
        transaction.commit().map_err(&failed)?;
        Ok(true)
    }

    /// The offset passes rows that were refused, in a transaction that is open until [`Self::release`] or [`Self::abandon`].
    pub fn hold(&mut self, entry: &Entry) -> Result<()> {
        let failed = error("passing rows");
        self.0.execute_batch("BEGIN IMMEDIATE").map_err(&failed)?;
        let TopicPartition { topic, partition } = &entry.partition;
        let sql =
            "UPDATE offsets SET next_offset = ?1 WHERE connector = ?2 AND topic = ?3 AND partition = ?4 AND epoch = ?5";
        let values = params![entry.next_offset, &*entry.connector, &**topic, partition, entry.epoch];
        self.0.execute(sql, values).map_err(&failed).map(drop)
    }

    /// Commits what is open.
    pub fn release(&mut self) -> Result<()> {
        if self.0.is_autocommit() { Ok(()) } else { self.0.execute_batch("COMMIT").map_err(error("passing rows")) }
    }

    /// Rolls it back.
    pub fn abandon(&mut self) -> Result<()> {
        if self.0.is_autocommit() {
            Ok(())
        } else {
            self.0.execute_batch("ROLLBACK").map_err(error("closing partitions"))
        }
    }

    /// All rows.
    pub fn lines(&self) -> Result<Vec<String>> {
        let failed = error("reading rows");
        let mut query = self.0.prepare("SELECT line FROM lines ORDER BY rowid").map_err(&failed)?;
        let lines = query.query_map([], |row| row.get(0)).map_err(&failed)?;
        lines.collect::<rusqlite::Result<_>>().map_err(&failed)
    }

    fn begin(&mut self, what: &'static str) -> Result<Transaction<'_>> {
        self.0.transaction_with_behavior(TransactionBehavior::Immediate).map_err(error(what))
    }
}

fn entries(connection: &Connection, connector: &str, partitions: &[TopicPartition]) -> Result<Vec<Claimed>> {
    let failed = error("reading offsets");
    let sql = "SELECT epoch, next_offset FROM offsets WHERE connector = ?1 AND topic = ?2 AND partition = ?3";
    let mut query = connection.prepare_cached(sql).map_err(&failed)?;
    let mut entry = |at: &TopicPartition| {
        query.query_row(params![connector, &*at.topic, at.partition], |row| {
            Ok(Claimed { partition: at.clone(), epoch: row.get(0)?, next_offset: row.get(1)? })
        })
    };
    partitions.iter().map(|at| entry(at).map_err(&failed)).collect()
}

impl OffsetTable for Store {
    fn claim(&mut self, connector: &str, partitions: &[TopicPartition]) -> Result<Vec<Claimed>> {
        let failed = error("opening partitions");
        let transaction = self.begin("opening partitions")?;
        for at in partitions {
            let sql = "INSERT INTO offsets VALUES (?1, ?2, ?3, NULL, 1) ON CONFLICT DO UPDATE SET epoch = epoch + 1";
            transaction.execute(sql, params![connector, &*at.topic, at.partition]).map_err(&failed)?;
        }
        let claimed = entries(&transaction, connector, partitions)?;
        transaction.commit().map_err(&failed)?;
        Ok(claimed)
    }

    fn read(&mut self, connector: &str, partitions: &[TopicPartition]) -> Result<Vec<Claimed>> {
        entries(&self.0, connector, partitions)
    }

    fn alter(&mut self, connector: &str, offsets: &[TopicPartitionOffset]) -> Result<()> {
        let failed = error("changing offsets");
        let transaction = self.begin("changing offsets")?;
        for at in offsets {
            let sql = "INSERT INTO offsets VALUES (?1, ?2, ?3, ?4, 1) \
                       ON CONFLICT DO UPDATE SET epoch = epoch + 1, next_offset = excluded.next_offset";
            transaction.execute(sql, params![connector, &*at.topic, at.partition, at.offset]).map_err(&failed)?;
        }
        transaction.commit().map_err(&failed)
    }
}
