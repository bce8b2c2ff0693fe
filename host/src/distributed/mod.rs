//! A worker in a group: configs, offsets and statuses in topics, work shared with the other workers of the same `group.id`.
//!
//! It starts in the order that leaves nothing half-done, and answers while Kafka is away: the listeners are bound, the data
//! directory is taken, what it remembers of the topics is loaded and REST answers reads from it. As soon as the topics have been read to
//! their ends the worker joins the group, and starts what it is assigned. A topic that may not be used (not compacted, several
//! partitions) ends the worker with the reason. It ends in the opposite order: tasks, statuses, the group, the topics, REST.

mod inter_worker;
mod late_group;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use self::inter_worker::InterWorker;
use self::late_group::LateGroup;
use crate::catalog;
use crate::config::validation::Validator;
use crate::config::{Bootstrap, Scheme, WorkerConfig};
use crate::group::{Group, GroupMember, GroupSettings};
use crate::herder::distributed::{Distributed, DistributedDeps, DistributedSettings, Input, Membership, Threads};
use crate::herder::{Herder, PluginCatalog, TaskRunner};
use crate::log::open_log;
use crate::rest::{self, Api, ApiSettings, Cluster, PeerClient};
use crate::serving::{Bound, Serving, learn_cluster_id, signalled};
use crate::state::StateDirectory;
use crate::storage::kafka::{KafkaStorage, Listeners, StorageSettings};
use crate::storage::sqlite::SqliteStore;
use crate::storage::{ConfigChange, ConfigLog};
use crate::task::Lease;
use crate::telemetry;
use crate::worker::{Environment, ExactlyOnce, FENCE_WITHIN, StoredOffsets, TaskId, Worker, transactional_ids};

/// Between looks at topics that cannot be read yet.
const TOPICS_AGAIN: Duration = Duration::from_secs(2);
/// How long a worker reads for what another one has just written.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(1);
/// How long a task that begins waits for the config topic, before it tries again.
const READ_CONFIGS_WITHIN: Duration = Duration::from_secs(10);
/// How long what was reported last may take to be acknowledged when the worker ends.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// How long changes are collected before a rebalance is asked for.
const REJOIN_AFTER: Duration = Duration::from_millis(20);

/// A running worker of a group.
pub struct DistributedWorker {
    herder: Herder,
    herder_thread: JoinHandle<()>,
    storage: Arc<KafkaStorage>,
    serving: Serving,
    ending: Arc<AtomicBool>,
    failed: oneshot::Receiver<String>,
    addresses: Vec<SocketAddr>,
    url: String,
}

