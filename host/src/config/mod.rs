//! Configs: the worker's properties file, connector files, references to secrets, and Kafka client settings.
//!
//! Names, defaults and file formats are Kafka Connect's. A value that cannot be read is an error that names key, value and
//! what would be right; a key that nobody knows is a warning with the nearest known one, because Connect accepts it.

mod client_keys;
mod client_settings;
mod connect_worker_keys;
mod connector_file;
mod error;
mod listener;
pub mod properties;
mod providers;
mod response_headers;
mod secrets;
mod suggest;
mod topic_creation;
pub mod validation;
mod worker_config;
mod worker_keys;

pub use client_keys::client_config_def;
pub use client_settings::{ClientKind, OverridePolicy, client_settings};
pub use connector_file::{ConnectorFile, initial_state};
pub use error::ConfigError;
pub use listener::{Listener, Scheme};
pub use providers::{Preview, Providers};
pub use response_headers::{HeaderRule, RuleValue};
pub use secrets::Secrets;
pub use suggest::nearest;
pub use topic_creation::TopicCreation;
pub use worker_config::{Bootstrap, WorkerConfig};
pub(crate) use worker_keys::is_client_setting;
pub use worker_keys::worker_config_def;
