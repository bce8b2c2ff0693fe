//! A shard's file as a standby keeps it: written from the changelog by a worker that does not run the task.
//!
//! It is the file that the task would have: when the task comes, its restore begins where this ended. Only committed records come here,
//! so that the file is never ahead of the changelog. Nothing is kept in memory but what waits to be saved.
//!
//! How it fails: what was read after too long a time without all of the changelog may lack deletions, whose tombstones are gone. The file is
//! emptied then, and saving is an error: whoever opens it again reads it from the beginning.

use std::time::{Duration, Instant};

use arrow_array::{Array, BinaryArray, Int64Array};

use super::changelog::read_value;
use super::file::{self, MAX_AGE, Save, Wanted, Writer, latest};
use super::key::space_of;
use super::restore::ChangelogRecords;
use super::{Shard, StateDirectory, StateError};
use crate::task::control::now_ms;

/// How often a file that has everything says so, while nothing comes: often enough for it to be trusted always.
const REFRESH: Duration = Duration::from_secs(300);

type Result<T> = std::result::Result<T, StateError>;

/// An open file. Dropping it loses what was not saved, which is read again.
pub struct FollowedShard {
    writer: Writer,
    /// The next offset to read.
    next: i64,
    /// What the file says of that.
    saved: i64,
    pending: Vec<(BinaryArray, BinaryArray)>,
    bytes: usize,
    /// When it had everything that the changelog had, if that was not saved yet; in milliseconds since the epoch, as the next two.
    current_at: Option<i64>,
    /// The same, saved or not.
    complete_at: i64,
    /// An end of the changelog that is not reached yet, and when it was there.
    ahead: Option<(i64, i64)>,
    /// Went on after too long a time, see the module.
    stale: bool,
    /// When it was saved last that it had everything.
    refreshed: Option<Instant>,
    /// Whether segments may have come together that are to be merged.
    untidy: bool,
}

impl FollowedShard {
    /// Takes a file over, made if need be, to follow a changelog partition that has these offsets, the first and the next one. Nobody
    /// else may have it open. What is too old is thrown away, as a task does.
    pub fn open(directory: &StateDirectory, connector: &str, shard: Shard, bounds: (i64, i64)) -> Result<Self> {
        let path = directory.shard(connector, shard)?;
        let (mut writer, _, state) = file::open(&path, connector, shard)?;
        let now = now_ms();
        let (next, complete_at) = match state.usable(bounds) {
            Some(next) if next == bounds.1 => (next, now),
            Some(next) => (next, state.saved_at.unwrap_or(now)),
            None => {
                writer.clear(now)?;
                (bounds.0, now)
            }
        };
        Ok(Self {
            writer,
            next,
            saved: next,
            pending: Vec::new(),
            bytes: 0,
            current_at: None,
            complete_at,
            ahead: None,
            stale: false,
            refreshed: None,
            untidy: true,
        })
    }

    /// The next offset to read.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// Memory that waits to be saved.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records with their offsets, which grow; those that it has are left out. To be saved soon. An error if they are none of a state.
    pub fn add(&mut self, records: ChangelogRecords, offsets: &Int64Array) -> Result<()> {
        let known = offsets.values().partition_point(|offset| *offset < self.next);
        let left = records.keys.len().saturating_sub(known);
        let ChangelogRecords { keys, values, next_offset } = records;
        let records = ChangelogRecords {
            keys: keys.slice(keys.len() - left, left),
            values: values.slice(values.len() - left, left),
            next_offset,
        };
        for row in 0..records.keys.len() {
            space_of(records.keys.value(row))?;
            if records.values.is_valid(row) {
                read_value(records.values.value(row))?;
            }
        }
        if left > 0 {
            self.bytes += records.keys.get_array_memory_size() + records.values.get_array_memory_size();
            self.pending.push((records.keys, records.values));
        }
        self.passed(records.next_offset);
        Ok(())
    }

    /// There are no more records in front of an offset.
    pub fn passed(&mut self, offset: i64) {
        if offset <= self.next {
            return;
        }
        self.stale |= now_ms() - self.complete_at >= MAX_AGE.as_millis() as i64;
        self.next = offset;
        if let Some((_, at)) = self.ahead.take_if(|(end, _)| *end <= offset) {
            self.complete(at);
        }
    }

    /// The changelog ended before this offset a moment ago.
    pub fn saw_end(&mut self, end: i64) {
        let now = now_ms();
        if self.next >= end {
            self.complete(now);
        } else {
            // While others go on writing it may never be at the end that is asked for last.
            self.ahead.get_or_insert((end, now));
        }
    }

