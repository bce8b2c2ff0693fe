//! The statements that write a run of records: COPY into a staging table, whose types are ours, and from there into the table. Copied into the table
//! itself, the bytes would be taken for another type's where somebody has changed a column since it was looked up.

use std::collections::HashMap;

use super::config::{InsertMode, SinkConfig};
use super::plan::{Column, Deed, Tuple, Work};
use super::wire::Wire;
use crate::client::identifier;

/// What begins and ends a binary COPY.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = [0xff; 2];

/// Staging tables of a session, by the names and types of their columns.
#[derive(Debug, Default)]
pub(super) struct Stages {
    known: HashMap<String, String>,
    /// How many were made.
    count: usize,
    /// How often those have been written to in this transaction that were; they are emptied before they are again.
    used: HashMap<String, u32>,
    /// Statements that make those that do not exist yet.
    due: Vec<String>,
}

/// Emptying a table by DELETE is a fraction of what TRUNCATE costs, which makes new files; but what was deleted is still read, so every so often it is made new.
const DELETES: u32 = 32;

/// More than so many staging tables are dropped together.
const MOST_STAGES: usize = 64;

impl Stages {
    /// A transaction has ended: the server empties them.
    pub fn emptied(&mut self) {
        self.used.clear();
    }

    /// The statements that have to come before, outside of a transaction.
    pub fn take_due(&mut self) -> Vec<String> {
        std::mem::take(&mut self.due)
    }

    /// Nothing is known any more of which are there; the names are not used again.
    pub fn forget(&mut self) {
        self.known.clear();
        self.used.clear();
        self.due.clear();
    }

    /// Makes due what any part of the work's records may need.
    pub fn prepare(&mut self, work: &Work) {
        if work.keys > 0 && work.tuples.iter().any(|tuple| tuple.deed == Deed::Delete) {
            self.of(work, work.columns[..work.keys].iter());
        }
        if !work.columns.is_empty() && work.tuples.iter().any(|tuple| matches!(tuple.deed, Deed::Write(_))) {
            self.of(work, work.columns.iter());
        }
    }

    /// Drops all if there are too many. Between transactions.
    pub fn tidy(&mut self) {
        if self.known.len() > MOST_STAGES {
            let drop = |(_, name): (String, String)| format!("DROP TABLE IF EXISTS {name}");
            self.due = self.known.drain().map(drop).collect();
        }
    }

    fn of<'a>(&mut self, work: &Work, columns: impl Iterator<Item = &'a Column>) -> String {
        let column = |column: &Column| {
            format!("{} {}", identifier(&work.table.columns[column.target].name), column.wire.type_name())
        };
        let definition = columns.map(column).collect::<Vec<_>>().join(", ");
        if let Some(name) = self.known.get(&definition) {
            return name.clone();
        }
        self.count += 1;
        let name = format!("pg_temp.tributary_stage_{}", self.count);
        self.due
            .push(format!("CREATE TEMPORARY TABLE {} ({definition}) ON COMMIT DELETE ROWS", &name["pg_temp.".len()..]));
        self.known.insert(definition, name.clone());
        name
    }
}

/// Statements, and what those that copy in take.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub sql: String,
    pub data: Vec<Vec<u8>>,
}

impl Script {
    fn add(&mut self, statement: &str) {
        self.sql.push_str(statement);
        self.sql.push(';');
    }
}

/// What can be done at once: deletes, then rows of different keys.
#[derive(Default)]
struct Pass<'a> {
    deletes: Vec<&'a Tuple>,
    rows: Vec<Option<&'a Tuple>>,
    /// By key: whether it is deleted, and which of the rows is its.
    keys: HashMap<&'a [u8], (bool, Option<usize>)>,
}

