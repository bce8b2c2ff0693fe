//! A worker in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tributary_sdk::sink::TopicPartition;
use tributary_sdk::{Batch, Context, Level, Result, Services};

/// How time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// A wait moves the clock and returns at once (after at most a millisecond of real time).
    Jumps,
    /// Only [`TestServices::advance`] moves the clock; waits block for it, or for a cancel.
    Stands,
}

/// One log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its level.
    pub level: Level,
    /// Its text.
    pub message: String,
    /// Its fields, a JSON object or empty.
    pub fields: String,
}

struct Inner {
    clock: Clock,
    now: Duration,
    cancelled: bool,
    logs: Vec<LogLine>,
    counters: BTreeMap<String, f64>,
    gauges: BTreeMap<String, f64>,
    offsets: BTreeMap<String, Value>,
    state: BTreeMap<(String, Vec<u8>), Vec<u8>>,
    paused: Vec<TopicPartition>,
    commit_requests: usize,
    reconfigurations: usize,
    transactions: Vec<bool>,
    produced: Vec<Batch>,
}

/// The worker's services for tests. All tasks that use one share offsets and state, as the tasks of one connector do.
pub struct TestServices {
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// The canonical text of a source partition: members in order of their names.
fn canonical(partition: &Value) -> String {
    match partition {
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            serde_json::to_string(&sorted).unwrap_or_default()
        }
        other => other.to_string(),
    }
}

impl TestServices {
    /// A worker with an empty store, whose clock jumps; it begins in 2026.
    pub fn new() -> Arc<Self> {
        Self::with_clock(Clock::Jumps)
    }

    /// As [`Self::new`], with a choice of how time passes.
    pub fn with_clock(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                clock,
                now: Duration::from_secs(1_767_225_600),
                cancelled: false,
                logs: Vec::new(),
                counters: BTreeMap::new(),
                gauges: BTreeMap::new(),
                offsets: BTreeMap::new(),
                state: BTreeMap::new(),
                paused: Vec::new(),
                commit_requests: 0,
                reconfigurations: 0,
                transactions: Vec::new(),
                produced: Vec::new(),
            }),
            changed: Condvar::new(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As a task sees it.
    pub fn context(self: &Arc<Self>) -> Context {
        Context::new(self.clone())
    }

    /// Tells the task to come to an end.
    pub fn cancel(&self) {
        self.inner().cancelled = true;
        self.changed.notify_all();
    }

    /// Takes a cancel back, for the next task.
    pub fn uncancel(&self) {
        self.inner().cancelled = false;
    }

    /// Moves the clock.
    pub fn advance(&self, time: Duration) {
        self.inner().now += time;
        self.changed.notify_all();
    }

    /// Stores the offset of a source partition, as after a delivery; `None` forgets it.
    pub fn set_offset(&self, partition: &Value, offset: Option<Value>) {
        let key = canonical(partition);
        match offset {
            Some(offset) => self.inner().offsets.insert(key, offset),
            None => self.inner().offsets.remove(&key),
        };
    }

    /// The stored offsets, by source partition as canonical JSON.
    pub fn stored_offsets(&self) -> BTreeMap<String, Value> {
        self.inner().offsets.clone()
    }

    /// The log lines so far, of every level.
    pub fn logs(&self) -> Vec<LogLine> {
        self.inner().logs.clone()
    }

    /// Whether a line contains `text`, in its message or fields.
    pub fn logged(&self, text: &str) -> bool {
        self.inner().logs.iter().any(|line| line.message.contains(text) || line.fields.contains(text))
    }

    /// A counter's sum; 0 if it was never counted.
    pub fn counter(&self, name: &str) -> f64 {
        self.inner().counters.get(name).copied().unwrap_or(0.0)
    }

    /// A gauge's last value.
    pub fn gauge_value(&self, name: &str) -> Option<f64> {
        self.inner().gauges.get(name).copied()
    }

    /// The partitions that the sink paused.
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.inner().paused.clone()
    }

    /// How often a commit was asked for.
    pub fn commit_requests(&self) -> usize {
        self.inner().commit_requests
    }

    /// How often new task configs were asked for.
    pub fn reconfigurations(&self) -> usize {
        self.inner().reconfigurations
    }

    /// The ends of transactions: `true` for a commit.
    pub fn transactions(&self) -> Vec<bool> {
        self.inner().transactions.clone()
    }

    /// What a sink has written to the log itself, since the last call.
    pub fn take_produced(&self) -> Vec<Batch> {
        std::mem::take(&mut self.inner().produced)
    }

    /// An entry of the state.
    pub fn state(&self, shard: &str, key: &[u8]) -> Option<Vec<u8>> {
        self.inner().state.get(&(shard.to_owned(), key.to_vec())).cloned()
    }
}

