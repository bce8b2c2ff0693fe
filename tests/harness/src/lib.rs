//! Starts the real servers that the tests run against, and judges what came out.
//!
//! A test drives a real Kafka broker, a real Kafka Connect and a real `tributary`, never a stand-in.
//! The harness fetches what they need, starts them on free ports in temporary directories, breaks
//! them on demand, and leaves neither process nor directory behind, even where the test process is
//! killed with SIGKILL (see [`watchdog`]).
//!
//! Everything fails with an [`Error`] that says what was tried and, for a server, ends with the tail
//! of its log. A failed test keeps nothing; set `TRIBUTARY_KEEP=1` to keep the directories, and
//! `TRIBUTARY_SEED` to repeat a run (see [`seed`]).
//!
//! | Part | Gives |
//! |---|---|
//! | [`KafkaBroker`], [`KafkaCluster`], [`ConnectWorker`], [`TributaryWorker`] | the servers |
//! | [`Postgres`] | a database server with logical replication |
//! | [`debezium`] | its PostgreSQL connector, for a [`ConnectWorker`] |
//! | [`SchemaRegistry`] | a schema registry with Confluent's API, and [`Certificates`] for it |
//! | [`Lines`], [`Checker`] | input whose loss, repetition, reordering and tearing can be told |
//! | [`HttpServer`] | an HTTP server that misbehaves on purpose |
//! | [`Proxy`] | a network that can be cut and slowed |
//! | [`Seed`] | randomness that repeats |
//! | [`jars`], [`java`], [`cache`], [`ports`], [`process`] | what the servers stand on |

pub mod cache;
pub mod checker;
pub mod connect;
pub mod debezium;
mod debian;
mod error;
pub mod http_server;
pub mod jars;
pub mod java;
pub mod kafka;
pub mod lines;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod python;
pub mod rest;
pub mod schema_registry;
pub mod seed;
pub mod tributary;
pub mod usage;
pub mod wait;
pub mod watchdog;

pub use checker::{Checker, Report};
pub use connect::{ConnectOptions, ConnectWorker};
pub use error::{Context, Error, Result};
pub use http_server::{HttpRequest, HttpServer, Reply};
pub use jars::ClassPath;
pub use java::java_with_compiler;
pub use kafka::{BrokerOptions, KafkaBroker, KafkaCluster, STORE_PASSWORD, Secured};
pub use lines::Lines;
pub use postgres::Postgres;
pub use process::Server;
pub use proxy::{Lost, Proxy};
pub use python::Python;
pub use rest::{Answer, Rest};
pub use schema_registry::{Certificates, SchemaRegistry};
pub use seed::Seed;
pub use tributary::{Limit, TributaryWorker, WorkerOptions};
pub use usage::Usage;
