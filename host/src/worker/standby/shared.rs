//! A partition of a changelog that several shards share, as those of sources do: which record is whose.
//!
//! The number of the shard stands before each key (see [`crate::task::source_state`]).

use std::collections::BTreeMap;

use arrow_array::{Array, BinaryArray, Int64Array};

use crate::state::{ChangelogRecords, Shard};

/// The rows of each shard. A key that is too short is nobody's.
pub fn rows(keys: &BinaryArray) -> BTreeMap<Shard, Vec<usize>> {
    let mut rows: BTreeMap<Shard, Vec<usize>> = BTreeMap::new();
    for row in (0..keys.len()).filter(|row| keys.is_valid(*row)) {
        if let Some((number, _)) = keys.value(row).split_first_chunk() {
            rows.entry(Shard::from_be_bytes(*number)).or_default().push(row);
        }
    }
    rows
}

/// The records of rows by shard, with their offsets, without what a shard has already: those in front of `next`, of shards that it knows. All of them end where
/// the batch ends.
pub fn split(
    rows: BTreeMap<Shard, Vec<usize>>,
    keys: &BinaryArray,
    values: &BinaryArray,
    offsets: &Int64Array,
    next: impl Fn(Shard) -> Option<i64>,
) -> Vec<(Shard, ChangelogRecords, Int64Array)> {
    let end = offsets.values().last().map_or(0, |last| last + 1);
    let part = |(shard, mut rows): (Shard, Vec<usize>)| {
        let next = next(shard)?;
        rows.retain(|row| offsets.value(*row) >= next);
        rows.first()?;
        let records = ChangelogRecords {
            keys: BinaryArray::from_iter_values(rows.iter().map(|row| &keys.value(*row)[size_of::<Shard>()..])),
            values: rows.iter().map(|row| values.is_valid(*row).then(|| values.value(*row))).collect(),
            next_offset: end,
        };
        Some((shard, records, rows.iter().map(|row| offsets.value(*row)).collect()))
    };
    rows.into_iter().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_go_to_their_shards_once() {
        let key = |shard: Shard, key: &[u8]| [&shard.to_be_bytes()[..], key].concat();
        let keys = [key(1, b"a"), key(2, b"b"), key(1, b"c"), b"x".to_vec(), key(2, b"d")];
        let keys = BinaryArray::from_iter_values(keys);
        let values = BinaryArray::from_opt_vec(vec![Some(b"1"), Some(b"2"), None, Some(b"4"), Some(b"5")]);
        let offsets = Int64Array::from(vec![10, 11, 13, 14, 17]);
        let split = |next: &dyn Fn(Shard) -> Option<i64>| split(rows(&keys), &keys, &values, &offsets, next);
        let texts = |(shard, records, offsets): (Shard, ChangelogRecords, Int64Array)| {
            let keys: Vec<_> = records.keys.iter().map(|key| key.unwrap().to_vec()).collect();
            (shard, keys, records.values.null_count(), offsets.values().to_vec(), records.next_offset)
        };
        let found: Vec<_> = split(&|shard| Some(if shard == 1 { 13 } else { 0 })).into_iter().map(texts).collect();
        assert_eq!(
            found,
            [(1, vec![b"c".to_vec()], 1, vec![13], 18), (2, vec![b"b".to_vec(), b"d".to_vec()], 0, vec![11, 17], 18)]
        );
        // Nothing that is new, or nobody to have it.
        assert!(split(&|_| Some(18)).is_empty() && split(&|_| None).is_empty());
    }
}
