//! The tables, and how older files come up to date.
//!
//! `user_version` counts the migrations that a file has had. Each entry of [`MIGRATIONS`] is applied once, in its own
//! transaction, and never changed afterwards. A file from a newer version is refused rather than guessed at.

use rusqlite::Connection;

use crate::storage::{StorageError, StorageErrorKind};

/// Marks the file as ours (`file(1)` and `PRAGMA application_id` show it): "Trib".
const APPLICATION_ID: i32 = 0x5472_6962;

const MIGRATIONS: &[&str] = &[
    // 1
    "CREATE TABLE connectors (
        name TEXT PRIMARY KEY,
        config TEXT NOT NULL,          -- JSON object of strings, as the user wrote it
        target TEXT NOT NULL,          -- RUNNING, PAUSED or STOPPED
        applied TEXT                   -- the config that the tasks were made from
    ) WITHOUT ROWID;
    CREATE TABLE tasks (
        connector TEXT NOT NULL REFERENCES connectors (name) ON DELETE CASCADE,
        task INTEGER NOT NULL,
        config TEXT NOT NULL,
        PRIMARY KEY (connector, task)
    ) WITHOUT ROWID;
    CREATE TABLE offsets (
        connector TEXT NOT NULL,
        partition TEXT NOT NULL,       -- canonical JSON: keys sorted, no white space
        offset TEXT NOT NULL,
        PRIMARY KEY (connector, partition)
    ) WITHOUT ROWID;
    CREATE TABLE statuses (
        connector TEXT NOT NULL,
        task INTEGER NOT NULL,         -- -1: the connector itself
        status TEXT NOT NULL,
        PRIMARY KEY (connector, task)
    ) WITHOUT ROWID;
    CREATE TABLE topics (
        connector TEXT NOT NULL,
        topic TEXT NOT NULL,
        task INTEGER NOT NULL,
        discovered_ms INTEGER NOT NULL,
        PRIMARY KEY (connector, topic)
    ) WITHOUT ROWID;
    CREATE TABLE states (
        connector TEXT NOT NULL,
        shard TEXT NOT NULL,
        key BLOB NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (connector, shard, key)
    ) WITHOUT ROWID;",
    // 2
    "CREATE TABLE topic_images (
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        topic_id TEXT NOT NULL,        -- empty: the cluster did not tell
        format INTEGER NOT NULL,       -- of the rows
        next INTEGER NOT NULL,         -- everything before this offset is in the rows
        saved_ms INTEGER NOT NULL,     -- when that was last known to be so
        PRIMARY KEY (topic, partition)
    ) WITHOUT ROWID;
    CREATE TABLE topic_rows (
        topic TEXT NOT NULL,
        key BLOB NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (topic, key)
    ) WITHOUT ROWID;
    CREATE TABLE offset_journal (
        topic TEXT NOT NULL,
        connector TEXT NOT NULL,
        task INTEGER NOT NULL,
        partition TEXT NOT NULL,       -- canonical JSON
        offset TEXT,                   -- null: to be removed
        generation INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        PRIMARY KEY (topic, connector, task, partition)
    ) WITHOUT ROWID;",
];

/// Brings the file up to date.
pub fn migrate(connection: &mut Connection, path: &str) -> Result<(), StorageError> {
    let describe = |error| super::database::describe("opening", path, error);
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(describe)?;
    if version > MIGRATIONS.len() as i64 {
        return Err(StorageError::new(
            StorageErrorKind::Newer,
            format!(
                "{path} was written by a newer version of Tributary (its schema is {version}, this version knows {}); start that version, or set another data.dir",
                MIGRATIONS.len()
            ),
        ));
    }
    for (done, migration) in MIGRATIONS.iter().enumerate().skip(version as usize) {
        let transaction = connection.transaction().map_err(describe)?;
        transaction.execute_batch(migration).map_err(describe)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(describe)?;
        transaction.pragma_update(None, "user_version", done as i64 + 1).map_err(describe)?;
        transaction.commit().map_err(describe)?;
    }
    Ok(())
}
