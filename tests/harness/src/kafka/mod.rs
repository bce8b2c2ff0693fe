//! A real Kafka broker: KRaft in combined mode, one node, on free ports.
//!
//! It starts in about three seconds on a quiet machine, because what every start would repeat is made
//! once a machine (see [`image`]). Its heap is small, so that several can run beside each other.
//! A start waits until the broker answers a metadata request and lists itself, up to
//! [`PATIENCE`](crate::wait::PATIENCE), and fails with the tail of the broker's log.
//!
//! The broker may be killed, stopped, frozen and started again; ports and data stay.

mod admin;
mod broker;
mod cluster;
mod image;
mod options;
mod secured;

pub use admin::TopicOfBroker;
pub use broker::KafkaBroker;
pub use cluster::KafkaCluster;
pub use options::BrokerOptions;
pub use secured::{STORE_PASSWORD, Secured};
