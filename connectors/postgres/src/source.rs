//! The CDC source and its task.
//!
//! Promises: every change that committed after the snapshot, once while nobody interferes and at least once after a crash, in the order of the
//! log for each table; the snapshot and the log neither overlap nor leave a gap; the server is told that a place in the log is safe
//! only when everything before it is stored in Kafka with its offset.
//!
//! A server that is away is tried again with growing pauses, for ever, and said so once. What fails the task: a refusal that no retry mends (a
//! login, a missing right), a slot that is gone while an offset is stored, a value that does not fit its type, a column of type `money`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary_sdk::{
    Batch, Config, ConfigDef, Context, Error, ExactlyOnceSupport, Output, Result, SourceConnector, SourcePosition,
    SourceTask,
};

use crate::cdc::catalog::{self, CatalogTable, Types};
use crate::cdc::heartbeat::{self, Heartbeat};
use crate::cdc::offsets::{self, Offset, SnapshotProgress, Start};
use crate::cdc::snapshot::{self, Begun, From, Read, Session, Snapshot};
use crate::cdc::stream::Stream;
use crate::cdc::{lsn, slot};
use crate::client::{Connection, Interrupts};
use crate::config::{self, SnapshotMode, SourceConfig};

/// How long a poll waits when there is nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// The same while a table is read beside it, whose next part waits for the log.
const OFTEN: Duration = Duration::from_millis(2);

/// One task reads a database's log.
#[derive(Debug, Default)]
pub struct PostgresSource {
    config: Config,
}

impl SourceConnector for PostgresSource {
    type Task = PostgresSourceTask;

    fn config_def() -> ConfigDef {
        config::definition()
    }

    fn validate(&mut self, config: &Config) -> Vec<(String, String)> {
        // What a single key tells is said already; here come those that depend on each other.
        let single = Self::config_def().validate(config).iter().any(|value| !value.errors.is_empty());
        match SourceConfig::parse(config) {
            Err(error) if !single => {
                let message = error.to_string();
                let def = Self::config_def();
                let key = def.keys.iter().map(|key| &key.name).filter(|name| message.starts_with(&***name)).max();
                vec![(key.cloned().unwrap_or_else(|| "database.hostname".into()), message)]
            }
            _ => Vec::new(),
        }
    }

    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        let parsed = SourceConfig::parse(config)?;
        context.info(format!("capturing changes of {:?} by slot {}", parsed.server, parsed.slot));
        self.config = config.clone();
        Ok(())
    }

    /// One: a slot has one reader.
    fn task_configs(&mut self, _: usize) -> Result<Vec<Config>> {
        Ok(vec![self.config.clone()])
    }

    fn alter_offsets(&mut self, config: &Config, offsets: &[SourcePosition]) -> Result<bool> {
        offsets::check(config.get("topic.prefix"), offsets)
    }

    fn exactly_once_support(&mut self, _: &Config) -> Option<ExactlyOnceSupport> {
        Some(ExactlyOnceSupport::Supported)
    }
}

/// The task.
#[derive(Default)]
pub struct PostgresSourceTask(Option<Running>);

struct Running {
    context: Context,
    config: Arc<SourceConfig>,
    interrupts: Interrupts,
    phase: Phase,
    /// What was handed over.
    emitted: Option<Offset>,
    /// What is stored of it.
    stored: Option<Offset>,
    /// The last offset that went out with a record since the start: what is waited for.
    handed: Option<Offset>,
    /// What the first attempt at a snapshot saw, while what ran then is not over.
    waiting: Option<SnapshotProgress>,
    /// Whether a snapshot is due however things stand: only at the task's own start.
    always: bool,
    /// Whether the slot of an only snapshot was dropped, or could not be.
    let_go: bool,
    heartbeat: Heartbeat,
    pause: Duration,
    next_attempt: Instant,
    away: bool,
}

enum Phase {
    Away,
    Snapshot(Box<Snapshot>, Option<Connection>),
    Streaming(Box<Stream>),
    /// Streaming waits for a snapshot that a signal asked for.
    Asked(Box<Stream>, Box<Snapshot>),
    /// There was a snapshot to take, and nothing else.
    Over,
}

