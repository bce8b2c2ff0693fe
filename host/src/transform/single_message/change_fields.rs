//! Fields of a change event that are copied to the state or to headers: `op`, `lsn` (of `source`), `transaction.id:tx`.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field};
use tributary_sdk::batch::SCHEMA_DEFAULT;

use crate::transform::headers::Header;
use crate::transform::json::{Json, Key, Object};
use crate::transform::structs::{Struct, mask};

/// Where a field stands, and what its copy is called.
pub struct FieldReference {
    /// The struct it stands in; `None`: the event itself.
    parent: Option<(String, Key<'static>)>,
    /// The field.
    pub field: String,
    field_key: Key<'static>,
    /// The copy.
    pub name: String,
    /// The same as a key of JSON.
    pub key: Key<'static>,
}

impl FieldReference {
    /// `field`, `struct.field` or either with `:name`.
    pub fn parse(prefix: &str, text: &str) -> Result<Self, String> {
        let (path, name) = match text.split(':').collect::<Vec<_>>()[..] {
            [path] => (path, None),
            [path, name] => (path, Some(name)),
            _ => return Err(format!("Unexpected field name: {text}")),
        };
        let (parent, field) = match path.split_once('.') {
            Some((parent, field)) => (Some(parent), field),
            None => (parent_of(path), path),
        };
        let name = match (name, path.contains('.')) {
            (Some(name), _) => format!("{prefix}{name}"),
            (None, true) => format!("{prefix}{}_{field}", parent.unwrap_or_default()),
            (None, false) => format!("{prefix}{field}"),
        };
        Ok(Self {
            parent: parent.map(|parent| (parent.to_owned(), Key::new(parent))),
            field: field.to_owned(),
            field_key: Key::new(field),
            key: Key::new(&name),
            name,
        })
    }

    /// The value in a schemaless event; `None`: there is no such field, neither in its struct nor in the event.
    pub fn of_json<'a>(&self, event: &mut Object<'a>) -> Option<Json<'a>> {
        if let Some((_, key)) = &self.parent {
            match event.get_mut(key)?.object() {
                Ok(Some(parent)) => {
                    if let Some(value) = parent.get(&self.field_key) {
                        return Some(value.clone());
                    }
                }
                _ => return Some(Json::NULL),
            }
        }
        event.get(&self.field_key).cloned()
    }

    /// The column in structured events, optional and without default; `None`: there is no such field.
    pub fn of_struct(&self, event: &Struct) -> Option<(Field, ArrayRef)> {
        let found = |field: &Field, column: ArrayRef| {
            let mut metadata = field.metadata().clone();
            metadata.remove(SCHEMA_DEFAULT);
            Some((field.clone().with_nullable(true).with_metadata(metadata), column))
        };
        if let Some((name, _)) = &self.parent {
            let at = event.position(name)?;
            if let DataType::Struct(fields) = event.fields[at].data_type()
                && let Some((inner, field)) = fields.find(&self.field)
            {
                let parent = event.columns[at].as_struct();
                return found(field, mask(parent.column(inner), parent.nulls()));
            }
        }
        let at = event.position(&self.field)?;
        found(&event.fields[at], event.columns[at].clone())
    }
}

/// The struct in which a field stands that is named alone.
fn parent_of(field: &str) -> Option<&'static str> {
    match field {
        "id" | "data_collection_order" | "total_order" => Some("transaction"),
        "op" | "ts_ms" | "ts_us" | "ts_ns" => None,
        "updateDescription" => Some("updateDescription"),
        _ => Some("source"),
    }
}

/// The names in a header that is a list of text.
pub fn header_names(header: &Header<'_>) -> Vec<String> {
    header.value.and_then(|value| serde_json::from_slice(value).ok()).unwrap_or_default()
}
