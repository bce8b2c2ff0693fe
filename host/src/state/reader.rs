//! Reading a shard's file.
//!
//! A question is answered from the segments that there were at one moment. When one of them is gone by the time that a block is read,
//! since it was merged with others, the question is asked again of those that there are then.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::StateError;
use super::changelog::read_value;
use super::file::{Published, connect};
use super::filter::hash;
use super::merge::{Cursor, Found, read_part};
use super::segment::{Segment, Segments, next, read_dues};

/// Blocks that are kept: neighbours are asked for one after the other, of each segment.
const KEPT: usize = 32;
/// How long the writer may take to tell of segments that it has merged.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that reads.
pub struct Reader {
    connection: Connection,
    path: String,
    published: Arc<Published>,
    blocks: RefCell<Vec<((i64, u32), Arc<[u8]>)>>,
}

/// An entry as it is stored: key, payload, time.
pub type Row = (Vec<u8>, Vec<u8>, i64);

type Result<T> = std::result::Result<T, StateError>;
/// `None`: a block was gone.
type Try<T> = Result<Option<T>>;

/// The segments of a moment.
pub struct Moment(Segments);

impl Moment {
    /// Whether a key, or one that begins so, may be in one of them.
    pub fn may_have(&self, key: &[u8]) -> bool {
        let hash = hash(key);
        self.0.iter().any(|segment| segment.may_have(hash))
    }
}

/// On the way through the times of a segment.
struct Dues {
    /// Its place among the segments.
    at: usize,
    page: u32,
    /// Entries with other numbers have other prefixes: their blocks are not read.
    numbers: Range<u32>,
    rest: std::vec::IntoIter<(i64, u32)>,
}

impl Reader {
    /// Another one on a file that is open.
    pub fn open(path: &str, published: Arc<Published>) -> Result<Self> {
        let connection = connect(path, 1024).map_err(|error| StateError::sqlite("opening state", path, error))?;
        Ok(Self { connection, path: path.to_owned(), published, blocks: RefCell::default() })
    }

    /// The segments that there are now.
    pub fn segments(&self) -> Moment {
        Moment(self.published.now())
    }

    /// Memory.
    pub fn bytes(&self) -> usize {
        self.published.now().iter().map(|segment| segment.bytes()).sum()
    }

    /// Asks until it is answered.
    fn ask<T>(&self, question: impl Fn(&[Arc<Segment>]) -> Try<T>) -> Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(answer) = question(&self.published.now())? {
                return Ok(answer);
            }
            if begun.elapsed() > PATIENCE {
                // Nobody else merges them.
                return Err(StateError::taken_over(&self.path));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn block(&self, segment: &Segment, block: u32) -> Try<Arc<[u8]>> {
        let id = (segment.id, block);
        let mut blocks = self.blocks.borrow_mut();
        if let Some((_, data)) = blocks.iter().find(|(known, _)| *known == id) {
            return Ok(Some(data.clone()));
        }
        let Some(data) = read_part(&self.connection, &self.path, false, id.0, id.1)? else { return Ok(None) };
        let data: Arc<[u8]> = data.into();
        if blocks.len() >= KEPT {
            blocks.remove(0);
        }
        blocks.push((id, data.clone()));
        Ok(Some(data))
    }

    /// The value of a key as the newest of the segments has it; the inner `None`: it is deleted.
    fn find(&self, segments: &[Arc<Segment>], key: &[u8]) -> Try<Option<Option<Vec<u8>>>> {
        let hash = hash(key);
        for segment in segments.iter().rev().filter(|segment| segment.may_have(hash)) {
            let Some(block) = segment.block_of(key) else { continue };
            let Some(data) = self.block(segment, block)? else { return Ok(None) };
            let mut rest = &data[..];
            while !rest.is_empty() {
                let entry = next(&mut rest)?;
                if entry.key == key {
                    return Ok(Some(Some(entry.value.map(<[u8]>::to_vec))));
                }
                if entry.key > key {
                    break;
                }
            }
        }
        Ok(Some(None))
    }

    /// The entries of keys. Sorted keys are read fastest.
    pub fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<(Vec<u8>, i64)>>> {
        self.ask(|segments| {
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                let Some(entry) = self.find(segments, key)? else { return Ok(None) };
                found.push(match entry.flatten() {
                    Some(value) => {
                        let (due, payload) = read_value(&value)?;
                        Some((payload.to_vec(), due))
                    }
                    None => None,
                });
            }
            Ok(Some(found))
        })
    }

    /// Entries that begin with `prefix` and are due, after a place in the order of times and keys.
    pub fn due(&self, prefix: &[u8], after: (i64, &[u8]), up_to: i64, limit: usize) -> Result<Vec<Row>> {
        self.ask(|segments| self.due_in(segments, prefix, after, up_to, limit))
    }

