//! What goes in comes out.

use tributary_sdk::arrow::array::{BinaryArray, DictionaryArray, LargeStringArray, MapArray};
use tributary_sdk::arrow::schema::Fields;
use tributary_sdk::{Error, Form, Origin, Record, Records};

use super::*;

#[track_caller]
fn assert_same(a: &Batch, b: &Batch) {
    assert_eq!(
        (&a.topic, &a.source_partition, a.partition, a.len()),
        (&b.topic, &b.source_partition, b.partition, b.len())
    );
    let column = |a: &Column, b: &Column| {
        assert_eq!((a.form(), a.array(), a.field().metadata()), (b.form(), b.array(), b.field().metadata()));
    };
    column(&a.value, &b.value);
    assert_eq!(a.key.is_some(), b.key.is_some());
    if let (Some(a), Some(b)) = (&a.key, &b.key) {
        column(a, b);
    }
    assert_eq!((&a.headers, &a.timestamps, &a.partitions), (&b.headers, &b.timestamps, &b.partitions));
    let origin = |batch: &Batch| batch.origin.as_ref().map(|at| (at.topic.clone(), at.partition, at.offsets.clone()));
    assert_eq!(origin(a), origin(b));
    match (&a.offsets, &b.offsets) {
        (Offsets::None, Offsets::None) => {}
        (Offsets::Source(a), Offsets::Source(b)) => assert_eq!(a, b),
        (Offsets::Sink(a), Offsets::Sink(b)) => assert_eq!(a, b),
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_four_forms_cross() {
    let forms = [
        (Form::Bytes, Column::bytes(BinaryArray::from_opt_vec(vec![Some(b"\xff"), None, Some(b"")]))),
        (Form::Text, Column::text(StringArray::from(vec![Some("ä"), None, Some("")]))),
        (Form::Json, Column::json(StringArray::from(vec![Some("{}"), None, Some("1")]))),
        (Form::Structured, structs()),
    ];
    for (form, value) in forms {
        for key in [None, Some(value.clone())] {
            let mut batch = Batch::new("t", value.clone());
            batch.key = key;
            let crossed = cross(batch.clone()).unwrap();
            assert_eq!(crossed.value.form(), form);
            assert_same(&batch, &crossed);
        }
    }
}

#[test]
fn every_column_and_slice_crosses() {
    let batch = full();
    assert_same(&batch, &cross(batch.clone()).unwrap());
    for from in 0..3 {
        for length in 1..=3 - from {
            let slice = batch.slice(from, length);
            let crossed = cross(slice.clone()).unwrap();
            assert_same(&slice, &crossed);
            // Twice: what was imported is exported again.
            assert_same(&slice, &cross(crossed.slice(0, length)).unwrap());
        }
    }
    assert_same(&batch.slice(1, 0), &cross(batch.slice(1, 0)).unwrap());
    let mut sink = Batch::new("t", Column::text(StringArray::from(vec!["a"])));
    sink.partition = Some(0);
    sink.offsets = Offsets::Sink(Int64Array::from(vec![i64::MAX]));
    assert_same(&sink, &cross(sink.clone()).unwrap());
    sink.origin = Some(Origin { topic: "outbox".into(), partition: 7, offsets: Int64Array::from(vec![3]) });
    assert_same(&sink, &cross(sink.clone()).unwrap());
    sink.offsets = Offsets::None;
    assert_same(&sink, &cross(sink.clone()).unwrap());
}

#[test]
fn other_types_cross() {
    let entries = Fields::from(vec![Field::new("k", DataType::Utf8, false), Field::new("v", DataType::Int32, true)]);
    let pairs = StructArray::new(
        entries.clone(),
        vec![Arc::new(StringArray::from(vec!["a", "b"])), Arc::new(Int32Array::from(vec![Some(1), None]))],
        None,
    );
    let field = Arc::new(Field::new("entries", DataType::Struct(entries), false));
    let map =
        MapArray::new(field, tributary_sdk::arrow::buffer::OffsetBuffer::from_lengths([2, 0]), pairs, None, false);
    let dictionary =
        DictionaryArray::new(Int32Array::from(vec![Some(1), None]), Arc::new(StringArray::from(vec!["x", "y"])));
    let arrays: [ArrayRef; 4] = [
        Arc::new(map),
        Arc::new(dictionary),
        Arc::new(LargeStringArray::from(vec!["large", ""])),
        Arc::new(StructArray::new_empty_fields(2, None)),
    ];
    for array in arrays {
        let field = Field::new("", array.data_type().clone(), true);
        let batch = Batch::new("t", Column::new(field, array));
        assert_same(&batch, &cross(batch.clone()).unwrap());
    }
}

#[test]
fn nothing_is_copied() {
    let text = StringArray::from(vec!["some text that has a place in memory"; 10]);
    let place = text.values().as_ptr();
    let crossed = cross(Batch::new("t", Column::text(text))).unwrap();
    assert_eq!(crossed.value.as_text().unwrap().values().as_ptr(), place);
}

#[test]
fn unequal_columns_do_not_leave() {
    let mut batch = Batch::new("t", Column::text(StringArray::from(vec!["a", "b"])));
    batch.timestamps = Some(Int64Array::from(vec![1]));
    let error = cross(batch).unwrap_err();
    let expected = "column timestamp of a batch for topic t has 1 rows, its values have 2: they must be equal";
    assert_eq!(error, Error::failed(expected));
}

#[test]
fn built_records_cross() {
    let mut records = Records::to("t").from(&serde_json::json!({"p": 1}));
    let row = serde_json::json!({"a": [1, 2], "b": {"c": null}, "d": "x"});
    for n in 0..100 {
        records
            .push(Record::row(&row).unwrap().key("k").header("h", "v").offset(&serde_json::json!({"n": n})))
            .unwrap();
    }
    let batch = records.finish().unwrap().remove(0);
    assert_same(&batch, &cross(batch.clone()).unwrap());
}
