//! `InsertHeader`: adds a header with a fixed value to each record. The value's type is that of its text (`7` is an int8).

use tributary_sdk::config_def::Validator;
use tributary_sdk::{ConfigDef, ConfigKey, Importance, Result, Type};

use super::SingleMessage;
use crate::converter::values;
use crate::transform::config::Settings;
use crate::transform::headers::{Header, Headers, HeadersBuilder};
use crate::transform::part::{Outcome, Part, Target};

/// See the module's documentation.
pub struct InsertHeader {
    key: String,
    schema: Option<String>,
    value: Option<Vec<u8>>,
}

impl InsertHeader {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        ConfigDef::new()
            .define(
                ConfigKey::required("header", Type::String, Importance::High, "The header's name.")
                    .validator(Validator::NonNull),
            )
            .define(
                ConfigKey::required("value.literal", Type::String, Importance::High, "The header's value.")
                    .validator(Validator::NonNull),
            )
    }

    /// Takes its config.
    pub fn build(_target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let typed = values::parse(settings.text("value.literal"));
        Ok(Box::new(Self {
            key: settings.text("header").to_owned(),
            schema: typed.as_ref().map(|typed| typed.schema.clone().into_owned()),
            value: typed.map(|typed| typed.text.into_owned().into_bytes()),
        }))
    }
}

impl SingleMessage for InsertHeader {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        let known = part.headers();
        let known = Headers::of(known.as_ref());
        let mut headers = HeadersBuilder::new(part.rows.len());
        for row in 0..part.rows.len() {
            known.row(row).for_each(|header| headers.push(header));
            headers.push(Header { key: &self.key, schema: self.schema.as_deref(), value: self.value.as_deref() });
            headers.end_row();
        }
        part.headers = Some(headers.finish());
        outcome.push(part);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_in_kafka_connect() {
        super::super::cases::check(include_str!("cases/insert_header.json"));
    }
}
