//! `ReplaceField`: keeps some fields, leaves out others, renames.

use arrow_schema::Field;
use tributary_sdk::config_def::Validator;
use tributary_sdk::{ConfigDef, ConfigKey, Importance, Result, Type};

use super::{SingleMessage, replace_nulls};
use crate::transform::config::{Settings, invalid};
use crate::transform::json::{Json, Key};
use crate::transform::part::{Outcome, Part, Target, require_map};
use crate::transform::structs::{Struct, duplicate};

const PURPOSE: &str = "field replacement";

/// See the module's documentation.
pub struct ReplaceField {
    target: Target,
    exclude: Vec<Key<'static>>,
    /// Empty: all.
    include: Vec<Key<'static>>,
    /// Old and new names.
    renames: Vec<(Key<'static>, Key<'static>)>,
    replace_nulls: bool,
}

impl ReplaceField {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        let list = |name: &str, what: &str| ConfigKey::optional(name, Type::List, "", Importance::Medium, what);
        ConfigDef::new()
            .define(list("exclude", "Fields to leave out; this counts before include.").validator(Validator::Distinct))
            .define(list("include", "Fields to keep; when it is empty, all are kept.").validator(Validator::Distinct))
            .define(list("renames", "Fields to rename: pairs old:new, separated by commas."))
            .define(replace_nulls())
    }

    /// Takes its config.
    pub fn build(target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let keys = |name: &str| settings.list(name).into_iter().map(Key::new).collect();
        let mut renames = Vec::new();
        for mapping in settings.list("renames") {
            let (old, new) = match mapping.split(':').collect::<Vec<_>>()[..] {
                [old, new] if !new.is_empty() => (old, new),
                _ => {
                    let all = format!("[{}]", settings.list("renames").join(", "));
                    return Err(invalid("renames", &all, format!("Invalid rename mapping: {mapping}")));
                }
            };
            renames.push((Key::new(old), Key::new(new)));
        }
        Ok(Box::new(Self {
            target,
            exclude: keys("exclude"),
            include: keys("include"),
            renames,
            replace_nulls: settings.boolean("replace.null.with.default")?,
        }))
    }

    fn keeps(&self, key: &Key<'_>) -> bool {
        !self.exclude.iter().any(|known| known == key)
            && (self.include.is_empty() || self.include.iter().any(|known| known == key))
    }

    fn renamed(&self, key: &Key<'_>) -> Option<&Key<'static>> {
        self.renames.iter().rev().find(|(old, _)| old == key).map(|(_, new)| new)
    }

    fn replace(&self, mut structs: Struct) -> std::result::Result<Struct, String> {
        let members = std::mem::take(&mut structs.fields).into_iter().zip(std::mem::take(&mut structs.columns));
        for (field, column) in members {
            let key = Key::new(field.name());
            if self.keeps(&key) {
                let field = match self.renamed(&key) {
                    Some(new) => Field::clone(&field).with_name(new.name()),
                    None => Field::clone(&field),
                };
                if structs.position(field.name()).is_some() {
                    return Err(duplicate(field.name()));
                }
                structs.set(field, column);
            }
        }
        Ok(structs)
    }
}

/// Of members that got the same name, the last stays.
fn last_of_each(members: &mut Vec<(Key<'_>, Json<'_>)>) {
    let mut at = 0;
    while at < members.len() {
        if members[at + 1..].iter().any(|(key, _)| *key == members[at].0) {
            members.remove(at);
        } else {
            at += 1;
        }
    }
}

impl SingleMessage for ReplaceField {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        if part.is_json(self.target) {
            let part = part.edit_json(self.target, outcome, |_, json| {
                if json.is_none() {
                    return Ok(());
                }
                let members = require_map(json, PURPOSE)?.members_mut();
                members.retain(|(key, _)| self.keeps(key));
                let mut renamed = false;
                for (key, _) in members.iter_mut() {
                    if let Some(new) = self.renamed(key) {
                        *key = new.borrowed();
                        renamed = true;
                    }
                }
                if renamed {
                    last_of_each(members);
                }
                Ok(())
            });
            return outcome.push(part);
        }
        part.edit_struct(self.target, PURPOSE, self.replace_nulls, outcome, |_, structs, _| {
            Ok(self.replace(structs)?.rebuild())
        });
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_in_kafka_connect() {
        super::super::cases::check(include_str!("cases/replace_field.json"));
    }
}
