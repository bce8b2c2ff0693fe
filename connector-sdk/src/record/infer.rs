//! The schema of structured rows, from the rows themselves.
//!
//! Integers become int64, other numbers float64 (also where both occur), texts utf8, arrays lists, objects structs. Every
//! field is nullable: the next row may lack it. What contradicts itself (a text where a number was) does not merge, and
//! begins a new batch.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields};
use serde_json::Value;

/// What is known of the fields so far, in the order of their first appearance.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inferred(Vec<(String, Kind)>);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Only nulls so far.
    Unknown,
    Boolean,
    Integer,
    Float,
    Text,
    List(Box<Kind>),
    Struct(Inferred),
}

impl Kind {
    fn of(value: &Value) -> Option<Kind> {
        Some(match value {
            Value::Null => Self::Unknown,
            Value::Bool(_) => Self::Boolean,
            Value::Number(number) if number.is_i64() => Self::Integer,
            // Beyond an i64: a float keeps the size, though not each digit.
            Value::Number(_) => Self::Float,
            Value::String(_) => Self::Text,
            Value::Array(items) => {
                Self::List(Box::new(items.iter().try_fold(Self::Unknown, |kind, item| kind.merged(Self::of(item)?))?))
            }
            Value::Object(_) => {
                let mut inferred = Inferred::default();
                if !inferred.try_merge(value) {
                    return None;
                }
                Self::Struct(inferred)
            }
        })
    }

    /// The kind that holds both; `None` when they contradict.
    fn merged(self, other: Kind) -> Option<Kind> {
        Some(match (self, other) {
            (Self::Unknown, kind) | (kind, Self::Unknown) => kind,
            (Self::Integer, Self::Float) | (Self::Float, Self::Integer) => Self::Float,
            (Self::List(a), Self::List(b)) => Self::List(Box::new(a.merged(*b)?)),
            (Self::Struct(mut a), Self::Struct(b)) => {
                for (name, kind) in b.0 {
                    a.add(name, kind)?;
                }
                Self::Struct(a)
            }
            (a, b) if a == b => a,
            _ => return None,
        })
    }

    /// Whether a value is of this kind as it is.
    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null) | (Self::Boolean, Value::Bool(_)) | (Self::Text, Value::String(_)) => true,
            (Self::Integer, Value::Number(number)) => number.is_i64(),
            (Self::Float, Value::Number(_)) => true,
            (Self::List(item), Value::Array(items)) => items.iter().all(|value| item.holds(value)),
            (Self::Struct(inferred), value @ Value::Object(_)) => inferred.holds(value),
            _ => false,
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            // Nothing but nulls: text bears them, and is what most consumers expect.
            Self::Unknown | Self::Text => DataType::Utf8,
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::List(item) => DataType::List(Arc::new(Field::new("item", item.data_type(), true))),
            Self::Struct(inferred) => DataType::Struct(infer_fields(inferred)),
        }
    }
}

impl Inferred {
    fn add(&mut self, name: String, kind: Kind) -> Option<()> {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = known.clone().merged(kind)?,
            None => self.0.push((name, kind)),
        }
        Some(())
    }

    fn try_merge(&mut self, value: &Value) -> bool {
        let Value::Object(members) = value else { return false };
        members.iter().all(|(name, value)| Kind::of(value).and_then(|kind| self.add(name.clone(), kind)).is_some())
    }

    /// Whether a row has nothing new: the common case, decided without a copy.
    fn holds(&self, row: &Value) -> bool {
        let Value::Object(members) = row else { return false };
        members.iter().all(|(name, value)| {
            let known = self.0.iter().find(|(known, _)| known == name);
            known.is_some_and(|(_, kind)| kind.holds(value))
        })
    }

    /// Whether a row fits with those before. One that is no object or contradicts itself does: it fails when it is added.
    pub(super) fn merges(&self, row: &Value) -> bool {
        self.holds(row) || !Inferred::default().try_merge(row) || self.clone().try_merge(row)
    }

    pub(super) fn merge(&mut self, row: &Value) {
        if !self.holds(row) {
            self.try_merge(row);
        }
    }
}

/// The fields of what was inferred.
pub fn infer_fields(inferred: &Inferred) -> Fields {
    inferred.0.iter().map(|(name, kind)| Field::new(name, kind.data_type(), true)).collect()
}
