//! Compares two answers: what Connect says, Tributary has to say too; it may say more.

use serde_json::Value;

/// How lists are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrays {
    /// Element by element.
    SameLength,
    /// Elements of the same name; those that only one side has are not looked at, but there has to be a pair.
    ByName,
}

/// Values that depend on the worker or are words for people: they have to be there, of the same type.
const FREE: &[&str] = &[
    "version",
    "commit",
    "kafka_cluster_id",
    "worker_id",
    "message",
    "trace",
    "documentation",
    "file",
    "order",
    "order_in_group",
    "error_count",
    "groups",
    "recommended_values",
    "errors",
    "url",
    "display_name",
    "width",
];

/// Each difference, with the place where it is.
pub fn differences(theirs: &Value, ours: &Value, arrays: Arrays) -> Vec<String> {
    let mut found = Vec::new();
    compare("", theirs, ours, arrays, &mut found);
    found
}

fn compare(place: &str, theirs: &Value, ours: &Value, arrays: Arrays, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in theirs {
                let place = format!("{place}/{key}");
                match ours.get(key) {
                    None => found.push(format!("{place} is missing")),
                    Some(_) if FREE.contains(&key.as_str()) => {}
                    Some(other) => compare(&place, value, other, arrays, found),
                }
            }
        }
        (Value::Array(theirs), Value::Array(ours)) if arrays == Arrays::SameLength => {
            if theirs.len() != ours.len() {
                found.push(format!("{place} has {} elements instead of {}", ours.len(), theirs.len()));
            }
            for (index, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
                compare(&format!("{place}/{index}"), theirs, ours, arrays, found);
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => by_name(place, theirs, ours, found),
        _ if theirs == ours => {}
        _ => found.push(format!("{place} is {ours} instead of {theirs}")),
    }
}

fn by_name(place: &str, theirs: &[Value], ours: &[Value], found: &mut Vec<String>) {
    let mut pairs = 0;
    for value in theirs {
        let Some(name) = name(value) else { continue };
        let Some(other) = ours.iter().find(|other| self::name(other) == Some(name)) else { continue };
        pairs += 1;
        compare(&format!("{place}/{name}"), value, other, Arrays::ByName, found);
    }
    if pairs == 0 && theirs.iter().any(|value| name(value).is_some()) {
        found.push(format!("{place} has nothing in common with {}", Value::from(theirs)));
    }
}

/// What identifies an element: a class, a config key, or a config key with its value.
fn name(value: &Value) -> Option<&str> {
    [&value["class"], &value["definition"]["name"], &value["name"]].into_iter().find_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn more_is_allowed_and_less_is_not() {
        let theirs = json!({"name": "a", "tasks": [{"id": 0, "state": "RUNNING", "worker_id": "x"}]});
        let ours = json!({"name": "a", "tasks": [{"id": 0, "state": "RUNNING", "worker_id": "y", "lag": 1}]});
        assert_eq!(differences(&theirs, &ours, Arrays::SameLength), Vec::<String>::new());
        assert_eq!(differences(&ours, &theirs, Arrays::SameLength), ["/tasks/0/lag is missing"]);
    }

    #[test]
    fn values_count_unless_they_are_free() {
        let found =
            differences(&json!({"state": "A", "trace": "b"}), &json!({"state": "B", "trace": "c"}), Arrays::ByName);
        assert_eq!(found, ["/state is \"B\" instead of \"A\""]);
    }

    #[test]
    fn named_elements_are_paired() {
        let theirs = json!([{"name": "x", "type": "INT"}, {"name": "y", "type": "STRING"}]);
        let ours = json!([{"name": "y", "type": "LIST"}]);
        assert_eq!(differences(&theirs, &ours, Arrays::ByName), ["/y/type is \"LIST\" instead of \"STRING\""]);
        assert_eq!(differences(&theirs, &json!([]), Arrays::ByName).len(), 1);
    }
}
