//! The sink on the real server.

#[path = "../common/mod.rs"]
mod common;

mod connections;
mod doubt;
mod evolution;
mod exactly_once;
mod names;
mod refusals;
mod round_trip;
mod writing;

use std::sync::Arc;

use serde_json::Value;
use tributary_connector_postgres::PostgresSink;
use tributary_sdk::arrow::array::{Array, StringArray};
use tributary_sdk::arrow::schema::{DataType, Field, Fields};
use tributary_sdk::record::struct_array;
use tributary_sdk::{Batch, Column, Config, Failures};
use tributary_testkit::SinkRun;

type Run = SinkRun<PostgresSink>;

/// A started sink on one partition.
fn start(config: &Config, topic: &str) -> Run {
    let mut run = Run::start(config).unwrap();
    run.open(topic, 0, 0).unwrap();
    run
}

/// A column of JSON documents; null is none.
fn json_column<'a>(values: impl IntoIterator<Item = &'a Value>) -> Column {
    let texts = values.into_iter().map(|value| (!value.is_null()).then(|| value.to_string()));
    Column::json(texts.collect::<StringArray>())
}

/// Records of schemaless JSON: keys and values, null for none.
fn json_batch(topic: &str, records: &[(Value, Value)]) -> Batch {
    let mut batch = Batch::new(topic, json_column(records.iter().map(|(_, value)| value)));
    batch.key = Some(json_column(records.iter().map(|(key, _)| key)));
    batch
}

/// A structured column of these fields; null is none.
fn struct_column(fields: Vec<Field>, rows: &[Value]) -> Column {
    let fields = Fields::from(fields);
    let rows: Vec<Option<&Value>> = rows.iter().map(|row| Some(row).filter(|row| !row.is_null())).collect();
    let array = struct_array(&fields, &rows).unwrap();
    Column::new(Field::new("", DataType::Struct(fields), array.null_count() > 0), Arc::new(array))
}

/// Puts a batch of which every record is good.
fn put(run: &mut Run, batch: Batch) {
    let failures = run.put(batch).unwrap_or_else(|error| panic!("{error}"));
    assert!(failures.is_empty(), "{failures:?}");
}

/// The rows that were refused, and why.
fn refused(failures: Failures) -> Vec<(usize, String)> {
    let mut refused: Vec<_> =
        failures.into_records().into_iter().map(|failure| (failure.row, failure.message)).collect();
    refused.sort();
    refused
}