impl DistributedWorker {
    /// Starts a worker. The error says what to do.
    pub fn start(config: WorkerConfig) -> Result<Self, String> {
        let Bootstrap::Kafka(servers) = config.bootstrap.clone() else {
            return Err(
                "bootstrap.servers=embedded is a log inside one worker; a group needs Kafka brokers, host:port,…"
                    .to_owned(),
            );
        };
        let listed = |errors: Vec<String>| errors.join("\n");
        let topics = StorageSettings::new(&config.properties).map_err(listed)?;
        let inter_worker = InterWorker::new(&config.properties).map_err(listed)?;
        let Bound { rest, authenticator, addresses, worker_id } = Bound::open(&config)?;
        let url = format!("{}://{worker_id}/", advertised_scheme(&config));
        let member = GroupSettings::new(&config, &url).map_err(|error| error.to_string())?;
        for warning in config.warnings.iter().chain(&topics.warnings) {
            tracing::warn!("{warning}");
        }
        let store = SqliteStore::open(&config.data_dir).map_err(|error| error.to_string())?;
        let cluster = config.cluster_settings().map_err(|error| error.to_string())?;
        let log = open_log(&servers, &cluster, &config.data_dir).map_err(|error| error.to_string())?;
        let registry = catalog::builtin_registry().scan(&config.plugin_path, &config.data_dir.join("plugins"));
        for problem in registry.problems() {
            tracing::warn!("a plugin is left out: {}", problem.error);
        }
        let config = Arc::new(config);
        let (herder, distributed) = Distributed::new();
        let listeners = Listeners { config: config_listener(distributed.inputs()), ..Listeners::default() };
        let storage = KafkaStorage::open(log.clone(), &topics, &store, listeners).map_err(|error| error.to_string())?;
        let storage = Arc::new(storage);
        let plugins: Arc<dyn PluginCatalog> = Arc::new(catalog::classes(&registry));
        let group = Arc::new(LateGroup::default());
        let membership_generation = Arc::new(AtomicI32::new(-1));
        let environment = Arc::new(Environment {
            config: config.clone(),
            registry: Arc::new(registry),
            log: log.clone(),
            offsets: storage.offsets.clone(),
            task_offsets: Some(task_offsets(&storage, &membership_generation)),
            connector_offsets: Some({
                let offsets = storage.offsets.clone();
                Arc::new(move |own| offsets.with_topic(Some(own)))
            }),
            exactly_once: exactly_once(&config, &storage),
            state: Arc::new(store.clone()),
            state_files: StateDirectory::new(&config.data_dir),
            lease: {
                let group = group.clone();
                Lease::new(move || group.may_write())
            },
            starts: Default::default(),
            events: herder.event_sink(),
        });
        let runner: Arc<dyn TaskRunner> = Arc::new(Worker::new(environment.clone()));
        let mut agent = PeerClient::config();
        if config.listeners.iter().any(|listener| listener.scheme == Scheme::Https) {
            agent = agent.tls_config(rest::towards_peers(&config.properties)?);
        }
        let peers = PeerClient::new(agent.build().into(), inter_worker.signing.clone());
        let loggers = telemetry::loggers();
        let deps = DistributedDeps {
            configs: storage.configs.clone(),
            statuses: storage.statuses.clone(),
            group: group.clone(),
            peers: Arc::new(peers.clone()),
            runner: runner.clone(),
            plugins: plugins.clone(),
            jobs: Arc::new(Threads::start().map_err(|error| format!("cannot start a thread: {error}"))?),
            fence_tasks: {
                let (log, group) = (log.clone(), config.group_id.clone().unwrap_or_default().trim().to_owned());
                Arc::new(move |connector, tasks| {
                    let ids = transactional_ids(&group, connector, tasks);
                    log.fence_producers(&ids, FENCE_WITHIN).map_err(|error| error.to_string())
                })
            },
            set_level: {
                let loggers = loggers.clone();
                Arc::new(move |logger, level| _ = loggers.set(logger, level))
            },
            member_since: {
                let (storage, since, group) = (storage.clone(), membership_generation, group.clone());
                Arc::new(move |generation| {
                    group.set_member();
                    since.store(generation, Ordering::Release);
                    storage.offsets.set_generation(generation);
                })
            },
        };
        let settings = DistributedSettings {
            worker_id: worker_id.clone(),
            exactly_once: config.exactly_once_source(),
            topic_tracking: config.topic_tracking,
            // The request itself has to have time for what it asks for.
            patience: config.rest_request_timeout * 2 / 3,
            key_ttl: inter_worker.key_ttl,
            key_algorithm: inter_worker.key_algorithm.clone(),
            key_bits: inter_worker.key_bits,
            rejoin_after: REJOIN_AFTER,
        };
        let membership = distributed.membership(storage.configs.clone(), member.rebalance_timeout);
        let herder_thread = distributed.start(deps, settings).map_err(|error| error.to_string())?;
        let (failing, failed) = oneshot::channel();
        let ending = Arc::new(AtomicBool::new(false));
        let joining =
            Joining { storage: storage.clone(), member, membership, group: group.clone(), ending: ending.clone() };
        std::thread::Builder::new()
            .name("join".to_owned())
            .spawn(move || joining.run().map_err(|error| failing.send(error)))
            .map_err(|error| format!("cannot start a thread: {error}"))?;

        let cluster_id = Arc::new(OnceLock::new());
        learn_cluster_id(log, cluster_id.clone());
        let validator = Arc::new(Validator::new(plugins.clone()).on_worker(&config).with_checks(runner.clone()));
        let configs = storage.configs.clone();
        let api = Arc::new(Api {
            herder: herder.clone(),
            runner,
            validator,
            plugins,
            authenticator,
            loggers,
            cluster_id,
            offsets: Arc::new(StoredOffsets::new(environment)),
            cluster: Some(Cluster {
                peers,
                signing: inter_worker.signing,
                key: {
                    let configs = configs.clone();
                    Arc::new(move || configs.snapshot().session_key.clone())
                },
                catch_up: Arc::new(move || _ = configs.refresh(CATCH_UP_WITHIN)),
                group: {
                    let group = group.clone();
                    Arc::new(move || group.state())
                },
                health: Arc::new(move || group.health()),
            }),
            settings: ApiSettings::new(&config, worker_id),
        });
        // A request that is forwarded takes a thread while it waits.
        let serving = Serving::start(rest, api, 64)?;
        Ok(Self { herder, herder_thread, storage, serving, ending, failed, addresses, url })
    }

    /// The addresses that the REST API listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The URL at which other workers reach this one.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Commands, and the snapshot of everything.
    pub fn herder(&self) -> &Herder {
        &self.herder
    }

