//! How many different values there are: exact up to 1024, then an estimate within about 1.6 % (one standard deviation) in 4 KiB.
//!
//! What counts is the set of values alone, not their order, so sets can be joined.

use super::quantile::read_length;
use super::stored::length;

/// Different values that are counted exactly.
const EXACT: usize = 1024;
/// Registers of the estimate (HyperLogLog).
const REGISTERS: usize = 4096;
const INDEX_BITS: u32 = 12;

/// A set of values, known by their hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distinct {
    /// All hashes, sorted.
    Exact(Vec<u64>),
    /// The longest run of zeros that was seen, by the hash's first bits.
    Estimate(Box<[u8]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

/// A hash that is the same on all machines and for all time: it is stored.
fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0x9E37_79B9_7F4A_7C15_u64 ^ (bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash ^ u64::from_le_bytes(word));
    }
    mix(hash)
}

/// The finalizer of SplitMix64: every bit of the input moves every bit of the output.
fn mix(mut word: u64) -> u64 {
    word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

impl Distinct {
    /// Adds a value by its bytes.
    pub fn add(&mut self, value: &[u8]) {
        self.add_hash(hash(value));
    }

    fn add_hash(&mut self, hash: u64) {
        match self {
            Self::Exact(hashes) => {
                if let Err(at) = hashes.binary_search(&hash) {
                    hashes.insert(at, hash);
                    if hashes.len() > EXACT {
                        let mut registers = vec![0; REGISTERS].into_boxed_slice();
                        hashes.iter().for_each(|hash| register(&mut registers, *hash));
                        *self = Self::Estimate(registers);
                    }
                }
            }
            Self::Estimate(registers) => register(registers, hash),
        }
    }

    /// Adds what another one has.
    pub fn merge(&mut self, other: &Self) {
        match other {
            Self::Exact(hashes) => hashes.iter().for_each(|hash| self.add_hash(*hash)),
            Self::Estimate(theirs) => match self {
                Self::Exact(hashes) => {
                    let mut registers = theirs.clone();
                    hashes.iter().for_each(|hash| register(&mut registers, *hash));
                    *self = Self::Estimate(registers);
                }
                Self::Estimate(ours) => {
                    ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours = (*ours).max(*theirs));
                }
            },
        }
    }

    /// The number of different values.
    pub fn count(&self) -> u64 {
        match self {
            Self::Exact(hashes) => hashes.len() as u64,
            Self::Estimate(registers) => {
                let count = REGISTERS as f64;
                let sum: f64 = registers.iter().map(|run| (-f64::from(*run)).exp2()).sum();
                let raw = 0.7213 / (1.0 + 1.079 / count) * count * count / sum;
                let empty = registers.iter().filter(|run| **run == 0).count();
                let small = raw <= 2.5 * count && empty > 0;
                (if small { count * (count / empty as f64).ln() } else { raw }).round() as u64
            }
        }
    }

    /// Appends its bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Exact(hashes) => {
                length(hashes.len(), out);
                hashes.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
            }
            Self::Estimate(registers) => {
                length(EXACT + 1, out);
                out.extend_from_slice(registers);
            }
        }
    }

    /// Takes its bytes off.
    pub fn read(rest: &mut &[u8]) -> Option<Self> {
        let count = read_length(rest)?;
        let bytes = if count > EXACT { REGISTERS } else { count * 8 };
        let (taken, after) = rest.split_at_checked(bytes)?;
        *rest = after;
        if count > EXACT {
            return Some(Self::Estimate(taken.into()));
        }
        Some(Self::Exact(
            taken.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default())).collect(),
        ))
    }
}

fn register(registers: &mut [u8], hash: u64) {
    let index = (hash >> (64 - INDEX_BITS)) as usize;
    let run = ((hash << INDEX_BITS) | (1 << (INDEX_BITS - 1))).leading_zeros() as u8 + 1;
    registers[index] = registers[index].max(run);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_exactly_then_nearly_whatever_the_order() {
        for (number, tolerance) in [(0_u64, 0), (1, 0), (1024, 0), (1025, 80), (50_000, 3000)] {
            let (mut forward, mut backward) = (Distinct::default(), Distinct::default());
            let mut halves = [Distinct::default(), Distinct::default()];
            for n in 0..number {
                forward.add(&n.to_be_bytes());
                forward.add(&(n / 2).to_be_bytes());
                backward.add(&(number - 1 - n).to_be_bytes());
                halves[(n % 7 == 0) as usize].add(&n.to_be_bytes());
            }
            assert!(forward.count().abs_diff(number) <= tolerance, "{} for {number}", forward.count());
            assert_eq!(forward, backward);
            let [mut joined, other] = halves;
            joined.merge(&other);
            assert_eq!(joined, forward);
            let mut bytes = Vec::new();
            forward.write(&mut bytes);
            let mut rest = &bytes[..];
            assert_eq!(Distinct::read(&mut rest), Some(forward));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn the_hash_is_never_changed() {
        assert_eq!(hash(b""), 7_960_286_522_194_355_700);
        assert_ne!(hash(b"\0"), hash(b""));
        assert_ne!(hash(b"abcdefgh\0"), hash(b"abcdefgh"));
    }
}
