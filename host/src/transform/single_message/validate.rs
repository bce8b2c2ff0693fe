//! `Validate`: refuses keys or values that do not match a JSON Schema.
//!
//! A refused record is treated as `errors.tolerance` says (the task fails, or the record is skipped or dead-lettered), and its error
//! says where in the value, and why. Structured values are judged as the JSON that a converter without schemas would write. Null (a
//! tombstone) goes on unless `null` is `reject`. Schemas are complete in themselves: a `$ref` to another document is refused.

use arrow_array::Array;
use jsonschema::{Draft, Validator as Schema};
use serde_json::Value;
use tributary_sdk::config_def::Validator;
use tributary_sdk::{Column, ConfigDef, ConfigKey, Error, Importance, Result, Type};

use super::SingleMessage;
use crate::converter::json::{Encoder, Options};
use crate::transform::config::{Settings, invalid};
use crate::transform::json::Json;
use crate::transform::part::{Opened, Outcome, Part, Target};

/// Reasons that one error tells.
const MAX_REASONS: usize = 3;
/// Characters of a reason, which may hold the value.
const MAX_REASON: usize = 300;

/// See the module's documentation.
pub struct Validate {
    target: Target,
    schema: Schema,
    rejects_null: bool,
}

impl Validate {
    /// The config definition.
    pub fn config_def() -> ConfigDef {
        let one_of = |names: &[&str]| Validator::OneOf(names.iter().map(|&name| name.to_owned()).collect());
        let schema = "The JSON Schema itself. A file's content comes with a config provider: ${file:…} or ${dir:…}.";
        let draft =
            "How the schema is read: auto (by its $schema, 2020-12 where it has none), 2020-12, 2019-09, 7, 6 or 4.";
        ConfigDef::new()
            .define(ConfigKey::required("schema", Type::String, Importance::High, schema))
            .define(
                ConfigKey::optional("draft", Type::String, "auto", Importance::Low, draft)
                    .validator(one_of(&["auto", "2020-12", "2019-09", "7", "6", "4"])),
            )
            .define(
                ConfigKey::optional("null", Type::String, "accept", Importance::Low,
                    "What becomes of a null (a tombstone): accept or reject.")
                .validator(one_of(&["accept", "reject"])),
            )
            .define(ConfigKey::optional("formats", Type::Boolean, "false", Importance::Low,
                "Whether format (date-time, email, uuid, …) is checked. By itself JSON Schema takes it as a remark since 2019-09."))
    }

    /// Takes its config.
    pub fn build(target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let text = settings.text("schema");
        let wrong = |what: String| Error::failed(format!("Invalid value for configuration schema: {what}"));
        let schema: Value = serde_json::from_str(text).map_err(|error| wrong(format!("it is no JSON: {error}")))?;
        let mut options = jsonschema::options().offline();
        options = match settings.text("draft") {
            "2020-12" => options.with_draft(Draft::Draft202012),
            "2019-09" => options.with_draft(Draft::Draft201909),
            "7" => options.with_draft(Draft::Draft7),
            "6" => options.with_draft(Draft::Draft6),
            "4" => options.with_draft(Draft::Draft4),
            _ => options,
        };
        if settings.boolean("formats")? {
            options = options.should_validate_formats(true);
        }
        let schema = options.build(&schema).map_err(|error| {
            let at = error.instance_path().to_string();
            let at = if at.is_empty() { String::new() } else { format!(" at {at}") };
            wrong(format!("it is no JSON Schema{at}: {error}"))
        })?;
        let rejects_null = settings.text("null") == "reject";
        if !matches!(settings.text("null"), "accept" | "reject") {
            return Err(invalid("null", settings.text("null"), "accept or reject"));
        }
        Ok(Box::new(Self { target, schema, rejects_null }))
    }

