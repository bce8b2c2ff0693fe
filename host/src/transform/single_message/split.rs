//! `Split`: one record for each item of an array. Not one of Kafka Connect's.
//!
//! The new records have the key, headers, timestamp and offset of the old one. A record with an empty or missing array is dropped;
//! a null value goes on; a value that is no array refuses its record.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_schema::{DataType, FieldRef};
use tributary_sdk::{Column, ConfigDef, ConfigKey, Importance, Result, Type};

use super::SingleMessage;
use crate::transform::config::Settings;
use crate::transform::json::{Json, Key, Object};
use crate::transform::part::{Opened, Outcome, Part, Side, Target, not_json, require_map};
use crate::transform::structs::{Struct, extract, java_class};

const PURPOSE: &str = "splitting";

/// See the module's documentation.
pub struct Split {
    /// `None`: the whole value is the array.
    field: Option<(String, Key<'static>)>,
    /// The field of the old value that each item becomes; `None`: the item becomes the value.
    into: Option<(String, Key<'static>)>,
}

/// New rows by the old one's place, and their values.
type Items<T> = Vec<(usize, T)>;

impl Split {
    /// The config definition.
    pub fn config_def() -> ConfigDef {
        let into = "The field that each item becomes, in a copy of the value without the array; empty: the item becomes the value.";
        ConfigDef::new()
            .define(ConfigKey::optional(
                "field",
                Type::String,
                "",
                Importance::High,
                "The array; empty: the whole value.",
            ))
            .define(ConfigKey::optional("into", Type::String, "", Importance::Medium, into))
    }

    /// Takes its config.
    pub fn build(_target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let field = |key: &str| {
            Some(settings.text(key)).filter(|name| !name.is_empty()).map(|name| (name.to_owned(), Key::new(name)))
        };
        let (field, into) = (field("field"), field("into"));
        if field.is_none() && into.is_some() {
            return Err(tributary_sdk::Error::failed("into needs field: set field to the array's name"));
        }
        Ok(Box::new(Self { field, into }))
    }

    fn split_json<'a>(&'a self, document: Json<'a>) -> std::result::Result<Vec<Json<'a>>, String> {
        let not_array = |class: &str| format!("only arrays can be split, found: {class}");
        let mut document = Some(document);
        let (array, rest) = match &self.field {
            None => (document.take(), None),
            Some((_, key)) => {
                let object = require_map(&mut document, PURPOSE)?;
                (object.remove(key).filter(|value| !value.is_null()), Some(std::mem::take(object)))
            }
        };
        let Some(mut array) = array else { return Ok(Vec::new()) };
        let class = array.java_class();
        let items = std::mem::take(array.array().map_err(not_json)?.ok_or_else(|| not_array(class))?);
        let Some((_, into)) = &self.into else { return Ok(items) };
        let rest: Object<'a> = rest.unwrap_or_default();
        let with_item = |item| {
            let mut object = rest.clone();
            object.set(into.borrowed(), item);
            Json::Object(object)
        };
        Ok(items.into_iter().map(with_item).collect())
    }

    fn split_column(&self, column: &Column) -> std::result::Result<(Vec<usize>, Column), String> {
        let (list, item, rest): (ArrayRef, FieldRef, Option<Struct>) = match &self.field {
            None => match column.field().data_type() {
                DataType::List(item) => (column.array().clone(), item.clone(), None),
                _ => return Err(format!("only arrays can be split, found: {}", java_class(column.field()))),
            },
            Some((name, _)) => {
                let mut structs = Struct::open(column, PURPOSE, false)?;
                let at = structs.position(name).ok_or_else(|| format!("Unknown field: {name}"))?;
                let field = structs.fields.remove(at);
                let list = crate::transform::structs::mask(&structs.columns.remove(at), structs.nulls.as_ref());
                match field.data_type() {
                    DataType::List(item) => (list, item.clone(), Some(structs)),
                    _ => return Err(format!("only arrays can be split, found: {}", java_class(&field))),
                }
            }
        };
        let list = list.as_list::<i32>();
        let (mut places, mut items) = (Vec::new(), Vec::new());
        for row in 0..list.len() {
            if column.array().is_null(row) {
                // A tombstone goes on: an item that is null.
                places.push(row);
                items.push(None);
            } else if list.is_valid(row) {
                for i in list.value_offsets()[row]..list.value_offsets()[row + 1] {
                    places.push(row);
                    items.push(Some(i as u32));
                }
            }
        }
        let take = |array: &ArrayRef, indices: &UInt32Array| {
            arrow_select::take::take(array, indices, None).map_err(|error| error.to_string())
        };
        let values = take(list.values(), &items.into())?;
        match (&self.into, rest) {
            (Some((name, _)), Some(mut structs)) => {
                let rows: UInt32Array = places.iter().map(|&row| Some(row as u32)).collect();
                for column in &mut structs.columns {
                    *column = take(column, &rows)?;
                }
                structs.nulls = structs.nulls.map(|nulls| places.iter().map(|&row| nulls.is_valid(row)).collect());
                structs.rows = places.len();
                structs.set(item.as_ref().clone().with_name(name).with_nullable(true), values);
                Ok((places, structs.rebuild()))
            }
            _ => {
                let (field, values) = extract(&item, &values, None);
                Ok((places, Column::new(field, values)))
            }
        }
    }
}

impl SingleMessage for Split {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        let rows = part.rows.len();
        let mut refused = Vec::new();
        let (places, value) = match part.open(Target::Value) {
            Opened::Json(documents) => {
                let mut items: Items<Option<Json<'a>>> = Vec::with_capacity(rows);
                for (row, document) in documents.iter_mut().enumerate() {
                    match document.take().map(|document| self.split_json(document)) {
                        None => items.push((row, None)),
                        Some(Ok(split)) => {
                            items
                                .extend(split.into_iter().map(|item| (row, Some(item).filter(|item| !item.is_null()))));
                        }
                        Some(Err(message)) => refused.push((row, message)),
                    }
                }
                let (places, documents): (Vec<usize>, Vec<_>) = items.into_iter().unzip();
                (places, Side::Json(documents))
            }
            Opened::Column(column) => match self.split_column(&column.clone()) {
                Ok((places, column)) => (places, Side::Column(column)),
                Err(message) => return part.refuse_all(Target::Value, &message, outcome),
            },
        };
        let mut kept = places.clone();
        kept.dedup();
        outcome.dropped += rows - kept.len() - refused.len();
        outcome.failures.extend(refused.into_iter().map(|(row, message)| (part.rows[row], message)));
        let mut part = part.repeat(&places);
        part.set(Target::Value, value);
        outcome.push(part);
    }
}

#[cfg(test)]
mod tests {
    use tributary_sdk::{Config, Offsets};

