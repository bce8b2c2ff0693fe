//! Source offsets. Partitions are compared by their canonical JSON, so that `{"a":1,"b":2}` and `{"b":2,"a":1}` are one.

use rusqlite::params;
use serde_json::Value;
use tributary_sdk::source::SourcePosition;

use super::SqliteStore;
use crate::storage::{OffsetStore, StorageError};

impl OffsetStore for SqliteStore {
    fn get(&self, connector: &str, partitions: &[Value]) -> Result<Vec<Option<Value>>, StorageError> {
        self.read("reading offsets", |connection| {
            let mut statement =
                connection.prepare("SELECT offset FROM offsets WHERE connector = ?1 AND partition = ?2")?;
            let mut get = |partition| {
                let mut rows = statement.query(params![connector, canonical(partition)])?;
                rows.next()?.map(|row| json(row, 0)).transpose()
            };
            partitions.iter().map(&mut get).collect()
        })
    }

    fn all(&self, connector: &str) -> Result<Vec<SourcePosition>, StorageError> {
        self.read("reading offsets", |connection| {
            let mut statement =
                connection.prepare("SELECT partition, offset FROM offsets WHERE connector = ?1 ORDER BY partition")?;
            let positions = statement.query_map([connector], |row| {
                Ok(SourcePosition { partition: json(row, 0)?, offset: Some(json(row, 1)?) })
            })?;
            positions.collect()
        })
    }

    fn put(&self, connector: &str, positions: &[SourcePosition]) -> Result<(), StorageError> {
        if positions.is_empty() {
            return Ok(());
        }
        let connector = connector.to_owned();
        let rows: Vec<(String, Option<String>)> = positions
            .iter()
            .map(|position| (canonical(&position.partition), position.offset.as_ref().map(Value::to_string)))
            .collect();
        self.write("storing offsets", move |transaction| {
            let mut put = transaction
                .prepare("INSERT OR REPLACE INTO offsets (connector, partition, offset) VALUES (?1, ?2, ?3)")?;
            let mut remove = transaction.prepare("DELETE FROM offsets WHERE connector = ?1 AND partition = ?2")?;
            for (partition, offset) in &rows {
                match offset {
                    Some(offset) => put.execute(params![connector, partition, offset])?,
                    None => remove.execute(params![connector, partition])?,
                };
            }
            Ok(())
        })
    }
}

/// JSON with sorted keys at every level and no white space.
pub(crate) fn canonical(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
            }
            Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
            other => other.clone(),
        }
    }
    sorted(value).to_string()
}

fn json(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Value> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn position(partition: Value, offset: Option<Value>) -> SourcePosition {
        SourcePosition { partition, offset }
    }

    #[test]
    fn offsets_are_found_by_partition_whatever_the_order_of_its_keys() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path()).unwrap();
        let put = [
            position(json!({"b": {"y": 1, "x": null}, "a": "ü"}), Some(json!({"position": 1}))),
            position(json!({"filename": "f"}), Some(json!({"position": 2}))),
        ];
        store.put("c", &put).unwrap();
        let asked = [json!({"a": "ü", "b": {"x": null, "y": 1}}), json!({"filename": "other"})];
        assert_eq!(store.get("c", &asked).unwrap(), [Some(json!({"position": 1})), None]);
        assert_eq!(store.get("other", &asked).unwrap(), [None, None]);

        store
            .put(
                "c",
                &[position(asked[0].clone(), None), position(json!({"filename": "f"}), Some(json!({"position": 3})))],
            )
            .unwrap();
        drop(store);
        let store = SqliteStore::open(directory.path()).unwrap();
        assert_eq!(store.all("c").unwrap(), [position(json!({"filename": "f"}), Some(json!({"position": 3})))]);
    }

    #[test]
    fn many_tasks_commit_together() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path()).unwrap();
        std::thread::scope(|scope| {
            for task in 0..16 {
                let store = store.clone();
                scope.spawn(move || {
                    for commit in 0..50 {
                        store.put("c", &[position(json!({"task": task}), Some(json!({"commit": commit})))]).unwrap();
                    }
                });
            }
        });
        let all = store.all("c").unwrap();
        assert_eq!(all.len(), 16);
        assert!(all.iter().all(|position| position.offset == Some(json!({"commit": 49}))));
    }
}
