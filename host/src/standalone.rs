//! A standalone worker: stores, log, plugins, herder and REST API in one process.
//!
//! It starts in the order that leaves nothing half-done: the listeners are bound first, so that a port in use is an error
//! before anything is opened; then the data directory, which one worker at a time may have; then the log; then what was
//! stored is started. It ends in the opposite order, tasks first.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use crate::catalog;
use crate::config::validation::Validator;
use crate::config::{Bootstrap, ConnectorFile, Scheme, WorkerConfig};
use crate::herder::{Herder, HerderDeps, HerderSettings, PluginCatalog, Standalone, TaskRunner};
use crate::log::{EMBEDDED, Log, open_log};
use crate::rest::{Api, ApiSettings};
use crate::serving::{Bound, Serving, learn_cluster_id, signalled};
use crate::state::StateDirectory;
use crate::storage::OffsetStore;
use crate::storage::kafka::{StandaloneOffsets, StorageSettings};
use crate::storage::sqlite::SqliteStore;
use crate::task::Lease;
use crate::telemetry;
use crate::worker::{Environment, ExactlyOnce, StoredOffsets, Worker};

/// A running worker.
pub struct StandaloneWorker {
    herder: Herder,
    herder_thread: JoinHandle<()>,
    serving: Serving,
    addresses: Vec<SocketAddr>,
    url: String,
    runner: Arc<dyn TaskRunner>,
    validator: Arc<Validator>,
    /// The offsets of sources that deliver exactly once.
    offsets: Option<Arc<StandaloneOffsets>>,
}

impl StandaloneWorker {
    /// Starts a worker. The error says what to do.
    pub fn start(config: WorkerConfig) -> Result<Self, String> {
        let Bound { rest, authenticator, addresses, worker_id } = Bound::open(&config)?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let store = SqliteStore::open(&config.data_dir).map_err(|error| error.to_string())?;
        let cluster = config.cluster_settings().map_err(|error| error.to_string())?;
        let bootstrap = match &config.bootstrap {
            Bootstrap::Embedded => "embedded",
            Bootstrap::Kafka(servers) => servers,
        };
        let log = open_log(bootstrap, &cluster, &config.data_dir).map_err(|error| error.to_string())?;
        let registry = catalog::builtin_registry().scan(&config.plugin_path, &config.data_dir.join("plugins"));
        for problem in registry.problems() {
            tracing::warn!("a plugin is left out: {}", problem.error);
        }
        let config = Arc::new(config);
        let (herder, standalone) = Standalone::new();
        let plugins: Arc<dyn PluginCatalog> = Arc::new(catalog::classes(&registry));
        let transactional = exactly_once_offsets(&config, &log, &store)?;
        let offsets: Arc<dyn OffsetStore> = match &transactional {
            Some((_, offsets)) => offsets.clone(),
            None => Arc::new(store.clone()),
        };
        let topic = transactional.as_ref().map(|(_, offsets)| offsets.clone());
        let environment = Arc::new(Environment {
            config: config.clone(),
            registry: Arc::new(registry),
            log: log.clone(),
            offsets,
            task_offsets: None,
            connector_offsets: None,
            exactly_once: transactional.map(|(group, offsets)| ExactlyOnce {
                group,
                offsets: Arc::new(move |_| Ok(offsets.clone())),
                // Nobody else runs these tasks, and those that were left behind are fenced where that happens.
                current: None,
                former_tasks: Arc::new(|_| 0),
            }),
            state: Arc::new(store.clone()),
            state_files: StateDirectory::new(&config.data_dir),
            lease: Lease::unlimited(),
            starts: Default::default(),
            events: herder.event_sink(),
        });
        let runner: Arc<dyn TaskRunner> = Arc::new(Worker::new(environment.clone()));
        let deps = HerderDeps {
            configs: Arc::new(store.clone()),
            statuses: Arc::new(store),
            runner: runner.clone(),
            plugins: plugins.clone(),
        };
        let settings = HerderSettings { worker_id: worker_id.clone(), topic_tracking: config.topic_tracking };
        let herder_thread = standalone.start(deps, settings).map_err(|error| error.to_string())?;

        let cluster_id = Arc::new(OnceLock::new());
        learn_cluster_id(log, cluster_id.clone());
        let validator =
            Arc::new(Validator::new(plugins.clone()).standalone().on_worker(&config).with_checks(runner.clone()));
        let api = Arc::new(Api {
            herder: herder.clone(),
            runner: runner.clone(),
            validator: validator.clone(),
            plugins,
            authenticator,
            loggers: telemetry::loggers(),
            cluster_id,
            offsets: Arc::new(StoredOffsets::new(environment)),
            cluster: None,
            settings: ApiSettings::new(&config, worker_id),
        });
        let serving = Serving::start(rest, api, 16)?;
        let scheme = match config.listeners[0].scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let host = &config.listeners[0].host;
        let host = if matches!(host.as_str(), "" | "*" | "0.0.0.0" | "::") { "localhost" } else { host };
        let port = addresses.first().map_or(0, SocketAddr::port);
        let url = format!("{scheme}://{host}:{port}");
        Ok(Self { herder, herder_thread, serving, addresses, url, runner, validator, offsets: topic })
    }

