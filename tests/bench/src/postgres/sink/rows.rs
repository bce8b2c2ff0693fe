//! What the sinks write: records of a topic, the same as lines for COPY, and what the table has to hold in the end.
//!
//! Each key comes twice: in the first half of the records all rows are new, in the second half they are there already. The keys come in an order that is
//! no order. A record is JSON with its schema, the form that both sinks read with the same converter.

use std::fmt::Write as _;

use rdkafka::producer::BaseRecord;
use tributary_harness::{Error, KafkaBroker, Result};

use crate::produced::Produced;

/// The table.
pub const TABLE: &str = "orders";
/// Its columns, in the order of a line.
pub const COLUMNS: [&str; 6] = ["id", "customer", "status", "quantity", "amount", "at"];
const TYPES: [&str; 6] = ["bigint PRIMARY KEY", "text", "text", "int", "double precision", "timestamp"];
const STATUS: [&str; 4] = ["new", "paid", "shipped", "returned"];
/// 2025-11-24, in seconds: the day of the first record.
const DAY: u64 = 1_763_942_400;
/// No number of rows has it as a factor, so that multiples of it visit all keys.
const STRIDE: u64 = 1_000_003;
const KEY_SCHEMA: &str =
    r#"{"type":"struct","optional":false,"fields":[{"type":"int64","optional":false,"field":"id"}]}"#;
const VALUE_SCHEMA: &str = r#"{"type":"struct","optional":false,"fields":[{"type":"int64","optional":false,"field":"id"},{"type":"string","optional":true,"field":"customer"},{"type":"string","optional":true,"field":"status"},{"type":"int32","optional":true,"field":"quantity"},{"type":"double","optional":true,"field":"amount"},{"type":"int64","optional":true,"name":"org.apache.kafka.connect.data.Timestamp","version":1,"field":"at"}]}"#;

/// So many rows, and twice as many records.
#[derive(Clone, Copy, Debug)]
pub struct Rows(pub u64);

/// The row that a record makes.
struct Row {
    id: u64,
    customer: String,
    status: &'static str,
    quantity: u64,
    /// A fourth is exact in every notation.
    quarters: u64,
    /// Whole seconds since the day began, of which there are two: Debezium's UNNEST cuts fractions of a second off.
    seconds: u64,
}

impl Rows {
    pub fn records(self) -> u64 {
        self.0 * 2
    }

    /// What makes the table anew.
    pub fn ddl() -> String {
        let columns: Vec<String> = COLUMNS.iter().zip(TYPES).map(|(name, kind)| format!("{name} {kind}")).collect();
        format!("DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} ({})", columns.join(", "))
    }

    /// The key of a record.
    pub fn id(self, record: u64) -> u64 {
        record % self.0 * STRIDE % self.0
    }

    /// 0 for the first half of the records, 1 for the second.
    pub fn round(self, record: u64) -> u64 {
        record / self.0
    }

    fn row(self, record: u64) -> Row {
        let (id, round) = (self.id(record), self.round(record));
        Row {
            id,
            customer: format!("customer-{:06}-{round}", id % 50_000),
            status: STATUS[(id % 4) as usize],
            quantity: record % 9,
            quarters: self.quarters(record),
            seconds: Self::seconds(record),
        }
    }

    fn seconds(record: u64) -> u64 {
        record % (2 * 86_400)
    }

    fn quarters(self, record: u64) -> u64 {
        record * 37 % 1_000_000
    }

    /// Writes all records to a topic of one partition.
    pub fn produce(self, broker: &KafkaBroker, topic: &str) -> Result<()> {
        let mut produced = Produced::new(broker, topic)?;
        let (mut key, mut value) = (String::new(), String::new());
        for record in 0..self.records() {
            let Row { id, customer, status, quantity, quarters, seconds } = self.row(record);
            key.clear();
            let _ = write!(key, r#"{{"schema":{KEY_SCHEMA},"payload":{{"id":{id}}}}}"#);
            value.clear();
            let _ = write!(
                value,
                r#"{{"schema":{VALUE_SCHEMA},"payload":{{"id":{id},"customer":"{customer}","status":"{status}","quantity":{quantity},"amount":{},"at":{}}}}}"#,
                quarters as f64 / 4.0,
                (DAY + seconds) * 1000
            );
            produced.send(BaseRecord::to(topic).key(&key).payload(&value).partition(0))?;
        }
        produced.finish()
    }

    /// Records as lines of COPY's text format.
    pub fn lines(self, records: std::ops::Range<u64>) -> String {
        let mut lines = String::new();
        for record in records {
            let Row { id, customer, status, quantity, quarters, seconds } = self.row(record);
            let (day, amount) = (24 + seconds / 86_400, quarters as f64 / 4.0);
            let clock = format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
            let _ = writeln!(lines, "{id}\t{customer}\t{status}\t{quantity}\t{amount}\t2025-11-{day} {clock}");
        }
        lines
    }

    /// Whether the table holds the last record of each key, and nothing else.
    pub fn check(self, mut sql: impl FnMut(&str) -> Result<String>) -> Result<()> {
        let second = self.0..self.records();
        let quarters: u64 = second.clone().map(|record| self.quarters(record)).sum();
        let quantity: u64 = second.clone().map(|record| record % 9).sum();
        let seconds: u64 = second.map(Self::seconds).sum();
        let wanted = format!("{0}|{0}|{quarters}|{quantity}|{seconds}", self.0);
        let found = sql(&format!(
            "SELECT count(*), count(*) FILTER (WHERE customer = 'customer-' || lpad((id % 50000)::text, 6, '0') || '-1' \
             AND status = (ARRAY['new','paid','shipped','returned'])[id % 4 + 1]), \
             sum((amount * 4)::bigint), sum(quantity), \
             sum(extract(epoch FROM at AT TIME ZONE 'UTC') - {DAY})::bigint FROM {TABLE}"
        ))?;
        if found == wanted {
            return Ok(());
        }
        Err(Error::new(format!("the table holds {found} and not {wanted}: rows, right texts, and three sums")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_comes_once_in_each_half() {
        let rows = Rows(1_000);
        for half in [0..1_000, 1_000..2_000] {
            let mut ids: Vec<u64> = half.map(|record| rows.id(record)).collect();
            ids.sort_unstable();
            assert_eq!(ids, (0..1_000).collect::<Vec<_>>());
        }
        assert_eq!((rows.round(999), rows.round(1_000)), (0, 1));
    }

    #[test]
    fn lines_are_what_copy_reads() {
        let rows = Rows(100_000_000);
        assert_eq!(rows.lines(3..4), "3000009\tcustomer-000009-0\tpaid\t3\t27.75\t2025-11-24 00:00:03\n");
        assert_eq!(rows.lines(90_061..90_062).rsplit('\t').next(), Some("2025-11-25 01:01:01\n"));
    }
}
