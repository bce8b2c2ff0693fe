//! The SASL mechanisms, as a dialogue: each answer of the broker gives the next message, or the end.

use std::sync::Arc;

use rand::Rng;

use super::jaas::Jaas;
use super::oauth::Tokens;
use super::scram::{Hash, Scram};
use super::text;
use crate::group::wire::WireError;
use crate::group::wire::settings::setting;
use crate::log::ClientSettings;

/// Who this client is.
#[derive(Debug)]
pub(in crate::group::wire) struct Sasl {
    pub(in crate::group::wire) mechanism: &'static str,
    login: Login,
}

enum Login {
    Plain { user: String, password: String },
    Scram { hash: Hash, user: String, password: String, token: bool },
    Bearer(Arc<Tokens>),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// What comes next in a dialogue.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::group::wire) enum Step {
    /// Send this.
    Send(Vec<u8>),
    /// All is said.
    Done,
}

/// A dialogue under way.
pub(in crate::group::wire) enum Dialogue<'a> {
    Plain,
    Scram { scram: Box<Scram>, password: &'a str, proved: bool },
    Bearer,
}

impl Sasl {
    pub(super) fn new(settings: &ClientSettings) -> Result<Self, WireError> {
        let jaas = text(settings, "sasl.jaas.config")
            .map(Jaas::parse)
            .transpose()
            .map_err(|reason| setting("sasl.jaas.config", &reason))?;
        // Java's default, GSSAPI, is not spoken here, so it has to be named.
        let mechanism = text(settings, "sasl.mechanism").or_else(|| text(settings, "sasl.mechanisms"));
        let mechanism = mechanism.unwrap_or("GSSAPI").to_ascii_uppercase();
        let credentials = || {
            let option = |name: &str, key: &str| {
                jaas.as_ref().and_then(|jaas| jaas.option(name)).or_else(|| text(settings, key)).map(str::to_owned)
            };
            match (option("username", "sasl.username"), option("password", "sasl.password")) {
                (Some(user), Some(password)) => Ok((user, password)),
                _ => Err(setting("sasl.jaas.config", "username=\"…\" and password=\"…\" are wanted")),
            }
        };
        let scram = |hash| {
            let (user, password) = credentials()?;
            let token = jaas.as_ref().and_then(|jaas| jaas.option("tokenauth")) == Some("true");
            Ok(Login::Scram { hash, user, password, token })
        };
        let (mechanism, login) = match mechanism.as_str() {
            "PLAIN" => {
                let (user, password) = credentials()?;
                ("PLAIN", Login::Plain { user, password })
            }
            "SCRAM-SHA-256" => ("SCRAM-SHA-256", scram(Hash::Sha256)?),
            "SCRAM-SHA-512" => ("SCRAM-SHA-512", scram(Hash::Sha512)?),
            "OAUTHBEARER" => {
                let tokens = Tokens::new(settings, jaas.as_ref())
                    .map_err(|reason| setting("sasl.mechanism=OAUTHBEARER", &reason))?;
                ("OAUTHBEARER", Login::Bearer(Arc::new(tokens)))
            }
            other => {
                return Err(setting(
                    "sasl.mechanism",
                    &format!("{other} is not available: use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"),
                ));
            }
        };
        Ok(Self { mechanism, login })
    }

    /// The first message, and the dialogue that it begins.
    pub(in crate::group::wire) async fn begin(&self) -> Result<(Vec<u8>, Dialogue<'_>), String> {
        match &self.login {
            Login::Plain { user, password } => Ok((format!("\0{user}\0{password}").into_bytes(), Dialogue::Plain)),
            Login::Scram { hash, user, password, token } => {
                let mut random = rand::rng();
                let nonce: String = (0..24).map(|_| char::from(random.sample(rand::distr::Alphanumeric))).collect();
                let scram = Box::new(Scram::new(*hash, user, &nonce, *token));
                Ok((scram.first().into_bytes(), Dialogue::Scram { scram, password, proved: false }))
            }
            Login::Bearer(tokens) => {
                let tokens = tokens.clone();
                let token = tokio::task::spawn_blocking(move || tokens.token()).await;
                let token = token.map_err(|_| "fetching a token was broken off".to_owned())??;
                Ok((format!("n,,\u{1}auth=Bearer {}\u{1}\u{1}", token.value).into_bytes(), Dialogue::Bearer))
            }
        }
    }
}

impl Dialogue<'_> {
    /// What follows the broker's message.
    pub(in crate::group::wire) fn next(&mut self, message: &[u8]) -> Result<Step, String> {
        let text = || String::from_utf8(message.to_vec()).map_err(|_| "its SASL message cannot be read".to_owned());
        match self {
            Self::Plain => Ok(Step::Done),
            Self::Scram { scram, password, proved: proved @ false } => {
                *proved = true;
                Ok(Step::Send(scram.last(&text()?, password)?.into_bytes()))
            }
            Self::Scram { scram, .. } => scram.verify(&text()?).map(|()| Step::Done),
            Self::Bearer if message.is_empty() => Ok(Step::Done),
            // What is wrong with the token; the broker wants a last word before it refuses.
            Self::Bearer => Ok(Step::Send(vec![1])),
        }
    }
}
