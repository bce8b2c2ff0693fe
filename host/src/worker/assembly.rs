//! Puts a task together from its config, and runs it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary_sdk::prepared::PreparedToken;
use tributary_sdk::{Config, Error, ExactlyOnceSupport};

use super::clusters::{Clusters, addresses, without_addresses};
use super::environment::Environment;
use super::guarded::Guarded;
use super::offsets::OffsetsError;
use super::sink_offsets::SinkGroup;
use super::validation::PREPARED_BEHIND_STATE;
use super::{State, TaskSpec, WorkerEvent};
use crate::config::{ClientKind, TopicCreation, client_settings};
use crate::converter::{self, ClassKind, Converter, HeaderConverter};
use crate::log::across::{Across, consumer_across};
use crate::log::{ClientSettings, Log, LogConsumer, LogError, NewTopic, ParkingSettings, Subscription};
use crate::plugin::{BUILT_IN_VERSION, Kind, TransformHandle, check_version};
use crate::state::{TaskState, changelog};
use crate::storage::OffsetStore;
use crate::task::backoff::Backoff;
use crate::task::control::TaskControl;
use crate::task::converters::{Converters, Named};
use crate::task::dead_letters::{DeadLetters, Letterhead};
use crate::task::delivery::{DeliverySettings, TopicUsed};
use crate::task::ensure_topic::ensure_topic;
use crate::task::error_policy::{ErrorHandler, ErrorPolicy};
use crate::task::errors::TaskError;
use crate::task::inbound_converter::InboundConverter;
use crate::task::outbound_converter::OutboundConverter;
use crate::task::prepared::{Claiming, StartAt};
use crate::task::queue::Bounds;
use crate::task::services::InstanceServices;
use crate::task::sink_task::prepared::ANEW_FORGOTTEN;
use crate::task::source_state::{Scope, SharedState, SourceState};
use crate::task::source_task::Report;
use crate::task::stream::{self, SinkTarget, Stages, StreamSettings, StreamTask};
use crate::task::topic_creator::TopicCreator;
use crate::task::transaction::{Boundary, Current, Make, TransactionSettings};
use crate::task::{ConsumeSettings, RetryingTransform, SinkTask, SourceProducer, SourceTask};
use crate::transform::{TransformChain, registry};

/// Records that one poll of the log returns at most, unless `consumer.max.poll.records` says otherwise.
const MAX_POLL_RECORDS: usize = 10_000;
/// Bytes that one poll of the log returns at most.
const MAX_POLL_BYTES: usize = 2 << 20;
/// How long a sink may take to give up partitions.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long one question to the cluster may take.
pub(super) const ASK: Duration = Duration::from_secs(30);

/// Partitions of the changelog of a source whose source partitions keep state each for itself.
const SOURCE_CHANGELOG_PARTITIONS: i32 = 8;

/// Bytes of the largest record that a source's dead-letter topic takes, where the worker makes it.
const MAX_SOURCE_LETTER: u32 = 64 << 20;

/// Bytes of the largest record that an outbox topic takes.
pub(super) const MAX_OUTBOX_RECORD: u32 = 64 << 20;

/// How long a transaction is open that ends at an outbox, if `offset.flush.interval.ms` is not less.
const OUTBOX_INTERVAL: Duration = Duration::from_millis(500);

/// What a task is made from.
pub struct Assembly<'a> {
    pub environment: &'a Arc<Environment>,
    pub control: &'a Arc<TaskControl>,
    pub spec: &'a TaskSpec,
}

