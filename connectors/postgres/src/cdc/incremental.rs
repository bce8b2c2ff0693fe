//! A table read again while streaming goes on.
//!
//! It is read in order of its key, a chunk at a time, each with a snapshot of its own, under a lock that was there before. A chunk goes out when
//! the log has come to where its snapshot was taken: everything that it has seen is out then. Of its rows, those are left out that a transaction which it
//! had not seen has changed and whose change is out already: that change is newer. Where such a change does not tell a large value that
//! stayed as it was, nobody would ever get it: then the row goes out behind the change, as the change has left it. So for each key what goes out last is
//! what is there, and nothing is written to the database for it.
//!
//! A transaction is in the log before others see it, which may take long where its end waits for a standby. A snapshot is
//! of use only when it has seen all transactions whose changes were handed over before it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tributary_sdk::{Batch, Context, Result};

use super::adhoc::{Current, Request};
use super::catalog::{self, CatalogTable, Types, fields};
use super::envelope::{Events, Op, Place};
use super::lsn;
use super::pgoutput::Value;
use super::snapshot::{self, only};
use super::table::Plan;
use super::visibility::Visibility;
use crate::client::{Connection, Interrupts, PgError, PgResult, identifier, literal};
use crate::config::SourceConfig;

/// What a chunk has at most, in bytes of values (a single row has to fit).
const BYTES: usize = 3 << 20;
/// How long a chunk waits for its lock, while streaming waits for the chunk.
const LOCK: Duration = Duration::from_secs(1);
/// How long a statement of a chunk may take; twice as long after each that took longer.
const STATEMENT: Duration = Duration::from_secs(20);
/// When a snapshot is asked for again that had not seen everything.
const AGAIN: Duration = Duration::from_millis(100);
/// So many transactions are remembered before somebody asks which of them are seen.
const MANY: usize = 4096;
/// After so many chunks in a row that cannot be used it is said, and after so many the table is given up.
const SPOILED: (usize, usize) = (10, 100);

/// See the module.
#[derive(Default)]
pub(crate) struct Incremental {
    connection: Option<Connection>,
    table: Option<Table>,
    window: Option<Window>,
    /// Transactions whose changes were handed over, and that are not known to be seen by others.
    unseen: Vec<u32>,
    /// When there are so many of them, it is asked which are seen.
    many: usize,
    /// What the next chunk has at most, where that is less than configured; 0 where nothing is known.
    rows: usize,
    statement: Option<Duration>,
    /// When a snapshot that has seen too little is asked for again.
    again: Option<Instant>,
    /// Chunks in a row that could not be used.
    spoiled: usize,
    /// The table whose chunk was refused: the second time it is given up.
    refused: Option<String>,
}

/// The table that is being read.
struct Table {
    name: String,
    /// As the catalogue has it.
    found: CatalogTable,
    plan: Arc<Plan>,
    /// The columns that it is read by: those of the replica identity, where that is an index, else its key.
    key: Vec<String>,
}

/// A chunk that is not out yet.
struct Window {
    rows: Vec<Option<Vec<Value>>>,
    index: HashMap<Vec<Bytes>, usize>,
    seen: Visibility,
    /// Behind everything that it sees.
    until: u64,
    /// A change came that does not tell its key: the chunk is read again.
    spoiled: bool,
    /// The key of its last row.
    last: Option<Vec<String>>,
    ended: bool,
}

impl Incremental {
    /// Whether a chunk waits for the log.
    pub fn waits(&self) -> bool {
        self.window.is_some()
    }

    /// Whether there is nothing to do for now.
    pub fn rests(&self) -> bool {
        self.again.is_some_and(|again| Instant::now() < again)
    }

    /// Forgets the chunk that is under way; it is read again.
    pub fn forget(&mut self) {
        self.window = None;
        self.table = None;
    }

    /// Whether it has to be asked which transactions are seen: see [`Self::prune`].
    pub fn is_crowded(&self) -> bool {
        self.unseen.len() > self.many.max(MANY)
    }

