//! The chain as a whole: config, predicates, failures, order of rows.

use std::sync::Arc;

use arrow_array::{Int64Array, StringArray};
use tributary_sdk::{Batch, Column, Config, Error, Failures, Offsets};

use super::{Applied, TransformChain};
use crate::plugin::TransformHandle;

pub(crate) fn chain(pairs: &[(&str, &str)]) -> TransformChain {
    build(pairs).unwrap()
}

/// Built-in classes, and a plugin's class `Twice`.
fn build(pairs: &[(&str, &str)]) -> tributary_sdk::Result<TransformChain> {
    let config: Config = pairs.iter().copied().collect();
    TransformChain::build(&config, &mut |class: &str, _: Option<&str>| match class {
        "Twice" => Ok(Box::new(Twice)),
        _ => Err(Error::failed(format!("Class {class} could not be found."))),
    })
}

/// Emits each record twice, but drops those whose value is `"drop"` and refuses `"refuse"`.
struct Twice;

impl TransformHandle for Twice {
    fn configure(&mut self, config: &Config) -> tributary_sdk::Result<()> {
        config.required("must").map(drop)
    }

    fn apply(&mut self, batch: Batch, batches: &mut Vec<Batch>, failures: &mut Failures) -> tributary_sdk::Result<()> {
        for row in 0..batch.len() {
            match batch.value.as_text().unwrap().value(row) {
                "\"drop\"" => {}
                "\"refuse\"" => failures.fail(row, "refused"),
                _ => batches.extend([batch.slice(row, 1), batch.slice(row, 1)]),
            }
        }
        Ok(())
    }

    fn on_watermark(&mut self, _watermark_ms: i64, _batches: &mut Vec<Batch>) -> tributary_sdk::Result<()> {
        Ok(())
    }
}

/// A sink batch of JSON values at offsets from 100.
pub(crate) fn json_batch(rows: &[Option<&str>]) -> Batch {
    let mut batch = Batch::new("topic", Column::json(StringArray::from(rows.to_vec())));
    batch.offsets = Offsets::Sink(Int64Array::from_iter_values(100..100 + rows.len() as i64));
    batch.partition = Some(3);
    batch.timestamps = Some(Int64Array::from_iter_values((0..rows.len() as i64).map(|row| 1_700_000_000_000 + row)));
    batch
}

pub(crate) fn values(applied: &Applied) -> Vec<Option<String>> {
    let texts = applied.batches.iter().flat_map(|batch| batch.value.as_text().unwrap().iter());
    texts.map(|text| text.map(str::to_owned)).collect()
}

