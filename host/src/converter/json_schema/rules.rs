//! The rules of a schema beyond its types, with `json.fail.invalid.schema=true`.

use std::collections::HashMap;
use std::error::Error;

use jsonschema::{Retrieve, Uri, Validator};
use serde_json::Value;

/// The most that is said of one value.
const MAX_REASON: usize = 300;

/// A schema, compiled.
#[derive(Debug)]
pub struct Rules(Validator);

impl Rules {
    /// Of a registered schema and those that it refers to, by name.
    pub fn new(text: &str, dependencies: &[(String, String)]) -> Result<Self, String> {
        let parse = |text: &str| serde_json::from_str(text).map_err(|error| format!("the schema is not JSON: {error}"));
        let mut references = HashMap::new();
        for (name, text) in dependencies {
            references.insert(name.rsplit('/').next().unwrap_or(name).to_owned(), parse(text)?);
        }
        let schema: Value = parse(text)?;
        let options = jsonschema::options().with_retriever(References(references));
        options.build(&schema).map(Self).map_err(|error| format!("the schema cannot be checked by: {error}"))
    }

    /// Whether a document keeps them.
    pub fn check(&self, document: &str) -> Result<(), String> {
        let value: Value = serde_json::from_str(document).map_err(|error| error.to_string())?;
        let Some(error) = self.0.iter_errors(&value).next() else { return Ok(()) };
        let at = error.instance_path().to_string();
        let at = if at.is_empty() { String::new() } else { format!(" at {at}") };
        let mut reason = error.to_string();
        if let Some((cut, _)) = reason.char_indices().nth(MAX_REASON) {
            reason.truncate(cut);
            reason.push('…');
        }
        Err(format!("it breaks a rule of its schema{at}: {reason} (json.fail.invalid.schema=true)"))
    }
}

/// References are those that the registry has, and nothing else is fetched.
struct References(HashMap<String, Value>);

impl Retrieve for References {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let name = uri.path().as_str().rsplit('/').next().unwrap_or_default();
        let found = self.0.get(name).cloned();
        found.ok_or_else(|| format!("$ref {uri} is not among the schema's references").into())
    }
}