impl SourceTask for PostgresSourceTask {
    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        let config = SourceConfig::parse(config)?;
        let stored = context.offset_as::<Offset>(&offsets::partition(&config.prefix))?;
        Start::of(stored.clone())?;
        self.0 = Some(Running {
            context: context.clone(),
            interrupts: Interrupts::default(),
            phase: Phase::Away,
            emitted: stored.clone(),
            stored,
            handed: None,
            waiting: None,
            always: config.snapshot == SnapshotMode::Always,
            let_go: false,
            heartbeat: Heartbeat::new(config.heartbeat),
            pause: config.retry / 100,
            next_attempt: Instant::now(),
            away: false,
            config: Arc::new(config),
        });
        Ok(())
    }

    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        let running = self.0.as_mut().ok_or_else(|| Error::failed("the task is not started"))?;
        let (batches, offset) = match running.step() {
            Ok(step) => step,
            Err(error) if running.interrupts.over() => {
                running.phase = Phase::Away;
                return if error.is_retriable() { Ok(()) } else { Err(error) };
            }
            Err(Error::Retriable(message)) => {
                running.lose(&message);
                return Ok(());
            }
            Err(error) => {
                running.phase = Phase::Away;
                return Err(error);
            }
        };
        let count = batches.len();
        for (number, mut batch) in batches.into_iter().enumerate() {
            let partition = offsets::partition(&running.config.prefix).to_string();
            match &offset {
                Some(offset) if number + 1 == count => {
                    batch = batch.with_resume_point(partition, &serde_json::to_string(offset)?);
                }
                _ if batch.source_partition.is_none() => batch.source_partition = Some(partition.into()),
                _ => {}
            }
            let resume = batch.resume_point().map(serde_json::from_str::<Offset>).transpose()?;
            if let Err(error) = output.emit(batch) {
                // What this poll took from the server is gone: the worker begins anew behind what is stored, and so does this.
                let snapshot = matches!(running.phase, Phase::Snapshot(..));
                running.phase = Phase::Away;
                running.emitted.clone_from(&running.stored);
                running.handed = None;
                running.always |= snapshot && running.config.snapshot == SnapshotMode::Always;
                return Err(error);
            }
            if resume.is_some() {
                running.handed.clone_from(&resume);
                running.emitted = resume;
            }
        }
        Ok(())
    }

    fn commit(&mut self, positions: &[SourcePosition]) -> Result<()> {
        let Some(running) = &mut self.0 else { return Ok(()) };
        for position in positions {
            let Some(offset) = &position.offset else { continue };
            let offset: Offset = serde_json::from_value(offset.clone())?;
            if let Phase::Streaming(stream) | Phase::Asked(stream, _) = &running.phase {
                stream.set_safe(offset.resume_at());
            }
            running.stored = Some(offset);
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        let Some(mut running) = self.0.take() else { return Ok(()) };
        running.phase = Phase::Over;
        if running.config.drop_slot {
            // The interrupts are over by now; a connection of its own says goodbye.
            let dropped = running
                .config
                .server
                .connect(&Interrupts::default())
                .and_then(|mut connection| slot::drop_slot(&mut connection, &running.config.slot));
            if let Err(error) = dropped {
                running.context.warn(format!("the replication slot {} was not dropped: {error}", running.config.slot));
            }
        }
        Ok(())
    }

    fn canceller(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        let interrupts = self.0.as_ref()?.interrupts.clone();
        Some(Box::new(move || interrupts.end()))
    }
}

/// Batches, and where to resume behind the last of them (snapshots say so themselves).
type Step = (Vec<Batch>, Option<Offset>);

