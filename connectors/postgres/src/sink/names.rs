//! Names of tables: a template over the record, and what PostgreSQL makes of names.

/// The most bytes of an identifier; the server cuts longer ones, so that they have to be cut here, too, to be found again.
const LONGEST: usize = 63;

/// A part of the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Fixed(String),
    Topic,
    /// A field of a change event's source.
    Source(String),
    Value(String),
    Key(String),
    Header(String),
}

/// `collection.name.format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(pub Vec<Part>);

impl Template {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text.trim();
        if rest.is_empty() || rest.chars().any(char::is_control) {
            return Err("a name of a table is needed, without control characters".into());
        }
        while let Some(at) = rest.find("${") {
            if at > 0 {
                parts.push(Part::Fixed(rest[..at].to_owned()));
            }
            let end = rest[at..].find('}').ok_or("a placeholder ${…} has no end")? + at;
            let inside = &rest[at + 2..end];
            parts.push(match inside.split_once('.') {
                None if inside == "topic" => Part::Topic,
                Some(("source", field)) if !field.is_empty() => Part::Source(field.to_owned()),
                Some(("value", field)) if !field.is_empty() => Part::Value(field.to_owned()),
                Some(("key", field)) if !field.is_empty() => Part::Key(field.to_owned()),
                Some(("header", name)) if !name.is_empty() => Part::Header(name.to_owned()),
                _ => return Err(format!("${{{inside}}} is not known: use ${{topic}}, ${{source.FIELD}}, ${{value.FIELD}}, ${{key.FIELD}} or ${{header.NAME}}")),
            });
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Fixed(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// Whether all records of a topic go to one table.
    pub fn by_topic(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Fixed(_) | Part::Topic))
    }

    /// The name, with what `look_up` finds for a part of the record.
    pub fn fill(
        &self,
        topic: &str,
        mut look_up: impl FnMut(&Part) -> Result<String, String>,
    ) -> Result<String, String> {
        let mut name = String::new();
        for part in &self.0 {
            match part {
                Part::Fixed(text) => name.push_str(text),
                Part::Topic => name.push_str(&topic.replace('.', "_")),
                part => name.push_str(&look_up(part)?),
            }
        }
        Ok(name)
    }
}

/// Schema, if there is one, and table. Of three parts the first is the database, as in other systems.
pub(super) fn schema_and_table(name: &str) -> (Option<&str>, &str) {
    match name.rsplit_once('.') {
        Some((schema, table)) => (Some(schema.rsplit('.').next().unwrap_or(schema)), table),
        None => (None, name),
    }
}

/// The name as the server keeps it.
pub(super) fn cut(name: &str) -> &str {
    let mut end = name.len().min(LONGEST);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled() {
        let template = Template::parse("shop.${topic}_${source.table}-${value.kind}").unwrap();
        assert!(!template.by_topic());
        let name = template.fill("a.b", |part| match part {
            Part::Source(field) | Part::Value(field) => Ok(field.to_uppercase()),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(name.unwrap(), "shop.a_b_TABLE-KIND");
        assert!(
            Template::parse("${topic").is_err() && Template::parse("${what}").is_err() && Template::parse(" ").is_err()
        );
    }

    #[test]
    fn names_have_parts() {
        assert_eq!(schema_and_table("t"), (None, "t"));
        assert_eq!(schema_and_table("s.t"), (Some("s"), "t"));
        assert_eq!(schema_and_table("db.s.t"), (Some("s"), "t"));
        assert_eq!(cut(&"ä".repeat(40)).len(), 62);
    }
}
