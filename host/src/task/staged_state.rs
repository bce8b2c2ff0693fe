//! State writes of a task that are not yet safe: kept in memory until the offsets that they belong to are committed.
//!
//! The store must never be ahead of the offsets, or a crash would make a task meet records again whose effects it already
//! remembers. So each write carries the epoch (poll or put) in which it was made, and reaches the store only when the
//! offsets of that epoch are committed. Reads see the staged writes first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tributary_sdk::{Error, Result};

use crate::storage::{StateStore, StorageError};

type Key = (Box<str>, Box<[u8]>);
/// A value, or none: the key is removed.
type Written = Option<Arc<[u8]>>;

#[derive(Default)]
struct Staged {
    epoch: u64,
    /// The offsets of everything up to this epoch are committed.
    settled: u64,
    /// The last value and the epoch that wrote it, by shard and key.
    latest: BTreeMap<Key, (u64, Written)>,
    /// Every write, in order.
    writes: Vec<(u64, Key, Written)>,
}

/// The state of one task.
pub struct StagedState {
    connector: String,
    store: Arc<dyn StateStore>,
    staged: Mutex<Staged>,
}

fn stored(error: StorageError) -> Error {
    Error::retriable(error.to_string())
}

impl StagedState {
    /// Nothing staged.
    pub fn new(connector: String, store: Arc<dyn StateStore>) -> Self {
        Self { connector, store, staged: Mutex::default() }
    }

    /// Writes from now on belong to this epoch. Epochs grow.
    pub fn begin(&self, epoch: u64) {
        self.lock().epoch = epoch;
    }

    /// The offsets of everything up to this epoch are committed: its writes become durable.
    pub fn commit(&self, epoch: u64) -> Result<(), StorageError> {
        let mut staged = self.lock();
        staged.settled = staged.settled.max(epoch);
        let count = staged.writes.partition_point(|(at, ..)| *at <= epoch);
        let mut by_shard: BTreeMap<&str, BTreeMap<&[u8], Option<&[u8]>>> = BTreeMap::new();
        for (_, (shard, key), value) in &staged.writes[..count] {
            by_shard.entry(shard).or_default().insert(key, value.as_deref());
        }
        for (shard, writes) in by_shard {
            self.store.put_many(&self.connector, shard, &writes.into_iter().collect::<Vec<_>>())?;
        }
        staged.writes.drain(..count);
        staged.latest.retain(|_, (at, _)| *at > epoch);
        Ok(())
    }

    /// The offsets of what is staged will not be committed: its records come again, here or elsewhere.
    pub fn discard(&self) {
        let mut staged = self.lock();
        // What could not be stored yet is committed all the same.
        let count = staged.writes.partition_point(|(at, ..)| *at <= staged.settled);
        staged.writes.truncate(count);
        staged.latest = staged.writes.iter().map(|(at, key, value)| (key.clone(), (*at, value.clone()))).collect();
    }

    /// Values by key.
    pub fn get_many(&self, shard: &str, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let staged = self.lock();
        let mut values = self.store.get_many(&self.connector, shard, keys).map_err(stored)?;
        for (key, value) in keys.iter().zip(&mut values) {
            if let Some((_, latest)) = staged.latest.get(&(shard.into(), (*key).into())) {
                *value = latest.as_deref().map(<[u8]>::to_vec);
            }
        }
        Ok(values)
    }

    /// Stages writes.
    pub fn put_many(&self, shard: &str, writes: &[(&[u8], Option<&[u8]>)]) {
        let mut staged = self.lock();
        let epoch = staged.epoch;
        for (key, value) in writes {
            let (key, value): (Key, Written) = ((shard.into(), (*key).into()), value.map(Into::into));
            staged.latest.insert(key.clone(), (epoch, value.clone()));
            staged.writes.push((epoch, key, value));
        }
    }