impl Services for TestServices {
    fn log_enabled(&self, _: Level) -> bool {
        true
    }

    fn log(&self, level: Level, message: &str, fields: &str) {
        self.inner().logs.push(LogLine { level, message: message.to_owned(), fields: fields.to_owned() });
    }

    fn count(&self, name: &str, value: f64) {
        *self.inner().counters.entry(name.to_owned()).or_default() += value;
    }

    fn gauge(&self, name: &str, value: f64) {
        self.inner().gauges.insert(name.to_owned(), value);
    }

    fn cancelled(&self) -> bool {
        self.inner().cancelled
    }

    fn wait(&self, time: Duration) -> bool {
        let mut inner = self.inner();
        let until = inner.now + time;
        if inner.clock == Clock::Jumps {
            if !inner.cancelled {
                inner.now = until;
                drop(inner);
                // What the task waits for may be a thread of its own: let it run.
                std::thread::sleep(time.min(Duration::from_millis(1)));
            }
            return self.cancelled();
        }
        while !inner.cancelled && inner.now < until {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.cancelled
    }

    fn now_ms(&self) -> i64 {
        self.inner().now.as_millis() as i64
    }

    fn offsets(&self, partitions: &[Value]) -> Result<Vec<Option<Value>>> {
        let inner = self.inner();
        Ok(partitions.iter().map(|partition| inner.offsets.get(&canonical(partition)).cloned()).collect())
    }

    fn pause(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.inner().paused.extend_from_slice(partitions);
        Ok(())
    }

    fn resume(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.inner().paused.retain(|paused| !partitions.is_empty() && !partitions.contains(paused));
        Ok(())
    }

    fn request_commit(&self) {
        self.inner().commit_requests += 1;
    }

    fn request_reconfiguration(&self) {
        self.inner().reconfigurations += 1;
    }

    fn end_transaction(&self, commit: bool) -> Result<()> {
        self.inner().transactions.push(commit);
        Ok(())
    }

    fn state_get_many(&self, shard: &str, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let inner = self.inner();
        Ok(keys.iter().map(|key| inner.state.get(&(shard.to_owned(), key.to_vec())).cloned()).collect())
    }

    fn state_put_many(&self, shard: &str, writes: &[(&[u8], Option<&[u8]>)]) -> Result<()> {
        let mut inner = self.inner();
        for (key, value) in writes {
            let key = (shard.to_owned(), key.to_vec());
            match value {
                Some(value) => inner.state.insert(key, value.to_vec()),
                None => inner.state.remove(&key),
            };
        }
        Ok(())
    }

    fn state_scan(
        &self,
        shard: &str,
        prefix: &[u8],
        from: &[u8],
        entry: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()> {
        // A copy: the callback may call back into the state.
        let start = (shard.to_owned(), prefix.max(from).to_vec());
        let entries: Vec<(Vec<u8>, Vec<u8>)> = self
            .inner()
            .state
            .range(start..)
            .take_while(|((of, key), _)| of == shard && (key.starts_with(prefix) || key.as_slice() < prefix))
            .filter(|((_, key), _)| key.starts_with(prefix))
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        for (key, value) in entries {
            if !entry(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn produce(&self, batch: Batch) -> Result<()> {
        if !batch.is_empty() {
            self.inner().produced.push(batch);
        }
        Ok(())
    }
}
