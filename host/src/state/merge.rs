//! Several segments as one: the newest entry of each key, in order.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::StateError;
use super::file::row_id;
use super::key::space_of;
use super::segment::{Builder, Entry, Pages, Segment, due_of, next, read_dues};

type Result<T> = std::result::Result<T, StateError>;

/// Whether a key is of a scanned kind.
pub fn is_scanned(key: &[u8]) -> bool {
    space_of(key).is_ok_and(|(_, kind)| kind.is_scanned())
}

/// A part of a segment; `None`: it is gone, since its segment was merged with others.
pub fn read_part(
    connection: &Connection,
    path: &str,
    dues: bool,
    segment: i64,
    number: u32,
) -> Result<Option<Vec<u8>>> {
    let query = match dues {
        true => "SELECT data FROM dues WHERE id = ?1",
        false => "SELECT data FROM blocks WHERE id = ?1",
    };
    let read = || connection.prepare_cached(query)?.query_row([row_id(segment, number)], |row| row.get(0)).optional();
    read().map_err(|error| StateError::sqlite("reading state", path, error))
}

/// A place in a segment, on the way through its entries.
pub struct Cursor {
    pub segment: Arc<Segment>,
    block: u32,
    data: Arc<[u8]>,
    at: usize,
    /// Where the entry here begins, and its key and value in the block.
    key: std::ops::Range<usize>,
    value: Option<std::ops::Range<usize>>,
    number: u32,
}

/// Reads a block; `None`: it is gone.
pub type ReadBlock<'r> = &'r mut dyn FnMut(&Segment, u32) -> Result<Option<Arc<[u8]>>>;

impl Cursor {
    /// At the first entry that is not before `from`. `Ok(None)`: there is none.
    pub fn new(segment: &Arc<Segment>, from: &[u8], read: ReadBlock<'_>) -> Result<Found<Self>> {
        let block = segment.block_of(from).unwrap_or(0);
        if block >= segment.blocks() {
            return Ok(Found::Nothing);
        }
        let Some(data) = read(segment, block)? else { return Ok(Found::Gone) };
        let number = segment.number_of_block(block).wrapping_sub(1);
        let mut cursor = Self { segment: segment.clone(), block, data, at: 0, key: 0..0, value: None, number };
        loop {
            match cursor.advance(read)? {
                Found::Some(()) if cursor.key() < from => {}
                Found::Some(()) => return Ok(Found::Some(cursor)),
                Found::Nothing => return Ok(Found::Nothing),
                Found::Gone => return Ok(Found::Gone),
            }
        }
    }

    /// The key here.
    pub fn key(&self) -> &[u8] {
        &self.data[self.key.clone()]
    }

    /// The entry here.
    pub fn entry(&self) -> Entry<'_> {
        Entry { key: self.key(), value: self.value.clone().map(|value| &self.data[value]) }
    }

    /// Its number in the segment.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Goes to the next entry.
    pub fn advance(&mut self, read: ReadBlock<'_>) -> Result<Found<()>> {
        if self.at == self.data.len() {
            self.block += 1;
            if self.block >= self.segment.blocks() {
                return Ok(Found::Nothing);
            }
            let Some(data) = read(&self.segment, self.block)? else { return Ok(Found::Gone) };
            (self.data, self.at) = (data, 0);
        }
        let mut rest = &self.data[self.at..];
        let entry = next(&mut rest)?;
        let (base, left) = (self.data.as_ptr() as usize, rest.len());
        let range = |part: &[u8]| {
            let from = part.as_ptr() as usize - base;
            from..from + part.len()
        };
        let (key, value) = (range(entry.key), entry.value.map(range));
        (self.key, self.value) = (key, value);
        self.at = self.data.len() - left;
        self.number = self.number.wrapping_add(1);
        Ok(Found::Some(()))
    }
}

/// What was looked for in a segment.
pub enum Found<T> {
    Some(T),
    Nothing,
    /// The segment was merged meanwhile: look again in the ones that there are now.
    Gone,
}

/// Neighbours, oldest first.
pub struct Merge<'s> {
    pub segments: &'s [Arc<Segment>],
    /// Nothing is older: there is nothing left that a deletion hides.
    pub oldest: bool,
    /// Asked for each block: somebody waits.
    pub interrupted: &'s dyn Fn() -> bool,
}

/// What a merge came to.
pub enum Merged {
    /// A segment, with its index and its filter as they are stored.
    Segment(Box<(Segment, Vec<u8>, Vec<u8>)>),
    /// Nothing is left.
    Nothing,
    /// It was given up.
    Interrupted,
}

/// The number of an entry that is not in the result.
const DROPPED: u32 = u32::MAX;