/// Appends what the records do, in their order.
pub(super) fn write(script: &mut Script, stages: &mut Stages, config: &SinkConfig, work: &Work, tuples: &[Tuple]) {
    for tuples in tuples.chunks(config.batch) {
        let mut pass = Pass::default();
        for tuple in tuples {
            match tuple.deed {
                Deed::Truncate => {
                    flush(script, stages, config, work, std::mem::take(&mut pass));
                    script.add(&format!("TRUNCATE {}", work.table.quoted()));
                }
                _ if work.keys == 0 => pass.rows.push(Some(tuple)),
                _ => {
                    if !take(&mut pass, config, work, tuple) {
                        flush(script, stages, config, work, std::mem::take(&mut pass));
                        take(&mut pass, config, work, tuple);
                    }
                }
            }
        }
        flush(script, stages, config, work, pass);
    }
}

/// Adds a record; `false`: what is there has to be done first.
fn take<'a>(pass: &mut Pass<'a>, config: &SinkConfig, work: &'a Work, tuple: &'a Tuple) -> bool {
    let inserts = config.insert_mode == InsertMode::Insert;
    // Any row may be the same as this one's. Two of one upsert are refused by the server, and done one by one then.
    let alone = tuple.deed == Deed::Delete || config.insert_mode == InsertMode::Update;
    if alone && !work.tells_keys() && pass.rows.iter().any(Option::is_some) {
        return false;
    }
    let Deed::Write(group) = tuple.deed else {
        let (deleted, row) = pass.keys.entry(work.key(tuple)).or_default();
        if let Some(at) = *row {
            // An insert may be refused, which must not be missed.
            if inserts {
                return false;
            }
            pass.rows[at] = None;
            *row = None;
        }
        if !*deleted {
            *deleted = true;
            pass.deletes.push(tuple);
        }
        return true;
    };
    if inserts && !config.deletes {
        pass.rows.push(Some(tuple));
        return true;
    }
    let (_, row) = pass.keys.entry(work.key(tuple)).or_default();
    if let Some(at) = *row {
        let Some(Some(Tuple { deed: Deed::Write(before), .. })) = pass.rows.get(at) else { return false };
        if inserts || !work.covers(group, *before) {
            return false;
        }
        // The last one wins, and has its place in the order.
        pass.rows[at] = None;
    }
    *row = Some(pass.rows.len());
    pass.rows.push(Some(tuple));
    true
}

fn flush(script: &mut Script, stages: &mut Stages, config: &SinkConfig, work: &Work, pass: Pass<'_>) {
    if !pass.deletes.is_empty() {
        delete(script, stages, work, &pass.deletes);
    }
    // Groups in the order of their first rows.
    let mut groups: Vec<(u32, Vec<&Tuple>)> = Vec::new();
    for tuple in pass.rows.into_iter().flatten() {
        let Deed::Write(group) = tuple.deed else { continue };
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, tuples)) => tuples.push(tuple),
            None => groups.push((group, vec![tuple])),
        }
    }
    for (group, tuples) in groups {
        merge(script, stages, config, work, group, &tuples);
    }
}

fn data(work: &Work, tuples: &[&Tuple]) -> Vec<u8> {
    let bytes: usize = tuples.iter().map(|tuple| work.row(tuple).len()).sum();
    let mut data = Vec::with_capacity(HEADER.len() + bytes + TRAILER.len());
    data.extend_from_slice(HEADER);
    tuples.iter().for_each(|tuple| data.extend_from_slice(work.row(tuple)));
    data.extend(TRAILER);
    data
}

fn name(work: &Work, column: &Column) -> String {
    identifier(&work.table.columns[column.target].name)
}

/// A column of the staging table as a value for the table's column.
fn staged(work: &Work, column: &Column, prefix: &str) -> String {
    let name = name(work, column);
    let cast = &work.table.columns[column.target].cast;
    match column.wire {
        Wire::Cast(_) => format!("{prefix}{name}::{cast}"),
        Wire::Utc => format!("({prefix}{name}::timestamptz AT TIME ZONE 'UTC')::{cast}"),
        _ => format!("{prefix}{name}"),
    }
}

/// The key of a row `t` of the table is that of a row `s` of the staging table.
fn same_key(work: &Work) -> String {
    let same = |column: &Column| {
        let (name, cast) = (name(work, column), &work.table.columns[column.target].cast);
        match column.wire {
            Wire::Cast(_) | Wire::Utc => format!("t.{name} = {}", staged(work, column, "s.")),
            _ => format!("t.{name} = s.{name}::{cast}"),
        }
    };
    work.columns[..work.keys].iter().map(same).collect::<Vec<_>>().join(" AND ")
}

