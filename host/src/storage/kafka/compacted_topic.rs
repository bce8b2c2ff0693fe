//! A compacted topic, read to its end and followed from there, with its image in the worker's database.
//!
//! Promises: records are applied in the order of their partitions, committed ones only; what [`CompactedTopic::read_to_end`]
//! waited for is visible to whoever reads afterwards. A restart goes on from the image and reads only what is new. A topic
//! that was recreated (another id) or cut off (its end is before what was read, or what was read last is no longer there)
//! is read anew from its beginning. So is one whose image is so old that tombstones written since may be gone again
//! (half of the topic's `delete.retention.ms`).
//!
//! Fails: while Kafka is away, what is remembered is answered, and reading to the end fails with
//! [`Away`](StorageErrorKind::Away); the thread keeps trying, and goes on by itself. What a person has to mend ends the
//! reading for good, and every wait is answered with it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow_array::Array;

use super::early::{Early, Met};
use super::prepare::{Prepared, classified, prepare};
use super::settings::InternalTopic;
use super::writer::Row;
use crate::log::{ClientSettings, ConsumerEvent, FetchedBatch, Log, LogConsumer, TopicPartition, Waker};
use crate::storage::sqlite::{ImageChange, TopicImage};
use crate::storage::{StorageError, StorageErrorKind};

/// What one poll may bring.
const POLL_RECORDS: usize = 20_000;
const POLL_BYTES: usize = 16 << 20;
/// How soon the thread sees that it is to end.
const POLL: Duration = Duration::from_millis(250);
const REQUEST: Duration = Duration::from_secs(10);
/// The first offset there is, for the log.
const BEGINNING: i64 = -2;
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// A record as it is applied.
pub(super) struct Record<'a> {
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    /// `None`: a tombstone.
    pub value: Option<&'a [u8]>,
}

/// What a batch of records led to.
pub(super) struct Applied {
    /// Next offset by partition.
    pub positions: BTreeMap<i32, i64>,
    /// Whether it became so with this batch.
    pub became_current: bool,
    /// Whether everything before was thrown away.
    pub replaced: bool,
}

/// Called when the fold has changed and is unlocked again.
pub(super) type Notify = Box<dyn FnOnce() + Send>;

/// What records become.
pub(super) trait Fold: Send + 'static {
    /// Takes in a record.
    fn apply(&mut self, record: &Record<'_>);
    /// The rows that changed since the last call.
    fn take_rows(&mut self) -> Vec<ImageChange>;
    /// Takes in a row of the image.
    fn restore(&mut self, key: &[u8], row: &[u8]) -> Result<(), String>;
    /// Forgets everything.
    fn clear(&mut self);
    /// A batch is complete: makes it visible. What is returned is called once this fold is unlocked.
    fn publish(&mut self, applied: &Applied) -> Option<Notify>;
}

/// How far reading has come.
#[derive(Debug, Clone)]
enum Phase {
    /// What is remembered is all there is.
    Remembered,
    /// Read to the end at least once.
    Current,
    /// Never again.
    Failed(StorageError),
}

struct Progress {
    phase: Phase,
    /// Next offset by partition.
    positions: BTreeMap<i32, i64>,
    /// 0: not known yet.
    partitions: i32,
    topic_id: String,
    /// Why reading does not get on.
    trouble: Option<String>,
    /// Somebody has seen why the topic has to be read anew.
    reread: Option<&'static str>,
    /// What was read before was thrown away, and what came in its place was not published yet.
    replacing: bool,
    /// How old the image was when it was loaded; `None` once it does not matter any more.
    image_age: Option<(Duration, Instant)>,
}

struct Shared<F> {
    log: Arc<dyn Log>,
    topic: InternalTopic,
    settings: ClientSettings,
    image: TopicImage,
    /// Locked before the others.
    fold: Mutex<F>,
    /// Locked before `progress`.
    early: Mutex<Early>,
    progress: Mutex<Progress>,
    moved: Condvar,
    closing: AtomicBool,
    /// Ends the reader's waiting.
    waker: Mutex<Option<Waker>>,
    records: AtomicU64,
}