    /// Forgets transactions that this snapshot, a new one, has seen.
    pub fn prune(&mut self, seen: Option<&Visibility>) {
        prune(&mut self.unseen, &mut self.many, seen);
    }

    fn note(&mut self, xid: u32) {
        if self.unseen.last() != Some(&xid) {
            self.unseen.push(xid);
        }
    }

    /// A change of a table that is handed over: the old row, as far as it is known, and the new one.
    pub fn touch(&mut self, plan: &Plan, xid: u32, old: Option<&[Value]>, new: Option<&[Value]>) {
        self.note(xid);
        let Some((table, window)) = self.table.as_ref().zip(self.window.as_mut()) else { return };
        if plan.schema != table.plan.schema || plan.name != table.plan.name || window.seen.has_seen(xid) {
            return;
        }
        window.change(&table.key, &plan.row, plan.row == table.plan.row, old, new);
    }

    /// A table was emptied.
    pub fn truncate(&mut self, plan: &Plan, xid: u32) {
        self.note(xid);
        if let Some((table, window)) = self.table.as_ref().zip(self.window.as_mut())
            && plan.schema == table.plan.schema
            && plan.name == table.plan.name
            && !window.seen.has_seen(xid)
        {
            window.rows.iter_mut().for_each(|row| *row = None);
        }
    }

    /// Goes on: reads the next chunk, or gives the one that was read if the log has come to `reached`. What the server refuses always ends the
    /// reading of the table with a warning; an error is one that another attempt may not have.
    pub fn step(
        &mut self,
        context: &Context,
        config: &SourceConfig,
        interrupts: &Interrupts,
        request: &mut Request,
        reached: u64,
    ) -> PgResult<Option<Batch>> {
        if self.window.as_ref().is_some_and(|window| window.spoiled) {
            self.forget();
            self.spoiled += 1;
            if self.spoiled == SPOILED.0 || self.spoiled == SPOILED.1 {
                let name = request.next().cloned().unwrap_or_default();
                let why = "changes while it is read do not tell the columns that it is read by: ALTER TABLE … REPLICA IDENTITY FULL, or ask for a \
                           snapshot of type blocking";
                if self.spoiled == SPOILED.1 {
                    self.give_up(context, request, why);
                    return Ok(None);
                }
                context.warn(format!("a part of {name} was read {} times, since {why}; trying again", self.spoiled));
            }
        }
        match self.window.take() {
            Some(window) if window.until <= reached => match self.give(context, config, request, window, reached) {
                Ok(batch) => Ok(batch),
                Err(error) => {
                    self.give_up(context, request, &error.to_string());
                    Ok(None)
                }
            },
            Some(window) => {
                self.window = Some(window);
                Ok(None)
            }
            None if self.rests() => Ok(None),
            None => {
                let mut own = false;
                let Err(error) = self.read(context, config, interrupts, request, &mut own) else { return Ok(None) };
                self.connection = None;
                self.forget();
                if error.code() == "57014" {
                    // Too much at once, or too slow for the time that it has.
                    self.rows = (if self.rows == 0 { config.chunk } else { self.rows } / 2).max(1);
                    self.statement = Some(self.statement.unwrap_or(STATEMENT) * 2);
                }
                let table = request.next().cloned();
                if !own || !error.is_of_statement() {
                    return Err(error);
                }
                // What is known of the table may be too old: the first time it is read anew.
                if table.is_some() && self.refused == table {
                    self.give_up(context, request, &error.to_string());
                } else {
                    self.refused = table;
                }
                Ok(None)
            }
        }
    }

    fn give_up(&mut self, context: &Context, request: &mut Request, why: &str) {
        self.forget();
        (self.refused, self.spoiled) = (None, 0);
        if let Some(table) = request.next().cloned() {
            context.warn(format!("{table} is not read, which a signal asked for: {why}"));
            request.done.insert(table);
        }
        request.current = None;
    }