    /// Waits for SIGTERM or SIGINT. An error is the reason why the worker cannot go on.
    pub fn wait_for_signal(&mut self) -> Result<(), String> {
        let failed = &mut self.failed;
        self.serving.block_on(async {
            let signalled = signalled();
            tokio::pin!(signalled);
            tokio::select! {
                () = &mut signalled => Ok(()),
                failure = failed => match failure {
                    Ok(failure) => Err(failure),
                    // It has joined, and nothing more is to be heard of that.
                    Err(_) => { signalled.await; Ok(()) }
                },
            }
        })
    }

    /// Stops everything gracefully.
    pub fn shutdown(self) {
        self.ending.store(true, Ordering::Release);
        self.serving.block_on(self.herder.shutdown());
        if self.herder_thread.join().is_err() {
            tracing::error!("the herder's thread panicked; this is a bug of the worker");
        }
        self.storage.close(CLOSE_WITHIN);
        self.serving.stop();
        tracing::info!("stopped");
    }
}

/// Waits for the topics, then joins.
struct Joining {
    storage: Arc<KafkaStorage>,
    member: GroupSettings,
    membership: Arc<Membership>,
    group: Arc<LateGroup>,
    ending: Arc<AtomicBool>,
}

impl Joining {
    /// The error is the reason why it will never join.
    fn run(self) -> Result<(), String> {
        let mut told = None;
        while let Err(error) = self.storage.wait_current(TOPICS_AGAIN) {
            if self.ending.load(Ordering::Acquire) {
                return Ok(());
            }
            if !error.retriable() {
                return Err(error.to_string());
            }
            let message = error.to_string();
            if told.as_ref() != Some(&message) {
                tracing::warn!("the worker joins its group as soon as its topics have been read: {message}");
                told = Some(message.clone());
            }
            self.group.set_problem(Some(message));
        }
        if self.ending.load(Ordering::Acquire) {
            return Ok(());
        }
        let member = GroupMember::start(self.member, self.membership)
            .map_err(|error| format!("cannot start the group's threads: {error}"))?;
        self.group.joined(member);
        Ok(())
    }
}

/// Passes on what the config topic says.
fn config_listener(inputs: impl Fn(Input) + Send + Sync + 'static) -> crate::storage::kafka::ConfigListener {
    Arc::new(move |changes: &[ConfigChange]| {
        // What a restart is asked of has to be known before.
        inputs(Input::ConfigChanged);
        for change in changes {
            match change {
                ConfigChange::Restart(name, request) => inputs(Input::RestartAsked(name.clone(), *request)),
                ConfigChange::LoggerLevel(logger, level) => inputs(Input::LoggerLevel(logger.clone(), level.clone())),
                _ => {}
            }
        }
    })
}

/// Offsets as one run of a task sees them: those that cannot be committed while Kafka is away are kept for its return.
fn task_offsets(storage: &Arc<KafkaStorage>, since: &Arc<AtomicI32>) -> crate::worker::TaskOffsets {
    let (storage, since) = (storage.clone(), since.clone());
    Arc::new(move |task: &TaskId, own: Option<&str>| {
        let epoch = storage.offsets.task_started(task);
        storage.offsets.for_task(task, since.load(Ordering::Acquire), epoch, own)
    })
}

/// How sources deliver exactly once, if they do.
fn exactly_once(config: &WorkerConfig, storage: &Arc<KafkaStorage>) -> Option<ExactlyOnce> {
    if !config.exactly_once_source() {
        return None;
    }
    let (offsets, configs, fenced) = (storage.offsets.clone(), storage.configs.clone(), storage.configs.clone());
    Some(ExactlyOnce {
        group: config.group_id.clone().unwrap_or_default().trim().to_owned(),
        offsets: Arc::new(move |own| offsets.transactional(own)),
        current: Some(Arc::new(move |task, generation| {
            configs.refresh(READ_CONFIGS_WITHIN)?;
            let now = configs.snapshot();
            let fencing = now.fencing.get(&task.connector).copied().unwrap_or_default();
            Ok(fencing.generation == generation && !fencing.pending)
        })),
        former_tasks: Arc::new(move |connector| {
            let now = fenced.snapshot();
            now.fencing.get(connector).and_then(|fencing| fencing.task_count).unwrap_or_default()
        }),
    })
}

fn advertised_scheme(config: &WorkerConfig) -> &'static str {
    let named = config.properties.get("rest.advertised.listener").map(str::trim);
    let https = named.map_or(config.listeners[0].scheme == Scheme::Https, |name| name.eq_ignore_ascii_case("https"));
    if https { "https" } else { "http" }
}
