//! Records of where transactions begin and end (`provide.transaction.metadata`).

use std::collections::BTreeMap;
use std::sync::Arc;

use tributary_sdk::arrow::array::{ArrayRef, Int64Array, ListArray, StringArray, StructArray};
use tributary_sdk::arrow::buffer::{NullBuffer, OffsetBuffer};
use tributary_sdk::arrow::schema::{DataType, Field, FieldRef, Fields};
use tributary_sdk::{Batch, Column};

use super::table::named;

/// An event's place in its transaction, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub total: u64,
    pub of_table: u64,
}

/// What is counted of the transaction under way, and the records that wait.
#[derive(Default)]
pub(crate) struct Transactions {
    total: u64,
    tables: BTreeMap<String, u64>,
    rows: Vec<Row>,
}

struct Row {
    id: String,
    time_ms: i64,
    /// Of an end.
    counts: Option<(u64, Vec<(String, u64)>)>,
}

/// A transaction's name: its number, and a place in the log.
pub(crate) fn id(xid: u32, lsn: u64) -> String {
    format!("{xid}:{lsn}")
}

impl Transactions {
    /// A transaction begins: what was counted of another one is forgotten.
    pub fn restart(&mut self) {
        self.total = 0;
        self.tables.clear();
    }

    /// Another event of a table.
    pub fn count(&mut self, table: &str) -> Order {
        self.total += 1;
        let of_table = match self.tables.get_mut(table) {
            Some(count) => count,
            None => self.tables.entry(table.to_owned()).or_default(),
        };
        *of_table += 1;
        Order { total: self.total, of_table: *of_table }
    }

    pub fn begin(&mut self, id: String, time_ms: i64) {
        self.rows.push(Row { id, time_ms, counts: None });
    }

    pub fn end(&mut self, id: String, time_ms: i64) {
        let counts = Some((self.total, std::mem::take(&mut self.tables).into_iter().collect()));
        self.rows.push(Row { id, time_ms, counts });
        self.total = 0;
    }

    /// The records so far.
    pub fn finish(&mut self, topic: &str) -> Option<Batch> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return None;
        }
        let ids = || -> ArrayRef { Arc::new(rows.iter().map(|row| Some(&*row.id)).collect::<StringArray>()) };
        let key_fields: Fields = vec![Field::new("id", DataType::Utf8, false)].into();
        let key_field = named(
            "",
            DataType::Struct(key_fields.clone()),
            true,
            "io.debezium.connector.common.TransactionMetadataKey",
            Some("1"),
        );
        let (item, fields) = value_fields();
        let status = rows.iter().map(|row| Some(if row.counts.is_some() { "END" } else { "BEGIN" }));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(status.collect::<StringArray>()),
            ids(),
            Arc::new(
                rows.iter().map(|row| row.counts.as_ref().map(|(total, _)| *total as i64)).collect::<Int64Array>(),
            ),
            tables(item, &rows),
            Arc::new(rows.iter().map(|row| row.time_ms).collect::<Int64Array>()),
        ];
        let value_field = named(
            "",
            DataType::Struct(fields.clone()),
            true,
            "io.debezium.connector.common.TransactionMetadataValue",
            Some("1"),
        );
        let mut batch = Batch::new(topic, Column::new(value_field, Arc::new(StructArray::new(fields, columns, None))));
        batch.key = Some(Column::new(key_field, Arc::new(StructArray::new(key_fields, vec![ids()], None))));
        Some(batch)
    }
}

fn value_fields() -> (FieldRef, Fields) {
    let of_item =
        vec![Field::new("data_collection", DataType::Utf8, false), Field::new("event_count", DataType::Int64, false)];
    let item = named("item", DataType::Struct(of_item.into()), true, "event.collection", Some("1"));
    let fields = vec![
        Field::new("status", DataType::Utf8, false),
        Field::new("id", DataType::Utf8, false),
        Field::new("event_count", DataType::Int64, true),
        Field::new("data_collections", DataType::List(item.clone()), true),
        Field::new("ts_ms", DataType::Int64, false),
    ];
    (item, fields.into())
}

fn tables(item: FieldRef, rows: &[Row]) -> ArrayRef {
    let DataType::Struct(of_item) = item.data_type() else { unreachable!("an item is a struct") };
    let all = || rows.iter().filter_map(|row| row.counts.as_ref()).flat_map(|(_, tables)| tables);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(all().map(|(table, _)| Some(&**table)).collect::<StringArray>()),
        Arc::new(all().map(|(_, count)| *count as i64).collect::<Int64Array>()),
    ];
    let items = StructArray::new(of_item.clone(), columns, None);
    let lengths = rows.iter().map(|row| row.counts.as_ref().map_or(0, |(_, tables)| tables.len()));
    let valid: Vec<bool> = rows.iter().map(|row| row.counts.is_some()).collect();
    let offsets = OffsetBuffer::from_lengths(lengths);
    Arc::new(ListArray::new(item, offsets, Arc::new(items), Some(NullBuffer::from(valid))))
}
