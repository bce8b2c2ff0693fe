//! Tributary: a connector host. See ARCHITECTURE.md for the map.

pub mod converter;
pub mod log;
pub mod plugin;
pub mod storage;
pub mod transform;
pub mod worker;
