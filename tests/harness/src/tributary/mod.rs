//! The project's own worker: the real binary, with the real plugin libraries.
//!
//! The binary is built once a process, in the profile of the tests themselves, or taken from
//! `TRIBUTARY_BIN`. A start waits until the REST API answers. The worker may be killed, stopped,
//! frozen and started again; port and data stay.

mod build;
mod limit;
mod worker;

pub use build::binary;
pub use limit::Limit;
pub use worker::{TributaryWorker, WorkerOptions};
