//! Accepts connections of the REST API, in the clear or over TLS.
//!
//! TLS handshakes run beside each other, so that a client that is slow, or only holds its connection open, keeps nobody waiting.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::idle::{Activity, Watched};

/// How long a client may take to say hello.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at a time.
const HANDSHAKES: usize = 256;
/// After an error such as too many open files.
const RETRY_ACCEPT: Duration = Duration::from_millis(500);

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Its certificate (DER), if it showed one; it leads to a trusted one.
    pub certificate: Option<Arc<[u8]>>,
    /// Tells its connection of requests.
    pub activity: Activity,
}

/// Accepts connections, with their TLS done.
pub(super) struct Accepting {
    accepted: mpsc::Receiver<(Watched<Connection>, Peer)>,
    address: SocketAddr,
}

/// A connection, encrypted or not.
pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Accepting {
    /// Begins to accept.
    pub fn start(listener: TcpListener, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, accepted) = mpsc::channel(64);
        tokio::spawn(accept(listener, tls, sender));
        Ok(Self { accepted, address })
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, sender: mpsc::Sender<(Watched<Connection>, Peer)>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(RETRY_ACCEPT).await;
                continue;
            }
        };
        // Answers are small and whole; waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls.clone() else {
            if sender.send(watched(Connection::Plain(stream), address, None)).await.is_err() {
                return;
            }
            continue;
        };
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        let sender = sender.clone();
        tokio::spawn(async move {
            let _permit = permit;
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
                    let certificate = certificates.first().map(|certificate| Arc::from(certificate.as_ref()));
                    let _ = sender.send(watched(Connection::Tls(Box::new(stream)), address, certificate)).await;
                }
                Ok(Err(error)) => tracing::debug!(%address, "a TLS handshake failed: {error}"),
                Err(_) => tracing::debug!(%address, "a TLS handshake took longer than {HANDSHAKE_TIMEOUT:?}"),
            }
        });
    }
}

fn watched(connection: Connection, address: SocketAddr, certificate: Option<Arc<[u8]>>) -> (Watched<Connection>, Peer) {
    let activity = Activity::default();
    (Watched::new(connection, activity.clone()), Peer { address, certificate, activity })
}

impl axum::serve::Listener for Accepting {
    type Io = Watched<Connection>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Watched<Connection>, Peer) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { address: self.address, certificate: None, activity: Activity::default() })
    }
}

impl Connected<IncomingStream<'_, Accepting>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Accepting>) -> Self {
        stream.remote_addr().clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
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

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
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
}
