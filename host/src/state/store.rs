//! A shard's entries: those in memory, and those that are only in SQLite.
//!
//! Memory is a table of slots with a hash index. A slot holds key and payload in one allocation; one that was written in a layer that is
//! not saved is pinned. The clock algorithm picks what leaves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};

use arrow_array::{Array, BinaryArray};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::changelog::{NEVER, read_value, write_value};
use super::file::Reader;
use super::filter::Filter;
use super::key::{Space, space_of};
use super::layer::ShardChanges;
use super::{Shard, StateError};

type Result<T> = std::result::Result<T, StateError>;

/// Bytes that a slot takes beside key and payload: itself, its place in the index, the allocator's own.
const SLOT: usize = 72;
/// A place in an ordered set.
const ORDERED: usize = 32;

const USED: u8 = 1;
const DELETED: u8 = 2;
const REFERENCED: u8 = 4;

/// Entries that are due and read from SQLite at once.
const PAGE: usize = 4096;

struct Slot {
    data: Box<[u8]>,
    key_len: u32,
    flags: u8,
    space: u8,
    layer: u64,
    due: i64,
}

/// The entries of one transform and kind that wait for a time.
struct SpaceState {
    prefix: Box<[u8]>,
    scanned: bool,
    due: BTreeSet<(i64, u32)>,
    /// Nothing that is only in SQLite is due before.
    cold_from: i64,
    /// How far SQLite was read while what is due up to a time is being taken.
    cursor: Option<(i64, Vec<u8>)>,
}

/// What may be in SQLite and not in memory.
struct Cold {
    any: bool,
    filter: Filter,
    /// Makes the filter of what was there at the start; until it has, everything may be there.
    warming: Option<Receiver<Filter>>,
}

/// An entry whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The time.
    pub due: i64,
    /// Its whole key.
    pub key: Vec<u8>,
    /// Its value.
    pub payload: Vec<u8>,
}

/// The state of one shard. Used by one thread at a time.
pub struct Store {
    shard: Shard,
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    spaces: Vec<SpaceState>,
    ordered: BTreeMap<Box<[u8]>, u32>,
    bytes: usize,
    budget: usize,
    hand: usize,
    layer: u64,
    dirty: Vec<u32>,
    removed: VecDeque<(u64, u32)>,
    cold: Cold,
    reader: Reader,
    saved: Arc<AtomicU64>,
    /// The last saved layer at which nothing could leave.
    stuck_at: Option<u64>,
}

impl Store {
    pub(super) fn new(shard: Shard, reader: Reader, has_entries: bool, saved: Arc<AtomicU64>, budget: usize) -> Self {
        let hasher = DefaultHashBuilder::default();
        let warming = has_entries.then(|| warm(reader.path().to_owned(), hasher.clone()));
        Self {
            shard,
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher,
            spaces: Vec::new(),
            ordered: BTreeMap::new(),
            bytes: 0,
            budget,
            hand: 0,
            layer: 1,
            dirty: Vec::new(),
            removed: VecDeque::new(),
            cold: Cold { any: has_entries, filter: Filter::default(), warming },
            reader,
            saved,
            stuck_at: None,
        }
    }

    /// Bytes of memory that the entries take, about.
    pub fn bytes(&self) -> usize {
        self.bytes + self.cold.filter.bytes()
    }

    /// Number of entries in memory.
    pub fn entries(&self) -> usize {
        self.index.len()
    }

    /// Whether there are entries in SQLite.
    pub(super) fn has_saved_entries(&self) -> Result<bool> {
        self.reader.has_entries()
    }

    /// Whether memory is full of what is not saved: time to commit.
    pub fn is_full(&self) -> bool {
        self.bytes > self.budget
    }

