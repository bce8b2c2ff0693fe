//! Listeners with TLS and SASL, and the stores that clients need: made by Java's keytool, as users make theirs.
//!
//! | Listener | Protocol | Wants |
//! |---|---|---|
//! | `TLS` | SSL | nothing more |
//! | `MTLS` | SSL | a client certificate |
//! | `SASLTLS` | SASL_SSL | PLAIN (alice, alice-secret), SCRAM (bob, bob-secret), OAUTHBEARER (any unsecured token) |
//! | `SASLPLAIN` | SASL_PLAINTEXT | the same |

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::java::Java;
use crate::{Context, Error, Result, ports};

/// The password of every store.
pub const STORE_PASSWORD: &str = "store-secret";

const LISTENERS: [(&str, &str); 4] =
    [("TLS", "SSL"), ("MTLS", "SSL"), ("SASLTLS", "SASL_SSL"), ("SASLPLAIN", "SASL_PLAINTEXT")];

/// A broker's secured listeners.
#[derive(Clone, Debug)]
pub struct Secured {
    ports: [u16; 4],
    dir: PathBuf,
}

impl Secured {
    /// Makes stores in `dir`.
    pub(super) fn make(java: &Java, dir: &Path) -> Result<Self> {
        let secured =
            Self { ports: [ports::free()?, ports::free()?, ports::free()?, ports::free()?], dir: dir.to_owned() };
        let keytool = java.program.with_file_name("keytool");
        let keytool = if keytool.is_absolute() { keytool } else { PathBuf::from("keytool") };
        let run = |args: &[&str]| {
            let output = Command::new(&keytool)
                .args(args)
                .args(["-storepass", STORE_PASSWORD, "-J-XX:TieredStopAtLevel=1"])
                .current_dir(dir)
                .stdin(Stdio::null())
                .output()
                .context("cannot run Java's keytool")?;
            if output.status.success() {
                return Ok(());
            }
            Err(Error::new(format!("keytool {}: {}", args.join(" "), String::from_utf8_lossy(&output.stdout))))
        };
        let key = ["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "3650"];
        let pair = |more: &[&str]| run(&[&key[..], more].concat());
        pair(&[
            "-alias",
            "broker",
            "-dname",
            "CN=broker",
            "-ext",
            "SAN=IP:127.0.0.1,DNS:localhost",
            "-keystore",
            "broker.p12",
            "-storetype",
            "PKCS12",
        ])?;
        pair(&["-alias", "client", "-dname", "CN=client", "-keystore", "client.p12", "-storetype", "PKCS12"])?;
        pair(&[
            "-alias",
            "other",
            "-dname",
            "CN=other",
            "-keystore",
            "client.jks",
            "-storetype",
            "JKS",
            "-keypass",
            STORE_PASSWORD,
        ])?;
        run(&["-exportcert", "-rfc", "-alias", "broker", "-keystore", "broker.p12", "-file", "broker.pem"])?;
        run(&["-exportcert", "-rfc", "-alias", "client", "-keystore", "client.p12", "-file", "client.pem"])?;
        run(&["-exportcert", "-rfc", "-alias", "other", "-keystore", "client.jks", "-file", "other.pem"])?;
        for (store, kind) in [("trust.jks", "JKS"), ("trust.p12", "PKCS12")] {
            run(&[
                "-importcert",
                "-noprompt",
                "-alias",
                "broker",
                "-file",
                "broker.pem",
                "-keystore",
                store,
                "-storetype",
                kind,
            ])?;
        }
        for client in ["client", "other"] {
            run(&[
                "-importcert",
                "-noprompt",
                "-alias",
                client,
                "-file",
                &format!("{client}.pem"),
                "-keystore",
                "clients.p12",
                "-storetype",
                "PKCS12",
            ])?;
        }
        Ok(secured)
    }

    /// The value for `bootstrap.servers` of a listener.
    ///
    /// Panics if there is none of this name.
    pub fn bootstrap(&self, listener: &str) -> String {
        let index = LISTENERS.iter().position(|(name, _)| *name == listener).expect("a listener of Secured");
        format!("127.0.0.1:{}", self.ports[index])
    }

    /// A file: `broker.pem` (what clients trust), `trust.jks` and `trust.p12` (the same), `client.p12` and `client.jks`
    /// (keys that the broker trusts).
    pub fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    pub(super) fn listeners(&self, listeners: &mut String, advertised: &mut String, protocols: &mut String) {
        for ((name, protocol), port) in LISTENERS.iter().zip(self.ports) {
            let _ = write!(listeners, ",{name}://127.0.0.1:{port}");
            let _ = write!(advertised, ",{name}://127.0.0.1:{port}");
            let _ = write!(protocols, ",{name}:{protocol}");
        }
    }

    pub(super) fn properties(&self) -> String {
        let mut text = format!(
            "\
ssl.keystore.type=PKCS12
ssl.keystore.location={}
ssl.keystore.password={STORE_PASSWORD}
ssl.truststore.type=PKCS12
ssl.truststore.location={}
ssl.truststore.password={STORE_PASSWORD}
listener.name.mtls.ssl.client.auth=required
",
            self.file("broker.p12"),
            self.file("clients.p12")
        );
        for listener in ["sasltls", "saslplain"] {
            let module = "org.apache.kafka.common.security";
            let _ = write!(
                text,
                "\
listener.name.{listener}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.{listener}.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_alice=\"alice-secret\";
listener.name.{listener}.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;
listener.name.{listener}.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;
listener.name.{listener}.oauthbearer.sasl.jaas.config={module}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";
"
            );
        }
        text
    }
}
