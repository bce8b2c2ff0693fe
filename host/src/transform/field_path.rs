//! Names of fields, and paths to nested ones (`field.syntax.version=V2`: `a.b`, or `` `a.b`.c `` where a name has dots).

use tributary_sdk::config_def::Validator;
use tributary_sdk::{ConfigKey, Error, Importance, Result, Type};

use super::config::Settings;
use super::json::{Json, Key, Object};
use super::part::{not_json, require_map};

/// One or more steps from the whole value down to a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    steps: Vec<(String, Key<'static>)>,
}

/// The key that chooses the syntax.
pub fn syntax_version() -> ConfigKey {
    let documentation = "V1: names of fields of the whole value. V2: paths with dots to nested fields; a name that has dots itself \
                         stands between backticks.";
    ConfigKey::optional("field.syntax.version", Type::String, "V1", Importance::High, documentation)
        .validator(Validator::OneOfIgnoreCase(vec!["V1".to_owned(), "V2".to_owned()]))
}

impl FieldPath {
    /// The path in `key`, in the syntax that the config chooses.
    pub fn of(settings: &Settings<'_>, key: &str) -> Result<Self> {
        let text = settings.text(key);
        match settings.text("field.syntax.version").to_ascii_uppercase().as_str() {
            "V2" => Self::parse(text),
            _ => Ok(Self::from_steps(vec![text.to_owned()])),
        }
    }

    /// A path in the V2 syntax.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self::from_steps(divide(text)?))
    }

    fn from_steps(steps: Vec<String>) -> Self {
        Self {
            steps: steps
                .into_iter()
                .map(|step| {
                    let key = Key::new(&step);
                    (step, key)
                })
                .collect(),
        }
    }

    /// The names, from the outside in.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.steps.iter().map(|(name, _)| name.as_str())
    }

    /// Sets the value at the path, or takes it out. Objects on the way that are missing or null are made, unless there is nothing to set.
    pub fn set<'a>(&'a self, object: &mut Object<'a>, value: Option<Json<'a>>) -> std::result::Result<(), String> {
        set(&self.steps, object, value)
    }

    /// Takes the value at the path out of a document; `None` where it is missing or null.
    pub fn take<'a>(&self, document: Json<'a>, purpose: &str) -> std::result::Result<Option<Json<'a>>, String> {
        let mut current = Some(document);
        for (i, (_, key)) in self.steps.iter().enumerate() {
            if current.is_none() {
                return Ok(None);
            }
            let purpose = if i == 0 { purpose } else { "nested field access" };
            let object = require_map(&mut current, purpose)?;
            current = object.remove(key).filter(|value| !value.is_null());
        }
        Ok(current)
    }
}

fn set<'a>(
    steps: &'a [(String, Key<'static>)],
    object: &mut Object<'a>,
    value: Option<Json<'a>>,
) -> std::result::Result<(), String> {
    let Some(((name, key), rest)) = steps.split_first() else { return Ok(()) };
    let Some((next, _)) = rest.first() else {
        match value {
            Some(value) => object.set(key.borrowed(), value),
            None => drop(object.remove(key)),
        }
        return Ok(());
    };
    if object.get(key).is_none_or(Json::is_null) {
        if value.as_ref().is_none_or(Json::is_null) {
            return Ok(());
        }
        object.set(key.borrowed(), Json::Object(Object::default()));
    }
    let Some(inner) = object.get_mut(key) else { return Ok(()) };
    let class = inner.java_class();
    match inner.object() {
        Ok(Some(inner)) => set(rest, inner, value),
        // What has no fields has none to take out.
        Ok(None) if value.is_none() => Ok(()),
        Ok(None) => Err(format!("the field {name} is {class}, which has no field {next}")),
        Err(error) => Err(not_json(error)),
    }
}

/// The steps of a path in the V2 syntax.
fn divide(path: &str) -> Result<Vec<String>> {
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        if rest.is_empty() {
            // An empty path has no step; one that ends in a dot has an empty last one.
            if path.ends_with('.') || path.is_empty() {
                steps.push(String::new());
            }
            break;
        }
        let Some(quoted) = rest.strip_prefix('`') else {
            match rest.split_once('.') {
                Some((step, after)) => {
                    steps.push(step.to_owned());
                    rest = after;
                    continue;
                }
                None => steps.push(rest.to_owned()),
            }
            break;
        };
        let at = path.len() - rest.len();
        let incomplete = || {
            Error::failed(format!(
                "Incomplete backtick pair in path: [{path}], consider adding a backslash before backtick at position {at} to escape it"
            ))
        };
        // The pair ends at a backtick before a dot or the end; one with a backslash before it belongs to the name.
        let mut name = String::new();
        let mut from = 0;
        let mut search = 0;
        loop {
            let close = search + quoted[search..].find('`').ok_or_else(incomplete)?;
            let escaped = close > 0 && quoted.as_bytes()[close - 1] == b'\\';
            match (quoted.as_bytes().get(close + 1), escaped) {
                (None, true) => return Err(incomplete()),
                (None, false) => {
                    name.push_str(&quoted[from..close]);
                    steps.push(name);
                    return Ok(steps);
                }
                (Some(b'.'), true) => {
                    name.push_str(&quoted[from..close - 1]);
                    name.push('`');
                    search = close + 1;
                    from = search;
                }
                (Some(b'.'), false) => {
                    name.push_str(&quoted[from..close]);
                    steps.push(name);
                    rest = &quoted[close + 2..];
                    break;
                }
                (Some(_), _) => search = close + 1,
            }
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The steps that Kafka 4.3.1's SingleFieldPath makes of these texts.
    #[test]
    fn paths_are_divided_as_in_kafka_connect() {
        for (path, steps) in [
            ("a", &["a"][..]),
            ("a.b.c", &["a", "b", "c"]),
            ("a.", &["a", ""]),
            (".a", &["", "a"]),
            ("`a.b`.c", &["a.b", "c"]),
            ("c.`a.b`", &["c", "a.b"]),
            ("a`b.c", &["a`b", "c"]),
            ("`a`b`.c", &["a`b", "c"]),
            ("`a\\`.b`.c", &["a`.b", "c"]),
        ] {
            assert_eq!(divide(path).unwrap(), steps, "{path}");
        }
        let message = divide("a.`b.c").unwrap_err().to_string();
        assert_eq!(
            message,
            "Incomplete backtick pair in path: [a.`b.c], consider adding a backslash before backtick at position 2 to escape it"
        );
    }
}
