//! `ExtractNewRecordState`: takes the new state of a row out of a change event, as Debezium's transform of this name does.
//!
//! A change event is a struct whose schema name ends in `.Envelope`, or a schemaless object with `op` and `before` or `after`
//! (which Debezium's transform lets pass). Everything else goes on unchanged. Truncations are dropped; what becomes of
//! deletions and tombstones is configured.

use arrow_array::BooleanArray;
use arrow_schema::FieldRef;
use tributary_sdk::config_def::Validator;
use tributary_sdk::{ConfigDef, ConfigKey, Error, Importance, Result, Type};

use super::SingleMessage;
use super::change_fields::{FieldReference, header_names};
use crate::converter::of_json;
use crate::transform::config::Settings;
use crate::transform::headers::{Header, Headers, HeadersBuilder};
use crate::transform::json::{Json, Key, Object};
use crate::transform::part::{Opened, Outcome, Part, Side, Target, not_json};
use crate::transform::structs::Struct;

pub(super) type Edited<T> = std::result::Result<T, String>;

/// See the module's documentation.
pub struct ExtractNewRecordState {
    pub(super) deletes: Deletes,
    pub(super) fields: Vec<FieldReference>,
    pub(super) headers: Vec<FieldReference>,
    pub(super) route_by: Option<(String, Key<'static>)>,
    drop_header: Option<String>,
    drop_from_key: bool,
    keep_compatible: bool,
    pub(super) replace_nulls: bool,
    keys: Keys,
}

/// What becomes of deletions and the tombstones behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deletes {
    /// Both are dropped.
    Drop,
    /// Deletions become tombstones, tombstones are dropped.
    Tombstone,
    /// Deletions become the old state with `__deleted`, tombstones are dropped.
    Rewrite,
    /// The same, but tombstones stay.
    RewriteWithTombstone,
    /// Deletions are dropped, tombstones stay: `drop.tombstones=false` of older versions.
    DropWithTombstone,
    /// Deletions become tombstones, and tombstones stay: the same with `delete.handling.mode=none`.
    TombstoneWithTombstone,
}

impl Deletes {
    /// Whether what was a tombstone already stays.
    pub(super) fn keeps_tombstones(self) -> bool {
        matches!(self, Self::RewriteWithTombstone | Self::DropWithTombstone | Self::TombstoneWithTombstone)
    }

    pub(super) fn drops_deletions(self) -> bool {
        matches!(self, Self::Drop | Self::DropWithTombstone)
    }
}

/// Names of an envelope's fields.
struct Keys {
    op: Key<'static>,
    before: Key<'static>,
    after: Key<'static>,
    deleted: Key<'static>,
}

pub(super) const DELETED: &str = "__deleted";

