//! Keyed state by shard.

use rusqlite::params;

use super::SqliteStore;
use crate::storage::{StateStore, StorageError};

impl StateStore for SqliteStore {
    fn get_many(&self, connector: &str, shard: &str, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        self.read("reading state", |connection| {
            let mut statement =
                connection.prepare("SELECT value FROM states WHERE connector = ?1 AND shard = ?2 AND key = ?3")?;
            let mut get = |key: &&[u8]| {
                let mut rows = statement.query(params![connector, shard, key])?;
                rows.next()?.map(|row| row.get(0)).transpose()
            };
            keys.iter().map(&mut get).collect()
        })
    }

    fn put_many(&self, connector: &str, shard: &str, writes: &[(&[u8], Option<&[u8]>)]) -> Result<(), StorageError> {
        if writes.is_empty() {
            return Ok(());
        }
        let (connector, shard) = (connector.to_owned(), shard.to_owned());
        let writes: Vec<(Vec<u8>, Option<Vec<u8>>)> =
            writes.iter().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect();
        self.write("storing state", move |transaction| {
            let mut put = transaction
                .prepare("INSERT OR REPLACE INTO states (connector, shard, key, value) VALUES (?1, ?2, ?3, ?4)")?;
            let mut remove =
                transaction.prepare("DELETE FROM states WHERE connector = ?1 AND shard = ?2 AND key = ?3")?;
            for (key, value) in &writes {
                match value {
                    Some(value) => put.execute(params![connector, shard, key, value])?,
                    None => remove.execute(params![connector, shard, key])?,
                };
            }
            Ok(())
        })
    }

    fn scan(
        &self,
        connector: &str,
        shard: &str,
        prefix: &[u8],
        from: &[u8],
        entry: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.read("reading state", |connection| {
            let mut statement = connection.prepare(
                "SELECT key, value FROM states WHERE connector = ?1 AND shard = ?2 AND key >= ?3 ORDER BY key",
            )?;
            let mut rows = statement.query(params![connector, shard, prefix.max(from)])?;
            while let Some(row) = rows.next()? {
                let key = row.get_ref(0)?.as_blob()?;
                // Keys are in byte order: the first one without the prefix is past all that have it.
                if !key.starts_with(prefix) || !entry(key, row.get_ref(1)?.as_blob()?) {
                    break;
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_keep_to_prefix_start_and_shard() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path()).unwrap();
        let keys: [&[u8]; 5] = [b"a", b"b", b"b\x00", b"b\xff", b"c"];
        let writes: Vec<(&[u8], Option<&[u8]>)> = keys.iter().map(|key| (*key, Some(*key))).collect();
        store.put_many("x", "0", &writes).unwrap();
        store.put_many("x", "1", &[(b"b1", Some(b""))]).unwrap();
        let scan = |prefix: &[u8], from: &[u8], limit: usize| {
            let mut found = Vec::new();
            let mut entry = |key: &[u8], _: &[u8]| {
                found.push(key.to_vec());
                found.len() < limit
            };
            store.scan("x", "0", prefix, from, &mut entry).unwrap();
            found
        };
        assert_eq!(scan(b"b", b"", 9), [&b"b"[..], b"b\x00", b"b\xff"]);
        assert_eq!(scan(b"b", b"b\x00", 9), [&b"b\x00"[..], b"b\xff"]);
        assert_eq!(scan(b"", b"", 2), [&b"a"[..], b"b"]);
        store.put_many("x", "0", &[(b"a", None), (b"b", Some(b"2"))]).unwrap();
        assert_eq!(store.get_many("x", "0", &[b"a", b"b"]).unwrap(), [None, Some(b"2".to_vec())]);
    }
}
