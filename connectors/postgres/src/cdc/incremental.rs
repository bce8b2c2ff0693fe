//! A table read again while streaming goes on.
//!
//! It is read in order of its key, a chunk at a time, each with a snapshot of its own. A chunk goes out when the log has come to where its
//! snapshot was taken: everything that it has seen is out then. Of its rows, those are left out that a transaction which it had not seen has
//! changed and whose change is out already: that change is newer. So for each key what goes out last is what is there, and nothing is
//! written to the database for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tributary_sdk::{Batch, Context, Result};

use super::adhoc::{Current, Request};
use super::catalog::{self, Types, fields};
use super::envelope::{Events, Op, Place};
use super::lsn;
use super::pgoutput::Value;
use super::snapshot::{self, only};
use super::table::Plan;
use super::visibility::Visibility;
use crate::client::{Connection, Interrupts, PgError, PgResult, identifier, literal};
use crate::config::SourceConfig;

const WHAT: &str = "reading a table that a signal asked for";

/// See the module.
#[derive(Default)]
pub(crate) struct Incremental {
    connection: Option<Connection>,
    table: Option<Table>,
    window: Option<Window>,
}

/// The table that is being read.
struct Table {
    name: String,
    plan: Arc<Plan>,
    partitioned: bool,
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

    /// Forgets the chunk that is under way; it is read again.
    pub fn forget(&mut self) {
        self.window = None;
        self.table = None;
    }

    /// A change of a table that is out.
    pub fn touch(&mut self, plan: &Plan, xid: u32, rows: &[Option<&[Value]>]) {
        let Some((table, window)) = self.table.as_ref().zip(self.window.as_mut()) else { return };
        if plan.schema != table.plan.schema || plan.name != table.plan.name || window.seen.has_seen(xid) {
            return;
        }
        let places: Option<Vec<usize>> =
            table.key.iter().map(|name| plan.row.iter().position(|column| column == name)).collect();
        let Some(places) = places else {
            window.spoiled = true;
            return;
        };
        for row in rows.iter().flatten() {
            match key_of(row, &places) {
                Some(key) => {
                    if let Some(at) = window.index.get(&key) {
                        window.rows[*at] = None;
                    }
                }
                None => window.spoiled = true,
            }
        }
    }

    /// A table was emptied.
    pub fn truncate(&mut self, plan: &Plan, xid: u32) {
        if let Some((table, window)) = self.table.as_ref().zip(self.window.as_mut())
            && plan.schema == table.plan.schema
            && plan.name == table.plan.name
            && !window.seen.has_seen(xid)
        {
            window.rows.iter_mut().for_each(|row| *row = None);
        }
    }

    /// Goes on: reads the next chunk, or gives the one that was read if the log has come to `reached`.
    pub fn step(
        &mut self,
        context: &Context,
        config: &SourceConfig,
        interrupts: &Interrupts,
        request: &mut Request,
        reached: u64,
    ) -> Result<Option<Batch>> {
        if self.window.as_ref().is_some_and(|window| window.spoiled) {
            self.window = None;
        }
        match self.window.take() {
            Some(window) if window.until <= reached => self.give(context, config, request, window, reached),
            Some(window) => {
                self.window = Some(window);
                Ok(None)
            }
            None => {
                let Err(error) = self.read(context, config, interrupts, request) else { return Ok(None) };
                self.connection = None;
                self.forget();
                match request.next().cloned() {
                    // What the server refuses now it refuses always, and one bad signal must not be the end of the task.
                    Some(table) if !error.passes() => {
                        context.warn(format!("{table} is not read, which a signal asked for: {error}"));
                        request.done.insert(table);
                        request.current = None;
                        Ok(None)
                    }
                    _ => Err(error.into_error(WHAT)),
                }
            }
        }
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
        if let (Some(current), Some(last)) = (&mut request.current, window.last) {
            current.last = Some(last);
        }
        if window.ended {
            context.info(format!("{} is read", table.name));
            request.done.insert(table.name.clone());
            request.current = None;
            self.table = None;
        }
        Ok((!events.is_empty()).then(|| events.finish()))
    }

