//! How far connectors are, as users see and change it: source offsets in the worker's store, a sink's in its consumer group.
//!
//! Messages are Kafka Connect's. The connector itself is asked before anything changes (`alter_offsets`), on a thread of its
//! own and within `plugin.call.timeout.ms`; if it refuses, nothing has changed. Every call here blocks.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};

use serde_json::Value;
use tributary_sdk::prepared::PreparedToken;
use tributary_sdk::source::{ExactlyOnceSupport, SourcePosition};
use tributary_sdk::{Config, Error};

use super::environment::Environment;
use super::sink_offsets::{self, SinkGroup};
use crate::config::Secrets;
use crate::herder::{ConnectorView, PluginKind};
use crate::plugin::ConnectorHandle;
use crate::task::control::TaskControl;
use crate::task::errors::TaskError;
use crate::task::services::InstanceServices;
use crate::task::stream;
use crate::transform::registry;

/// A partition and the offset in it, as REST has them.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionOffset {
    /// A JSON object; null where none was given.
    pub partition: Value,
    /// A JSON object; null to forget the partition's offset.
    pub offset: Value,
}

/// What to do with the offsets of a connector.
#[derive(Debug, Clone, PartialEq)]
pub enum OffsetChange {
    /// Store these and leave the others.
    Alter(Vec<PartitionOffset>),
    /// Forget all of them.
    Reset,
}

/// Why offsets were not read or not changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OffsetsError {
    /// What was asked for cannot be, or the connector does not want it.
    #[error("{0}")]
    Refused(String),
    /// It did not work, although nothing is wrong with what was asked for.
    #[error("{0}")]
    Failed(String),
}

impl OffsetsError {
    /// The same without secrets: a connector may answer with what it was configured with.
    fn without(self, secrets: &Secrets) -> Self {
        match self {
            Self::Refused(message) => Self::Refused(secrets.hide(&message).into_owned()),
            Self::Failed(message) => Self::Failed(secrets.hide(&message).into_owned()),
        }
    }
}

/// Reads and changes offsets of connectors. Every call blocks.
pub trait ConnectorOffsets: Send + Sync {
    /// The offsets of a connector.
    fn list(&self, connector: &ConnectorView) -> Result<Vec<PartitionOffset>, OffsetsError>;
    /// Changes the offsets of a stopped connector. `true`: the connector has checked them, or has changed its own as well.
    fn change(&self, connector: &ConnectorView, change: OffsetChange) -> Result<bool, OffsetsError>;
    /// Forgets the state of the transforms of a connector whose tasks do not run any more.
    fn purge_state(&self, connector: &ConnectorView) -> Result<(), OffsetsError>;
}

/// Offsets where the worker keeps them: its store, and the log's consumer groups.
pub struct StoredOffsets {
    environment: Arc<Environment>,
}

impl ConnectorOffsets for StoredOffsets {
    fn list(&self, connector: &ConnectorView) -> Result<Vec<PartitionOffset>, OffsetsError> {
        let name = &connector.name;
        match connector.kind {
            Some(PluginKind::Sink) => {
                let config = self.resolve(connector, &TaskControl::default())?;
                SinkGroup::new(&self.environment, name, &config)?.list()
            }
            // One whose class is gone can only have been a source if there is something.
            _ => {
                let failed = |error: &dyn std::fmt::Display| {
                    OffsetsError::Failed(format!("Failed to retrieve offsets for source connector {name}: {error}"))
                };
                let store = match self.environment.own_offsets_topic(&connector.config) {
                    Some(_) => self.environment.offsets_of(&self.resolve(connector, &TaskControl::default())?),
                    None => Ok(self.environment.offsets.clone()),
                };
                let offsets = store.and_then(|store| store.all(name)).map_err(|error| failed(&error))?;
                let offset = |position: SourcePosition| PartitionOffset {
                    partition: position.partition,
                    offset: position.offset.unwrap_or_default(),
                };
                Ok(offsets.into_iter().map(offset).collect())
            }
        }
    }

