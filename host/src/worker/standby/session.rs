//! What a follower has open: one reader for the partitions of all shards, and the shards' files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::BinaryArray;
use tributary_sdk::Config;

use super::shards::{Layout, Shards};
use super::shared::{rows, split};
use super::wish::Wish;
use crate::config::{ClientKind, client_settings};
use crate::log::{ClientSettings, ConsumerEvent, FetchedBatch, LogConsumer, LogError, TopicPartition};
use crate::plugin::Kind;
use crate::state::{ChangelogRecords, FollowedShard, FollowerHold, Shard, StateError, changelog};
use crate::task::control::TaskControl;
use crate::task::errors::TaskError;
use crate::worker::environment::Environment;
use crate::worker::{FollowSpec, TaskId};

/// How long one question to the cluster may take. Tasks that want a file wait meanwhile.
const ASK: Duration = Duration::from_secs(5);
/// How often it is looked who has which shards, and how far the changelog is.
const LOOK: Duration = Duration::from_secs(10);
/// While the group has not told yet.
const LOOK_SOON: Duration = Duration::from_secs(1);
/// What is read is saved at the latest so long after the first of it, and when it is so much.
const SAVE: Duration = Duration::from_secs(2);
const SAVE_BYTES: usize = 4 << 20;
/// What one poll returns at most.
const POLL: (usize, usize) = (50_000, 4 << 20);
/// What the client may fetch ahead.
const AHEAD_KBYTES: &str = "8192";
/// Files of shards that share partitions, at most. What is beyond is restored from the changelog as a whole.
const MOST_FILES: usize = 128;
/// How long the client may take to close.
const CLOSE: Duration = Duration::from_secs(1);

/// Why a session ends before something else is wished.
pub enum Stop {
    /// To begin anew at once.
    Again,
    /// There is nothing to follow yet.
    Later(String),
    /// What went wrong.
    Failed(String),
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        Self::Failed(error.message)
    }
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        Self::Failed(error.message)
    }
}

impl From<TaskError> for Stop {
    fn from(error: TaskError) -> Self {
        Self::Failed(error.message)
    }
}

/// See the module.
pub struct Session<'f> {
    environment: &'f Environment,
    wish: &'f Arc<Wish>,
    spec: Arc<FollowSpec>,
    topic: Arc<str>,
    /// Which topic it is that has this name, where the cluster tells.
    identity: Option<String>,
    /// The consumer group of the tasks.
    group: String,
    settings: ClientSettings,
    shards: Shards,
    hold: FollowerHold,
    epoch: u64,
    reader: Option<Box<dyn LogConsumer>>,
    files: BTreeMap<Shard, FollowedShard>,
    /// Where shards share partitions: what is known of them.
    shared: Option<Shared>,
    /// The changelog's next offsets, by partition, as of the last look.
    ends: BTreeMap<i32, i64>,
    look_at: Instant,
    save_at: Option<Instant>,
}

/// What is read of partitions that shards share.
struct Shared {
    /// How many there are.
    partitions: i32,
    /// The next offset of each that is read.
    positions: BTreeMap<i32, i64>,
    /// Shards of which something was passed by, since a task had their files.
    skipped: BTreeSet<Shard>,
}

impl Shared {
    fn of(&self, shard: Shard) -> i32 {
        shard % self.partitions
    }
}

