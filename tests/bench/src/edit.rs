//! What the plain loops do with a value: what a worker does with the same config, written by hand on serde_json's tree.

use clap::ValueEnum;
use serde_json::{Map, Value};
use tributary_harness::{Error, Result};

use crate::job::{Conversion, Direction};

/// How a value is changed on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Edit {
    /// Not at all.
    Copy,
    /// A line becomes a JSON string.
    Quote,
    /// A document is read and written.
    Parse,
    /// Hoist, insert, rename: a line becomes `{"text": line, "origin": "bench"}`.
    Wrap,
    /// Insert, drop, mask: a document gets a field, loses one, and one is emptied.
    Rework,
}

impl Edit {
    /// What a job's conversion is.
    pub fn of(direction: Direction, conversion: Conversion) -> Self {
        match (conversion, direction) {
            (Conversion::Strings, _) => Self::Copy,
            (Conversion::Json, Direction::Source) => Self::Quote,
            (Conversion::Json, Direction::Sink) => Self::Parse,
            (Conversion::Transforms, Direction::Source) => Self::Wrap,
            (Conversion::Transforms, Direction::Sink) => Self::Rework,
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().expect("no edit is skipped").get_name().to_owned()
    }

    /// Appends the changed value.
    pub fn apply(self, value: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Copy => out.extend_from_slice(value),
            Self::Quote => serde_json::to_writer(out, text(value)?)?,
            Self::Parse => serde_json::to_writer(out, &serde_json::from_slice::<Value>(value)?)?,
            Self::Wrap => {
                let mut record = Map::new();
                record.insert("line".into(), text(value)?.into());
                record.insert("origin".into(), "bench".into());
                let line = record.remove("line").unwrap_or_default();
                let mut renamed = Map::new();
                renamed.insert("text".into(), line);
                renamed.extend(record);
                serde_json::to_writer(out, &renamed)?;
            }
            Self::Rework => {
                let mut record: Map<String, Value> = serde_json::from_slice(value)?;
                record.insert("origin".into(), "bench".into());
                record.shift_remove("pad");
                if let Some(user) = record.get_mut("user") {
                    *user = Value::String(String::new());
                }
                serde_json::to_writer(out, &record)?;
            }
        }
        Ok(())
    }
}

fn text(value: &[u8]) -> Result<&str> {
    std::str::from_utf8(value).map_err(|error| Error::new(format!("a line is no UTF-8: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_what_the_transforms_make() {
        let made = |edit: Edit, value: &str| {
            let mut out = Vec::new();
            edit.apply(value.as_bytes(), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(made(Edit::Copy, "a\"b"), "a\"b");
        assert_eq!(made(Edit::Quote, "a\"b"), "\"a\\\"b\"");
        assert_eq!(made(Edit::Wrap, "a"), r#"{"text":"a","origin":"bench"}"#);
        let line = r#"{"seq":1,"user":"u1","pad":"xx","amount":1.5}"#;
        assert_eq!(made(Edit::Parse, line), line);
        assert_eq!(made(Edit::Rework, line), r#"{"seq":1,"user":"","amount":1.5,"origin":"bench"}"#);
    }
}
