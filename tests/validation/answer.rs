//! Compares two answers of validation.

use serde_json::Value;

/// Keys that Connect's connectors of the same name do not have.
const MORE_KEYS: &[&str] =
    &["max.line.bytes", "max.line.action", "rotation.wait.ms", "offset.identity", "sync", "torn.line"];
/// Words for people, and a field of older versions.
const FREE: &[&str] = &["documentation", "order"];

/// Each difference, with the key where it is.
pub fn differences(theirs: &Value, ours: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for field in ["name", "error_count"] {
        if theirs[field] != ours[field] {
            found.push(format!("{field} is {} instead of {}", ours[field], theirs[field]));
        }
    }
    let known = |group: &&Value| group.as_str().is_some_and(|group| !is_more_group(group));
    let groups: Vec<&Value> = list(&ours["groups"]).iter().filter(known).collect();
    if groups != list(&theirs["groups"]).iter().collect::<Vec<_>>() {
        found.push(format!("groups are {groups:?} instead of {}", theirs["groups"]));
    }
    let ours: Vec<&Value> = list(&ours["configs"]).iter().filter(|config| !is_more(name(config))).collect();
    let theirs = list(&theirs["configs"]);
    let names = |configs: &[&Value]| configs.iter().map(|config| name(config).to_owned()).collect::<Vec<_>>();
    let (our_names, their_names) = (names(&ours), names(&theirs.iter().collect::<Vec<_>>()));
    if our_names != their_names {
        found.push(format!("keys are\n    {our_names:?} instead of\n    {their_names:?}"));
        return found;
    }
    for (theirs, ours) in theirs.iter().zip(ours) {
        for part in ["definition", "value"] {
            compare(&format!("{}/{part}", name(theirs)), &theirs[part], &ours[part], &mut found);
        }
    }
    found
}

fn compare(place: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    let Some(fields) = theirs.as_object().filter(|_| !ours.is_null()) else {
        if theirs != ours {
            found.push(format!("{place} is {ours} instead of {theirs}"));
        }
        return;
    };
    for (field, value) in fields.iter().filter(|(field, _)| !FREE.contains(&field.as_str())) {
        let same = match field.as_str() {
            // More classes may be recommended.
            "recommended_values" => list(value).iter().all(|value| list(&ours[field]).contains(value)),
            _ => *value == ours[field],
        };
        if !same {
            found.push(format!("{place}/{field} is {} instead of {value}", ours[field]));
        }
    }
}

/// `key: message` for every error; the message of an answer that is one.
pub fn messages(body: &Value) -> Vec<String> {
    if let Some(message) = body["message"].as_str() {
        return vec![message.to_owned()];
    }
    let mut found = Vec::new();
    for config in list(&body["configs"]) {
        let errors = list(&config["value"]["errors"]).iter().filter_map(Value::as_str);
        found.extend(errors.map(|error| format!("{}: {error}", name(config))));
    }
    found
}

fn name(config: &Value) -> &str {
    config["value"]["name"].as_str().or(config["definition"]["name"].as_str()).unwrap_or_default()
}

fn is_more(name: &str) -> bool {
    MORE_KEYS.contains(&name) || name.starts_with("errors.restart.")
}

fn is_more_group(group: &str) -> bool {
    group == "Restarts"
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