    fn change(&self, connector: &ConnectorView, change: OffsetChange) -> Result<bool, OffsetsError> {
        let secrets = TaskControl::default();
        let config = self.resolve(connector, &secrets)?;
        let resets = change == OffsetChange::Reset;
        let changed = match connector.kind {
            Some(PluginKind::Source) => self.change_source(&connector.name, &config, change),
            Some(PluginKind::Sink) => self.change_sink(&connector.name, &config, change),
            _ => Err(OffsetsError::Failed(format!(
                "Failed to modify offsets for connector {}: its class {} is not on this worker",
                connector.name,
                config.get("connector.class").unwrap_or_default()
            ))),
        };
        let changed = changed.map_err(|error| error.without(secrets.secrets()))?;
        // A sink may have state, and an outbox, of an earlier config.
        if resets && (registry::keeps_state(&config) || connector.kind == Some(PluginKind::Sink)) {
            // Whoever begins anew must not remember.
            self.purge_state(connector).map_err(|error| {
                OffsetsError::Failed(format!("The offsets have been reset, and {error}. Reset them again"))
            })?;
        }
        Ok(changed)
    }

    fn purge_state(&self, connector: &ConnectorView) -> Result<(), OffsetsError> {
        let (tasks, secrets) = (connector.tasks.len() as u32, TaskControl::default());
        let failed = |error: &dyn std::fmt::Display| {
            OffsetsError::Failed(format!(
                "the state of the transforms of connector {} could not be purged: {error}",
                connector.name
            ))
        };
        // Only of these it matters which cluster they name.
        let is_stream =
            self.environment.class(&connector.config).is_ok_and(|class| class.info().class == stream::CLASS);
        let config = match is_stream {
            true => self.resolve(connector, &secrets).map_err(|error| failed(&error))?,
            false => (*connector.config).clone(),
        };
        let purged = self.environment.purge_state(&connector.name, &config, tasks);
        purged.map_err(|error| failed(&error).without(secrets.secrets()))
    }
}

impl StoredOffsets {
    /// Works with the worker's stores and log.
    pub fn new(environment: Arc<Environment>) -> Self {
        Self { environment }
    }

    fn change_source(&self, name: &str, config: &Config, change: OffsetChange) -> Result<bool, OffsetsError> {
        let failed = |error: &dyn std::fmt::Display| {
            OffsetsError::Failed(format!("Failed to modify offsets for source connector {name}: {error}"))
        };
        let offsets = self.environment.offsets_of(config).map_err(|error| failed(&error))?;
        let positions = match change {
            OffsetChange::Alter(offsets) => offsets.into_iter().map(source_position).collect::<Result<Vec<_>, _>>()?,
            OffsetChange::Reset => {
                let mut all = offsets.all(name).map_err(|error| failed(&error))?;
                all.iter_mut().for_each(|position| position.offset = None);
                all
            }
        };
        // Of one partition given twice, the last counts, as in Connect.
        let positions = last_of_each(positions, |position| position.partition.to_string());
        let (asked, own) = (positions.clone(), config.clone());
        let checked =
            self.ask("source", name, config, move |connector| connector.alter_source_offsets(&own, &asked))?;
        if let Some(position) = positions.iter().find(|position| !position.partition.is_object()) {
            return Err(OffsetsError::Refused(format!(
                "The partition for a source connector offset cannot be null or missing, but it is {}",
                position.partition
            )));
        }
        // A task that was left behind may be in the middle of a commit.
        self.environment.fence_former_tasks(name).map_err(|error| failed(&error))?;
        offsets.put(name, &positions).map_err(|error| failed(&error))?;
        Ok(checked)
    }

