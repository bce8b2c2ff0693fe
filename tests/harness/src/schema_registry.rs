//! A real schema registry with Confluent's API: Apicurio Registry, its schemas in a file, so that it can be killed and come back.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::java::java;
use crate::process::{ScratchDir, Server};
use crate::rest::Rest;
use crate::{Context, Error, Result, cache, jars, ports, wait};

const VERSION: &str = "3.0.9";
const SHA256: &str = "2b28181501a20cbf6efcd77f9b7153908fc01f3d3a7c32024c0bd9e1b04c8a43";
/// The password of the stores that [`Certificates`] makes.
pub const STORE_PASSWORD: &str = "changeit";

/// A registry that lives as long as this value.
#[derive(Debug)]
pub struct SchemaRegistry {
    // The process must be gone before its directory is.
    server: Server,
    port: u16,
    tls_port: Option<u16>,
    _dir: ScratchDir,
}

impl SchemaRegistry {
    /// Starts one.
    pub fn start() -> Result<Self> {
        Self::start_with(None)
    }

    /// One that all tests of a process share, and none of them stops.
    pub fn shared() -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<SchemaRegistry>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(registry) = shared.upgrade() {
            return Ok(registry);
        }
        let registry = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&registry);
        Ok(registry)
    }

    /// Starts one that also speaks TLS, to clients whose certificate it knows only.
    pub fn start_with_tls(certificates: &Certificates) -> Result<Self> {
        Self::start_with(Some(certificates))
    }

    fn start_with(certificates: Option<&Certificates>) -> Result<Self> {
        let dir = ScratchDir::new("registry")?;
        let port = ports::free()?;
        let jar = distribution()?.join(format!("apicurio-registry-app-{VERSION}-runner.jar"));
        // What was acknowledged survives a kill.
        let database = format!("jdbc:h2:file:{};WRITE_DELAY=0", dir.path().join("registry").display());
        let mut server = Server::new("registry", java()?.program, dir.path().join("registry.log"))
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar"])
            .args([jar.display().to_string()])
            .env("QUARKUS_HTTP_HOST", "127.0.0.1")
            .env("QUARKUS_HTTP_PORT", port.to_string())
            .env("QUARKUS_MANAGEMENT_ENABLED", "false")
            .env("APICURIO_STORAGE_KIND", "sql")
            .env("APICURIO_STORAGE_SQL_KIND", "h2")
            .env("APICURIO_DATASOURCE_URL", database)
            .env("APICURIO_DATASOURCE_USERNAME", "sa")
            .env("APICURIO_DATASOURCE_PASSWORD", "sa");
        let mut tls_port = None;
        if let Some(certificates) = certificates {
            let port = ports::free()?;
            tls_port = Some(port);
            let file = |name: &str| certificates.path(name).display().to_string();
            server = server
                .env("QUARKUS_HTTP_SSL_PORT", port.to_string())
                .env("QUARKUS_HTTP_SSL_CERTIFICATE_KEY_STORE_FILE", file("server.p12"))
                .env("QUARKUS_HTTP_SSL_CERTIFICATE_KEY_STORE_PASSWORD", STORE_PASSWORD)
                .env("QUARKUS_HTTP_SSL_CERTIFICATE_TRUST_STORE_FILE", file("clients.p12"))
                .env("QUARKUS_HTTP_SSL_CERTIFICATE_TRUST_STORE_PASSWORD", STORE_PASSWORD)
                .env("QUARKUS_HTTP_SSL_CLIENT_AUTH", "request")
                .env("QUARKUS_HTTP_INSECURE_REQUESTS", "enabled");
        }
        let mut registry = Self { server, port, tls_port, _dir: dir };
        registry.restart()?;
        Ok(registry)
    }

    /// The value of `schema.registry.url`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port)
    }

    /// The same over TLS.
    pub fn tls_url(&self) -> Result<String> {
        let port = self.tls_port.context("the registry was started without TLS")?;
        Ok(format!("https://localhost:{port}/apis/ccompat/v7"))
    }

    /// The port of plain HTTP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its API.
    pub fn rest(&self) -> Rest {
        Rest::new(self.url())
    }

    /// Kills it with SIGKILL.
    pub fn kill9(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// Starts it, or starts it again with the schemas it had. On a machine that is very busy it gives itself up now and then.
    pub fn restart(&mut self) -> Result<()> {
        for _ in 0..2 {
            match self.start_once() {
                Err(_) if !self.server.is_running() => {}
                other => return other,
            }
        }
        self.start_once()
    }

    fn start_once(&mut self) -> Result<()> {
        self.server.start()?;
        let (rest, tls_port) = (self.rest(), self.tls_port);
        // It is slow to start on a busy machine, and opens one port after the other.
        self.server.wait_until("answering", wait::PATIENCE * 3, || {
            if let Some(port) = tls_port {
                TcpStream::connect(("127.0.0.1", port)).context("its port for TLS")?;
            }
            Ok((rest.get("/subjects")?.status == 200).then_some(()))
        })
    }
}

