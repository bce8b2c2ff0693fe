//! `JsonConverter`, both modes, rows in and out.

use arrow_array::{Array, BinaryArray, StringArray};
use tributary_sdk::{Column, Config, Form};

use super::JsonConverter;
use crate::converter::{Converter, Run};

fn converter(pairs: &[(&str, &str)]) -> JsonConverter {
    let mut converter = JsonConverter::default();
    converter.configure(&pairs.iter().copied().collect::<Config>(), false).unwrap();
    converter
}

fn data<'a>(rows: impl IntoIterator<Item = Option<&'a str>>) -> BinaryArray {
    rows.into_iter().map(|row| row.map(str::as_bytes)).collect()
}

fn texts(array: &BinaryArray) -> Vec<Option<&str>> {
    array.iter().map(|value| value.map(|value| std::str::from_utf8(value).unwrap())).collect()
}

fn ranges(runs: &[Run]) -> Vec<(usize, usize)> {
    runs.iter().map(|run| (run.rows.start, run.rows.end)).collect()
}

#[test]
fn a_number_beyond_f64_passes_through_unchanged() {
    let mut converter = converter(&[("schemas.enable", "false")]);
    let input = data([Some(r#"{"a":1e310}"#), Some("-1e99999")]);
    let converted = converter.to_connect("t", &input);
    assert!(converted.failures.is_empty());
    let column = &converted.runs[0].column;
    assert_eq!(texts(&converter.from_connect("t", column).data), texts(&input));
}

#[test]
fn schemaless_text_passes_through_without_a_copy() {
    let mut converter = converter(&[("schemas.enable", "false")]);
    let input = data([Some(r#"{"a" : 1.10}"#), None, Some("null"), Some("[1")]);
    let answer = converter.to_connect("t", &input);
    assert_eq!(ranges(&answer.runs), [(0, 3)]);
    let column = &answer.runs[0].column;
    assert_eq!(column.form(), Form::Json);
    assert!(column.array().is_null(1) && column.array().is_null(2));
    assert_eq!(column.as_text().unwrap().values().as_ptr(), input.values().as_ptr());
    assert_eq!(answer.failures.len(), 1);
    assert_eq!(answer.failures[0].row, 3);
    assert_eq!(
        answer.failures[0].message,
        "Converting byte[] to Kafka Connect data failed due to serialization error: the text ends at byte 2 before the value does"
    );
    let back = converter.from_connect("t", column);
    assert_eq!(texts(&back.data), [Some(r#"{"a" : 1.10}"#), None, None]);
}

#[test]
fn invalid_utf8_fails_its_row_only() {
    let mut converter = converter(&[("schemas.enable", "false")]);
    let input: BinaryArray = [&b"\"a\""[..], b"\"\xff\"", b"1"].map(Some).into_iter().collect();
    let answer = converter.to_connect("t", &input);
    assert_eq!(ranges(&answer.runs), [(0, 1), (2, 3)]);
    assert!(answer.failures[0].message.ends_with("invalid UTF-8"), "{:?}", answer.failures);
}

/// What Kafka Connect's JsonConverter takes for nothing, or as a value.
#[test]
fn empty_text_is_null_and_a_byte_order_mark_is_left_out() {
    let mut plain = converter(&[("schemas.enable", "false")]);
    let answer = plain.to_connect("t", &data([Some(""), Some(" \n"), Some("\u{feff}[1]"), Some(" 1 2"), Some("01")]));
    assert_eq!(ranges(&answer.runs), [(0, 3)]);
    assert_eq!(texts(&plain.from_connect("t", &answer.runs[0].column).data), [None, None, Some("[1]")]);
    assert!(answer.failures[0].message.ends_with("unexpected '2' at byte 3"), "{:?}", answer.failures);
    let answer = converter(&[]).to_connect("t", &data([Some(""), Some("null"), Some("{}")]));
    assert_eq!((answer.runs.len(), answer.failures.len()), (0, 3));
}

#[test]
fn envelopes_that_begin_alike_are_still_checked() {
    let envelope = |payload: &str| format!(r#"{{"schema":{{"type":"int32"}},"payload":{payload}"#);
    let rows = [
        envelope("1}"),
        envelope("2 } "),
        envelope("3}}"),
        envelope("4,\"x\":1}"),
        envelope("5,\"payload\":6}"),
        envelope("}"),
    ];
    let answer = converter(&[]).to_connect("t", &data(rows.iter().map(|row| Some(row.as_str()))));
    assert_eq!(ranges(&answer.runs), [(0, 2), (4, 5)]);
    assert_eq!(answer.failures.iter().map(|failure| failure.row).collect::<Vec<_>>(), [2, 3, 5]);
}

#[test]
fn text_and_bytes_become_json_strings() {
    let text = Column::text(StringArray::from(vec![Some("a\"b"), None]));
    let bytes = Column::bytes(BinaryArray::from(vec![&b"\x00\xff"[..]]));
    let mut plain = converter(&[("schemas.enable", "false")]);
    assert_eq!(texts(&plain.from_connect("t", &text).data), [Some(r#""a\"b""#), None]);
    assert_eq!(texts(&plain.from_connect("t", &bytes).data), [Some(r#""AP8=""#)]);
    let mut enveloped = converter(&[]);
    assert_eq!(
        texts(&enveloped.from_connect("t", &text).data),
        [Some(r#"{"schema":{"type":"string","optional":false},"payload":"a\"b"}"#), None]
    );
    let json = Column::json(StringArray::from(vec!["{\"a\":1}"]));
    assert_eq!(texts(&enveloped.from_connect("t", &json).data), [Some(r#"{"schema":null,"payload":{"a":1}}"#)]);
}

/// Envelopes as Java's JsonConverter 4.3.1 writes them: read and written again, they are the same text.
#[test]
fn envelopes_round_trip() {
    for envelope in [
        r#"{"schema":{"type":"boolean","optional":false},"payload":true}"#,
        r#"{"schema":{"type":"int8","optional":false},"payload":-12}"#,
        r#"{"schema":{"type":"int16","optional":true},"payload":-1200}"#,
        r#"{"schema":{"type":"int32","optional":false},"payload":2147483647}"#,
        r#"{"schema":{"type":"int64","optional":false},"payload":-9223372036854775808}"#,
        r#"{"schema":{"type":"float","optional":false},"payload":12.34}"#,
        r#"{"schema":{"type":"double","optional":false},"payload":1.0E10}"#,
        r#"{"schema":{"type":"double","optional":false},"payload":"NaN"}"#,
        r#"{"schema":{"type":"string","optional":false,"name":"x.Y","version":3,"doc":"d \"q\"","parameters":{"k":"v"}},"payload":"é"}"#,
        r#"{"schema":{"type":"bytes","optional":false},"payload":"AP8="}"#,
        r#"{"schema":{"type":"array","items":{"type":"int32","optional":true},"optional":false},"payload":[1,null,3]}"#,
        r#"{"schema":{"type":"map","keys":{"type":"string","optional":false},"values":{"type":"int32","optional":false},"optional":false},"payload":{"a":1,"b":2}}"#,
        r#"{"schema":{"type":"map","keys":{"type":"int32","optional":false},"values":{"type":"string","optional":true},"optional":false},"payload":[[1,"x"],[2,null]]}"#,
        r#"{"schema":{"type":"struct","fields":[{"type":"int64","optional":false,"field":"id"},{"type":"struct","fields":[{"type":"string","optional":true,"default":"dflt","field":"s"}],"optional":true,"name":"inner","field":"in"}],"optional":false,"name":"Outer","version":1},"payload":{"id":7,"in":{"s":"x"}}}"#,
        r#"{"schema":{"type":"struct","fields":[{"type":"struct","fields":[{"type":"int32","optional":false,"field":"n"}],"optional":true,"field":"in"}],"optional":false},"payload":{"in":null}}"#,
        r#"{"schema":{"type":"bytes","optional":false,"name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"2"}},"payload":"AJw="}"#,
        r#"{"schema":{"type":"int32","optional":false,"name":"org.apache.kafka.connect.data.Date","version":1},"payload":10000}"#,
        r#"{"schema":{"type":"int32","optional":false,"name":"org.apache.kafka.connect.data.Time","version":1},"payload":14400000}"#,
        r#"{"schema":{"type":"int64","optional":true,"name":"org.apache.kafka.connect.data.Timestamp","version":1},"payload":4000000000}"#,
    ] {
        let mut converter = converter(&[]);
        let answer = converter.to_connect("t", &data([Some(envelope)]));
        assert_eq!(answer.failures, [], "{envelope}");
        let back = converter.from_connect("t", &answer.runs[0].column);
        assert_eq!(back.failures, [], "{envelope}");
        assert_eq!(texts(&back.data), [Some(envelope)]);
    }
}

#[test]
fn numeric_decimals() {
    let schema = r#"{"type":"bytes","optional":false,"name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"2"}}"#;
    let input = format!(r#"{{"schema":{schema},"payload":1.56}}"#);
    let mut base64 = converter(&[]);
    let mut numeric = converter(&[("decimal.format", "numeric")]);
    let column = base64.to_connect("t", &data([Some(&*input)])).runs.remove(0).column;
    assert_eq!(texts(&numeric.from_connect("t", &column).data), [Some(&*input)]);
    let expected = format!(r#"{{"schema":{schema},"payload":"AJw="}}"#);
    assert_eq!(texts(&base64.from_connect("t", &column).data), [Some(&*expected)]);
}

#[test]
fn runs_follow_schemas_and_failures() {
    let int = |n: &str| format!(r#"{{"schema":{{"type":"int32","optional":true}},"payload":{n}}}"#);
    let text = r#"{"schema":{"type":"string"},"payload":"x"}"#;
    let plain = r#"{"schema":null,"payload":{"a":1}}"#;
    let rows = [
        None,
        Some(int("1")),
        Some(int("null")),
        None,
        Some(int("\"x\"")),
        Some(int("2")),
        Some(text.to_owned()),
        Some(plain.to_owned()),
        Some("{\"a\":1}".to_owned()),
        Some(r#"{"schema":{"type":"odd"},"payload":1}"#.to_owned()),
        Some(int("3000000000")),
    ];
    let answer = converter(&[]).to_connect("t", &data(rows.iter().map(|row| row.as_deref())));
    assert_eq!(ranges(&answer.runs), [(0, 4), (5, 6), (6, 7), (7, 8)]);
    let forms: Vec<_> = answer.runs.iter().map(|run| run.column.form()).collect();
    assert_eq!(forms, [Form::Structured, Form::Structured, Form::Text, Form::Json]);
    let failures: Vec<_> = answer.failures.iter().map(|failure| (failure.row, &*failure.message)).collect();
    assert_eq!(failures[0], (4, "expected an integer, but found \"x\""));
    assert_eq!(failures[1].0, 8);
    assert!(failures[1].1.starts_with("JsonConverter with schemas.enable requires \"schema\" and \"payload\" fields"));
    assert_eq!(failures[2], (9, "Unknown schema type: odd"));
    assert_eq!(failures[3], (10, "the number 3000000000 does not fit its type"));
}

#[test]
fn defaults_and_nulls() {
    let schema = r#"{"type":"struct","fields":[{"type":"int32","optional":true,"default":42,"field":"d"},{"type":"string","optional":false,"field":"s"}],"optional":false}"#;
    let row = |payload: &str| format!(r#"{{"schema":{schema},"payload":{payload}}}"#);
    let rows = [row(r#"{"s":"a"}"#), row(r#"{"d":null,"s":"b"}"#), row("{}"), row("null")];
    let mut replacing = converter(&[]);
    let mut keeping = converter(&[("replace.null.with.default", "false")]);
    let input = data(rows.iter().map(|row| Some(row.as_str())));
    let answer = replacing.to_connect("t", &input);
    assert_eq!(ranges(&answer.runs), [(0, 2)]);
    let out = replacing.from_connect("t", &answer.runs[0].column).data;
    assert!(texts(&out)[1].unwrap().ends_with(r#""payload":{"d":42,"s":"b"}}"#), "{:?}", texts(&out));
    let messages: Vec<_> = answer.failures.iter().map(|failure| &*failure.message).collect();
    assert_eq!(
        messages,
        ["Invalid null value for required STRING field, in s", "Invalid null value for required STRUCT field"]
    );
    let kept = keeping.to_connect("t", &input);
    let out = keeping.from_connect("t", &kept.runs[0].column).data;
    assert!(texts(&out)[1].unwrap().ends_with(r#""payload":{"d":null,"s":"b"}}"#), "{:?}", texts(&out));
}

#[test]
fn schema_content_replaces_envelopes() {
    let mut converter =
        converter(&[("schema.content", r#"{"type":"struct","fields":[{"field":"a","type":"int32"}]}"#)]);
    let answer = converter.to_connect("t", &data([Some(r#" {"a":1} "#)]));
    assert_eq!(answer.failures, []);
    assert_eq!(answer.runs[0].column.form(), Form::Structured);
}

proptest::proptest! {
    /// Members that are the same in all rows are written once for all of them: that must not show.
    #[test]
    fn members_that_are_the_same_in_all_rows_are_written_like_the_others(
        rows in 1..40_usize,
        // What each member has in the first row, and in which row something else begins; beyond the rows: nowhere.
        members in proptest::collection::vec((0..3_usize, 0..3_usize, 0..80_usize), 8),
        null_at in 0..80_usize,
    ) {
        const SCHEMA: &str = r#"{"type":"struct","optional":false,"fields":[
            {"type":"int32","optional":true,"field":"int"},{"type":"int64","optional":true,"field":"long"},
            {"type":"string","optional":true,"field":"text"},{"type":"boolean","optional":true,"field":"flag"},
            {"type":"struct","optional":true,"field":"none","fields":[{"type":"int8","optional":true,"field":"x"}]},
            {"type":"struct","optional":true,"field":"inner","fields":[
                {"type":"int16","optional":true,"field":"a"},{"type":"string","optional":true,"field":"b\"c"}]},
            {"type":"array","optional":true,"field":"list","items":
                {"type":"struct","optional":true,"fields":[{"type":"int32","optional":true,"field":"n"}]}}]}"#;
        let value = |member: usize, row: usize| {
            let (first, other, from) = members[member];
            if row < from { first } else { other }
        };
        let payload = |row: usize| {
            let choose = |member: usize, values: [&str; 3]| values[value(member, row)].to_owned();
            let inner = format!(
                r#"{{"a":{},"b\"c":{}}}"#,
                choose(4, ["null", "7", "-7"]),
                choose(5, ["null", "\"\"", "\"x\""])
            );
            let inner = if row == null_at { "null".to_owned() } else { inner };
            format!(
                r#"{{"int":{},"long":{},"text":{},"flag":{},"none":{},"inner":{inner},"list":{}}}"#,
                choose(0, ["null", "0", "12"]),
                choose(1, ["null", "1764000000000", "-1"]),
                choose(2, ["null", "\"same\"", "\"so\\n\""]),
                choose(3, ["null", "true", "false"]),
                choose(6, ["null", "{\"x\":null}", "{\"x\":1}"]),
                choose(7, ["null", "[{\"n\":1},null,{\"n\":1}]", "[]"]),
            )
        };
        let payloads: Vec<String> = (0..rows).map(payload).collect();
        let envelopes: Vec<String> =
            payloads.iter().map(|payload| format!(r#"{{"schema":{SCHEMA},"payload":{payload}}}"#)).collect();
        let answer = converter(&[]).to_connect("t", &data(envelopes.iter().map(|row| Some(row.as_str()))));
        proptest::prop_assert_eq!(&answer.failures, &[]);
        let mut plain = converter(&[("schemas.enable", "false")]);
        let column = &answer.runs[0].column;
        let written = plain.from_connect("t", column);
        proptest::prop_assert_eq!(texts(&written.data), payloads.iter().map(|row| Some(row.as_str())).collect::<Vec<_>>());
    }
}
