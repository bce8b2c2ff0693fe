//! Transforms that remember: `Deduplicate` and `Aggregate`.
//!
//! Each works on the [`Store`](crate::state::Store) of its record's shard, in event time: a watermark for each shard, which moves with
//! every record, so that what a record does depends on the records before it and not on how they came in batches. What is due is emitted
//! at the end of a batch, or by [`Stateful::advance`]. All state is staged until the task's transaction is sealed.

mod accumulator;
mod aggregate;
mod aggregate_config;
mod deduplicate;
mod distinct;
mod event_time;
mod held_record;
mod late;
mod meta;
pub mod outbox;
mod output;
pub mod passed;
mod pick;
mod quantile;
mod settings;
mod step;
mod stored;
mod windows;

#[cfg(test)]
mod tests;

pub use aggregate::Aggregate;
pub use deduplicate::Deduplicate;
pub use event_time::{EventTime, unread};
pub use settings::state_bytes;
pub use step::{Emitted, Moment, News, Stateful};
