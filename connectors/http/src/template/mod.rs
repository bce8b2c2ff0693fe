//! Templates: texts with parts of the record in them, `/users/${key}/orders/${value.order.id}`.
//!
//! | Placeholder | Stands for |
//! |---|---|
//! | `${topic}` `${partition}` `${offset}` `${timestamp}` | where the record comes from, and its milliseconds since the epoch |
//! | `${key}` `${value}` | the whole key or value |
//! | `${key.id}` `${value.items.0.sku}` | a field of it; text and bytes are read as JSON for that |
//! | `${header.Name}` | the last header of that name |
//! | `$${` | `${` itself |
//!
//! What is put in is made fit for its place, so that no record can write more than its part: percent-encoded in a URL, checked in a
//! header, a JSON value or the inside of a JSON string in a JSON body. A record without the field fails, with the field's name.

mod fill;
mod record;

pub(crate) use record::RecordView;

/// Where a template's text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Url,
    /// A header, a method, a key: the text as it is.
    Plain,
    /// A body of text or bytes.
    Body,
    JsonBody,
}

/// What a placeholder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key(Vec<String>),
    Value(Vec<String>),
    Header(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field {
        source: Source,
        /// As it stands in the template.
        name: String,
        /// Inside of a JSON string.
        quoted: bool,
    },
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
    place: Place,
}

impl Template {
    /// Reads a template; the error says what is wrong with it.
    pub fn parse(text: &str, place: Place) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut quotes = Quotes::default();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, after) = rest.split_at(at);
            if let Some(before) = before.strip_suffix('$') {
                literal.push_str(before);
                literal.push_str("${");
                rest = &after[2..];
                continue;
            }
            literal.push_str(before);
            let end =
                after.find('}').ok_or_else(|| format!("{after:?}: a placeholder has no end; write $${{ for ${{"))?;
            let name = &after[2..end];
            quotes.read(&literal);
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            let quoted = place == Place::JsonBody && quotes.inside;
            parts.push(Part::Field { source: source(name)?, name: name.to_owned(), quoted });
            rest = &after[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts, place })
    }

    /// The whole value, as it is.
    pub fn is_value(&self) -> bool {
        matches!(&self.parts[..], [Part::Field { source: Source::Value(path), .. }] if path.is_empty())
    }

    /// Whether it makes JSON.
    pub fn is_json(&self) -> bool {
        self.place == Place::JsonBody
    }

    /// The text before the first placeholder, and whether there is one.
    pub fn beginning(&self) -> (&str, bool) {
        match &self.parts[..] {
            [Part::Text(text)] => (text, false),
            [Part::Text(text), ..] => (text, true),
            [] => ("", false),
            _ => ("", true),
        }
    }

    /// The text, where no record changes it.
    pub fn constant(&self) -> Option<&str> {
        match self.beginning() {
            (text, false) => Some(text),
            _ => None,
        }
    }

    /// With `value` in the place of every placeholder, to see what it makes.
    pub fn filled_with(&self, value: &str) -> String {
        let text = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field { .. } => value.to_owned(),
        };
        self.parts.iter().map(text).collect()
    }
}

fn source(name: &str) -> Result<Source, String> {
    let unknown = || {
        format!(
            "${{{name}}} stands for nothing: write topic, partition, offset, timestamp, key, value, key.FIELD, value.FIELD or header.NAME, \
             or $${{ for ${{"
        )
    };
    let path = |path: &str| -> Result<Vec<String>, String> {
        let steps: Vec<String> = path.split('.').map(str::to_owned).collect();
        if steps.iter().any(String::is_empty) { Err(unknown()) } else { Ok(steps) }
    };
    Ok(match name.split_once('.') {
        None => match name {
            "topic" => Source::Topic,
            "partition" => Source::Partition,
            "offset" => Source::Offset,
            "timestamp" => Source::Timestamp,
            "key" => Source::Key(Vec::new()),
            "value" => Source::Value(Vec::new()),
            _ => return Err(unknown()),
        },
        Some(("key", rest)) => Source::Key(path(rest)?),
        Some(("value", rest)) => Source::Value(path(rest)?),
        Some(("header", rest)) if !rest.is_empty() => Source::Header(rest.to_owned()),
        Some(_) => return Err(unknown()),
    })
}

/// Follows where the strings of a JSON text begin and end.
#[derive(Default)]
struct Quotes {
    inside: bool,
    escaped: bool,
}

impl Quotes {
    fn read(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.inside => self.escaped = true,
                b'"' => self.inside = !self.inside,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