    /// Brings keys that are only in SQLite into memory, all at once, so that [`Self::get`] asks nobody.
    pub fn load<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) -> Result<()> {
        if !self.cold.any {
            return Ok(());
        }
        self.poll_warming();
        let mut missing: Vec<&[u8]> = Vec::new();
        for key in keys {
            let hash = self.hasher.hash_one(key);
            if self.find(hash, key).is_none() && self.cold.may_have(hash) {
                missing.push(key);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_unstable();
        missing.dedup();
        let mut found: Vec<(&[u8], Option<(Vec<u8>, i64)>)> = Vec::with_capacity(missing.len());
        self.reader.get_many(missing.into_iter(), |key, entry| {
            found.push((key, entry.map(|(payload, due)| (payload.to_vec(), due))));
        })?;
        for (key, entry) in found {
            match entry {
                Some((payload, due)) => self.insert_saved(key, Some((&payload, due)))?,
                // So that it is not asked for again.
                None => self.insert_saved(key, None)?,
            }
        }
        Ok(())
    }

    /// The value of a key.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<&[u8]>> {
        let hash = self.hasher.hash_one(key);
        let mut found = self.find(hash, key);
        if found.is_none() && self.cold.any && self.cold.may_have(hash) {
            self.load(std::iter::once(key))?;
            found = self.find(hash, key);
        }
        let Some(at) = found else { return Ok(None) };
        let slot = &mut self.slots[at as usize];
        slot.flags |= REFERENCED;
        Ok((slot.flags & DELETED == 0).then(|| &slot.data[slot.key_len as usize..]))
    }

    /// Sets a key, and the time at which [`Self::due`] tells of it.
    pub fn put(&mut self, key: &[u8], payload: &[u8], due: Option<i64>) -> Result<()> {
        let due = due.unwrap_or(NEVER);
        let hash = self.hasher.hash_one(key);
        let Some(at) = self.find(hash, key) else {
            let at = self.insert(hash, key, payload, due, self.layer)?;
            self.dirty.push(at);
            return Ok(());
        };
        let slot = &mut self.slots[at as usize];
        if slot.layer != self.layer {
            slot.layer = self.layer;
            self.dirty.push(at);
        }
        let key_len = slot.key_len as usize;
        if slot.data.len() == key_len + payload.len() {
            slot.data[key_len..].copy_from_slice(payload);
        } else {
            self.bytes = self.bytes + key_len + payload.len() - slot.data.len();
            slot.data = joined(key, payload);
        }
        let was_deleted = slot.flags & DELETED != 0;
        slot.flags = USED | REFERENCED;
        if slot.due != due {
            self.set_due(at, due);
        }
        if was_deleted {
            self.set_ordered(at);
        }
        Ok(())
    }

    /// Removes a key.
    pub fn delete(&mut self, key: &[u8]) -> Result<()> {
        let hash = self.hasher.hash_one(key);
        let at = match self.find(hash, key) {
            Some(at) if self.slots[at as usize].flags & DELETED != 0 => return Ok(()),
            Some(at) => at,
            None if self.cold.any && self.cold.may_have(hash) => {
                let at = self.insert(hash, key, b"", NEVER, self.layer)?;
                // Not yet among the dirty ones.
                self.slots[at as usize].layer = 0;
                at
            }
            None => return Ok(()),
        };
        if self.slots[at as usize].due != NEVER {
            self.set_due(at, NEVER);
        }
        let slot = &mut self.slots[at as usize];
        if slot.layer != self.layer {
            slot.layer = self.layer;
            self.dirty.push(at);
        }
        if self.spaces[slot.space as usize].scanned {
            self.ordered.remove(key);
        }
        self.bytes -= slot.data.len() - key.len();
        slot.data = key.into();
        slot.flags = USED | DELETED;
        self.removed.push_back((self.layer, at));
        Ok(())
    }

    /// Whether [`Self::due`] may have something.
    pub fn has_due(&mut self, space: &Space, up_to: i64) -> bool {
        let Some(space) = self.spaces.iter().find(|known| *known.prefix == *space.prefix()) else {
            return self.cold.any;
        };
        space.due.first().is_some_and(|(due, _)| *due <= up_to) || (self.cold.any && space.cold_from <= up_to)
    }

    /// Some entries of a space whose time is not later than `up_to`, by time and key; none when there are no more. They are told of
    /// once: each has to be set again, with another time, or deleted.
    pub fn due(&mut self, space: &Space, up_to: i64) -> Result<Vec<Due>> {
        let at = self.space(space.prefix())?;
        let mut limit = up_to;
        if self.cold.any && self.spaces[at as usize].cold_from <= up_to {
            let state = &self.spaces[at as usize];
            let rows = self.reader.due(&state.prefix, up_to, state.cursor.as_ref(), PAGE)?;
            let last = rows.last().map(|(key, _, due)| (*due, key.clone()));
            let full = rows.len() == PAGE;
            for (key, payload, due) in rows {
                if self.find(self.hasher.hash_one(&*key), &key).is_none() {
                    self.insert_saved(&key, Some((&payload, due)))?;
                }
            }
            let state = &mut self.spaces[at as usize];
            match last.filter(|_| full) {
                // What comes later in SQLite must not be overtaken.
                Some((due, key)) => {
                    limit = due;
                    state.cursor = Some((due, key));
                }
                None => {
                    state.cursor = None;
                    state.cold_from = NEVER;
                    if let Some(next) = self.reader.next_due(&state.prefix, up_to)? {
                        state.cold_from = next;
                    }
                }
            }
        }
        let state = &mut self.spaces[at as usize];
        let mut taken = Vec::new();
        while let Some(&(due, slot)) = state.due.first().filter(|(due, _)| *due <= limit && taken.len() < PAGE) {
            state.due.pop_first();
            let slot = &mut self.slots[slot as usize];
            slot.due = NEVER;
            self.bytes -= ORDERED;
            let (key, payload) = slot.data.split_at(slot.key_len as usize);
            taken.push(Due { due, key: key.to_vec(), payload: payload.to_vec() });
        }
        taken.sort_by(|a, b| (a.due, &a.key).cmp(&(b.due, &b.key)));
        if taken.is_empty() && limit < up_to {
            // The page had only what memory knows better.
            return self.due(space, up_to);
        }
        Ok(taken)
    }

    /// The entries of a scanned kind from one key to another, both included, in order. They differ in their times only.
    pub fn scan(&mut self, from: &[u8], to: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let record_key = &from[..from.len().saturating_sub(8)];
        if self.cold.any && self.cold.may_have(self.hasher.hash_one(record_key)) {
            self.poll_warming();
            for (key, payload, due) in self.reader.range(from, to)? {
                if self.find(self.hasher.hash_one(&*key), &key).is_none() {
                    self.insert_saved(&key, Some((&payload, due)))?;
                }
            }
        }
        let range = self.ordered.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Included(to)));
        let payload = |at: u32| {
            let slot = &self.slots[at as usize];
            slot.data[slot.key_len as usize..].to_vec()
        };
        Ok(range.map(|(key, at)| (key.to_vec(), payload(*at))).collect())
    }

    /// Between batches: forgets what is saved and gone, and lets saved entries leave memory when it is full.
    pub fn maintain(&mut self) {
        self.poll_warming();
        let saved = self.saved.load(Ordering::Acquire);
        while let Some(&(layer, at)) = self.removed.front().filter(|(layer, _)| *layer <= saved) {
            self.removed.pop_front();
            let slot = &self.slots[at as usize];
            if slot.flags & DELETED != 0 && slot.layer == layer {
                self.remove(at);
            }
        }
        if self.bytes <= self.budget || self.stuck_at == Some(saved) {
            return;
        }
        let (target, mut left) = (self.budget / 10 * 9, self.slots.len() * 2);
        while self.bytes > target && left > 0 {
            left -= 1;
            self.hand = if self.hand + 1 < self.slots.len() { self.hand + 1 } else { 0 };
            let slot = &mut self.slots[self.hand];
            if slot.flags & USED == 0 || slot.layer > saved {
                continue;
            }
            if slot.flags & REFERENCED != 0 {
                slot.flags &= !REFERENCED;
                continue;
            }
            self.evict(self.hand as u32);
        }
        self.stuck_at = (self.bytes > target).then_some(saved);
    }

    fn evict(&mut self, at: u32) {
        let slot = &self.slots[at as usize];
        if slot.flags & DELETED == 0 {
            let key = &slot.data[..slot.key_len as usize];
            self.cold.add(&self.hasher, key, self.spaces[slot.space as usize].scanned);
            let space = &mut self.spaces[slot.space as usize];
            space.cold_from = space.cold_from.min(slot.due);
        }
        self.remove(at);
    }

    /// Everything leaves memory; what was not saved is lost.
    pub(super) fn clear(&mut self) {
        // A deletion that is dropped leaves its entry in SQLite.
        for slot in self.slots.iter().filter(|slot| slot.flags & USED != 0) {
            let key = &slot.data[..slot.key_len as usize];
            self.cold.add(&self.hasher, key, self.spaces[slot.space as usize].scanned);
        }
        self.cold.any = true;
        for space in &mut self.spaces {
            space.due.clear();
            space.cold_from = i64::MIN;
            space.cursor = None;
        }
        self.slots.clear();
        self.free.clear();
        self.index.clear();
        self.ordered.clear();
        self.dirty.clear();
        self.removed.clear();
        self.layer += 1;
        (self.bytes, self.hand, self.stuck_at) = (0, 0, None);
    }

    /// What was written since the last time, as the changelog wants it. The next layer begins.
    pub(super) fn seal(&mut self) -> Result<Option<ShardChanges>> {
        let number = self.layer;
        self.layer += 1;
        if self.dirty.is_empty() {
            return Ok(None);
        }
        let dirty = std::mem::take(&mut self.dirty);
        let (mut keys, mut key_ends) = (Vec::new(), Vec::with_capacity(dirty.len() + 1));
        let (mut values, mut value_ends) = (Vec::new(), Vec::with_capacity(dirty.len() + 1));
        let mut valid = Vec::with_capacity(dirty.len());
        key_ends.push(0);
        value_ends.push(0);
        for &at in &dirty {
            let slot = &self.slots[at as usize];
            let (key, payload) = slot.data.split_at(slot.key_len as usize);
            keys.extend_from_slice(key);
            let deleted = slot.flags & DELETED != 0;
            if !deleted {
                write_value(slot.due, payload, &mut values);
            }
            valid.push(!deleted);
            let end = |bytes: &Vec<u8>| {
                i32::try_from(bytes.len()).map_err(|_| {
                    StateError::new("one transaction writes more than 2 GiB of state; commit more often or set state.max.bytes lower")
                })
            };
            key_ends.push(end(&keys)?);
            value_ends.push(end(&values)?);
        }
        let column = |bytes: Vec<u8>, ends: Vec<i32>, nulls| {
            BinaryArray::new(OffsetBuffer::new(ScalarBuffer::from(ends)), bytes.into(), nulls)
        };
        let changes = ShardChanges {
            shard: self.shard,
            number,
            keys: column(keys, key_ends, None),
            values: column(values, value_ends, Some(NullBuffer::from(valid))),
        };
        // The list is used again.
        self.dirty = dirty;
        self.dirty.clear();
        Ok(Some(changes))
    }

    /// Applies records of the changelog. They are a layer of their own, whose number is the answer.
    pub(super) fn apply(&mut self, keys: &BinaryArray, values: &BinaryArray) -> Result<u64> {
        for row in 0..keys.len() {
            match values.is_valid(row) {
                true => {
                    let (due, payload) = read_value(values.value(row))?;
                    self.put(keys.value(row), payload, Some(due))?;
                }
                false => self.delete(keys.value(row))?,
            }
        }
        self.dirty.clear();
        self.layer += 1;
        Ok(self.layer - 1)
    }

    pub(super) fn set_budget(&mut self, bytes: usize) {
        self.budget = bytes;
        self.stuck_at = None;
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let same = |at: &u32| {
            let slot = &self.slots[*at as usize];
            slot.key_len as usize == key.len() && slot.data[..key.len()] == *key
        };
        self.index.find(hash, same).copied()
    }

    /// An entry as SQLite has it; `None`: it has none.
    fn insert_saved(&mut self, key: &[u8], entry: Option<(&[u8], i64)>) -> Result<()> {
        let hash = self.hasher.hash_one(key);
        let (payload, due) = entry.unwrap_or((b"", NEVER));
        let at = self.insert(hash, key, payload, due, 0)?;
        if entry.is_none() {
            let slot = &mut self.slots[at as usize];
            slot.flags |= DELETED;
            if self.spaces[slot.space as usize].scanned {
                self.ordered.remove(key);
            }
        }
        Ok(())
    }

    fn insert(&mut self, hash: u64, key: &[u8], payload: &[u8], due: i64, layer: u64) -> Result<u32> {
        let (prefix, _) = space_of(key)?;
        let space = self.space(&key[..prefix])?;
        let slot = Slot {
            data: joined(key, payload),
            key_len: key.len() as u32,
            flags: USED | REFERENCED,
            space,
            layer,
            due: NEVER,
        };
        self.bytes += slot.data.len() + SLOT;
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        let Self { slots, hasher, index, .. } = self;
        let hash_of = |at: &u32| {
            let slot = &slots[*at as usize];
            hasher.hash_one(&slot.data[..slot.key_len as usize])
        };
        index.insert_unique(hash, at, hash_of);
        if due != NEVER {
            self.set_due(at, due);
        }
        self.set_ordered(at);
        Ok(at)
    }

    fn set_due(&mut self, at: u32, due: i64) {
        let slot = &mut self.slots[at as usize];
        let set = &mut self.spaces[slot.space as usize].due;
        if slot.due != NEVER && set.remove(&(slot.due, at)) {
            self.bytes -= ORDERED;
        }
        slot.due = due;
        if due != NEVER && set.insert((due, at)) {
            self.bytes += ORDERED;
        }
    }

    fn set_ordered(&mut self, at: u32) {
        let slot = &self.slots[at as usize];
        if self.spaces[slot.space as usize].scanned {
            self.ordered.insert(slot.data[..slot.key_len as usize].into(), at);
        }
    }

    /// Takes a slot out.
    fn remove(&mut self, at: u32) {
        self.set_due(at, NEVER);
        let slot = &mut self.slots[at as usize];
        let data = std::mem::take(&mut slot.data);
        let key = &data[..slot.key_len as usize];
        if self.spaces[slot.space as usize].scanned {
            self.ordered.remove(key);
        }
        slot.flags = 0;
        self.bytes -= data.len() + SLOT;
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.index.find_entry(hash, |found| *found == at) {
            entry.remove();
        }
        self.free.push(at);
    }

    fn space(&mut self, prefix: &[u8]) -> Result<u8> {
        if let Some(at) = self.spaces.iter().position(|space| *space.prefix == *prefix) {
            return Ok(at as u8);
        }
        if self.spaces.len() == 255 {
            return Err(StateError::new(
                "one connector can have 255 kinds of state; split its transforms between connectors",
            ));
        }
        let scanned = prefix.last().is_some_and(|kind| *kind >= 128);
        let cold_from = if self.cold.any { i64::MIN } else { NEVER };
        self.spaces.push(SpaceState { prefix: prefix.into(), scanned, due: BTreeSet::new(), cold_from, cursor: None });
        Ok((self.spaces.len() - 1) as u8)
    }

    fn poll_warming(&mut self) {
        if let Some(warming) = &self.cold.warming {
            match warming.try_recv() {
                Ok(filter) => {
                    self.cold.filter.merge(filter);
                    self.cold.warming = None;
                }
                Err(TryRecvError::Empty) => {}
                // It failed, and logged why: every key may be there.
                Err(TryRecvError::Disconnected) => {}
            }
        }
    }

    /// Every entry, for tests.
    #[cfg(test)]
    pub(super) fn all(&mut self) -> Result<BTreeMap<Vec<u8>, (Vec<u8>, i64)>> {
        let rows = self.reader.range(b"", &[255; 4])?;
        let mut all: BTreeMap<_, _> = rows.into_iter().map(|(key, payload, due)| (key, (payload, due))).collect();
        for slot in self.slots.iter().filter(|slot| slot.flags & USED != 0) {
            let (key, payload) = slot.data.split_at(slot.key_len as usize);
            match slot.flags & DELETED {
                0 => all.insert(key.to_vec(), (payload.to_vec(), slot.due)),
                _ => all.remove(key),
            };
        }
        Ok(all)
    }
}

