//! `Map`: a new value, key, topic, and the like by expressions.
//!
//! All expressions see the record as it came in, whatever others set. A record that one of them fails for is refused. An expression
//! that only names a field (`v.after`) takes it as it is: numbers keep their digits, decimals their precision.

use std::sync::Arc;

use arrow_array::{Int32Array, Int64Array};
use tributary_sdk::{ConfigDef, Error, Result};

use super::SingleMessage;
use super::map_config::{config_def, expression, pairs, path, paths};
use super::records::{self, Records, RowRecord};
use crate::converter::of_json;
use crate::expression::{Answer, Expression, Record, Source, Variable};
use crate::transform::config::Settings;
use crate::transform::field_path::FieldPath;
use crate::transform::headers::{Header, Headers, HeadersBuilder};
use crate::transform::json::{Json, Key};
use crate::transform::part::{Outcome, Part, Side, Target, require_map};

pub(super) const PURPOSE: &str = "mapping";

/// See the module's documentation.
pub struct Map {
    pub(super) value: Option<Expression>,
    pub(super) fields: Vec<(FieldPath, Expression)>,
    pub(super) remove: Vec<FieldPath>,
    pub(super) key: Option<Expression>,
    topic: Option<Expression>,
    headers: Vec<(String, Expression)>,
    timestamp: Option<Expression>,
    partition: Option<Expression>,
}

/// Rows that were refused, with the reasons.
pub(super) type Refused = Vec<(usize, String)>;

/// What an expression gave for a schemaless record.
enum Given {
    Json(Json<'static>),
    Missing,
}

impl Map {
    /// The config definition.
    pub fn config_def() -> ConfigDef {
        config_def()
    }

    /// Takes its config.
    pub fn build(_target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let map = Self {
            value: expression(settings, "value")?,
            fields: paths(settings, "fields")?,
            remove: settings.list("remove").into_iter().map(|name| path("remove", name)).collect::<Result<_>>()?,
            key: expression(settings, "key")?,
            topic: expression(settings, "topic")?,
            headers: pairs(settings, "headers")?,
            timestamp: expression(settings, "timestamp")?,
            partition: expression(settings, "partition")?,
        };
        if map.expressions().next().is_none() && map.remove.is_empty() {
            return Err(Error::failed(
                "there is nothing to do: set value, fields, remove, key, topic, headers, timestamp or partition",
            ));
        }
        Ok(Box::new(map))
    }

    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let single = [&self.value, &self.key, &self.topic, &self.timestamp, &self.partition];
        let fields = self.fields.iter().map(|(_, expression)| expression);
        let headers = self.headers.iter().map(|(_, expression)| expression);
        single.into_iter().flatten().chain(fields).chain(headers)
    }

    fn changes_value(&self) -> bool {
        self.value.is_some() || !self.fields.is_empty() || !self.remove.is_empty()
    }

    /// The new values of schemaless records: from the old ones, with `given` for each field.
    fn value_json<'a>(&'a self, part: &Part<'a>, refused: &mut Refused) -> Side<'a> {
        let records = Records::of(part, self.uses_headers());
        let Side::Json(documents) = &part.value else { unreachable!("opened as documents") };
        let mut made = Vec::with_capacity(documents.len());
        for (at, document) in documents.iter().enumerate() {
            let record = records.row(at);
            match self.row_json(&record, document) {
                Ok(document) => made.push(document),
                Err(message) => {
                    refused.push((at, message));
                    made.push(None);
                }
            }
        }
        Side::Json(made)
    }

