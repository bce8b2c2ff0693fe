//! Segments: the sorted writes of several layers, as one thing that is never changed.
//!
//! A segment's entries are cut into blocks of about a page; what it takes to find one (the first key of each block, and a filter) is in
//! memory. A newer segment's entry hides older ones with the same key. Entries with a time are listed once more, by their times, as pages
//! of times and numbers of entries.
//!
//! | A block's entry | |
//! |---|---|
//! | 1–5 + n | length (LEB128) and bytes of the key |
//! | 1–5 | 0: it is deleted; otherwise one more than the value's length |
//! | n | the value as the changelog has it |

use std::ops::Range;
use std::sync::Arc;

use super::StateError;
use super::changelog::{NEVER, read_value};
use super::filter::{Filter, hash};
use super::key::space_of;

/// Bytes of a block: with its row, a page of SQLite.
const BLOCK: usize = 3900;
/// Entries of a page of times.
const DUES: usize = 320;

type Result<T> = std::result::Result<T, StateError>;

/// What memory knows of a segment.
#[derive(Debug, Default)]
pub struct Segment {
    /// Its number in the file.
    pub id: i64,
    /// Segments are ordered by this.
    pub age: i64,
    /// How many entries it has.
    pub entries: u32,
    /// First keys of blocks, one after the other, and where they end.
    firsts: Vec<u8>,
    ends: Vec<u32>,
    /// Number of the first entry of each block.
    numbers: Vec<u32>,
    /// The first of each page of times.
    dues: Vec<(i64, u32)>,
    /// Whether there are entries of scanned kinds.
    scanned: bool,
    filter: Filter,
}

impl Segment {
    /// Memory.
    pub fn bytes(&self) -> usize {
        self.firsts.len() + self.ends.len() * 8 + self.dues.len() * 16 + self.filter.bytes()
    }

    /// How many blocks.
    pub fn blocks(&self) -> u32 {
        self.ends.len() as u32
    }

    /// How many pages of times.
    pub fn due_pages(&self) -> u32 {
        self.dues.len() as u32
    }

    /// Whether there are entries of scanned kinds.
    pub fn is_scanned(&self) -> bool {
        self.scanned
    }

    /// Whether a key with this hash, or a scanned one that begins so, may be here.
    pub fn may_have(&self, hash: u64) -> bool {
        self.filter.may_have(hash)
    }

    fn first(&self, block: usize) -> &[u8] {
        let from = if block == 0 { 0 } else { self.ends[block - 1] as usize };
        &self.firsts[from..self.ends[block] as usize]
    }

    /// The block where a key is, if it is here.
    pub fn block_of(&self, key: &[u8]) -> Option<u32> {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.first(middle) <= key { low = middle + 1 } else { high = middle }
        }
        low.checked_sub(1).map(|block| block as u32)
    }

    /// The number of the first entry of a block.
    pub fn number_of_block(&self, block: u32) -> u32 {
        self.numbers[block as usize]
    }

    /// The block that has an entry, and how many are before it there.
    pub fn block_of_number(&self, number: u32) -> (u32, u32) {
        let block = self.numbers.partition_point(|first| *first <= number).saturating_sub(1);
        (block as u32, number - self.numbers[block])
    }

    /// Numbers that entries may have that begin with a prefix.
    pub fn numbers_of_prefix(&self, prefix: &[u8]) -> Range<u32> {
        let low = self.block_of(prefix).unwrap_or(0) as usize;
        let (mut high, mut end) = (low, self.ends.len());
        while high < end {
            let middle = high.midpoint(end);
            let first = self.first(middle);
            if first <= prefix || first.starts_with(prefix) { high = middle + 1 } else { end = middle }
        }
        let number = |block: usize| self.numbers.get(block).copied().unwrap_or(self.entries);
        number(low)..number(high)
    }

    /// The page of times where entries from `due` on begin.
    pub fn due_page(&self, due: i64) -> u32 {
        self.dues.partition_point(|first| first.0 < due).saturating_sub(1) as u32
    }

    /// What is stored of it, beside its blocks, pages and filter.
    fn to_store(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.firsts.len() + self.ends.len() * 5 + self.dues.len() * 12);
        out.push(u8::from(self.scanned));
        length(self.ends.len(), &mut out);
        for (block, number) in self.numbers.iter().enumerate() {
            let first = self.first(block);
            length(first.len(), &mut out);
            out.extend_from_slice(first);
            out.extend_from_slice(&number.to_le_bytes());
        }
        for due in &self.dues {
            write_due(*due, &mut out);
        }
        out
    }

    /// What was stored.
    pub fn restore(id: i64, age: i64, entries: u32, index: &[u8], filter: &[u8]) -> Result<Self> {
        let read = || {
            let mut segment = Self { id, age, entries, filter: Filter::restore(filter)?, ..Self::default() };
            let (scanned, mut rest) = index.split_first()?;
            segment.scanned = *scanned != 0;
            for _ in 0..read_length(&mut rest)? {
                let size = read_length(&mut rest)?;
                let (first, after) = rest.split_at_checked(size)?;
                let (number, after) = after.split_first_chunk::<4>()?;
                segment.firsts.extend_from_slice(first);
                segment.ends.push(u32::try_from(segment.firsts.len()).ok()?);
                segment.numbers.push(u32::from_le_bytes(*number));
                rest = after;
            }
            segment.dues = read_dues(rest)?;
            Some(segment)
        };
        read().ok_or_else(|| StateError::damaged("a segment that cannot be read"))
    }
}

