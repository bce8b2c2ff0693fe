//! What the records of an offsets topic add up to.
//!
//! A key is the JSON array `[connector, source partition]`. The same source partition may have been written with its fields in
//! another order, by another kind of map in Java or by another worker: those keys are different records to Kafka, but one
//! source partition here. The newest of them counts; writes go to all of them, so that whoever looks one up finds it.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use tributary_sdk::source::SourcePosition;

use super::compacted_topic::{Applied, Fold, Notify, Record};
use super::java_json::{push_hash_map, push_string, push_value};
use super::warnings::{Nonsense, Warnings, shown};
use super::writer::Row;
use crate::storage::sqlite::ImageChange;
use crate::storage::sqlite::offsets::canonical;

pub(super) const FORMAT: u32 = 1;

/// One source partition.
struct Slot {
    partition: Value,
    /// At least one.
    keys: Vec<Written>,
}

/// What was written last under one key.
struct Written {
    key: Box<[u8]>,
    timestamp: i64,
    offset: Box<str>,
}

impl Slot {
    fn offset(&self) -> Option<Value> {
        let newest = self.keys.iter().max_by_key(|written| written.timestamp)?;
        serde_json::from_str(&newest.offset).ok()
    }
}

/// The fold: by connector and canonical source partition.
pub(super) struct OffsetFold {
    topic: String,
    connectors: HashMap<String, BTreeMap<String, Slot>>,
    rows: HashMap<Vec<u8>, Option<Vec<u8>>>,
    warnings: Warnings,
}

impl OffsetFold {
    pub(super) fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            connectors: HashMap::new(),
            rows: HashMap::new(),
            warnings: Warnings::default(),
        }
    }

    /// The offset of a source partition.
    pub(super) fn get(&self, connector: &str, partition: &Value) -> Option<Value> {
        self.connectors.get(connector)?.get(&canonical(partition))?.offset()
    }

    /// All offsets of a connector.
    pub(super) fn all(&self, connector: &str) -> Vec<SourcePosition> {
        let Some(slots) = self.connectors.get(connector) else { return Vec::new() };
        let position = |slot: &Slot| SourcePosition { partition: slot.partition.clone(), offset: slot.offset() };
        slots.values().map(position).collect()
    }

    /// The records that store a position.
    pub(super) fn rows(&self, connector: &str, position: &SourcePosition) -> Vec<Row> {
        let value = position.offset.as_ref().map(|offset| {
            let mut out = Vec::new();
            push_value(&mut out, offset);
            out
        });
        let known = self.connectors.get(connector).and_then(|slots| slots.get(&canonical(&position.partition)));
        match known {
            Some(slot) => slot.keys.iter().map(|written| (written.key.to_vec(), value.clone())).collect(),
            None => vec![(key(connector, &position.partition), value)],
        }
    }

    fn take(&mut self, raw: Option<&[u8]>, timestamp: i64, value: Option<&[u8]>) -> Result<(), Nonsense> {
        let raw = raw.ok_or_else(|| Nonsense::new("an offset without a key", "the key is null"))?;
        let (connector, partition) = parse_key(raw)?;
        let offset = value.map(|value| parse_offset(raw, value)).transpose()?.flatten();
        let name = canonical(&partition);
        let slots = self.connectors.entry(connector.clone()).or_default();
        match offset {
            Some(offset) => {
                let slot = slots.entry(name).or_insert_with(|| Slot { partition, keys: Vec::with_capacity(1) });
                match slot.keys.iter_mut().find(|written| *written.key == *raw) {
                    Some(written) => (written.timestamp, written.offset) = (timestamp, offset),
                    None => slot.keys.push(Written { key: raw.into(), timestamp, offset }),
                }
            }
            None => {
                if let Some(slot) = slots.get_mut(&name) {
                    slot.keys.retain(|written| *written.key != *raw);
                    if slot.keys.is_empty() {
                        slots.remove(&name);
                    }
                }
                if slots.is_empty() {
                    self.connectors.remove(&connector);
                }
            }
        }
        Ok(())
    }
}

impl Fold for OffsetFold {
    fn apply(&mut self, record: &Record<'_>) {
        match self.take(record.key, record.timestamp, record.value) {
            Ok(()) => {
                let row = record.value.map(|value| [&record.timestamp.to_be_bytes()[..], value].concat());
                self.rows.insert(record.key.unwrap_or_default().to_vec(), row);
            }
            Err(nonsense) => self.warnings.skip(&self.topic, record.partition, record.offset, &nonsense),
        }
    }

    fn take_rows(&mut self) -> Vec<ImageChange> {
        std::mem::take(&mut self.rows).into_iter().collect()
    }