    fn row_json<'a>(
        &'a self,
        record: &RowRecord<'_>,
        document: &Option<Json<'a>>,
    ) -> std::result::Result<Option<Json<'a>>, String> {
        let fields: Vec<Given> = self
            .fields
            .iter()
            .map(|(_, expression)| given(expression, record))
            .collect::<std::result::Result<_, _>>()?;
        let mut value = match &self.value {
            None => document.clone(),
            Some(expression) => match given(expression, record)? {
                Given::Json(json) => Some(json).filter(|json| !json.is_null()),
                Given::Missing => None,
            },
        };
        if !fields.is_empty() || !self.remove.is_empty() {
            // A tombstone has no fields: it stays one.
            if value.is_none() && self.value.is_none() {
                return Ok(None);
            }
            let object = require_map(&mut value, PURPOSE)?;
            for path in &self.remove {
                path.set(object, None)?;
            }
            for ((path, _), given) in self.fields.iter().zip(fields) {
                match given {
                    Given::Json(json) => path.set(object, Some(json))?,
                    Given::Missing => path.set(object, None)?,
                }
            }
        }
        Ok(value)
    }

    fn key_json<'a>(&self, part: &Part<'a>, expression: &Expression, refused: &mut Refused) -> Side<'a> {
        let made = each(part, expression, refused, |record| match given(expression, record)? {
            Given::Json(json) => Ok(Some(json).filter(|json| !json.is_null())),
            Given::Missing => Ok(None),
        });
        Side::Json(made.into_iter().map(Option::flatten).collect())
    }

    fn topics(&self, part: &Part<'_>, expression: &Expression, refused: &mut Refused) -> Vec<Arc<str>> {
        let mut last: Arc<str> = part.topic.clone();
        let found = each(part, expression, refused, |record| match expression.evaluate(record)? {
            Answer::Text(topic) if !topic.is_empty() => Ok(topic),
            other => Err(format!("the topic has to be a text that is not empty, and {} is none", other.type_name())),
        });
        found
            .into_iter()
            .map(|topic| {
                if let Some(topic) = topic.filter(|topic| **topic != *last) {
                    last = topic.into();
                }
                last.clone()
            })
            .collect()
    }

    fn new_headers(&self, part: &Part<'_>, refused: &mut Refused) -> Option<arrow_array::ListArray> {
        let list = part.headers();
        let known = Headers::of(list.as_ref());
        let records = Records::of(part, true);
        let mut headers = HeadersBuilder::new(part.rows.len());
        for at in 0..part.rows.len() {
            let set = |header: &Header<'_>| self.headers.iter().any(|(name, _)| name == header.key);
            known.row(at).filter(|header| !set(header)).for_each(|header| headers.push(header));
            for (name, expression) in &self.headers {
                match expression.evaluate(&records.row(at)) {
                    Ok(Answer::Missing) => {}
                    Ok(answer) => {
                        let json = answer.to_json();
                        let (schema, text) = of_json(&json.to_string());
                        let value = (!json.is_null()).then_some(text.as_bytes());
                        headers.push(Header { key: name, schema: Some(schema), value });
                    }
                    Err(message) => refused.push((at, message)),
                }
            }
            headers.end_row();
        }
        headers.finish()
    }

    fn uses_headers(&self) -> bool {
        self.expressions().any(|expression| expression.needs(Variable::Headers).is_some())
    }
}