/// Copies rows into a staging table.
fn stage(script: &mut Script, stages: &mut Stages, work: &Work, stage: &str, names: &str, tuples: &[&Tuple]) {
    let used = stages.used.entry(stage.to_owned()).or_default();
    match *used {
        0 => {}
        times if times % DELETES == 0 => script.add(&format!("TRUNCATE {stage}")),
        _ => script.add(&format!("DELETE FROM {stage}")),
    }
    *used += 1;
    script.add(&format!("COPY {stage} ({names}) FROM STDIN (FORMAT binary)"));
    script.data.push(data(work, tuples));
}

fn delete(script: &mut Script, stages: &mut Stages, work: &Work, tuples: &[&Tuple]) {
    let keys = &work.columns[..work.keys];
    let table = stages.of(work, keys.iter());
    let names: Vec<String> = keys.iter().map(|column| name(work, column)).collect();
    stage(script, stages, work, &table, &names.join(", "), tuples);
    script.add(&format!("DELETE FROM {} AS t USING {table} AS s WHERE {}", work.table.quoted(), same_key(work)));
}

fn merge(script: &mut Script, stages: &mut Stages, config: &SinkConfig, work: &Work, group: u32, tuples: &[&Tuple]) {
    let columns: Vec<(usize, &Column)> = work.columns_of(group).collect();
    let names = columns.iter().map(|(_, column)| name(work, column)).collect::<Vec<_>>().join(", ");
    let target = work.table.quoted();
    let others = || columns.iter().filter(|(at, _)| *at >= work.keys).map(|(_, column)| *column);
    if columns.is_empty() {
        // Records without fields: as many rows of defaults.
        tuples.iter().for_each(|_| script.add(&format!("INSERT INTO {target} DEFAULT VALUES")));
        return;
    }
    let table = stages.of(work, work.columns.iter());
    let update = || {
        let set: Vec<String> =
            others().map(|column| format!("{} = {}", name(work, column), staged(work, column, "s."))).collect();
        let sql = format!("UPDATE {target} AS t SET {} FROM {table} AS s WHERE {}", set.join(", "), same_key(work));
        (!set.is_empty()).then_some(sql)
    };
    if config.insert_mode == InsertMode::Update {
        if let Some(update) = update() {
            stage(script, stages, work, &table, &names, tuples);
            script.add(&update);
        }
        return;
    }
    stage(script, stages, work, &table, &names, tuples);
    let identity = columns.iter().any(|(_, column)| work.table.columns[column.target].identity);
    let overriding = if identity { " OVERRIDING SYSTEM VALUE" } else { "" };
    let values = columns.iter().map(|(_, column)| staged(work, column, "s.")).collect::<Vec<_>>().join(", ");
    let mut sql = format!("INSERT INTO {target} ({names}){overriding} SELECT {values} FROM {table} AS s");
    // A row without a column that is required cannot be inserted, and the server finds that out before it finds the row that is there.
    let lacks = |at: usize| work.table.columns[at].required && columns.iter().all(|(_, column)| column.target != at);
    if config.insert_mode == InsertMode::Upsert && (0..work.table.columns.len()).any(lacks) {
        if let Some(update) = update() {
            script.add(&update);
        }
        sql += &format!(" WHERE NOT EXISTS (SELECT FROM {target} AS t WHERE {})", same_key(work));
    }
    if config.insert_mode == InsertMode::Upsert {
        let keys: Vec<String> = work.columns[..work.keys].iter().map(|column| name(work, column)).collect();
        let set: Vec<String> =
            others().map(|column| name(work, column)).map(|name| format!("{name} = excluded.{name}")).collect();
        let action = if set.is_empty() { "NOTHING".into() } else { format!("UPDATE SET {}", set.join(", ")) };
        sql += &format!(" ON CONFLICT ({}) DO {action}", keys.join(", "));
    }
    script.add(&sql);
}
