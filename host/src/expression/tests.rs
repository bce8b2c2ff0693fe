//! Compiling, evaluating, errors, bounds.

use std::sync::Arc;

use arrow_array::builder::BinaryBuilder;
use arrow_array::{ArrayRef, Int32Array, StringArray, StructArray, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, FieldRef};
use tributary_sdk::batch::SCHEMA_PARAMETERS;

use super::{Answer, Expression, Record, Source, Types, Variable};
use crate::converter::json::{decimal, logical};
use crate::transform::headers::Header;
use crate::transform::json::Json;

struct Document {
    value: Option<Json<'static>>,
}

impl Record for Document {
    fn value(&self) -> Source<'_> {
        Source::Json(self.value.as_ref())
    }

    fn key(&self) -> Source<'_> {
        Source::Json(None)
    }

    fn headers(&self) -> Box<dyn Iterator<Item = Header<'_>> + '_> {
        let header = |key, schema, value| Header { key, schema: Some(schema), value: Some(value) };
        let headers: [Header<'_>; 3] =
            [header("a", "int32", b"7"), header("b", "string", b"x"), header("a", "int32", b"8")];
        Box::new(headers.into_iter())
    }

    fn topic(&self) -> &str {
        "orders"
    }

    fn timestamp(&self) -> Option<i64> {
        Some(1_700_000_009_007)
    }

    fn partition(&self) -> Option<i32> {
        Some(3)
    }

    fn offset(&self) -> Option<i64> {
        None
    }
}

fn evaluate(text: &str, value: &'static str) -> Result<Answer, String> {
    let value = (!value.is_empty()).then(|| Json::text(value));
    Expression::compile(text)?.evaluate(&Document { value })
}

fn shown(text: &str, value: &'static str) -> String {
    match evaluate(text, value) {
        Ok(answer) => format!("{} {}", answer.type_name(), answer.to_json()),
        Err(message) => message,
    }
}

#[test]
fn values_keep_their_types() {
    let value = r#"{"n":3,"big":18446744073709551615,"x":1.5,"s":"a\u00e9","t":true,"z":null,"l":[1,2,3],"o":{"b":1,"a":2},"odd name":4}"#;
    for (text, answer) in [
        ("v.n", "int 3"),
        ("v.n * 2 + 1", "int 7"),
        ("v.big", "uint 18446744073709551615"),
        ("v.x", "double 1.5"),
        ("double(v.n) * v.x", "double 4.5"),
        ("value.s + '!'", "string \"aé!\""),
        ("v.s.size()", "int 2"),
        ("v.t && !v.t", "bool false"),
        ("v.z", "null null"),
        ("has(v.z)", "bool true"),
        ("has(v.missing)", "bool false"),
        ("v.?missing.orValue('none')", "string \"none\""),
        ("v.?missing", "optional.none() null"),
        ("v[\"odd name\"]", "int 4"),
        ("v.`odd name`", "int 4"),
        ("v.l[1]", "int 2"),
        ("v.l.map(x, x * x)", "list [1,4,9]"),
        ("v.l.filter(x, x > 1).size()", "int 2"),
        ("v.l.exists(x, v.l.all(y, y <= x))", "bool true"),
        ("{'z': v.n, 'a': v.o, 'm': [v.s]}", "map {\"z\":3,\"a\":{\"a\":2,\"b\":1},\"m\":[\"aé\"]}"),
        ("topic + '-' + string(partition)", "string \"orders-3\""),
        ("offset == null", "bool true"),
        ("h.a + headers.a", "int 16"),
        ("h.b", "string \"x\""),
        ("timestamp.getFullYear()", "int 2023"),
        ("timestamp + duration('1s')", "timestamp 1700000010007"),
        ("v.s.matches('^a.$')", "bool true"),
        ("'A-b'.lowerAscii().split('-')", "list [\"a\",\"b\"]"),
        ("math.greatest(v.n, 10)", "int 10"),
        ("k == null", "bool true"),
        ("type(v.n) == int", "bool true"),
        ("b'ab'", "bytes \"YWI=\""),
    ] {
        assert_eq!(shown(text, value), answer, "{text}");
    }
}

