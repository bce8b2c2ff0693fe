//! The chain as a whole: config, predicates, failures, order of rows.

use std::sync::Arc;

use arrow_array::{Int64Array, StringArray};
use tributary_sdk::{Batch, Column, Config, Error, Offsets};

use super::{Applied, TransformChain};

pub(crate) fn chain(pairs: &[(&str, &str)]) -> TransformChain {
    build(pairs).unwrap()
}

fn build(pairs: &[(&str, &str)]) -> tributary_sdk::Result<TransformChain> {
    let config: Config = pairs.iter().copied().collect();
    TransformChain::build(&config, &mut |class: &str| Err(Error::failed(format!("Class {class} could not be found."))))
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
