//! The stores in one SQLite database, `worker.db` in the data directory: the truth in standalone mode.
//!
//! One thread writes; what is waiting when it is ready goes into one transaction with one `fsync` (WAL,
//! `synchronous=FULL`), so that concurrent commits of many tasks cost little more than one. A write that fails takes none of
//! its neighbours with it. One worker at a time: the directory is locked, and a second worker is refused with the first one's pid.

mod configs;
mod database;
mod images;
mod journal;
mod lock;
pub(crate) mod offsets;
mod schema;
mod states;
mod statuses;

pub use database::SqliteStore;
pub use images::{ImageChange, StoredImage, TopicImage};
pub use journal::{JournaledOffset, OffsetJournal};
