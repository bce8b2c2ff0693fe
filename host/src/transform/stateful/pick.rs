//! Values of expressions, quickly where the expression only names a field of a document.

use crate::converter::json::syntax::{Items, Kind, Members};
use crate::converter::json::text;
use crate::expression::{Answer, Expression, Record, Source, Types, Variable};
use crate::transform::json::{Json, Key};
use crate::transform::part::{Part, Target};
use crate::transform::single_message::records::{self, Records};
use arrow_schema::Field;

/// An expression, and the path that it is, if it is one.
pub struct Pick {
    expression: Expression,
    path: Option<(Variable, Vec<(String, Key<'static>)>)>,
}

impl Pick {
    /// Compiles.
    pub fn compile(text: &str) -> Result<Self, String> {
        Ok(Self::new(Expression::compile(text)?))
    }

    fn new(expression: Expression) -> Self {
        let path = expression.path().filter(|(variable, _)| matches!(variable, Variable::Value | Variable::Key)).map(
            |(variable, names)| (variable, names.into_iter().map(|name| (name.to_owned(), Key::new(name))).collect()),
        );
        Self { expression, path }
    }

    /// The expression.
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// Whether documents have to be opened for it beforehand.
    pub fn opens(&self) -> bool {
        self.path.is_none()
    }

    /// Its type, where records have schemas.
    pub fn field(&self, types: &Types) -> Result<Field, String> {
        types.of(&self.expression)
    }

    /// Its value for a record.
    pub fn value(&self, record: &dyn Record) -> Result<Answer, String> {
        if let Some((variable, names)) = &self.path {
            let source = if *variable == Variable::Value { record.value() } else { record.key() };
            if let Source::Json(document) = source {
                match document {
                    None if names.is_empty() => return Ok(Answer::Null),
                    Some(document) => {
                        if let Some(answer) = find(document, names) {
                            return Ok(answer);
                        }
                    }
                    None => {}
                }
                // The expression says what is wrong.
            }
        }
        self.expression.evaluate(record)
    }
}

/// The value at a path; `None`: the expression has to decide.
fn find(json: &Json<'_>, names: &[(String, Key<'static>)]) -> Option<Answer> {
    match (json, names.split_first()) {
        (Json::Text(text), _) => find_in_text(text, names),
        (Json::Object(object), Some(((_, key), rest))) => find(object.get(key)?, rest),
        _ => None,
    }
}

fn find_in_text(raw: &str, names: &[(String, Key<'static>)]) -> Option<Answer> {
    let Some(((name, _), rest)) = names.split_first() else { return answer(raw) };
    let mut found = None;
    for member in Members::of(raw)? {
        let member = member.ok()?;
        let same = if member.escaped { text::unescape(member.key) == *name } else { member.key == name };
        // Of several of one name the last counts.
        if same {
            found = Some(member.value.trim_ascii());
        }
    }
    find_in_text(found?, rest)
}

/// A document as expressions see it.
pub fn answer(raw: &str) -> Option<Answer> {
    Some(match Kind::of(raw) {
        Kind::Null => Answer::Null,
        Kind::Boolean => Answer::Boolean(raw == "true"),
        Kind::String => Answer::Text(text::string_value(raw).into_owned()),
        Kind::Number => match (raw.parse(), raw.parse()) {
            (Ok(number), _) => Answer::Integer(number),
            (_, Ok(number)) => Answer::Unsigned(number),
            _ => Answer::Double(raw.parse().ok()?),
        },
        Kind::Array => {
            let items: Option<Vec<Answer>> = Items::of(raw)?.map(|item| answer(item.ok()?.trim_ascii())).collect();
            Answer::List(items?)
        }
        // In the order that the expression would give.
        Kind::Object => return None,
    })
}

/// The records of a part, with what the expressions need opened.
pub(super) fn opened<'p, 'a>(part: &'p mut Part<'a>, picks: &[&Pick]) -> Records<'p, 'a> {
    let needs = |variable| picks.iter().any(|pick| pick.expression().needs(variable).is_some());
    records::open(part, picks.iter().filter(|pick| pick.opens()).map(|pick| pick.expression()));
    for (target, variable) in [(Target::Key, Variable::Key), (Target::Value, Variable::Value)] {
        if needs(variable) {
            part.open(target);
        }
    }
    Records::of(part, needs(Variable::Headers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::headers::Header;

    struct Document(Option<Json<'static>>);

    impl Record for Document {
        fn value(&self) -> Source<'_> {
            Source::Json(self.0.as_ref())
        }
        fn key(&self) -> Source<'_> {
            Source::Json(None)
        }
        fn headers(&self) -> Box<dyn Iterator<Item = Header<'_>> + '_> {
            Box::new(std::iter::empty())
        }
        fn topic(&self) -> &str {
            "t"
        }
        fn timestamp(&self) -> Option<i64> {
            None
        }
        fn partition(&self) -> Option<i32> {
            None
        }
        fn offset(&self) -> Option<i64> {
            None
        }
    }

    #[test]
    fn the_quick_way_gives_what_the_expression_gives() {
        let documents = [
            r#"{"a":1,"b":{"c":[1,"x",null,{"d":2}]}}"#,
            r#"{"a":1.50,"a":"last","b":{"c":18446744073709551615}}"#,
            r#" {"\u0061" : {"z":1, "y":2} , "b":{}} "#,
            r#"{"a":null,"b":null}"#,
            "[1]",
            "\"text\"",
            "null",
        ];
        for document in documents {
            for expression in ["v.a", "v.b.c", "value", "v.b", "k"] {
                let pick = Pick::compile(expression).unwrap();
                let mut opened = Json::text(document);
                let _ = opened.object();
                let raw = Document(Some(Json::text(document)));
                let expected = pick.expression.evaluate(&Document(Some(opened.clone())));
                assert_eq!(pick.value(&raw), expected, "{expression} of {document}");
                assert_eq!(pick.value(&Document(Some(opened))), expected, "{expression} of opened {document}");
            }
        }
        assert!(!Pick::compile("v.a").unwrap().opens() && Pick::compile("v.a + 1").unwrap().opens());
        assert_eq!(Pick::compile("v").unwrap().value(&Document(None)), Ok(Answer::Null));
    }
}