    fn side(&self) -> &'static str {
        if self.target == Target::Key { "key" } else { "value" }
    }

    fn check(&self, value: &Value) -> std::result::Result<(), String> {
        if self.schema.is_valid(value) {
            return Ok(());
        }
        let mut errors = self.schema.iter_errors(value);
        let mut reasons: Vec<String> = Vec::new();
        for error in errors.by_ref().take(MAX_REASONS) {
            let at = error.instance_path().to_string();
            let at = if at.is_empty() { "the whole".to_owned() } else { at };
            let mut reason = error.to_string();
            if let Some((cut, _)) = reason.char_indices().nth(MAX_REASON) {
                reason.truncate(cut);
                reason.push('…');
            }
            reasons.push(format!("at {at}: {reason} (schema {})", error.schema_path()));
        }
        let more = errors.count();
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        Err(format!("the {} does not match the schema: {}{more}", self.side(), reasons.join("; ")))
    }

    /// What is wrong with each row. The error is of the column as a whole.
    fn judge_column(&self, column: &Column) -> std::result::Result<Vec<std::result::Result<(), String>>, String> {
        let options = Options { numeric_decimals: true, ..Options::default() };
        let encoder = Encoder::new(column.field(), column.array().as_ref(), &options)?;
        let mut text = String::new();
        let mut judge = |at: usize| {
            if column.array().is_null(at) {
                return self.null();
            }
            text.clear();
            encoder.write(at, &mut text)?;
            let value: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            self.check(&value)
        };
        Ok((0..column.len()).map(&mut judge).collect())
    }

    fn null(&self) -> std::result::Result<(), String> {
        if self.rejects_null { Err(format!("the {} is null, and null=reject", self.side())) } else { Ok(()) }
    }
}

/// A document as a tree. What nobody has opened is parsed here.
fn tree(json: &Json<'_>) -> std::result::Result<Value, String> {
    Ok(match json {
        Json::Text(text) => {
            serde_json::from_str(text).map_err(|error| format!("the value is not valid JSON: {error}"))?
        }
        Json::Array(items) => Value::Array(items.iter().map(tree).collect::<std::result::Result<_, _>>()?),
        Json::Object(object) => Value::Object(
            object
                .members()
                .iter()
                .map(|(key, value)| Ok((key.name().into_owned(), tree(value)?)))
                .collect::<std::result::Result<_, String>>()?,
        ),
    })
}

impl SingleMessage for Validate {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        let judged = match part.open(self.target) {
            Opened::Json(documents) => {
                let judge = |document: &Option<Json<'a>>| match document {
                    None => self.null(),
                    Some(document) => tree(document).and_then(|value| self.check(&value)),
                };
                Ok(documents.iter().map(judge).collect())
            }
            Opened::Column(column) => self.judge_column(column),
        };
        match judged {
            Ok(results) => {
                let refused =
                    results.into_iter().enumerate().filter_map(|(at, result)| Some((at, result.err()?))).collect();
                let part = part.refuse(refused, outcome);
                outcome.push(part);
            }
            Err(message) => part.refuse_all(self.target, &message, outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::transform::tests::{chain, json_batch, values};

    #[test]
    fn records_that_do_not_match_are_refused_with_path_and_reason() {
        let mut chain = chain(&[
            ("transforms", "s"),
            ("transforms.s.type", "tributary.transforms.Validate$Value"),
            (
                "transforms.s.schema",
                r#"{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"tags":{"type":"array","items":{"type":"string"}}}}"#,
            ),
        ]);
        let good = r#"{"id":1,"tags":["a"]}"#;
        let rows = [Some(good), Some(r#"{"id":"x","tags":["a",2]}"#), None, Some("[]"), Some("{}")];
        let applied = chain.apply(json_batch(&rows)).unwrap();
        assert_eq!(values(&applied), [Some(good.to_owned()), None]);
        let messages: Vec<&str> = applied.failures.iter().map(|failure| failure.message.as_str()).collect();
        assert_eq!(applied.failures.iter().map(|failure| failure.row).collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!(
            messages,
            [
                "the value does not match the schema: at /id: \"x\" is not of type \"integer\" (schema /properties/id/type); \
                 at /tags/1: 2 is not of type \"string\" (schema /properties/tags/items/type)",
                "the value does not match the schema: at the whole: [] is not of type \"object\" (schema /type)",
                "the value does not match the schema: at the whole: \"id\" is a required property (schema /required)",
            ]
        );
    }
}
