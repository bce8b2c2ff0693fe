//! Randomness that can be repeated.
//!
//! A random test draws everything from one [`Seed`]. It comes from `TRIBUTARY_SEED`, else from the
//! system, and is printed, so that the output of a failed test says how to repeat it.

use std::ops::{Deref, DerefMut};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A random number generator that knows its seed.
#[derive(Debug)]
pub struct Seed {
    value: u64,
    random: StdRng,
}

impl Seed {
    /// The seed of this run. `what` says in the output what it decides.
    ///
    /// Panics if `TRIBUTARY_SEED` is set to something other than a number.
    pub fn announce(what: &str) -> Self {
        let value = match std::env::var("TRIBUTARY_SEED") {
            Ok(text) => text.trim().parse().expect("TRIBUTARY_SEED is a number"),
            Err(_) => StdRng::from_os_rng().random_range(0..1_000_000_000),
        };
        println!("{what}: TRIBUTARY_SEED={value}");
        Self::new(value)
    }

    /// A fixed seed.
    pub fn new(value: u64) -> Self {
        Self { value, random: StdRng::seed_from_u64(value) }
    }

    /// The number that repeats this run.
    pub fn value(&self) -> u64 {
        self.value
    }
}

impl Deref for Seed {
    type Target = StdRng;

    fn deref(&self) -> &StdRng {
        &self.random
    }
}

impl DerefMut for Seed {
    fn deref_mut(&mut self) -> &mut StdRng {
        &mut self.random
    }
}