    fn give(
        &mut self,
        context: &Context,
        config: &SourceConfig,
        request: &mut Request,
        window: Window,
        reached: u64,
    ) -> Result<Option<Batch>> {
        let Some(table) = &self.table else { return Ok(None) };
        let mut events = Events::new(config, table.plan.clone());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let place = Place { lsn: reached, snapshot: "incremental", ..Place::of_snapshot(now.as_micros() as i64) };
        for row in window.rows.iter().flatten() {
            events.push(Op::Read, place, None, Some(row))?;
        }
        self.spoiled = 0;
        if let (Some(current), Some(last)) = (&mut request.current, window.last) {
            current.last = Some(last);
        }
        if window.ended {
            context.info(format!("{} is read", table.name));
            request.done.insert(table.name.clone());
            request.current = None;
            self.table = None;
            // Another table has other rows.
            (self.rows, self.statement) = (0, None);
        }
        Ok((!events.is_empty()).then(|| events.finish()))
    }

    /// Reads a chunk. `own` tells whether an error is of the table's own statements.
    fn read(
        &mut self,
        context: &Context,
        config: &SourceConfig,
        interrupts: &Interrupts,
        request: &mut Request,
        own: &mut bool,
    ) -> PgResult<()> {
        let Some(name) = request.next().cloned() else { return Ok(()) };
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let mut connection = config.server.connect(interrupts)?;
                snapshot::prepare(&mut connection, config)?;
                connection
            }
        };
        if self.table.as_ref().is_none_or(|table| table.name != name) {
            match find(&mut connection, config, &name)? {
                Ok(table) => self.table = Some(table),
                Err(why) => {
                    self.give_up(context, request, &why);
                    self.connection = Some(connection);
                    return Ok(());
                }
            }
        }
        let Some(table) = &self.table else { return Ok(()) };
        let from = only(&table.plan, table.found.partitioned);
        let statement = self.statement.unwrap_or(STATEMENT);
        connection.query(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL lock_timeout = {}; SET LOCAL statement_timeout = {}",
            LOCK.as_millis(),
            statement.as_millis()
        ))?;
        *own = true;
        // First: for a snapshot that is older than a rewrite the table is empty.
        connection.query(&format!("LOCK TABLE {from} IN ACCESS SHARE MODE"))?;
        *own = false;
        // The snapshot is taken by this very query, and everything that it sees lies before the place that is asked for after it.
        let [seen] = row_of(connection.query("SELECT pg_catalog.pg_current_snapshot()::text")?)?;
        let [until] = row_of(connection.query("SELECT pg_catalog.pg_current_wal_insert_lsn()::text")?)?;
        let wrong = |what: &str| PgError::Refused(format!("{what} is not what was asked for"));
        let seen = Visibility::parse(&seen).ok_or_else(|| wrong(&seen))?;
        let until = lsn::parse(&until).map(end_of_log).ok_or_else(|| wrong(&until))?;
        prune(&mut self.unseen, &mut self.many, Some(&seen));
        // Columns may have changed since the chunk before.
        let now = catalog::tables(&mut connection, &format!("c.oid = {}", table.found.oid))?;
        if !self.unseen.is_empty() || now.first() != Some(&table.found) {
            connection.query("ROLLBACK")?;
            self.connection = Some(connection);
            if self.unseen.is_empty() {
                self.table = None;
            } else {
                self.again = Some(Instant::now() + AGAIN);
            }
            return Ok(());
        }
        self.again = None;
        *own = true;
        let keys: Vec<String> = table.key.iter().map(|column| identifier(column)).collect();
        let fits = |current: &Current| {
            let key = if current.key.is_empty() { &table.found.key } else { &current.key };
            current.table == name && *key == table.key
        };
        if !request.current.as_ref().is_some_and(fits) {
            let descending: Vec<String> = keys.iter().map(|key| format!("{key} DESC")).collect();
            let sql = format!("SELECT {} FROM {from} ORDER BY {} LIMIT 1", keys.join(", "), descending.join(", "));
            let greatest = connection.query(&sql)?.into_iter().next().unwrap_or_default();
            let greatest = greatest.into_iter().map(Option::unwrap_or_default).collect();
            context.info(format!("reading {name} again, which a signal asked for"));
            request.current = Some(Current { table: name.clone(), key: table.key.clone(), greatest, last: None });
        }
        let Some(current) = &request.current else { return Ok(()) };
        let mut window =
            Window { rows: Vec::new(), index: HashMap::new(), seen, until, spoiled: false, last: None, ended: true };
        let limit = if self.rows == 0 { config.chunk } else { self.rows.min(config.chunk) };
        let mut cut = false;
        // No greatest key: no rows.
        if !current.greatest.is_empty() {
            let condition = request.conditions.get(&name);
            let mut end = current.greatest.clone();
            if condition.is_some() {
                // Rows that a condition leaves out count, too: one that few rows meet would have the whole table read at once.
                let range = range(&keys, current, &current.greatest);
                let (columns, order) = (keys.join(", "), keys.join(", "));
                let sql =
                    format!("SELECT {columns} FROM {from} WHERE {range} ORDER BY {order} OFFSET {} LIMIT 1", limit - 1);
                if let Some(row) = connection.query(&sql)?.into_iter().next() {
                    end = row.into_iter().map(Option::unwrap_or_default).collect();
                    window.ended = false;
                    window.last = Some(end.clone());
                }
            }
            connection.copy_out(&select(table, &keys, &range(&keys, current, &end), condition, limit))?;
            let places: Vec<usize> =
                table.key.iter().filter_map(|name| table.plan.row.iter().position(|column| column == name)).collect();
            let (mut values, mut bytes) = (Vec::new(), 0);
            while let Some(line) = connection.copied()? {
                if bytes > 0 && bytes + line.len() > BYTES {
                    cut = true;
                    break;
                }
                bytes += line.len();
                snapshot::row(&line, &mut values);
                if let Some(key) = key_of(&values, &places) {
                    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                    if condition.is_none() {
                        window.last = Some(key.iter().map(text).collect());
                    }
                    window.index.insert(key, window.rows.len());
                }
                window.rows.push(Some(std::mem::take(&mut values)));
            }
            let count = window.rows.len();
            if cut {
                let last = window.index.iter().find(|(_, at)| **at + 1 == count);
                let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                window.last = last.map(|(key, _)| key.iter().map(text).collect());
                window.ended = false;
                self.rows = count;
            } else {
                window.ended = if condition.is_some() { window.ended } else { count < limit };
                if bytes < BYTES / 2 && self.rows > 0 {
                    self.rows = (self.rows * 2).min(config.chunk);
                }
            }
        }
        *own = false;
        self.refused = None;
        // What was not taken of a statement's rows goes with the connection.
        if !cut {
            connection.query("COMMIT")?;
            self.connection = Some(connection);
        }
        self.window = Some(window);
        Ok(())
    }
}

