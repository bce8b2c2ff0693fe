//! The config of `Map`: expressions, and pairs of a name and an expression.

use tributary_sdk::{ConfigDef, ConfigKey, Importance, Result, Type};

use crate::expression::Expression;
use crate::transform::config::{Settings, invalid};
use crate::transform::field_path::FieldPath;

/// The config definition.
pub(super) fn config_def() -> ConfigDef {
    let text = |name: &str, importance, what: &str| ConfigKey::nullable(name, Type::String, importance, what);
    ConfigDef::new()
        .define(text("value", Importance::High, "A CEL expression: the new value. v.after takes a part, {'id': v.id, 'at': timestamp} makes an object."))
        .define(text("fields", Importance::High,
            "Fields of the value to set: name = expression, several separated by ; or line breaks; a.b = expression sets the field b of the field a. optional.none() removes a field of a schemaless value."))
        .define(ConfigKey::optional("remove", Type::List, "", Importance::Medium, "Fields of the value to remove; a.b removes the field b of the field a."))
        .define(text("key", Importance::Medium, "A CEL expression: the new key."))
        .define(text("topic", Importance::Medium, "A CEL expression: the new topic."))
        .define(text("headers", Importance::Medium,
            "Headers to set: name = expression, several separated by ; or line breaks. optional.none() removes a header."))
        .define(text("timestamp", Importance::Low, "A CEL expression: the new timestamp, or milliseconds since the epoch."))
        .define(text("partition", Importance::Low, "A CEL expression: the partition to write to; null: the partitioner decides. Source connectors only."))
}

/// The expression in a key, if there is one.
pub(super) fn expression(settings: &Settings<'_>, key: &str) -> Result<Option<Expression>> {
    let Some(text) = settings.string(key).filter(|text| !text.is_empty()) else { return Ok(None) };
    Expression::compile(text).map(Some).map_err(|what| invalid(key, text, what))
}

/// Names with their expressions.
pub(super) fn pairs(settings: &Settings<'_>, key: &str) -> Result<Vec<(String, Expression)>> {
    let Some(text) = settings.string(key) else { return Ok(Vec::new()) };
    let mut found: Vec<(String, Expression)> = Vec::new();
    for pair in divide(text) {
        let wrong = |what: String| invalid(key, pair, what);
        let at = pair.find('=').filter(|&at| !pair[at + 1..].starts_with('='));
        let Some(at) = at else { return Err(wrong("it has to be name = expression".to_owned())) };
        let (name, text) = (pair[..at].trim(), &pair[at + 1..]);
        if name.is_empty() {
            return Err(wrong("the name before = is missing".to_owned()));
        }
        if found.iter().any(|(known, _)| known == name) {
            return Err(wrong(format!("{name} is set twice")));
        }
        found.push((name.to_owned(), Expression::compile(text).map_err(wrong)?));
    }
    Ok(found)
}

/// Paths to fields with their expressions.
pub(super) fn paths(settings: &Settings<'_>, key: &str) -> Result<Vec<(FieldPath, Expression)>> {
    pairs(settings, key)?.into_iter().map(|(name, expression)| Ok((path(key, &name)?, expression))).collect()
}

/// A path to a field: `a.b`, or `` `a.b` `` for a name with a dot.
pub(super) fn path(key: &str, text: &str) -> Result<FieldPath> {
    let found = FieldPath::parse(text).map_err(|error| invalid(key, text, error))?;
    if found.names().any(str::is_empty) {
        return Err(invalid(
            key,
            text,
            "a name is missing beside a dot; a name that has dots stands between backticks",
        ));
    }
    Ok(found)
}

/// At semicolons and line breaks that stand neither in quotes nor in parentheses.
fn divide(text: &str) -> Vec<&str> {
    let (mut depth, mut quote, mut escaped, mut from) = (0_usize, None, false, 0);
    let mut found = Vec::new();
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, ';' | '\n') if depth == 0 => {
                found.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(&text[from..]);
    found.into_iter().map(str::trim).filter(|pair| !pair.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_divided_outside_quotes_and_parentheses() {
        assert_eq!(divide("a = 'x;y' ; b={'c': 1;}\n\nd = \"\\\";\""), ["a = 'x;y'", "b={'c': 1;}", "d = \"\\\";\""]);
        assert!(divide(" ; \n").is_empty());
    }
}
