//! Results as records: schemaless where the input is, with a schema where it has one.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, FieldRef};
use tributary_sdk::{Batch, Column, Error, Offsets, Result};

use super::accumulator::Aggregation;
use super::pick::Pick;
use super::stored::{length, take};
use crate::converter::json::{self, Options, text};
use crate::converter::utf8::TextBuilder;
use crate::expression::{Answer, Types};
use crate::state::Shard;

/// What results look like. It is kept in the state: windows may close before another record has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Where they go.
    pub topic: Arc<str>,
    /// The fields of `key`, and of the aggregates; `None`: schemaless.
    pub fields: Option<Vec<FieldRef>>,
}

/// One result.
pub struct Outcome {
    /// The key.
    pub key: Answer,
    /// Start and end, where there are windows.
    pub window: Option<(i64, i64)>,
    /// The aggregates; `None`: the window is no more, which a tombstone says.
    pub values: Option<Vec<Answer>>,
    /// Timestamp of the record.
    pub timestamp: i64,
}

impl Shape {
    /// Of what comes from a batch. The error says which type cannot be told.
    pub fn of(
        topic: Arc<str>,
        types: Option<&Types>,
        key: &Pick,
        aggregations: &[Aggregation],
    ) -> std::result::Result<Self, String> {
        let Some(types) = types else { return Ok(Self { topic, fields: None }) };
        let mut fields: Vec<FieldRef> = vec![Arc::new(key.field(types)?.with_name("key").with_nullable(false))];
        for aggregation in aggregations {
            fields.push(Arc::new(aggregation.field(types)?));
        }
        Ok(Self { topic, fields: Some(fields) })
    }

    /// Its bytes in the state.
    pub fn to_store(&self) -> std::result::Result<Vec<u8>, String> {
        let mut out = vec![1, u8::from(self.fields.is_some())];
        length(self.topic.len(), &mut out);
        out.extend_from_slice(self.topic.as_bytes());
        for field in self.fields.iter().flatten() {
            let named = Field::new("", DataType::Struct(vec![field.clone()].into()), true);
            let schema = json::field_to_json(&named)?;
            length(schema.len(), &mut out);
            out.extend_from_slice(schema.as_bytes());
        }
        Ok(out)
    }

    /// What was stored.
    pub fn restore(bytes: &[u8]) -> Option<Self> {
        let [1, has_fields, rest @ ..] = bytes else { return None };
        let mut rest = rest;
        let topic: Arc<str> = std::str::from_utf8(take(&mut rest)?).ok()?.into();
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let schema: serde_json::Value = serde_json::from_slice(take(&mut rest)?).ok()?;
            let named = json::field_from_json(&schema).ok()?;
            let DataType::Struct(inner) = named.data_type() else { return None };
            fields.push(inner.first()?.clone());
        }
        Some(Self { topic, fields: (*has_fields == 1).then_some(fields) })
    }

    /// Results as a batch.
    pub fn batch(&self, shard: Shard, outcomes: &[Outcome], aggregations: &[Aggregation]) -> Result<Batch> {
        let (key, value) = match &self.fields {
            None => documents(outcomes, aggregations),
            Some(fields) => structs(fields, outcomes)?,
        };
        Ok(Batch {
            topic: self.topic.clone(),
            source_partition: None,
            partition: Some(shard),
            key: Some(key),
            value,
            headers: None,
            timestamps: Some(outcomes.iter().map(|outcome| Some(outcome.timestamp)).collect()),
            partitions: None,
            offsets: Offsets::None,
            origin: None,
        })
    }
}

