//! Single-message transforms, one a file: Kafka Connect's, each with its cases checked against the Java class, and some more.

#[cfg(test)]
pub(super) mod cases;
mod cast;
mod change_fields;
mod condition_filter;
mod drop_headers;
mod extract_field;
mod filter;
mod flatten;
mod header_from;
mod hoist_field;
mod insert_field;
mod insert_header;
mod map;
mod map_config;
mod map_structured;
mod mask_field;
mod new_record_columns;
mod new_record_state;
mod parse_json;
pub(super) mod records;
mod regex_replace;
mod regex_router;
mod replace_field;
mod scalar;
mod set_schema_metadata;
mod split;
mod timestamp_converter;
mod timestamp_router;
mod validate;
mod value_to_key;

use tributary_sdk::{ConfigKey, Importance, Type};

use super::part::{Outcome, Part};

pub use cast::Cast;
pub use condition_filter::ConditionFilter;
pub use drop_headers::DropHeaders;
pub use extract_field::ExtractField;
pub use filter::Filter;
pub use flatten::Flatten;
pub use header_from::HeaderFrom;
pub use hoist_field::HoistField;
pub use insert_field::InsertField;
pub use insert_header::InsertHeader;
pub use map::Map;
pub use mask_field::MaskField;
pub use new_record_state::ExtractNewRecordState;
pub use parse_json::ParseJson;
pub use regex_replace::RegexReplace;
pub use regex_router::RegexRouter;
pub use replace_field::ReplaceField;
pub use set_schema_metadata::SetSchemaMetadata;
pub use split::Split;
pub use timestamp_converter::TimestampConverter;
pub use timestamp_router::TimestampRouter;
pub use validate::Validate;
pub use value_to_key::ValueToKey;

/// A transform that looks at nothing but the record.
pub trait SingleMessage: Send {
    /// Takes rows and says what goes on, what is refused and how many were dropped.
    fn apply<'a>(&'a self, part: Part<'a>, outcome: &mut Outcome<'a>);
}

/// The key that many transforms have.
fn replace_nulls() -> ConfigKey {
    ConfigKey::optional(
        "replace.null.with.default",
        Type::Boolean,
        "true",
        Importance::Medium,
        "Whether a null in a field that has a default becomes the default.",
    )
}