    fn due_in(
        &self,
        segments: &[Arc<Segment>],
        prefix: &[u8],
        after: (i64, &[u8]),
        up_to: i64,
        limit: usize,
    ) -> Try<Vec<Row>> {
        let mut all: Vec<Dues> = Vec::new();
        // What is next of each segment, by time and key.
        let mut first: BTreeMap<(i64, Vec<u8>, usize), Vec<u8>> = BTreeMap::new();
        for (at, segment) in segments.iter().enumerate() {
            let numbers = segment.numbers_of_prefix(prefix);
            let page = if numbers.is_empty() { segment.due_pages() } else { segment.due_page(after.0) };
            all.push(Dues { at, page, numbers, rest: Vec::new().into_iter() });
        }
        let pull = |dues: &mut Dues| -> Try<Option<(i64, Vec<u8>, Vec<u8>)>> {
            let segment = &segments[dues.at];
            loop {
                for (due, number) in dues.rest.by_ref() {
                    if due < after.0 {
                        continue;
                    }
                    if due > up_to {
                        return Ok(Some(None));
                    }
                    if !dues.numbers.contains(&number) {
                        continue;
                    }
                    let (block, skip) = segment.block_of_number(number);
                    let Some(data) = self.block(segment, block)? else { return Ok(None) };
                    let mut rest = &data[..];
                    for _ in 0..skip {
                        next(&mut rest)?;
                    }
                    let entry = next(&mut rest)?;
                    if entry.key.starts_with(prefix) && (due, entry.key) > after {
                        let (_, payload) = read_value(entry.value.unwrap_or_default())?;
                        return Ok(Some(Some((due, entry.key.to_vec(), payload.to_vec()))));
                    }
                }
                if dues.page >= segment.due_pages() {
                    return Ok(Some(None));
                }
                let Some(bytes) = read_part(&self.connection, &self.path, true, segment.id, dues.page)? else {
                    return Ok(None);
                };
                let page = read_dues(&bytes).ok_or_else(|| StateError::damaged("a page that cannot be read"))?;
                dues.rest = page.into_iter();
                dues.page += 1;
            }
        };
        let mut found = Vec::new();
        let mut wanted: Vec<usize> = (0..all.len()).collect();
        loop {
            for at in wanted.drain(..) {
                let Some(pulled) = pull(&mut all[at])? else { return Ok(None) };
                first.extend(pulled.map(|(due, key, payload)| ((due, key, at), payload)));
            }
            let Some(((due, key, at), payload)) = first.pop_first() else { break };
            wanted.push(at);
            // A newer segment may know better.
            let Some(newer) = self.find(&segments[at + 1..], &key)? else { return Ok(None) };
            if newer.is_none() {
                found.push((key, payload, due));
                if found.len() >= limit {
                    break;
                }
            }
        }
        Ok(Some(found))
    }

    /// The first time after `after` among entries that begin with `prefix`.
    pub fn next_due(&self, prefix: &[u8], after: i64) -> Result<Option<i64>> {
        let Some(from) = after.checked_add(1) else { return Ok(None) };
        Ok(self.due(prefix, (from, b""), i64::MAX - 1, 1)?.first().map(|(_, _, due)| *due))
    }

    /// Entries from one key to another, both included, in order, until `limit`.
    fn range_in(&self, segments: &[Arc<Segment>], from: &[u8], to: &[u8], limit: usize) -> Try<Vec<Row>> {
        let mut read = |segment: &Segment, block: u32| self.block(segment, block);
        let mut cursors: BTreeMap<usize, Cursor> = BTreeMap::new();
        for (at, segment) in segments.iter().enumerate() {
            match Cursor::new(segment, from, &mut read)? {
                Found::Some(cursor) => _ = cursors.insert(at, cursor),
                Found::Nothing => {}
                Found::Gone => return Ok(None),
            }
        }
        let mut found: Vec<Row> = Vec::new();
        while let Some(key) = cursors.values().map(Cursor::key).min().filter(|key| *key <= to).map(<[u8]>::to_vec) {
            let mut newest = None;
            let mut over = Vec::new();
            // From the oldest on: the last one counts.
            for (at, cursor) in cursors.iter_mut().filter(|(_, cursor)| cursor.key() == key) {
                newest = cursor.entry().value.map(<[u8]>::to_vec);
                match cursor.advance(&mut read)? {
                    Found::Some(()) => {}
                    Found::Nothing => over.push(*at),
                    Found::Gone => return Ok(None),
                }
            }
            over.iter().for_each(|at| drop(cursors.remove(at)));
            if let Some(value) = newest {
                let (due, payload) = read_value(&value)?;
                found.push((key, payload.to_vec(), due));
                if found.len() >= limit {
                    break;
                }
            }
        }
        Ok(Some(found))
    }

    /// Entries from one key to another, both included, in order.
    pub fn range(&self, from: &[u8], to: &[u8]) -> Result<Vec<Row>> {
        self.ask(|segments| self.range_in(segments, from, to, usize::MAX))
    }

    /// Whether there are entries.
    pub fn has_entries(&self) -> Result<bool> {
        // Keys begin with the version of their layout, a small number.
        Ok(!self.ask(|segments| self.range_in(segments, b"", &[255; 4], 1))?.is_empty())
    }
}
