//! Reference documentation from a config definition.

use std::fmt::Write;

use super::{ConfigDef, ConfigKey, DefaultValue, Type, Validator};

impl ConfigDef {
    /// The keys as Markdown: under their groups in the order of definition, each with documentation, type, default, valid
    /// values and importance. Internal keys are left out.
    pub fn to_markdown(&self) -> String {
        let shown = || self.keys.iter().filter(|key| !key.internal);
        let mut groups: Vec<Option<&str>> = Vec::new();
        for key in shown() {
            if !groups.contains(&key.group.as_deref()) {
                groups.push(key.group.as_deref());
            }
        }
        let mut text = String::new();
        for group in groups {
            if let Some(group) = group {
                let _ = writeln!(text, "### {group}\n");
            }
            let mut keys: Vec<&ConfigKey> = shown().filter(|key| key.group.as_deref() == group).collect();
            keys.sort_by_key(|key| key.order_in_group);
            for key in keys {
                key.write_markdown(&mut text);
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }
}

impl ConfigKey {
    fn write_markdown(&self, text: &mut String) {
        let _ = writeln!(text, "#### `{}`\n\n{}\n", self.name, self.documentation.trim());
        let _ = writeln!(text, "- Type: {}", format!("{:?}", self.kind).to_lowercase());
        let default = match &self.default {
            DefaultValue::Required => "none, the key is required".to_owned(),
            DefaultValue::Null => "null".to_owned(),
            DefaultValue::Value(value) if value.is_empty() => "\"\"".to_owned(),
            DefaultValue::Value(_) if self.kind == Type::Password => "[hidden]".to_owned(),
            DefaultValue::Value(value) => format!("{value}{}", self.unit(value)),
        };
        let _ = writeln!(text, "- Default: {default}");
        if let Some(validator) = &self.validator {
            let _ = writeln!(text, "- Valid values: {}", self.describe(validator));
        }
        let _ = writeln!(text, "- Importance: {}\n", format!("{:?}", self.importance).to_lowercase());
    }

    /// What a large number of bytes or milliseconds comes to, as ` (1 mebibyte)`.
    fn unit(&self, value: &str) -> String {
        let Ok(mut number) = value.parse::<u64>() else { return String::new() };
        let steps: &[(u64, &str)] = if self.name.ends_with(".bytes") {
            &[(1024, "kibibyte"), (1024, "mebibyte"), (1024, "gibibyte")]
        } else if self.name.ends_with(".ms") {
            &[(1000, "second"), (60, "minute"), (60, "hour"), (24, "day")]
        } else {
            return String::new();
        };
        let mut unit = None;
        for (size, name) in steps {
            if number == 0 || number % size != 0 {
                break;
            }
            number /= size;
            unit = Some(name);
        }
        unit.map_or(String::new(), |unit| format!(" ({number} {unit}{})", if number == 1 { "" } else { "s" }))
    }

    /// Kafka's notation of what is allowed.
    fn describe(&self, validator: &Validator) -> String {
        match validator {
            Validator::Range { min: None, max: None } => "[...]".into(),
            Validator::Range { min: None, max: Some(max) } => format!("[...,{}]", self.bound(*max)),
            Validator::Range { min: Some(min), max: None } => format!("[{},...]", self.bound(*min)),
            Validator::Range { min: Some(min), max: Some(max) } => {
                format!("[{},...,{}]", self.bound(*min), self.bound(*max))
            }
            Validator::OneOf(values) => format!("[{}]", values.join(", ")),
            Validator::OneOfIgnoreCase(values) => format!("(case insensitive) [{}]", values.join(", ").to_uppercase()),
            Validator::NonEmptyList => "non-empty list".into(),
            Validator::NonEmpty if self.kind == Type::List => "non-empty list".into(),
            Validator::Distinct | Validator::Aliases => "no item twice".into(),
            Validator::NonNull => "not null".into(),
            Validator::Name => "non-empty string without control characters".into(),
            Validator::NonEmpty => "non-empty string".into(),
            Validator::Regex => "valid regex".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;

    #[test]
    fn documents_each_key() {
        let def = ConfigDef::new()
            .define(
                ConfigKey::optional("buffer.bytes", Type::Int, "1048576", Importance::Low, "How much.")
                    .validator(Validator::at_least(1))
                    .ui("Tuning", 2, Width::Short, "Buffer"),
            )
            .define(ConfigKey::required("file", Type::String, Importance::High, "Which file.").ui(
                "Files",
                1,
                Width::Long,
                "File",
            ))
            .define(ConfigKey::optional("linger.ms", Type::Long, "7200000", Importance::Low, "How long.").ui(
                "Tuning",
                1,
                Width::Short,
                "Linger",
            ));
        let expected = "### Tuning\n\n#### `linger.ms`\n\nHow long.\n\n- Type: long\n- Default: 7200000 (2 hours)\n\
            - Importance: low\n\n#### `buffer.bytes`\n\nHow much.\n\n- Type: int\n- Default: 1048576 (1 mebibyte)\n\
            - Valid values: [1,...]\n- Importance: low\n\n### Files\n\n#### `file`\n\nWhich file.\n\n- Type: string\n\
            - Default: none, the key is required\n- Importance: high\n";
        assert_eq!(def.to_markdown(), expected);
    }
}
