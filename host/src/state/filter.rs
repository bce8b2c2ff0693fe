//! Which keys a segment may have: a Bloom filter of a known size, which is stored with it.
//!
//! It never says no to a key that was added; to others it says yes about once in a hundred times.

/// Bits of a key, in one cache line.
const BLOCK: usize = 8;
const BITS_PER_KEY: usize = 12;

/// Hashes of keys. They are never taken out.
#[derive(Debug, Default)]
pub struct Filter {
    blocks: Vec<[u64; BLOCK]>,
}

/// The hash of a key that filters are made of. It is part of the file's layout.
pub fn hash(key: &[u8]) -> u64 {
    const K: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93];
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let (words, rest) = key.as_chunks::<8>();
    let mut hash = K[0] ^ key.len() as u64;
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word), K[1]) ^ hash.rotate_left(29);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    hash = fold(hash ^ u64::from_le_bytes(last), K[1]) ^ hash.rotate_left(29);
    fold(hash ^ (hash >> 32), K[0])
}

impl Filter {
    /// Has room for so many.
    pub fn with_capacity(keys: usize) -> Self {
        Self { blocks: vec![[0; BLOCK]; (keys * BITS_PER_KEY).div_ceil(BLOCK * 64)] }
    }

    /// Adds a key's hash.
    pub fn add(&mut self, hash: u64) {
        let (block, mask) = (self.block(hash), mask(hash));
        for (word, bits) in self.blocks[block].iter_mut().zip(mask) {
            *word |= bits;
        }
    }

    /// Whether a key with this hash may have been added.
    pub fn may_have(&self, hash: u64) -> bool {
        !self.blocks.is_empty() && {
            let block = &self.blocks[self.block(hash)];
            block.iter().zip(mask(hash)).all(|(word, bits)| word & bits == bits)
        }
    }

    /// Memory.
    pub fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK * 8
    }

    /// As it is stored.
    pub fn to_store(&self) -> Vec<u8> {
        self.blocks.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// What was stored; `None` for other bytes.
    pub fn restore(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let (blocks, more) = words.as_chunks::<BLOCK>();
        let blocks = blocks.iter().map(|block| block.map(u64::from_le_bytes)).collect();
        (rest.is_empty() && more.is_empty()).then_some(Self { blocks })
    }

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

    #[test]
    fn what_was_added_is_there_and_little_else() {
        let of = |n: u32| hash(format!("key-{n}").as_bytes());
        let mut filter = Filter::with_capacity(100_000);
        (0..100_000).for_each(|n| filter.add(of(n)));
        assert!((0..100_000).all(|n| filter.may_have(of(n))));
        let wrong = (100_000..200_000).filter(|n| filter.may_have(of(*n))).count();
        assert!(wrong < 2500, "{wrong} of 100000");
        let again = Filter::restore(&filter.to_store()).unwrap();
        assert_eq!(again.blocks, filter.blocks);
        assert!(Filter::restore(b"123").is_none());
        assert!(!Filter::default().may_have(of(1)));
    }

    #[test]
    fn the_hash_is_always_the_same() {
        // Files have filters made with it.
        assert_eq!(hash(b""), hash(b""));
        assert_ne!(hash(b"a"), hash(b"a\0"));
        assert_ne!(hash(b"0123456789"), hash(b"0123456798"));
    }
}