impl<'f> Session<'f> {
    /// Finds the changelog, and makes the worker's files those of it.
    pub fn open(
        environment: &'f Environment,
        wish: &'f Arc<Wish>,
        spec: &Arc<FollowSpec>,
        control: &TaskControl,
    ) -> Result<Self, Stop> {
        let [config] = environment.resolve([&*spec.config], control)?;
        let connector = &spec.connector;
        let (group, settings) = clients(environment, spec, &config)?;
        let clusters = environment.clusters(connector, &config)?;
        if clusters.are_two() || !Arc::ptr_eq(&clusters.target, &environment.log) {
            // A changelog of the usual name in the worker's cluster is that of an earlier config.
            return Err(Stop::Later(
                "what is read or written is in another cluster, so its state is not copied".to_owned(),
            ));
        }
        let topic = changelog::topic(environment.group_of_state(), connector);
        let Some(known) = environment.log.admin().topic_identity(&topic, ASK)? else {
            return Err(Stop::Later(format!("there is no topic {topic} yet")));
        };
        let epoch = match &known.id {
            Some(id) => match environment.state_files.claim_to_follow(connector, id) {
                Ok(epoch) => epoch,
                // A task here is about to find out, or was quicker.
                Err(error) if error.retriable => return Err(Stop::Later(error.message)),
                Err(error) => return Err(error.into()),
            },
            None => environment.state_files.holders().epoch(connector),
        };
        let source = environment.class(&config)?.info().kind == Kind::Source;
        let shared =
            Shared { partitions: known.partitions.max(1), positions: BTreeMap::new(), skipped: BTreeSet::new() };
        let layout = Layout::ask(&*environment.log, environment.group_of_state(), connector, known.partitions, ASK)?;
        let mut hold = environment.state_files.holders().follower(connector);
        let wakes = wish.clone();
        hold.set_wake(Arc::new(move || wakes.wake()));
        Ok(Self {
            environment,
            wish,
            spec: spec.clone(),
            topic: topic.into(),
            identity: known.id,
            group,
            settings,
            shards: Shards::new(layout),
            hold,
            epoch,
            reader: None,
            files: BTreeMap::new(),
            shared: source.then_some(shared),
            ends: BTreeMap::new(),
            look_at: Instant::now(),
            save_at: None,
        })
    }

    /// Follows until something else is wished.
    pub fn run(&mut self) -> Result<(), Stop> {
        loop {
            match self.wish.spec() {
                Some(spec) if Arc::ptr_eq(&spec, &self.spec) => {}
                // Other tasks: what is open may go on.
                Some(spec) if spec.config == self.spec.config => {
                    self.shards.keep(&spec.tasks);
                    (self.spec, self.look_at) = (spec, Instant::now());
                }
                _ => return Ok(()),
            }
            if self.hold.epoch() != self.epoch {
                return Err(Stop::Again);
            }
            if Instant::now() >= self.look_at {
                self.look()?;
            }
            self.give_way()?;
            self.open_free()?;
            self.read()?;
            let bytes: usize = self.files.values().map(FollowedShard::bytes).sum();
            if bytes > SAVE_BYTES || self.save_at.is_some_and(|due| due <= Instant::now()) {
                self.save()?;
            }
            self.show();
        }
    }

    /// Saves what was read, and closes everything.
    pub fn close(mut self) {
        self.pass();
        for (shard, file) in std::mem::take(&mut self.files) {
            if let Err(error) = file.close() {
                tracing::debug!(shard, "{error}");
            }
            self.hold.closed(shard);
        }
        self.close_reader();
    }

    /// Closes what somebody waits for: to be called between any two questions to the cluster.
    fn give_way(&mut self) -> Result<(), Stop> {
        for shard in self.hold.asked_for() {
            self.give_up(shard)?;
        }
        Ok(())
    }

    /// Looks who has which shards by now, and how far the changelog is.
    fn look(&mut self) -> Result<(), Stop> {
        let known = self.environment.log.admin().topic_identity(&self.topic, ASK)?;
        if known.is_none_or(|known| known.id != self.identity) {
            return Err(Stop::Later(format!("the topic {} was deleted", self.topic)));
        }
        self.give_way()?;
        if self.shared.is_some() {
            self.look_at = Instant::now() + LOOK;
            return self.look_at_ends();
        }
        self.shards.look(&*self.environment.log, &self.group, &self.spec, ASK)?;
        let all = self.shards.all();
        self.look_at = Instant::now() + if all.is_empty() { LOOK_SOON } else { LOOK };
        let others: Vec<Shard> = self.files.keys().filter(|shard| !all.contains(shard)).copied().collect();
        for shard in others {
            self.give_up(shard)?;
        }
        self.give_way()?;
        self.look_at_ends()
    }