#[test]
fn only_what_is_named_is_read() {
    let expression = Expression::compile("v.a.b > 1 && has(v.c) && v['d'] == v.?e.orValue(0)").unwrap();
    let need = expression.needs(Variable::Value).unwrap();
    assert!(!need.whole);
    assert_eq!(need.fields.keys().collect::<Vec<_>>(), ["a", "c", "d", "e"]);
    assert!(need.fields["a"].fields["b"].whole);
    assert!(!need.fields["c"].whole);
    assert!(expression.needs(Variable::Key).is_none());
    assert!(Expression::compile("v == null || v.a == 1").unwrap().needs(Variable::Value).unwrap().whole);
    assert_eq!(Expression::compile("v.a['b c']").unwrap().path(), Some((Variable::Value, vec!["a", "b c"])));
    assert_eq!(Expression::compile("v.a + 1").unwrap().path(), None);
    // A macro's own name hides the record's.
    assert!(Expression::compile("[1].all(v, v > 0)").unwrap().needs(Variable::Value).is_none());
}

#[test]
fn what_could_never_work_is_refused_with_its_place() {
    for (text, what) in [
        ("", "the expression is empty"),
        ("v.a +", "column 6"),
        ("v.a > x", "column 7: there is no 'x'; a record has v, k, h, topic, timestamp, partition and offset"),
        ("v.a.startswith('x')", "there is no function 'startswith'; did you mean startsWith?"),
        ("v.s.matches('(')", "is no regular expression"),
        ("v.l.all(a, v.l.all(b, v.l.all(c, a + b + c > 0)))", "macros may stand in each other in 2 levels only"),
        ("v.l.all(a, v.s.split(a).all(b, b != ''))", "split may not stand"),
        ("Point{x: 1}", "there is no message type 'Point'"),
    ] {
        let message = Expression::compile(text).unwrap_err();
        assert!(message.contains(what), "{text}: {message}");
    }
    let long = format!("v.a == '{}'", "x".repeat(9000));
    assert!(Expression::compile(&long).unwrap_err().contains("8192 are allowed"));
    let deep = format!("{}1{}", "(".repeat(500), ")".repeat(500));
    assert!(Expression::compile(&deep).is_err());
}

