//! Keyed state of stateful transforms: in memory, in SQLite, and in a changelog.
//!
//! A task owns one [`TaskState`] with a [`Store`] for each shard (input partition). Its promises:
//!
//! - **Staged.** What steps write belongs to the open [`Layer`]. [`TaskState::seal`] closes it and says what the transaction has to
//!   write to the changelog; after the commit [`TaskState::committed`] makes it lasting, or [`TaskState::discard`] forgets it and
//!   everything written later. So state moves together with the offsets or not at all.
//! - **SQLite is never ahead of the changelog.** Layers are saved behind the commits, by one thread, many at once; what is not saved
//!   stays in memory. A crash loses only what the changelog has: [`TaskState::restore`] reads it from the offset that SQLite knows.
//! - **Bounded.** Entries that are saved leave memory when the budget is full, and come back from SQLite when they are asked for; a
//!   filter knows which keys cannot be there, so new keys cost no query.
//! - **Exact.** A read sees the latest write, wherever the entry is.
//!
//! How it fails: a file that cannot be read or written fails the task ([`StateError`]); it can always be deleted, the changelog has it all.
//! A task that was replaced by another one on the same shard cannot save any more.
//!
//! A standby, which is a worker that does not run the task, may keep the same files up to date from the changelog: [`followed`]; it gives
//! way to tasks of its own process: [`holders`].
//!
//! # Where it is
//!
//! `<data.dir>/state/<connector>/<shard>.db`: a file for each shard, so that shards move between tasks, and a connector's state is
//! purged, by whole files. The changelog is described in [`changelog`].

pub mod changelog;
mod directory;
mod error;
mod file;
mod filter;
mod followed;
mod holders;
pub mod key;
mod layer;
mod merge;
mod reader;
mod restore;
mod saver;
mod segment;
mod store;
mod task_state;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use directory::StateDirectory;
pub use error::StateError;
pub use followed::FollowedShard;
pub use holders::{FollowerHold, Holders};
pub use key::{Kind, Space};
pub use layer::{Layer, Positions, ShardChanges};
pub use restore::{ChangelogReader, ChangelogRecords, LogChangelog, Restored};
pub use store::{Due, Store};
pub use task_state::{ShardStatus, TaskState};

/// The number of a shard: the partition of the input topics, and of the changelog.
pub type Shard = i32;
