//! TLS as `sslmode` and its companions say.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    StreamOwned,
};

use super::{PgError, PgResult};

/// libpq's modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SslMode {
    Disable,
    /// TLS if the server has it.
    Prefer,
    /// TLS, whoever the server is.
    Require,
    /// The certificate has to be signed by one that is trusted.
    VerifyCa,
    /// And it has to name the host.
    VerifyFull,
}

impl SslMode {
    /// By libpq's name. `allow` is taken for `prefer`: where both work, TLS is no worse.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" | "required" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

/// What TLS is made with.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub mode: SslMode,
    /// PEM file of trusted certificates; without it, those of the system.
    pub root_cert: Option<String>,
    /// PEM files of the client's own certificate and key.
    pub cert: Option<String>,
    pub key: Option<String>,
}

pub(super) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

impl Tls {
    /// The handshake.
    pub(super) fn connect(&self, host: &str, stream: TcpStream) -> PgResult<TlsStream> {
        let refused = |error: Error| PgError::Refused(format!("TLS with {host}: {error}"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(refused)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.verifier(provider)?));
        let config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
                builder.with_client_auth_cert(chain, key).map_err(refused)?
            }
            _ => builder.with_no_client_auth(),
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| PgError::Refused(format!("{host} is not a host name that a certificate can have")))?;
        let connection = ClientConnection::new(Arc::new(config), name).map_err(refused)?;
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|error| handshake(host, &error))?;
        }
        Ok(stream)
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> PgResult<Verifier> {
        // As libpq: `require` with a file of trusted certificates checks them.
        let checks = match self.mode {
            SslMode::VerifyFull => Checks::Name,
            SslMode::VerifyCa => Checks::Issuer,
            _ if self.root_cert.is_some() => Checks::Issuer,
            _ => Checks::Nothing,
        };
        if checks == Checks::Nothing {
            return Ok(Verifier { inner: None, checks, provider });
        }
        let mut roots = RootCertStore::empty();
        match &self.root_cert {
            Some(file) => {
                roots.add_parsable_certificates(certificates(file)?);
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| PgError::Refused(format!("there are no certificates to trust: {error}")))?;
        Ok(Verifier { inner: Some(inner), checks, provider })
    }
}

fn certificates(file: &str) -> PgResult<Vec<CertificateDer<'static>>> {
    let pem = fs::read(file).map_err(|error| unreadable(file, &error))?;
    CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &str, error: &dyn std::fmt::Display) -> PgError {
    PgError::Refused(format!("cannot read {file}: {error}"))
}

fn handshake(host: &str, error: &io::Error) -> PgError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(reason) => PgError::Refused(format!("TLS with {host}: {reason}")),
        None => PgError::Away(format!("the connection to {host} broke in the TLS handshake: {error}")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checks {
    Nothing,
    Issuer,
    Name,
}

#[derive(Debug)]
struct Verifier {
    inner: Option<Arc<WebPkiServerVerifier>>,
    checks: Checks,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.checks == Checks::Issuer => Ok(ServerCertVerified::assertion()),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Either kind of stream.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Stream {
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
