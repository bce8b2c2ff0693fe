//! Records of an outbox topic, as bytes: what comes out of the chain is written with all that it is, and given to the sink as it was.
//!
//! | Bytes | |
//! |---|---|
//! | 1 | version of this layout: 1 |
//! | 1 | flags; 1: the record has a partition, 2: it has an offset |
//! | 4 | its partition, if it has one |
//! | 8 | its offset, if it has one |
//! | 1, n | the number of schemas; each as JSON, with its length (LEB128) |
//! | n | the record, as held ones are in the state |

use arrow_array::{Array, Int64Array};
use tributary_sdk::{Batch, Error, Offsets, Origin, Result};

use super::held_record::{Held, Keeper, batches_with};
use super::passed::{Known, Written, read_schemas};
use crate::log::TopicPartition;

const VERSION: u8 = 1;
const HAS_PARTITION: u8 = 1;
const HAS_OFFSET: u8 = 2;

/// Writes rows of a batch.
pub struct Writer<'b> {
    batch: &'b Batch,
    offsets: Option<&'b Int64Array>,
    schemas: Vec<u8>,
    keeper: Keeper<'b>,
}

impl<'b> Writer<'b> {
    /// For a batch whose types Connect has.
    pub fn new(batch: &'b Batch) -> Result<Self> {
        let mut book = Written::default();
        let keeper = Keeper::with(batch, &mut book)?;
        let mut schemas = Vec::new();
        book.write(&mut schemas);
        let offsets = match &batch.offsets {
            Offsets::Sink(offsets) => Some(offsets),
            _ => None,
        };
        Ok(Self { batch, offsets, schemas, keeper })
    }

    /// Appends a row.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> std::result::Result<(), String> {
        let offset = self.offsets.filter(|offsets| offsets.is_valid(row)).map(|offsets| offsets.value(row));
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        out.push(VERSION);
        out.push(flag(self.batch.partition.is_some(), HAS_PARTITION) | flag(offset.is_some(), HAS_OFFSET));
        if let Some(partition) = self.batch.partition {
            out.extend_from_slice(&partition.to_be_bytes());
        }
        if let Some(offset) = offset {
            out.extend_from_slice(&offset.to_be_bytes());
        }
        out.extend_from_slice(&self.schemas);
        self.keeper.write(row, out)
    }
}

/// Reads the records of one task.
#[derive(Default)]
pub struct Reader(Known);

struct Item {
    partition: Option<i32>,
    offset: Option<i64>,
    held: Held,
}

