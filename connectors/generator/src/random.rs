//! Chance that can be repeated: a stream of numbers for each record, made from the seed and the record's number alone.
//!
//! Integers only, so that every machine gets the same. The generator is SplitMix64, whose output function is good enough to
//! be applied to a counter: no state goes from one record to the next.

/// The increment of SplitMix64: 2^64 divided by the golden ratio, odd.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The numbers of one record.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Of record `number` under `seed`.
    pub fn of(seed: u64, number: u64) -> Self {
        Self(mix(mix(seed) ^ number.wrapping_mul(GOLDEN)))
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The product's upper half: unbiased for all that matters here, and no division.
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// A number below `end`, of which small ones are much more likely: every other draw is uniform, the rest spread evenly
    /// over the octaves (1, 2–3, 4–7, …), as in Zipf's law.
    pub fn skewed(&mut self, end: u32) -> u32 {
        let draw = self.next();
        if draw & 1 == 0 {
            return (((draw >> 32) * u64::from(end)) >> 32) as u32;
        }
        let octaves = u64::from(u32::BITS - end.leading_zeros());
        let octave = ((draw >> 1 & 0xFFFF) * octaves) >> 16;
        let first = 1u64 << octave;
        let place = first + (((draw >> 32) * first) >> 32);
        // The last octave is not whole.
        ((place - 1) % u64::from(end)) as u32
    }

    /// One of `items`, of which there are 16: what is more frequent stands there more often.
    pub fn pick<T: Copy>(&mut self, items: &[T; 16]) -> T {
        items[(self.next() >> 60) as usize]
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_its_own_numbers() {
        assert_eq!(Random::of(1, 5).next(), Random::of(1, 5).next());
        assert_ne!(Random::of(1, 5).next(), Random::of(1, 6).next());
        assert_ne!(Random::of(1, 5).next(), Random::of(2, 5).next());
        // Pinned: a change of these would change every record that anybody has made.
        let mut random = Random::of(1, 0);
        assert_eq!([random.next(), random.below(1000), random.skewed(1000).into()], [4720248854425330031, 88, 290]);
    }

    #[test]
    fn numbers_stay_below_their_end_and_reach_it() {
        for end in [1, 2, 3, 7, 8, 9, 1000] {
            let mut seen = vec![0u32; end as usize];
            for number in 0..50_000 {
                let mut random = Random::of(3, number);
                seen[random.skewed(end) as usize] += 1;
                assert!(random.below(u64::from(end)) < u64::from(end));
            }
            assert!(seen.iter().all(|&count| count > 0), "{end}: {seen:?}");
        }
    }

    #[test]
    fn few_keys_are_busy() {
        let mut counts = vec![0; 10_000];
        for number in 0..100_000 {
            counts[Random::of(9, number).skewed(10_000) as usize] += 1;
        }
        let busiest: u32 = counts[..100].iter().sum();
        assert!((20_000..40_000).contains(&busiest), "1 % of the keys have {busiest} of 100000 records");
        assert!((2_000..6_000).contains(&counts[0]), "the busiest has {}", counts[0]);
    }
}