    fn restore(&mut self, key: &[u8], row: &[u8]) -> Result<(), String> {
        let (timestamp, value) = row.split_first_chunk::<8>().ok_or("a row without a time")?;
        self.take(Some(key), i64::from_be_bytes(*timestamp), Some(value)).map_err(|nonsense| nonsense.detail)
    }

    fn clear(&mut self) {
        self.connectors.clear();
        self.rows.clear();
    }

    fn publish(&mut self, _: &Applied) -> Option<Notify> {
        None
    }
}

/// The key of a source partition that was never written before.
fn key(connector: &str, partition: &Value) -> Vec<u8> {
    let mut out = b"[".to_vec();
    push_string(&mut out, connector);
    out.push(b',');
    match partition {
        Value::Object(map) => push_hash_map(&mut out, map),
        other => push_value(&mut out, other),
    }
    out.push(b']');
    out
}

fn parse_key(raw: &[u8]) -> Result<(String, Value), Nonsense> {
    let wrong = || Nonsense::new("an offset with a key that is none", shown(raw));
    let (connector, partition): (String, Value) = serde_json::from_slice(raw).map_err(|_| wrong())?;
    if partition.is_object() || partition.is_null() { Ok((connector, partition)) } else { Err(wrong()) }
}

/// The JSON null is no offset.
fn parse_offset(key: &[u8], value: &[u8]) -> Result<Option<Box<str>>, Nonsense> {
    match serde_json::from_slice(value) {
        Ok(Value::Null) => Ok(None),
        Ok(Value::Object(map)) => Ok(Some(Value::Object(map).to_string().into())),
        _ => Err(Nonsense::new("an offset that is not a JSON object", format!("key {}", shown(key)))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn apply(fold: &mut OffsetFold, key: &str, timestamp: i64, value: Option<&str>) {
        let value = value.map(str::as_bytes);
        fold.apply(&Record { partition: 0, offset: 0, timestamp, key: Some(key.as_bytes()), value });
    }

    fn texts(rows: Vec<Row>) -> Vec<String> {
        rows.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
    }

    #[test]
    fn a_known_key_is_written_as_it_is_there_and_a_new_one_as_java_would() {
        let mut fold = OffsetFold::new("t");
        let (server_first, database_first) =
            (r#"["c",{"server":"s","database":"d"}]"#, r#"["c",{"database":"d","server":"s"}]"#);
        let position =
            SourcePosition { partition: json!({"database": "d", "server": "s"}), offset: Some(json!({"p": 1})) };
        assert_eq!(texts(fold.rows("c", &position)), [server_first]);
        apply(&mut fold, database_first, 1, Some(r#"{"p":5}"#));
        assert_eq!(texts(fold.rows("c", &position)), [database_first]);
        apply(&mut fold, server_first, 0, Some(r#"{"p":4}"#));
        assert_eq!(fold.get("c", &position.partition), Some(json!({"p": 5})));
        assert_eq!(texts(fold.rows("c", &position)), [database_first, server_first]);
        apply(&mut fold, database_first, 2, None);
        assert_eq!(fold.get("c", &position.partition), Some(json!({"p": 4})));
        apply(&mut fold, server_first, 3, Some("null"));
        assert_eq!(fold.all("c"), []);
    }

    #[test]
    fn nonsense_is_skipped_and_counted_by_kind() {
        let mut fold = OffsetFold::new("t");
        for key in ["x", "[]", r#"["c"]"#, r#"["c",7]"#, r#"[7,{}]"#, r#"["c",{},1]"#] {
            apply(&mut fold, key, 0, Some("{}"));
        }
        apply(&mut fold, r#"["c",{"a":1}]"#, 0, Some("7"));
        apply(&mut fold, r#"["c",{"a":2}]"#, 0, Some("{"));
        apply(&mut fold, r#"["c",{"a":3}]"#, 0, Some("{}"));
        assert_eq!(fold.all("c").len(), 1);
        let counts: Vec<u64> = fold.warnings.counts().values().copied().collect();
        assert_eq!(counts.iter().sum::<u64>(), 8);
        assert_eq!(counts.len(), 2);
    }

    #[test]
    fn the_image_gives_the_same() {
        let mut fold = OffsetFold::new("t");
        apply(&mut fold, r#"["c",{"b":1,"a":2}]"#, 9, Some(r#"{"x":1}"#));
        apply(&mut fold, r#"["d",null]"#, 9, Some(r#"{"x":2}"#));
        let mut restored = OffsetFold::new("t");
        for (key, row) in fold.take_rows() {
            restored.restore(&key, &row.unwrap()).unwrap();
        }
        for connector in ["c", "d"] {
            assert_eq!(restored.all(connector), fold.all(connector));
        }
    }
}
