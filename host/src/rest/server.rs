//! The HTTP server: binds the listeners at once, serves until told to end, and lets requests under way finish.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use tokio_rustls::TlsAcceptor;

use super::answer_headers::AnswerHeaders;
use super::api::Api;
use super::listener::{Accepting, Peer};
use super::routes::{Surface, router};
use crate::config::{Listener, Scheme, WorkerConfig};

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A listener that cannot be bound.
    #[error("cannot listen on {listener}: {error}; stop what listens there, or set another address in listeners")]
    Bind {
        /// The listener.
        listener: Listener,
        /// The reason.
        error: std::io::Error,
    },
    /// An https listener without what it needs.
    #[error("{0}")]
    Tls(String),
    /// A setting that makes no sense.
    #[error("{0}")]
    Setting(String),
}

fn bind(listener: &Listener) -> Result<(Listener, TcpListener), ServerError> {
    let bound = TcpListener::bind(listener.address()).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    match bound {
        Ok(socket) => Ok((listener.clone(), socket)),
        Err(error) => Err(ServerError::Bind { listener: listener.clone(), error }),
    }
}

/// Listeners that are bound, and accept connections once [`RestServer::serve`] runs.
pub struct RestServer {
    sockets: Vec<(Listener, TcpListener)>,
    tls: Option<TlsAcceptor>,
    admin_sockets: Vec<(Listener, TcpListener)>,
    admin_tls: Option<TlsAcceptor>,
    /// What `sockets` show.
    surface: Surface,
    headers: AnswerHeaders,
}

impl RestServer {
    /// Binds the listeners, so that their ports are known before anything else starts. `tls` is asked for if one is https.
    pub fn bind(
        listeners: &[Listener],
        tls: impl FnOnce() -> Result<TlsAcceptor, String>,
    ) -> Result<Self, ServerError> {
        let encrypted = listeners.iter().any(|listener| listener.scheme == Scheme::Https);
        let tls = if encrypted { Some(tls().map_err(ServerError::Tls)?) } else { None };
        Ok(Self {
            sockets: listeners.iter().map(bind).collect::<Result<_, _>>()?,
            tls,
            admin_sockets: Vec::new(),
            admin_tls: None,
            surface: Surface::Whole,
            headers: AnswerHeaders::default(),
        })
    }

    /// With what `admin.listeners`, `response.http.headers.config` and `access.control.*` ask for.
    pub fn with_settings(mut self, config: &WorkerConfig) -> Result<Self, ServerError> {
        self.headers = AnswerHeaders::new(
            config.response_headers.clone(),
            &config.access_control_allow_origin,
            &config.access_control_allow_methods,
        )
        .map_err(ServerError::Setting)?;
        if let Some(admin) = &config.admin_listeners {
            self.surface = Surface::WithoutAdmin;
            if admin.iter().any(|listener| listener.scheme == Scheme::Https) {
                self.admin_tls = Some(super::tls::admin_acceptor(&config.properties).map_err(ServerError::Tls)?);
            }
            self.admin_sockets = admin.iter().map(bind).collect::<Result<_, _>>()?;
        }
        Ok(self)
    }

    /// The addresses that were bound.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|(_, socket)| socket.local_addr().ok()).collect()
    }

    /// Serves until `end` turns true; then requests under way have `grace` to finish.
    pub async fn serve(self, api: Arc<Api>, end: watch::Receiver<bool>, grace: Duration) {
        let main = router(api.clone(), self.surface, self.headers);
        // As in Connect, they get none of the headers.
        let admin = router(api, Surface::AdminOnly, AnswerHeaders::default());
        let mut servers = tokio::task::JoinSet::new();
        let main = self.sockets.into_iter().map(|socket| (socket, &main, &self.tls));
        let admin = self.admin_sockets.into_iter().map(|socket| (socket, &admin, &self.admin_tls));
        for ((listener, socket), router, tls) in main.chain(admin) {
            let (router, mut end) = (router.clone(), end.clone());
            let tls = tls.clone().filter(|_| listener.scheme == Scheme::Https);
            servers.spawn(async move {
                let accepting = tokio::net::TcpListener::from_std(socket).and_then(|socket| Accepting::start(socket, tls));
                let accepting = match accepting {
                    Ok(accepting) => accepting,
                    Err(error) => return tracing::error!("cannot serve {listener}: {error}"),
                };
                let ended = {
                    let mut end = end.clone();
                    async move { drop(end.wait_for(|ended| *ended).await) }
                };
                let service = router.into_make_service_with_connect_info::<Peer>();
                let serve = axum::serve(accepting, service).with_graceful_shutdown(ended);
                let given_up = async {
                    let _ = end.wait_for(|ended| *ended).await;
                    tokio::time::sleep(grace).await;
                };
                tokio::select! {
                    result = serve => if let Err(error) = result { tracing::error!("serving {listener} ended: {error}") },
                    () = given_up => tracing::warn!("requests on {listener} took longer than {grace:?} to finish and were cut off"),
                }
            });
        }
        while servers.join_next().await.is_some() {}
    }
}