fn prune(unseen: &mut Vec<u32>, many: &mut usize, seen: Option<&Visibility>) {
    if let Some(seen) = seen {
        unseen.retain(|xid| !seen.has_seen(*xid));
    }
    *many = 2 * unseen.len();
}

impl Window {
    /// A change that its snapshot has not seen. `key` is what the table is read by, `columns` what the rows of the change have; `same` says whether
    /// those of the window have them, too.
    fn change(&mut self, key: &[String], columns: &[String], same: bool, old: Option<&[Value]>, new: Option<&[Value]>) {
        let places: Option<Vec<usize>> =
            key.iter().map(|name| columns.iter().position(|column| column == name)).collect();
        let keys = places.map(|places| [old, new].map(|row| row.map(|row| key_of(row, &places))));
        let Some([old_key, new_key]) = keys else {
            self.spoiled = true;
            return;
        };
        if old_key == Some(None) || new_key == Some(None) {
            self.spoiled = true;
            return;
        }
        let (old_key, new_key) = (old_key.flatten(), new_key.flatten());
        // Where the row was: under its old key, which is told only where it is another one.
        let was = old_key.as_ref().or(new_key.as_ref());
        let row = was.and_then(|key| self.index.get(key)).and_then(|at| self.rows[*at].take());
        let (Some(new_key), Some(new), Some(mut row)) = (new_key.clone(), new, row) else {
            // Another row may have been under this key.
            if let Some(at) = new_key.and_then(|key| self.index.get(&key)) {
                self.rows[*at] = None;
            }
            return;
        };
        if let Some(at) = self.index.get(&new_key) {
            self.rows[*at] = None;
        }
        if !new.contains(&Value::Unchanged) {
            return;
        }
        if !same {
            self.spoiled = true;
            return;
        }
        for (value, new) in row.iter_mut().zip(new) {
            if *new != Value::Unchanged {
                value.clone_from(new);
            }
        }
        self.index.insert(new_key, self.rows.len());
        self.rows.push(Some(row));
    }
}

