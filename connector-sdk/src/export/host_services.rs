//! The worker's services, seen from the plugin's side of the boundary.

use std::ffi::c_void;
use std::time::Duration;

use serde_json::Value;
use tributary_abi as abi;

use crate::batch::Batch;
use crate::context::{Level, Services};
use crate::errors::{Error, Result};
use crate::ffi::{Collector, Exported, bytes, str};
use crate::sink::TopicPartition;

/// [`Services`] over the worker's table.
pub(super) struct HostServices {
    host: &'static abi::Host,
    context: *const c_void,
}

// SAFETY: the ABI makes every function of the table callable from any thread; the context is an opaque token.
unsafe impl Send for HostServices {}
// SAFETY: as above.
unsafe impl Sync for HostServices {}

impl HostServices {
    /// # Safety
    /// `host` stays valid for the life of the process, `context` until the instance is destroyed. (The worker answers
    /// later calls, from a thread that the connector forgot to end, as cancelled.)
    pub unsafe fn new(host: *const abi::Host, context: *const c_void) -> Self {
        // SAFETY: the caller's promise.
        Self { host: unsafe { &*host }, context }
    }

    fn partitions_json(partitions: &[TopicPartition]) -> String {
        serde_json::to_string(partitions).expect("topics and numbers are valid JSON")
    }
}

/// Where a call through the table stands in an error that has no message of its own.
fn status(what: &str, status: i32) -> Result<()> {
    match status {
        abi::OK => Ok(()),
        abi::UNSUPPORTED => Err(Error::Unsupported(format!("{what} in this kind of task"))),
        abi::RETRIABLE => Err(Error::retriable(format!("{what} failed for now"))),
        _ => Err(Error::failed(format!("{what} failed"))),
    }
}