    fn look_at_ends(&mut self) -> Result<(), Stop> {
        let open: Vec<i32> = match &self.shared {
            Some(shared) => shared.positions.keys().copied().collect(),
            None => self.files.keys().copied().collect(),
        };
        if open.is_empty() {
            return Ok(());
        }
        let open: Vec<_> = open.into_iter().map(|partition| self.partition(partition)).collect();
        let ends = self.environment.log.admin().end_offsets(&open, ASK)?;
        self.ends = ends.into_iter().map(|(partition, end)| (partition.partition, end)).collect();
        self.pass();
        for (shard, file) in &mut self.files {
            let partition = self.shared.as_ref().map_or(*shard, |shared| shared.of(*shard));
            self.ends.get(&partition).into_iter().for_each(|end| file.saw_end(*end));
        }
        self.save()
    }

    /// Whatever was read of a partition that shards share, and was not given to a file, is of others.
    fn pass(&mut self) {
        let Some(shared) = &self.shared else { return };
        for (shard, file) in &mut self.files {
            shared.positions.get(&shared.of(*shard)).into_iter().for_each(|position| file.passed(*position));
        }
    }

    /// Opens what is to be followed and what no task of this worker has open.
    fn open_free(&mut self) -> Result<(), Stop> {
        if self.shared.is_some() {
            return self.open_shared();
        }
        let closed: BTreeSet<Shard> =
            self.shards.all().into_iter().filter(|shard| !self.files.contains_key(shard)).collect();
        let mut opened = Vec::new();
        for shard in closed {
            self.give_way()?;
            if !self.hold.is_free(shard) || !self.hold.open(shard, self.epoch) {
                continue;
            }
            if let Some(next) = self.open_file(shard, shard)? {
                opened.push((self.partition(shard), next));
            }
        }
        opened.retain(|(partition, _)| self.files.contains_key(&partition.partition));
        self.read_also(opened)
    }

    /// Opens a file that nobody else has, and answers where to go on reading. `None`: somebody has asked for it meanwhile.
    fn open_file(&mut self, shard: Shard, partition: i32) -> Result<Option<i64>, Stop> {
        // Only now: nothing is written to the file any more, so that the changelog has all that is in it.
        let bounds = self.environment.log.admin().watermarks(&self.partition(partition), ASK)?;
        // The answer may have taken longer than a task waits; what it has open by now is not to be taken from it.
        if !self.hold.still(shard, self.epoch) {
            self.hold.closed(shard);
            return Ok(None);
        }
        let directory = &self.environment.state_files;
        let file = FollowedShard::open(directory, &self.spec.connector, shard, bounds)?;
        let next = file.next();
        let connector = &self.spec.connector;
        tracing::info!(connector, shard, "follows the state from offset {next} of {}", bounds.1);
        self.ends.insert(partition, bounds.1);
        self.files.insert(shard, file);
        Ok(Some(next))
    }