impl Reader {
    /// Takes records apart, in their order. `place` is what they were read from, `offsets` are theirs there.
    pub fn read<'v>(
        &mut self,
        values: impl Iterator<Item = Option<&'v [u8]>>,
        place: &TopicPartition,
        offsets: &Int64Array,
    ) -> Result<Vec<Batch>> {
        let mut items = Vec::new();
        for (value, offset) in values.zip(offsets.values()) {
            let item = value.and_then(|value| self.item(value)).ok_or_else(|| {
                Error::failed(format!(
                    "the outbox topic has a record at offset {offset} that this version cannot read: it comes from a newer version, or \
                     something else has written to it. Go back to that version, or stop the connector and skip the record by its offset"
                ))
            })?;
            items.push(item);
        }
        let (mut batches, mut from) = (Vec::new(), 0);
        let alike = |a: &Item, b: &Item| a.partition == b.partition && a.offset.is_some() == b.offset.is_some();
        let mut rest = items.into_iter().peekable();
        while let Some(first) = rest.next() {
            let mut run = vec![first];
            while let Some(next) = rest.next_if(|next| alike(&run[0], next)) {
                run.push(next);
            }
            let partition = run[0].partition;
            let (own, held): (Vec<Option<i64>>, Vec<Held>) =
                run.into_iter().map(|item| (item.offset, item.held)).unzip();
            let mut row = 0;
            for mut batch in batches_with(&held, 0, &mut self.0)? {
                let rows = row..row + batch.len();
                batch.partition = partition;
                if own[row].is_some() {
                    batch.offsets = Offsets::Sink(own[rows.clone()].iter().copied().collect());
                }
                let (topic, offsets) = (place.topic.clone(), offsets.slice(from + row, batch.len()));
                batch.origin = Some(Origin { topic, partition: place.partition, offsets });
                row = rows.end;
                batches.push(batch);
            }
            from += row;
        }
        Ok(batches)
    }

    fn item(&mut self, value: &[u8]) -> Option<Item> {
        let (&[VERSION, flags], rest) = value.split_first_chunk::<2>()? else { return None };
        let rest = &mut &*rest;
        let mut partition = None;
        if flags & HAS_PARTITION != 0 {
            let (bytes, after) = rest.split_first_chunk::<4>()?;
            (*rest, partition) = (after, Some(i32::from_be_bytes(*bytes)));
        }
        let mut offset = None;
        if flags & HAS_OFFSET != 0 {
            let (bytes, after) = rest.split_first_chunk::<8>()?;
            (*rest, offset) = (after, Some(i64::from_be_bytes(*bytes)));
        }
        read_schemas(rest, &mut self.0)?;
        Some(Item { partition, offset, held: Held::read(rest)? })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{BinaryArray, Float64Array, Int32Array, StringArray, StructArray};
    use arrow_schema::{DataType, Field};
    use tributary_sdk::Column;

    use super::*;
    use crate::transform::headers::{Header, HeadersBuilder};

    fn batch(value: Column) -> Batch {
        let mut batch = Batch::new("orders", value);
        batch.partition = Some(2);
        batch.key = Some(Column::text(StringArray::from(vec![Some("k"), None, Some("")])));
        batch.timestamps = Some(Int64Array::from(vec![Some(5), None, Some(-1)]));
        let mut headers = HeadersBuilder::new(3);
        headers.push(Header { key: "h", schema: Some("int32"), value: Some(b"7") });
        headers.push(Header { key: "h", schema: None, value: None });
        headers.end_row();
        headers.end_row();
        headers.end_row();
        batch.headers = headers.finish();
        batch
    }

    fn written(batch: &Batch) -> Vec<Vec<u8>> {
        let writer = Writer::new(batch).unwrap();
        let row = |row| {
            let mut out = Vec::new();
            writer.write(row, &mut out).unwrap();
            out
        };
        (0..batch.len()).map(row).collect()
    }

    fn read(values: &[Vec<u8>], offsets: Vec<i64>) -> Vec<Batch> {
        let place = TopicPartition { topic: "outbox".into(), partition: 1 };
        let values = values.iter().map(|value| Some(value.as_slice()));
        Reader::default().read(values, &place, &offsets.into()).unwrap()
    }

    fn structs() -> Column {
        let fields = vec![
            // A null is no default.
            Arc::new(
                Field::new("n", DataType::Int32, true).with_metadata([("connect.default".to_owned(), "5".to_owned())]),
            ),
            Arc::new(Field::new("x", DataType::Float64, false)),
            Arc::new(Field::new("b", DataType::Binary, true)),
        ];
        let columns: Vec<arrow_array::ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])),
            Arc::new(Float64Array::from(vec![0.1, f64::NAN, f64::NEG_INFINITY])),
            Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\xff".as_slice()), None, Some(b"")])),
        ];
        let array = StructArray::new(fields.into(), columns, Some(vec![true, true, true].into()));
        let metadata = [
            ("connect.name", "com.example.Order"),
            ("connect.version", "3"),
            ("connect.doc", "what"),
            ("connect.optional", "false"),
        ];
        let metadata = metadata.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let field = Field::new("", array.data_type().clone(), true).with_metadata(metadata);
        Column::new(field, Arc::new(array))
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let json = Column::json(StringArray::from(vec![Some(r#"{"a": 1.0}"#), None, Some("[]")]));
        let bytes = Column::bytes(BinaryArray::from_opt_vec(vec![Some(b"\xff".as_slice()), None, Some(b"")]));
        let text = Column::text(StringArray::from(vec![Some("ä"), None, Some("")]));
        let metadata =
            [("connect.optional".to_owned(), "true".to_owned()), ("connect.doc".to_owned(), "what".to_owned())];
        let field = Field::new("", DataType::Utf8, true).with_metadata(metadata);
        let described = Column::new(field, text.array().clone());
        for value in [structs(), json, bytes, text, described] {
            for own in [Offsets::None, Offsets::Sink(Int64Array::from(vec![7, 9, i64::MAX]))] {
                let mut batch = batch(value.clone());
                batch.offsets = own;
                let back = read(&written(&batch), vec![100, 101, 105]);
                let [back] = &*back else { panic!("{} batches", back.len()) };
                assert_eq!((&back.topic, back.partition), (&batch.topic, batch.partition));
                assert_eq!(back.value.form(), batch.value.form());
                assert_eq!(format!("{:?}", back.value.array()), format!("{:?}", batch.value.array()));
                assert_eq!(back.value.field().metadata(), batch.value.field().metadata());
                assert_eq!(back.key.as_ref().unwrap().array(), batch.key.as_ref().unwrap().array());
                assert_eq!((&back.headers, &back.timestamps), (&batch.headers, &batch.timestamps));
                assert_eq!(format!("{:?}", back.offsets), format!("{:?}", batch.offsets));
                let origin = back.origin.as_ref().unwrap();
                assert_eq!((&*origin.topic, origin.partition), ("outbox", 1));
                assert_eq!(origin.offsets.values(), &[100, 101, 105]);
            }
        }
    }

    #[test]
    fn what_differs_comes_apart_in_order() {
        let mut one = batch(structs());
        one.offsets = Offsets::Sink(Int64Array::from(vec![7, 8, 9]));
        let mut other = batch(structs());
        other.partition = None;
        let mut third = other.clone();
        third.topic = "late".into();
        let values = [written(&one), written(&other), written(&third)].concat();
        let back = read(&values, (0..9).collect());
        let shape = |batch: &Batch| {
            let origin = batch.origin.as_ref().unwrap();
            (batch.topic.to_string(), batch.partition, origin.offsets.values().to_vec())
        };
        let expected = [
            ("orders".to_owned(), Some(2), vec![0, 1, 2]),
            ("orders".to_owned(), None, vec![3, 4, 5]),
            ("late".to_owned(), None, vec![6, 7, 8]),
        ];
        assert_eq!(back.iter().map(shape).collect::<Vec<_>>(), expected);
        let place = TopicPartition { topic: "outbox".into(), partition: 1 };
        for wrong in [b"".as_slice(), b"\x02\0", b"\x01\x03\0"] {
            let read = Reader::default().read([Some(wrong)].into_iter(), &place, &vec![5].into());
            assert!(read.unwrap_err().to_string().contains("offset 5"));
        }
    }
}
