//! Records, and how they differ.

use std::collections::BTreeMap;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tributary_harness::{Context, Error, KafkaBroker, Result, wait};

/// A record, with the topic's prefix written as `PREFIX` wherever it is.
#[derive(Debug)]
pub struct Record {
    pub partition: i32,
    pub key: Option<Value>,
    pub value: Option<Value>,
    pub headers: Vec<(String, Option<String>)>,
}

/// What no two readers have alike: who made the record of a change, and when. (Records of transactions have the server's time, which is the same.)
const OTHERWISE: [&str; 4] = ["payload.source.version", "payload.ts_ms", "payload.ts_us", "payload.ts_ns"];
/// In records of the snapshot, what tells which snapshot it was: each side has its own slot and its own moment.
const OF_SNAPSHOT: [&str; 6] = [
    "payload.source.ts_ms",
    "payload.source.ts_us",
    "payload.source.ts_ns",
    "payload.source.txId",
    "payload.source.lsn",
    "payload.source.sequence",
];

/// A difference: where it is, and what the two sides have.
struct Difference<'a> {
    /// `schema.table`.
    table: &'a str,
    path: &'a str,
    debezium: &'a Value,
    tributary: &'a Value,
    /// Debezium's record.
    record: &'a Record,
}

impl Difference<'_> {
    /// Whether it is in a column of a row, on either side of a change.
    fn is_in(&self, table: &str, column: &str) -> bool {
        let sides = ["payload.before", "payload.after"];
        let named = |side: &&str| self.path.strip_prefix(*side) == Some(&format!(".{column}"));
        self.table.ends_with(table) && sides.iter().any(named)
    }

    fn is_one_of(&self, values: &[Value]) -> bool {
        values.contains(self.tributary)
    }

    /// Whether Debezium shows the default of the column, as its own schema has it, where there is no value: here it is null, or, in the old row of a column that
    /// is never null and was not sent, the least value of its type.
    fn is_default(&self) -> bool {
        let Some((side, column)) = self.path.strip_prefix("payload.").and_then(|path| path.split_once('.')) else {
            return false;
        };
        let schema = self.record.value.as_ref().map(|value| &value["schema"]);
        let default = schema.and_then(|schema| Some(&member(member(schema, side)?, column)?["default"]));
        let least = [
            json!(false),
            json!(0),
            json!(0.0),
            json!(""),
            json!("AA=="),
            json!("0.00"),
            json!("1970-01-01T00:00:00Z"),
        ];
        let none = self.tributary.is_null() || side == "before" && self.is_one_of(&least);
        none && ["before", "after"].contains(&side) && default == Some(self.debezium)
    }
}

/// A field of a schema.
fn member<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema["fields"].as_array()?.iter().find(|field| field["field"] == name)
}

/// Topics that only Debezium has, and what all of their records are: why they are not wanted is in docs/compatibility.md.
const ONLY_THEIRS: [(&str, fn(&str, &Record) -> bool); 2] = [
    ("rows of partitions, once more as those of the partitioned table, by snapshots", |topic, record| {
        ["public.parts", "public-parts"].contains(&topic) && record.payload()["op"] == "r"
    }),
    ("signals, and what an incremental snapshot writes beside them, whatever the filters say", |topic, record| {
        let row = &record.payload()["after"];
        let kinds = ["execute-snapshot", "snapshot-window-open", "snapshot-window-close"];
        let deleted = record.payload()["op"] == "d" || record.value.is_none();
        topic == "public.signals" && (deleted || kinds.iter().any(|kind| row["type"] == *kind))
    }),
];

impl Record {
    fn payload(&self) -> &Value {
        self.value.as_ref().map_or(&Value::Null, |value| &value["payload"])
    }
}

