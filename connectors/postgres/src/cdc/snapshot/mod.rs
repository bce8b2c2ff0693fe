//! Reading the tables: before streaming, and when a signal asks for it.
//!
//! With a slot that was just made comes a snapshot of exactly what lies before it; so what is read and what is streamed neither overlap
//! nor leave a gap. That snapshot ends with its connection. After a crash, what was not read to its end is read with another snapshot, and everything that
//! changed since the slot was made is streamed: what is read then is newer than the first of these changes, and what the last of them leave is what is
//! there. (To leave out what the second snapshot has seen would lose deletions of rows that were written before the crash.) It is taken only
//! when everything that ran while the slot was made is over: what committed before the slot would otherwise be in neither.
//!
//! Large tables are read in parts ([`chunks`]), by several connections where `snapshot.max.threads` says so ([`reader`]).

mod chunks;
mod copy;
mod marks;
mod reader;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tributary_sdk::{Batch, Context, Error, Result};

use self::chunks::{Source, divide};
use self::reader::{Failure, Part, Readers};
use super::adhoc::Request;
use super::catalog::{CatalogTable, Types, fields};
use super::envelope::Place;
use super::lsn;
use super::offsets::{Offset, SnapshotProgress};
use super::slot::NewSlot;
use super::table::Plan;
use super::visibility::Visibility;
use crate::client::{Connection, Interrupts, PgError, PgResult, literal};
use crate::config::SourceConfig;

pub(crate) use self::chunks::{Parts, only};
pub(crate) use self::copy::row;

/// A snapshot under way.
pub(crate) struct Snapshot {
    readers: Option<Readers>,
    tables: Vec<Table>,
    /// Tables that have parts to come.
    open: usize,
    /// Where streaming goes on, whatever was read.
    base: Offset,
    /// Of the snapshot before streaming.
    progress: SnapshotProgress,
    /// Where it was asked for while streaming: its request.
    request: Option<Request>,
    seen: String,
    /// What goes out next, and the last of it, of which nobody knows yet whether it is the snapshot's last.
    ready: VecDeque<Outgoing>,
    tail: Option<Outgoing>,
    any: bool,
}

/// A table that is being read.
struct Table {
    plan: Arc<Plan>,
    /// Parts that have not ended.
    parts: usize,
    /// Its last batch so far: only what comes next tells whether that is its last one.
    held: Option<Outgoing>,
    any: bool,
}

/// A batch, and what is read once it is out.
struct Outgoing {
    batch: Batch,
    /// Whether it begins with the snapshot's first row.
    first: bool,
    done: Vec<Done>,
}

/// What is read.
enum Done {
    Pages { table: String, from: u64, to: u64 },
    Table(String),
}

/// A connection that reads, and what the catalogue says.
pub(crate) struct Session {
    pub connection: Connection,
    pub types: Types,
    /// The tables that are captured.
    pub tables: Vec<CatalogTable>,
}

/// What is read, and where streaming begins then.
pub(crate) enum From<'a> {
    /// A slot that was just made.
    NewSlot(&'a NewSlot),
    /// One that is older, and what was read already.
    Place(u64, Option<SnapshotProgress>),
    /// Asked for while streaming, which goes on here.
    Request(Offset, Request),
}

/// What an attempt at a snapshot comes to.
pub(crate) enum Begun {
    Reads(Box<Snapshot>),
    /// This table was rewritten between the new slot's snapshot, which does not see its rows any more, and the lock: it takes another slot.
    Rewritten(String),
    /// A table cannot be read that a signal asked for, and could not the next time.
    Refused(String, Error),
    /// What ran while the slot was made, or at the first attempt, is not over yet, of which this is the oldest. The next attempt is to be given the
    /// progress: compared with its own beginning, none would ever find everything over on a busy server.
    Waits(SnapshotProgress, u64),
}

/// What a poll of a snapshot gives.
pub(crate) enum Read {
    Rows(Vec<Batch>),
    /// All tables are read; streaming begins here.
    Done(Box<Offset>),
    /// A table cannot be read that a signal asked for, and could not the next time.
    Refused(String, Error),
}

const WHAT: &str = "reading the tables for the snapshot";

