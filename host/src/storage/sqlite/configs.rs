//! Connectors, target states and task configs.

use rusqlite::{Connection, Row, params};
use tributary_sdk::Config;

use super::SqliteStore;
use crate::storage::{ConfigStore, StorageError, StoredConnector};
use crate::worker::State;

impl ConfigStore for SqliteStore {
    fn connectors(&self) -> Result<Vec<StoredConnector>, StorageError> {
        self.read("reading connectors", |connection| {
            let mut statement =
                connection.prepare("SELECT name, config, target, applied FROM connectors ORDER BY name")?;
            let connectors = statement.query_map([], |row| {
                let name: String = row.get(0)?;
                Ok(StoredConnector {
                    config: config(row, 1)?,
                    target: target(&row.get::<_, String>(2)?),
                    tasks: tasks(connection, &name)?,
                    applied: row.get::<_, Option<String>>(3)?.map(|_| config(row, 3)).transpose()?,
                    name,
                })
            })?;
            connectors.collect()
        })
    }

    fn put_connector(&self, name: &str, config: &Config, target: Option<State>) -> Result<(), StorageError> {
        let (name, config, target) = (name.to_owned(), config.to_json(), target.map(target_name));
        self.write("storing a connector", move |transaction| {
            transaction.execute(
                "INSERT INTO connectors (name, config, target) VALUES (?1, ?2, coalesce(?3, 'RUNNING'))
                 ON CONFLICT (name) DO UPDATE SET config = ?2, target = coalesce(?3, target)",
                params![name, config, target],
            )?;
            Ok(())
        })
    }

    fn put_target(&self, name: &str, target: State) -> Result<(), StorageError> {
        let (name, target) = (name.to_owned(), target_name(target));
        self.write("storing a target state", move |transaction| {
            transaction.execute("UPDATE connectors SET target = ?2 WHERE name = ?1", params![name, target])?;
            Ok(())
        })
    }

    fn put_tasks(&self, name: &str, tasks: &[Config], applied: &Config) -> Result<(), StorageError> {
        let (name, applied) = (name.to_owned(), applied.to_json());
        let tasks: Vec<String> = tasks.iter().map(Config::to_json).collect();
        self.write("storing task configs", move |transaction| {
            transaction.execute("UPDATE connectors SET applied = ?2 WHERE name = ?1", params![name, applied])?;
            transaction.execute("DELETE FROM tasks WHERE connector = ?1", [&name])?;
            let mut insert = transaction.prepare("INSERT INTO tasks (connector, task, config) VALUES (?1, ?2, ?3)")?;
            for (task, config) in tasks.iter().enumerate() {
                insert.execute(params![name, task as i64, config])?;
            }
            Ok(())
        })
    }

    fn remove_connector(&self, name: &str) -> Result<(), StorageError> {
        let name = name.to_owned();
        self.write("removing a connector", move |transaction| {
            transaction.execute("DELETE FROM connectors WHERE name = ?1", [&name])?;
            Ok(())
        })
    }
}

fn tasks(connection: &Connection, connector: &str) -> rusqlite::Result<Vec<Config>> {
    let mut statement = connection.prepare("SELECT config FROM tasks WHERE connector = ?1 ORDER BY task")?;
    let tasks = statement.query_map([connector], |row| config(row, 0))?;
    tasks.collect()
}

fn config(row: &Row<'_>, column: usize) -> rusqlite::Result<Config> {
    let text: String = row.get(column)?;
    Config::from_json(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn target_name(target: State) -> &'static str {
    match target {
        State::Paused => "PAUSED",
        State::Stopped => "STOPPED",
        _ => "RUNNING",
    }
}

fn target(name: &str) -> State {
    match name {
        "PAUSED" => State::Paused,
        "STOPPED" => State::Stopped,
        _ => State::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        pairs.iter().copied().collect()
    }

    #[test]
    fn connectors_come_back_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path()).unwrap();
        let (first, second) = (config(&[("a", "1"), ("secret", "${file:/x:y}")]), config(&[("a", "2")]));
        store.put_connector("b/ü", &first, Some(State::Paused)).unwrap();
        store.put_tasks("b/ü", &[second.clone(), first.clone()], &first).unwrap();
        store.put_connector("b/ü", &second, None).unwrap();
        store.put_connector("a", &first, None).unwrap();
        store.put_target("a", State::Stopped).unwrap();
        drop(store);

        let store = SqliteStore::open(directory.path()).unwrap();
        let connectors = store.connectors().unwrap();
        assert_eq!(connectors.iter().map(|connector| connector.name.as_str()).collect::<Vec<_>>(), ["a", "b/ü"]);
        assert_eq!(connectors[0].target, State::Stopped);
        assert_eq!(connectors[1].target, State::Paused);
        assert_eq!(connectors[1].tasks, [second.clone(), first.clone()]);
        assert_eq!(connectors[1].applied, Some(first));
        assert_eq!(connectors[1].config, second);

        store.remove_connector("b/ü").unwrap();
        store.put_connector("b/ü", &second, None).unwrap();
        assert_eq!(store.connectors().unwrap()[1].tasks, []);
    }
}