/// What differs for a reason, which docs/compatibility.md gives in the same words.
const ALLOWED: [(&str, fn(&Difference<'_>) -> bool); 10] = [
    ("headers that repeat what a record's source has", |it| it.path == "headers" && it.tributary == "[]"),
    ("columns' defaults in schemas", |it| it.path.ends_with(".default") && it.tributary == "(none)"),
    ("a null, or a value that was not sent, shown as the column's default", |it| {
        let tables = [".defaults", ".later", ".changing", "-defaults", "-later", "-changing"];
        tables.iter().any(|table| it.table.ends_with(table)) && it.is_default()
    }),
    ("arrays of arrays, which lose their items", |it| {
        it.is_in("arrays", "nested") && it.debezium == &json!([null, null])
    }),
    ("items of arrays of enum types that may not be null", |it| it.path.ends_with(".feelings.items.optional")),
    ("dates before 1582-10-15, BC, infinite, and the end of the day", |it| {
        let (low, high) = (json!(i32::MIN), json!(i32::MAX));
        let infinite = [json!("infinity"), json!("-infinity")];
        it.is_in("types", "day") && it.is_one_of(&[json!(-735_160), json!("-0043-03-15Z"), low, high])
            || (it.is_in("types", "day") || it.is_in("types", "ts")) && it.is_one_of(&infinite)
            || it.is_in("types", "ts5")
                && it.is_one_of(&[
                    json!(-12_219_724_800_000_000_i64),
                    json!(-12_219_724_800_000_i64),
                    json!("1582-10-10T00:00:00Z"),
                ])
            || it.is_in("types", "tsz3") && it.is_one_of(&[json!("-0043-03-15T12:00:00.000Z")])
            || it.is_in("types", "tm") && it.is_one_of(&[json!("24:00:00Z")])
    }),
    ("values of type name from the log, which are null", |it| it.is_in("types", "label") && it.debezium.is_null()),
    ("generated columns, which only snapshots have", |it| {
        it.table.ends_with("generated") && (it.path.starts_with("schema.fields.") || it.path.ends_with(".twice"))
    }),
    ("geometric types that are not known, from the snapshot", |it| it.is_in("unknown", "area")),
    ("bytea as base64 that was not sent, which is null", |it| it.is_in("large", "raw") && it.debezium.is_null()),
];

/// All topics whose names begin with the prefix, from their beginning to their end, by the rest of the name.
pub fn read(broker: &KafkaBroker, prefix: &str, delimiter: &str) -> Result<BTreeMap<String, Vec<Record>>> {
    let begin = format!("{prefix}{delimiter}");
    let topics: Vec<String> = broker.topics()?.into_iter().filter(|topic| topic.starts_with(&begin)).collect();
    let consumer: BaseConsumer =
        broker.client().set("group.id", "reader").set("enable.partition.eof", "true").create()?;
    let mut assignment = TopicPartitionList::new();
    for topic in &topics {
        assignment.add_partition_offset(topic, 0, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut records: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    let json = |bytes: Option<&[u8]>| -> Result<Option<Value>> {
        let Some(bytes) = bytes else { return Ok(None) };
        let text = String::from_utf8_lossy(bytes).replace(prefix, "PREFIX");
        serde_json::from_str(&text).map(Some).context("not JSON")
    };
    let mut open = topics.len();
    while open > 0 {
        match consumer.poll(wait::PATIENCE) {
            Some(Ok(record)) => {
                let headers = record.headers().map_or_else(Vec::new, |headers| {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    headers.iter().map(|header| (header.key.to_owned(), header.value.map(text))).collect()
                });
                let (key, value) = (json(record.key())?, json(record.payload())?);
                // Debezium lets a deletion without key be followed by a tombstone, also without key: nothing.
                if key.is_some() || value.is_some() {
                    let table = record.topic()[begin.len()..].to_owned();
                    let record = Record { partition: record.partition(), key, value, headers };
                    records.entry(table).or_default().push(record);
                }
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(error.into()),
            None => return Err(Error::new("nothing came")),
        }
    }
    Ok(records)
}

/// Adds all that differs, each once with its first place.
pub fn compare(
    variant: &str,
    theirs: &BTreeMap<String, Vec<Record>>,
    ours: &BTreeMap<String, Vec<Record>>,
    differences: &mut Vec<String>,
) {
    // Where both have the topic, its records are compared like all others.
    let only_theirs = |name: &str| {
        let all = |allows: fn(&str, &Record) -> bool| theirs[name].iter().all(|record| allows(name, record));
        !ours.contains_key(name) && theirs.contains_key(name) && ONLY_THEIRS.iter().any(|(_, allows)| all(*allows))
    };
    let names = |side: &BTreeMap<String, Vec<Record>>| {
        side.iter()
            .filter(|(name, _)| !only_theirs(name))
            .map(|(name, records)| format!("{name}: {}", records.len()))
            .collect::<Vec<_>>()
    };
    if names(theirs) != names(ours) {
        let only = |a: Vec<String>, b: Vec<String>| a.into_iter().filter(|name| !b.contains(name)).collect::<Vec<_>>();
        let (a, b) = (only(names(theirs), names(ours)), only(names(ours), names(theirs)));
        differences.push(format!("{variant}: topics with their counts: Debezium {a:?}, Tributary {b:?}"));
    }
    for (table, theirs) in theirs {
        let Some(ours) = ours.get(table) else { continue };
        for (number, (a, b)) in theirs.iter().zip(ours).enumerate() {
            let snapshot = a.value.as_ref().is_some_and(|value| value["payload"]["op"] == "r");
            let mut found = Vec::new();
            let of_transaction = table == "transaction";
            let (theirs, ours) = (a, b);
            differ("key", a.key.as_ref(), b.key.as_ref(), &mut found);
            match of_transaction {
                true => differ("", in_order(a).as_ref(), in_order(b).as_ref(), &mut found),
                false => differ("", a.value.as_ref(), b.value.as_ref(), &mut found),
            }
            if of_transaction && in_order(ours) != ours.value {
                differences
                    .push(format!("{variant} {table} record {number}: its tables are not in the order of their names"));
            }
            if (a.partition, &a.headers) != (b.partition, &b.headers) {
                found.push((
                    "headers".to_owned(),
                    format!("{:?}", a.headers).into(),
                    format!("{:?}", b.headers).into(),
                ));
            }
            for (path, a, b) in found {
                let path = path.trim_start_matches('.').to_owned();
                let expected =
                    !of_transaction && OTHERWISE.contains(&&*path) || snapshot && OF_SNAPSHOT.contains(&&*path);
                let difference = Difference { table, path: &path, debezium: &a, tributary: &b, record: theirs };
                if expected || ALLOWED.iter().any(|(_, allows)| allows(&difference)) {
                    continue;
                }
                differences.push(format!(
                    "{variant} {table} record {number}: {path}\n    Debezium  {}\n    Tributary {}",
                    short(&a),
                    short(&b)
                ));
            }
        }
    }
}

/// A transaction's record, with its tables by name: Debezium's come in the order of a hash table.
fn in_order(record: &Record) -> Option<Value> {
    let mut value = record.value.clone()?;
    if let Some(tables) = value["payload"]["data_collections"].as_array_mut() {
        tables.sort_by_key(|table| table["data_collection"].to_string());
    }
    Some(value)
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}

/// Places in which two values differ.
fn differ(path: &str, a: Option<&Value>, b: Option<&Value>, found: &mut Vec<(String, Value, Value)>) {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (None, None) => return,
        (a, b) => {
            let show = |value: Option<&Value>| value.cloned().unwrap_or_else(|| "(none)".into());
            found.push((path.to_owned(), show(a), show(b)));
            return;
        }
    };
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            for (name, a) in x {
                differ(&format!("{path}.{name}"), Some(a), y.get(name), found);
            }
            for (name, b) in y.iter().filter(|(name, _)| !x.contains_key(*name)) {
                differ(&format!("{path}.{name}"), None, Some(b), found);
            }
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            // Fields of a schema are better told by their names.
            for (number, (a, b)) in x.iter().zip(y).enumerate() {
                let name = a["field"].as_str().map_or_else(|| number.to_string(), str::to_owned);
                differ(&format!("{path}.{name}"), Some(a), Some(b), found);
            }
        }
        (a, b) if a != b => found.push((path.to_owned(), a.clone(), b.clone())),
        _ => {}
    }
}
