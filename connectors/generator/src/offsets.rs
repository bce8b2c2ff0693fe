//! Source partition and offset of a generator's task: `{"generator": name, "task": t}` and `{"sequence": n}`.
//!
//! The sequence is the number of the task's next record. Of T tasks, task t makes the records t, t + T, t + 2 T and so on.

use serde_json::{Value, json};
use tributary_sdk::{Error, Result, SourcePosition};

const GENERATOR: &str = "generator";
const TASK: &str = "task";
const SEQUENCE: &str = "sequence";

/// The source partition of a task.
pub(crate) fn partition(name: &str, task: u64) -> Value {
    json!({ GENERATOR: name, TASK: task })
}

/// The offset before record `next`, as text.
pub(crate) fn offset_text(next: u64) -> String {
    format!("{{\"{SEQUENCE}\":{next}}}")
}

/// The number in a stored offset; 0 when there is none.
pub(crate) fn sequence(offset: Option<&Value>) -> Result<u64> {
    let Some(offset) = offset else { return Ok(0) };
    offset.get(SEQUENCE).and_then(Value::as_u64).ok_or_else(|| {
        Error::failed(format!(
            "the stored offset {offset} is not one of this connector: '{SEQUENCE}' is not a non-negative integer: \
             reset or alter the connector's offsets"
        ))
    })
}

/// Checks offsets that a user wants stored; resets are allowed for anything.
pub(crate) fn check(offsets: &[SourcePosition]) -> Result<bool> {
    for SourcePosition { partition, offset } in offsets {
        let Some(offset) = offset.as_ref().filter(|offset| !offset.is_null()) else { continue };
        if offset.get(SEQUENCE).and_then(Value::as_u64).is_none() {
            return Err(Error::failed(format!(
                "the offset {offset} has no '{SEQUENCE}' that is a non-negative integer: give it as {{\"{SEQUENCE}\": 0}}, or null"
            )));
        }
        if partition.get(GENERATOR).and_then(Value::as_str).is_none()
            || partition.get(TASK).and_then(Value::as_u64).is_none()
        {
            return Err(Error::failed(format!(
                "the source partition {partition} is not one of this connector: \
                 give it as {{\"{GENERATOR}\": <connector name>, \"{TASK}\": 0}}"
            )));
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_go_there_and_back() {
        let stored: Value = serde_json::from_str(&offset_text(17)).unwrap();
        assert_eq!(sequence(Some(&stored)), Ok(17));
        assert_eq!(sequence(None), Ok(0));
        assert!(sequence(Some(&json!({"position": 3}))).is_err());
    }

    #[test]
    fn changed_offsets_are_checked() {
        let at = |partition, offset| check(&[SourcePosition { partition, offset: Some(offset) }]);
        assert_eq!(at(partition("g", 0), json!({"sequence": 5})), Ok(true));
        assert_eq!(check(&[SourcePosition { partition: json!(1), offset: None }]), Ok(true));
        for wrong in [json!({}), json!({"sequence": -1}), json!({"sequence": "1"})] {
            assert!(at(partition("g", 0), wrong).is_err());
        }
        assert!(at(json!({"generator": "g"}), json!({"sequence": 5})).is_err());
    }
}
