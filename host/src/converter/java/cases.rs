//! The table: every type and every key, there and back, and input that is wrong.

use serde_json::{Value, json};

use super::{BYTES, Case, JSON, SIMPLE, STRING};

const NUMBERS: [(&str, &str, usize); 6] = [
    ("org.apache.kafka.connect.converters.BooleanConverter", "boolean", 1),
    ("org.apache.kafka.connect.converters.ShortConverter", "int16", 2),
    ("org.apache.kafka.connect.converters.IntegerConverter", "int32", 4),
    ("org.apache.kafka.connect.converters.LongConverter", "int64", 8),
    ("org.apache.kafka.connect.converters.FloatConverter", "float", 4),
    ("org.apache.kafka.connect.converters.DoubleConverter", "double", 8),
];

/// Every case.
pub(super) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |class, config: &Value, what: &'static str, input: Value| {
        // What is to be written crosses as text: a tree of JSON has no -0.0 in Java.
        let input = if what.ends_with("write") { input.to_string().into() } else { input };
        cases.push(Case { class, config: config.clone(), what, input });
    };
    let none = json!({});
    for config in json_configs() {
        for value in values() {
            case(JSON, &config, "write", value.clone());
            if config["schemas.enable"] == "true" {
                case(JSON, &config, "read", value.to_string().into());
            } else {
                case(JSON, &config, "read", value["payload"].to_string().into());
            }
        }
        for text in wrong_texts() {
            case(JSON, &config, "read", text.into());
        }
    }
    let enabled = json!({"schemas.enable": "true"});
    for envelope in wrong_envelopes() {
        case(JSON, &enabled, "read", envelope.to_string().into());
    }
    let fixed = json!({"schemas.enable": "true", "schema.content": r#"{"type":"struct","fields":[{"field":"a","type":"int32"}]}"#});
    for text in [r#"{"a":1}"#, r#"{"a":null}"#, "{}", "[]", "null"] {
        case(JSON, &fixed, "read", text.into());
    }
    for input in [json!("text"), json!(""), json!(null), json!({"hex": "ff00fe"}), json!("é😀")] {
        for class in [STRING, BYTES] {
            case(class, &none, "read", input.clone());
            case(class, &none, "header-read", input.clone());
        }
    }
    case(STRING, &json!({"converter.encoding": "ISO-8859-1"}), "read", json!({"hex": "e9"}));
    for value in values() {
        for class in [STRING, BYTES] {
            case(class, &none, "write", value.clone());
        }
        for (class, ..) in NUMBERS {
            case(class, &none, "write", value.clone());
        }
        case(SIMPLE, &none, "header-write", value.clone());
        case(JSON, &none, "header-write", value.clone());
        case(JSON, &none, "header-read", value.to_string().into());
        case(JSON, &json!({"schemas.enable": "false"}), "header-write", value.clone());
    }
    for (class, _, width) in NUMBERS {
        for length in [0, 1, width - 1, width, width + 1] {
            for byte in ["00", "01", "7f", "80", "ff"] {
                case(class, &none, "read", json!({"hex": byte.repeat(length)}));
            }
        }
        case(class, &none, "read", json!(null));
        case(class, &none, "header-read", json!({"hex": "01".repeat(width)}));
    }
    for text in header_texts() {
        case(SIMPLE, &none, "header-read", text.into());
    }
    case(SIMPLE, &none, "header-read", json!(null));
    case(SIMPLE, &none, "header-read", json!({"hex": "ff"}));
    cases
}

fn json_configs() -> Vec<Value> {
    let mut configs = Vec::new();
    for enable in ["true", "false"] {
        for decimal in ["BASE64", "numeric"] {
            for replace in ["true", "false"] {
                configs.push(
                    json!({"schemas.enable": enable, "decimal.format": decimal, "replace.null.with.default": replace}),
                );
            }
        }
    }
    configs
}

/// Envelopes with values of every type.
fn values() -> Vec<Value> {
    let mut out = Vec::new();
    let mut of = |schema: Value, payloads: Vec<Value>| {
        for payload in payloads {
            out.push(json!({"schema": schema, "payload": payload}));
        }
    };
    let plain = |kind: &str| json!({"type": kind, "optional": false});
    let logical = |kind: &str, name: &str| json!({"type": kind, "optional": false, "name": format!("org.apache.kafka.connect.data.{name}"), "version": 1});
    let decimal = |scale: &str| {
        let mut schema = logical("bytes", "Decimal");
        schema["parameters"] = json!({"scale": scale});
        schema
    };
    of(plain("int8"), vec![json!(0), json!(127), json!(-128)]);
    of(plain("int16"), vec![json!(0), json!(32767), json!(-32768)]);
    of(plain("int32"), vec![json!(0), json!(2_147_483_647), json!(-2_147_483_648_i64)]);
    of(plain("int64"), vec![json!(0), json!(9_007_199_254_740_993_i64), json!(i64::MAX), json!(i64::MIN)]);
    of(
        plain("float"),
        ["0.0", "-0.0", "0.1", "1.0E10", "3.4028235E38", "1.0E-5", "1.4E-45", "100.0", "16777216", "0.001"]
            .map(|text| serde_json::from_str(text).unwrap())
            .to_vec(),
    );
    of(
        plain("double"),
        [
            "0.0",
            "-0.0",
            "0.1",
            "1e300",
            "4.9E-324",
            "100.0",
            "1234567.0",
            "12345678.9",
            "1e7",
            "0.001",
            "0.0001",
            "2.2250738585072014E-308",
        ]
        .map(|text| serde_json::from_str(text).unwrap())
        .to_vec(),
    );
    of(plain("float"), vec![json!("NaN"), json!("Infinity"), json!("-Infinity")]);
    of(plain("double"), vec![json!("NaN"), json!("Infinity"), json!("-Infinity")]);
    of(plain("boolean"), vec![json!(true), json!(false)]);
    of(
        plain("string"),
        ["", "text", "é\"\\\n\u{1}\u{7f}/", "\u{2028}", "😀", "</script>", "null", "12", "1.5", "true"]
            .map(Value::from)
            .to_vec(),
    );
    of(plain("bytes"), vec![json!(""), json!("AQI="), json!("/+8=")]);
    of(decimal("2"), vec![json!("BNI="), json!("+y4="), json!("AA=="), json!("AQ==")]);
    of(decimal("0"), vec![json!("BNI=")]);
    of(decimal("-2"), vec![json!("BNI=")]);
    of(decimal("12"), vec![json!("AQ==")]);
    of(logical("int32", "Date"), vec![json!(0), json!(19_000), json!(-1)]);
    of(logical("int32", "Time"), vec![json!(0), json!(86_399_999)]);
    of(logical("int64", "Timestamp"), vec![json!(0), json!(1_700_000_000_123_i64), json!(-1)]);
    of(json!({"type": "array", "items": plain("int32"), "optional": false}), vec![json!([]), json!([1, 2])]);
    let optional_items = json!({"type": "array", "items": {"type": "string", "optional": true}, "optional": false});
    of(optional_items, vec![json!(["a", null, ""])]);
    of(json!({"type": "array", "items": {"type": "array", "items": plain("boolean")}}), vec![json!([[true], []])]);
    let map = |keys: Value, values: Value| json!({"type": "map", "keys": keys, "values": values, "optional": false});
    of(map(plain("string"), plain("int64")), vec![json!({}), json!({"é": 1})]);
    of(map(plain("int32"), plain("string")), vec![json!([]), json!([[1, "a"]])]);
    of(json!({"type": "string", "optional": true}), vec![json!(null), json!("x")]);
    of(json!({"type": "int32", "optional": true, "default": 5}), vec![json!(null), json!(6)]);
    let structure = json!({"type": "struct", "name": "shop.Order", "version": 2, "doc": "an order", "optional": false, "fields": [
        {"field": "id", "type": "int64", "optional": false},
        {"field": "note", "type": "string", "optional": true, "default": "none"},
        {"field": "price", "type": "bytes", "optional": true, "name": "org.apache.kafka.connect.data.Decimal", "version": 1, "parameters": {"scale": "2"}},
        {"field": "at", "type": "int64", "optional": true, "name": "org.apache.kafka.connect.data.Timestamp", "version": 1},
        {"field": "inner", "type": "struct", "optional": true, "fields": [{"field": "x", "type": "float", "optional": false, "default": 1.5}]}]});
    of(
        structure,
        vec![
            json!({"id": 1, "note": "n", "price": "BNI=", "at": 5, "inner": {"x": 0.5}}),
            json!({"id": 1, "note": null, "price": null, "at": null, "inner": null}),
            json!({"id": 1}),
            json!({"id": 1, "inner": {}, "more": true}),
        ],
    );
    for payload in [json!(1), json!(1.5), json!("x"), json!(true), json!([1, "a", null]), json!({"a": {"b": [1.10]}})] {
        out.push(json!({"schema": null, "payload": payload}));
    }
    out
}

/// Text that is no JSON, or no envelope.
fn wrong_texts() -> Vec<&'static str> {
    vec![
        "",
        " ",
        "{",
        "[1",
        "{\"a\"}",
        "\"x",
        "tru",
        "nul",
        "1,",
        "1 2",
        "{\"a\":1}}",
        "NaN",
        "01",
        "'a'",
        "{a:1}",
        "\u{feff}1",
        "[1,]",
        "\"\\x\"",
        "1e",
        "-",
        "[]",
        "{}",
        "null",
        "1",
        "\"x\"",
        r#"{"payload":1}"#,
        r#"{"schema":null}"#,
        r#"{"schema":null,"payload":1,"more":2}"#,
        r#"{"schema":{},"payload":1}"#,
    ]
}

