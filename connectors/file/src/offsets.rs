//! Source partition and offset of a file, in Kafka Connect's format: `{"filename": …}` and `{"position": n}`.
//!
//! The position counts bytes from the start of the file to the start of the next line. (Kafka Connect counts characters
//! and then skips as many bytes; for ASCII it is the same.) With `offset.identity=inode` the offset has a further key
//! `file`, which Kafka Connect ignores.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tributary_sdk::{Error, Result, SourcePosition};

const FILENAME: &str = "filename";
const POSITION: &str = "position";
const IDENTITY: &str = "file";

/// Where a task resumes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resume {
    pub position: u64,
    /// The file that the position counts in, where it was stored.
    pub identity: Option<String>,
}

/// The source partition of `file`, as Connect's JSON object.
pub(crate) fn partition(file: &Path) -> Value {
    json!({ FILENAME: file.to_string_lossy() })
}

/// The same as text, as batches carry it.
pub(crate) fn partition_text(file: &Path) -> Arc<str> {
    partition(file).to_string().into()
}

/// The offset at `position`, as text.
pub(crate) fn offset_text(position: u64, identity: Option<&str>) -> String {
    match identity {
        None => format!("{{\"{POSITION}\":{position}}}"),
        Some(identity) => json!({ POSITION: position, IDENTITY: identity }).to_string(),
    }
}

/// Reads a stored offset back.
pub(crate) fn resume(offset: Option<&Value>) -> Result<Resume> {
    let Some(offset) = offset else { return Ok(Resume::default()) };
    let position = match offset.get(POSITION) {
        None | Some(Value::Null) => 0,
        Some(position) => position.as_u64().ok_or_else(|| {
            Error::failed(format!(
                "the stored offset {offset} is not one of this connector: '{POSITION}' is not a non-negative integer: \
                 reset or alter the connector's offsets"
            ))
        })?,
    };
    Ok(Resume { position, identity: offset.get(IDENTITY).and_then(Value::as_str).map(str::to_owned) })
}

/// Checks offsets that a user wants stored. Null offsets (resets) are allowed for anything, so that garbage can be removed.
/// Users and tools see these messages from Kafka Connect, too; they are kept word for word where they can be.
pub(crate) fn check(file: Option<&Path>, offsets: &[SourcePosition]) -> Result<bool> {
    if file.is_none() {
        return Err(Error::failed(
            "Offsets cannot be modified if the 'file' configuration is unspecified. \
             This is because stdin is used for input and offsets are not tracked.",
        ));
    }
    for SourcePosition { partition, offset } in offsets {
        let Some(offset) = offset.as_ref().filter(|offset| !offset.is_null()) else { continue };
        let Some(position) = offset.get(POSITION) else {
            return refuse(format!("Offset objects should either be null or contain the key '{POSITION}'"));
        };
        // Numbers above 2^63 - 1 are no Long either.
        if !position.is_i64() {
            return refuse(format!("The value for the '{POSITION}' key in the offset is expected to be a Long value"));
        }
        if position.as_i64().is_some_and(|position| position < 0) {
            return refuse(format!("The value for the '{POSITION}' key in the offset should be a non-negative value"));
        }
        if partition.is_null() {
            return refuse("Partition objects cannot be null".to_owned());
        }
        if partition.get(FILENAME).is_none() {
            return refuse(format!("Partition objects should contain the key '{FILENAME}'"));
        }
    }
    Ok(true)
}

fn refuse(message: String) -> Result<bool> {
    Err(Error::failed(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: Value, offset: Value) -> Vec<SourcePosition> {
        vec![SourcePosition { partition, offset: Some(offset) }]
    }

    #[test]
    fn the_format_is_connects() {
        let file = Path::new("/tmp/a \"b\".txt");
        assert_eq!(&*partition_text(file), r#"{"filename":"/tmp/a \"b\".txt"}"#);
        assert_eq!(offset_text(17, None), r#"{"position":17}"#);
        let stored: Value = serde_json::from_str(&offset_text(17, Some("5-6"))).unwrap();
        assert_eq!(resume(Some(&stored)).unwrap(), Resume { position: 17, identity: Some("5-6".to_owned()) });
        assert_eq!(resume(None).unwrap(), Resume::default());
        assert_eq!(resume(Some(&json!({"position": null}))).unwrap(), Resume::default());
        for wrong in [json!({"position": "17"}), json!({"position": -1}), json!({"position": 1.5})] {
            assert!(!resume(Some(&wrong)).unwrap_err().is_retriable());
        }
    }

    #[test]
    fn changed_offsets_are_checked_as_connect_does() {
        let file = Some(Path::new("/tmp/a"));
        let name = json!({"filename": "/tmp/other"});
        let refused = |offsets: Vec<SourcePosition>| check(file, &offsets).unwrap_err().to_string();
        assert_eq!(check(file, &at(name.clone(), json!({"position": 3}))), Ok(true));
        assert_eq!(check(file, &[SourcePosition { partition: json!({"garbage": 1}), offset: None }]), Ok(true));
        assert!(refused(at(name.clone(), json!({"offset": 3}))).contains("contain the key 'position'"));
        for wrong in [json!("3"), json!(3.5), json!(null), json!(u64::MAX)] {
            assert!(refused(at(name.clone(), json!({ "position": wrong }))).contains("expected to be a Long value"));
        }
        assert!(refused(at(name.clone(), json!({"position": -3}))).contains("should be a non-negative value"));
        assert!(refused(at(json!({"file": "a"}), json!({"position": 3}))).contains("contain the key 'filename'"));
        assert!(refused(at(Value::Null, json!({"position": 3}))).contains("cannot be null"));
        assert!(check(None, &at(name, json!({"position": 3}))).unwrap_err().to_string().contains("stdin"));
    }
}