/// The keys of a chunk, up to `end`.
fn range(keys: &[String], current: &Current, end: &[String]) -> String {
    let list = |texts: &[String]| texts.iter().map(|text| literal(text)).collect::<Vec<_>>().join(", ");
    let row = format!("ROW({})", keys.join(", "));
    let after = current.last.as_ref().map(|last| format!("{row} > ROW({}) AND ", list(last))).unwrap_or_default();
    format!("{after}{row} <= ROW({})", list(end))
}

/// A chunk's statement.
fn select(table: &Table, keys: &[String], range: &str, condition: Option<&String>, rows: usize) -> String {
    let columns: Vec<String> = table.plan.row.iter().map(|column| identifier(column)).collect();
    let also = condition.map(|condition| format!(" AND (\n{condition}\n)")).unwrap_or_default();
    format!(
        "COPY (SELECT {} FROM {} WHERE {range}{also} ORDER BY {} LIMIT {rows}) TO STDOUT",
        columns.join(", "),
        only(&table.plan, table.found.partitioned),
        keys.join(", ")
    )
}

/// A table that can be read by its key; the inner error says why not.
fn find(connection: &mut Connection, config: &SourceConfig, name: &str) -> PgResult<Result<Table, String>> {
    let condition = format!("n.nspname || '.' || c.relname = {}", literal(name));
    let Some(found) = catalog::tables(connection, &condition)?.into_iter().next() else {
        return Ok(Err("there is no such table".into()));
    };
    // Changes tell what is in the replica identity.
    let mut key = catalog::identity_index(connection, found.oid)?;
    if key.is_empty() {
        key.clone_from(&found.key);
    }
    if key.is_empty() {
        let why = "it has no primary key, by which it could be read: ask for a snapshot of type blocking";
        return Ok(Err(why.into()));
    }
    let types = Types::read(connection)?;
    Ok(match Plan::of_catalog(config, &types, &found) {
        Ok(plan) => Ok(Table { name: name.to_owned(), plan: Arc::new(plan), found, key }),
        Err(error) => Err(error.to_string()),
    })
}

fn key_of(row: &[Value], places: &[usize]) -> Option<Vec<Bytes>> {
    let text = |at: &usize| match row.get(*at) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    places.iter().map(text).collect()
}

fn row_of<const N: usize>(rows: Vec<Vec<Option<String>>>) -> PgResult<[String; N]> {
    fields(rows.into_iter().next().unwrap_or_default())
}

/// Where a page of the log has just begun, the server tells the place behind the page's head, which nothing reaches before something is
/// written there: then it is the page's beginning.
fn end_of_log(place: u64) -> u64 {
    const PAGE: (u64, u64) = (8192, 24);
    // Segments, whose heads are longer, are multiples of this.
    const SEGMENT: (u64, u64) = (1 << 20, 40);
    for (size, head) in [PAGE, SEGMENT] {
        if place % size == head {
            return place - head;
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_pages_are_not_waited_for() {
        assert_eq!([end_of_log(8192 + 24), end_of_log((1 << 20) + 40), end_of_log(8192 + 40)], [8192, 1 << 20, 8232]);
    }
}
