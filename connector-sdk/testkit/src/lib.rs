//! Run connector tasks without a worker, and the behaviour suite every connector passes.
//!
//! - [`TestServices`]: a worker in memory: virtual clock, offsets, state, captured logs and metrics.
//! - [`SourceRun`], [`SinkRun`]: a task, started from a connector config and called as the worker would.
//! - [`source_suite!`], [`sink_suite!`]: resume, at-least-once under a kill, backpressure, bad record, cancel, stop, secrets
//!   and the config definition, each a `#[test]` of its own. A connector's crate gives a [`SourceSubject`] or
//!   [`SinkSubject`]: how to set up its external system and to look into it.
//!
//! ```
//! use tributary_sdk::*;
//! use tributary_testkit::SourceRun;
//! # #[derive(Default)] struct Ones;
//! # #[derive(Default)] struct OnesTask;
//! # impl SourceConnector for Ones {
//! #     type Task = OnesTask;
//! #     fn config_def() -> ConfigDef { ConfigDef::new() }
//! #     fn start(&mut self, _: &Context, _: &Config) -> Result<()> { Ok(()) }
//! #     fn task_configs(&mut self, _: usize) -> Result<Vec<Config>> { Ok(vec![Config::default()]) }
//! # }
//! # impl SourceTask for OnesTask {
//! #     fn start(&mut self, _: &Context, _: &Config) -> Result<()> { Ok(()) }
//! #     fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
//! #         output.emit(Batch::new("ones", Column::text(vec!["1", "1"].into())))
//! #     }
//! # }
//! let mut run = SourceRun::<Ones>::start(&Config::from_iter([("topic", "ones")])).unwrap();
//! let batches = run.poll_records(4).unwrap();
//! assert_eq!(batches.iter().map(Batch::len).sum::<usize>(), 4);
//! run.deliver(&batches).unwrap();
//! run.stop().unwrap();
//! ```

pub mod readme;
pub mod rows;
mod services;
mod sink_run;
mod source_run;
pub mod suite;

pub use services::{Clock, LogLine, TestServices};
pub use sink_run::SinkRun;
pub use source_run::SourceRun;
pub use suite::{SinkSubject, SourceSubject};
