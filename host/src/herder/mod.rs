//! The herder: decides which connectors and tasks run, and keeps what users asked for.
//!
//! It is one thread that owns everything and waits for nobody: commands of the REST API and events of the worker come in
//! through one queue, and what may take time (stopping) runs on a thread of its own, one connector never waiting for another.
//! For each connector it compares what is wanted with what runs and takes the next step ([`entry`]); whatever
//! arrives in between only changes what is wanted. What a user asked for is stored before it is answered.
//! Readers see snapshots ([`View`]) and never wait for the thread.

mod command;
mod consumer_group;
pub mod distributed;
mod entry;
mod error;
mod handle;
mod message;
mod observation;
mod plugins_port;
mod restart_policy;
mod standalone;
mod stopping;
mod task_configs;
mod view;
mod worker_port;

pub use command::{Created, Location, Place, RestartRequest};
pub use error::HerderError;
pub use handle::Herder;
pub use plugins_port::{PluginCatalog, PluginClass, PluginKind, newest_class};
pub use restart_policy::{RestartPolicy, restart_config_def};
pub use standalone::{HerderDeps, HerderSettings, Standalone};
pub use task_configs::{TASK_CLASS, task_class};
pub use view::{ConnectorView, InstanceView, RestartView, TaskView, View};
pub use worker_port::{EventSink, TaskRunner};
