//! Values of several types: Confluent's JSON Schema converter has a struct with a member for each type, of which one is set.
//!
//! Which member a value is of is decided as there: the first whose type the value has; among objects, the struct that shares the
//! most names with it, the earlier one of equals.

use arrow_schema::{DataType, Field, Fields};
use tributary_sdk::batch::{SCHEMA_NAME, SCHEMA_PARAMETERS};

use super::schema::logical;
use super::syntax::{Kind, Members};
use super::text;

/// The name of such structs.
pub const ONE_OF: &str = "io.confluent.connect.json.OneOf";
/// The parameter of such structs with `generalized.sum.type.support`, whose value is their name.
pub const GENERAL_UNION: &str = "org.apache.kafka.connect.data.Union";

/// Whether a struct is one.
pub fn is_union(field: &Field) -> bool {
    let metadata = field.metadata();
    metadata.get(SCHEMA_NAME).is_some_and(|name| name == ONE_OF)
        || metadata
            .get(SCHEMA_PARAMETERS)
            .and_then(|text| serde_json::from_str::<serde_json::Map<_, _>>(text).ok())
            .is_some_and(|parameters: serde_json::Map<String, serde_json::Value>| {
                parameters.contains_key(GENERAL_UNION)
            })
}

/// The member that a value, which is not null, belongs to.
pub(super) fn member_of(fields: &Fields, value: &str) -> Option<usize> {
    let kind = Kind::of(value);
    let mut best: Option<(usize, usize)> = None;
    for (index, field) in fields.iter().enumerate() {
        let fits = match field.data_type() {
            DataType::Struct(members) if kind == Kind::Object => {
                let shared = shared_names(members, value);
                if best.is_none_or(|(_, most)| shared > most) {
                    best = Some((index, shared));
                }
                false
            }
            DataType::Struct(_) => false,
            DataType::Boolean => kind == Kind::Boolean,
            DataType::Float32 | DataType::Float64 => kind == Kind::Number,
            DataType::Utf8 => kind == Kind::String,
            // Numbers as well with decimal.format=NUMERIC.
            DataType::Binary if is_decimal(field) => matches!(kind, Kind::Number | Kind::String),
            DataType::Binary => kind == Kind::String,
            DataType::List(_) => kind == Kind::Array,
            DataType::Map(..) => matches!(kind, Kind::Object | Kind::Array),
            _ => kind == Kind::Number && !value.contains(['.', 'e', 'E']),
        };
        if fits {
            return Some(index);
        }
    }
    best.map(|(index, _)| index)
}

fn is_decimal(field: &Field) -> bool {
    field.metadata().get(SCHEMA_NAME).is_some_and(|name| name == logical::DECIMAL)
}

fn shared_names(members: &Fields, object: &str) -> usize {
    let Some(found) = Members::of(object) else { return 0 };
    let mut names: Vec<_> = found
        .map_while(Result::ok)
        .map(|member| if member.escaped { text::unescape(member.key) } else { member.key.into() })
        .collect();
    names.sort_unstable();
    names.dedup();
    names.iter().filter(|name| members.iter().any(|field| field.name() == name.as_ref())).count()
}