    /// Entries by prefix, in byte order.
    pub fn scan(
        &self,
        shard: &str,
        prefix: &[u8],
        from: &[u8],
        entry: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()> {
        let staged = self.lock();
        let first: Key = (shard.into(), from.max(prefix).into());
        let mut overlay = staged
            .latest
            .range(first..)
            .take_while(|((at, key), _)| **at == *shard && key.starts_with(prefix))
            .map(|((_, key), (_, value))| (&**key, value.as_deref()))
            .peekable();
        let mut go_on = true;
        let mut merge = |key: &[u8], value: &[u8]| {
            while let Some((staged_key, staged_value)) = overlay.next_if(|(staged_key, _)| *staged_key < key) {
                go_on = staged_value.is_none_or(|value| entry(staged_key, value));
                if !go_on {
                    return false;
                }
            }
            go_on = match overlay.next_if(|(staged_key, _)| *staged_key == key) {
                Some((_, latest)) => latest.is_none_or(|latest| entry(key, latest)),
                None => entry(key, value),
            };
            go_on
        };
        self.store.scan(&self.connector, shard, prefix, from, &mut merge).map_err(stored)?;
        for (key, value) in overlay {
            go_on = go_on && value.is_none_or(|value| entry(key, value));
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Staged> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Memory(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

    impl StateStore for Memory {
        fn get_many(&self, _: &str, _: &str, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
            let map = self.0.lock().unwrap();
            Ok(keys.iter().map(|key| map.get(*key).cloned()).collect())
        }
        fn put_many(&self, _: &str, _: &str, writes: &[(&[u8], Option<&[u8]>)]) -> Result<(), StorageError> {
            let mut map = self.0.lock().unwrap();
            for (key, value) in writes {
                match value {
                    Some(value) => map.insert(key.to_vec(), value.to_vec()),
                    None => map.remove(*key),
                };
            }
            Ok(())
        }
        fn scan(
            &self,
            _: &str,
            _: &str,
            prefix: &[u8],
            from: &[u8],
            entry: &mut dyn FnMut(&[u8], &[u8]) -> bool,
        ) -> Result<(), StorageError> {
            let map = self.0.lock().unwrap();
            let range = map.range(from.max(prefix).to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
            for (key, value) in range {
                if !entry(key, value) {
                    break;
                }
            }
            Ok(())
        }
    }

    fn keys(state: &StagedState) -> String {
        let mut seen = String::new();
        let mut entry = |key: &[u8], value: &[u8]| {
            seen += &format!("{}={} ", String::from_utf8_lossy(key), String::from_utf8_lossy(value));
            true
        };
        state.scan("0", b"k", b"", &mut entry).unwrap();
        seen
    }

    #[test]
    fn only_committed_epochs_reach_the_store_and_reads_see_the_latest() {
        let store = Arc::new(Memory::default());
        let state = StagedState::new("c".into(), store.clone());
        state.begin(1);
        state.put_many("0", &[(b"k2", Some(b"a")), (b"k4", Some(b"a")), (b"x", Some(b"a"))]);
        state.begin(2);
        state.put_many("0", &[(b"k1", Some(b"b")), (b"k2", Some(b"b")), (b"k4", None), (b"k5", Some(b"b"))]);
        assert_eq!(keys(&state), "k1=b k2=b k5=b ");
        state.commit(1).unwrap();
        assert_eq!(
            store.get_many("c", "0", &[b"k2", b"k4", b"k1"]).unwrap(),
            [Some(b"a".to_vec()), Some(b"a".to_vec()), None]
        );
        assert_eq!(keys(&state), "k1=b k2=b k5=b ");
        assert_eq!(state.get_many("0", &[b"k2", b"k4"]).unwrap(), [Some(b"b".to_vec()), None]);
        state.commit(2).unwrap();
        assert_eq!(keys(&state), "k1=b k2=b k5=b ");
        assert_eq!(store.get_many("c", "0", &[b"k4", b"k5"]).unwrap(), [None, Some(b"b".to_vec())]);
    }
    #[test]
    fn what_is_discarded_was_never_written() {
        let store = Arc::new(Memory::default());
        let state = StagedState::new("c".into(), store.clone());
        state.begin(1);
        state.put_many("0", &[(b"k1", Some(b"a"))]);
        state.commit(1).unwrap();
        state.begin(2);
        state.put_many("0", &[(b"k1", Some(b"b")), (b"k2", Some(b"b"))]);
        state.discard();
        assert_eq!(keys(&state), "k1=a ");
        state.begin(3);
        state.put_many("0", &[(b"k3", Some(b"c"))]);
        state.commit(3).unwrap();
        assert_eq!(store.get_many("c", "0", &[b"k1", b"k2"]).unwrap(), [Some(b"a".to_vec()), None]);
        assert_eq!(keys(&state), "k1=a k3=c ");
    }
}
