//! `DropHeaders`: removes all headers of some names.

use tributary_sdk::config_def::Validator;
use tributary_sdk::{ConfigDef, ConfigKey, Importance, Result, Type};

use super::SingleMessage;
use crate::transform::config::Settings;
use crate::transform::headers::{Headers, HeadersBuilder};
use crate::transform::part::{Outcome, Part, Target};

/// See the module's documentation.
pub struct DropHeaders {
    names: Vec<String>,
}

impl DropHeaders {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        let headers =
            ConfigKey::required("headers", Type::List, Importance::High, "The names of the headers to remove.");
        ConfigDef::new().define(headers.validator(Validator::NonEmpty))
    }

    /// Takes its config.
    pub fn build(_target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        Ok(Box::new(Self { names: settings.list("headers").into_iter().map(str::to_owned).collect() }))
    }
}

impl SingleMessage for DropHeaders {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        let Some(known) = part.headers() else { return outcome.push(part) };
        let known = Headers::of(Some(&known));
        let mut headers = HeadersBuilder::new(part.rows.len());
        for row in 0..part.rows.len() {
            let kept = known.row(row).filter(|header| !self.names.iter().any(|name| name == header.key));
            kept.for_each(|header| headers.push(header));
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
        super::super::cases::check(include_str!("cases/drop_headers.json"));
    }
}