impl ExtractNewRecordState {
    /// The config definition, as Debezium's.
    pub fn config_def() -> ConfigDef {
        let modes = ["drop", "tombstone", "rewrite", "rewrite-with-tombstone", "delete-to-tombstone"];
        let list = "op, ts_ms, a field of source, or struct.field; with :name it gets another name.";
        let text = |name: &str, default: &str, what: &str| {
            ConfigKey::optional(name, Type::String, default, Importance::Low, what)
        };
        let flag = |name: &str, default: &str, what: &str| {
            ConfigKey::optional(name, Type::Boolean, default, Importance::Low, what)
        };
        ConfigDef::new()
            .define(
                ConfigKey::optional("delete.tombstone.handling.mode", Type::String, "tombstone", Importance::Medium,
                    "What becomes of deletions and tombstones: drop; tombstone (a deletion becomes one); rewrite (a deletion becomes the \
                     old state, and every record says in __deleted whether it is one); rewrite-with-tombstone; delete-to-tombstone.")
                .validator(Validator::OneOfIgnoreCase(modes.map(str::to_owned).to_vec())),
            )
            .define(ConfigKey::nullable("delete.handling.mode", Type::String, Importance::Medium,
                "Debezium's older key for deletions: drop, rewrite or none (a deletion becomes a tombstone). It counts where \
                 delete.tombstone.handling.mode is not set; drop if drop.tombstones alone is.")
                .validator(Validator::OneOfIgnoreCase(["drop", "rewrite", "none"].map(str::to_owned).to_vec())))
            .define(ConfigKey::nullable("drop.tombstones", Type::Boolean, Importance::Low,
                "Debezium's older key for tombstones: whether they are dropped. It counts where delete.tombstone.handling.mode is \
                 not set; true if delete.handling.mode alone is."))
            .define(text("route.by.field", "", "The field of the state that names the topic."))
            .define(text("add.fields.prefix", "__", "What stands before the names of added fields."))
            .define(ConfigKey::optional("add.fields", Type::List, "", Importance::Low, &format!("Fields to add: {list}")))
            .define(text("add.headers.prefix", "__", "What stands before the names of added headers."))
            .define(ConfigKey::optional("add.headers", Type::List, "", Importance::Low, &format!("Headers to add: {list}")))
            .define(ConfigKey::nullable("drop.fields.header.name", Type::String, Importance::Low,
                "A header with a list of fields to leave out."))
            .define(flag("drop.fields.from.key", "false", "Whether those fields are left out of the key, too."))
            .define(flag("drop.fields.keep.schema.compatible", "true", "Whether only optional fields are left out."))
            .define(flag("replace.null.with.default", "true",
                "Whether a null in a field that has a default becomes the default when records are rewritten."))
    }

    /// Takes its config.
    pub fn build(_target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let old = |key: &str| settings.string(key).filter(|text| !text.trim().is_empty());
        let (old_mode, drops) = (old("delete.handling.mode"), old("drop.tombstones"));
        let deletes = if settings.is_set("delete.tombstone.handling.mode") || (old_mode.is_none() && drops.is_none()) {
            match settings.text("delete.tombstone.handling.mode").to_ascii_lowercase().as_str() {
                "drop" => Deletes::Drop,
                "rewrite" => Deletes::Rewrite,
                "rewrite-with-tombstone" => Deletes::RewriteWithTombstone,
                _ => Deletes::Tombstone,
            }
        } else {
            let drops = drops.is_none() || settings.boolean("drop.tombstones")?;
            match (old_mode.unwrap_or("drop").to_ascii_lowercase().as_str(), drops) {
                ("rewrite", true) => Deletes::Rewrite,
                ("rewrite", false) => Deletes::RewriteWithTombstone,
                ("none", true) => Deletes::Tombstone,
                ("none", false) => Deletes::TombstoneWithTombstone,
                (_, true) => Deletes::Drop,
                (_, false) => Deletes::DropWithTombstone,
            }
        };
        let references = |key: &str| -> Result<Vec<FieldReference>> {
            let prefix = settings.text(&format!("{key}.prefix")).to_owned();
            let parse = |text: &str| FieldReference::parse(&prefix, text).map_err(Error::failed);
            settings.list(key).into_iter().map(parse).collect()
        };
        let given = |key: &str| settings.string(key).filter(|text| !text.is_empty());
        Ok(Box::new(Self {
            deletes,
            fields: references("add.fields")?,
            headers: references("add.headers")?,
            route_by: given("route.by.field").map(|name| (name.to_owned(), Key::new(name))),
            drop_header: given("drop.fields.header.name").map(str::to_owned),
            drop_from_key: settings.boolean("drop.fields.from.key")?,
            keep_compatible: settings.boolean("drop.fields.keep.schema.compatible")?,
            replace_nulls: settings.boolean("replace.null.with.default")?,
            keys: Keys {
                op: Key::new("op"),
                before: Key::new("before"),
                after: Key::new("after"),
                deleted: Key::new(DELETED),
            },
        }))
    }

    pub(super) fn rewrites(&self) -> bool {
        matches!(self.deletes, Deletes::Rewrite | Deletes::RewriteWithTombstone)
    }