impl Snapshot {
    /// Begins, or goes on after a crash.
    pub fn begin(
        context: &Context,
        config: &Arc<SourceConfig>,
        interrupts: &Interrupts,
        session: Session,
        from: From<'_>,
    ) -> Result<Begun> {
        let Session { mut connection, types, tables } = session;
        let refused = |error: PgError| error.into_error(WHAT);
        let (base, slot, mut progress, request) = match from {
            From::NewSlot(slot) => (at(slot.consistent), Some(slot), SnapshotProgress::default(), None),
            From::Place(start, progress) => (at(start), None, progress.unwrap_or_default(), None),
            From::Request(offset, request) => (offset, None, SnapshotProgress::default(), Some(request)),
        };
        let mut sources = Vec::new();
        for table in &tables {
            let plan = match Plan::of_catalog(config, &types, table) {
                Ok(plan) => Arc::new(plan),
                Err(error) if request.as_ref().is_some_and(|request| request.wants(&table.full_name())) => {
                    return Ok(Begun::Refused(table.full_name(), error));
                }
                Err(_) if request.is_some() => continue,
                Err(error) => return Err(error),
            };
            let name = plan.full_name();
            let wanted = match &request {
                Some(request) => request.wants(&name),
                None => config.filters.in_snapshot(&table.schema, &table.name) && !progress.tables.contains(&name),
            };
            if wanted {
                let condition = request.as_ref().and_then(|request| request.conditions.get(&name).cloned());
                sources.push(Source { plan, oid: table.oid, partitioned: table.partitioned, condition });
            }
        }
        for source in sources.iter().filter(|source| !source.plan.unknown.is_empty()) {
            let (table, columns) = (source.plan.full_name(), source.plan.unknown.join(", "));
            context.warn(format!("columns of {table} are left out, since their types are not known: {columns}"));
        }
        // All of them at the beginning, not when each one's turn comes, and before there is a snapshot: for one that is older than a rewrite the
        // table is empty.
        let lock = lock(&sources);
        connection.query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").map_err(refused)?;
        match slot {
            Some(slot) => {
                connection.query(&format!("SET TRANSACTION SNAPSHOT {}", literal(&slot.snapshot))).map_err(refused)?;
            }
            None => {
                for source in &sources {
                    match connection.query(&self::lock(std::slice::from_ref(source))) {
                        Err(error) if request.is_some() && error.is_of_statement() => {
                            return Ok(Begun::Refused(source.plan.full_name(), error.into_error(WHAT)));
                        }
                        locked => drop(locked.map_err(refused)?),
                    }
                }
            }
        }
        let [seen] = one(connection.query("SELECT pg_catalog.pg_current_snapshot()::text").map_err(refused)?)?;
        let parse = |text: &str| Visibility::parse(text).ok_or_else(|| Error::failed(format!("{text} is no snapshot")));
        let visibility = parse(&seen)?;
        if progress.begun.is_empty() {
            progress.begun = visibility.show();
        }
        if slot.is_none() && request.is_none() && visibility.xmin < parse(&progress.begun)?.xmax {
            // Some of what ran then still does. Nothing was read: the next attempt sees more.
            connection.query("ROLLBACK").map_err(refused)?;
            connection.close();
            return Ok(Begun::Waits(progress, visibility.xmin));
        }
        if slot.is_some() {
            // Its snapshot was there before the locks.
            connection.query(&lock).map_err(refused)?;
            if let Some(table) = rewritten(&mut connection, &sources).map_err(refused)? {
                connection.query("ROLLBACK").map_err(refused)?;
                connection.close();
                return Ok(Begun::Rewritten(table));
            }
        }
        let mut chunks = Vec::new();
        let mut tables: Vec<Table> = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            let parts = divide(&mut connection, number, source, &seen, &mut progress.parts).map_err(refused)?;
            tables.push(Table { plan: source.plan.clone(), parts: parts.len(), held: None, any: false });
            chunks.extend(parts);
        }
        let connections = connections(context, config, interrupts, connection, chunks.len(), &lock).map_err(refused)?;
        context.info(format!(
            "taking a snapshot of {} tables in {} parts by {} connections; streaming will go on at {}",
            tables.len(),
            chunks.len(),
            connections.len(),
            lsn::show(base.resume_at())
        ));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_us = now.as_micros() as i64;
        let base = Offset { ts_usec: base.ts_usec.or(Some(time_us)), ..base };
        let place = Place { lsn: base.lsn.unwrap_or_default(), ..Place::of_snapshot(time_us) };
        let plans = tables.iter().map(|table| table.plan.clone()).collect();
        Ok(Begun::Reads(Box::new(Self {
            readers: Some(Readers::start(connections, chunks, plans, config, place)?),
            open: tables.iter().filter(|table| table.parts > 0).count(),
            tables,
            base,
            progress,
            request,
            seen,
            ready: VecDeque::new(),
            tail: None,
            any: false,
        })))
    }

    /// Rows as they come, about a batch; waits for so long for the first.
    pub fn read(&mut self, context: &Context, config: &SourceConfig, patience: Duration) -> Result<Read> {
        let deadline = Instant::now() + patience;
        while self.ready.is_empty() && self.open > 0 {
            let wait = deadline.saturating_duration_since(Instant::now());
            let part = match self.readers.as_ref().map(|readers| readers.next(wait)) {
                Some(Err(Failure { lasts: Some(table), error })) if self.request.is_some() => {
                    return Ok(Read::Refused(self.tables[table].plan.full_name(), error));
                }
                Some(part) => part.map_err(|failure| failure.error)?,
                None => None,
            };
            let Some(part) = part else { return Ok(Read::Rows(Vec::new())) };
            self.take(part);
        }
        if self.open == 0
            && let Some(tail) = self.tail.take()
        {
            let row = tail.batch.len() - 1;
            self.ready.push_back(Outgoing { batch: marks::mark(tail.batch.clone(), row, "last"), ..tail });
        }
        let (mut batches, mut rows) = (Vec::new(), 0);
        while let Some(next) = self.ready.front() {
            if rows > 0 && rows + next.batch.len() > config.batch {
                break;
            }
            let Some(Outgoing { batch, done, .. }) = self.ready.pop_front() else { break };
            rows += batch.len();
            batches.push(self.with_place(batch, done, config)?);
        }
        if batches.is_empty() {
            self.readers = None;
            context.info("the snapshot is complete");
            return Ok(Read::Done(Box::new(self.done())));
        }
        Ok(Read::Rows(batches))
    }

    /// Something that was read: it goes out once it is known not to be its table's last.
    fn take(&mut self, Part { table: number, pages, batch, ended }: Part) {
        let table = &mut self.tables[number];
        let name = table.plan.full_name();
        let next = batch.map(|mut batch| {
            let first = !std::mem::replace(&mut self.any, true);
            if !std::mem::replace(&mut table.any, true) {
                batch = marks::mark(batch, 0, if first { "first" } else { "first_in_data_collection" });
            }
            Outgoing { batch, first, done: Vec::new() }
        });
        let mut out = Vec::new();
        if let Some(next) = next {
            out.extend(table.held.replace(next));
        }
        if ended {
            table.parts -= 1;
            let mut done = Vec::new();
            if let Some((from, to)) = pages {
                done.push(Done::Pages { table: name.clone(), from, to });
            }
            let mut last = None;
            if table.parts == 0 {
                self.open -= 1;
                done.push(Done::Table(name));
                last = table.held.take();
            }
            match (last, &mut table.held) {
                (Some(mut last), _) => {
                    let row = last.batch.len() - 1;
                    // Of a table with one row, the very first is called so.
                    if !(last.first && row == 0) {
                        last.batch = marks::mark(last.batch, row, "last_in_data_collection");
                    }
                    last.done.extend(done);
                    out.push(last);
                }
                (None, Some(held)) => held.done.extend(done),
                // Nothing has to be out before.
                (None, None) => done.into_iter().for_each(|done| self.finish(done)),
            }
        }
        for next in out {
            self.ready.extend(self.tail.replace(next));
        }
    }

    fn finish(&mut self, done: Done) {
        match (done, &mut self.request) {
            (Done::Table(name), Some(request)) => {
                request.done.insert(name);
            }
            (Done::Table(name), None) => {
                self.progress.parts.remove(&name);
                self.progress.tables.insert(name);
            }
            (Done::Pages { .. }, Some(_)) => {}
            (Done::Pages { table, from, to }, None) => {
                let seen = &self.seen;
                let parts = self.progress.parts.entry(table);
                parts.or_insert_with(|| Parts { seen: seen.clone(), ..Parts::default() }).add(from, to);
            }
        }
    }

    /// With where a task resumes that has it, if that is another place than before.
    fn with_place(&mut self, batch: Batch, done: Vec<Done>, config: &SourceConfig) -> Result<Batch> {
        let partition = super::offsets::partition(&config.prefix).to_string();
        if done.is_empty() {
            return Ok(Batch { source_partition: Some(partition.into()), ..batch });
        }
        done.into_iter().for_each(|done| self.finish(done));
        // The last table's end is the end of the snapshot.
        let over = self.open == 0 && self.ready.is_empty() && self.tail.is_none();
        let offset = if over { self.done() } else { self.under_way() };
        Ok(batch.with_resume_point(partition, &serde_json::to_string(&offset)?))
    }

    /// Where a task resumes that has what was read so far.
    pub fn under_way(&self) -> Offset {
        match &self.request {
            None => Offset { snapshot: serde_json::to_value(&self.progress).ok(), ..self.base.clone() },
            Some(request) => {
                let mut base = self.base.clone();
                if let Some(first) = base.adhoc.first_mut() {
                    first.clone_from(request);
                }
                base
            }
        }
    }

    /// What was asked for while streaming, and how far that is.
    pub fn request(&self) -> Option<&Request> {
        self.request.as_ref()
    }

    fn done(&self) -> Offset {
        let mut base = self.base.clone();
        if self.request.is_some() && !base.adhoc.is_empty() {
            base.adhoc.remove(0);
        }
        base
    }
}

