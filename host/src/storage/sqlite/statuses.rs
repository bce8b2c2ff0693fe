//! States as last reported, and topics in use.

use rusqlite::params;

use super::SqliteStore;
use crate::storage::{StatusRecord, StatusStore, StorageError, TopicStatus};
use crate::worker::TaskId;

/// The row of the connector itself, among those of its tasks.
const CONNECTOR: i64 = -1;

impl SqliteStore {
    fn put_status(&self, connector: &str, task: i64, status: &StatusRecord) {
        let connector = connector.to_owned();
        let status = serde_json::to_string(status).expect("a status is valid JSON");
        self.write_later("storing a status", move |transaction| {
            let mut put =
                transaction.prepare("INSERT OR REPLACE INTO statuses (connector, task, status) VALUES (?1, ?2, ?3)")?;
            put.execute(params![connector, task, status])?;
            Ok(())
        });
    }

    fn statuses(&self, connector: &str, from: i64, to: i64) -> Result<Vec<(u32, StatusRecord)>, StorageError> {
        self.read("reading statuses", |connection| {
            let mut statement = connection.prepare(
                "SELECT task, status FROM statuses WHERE connector = ?1 AND task BETWEEN ?2 AND ?3 ORDER BY task",
            )?;
            let statuses = statement.query_map(params![connector, from, to], |row| {
                let text: String = row.get(1)?;
                let status = serde_json::from_str(&text).map_err(|error| {
                    rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error))
                })?;
                Ok((u32::try_from(row.get::<_, i64>(0)?).unwrap_or(0), status))
            })?;
            statuses.collect()
        })
    }
}

impl StatusStore for SqliteStore {
    fn put_connector(&self, connector: &str, status: &StatusRecord) {
        self.put_status(connector, CONNECTOR, status);
    }

    fn put_task(&self, task: &TaskId, status: &StatusRecord) {
        self.put_status(&task.connector, i64::from(task.task), status);
    }

    fn remove_task(&self, task: &TaskId) {
        let task = task.clone();
        self.write_later("removing a status", move |transaction| {
            transaction.execute(
                "DELETE FROM statuses WHERE connector = ?1 AND task = ?2",
                params![task.connector, task.task],
            )?;
            Ok(())
        });
    }

    fn remove_connector(&self, connector: &str) {
        let connector = connector.to_owned();
        self.write_later("removing statuses", move |transaction| {
            transaction.execute("DELETE FROM statuses WHERE connector = ?1", [&connector])?;
            transaction.execute("DELETE FROM topics WHERE connector = ?1", [&connector])?;
            Ok(())
        });
    }

    fn put_topic(&self, connector: &str, topic: &TopicStatus) {
        let (connector, topic) = (connector.to_owned(), topic.clone());
        self.write_later("storing a topic in use", move |transaction| {
            transaction.execute(
                "INSERT OR IGNORE INTO topics (connector, topic, task, discovered_ms) VALUES (?1, ?2, ?3, ?4)",
                params![connector, topic.topic, topic.task, topic.discovered_ms],
            )?;
            Ok(())
        });
    }

    fn remove_topics(&self, connector: &str) {
        let connector = connector.to_owned();
        self.write_later("removing topics in use", move |transaction| {
            transaction.execute("DELETE FROM topics WHERE connector = ?1", [&connector])?;
            Ok(())
        });
    }

    fn connector(&self, connector: &str) -> Result<Option<StatusRecord>, StorageError> {
        Ok(self.statuses(connector, CONNECTOR, CONNECTOR)?.pop().map(|(_, status)| status))
    }

    fn tasks(&self, connector: &str) -> Result<Vec<(u32, StatusRecord)>, StorageError> {
        self.statuses(connector, 0, i64::from(u32::MAX))
    }

    fn topics(&self, connector: &str) -> Result<Vec<TopicStatus>, StorageError> {
        self.read("reading topics in use", |connection| {
            let mut statement = connection
                .prepare("SELECT topic, task, discovered_ms FROM topics WHERE connector = ?1 ORDER BY topic")?;
            let topics = statement.query_map([connector], |row| {
                Ok(TopicStatus { topic: row.get(0)?, task: row.get(1)?, discovered_ms: row.get(2)? })
            })?;
            topics.collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::State;

    #[test]
    fn the_last_status_and_every_topic_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path()).unwrap();
        let status = |state, trace: Option<&str>| StatusRecord {
            state,
            trace: trace.map(str::to_owned),
            worker_id: "127.0.0.1:8083".to_owned(),
            generation: 0,
            version: Some("1.0".to_owned()),
        };
        let task = |task| TaskId { connector: "c".to_owned(), task };
        store.put_connector("c", &status(State::Running, None));
        store.put_connector("c", &status(State::Failed, Some("no such file")));
        store.put_task(&task(0), &status(State::Running, None));
        store.put_task(&task(7), &status(State::Paused, None));
        store.remove_task(&task(0));
        let topic = TopicStatus { topic: "t".to_owned(), task: 1, discovered_ms: 5 };
        store.put_topic("c", &topic);
        store.put_topic("c", &TopicStatus { discovered_ms: 9, ..topic.clone() });
        drop(store);

        let store = SqliteStore::open(directory.path()).unwrap();
        assert_eq!(store.connector("c").unwrap(), Some(status(State::Failed, Some("no such file"))));
        assert_eq!(store.tasks("c").unwrap(), [(7, status(State::Paused, None))]);
        assert_eq!(store.topics("c").unwrap(), [topic]);
        StatusStore::remove_connector(&store, "c");
        drop(store);
        let store = SqliteStore::open(directory.path()).unwrap();
        assert_eq!((store.connector("c").unwrap(), store.topics("c").unwrap()), (None, Vec::new()));
    }
}