    /// What is left of a schemaless change event; `None`: it is dropped.
    fn extract_json<'a>(&'a self, mut event: Object<'a>, route: &mut Option<String>) -> Option<Option<Json<'a>>> {
        let state = |event: &mut Object<'a>, key| event.remove(key).filter(|state| !state.is_null());
        let after = state(&mut event, &self.keys.after);
        let before = state(&mut event, &self.keys.before);
        let (state, deleted) = match (after, before) {
            (Some(after), _) => (after, false),
            (None, None) => return None,
            (None, Some(before)) => match self.deletes {
                Deletes::Drop | Deletes::DropWithTombstone => return None,
                Deletes::Tombstone | Deletes::TombstoneWithTombstone => {
                    *route = self.route(&mut before.clone());
                    return Some(None);
                }
                _ => (before, true),
            },
        };
        let mut state = state;
        *route = self.route(&mut state);
        if let Ok(Some(object)) = state.object() {
            if self.rewrites() {
                object.set(self.keys.deleted.borrowed(), Json::string(if deleted { "true" } else { "false" }));
            }
            for reference in &self.fields {
                if let Some(value) = reference.of_json(&mut event) {
                    object.set(reference.key.borrowed(), value);
                }
            }
        }
        Some(Some(state))
    }

    /// The topic that a state names.
    fn route(&self, state: &mut Json<'_>) -> Option<String> {
        let (_, key) = self.route_by.as_ref()?;
        let topic = state.object().ok()??.get(key)?.as_str()?.into_owned();
        Some(topic).filter(|topic| !topic.trim().is_empty())
    }