    /// The same where shards share partitions: these are read, and files opened when something of theirs comes. One that a task has had is
    /// read on from where the task was.
    fn open_shared(&mut self) -> Result<(), Stop> {
        let Some(shared) = &self.shared else { return Ok(()) };
        if shared.positions.is_empty() {
            let partitions: Vec<_> = (0..shared.partitions).map(|partition| self.partition(partition)).collect();
            let mut start = Vec::new();
            for partition in partitions {
                self.give_way()?;
                let (first, end) = self.environment.log.admin().watermarks(&partition, ASK)?;
                self.ends.insert(partition.partition, end);
                start.push((partition, first));
            }
            let positions = start.iter().map(|(partition, first)| (partition.partition, *first)).collect();
            self.shared.iter_mut().for_each(|shared| shared.positions.clone_from(&positions));
            return self.read_also(start);
        }
        let skipped: Vec<Shard> = shared.skipped.iter().copied().collect();
        for shard in skipped {
            self.give_way()?;
            if self.files.len() >= MOST_FILES || !self.hold.is_free(shard) || !self.hold.open(shard, self.epoch) {
                continue;
            }
            let Some(partition) = self.shared.as_ref().map(|shared| shared.of(shard)) else { continue };
            let Some(next) = self.open_file(shard, partition)? else { continue };
            let at = self.partition(partition);
            let (Some(shared), Some(reader)) = (&mut self.shared, &mut self.reader) else { continue };
            shared.skipped.remove(&shard);
            if let Some(position) = shared.positions.get_mut(&partition).filter(|position| **position > next) {
                // Other files have what comes again, and pass over it.
                *position = next;
                reader.seek(&at, next)?;
            }
        }
        Ok(())
    }

    fn read_also(&mut self, opened: Vec<(TopicPartition, i64)>) -> Result<(), Stop> {
        if opened.is_empty() {
            return Ok(());
        }
        match &mut self.reader {
            Some(reader) => {
                let start: Vec<_> = opened.into_iter().map(|(partition, next)| (partition, Some(next))).collect();
                reader.assign(&start)?;
            }
            None => {
                let reader = self.environment.log.reader(&self.settings, &opened)?;
                self.wish.set_waker(reader.waker());
                self.reader = Some(reader);
            }
        }
        Ok(())
    }

    /// Closes a file, for a task of this worker or because it is another one's by now.
    fn give_up(&mut self, shard: Shard) -> Result<(), Stop> {
        self.pass();
        let closed = self.files.remove(&shard).map_or(Ok(()), FollowedShard::close);
        self.hold.closed(shard);
        if let Some(shared) = &mut self.shared {
            shared.skipped.insert(shard);
            return Ok(closed?);
        }
        self.ends.remove(&shard);
        if self.files.is_empty() {
            self.close_reader();
        } else if let Some(reader) = &mut self.reader {
            reader.unassign(&[TopicPartition { topic: self.topic.clone(), partition: shard }])?;
        }
        Ok(closed?)
    }

    fn close_reader(&mut self) {
        self.wish.set_waker(None);
        if let Some(reader) = self.reader.take()
            && let Err(error) = reader.close(CLOSE)
        {
            tracing::debug!("{error}");
        }
    }