fn documents(outcomes: &[Outcome], aggregations: &[Aggregation]) -> (Column, Column) {
    let mut keys = TextBuilder::with_capacity(outcomes.len(), outcomes.len() * 64);
    let mut values = TextBuilder::with_capacity(outcomes.len(), outcomes.len() * 128);
    let names: Vec<String> = aggregations.iter().map(|aggregation| text::string(&aggregation.name)).collect();
    for outcome in outcomes {
        let key = outcome.key.to_json();
        let begin = |out: &mut String, with_end: bool| {
            out.push_str("{\"key\":");
            key.write(out);
            if let Some((start, end)) = outcome.window {
                out.push_str(",\"window_start\":");
                text::write_integer(out, start);
                if with_end {
                    out.push_str(",\"window_end\":");
                    text::write_integer(out, end);
                }
            }
        };
        begin(keys.buffer(), false);
        keys.buffer().push('}');
        keys.end_row();
        match &outcome.values {
            None => values.push_null(),
            Some(results) => {
                let out = values.buffer();
                begin(out, true);
                for (name, result) in names.iter().zip(results) {
                    out.push(',');
                    out.push_str(name);
                    out.push(':');
                    result.to_json().write(out);
                }
                out.push('}');
                values.end_row();
            }
        }
    }
    (Column::json(keys.finish()), Column::json(values.finish()))
}

fn structs(fields: &[FieldRef], outcomes: &[Outcome]) -> Result<(Column, Column)> {
    let number = |name: &str, of: &dyn Fn(&Outcome) -> Option<i64>| -> (FieldRef, ArrayRef) {
        let numbers: Int64Array = outcomes.iter().map(|outcome| Some(of(outcome).unwrap_or_default())).collect();
        (Arc::new(Field::new(name, DataType::Int64, false)), Arc::new(numbers))
    };
    let column = |field: &FieldRef, of: &dyn Fn(&Outcome) -> Answer| -> Result<(FieldRef, ArrayRef)> {
        let failed = |what: String| {
            Error::failed(format!("the result {} cannot be written with the schema of its field: {what}", field.name()))
        };
        // The values are those of a column as a whole, which may have nulls.
        let whole = field.as_ref().clone().with_name("").with_nullable(true);
        let payloads: Vec<String> =
            outcomes.iter().map(|outcome| of(outcome).to_payload(&whole).map_err(failed)).collect::<Result<_>>()?;
        let rows: Vec<Option<&str>> = payloads.iter().map(|text| (text != "null").then_some(text.as_str())).collect();
        let (array, failures) = json::decode(&whole, &rows, &Options::default()).map_err(failed)?;
        match failures.into_iter().next() {
            Some(failure) => Err(failed(failure.message)),
            None => Ok((field.clone(), array)),
        }
    };
    let key = column(&fields[0], &|outcome| outcome.key.clone())?;
    let windowed = outcomes.iter().any(|outcome| outcome.window.is_some());
    let start = windowed.then(|| number("window_start", &|outcome| outcome.window.map(|(start, _)| start)));
    let end = windowed.then(|| number("window_end", &|outcome| outcome.window.map(|(_, end)| end)));
    let keys: Vec<_> = [key.clone()].into_iter().chain(start.clone()).collect();
    let mut values: Vec<_> = [key].into_iter().chain(start).chain(end).collect();
    for (at, field) in fields[1..].iter().enumerate() {
        let of = |outcome: &Outcome| outcome.values.as_ref().map_or(Answer::Null, |values| values[at].clone());
        values.push(column(field, &of)?);
    }
    let nulls: NullBuffer = outcomes.iter().map(|outcome| outcome.values.is_some()).collect();
    Ok((whole(keys, None), whole(values, Some(nulls))))
}

fn whole(columns: Vec<(FieldRef, ArrayRef)>, nulls: Option<NullBuffer>) -> Column {
    let (fields, arrays): (Vec<FieldRef>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let structs = arrow_array::StructArray::new(fields.into(), arrays, nulls);
    Column::new(Field::new("", arrow_array::Array::data_type(&structs).clone(), true), Arc::new(structs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::converter::json::logical;

    #[test]
    fn shapes_are_stored() {
        let time = logical::named(Field::new("key", json::timestamp_type(), false), logical::TIMESTAMP);
        let fields: Vec<FieldRef> = vec![Arc::new(time), Arc::new(Field::new("n", DataType::Int64, true))];
        for shape in
            [Shape { topic: "t".into(), fields: None }, Shape { topic: "topic ü".into(), fields: Some(fields) }]
        {
            assert_eq!(Shape::restore(&shape.to_store().unwrap()), Some(shape));
        }
        assert_eq!(Shape::restore(b"\x02"), None);
    }
}
