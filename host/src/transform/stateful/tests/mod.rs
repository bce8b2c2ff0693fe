//! Stateful transforms in a chain, on a real store: against naive models, with any division into batches, aborts and crashes.

mod aggregates;
mod config;
mod duplicates;
mod rig;