#[test]
fn fields_are_inserted_into_json() {
    let mut chain = chain(&[
        ("transforms", "a, b"),
        ("transforms.a.type", "org.apache.kafka.connect.transforms.InsertField$Value"),
        ("transforms.a.static.field", "s\"x"),
        ("transforms.a.static.value", "v"),
        ("transforms.b.type", "InsertField$Value"),
        ("transforms.b.topic.field", "t!"),
        ("transforms.b.partition.field", "p"),
        ("transforms.b.offset.field", "o?"),
        ("transforms.b.timestamp.field", "ts"),
    ]);
    let applied = chain.apply(json_batch(&[Some(r#"{"a":1}"#), None, Some("[1]"), Some(r#"{"t":0,"b":2}"#)])).unwrap();
    assert_eq!(
        values(&applied),
        [
            Some(r#"{"a":1,"s\"x":"v","t":"topic","p":3,"o":100,"ts":1700000000000}"#.to_owned()),
            None,
            Some(r#"{"t":"topic","b":2,"s\"x":"v","p":3,"o":103,"ts":1700000000003}"#.to_owned()),
        ]
    );
    assert_eq!(applied.failures.len(), 1);
    let failure = &applied.failures[0];
    assert_eq!((failure.row, &*failure.alias), (2, "a"));
    assert_eq!(failure.class, "org.apache.kafka.connect.transforms.InsertField$Value");
    assert_eq!(
        failure.message,
        "Only Map objects supported in absence of schema for [field insertion], found: java.util.ArrayList"
    );
    let Offsets::Sink(offsets) = &applied.batches[0].offsets else { panic!("a sink batch") };
    assert_eq!(offsets.values(), &[100, 101, 103]);
}

#[test]
fn a_predicate_divides_and_the_order_is_kept() {
    let mut chain = chain(&[
        ("transforms", "a"),
        ("transforms.a.type", "InsertField$Key"),
        ("transforms.a.static.field", "s"),
        ("transforms.a.static.value", "v"),
        ("transforms.a.predicate", "dead"),
        ("transforms.a.negate", "true"),
        ("predicates", "dead"),
        ("predicates.dead.type", "RecordIsTombstone"),
    ]);
    let mut batch = json_batch(&[Some("1"), None, Some("2")]);
    batch.key = Some(Column::json(StringArray::from(vec!["{}", "{}", "{}"])));
    let applied = chain.apply(batch).unwrap();
    assert_eq!(applied.batches.len(), 1);
    let keys: Vec<_> = applied.batches[0].key.as_ref().unwrap().as_text().unwrap().iter().map(Option::unwrap).collect();
    assert_eq!(keys, [r#"{"s":"v"}"#, "{}", r#"{"s":"v"}"#]);
    assert_eq!(values(&applied), [Some("1".to_owned()), None, Some("2".to_owned())]);
}

#[test]
fn structs_get_columns() {
    use arrow_array::{Array, ArrayRef, Int32Array, StructArray, cast::AsArray};
    use arrow_schema::{DataType, Field};
    let array = StructArray::from(vec![(
        Arc::new(Field::new("a", DataType::Int32, false)),
        Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef,
    )]);
    let mut batch = json_batch(&[Some("1"), Some("2")]);
    batch.value = Column::new(Field::new("", array.data_type().clone(), true), Arc::new(array));
    let mut chain = chain(&[
        ("transforms", "a"),
        ("transforms.a.type", "InsertField$Value"),
        ("transforms.a.topic.field", "t!"),
        ("transforms.a.timestamp.field", "ts"),
    ]);
    let applied = chain.apply(batch).unwrap();
    assert_eq!(applied.failures, []);
    let column = &applied.batches[0].value;
    let names: Vec<_> = column.array().as_struct().column_names();
    assert_eq!(names, ["a", "t", "ts"]);
    let schema = crate::converter::json::field_to_json(column.field()).unwrap();
    assert_eq!(
        schema,
        r#"{"type":"struct","fields":[{"type":"int32","optional":false,"field":"a"},{"type":"string","optional":false,"field":"t"},{"type":"int64","optional":true,"name":"org.apache.kafka.connect.data.Timestamp","version":1,"field":"ts"}],"optional":false}"#
    );
}

/// Topic and number of rows of each batch.
fn topics(applied: &Applied) -> Vec<(String, usize)> {
    applied.batches.iter().map(|batch| (batch.topic.to_string(), batch.len())).collect()
}

fn sink_offsets(applied: &Applied) -> Vec<i64> {
    let of = |batch: &Batch| match &batch.offsets {
        Offsets::Sink(offsets) => offsets.values().to_vec(),
        _ => Vec::new(),
    };
    applied.batches.iter().flat_map(of).collect()
}

#[test]
fn rows_go_to_the_topics_of_their_days_in_order() {
    let day = 86_400_000;
    let mut batch = json_batch(&[Some("1"), Some("2"), Some("3"), Some("4"), Some("5")]);
    batch.timestamps = Some(Int64Array::from(vec![Some(day), Some(day + 1), Some(2 * day), None, Some(day)]));
    let mut chain = chain(&[("transforms", "a"), ("transforms.a.type", "TimestampRouter")]);
    let applied = chain.apply(batch).unwrap();
    let expected = [("topic-19700102", 2), ("topic-19700103", 1), ("topic-19700102", 1)];
    assert_eq!(topics(&applied), expected.map(|(topic, rows)| (topic.to_owned(), rows)));
    assert_eq!(sink_offsets(&applied), [100, 101, 102, 104]);
    assert_eq!(applied.failures[0].row, 3);
}

#[test]
fn parts_of_one_type_are_woven_together_and_others_alternate() {
    let config = [
        ("transforms", "hoist,filter"),
        ("transforms.hoist.type", "HoistField$Value"),
        ("transforms.hoist.field", "f"),
        ("transforms.hoist.predicate", "odd"),
        ("transforms.filter.type", "Filter"),
        ("transforms.filter.predicate", "even"),
        ("predicates", "odd,even"),
        ("predicates.odd.type", "HasHeaderKey"),
        ("predicates.odd.name", "odd"),
        ("predicates.even.type", "HasHeaderKey"),
        ("predicates.even.name", "drop"),
    ];
    let with_headers = |mut batch: Batch| {
        let mut headers = super::headers::HeadersBuilder::new(batch.len());
        for name in ["odd", "even", "odd", "drop", "odd"] {
            headers.push(super::headers::Header { key: name, schema: None, value: None });
            headers.end_row();
        }
        batch.headers = headers.finish();
        batch
    };
    // Text and structs cannot stand in one batch.
    let mut text = json_batch(&[Some("0"), Some("1"), Some("2"), Some("3"), Some("4")]);
    text.value = Column::text(StringArray::from(vec!["0", "1", "2", "3", "4"]));
    let mut chain = chain(&config);
    let applied = chain.apply(with_headers(text)).unwrap();
    assert_eq!(applied.batches.iter().map(Batch::len).collect::<Vec<_>>(), [1, 1, 2]);
    assert_eq!(sink_offsets(&applied), [100, 101, 102, 104]);
    assert_eq!(applied.dropped, 1);
    let names = |batch: &Batch| {
        batch
            .headers
            .as_ref()
            .map(|headers| super::headers::Headers::of(Some(headers)).row(0).next().unwrap().key.to_owned())
    };
    assert_eq!(names(&applied.batches[1]).unwrap(), "even");
    // JSON can.
    let applied = chain.apply(with_headers(json_batch(&[Some("0"), Some("1"), Some("2"), Some("3"), None]))).unwrap();
    let expected = [r#"{"f":0}"#, "1", r#"{"f":2}"#, r#"{"f":null}"#].map(|text| Some(text.to_owned()));
    assert_eq!(values(&applied), expected);
    assert_eq!(applied.batches.len(), 1);
}

#[test]
fn a_plugins_transform_stands_among_the_built_in_ones() {
    let mut chain = chain(&[
        ("transforms", "twice,mask,insert"),
        ("transforms.twice.type", "Twice"),
        ("transforms.twice.must", "x"),
        ("transforms.twice.predicate", "alive"),
        ("transforms.twice.negate", "TRUE"),
        ("transforms.mask.type", "HoistField$Value"),
        ("transforms.mask.field", "f"),
        ("transforms.insert.type", "InsertField$Value"),
        ("transforms.insert.offset.field", "o"),
        ("transforms.insert.predicate", "here"),
        ("predicates", "alive, here"),
        ("predicates.alive.type", "RecordIsTombstone"),
        ("predicates.here.type", "TopicNameMatches"),
        ("predicates.here.pattern", "top.c"),
    ]);
    let rows = [Some("\"drop\""), Some("1"), Some("\"refuse\""), None, Some("2")];
    let applied = chain.apply(json_batch(&rows)).unwrap();
    let expected = [
        r#"{"f":1,"o":101}"#,
        r#"{"f":1,"o":101}"#,
        r#"{"f":null,"o":103}"#,
        r#"{"f":2,"o":104}"#,
        r#"{"f":2,"o":104}"#,
    ];
    assert_eq!(values(&applied), expected.map(|text| Some(text.to_owned())));
    assert_eq!(applied.dropped, 1);
    assert_eq!(applied.failures.len(), 1);
    assert_eq!((applied.failures[0].row, &*applied.failures[0].message), (2, "refused"));
    assert_eq!(applied.failures[0].class, "Twice");
}

#[test]
fn a_batch_that_is_dropped_whole_leaves_nothing() {
    let mut chain = chain(&[("transforms", "a"), ("transforms.a.type", "Filter")]);
    let applied = chain.apply(json_batch(&[Some("1"), None])).unwrap();
    assert_eq!((applied.batches.len(), applied.dropped, applied.failures.len()), (0, 2, 0));
}

#[test]
fn wrong_configs_are_refused() {
    for (pairs, message) in [
        (&[("transforms", "a")][..], "missing required configuration \"transforms.a.type\" which has no default value"),
        (
            &[("transforms", "a"), ("transforms.a.type", "No")],
            "Invalid value No for configuration transforms.a.type: Class No could not be found.",
        ),
        (
            &[("transforms", "a"), ("transforms.a.type", "InsertField$Key")],
            "transform a (InsertField$Key): No field insertion configured",
        ),
        (
            &[("transforms", "a"), ("transforms.a.type", "InsertField$Key"), ("transforms.a.predicate", "p")],
            "Unknown predicate 'p': it is not listed in predicates",
        ),
    ] {
        assert_eq!(build(pairs).err().unwrap().to_string(), message);
    }
}

#[test]
fn a_document_is_divided_once_however_long_the_chain() {
    use super::json::OPENED;
    let mut chain = chain(&[
        ("transforms", "keep,insert,drop,map,cast,mask,rename,key"),
        ("transforms.keep.type", "tributary.transforms.Filter"),
        ("transforms.keep.condition", "v.n > 0 && v.user != ''"),
        ("transforms.insert.type", "InsertField$Value"),
        ("transforms.insert.static.field", "origin"),
        ("transforms.insert.static.value", "x"),
        ("transforms.drop.type", "ReplaceField$Value"),
        ("transforms.drop.exclude", "pad"),
        ("transforms.map.type", "Map"),
        ("transforms.map.fields", "twice = v.n * 2; copy = v.user"),
        ("transforms.cast.type", "Cast$Value"),
        ("transforms.cast.spec", "n:string"),
        ("transforms.mask.type", "MaskField$Value"),
        ("transforms.mask.fields", "user"),
        ("transforms.rename.type", "ReplaceField$Value"),
        ("transforms.rename.renames", "copy:name"),
        ("transforms.key.type", "ValueToKey"),
        ("transforms.key.fields", "n"),
    ]);
    let row = r#"{"n":3,"user":"u1","pad":"xx","deep":{"a":{"b":1}}}"#;
    let before = OPENED.get();
    let applied = chain.apply(json_batch(&[Some(row), Some(row), None])).unwrap();
    assert_eq!(applied.failures.len(), 1, "{:?}", applied.failures);
    assert_eq!(OPENED.get() - before, 2);
    let expected = r#"{"n":"3","user":"","deep":{"a":{"b":1}},"origin":"x","twice":6,"name":"u1"}"#;
    assert_eq!(values(&applied), [expected, expected].map(|text| Some(text.to_owned())));
}