/// See the module.
pub(super) struct CompactedTopic<F: Fold> {
    shared: Arc<Shared<F>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<F: Fold> CompactedTopic<F> {
    /// Loads the image and starts reading. `settings` are client settings of the reader.
    pub(super) fn open(
        log: Arc<dyn Log>,
        topic: InternalTopic,
        settings: &ClientSettings,
        image: TopicImage,
        mut fold: F,
    ) -> Result<Self, StorageError> {
        let mut settings = settings.clone();
        for (name, value) in READER {
            settings.insert((*name).to_owned(), (*value).to_owned());
        }
        let mut stored = image.load()?;
        for (key, row) in &stored.rows {
            if let Err(reason) = fold.restore(key, row) {
                tracing::warn!(
                    topic = topic.name,
                    "the image of the topic is damaged ({reason}); the topic is read anew"
                );
                fold.clear();
                image.clear();
                stored.positions.clear();
                break;
            }
        }
        let image_age = (!stored.positions.is_empty()).then(|| (stored.age(), Instant::now()));
        let positions = std::mem::take(&mut stored.positions);
        let applied = Applied { positions: positions.clone(), became_current: false, replaced: false };
        // Nobody listens yet.
        drop(fold.publish(&applied));
        fold.take_rows();
        let shared = Arc::new(Shared {
            log,
            settings,
            image,
            fold: Mutex::new(fold),
            early: Mutex::default(),
            progress: Mutex::new(Progress {
                phase: Phase::Remembered,
                positions,
                partitions: 0,
                topic_id: stored.topic_id,
                trouble: None,
                reread: None,
                replacing: false,
                image_age,
            }),
            moved: Condvar::new(),
            closing: AtomicBool::new(false),
            waker: Mutex::default(),
            records: AtomicU64::new(0),
            topic,
        });
        let thread = std::thread::Builder::new()
            .name(format!("{}read", shared.topic.role.prefix().replace('.', "-")))
            .spawn({
                let shared = shared.clone();
                move || shared.run()
            })
            .map_err(|error| StorageError::other(format!("cannot start the reader of a topic: {error}")))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Looks at or changes what was read.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut F) -> T) -> T {
        look(&mut self.shared.fold())
    }

    /// Its settings.
    pub(super) fn topic(&self) -> &InternalTopic {
        &self.shared.topic
    }

    /// Records read from Kafka since the start.
    pub(super) fn records_read(&self) -> u64 {
        self.shared.records.load(Ordering::Relaxed)
    }

    /// Whether what is answered may be older than the topic: it was not read to its end since the start.
    pub(super) fn stale(&self) -> bool {
        !matches!(self.shared.progress().phase, Phase::Current)
    }

    /// Waits until the topic was read to its end for the first time.
    pub(super) fn wait_current(&self, timeout: Duration) -> Result<(), StorageError> {
        self.shared.wait(timeout, "reading", |progress| matches!(progress.phase, Phase::Current))
    }

