//! Plugins: found by their manifests, opened on first use, called through handles.
//!
//! Everything above this module sees the [`Registry`], the [`PluginClass`]es in it and the object-safe handles of [`handle`],
//! and never a function table.

pub mod bridge;
mod class;
mod descriptor;
mod errors;
mod generate;
pub mod handle;
mod listing;
mod loader;
mod manifest;
mod registry;
mod version;
mod version_range;

pub use class::{ClassInfo, Kind, Location, PluginClass};
pub use errors::PluginError;
pub use generate::write_manifest;
pub use handle::{ConnectorHandle, SinkTaskHandle, SourceTaskHandle, TransformHandle};
pub use listing::listing;
pub use manifest::{MANIFEST_FILE, Manifest, ManifestClass};
pub use registry::{Problem, Registry};
pub use version::compare as compare_versions;
pub use version_range::{VersionRange, check_version};

/// The version of converters, transforms and predicates that are part of the worker.
pub const BUILT_IN_VERSION: &str = env!("CARGO_PKG_VERSION");
