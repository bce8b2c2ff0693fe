//! The plugin's side of the boundary: what turns the SDK's traits into C function tables.
//!
//! Promises: no panic crosses (it becomes the task's error, with message, place and trace, and the instance is poisoned);
//! authors write no `unsafe`; the same [`Plugin`] is exported from a library by [`export_plugin!`](crate::export_plugin) or
//! linked into the worker as it is. What it cannot contain: `panic=abort` (said in the descriptor, so that the worker
//! refuses the library), a segfault, a call that never returns.
//!
//! ```
//! use tributary_sdk::export::Plugin;
//! # use tributary_sdk::*;
//! # #[derive(Default)] pub struct Ticks;
//! # #[derive(Default)] pub struct TicksTask;
//! # impl SourceConnector for Ticks {
//! #     type Task = TicksTask;
//! #     fn config_def() -> ConfigDef { ConfigDef::new() }
//! #     fn start(&mut self, _: &Context, _: &Config) -> Result<()> { Ok(()) }
//! #     fn task_configs(&mut self, _: usize) -> Result<Vec<Config>> { Ok(vec![Config::default()]) }
//! # }
//! # impl SourceTask for TicksTask {
//! #     fn start(&mut self, _: &Context, _: &Config) -> Result<()> { Ok(()) }
//! #     fn poll(&mut self, _: &mut Output<'_>) -> Result<()> { Ok(()) }
//! # }
//! pub fn plugin() -> Plugin {
//!     Plugin::new("ticks", "1.0.0")
//!         .source::<Ticks>("com.example.TicksSourceConnector")
//!         .documentation("Emits a record every second.")
//! }
//! // In the library crate (`crate-type = ["cdylib"]`):
//! tributary_sdk::export_plugin!(plugin());
//! ```

mod connector;
mod host_services;
mod instance;
mod panics;
mod plugin;
mod sink_task;
mod source_task;
mod transform;

pub use plugin::{Plugin, entry};

/// Exports a plugin from a `cdylib` crate: `export_plugin!(plugin());`, where the argument is a [`Plugin`]. Once a library.
#[macro_export]
macro_rules! export_plugin {
    ($plugin:expr) => {
        /// The plugin's one exported symbol; see `tributary-abi`.
        #[unsafe(no_mangle)]
        pub extern "C" fn tributary_plugin_v1(
            host: *const $crate::export::abi::Host,
        ) -> *const $crate::export::abi::Plugin {
            static DESCRIPTOR: ::std::sync::OnceLock<&'static $crate::export::abi::Plugin> =
                ::std::sync::OnceLock::new();
            $crate::export::entry(host, &DESCRIPTOR, || $plugin)
        }
    };
}

#[doc(hidden)]
pub use tributary_abi as abi;
