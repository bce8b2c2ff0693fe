//! Records of repartition topics, as bytes: where the chain is cut, records are written with all that they are, and read again.
//!
//! | Bytes | |
//! |---|---|
//! | 1 | version of this layout: 1 |
//! | 1 | 0: a record; 1: news of the partition that it would come from |
//! | n | the alias of the transform that it is for, with its length (LEB128) |
//! | n + 4 | topic, with its length, and number of the partition it comes from |
//! | 1 + 8 | of news: flags (1: nothing has come for long) and the latest time |
//! | 1, n | of a record: the number of schemas; each as JSON, with its length |
//! | n | of a record: the record, as held ones are in the state |
//!
//! The key is that of the state: text and bytes as they are, a whole number as text, others as the state's bytes. So Java's default
//! partitioner finds the same partition for a text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow_schema::FieldRef;
use tributary_sdk::{Batch, Error, Result};

use super::held_record::{Book, Held, Keeper, batches_with, digest, field_of};
use super::step::News;
use super::stored::{length, take};
use crate::converter::json;
use crate::expression::Answer;
use crate::state::Shard;

const VERSION: u8 = 1;
const RECORD: u8 = 0;
const NEWS: u8 = 1;

/// Where a record was read in front of the cut.
#[derive(Debug, Clone, Copy)]
pub struct From<'f> {
    /// The alias of the transform that records are for.
    pub alias: &'f str,
    /// The topic.
    pub topic: &'f str,
    /// The partition.
    pub partition: i32,
}

/// The name by which event time knows a partition.
pub fn upstream(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// The key of a repartition topic's record, of the bytes that the state knows it by.
pub fn partition_key(stored: &[u8]) -> Cow<'_, [u8]> {
    match stored {
        [5 | 6, rest @ ..] => Cow::Borrowed(rest),
        [3, ..] => match super::stored::read(stored) {
            Some(Answer::Integer(number)) => Cow::Owned(number.to_string().into_bytes()),
            _ => Cow::Borrowed(stored),
        },
        _ => Cow::Borrowed(stored),
    }
}

fn head(kind: u8, from: From<'_>) -> Vec<u8> {
    let mut head = vec![VERSION, kind];
    for text in [from.alias, from.topic] {
        length(text.len(), &mut head);
        head.extend_from_slice(text.as_bytes());
    }
    head.extend_from_slice(&from.partition.to_be_bytes());
    head
}

/// News as a record.
pub fn write_news(from: From<'_>, latest: i64, idle: bool) -> Vec<u8> {
    let mut bytes = head(NEWS, from);
    bytes.push(u8::from(idle));
    bytes.extend_from_slice(&latest.to_be_bytes());
    bytes
}

/// Writes rows of a batch.
pub struct Writer<'b> {
    head: Vec<u8>,
    keeper: Keeper<'b>,
}

/// The schemas of one batch, to be written before its records.
#[derive(Default)]
pub(super) struct Written(Vec<(FieldRef, String)>);

impl Written {
    /// Appends their number, and each with its length.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.0.len() as u8);
        for (_, text) in &self.0 {
            length(text.len(), out);
            out.extend_from_slice(text.as_bytes());
        }
    }
}

impl Book for Written {
    fn number(&mut self, field: &FieldRef) -> Result<u64> {
        let known = self.0.iter().find(|(known, _)| known == field).map(|(_, text)| digest(text.as_bytes()));
        match known {
            Some(number) => Ok(number),
            None => {
                let text = json::field_to_json(field).map_err(Error::failed)?;
                let number = digest(text.as_bytes());
                self.0.push((field.clone(), text));
                Ok(number)
            }
        }
    }

    fn find(&mut self, _number: u64) -> Result<FieldRef> {
        Err(Error::failed("schemas are only written here; this is a bug of the worker"))
    }
}

impl<'b> Writer<'b> {
    /// For a batch whose types Connect has.
    pub fn new(batch: &'b Batch, from: From<'_>) -> Result<Self> {
        let mut book = Written::default();
        let keeper = Keeper::with(batch, &mut book)?;
        let mut head = head(RECORD, from);
        book.write(&mut head);
        Ok(Self { head, keeper })
    }

