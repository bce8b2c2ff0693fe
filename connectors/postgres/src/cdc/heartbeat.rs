//! Heartbeats: records that move the stored offset while the tables are idle.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary_sdk::arrow::array::{ArrayRef, Int64Array, StringArray, StructArray};
use tributary_sdk::arrow::schema::{DataType, Field, FieldRef, Fields};
use tributary_sdk::{Batch, Column};

use super::table::named;

/// When the next one is due.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    interval: Option<Duration>,
    last: Instant,
}

impl Heartbeat {
    pub fn new(interval: Option<Duration>) -> Self {
        Self { interval, last: Instant::now() }
    }

    /// Whether one is due; if so, the next one is due an interval later.
    pub fn due(&mut self) -> bool {
        let due = self.interval.is_some_and(|interval| self.last.elapsed() >= interval);
        if due {
            self.last = Instant::now();
        }
        due
    }

    /// How long until the next one.
    pub fn wait(&self, most: Duration) -> Duration {
        self.interval.map_or(most, |interval| interval.saturating_sub(self.last.elapsed()).min(most))
    }
}

/// The record: key `{serverName}`, value `{ts_ms}`.
pub(crate) fn record(topic: &str, server: &str, now_ms: i64) -> Batch {
    let one = |schema: &str, field: Field, array: ArrayRef| {
        let fields: Fields = vec![field].into();
        let whole: FieldRef = named("", DataType::Struct(fields.clone()), true, schema, Some("1"));
        Column::new(whole, Arc::new(StructArray::new(fields, vec![array], None)))
    };
    let value = one(
        "io.debezium.connector.common.Heartbeat",
        Field::new("ts_ms", DataType::Int64, false),
        Arc::new(Int64Array::from(vec![now_ms])),
    );
    let mut batch = Batch::new(topic, value);
    batch.key = Some(one(
        "io.debezium.connector.common.ServerNameKey",
        Field::new("serverName", DataType::Utf8, false),
        Arc::new(StringArray::from(vec![server])),
    ));
    batch
}
