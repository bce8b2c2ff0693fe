//! `RegexReplace`: replaces what matches an expression in text, of the whole key or value or of one field. Not one of Kafka
//! Connect's.
//!
//! Null, and values that are no text, go on as they are; in structured data a field that is no text refuses the records.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, StringArray};
use arrow_schema::DataType;
use tributary_sdk::config_def::Validator;
use tributary_sdk::{Column, ConfigDef, ConfigKey, Form, Importance, Pattern, Result, Type};

use super::SingleMessage;
use crate::transform::config::{Settings, invalid};
use crate::transform::json::{Json, Key};
use crate::transform::part::{Opened, Outcome, Part, Side, Target, require_map};
use crate::transform::replacement::Replacement;
use crate::transform::structs::java_class;

const PURPOSE: &str = "replacing text";

/// See the module's documentation.
pub struct RegexReplace {
    target: Target,
    /// `None`: the whole key or value.
    field: Option<(String, Key<'static>)>,
    regex: Pattern,
    replacement: Replacement,
}

impl RegexReplace {
    /// The config definition.
    pub fn config_def() -> ConfigDef {
        let replacement = "What stands in place of each match, blanks included; $1 is the first group of the expression, ${name} a named one.";
        ConfigDef::new()
            .define(ConfigKey::optional(
                "field",
                Type::String,
                "",
                Importance::High,
                "The field; empty: the whole key or value.",
            ))
            .define(
                ConfigKey::required("regex", Type::String, Importance::High, "The expression to look for.")
                    .validator(Validator::Regex),
            )
            .define(ConfigKey::required("replacement", Type::String, Importance::High, replacement))
    }

    /// Takes its config.
    pub fn build(target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let regex = settings.regex("regex")?;
        let text = settings.as_written("replacement");
        let replacement = Replacement::new(text, &regex).map_err(|what| invalid("replacement", text, what))?;
        let field = Some(settings.text("field")).filter(|name| !name.is_empty());
        let field = field.map(|name| (name.to_owned(), Key::new(name)));
        Ok(Box::new(Self { target, field, regex, replacement }))
    }

    fn replace_json<'a>(&self, value: &mut Json<'a>) -> std::result::Result<(), String> {
        let Some(text) = value.as_str() else { return Ok(()) };
        let replaced = self.replacement.replace_all(&self.regex, &text)?;
        if let Some(replaced) = replaced {
            *value = Json::string(&replaced);
        }
        Ok(())
    }

    /// Where the expression was given up, the text stays, and the row is named.
    fn replace_column(&self, column: &ArrayRef) -> (ArrayRef, Vec<(usize, String)>) {
        let mut refused = Vec::new();
        let replaced = |(row, text): (usize, Option<&str>)| {
            let text = text?;
            let replaced = self.replacement.replace_all(&self.regex, text);
            let replaced = replaced.unwrap_or_else(|message| {
                refused.push((row, message));
                None
            });
            Some(replaced.unwrap_or_else(|| text.to_owned()))
        };
        let replaced = column.as_string::<i32>().iter().enumerate().map(replaced).collect::<StringArray>();
        (Arc::new(replaced), refused)
    }
}

impl SingleMessage for RegexReplace {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        if part.is_json(self.target) {
            let part = part.edit_json(self.target, outcome, |_, json| {
                match (&self.field, &mut *json) {
                    (_, None) => {}
                    (None, Some(document)) => return self.replace_json(document),
                    (Some((_, key)), Some(_)) => {
                        if let Some(value) = require_map(json, PURPOSE)?.get_mut(key) {
                            return self.replace_json(value);
                        }
                    }
                }
                Ok(())
            });
            return outcome.push(part);
        }
        let Some((name, _)) = &self.field else {
            if let Opened::Column(column) = part.open(self.target)
                && column.form() == Form::Text
            {
                let (replaced, refused) = self.replace_column(column.array());
                let replaced = Column::new(column.field().clone(), replaced);
                part.set(self.target, Side::Column(replaced));
                let part = part.refuse(refused, outcome);
                return outcome.push(part);
            }
            return outcome.push(part);
        };
        part.edit_struct(self.target, PURPOSE, false, outcome, |_, mut structs, refused| {
            if let Some(at) = structs.position(name) {
                if *structs.fields[at].data_type() != DataType::Utf8 {
                    let class = java_class(&structs.fields[at]);
                    return Err(format!("field {name} is no text, but {class}; Cast it to string first"));
                }
                let (replaced, given_up) = self.replace_column(&structs.columns[at]);
                refused.extend(given_up);
                structs.columns[at] = replaced;
            }
            Ok(structs.close())
        });
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::StringArray;
    use tributary_sdk::Column;

    use crate::transform::tests::{chain, json_batch, values};

    const CARD: [(&str, &str); 4] = [
        ("transforms", "r"),
        ("transforms.r.type", "RegexReplace$Value"),
        ("transforms.r.regex", r"(\d{4})-\d{4}"),
        ("transforms.r.replacement", "$1-****"),
    ];

    #[test]
    fn matches_are_replaced_in_text_and_fields() {
        let mut batch = json_batch(&[None; 2]);
        batch.value = Column::text(StringArray::from(vec![Some("1234-5678, 1111-2222"), None]));
        let applied = chain(&CARD).apply(batch).unwrap();
        assert_eq!(values(&applied), [Some("1234-****, 1111-****".to_owned()), None]);

        let mut field = chain(&[&CARD[..], &[("transforms.r.field", "f")]].concat());
        let rows = [Some(r#"{"f":"\"1234-5678\""}"#), Some(r#"{"f":12345678,"g":"1234-5678"}"#), Some("{}"), None];
        let applied = field.apply(json_batch(&rows)).unwrap();
        let expected = [Some(r#"{"f":"\"1234-****\""}"#), rows[1], rows[2], None].map(|text| text.map(str::to_owned));
        assert_eq!(values(&applied), expected);
        assert_eq!(applied.failures, []);
    }

    #[test]
    fn a_record_on_which_the_expression_tries_too_long_is_refused() {
        let runaway = [
            ("transforms", "r"),
            ("transforms.r.type", "RegexReplace$Value"),
            ("transforms.r.regex", r"^(a|aa)+\1$"),
            ("transforms.r.replacement", "-"),
        ];
        let long = "a".repeat(60) + "!";
        let mut batch = json_batch(&[None; 3]);
        batch.value = Column::text(StringArray::from(vec![Some("aaa"), Some(long.as_str()), Some("b")]));
        let applied = chain(&runaway).apply(batch).unwrap();
        assert_eq!(values(&applied), [Some("-".to_owned()), Some("b".to_owned())]);
        let [failure] = &applied.failures[..] else { panic!("{:?}", applied.failures) };
        assert!(failure.row == 1 && failure.message.contains("was given up"), "{failure:?}");

        let (row, mut field) =
            (format!(r#"{{"f":"{long}"}}"#), chain(&[&runaway[..], &[("transforms.r.field", "f")]].concat()));
        let applied = field.apply(json_batch(&[Some(r#"{"f":"aaa"}"#), Some(&row)])).unwrap();
        assert_eq!((values(&applied).len(), applied.failures[0].row), (1, 1));
    }
}