    fn change_sink(&self, name: &str, config: &Config, change: OffsetChange) -> Result<bool, OffsetsError> {
        let group = SinkGroup::new(&self.environment, name, config)?;
        let offsets = match &change {
            OffsetChange::Alter(offsets) => {
                let offsets = offsets.iter().map(sink_offsets::parse).collect::<Result<Vec<_>, _>>()?;
                last_of_each(offsets, |offset| format!("{}-{}", offset.topic, offset.partition))
            }
            OffsetChange::Reset => group.to_reset()?,
        };
        if let OffsetChange::Alter(_) = change {
            group.check(&offsets)?;
        }
        let asked = group.as_asked(&offsets, change == OffsetChange::Reset, registry::keeps_state(config))?;
        self.settle(&group, name, config)?;
        let own = config.clone();
        let checked = self.ask("sink", name, config, move |connector| connector.alter_sink_offsets(&own, &asked))?;
        match change {
            OffsetChange::Alter(_) => group.alter(&offsets)?,
            OffsetChange::Reset => group.delete()?,
        }
        Ok(checked)
    }

    /// What a sink has prepared and the group carries is part of what was written up to the offsets that are there: it is committed before they
    /// are changed and its tokens with them are gone.
    fn settle(&self, group: &SinkGroup<'_>, name: &str, config: &Config) -> Result<(), OffsetsError> {
        let own = config.clone();
        let prepares = self.ask("sink", name, config, move |connector| match connector.exactly_once_support(&own) {
            Err(Error::Unsupported(_)) => Ok(false),
            support => Ok(support? == Some(ExactlyOnceSupport::Prepared)),
        })?;
        if prepares {
            // A task that was left behind may be in the middle of a commit, and is refused from here on.
            group.dismiss();
        }
        let tokens = group.tokens()?;
        let Some(PreparedToken { at, token }) = tokens.first() else { return Ok(()) };
        if !prepares {
            return Err(OffsetsError::Refused(format!(
                "Failed to modify offsets for sink connector {name}: the group's offset of {}-{} carries the prepared transaction {token}, and with \
                 its present config the connector prepares none, so that it cannot be committed. Give it the config that has prepared it, or, where \
                 it is committed in the store, reset the group with Kafka's own tools",
                at.topic, at.partition
            )));
        }
        let (environment, own, owner) = (self.environment.clone(), config.clone(), name.to_owned());
        let commit = move |connector: &mut dyn ConnectorHandle| {
            connector.start(&own)?;
            let committed = connector.task_configs(1).and_then(|configs| {
                let task_config = configs.into_iter().next().ok_or_else(|| Error::failed("it has no task"))?;
                commit_by_a_task(&environment, &owner, &own, &task_config, &tokens)
            });
            let stopped = connector.stop();
            committed.and(stopped).map(|()| true)
        };
        self.ask("sink", name, config, commit).map(drop).map_err(|error| {
            OffsetsError::Failed(format!(
                "Failed to modify offsets for sink connector {name}: transactions that it has prepared could not be committed, and nothing was \
                 changed: {error}. Try again when its store can be reached"
            ))
        })
    }

