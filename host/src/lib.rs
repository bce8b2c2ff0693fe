//! Tributary: a connector host. See ARCHITECTURE.md for the map.
pub mod log;
