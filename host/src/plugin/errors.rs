//! What can be wrong with a plugin or with asking for one.

/// Why a plugin cannot be used. Nothing here is worth a retry.
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
    /// Built for another major version of the interface.
    #[error(
        "the plugin {plugin} is built for version {found} of the plugin interface, this worker has version {ours}: \
         install a build of the plugin for it"
    )]
    OtherAbi {
        /// Name or path.
        plugin: String,
        /// Major version of the plugin.
        found: u32,
        /// Major version of this worker.
        ours: u32,
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
}

impl From<PluginError> for tributary_sdk::Error {
    fn from(error: PluginError) -> Self {
        Self::Failed(error.to_string())
    }
}