    fn complete(&mut self, at: i64) {
        if !self.stale {
            self.complete_at = self.complete_at.max(at);
            self.current_at = Some(self.complete_at);
        }
    }

    /// Writes what waits.
    pub fn save(&mut self) -> Result<()> {
        let refreshes = self.current_at.is_some() && self.refreshed.is_none_or(|at| at.elapsed() >= REFRESH);
        if self.waits() || refreshes { self.write() } else { Ok(()) }
    }

    fn waits(&self) -> bool {
        self.next != self.saved || !self.pending.is_empty()
    }

    fn write(&mut self) -> Result<()> {
        if self.stale {
            self.pending.clear();
            self.writer.clear(now_ms())?;
            return Err(StateError::retriable(format!(
                "a copy of state did not have all of the changelog for {MAX_AGE:?}, so that deletions may be missing; it is read anew"
            )));
        }
        let rows = latest(self.pending.iter().map(|(keys, values)| (keys, values)));
        self.writer.save(&Save { rows: &rows, next_offset: Some(self.next), now_ms: self.current_at })?;
        self.untidy |= !rows.is_empty();
        drop(rows);
        self.pending.clear();
        if self.current_at.take().is_some() {
            self.refreshed = Some(Instant::now());
        }
        (self.bytes, self.saved) = (0, self.next);
        Ok(())
    }

    /// Merges segments, if a few have come together; whether there may be more to merge.
    pub fn tidy(&mut self, wanted: &Wanted) -> Result<bool> {
        if self.untidy {
            self.untidy = self.writer.tidy(wanted)?;
        }
        Ok(self.untidy)
    }

