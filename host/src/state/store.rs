//! A shard's entries: those in memory, and those that are only in SQLite.
//!
//! Memory is a table of slots with a hash index. A slot holds key and payload in one allocation; one that was written in a layer that is
//! not saved is pinned. The clock algorithm picks what leaves.

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::{Array, BinaryArray};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::changelog::{NEVER, read_value, write_value};
use super::key::{Space, space_of};
use super::layer::ShardChanges;
use super::reader::Reader;
use super::{Shard, StateError};

type Result<T> = std::result::Result<T, StateError>;

/// Bytes that a slot takes beside key and payload: itself, its place in the index, the allocator's own.
const SLOT: usize = 72;
/// A place in the list of a time.
const LISTED: usize = 8;

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
    due: BTreeMap<i64, Vec<u32>>,
    /// How many of the listed are due then; others have another time since, or are gone.
    listed: usize,
    waiting: usize,
    /// Nothing that is only in SQLite is due before.
    cold_from: i64,
    /// How far SQLite was read while what is due up to a time is being taken.
    cursor: Option<(i64, Vec<u8>)>,
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
    /// Slots by 32 bits of their keys' hashes, so that a table that grows looks at no key.
    index: HashTable<(u32, u32)>,
    hasher: DefaultHashBuilder,
    spaces: Vec<SpaceState>,
    ordered: BTreeMap<Box<[u8]>, u32>,
    bytes: usize,
    budget: usize,
    /// What of the budget is for entries.
    room: usize,
    hand: usize,
    layer: u64,
    dirty: Vec<u32>,
    /// Memory that the open transaction's ones take, about.
    layer_bytes: usize,
    removed: VecDeque<(u64, u32)>,
    /// Whether something may be in SQLite and not in memory.
    cold: bool,
    reader: Reader,
    saved: Arc<AtomicU64>,
    /// The last saved layer at which nothing could leave.
    stuck_at: Option<u64>,
}

