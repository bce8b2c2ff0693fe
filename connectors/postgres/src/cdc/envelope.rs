//! Change events of one table, into a batch.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tributary_sdk::arrow::array::{ArrayRef, Int64Array, StringArray, StructArray, new_null_array};
use tributary_sdk::arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use tributary_sdk::arrow::schema::{DataType, Fields};
use tributary_sdk::{Batch, Column, Error, Result};

use super::pgoutput::Value;
use super::table::{Plan, PlannedColumn, source_fields, transaction_fields};
use super::transactions::{self, Order};
use super::values::{ValueBuilder, write_number};
use crate::config::SourceConfig;

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Create,
    Update,
    Delete,
    Truncate,
    /// Read by a snapshot.
    Read,
}

impl Op {
    pub fn letter(self) -> &'static str {
        match self {
            Self::Create => "c",
            Self::Update => "u",
            Self::Delete => "d",
            Self::Truncate => "t",
            Self::Read => "r",
        }
    }
}

/// Where a change stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// When it committed, or when the snapshot began; microseconds from 1970.
    pub time_us: i64,
    pub lsn: u64,
    pub xid: Option<u32>,
    /// Behind the transaction before it.
    pub last_commit: Option<u64>,
    /// The snapshot's mark; `false` while streaming.
    pub snapshot: &'static str,
    /// Its transaction, where that is told.
    pub order: Option<Order>,
}

impl Place {
    /// Of a snapshot that is read at this time.
    pub fn of_snapshot(time_us: i64) -> Self {
        Self { time_us, lsn: 0, xid: None, last_commit: None, snapshot: "true", order: None }
    }
}

/// Rows of one side: only filled where there are any.
struct Side {
    builders: Vec<ValueBuilder>,
    valid: Vec<bool>,
}

impl Side {
    fn new(columns: &[PlannedColumn]) -> Self {
        Self { builders: columns.iter().map(|column| ValueBuilder::new(&column.column)).collect(), valid: Vec::new() }
    }

    /// Nulls up to this row.
    fn pad(&mut self, rows: usize) {
        for _ in self.valid.len()..rows {
            self.builders.iter_mut().for_each(ValueBuilder::push_null);
            self.valid.push(false);
        }
    }

    fn finish(&mut self, fields: &Fields, rows: usize) -> ArrayRef {
        if self.valid.is_empty() {
            return new_null_array(&DataType::Struct(fields.clone()), rows);
        }
        self.pad(rows);
        let nulls = NullBuffer::from(std::mem::take(&mut self.valid));
        let nulls = (nulls.null_count() > 0).then_some(nulls);
        let columns: Vec<ArrayRef> = self.builders.iter_mut().map(ValueBuilder::finish).collect();
        if columns.is_empty() {
            return Arc::new(StructArray::new_empty_fields(rows, nulls));
        }
        Arc::new(StructArray::new(fields.clone(), columns, nulls))
    }
}

/// Collects change events of one table.
pub(crate) struct Events {
    pub plan: Arc<Plan>,
    constants: Constants,
    key: Side,
    before: Side,
    after: Side,
    /// `false`: a tombstone.
    valid: Vec<bool>,
    ops: Vec<&'static str>,
    places: Vec<Place>,
    processed_us: Vec<i64>,
    now_us: i64,
    bytes: usize,
}

/// What is the same in all records of a table.
#[derive(Clone)]
struct Constants {
    prefix: String,
    database: String,
    placeholder: String,
}