/// The statement that locks the tables; nothing where there are none.
fn lock(sources: &[Source]) -> String {
    if sources.is_empty() {
        return String::new();
    }
    let all: Vec<String> = sources.iter().map(|source| only(&source.plan, source.partitioned)).collect();
    format!("LOCK TABLE {} IN ACCESS SHARE MODE", all.join(", "))
}

/// A table that has another file than this transaction's snapshot knows, if there is one.
fn rewritten(connection: &mut Connection, sources: &[Source]) -> PgResult<Option<String>> {
    let oids = |sources: &mut dyn Iterator<Item = &Source>| {
        sources.map(|source| source.oid.to_string()).collect::<Vec<_>>().join(",")
    };
    let sql = format!(
        "SELECT c.oid::regclass::text FROM pg_catalog.pg_class c \
         WHERE (c.oid = ANY ('{{{}}}'::oid[]) OR c.oid IN (SELECT p.relid FROM pg_catalog.unnest('{{{}}}'::oid[]) AS v(oid) \
             CROSS JOIN LATERAL pg_catalog.pg_partition_tree(v.oid) AS p)) \
         AND c.relfilenode <> COALESCE(pg_catalog.pg_relation_filenode(c.oid), 0) LIMIT 1",
        oids(&mut sources.iter()),
        oids(&mut sources.iter().filter(|source| source.partitioned))
    );
    Ok(connection.query(&sql)?.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
}

/// The connection that began, and others that see the same. Each has the locks itself: those of the first one end with its own part of the work, and
/// whoever waits for them would change a table before another one reads it. Where somebody waits already, one that came now would stand
/// behind him, and the work would never begin: it is left out.
fn connections(
    context: &Context,
    config: &SourceConfig,
    interrupts: &Interrupts,
    mut first: Connection,
    parts: usize,
    lock: &str,
) -> PgResult<Vec<Connection>> {
    let count = config.snapshot_threads.min(parts.max(1));
    if count < 2 {
        return Ok(vec![first]);
    }
    let [name] = fields(first.query("SELECT pg_catalog.pg_export_snapshot()")?.into_iter().next().unwrap_or_default())?;
    let mut connections = vec![first];
    let another = || {
        let mut next = config.server.connect(interrupts)?;
        prepare(&mut next, config)?;
        next.query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")?;
        next.query(&format!("SET TRANSACTION SNAPSHOT {}", literal(&name)))?;
        next.query(&format!("{lock} NOWAIT"))?;
        Ok(next)
    };
    for _ in 1..count {
        match another() {
            Ok(next) => connections.push(next),
            Err(error @ PgError::Server { .. }) if error.passes() => {
                let left = connections.len();
                context.warn(format!(
                    "the snapshot is read by {left} connections only, since another one failed: {error}"
                ));
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(connections)
}

/// Behind everything that committed before this place.
fn at(place: u64) -> Offset {
    Offset { lsn_commit: Some(place), lsn: Some(place), ..Offset::default() }
}

fn one<const N: usize>(rows: Vec<Vec<Option<String>>>) -> Result<[String; N]> {
    fields(rows.into_iter().next().unwrap_or_default()).map_err(|error| error.into_error(WHAT))
}

/// Runs what every connection that reads begins with.
pub(crate) fn prepare(connection: &mut Connection, config: &SourceConfig) -> PgResult<()> {
    // With policies for rows a snapshot would be one of some rows: rather a refusal.
    connection.query("SET row_security = off")?;
    config.initial_statements.iter().try_for_each(|statement| connection.query(statement).map(drop))
}
