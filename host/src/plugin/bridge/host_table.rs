//! The worker's table of services, as plugins call it.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tributary_abi as abi;
use tributary_sdk::ffi::{Reporter, Taken, bytes, lossy, text};
use tributary_sdk::sink::TopicPartition;
use tributary_sdk::{Error, Level, Result, Services};

use super::tickets;

/// The one table of the process.
pub fn host_table() -> &'static abi::Host {
    static HOST: abi::Host = abi::Host {
        size: size_of::<abi::Host>(),
        abi_minor: abi::ABI_MINOR,
        reserved: 0,
        log_enabled,
        log,
        metric,
        cancelled,
        wait,
        now_ms,
        offsets,
        pause,
        resume,
        request_commit,
        request_reconfiguration,
        end_transaction,
        state_get_many,
        state_put_many,
        state_scan,
        produce,
    };
    &HOST
}

/// Runs `body` with the ticket's services. A stale ticket or a panic of ours answers `otherwise`.
fn with<R>(context: *const c_void, otherwise: R, body: impl FnOnce(Arc<dyn Services>) -> R) -> R {
    let run = AssertUnwindSafe(|| tickets::services(context).map(body));
    catch_unwind(run).ok().flatten().unwrap_or(otherwise)
}

/// As [`with`], for calls that report.
unsafe fn reporting(
    context: *const c_void,
    call: *const abi::Call,
    body: impl FnOnce(Arc<dyn Services>, Reporter<'_>) -> Result<()>,
) -> i32 {
    // SAFETY: the plugin's promise: its call is valid until we return.
    let reporter = unsafe { Reporter::new(call) };
    let run = AssertUnwindSafe(|| match tickets::services(context) {
        Some(services) => body(services, reporter),
        None => Err(Error::failed("called the worker after its instance ended")),
    });
    match catch_unwind(run) {
        Ok(Ok(())) => abi::OK,
        Ok(Err(error)) => reporter.error(&error),
        Err(_) => reporter.error(&Error::failed("a service of the worker panicked; its log says where")),
    }
}

fn level(level: i32) -> Level {
    match level {
        ..=abi::LEVEL_ERROR => Level::Error,
        abi::LEVEL_WARN => Level::Warn,
        abi::LEVEL_INFO => Level::Info,
        abi::LEVEL_DEBUG => Level::Debug,
        _ => Level::Trace,
    }
}

fn status(result: Result<()>) -> i32 {
    match result {
        Ok(()) => abi::OK,
        Err(Error::Retriable(_)) => abi::RETRIABLE,
        Err(Error::Unsupported(_)) => abi::UNSUPPORTED,
        Err(_) => abi::FAILED,
    }
}

/// # Safety
/// `json` is readable.
unsafe fn partitions(json: abi::Str) -> Result<Vec<TopicPartition>> {
    // SAFETY: the caller's promise.
    match unsafe { text(json, "a list of partitions") }? {
        "" => Ok(Vec::new()),
        json => Ok(serde_json::from_str(json)?),
    }
}

// SAFETY of every block below: the plugin's promise for the call under way: strings, arrays and calls are readable until
// we return. The context is a ticket and never dereferenced.

extern "C" fn log_enabled(context: *const c_void, at: i32) -> i32 {
    with(context, 0, |services| i32::from(services.log_enabled(level(at))))
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn log(context: *const c_void, at: i32, message: abi::Str, fields: abi::Str) {
    let (message, fields) = unsafe { (lossy(message), lossy(fields)) };
    with(context, (), |services| services.log(level(at), &message, &fields));
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn metric(context: *const c_void, kind: i32, name: abi::Str, value: f64) {
    let name = unsafe { lossy(name) };
    with(context, (), |services| match kind {
        abi::METRIC_COUNTER => services.count(&name, value),
        abi::METRIC_GAUGE => services.gauge(&name, value),
        // A kind of a later minor version.
        _ => {}
    });
}

extern "C" fn cancelled(context: *const c_void) -> i32 {
    with(context, 1, |services| i32::from(services.cancelled()))
}

extern "C" fn wait(context: *const c_void, ms: u64) -> i32 {
    with(context, 1, |services| i32::from(services.wait(Duration::from_millis(ms))))
}

extern "C" fn now_ms(context: *const c_void) -> i64 {
    with(context, 0, |services| services.now_ms())
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn offsets(context: *const c_void, call: *const abi::Call, asked: abi::Str) -> i32 {
    unsafe {
        reporting(context, call, |services, reporter| {
            let asked: Vec<Value> = serde_json::from_str(text(asked, "a list of source partitions")?)?;
            if let Some(odd) = asked.iter().find(|partition| !partition.is_object()) {
                return Err(Error::failed(format!("a source partition must be a JSON object, not {odd}")));
            }
            reporter.text(&serde_json::to_string(&services.offsets(&asked)?)?);
            Ok(())
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn pause(context: *const c_void, json: abi::Str) -> i32 {
    let asked = unsafe { partitions(json) };
    with(context, abi::FAILED, |services| status(asked.and_then(|asked| services.pause(&asked))))
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn resume(context: *const c_void, json: abi::Str) -> i32 {
    let asked = unsafe { partitions(json) };
    with(context, abi::FAILED, |services| status(asked.and_then(|asked| services.resume(&asked))))
}

extern "C" fn request_commit(context: *const c_void) -> i32 {
    with(context, abi::FAILED, |services| {
        services.request_commit();
        abi::OK
    })
}

extern "C" fn request_reconfiguration(context: *const c_void) -> i32 {
    with(context, abi::FAILED, |services| {
        services.request_reconfiguration();
        abi::OK
    })
}

extern "C" fn end_transaction(context: *const c_void, commit: i32) -> i32 {
    with(context, abi::FAILED, |services| status(services.end_transaction(commit != 0)))
}

/// # Safety
/// `array` has `count` elements that stay readable for `'a`, or is null and `count` is 0.
unsafe fn slice<'a, T>(array: *const T, count: usize) -> &'a [T] {
    if array.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(array, count) }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn state_get_many(
    context: *const c_void,
    call: *const abi::Call,
    shard: abi::Str,
    keys: *const abi::Str,
    count: usize,
    entry: abi::StateEntryFn,
    out: *mut c_void,
) -> i32 {
    unsafe {
        reporting(context, call, |services, _| {
            let keys: Vec<&[u8]> = slice(keys, count).iter().map(|&key| bytes(key)).collect();
            let values = services.state_get_many(text(shard, "a shard")?, &keys)?;
            for (index, (key, value)) in keys.iter().zip(values).enumerate() {
                if let Some(value) = value {
                    entry(out, index as u64, abi::Str::new(key), abi::Str::new(&value));
                }
            }
            Ok(())
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn state_put_many(
    context: *const c_void,
    call: *const abi::Call,
    shard: abi::Str,
    writes: *const abi::StateWrite,
    count: usize,
) -> i32 {
    unsafe {
        reporting(context, call, |services, _| {
            let write = |write: &abi::StateWrite| (bytes(write.key), (write.remove == 0).then(|| bytes(write.value)));
            let writes: Vec<_> = slice(writes, count).iter().map(write).collect();
            services.state_put_many(text(shard, "a shard")?, &writes)
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn state_scan(
    context: *const c_void,
    call: *const abi::Call,
    shard: abi::Str,
    prefix: abi::Str,
    from: abi::Str,
    entry: abi::StateEntryFn,
    out: *mut c_void,
) -> i32 {
    unsafe {
        reporting(context, call, |services, _| {
            let mut index = 0;
            services.state_scan(text(shard, "a shard")?, bytes(prefix), bytes(from), &mut |key, value| {
                index += 1;
                entry(out, index - 1, abi::Str::new(key), abi::Str::new(value)) == 0
            })
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn produce(context: *const c_void, call: *const abi::Call, batch: *mut abi::Batch) -> i32 {
    unsafe {
        reporting(context, call, |services, _| {
            // Taken first: it is ours whatever comes of it.
            let taken = Taken::take(batch)?;
            services.produce(taken.into_batch()?)
        })
    }
}