impl Merge<'_> {
    /// As one segment. Its row is for the caller to write.
    pub fn into_segment(
        self,
        connection: &Connection,
        path: &str,
        id: i64,
        age: i64,
        pages: &mut dyn Pages,
    ) -> Result<Merged> {
        let given_up = Cell::new(false);
        let merged =
            self.merge(connection, path, &given_up, Builder::new(id, age, self.entries(), self.is_scanned(), pages));
        match merged {
            Err(_) if given_up.get() => Ok(Merged::Interrupted),
            Ok(merged) if merged.0.entries > 0 => Ok(Merged::Segment(Box::new(merged))),
            Ok(_) => Ok(Merged::Nothing),
            Err(error) => Err(error),
        }
    }

    fn entries(&self) -> usize {
        self.segments.iter().map(|segment| segment.entries as usize).sum()
    }

    fn is_scanned(&self) -> bool {
        self.segments.iter().any(|segment| segment.is_scanned())
    }

    fn merge(
        &self,
        connection: &Connection,
        path: &str,
        given_up: &Cell<bool>,
        mut builder: Builder<'_>,
    ) -> Result<(Segment, Vec<u8>, Vec<u8>)> {
        let gone = || StateError::taken_over(path);
        let mut read = |segment: &Segment, block: u32| -> Result<Option<Arc<[u8]>>> {
            if (self.interrupted)() {
                given_up.set(true);
                return Err(StateError::retriable("the merge was given up: somebody waits"));
            }
            Ok(read_part(connection, path, false, segment.id, block)?.map(Arc::from))
        };
        // The new numbers of entries, for their times.
        let mut numbers: Vec<Vec<u32>> =
            self.segments.iter().map(|segment| vec![DROPPED; segment.entries as usize]).collect();
        let mut cursors: Vec<Option<Cursor>> = Vec::new();
        for segment in self.segments {
            cursors.push(match Cursor::new(segment, b"", &mut read)? {
                Found::Some(cursor) => Some(cursor),
                Found::Nothing => None,
                Found::Gone => return Err(gone()),
            });
        }
        while let Some(winner) = newest(&cursors) {
            let cursor = cursors[winner].as_ref().expect("it was found");
            let entry = cursor.entry();
            if entry.value.is_some() || !self.oldest {
                let number = builder.push(entry)?;
                if due_of(entry.value)?.is_some() {
                    numbers[winner][cursor.number() as usize] = number;
                }
            }
            // The winner last: the others are compared with it.
            let same = |(at, cursor): (usize, &Option<Cursor>)| {
                cursor.as_ref().filter(|other| at != winner && other.key() == entry.key).map(|_| at)
            };
            let hidden: Vec<usize> = cursors.iter().enumerate().filter_map(same).collect();
            for at in hidden.into_iter().chain([winner]) {
                if let Some(cursor) = &mut cursors[at] {
                    match cursor.advance(&mut read)? {
                        Found::Some(()) => {}
                        Found::Nothing => cursors[at] = None,
                        Found::Gone => return Err(gone()),
                    }
                }
            }
        }
        self.merge_dues(connection, path, &numbers, &mut builder)?;
        builder.finish()
    }

    /// The times of what is left, in their order.
    fn merge_dues(
        &self,
        connection: &Connection,
        path: &str,
        numbers: &[Vec<u32>],
        builder: &mut Builder<'_>,
    ) -> Result<()> {
        let mut pages: Vec<(u32, std::vec::IntoIter<(i64, u32)>)> =
            self.segments.iter().map(|_| (0, Vec::new().into_iter())).collect();
        let mut pull = |at: usize| -> Result<Option<(i64, u32)>> {
            let (page, rest) = &mut pages[at];
            loop {
                for (due, number) in rest.by_ref() {
                    let number = numbers[at].get(number as usize).copied().unwrap_or(DROPPED);
                    if number != DROPPED {
                        return Ok(Some((due, number)));
                    }
                }
                if *page >= self.segments[at].due_pages() {
                    return Ok(None);
                }
                let bytes = read_part(connection, path, true, self.segments[at].id, *page)?;
                let dues = read_dues(&bytes.ok_or_else(|| StateError::taken_over(path))?);
                *rest = dues.ok_or_else(|| StateError::damaged("a page that cannot be read"))?.into_iter();
                *page += 1;
            }
        };
        let mut first = BTreeMap::new();
        for at in 0..self.segments.len() {
            first.extend(pull(at)?.map(|due| (due, at)));
        }
        while let Some(((due, number), at)) = first.pop_first() {
            builder.due(due, number)?;
            first.extend(pull(at)?.map(|due| (due, at)));
        }
        Ok(())
    }
}

/// Of the cursors with the least key, the newest.
fn newest(cursors: &[Option<Cursor>]) -> Option<usize> {
    let mut winner: Option<(usize, &[u8])> = None;
    for (at, cursor) in cursors.iter().enumerate() {
        let Some(cursor) = cursor else { continue };
        if winner.is_none_or(|(_, key)| cursor.key() <= key) {
            winner = Some((at, cursor.key()));
        }
    }
    winner.map(|(at, _)| at)
}
