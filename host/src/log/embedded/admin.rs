//! [`LogAdmin`] on the embedded log. Changes are committed when the call returns; reads see what is committed.
//!
//! A deleted topic is gone at once; its records are removed later, and their pages used again.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::super::{
    CommittedOffset, Log, LogAdmin, LogError, NewTopic, TopicDescription, TopicIdentity, TopicPartition,
};
use super::catalog::Topic;
use super::database::{Database, from_sqlite};
use super::record_batch::BatchReader;
use super::{EmbeddedLog, Inner, retention, topic_settings};

/// Inserts a topic; `false` when it was there.
pub(super) fn insert_topic(
    connection: &Connection,
    name: &str,
    partitions: i32,
    settings: &BTreeMap<String, String>,
) -> rusqlite::Result<bool> {
    let inserted = connection.execute("INSERT OR IGNORE INTO topics (name) VALUES (?1)", [name])?;
    if inserted == 0 {
        return Ok(false);
    }
    let topic = connection.last_insert_rowid();
    let mut insert = connection.prepare_cached("INSERT INTO partitions (topic, partition) VALUES (?1, ?2)")?;
    for partition in 0..partitions {
        insert.execute((topic, partition))?;
    }
    let mut insert =
        connection.prepare_cached("INSERT INTO topic_settings (topic, name, value) VALUES (?1, ?2, ?3)")?;
    for (name, value) in settings {
        insert.execute((topic, name, value))?;
    }
    Ok(true)
}