impl Events {
    pub fn new(config: &SourceConfig, plan: Arc<Plan>) -> Self {
        Self {
            constants: Constants {
                prefix: config.prefix.clone(),
                database: config.server.database.clone(),
                placeholder: config.modes.placeholder.clone(),
            },
            key: Side::new(&plan.key),
            before: Side::new(&plan.values),
            after: Side::new(&plan.values),
            plan,
            valid: Vec::new(),
            ops: Vec::new(),
            places: Vec::new(),
            processed_us: Vec::new(),
            now_us: 0,
            bytes: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.valid.len()
    }

    pub fn is_empty(&self) -> bool {
        self.valid.is_empty()
    }

    /// A change. `before` and `after` are rows as the server sent them; `key` is the one that the key is taken from. Where the key alone is known
    /// of `before`, its other columns are null, or the least value of their types. Values that were not sent are taken from `before`, if it
    /// has them.
    pub fn push(&mut self, op: Op, place: Place, before: Option<&[Value]>, after: Option<&[Value]>) -> Result<()> {
        let row = self.valid.len();
        if let Some(values) = before {
            self.before.pad(row);
            let columns = self.plan.values.iter().zip(&mut self.before.builders);
            self.bytes += fill(&self.plan, columns, values, None, &self.constants.placeholder, place)?;
            self.before.valid.push(true);
        }
        if let Some(values) = after {
            self.after.pad(row);
            let columns = self.plan.values.iter().zip(&mut self.after.builders);
            self.bytes += fill(&self.plan, columns, values, before, &self.constants.placeholder, place)?;
            self.after.valid.push(true);
        }
        self.push_key(after.or(before), before, place)?;
        self.push_rest(true, op.letter(), place);
        Ok(())
    }

    /// What follows a deletion.
    pub fn push_tombstone(&mut self, place: Place, old: &[Value]) -> Result<()> {
        self.push_key(Some(old), None, place)?;
        self.push_rest(false, "d", place);
        Ok(())
    }

    fn push_key(&mut self, row: Option<&[Value]>, before: Option<&[Value]>, place: Place) -> Result<()> {
        let Some(row) = row.filter(|_| !self.plan.key.is_empty()) else { return Ok(()) };
        self.key.pad(self.valid.len());
        let columns = self.plan.key.iter().zip(&mut self.key.builders);
        self.bytes += fill(&self.plan, columns, row, before, &self.constants.placeholder, place)?;
        self.key.valid.push(true);
        Ok(())
    }

    fn push_rest(&mut self, valid: bool, op: &'static str, place: Place) {
        if self.valid.len().is_multiple_of(64) {
            // Often enough to say when.
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.now_us = now.as_micros() as i64;
        }
        self.valid.push(valid);
        self.ops.push(op);
        self.places.push(place);
        self.processed_us.push(self.now_us);
    }

    /// Bytes of the values so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The batch, and room for the next one.
    pub fn finish(&mut self) -> Batch {
        let rows = std::mem::take(&mut self.valid).into_iter().collect::<Vec<bool>>();
        let count = rows.len();
        self.bytes = 0;
        let plan = self.plan.clone();
        let DataType::Struct(envelope) = plan.value_field.data_type() else { unreachable!("an envelope is a struct") };
        let DataType::Struct(row) = envelope[0].data_type() else { unreachable!("a row is a struct") };
        let DataType::Struct(key) = plan.key_field.data_type() else { unreachable!("a key is a struct") };
        let processed = std::mem::take(&mut self.processed_us);
        let transaction = transaction(&self.places);
        let source = self.source(count);
        let columns: Vec<ArrayRef> = vec![
            self.before.finish(row, count),
            self.after.finish(row, count),
            source,
            transaction,
            Arc::new(std::mem::take(&mut self.ops).into_iter().map(Some).collect::<StringArray>()),
            Arc::new(processed.iter().map(|us| us / 1000).collect::<Int64Array>()),
            Arc::new(Int64Array::from(processed.clone())),
            Arc::new(processed.iter().map(|us| us * 1000).collect::<Int64Array>()),
        ];
        let nulls = NullBuffer::from(rows);
        let nulls = (nulls.null_count() > 0).then_some(nulls);
        let values = StructArray::new(envelope.clone(), columns, nulls);
        let mut batch = Batch::new(plan.topic.clone(), Column::new(plan.value_field.clone(), Arc::new(values)));
        if !plan.key.is_empty() && !self.key.valid.is_empty() {
            batch.key = Some(Column::new(plan.key_field.clone(), self.key.finish(key, count)));
        }
        batch
    }

    fn source(&mut self, count: usize) -> ArrayRef {
        let places = std::mem::take(&mut self.places);
        let same = |text: &str| same(text, count);
        let times = |factor: fn(i64) -> i64| -> ArrayRef {
            Arc::new(places.iter().map(|place| factor(place.time_us)).collect::<Int64Array>())
        };
        let first = places.first().map_or("false", |place| place.snapshot);
        let marks = match places.iter().all(|place| place.snapshot == first) {
            true => same(first),
            false => Arc::new(places.iter().map(|place| Some(place.snapshot)).collect::<StringArray>()),
        };
        let columns: Vec<ArrayRef> = vec![
            same(env!("CARGO_PKG_VERSION")),
            same("postgresql"),
            same(&self.constants.prefix),
            times(|us| us.div_euclid(1000)),
            marks,
            same(&self.constants.database),
            sequences(&places),
            times(|us| us),
            times(|us| us.saturating_mul(1000)),
            same(&self.plan.schema),
            same(&self.plan.name),
            Arc::new(places.iter().map(|place| place.xid.map(i64::from)).collect::<Int64Array>()),
            Arc::new(places.iter().map(|place| Some(place.lsn as i64)).collect::<Int64Array>()),
            Arc::new(Int64Array::new_null(count)),
        ];
        Arc::new(StructArray::new(source_fields(), columns, None))
    }
}

/// A column of one text.
fn same(text: &str, count: usize) -> ArrayRef {
    let values = Buffer::from_vec(text.as_bytes().repeat(count));
    Arc::new(StringArray::new(OffsetBuffer::from_repeated_length(text.len(), count), values, None))
}

/// `["<behind the transaction before>","<the change>"]`.
fn sequences(places: &[Place]) -> ArrayRef {
    let mut text = String::with_capacity(places.len() * 32);
    let mut lengths = Vec::with_capacity(places.len());
    for place in places {
        let from = text.len();
        match place.last_commit {
            Some(last) => {
                text.push_str("[\"");
                write_number(&mut text, last, 1);
                text.push_str("\",\"");
            }
            None => text.push_str("[null,\""),
        }
        write_number(&mut text, place.lsn, 1);
        text.push_str("\"]");
        lengths.push(text.len() - from);
    }
    let values = Buffer::from_vec(text.into_bytes());
    Arc::new(StringArray::new(OffsetBuffer::from_lengths(lengths), values, None))
}

/// The transactions of events.
fn transaction(places: &[Place]) -> ArrayRef {
    let fields = transaction_fields();
    if places.iter().all(|place| place.order.is_none()) {
        return new_null_array(&DataType::Struct(fields), places.len());
    }
    let valid: Vec<bool> = places.iter().map(|place| place.order.is_some()).collect();
    let id = |place: &Place| transactions::id(place.xid.unwrap_or_default(), place.lsn);
    let number = |of: fn(Order) -> u64| -> ArrayRef {
        Arc::new(places.iter().map(|place| place.order.map_or(0, of) as i64).collect::<Int64Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(places.iter().map(|place| Some(id(place))).collect::<StringArray>()),
        number(|order| order.total),
        number(|order| order.of_table),
    ];
    Arc::new(StructArray::new(fields, columns, Some(NullBuffer::from(valid))))
}

/// Fills a row; answers its bytes.
fn fill<'a>(
    plan: &Plan,
    columns: impl Iterator<Item = (&'a PlannedColumn, &'a mut ValueBuilder)>,
    row: &[Value],
    before: Option<&[Value]>,
    placeholder: &str,
    place: Place,
) -> Result<usize> {
    let mut bytes = 0;
    for (column, builder) in columns {
        let mut value = row.get(column.at).unwrap_or(&Value::Null);
        if *value == Value::Unchanged
            && let Some(old @ Value::Text(_)) = before.and_then(|before| before.get(column.at))
        {
            value = old;
        }
        match value {
            Value::Text(text) => {
                bytes += text.len();
                builder.push(text).map_err(|why| unfit(plan, column, text, place, why))?;
            }
            Value::Null if column.required => builder.push_zero(),
            Value::Null => builder.push_null(),
            Value::Unchanged => builder.push_unavailable(placeholder, column.required),
        }
    }
    Ok(bytes)
}

/// The value is not shown: it may be somebody's data.
fn unfit(plan: &Plan, column: &PlannedColumn, text: &Bytes, place: Place, why: &str) -> Error {
    Error::failed(format!(
        "a value of {} bytes in column {} of {} cannot be given as {} (at {} in the log): {why}",
        text.len(),
        column.name,
        plan.full_name(),
        column.column.data_type,
        super::lsn::show(place.lsn),
    ))
}
