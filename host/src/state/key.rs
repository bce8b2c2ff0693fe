//! Keys of state: which transform, what kind of entry, the record's key, the window.
//!
//! | Bytes | |
//! |---|---|
//! | 1 | version of this layout: 1 |
//! | 1 + n | length and text of the transform's alias |
//! | 1 | kind; from 128 on, entries that can be scanned in order of their times |
//! | 1–5 + n | length (LEB128) and bytes of the record's key |
//! | 0 or 8 | a time in milliseconds, big-endian with its sign bit flipped, so that keys sort by time |
//!
//! The changelog's keys are these bytes.

use super::StateError;

/// The layout's version.
pub const VERSION: u8 = 1;

/// What an entry is. The number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(u8);

impl Kind {
    /// A shard's own facts, such as its watermark.
    pub const META: Self = Self(0);

    /// Entries that are looked up by their whole key. `number` is from 1 to 127.
    pub const fn looked_up(number: u8) -> Self {
        assert!(number > 0 && number < 128);
        Self(number)
    }

    /// Entries that are also scanned by record key and time. `number` is from 1 to 127.
    pub const fn scanned(number: u8) -> Self {
        assert!(number > 0 && number < 128);
        Self(number | 128)
    }

    pub(super) fn is_scanned(self) -> bool {
        self.0 >= 128
    }
}

/// All keys of one kind of one transform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    prefix: Box<[u8]>,
}

impl Space {
    /// The space of a transform. Aliases longer than 255 bytes are refused by their transform's config.
    pub fn new(alias: &str, kind: Kind) -> Self {
        let length = alias.len().min(255);
        let mut prefix = vec![VERSION, length as u8];
        prefix.extend_from_slice(&alias.as_bytes()[..length]);
        prefix.push(kind.0);
        Self { prefix: prefix.into() }
    }

    /// What all keys of the space begin with.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Writes a key without time over `out`.
    pub fn plain(&self, record_key: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.prefix);
        write_length(record_key.len(), out);
        out.extend_from_slice(record_key);
    }

    /// Writes a key with a time over `out`.
    pub fn timed(&self, record_key: &[u8], time: i64, out: &mut Vec<u8>) {
        self.plain(record_key, out);
        out.extend_from_slice(&sortable(time));
    }

    /// The record's key in a key of this space.
    pub fn record_key<'k>(&self, key: &'k [u8]) -> Result<&'k [u8], StateError> {
        self.parts(key).map(|(record_key, _)| record_key)
    }

    /// Record key and time.
    pub fn parts<'k>(&self, key: &'k [u8]) -> Result<(&'k [u8], Option<i64>), StateError> {
        let rest = key.strip_prefix(&*self.prefix).ok_or_else(|| StateError::damaged("a key of another transform"))?;
        let (record_key, rest) = split(rest)?;
        let time = match rest.len() {
            0 => None,
            _ => {
                let bytes =
                    rest.try_into().map_err(|_| StateError::damaged("a key with a time that is not 8 bytes"))?;
                Some((u64::from_be_bytes(bytes) ^ SIGN) as i64)
            }
        };
        Ok((record_key, time))
    }
}

const SIGN: u64 = 1 << 63;

/// Bytes that sort as the times do.
pub fn sortable(time: i64) -> [u8; 8] {
    (time as u64 ^ SIGN).to_be_bytes()
}

/// Length of the prefix that names transform and kind, and the kind. Checks that the key is whole.
pub(super) fn space_of(key: &[u8]) -> Result<(usize, Kind), StateError> {
    match key {
        [VERSION, length, rest @ ..] if rest.len() > *length as usize => {
            let at = *length as usize;
            split(&rest[at + 1..])?;
            Ok((at + 3, Kind(rest[at])))
        }
        [version, ..] if *version != VERSION => Err(StateError::newer(*version)),
        _ => Err(StateError::damaged("a key that is too short")),
    }
}

fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), StateError> {
    let (mut length, mut shift, mut rest) = (0_usize, 0, bytes);
    loop {
        let Some((byte, after)) = rest.split_first().filter(|_| shift < 35) else {
            return Err(StateError::damaged("a key whose length is missing"));
        };
        length |= ((byte & 127) as usize) << shift;
        shift += 7;
        rest = after;
        if byte & 128 == 0 {
            break;
        }
    }
    rest.split_at_checked(length).ok_or_else(|| StateError::damaged("a key that is shorter than it says"))
}

fn write_length(mut length: usize, out: &mut Vec<u8>) {
    while length > 127 {
        out.push(length as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_layout_is_as_documented() {
        let mut key = Vec::new();
        Space::new("sum", Kind::scanned(2)).timed(b"ab", 5, &mut key);
        assert_eq!(key, b"\x01\x03sum\x82\x02ab\x80\0\0\0\0\0\0\x05");
        assert_eq!(space_of(&key).unwrap(), (6, Kind::scanned(2)));
        assert!(space_of(b"\x02\0\0\0").unwrap_err().to_string().contains("version 2"));
        assert!(space_of(b"\x01\x05a").is_err());
    }

    proptest! {
        #[test]
        fn keys_give_back_their_parts_and_sort_by_time(
            alias in "[a-z]{0,9}",
            record_key in prop::collection::vec(any::<u8>(), 0..300),
            times in any::<(i64, i64)>(),
        ) {
            let space = Space::new(&alias, Kind::looked_up(1));
            let (mut a, mut b) = (Vec::new(), Vec::new());
            space.timed(&record_key, times.0, &mut a);
            space.timed(&record_key, times.1, &mut b);
            prop_assert_eq!(space.parts(&a).unwrap(), (&*record_key, Some(times.0)));
            prop_assert_eq!(a.cmp(&b), times.0.cmp(&times.1));
            space.plain(&record_key, &mut a);
            prop_assert_eq!(space.parts(&a).unwrap(), (&*record_key, None));
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = space_of(&bytes);
            let _ = Space::new("a", Kind::META).parts(&bytes);
        }
    }
}
