//! What the parcels are, for the plugin and for whoever checks what became of them.

/// Numbers of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// In their order.
    pub numbers: Vec<u64>,
    /// Whether the transaction is dropped.
    pub dropped: bool,
}

impl Parcel {
    /// The parcel with a number; its own numbers are below `bound`.
    pub fn new(seed: u64, number: u64, bound: u64) -> Self {
        let mut random = mix(seed ^ mix(number));
        let mut next = || {
            random = mix(random);
            random
        };
        let (count, dropped) = (1 + next() % 300, next().is_multiple_of(4));
        Self { numbers: (0..count).map(|_| next() % bound.max(1)).collect(), dropped }
    }
}

/// One step of SplitMix64.
pub fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