    /// Reads to the present end: what was in the topic when this was called is visible when it returns.
    pub(super) fn read_to_end(&self, timeout: Duration) -> Result<(), StorageError> {
        let deadline = Instant::now() + timeout;
        self.wait_current(timeout)?;
        let partitions = self.shared.partitions(self.shared.progress().partitions);
        let left = deadline.saturating_duration_since(Instant::now());
        let ends = self.shared.log.admin().end_offsets(&partitions, left.min(REQUEST)).map_err(|error| {
            StorageError { kind: StorageErrorKind::Away, ..self.shared.away("reading", &error.message) }
        })?;
        let ends: BTreeMap<i32, i64> = ends.into_iter().map(|(partition, end)| (partition.partition, end)).collect();
        {
            let mut progress = self.shared.progress();
            let cut = |(partition, end): (&i32, &i64)| progress.positions.get(partition).is_some_and(|next| next > end);
            if ends.iter().any(cut) {
                progress.reread = Some(CUT_OFF);
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        self.shared.wait(left, "reading to the end of", |progress| {
            progress.reread.is_none() && reached(&progress.positions, &ends)
        })
    }

    /// To be taken before writing, for [`Self::apply_written`].
    pub(super) fn records_applied(&self) -> u64 {
        self.shared.early().read()
    }

    /// Makes visible what this worker has written to the only partition, as the only one who writes, without waiting until it
    /// is read. `applied` is from before the write, and `last` the last row's offset. `false`: it was read already, or has to
    /// be waited for.
    pub(super) fn apply_written(&self, applied: u64, rows: &[Row], last: i64) -> bool {
        self.shared.apply_written(applied, rows, last)
    }

    /// Waits until the record at this offset is visible.
    pub(super) fn wait_for(&self, partition: i32, offset: i64, timeout: Duration) -> Result<(), StorageError> {
        self.shared.wait(timeout, "reading back from", |progress| {
            progress.positions.get(&partition).is_some_and(|next| *next > offset)
        })
    }

    /// Ends the reading and waits for its thread.
    pub(super) fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.moved.notify_all();
        if let Some(wake) = &*self.shared.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            wake();
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last reference may be dropped by the thread's own notification.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl<F: Fold> Drop for CompactedTopic<F> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Client settings of a reader. A position that is no longer there is an error, never a leap.
const READER: &[(&str, &str)] = &[
    ("auto.offset.reset", "none"),
    ("isolation.level", "read_committed"),
    ("enable.partition.eof", "true"),
    ("fetch.max.wait.ms", "100"),
    ("queued.min.messages", "10000"),
    ("allow.auto.create.topics", "false"),
];

/// Why a topic is read anew.
const CUT_OFF: &str = "the topic ends before what was read of it already";
const FOREIGN: &str = "somebody else writes to the topic that only the group's leader may write to";

fn reached(positions: &BTreeMap<i32, i64>, ends: &BTreeMap<i32, i64>) -> bool {
    ends.iter().all(|(partition, end)| *end <= 0 || positions.get(partition).is_some_and(|next| next >= end))
}

/// Why a round of reading ended.
enum Ended {
    Closing,
    /// Everything is to be read anew.
    Reread(String),
    Trouble(StorageError),
}

impl<F: Fold> Shared<F> {
    fn fold(&self) -> MutexGuard<'_, F> {
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn early(&self) -> MutexGuard<'_, Early> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn partitions(&self, count: i32) -> Vec<TopicPartition> {
        let topic: Arc<str> = self.topic.name.as_str().into();
        (0..count).map(|partition| TopicPartition { topic: topic.clone(), partition }).collect()
    }

    fn away(&self, operation: &str, why: &str) -> StorageError {
        let (name, property) = (&self.topic.name, self.topic.role.property());
        StorageError::new(
            StorageErrorKind::Away,
            format!(
                "{operation} topic {name} ({property}): {why}; check that the brokers of bootstrap.servers run and can be reached"
            ),
        )
    }

    fn wait(&self, timeout: Duration, operation: &str, done: impl Fn(&Progress) -> bool) -> Result<(), StorageError> {
        let deadline = Instant::now() + timeout;
        let mut progress = self.progress();
        loop {
            if done(&progress) {
                return Ok(());
            }
            if let Phase::Failed(error) = &progress.phase {
                return Err(error.clone());
            }
            if self.closing() {
                return Err(StorageError::new(
                    StorageErrorKind::Closed,
                    format!("{operation} topic {}: the worker ends", self.topic.name),
                ));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = progress.trouble.clone().unwrap_or_else(|| format!("it was not done within {timeout:?}"));
                drop(progress);
                return Err(self.away(operation, &why));
            }
            progress = self.moved.wait_timeout(progress, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Reads until it is told to end.
    fn run(&self) {
        let mut backoff = BACKOFF[0];
        while !self.closing() {
            match self.read() {
                Ended::Closing => break,
                Ended::Reread(why) => {
                    tracing::warn!(topic = self.topic.name, "{why}: the topic is read anew from its beginning");
                    self.forget();
                    backoff = BACKOFF[0];
                    self.pause(backoff);
                }
                Ended::Trouble(error) if error.retriable() => {
                    tracing::warn!(topic = self.topic.name, "{error}; trying again");
                    self.progress().trouble = Some(error.message);
                    self.pause(backoff);
                    backoff = (backoff * 2).min(BACKOFF[1]);
                }
                Ended::Trouble(error) => {
                    tracing::error!(topic = self.topic.name, "{error}");
                    self.progress().phase = Phase::Failed(error);
                    self.moved.notify_all();
                    return;
                }
            }
        }
        self.moved.notify_all();
    }

    fn pause(&self, time: Duration) {
        let deadline = Instant::now() + time;
        while !self.closing() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50).min(time));
        }
    }

    /// The topic is another one than it was.
    fn forget(&self) {
        let mut fold = self.fold();
        // Under the lock, so that nothing that was written meanwhile is saved behind it.
        self.image.clear();
        fold.clear();
        self.early().forget();
        let mut progress = self.progress();
        progress.positions.clear();
        progress.topic_id.clear();
        progress.reread = None;
        progress.image_age = None;
        if matches!(progress.phase, Phase::Current) {
            progress.phase = Phase::Remembered;
            progress.replacing = true;
        }
    }

    /// One round: makes sure of the topic, opens a reader, follows it.
    fn read(&self) -> Ended {
        let prepared = match prepare(&*self.log, &self.topic, &|| self.closing()) {
            Ok(prepared) => prepared,
            Err(error) => return Ended::Trouble(error),
        };
        let partition_count = prepared.identity.partitions;
        if let Err(why) = self.same_topic(&prepared) {
            return Ended::Reread(why);
        }
        let partitions = self.partitions(partition_count);
        let start: Vec<(TopicPartition, i64)> = {
            let mut progress = self.progress();
            progress.partitions = partition_count;
            let next = |partition: &TopicPartition| progress.positions.get(&partition.partition).copied();
            partitions.iter().map(|partition| (partition.clone(), next(partition).unwrap_or(BEGINNING))).collect()
        };
        let mut reader = match self.log.reader(&self.settings, &start) {
            Ok(reader) => reader,
            Err(error) => return Ended::Trouble(classified(error)),
        };
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = reader.waker();
        let ended = self.follow(&mut *reader, &partitions);
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Err(error) = reader.close(Duration::from_secs(2)) {
            tracing::debug!("{error}");
        }
        ended
    }

    /// Whether the topic is the one of the image.
    fn same_topic(&self, prepared: &Prepared) -> Result<(), String> {
        let identity = &prepared.identity;
        let mut progress = self.progress();
        if progress.image_age.is_some_and(|(age, loaded)| age + loaded.elapsed() > prepared.tombstones / 2) {
            return Err(
                "what is remembered of the topic is older than the tombstones that may have been in it".to_owned()
            );
        }
        let id = identity.id.clone().unwrap_or_default();
        if !progress.positions.is_empty() && !progress.topic_id.is_empty() && !id.is_empty() && progress.topic_id != id
        {
            return Err("the topic was deleted and created again".to_owned());
        }
        if progress.positions.keys().any(|partition| *partition >= identity.partitions) {
            return Err(format!("the topic has only {} partitions now", identity.partitions));
        }
        progress.topic_id = id;
        Ok(())
    }

    fn follow(&self, reader: &mut dyn LogConsumer, partitions: &[TopicPartition]) -> Ended {
        let ends = match self.log.admin().end_offsets(partitions, REQUEST) {
            Ok(ends) => ends.into_iter().map(|(partition, end)| (partition.partition, end)).collect::<BTreeMap<_, _>>(),
            Err(error) => return Ended::Trouble(classified(error)),
        };
        let mut positions = self.progress().positions.clone();
        if ends.iter().any(|(partition, end)| positions.get(partition).is_some_and(|next| next > end)) {
            return Ended::Reread(CUT_OFF.to_owned());
        }
        let mut current = false;
        loop {
            if !current && reached(&positions, &ends) {
                current = true;
                self.advance(&positions, true, true);
            }
            if let Some(why) = self.progress().reread {
                return Ended::Reread(why.to_owned());
            }
            if self.closing() {
                return Ended::Closing;
            }
            let events = match reader.poll(POLL_RECORDS, POLL_BYTES, POLL) {
                Ok(events) => events,
                Err(error) if error.code == Some("_AUTO_OFFSET_RESET") => {
                    return Ended::Reread("what was read last of the topic is no longer there".to_owned());
                }
                Err(error) => return Ended::Trouble(classified(error)),
            };
            let mut moved = false;
            for event in events {
                match event {
                    ConsumerEvent::Batch(batch) => {
                        if !self.apply(&batch) {
                            return Ended::Reread(FOREIGN.to_owned());
                        }
                        let next = batch.offsets.value(batch.offsets.len() - 1) + 1;
                        positions.insert(batch.topic_partition.partition, next);
                        moved = true;
                    }
                    ConsumerEvent::End(partition, offset) if offset >= 0 => {
                        let next = positions.entry(partition.partition).or_insert(0);
                        moved |= *next < offset;
                        *next = (*next).max(offset);
                    }
                    _ => {}
                }
            }
            if moved {
                let now_current = current || reached(&positions, &ends);
                self.advance(&positions, now_current, now_current && !current);
                current = now_current;
            }
        }
    }

    /// Takes in what was read; false if something stands where this worker has written.
    fn apply(&self, batch: &FetchedBatch) -> bool {
        let records = &batch.records;
        let mut fold = self.fold();
        let mut early = self.early();
        for row in 0..records.len() {
            let record = Record {
                partition: batch.topic_partition.partition,
                offset: batch.offsets.value(row),
                timestamp: records.timestamps.as_ref().map_or(0, |timestamps| timestamps.value(row)),
                key: records.keys.as_ref().filter(|keys| keys.is_valid(row)).map(|keys| keys.value(row)),
                value: records.values.is_valid(row).then(|| records.values.value(row)),
            };
            match early.meet(&record) {
                Met::New => fold.apply(&record),
                Met::Known => {}
                Met::Foreign => {
                    // From now on nothing is applied early.
                    self.progress().reread = Some(FOREIGN);
                    return false;
                }
            }
        }
        self.records.fetch_add(records.len() as u64, Ordering::Relaxed);
        true
    }

    /// See [`CompactedTopic::apply_written`].
    fn apply_written(&self, applied: u64, rows: &[Row], last: i64) -> bool {
        let notify = {
            let mut fold = self.fold();
            let mut early = self.early();
            let (mut positions, topic_id) = {
                let progress = self.progress();
                let current = matches!(progress.phase, Phase::Current) && progress.reread.is_none();
                if !current || early.read() != applied {
                    return false;
                }
                (progress.positions.clone(), progress.topic_id.clone())
            };
            let timestamp = chrono::Utc::now().timestamp_millis();
            for (offset, (key, value)) in (last + 1 - rows.len() as i64..).zip(rows) {
                fold.apply(&Record { partition: 0, offset, timestamp, key: Some(key), value: value.as_deref() });
            }
            early.applied(rows, last);
            positions.insert(0, early.next());
            let applied = Applied { positions, became_current: false, replaced: false };
            let notify = fold.publish(&applied);
            // Under the lock, so that nothing older is saved after what is newer.
            self.image.save(&topic_id, &applied.positions, fold.take_rows());
            notify
        };
        if let Some(notify) = notify {
            notify();
        }
        true
    }

    /// Makes what was applied visible, remembers it, and tells whoever waits or listens.
    fn advance(&self, positions: &BTreeMap<i32, i64>, current: bool, first: bool) {
        let notify = {
            let mut fold = self.fold();
            // Only the first time counts: after an outage the topic goes on as if nothing had been.
            let (became_current, replaced) = {
                let mut progress = self.progress();
                let became_current = first && !matches!(progress.phase, Phase::Current);
                (became_current, became_current && std::mem::take(&mut progress.replacing))
            };
            let mut visible = positions.clone();
            if let Some(next) = visible.get_mut(&0) {
                *next = (*next).max(self.early().next());
            }
            let applied = Applied { positions: visible, became_current, replaced };
            // Half of a topic would look as if the other half had been deleted.
            let notify = current.then(|| fold.publish(&applied)).flatten();
            let topic_id = {
                let mut progress = self.progress();
                progress.trouble = None;
                progress.image_age = None;
                if current {
                    progress.phase = Phase::Current;
                }
                progress.topic_id.clone()
            };
            // Under the lock, so that nothing older is saved after what is newer.
            self.image.save(&topic_id, &applied.positions, fold.take_rows());
            notify
        };
        // The listener first: whoever waits for a position goes on to ask what the listener was told.
        if let Some(notify) = notify {
            notify();
        }
        self.progress().positions.clone_from(positions);
        self.moved.notify_all();
    }
}
