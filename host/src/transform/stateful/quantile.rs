//! Quantiles with a bounded relative error, in little memory: counts of values in buckets whose bounds grow by a constant factor.
//!
//! An answer is within 1 % of a value that has the asked rank. The order of values makes no difference, and sketches can be joined, so
//! a window of two halves has the sketch of the whole.

use super::stored::length;

/// The bounds grow by (1 + ε) / (1 − ε) for ε = 0.01.
const GAMMA: f64 = 1.01 / 0.99;

/// Counts by bucket: negative values, zero and positive values apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    /// Bucket of the absolute value and count, sorted by bucket.
    negative: Vec<(i32, u64)>,
    zeros: u64,
    positive: Vec<(i32, u64)>,
}

impl Sketch {
    /// Adds a value. NaN counts as nothing.
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        // The smallest normal number: what is nearer to zero is zero.
        if value.abs() < f64::MIN_POSITIVE {
            self.zeros += 1;
            return;
        }
        let bucket = (value.abs().min(f64::MAX).ln() / GAMMA.ln()).ceil() as i32;
        add(if value < 0.0 { &mut self.negative } else { &mut self.positive }, bucket, 1);
    }

    /// Adds what another one has.
    pub fn merge(&mut self, other: &Self) {
        other.negative.iter().for_each(|&(bucket, count)| add(&mut self.negative, bucket, count));
        other.positive.iter().for_each(|&(bucket, count)| add(&mut self.positive, bucket, count));
        self.zeros += other.zeros;
    }

    /// The value with rank `q` (0 to 1); `None` without values.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = |buckets: &[(i32, u64)]| buckets.iter().map(|(_, count)| count).sum::<u64>();
        let count = total(&self.negative) + self.zeros + total(&self.positive);
        if count == 0 {
            return None;
        }
        let mut rank = (q * (count - 1) as f64).round() as u64;
        // The middle of a bucket, by the harmonic mean of its bounds: the error is the same on both sides.
        let value = |bucket: i32| (2.0 * (f64::from(bucket) * GAMMA.ln()).exp() / (GAMMA + 1.0)).min(f64::MAX);
        for &(bucket, count) in self.negative.iter().rev() {
            if rank < count {
                return Some(-value(bucket));
            }
            rank -= count;
        }
        if rank < self.zeros {
            return Some(0.0);
        }
        rank -= self.zeros;
        for &(bucket, count) in &self.positive {
            if rank < count {
                return Some(value(bucket));
            }
            rank -= count;
        }
        None
    }

    /// Appends its bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.zeros.to_le_bytes());
        for buckets in [&self.negative, &self.positive] {
            length(buckets.len(), out);
            for (bucket, count) in buckets {
                out.extend_from_slice(&bucket.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
    }

    /// Takes its bytes off.
    pub fn read(rest: &mut &[u8]) -> Option<Self> {
        let (zeros, after) = rest.split_at_checked(8)?;
        *rest = after;
        let mut sides = [Vec::new(), Vec::new()];
        for side in &mut sides {
            for _ in 0..read_length(rest)? {
                let (bucket, after) = rest.split_at_checked(4)?;
                let (count, after) = after.split_at_checked(8)?;
                *rest = after;
                side.push((i32::from_le_bytes(bucket.try_into().ok()?), u64::from_le_bytes(count.try_into().ok()?)));
            }
        }
        let [negative, positive] = sides;
        Some(Self { negative, zeros: u64::from_le_bytes(zeros.try_into().ok()?), positive })
    }
}

/// Takes a length off.
pub fn read_length(rest: &mut &[u8]) -> Option<usize> {
    let mut end = *rest;
    let mut length = 0_usize;
    for shift in [0, 7, 14, 21, 28] {
        let (byte, after) = end.split_first()?;
        end = after;
        length |= ((byte & 127) as usize) << shift;
        if byte & 128 == 0 {
            *rest = end;
            return Some(length);
        }
    }
    None
}

fn add(buckets: &mut Vec<(i32, u64)>, bucket: i32, count: u64) {
    match buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
        Ok(at) => buckets[at].1 += count,
        Err(at) => buckets.insert(at, (bucket, count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::stateful::stored::take;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_as_they_were_written() {
        for number in [0, 1, 127, 128, 300, 1 << 20] {
            let mut bytes = Vec::new();
            length(number, &mut bytes);
            assert_eq!(read_length(&mut &bytes[..]), Some(number));
        }
        let mut bytes: &[u8] = &[3, 1, 2, 3, 9];
        assert_eq!((take(&mut bytes), bytes), (Some(&[1, 2, 3][..]), &[9][..]));
    }

    proptest! {
        #[test]
        fn answers_are_near_the_value_of_that_rank(
            mut values in prop::collection::vec(prop_oneof![-1e6..1e6_f64, Just(0.0), -1.0..1.0_f64], 1..200),
            q in 0.0..=1.0_f64,
        ) {
            let (mut whole, mut halves) = (Sketch::default(), [Sketch::default(), Sketch::default()]);
            for (at, value) in values.iter().enumerate() {
                whole.add(*value);
                halves[at % 2].add(*value);
            }
            let [mut joined, other] = halves;
            joined.merge(&other);
            prop_assert_eq!(&joined, &whole);
            values.sort_by(f64::total_cmp);
            let exact = values[(q * (values.len() - 1) as f64).round() as usize];
            let answer = whole.quantile(q).unwrap();
            prop_assert!((answer - exact).abs() <= exact.abs() * 0.0100001 + f64::MIN_POSITIVE, "{answer} for {exact}");
            let mut bytes = Vec::new();
            whole.write(&mut bytes);
            prop_assert_eq!(Sketch::read(&mut &bytes[..]), Some(whole));
        }

        #[test]
        fn any_number_has_a_bucket(value in any::<f64>()) {
            let mut sketch = Sketch::default();
            sketch.add(value);
            let answer = sketch.quantile(0.5);
            prop_assert_eq!(answer.is_some(), !value.is_nan());
            prop_assert!(answer.is_none_or(f64::is_finite));
        }
    }
}
