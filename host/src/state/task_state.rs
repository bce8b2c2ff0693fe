//! The state of one task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arrow_array::Array;

use super::file;
use super::holders::TaskHold;
use super::layer::{Layer, Positions, ShardChanges};
use super::restore::{ChangelogReader, Restored};
use super::saver::Saver;
use super::store::Store;
use super::{Shard, StateDirectory, StateError};
use crate::task::control::now_ms;

type Result<T> = std::result::Result<T, StateError>;

/// The stores of a task's shards, and the layers that move them on. Shared by the task's threads.
pub struct TaskState {
    connector: String,
    directory: StateDirectory,
    max_bytes: usize,
    saver: Saver,
    inner: Mutex<Inner>,
    restoring: Mutex<BTreeMap<Shard, Progress>>,
    /// Last: it is let go when the files are closed.
    hold: TaskHold,
}

struct Inner {
    stores: BTreeMap<Shard, Store>,
    /// The open layer.
    layer: u64,
    /// Layers up to here are committed or discarded.
    settled: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    next: i64,
    end: i64,
}

/// How a shard is doing, for status and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardStatus {
    /// Which.
    pub shard: Shard,
    /// Entries in memory.
    pub entries: usize,
    /// Memory that they take.
    pub bytes: usize,
    /// Records of the changelog that are left to read, while it is being restored.
    pub to_restore: Option<u64>,
}

impl TaskState {
    /// No shards yet. `max_bytes` bounds the entries in memory, of all shards together.
    pub fn new(directory: StateDirectory, connector: &str, task: &str, max_bytes: usize) -> Result<Arc<Self>> {
        let saver = Saver::start(task, (max_bytes / 4).clamp(1 << 20, 256 << 20))?;
        Ok(Arc::new(Self {
            connector: connector.to_owned(),
            hold: directory.holders().task(connector),
            directory,
            max_bytes,
            saver,
            inner: Mutex::new(Inner { stores: BTreeMap::new(), layer: 1, settled: 0 }),
            restoring: Mutex::default(),
        }))
    }

    /// These shards are about to be restored: a standby of this worker closes all of their files at once.
    pub fn announce(&self, shards: impl IntoIterator<Item = Shard>) {
        self.hold.announce(shards);
    }

    /// Opens a shard: takes its file over and reads what the changelog has beyond it; everything when the file is of no use.
    /// The previous owner has to be fenced by then.
    pub fn restore(&self, shard: Shard, changelog: &mut dyn ChangelogReader) -> Result<Restored> {
        self.hold.take(shard);
        let restored = self.take_over(shard, changelog);
        if restored.is_err() {
            self.hold.give_back(shard);
        }
        restored
    }

    fn take_over(&self, shard: Shard, changelog: &mut dyn ChangelogReader) -> Result<Restored> {
        let begun = Instant::now();
        let path = self.directory.shard(&self.connector, shard)?;
        let (mut writer, reader, state) = file::open(&path, &self.connector, shard)?;
        let (first, end) = changelog.bounds()?;
        let usable = state.usable((first, end));
        let has_entries = state.has_entries && usable.is_some();
        if usable.is_none() {
            if state.has_entries || state.next_offset.is_some() {
                tracing::info!(
                    connector = self.connector,
                    shard,
                    "the saved state is too old; it is restored from the changelog as a whole"
                );
            }
            // What is read from now on is from now, also if this is interrupted.
            writer.clear(now_ms())?;
        }
        let saved = self.saver.open(shard, writer);
        let mut store = Store::new(shard, reader, has_entries, saved, self.max_bytes);
        let from = usable.unwrap_or(first);
        let mut restored = Restored { records: 0, full: usable.is_none(), next_offset: from };
        let result = self.replay(shard, &mut store, changelog, &mut restored, end);
        self.restoring().remove(&shard);
        if let Err(error) = result {
            self.saver.close(shard);
            return Err(error);
        }
        self.saver.restored(shard);
        let mut inner = self.lock();
        inner.stores.insert(shard, store);
        self.share(&mut inner);
        drop(inner);
        tracing::info!(
            connector = self.connector,
            shard,
            records = restored.records,
            whole = restored.full,
            "the state is restored, in {:?}",
            begun.elapsed()
        );
        Ok(restored)
    }

    fn replay(
        &self,
        shard: Shard,
        store: &mut Store,
        changelog: &mut dyn ChangelogReader,
        restored: &mut Restored,
        end: i64,
    ) -> Result<()> {
        while let Some(records) = {
            self.restoring().insert(shard, Progress { next: restored.next_offset, end });
            changelog.read(restored.next_offset)?
        } {
            let number = store.apply(&records.keys, &records.values)?;
            store.maintain();
            restored.records += records.keys.len() as u64;
            restored.next_offset = records.next_offset;
            let positions = Positions { inputs: Vec::new(), changelog: BTreeMap::from([(shard, records.next_offset)]) };
            let changes = ShardChanges { shard, number, keys: records.keys, values: records.values };
            self.saver.save(vec![Arc::new(changes)], positions)?;
        }
        restored.next_offset = restored.next_offset.max(end);
        Ok(())
    }