    /// Saves and closes.
    pub fn close(mut self) -> Result<()> {
        let saved = if self.waits() || self.current_at.is_some() { self.write() } else { Ok(()) };
        self.writer.close();
        saved
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    use super::super::testing::MemoryLog;
    use super::super::{ChangelogReader, Kind, Restored, Space, TaskState};
    use super::*;

    fn key(number: u32) -> Vec<u8> {
        let mut key = Vec::new();
        Space::new("one", Kind::looked_up(1)).plain(&number.to_be_bytes(), &mut key);
        key
    }

    /// Writes of a task elsewhere: keys come again, and some are deleted.
    fn log(count: u32) -> MemoryLog {
        let record =
            |number: u32| (key(number % 700), (number % 11 != 3).then(|| [b"\0", &number.to_be_bytes()[..]].concat()));
        MemoryLog { records: (0..count).map(record).collect(), page: 60, ..MemoryLog::default() }
    }

    fn task(directory: &StateDirectory, log: &mut MemoryLog) -> (std::sync::Arc<TaskState>, Restored) {
        let state = TaskState::new(directory.clone(), "c", "c-0", 1 << 20).unwrap();
        let restored = state.restore(0, log).unwrap();
        (state, restored)
    }

    /// What the whole changelog makes.
    fn expected(log: &mut MemoryLog) -> std::collections::BTreeMap<Vec<u8>, (Vec<u8>, i64)> {
        let elsewhere = tempfile::tempdir().unwrap();
        let (state, restored) = task(&StateDirectory::new(elsewhere.path()), log);
        assert!(restored.full);
        state.with(0, |store| store.all()).unwrap()
    }

    /// A task goes on from the file, reads so many records of the changelog, and has what the whole of it makes.
    fn assert_goes_on(directory: &StateDirectory, log: &mut MemoryLog, records: u64) {
        let (state, restored) = task(directory, log);
        assert_eq!((restored.full, restored.records), (false, records));
        assert_eq!(state.with(0, |store| store.all()).unwrap(), expected(log));
    }

    /// Records without gaps.
    fn offsets(records: &ChangelogRecords) -> Int64Array {
        (records.next_offset - records.keys.len() as i64..records.next_offset).collect()
    }

    fn add(file: &mut FollowedShard, records: ChangelogRecords) -> Result<()> {
        let offsets = offsets(&records);
        file.add(records, &offsets)
    }

    /// Follows up to an offset, with many small saves.
    fn follow(file: &mut FollowedShard, log: &mut MemoryLog, up_to: i64) {
        log.bounds().unwrap();
        while file.next() < up_to {
            let records = log.read(file.next()).unwrap().unwrap();
            add(file, records).unwrap();
            file.save().unwrap();
            file.tidy(&Wanted::default()).unwrap();
        }
    }

    #[test]
    fn records_that_come_again_change_nothing() {
        let place = tempfile::tempdir().unwrap();
        let directory = StateDirectory::new(place.path());
        let mut log = log(4_000);
        let bounds = log.bounds().unwrap();
        let mut file = FollowedShard::open(&directory, "c", 0, bounds).unwrap();
        follow(&mut file, &mut log, 4_000);
        // All of it, with saves in between and a page that is known in part.
        log.bounds().unwrap();
        file.saw_end(4_000);
        let mut from = 0;
        while let Some(records) = log.read(from).unwrap() {
            from = records.next_offset;
            add(&mut file, records).unwrap();
            file.save().unwrap();
        }
        assert_eq!((file.next(), file.bytes()), (4_000, 0));
        let overlapping = ChangelogRecords {
            keys: BinaryArray::from_iter_values([key(1), key(1)]),
            values: BinaryArray::from_opt_vec(vec![Some(b"\0old"), Some(b"\0new")]),
            next_offset: 4_001,
        };
        log.records.push((key(1), Some(b"\0new".to_vec())));
        add(&mut file, overlapping).unwrap();
        // Not the newest of the two by chance: only one was taken.
        assert_eq!(file.pending.iter().map(|(keys, _)| keys.len()).sum::<usize>(), 1);
        file.close().unwrap();
        assert_goes_on(&directory, &mut log, 0);
    }

    /// A machine that slept for a day in the middle of following.
    #[test]
    fn what_goes_on_after_too_long_a_time_begins_anew() {
        let place = tempfile::tempdir().unwrap();
        let directory = StateDirectory::new(place.path());
        let mut log = log(600);
        let bounds = log.bounds().unwrap();
        let mut file = FollowedShard::open(&directory, "c", 0, bounds).unwrap();
        follow(&mut file, &mut log, 300);
        file.complete_at -= MAX_AGE.as_millis() as i64 + 1;
        log.bounds().unwrap();
        add(&mut file, log.read(300).unwrap().unwrap()).unwrap();
        // The end makes it no younger.
        file.saw_end(360);
        assert!(file.save().unwrap_err().retriable);
        assert!(file.close().is_err());
        let mut file = FollowedShard::open(&directory, "c", 0, bounds).unwrap();
        assert_eq!(file.next(), 0);
        follow(&mut file, &mut log, 600);
        // Nothing has come for long: it has everything still.
        file.complete_at -= MAX_AGE.as_millis() as i64 + 1;
        file.saw_end(600);
        file.close().unwrap();
        assert_goes_on(&directory, &mut log, 0);
    }

    #[test]
    fn an_end_that_was_passed_counts_while_others_write_on() {
        let place = tempfile::tempdir().unwrap();
        let directory = StateDirectory::new(place.path());
        let mut log = log(600);
        let mut file = FollowedShard::open(&directory, "c", 0, (0, 600)).unwrap();
        file.saw_end(300);
        let asked = file.ahead.unwrap().1;
        follow(&mut file, &mut log, 240);
        assert!(file.ahead.is_some() && file.refreshed.is_none());
        file.saw_end(500);
        follow(&mut file, &mut log, 360);
        assert!(file.ahead.is_none() && file.refreshed.is_some() && file.complete_at >= asked);
    }

    #[test]
    fn a_task_goes_on_from_what_was_followed() {
        let place = tempfile::tempdir().unwrap();
        let directory = StateDirectory::new(place.path());
        let mut log = log(4_000);
        let bounds = log.bounds().unwrap();
        let mut file = FollowedShard::open(&directory, "c", 0, bounds).unwrap();
        follow(&mut file, &mut log, 3_900);
        file.close().unwrap();
        let (state, restored) = task(&directory, &mut log);
        assert_eq!((restored.full, restored.records), (false, 100));
        let found = state.with(0, |store| store.all()).unwrap();
        assert_eq!(found, expected(&mut log));
        drop(state);
        // And back: it is followed from where the task ended.
        let bounds = log.bounds().unwrap();
        let file = FollowedShard::open(&directory, "c", 0, bounds).unwrap();
        assert_eq!(file.next(), 4_000);
    }

    #[test]
    fn what_was_not_saved_is_read_again() {
        let place = tempfile::tempdir().unwrap();
        let directory = StateDirectory::new(place.path());
        let mut log = log(600);
        let bounds = log.bounds().unwrap();
        let mut file = FollowedShard::open(&directory, "c", 0, bounds).unwrap();
        follow(&mut file, &mut log, 300);
        log.bounds().unwrap();
        add(&mut file, log.read(300).unwrap().unwrap()).unwrap();
        // As if the process died here.
        drop(file);
        assert_goes_on(&directory, &mut log, 300);
    }

    #[test]
    fn only_a_file_that_has_seen_the_end_becomes_young_again() {
        let place = tempfile::tempdir().unwrap();
        let directory = StateDirectory::new(place.path());
        let mut log = log(600);
        let bounds = log.bounds().unwrap();
        let path = directory.shard("c", 0).unwrap();
        let age = |set: Option<i64>| -> i64 {
            let file = rusqlite::Connection::open(&path).unwrap();
            if let Some(at) = set {
                file.execute("UPDATE meta SET value = ?1 WHERE name = 'saved.at'", [at]).unwrap();
            }
            file.query_row("SELECT value FROM meta WHERE name = 'saved.at'", [], |row| row.get(0)).unwrap()
        };
        let mut file = FollowedShard::open(&directory, "c", 0, bounds).unwrap();
        follow(&mut file, &mut log, 300);
        file.saw_end(600);
        file.close().unwrap();
        let hour = 3_600_000;
        let old = age(None) - 20 * hour;
        age(Some(old));
        let mut file = FollowedShard::open(&directory, "c", 0, bounds).unwrap();
        follow(&mut file, &mut log, 360);
        file.close().unwrap();
        assert_eq!(age(None), old);
        let mut file = FollowedShard::open(&directory, "c", 0, bounds).unwrap();
        follow(&mut file, &mut log, 600);
        file.saw_end(600);
        file.close().unwrap();
        assert!(age(None) > old + 19 * hour);
        // Too old, and not at the end: tombstones may be gone.
        age(Some(old - 4 * hour));
        assert_eq!(FollowedShard::open(&directory, "c", 0, (0, 700)).unwrap().next(), 0);
    }

    #[test]
    fn who_was_taken_over_saves_no_more_and_damaged_records_are_errors() {
        let place = tempfile::tempdir().unwrap();
        let directory = StateDirectory::new(place.path());
        let mut log = log(200);
        let bounds = log.bounds().unwrap();
        let mut file = FollowedShard::open(&directory, "c", 0, bounds).unwrap();
        let records = log.read(0).unwrap().unwrap();
        add(&mut file, records).unwrap();
        let damaged = ChangelogRecords {
            keys: BinaryArray::from_iter_values([b"\x02x"]),
            values: BinaryArray::from_opt_vec(vec![Some(b"\0")]),
            next_offset: 61,
        };
        assert!(add(&mut file, damaged).is_err());
        let (state, restored) = task(&directory, &mut log);
        assert_eq!(restored.records, 200);
        assert!(file.save().unwrap_err().taken_over);
        assert_eq!(state.with(0, |store| store.all()).unwrap(), expected(&mut log));
    }

    /// A task comes while its follower catches up: the follower gives way, saves what it has, and has the file again afterwards.
    #[test]
    fn a_follower_that_catches_up_gives_way_to_the_task() {
        let place = tempfile::tempdir().unwrap();
        let directory = StateDirectory::new(place.path());
        let mut log = log(60_000);
        let (read, end, opened) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            let follower = scope.spawn(|| {
                let mut hold = directory.holders().follower("c");
                let mut log = self::log(60_000);
                let mut places = Vec::new();
                while !end.load(Ordering::Relaxed) {
                    if !hold.open(0, 0) {
                        thread::yield_now();
                        continue;
                    }
                    let bounds = log.bounds().unwrap();
                    let mut file = FollowedShard::open(&directory, "c", 0, bounds).unwrap();
                    places.push(file.next());
                    opened.fetch_add(1, Ordering::Relaxed);
                    while hold.asked_for().is_empty() && !end.load(Ordering::Relaxed) {
                        let Some(records) = log.read(file.next()).unwrap() else { break };
                        add(&mut file, records).unwrap();
                        file.save().unwrap();
                        file.tidy(hold.wanted()).unwrap();
                        read.store(true, Ordering::Relaxed);
                    }
                    file.close().unwrap();
                    hold.closed(0);
                }
                places
            });
            while !read.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            let (state, restored) = task(&directory, &mut log);
            assert!(!restored.full && restored.records > 0, "{restored:?}");
            assert_eq!(state.with(0, |store| store.all()).unwrap(), expected(&mut log));
            state.close(0);
            drop(state);
            while opened.load(Ordering::Relaxed) < 2 && !follower.is_finished() {
                thread::yield_now();
            }
            end.store(true, Ordering::Relaxed);
            let places = follower.join().unwrap();
            assert_eq!(places[..2], [0, 60_000]);
        });
    }
}