impl Assembly<'_> {
    /// Builds and runs the task; returns when it has ended.
    pub fn run(&self) -> Result<(), TaskError> {
        let configs = [&self.spec.connector_config, &self.spec.task_config];
        let [connector_config, task_config] = self.environment.resolve(configs, self.control)?;
        match self.environment.class(&connector_config)?.info().kind {
            Kind::Source => self.source(&connector_config, task_config)?.run(),
            Kind::Sink if self.environment.class(&connector_config)?.info().class == stream::CLASS => {
                self.stream(&connector_config, None)?.run()
            }
            Kind::Sink if registry::keeps_state(&connector_config) => {
                self.stream(&connector_config, Some(task_config))?.run()
            }
            Kind::Sink => {
                self.without_outbox(&Clusters::home(self.environment))?;
                self.run_sink(&connector_config, &task_config)
            }
            Kind::Transform => Err(TaskError::new("a transform is not a connector")),
        }
    }

    fn source(&self, config: &Config, task_config: Config) -> Result<SourceTask, TaskError> {
        let mut exactly_once = self.transactions(config)?;
        let services = self.services(match &exactly_once {
            Some(transactions) => transactions.offsets.clone(),
            None => self.source_offsets(config)?,
        });
        let handle = self.environment.class(config)?.source_task(services.clone());
        let worker = &self.environment.config;
        let dead_letters = self.dead_letters(config, Kind::Source)?;
        let mut chain = self.chain(config, &services)?;
        if let Some(cut) = chain.cuts(config).first() {
            return Err(TaskError::new(format!(
                "transforms.{}.repartition=auto: a source's records cannot be brought together by another key before they are written. \
                 Write them to a topic, and read that with a KafkaSink that has the transform",
                cut.alias
            )));
        }
        let state = if chain.is_stateful() { Some(self.source_state(config, &chain)?) } else { None };
        if let Some(state) = &state {
            let Some(transactions) = &mut exactly_once else {
                return Err(TaskError::new(
                    "transforms that keep state need exactly.once.source.support=enabled on the worker: their state is committed \
                     together with the source's offsets",
                ));
            };
            chain.set_state(state.shared.state.clone());
            self.control.counters.set_state(&state.shared.state);
            transactions.state = Some(state.shared.clone());
        }
        Ok(SourceTask {
            name: self.spec.id.to_string(),
            handle: Box::new(Guarded::new(
                handle.map_err(|error| TaskError::of_call("create", error))?,
                self.control.clone(),
            )),
            config: task_config,
            converter: OutboundConverter {
                converters: self.converters(config)?,
                chain,
                dead_letters: dead_letters.is_some(),
            },
            dead_letters,
            producer: match exactly_once {
                Some(transactions) => SourceProducer::ExactlyOnce(Box::new(transactions)),
                None => SourceProducer::AtLeastOnce(
                    self.environment.log.producer(&self.client(ClientKind::Producer, config)?)?,
                ),
            },
            errors: checked(ErrorPolicy::from_config(config))?,
            control: self.control.clone(),
            services,
            bounds: Bounds::default(),
            delivery: DeliverySettings {
                commit_interval: worker.offset_flush_interval,
                flush_timeout: worker.offset_flush_timeout,
                topic_used: self.topic_used(),
                topics: self.topic_creator(config)?,
            },
            state,
            report: self.report(),
        })
    }

    /// Runs a sink, anew where that is all it needs.
    fn run_sink(&self, config: &Config, task_config: &Config) -> Result<(), TaskError> {
        let mut pause = Backoff::default();
        loop {
            let begun = Instant::now();
            match self.sink(config, task_config.clone()).and_then(SinkTask::run) {
                Err(error) if error.anew => {
                    if self.control.stopping() {
                        tracing::warn!("the task stops before it could begin anew: {}", error.message);
                        return Ok(());
                    }
                    tracing::warn!("the task begins anew: {}", error.message);
                    self.control.counters.set_retrying(Some(&error.message));
                    if begun.elapsed() > ANEW_FORGOTTEN {
                        pause.reset();
                    }
                    self.control.wait(pause.advance());
                }
                outcome => return outcome,
            }
        }
    }

    fn sink(&self, config: &Config, task_config: Config) -> Result<SinkTask, TaskError> {
        let class = self.environment.class(config)?;
        let prepares = class.may_prepare().map_err(|error| TaskError::of_call("create", error))?
            && self.exactly_once_support(config)? == Some(ExactlyOnceSupport::Prepared);
        let left_behind = if prepares { self.left_behind(config)? } else { Vec::new() };
        let services = self.services(self.environment.offsets.clone());
        let handle = class.sink_task(services.clone()).map_err(|error| TaskError::of_call("create", error))?;
        self.open_own_records(config, &services)?;
        let mut consumer = self.consumer_settings(config)?;
        let max_records = consumer.remove("max.poll.records").and_then(|text| text.trim().parse().ok());
        Ok(SinkTask {
            name: self.spec.id.to_string(),
            handle: Box::new(Guarded::new(handle, self.control.clone())),
            config: task_config,
            converter: InboundConverter { converters: self.converters(config)?, chain: self.chain(config, &services)? },
            errors: checked(ErrorPolicy::from_config(config))?,
            dead_letters: self.dead_letters(config, Kind::Sink)?,
            claiming: prepares.then(|| Claiming {
                log: self.environment.log.clone(),
                start: StartAt::of(consumer.get("auto.offset.reset").map(String::as_str)),
            }),
            left_behind,
            consumer: match prepares {
                // Its commits are those of one membership, which a parked consumer gives away.
                true => self.environment.log.consumer(&consumer, &subscription(config)?)?,
                false => self.sink_consumer(&consumer, &subscription(config)?)?,
            },
            control: self.control.clone(),
            services,
            bounds: Bounds::default(),
            commit_interval: self.environment.config.offset_flush_interval,
            consume: ConsumeSettings {
                max_records: max_records.unwrap_or(MAX_POLL_RECORDS),
                max_bytes: MAX_POLL_BYTES,
                revoke_timeout: REVOKE_TIMEOUT,
                topic_used: self.topic_used(),
            },
            report: self.report(),
        })
    }

    /// Tokens of topics that a sink does not read any more, which its first task commits in the name of all.
    fn left_behind(&self, config: &Config) -> Result<Vec<PreparedToken>, TaskError> {
        let Subscription::Topics(topics) = subscription(config)? else { return Ok(Vec::new()) };
        if self.spec.id.task != 0 {
            return Ok(Vec::new());
        }
        // As long as the group cannot be asked, the task begins anew.
        let failed = |error: OffsetsError| TaskError { anew: true, ..TaskError::new(error.to_string()) };
        let group = SinkGroup::new(self.environment, &self.spec.id.connector, config).map_err(failed)?;
        let mut tokens = group.tokens().map_err(failed)?;
        tokens.retain(|token| !topics.iter().any(|topic| **topic == *token.at.topic));
        Ok(tokens)
    }

    /// Costs next to nothing while there is nothing to read, unless `sink.parking.delay.ms` is 0.
    fn sink_consumer(
        &self,
        settings: &ClientSettings,
        subscription: &Subscription,
    ) -> Result<Box<dyn LogConsumer>, LogError> {
        let (log, after) = (&self.environment.log, self.environment.config.sink_parking_delay);
        if after.is_zero() {
            return log.consumer(settings, subscription);
        }
        let control = self.control.clone();
        let parked = Arc::new(move |parked| control.counters.set_parked(parked));
        log.sink_consumer(settings, subscription, ParkingSettings { after, parked })
    }

    /// Kafka to Kafka; with a task config, to a sink whose transforms keep state.
    fn stream(&self, config: &Config, sink: Option<Config>) -> Result<StreamTask, TaskError> {
        let clusters = self.clusters(config)?;
        let services = self.services(self.environment.offsets.clone());
        let sink = match sink {
            None => None,
            Some(task_config) => {
                let handle = self.environment.class(config)?.sink_task(services.clone());
                let handle = handle.map_err(|error| TaskError::of_call("create", error))?;
                let handle = Box::new(Guarded::new(handle, self.control.clone()));
                Some(SinkTarget::new(handle, task_config, services.clone()))
            }
        };
        let exactly_once = match sink.is_some() {
            true => self.exactly_once_support(config)?,
            false => None,
        };
        if exactly_once == Some(ExactlyOnceSupport::Prepared) {
            return Err(TaskError::new(PREPARED_BEHIND_STATE));
        }
        let exactly_once = exactly_once == Some(ExactlyOnceSupport::Supported);
        let mut consumer = self.consumer_settings(config)?;
        let (id, producer, transaction_timeout) =
            self.transactional_producer(config, &consumer, exactly_once, &clusters)?;
        let max_records = consumer.remove("max.poll.records").and_then(|text| text.trim().parse().ok());
        // What others have not committed is not there; it also makes a new owner wait for what the previous one has open.
        consumer.insert("isolation.level".into(), "read_committed".into());
        // Partitions of one number have to be in one task.
        consumer.insert("partition.assignment.strategy".into(), "range".into());
        let mut chain = self.chain(config, &services)?;
        let mut topics = subscription(config)?;
        let (state, stages) = match chain.is_stateful() {
            true => {
                let (state, stages) = self.state(config, &topics, &mut chain, exactly_once, &clusters)?;
                (Some(state), stages)
            }
            false => (None, Stages::default()),
        };
        let own = stages.cuts().iter().map(|cut| cut.topic.to_string());
        let own = own.chain(stages.outbox().map(|outbox| outbox.topic.to_string())).collect::<Vec<_>>();
        if let (Subscription::Topics(topics), false) = (&mut topics, clusters.are_two()) {
            topics.extend(own.iter().cloned());
        }
        let worker = &self.environment.config;
        let interval = match sink {
            None => Duration::from_millis(checked(config.parsed("transaction.interval.ms", 500))?),
            // The sink is given only what is committed.
            Some(_) if exactly_once => worker.offset_flush_interval.min(OUTBOX_INTERVAL),
            Some(_) => worker.offset_flush_interval,
        };
        let head = self.letterhead(config, Kind::Sink, &*clusters.target)?;
        Ok(StreamTask {
            name: self.spec.id.to_string(),
            inbound: InboundConverter { converters: self.converters(config)?, chain },
            outbound: OutboundConverter {
                converters: self.converters(config)?,
                chain: checked(TransformChain::build(&Config::default(), &mut |class, _| {
                    Err(Error::failed(format!("Class {class} could not be found.")))
                }))?,
                dead_letters: head.is_some(),
            },
            id,
            producer,
            sink,
            errors: checked(ErrorPolicy::from_config(config))?,
            dead_letters: head.map(|(head, _)| head),
            control: self.control.clone(),
            report: self.report(),
            settings: StreamSettings {
                interval: interval.max(Duration::from_millis(1)),
                max_records: max_records.unwrap_or(MAX_POLL_RECORDS),
                max_bytes: MAX_POLL_BYTES,
                from_end: consumer.get("auto.offset.reset").is_some_and(|reset| reset.trim() == "latest"),
                strict: consumer.get("auto.offset.reset").is_some_and(|reset| reset.trim() == "none"),
                topic: config.get("topic").map(str::trim).filter(|topic| !topic.is_empty()).map(Into::into),
                late_topics: registry::late_topics(config),
                flush_interval: worker.offset_flush_interval,
                transaction_timeout,
                flush_timeout: worker.offset_flush_timeout,
                topic_used: self.topic_used(),
            },
            state,
            // Last: it joins the group.
            consumer: self.stream_consumer(config, consumer, topics, own, &clusters)?,
            stages,
            across: clusters.are_two(),
            source: clusters.source,
            log: clusters.target,
        })
    }

    /// The clusters of the connector. As long as they do not say whether they are two, the task waits for them.
    fn clusters(&self, config: &Config) -> Result<Clusters, TaskError> {
        let mut pause = Backoff::default();
        loop {
            let error = match self.environment.clusters(&self.spec.id.connector, config) {
                Ok(clusters) => {
                    self.control.counters.set_retrying(None);
                    return Ok(clusters);
                }
                Err(error) if error.retriable => error,
                Err(error) => return Err(error.into()),
            };
            tracing::warn!("{error}; the task begins when it is known");
            self.control.counters.set_retrying(Some(&error.message));
            if self.control.wait(pause.advance()) {
                return Err(TaskError::new("stopped before it was known whether the connector has two clusters"));
            }
        }
    }

    /// A member of the connector's group, which is in the target.
    fn stream_consumer(
        &self,
        config: &Config,
        mut settings: ClientSettings,
        topics: Subscription,
        own: Vec<String>,
        clusters: &Clusters,
    ) -> Result<Box<dyn LogConsumer>, TaskError> {
        if !clusters.are_two() {
            let instance = format!("{}group.instance.id", ClientKind::Consumer.override_prefix());
            if !Arc::ptr_eq(&clusters.target, &self.environment.log) && config.get(&instance).is_none() {
                // The worker takes members that are gone for good only out of its own cluster's groups.
                settings.remove("group.instance.id");
            }
            return Ok(clusters.target.consumer(&settings, &topics)?);
        }
        const REFRESH: &str = "metadata.max.age.ms";
        settings.entry("group.instance.id".into()).or_insert_with(|| self.spec.id.to_string());
        let group = settings.get("group.id").cloned().unwrap_or_default();
        let mut member = without_addresses(&settings);
        member.extend(addresses(&self.client(ClientKind::Producer, config)?));
        // Whatever of it is meant for the producer: the member looks for topics and partitions as a consumer.
        member.remove(REFRESH);
        member.extend(settings.get(REFRESH).map(|refresh| (REFRESH.to_owned(), refresh.clone())));
        member.insert("group.id".into(), clusters.consumer_group(&group));
        settings.insert("group.id".into(), clusters.shown_group(&group));
        let (target, source) = (clusters.target.clone(), clusters.source.clone());
        Ok(consumer_across(Across { target, member, source, reader: settings, subscription: topics, own })?)
    }

    /// Offsets, outputs and state are in one transaction, so in one cluster. Answers how long it can be open, too.
    fn transactional_producer(
        &self,
        config: &Config,
        consumer: &ClientSettings,
        outbox: bool,
        clusters: &Clusters,
    ) -> Result<(String, Make, Duration), TaskError> {
        let mut settings = self.client(ClientKind::Producer, config)?;
        let worker = self.environment.config.cluster_settings().map_err(|error| TaskError::new(error.to_string()))?;
        let is_stream = self.environment.class(config)?.info().class == stream::CLASS;
        for (name, settings) in [("producer", &settings), ("consumer", consumer)].into_iter().filter(|_| !is_stream) {
            if settings.get("bootstrap.servers") != worker.get("bootstrap.servers") {
                return Err(TaskError::new(format!(
                    "{name}.override.bootstrap.servers names another cluster than the worker's, and a sink whose transforms keep state has \
                     offsets and state in one transaction, which cannot span two clusters. Leave it out; or let a KafkaSink, which can \
                     write to another cluster than it reads from, have the transforms, and let this connector read what it writes"
                )));
            }
        }
        settings.insert("enable.idempotence".into(), "true".into());
        settings.insert("acks".into(), "all".into());
        let timeout = settings.entry("transaction.timeout.ms".into()).or_insert_with(|| "60000".into());
        // The client refuses what is none.
        let timeout = Duration::from_millis(timeout.trim().parse().unwrap_or(60_000));
        if outbox {
            // A record is larger there than in the topic that it comes from.
            settings.entry("max.request.size".into()).or_insert_with(|| MAX_OUTBOX_RECORD.to_string());
        }
        let id = format!("{}-{}", clusters.group_of_state(self.environment.group_of_state()), self.spec.id);
        let (log, own) = (clusters.target.clone(), id.clone());
        Ok((id, Box::new(move || log.transactional_producer(&own, &settings)), timeout))
    }

    /// The stores, and settings of clients that read the changelog.
    pub(super) fn task_state(
        &self,
        config: &Config,
        chain: &TransformChain,
        clusters: &Clusters,
    ) -> Result<(Arc<TaskState>, ClientSettings), TaskError> {
        let directory = self.environment.state_files.clone();
        let group = clusters.group_of_state(self.environment.group_of_state());
        let topic = changelog::topic(&group, &self.spec.id.connector);
        if let Some(id) = clusters.target.admin().topic_identity(&topic, ASK)?.and_then(|topic| topic.id) {
            directory.claim(&self.spec.id.connector, &id).map_err(|error| TaskError::new(error.message))?;
        }
        let task = self.spec.id.to_string();
        let state = TaskState::new(directory, &self.spec.id.connector, &task, chain.state_bytes())
            .map_err(|error| TaskError::new(error.message))?;
        let mut reader = self.client(ClientKind::Consumer, config)?;
        if clusters.are_two() {
            reader = without_addresses(&reader);
        }
        reader.insert("client.id".into(), format!("connector-changelog-{task}"));
        Ok((state, reader))
    }

    /// The same for a source.
    fn source_state(&self, config: &Config, chain: &TransformChain) -> Result<SourceState, TaskError> {
        let connector = &self.spec.id.connector;
        let scope = match config.get("state.scope").map_or("connector", str::trim) {
            "connector" if self.spec.id.task > 0 => {
                return Err(TaskError::new(
                    "the connector has several tasks, and records of one key may be in any: set tasks.max=1, or \
                     state.scope=partition if those of one key are always in one source partition",
                ));
            }
            "connector" => Scope::Connector,
            "partition" => Scope::Partition,
            other => return Err(TaskError::new(format!("state.scope={other}: write connector or partition"))),
        };
        let log = &self.environment.log;
        let group = self.environment.group_of_state();
        let changelog = changelog::topic(group, connector);
        let new = NewTopic {
            name: changelog.clone(),
            partitions: Some(if scope == Scope::Connector { 1 } else { SOURCE_CHANGELOG_PARTITIONS }),
            settings: changelog::topic_settings(),
            ..NewTopic::default()
        };
        ensure_topic(&**log, &new, self.control)?;
        let partitions = log.admin().topic(&changelog, ASK)?.map_or(1, |known| known.partitions.max(1));
        let (state, reader) = self.task_state(config, chain, &Clusters::home(self.environment))?;
        let shared = SharedState { state, changelog: changelog.as_str().into(), partitions, log: log.clone() };
        Ok(SourceState::new(shared, scope, reader))
    }

    /// What the task's transactions are made with, if it delivers exactly once.
    fn transactions(&self, config: &Config) -> Result<Option<TransactionSettings>, TaskError> {
        let Some(exactly_once) = &self.environment.exactly_once else { return Ok(None) };
        let boundary = Boundary::new(config, self.environment.config.offset_flush_interval).map_err(TaskError::new)?;
        let settings = self.transactional_client(config, boundary.transaction_timeout())?;
        let (id, task) = (exactly_once.transactional_id(&self.spec.id), self.spec.id.clone());
        let own = self.environment.own_offsets_topic(config);
        let offsets = (exactly_once.offsets)(own).map_err(|error| TaskError::new(error.to_string()))?;
        let current = exactly_once.current.clone().zip(self.spec.generation).map(|(is_current, generation)| {
            let asked = move || {
                is_current(&task, generation).map_err(|error| LogError {
                    retriable: error.retriable(),
                    message: error.to_string(),
                    code: None,
                })
            };
            Box::new(asked) as Current
        });
        let (log, transactional_id) = (self.environment.log.clone(), id.clone());
        Ok(Some(TransactionSettings {
            id,
            boundary,
            make: Box::new(move || log.transactional_producer(&transactional_id, &settings)),
            offsets,
            current,
            flush_timeout: self.environment.config.offset_flush_timeout,
            topic_used: self.topic_used(),
            topics: self.topic_creator(config)?,
            state: None,
        }))
    }

    /// Settings of a transactional producer, which some of a connector's overrides do not go with.
    fn transactional_client(&self, config: &Config, timeout: Duration) -> Result<ClientSettings, TaskError> {
        let mut settings = self.client(ClientKind::Producer, config)?;
        let worker = self.environment.config.cluster_settings().map_err(|error| TaskError::new(error.to_string()))?;
        if settings.get("bootstrap.servers") != worker.get("bootstrap.servers") {
            return Err(TaskError::new(
                "producer.override.bootstrap.servers names another cluster than the worker's, which has the offsets: a \
                 transaction cannot span two clusters. Leave it out, or run the connector on a worker of that cluster",
            ));
        }
        for (setting, wanted) in [("enable.idempotence", "true"), ("acks", "all")] {
            let given = settings.get(setting).map(|value| value.trim().to_ascii_lowercase());
            if given.as_ref().is_some_and(|given| given != wanted && (setting, given.as_str()) != ("acks", "-1")) {
                return Err(TaskError::new(format!(
                    "the producer setting {setting}={} does not go with exactly-once delivery, which needs {wanted}: leave it out",
                    given.unwrap_or_default()
                )));
            }
        }
        settings.entry("transaction.timeout.ms".into()).or_insert_with(|| timeout.as_millis().to_string());
        Ok(settings)
    }

    fn source_offsets(&self, config: &Config) -> Result<Arc<dyn OffsetStore>, TaskError> {
        let own = self.environment.own_offsets_topic(config);
        match &self.environment.task_offsets {
            Some(of_task) => of_task(&self.spec.id, own).map_err(|error| TaskError::new(error.to_string())),
            None => Ok(self.environment.offsets.clone()),
        }
    }

    fn services(&self, offsets: Arc<dyn OffsetStore>) -> Arc<InstanceServices> {
        Arc::new(InstanceServices::new(
            &self.spec.id.connector,
            Some(self.spec.id.task),
            self.control.clone(),
            offsets,
            self.environment.state.clone(),
        ))
    }

    /// Of a member of the connector's consumer group.
    fn consumer_settings(&self, config: &Config) -> Result<ClientSettings, TaskError> {
        let mut consumer = self.client(ClientKind::Consumer, config)?;
        consumer.entry("group.id".into()).or_insert_with(|| format!("connect-{}", self.spec.id.connector));
        consumer.entry("auto.offset.reset".into()).or_insert_with(|| "earliest".into());
        consumer.insert("enable.auto.commit".into(), "false".into());
        if self.environment.log.static_membership() {
            // After a crash the same task gets its partitions back at once, not after the dead member's session.
            consumer.entry("group.instance.id".into()).or_insert_with(|| self.spec.id.to_string());
        }
        Ok(consumer)
    }

    fn client(&self, kind: ClientKind, config: &Config) -> Result<ClientSettings, TaskError> {
        client_settings(&self.environment.config, kind, config, &self.spec.id)
            .map_err(|error| TaskError::new(error.to_string()))
    }

    fn chain(&self, config: &Config, services: &Arc<InstanceServices>) -> Result<TransformChain, TaskError> {
        let (registry, services) = (self.environment.registry.clone(), services.clone());
        let errors = ErrorHandler {
            policy: checked(ErrorPolicy::from_config(config))?,
            task: self.spec.id.to_string().into(),
            control: self.control.clone(),
        };
        let connector = self.environment.class(config)?;
        let mut resolve = move |name: &str, version: Option<&str>| {
            let class = registry
                .transform_beside(&connector, name, version)
                .map_err(|error| Error::failed(error.to_string()))?;
            let inner: Box<dyn TransformHandle> = class.transform(services.clone())?;
            let inner = Box::new(Guarded::new(inner, services.control.clone()));
            let retrying = RetryingTransform { inner, class: name.to_owned(), errors: errors.clone() };
            Ok(Box::new(retrying) as Box<dyn TransformHandle>)
        };
        checked(TransformChain::build(config, &mut resolve))
    }

    fn converters(&self, config: &Config) -> Result<Converters, TaskError> {
        let worker = &self.environment.config;
        Ok(Converters {
            key: self.converter("key.converter", &worker.key_converter, config, true)?,
            value: self.converter("value.converter", &worker.value_converter, config, false)?,
            header: self.header_converter(&worker.header_converter, config)?,
        })
    }

    /// A connector that names its own converter configures it alone; otherwise the worker's converter and its settings apply.
    fn converter(
        &self,
        key: &str,
        default: &str,
        config: &Config,
        is_key: bool,
    ) -> Result<Named<dyn Converter>, TaskError> {
        let (class, own) = self.converter_config(key, default, config)?;
        let converter = checked(converter::converter(&class, &own, is_key))?;
        Ok(Named { class: java_class(class, ClassKind::Converter), converter })
    }

    fn header_converter(&self, default: &str, config: &Config) -> Result<Named<dyn HeaderConverter>, TaskError> {
        let (class, own) = self.converter_config("header.converter", default, config)?;
        let converter = checked(converter::header_converter(&class, &own))?;
        Ok(Named { class: java_class(class, ClassKind::HeaderConverter), converter })
    }

    fn converter_config(&self, key: &str, default: &str, config: &Config) -> Result<(String, Config), TaskError> {
        let prefix = format!("{key}.");
        let (class, own) = match config.get(key) {
            Some(class) => (class.to_owned(), config.with_prefix(&prefix)),
            None => (default.to_owned(), self.environment.config.properties.with_prefix(&prefix)),
        };
        // All converters are the worker's own. Validation says so, too; a config may come from elsewhere.
        let asked = own.get("plugin.version");
        check_version(&class, asked, &[BUILT_IN_VERSION])
            .map_err(|error| TaskError::new(format!("{prefix}plugin.version: {error}")))?;
        Ok((class, own))
    }

    /// The dead-letter queue, where one is configured. Its topic is made if it is missing.
    fn dead_letters(&self, config: &Config, kind: Kind) -> Result<Option<DeadLetters>, TaskError> {
        let Some((head, client)) = self.letterhead(config, kind, &*self.environment.log)? else { return Ok(None) };
        let producer = self.environment.log.producer(&client)?;
        Ok(Some(DeadLetters::new(head, producer)))
    }

    /// Lets a sink write to the log itself.
    fn open_own_records(&self, config: &Config, services: &InstanceServices) -> Result<(), TaskError> {
        let mut client = self.client(ClientKind::Producer, config)?;
        client.insert("client.id".into(), format!("connector-producer-{}", self.spec.id));
        let (log, control) = (self.environment.log.clone(), self.control.clone());
        let prepare = {
            let (log, control) = (log.clone(), control.clone());
            move |topic: &str| {
                let new = NewTopic { name: topic.to_owned(), ..NewTopic::default() };
                ensure_topic(&*log, &new, &control)
            }
        };
        services.own_records.open(Box::new(prepare), Box::new(move || log.producer(&client)), control);
        Ok(())
    }

    /// The same, with settings for a producer.
    fn letterhead(
        &self,
        config: &Config,
        kind: Kind,
        log: &dyn Log,
    ) -> Result<Option<(Letterhead, ClientSettings)>, TaskError> {
        let Some(topic) =
            config.get("errors.deadletterqueue.topic.name").map(str::trim).filter(|topic| !topic.is_empty())
        else {
            return Ok(None);
        };
        let mut client = self.client(ClientKind::Producer, config)?;
        client.insert("client.id".into(), format!("connector-dlq-producer-{}", self.spec.id));
        let replication = checked(config.parsed("errors.deadletterqueue.topic.replication.factor", 3))?;
        let mut new = NewTopic {
            name: topic.to_owned(),
            partitions: Some(1),
            replication_factor: Some(replication),
            ..NewTopic::default()
        };
        if kind == Kind::Source {
            // A record that was too large for its topic has to fit here.
            client.insert("max.request.size".into(), MAX_SOURCE_LETTER.to_string());
            new.settings.insert("max.message.bytes".into(), MAX_SOURCE_LETTER.to_string());
        }
        ensure_topic(log, &new, self.control).map_err(|error| {
            TaskError::new(format!(
                "Could not initialize dead letter queue with topic={topic}: {}, or set \
                 errors.deadletterqueue.topic.replication.factor to at most the number of brokers",
                error.message
            ))
        })?;
        let head = Letterhead {
            topic: topic.into(),
            context_headers: checked(config.parsed("errors.deadletterqueue.context.headers.enable", false))?,
            connector: self.spec.id.connector.clone(),
            task: self.spec.id.task,
            control: self.control.clone(),
        };
        Ok(Some((head, client)))
    }

    /// What makes the connector's topics; nothing where neither its config nor the worker's wants it.
    fn topic_creator(&self, config: &Config) -> Result<Option<Arc<TopicCreator>>, TaskError> {
        if !self.environment.config.topic_creation {
            return Ok(None);
        }
        let joined = |errors: Vec<(String, String)>| {
            TaskError::new(errors.into_iter().map(|(_, message)| message).collect::<Vec<_>>().join("; "))
        };
        let Some(groups) = TopicCreation::new(config).map_err(joined)? else { return Ok(None) };
        let client = self.client(ClientKind::Admin, config)?;
        Ok(Some(Arc::new(TopicCreator { log: self.environment.log.clone(), client, groups })))
    }

    fn topic_used(&self) -> TopicUsed {
        let (environment, id) = (self.environment.clone(), self.spec.id.clone());
        Arc::new(move |topic| {
            let (connector, task, topic) = (id.connector.clone(), id.task, topic.to_owned());
            environment.send(WorkerEvent::TopicUsed { connector, task, topic });
        })
    }

    fn report(&self) -> Report {
        let (environment, id, control) = (self.environment.clone(), self.spec.id.clone(), self.control.clone());
        Arc::new(move |state: State| {
            if control.counters.meters.state(state) {
                environment.starts.tasks.worked();
            }
            if !control.fenced() {
                environment.send(WorkerEvent::Task { id: id.clone(), state, trace: None });
            }
        })
    }
}

/// The full name of a built-in class that was named by an alias.
fn java_class(name: String, kind: ClassKind) -> String {
    let known = converter::registry::class_infos().iter().filter(|info| info.kind == kind);
    known.into_iter().find(|info| info.aliases.contains(&name.as_str())).map_or(name, |info| info.class.to_owned())
}

fn checked<T>(answer: tributary_sdk::Result<T>) -> Result<T, TaskError> {
    answer.map_err(|error| TaskError::new(error.to_string()))
}

fn subscription(config: &Config) -> Result<Subscription, TaskError> {
    let topics = config.list("topics").into_iter().map(str::to_owned).collect::<Vec<_>>();
    match config.get("topics.regex").map(str::trim).filter(|regex| !regex.is_empty()) {
        Some(regex) if topics.is_empty() => Ok(Subscription::Pattern(regex.to_owned())),
        None if !topics.is_empty() => Ok(Subscription::Topics(topics)),
        Some(_) => Err(TaskError::new("topics and topics.regex are both set; leave one out")),
        None => Err(TaskError::new("a sink connector needs topics or topics.regex")),
    }
}