    fn apply_json<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        let known = part.headers();
        let known = Headers::of(known.as_ref());
        let mut headers = HeadersBuilder::new(part.rows.len());
        let (mut keep, mut refused) = (vec![true; part.rows.len()], Vec::new());
        let mut routes = Vec::with_capacity(part.rows.len());
        let Opened::Json(documents) = part.open(Target::Value) else { return outcome.push(part) };
        for (row, document) in documents.iter_mut().enumerate() {
            known.row(row).for_each(|header| headers.push(header));
            let mut route = None;
            match self.event(document) {
                Ok(Some(mut event)) => {
                    for reference in &self.headers {
                        if let Some(value) = reference.of_json(&mut event) {
                            let (schema, text) = of_json(&value.to_string());
                            let value = (!value.is_null()).then_some(text.as_bytes());
                            headers.push(Header { key: &reference.name, schema: Some(schema), value });
                        }
                    }
                    match self.extract_json(event, &mut route) {
                        Some(state) => *document = state,
                        None => keep[row] = false,
                    }
                }
                Ok(None) if document.is_none() => {
                    self.push_tombstone_header(&mut headers);
                    keep[row] = self.deletes.keeps_tombstones();
                }
                Ok(None) => {}
                Err(message) => refused.push((row, message)),
            }
            headers.end_row();
            routes.push(route);
        }
        if !self.headers.is_empty() {
            part.headers = Some(headers.finish());
        }
        outcome.dropped += keep.iter().filter(|&&keep| !keep).count();
        for (row, message) in refused {
            keep[row] = false;
            outcome.failures.push((part.rows[row], message));
        }
        self.finish(part, &keep, &routes, outcome);
    }

    /// A schemaless document as a change event; `None`: it is none.
    fn event<'a>(&self, document: &mut Option<Json<'a>>) -> Edited<Option<Object<'a>>> {
        let Some(json) = document else { return Ok(None) };
        let Some(object) = json.object().map_err(not_json)? else { return Ok(None) };
        let is_event = object.get(&self.keys.op).is_some_and(|op| op.as_str().is_some())
            && (object.get(&self.keys.after).is_some() || object.get(&self.keys.before).is_some());
        Ok(is_event.then(|| std::mem::take(object)))
    }

    pub(super) fn push_tombstone_header(&self, headers: &mut HeadersBuilder) {
        for reference in self.headers.iter().filter(|reference| reference.field == "op") {
            headers.push(Header { key: &reference.name, schema: Some("string"), value: Some(b"d") });
        }
    }

    /// Leaves out what is dropped, divides by topic, and takes out the fields that a header names.
    pub(super) fn finish<'a>(
        &'a self,
        part: Part<'a>,
        keep: &[bool],
        routes: &[Option<String>],
        outcome: &mut Outcome<'a>,
    ) {
        let mut topics: Vec<&Option<String>> =
            routes.iter().zip(keep).filter(|(_, keep)| **keep).map(|(route, _)| route).collect();
        topics.sort_unstable();
        topics.dedup();
        for topic in topics {
            let mask: BooleanArray =
                routes.iter().zip(keep).map(|(route, keep)| Some(*keep && route == topic)).collect();
            if let (Some(mut routed), _) = part.clone().divide(&mask) {
                if let Some(topic) = topic {
                    routed.topic = topic.as_str().into();
                }
                self.drop_fields(routed, outcome);
            }
        }
    }

    fn drop_fields<'a>(&'a self, part: Part<'a>, outcome: &mut Outcome<'a>) {
        let Some(name) = &self.drop_header else { return outcome.push(part) };
        let lists = {
            let headers = part.headers();
            let headers = Headers::of(headers.as_ref());
            let list = |row| {
                headers.row(row).find(|header| header.key == name).map_or_else(Vec::new, |header| header_names(&header))
            };
            (0..part.rows.len()).map(list).collect::<Vec<Vec<String>>>()
        };
        let mut distinct: Vec<&Vec<String>> = lists.iter().collect();
        distinct.sort_unstable();
        distinct.dedup();
        for names in distinct {
            let mask: BooleanArray = lists.iter().map(|list| Some(list == names)).collect();
            let (Some(mut part), _) = part.clone().divide(&mask) else { continue };
            if !names.is_empty() {
                self.drop_from(&mut part, Target::Value, names);
                if self.drop_from_key {
                    self.drop_from(&mut part, Target::Key, names);
                }
            }
            outcome.push(part);
        }
    }

    fn drop_from(&self, part: &mut Part<'_>, target: Target, names: &[String]) {
        match part.open(target) {
            Opened::Json(documents) => {
                let keys: Vec<Key<'static>> = names.iter().map(|name| Key::new(name)).collect();
                for document in documents.iter_mut().flatten() {
                    if let Ok(Some(object)) = document.object() {
                        keys.iter().for_each(|key| drop(object.remove(key)));
                    }
                }
            }
            Opened::Column(column) => {
                let Ok(mut structs) = Struct::open(column, "change events", true) else { return };
                let drops =
                    |field: &FieldRef| names.contains(field.name()) && (!self.keep_compatible || field.is_nullable());
                if !structs.fields.iter().any(drops) {
                    return;
                }
                let members = structs.fields.into_iter().zip(structs.columns).filter(|(field, _)| !drops(field));
                (structs.fields, structs.columns) = members.unzip();
                let column = structs.rebuild();
                part.set(target, Side::Column(column));
            }
        }
    }
}