impl Cold {
    fn may_have(&self, hash: u64) -> bool {
        self.warming.is_some() || self.filter.may_have(hash)
    }

    fn add(&mut self, hasher: &DefaultHashBuilder, key: &[u8], scanned: bool) {
        self.any = true;
        add(&mut self.filter, hasher, key, scanned);
    }
}

/// A scanned entry is also looked for by what comes before its time.
fn add(filter: &mut Filter, hasher: &DefaultHashBuilder, key: &[u8], scanned: bool) {
    filter.add(hasher.hash_one(key));
    if scanned {
        filter.add(hasher.hash_one(&key[..key.len().saturating_sub(8)]));
    }
}

fn joined(key: &[u8], payload: &[u8]) -> Box<[u8]> {
    let mut data = Vec::with_capacity(key.len() + payload.len());
    data.extend_from_slice(key);
    data.extend_from_slice(payload);
    data.into()
}

/// Reads the keys in the background. Keys that are saved meanwhile come into the filter when they leave memory.
fn warm(path: String, hasher: DefaultHashBuilder) -> Receiver<Filter> {
    let (answer, filter) = std::sync::mpsc::channel();
    let read = move || {
        let mut filter = Filter::default();
        let result = Reader::open(&path).and_then(|reader| {
            reader.keys(|key| {
                let scanned = space_of(key).is_ok_and(|(_, kind)| kind.is_scanned());
                add(&mut filter, &hasher, key, scanned);
                true
            })
        });
        match result {
            // The store may be closed by now.
            Ok(()) => drop(answer.send(filter)),
            Err(error) => tracing::warn!("the keys could not be read ahead, lookups of new keys are slower: {error}"),
        }
    };
    if let Err(error) = std::thread::Builder::new().name("state-keys".to_owned()).spawn(read) {
        tracing::warn!("the keys cannot be read ahead, lookups of new keys are slower: {error}");
    }
    filter
}