    /// Works on a shard's store. An error if the shard is not open.
    pub fn with<R>(&self, shard: Shard, work: impl FnOnce(&mut Store) -> Result<R>) -> Result<R> {
        let mut inner = self.lock();
        let store = inner.stores.get_mut(&shard).ok_or_else(|| {
            StateError::new(format!("the state of shard {shard} is not open; this is a bug of the worker"))
        })?;
        work(store)
    }

    /// Whether anything committed is in the state of an open shard.
    pub fn has_entries(&self, shard: Shard) -> Result<bool> {
        self.saver.sync()?;
        self.with(shard, |store| store.has_saved_entries())
    }

    /// The connector's name.
    pub fn connector(&self) -> &str {
        &self.connector
    }

    /// The shards that are open.
    pub fn shards(&self) -> Vec<Shard> {
        self.lock().stores.keys().copied().collect()
    }

    /// Whether memory is full of what is not committed or saved: the transaction should end.
    pub fn is_full(&self) -> bool {
        self.lock().stores.values().any(Store::is_full)
    }

    /// How many entries are in the open layer.
    pub fn unsealed(&self) -> usize {
        self.lock().stores.values().map(Store::unsealed).sum()
    }

    /// Closes the open layer: what this transaction has to write. The next writes belong to the next layer.
    pub fn seal(&self) -> Result<Layer> {
        self.seal_all(false)
    }

    /// The same, for a transaction that goes on: its part so far, to be written while the rest is made. [`Layer::join`] puts them together.
    pub fn seal_part(&self) -> Result<Layer> {
        self.seal_all(true)
    }

    fn seal_all(&self, part: bool) -> Result<Layer> {
        let mut inner = self.lock();
        let number = inner.layer;
        inner.layer += 1;
        let mut changes = Vec::new();
        for store in inner.stores.values_mut() {
            changes.extend(store.seal(part)?.map(Arc::new));
        }
        Ok(Layer { number, changes })
    }

    /// The transaction of a layer is committed. Layers are committed in their order. It is saved later; this waits while too much is
    /// not saved, and tells if saving failed.
    pub fn committed(&self, layer: Layer, positions: Positions) -> Result<()> {
        {
            let mut inner = self.lock();
            if layer.number <= inner.settled {
                return Err(StateError::new(
                    "a layer of state was committed that is discarded; this is a bug of the worker",
                ));
            }
            inner.settled = layer.number;
        }
        self.saver.save(layer.changes, positions)?;
        let any = |what: fn(&Store) -> bool| self.lock().stores.values().any(what);
        if any(Store::is_over) {
            // Small transactions, one after the other, would be no help: nothing can leave memory before it is saved.
            self.saver.sync()?;
            self.lock().stores.values_mut().for_each(Store::maintain);
        } else if any(Store::is_tight) {
            self.saver.hurry();
        }
        Ok(())
    }

    /// The transaction of a layer is aborted (`None`: the one of the open layer). This layer and all later ones are gone: the state
    /// is that of the last committed one. The input is to be read again from the committed offsets.
    pub fn discard(&self, layer: Option<Layer>) -> Result<()> {
        // Memory mixes layers; what is committed is read again from SQLite.
        self.saver.sync()?;
        let mut inner = self.lock();
        if layer.is_some_and(|layer| layer.number <= inner.settled) {
            return Err(StateError::new(
                "a layer of state was discarded that is committed; this is a bug of the worker",
            ));
        }
        inner.settled = inner.layer;
        inner.layer += 1;
        inner.stores.values_mut().for_each(Store::clear);
        Ok(())
    }

    /// A shard goes to another task. What was staged for it is dropped; what was committed is saved.
    pub fn close(&self, shard: Shard) {
        let known = {
            let mut inner = self.lock();
            let known = inner.stores.remove(&shard);
            self.share(&mut inner);
            known
        };
        if known.is_some() {
            self.saver.close(shard);
        }
        self.hold.give_back(shard);
    }

    /// Everything committed is in SQLite when this returns.
    pub fn sync(&self) -> Result<()> {
        self.saver.sync()
    }

    /// How the shards are doing.
    pub fn status(&self) -> Vec<ShardStatus> {
        let mut status: Vec<ShardStatus> = self
            .lock()
            .stores
            .iter()
            .map(|(&shard, store)| ShardStatus {
                shard,
                entries: store.entries(),
                bytes: store.bytes(),
                to_restore: None,
            })
            .collect();
        status.extend(self.restoring().iter().map(|(&shard, progress)| ShardStatus {
            shard,
            entries: 0,
            bytes: 0,
            to_restore: Some(progress.end.saturating_sub(progress.next).max(0) as u64),
        }));
        status
    }

    /// As if the process died here.
    #[cfg(test)]
    pub(crate) fn crash(&self) {
        self.saver.crash();
    }

    /// Divides the memory among the shards.
    fn share(&self, inner: &mut Inner) {
        let share = self.max_bytes / inner.stores.len().max(1);
        inner.stores.values_mut().for_each(|store| store.set_budget(share));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restoring(&self) -> MutexGuard<'_, BTreeMap<Shard, Progress>> {
        self.restoring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