/// Schemas that are wrong, and values that do not fit.
fn wrong_envelopes() -> Vec<Value> {
    let mut out: Vec<Value> = [
        json!({"type": "nothing"}),
        json!({"type": 5}),
        json!("int32"),
        json!([]),
        json!({"type": "struct"}),
        json!({"type": "struct", "fields": {}}),
        json!({"type": "struct", "fields": [{"type": "int32"}]}),
        json!({"type": "struct", "fields": [{"field": 5, "type": "int32"}]}),
        json!({"type": "struct", "fields": ["a"]}),
        json!({"type": "array"}),
        json!({"type": "map", "values": {"type": "int32"}}),
        json!({"type": "map", "keys": {"type": "string"}}),
        json!({"type": "int32", "name": 5}),
        json!({"type": "int32", "version": "x"}),
        json!({"type": "int32", "doc": 5}),
        json!({"type": "int32", "parameters": 5}),
        json!({"type": "int32", "parameters": {"a": 5}}),
        json!({"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal"}),
    ]
    .map(|schema| json!({"schema": schema, "payload": 1}))
    .to_vec();
    let mut of = |schema: Value, payloads: &[Value]| {
        for payload in payloads {
            out.push(json!({"schema": schema, "payload": payload}));
        }
    };
    let list = |items: Value| json!({"type": "array", "items": items});
    for kind in ["int8", "int16", "int32", "int64", "float", "double", "boolean", "string", "bytes"] {
        of(json!({"type": kind, "optional": false}), &[json!(null)]);
    }
    of(json!({"type": "bytes"}), &[json!("!!"), json!("AQI")]);
    of(list(json!({"type": "int32"})), &[json!(5), json!("x"), json!({}), json!([null])]);
    of(
        json!({"type": "map", "keys": {"type": "string"}, "values": {"type": "int32"}}),
        &[json!(5), json!([]), json!({"a": null})],
    );
    of(
        json!({"type": "map", "keys": {"type": "int32"}, "values": {"type": "int32"}}),
        &[json!({}), json!([1]), json!([[1]]), json!([[1, 2, 3]])],
    );
    of(
        json!({"type": "struct", "fields": [{"field": "a", "type": "int32", "optional": false}]}),
        &[json!(5), json!([]), json!({}), json!({"a": null})],
    );
    let logical = |kind: &str, name: &str| json!({"type": kind, "name": format!("org.apache.kafka.connect.data.{name}"), "version": 1});
    of(logical("int32", "Date"), &[json!("x"), json!(1.5)]);
    of(logical("int32", "Time"), &[json!("x"), json!(true)]);
    of(logical("int64", "Timestamp"), &[json!("x"), json!([])]);
    let mut decimal = logical("bytes", "Decimal");
    decimal["parameters"] = json!({"scale": "2"});
    of(decimal, &[json!(12.34), json!(-0.5), json!(5), json!(true), json!("!!"), json!([])]);
    out
}

