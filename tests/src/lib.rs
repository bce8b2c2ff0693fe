//! What the tests of the whole have in common: the logs they run on, and the main job.
//!
//! Each area is a test binary of its own (`delivery/`, …). Tests of one area run beside each other in
//! one process; those that break a broker start one for themselves.

mod file_job;
mod installed;
mod log;
mod outage;
mod rounds;
mod workers;

pub use file_job::FileJob;
pub use installed::install_plugin;
pub use log::Log;
pub use outage::outage;
pub use rounds::{rounds, unique};
pub use workers::{SESSION, Workers};

/// The steps of the commit loop at which `TRIBUTARY_TEST_FAIL_POINT` kills a worker, before or after.
pub const COMMIT_STEPS: [&str; 7] = ["init", "begin", "send", "positions", "flush", "commit", "settle"];
