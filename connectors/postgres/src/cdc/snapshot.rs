//! Reading the tables before streaming.
//!
//! With a slot that was just made comes a snapshot of exactly what lies before it; so what is read and what is streamed neither overlap
//! nor leave a gap. That snapshot ends with its connection. After a crash, the tables that were not read to their end are read anew with
//! a snapshot of its own, and the transactions that it has seen are left out when they come in the log, for these tables alone
//! ([`Visibility`]). It is taken only when everything that ran while the slot was made is over: what committed before the slot
//! would otherwise be in neither.
//!
//! COPY is read as it comes, row by row and never whole, so memory holds a batch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tributary_sdk::{Batch, Context, Error, Result};

use super::catalog::{CatalogTable, Types, fields};
use super::envelope::{Events, Op, Place};
use super::lsn;
use super::offsets::{Offset, SnapshotProgress};
use super::pgoutput::Value;
use super::slot::NewSlot;
use super::table::Plan;
use super::visibility::Visibility;
use crate::client::{Connection, PgResult, identifier, literal};
use crate::config::SourceConfig;

/// A snapshot under way.
pub(crate) struct Snapshot {
    connection: Connection,
    /// Where streaming begins.
    start: u64,
    /// What this attempt sees; empty where it is exactly what lies before the slot.
    seen: String,
    /// Behind everything that it sees.
    until: u64,
    time_us: i64,
    progress: SnapshotProgress,
    /// With whether it is partitioned: of others, tables that inherit from it are not part.
    left: VecDeque<(Arc<Plan>, bool)>,
    current: Option<Current>,
    any: bool,
    /// Whether its transaction is open, which keeps others from changing the tables' columns.
    holds: bool,
}

/// The table that is being read.
struct Current {
    events: Events,
    /// The row that comes next: only behind it is known whether it is the last one.
    next: Option<Bytes>,
    first: bool,
}

/// A connection that reads, and what the catalogue says.
pub(crate) struct Session {
    pub connection: Connection,
    pub types: Types,
    /// The tables that are captured.
    pub tables: Vec<CatalogTable>,
}

/// Where streaming begins once the tables are read.
pub(crate) enum From<'a> {
    /// A slot that was just made.
    NewSlot(&'a NewSlot),
    /// One that is older, and what was read already.
    Place(u64, Option<SnapshotProgress>),
}

/// What an attempt at a snapshot comes to.
pub(crate) enum Begun {
    Reads(Box<Snapshot>),
    /// What ran while the slot was made, or at the first attempt, is not over yet, of which this is the oldest. The next attempt is to be given the
    /// progress: compared with its own beginning, none would ever find everything over on a busy server.
    Waits(SnapshotProgress, u64),
}

/// What a poll of a snapshot gives.
pub(crate) enum Read {
    Rows(Vec<Batch>),
    /// All tables are read; streaming begins here.
    Done(Box<Offset>),
}

const WHAT: &str = "reading the tables for the snapshot";