fn header_texts() -> Vec<&'static str> {
    vec![
        "1",
        "-5",
        "127",
        "128",
        "300",
        "32768",
        "70000",
        "3000000000",
        "99999999999999999999",
        "1.5",
        "-1.5",
        "1e3",
        "1.0",
        "0.1",
        "1.7976931348623157e309",
        "007",
        "+7",
        "0x10",
        "NaN",
        "Infinity",
        "true",
        "TRUE",
        "false",
        "null",
        "",
        " ",
        "\"quoted\"",
        "\"a",
        "a\"b",
        "\\",
        "text",
        "two words",
        " 7 ",
        "[1,2]",
        "[1, 2]",
        "[]",
        "[",
        "[1,]",
        "[1",
        "[1,\"a\"]",
        "[\"a\",\"b\"]",
        "[1,2.5]",
        "[1,300]",
        "[1,null]",
        "[\"2020-01-01\"]",
        "[[1],[2]]",
        "[true,false]",
        "[a,b]",
        "{}",
        "{",
        "{\"a\":1}",
        "{\"a\":1,\"b\":2}",
        "{a:1}",
        "{\"a\":[1]}",
        "{1:2}",
        "{\"a\":1,\"b\":\"x\"}",
        "{\"a\"}",
        "2020-01-01",
        "2020-13-01",
        "2020-01-01T00:00:00.000Z",
        "2020-01-01T10:11:12.013Z",
        "10:00:00.000Z",
        "12:34:56.789Z",
        "12:34",
        "1,2",
        "a,b",
        "a:b",
        "http://x/y?z=1",
        "é",
        "1_000",
        "1f",
        "1L",
        "-",
        "--1",
        ".5",
        "5.",
        "1e400",
    ]
}