impl Running {
    fn step(&mut self) -> Result<Step> {
        match &mut self.phase {
            Phase::Away => {
                self.attempt()?;
                Ok((Vec::new(), None))
            }
            Phase::Snapshot(snapshot, _) => match snapshot.read(&self.context, &self.config, PATIENCE)? {
                Read::Rows(batches) => Ok((batches, None)),
                Read::Done(offset) => {
                    self.after_snapshot(*offset)?;
                    Ok((Vec::new(), None))
                }
                Read::Refused(_, error) => Err(error),
            },
            Phase::Asked(stream, snapshot) => {
                match snapshot.read(&self.context, &self.config, PATIENCE) {
                    Ok(Read::Rows(batches)) => return Ok((batches, None)),
                    Ok(Read::Done(_)) => stream.end_request(),
                    outcome => {
                        if let Some(request) = snapshot.request() {
                            stream.set_request(request);
                        }
                        match outcome {
                            Ok(Read::Refused(table, error)) => stream.refuse(&self.context, table, &error),
                            Err(error) => stream.fail_request(&self.context, &error),
                            Ok(_) => {}
                        }
                    }
                }
                if let Phase::Asked(stream, _) = std::mem::replace(&mut self.phase, Phase::Away) {
                    self.phase = Phase::Streaming(stream);
                }
                Ok((Vec::new(), None))
            }
            Phase::Streaming(stream) if stream.blocking_request().is_some() => {
                self.begin_request()?;
                Ok((Vec::new(), None))
            }
            Phase::Streaming(stream) => {
                let patience = if stream.is_reading_now() { OFTEN } else { self.heartbeat.wait(PATIENCE) };
                let mut batches = stream.read(&self.context, &self.config, patience)?;
                let offset = stream.offset();
                if self.heartbeat.due() {
                    if let Some(query) = &self.config.heartbeat_query {
                        run_query(&self.config, &self.interrupts, query, &self.context);
                    }
                    batches.push(heartbeat::record(
                        &self.config.heartbeat_topic,
                        &self.config.prefix,
                        self.context.now_ms(),
                    ));
                }
                // Where nothing waits for Kafka, what was passed over is safe, too: an idle table does not hold the server's log.
                // Not with when_needed, which knows a slot that lost something by its being ahead of the stored offset.
                if batches.is_empty()
                    && stream.moved()
                    && stream.between()
                    && !stream.has_requests()
                    && is_delivered(self.handed.as_ref(), self.stored.as_ref())
                    && self.config.snapshot != SnapshotMode::WhenNeeded
                {
                    stream.set_safe(offset.resume_at());
                }
                Ok((batches, Some(offset)))
            }
            Phase::Over => {
                self.let_go();
                self.context.wait(PATIENCE);
                Ok((Vec::new(), None))
            }
        }
    }