    /// The addresses that the REST API listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The REST API's URL, as a user on this machine may open it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Commands, and the snapshot of everything.
    pub fn herder(&self) -> &Herder {
        &self.herder
    }

    /// Progress of tasks.
    pub fn runner(&self) -> &Arc<dyn TaskRunner> {
        &self.runner
    }

    /// Creates or updates a connector as its file says, if it is valid.
    pub fn put(&self, file: ConnectorFile) -> Result<(), String> {
        let ConnectorFile { name, config, initial_state } = file;
        let infos = self.validator.validate(&config).map_err(|error| format!("connector {name}: {error}"))?;
        if let Some(problems) = infos.summary() {
            return Err(format!("connector {name}: {problems}"));
        }
        for warning in &infos.warnings {
            tracing::warn!("connector {name}: {}", warning.message);
        }
        let put = self.serving.block_on(self.herder.put_file(&name, config, initial_state));
        put.map(|_| ()).map_err(|error| format!("connector {name}: {error}"))
    }

    /// Waits for SIGTERM or SIGINT.
    pub fn wait_for_signal(&self) {
        self.serving.block_on(signalled());
    }

    /// Stops everything gracefully.
    pub fn shutdown(self) {
        self.serving.block_on(self.herder.shutdown());
        if self.herder_thread.join().is_err() {
            tracing::error!("the herder's thread panicked; this is a bug of the worker");
        }
        self.serving.stop();
        if let Some(offsets) = self.offsets {
            offsets.close();
        }
        tracing::info!("stopped");
    }
}

/// Where sources that deliver exactly once keep their offsets, and the first part of their transactional ids.
fn exactly_once_offsets(
    config: &WorkerConfig,
    log: &Arc<dyn Log>,
    store: &SqliteStore,
) -> Result<Option<(String, Arc<StandaloneOffsets>)>, String> {
    if !config.exactly_once_source() {
        return Ok(None);
    }
    let group = config.group_id.as_deref().map(str::trim).filter(|group| !group.is_empty());
    let (bootstrap, group) = match (&config.bootstrap, group) {
        (Bootstrap::Embedded, group) => (EMBEDDED, group.unwrap_or("standalone")),
        (Bootstrap::Kafka(servers), Some(group)) => (servers.as_str(), group),
        (Bootstrap::Kafka(_), None) => {
            return Err("exactly.once.source.support=enabled needs group.id, also in standalone mode: it is a part of the tasks' \
                 transactional ids, which no other worker of the Kafka cluster may have"
                .to_owned());
        }
    };
    let topic = StorageSettings::standalone_offsets(&config.properties, bootstrap, group)
        .map_err(|errors| errors.join("\n"))?;
    let offsets = StandaloneOffsets::open(log.clone(), &topic, store).map_err(|error| error.to_string())?;
    Ok(Some((group.to_owned(), Arc::new(offsets))))
}
