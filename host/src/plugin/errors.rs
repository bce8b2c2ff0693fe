//! What can be wrong with a plugin or with asking for one.

use std::path::{Path, PathBuf};

use tributary_abi as abi;

/// Why a plugin cannot be used: what is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// No plugin has such a class.
    #[error("{0}")]
    UnknownClass(String),
    /// A short name fits several classes.
    #[error("{name} is ambiguous: write one of {} in full", candidates.join(", "))]
    Ambiguous {
        /// The name asked for.
        name: String,
        /// Full names.
        candidates: Vec<String>,
    },
    /// A library without a manifest.
    #[error(
        "{} has no plugin.toml beside it, so that its classes are not known: write one with `tributary plugins manifest {}`",
        library.display(), library.display()
    )]
    NoManifest {
        /// The library.
        library: PathBuf,
    },
    /// A manifest that cannot be read.
    #[error("the manifest {} is no good: {reason}", path.display())]
    BadManifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The library is not the one that the manifest was written for.
    #[error(
        "the library {} has the digest {found}, its manifest says {expected}: it was changed or damaged, and is not opened; \
         install it again, or write the manifest anew with `tributary plugins manifest` if the change was yours",
        library.display()
    )]
    WrongDigest {
        /// The library.
        library: PathBuf,
        /// SHA-256 in the manifest.
        expected: String,
        /// SHA-256 of the file.
        found: String,
    },
    /// A file that is no shared library.
    #[error("{} is no shared library for Linux: {reason}", library.display())]
    NotALibrary {
        /// The file.
        library: PathBuf,
        /// Why.
        reason: String,
    },
    /// Built for another processor.
    #[error("the library {} is built for {found}, this machine needs {ours}: install a build for it", library.display())]
    WrongArchitecture {
        /// The library.
        library: PathBuf,
        /// Its architecture.
        found: String,
        /// The worker's.
        ours: String,
    },
    /// A shared library that is no plugin.
    #[error(
        "the library {} does not export {}, so it is no plugin: does it call export_plugin! and is its crate-type cdylib?",
        library.display(), abi::ENTRY_SYMBOL
    )]
    NoEntrySymbol {
        /// The library.
        library: PathBuf,
    },
    /// Built for another major version of the interface.
    #[error(
        "the plugin {plugin} is built for version {found} of the plugin interface, this worker has version {}: \
         install a build of the plugin for it",
        abi::ABI_MAJOR
    )]
    OtherAbi {
        /// Name or path.
        plugin: String,
        /// Major version of the plugin.
        found: String,
    },
    /// Built with `panic=abort`.
    #[error(
        "the plugin {plugin} is built with panic=abort, so that its panics would end the whole worker: \
         remove `panic = \"abort\"` from its Cargo profile and rebuild it"
    )]
    PanicAbort {
        /// Name or path.
        plugin: String,
    },
    /// The dynamic linker refused it.
    #[error("the library {} cannot be opened: {reason}", library.display())]
    Open {
        /// The library.
        library: PathBuf,
        /// The linker's words.
        reason: String,
    },
    /// The descriptor breaks a rule of the ABI.
    #[error(
        "the plugin {plugin} breaks the plugin interface: {reason}; rebuild it against this worker's connector-sdk"
    )]
    BadDescriptor {
        /// Name or path.
        plugin: String,
        /// Which rule.
        reason: String,
    },
    /// The library is not what its manifest says.
    #[error(
        "the library {} does not agree with its manifest: {reason}; write the manifest anew with `tributary plugins manifest`",
        library.display()
    )]
    Disagrees {
        /// The library.
        library: PathBuf,
        /// In what.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{} {}: {reason}", action, path.display())]
    Io {
        /// What was tried: `cannot read`.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
}

impl PluginError {
    pub(super) fn io(action: &'static str, path: &Path, error: &std::io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), reason: error.to_string() }
    }
}

impl From<PluginError> for tributary_sdk::Error {
    fn from(error: PluginError) -> Self {
        Self::Failed(error.to_string())
    }
}