/// Stores next-to-read offsets of a group.
pub(super) fn store_offsets(
    connection: &Connection,
    group: &str,
    offsets: &[(TopicPartition, Option<i64>)],
) -> rusqlite::Result<()> {
    let mut set = connection.prepare_cached(
        "INSERT OR REPLACE INTO group_offsets (consumer_group, topic, partition, next_offset) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let mut remove = connection
        .prepare_cached("DELETE FROM group_offsets WHERE consumer_group = ?1 AND topic = ?2 AND partition = ?3")?;
    for (partition, offset) in offsets {
        match offset {
            Some(offset) => set.execute((group, &*partition.topic, partition.partition, offset))?,
            None => remove.execute((group, &*partition.topic, partition.partition))?,
        };
    }
    Ok(())
}

/// Stores offsets of a group with their metadata.
pub(super) fn store_commits(connection: &Connection, group: &str, commits: &[CommittedOffset]) -> rusqlite::Result<()> {
    let mut set = connection.prepare_cached(
        "INSERT OR REPLACE INTO group_offsets (consumer_group, topic, partition, next_offset, metadata) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for CommittedOffset { partition, offset, metadata } in commits {
        set.execute((group, &*partition.topic, partition.partition, offset, &**metadata))?;
    }
    Ok(())
}

/// What a group has committed.
pub(super) fn commits_of(database: &Database, group: &str) -> Result<Vec<CommittedOffset>, LogError> {
    database.read(&format!("reading the offsets of group {group}"), |connection| {
        let mut statement = connection.prepare_cached(
            "SELECT topic, partition, next_offset, metadata FROM group_offsets WHERE consumer_group = ?1 ORDER BY topic, partition",
        )?;
        statement
            .query_map([group], |row| {
                let (topic, metadata): (String, String) = (row.get(0)?, row.get(3)?);
                let partition = TopicPartition { topic: topic.into(), partition: row.get(1)? };
                Ok(CommittedOffset { partition, offset: row.get(2)?, metadata: metadata.into() })
            })?
            .collect()
    })
}

impl Inner {
    fn known(&self, name: &str, operation: &str) -> Result<std::sync::Arc<Topic>, LogError> {
        self.find_topic(name)?.ok_or_else(|| unknown(name, operation))
    }

    fn known_partition(
        &self,
        partition: &TopicPartition,
        operation: &str,
    ) -> Result<std::sync::Arc<super::catalog::Partition>, LogError> {
        self.known(&partition.topic, operation)?;
        self.catalog.partition(partition).ok_or_else(|| LogError {
            message: format!("{operation} {}-{}: the topic has fewer partitions", partition.topic, partition.partition),
            retriable: false,
            code: Some("_UNKNOWN_PARTITION"),
        })
    }

    /// Refuses while the group has members.
    fn without_members(&self, group: &str, operation: &str) -> Result<(), LogError> {
        if self.groups().dismiss(group) {
            return Err(LogError {
                message: format!("{operation} of group {group}: it has members: stop them first"),
                retriable: false,
                code: Some("NON_EMPTY_GROUP"),
            });
        }
        Ok(())
    }
}

fn unknown(name: &str, operation: &str) -> LogError {
    LogError {
        message: format!("{operation} {name}: there is no such topic"),
        retriable: true,
        code: Some("UNKNOWN_TOPIC_OR_PART"),
    }
}

fn describe(topic: &Topic) -> TopicDescription {
    TopicDescription { name: topic.name.to_string(), partitions: topic.partitions.len() as i32 }
}

impl LogAdmin for EmbeddedLog {
    fn topics(&self, _timeout: Duration) -> Result<Vec<TopicDescription>, LogError> {
        self.inner.refresh()?;
        Ok(self.inner.catalog.topics().iter().map(|topic| describe(topic)).collect())
    }

    fn topic(&self, name: &str, _timeout: Duration) -> Result<Option<TopicDescription>, LogError> {
        Ok(self.inner.find_topic(name)?.map(|topic| describe(&topic)))
    }

    fn create_topic(&self, topic: &NewTopic, _timeout: Duration) -> Result<bool, LogError> {
        topic_settings::check_name(&topic.name)?;
        topic_settings::check(&topic.name, &topic.settings)?;
        let partitions = topic.partitions.unwrap_or(self.inner.default_partitions);
        if !(1..=10_000).contains(&partitions) {
            return Err(LogError {
                message: format!("creating topic {}: {partitions} partitions: 1 to 10000 are wanted", topic.name),
                retriable: false,
                code: Some("INVALID_PARTITIONS"),
            });
        }
        self.inner.create_topic(&topic.name, partitions, topic.settings.clone())
    }

    fn delete_topic(&self, name: &str, _timeout: Duration) -> Result<(), LogError> {
        let topic = name.to_owned();
        let found = self.inner.writer.change(move |connection| {
            let delete = |connection: &Connection| {
                let id: Option<i64> = connection
                    .query_row("SELECT id FROM topics WHERE name = ?1", [&topic], |row| row.get(0))
                    .optional()?;
                let Some(id) = id else { return Ok(false) };
                connection
                    .execute("INSERT INTO deleted_partitions SELECT id FROM partitions WHERE topic = ?1", [id])?;
                connection.execute("DELETE FROM partitions WHERE topic = ?1", [id])?;
                connection.execute("DELETE FROM topic_settings WHERE topic = ?1", [id])?;
                connection.execute("DELETE FROM topics WHERE id = ?1", [id])?;
                connection.execute("DELETE FROM group_offsets WHERE topic = ?1", [&topic])?;
                Ok(true)
            };
            let found = delete(connection).map_err(|error| from_sqlite(&error, &format!("deleting topic {topic}")))?;
            Ok((found, true))
        })?;
        if found { Ok(()) } else { Err(unknown(name, "deleting topic")) }
    }

    fn delete_records(&self, before: &[(TopicPartition, i64)], _timeout: Duration) -> Result<(), LogError> {
        let mut partitions = Vec::with_capacity(before.len());
        for (partition, offset) in before {
            partitions.push((self.inner.known_partition(partition, "deleting records of")?, *offset));
        }
        let of_file = partitions.iter().map(|(partition, offset)| (partition.id, *offset)).collect::<Vec<_>>();
        self.inner.writer.change(move |connection| {
            for (partition, offset) in of_file {
                retention::delete_before(connection, partition, offset)
                    .map_err(|error| from_sqlite(&error, "deleting records"))?;
            }
            Ok(((), false))
        })?;
        partitions.iter().for_each(|(partition, offset)| partition.starts(*offset));
        Ok(())
    }

    fn topic_settings(&self, name: &str, _timeout: Duration) -> Result<BTreeMap<String, String>, LogError> {
        Ok(topic_settings::described(&self.inner.known(name, "reading the settings of topic")?.settings))
    }

    fn watermarks(&self, partition: &TopicPartition, _timeout: Duration) -> Result<(i64, i64), LogError> {
        self.inner.refresh()?;
        let partition = self.inner.known_partition(partition, "reading the offsets of")?;
        Ok((partition.first(), partition.next()))
    }

    fn topic_identity(&self, name: &str, timeout: Duration) -> Result<Option<TopicIdentity>, LogError> {
        let Some(topic) = self.inner.find_topic(name)? else { return Ok(None) };
        // Numbers of partitions are not used again.
        let first = topic.partitions.first().map_or(0, |partition| partition.id);
        let id = Some(format!("{}-{first}", self.cluster_id(timeout)?));
        Ok(Some(TopicIdentity { id, partitions: topic.partitions.len() as i32 }))
    }

    fn size(&self, partition: &TopicPartition, _timeout: Duration) -> Result<Option<u64>, LogError> {
        let id = self.inner.known_partition(partition, "reading the size of")?.id;
        self.inner.database.read("reading a partition's size", |connection| {
            let mut statement =
                connection.prepare_cached("SELECT COALESCE(SUM(bytes), 0) FROM batches WHERE partition = ?1")?;
            statement.query_row([id], |row| row.get::<_, i64>(0)).map(|bytes| Some(bytes as u64))
        })
    }

    fn offset_at(
        &self,
        partition: &TopicPartition,
        timestamp: i64,
        _timeout: Duration,
    ) -> Result<Option<i64>, LogError> {
        let operation = format!("looking up a time in {}-{}", partition.topic, partition.partition);
        let id = self.inner.known_partition(partition, "looking up a time in")?.id;
        self.inner.database.read(&operation, |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT data FROM batches WHERE partition = ?1 AND max_timestamp >= ?2 ORDER BY last_offset",
            )?;
            let mut rows = statement.query((id, timestamp))?;
            while let Some(row) = rows.next()? {
                let data = row.get_ref(0)?.as_blob().unwrap_or_default();
                let mut found = None;
                if let Ok(batch) = BatchReader::new(data) {
                    let _ = batch.for_each(|record| {
                        if found.is_none() && record.timestamp >= timestamp {
                            found = Some(record.offset);
                        }
                        Ok(())
                    });
                }
                if found.is_some() {
                    return Ok(found);
                }
            }
            Ok(None)
        })
    }

    fn group_commits(&self, group: &str, _timeout: Duration) -> Result<Vec<CommittedOffset>, LogError> {
        commits_of(&self.inner.database, group)
    }

    fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &[(TopicPartition, Option<i64>)],
        _timeout: Duration,
    ) -> Result<(), LogError> {
        self.inner.without_members(group, "altering offsets")?;
        let (group, offsets) = (group.to_owned(), offsets.to_vec());
        self.inner.writer.change(move |connection| {
            store_offsets(connection, &group, &offsets)
                .map_err(|error| from_sqlite(&error, &format!("altering offsets of group {group}")))?;
            Ok(((), false))
        })
    }

    fn delete_group(&self, group: &str, _timeout: Duration) -> Result<(), LogError> {
        self.inner.without_members(group, "deleting the offsets")?;
        let group = group.to_owned();
        self.inner.writer.change(move |connection| {
            connection
                .execute("DELETE FROM group_offsets WHERE consumer_group = ?1", [&group])
                .map_err(|error| from_sqlite(&error, &format!("deleting group {group}")))?;
            Ok(((), false))
        })
    }
}