impl Snapshot {
    /// Begins, or goes on after a crash.
    pub fn begin(context: &Context, config: &SourceConfig, session: Session, from: From<'_>) -> Result<Begun> {
        let Session { mut connection, types, tables } = session;
        let (start, slot, mut progress) = match from {
            From::NewSlot(slot) => (slot.consistent, Some(slot), SnapshotProgress::default()),
            From::Place(start, progress) => (start, None, progress.unwrap_or_default()),
        };
        let refused = |error: crate::client::PgError| error.into_error(WHAT);
        connection.query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").map_err(refused)?;
        if let Some(slot) = slot {
            connection.query(&format!("SET TRANSACTION SNAPSHOT {}", literal(&slot.snapshot))).map_err(refused)?;
        }
        // The snapshot is taken by this very query, and everything that it sees lies before the place that is asked for after it.
        let [seen] = one(connection.query("SELECT pg_catalog.pg_current_snapshot()::text").map_err(refused)?)?;
        let [until] = one(connection.query("SELECT pg_catalog.pg_current_wal_insert_lsn()::text").map_err(refused)?)?;
        let parse = |text: &str| Visibility::parse(text).ok_or_else(|| Error::failed(format!("{text} is no snapshot")));
        let visibility = parse(&seen)?;
        if progress.begun.is_empty() {
            progress.begun = visibility.show();
        }
        if slot.is_none() && visibility.xmin < parse(&progress.begun)?.xmax {
            // Some of what ran then still does. Nothing was read: the next attempt sees more.
            connection.query("ROLLBACK").map_err(refused)?;
            connection.close();
            return Ok(Begun::Waits(progress, visibility.xmin));
        }
        let mut left = VecDeque::new();
        for table in tables.iter().filter(|table| config.filters.in_snapshot(&table.schema, &table.name)) {
            let plan = Plan::of_catalog(config, &types, table)?;
            if !progress.tables.contains_key(&plan.full_name()) {
                left.push_back((Arc::new(plan), table.partitioned));
            }
        }
        if !left.is_empty() {
            // Now, not when each one's turn comes: a TRUNCATE or a rewrite meanwhile would leave it empty for this snapshot.
            let all: Vec<String> = left.iter().map(|(plan, partitioned)| only(plan, *partitioned)).collect();
            connection.query(&format!("LOCK TABLE {} IN ACCESS SHARE MODE", all.join(", "))).map_err(refused)?;
        }
        context.info(format!(
            "taking a snapshot of {} tables; streaming will begin at {}",
            left.len(),
            lsn::show(start)
        ));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Begun::Reads(Box::new(Self {
            connection,
            start,
            seen: if slot.is_some() { String::new() } else { visibility.show() },
            until: lsn::parse(&until).ok_or_else(|| Error::failed(format!("{until} is no place in the log")))?,
            time_us: now.as_micros() as i64,
            progress,
            left,
            current: None,
            any: false,
            holds: true,
        })))
    }

    /// Rows of the next table that has some, at most a batch.
    pub fn read(&mut self, context: &Context, config: &SourceConfig) -> Result<Read> {
        let refused = |error: crate::client::PgError| error.into_error(WHAT);
        loop {
            if self.current.is_none() {
                let Some((plan, partitioned)) = self.left.pop_front() else {
                    self.release()?;
                    context.info("the snapshot is complete");
                    return Ok(Read::Done(Box::new(self.done())));
                };
                if !plan.unknown.is_empty() {
                    let (table, columns) = (plan.full_name(), plan.unknown.join(", "));
                    context
                        .warn(format!("columns of {table} are left out, since their types are not known: {columns}"));
                }
                self.connection.copy_out(&select(&plan, partitioned)).map_err(refused)?;
                let next = self.connection.copied().map_err(refused)?;
                if next.is_none() {
                    self.progress.tables.insert(plan.full_name(), self.seen.clone());
                    continue;
                }
                self.current = Some(Current { events: Events::new(config, plan), next, first: true });
            }
            let batch = self.fill(config.batch)?;
            let Some(current) = &self.current else { continue };
            let ended = current.next.is_none();
            if ended {
                self.progress.tables.insert(current.events.plan.full_name(), self.seen.clone());
                self.current = None;
                if self.left.is_empty() {
                    self.release()?;
                }
            }
            let partition = super::offsets::partition(&config.prefix).to_string();
            let batch = match ended {
                // The last table's end is the end of the snapshot.
                true => {
                    let offset = if self.left.is_empty() { self.done() } else { self.under_way() };
                    batch.with_resume_point(partition, &serde_json::to_string(&offset)?)
                }
                false => Batch { source_partition: Some(partition.into()), ..batch },
            };
            return Ok(Read::Rows(vec![batch]));
        }
    }

    /// Lets go of the tables: nobody can change their columns meanwhile.
    fn release(&mut self) -> Result<()> {
        if std::mem::take(&mut self.holds) {
            self.connection.query("COMMIT").map_err(|error| error.into_error(WHAT))?;
        }
        Ok(())
    }

    /// Reads up to so many rows of the current table.
    fn fill(&mut self, most: usize) -> Result<Batch> {
        const BYTES: usize = 4 << 20;
        let refused = |error: crate::client::PgError| error.into_error(WHAT);
        let current = self.current.as_mut().ok_or_else(|| Error::failed("no table is being read"))?;
        while current.events.len() < most && current.events.bytes() < BYTES {
            let Some(line) = current.next.take() else { break };
            current.next = self.connection.copied().map_err(refused)?;
            let last = current.next.is_none();
            let mark = match (std::mem::take(&mut current.first), last) {
                (_, true) if self.left.is_empty() => "last",
                (_, true) => "last_in_data_collection",
                (true, _) if !self.any => "first",
                (true, _) => "first_in_data_collection",
                _ => "true",
            };
            self.any = true;
            let place = Place { time_us: self.time_us, lsn: self.start, xid: None, last_commit: None, snapshot: mark };
            current.events.push(Op::Read, place, None, Some(&row(&line)))?;
        }
        Ok(current.events.finish())
    }

    /// Where a task resumes that has what was read so far.
    pub fn under_way(&self) -> Offset {
        Offset {
            lsn_commit: Some(self.start),
            lsn: Some(self.start),
            ts_usec: Some(self.time_us),
            snapshot: serde_json::to_value(&self.progress).ok(),
            ..Offset::default()
        }
    }

    fn done(&self) -> Offset {
        let filters: BTreeMap<String, String> = self
            .progress
            .tables
            .iter()
            .filter(|(_, seen)| !seen.is_empty())
            .map(|(t, s)| (t.clone(), s.clone()))
            .collect();
        let filters_until = (!filters.is_empty()).then_some(self.until);
        Offset { snapshot: None, filters, filters_until, ..self.under_way() }
    }
}

