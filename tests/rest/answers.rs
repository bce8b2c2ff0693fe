//! Compares two answers: what Connect says, Tributary has to say too; it may say more.

use serde::Deserialize;
use serde_json::Value;

use crate::scenario::Words;

/// How lists are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Lists {
    /// Element by element.
    #[default]
    #[serde(rename = "same order")]
    SameOrder,
    /// The same elements.
    #[serde(rename = "any order")]
    AnyOrder,
    /// Elements of the same name; those that only one side has are not looked at, but there has to be a pair.
    #[serde(rename = "subset")]
    Subset,
}

/// Values that depend on the worker: they have to be there.
const FREE: &[&str] = &["version", "commit", "kafka_cluster_id", "worker_id", "trace", "last_modified"];

/// Of lists where Tributary has other elements, what differs with them, and words for people.
const FREE_IN_SUBSETS: &[&str] = &[
    "documentation",
    "order",
    "order_in_group",
    "error_count",
    "groups",
    "recommended_values",
    "display_name",
    "width",
];

/// Each difference, with the place where it is.
pub fn differences(theirs: &Value, ours: &Value, lists: Lists, words: Words, free: &[String]) -> Vec<String> {
    let mut comparison = Comparison { lists, words, free, found: Vec::new() };
    comparison.compare("", theirs, ours);
    comparison.found
}

struct Comparison<'a> {
    free: &'a [String],
    lists: Lists,
    words: Words,
    found: Vec<String>,
}

impl Comparison<'_> {
    fn compare(&mut self, place: &str, theirs: &Value, ours: &Value) {
        match (theirs, ours) {
            (Value::Object(theirs), Value::Object(ours)) => {
                for (key, value) in theirs {
                    let place = format!("{place}/{key}");
                    let free = FREE.contains(&key.as_str())
                        || self.free.contains(key)
                        || key == "message" && self.words == Words::Own
                        || self.lists == Lists::Subset && FREE_IN_SUBSETS.contains(&key.as_str());
                    match ours.get(key) {
                        None => self.found.push(format!("{place} is missing")),
                        Some(_) if free => {}
                        Some(other) => self.compare(&place, value, other),
                    }
                }
            }
            (Value::Array(theirs), Value::Array(ours)) if self.lists != Lists::Subset => {
                if theirs.len() != ours.len() {
                    let found =
                        format!("{place} is {} instead of {}", Value::from(ours.clone()), Value::from(theirs.clone()));
                    return self.found.push(found);
                }
                let sorted = |list: &[Value]| {
                    let mut list = list.to_vec();
                    if self.lists == Lists::AnyOrder {
                        list.sort_by_key(Value::to_string);
                    }
                    list
                };
                for (index, (theirs, ours)) in sorted(theirs).iter().zip(sorted(ours)).enumerate() {
                    self.compare(&format!("{place}/{index}"), theirs, &ours);
                }
            }
            (Value::Array(theirs), Value::Array(ours)) => self.by_name(place, theirs, ours),
            _ if theirs == ours => {}
            _ => self.found.push(format!("{place} is {ours} instead of {theirs}")),
        }
    }

    fn by_name(&mut self, place: &str, theirs: &[Value], ours: &[Value]) {
        let mut pairs = 0;
        for value in theirs {
            let Some(name) = name(value) else { continue };
            let Some(other) = ours.iter().find(|other| self::name(other).as_ref() == Some(&name)) else { continue };
            // Each plugin has a version of its own, and so the default of the key that asks for one.
            if name.ends_with(".plugin.version") {
                continue;
            }
            pairs += 1;
            self.compare(&format!("{place}/{name}"), value, other);
        }
        if pairs == 0 && theirs.iter().any(|value| name(value).is_some()) {
            self.found.push(format!("{place} has nothing in common with {}", Value::from(theirs)));
        }
        if theirs.iter().all(|value| name(value).is_none()) && theirs != ours {
            self.found.push(format!("{place} is {} instead of {}", Value::from(ours), Value::from(theirs)));
        }
    }
}

/// What identifies an element: a class, a config key, or a config key with its value.
fn name(value: &Value) -> Option<String> {
    let name = [&value["class"], &value["definition"]["name"], &value["name"]].into_iter().find_map(Value::as_str)?;
    // Some classes are plugins of two types.
    let kind = value["class"].as_str().and_then(|_| value["type"].as_str()).unwrap_or_default();
    Some(format!("{name} {kind}").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(theirs: &Value, ours: &Value, lists: Lists) -> Vec<String> {
        differences(theirs, ours, lists, Words::Same, &[])
    }

    #[test]
    fn more_is_allowed_and_less_is_not() {
        let theirs = json!({"name": "a", "tasks": [{"id": 0, "state": "RUNNING", "worker_id": "x"}]});
        let ours = json!({"name": "a", "tasks": [{"id": 0, "state": "RUNNING", "worker_id": "y", "lag": 1}]});
        assert_eq!(found(&theirs, &ours, Lists::SameOrder), Vec::<String>::new());
        assert_eq!(found(&ours, &theirs, Lists::SameOrder), ["/tasks/0/lag is missing"]);
    }

    #[test]
    fn values_count_unless_they_are_free() {
        let (theirs, ours) = (json!({"state": "A", "trace": "b"}), json!({"state": "B", "trace": "c"}));
        assert_eq!(found(&theirs, &ours, Lists::Subset), ["/state is \"B\" instead of \"A\""]);
        let (theirs, ours) = (json!({"message": "a"}), json!({"message": "b"}));
        assert_eq!(found(&theirs, &ours, Lists::SameOrder).len(), 1);
        assert_eq!(differences(&theirs, &ours, Lists::SameOrder, Words::Own, &[]), Vec::<String>::new());
    }

    #[test]
    fn elements_are_paired_as_asked() {
        let theirs = json!([{"name": "x", "type": "INT"}, {"name": "y", "type": "STRING"}]);
        let ours = json!([{"name": "y", "type": "LIST"}]);
        assert_eq!(found(&theirs, &ours, Lists::Subset), ["/y/type is \"LIST\" instead of \"STRING\""]);
        assert_eq!(found(&theirs, &json!([]), Lists::Subset).len(), 1);
        assert_eq!(found(&json!(["a", "b"]), &json!(["b", "a"]), Lists::AnyOrder), Vec::<String>::new());
        assert_eq!(found(&json!(["a", "b"]), &json!(["b", "a"]), Lists::SameOrder).len(), 2);
    }
}