/// An entry of a block. `None`: it is deleted.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'b> {
    pub key: &'b [u8],
    pub value: Option<&'b [u8]>,
}

/// Takes the next entry off a block.
pub fn next<'b>(rest: &mut &'b [u8]) -> Result<Entry<'b>> {
    let mut read = || {
        let size = read_length(rest)?;
        let (key, after) = rest.split_at_checked(size)?;
        *rest = after;
        let Some(size) = read_length(rest)?.checked_sub(1) else { return Some(Entry { key, value: None }) };
        let (value, after) = rest.split_at_checked(size)?;
        *rest = after;
        Some(Entry { key, value: Some(value) })
    };
    read().ok_or_else(|| StateError::damaged("a block that cannot be read"))
}

/// Times and numbers of a page.
pub fn read_dues(bytes: &[u8]) -> Option<Vec<(i64, u32)>> {
    let (dues, rest) = bytes.as_chunks::<12>();
    let read = |due: &[u8; 12]| {
        let (time, number) = due.split_at(8);
        Some((i64::from_le_bytes(time.try_into().ok()?), u32::from_le_bytes(number.try_into().ok()?)))
    };
    rest.is_empty().then(|| dues.iter().map(read).collect())?
}

fn write_due((time, number): (i64, u32), out: &mut Vec<u8>) {
    out.extend_from_slice(&time.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
}

/// Where parts of segments are written.
pub trait Pages {
    /// A block, or a page of times.
    fn write(&mut self, dues: bool, number: u32, bytes: &[u8]) -> Result<()>;
}

/// Makes a segment of entries in order.
pub struct Builder<'p> {
    segment: Segment,
    pages: &'p mut dyn Pages,
    block: Vec<u8>,
    page: Vec<u8>,
    page_entries: usize,
}

impl<'p> Builder<'p> {
    /// Of up to so many entries.
    pub fn new(id: i64, age: i64, entries: usize, scanned: bool, pages: &'p mut dyn Pages) -> Self {
        // A scanned entry is also looked for by what comes before its time.
        let filter = Filter::with_capacity(entries * if scanned { 2 } else { 1 });
        Self {
            segment: Segment { id, age, scanned, filter, ..Segment::default() },
            pages,
            block: Vec::with_capacity(BLOCK * 2),
            page: Vec::with_capacity(DUES * 12),
            page_entries: 0,
        }
    }