impl Store {
    pub(super) fn new(shard: Shard, reader: Reader, has_entries: bool, saved: Arc<AtomicU64>, budget: usize) -> Self {
        let hasher = DefaultHashBuilder::default();
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
            room: room(budget, 0),
            hand: 0,
            layer: 1,
            dirty: Vec::new(),
            layer_bytes: 0,
            removed: VecDeque::new(),
            cold: has_entries,
            reader,
            saved,
            stuck_at: None,
        }
    }

    /// Bytes of memory that the entries take, about.
    pub fn bytes(&self) -> usize {
        self.bytes + self.reader.bytes()
    }

    /// Number of entries in memory.
    pub fn entries(&self) -> usize {
        self.index.len()
    }

    /// Whether there are entries in SQLite.
    pub(super) fn has_saved_entries(&self) -> Result<bool> {
        self.reader.has_entries()
    }

    /// Whether it is time to commit: memory is full of what is not saved, or the open transaction alone takes a third of it, so that
    /// one is saved while the next one is written.
    pub fn is_full(&self) -> bool {
        self.is_over() || self.layer_bytes > self.room / 3
    }

    /// Whether memory is full of what is not saved.
    pub(super) fn is_over(&self) -> bool {
        self.bytes > self.room
    }

    /// Whether memory would be full with another layer.
    pub(super) fn is_tight(&self) -> bool {
        self.bytes > self.room - self.room / 3
    }

    /// Whether entries may be in SQLite only.
    pub fn is_cold(&self) -> bool {
        self.cold
    }

    /// Brings keys that are only in SQLite into memory, all at once, so that [`Self::get`] asks nobody.
    pub fn load<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) -> Result<()> {
        if !self.cold {
            return Ok(());
        }
        let segments = self.reader.segments();
        let mut missing: Vec<&[u8]> = Vec::new();
        for key in keys {
            if self.find(self.hasher.hash_one(key), key).is_none() && segments.may_have(key) {
                missing.push(key);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_unstable();
        missing.dedup();
        for (key, entry) in missing.iter().zip(self.reader.get_many(&missing)?) {
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
        if found.is_none() && self.may_be_saved(key) {
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
            self.layer_bytes += key.len() + payload.len() + SLOT;
            return Ok(());
        };
        let slot = &mut self.slots[at as usize];
        if slot.layer != self.layer {
            slot.layer = self.layer;
            self.dirty.push(at);
            self.layer_bytes += slot.data.len() + SLOT;
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
            None if self.may_be_saved(key) => {
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
            self.layer_bytes += slot.data.len() + SLOT;
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
            return self.cold;
        };
        space.due.first_key_value().is_some_and(|(due, _)| *due <= up_to) || (self.cold && space.cold_from <= up_to)
    }

    /// Some entries of a space whose time is not later than `up_to`, by time and key; none when there are no more. They are told of
    /// once: each has to be set again, with another time, or deleted.
    pub fn due(&mut self, space: &Space, up_to: i64) -> Result<Vec<Due>> {
        let at = self.space(space.prefix())?;
        let mut limit = up_to;
        if self.cold && self.spaces[at as usize].cold_from <= up_to {
            let state = &self.spaces[at as usize];
            let from = state.cursor.clone().unwrap_or((state.cold_from, Vec::new()));
            let rows = self.reader.due(&state.prefix, (from.0, &from.1), up_to, PAGE)?;
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
        while let Some(mut first) = state.due.first_entry().filter(|first| *first.key() <= limit && taken.len() < PAGE)
        {
            let due = *first.key();
            let Some(number) = first.get_mut().pop() else {
                first.remove();
                continue;
            };
            state.listed -= 1;
            let slot = &mut self.slots[number as usize];
            if slot.due != due || slot.space != at {
                continue;
            }
            state.waiting -= 1;
            slot.due = NEVER;
            self.bytes -= LISTED;
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
        if self.may_be_saved(record_key) {
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
        let saved = self.saved.load(Ordering::Acquire);
        while let Some(&(layer, at)) = self.removed.front().filter(|(layer, _)| *layer <= saved) {
            self.removed.pop_front();
            let slot = &self.slots[at as usize];
            if slot.flags & DELETED != 0 && slot.layer == layer {
                self.remove(at);
            }
        }
        self.room = room(self.budget, self.reader.bytes());
        if self.bytes <= self.room || self.stuck_at == Some(saved) {
            return;
        }
        let (target, mut left) = (self.room / 10 * 9, self.slots.len() * 2);
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
            self.cold = true;
            let space = &mut self.spaces[slot.space as usize];
            space.cold_from = space.cold_from.min(slot.due);
        }
        self.remove(at);
    }

    /// Everything leaves memory; what was not saved is lost.
    pub(super) fn clear(&mut self) {
        self.cold = true;
        for space in &mut self.spaces {
            space.due.clear();
            (space.listed, space.waiting) = (0, 0);
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
        (self.bytes, self.layer_bytes, self.hand, self.stuck_at) = (0, 0, 0, None);
    }

    /// How many entries were written since the last layer was sealed.
    pub(super) fn unsealed(&self) -> usize {
        self.dirty.len()
    }

    /// What was written since the last time, as the changelog wants it. The next layer begins; it is of the same transaction if this
    /// was only a `part` of it.
    pub(super) fn seal(&mut self, part: bool) -> Result<Option<ShardChanges>> {
        let number = self.layer;
        self.layer += 1;
        if !part {
            self.layer_bytes = 0;
        }
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
        self.layer_bytes = 0;
        self.layer += 1;
        Ok(self.layer - 1)
    }

    pub(super) fn set_budget(&mut self, bytes: usize) {
        self.budget = bytes;
        self.room = room(bytes, self.reader.bytes());
        self.stuck_at = None;
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let same = |(tag, at): &(u32, u32)| {
            let slot = &self.slots[*at as usize];
            *tag == hash as u32 && slot.key_len as usize == key.len() && slot.data[..key.len()] == *key
        };
        self.index.find(spread(hash as u32), same).map(|(_, at)| *at)
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
        self.index.insert_unique(spread(hash as u32), (hash as u32, at), |(tag, _)| spread(*tag));
        if due != NEVER {
            self.set_due(at, due);
        }
        self.set_ordered(at);
        Ok(at)
    }

    fn set_due(&mut self, at: u32, due: i64) {
        let slot = &mut self.slots[at as usize];
        let space = &mut self.spaces[slot.space as usize];
        if slot.due != NEVER {
            space.waiting -= 1;
            self.bytes -= LISTED;
        }
        slot.due = due;
        if due != NEVER {
            space.due.entry(due).or_default().push(at);
            space.listed += 1;
            space.waiting += 1;
            self.bytes += LISTED;
        }
        if space.listed > 2 * space.waiting + PAGE {
            self.tidy_due(at);
        }
    }

    /// Takes those out of the lists of a slot's space that are due at another time.
    fn tidy_due(&mut self, at: u32) {
        let number = self.slots[at as usize].space;
        let (slots, space) = (&self.slots, &mut self.spaces[number as usize]);
        space.due.retain(|due, list| {
            list.retain(|at| slots[*at as usize].due == *due && slots[*at as usize].space == number);
            // One that had this time before may be listed twice.
            list.sort_unstable();
            list.dedup();
            list.shrink_to_fit();
            !list.is_empty()
        });
        space.listed = space.due.values().map(Vec::len).sum();
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
        if let Ok(entry) = self.index.find_entry(spread(hash as u32), |(_, found)| *found == at) {
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
        let cold_from = if self.cold { i64::MIN } else { NEVER };
        self.spaces.push(SpaceState {
            prefix: prefix.into(),
            scanned,
            due: BTreeMap::new(),
            listed: 0,
            waiting: 0,
            cold_from,
            cursor: None,
        });
        Ok((self.spaces.len() - 1) as u8)
    }

    /// Whether a key, or one that begins so, may be in SQLite and not in memory, where it is not.
    fn may_be_saved(&self, key: &[u8]) -> bool {
        self.cold && self.reader.segments().may_have(key)
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

/// What of a budget is for entries: not what it takes to find those in SQLite, unless that is more than half of it, and a little is left
/// for the batch that comes before somebody looks again.
fn room(budget: usize, segments: usize) -> usize {
    let room = budget - segments.min(budget / 2);
    room - room / 16
}

/// Over all the bits that the table looks at.
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn joined(key: &[u8], payload: &[u8]) -> Box<[u8]> {
    let mut data = Vec::with_capacity(key.len() + payload.len());
    data.extend_from_slice(key);
    data.extend_from_slice(payload);
    data.into()
}
