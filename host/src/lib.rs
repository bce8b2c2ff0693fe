//! Tributary: a connector host. See ARCHITECTURE.md for the map.

pub mod catalog;
pub mod cli;
pub mod config;
pub mod converter;
pub mod distributed;
pub mod dlq;
pub mod expression;
pub mod group;
pub mod herder;
pub mod log;
pub mod plugin;
pub mod rest;
mod serving;
pub mod standalone;
pub mod state;
pub mod storage;
pub mod task;
pub mod telemetry;
pub mod tls;
pub mod transform;
pub mod worker;
