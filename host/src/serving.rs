//! The REST API of a worker, from bound listeners to the last answer: the same for a worker alone and for one of a group.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::config::WorkerConfig;
use crate::log::Log;
use crate::rest::{self, Api, Authenticator, RestServer};

/// How long requests under way may take to finish when the worker ends.
const GRACE: Duration = Duration::from_secs(3);
/// How often the cluster id is asked for until it is known.
const CLUSTER_ID_RETRY: Duration = Duration::from_secs(5);

/// Listeners that are bound, and who may ask.
pub(crate) struct Bound {
    pub rest: RestServer,
    pub authenticator: Arc<Authenticator>,
    pub addresses: Vec<SocketAddr>,
    /// `host:port` of this worker in statuses.
    pub worker_id: String,
}

impl Bound {
    /// Binds the listeners: a port in use, or a certificate that cannot be read, is an error before anything else is opened.
    pub fn open(config: &WorkerConfig) -> Result<Self, String> {
        let authenticator = Arc::new(Authenticator::open(&config.authentication)?);
        let rest = RestServer::bind(&config.listeners, || rest::tls_acceptor(&config.properties))
            .and_then(|rest| rest.with_settings(config))
            .map_err(|error| error.to_string())?;
        let addresses = rest.addresses();
        let worker_id = config.worker_id(addresses.first().map_or(0, SocketAddr::port));
        Ok(Self { rest, authenticator, addresses, worker_id })
    }
}

/// The API being served, on threads of its own.
pub(crate) struct Serving {
    runtime: tokio::runtime::Runtime,
    served: tokio::task::JoinHandle<()>,
    end: watch::Sender<bool>,
}

impl Serving {
    /// Begins to answer. `blocking` is how many requests may wait for something at the same time.
    pub fn start(rest: RestServer, api: Arc<Api>, blocking: usize) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(blocking)
            .thread_name("rest")
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start the REST threads: {error}"))?;
        let (end, ending) = watch::channel(false);
        let served = runtime.spawn(rest.serve(api, ending, GRACE));
        Ok(Self { runtime, served, end })
    }

    /// Waits for something on the calling thread.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Answers what is under way, and ends.
    pub fn stop(self) {
        self.end.send_replace(true);
        if self.runtime.block_on(self.served).is_err() {
            tracing::error!("the REST server panicked; this is a bug of the worker");
        }
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("cannot listen for signals; stop the worker with kill -9, which loses nothing");
        return std::future::pending().await;
    };
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!("stopping on {name}");
}

/// Asks for the cluster id on a thread of its own: the worker starts, and answers, while the cluster is away.
pub(crate) fn learn_cluster_id(log: Arc<dyn Log>, cluster_id: Arc<OnceLock<String>>) {
    let ask = move || {
        loop {
            match log.cluster_id(Duration::from_secs(10)) {
                Ok(id) => {
                    let _ = cluster_id.set(id);
                    return;
                }
                Err(error) => tracing::warn!("the cluster does not answer yet: {error}"),
            }
            std::thread::sleep(CLUSTER_ID_RETRY);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("cluster-id".to_owned()).spawn(ask) {
        tracing::error!("cannot start a thread: {error}");
    }
}