impl SingleMessage for ExtractNewRecordState {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        if part.is_json(Target::Value) {
            self.apply_json(part, outcome);
        } else {
            self.apply_columns(part, outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    /// The Java side is `ExtractNewRecordState` of debezium-core 3.4.0.
    #[test]
    fn as_in_debezium() {
        super::super::cases::check(include_str!("cases/new_record_state.json"));
    }

    /// Debezium 3 no longer has these keys: what they meant in 2.x.
    #[test]
    fn the_older_keys_count_where_the_newer_is_not_set() {
        use crate::transform::tests::{chain, json_batch, values};

        let deletion = r#"{"before":{"id":1},"after":null,"op":"d"}"#;
        let rewritten = Some(r#"{"id":1,"__deleted":"true"}"#);
        for (settings, expected) in [
            (&[("drop.tombstones", "true")][..], &[][..]),
            (&[("drop.tombstones", "false")], &[None]),
            (&[("delete.handling.mode", "drop")], &[]),
            (&[("delete.handling.mode", "Rewrite")], &[rewritten]),
            (&[("delete.handling.mode", "rewrite"), ("drop.tombstones", "false")], &[rewritten, None]),
            (&[("delete.handling.mode", "none")], &[None]),
            (&[("delete.handling.mode", "none"), ("drop.tombstones", "false")], &[None, None]),
            (&[("delete.handling.mode", "rewrite"), ("delete.tombstone.handling.mode", "drop")], &[]),
            (&[("delete.tombstone.handling.mode", "tombstone"), ("drop.tombstones", "false")], &[None]),
        ] {
            let own: Vec<_> = settings.iter().map(|(key, value)| (format!("transforms.u.{key}"), *value)).collect();
            let mut config =
                vec![("transforms", "u"), ("transforms.u.type", "io.debezium.transforms.ExtractNewRecordState")];
            config.extend(own.iter().map(|(key, value)| (key.as_str(), *value)));
            let applied = chain(&config).apply(json_batch(&[Some(deletion), None])).unwrap();
            let expected: Vec<_> = expected.iter().map(|value| value.map(str::to_owned)).collect();
            assert_eq!(values(&applied), expected, "{settings:?}");
        }
    }

    /// Changes, deletions, tombstones and truncations in one batch keep their order.
    #[test]
    fn events_of_all_kinds_stand_in_one_batch() {
        use arrow_array::{Array, BinaryArray};
        use tributary_sdk::{Config, Offsets};

        use crate::converter::{Converter, JsonConverter};
        use crate::transform::tests::{chain, json_batch};

        let row =
            r#""type":"struct","fields":[{"type":"int32","optional":false,"field":"id"}],"optional":true,"name":"V""#;
        let schema = format!(
            r#"{{"type":"struct","fields":[{{{row},"field":"before"}},{{{row},"field":"after"}},{{"type":"string","optional":false,"field":"op"}}],"optional":false,"name":"s.Envelope"}}"#
        );
        let event = |before: &str, after: &str, op: &str| {
            Some(
                format!(r#"{{"schema":{schema},"payload":{{"before":{before},"after":{after},"op":"{op}"}}}}"#)
                    .into_bytes(),
            )
        };
        let data = BinaryArray::from_iter([
            event("null", r#"{"id":1}"#, "c"),
            event(r#"{"id":1}"#, "null", "d"),
            None,
            event("null", "null", "t"),
            event(r#"{"id":2}"#, r#"{"id":3}"#, "u"),
        ]);
        let mut converter = JsonConverter::default();
        converter.configure(&Config::default(), false).unwrap();
        let mut batch = json_batch(&[None; 5]);
        batch.value = converter.to_connect("t", &data).runs.remove(0).column;
        let mut extract = chain(&[
            ("transforms", "e"),
            ("transforms.e.type", "io.debezium.transforms.ExtractNewRecordState"),
            ("transforms.e.delete.tombstone.handling.mode", "rewrite-with-tombstone"),
        ]);
        let applied = extract.apply(batch).unwrap();
        converter.configure(&[("schemas.enable", "false")].into_iter().collect(), false).unwrap();
        assert_eq!(applied.batches.len(), 1);
        let out = converter.from_connect("t", &applied.batches[0].value).data;
        let texts: Vec<_> = out.iter().map(|text| text.map(|text| std::str::from_utf8(text).unwrap())).collect();
        let (alive, dead, moved) =
            (r#"{"id":1,"__deleted":"false"}"#, r#"{"id":1,"__deleted":"true"}"#, r#"{"id":3,"__deleted":"false"}"#);
        assert_eq!(texts, [Some(alive), Some(dead), None, Some(moved)]);
        let Offsets::Sink(offsets) = &applied.batches[0].offsets else { panic!("a sink batch") };
        assert_eq!(offsets.values(), &[100, 101, 102, 104]);
        assert_eq!(applied.dropped, 1);
        assert!(out.is_null(2));
    }
}
