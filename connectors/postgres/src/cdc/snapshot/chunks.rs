//! A table in parts: ranges of its pages, which can be read beside each other and are not read twice after a crash.
//!
//! After a crash another snapshot is read. Where rows were since then is not where they are now: an update moves a row, also into a part that was
//! read before. So of parts that were read, those rows come again that a transaction wrote which the first snapshot had not seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cdc::catalog::{fields, number};
use crate::cdc::table::Plan;
use crate::cdc::visibility::Visibility;
use crate::client::{Connection, PgResult, identifier};

/// What is read of a table at a time, in bytes of its pages.
const PART: u64 = 64 << 20;

/// What was read of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parts {
    /// The table's file: another one has its rows in other places.
    pub file: u32,
    /// What the first attempt saw.
    pub seen: String,
    /// From a page up to another one, in order.
    pub done: Vec<(u64, u64)>,
}

impl Parts {
    pub fn add(&mut self, from: u64, to: u64) {
        self.done.push((from, to));
        self.done.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(self.done.len());
        for (from, to) in self.done.drain(..) {
            match joined.last_mut() {
                Some(last) if last.1 >= from => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        self.done = joined;
    }
}

/// A part that is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// The number of its table.
    pub table: usize,
    pub sql: String,
    /// Its pages, where they are to be remembered.
    pub pages: Option<(u64, u64)>,
}

/// A table that is to be read.
pub(crate) struct Source {
    pub plan: Arc<Plan>,
    pub oid: u32,
    pub partitioned: bool,
    /// A condition in SQL.
    pub condition: Option<String>,
}

/// The parts of a table, which is locked, beginning with its first page. `parts` is what was read of it; it is forgotten where it does not hold any more.
pub(crate) fn divide(
    connection: &mut Connection,
    number_of: usize,
    source: &Source,
    seen: &str,
    parts: &mut BTreeMap<String, Parts>,
) -> PgResult<Vec<Chunk>> {
    let name = source.plan.full_name();
    let whole = |condition: Option<&str>| {
        let also = source.condition.as_deref();
        let conditions: Vec<String> = also.into_iter().chain(condition).map(|text| format!("(\n{text}\n)")).collect();
        let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let columns: Vec<String> = source.plan.row.iter().map(|column| identifier(column)).collect();
        format!(
            "COPY (SELECT {} FROM {}{filter}) TO STDOUT",
            columns.join(", "),
            only(&source.plan, source.partitioned)
        )
    };
    let once = || vec![Chunk { table: number_of, sql: whole(None), pages: None }];
    if source.partitioned || source.condition.is_some() {
        return Ok(once());
    }
    // Scans of ranges of places are new in 14, and only the server's own way to store tables has them. The file is the one that the lock holds: a
    // catalogue as old as the snapshot may know another one.
    let sql = format!(
        "SELECT pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::int8, pg_catalog.pg_relation_filenode(c.oid)::int8, \
                (COALESCE(a.amname, '') = 'heap' AND pg_catalog.current_setting('server_version_num')::int4 >= 140000)::int4, \
                pg_catalog.current_setting('block_size')::int8 \
         FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam WHERE c.oid = {}",
        source.oid
    );
    let Some(row) = connection.query(&sql)?.into_iter().next() else { return Ok(once()) };
    let [pages, file, heap, size] = fields(row)?;
    let (pages, file, size): (u64, u32, u64) = (number(&pages)?, number(&file)?, number(&size)?);
    let step = (PART / size).max(1);
    let known = parts.get(&name).filter(|known| known.file == file && heap == "1").cloned();
    if heap != "1" || (pages <= step && known.is_none()) {
        parts.remove(&name);
        return Ok(once());
    }
    let known = known.unwrap_or_else(|| Parts { file, seen: seen.to_owned(), done: Vec::new() });
    let mut chunks = Vec::new();
    let mut chunk = |from: u64, to: u64, more: Option<String>| {
        // The last part has no end: what is behind it now is no part of what is seen, but nothing depends on that.
        let end = if to >= pages { String::new() } else { format!(" AND ctid < '({to},0)'::tid") };
        let condition = format!("ctid >= '({from},0)'::tid{end}{}", more.as_deref().unwrap_or_default());
        chunks.push(Chunk {
            table: number_of,
            sql: whole(Some(&condition)),
            pages: more.is_none().then_some((from, to)),
        });
    };
    let mut at = 0;
    // Older ones were seen. Ages compare as the server does it, also where numbers have wrapped around.
    let newer = Visibility::parse(&known.seen)
        .map(|seen| format!(" AND pg_catalog.age(xmin) <= pg_catalog.age('{}'::xid)", seen.xmin & 0xffff_ffff));
    for (from, to) in known.done.iter().copied().chain([(pages.max(1), u64::MAX)]) {
        while at < from.min(pages.max(1)) {
            let next = (at + step).min(from);
            chunk(at, next, None);
            at = next;
        }
        if to != u64::MAX {
            chunk(from, to, newer.clone());
            at = to;
        }
    }
    parts.insert(name, known);
    Ok(chunks)
}

/// The table without those that inherit from it, which are tables of their own.
pub(crate) fn only(plan: &Plan, partitioned: bool) -> String {
    let only = if partitioned { "" } else { "ONLY " };
    format!("{only}{}.{}", identifier(&plan.schema), identifier(&plan.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_side_by_side_are_one() {
        let mut parts = Parts::default();
        for (from, to) in [(10, 20), (0, 10), (30, 40)] {
            parts.add(from, to);
        }
        assert_eq!(parts.done, [(0, 20), (30, 40)]);
    }
}