/// The registry's program, unpacked.
fn distribution() -> Result<PathBuf> {
    cache::entry(&format!("apicurio-{VERSION}-{}", &SHA256[..12]), |dir| {
        let archive = dir.join("archive.tar.gz");
        let path = format!("io/apicurio/apicurio-registry-app/{VERSION}/apicurio-registry-app-{VERSION}-all.tar.gz");
        jars::fetch_archive(&path, SHA256, &archive)?;
        run(Command::new("tar").args(["xzf", "archive.tar.gz"]).current_dir(dir))?;
        std::fs::remove_file(archive)?;
        Ok(())
    })
}

/// Keys and certificates for a server and a client, signed by themselves.
#[derive(Debug)]
pub struct Certificates(ScratchDir);

impl Certificates {
    /// Makes `server.p12`, `client.p12` (keys), `servers.p12`, `clients.p12` (whom the other trusts), each as `.jks`
    /// too, and `server.pem`.
    pub fn make() -> Result<Self> {
        let made = Self(ScratchDir::new("certificates")?);
        for (name, trusted) in [("server", "servers"), ("client", "clients")] {
            let key = format!("{name}.p12");
            let certificate = format!("{name}.pem");
            made.keytool(&[
                "-genkeypair",
                "-keyalg",
                "RSA",
                "-alias",
                name,
                "-keystore",
                &key,
                "-validity",
                "3650",
                "-dname",
                "CN=localhost",
                "-ext",
                "SAN=dns:localhost,ip:127.0.0.1",
            ])?;
            made.keytool(&["-exportcert", "-rfc", "-alias", name, "-keystore", &key, "-file", &certificate])?;
            made.keytool(&[
                "-importcert",
                "-noprompt",
                "-alias",
                name,
                "-keystore",
                &format!("{trusted}.p12"),
                "-file",
                &certificate,
            ])?;
            for store in [name, trusted] {
                made.as_jks(store)?;
            }
        }
        Ok(made)
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn keytool(&self, args: &[&str]) -> Result<()> {
        self.run(args, &["-storetype", "PKCS12", "-storepass", STORE_PASSWORD])
    }

    /// A copy of `<store>.p12`.
    fn as_jks(&self, store: &str) -> Result<()> {
        let (from, to) = (format!("{store}.p12"), format!("{store}.jks"));
        self.run(
            &["-importkeystore", "-noprompt", "-srckeystore", &from, "-destkeystore", &to, "-deststoretype", "JKS"],
            &["-srcstorepass", STORE_PASSWORD, "-deststorepass", STORE_PASSWORD],
        )
    }

    fn run(&self, args: &[&str], more: &[&str]) -> Result<()> {
        let java = java()?.program;
        let beside = java.parent().map(|bin| bin.join("keytool")).filter(|tool| tool.is_file());
        let mut tool = Command::new(beside.unwrap_or_else(|| "keytool".into()));
        run(tool.args(args).args(more).current_dir(self.0.path()))
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context(format_args!("cannot run {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Error::new(format!("{command:?}: {}", String::from_utf8_lossy(&said).trim())))
}
