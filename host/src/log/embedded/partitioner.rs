//! Which partition a record goes to when it does not say: Java's murmur2 of the key, or, without a key, one
//! partition for a while and then another.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Bytes that go to one partition before the next is drawn.
const STICKY_BYTES: usize = 1 << 14;

/// Java's `Utils.murmur2`, made positive as its partitioner does.
pub(in crate::log) fn by_key(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mix = |mut k: u32| {
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        k.wrapping_mul(M)
    };
    let mut hash = 0x9747_b28c_u32 ^ data.len() as u32;
    let chunks = data.chunks_exact(4);
    let rest = chunks.remainder();
    for chunk in chunks {
        hash = hash.wrapping_mul(M) ^ mix(u32::from_le_bytes(chunk.try_into().expect("four bytes")));
    }
    for (i, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * i);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ hash >> 15) as i32
}

/// The partition for records without a key, as Java's clients choose it since 3.3.
#[derive(Debug)]
pub(super) struct Sticky {
    random: StdRng,
    partition: Option<i32>,
    bytes: usize,
}

impl Default for Sticky {
    fn default() -> Self {
        Self { random: StdRng::from_os_rng(), partition: None, bytes: 0 }
    }
}

impl Sticky {
    /// The partition for a record of so many bytes.
    pub(super) fn next(&mut self, bytes: usize, partitions: i32) -> i32 {
        let partition = match self.partition {
            Some(partition) if self.bytes < STICKY_BYTES && partition < partitions => partition,
            _ => {
                self.bytes = 0;
                *self.partition.insert(self.random.random_range(0..partitions))
            }
        };
        self.bytes += bytes;
        partition
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys and hashes as Kafka's own tests have them.
    #[test]
    fn murmur2_is_java_s() {
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn sticky_stays_and_then_moves() {
        let mut sticky = Sticky::default();
        let first = sticky.next(10, 100);
        assert_eq!(sticky.next(10, 100), first);
        let moved = (0..50).any(|_| {
            sticky.next(STICKY_BYTES, 100);
            sticky.next(1, 100) != first
        });
        assert!(moved);
    }
}