    /// Waits for records and takes them.
    fn read(&mut self) -> Result<(), Stop> {
        let due = self.save_at.map_or(self.look_at, |save_at| save_at.min(self.look_at));
        let wait = due.saturating_duration_since(Instant::now());
        let Some(reader) = &mut self.reader else {
            self.wish.wait(wait);
            return Ok(());
        };
        for event in reader.poll(POLL.0, POLL.1, wait)? {
            match event {
                ConsumerEvent::Batch(batch) => self.take(*batch)?,
                // Also behind markers of transactions, which are no records.
                ConsumerEvent::End(partition, offset) => {
                    if let Some(shared) = &mut self.shared {
                        let position = shared.positions.entry(partition.partition).or_insert(offset);
                        *position = offset.max(*position);
                    } else if let Some(file) = self.files.get_mut(&partition.partition) {
                        file.passed(offset);
                        file.saw_end(offset);
                        self.save_at.get_or_insert_with(|| Instant::now() + SAVE);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, batch: FetchedBatch) -> Result<(), Stop> {
        let (partition, count) = (batch.topic_partition.partition, batch.offsets.len() as u64);
        let Some(last) = batch.offsets.values().last() else { return Ok(()) };
        let Some(keys) = batch.records.keys.clone() else {
            let message = format!("{}-{partition} has records without keys, which are none of a changelog", self.topic);
            return Err(Stop::Failed(message));
        };
        if self.shared.is_some() {
            self.take_shared(&batch, &keys, last + 1)?;
        } else if let Some(file) = self.files.get_mut(&partition) {
            let records = ChangelogRecords { keys, values: batch.records.values, next_offset: last + 1 };
            file.add(records, &batch.offsets)?;
        }
        self.save_at.get_or_insert_with(|| Instant::now() + SAVE);
        self.wish.show(|progress| progress.records_read += count);
        Ok(())
    }

    /// Records of a partition that shards share. It is read from its beginning, so that whoever comes for the first time has none before.
    fn take_shared(&mut self, batch: &FetchedBatch, keys: &BinaryArray, next: i64) -> Result<(), Stop> {
        let partition = batch.topic_partition.partition;
        let rows = rows(keys);
        for shard in rows.keys().copied().filter(|shard| !self.files.contains_key(shard)).collect::<Vec<_>>() {
            let Some(shared) = &mut self.shared else { break };
            let known = shared.skipped.contains(&shard);
            let may = !known && self.files.len() < MOST_FILES && self.hold.open(shard, self.epoch);
            if may && self.open_file(shard, partition)?.is_some() {
                continue;
            }
            self.shared.iter_mut().for_each(|shared| _ = shared.skipped.insert(shard));
        }
        let known = |shard| self.files.get(&shard).map(FollowedShard::next);
        for (shard, records, offsets) in split(rows, keys, &batch.records.values, &batch.offsets, known) {
            if let Some(file) = self.files.get_mut(&shard) {
                file.add(records, &offsets)?;
            }
        }
        self.shared.iter_mut().for_each(|shared| _ = shared.positions.insert(partition, next));
        Ok(())
    }

    fn save(&mut self) -> Result<(), Stop> {
        self.save_at = None;
        for file in self.files.values_mut() {
            file.save()?;
            // A step at a time: a task may want a file.
            if file.tidy(self.hold.wanted())? {
                // Not at once if it was given up for whoever waits.
                let pause = if self.hold.wanted().any() { SAVE } else { Duration::ZERO };
                self.save_at.get_or_insert_with(|| Instant::now() + pause);
            }
        }
        Ok(())
    }

    fn show(&self) {
        let left = |partition: &i32, next: i64| {
            self.ends.get(partition).map_or(0, |end| end.saturating_sub(next).max(0) as u64)
        };
        let to_read: u64 = match &self.shared {
            Some(shared) => shared.positions.iter().map(|(partition, next)| left(partition, *next)).sum(),
            None => self.files.iter().map(|(shard, file)| left(shard, file.next())).sum(),
        };
        let shards = self.files.len() as u64;
        let reads = self.reader.is_some();
        self.wish.show(|progress| {
            (progress.shards, progress.to_read, progress.retrying) = (shards, reads.then_some(to_read), None);
        });
    }

    fn partition(&self, partition: i32) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition }
    }
}

/// The consumer group of a connector's tasks, and settings of a client that reads their changelog.
fn clients(environment: &Environment, spec: &FollowSpec, config: &Config) -> Result<(String, ClientSettings), Stop> {
    let id: TaskId = (spec.connector.as_str(), spec.tasks.first().copied().unwrap_or_default()).into();
    let settings = client_settings(&environment.config, ClientKind::Consumer, config, &id);
    let mut settings = settings.map_err(|error| Stop::Failed(error.to_string()))?;
    let group = settings.get("group.id").cloned().unwrap_or_else(|| format!("connect-{}", spec.connector));
    settings.remove("group.instance.id");
    let own = [
        ("client.id", format!("connector-standby-{}", spec.connector).as_str()),
        ("isolation.level", "read_committed"),
        ("enable.partition.eof", "true"),
        ("enable.auto.commit", "false"),
        // An offset that is not there means that this is another topic than the files are of.
        ("auto.offset.reset", "none"),
        ("queued.max.messages.kbytes", AHEAD_KBYTES),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    settings.extend(own);
    Ok((group, settings))
}
