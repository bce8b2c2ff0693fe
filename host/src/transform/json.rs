//! Schemaless JSON, opened only as far as a transform looks.
//!
//! What nobody has looked into is the text it came in (so numbers keep their digits and objects their order). Keys may repeat
//! in an object: the last one counts, and changing or removing a field changes or removes all of its name.

use std::borrow::Cow;

use crate::converter::json::syntax::{Items, Kind, Members, SyntaxError};
use crate::converter::json::text;

#[cfg(test)]
thread_local! {
    /// Objects that this thread has opened.
    pub(super) static OPENED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// A JSON value.
#[derive(Debug, Clone)]
pub enum Json<'a> {
    /// Checked text without whitespace around it.
    Text(Cow<'a, str>),
    /// An opened object.
    Object(Object<'a>),
    /// An opened array.
    Array(Vec<Json<'a>>),
}

/// The members of an object.
#[derive(Debug, Clone, Default)]
pub struct Object<'a> {
    members: Vec<(Key<'a>, Json<'a>)>,
}

/// A member's name as it stands between quotes, escaped in the one way that [`text::write_escaped`] does: equal names are equal text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key<'a>(Cow<'a, str>);

impl Key<'static> {
    /// Of a name.
    pub fn new(name: &str) -> Self {
        let mut escaped = String::with_capacity(name.len());
        text::write_escaped(&mut escaped, name);
        Self(Cow::Owned(escaped))
    }
}

impl<'a> Key<'a> {
    /// The same, without a copy.
    pub fn borrowed(&'a self) -> Key<'a> {
        Key(Cow::Borrowed(&self.0))
    }

    /// This name, `between` and another name as one.
    pub fn joined(&self, between: &Key<'_>, other: &Key<'_>) -> Key<'static> {
        Key(Cow::Owned([&*self.0, &*between.0, &*other.0].concat()))
    }

    /// The name.
    pub fn name(&self) -> Cow<'_, str> {
        text::unescape(&self.0)
    }
}

impl<'a> Json<'a> {
    /// The JSON value `null`.
    pub const NULL: Json<'static> = Json::Text(Cow::Borrowed("null"));

    /// Checked text.
    pub fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text.trim_ascii()))
    }

    /// The same, without copying text.
    pub fn borrowed(&self) -> Json<'_> {
        match self {
            Self::Text(text) => Json::Text(Cow::Borrowed(text)),
            other => other.clone(),
        }
    }

    /// A JSON string of a value.
    pub fn string(value: &str) -> Self {
        Self::Text(Cow::Owned(text::string(value)))
    }

    /// A JSON number.
    pub fn integer(value: i64) -> Self {
        let mut text = String::with_capacity(20);
        text::write_integer(&mut text, value);
        Self::Text(Cow::Owned(text))
    }

    /// What kind of value it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Text(text) => Kind::of(text),
            Self::Object(_) => Kind::Object,
            Self::Array(_) => Kind::Array,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Text(text) if text == "null")
    }

    /// The value of a string; `None` for other kinds.
    pub fn as_str(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) if text.starts_with('"') => Some(text::string_value(text)),
            _ => None,
        }
    }

    /// Opens an object; `Ok(None)` for other kinds. The error is of text that was not checked.
    pub fn object(&mut self) -> Result<Option<&mut Object<'a>>, SyntaxError> {
        if let Self::Text(text) = self {
            let opened = match text {
                Cow::Borrowed(text) => Object::open(text)?,
                Cow::Owned(text) => Object::open(text)?.map(Object::into_owned),
            };
            match opened {
                Some(object) => *self = Self::Object(object),
                None => return Ok(None),
            }
        }
        match self {
            Self::Object(object) => Ok(Some(object)),
            _ => Ok(None),
        }
    }

    /// Opens an array; `Ok(None)` for other kinds. The error is of text that was not checked.
    pub fn array(&mut self) -> Result<Option<&mut Vec<Json<'a>>>, SyntaxError> {
        if let Self::Text(text) = self {
            let items =
                |text| Items::of(text).map(|items| items.map(|item| item.map(Json::text)).collect()).transpose();
            let opened: Option<Vec<Json<'_>>> = match text {
                Cow::Borrowed(text) => items(text)?,
                Cow::Owned(text) => match Items::of(text) {
                    Some(items) => Some(
                        items
                            .map(|item| item.map(|item| Json::Text(Cow::Owned(item.to_owned()))))
                            .collect::<Result<_, _>>()?,
                    ),
                    None => None,
                },
            };
            match opened {
                Some(items) => *self = Self::Array(items),
                None => return Ok(None),
            }
        }
        match self {
            Self::Array(items) => Ok(Some(items)),
            _ => Ok(None),
        }
    }

    /// Appends the text.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Text(text) => out.push_str(text),
            Self::Object(object) => {
                if object.members.is_empty() {
                    out.push('{');
                }
                for (i, (key, value)) in object.members.iter().enumerate() {
                    out.push_str(if i == 0 { "{\"" } else { ",\"" });
                    out.push_str(&key.0);
                    out.push_str("\":");
                    value.write(out);
                }
                out.push('}');
            }
            Self::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
        }
    }

    /// The same value with its own text.
    pub fn into_owned(self) -> Json<'static> {
        match self {
            Self::Text(text) => Json::Text(Cow::Owned(text.into_owned())),
            Self::Object(object) => Json::Object(object.into_owned()),
            Self::Array(items) => Json::Array(items.into_iter().map(Json::into_owned).collect()),
        }
    }

    /// The Java class that Kafka Connect has for such a value; its messages show it.
    pub fn java_class(&self) -> &'static str {
        match (self.kind(), self) {
            (Kind::Null, _) => "null",
            (Kind::Boolean, _) => "java.lang.Boolean",
            (Kind::Number, Self::Text(text)) if text.contains(['.', 'e', 'E']) => "java.lang.Double",
            (Kind::Number, _) => "java.lang.Long",
            (Kind::String, _) => "java.lang.String",
            (Kind::Array, _) => "java.util.ArrayList",
            (Kind::Object, _) => "java.util.HashMap",
        }
    }
}

