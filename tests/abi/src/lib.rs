//! What the tests of the boundary share.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tributary_sdk::sink::TopicPartition;
use tributary_sdk::{Error, Level, Result, Services};

/// Services that remember what they were asked.
#[derive(Default)]
pub struct Recorder {
    /// Log lines, `level message`.
    pub lines: Mutex<Vec<String>>,
    /// Set to end waits.
    pub cancelled: AtomicBool,
    /// Other calls, by name.
    pub calls: Mutex<Vec<String>>,
}

impl Recorder {
    fn called(&self, what: impl Into<String>) {
        self.calls.lock().unwrap().push(what.into());
    }
}

impl Services for Recorder {
    fn log_enabled(&self, level: Level) -> bool {
        level <= Level::Info
    }

    fn log(&self, level: Level, message: &str, fields: &str) {
        self.lines.lock().unwrap().push(format!("{level:?} {message} {fields}").trim_end().to_owned());
    }

    fn count(&self, name: &str, value: f64) {
        self.called(format!("count {name} {value}"));
    }

    fn gauge(&self, name: &str, value: f64) {
        self.called(format!("gauge {name} {value}"));
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn wait(&self, time: Duration) -> bool {
        std::thread::sleep(time.min(Duration::from_millis(5)));
        self.cancelled()
    }

    fn now_ms(&self) -> i64 {
        1_000
    }

    fn offsets(&self, partitions: &[Value]) -> Result<Vec<Option<Value>>> {
        Ok(partitions.iter().map(|p| Some(serde_json::json!({ "of": p }))).collect())
    }

    fn pause(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.called(format!("pause {}", partitions.len()));
        Ok(())
    }

    fn resume(&self, _: &[TopicPartition]) -> Result<()> {
        Err(Error::Unsupported("resuming".into()))
    }

    fn request_commit(&self) {
        self.called("request_commit");
    }

    fn request_reconfiguration(&self) {
        self.called("request_reconfiguration");
    }

    fn end_transaction(&self, commit: bool) -> Result<()> {
        self.called(format!("end_transaction {commit}"));
        Ok(())
    }

    fn state_get_many(&self, shard: &str, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        Ok(keys.iter().map(|key| (key != b"absent").then(|| [shard.as_bytes(), b"/", key].concat())).collect())
    }

    fn state_put_many(&self, shard: &str, writes: &[(&[u8], Option<&[u8]>)]) -> Result<()> {
        for (key, value) in writes {
            self.called(format!(
                "put {shard} {} {:?}",
                String::from_utf8_lossy(key),
                value.map(String::from_utf8_lossy)
            ));
        }
        Ok(())
    }

    fn state_scan(&self, _: &str, prefix: &[u8], _: &[u8], entry: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        for at in 0..10u8 {
            if !entry(&[prefix, &[b'0' + at]].concat(), &[at]) {
                break;
            }
        }
        Ok(())
    }
}
