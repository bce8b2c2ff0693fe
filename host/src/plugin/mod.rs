//! Plugins: found by their manifests, opened on first use, called through handles.
//!
//! Everything above this module sees the object-safe handles of [`handle`] and never a vtable.

pub mod handle;

pub use handle::{ConnectorHandle, SinkTaskHandle, SourceTaskHandle, TransformHandle};