    use crate::converter::Converter;
    use crate::transform::tests::{chain, json_batch, values};

    #[test]
    fn items_become_records() {
        let mut whole = chain(&[("transforms", "s"), ("transforms.s.type", "Split")]);
        let applied = whole.apply(json_batch(&[Some("[1,{\"a\":2},null]"), Some("[]"), None, Some("{}")])).unwrap();
        assert_eq!(values(&applied), [Some("1"), Some("{\"a\":2}"), None, None].map(|text| text.map(str::to_owned)));
        let Offsets::Sink(offsets) = &applied.batches[0].offsets else { panic!("a sink batch") };
        assert_eq!(offsets.values(), &[100, 100, 100, 102]);
        assert_eq!(applied.dropped, 1);
        assert_eq!(applied.failures[0].row, 3);
        assert_eq!(applied.failures[0].message, "only arrays can be split, found: java.util.HashMap");
    }

    #[test]
    fn items_become_fields() {
        let mut into = chain(&[
            ("transforms", "s"),
            ("transforms.s.type", "Split"),
            ("transforms.s.field", "items"),
            ("transforms.s.into", "item"),
        ]);
        let rows = [Some(r#"{"id":1,"items":["a","b"]}"#), Some(r#"{"id":2}"#)];
        let applied = into.apply(json_batch(&rows)).unwrap();
        assert_eq!(
            values(&applied),
            [r#"{"id":1,"item":"a"}"#, r#"{"id":1,"item":"b"}"#].map(|text| Some(text.to_owned()))
        );

        // The same with a schema.
        let schema = r#"{"type":"struct","fields":[{"type":"int32","optional":false,"field":"id"},{"type":"array","items":{"type":"string","optional":false},"optional":true,"field":"items"}],"optional":false}"#;
        let envelope = |payload: &str| format!(r#"{{"schema":{schema},"payload":{payload}}}"#).into_bytes();
        let data = arrow_array::BinaryArray::from_iter([
            Some(envelope(rows[0].unwrap())),
            None,
            Some(envelope(r#"{"id":2,"items":null}"#)),
        ]);
        let mut converter = crate::converter::JsonConverter::default();
        converter.configure(&Config::default(), false).unwrap();
        let mut batch = json_batch(&[None; 3]);
        batch.value = converter.to_connect("t", &data).runs.remove(0).column;
        let applied = into.apply(batch).unwrap();
        converter.configure(&[("schemas.enable", "false")].into_iter().collect(), false).unwrap();
        let out = converter.from_connect("t", &applied.batches[0].value).data;
        let texts: Vec<_> = out.iter().map(|text| text.map(|text| std::str::from_utf8(text).unwrap())).collect();
        assert_eq!(texts, [Some(r#"{"id":1,"item":"a"}"#), Some(r#"{"id":1,"item":"b"}"#), None]);
        assert_eq!(applied.dropped, 1);
    }
}