fn one<const N: usize>(rows: Vec<Vec<Option<String>>>) -> Result<[String; N]> {
    fields(rows.into_iter().next().unwrap_or_default()).map_err(|error| error.into_error(WHAT))
}

/// All columns in the order of the plan: also those that are not given, so that places agree.
fn select(plan: &Plan, partitioned: bool) -> String {
    let columns: Vec<String> = plan.row.iter().map(|column| identifier(column)).collect();
    format!("COPY (SELECT {} FROM {}) TO STDOUT", columns.join(", "), only(plan, partitioned))
}

/// The table without those that inherit from it, which are tables of their own.
fn only(plan: &Plan, partitioned: bool) -> String {
    let only = if partitioned { "" } else { "ONLY " };
    format!("{only}{}.{}", identifier(&plan.schema), identifier(&plan.name))
}

/// A line of COPY's text format. What has no backslash is not copied.
fn row(line: &Bytes) -> Vec<Value> {
    let end = line.len() - usize::from(line.last() == Some(&b'\n'));
    let line = line.slice(..end);
    let mut values = Vec::new();
    let mut from = 0;
    for tab in memchr::memchr_iter(b'\t', &line).chain([line.len()]) {
        let field = line.slice(from..tab);
        from = tab + 1;
        values.push(match memchr::memchr(b'\\', &field) {
            None => Value::Text(field),
            Some(_) if &*field == b"\\N" => Value::Null,
            Some(_) => Value::Text(unescape(&field)),
        });
    }
    values
}

fn unescape(field: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                Some(other) => other,
                None => b'\\',
            },
            byte => byte,
        });
    }
    out.into()
}

/// Runs what every connection that reads begins with.
pub(crate) fn prepare(connection: &mut Connection, config: &SourceConfig) -> PgResult<()> {
    // With policies for rows a snapshot would be one of some rows: rather a refusal.
    connection.query("SET row_security = off")?;
    config.initial_statements.iter().try_for_each(|statement| connection.query(statement).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let text = |text: &'static str| Value::Text(Bytes::from_static(text.as_bytes()));
        let line = Bytes::from_static(b"1\t\\N\ta\\tb\\\\c\\n\t\n");
        assert_eq!(row(&line), [text("1"), Value::Null, text("a\tb\\c\n"), text("")]);
    }
}