// SAFETY of every block below: a function of the worker's table, called with the context that came with it; strings and
// calls are borrowed for the duration.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Services for HostServices {
    fn log_enabled(&self, level: Level) -> bool {
        unsafe { (self.host.log_enabled)(self.context, level as i32) != 0 }
    }

    fn log(&self, level: Level, message: &str, fields: &str) {
        unsafe { (self.host.log)(self.context, level as i32, str(message), str(fields)) }
    }

    fn count(&self, name: &str, value: f64) {
        unsafe { (self.host.metric)(self.context, abi::METRIC_COUNTER, str(name), value) }
    }

    fn gauge(&self, name: &str, value: f64) {
        unsafe { (self.host.metric)(self.context, abi::METRIC_GAUGE, str(name), value) }
    }

    fn cancelled(&self) -> bool {
        unsafe { (self.host.cancelled)(self.context) != 0 }
    }

    fn wait(&self, time: Duration) -> bool {
        // Rounded up: a wait of less than a millisecond must not become a busy loop.
        let ms = u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        unsafe { (self.host.wait)(self.context, ms) != 0 }
    }

    fn now_ms(&self) -> i64 {
        unsafe { (self.host.now_ms)(self.context) }
    }

    fn offsets(&self, partitions: &[Value]) -> Result<Vec<Option<Value>>> {
        let json = serde_json::to_string(partitions)?;
        let (result, collector) =
            Collector::run("reading offsets", |call| unsafe { (self.host.offsets)(self.context, call, str(&json)) });
        result?;
        let text = collector.text()?.ok_or_else(|| Error::failed("the worker gave no offsets"))?;
        let offsets: Vec<Option<Value>> = serde_json::from_str(text)?;
        if offsets.len() != partitions.len() {
            let (asked, given) = (partitions.len(), offsets.len());
            return Err(Error::failed(format!("asked the worker for {asked} offsets and got {given}")));
        }
        Ok(offsets)
    }

    fn pause(&self, partitions: &[TopicPartition]) -> Result<()> {
        let json = Self::partitions_json(partitions);
        status("pausing", unsafe { (self.host.pause)(self.context, str(&json)) })
    }

    fn resume(&self, partitions: &[TopicPartition]) -> Result<()> {
        let json = Self::partitions_json(partitions);
        status("resuming", unsafe { (self.host.resume)(self.context, str(&json)) })
    }

    fn request_commit(&self) {
        unsafe { (self.host.request_commit)(self.context) };
    }

    fn request_reconfiguration(&self) {
        unsafe { (self.host.request_reconfiguration)(self.context) };
    }

    fn end_transaction(&self, commit: bool) -> Result<()> {
        let answer = unsafe { (self.host.end_transaction)(self.context, i32::from(commit)) };
        status("ending a transaction", answer)
    }

    fn state_get_many(&self, shard: &str, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        unsafe extern "C" fn entry(out: *mut c_void, index: u64, _key: abi::Str, value: abi::Str) -> i32 {
            // The worker calls back within the call below, on this thread; `out` is its vector.
            let values = unsafe { &mut *out.cast::<Vec<Option<Vec<u8>>>>() };
            if let Some(slot) = usize::try_from(index).ok().and_then(|index| values.get_mut(index)) {
                *slot = Some(unsafe { bytes(value) }.to_vec());
            }
            0
        }
        let raw: Vec<abi::Str> = keys.iter().map(|key| abi::Str::new(key)).collect();
        let mut values = vec![None; keys.len()];
        let out = (&raw mut values).cast();
        let (result, _) = Collector::run("reading state", |call| unsafe {
            (self.host.state_get_many)(self.context, call, str(shard), raw.as_ptr(), raw.len(), entry, out)
        });
        result.map(|()| values)
    }

    fn state_put_many(&self, shard: &str, writes: &[(&[u8], Option<&[u8]>)]) -> Result<()> {
        let write = |(key, value): &(&[u8], Option<&[u8]>)| abi::StateWrite {
            key: abi::Str::new(key),
            value: value.map_or(abi::Str::EMPTY, abi::Str::new),
            remove: u32::from(value.is_none()),
            reserved: 0,
        };
        let raw: Vec<abi::StateWrite> = writes.iter().map(write).collect();
        let (result, _) = Collector::run("writing state", |call| unsafe {
            (self.host.state_put_many)(self.context, call, str(shard), raw.as_ptr(), raw.len())
        });
        result
    }

    fn state_scan(
        &self,
        shard: &str,
        prefix: &[u8],
        from: &[u8],
        entry: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()> {
        type Scan<'a> = (&'a mut dyn FnMut(&[u8], &[u8]) -> bool, Option<Box<dyn std::any::Any + Send>>);
        unsafe extern "C" fn each(out: *mut c_void, _index: u64, key: abi::Str, value: abi::Str) -> i32 {
            // As in `state_get_many`. The connector's own closure may panic: carried past the worker's frames, and on.
            let scan = unsafe { &mut *out.cast::<Scan<'_>>() };
            let (key, value) = unsafe { (bytes(key), bytes(value)) };
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (scan.0)(key, value))) {
                Ok(more) => i32::from(!more),
                Err(panic) => {
                    scan.1 = Some(panic);
                    1
                }
            }
        }
        let mut scan: Scan<'_> = (entry, None);
        let out = (&raw mut scan).cast();
        let (prefix, from) = (abi::Str::new(prefix), abi::Str::new(from));
        let (result, _) = Collector::run("scanning state", |call| unsafe {
            (self.host.state_scan)(self.context, call, str(shard), prefix, from, each, out)
        });
        if let Some(panic) = scan.1 {
            std::panic::resume_unwind(panic);
        }
        result
    }

    fn produce(&self, batch: Batch) -> Result<()> {
        if !abi::covers!(self.host, abi::Host, produce) {
            return Err(Error::Unsupported("this worker is too old to write records of a sink: update it".into()));
        }
        let mut exported = Exported::new(batch)?;
        let (result, _) = Collector::run("writing records", |call| unsafe {
            (self.host.produce)(self.context, call, exported.as_mut_ptr())
        });
        result
    }
}