#[test]
fn a_failure_names_expression_place_and_reason() {
    for (text, message) in [
        (
            "v.n > v.m",
            "the expression 'v.n > v.m' failed: column 8: there is no field 'm'; has() asks whether there is, .? takes one that may be missing",
        ),
        ("v.n + v.s", "the expression 'v.n + v.s' failed: column 5: add does not take (int, string)"),
        ("v.n / 0", "the expression 'v.n / 0' failed: column 5: division by zero"),
        (
            "v.n.startsWith('a')",
            "the expression 'v.n.startsWith('a')' failed: column 15: startsWith does not take (int, string)",
        ),
    ] {
        let got = evaluate(text, r#"{"n":3,"s":"a"}"#).unwrap_err();
        // Which column a call has is the parser's business: only that it has one.
        let plain = |text: &str| {
            text.split("column ").map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit())).collect::<String>()
        };
        assert_eq!(plain(&got), plain(message));
    }
    let error =
        Expression::compile("v.n").unwrap().test(&Document { value: Some(Json::text(r#"{"n":1}"#)) }).unwrap_err();
    assert_eq!(error, "the expression 'v.n' gave int where true or false is wanted");
    assert!(
        evaluate("v.n > 1", "").unwrap_err().contains("the expression 'v.n > 1' failed"),
        "a tombstone has no fields"
    );
}

#[test]
fn nested_macros_are_bounded_by_the_record() {
    let list = format!("{{\"l\":[{}]}}", vec!["1"; 1001].join(","));
    let value: &'static str = list.leak();
    assert_eq!(shown("v.l.all(x, x == 1)", value), "bool true");
    let message = shown("v.l.all(x, v.l.exists(y, x == y))", value);
    assert!(message.contains("a list or map of 1001 entries is too long"), "{message}");
}

fn structs() -> (FieldRef, ArrayRef) {
    let price = logical::named(Field::new("price", DataType::Binary, true), logical::DECIMAL);
    let mut metadata = price.metadata().clone();
    metadata.insert(SCHEMA_PARAMETERS.to_owned(), r#"{"scale":"2"}"#.to_owned());
    let price = price.with_metadata(metadata);
    let mut prices = BinaryBuilder::new();
    prices.append_value(decimal::from_text("12.30", 2).unwrap());
    let at = logical::named(Field::new("at", crate::converter::json::timestamp_type(), true), logical::TIMESTAMP);
    let times = TimestampMillisecondArray::from(vec![1_700_000_009_007]).with_timezone("UTC");
    let fields = vec![Field::new("id", DataType::Int32, true), Field::new("name", DataType::Utf8, true), price, at];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![5])),
        Arc::new(StringArray::from(vec!["x"])),
        Arc::new(prices.finish()),
        Arc::new(times),
    ];
    let array = StructArray::new(fields.into(), columns, None);
    let field = Arc::new(Field::new("", array_type(&array), true));
    (field, Arc::new(array))
}

fn array_type(array: &StructArray) -> DataType {
    use arrow_array::Array;
    array.data_type().clone()
}

struct Row {
    field: FieldRef,
    array: ArrayRef,
}

impl Record for Row {
    fn value(&self) -> Source<'_> {
        Source::Column(&self.field, &self.array, 0)
    }

    fn key(&self) -> Source<'_> {
        Source::Json(None)
    }

    fn headers(&self) -> Box<dyn Iterator<Item = Header<'_>> + '_> {
        Box::new(std::iter::empty())
    }

    fn topic(&self) -> &str {
        "t"
    }

    fn timestamp(&self) -> Option<i64> {
        None
    }

    fn partition(&self) -> Option<i32> {
        None
    }

    fn offset(&self) -> Option<i64> {
        None
    }
}

#[test]
fn types_are_told_without_looking_at_values() {
    let (field, array) = structs();
    let types = Types { value: Some(field.clone()), key: None };
    let row = Row { field, array };
    for (text, data_type, answer) in [
        ("v.id", DataType::Int32, "5"),
        ("v.id * 2", DataType::Int64, "10"),
        ("v.price * 2.0", DataType::Float64, "24.6"),
        ("v.name + '!'", DataType::Utf8, "\"x!\""),
        ("v.id > 3 ? null : v.name", DataType::Utf8, "null"),
        ("v.at", crate::converter::json::timestamp_type(), "1700000009007"),
        ("v.at.getHours()", DataType::Int64, "22"),
        ("size(v.name)", DataType::Int64, "1"),
        ("has(v.name) && v.id == 5", DataType::Boolean, "true"),
    ] {
        let expression = Expression::compile(text).unwrap();
        let found = types.of(&expression).unwrap();
        assert_eq!(*found.data_type(), data_type, "{text}");
        assert_eq!(expression.evaluate(&row).unwrap().to_payload(&found).unwrap(), answer, "{text}");
    }
    let list = types.of(&Expression::compile("[1, 2].map(x, string(x))").unwrap()).unwrap();
    assert!(matches!(list.data_type(), DataType::List(item) if *item.data_type() == DataType::Utf8));
    let made = types.of(&Expression::compile("{'id': v.id, 'in': {'n': v.name}}").unwrap()).unwrap();
    assert!(matches!(made.data_type(), DataType::Struct(fields) if *fields[0].data_type() == DataType::Int32));
    let unknown = types.of(&Expression::compile("h.x").unwrap()).unwrap_err();
    assert!(unknown.contains("put string(…)"), "{unknown}");
}