    /// Makes an unstarted connector and asks it.
    fn ask(
        &self,
        kind: &str,
        name: &str,
        config: &Config,
        question: impl FnOnce(&mut dyn ConnectorHandle) -> tributary_sdk::Result<bool> + Send + 'static,
    ) -> Result<bool, OffsetsError> {
        let failed = |message: &str| {
            OffsetsError::Failed(format!("Failed to modify offsets for {kind} connector {name}: {message}"))
        };
        let control = Arc::new(TaskControl::default());
        let (answer, answered) = sync_channel(1);
        let (environment, config, stop, owner) =
            (self.environment.clone(), config.clone(), control.clone(), name.to_owned());
        let ask = move || -> Result<tributary_sdk::Result<bool>, TaskError> {
            let services = InstanceServices::new(
                &owner,
                None,
                stop.clone(),
                environment.offsets.clone(),
                environment.state.clone(),
            );
            let mut connector = environment.create_connector(&config, Arc::new(services), &stop)?;
            stop.set_canceller(connector.canceller());
            Ok(question(&mut *connector))
        };
        std::thread::Builder::new()
            .name(format!("offsets-{name}"))
            .spawn(move || _ = answer.send(ask()))
            .map_err(|error| failed(&format!("cannot start a thread: {error}")))?;
        let timeout = self.environment.config.plugin_call_timeout;
        match answered.recv_timeout(timeout) {
            Ok(Ok(Ok(checked))) => Ok(checked),
            Ok(Ok(Err(Error::Unsupported(_)))) => Err(OffsetsError::Refused(format!(
                "Failed to modify offsets for connector {name} because it doesn't support external modification of offsets"
            ))),
            // Its own words, as in Connect.
            Ok(Ok(Err(Error::Failed(message)))) => Err(OffsetsError::Refused(message)),
            Ok(Ok(Err(error))) => Err(failed(&error.to_string())),
            Ok(Err(error)) => Err(failed(&error.message)),
            Err(RecvTimeoutError::Disconnected) => Err(failed("the worker panicked; this is a bug of the worker")),
            Err(RecvTimeoutError::Timeout) => {
                control.stop();
                Err(OffsetsError::Failed(format!(
                    "Timed out while calling the 'alterOffsets' method for {kind} connector {name}: it did not answer within plugin.call.timeout.ms ({timeout:?}); nothing was changed"
                )))
            }
        }
    }

    fn resolve(&self, connector: &ConnectorView, control: &TaskControl) -> Result<Config, OffsetsError> {
        let resolved = self.environment.resolve([&*connector.config], control).map_err(|error| {
            OffsetsError::Failed(format!(
                "cannot read the configuration of connector {}: {}",
                connector.name, error.message
            ))
        });
        resolved.map(|[config]| config)
    }
}

/// Makes a task that has no partitions, and lets it commit these tokens.
fn commit_by_a_task(
    environment: &Environment,
    connector: &str,
    config: &Config,
    task_config: &Config,
    tokens: &[PreparedToken],
) -> tributary_sdk::Result<()> {
    let control = Arc::new(TaskControl::default());
    let (offsets, state) = (environment.offsets.clone(), environment.state.clone());
    let services = Arc::new(InstanceServices::new(connector, Some(0), control, offsets, state));
    let class = environment.class(config).map_err(|error| Error::failed(error.message))?;
    let mut task = class.sink_task(services)?;
    task.start(task_config)?;
    let committed = task.commit_prepared(tokens);
    let stopped = task.stop();
    committed.and(stopped)
}

/// Keeps the last of those with the same key, in the order of their first.
fn last_of_each<T>(all: Vec<T>, key: impl Fn(&T) -> String) -> Vec<T> {
    let mut kept: Vec<T> = Vec::with_capacity(all.len());
    let mut places = std::collections::HashMap::new();
    for one in all {
        match places.entry(key(&one)) {
            std::collections::hash_map::Entry::Occupied(place) => {
                let place: usize = *place.get();
                kept[place] = one;
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push(one);
            }
        }
    }
    kept
}

/// A source's offset, in the form that Connect allows: maps of names to scalars.
fn source_position(offset: PartitionOffset) -> Result<SourcePosition, OffsetsError> {
    for part in [&offset.partition, &offset.offset] {
        for (field, value) in part.as_object().into_iter().flatten() {
            let sort = match value {
                Value::Array(_) => "ARRAY",
                Value::Object(_) => "MAP",
                Value::Number(number) if number.as_u64().is_some_and(|number| i64::try_from(number).is_err()) => {
                    "a number beyond 64 bits with sign"
                }
                _ => continue,
            };
            return Err(OffsetsError::Refused(format!(
                "Offsets may only contain primitive types as values, but field {field} contains {sort}"
            )));
        }
    }
    let stored = (!offset.offset.is_null()).then_some(offset.offset);
    Ok(SourcePosition { partition: offset.partition, offset: stored })
}
