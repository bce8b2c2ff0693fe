//! The records of one table, encoded: which field goes to which column, and each row as COPY takes it.

use std::collections::HashMap;
use std::sync::Arc;

use tributary_sdk::{Error, Result};

use super::catalog::{self, NewColumn, Table};
use super::config::SinkConfig;
use super::records::{Field, Op, Records};
use super::wire::{Wire, wire};

/// A column that is written.
#[derive(Debug)]
pub(super) struct Column {
    /// Its field of the records.
    pub field: usize,
    /// Its column of the table.
    pub target: usize,
    pub wire: Wire,
}

/// What one record does to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// With the columns of this group.
    Write(u32),
    Delete,
    Truncate,
}

/// A record's deed, and its row in the buffer: two bytes for the number of columns, those of the key, the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tuple {
    /// The record.
    pub row: usize,
    pub deed: Deed,
    start: usize,
    key_end: usize,
    end: usize,
}

/// The records of one table.
#[derive(Debug)]
pub(super) struct Work {
    pub table: Arc<Table>,
    /// Key columns first.
    pub columns: Vec<Column>,
    pub keys: usize,
    pub tuples: Vec<Tuple>,
    /// Columns that records leave as they are: what their group lacks.
    groups: Vec<Vec<u16>>,
    buffer: Vec<u8>,
}

/// Fields that the table has no columns for.
#[derive(Debug)]
pub(super) struct Missing {
    pub fields: Vec<usize>,
    /// What makes them.
    pub ddl: String,
}

impl Work {
    /// The columns of the fields of the table with this number, or those that are missing. Fields that no record has, or whose type nothing tells
    /// yet, are left out.
    pub fn plan(
        table: &Arc<Table>,
        records: &Records,
        number: u32,
        config: &SinkConfig,
    ) -> Result<Result<Self, Missing>> {
        let mut columns: Vec<Column> = Vec::new();
        let mut missing = Vec::new();
        for (at, field) in records.fields.iter().enumerate() {
            let Some(target) = table.column(&field.name, config.exact_names) else {
                if field.type_source.type_name().is_some() && records.writes(at, number) {
                    missing.push(at);
                }
                continue;
            };
            let column = &table.columns[target];
            if column.generated {
                continue;
            }
            if let Some(other) = columns.iter().find(|other| other.target == target) {
                return Err(Error::failed(format!(
                    "the fields {} and {} are both for the column {} of {}: leave one out with field.exclude.list, or set quote.identifiers=true",
                    records.fields[other.field].name,
                    field.name,
                    column.name,
                    table.quoted()
                )));
            }
            columns.push(Column {
                field: at,
                target,
                wire: wire(field.values.kind(), column.oid, column.array, column.hstore),
            });
        }
        if !missing.is_empty() {
            let new: Vec<NewColumn> = missing.iter().filter_map(|at| new_column(&records.fields[*at])).collect();
            return Ok(Err(Missing { ddl: catalog::add(table, config.exact_names, &new), fields: missing }));
        }
        let keys = columns.iter().filter(|column| records.fields[column.field].key).count();
        Ok(Ok(Self {
            table: table.clone(),
            columns,
            keys,
            tuples: Vec::new(),
            groups: vec![Vec::new()],
            buffer: Vec::new(),
        }))
    }

    /// Encodes the records of the table with this number. Those that cannot be are told.
    pub fn encode(&mut self, records: &Records, number: u32, placeholder: &str, refused: &mut Vec<(usize, String)>) {
        let mut groups: HashMap<Vec<u16>, u32> = HashMap::from([(Vec::new(), 0)]);
        for (row, op) in records.ops.iter().enumerate().filter(|(row, _)| records.tables[*row] == number) {
            let deed = match op {
                Op::Write => Deed::Write(0),
                Op::Delete => Deed::Delete,
                Op::Truncate => Deed::Truncate,
                Op::Skip | Op::Bad(_) => continue,
            };
            let start = self.buffer.len();
            match self.encode_row(records, row, deed, placeholder) {
                Ok((key_end, absent)) => {
                    let deed = match deed {
                        Deed::Write(_) if !absent.is_empty() => {
                            let next = self.groups.len() as u32;
                            let group = *groups.entry(absent.clone()).or_insert(next);
                            if group == next {
                                self.groups.push(absent);
                            }
                            Deed::Write(group)
                        }
                        deed => deed,
                    };
                    self.tuples.push(Tuple { row, deed, start, key_end, end: self.buffer.len() });
                }
                Err(why) => {
                    self.buffer.truncate(start);
                    refused.push((row, why));
                }
            }
        }
    }

    /// Answers where the key ends, and which columns the record leaves alone.
    fn encode_row(
        &mut self,
        records: &Records,
        row: usize,
        deed: Deed,
        placeholder: &str,
    ) -> Result<(usize, Vec<u16>), String> {
        let start = self.buffer.len();
        if deed == Deed::Truncate {
            return Ok((start, Vec::new()));
        }
        self.buffer.extend([0; 2]);
        let (mut key_end, mut absent, mut count) = (start + 2, Vec::new(), 0u16);
        for (at, column) in self.columns.iter().enumerate() {
            let field = &records.fields[column.field];
            let is_key = at < self.keys;
            if !is_key {
                if deed == Deed::Delete {
                    break;
                }
                if !field.values.has(row) || field.values.is(row, placeholder) {
                    absent.push(at as u16);
                    continue;
                }
            }
            let value = field.values.get(row);
            if is_key && matches!(value, super::datum::Datum::Null) {
                return Err(format!("the key field {} is null", field.name));
            }
            column.wire.write(&mut self.buffer, &value).map_err(|why| format!("the field {} {why}", field.name))?;
            count += 1;
            if is_key {
                key_end = self.buffer.len();
            }
        }
        self.buffer[start..start + 2].copy_from_slice(&count.to_be_bytes());
        Ok((key_end, absent))
    }

    /// The bytes of a record's key.
    pub fn key(&self, tuple: &Tuple) -> &[u8] {
        &self.buffer[tuple.start.saturating_add(2).min(tuple.key_end)..tuple.key_end]
    }

    /// Its row.
    pub fn row(&self, tuple: &Tuple) -> &[u8] {
        &self.buffer[tuple.start..tuple.end]
    }

    /// Columns of a group.
    pub fn columns_of(&self, group: u32) -> impl Iterator<Item = (usize, &Column)> {
        let absent = &self.groups[group as usize];
        self.columns.iter().enumerate().filter(move |(at, _)| !absent.contains(&(*at as u16)))
    }

    /// Whether records of one group write all that those of the other do.
    pub fn covers(&self, group: u32, other: u32) -> bool {
        group == other || self.groups[group as usize].iter().all(|at| self.groups[other as usize].contains(at))
    }
}

/// The column that a field would have.
pub(super) fn new_column(field: &Field) -> Option<NewColumn> {
    Some(NewColumn { name: field.name.clone(), type_name: field.type_source.type_name()?, required: field.required })
}