    /// Tries to reach the server, if it is time.
    fn attempt(&mut self) -> Result<()> {
        let wait = self.next_attempt.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            self.context.wait(wait.min(PATIENCE));
            // A clock that jumps does not make the server's restart any quicker.
            return Ok(());
        }
        self.connect()?;
        if self.away {
            self.context.info("the server is back");
        }
        self.away = false;
        self.pause = self.config.retry / 100;
        Ok(())
    }

    /// The server is away, or does not want now.
    fn lose(&mut self, message: &str) {
        if !self.away {
            self.context.warn(format!("{message}; trying again"));
        }
        self.away = true;
        self.phase = Phase::Away;
        self.next_attempt = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(self.config.retry);
    }

    /// A connection that reads.
    fn session(&self) -> Result<Session> {
        let config = &self.config;
        let connection = config.server.connect(&self.interrupts);
        let mut connection = connection.map_err(|error| error.into_error("connecting to the server"))?;
        snapshot::prepare(&mut connection, config).map_err(|error| error.into_error("database.initial.statements"))?;
        let types = Types::read(&mut connection).map_err(|error| error.into_error("reading the catalogue"))?;
        let tables = self.tables(&mut connection)?;
        Ok(Session { connection, types, tables })
    }

    fn connect(&mut self) -> Result<()> {
        let config = self.config.clone();
        let mut session = self.session()?;
        slot::publish(&mut session.connection, &config, &session.tables)?;
        match slot::signals_gap(&mut session.connection, &config) {
            Ok(None) => {}
            Ok(Some(gap)) => self.context.warn(gap),
            Err(error) if error.passes() => return Err(error.into_error("looking for the table of signals")),
            // A role that may not look: signals may come all the same.
            Err(error) => self.context.warn(format!("signal.data.collection: looking for the table: {error}")),
        }
        let found = slot::find(&mut session.connection, &config)?;
        let start = if self.always { Start::Anew } else { Start::of(self.emitted.clone())? };
        let mode = config.snapshot;
        match (start, found) {
            (Start::Streaming(_), _) if mode == SnapshotMode::InitialOnly => {
                self.phase = Phase::Over;
                Ok(())
            }
            (Start::Streaming(offset), Some(slot))
                if mode != SnapshotMode::WhenNeeded || slot.confirmed <= offset.resume_at() =>
            {
                self.stream(None, session, *offset)
            }
            (Start::Streaming(offset), None) if mode != SnapshotMode::WhenNeeded => Err(Error::failed(format!(
                "the replication slot {} is gone, and what changed since {} with it: set snapshot.mode=when_needed, or reset the \
                 connector's offsets, to begin with a snapshot",
                config.slot,
                lsn::show(offset.resume_at())
            ))),
            (Start::Anew, Some(slot)) if mode == SnapshotMode::NoData => {
                let offset = Offset { lsn_commit: Some(slot.confirmed), ..Offset::default() };
                self.stream(None, session, offset)
            }
            (Start::Snapshot(offset, progress), Some(_)) => {
                self.begin_snapshot(None, session, From::Place(offset.resume_at(), Some(progress)))
            }
            (_, Some(slot)) => {
                let from = From::Place(slot.confirmed, self.waiting.clone());
                self.begin_snapshot(None, session, from)
            }
            (start, None) => {
                self.waiting = None;
                let mut replication = self.replication()?;
                let slot = slot::create(&mut replication, &config)?;
                if start == Start::Anew && mode == SnapshotMode::NoData {
                    let offset = Offset { lsn_commit: Some(slot.consistent), ..Offset::default() };
                    return self.stream(Some(replication), session, offset);
                }
                self.begin_snapshot(Some(replication), session, From::NewSlot(&slot))
            }
        }
    }

    fn tables(&self, connection: &mut Connection) -> Result<Vec<CatalogTable>> {
        let tables =
            catalog::captured(connection, &self.config).map_err(|error| error.into_error("reading the catalogue"))?;
        if tables.is_empty() {
            self.context.warn("no table passes the filters so far");
        }
        Ok(tables)
    }

    fn replication(&self) -> Result<Connection> {
        let connection = self.config.server.connect_replication(&self.interrupts);
        connection.map_err(|error| error.into_error("connecting to the server for replication"))
    }

    fn stream(&mut self, replication: Option<Connection>, session: Session, offset: Offset) -> Result<()> {
        let replication = replication.map_or_else(|| self.replication(), Ok)?;
        self.context.info(format!("streaming from {}", lsn::show(offset.resume_at())));
        // Not where streaming begins: between the two may lie what Kafka does not have yet.
        let safe = self.stored.as_ref().filter(|stored| stored.snapshot.is_none()).map_or(0, Offset::resume_at);
        let stream = Stream::start(&self.config, replication, session, self.interrupts.clone(), offset, safe)?;
        self.phase = Phase::Streaming(Box::new(stream));
        Ok(())
    }

    fn begin_snapshot(&mut self, replication: Option<Connection>, session: Session, from: From<'_>) -> Result<()> {
        match Snapshot::begin(&self.context, &self.config, &self.interrupts, session, from)? {
            Begun::Reads(snapshot) => {
                self.always = false;
                self.waiting = None;
                // Whatever interrupts it: what comes then is this snapshot again, not the log from an older place.
                self.emitted = Some(snapshot.under_way());
                self.phase = Phase::Snapshot(snapshot, replication);
            }
            Begun::Rewritten(table) => {
                self.context.info(format!(
                    "{table} was rewritten when the slot {} was made, which does not see its rows: it is made again",
                    self.config.slot
                ));
                if let Some(replication) = replication {
                    replication.close();
                }
                let what = "dropping a replication slot that was just made";
                let mut connection =
                    self.config.server.connect(&self.interrupts).map_err(|error| error.into_error(what))?;
                slot::drop_slot(&mut connection, &self.config.slot).map_err(|error| error.into_error(what))?;
                connection.close();
            }
            Begun::Refused(_, error) => return Err(error),
            Begun::Waits(progress, xid) => {
                if self.waiting.is_none() {
                    self.context.info(format!(
                        "the snapshot waits for transactions that began before it ({xid} is the oldest that runs)"
                    ));
                }
                self.waiting = Some(progress);
                self.next_attempt = Instant::now() + self.config.retry / 10;
            }
        }
        Ok(())
    }

    /// Begins with the snapshot that a signal asked for; the log waits.
    fn begin_request(&mut self) -> Result<()> {
        let session = self.session();
        let Phase::Streaming(mut stream) = std::mem::replace(&mut self.phase, Phase::Away) else { return Ok(()) };
        let Some(request) = stream.blocking_request() else {
            self.phase = Phase::Streaming(stream);
            return Ok(());
        };
        let from = From::Request(stream.offset(), request);
        let begun =
            session.and_then(|session| Snapshot::begin(&self.context, &self.config, &self.interrupts, session, from));
        self.phase = match begun {
            Ok(Begun::Reads(snapshot)) => Phase::Asked(stream, snapshot),
            Ok(Begun::Waits(..) | Begun::Rewritten(_)) => Phase::Streaming(stream),
            Ok(Begun::Refused(table, error)) => {
                stream.refuse(&self.context, table, &error);
                Phase::Streaming(stream)
            }
            Err(error) => {
                stream.fail_request(&self.context, &error);
                Phase::Streaming(stream)
            }
        };
        Ok(())
    }

    /// After the only snapshot nothing is streamed: a slot that stayed would hold the server's log for ever.
    fn let_go(&mut self) {
        if self.config.snapshot != SnapshotMode::InitialOnly
            || self.let_go
            // One that has streamed before is another's work, and a place that cannot be had again.
            || self.stored.as_ref().is_some_and(|stored| stored.tx_id.is_some())
            || !is_delivered(self.handed.as_ref(), self.stored.as_ref())
        {
            return;
        }
        self.let_go = true;
        let slot = &self.config.slot;
        let dropped = self
            .config
            .server
            .connect(&self.interrupts)
            .and_then(|mut connection| slot::drop_slot(&mut connection, slot).map(|()| connection.close()));
        match dropped {
            Ok(()) => self.context.info(format!("the snapshot is stored: the replication slot {slot} is dropped")),
            Err(error) => {
                self.context.warn(format!("the replication slot {slot} was not dropped, and holds the log: {error}"))
            }
        }
    }

    fn after_snapshot(&mut self, offset: Offset) -> Result<()> {
        let Phase::Snapshot(_, replication) = std::mem::replace(&mut self.phase, Phase::Away) else { return Ok(()) };
        self.emitted = Some(offset.clone());
        if self.config.snapshot == SnapshotMode::InitialOnly {
            self.phase = Phase::Over;
            return Ok(());
        }
        let session = self.session()?;
        self.stream(replication, session, offset)
    }
}

/// Whether Kafka has everything that was handed over.
fn is_delivered(handed: Option<&Offset>, stored: Option<&Offset>) -> bool {
    // Within a snapshot all places are the same: there the offsets themselves tell.
    let reached = |handed: &Offset, stored: &Offset| handed == stored || handed.place() < stored.place();
    handed.is_none_or(|handed| stored.is_some_and(|stored| reached(handed, stored)))
}

/// A heartbeat's statement. What goes wrong with it is said, and harms nothing.
fn run_query(config: &SourceConfig, interrupts: &Interrupts, query: &str, context: &Context) {
    let done = config.server.connect(interrupts).and_then(|mut connection| {
        connection.query(query)?;
        connection.close();
        Ok(())
    });
    if let Err(error) = done {
        context.warn(format!("heartbeat.action.query: {error}"));
    }
}
