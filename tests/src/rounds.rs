//! How often something goes wrong, and names for what it goes wrong with.

use std::sync::atomic::{AtomicU32, Ordering};

/// How often something goes wrong in a test: few times, unless `STATEFUL_ROUNDS` says otherwise.
pub fn rounds(few: usize) -> usize {
    std::env::var("STATEFUL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// A name that no other test of a shared broker has.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
