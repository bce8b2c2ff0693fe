//! TLS and SASL by the Java client's settings.
//!
//! | File | Noun |
//! |---|---|
//! | `tls` | what TLS connections are made with |
//! | `jaas` | `sasl.jaas.config` |
//! | `sasl` | the mechanisms, and their dialogue with a broker |
//! | `scram`, `oauth` | SCRAM's arithmetic; tokens |
//!
//! `jaas` and `oauth` serve the data clients too, so that one file of properties means the same to all. Certificates and keys are
//! read by [`crate::tls`].

pub(crate) mod jaas;
pub(crate) mod oauth;
mod sasl;
mod scram;
mod tls;

use std::sync::Arc;

pub(super) use sasl::{Sasl, Step};

use self::tls::Tls;
use super::settings::setting;
use super::{WireError, WireErrorKind};
use crate::log::ClientSettings;

/// How connections are secured.
#[derive(Debug, Clone, Default)]
pub(super) struct Security {
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) sasl: Option<Arc<Sasl>>,
}

impl Security {
    /// Reads client settings and the files that they name.
    pub(super) fn new(settings: &ClientSettings) -> Result<Self, WireError> {
        let protocol = settings.get("security.protocol").map_or("PLAINTEXT", |text| text.trim()).to_ascii_uppercase();
        let (tls, sasl) = match protocol.as_str() {
            "" | "PLAINTEXT" => (false, false),
            "SSL" => (true, false),
            "SASL_PLAINTEXT" => (false, true),
            "SASL_SSL" => (true, true),
            _ => {
                return Err(setting(
                    "security.protocol",
                    &format!("{protocol} is not known: write PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"),
                ));
            }
        };
        Ok(Self {
            tls: if tls { Some(Arc::new(Tls::new(settings)?)) } else { None },
            sasl: if sasl { Some(Arc::new(Sasl::new(settings)?)) } else { None },
        })
    }
}

/// A setting's text; empty counts as not set.
pub(crate) fn text<'a>(settings: &'a ClientSettings, name: &str) -> Option<&'a str> {
    settings.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn refused(message: impl Into<String>) -> WireError {
    WireError::new(WireErrorKind::Refused, message)
}