/// Calls `f` with each row; what it refuses is noted.
pub(super) fn each<T>(
    part: &Part<'_>,
    expression: &Expression,
    refused: &mut Refused,
    mut f: impl FnMut(&RowRecord<'_>) -> std::result::Result<T, String>,
) -> Vec<Option<T>> {
    let records = Records::of(part, expression.needs(Variable::Headers).is_some());
    let mut found = Vec::with_capacity(part.rows.len());
    for at in 0..part.rows.len() {
        found.push(f(&records.row(at)).map_err(|message| refused.push((at, message))).ok());
    }
    found
}

/// The value of an expression; a field is taken as it stands in the document.
fn given(expression: &Expression, record: &RowRecord<'_>) -> std::result::Result<Given, String> {
    if let Some((variable @ (Variable::Value | Variable::Key), names)) = expression.path() {
        let source = if variable == Variable::Value { record.value() } else { record.key() };
        if let Source::Json(document) = source {
            let current = document.and_then(|document| pick(document, &names));
            match current {
                Some(json) => return Ok(Given::Json(json)),
                None if names.is_empty() => return Ok(Given::Json(Json::NULL)),
                // The expression says what is missing.
                None => {}
            }
        }
    }
    Ok(match expression.evaluate(record)? {
        Answer::Missing => Given::Missing,
        answer => Given::Json(answer.to_json()),
    })
}

/// The value at a path, if all of it is there.
fn pick(json: &Json<'_>, names: &[&str]) -> Option<Json<'static>> {
    let Some((first, rest)) = names.split_first() else { return Some(json.clone().into_owned()) };
    let key = Key::new(first);
    match json {
        Json::Object(object) => pick(object.get(&key)?, rest),
        // Text that nobody has opened: only here, so it is not kept.
        Json::Text(_) => pick(json.borrowed().object().ok()??.get(&key)?, rest),
        Json::Array(_) => None,
    }
}

impl SingleMessage for Map {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        if self.partition.is_some() && part.base.partition.is_some() {
            let message = "a partition can be set in source connectors only: remove the key partition";
            let refused = (0..part.rows.len()).map(|at| (at, message.to_owned())).collect();
            part.refuse(refused, outcome);
            return;
        }
        records::open(&mut part, self.expressions());
        let mut refused = Refused::new();
        let value = if !self.changes_value() {
            None
        } else if part.is_json(Target::Value) {
            Some(self.value_json(&part, &mut refused))
        } else {
            match self.value_column(&mut part, &mut refused) {
                Ok(column) => Some(Side::Column(column)),
                Err(message) => return part.refuse_all(Target::Value, &message, outcome),
            }
        };
        let key = match &self.key {
            None => None,
            Some(expression) if part.is_json(Target::Value) => Some(self.key_json(&part, expression, &mut refused)),
            Some(expression) => match self.computed_column(&part, expression, &mut refused) {
                Ok(column) => Some(Side::Column(column)),
                Err(message) => {
                    let all = (0..part.rows.len()).map(|at| (at, message.clone())).collect();
                    part.refuse(all, outcome);
                    return;
                }
            },
        };
        let topics = self.topic.as_ref().map(|expression| self.topics(&part, expression, &mut refused));
        let headers = (!self.headers.is_empty()).then(|| self.new_headers(&part, &mut refused));
        let timestamps = self.timestamp.as_ref().map(|expression| {
            let of = |record: &RowRecord<'_>| match expression.evaluate(record)? {
                Answer::Timestamp(ms) | Answer::Integer(ms) => Ok(Some(ms)),
                Answer::Null | Answer::Missing => Ok(None),
                other => {
                    Err(format!("the timestamp has to be a timestamp or milliseconds, and is {}", other.type_name()))
                }
            };
            each(&part, expression, &mut refused, of).into_iter().map(Option::flatten).collect::<Int64Array>()
        });
        let partitions = self.partition.as_ref().map(|expression| {
            let of = |record: &RowRecord<'_>| match expression.evaluate(record)? {
                Answer::Integer(partition) if (0..=i64::from(i32::MAX)).contains(&partition) => {
                    Ok(Some(partition as i32))
                }
                Answer::Null | Answer::Missing => Ok(None),
                other => Err(format!("the partition has to be an integer from 0, and is {}", other.to_json())),
            };
            each(&part, expression, &mut refused, of).into_iter().map(Option::flatten).collect::<Int32Array>()
        });
        if let Some(value) = value {
            part.set(Target::Value, value);
        }
        if let Some(key) = key {
            part.set(Target::Key, key);
        }
        if headers.is_some() {
            part.headers = headers;
        }
        if timestamps.is_some() {
            part.timestamps = timestamps;
        }
        if partitions.is_some() {
            part.partitions = partitions;
        }
        refused.sort_by_key(|&(at, _)| at);
        refused.dedup_by_key(|&mut (at, _)| at);
        match topics {
            None => {
                let part = part.refuse(refused, outcome);
                outcome.push(part);
            }
            Some(topics) => {
                let kept = |at: &usize| !refused.iter().any(|(row, _)| row == at);
                let topics: Vec<Arc<str>> = (0..topics.len()).filter(kept).map(|at| topics[at].clone()).collect();
                part.refuse(refused, outcome).route(&topics, outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::BinaryArray;
    use tributary_sdk::Config;

    use crate::converter::{Converter, JsonConverter};
    use crate::transform::tests::{chain, json_batch, values};

    #[test]
    fn fields_key_topic_headers_and_timestamp_of_schemaless_records() {
        let mut chain = chain(&[
            ("transforms", "m,at"),
            ("transforms.m.type", "tributary.transforms.Map"),
            ("transforms.m.fields", "total = v.price * double(v.qty); o = v.o.deep; gone = optional.none()"),
            ("transforms.m.remove", "secret"),
            ("transforms.m.key", "v.id"),
            ("transforms.m.topic", "v.qty > 1 ? 'many' : topic"),
            ("transforms.m.headers", "from = topic; n = v.qty"),
            ("transforms.m.timestamp", "timestamp + duration('1s')"),
            ("transforms.at.type", "InsertField$Value"),
            ("transforms.at.timestamp.field", "at"),
        ]);
        let one = r#"{"id":"a","price":1.50,"qty":1,"o":{"deep":12345678901234567890.10},"gone":1,"secret":2}"#;
        let two = r#"{"id":"b","price":2.5,"qty":2,"o":{"deep":[1]},"secret":2}"#;
        let applied = chain.apply(json_batch(&[Some(one), Some(two), Some(r#"{"id":"c"}"#), None])).unwrap();
        assert_eq!(applied.batches.iter().map(|batch| &*batch.topic).collect::<Vec<_>>(), ["topic", "many"]);
        assert_eq!(
            values(&applied),
            [
                r#"{"id":"a","price":1.50,"qty":1,"o":12345678901234567890.10,"total":1.5,"at":1700000001000}"#,
                r#"{"id":"b","price":2.5,"qty":2,"o":[1],"total":5.0,"at":1700000001001}"#,
            ]
            .map(|text| Some(text.to_owned()))
        );
        let keys: Vec<&str> =
            applied.batches.iter().map(|batch| batch.key.as_ref().unwrap().as_text().unwrap().value(0)).collect();
        assert_eq!(keys, ["\"a\"", "\"b\""]);
        assert_eq!(applied.batches[0].timestamps.as_ref().unwrap().value(0), 1_700_000_001_000);
        assert_eq!(applied.batches[0].headers.as_ref().unwrap().value(0).len(), 2);
        // A tombstone has no price to multiply, and no quantity to route by.
        assert_eq!(applied.failures.iter().map(|failure| failure.row).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn nested_fields_of_schemaless_records_are_set_and_removed() {
        let mut chain = chain(&[
            ("transforms", "m"),
            ("transforms.m.type", "Map"),
            (
                "transforms.m.fields",
                "a.b.c = v.n + 1; a.b.d = optional.none(); `x.y` = v.n; new.deep.er = v.n; none.x = null",
            ),
            ("transforms.m.remove", "a.gone, z.gone, `p.q`"),
        ]);
        let one = r#"{"n":1,"a":{"k":[1.50],"b":{"d":1,"e":2},"gone":1},"p.q":0,"end":true}"#;
        let applied =
            chain.apply(json_batch(&[Some(one), Some(r#"{"n":2,"a":null}"#), Some(r#"{"n":3,"a":7}"#), None]));
        let applied = applied.unwrap();
        assert_eq!(
            values(&applied),
            [
                r#"{"n":1,"a":{"k":[1.50],"b":{"e":2,"c":2}},"end":true,"x.y":1,"new":{"deep":{"er":1}}}"#,
                r#"{"n":2,"a":{"b":{"c":3}},"x.y":2,"new":{"deep":{"er":2}}}"#,
            ]
            .map(|text| Some(text.to_owned()))
        );
        let why: Vec<_> = applied.failures.iter().map(|failure| (failure.row, &*failure.message)).collect();
        assert_eq!(why[0], (2, "the field a is java.lang.Long, which has no field b"));
        // A tombstone has no n.
        assert_eq!(why[1].0, 3);
    }

    #[test]
    fn nested_fields_of_structured_records_are_set_and_removed() {
        let schema = r#"{"type":"struct","fields":[{"type":"int32","optional":false,"field":"n"},
            {"type":"struct","name":"In","optional":true,"fields":[{"type":"int16","optional":true,"field":"x"},{"type":"string","optional":true,"field":"s"}],"field":"inner"},
            {"type":"struct","optional":true,"fields":[{"type":"int16","optional":false,"field":"x"}],"field":"strict"}],"optional":false,"name":"rec"}"#;
        let envelope = |payload: &str| Some(format!(r#"{{"schema":{schema},"payload":{payload}}}"#).into_bytes());
        let data = BinaryArray::from_iter([
            envelope(r#"{"n":1,"inner":{"x":7,"s":"a"},"strict":{"x":1}}"#),
            envelope(r#"{"n":2,"inner":null,"strict":{"x":2}}"#),
            None,
            envelope(r#"{"n":3,"inner":null,"strict":null}"#),
        ]);
        let mut converter = JsonConverter::default();
        converter.configure(&Config::default(), false).unwrap();
        let mut batch = json_batch(&[None; 4]);
        batch.value = converter.to_connect("t", &data).runs.remove(0).column;
        let mut with = |fields: &str, remove: &str| {
            let mut pairs = vec![("transforms", "m"), ("transforms.m.type", "Map"), ("transforms.m.fields", fields)];
            pairs.extend((!remove.is_empty()).then_some(("transforms.m.remove", remove)));
            let applied = chain(&pairs).apply(batch.clone()).unwrap();
            let rows = applied.batches.iter().flat_map(|batch| {
                let data = converter.from_connect("t", &batch.value).data;
                let row = |value: Option<&[u8]>| {
                    value.map_or(serde_json::Value::Null, |value| serde_json::from_slice(value).unwrap())
                };
                data.iter().map(row).collect::<Vec<_>>()
            });
            (rows.collect::<Vec<_>>(), applied.failures)
        };
        let (rows, failures) = with("inner.x = v.n * 2; made.deep = v.n", "inner.s");
        assert_eq!(failures, []);
        assert_eq!(
            rows[0]["schema"]["fields"],
            serde_json::json!([
                {"type": "int32", "optional": false, "field": "n"},
                {"type": "struct", "name": "In", "optional": true, "fields": [{"type": "int64", "optional": true, "field": "x"}], "field": "inner"},
                {"type": "struct", "optional": true, "fields": [{"type": "int16", "optional": false, "field": "x"}], "field": "strict"},
                {"type": "struct", "optional": true, "fields": [{"type": "int32", "optional": true, "field": "deep"}], "field": "made"}
            ])
        );
        let payload = |row: usize| &rows[row]["payload"];
        assert_eq!(
            *payload(0),
            serde_json::json!({"n": 1, "inner": {"x": 2}, "strict": {"x": 1}, "made": {"deep": 1}})
        );
        assert_eq!(
            *payload(1),
            serde_json::json!({"n": 2, "inner": {"x": 4}, "strict": {"x": 2}, "made": {"deep": 2}})
        );
        assert_eq!(rows[2], serde_json::Value::Null);
        assert_eq!(*payload(3), serde_json::json!({"n": 3, "inner": {"x": 6}, "strict": null, "made": {"deep": 3}}));

        // A struct that is null, and has a required field, cannot be made.
        let (rows, failures) = with("strict.y = 'set'", "");
        assert_eq!(rows[0]["payload"]["strict"], serde_json::json!({"x": 1, "y": "set"}));
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].row, 3);
        assert!(failures[0].message.contains("it has to have a field x"), "{}", failures[0].message);
        let (_, failures) = with("n.y = 1", "");
        assert_eq!(failures[0].message, "the field n is INT32, which has no field y");
    }

    #[test]
    fn structured_records_get_fields_of_types_that_do_not_depend_on_values() {
        let schema = r#"{"type":"struct","fields":[{"type":"int32","optional":false,"field":"n"},{"type":"string","optional":true,"field":"s"},{"type":"struct","optional":false,"fields":[{"type":"int16","optional":false,"field":"x"}],"field":"inner"}],"optional":false,"name":"rec"}"#;
        let envelope = |payload: &str| Some(format!(r#"{{"schema":{schema},"payload":{payload}}}"#).into_bytes());
        let data = BinaryArray::from_iter([
            envelope(r#"{"n":1,"s":"a","inner":{"x":7}}"#),
            None,
            envelope(r#"{"n":2,"s":null,"inner":{"x":8}}"#),
        ]);
        let mut converter = JsonConverter::default();
        converter.configure(&Config::default(), false).unwrap();
        let mut batch = json_batch(&[None; 3]);
        batch.value = converter.to_connect("t", &data).runs.remove(0).column;
        let mut fields = chain(&[
            ("transforms", "m"),
            ("transforms.m.type", "Map"),
            ("transforms.m.fields", "double = v.n * 2; s = v.s == null ? 'none' : v.s + '!'; x = v.inner.x"),
            ("transforms.m.remove", "inner"),
        ]);
        let applied = fields.apply(batch.clone()).unwrap();
        assert_eq!(applied.failures, []);
        let out = converter.from_connect("t", &applied.batches[0].value).data;
        let first: serde_json::Value = serde_json::from_slice(out.value(0)).unwrap();
        let expected = serde_json::json!({
            "schema": {"type": "struct", "fields": [
                {"type": "int32", "optional": false, "field": "n"},
                {"type": "string", "optional": true, "field": "s"},
                {"type": "int64", "optional": true, "field": "double"},
                {"type": "int16", "optional": true, "field": "x"},
            ], "optional": false, "name": "rec"},
            "payload": {"n": 1, "s": "a!", "double": 2, "x": 7},
        });
        assert_eq!(first, expected);
        let last: serde_json::Value = serde_json::from_slice(out.value(2)).unwrap();
        assert_eq!(last["payload"], serde_json::json!({"n": 2, "s": "none", "double": 4, "x": 8}));

        let mut whole = chain(&[
            ("transforms", "m"),
            ("transforms.m.type", "Map"),
            ("transforms.m.value", "v == null ? null : {'id': v.n, 'tags': [v.s, 'x'], 'inner': v.inner}"),
            ("transforms.m.key", "v == null ? 0 : v.n"),
        ]);
        let applied = whole.apply(batch).unwrap();
        assert_eq!(applied.failures, []);
        let out = converter.from_connect("t", &applied.batches[0].value).data;
        let last: serde_json::Value = serde_json::from_slice(out.value(2)).unwrap();
        assert_eq!(last["payload"], serde_json::json!({"id": 2, "tags": [null, "x"], "inner": {"x": 8}}));
    }
}