    /// Adds an entry; answers its number.
    pub fn push(&mut self, Entry { key, value }: Entry<'_>) -> Result<u32> {
        let size = key.len() + value.map_or(0, <[u8]>::len) + 4;
        if !self.block.is_empty() && self.block.len() + size > BLOCK {
            self.end_block()?;
        }
        let segment = &mut self.segment;
        if self.block.is_empty() {
            segment.firsts.extend_from_slice(key);
            let too_much = |_| StateError::new("the state of one partition has more keys than one file can have");
            segment.ends.push(u32::try_from(segment.firsts.len()).map_err(too_much)?);
            segment.numbers.push(segment.entries);
        }
        segment.filter.add(hash(key));
        if space_of(key).is_ok_and(|(_, kind)| kind.is_scanned()) {
            segment.filter.add(hash(&key[..key.len().saturating_sub(8)]));
        }
        length(key.len(), &mut self.block);
        self.block.extend_from_slice(key);
        match value {
            None => self.block.push(0),
            Some(value) => {
                length(value.len() + 1, &mut self.block);
                self.block.extend_from_slice(value);
            }
        }
        segment.entries += 1;
        Ok(segment.entries - 1)
    }

    /// Adds a time, in the order of times and numbers.
    pub fn due(&mut self, due: i64, number: u32) -> Result<()> {
        if self.page_entries == 0 {
            self.segment.dues.push((due, number));
        }
        write_due((due, number), &mut self.page);
        self.page_entries += 1;
        if self.page_entries == DUES { self.end_page() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<()> {
        if !self.block.is_empty() {
            self.pages.write(false, self.segment.blocks() - 1, &self.block)?;
            self.block.clear();
        }
        Ok(())
    }

    fn end_page(&mut self) -> Result<()> {
        if self.page_entries > 0 {
            self.pages.write(true, self.segment.due_pages() - 1, &self.page)?;
            self.page.clear();
            self.page_entries = 0;
        }
        Ok(())
    }

    /// The segment, with its index and its filter as they are stored.
    pub fn finish(mut self) -> Result<(Segment, Vec<u8>, Vec<u8>)> {
        self.end_block()?;
        self.end_page()?;
        let (index, filter) = (self.segment.to_store(), self.segment.filter.to_store());
        Ok((self.segment, index, filter))
    }
}

/// The time of a value, if it has one.
pub fn due_of(value: Option<&[u8]>) -> Result<Option<i64>> {
    match value {
        None => Ok(None),
        Some(value) => read_value(value).map(|(due, _)| (due != NEVER).then_some(due)),
    }
}

fn length(mut length: usize, out: &mut Vec<u8>) {
    while length > 127 {
        out.push(length as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
}

fn read_length(rest: &mut &[u8]) -> Option<usize> {
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let (byte, after) = rest.split_first().filter(|_| shift < 35)?;
        length |= ((byte & 127) as usize) << shift;
        shift += 7;
        *rest = after;
        if byte & 128 == 0 {
            return Some(length);
        }
    }
}

/// The segments of a shard, oldest first.
pub type Segments = Arc<Vec<Arc<Segment>>>;

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere;

    impl Pages for Nowhere {
        fn write(&mut self, _: bool, _: u32, _: &[u8]) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn numbers_of_a_prefix_are_those_of_its_blocks() {
        let mut pages = Nowhere;
        let mut builder = Builder::new(1, 1, 3000, false, &mut pages);
        let key = |number: u32| [&[b'a' + (number / 1000) as u8][..], &number.to_be_bytes()].concat();
        let value = [0; 40];
        for number in 0..3000 {
            builder.push(Entry { key: &key(number), value: Some(&value) }).unwrap();
        }
        let (segment, ..) = builder.finish().unwrap();
        let a_block = segment.numbers[1];
        assert!(segment.blocks() > 20);
        for (prefix, exact) in [(b"a", 0..1000), (b"b", 1000..2000), (b"c", 2000..3000)] {
            let numbers = segment.numbers_of_prefix(prefix);
            assert!(numbers.start <= exact.start && exact.end <= numbers.end, "{numbers:?}");
            assert!(numbers.start + a_block >= exact.start && numbers.end <= exact.end + a_block, "{numbers:?}");
        }
        assert_eq!(segment.numbers_of_prefix(b""), 0..3000);
        assert!(segment.numbers_of_prefix(b"A").is_empty());
        assert!(segment.numbers_of_prefix(b"d").len() <= a_block as usize);
        assert!(Segment::default().numbers_of_prefix(b"a").is_empty());
    }
}