    fn read(
        &mut self,
        context: &Context,
        config: &SourceConfig,
        interrupts: &Interrupts,
        request: &mut Request,
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
        connection.query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")?;
        // The snapshot is taken by this very query, and everything that it sees lies before the place that is asked for after it.
        let [seen] = row_of(connection.query("SELECT pg_catalog.pg_current_snapshot()::text")?)?;
        let [until] = row_of(connection.query("SELECT pg_catalog.pg_current_wal_insert_lsn()::text")?)?;
        let wrong = |what: &str| PgError::Refused(format!("{what} is not what was asked for"));
        let seen = Visibility::parse(&seen).ok_or_else(|| wrong(&seen))?;
        let until = lsn::parse(&until).map(end_of_log).ok_or_else(|| wrong(&until))?;
        if self.table.as_ref().is_none_or(|table| table.name != name) {
            match find(&mut connection, config, &name)? {
                Ok(table) => self.table = Some(table),
                Err(why) => {
                    context.warn(format!("{name} is not read, which a signal asked for: {why}"));
                    request.done.insert(name);
                    request.current = None;
                    connection.query("ROLLBACK")?;
                    self.connection = Some(connection);
                    return Ok(());
                }
            }
        }
        let Some(table) = &self.table else { return Ok(()) };
        let keys: Vec<String> = table.key.iter().map(|column| identifier(column)).collect();
        if request.current.as_ref().is_none_or(|current| current.table != name) {
            let descending: Vec<String> = keys.iter().map(|key| format!("{key} DESC")).collect();
            let from = only(&table.plan, table.partitioned);
            let sql = format!("SELECT {} FROM {from} ORDER BY {} LIMIT 1", keys.join(", "), descending.join(", "));
            let greatest = connection.query(&sql)?.into_iter().next().unwrap_or_default();
            let greatest = greatest.into_iter().map(Option::unwrap_or_default).collect();
            context.info(format!("reading {name} again, which a signal asked for"));
            request.current = Some(Current { table: name.clone(), greatest, last: None });
        }
        let Some(current) = &request.current else { return Ok(()) };
        let mut window =
            Window { rows: Vec::new(), index: HashMap::new(), seen, until, spoiled: false, last: None, ended: true };
        // No greatest key: no rows.
        if !current.greatest.is_empty() {
            connection.copy_out(&select(table, &keys, current, request.conditions.get(&name), config.chunk))?;
            let places: Vec<usize> =
                table.key.iter().filter_map(|name| table.plan.row.iter().position(|column| column == name)).collect();
            let mut values = Vec::new();
            while let Some(line) = connection.copied()? {
                snapshot::row(&line, &mut values);
                if let Some(key) = key_of(&values, &places) {
                    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                    window.last = Some(key.iter().map(text).collect());
                    window.index.insert(key, window.rows.len());
                }
                window.rows.push(Some(std::mem::take(&mut values)));
            }
            window.ended = window.rows.len() < config.chunk;
        }
        connection.query("COMMIT")?;
        self.connection = Some(connection);
        self.window = Some(window);
        Ok(())
    }
}

/// A chunk's statement.
fn select(table: &Table, keys: &[String], current: &Current, condition: Option<&String>, rows: usize) -> String {
    let columns: Vec<String> = table.plan.row.iter().map(|column| identifier(column)).collect();
    let list = |texts: &[String]| texts.iter().map(|text| literal(text)).collect::<Vec<_>>().join(", ");
    let row = format!("ROW({})", keys.join(", "));
    let after = current.last.as_ref().map(|last| format!("{row} > ROW({}) AND ", list(last))).unwrap_or_default();
    let also = condition.map(|condition| format!(" AND ({condition})")).unwrap_or_default();
    format!(
        "COPY (SELECT {} FROM {} WHERE {after}{row} <= ROW({}){also} ORDER BY {} LIMIT {rows}) TO STDOUT",
        columns.join(", "),
        only(&table.plan, table.partitioned),
        list(&current.greatest),
        keys.join(", ")
    )
}

/// A table that can be read by its key; the inner error says why not.
fn find(connection: &mut Connection, config: &SourceConfig, name: &str) -> PgResult<Result<Table, String>> {
    let condition = format!("n.nspname || '.' || c.relname = {}", literal(name));
    let Some(table) = catalog::tables(connection, &condition)?.into_iter().next() else {
        return Ok(Err("there is no such table".into()));
    };
    if table.key.is_empty() {
        let why = "it has no primary key, by which it could be read: ask for a snapshot of type blocking";
        return Ok(Err(why.into()));
    }
    let types = Types::read(connection)?;
    Ok(match Plan::of_catalog(config, &types, &table) {
        Ok(plan) => {
            Ok(Table { name: name.to_owned(), plan: Arc::new(plan), partitioned: table.partitioned, key: table.key })
        }
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
