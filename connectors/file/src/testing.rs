//! A context without a worker, for unit tests: it keeps what it is told, and its clock moves only when somebody waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tributary_sdk::sink::TopicPartition;
use tributary_sdk::{Config, Context, Error, Level, Result, Services};

#[derive(Default)]
pub(crate) struct TestServices {
    pub log: Mutex<Vec<(Level, String)>>,
    pub counters: Mutex<HashMap<String, f64>>,
    pub stored: Mutex<HashMap<String, Value>>,
    pub clock: AtomicI64,
    pub cancelled: AtomicBool,
    /// Waiting takes real time, too.
    pub sleeps: AtomicBool,
}

impl TestServices {
    pub fn new() -> (Arc<Self>, Context) {
        let services = Arc::new(Self::default());
        (services.clone(), Context::new(services))
    }

    /// Warnings that contain `text`.
    pub fn warnings(&self, text: &str) -> usize {
        let log = self.log.lock().unwrap();
        log.iter().filter(|(level, line)| *level == Level::Warn && line.contains(text)).count()
    }

    pub fn counted(&self, name: &str) -> f64 {
        self.counters.lock().unwrap().get(name).copied().unwrap_or(0.0)
    }
}

pub(crate) fn config(pairs: &[(&str, &str)]) -> Config {
    pairs.iter().copied().collect()
}

impl Services for TestServices {
    fn log_enabled(&self, _level: Level) -> bool {
        true
    }

    fn log(&self, level: Level, message: &str, _fields: &str) {
        self.log.lock().unwrap().push((level, message.to_owned()));
    }

    fn count(&self, name: &str, value: f64) {
        *self.counters.lock().unwrap().entry(name.to_owned()).or_default() += value;
    }

    fn gauge(&self, _name: &str, _value: f64) {}

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn wait(&self, time: Duration) -> bool {
        self.clock.fetch_add(time.as_millis() as i64, Ordering::Relaxed);
        if self.sleeps.load(Ordering::Relaxed) {
            std::thread::sleep(time);
        }
        self.cancelled()
    }

    fn now_ms(&self) -> i64 {
        self.clock.load(Ordering::Relaxed)
    }

    fn offsets(&self, partitions: &[Value]) -> Result<Vec<Option<Value>>> {
        let stored = self.stored.lock().unwrap();
        Ok(partitions.iter().map(|partition| stored.get(&partition.to_string()).cloned()).collect())
    }

    fn pause(&self, _partitions: &[TopicPartition]) -> Result<()> {
        Ok(())
    }

    fn resume(&self, _partitions: &[TopicPartition]) -> Result<()> {
        Ok(())
    }

    fn request_commit(&self) {}

    fn request_reconfiguration(&self) {}

    fn end_transaction(&self, _commit: bool) -> Result<()> {
        Ok(())
    }

    fn state_get_many(&self, _shard: &str, _keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        Err(Error::failed("no state in this test"))
    }

    fn state_put_many(&self, _shard: &str, _writes: &[(&[u8], Option<&[u8]>)]) -> Result<()> {
        Err(Error::failed("no state in this test"))
    }

    fn state_scan(
        &self,
        _shard: &str,
        _prefix: &[u8],
        _from: &[u8],
        _entry: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()> {
        Err(Error::failed("no state in this test"))
    }
}