impl std::fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        self.write(&mut text);
        f.write_str(&text)
    }
}

impl<'a> Object<'a> {
    fn open(text: &'a str) -> Result<Option<Self>, SyntaxError> {
        let Some(found) = Members::of(text) else { return Ok(None) };
        #[cfg(test)]
        OPENED.set(OPENED.get() + 1);
        // One allocation for most records; three of the usual growth steps otherwise.
        let mut members = Vec::with_capacity(12);
        for member in found {
            let member = member?;
            let key = match member.escaped {
                false => Key(Cow::Borrowed(member.key)),
                true => Key::new(&text::unescape(member.key)),
            };
            members.push((key, Json::Text(Cow::Borrowed(member.value))));
        }
        Ok(Some(Self { members }))
    }

    fn into_owned(self) -> Object<'static> {
        let owned = |(key, value): (Key<'a>, Json<'a>)| (Key(Cow::Owned(key.0.into_owned())), value.into_owned());
        Object { members: self.members.into_iter().map(owned).collect() }
    }

    /// The value of a field.
    pub fn get(&self, key: &Key<'_>) -> Option<&Json<'a>> {
        self.members.iter().rev().find(|(known, _)| known.0 == key.0).map(|(_, value)| value)
    }

    /// The value of a field.
    pub fn get_mut(&mut self, key: &Key<'_>) -> Option<&mut Json<'a>> {
        self.members.iter_mut().rev().find(|(known, _)| known.0 == key.0).map(|(_, value)| value)
    }

    /// Changes a field where it stands, or adds it at the end.
    pub fn set(&mut self, key: Key<'a>, value: Json<'a>) {
        match self.get_mut(&key) {
            Some(known) => *known = value,
            None => self.members.push((key, value)),
        }
    }

    /// Takes a field out.
    pub fn remove(&mut self, key: &Key<'_>) -> Option<Json<'a>> {
        let at = self.members.iter().rposition(|(known, _)| known.0 == key.0)?;
        let (_, value) = self.members.remove(at);
        self.members.retain(|(known, _)| known.0 != key.0);
        Some(value)
    }

    /// Name and value of each member.
    pub fn members(&self) -> &[(Key<'a>, Json<'a>)] {
        &self.members
    }

    /// Name and value of each member.
    pub fn members_mut(&mut self) -> &mut Vec<(Key<'a>, Json<'a>)> {
        &mut self.members
    }
}

impl<'a> FromIterator<(Key<'a>, Json<'a>)> for Object<'a> {
    fn from_iter<I: IntoIterator<Item = (Key<'a>, Json<'a>)>>(members: I) -> Self {
        Self { members: members.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_changed_where_they_stand() {
        let mut json = Json::text(r#" {"a": 1.10, "b\u0041":{"x" : [1, 2]}, "a":2} "#);
        let object = json.object().unwrap().unwrap();
        assert_eq!(object.get(&Key::new("a")).unwrap().to_string(), "2");
        object.set(Key::new("q\"q"), Json::string("v\n"));
        object.set(Key::new("bA"), Json::integer(-7));
        assert_eq!(json.to_string(), r#"{"a":1.10,"bA":-7,"a":2,"q\"q":"v\n"}"#);
        let object = json.object().unwrap().unwrap();
        assert_eq!(object.remove(&Key::new("a")).unwrap().to_string(), "2");
        assert!(object.remove(&Key::new("a")).is_none());
        assert_eq!(json.to_string(), r#"{"bA":-7,"q\"q":"v\n"}"#);
    }

    #[test]
    fn unopened_parts_keep_their_text() {
        let mut json = Json::text(r#"{"a":{ "deep" : 1e2 },"b":[ ]}"#);
        json.object().unwrap().unwrap();
        assert_eq!(json.to_string(), r#"{"a":{ "deep" : 1e2 },"b":[ ]}"#);
        assert!(Json::text("[1]").object().unwrap().is_none());
        assert!(Json::text("{]").object().is_err());
        let mut owned = Json::Text(Cow::Owned("[1,{}]".to_owned()));
        assert_eq!(owned.array().unwrap().unwrap().len(), 2);
    }
}