    /// Appends a row.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> std::result::Result<(), String> {
        out.extend_from_slice(&self.head);
        self.keeper.write(row, out)
    }
}

/// What was read, in order.
pub enum Passed {
    /// Records from one partition.
    Records {
        /// Which.
        upstream: Arc<str>,
        /// The shard's number is their partition.
        batches: Vec<Batch>,
    },
    /// News of one.
    News(News),
}

/// Schemas that were read.
#[derive(Default)]
pub(super) struct Known(HashMap<u64, FieldRef>);

/// Takes what [`Written::write`] has written; `None`: something else.
pub(super) fn read_schemas(rest: &mut &[u8], known: &mut Known) -> Option<()> {
    let (&count, after) = rest.split_first()?;
    *rest = after;
    for _ in 0..count {
        let schema = take(rest)?;
        if let Entry::Vacant(new) = known.0.entry(digest(schema)) {
            new.insert(field_of(schema)?);
        }
    }
    Some(())
}

/// Reads for one transform.
#[derive(Default)]
pub struct Reader {
    schemas: Known,
    /// Names, so that they are not made for each record.
    names: HashMap<(Box<[u8]>, i32), Arc<str>>,
}

impl Book for Known {
    fn number(&mut self, _field: &FieldRef) -> Result<u64> {
        Err(Error::failed("schemas are only read here; this is a bug of the worker"))
    }

    fn find(&mut self, number: u64) -> Result<FieldRef> {
        self.0.get(&number).cloned().ok_or_else(|| damaged("a record without its schema"))
    }
}

enum Item {
    Record(Held),
    News { latest: i64, idle: bool },
}

impl Reader {
    /// Takes records apart. They belong to this shard, and have to be for this transform.
    pub fn read<'v>(
        &mut self,
        values: impl Iterator<Item = Option<&'v [u8]>>,
        alias: &str,
        shard: Shard,
    ) -> Result<Vec<Passed>> {
        let (mut passed, mut run, mut of) = (Vec::new(), Vec::new(), None::<Arc<str>>);
        for value in values {
            let (for_alias, upstream, item) = value
                .and_then(|value| self.item(value))
                .ok_or_else(|| damaged("a record that this version cannot read"))?;
            if for_alias != alias.as_bytes() {
                return Err(damaged(&format!(
                    "a record for the transform {}, where {alias} is now",
                    String::from_utf8_lossy(for_alias)
                )));
            }
            if of.as_ref() != Some(&upstream) || matches!(item, Item::News { .. }) {
                self.end(&mut run, of.take(), shard, &mut passed)?;
            }
            match item {
                Item::Record(held) => {
                    run.push(held);
                    of = Some(upstream);
                }
                Item::News { latest, idle } => passed.push(Passed::News(News { upstream, latest, idle })),
            }
        }
        self.end(&mut run, of, shard, &mut passed)?;
        Ok(passed)
    }

    fn end(&mut self, run: &mut Vec<Held>, of: Option<Arc<str>>, shard: Shard, passed: &mut Vec<Passed>) -> Result<()> {
        let held = std::mem::take(run);
        if let Some(upstream) = of.filter(|_| !held.is_empty()) {
            passed.push(Passed::Records { upstream, batches: batches_with(&held, shard, &mut self.schemas)? });
        }
        Ok(())
    }

    fn item<'v>(&mut self, value: &'v [u8]) -> Option<(&'v [u8], Arc<str>, Item)> {
        let (&[version, kind], rest) = value.split_first_chunk::<2>()?;
        let rest = &mut &*rest;
        let alias = take(rest).filter(|_| version == VERSION)?;
        let topic = take(rest)?;
        let (partition, after) = rest.split_first_chunk::<4>()?;
        *rest = after;
        let upstream = self.name(topic, i32::from_be_bytes(*partition))?;
        let item = match kind {
            RECORD => {
                read_schemas(rest, &mut self.schemas)?;
                Item::Record(Held::read(rest)?)
            }
            NEWS => {
                let (&flags, latest) = rest.split_first()?;
                Item::News { idle: flags & 1 != 0, latest: i64::from_be_bytes(latest.try_into().ok()?) }
            }
            _ => return None,
        };
        Some((alias, upstream, item))
    }

    fn name(&mut self, topic: &[u8], partition: i32) -> Option<Arc<str>> {
        let key = (Box::from(topic), partition);
        if let Some(known) = self.names.get(&key) {
            return Some(known.clone());
        }
        let name: Arc<str> = upstream(std::str::from_utf8(topic).ok()?, partition).into();
        self.names.insert(key, name.clone());
        Some(name)
    }
}

