//! Which keys may be in SQLite and not in memory: a Bloom filter that grows.
//!
//! It never says no to a key that was added; to others it says yes about once in a hundred times.

/// Bits of a key, in one cache line.
const BLOCK: usize = 8;
const BITS_PER_KEY: usize = 12;
const FIRST: usize = 1 << 14;

/// Hashes of keys. They are never taken out.
#[derive(Debug, Default)]
pub struct Filter {
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    blocks: Vec<[u64; BLOCK]>,
    added: usize,
    capacity: usize,
}

impl Filter {
    /// Adds a key's hash.
    pub fn add(&mut self, hash: u64) {
        if self.levels.last().is_none_or(|level| level.added >= level.capacity) {
            let capacity = self.levels.last().map_or(FIRST, |level| level.capacity * 4);
            let blocks = (capacity * BITS_PER_KEY).div_ceil(BLOCK * 64);
            self.levels.push(Level { blocks: vec![[0; BLOCK]; blocks], added: 0, capacity });
        }
        let Some(level) = self.levels.last_mut() else { return };
        let (block, mask) = (level.block(hash), mask(hash));
        for (word, bits) in level.blocks[block].iter_mut().zip(mask) {
            *word |= bits;
        }
        level.added += 1;
    }

    /// Whether a key with this hash may have been added.
    pub fn may_have(&self, hash: u64) -> bool {
        let mask = mask(hash);
        let within =
            |level: &Level| level.blocks[level.block(hash)].iter().zip(mask).all(|(word, bits)| word & bits == bits);
        self.levels.iter().any(within)
    }

    /// Takes over what another one knows.
    pub fn merge(&mut self, mut other: Self) {
        other.levels.append(&mut self.levels);
        self.levels = other.levels;
    }

    /// Memory.
    pub fn bytes(&self) -> usize {
        self.levels.iter().map(|level| level.blocks.len() * BLOCK * 8).sum()
    }
}

impl Level {
    fn block(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.blocks.len() as u128) >> 64) as usize
    }
}

/// Seven bits in the block.
fn mask(hash: u64) -> [u64; BLOCK] {
    // The block is chosen by the upper bits; these come from all.
    let mut mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut mask = [0; BLOCK];
    for _ in 0..7 {
        mask[(mixed >> 61) as usize] |= 1 << ((mixed >> 55) & 63);
        mixed <<= 9;
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    #[test]
    fn what_was_added_is_there_and_little_else() {
        let hasher = hashbrown::DefaultHashBuilder::default();
        let mut filter = Filter::default();
        (0..100_000_u32).for_each(|n| filter.add(hasher.hash_one(n)));
        assert!((0..100_000_u32).all(|n| filter.may_have(hasher.hash_one(n))));
        let wrong = (100_000..200_000_u32).filter(|n| filter.may_have(hasher.hash_one(n))).count();
        assert!(wrong < 4000, "{wrong} of 100000");
        let mut other = Filter::default();
        other.add(hasher.hash_one(1_000_000_u32));
        other.merge(filter);
        assert!(other.may_have(hasher.hash_one(1_000_000_u32)) && other.may_have(hasher.hash_one(3_u32)));
    }
}
