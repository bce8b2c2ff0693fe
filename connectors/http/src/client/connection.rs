//! From a URL to an open connection: name, address, proxy, TLS.
//!
//! All of it within `connect.timeout.ms`. The address is checked after the name was looked up and before anything is sent; behind a
//! proxy, which looks names up itself, only names and addresses that stand in the URL can be checked, and the proxy's own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::{Allowed, refusal};
use super::error::CallError;
use super::url::Origin;

/// A proxy that all requests go through.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub host: String,
    pub port: u16,
    pub authorization: Option<HeaderValue>,
}

/// What connections are made with.
pub(crate) struct Dialer {
    pub allowed: Allowed,
    pub tls: Arc<rustls::ClientConfig>,
    pub proxy: Option<Proxy>,
    /// What looking up and connecting may take, for all addresses of a name together.
    pub timeout: Duration,
}

/// A connection, plain or with TLS.
pub(crate) enum Stream {
    Plain(TokioIo<TcpStream>),
    Tls(TokioIo<Box<TlsStream<TcpStream>>>),
}

impl Dialer {
    /// Connects to a server, or to the proxy in front of it.
    pub async fn connect(&self, origin: &Origin) -> Result<Stream, CallError> {
        let stream = match &self.proxy {
            None => self.dial(&origin.host, origin.port).await?,
            Some(proxy) => {
                self.check_named(&origin.host)?;
                let stream = self.dial(&proxy.host, proxy.port).await?;
                if origin.https { tunnel(stream, origin, proxy).await? } else { stream }
            }
        };
        if !origin.https {
            return Ok(Stream::Plain(TokioIo::new(stream)));
        }
        let authority = origin.authority();
        let name = ServerName::try_from(origin.host.clone())
            .map_err(|_| CallError::refused(format!("{authority} is no name that a certificate could be for")))?;
        let connected = TlsConnector::from(self.tls.clone()).connect(name, stream).await;
        match connected {
            Ok(stream) => Ok(Stream::Tls(TokioIo::new(Box::new(stream)))),
            Err(error) => Err(tls_error(&authority, &error)),
        }
    }

    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, CallError> {
        let deadline = Instant::now() + self.timeout;
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
            .await
            .map_err(|error| CallError::passing(format!("cannot look up {host}: {error}")))?
            .collect();
        self.dial_one_of(host, found, deadline).await
    }

    /// Connects to the first address that can be connected to. One that does not answer takes its share of the time only.
    async fn dial_one_of(&self, host: &str, found: Vec<SocketAddr>, deadline: Instant) -> Result<TcpStream, CallError> {
        let mut refused = None;
        let mut failed = None;
        let mut allowed = Vec::new();
        for address in found {
            match refusal(address.ip(), self.allowed) {
                Some(reason) => refused = Some(format!("{host} is {}, {reason}", address.ip())),
                None => allowed.push(address),
            }
        }
        for (number, address) in allowed.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(allowed.len() - number).unwrap_or(u32::MAX);
            let connected = tokio::time::timeout(share, TcpStream::connect(address)).await;
            match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => {
                    // Requests are written whole; waiting for more to send only delays them.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => failed = Some(format!("cannot connect to {host} ({address}): {error}")),
            }
        }
        Err(match (failed, refused) {
            (Some(failed), _) => CallError::passing(failed),
            (None, Some(refused)) => CallError::refused(refused),
            (None, None) => CallError::passing(format!("cannot look up {host}: it has no address")),
        })
    }

    /// What can be checked of a server that only the proxy connects to.
    fn check_named(&self, host: &str) -> Result<(), CallError> {
        // The dot at the end of a whole name changes nothing.
        let host = host.strip_suffix('.').unwrap_or(host);
        let address: Option<IpAddr> = host.parse().ok();
        // A label of digits alone is an address in one of its old notations (127.1, 2130706433, 0x7f.1), which names never are.
        let odd = address.is_none()
            && host.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()));
        let local = host == "localhost" || host.ends_with(".localhost");
        let reason = match address {
            Some(address) => refusal(address, self.allowed),
            None if local => refusal(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), self.allowed),
            None if odd => Some("no name, and an address in a notation that is not accepted behind a proxy"),
            None => None,
        };
        reason.map_or(Ok(()), |reason| Err(CallError::refused(format!("{host} is {reason}"))))
    }
}