fn damaged(what: &str) -> Error {
    Error::failed(format!(
        "the repartition topic has {what}: it comes from another version or from an earlier config. Go back to that, or stop the \
         connector and reset its offsets, which deletes the topic, too"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Array, Int64Array, StringArray};
    use arrow_schema::{DataType, Field};
    use tributary_sdk::{Column, Offsets};

    const FROM: From<'static> = From { alias: "sums", topic: "in", partition: 2 };

    fn batch(value: Column) -> Batch {
        let mut batch = Batch::new("routed", value);
        batch.key = Some(Column::text(StringArray::from(vec![Some("k"), None])));
        batch.timestamps = Some(Int64Array::from(vec![Some(5), None]));
        batch
    }

    fn written(batch: &Batch) -> Vec<Vec<u8>> {
        let writer = Writer::new(batch, FROM).unwrap();
        let row = |row| {
            let mut out = Vec::new();
            writer.write(row, &mut out).unwrap();
            out
        };
        (0..batch.len()).map(row).collect()
    }

    #[test]
    fn records_come_back_as_they_were_with_news_between_them() {
        let number =
            Column::new(Field::new("", DataType::Int64, true), Arc::new(Int64Array::from(vec![Some(7), None])));
        let json = batch(Column::json(StringArray::from(vec![Some(r#"{"a":1}"#), None])));
        let structured = batch(number);
        let mut values = written(&json);
        values.push(write_news(From { partition: 1, ..FROM }, -3, true));
        values.extend(written(&structured));
        let mut reader = Reader::default();
        let read = reader.read(values.iter().map(|value| Some(value.as_slice())), "sums", 4).unwrap();
        let [Passed::Records { upstream, batches }, Passed::News(news), Passed::Records { batches: others, .. }] =
            &*read
        else {
            panic!("{} parts", read.len())
        };
        assert_eq!(&**upstream, "in-2");
        assert_eq!(*news, News { upstream: "in-1".into(), latest: -3, idle: true });
        for (read, batch) in [(batches, &json), (others, &structured)] {
            let [read] = &**read else { panic!("{} batches", read.len()) };
            assert_eq!((&*read.topic, read.partition), ("routed", Some(4)));
            assert_eq!((read.value.form(), read.value.array()), (batch.value.form(), batch.value.array()));
            assert_eq!(read.key.as_ref().unwrap().array(), batch.key.as_ref().unwrap().array());
            assert_eq!(read.timestamps, batch.timestamps);
            assert!(matches!(read.offsets, Offsets::None));
        }
        let other = reader.read(values.iter().map(|value| Some(value.as_slice())), "other", 4);
        assert!(other.err().unwrap().to_string().contains("for the transform sums, where other is now"));
        assert!(reader.read([Some(b"\x02".as_slice())].into_iter(), "sums", 4).is_err());
        assert!(structured.value.array().is_null(1));
    }

    #[test]
    fn keys_are_those_that_a_java_producer_would_have() {
        let key = |answer: Answer| {
            let mut stored = Vec::new();
            super::super::stored::write(&answer, &mut stored);
            partition_key(&stored).into_owned()
        };
        assert_eq!(key(Answer::Text("user-1".into())), b"user-1");
        assert_eq!(key(Answer::Integer(-12)), b"-12");
        assert_eq!(key(Answer::Double(3.0)), b"3");
    }
}