/// A certificate that is not accepted does not mend itself; everything else of a handshake may.
fn tls_error(authority: &str, error: &io::Error) -> CallError {
    let message = format!("no TLS with {authority}: {error}");
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(
            rustls::Error::InvalidCertificate(_)
            | rustls::Error::NoCertificatesPresented
            | rustls::Error::PeerIncompatible(_)
            | rustls::Error::UnsupportedNameType,
        ) => CallError::refused(message),
        _ => CallError::passing(message),
    }
}

/// Longest answer of a proxy to CONNECT.
const PROXY_ANSWER: usize = 8 << 10;

async fn tunnel(mut stream: TcpStream, origin: &Origin, proxy: &Proxy) -> Result<TcpStream, CallError> {
    let name = format!("{}:{}", proxy.host, proxy.port);
    let authority = origin.authority();
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if let Some(authorization) = &proxy.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let broken = |error: io::Error| CallError::passing(format!("proxy {name} does not answer: {error}"));
    stream.write_all(&request).await.map_err(broken)?;
    let mut answer = Vec::new();
    // Nothing may follow the answer before the handshake, which this side begins.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= PROXY_ANSWER {
            return Err(CallError::passing(format!(
                "proxy {name} answers CONNECT with more than {PROXY_ANSWER} bytes"
            )));
        }
        answer.push(stream.read_u8().await.map_err(broken)?);
    }
    let head = String::from_utf8_lossy(&answer);
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse::<u16>().ok());
    match status {
        Some(200..=299) => Ok(stream),
        // Somebody has to change something before these pass.
        Some(status @ (400..=407 | 501 | 505)) => {
            Err(CallError::refused(format!("proxy {name} answers CONNECT to {authority} with status {status}")))
        }
        Some(status) => {
            Err(CallError::passing(format!("proxy {name} answers CONNECT to {authority} with status {status}")))
        }
        None => Err(CallError::passing(format!("proxy {name} does not speak HTTP"))),
    }
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialer(timeout: Duration) -> Dialer {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let allowed = Allowed { loopback: true, link_local: false };
        Dialer { allowed, tls: Arc::new(tls), proxy: None, timeout }
    }

    #[test]
    fn an_address_that_is_dead_leaves_time_for_the_next() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listen = |backlog| {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
                socket.listen(backlog).unwrap()
            };
            // Nobody accepts, and the queue is full: what knocks then is not answered.
            let (dead, alive) = (listen(1), listen(16));
            let (dead_address, alive_address) = (dead.local_addr().unwrap(), alive.local_addr().unwrap());
            let mut queue = Vec::new();
            while let Ok(connected) =
                tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(dead_address)).await
            {
                queue.push(connected.unwrap());
            }
            let timeout = Duration::from_secs(6);
            let found = vec![dead_address, alive_address];
            let connected = dialer(timeout).dial_one_of("h", found, Instant::now() + timeout).await;
            assert_eq!(connected.unwrap().peer_addr().unwrap(), alive_address);
        });
    }

    #[test]
    fn local_names_are_refused_in_all_their_spellings() {
        let mut dialer = dialer(Duration::from_secs(1));
        dialer.allowed = Allowed::default();
        for host in ["localhost", "localhost.", "a.localhost.", "127.0.0.1.", "127.1.", "::1"] {
            assert!(dialer.check_named(host).is_err(), "{host}");
        }
        assert!(dialer.check_named("example.org.").is_ok());
    }
}
