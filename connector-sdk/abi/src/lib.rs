//! The C interface between the Tributary worker and a plugin library: layouts and nothing else.
//!
//! What holds on both sides:
//! - A plugin exports one symbol, [`ENTRY_SYMBOL`], of type [`PluginEntry`]. The major version is part of its name;
//!   the worker refuses a library that has another.
//! - Every struct begins with its `size` in bytes, as its maker knew it. Fields are only ever appended, and a reader
//!   touches a field only where `size` covers it ([`covers!`]).
//! - Strings and JSON cross as [`Str`], pointer and length, UTF-8, not terminated. What a function receives is borrowed
//!   for the call, unless its documentation says *moved*.
//! - No memory is freed by the side that did not allocate it: results go out through the callbacks of [`Call`], which copy;
//!   batches are *moved* under the release rule of the Arrow C Data Interface.
//! - No unwinding crosses: an exported function that panics catches it and answers [`PANICKED`].
//! - The calls on one instance come one at a time and from one thread, except `cancel` and `acknowledged`, which come from any.
//! - Imported arrays are checked in everything that the structures themselves tell: counts, nulls, offsets, UTF-8. That a
//!   buffer is as long as its length says is the maker's promise; nothing can check it.
#![no_std]

use core::ffi::c_void;

/// Major version: part of the entry symbol's name, changed when an existing layout or meaning changes.
pub const ABI_MAJOR: u32 = 1;
/// Minor version: grows when fields are appended.
pub const ABI_MINOR: u32 = 2;
/// The one symbol that a plugin library exports.
pub const ENTRY_SYMBOL: &str = "tributary_plugin_v1";

/// Answer of a call: done.
pub const OK: i32 = 0;
/// Answer of a call: it failed for good; [`Call::error`] was called with the reason.
pub const FAILED: i32 = 1;
/// Answer of a call: it failed, and the same call may succeed later; [`Call::error`] was called with the reason.
pub const RETRIABLE: i32 = 2;
/// Answer of a call: the plugin panicked; the instance must not be called again, not even to destroy it.
pub const PANICKED: i32 = 3;
/// Answer of a call: the plugin does not implement this.
pub const UNSUPPORTED: i32 = 4;

/// [`Class::kind`]: a source connector; `vtable` is a [`ConnectorVtable`] whose `task` is a [`SourceTaskVtable`].
pub const KIND_SOURCE: u32 = 1;
/// [`Class::kind`]: a sink connector; `vtable` is a [`ConnectorVtable`] whose `task` is a [`SinkTaskVtable`].
pub const KIND_SINK: u32 = 2;
/// [`Class::kind`]: a transform; `vtable` is a [`TransformVtable`].
pub const KIND_TRANSFORM: u32 = 3;

/// Levels of [`Host::log`], as in the log facades: error.
pub const LEVEL_ERROR: i32 = 1;
/// Warning.
pub const LEVEL_WARN: i32 = 2;
/// Information.
pub const LEVEL_INFO: i32 = 3;
/// Debugging.
pub const LEVEL_DEBUG: i32 = 4;
/// Tracing.
pub const LEVEL_TRACE: i32 = 5;

/// Kinds of [`Host::metric`]: a counter that only grows; `value` is added.
pub const METRIC_COUNTER: i32 = 1;
/// A gauge; `value` replaces the last one.
pub const METRIC_GAUGE: i32 = 2;

/// Whether the struct behind `$ptr` is large enough, by its own `size`, to hold `$field`.
#[macro_export]
macro_rules! covers {
    ($ptr:expr, $ty:ty, $field:ident) => {
        (*$ptr).size >= core::mem::offset_of!($ty, $field) + $crate::size_of_field(|s: &$ty| &s.$field)
    };
}

#[doc(hidden)]
pub const fn size_of_field<S, F>(_: fn(&S) -> &F) -> usize {
    core::mem::size_of::<F>()
}

/// Borrowed bytes: UTF-8 text, JSON or raw bytes as the field says. `ptr` may be null when `len` is 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Str {
    /// First byte.
    pub ptr: *const u8,
    /// Number of bytes.
    pub len: usize,
}

impl Str {
    /// No bytes.
    pub const EMPTY: Str = Str { ptr: core::ptr::null(), len: 0 };

    /// Borrows `bytes`; the caller keeps them alive for as long as the `Str` is read.
    pub const fn new(bytes: &[u8]) -> Self {
        Self { ptr: bytes.as_ptr(), len: bytes.len() }
    }
}

// SAFETY: a `Str` in a static descriptor points to static bytes; elsewhere the call's contract bounds its use.
unsafe impl Send for Str {}
// SAFETY: as above; nothing is written through it.
unsafe impl Sync for Str {}

/// `struct ArrowSchema` of the Arrow C Data Interface.
#[repr(C)]
pub struct ArrowSchema {
    /// Type, as a format string.
    pub format: *const core::ffi::c_char,
    /// Field name.
    pub name: *const core::ffi::c_char,
    /// Encoded metadata.
    pub metadata: *const core::ffi::c_char,
    /// Bit flags.
    pub flags: i64,
    /// Number of children.
    pub n_children: i64,
    /// Children.
    pub children: *mut *mut ArrowSchema,
    /// Dictionary type.
    pub dictionary: *mut ArrowSchema,
    /// Frees the struct's contents; null once released or moved.
    pub release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    /// The producer's.
    pub private_data: *mut c_void,
}

/// `struct ArrowArray` of the Arrow C Data Interface.
#[repr(C)]
pub struct ArrowArray {
    /// Number of rows.
    pub length: i64,
    /// Number of nulls, or -1.
    pub null_count: i64,
    /// First row.
    pub offset: i64,
    /// Number of buffers.
    pub n_buffers: i64,
    /// Number of children.
    pub n_children: i64,
    /// Buffers.
    pub buffers: *mut *const c_void,
    /// Children.
    pub children: *mut *mut ArrowArray,
    /// Dictionary values.
    pub dictionary: *mut ArrowArray,
    /// Frees the struct's contents; null once released or moved. Callable from any thread, also after `stop`.
    pub release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    /// The producer's.
    pub private_data: *mut c_void,
}

/// A batch: a run of records that share topic, source partition (or topic-partition) and key and value types.
///
/// `array` is a struct array with these children, of which only `value` must be there:
/// `key`, `value` (binary, utf8, utf8 with extension `arrow.json`, or any other type), `headers`
/// (list of struct {key utf8, schema utf8 nullable, value binary nullable}), `timestamp` (int64, ms since the epoch),
/// `partition` (int32), `offset` (utf8 JSON for sources, a non-null one marks a place to resume; int64 for sinks),
/// `origin_offset` (int64, of batches with an origin).
///
/// Child schemas and arrays have `release` set as well, as Arrow's libraries do: a null one means moved or released.
/// Unions, views and run-end encoded types do not cross.
///
/// A function that takes a batch *moved* takes over `schema` and `array`: it copies both structs out and sets the
/// originals' `release` to null, whatever it answers. The strings are borrowed for the call.
#[repr(C)]
pub struct Batch {
    /// `size_of::<Batch>()`.
    pub size: usize,
    /// Topic of every record.
    pub topic: Str,
    /// The source partition as a JSON object; empty in sinks.
    pub source_partition: Str,
    /// The Kafka partition the records were read from; -1 in sources.
    pub partition: i32,
    /// Zero.
    pub reserved: u32,
    /// Types of the columns.
    pub schema: ArrowSchema,
    /// The columns.
    pub array: ArrowArray,
    /// Sinks whose [`ConnectorVtable::exactly_once_support`] says so: the topic by which `open` named what these records were read from,
    /// where that is not `topic` and `partition`; else empty. Since minor version 1.
    pub origin_topic: Str,
    /// The partition of `origin_topic`, whose offsets are the column `origin_offset`; -1 without one.
    pub origin_partition: i32,
    /// Zero.
    pub origin_reserved: u32,
}

/// Where one call puts its results. Made by the caller, valid for the call only, used on the calling thread only.
#[repr(C)]
pub struct Call {
    /// `size_of::<Call>()`.
    pub size: usize,
    /// First argument of the callbacks.
    pub ctx: *mut c_void,
    /// Reason of a failure: message and, where there is one, a trace.
    pub error: unsafe extern "C" fn(ctx: *mut c_void, message: Str, trace: Str),
    /// The call's result, JSON; the last one counts.
    pub text: unsafe extern "C" fn(ctx: *mut c_void, json: Str),
    /// A batch, moved. Answers [`OK`], or [`FAILED`] if the batch is malformed (then stop emitting and fail: the
    /// call has failed for the worker, whatever it answers).
    pub emit: unsafe extern "C" fn(ctx: *mut c_void, batch: *mut Batch) -> i32,
    /// One record of the batch given to this call failed: its row, whether a retry may help (0 or 1), and why.
    /// Records not named here were accepted. Only where the call answers [`OK`].
    pub fail_record: unsafe extern "C" fn(ctx: *mut c_void, row: u64, retriable: i32, message: Str),
}

/// What [`Host::state_get_many`] and [`Host::state_scan`] call for each entry. For a get, `index` is the key's place in
/// the request, and absent keys are not reported. Returns 0 to go on, else to end a scan.
pub type StateEntryFn = unsafe extern "C" fn(out: *mut c_void, index: u64, key: Str, value: Str) -> i32;

/// One write of [`Host::state_put_many`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StateWrite {
    /// Key bytes.
    pub key: Str,
    /// Value bytes; ignored when `remove` is not 0.
    pub value: Str,
    /// Not 0: remove the key.
    pub remove: u32,
    /// Zero.
    pub reserved: u32,
}

/// The worker's services. One table for the process; every function takes the `context` that `create` received.
/// Callable from any thread between `create` and the return of `destroy`, except where said.
#[repr(C)]
pub struct Host {
    /// `size_of::<Host>()`.
    pub size: usize,
    /// [`ABI_MINOR`] of the worker.
    pub abi_minor: u32,
    /// Zero.
    pub reserved: u32,
    /// Whether a line at `level` would be kept: ask before formatting.
    pub log_enabled: unsafe extern "C" fn(context: *const c_void, level: i32) -> i32,
    /// Writes a log line; `fields` is a JSON object or empty.
    pub log: unsafe extern "C" fn(context: *const c_void, level: i32, message: Str, fields: Str),
    /// Updates a metric of this connector or task by name.
    pub metric: unsafe extern "C" fn(context: *const c_void, kind: i32, name: Str, value: f64),
    /// Not 0 once the instance has to come to an end: return from the current call soon.
    pub cancelled: unsafe extern "C" fn(context: *const c_void) -> i32,
    /// Sleeps for `ms`, or until cancelled; answers as `cancelled`.
    pub wait: unsafe extern "C" fn(context: *const c_void, ms: u64) -> i32,
    /// The worker's clock, ms since the epoch. Virtual in tests.
    pub now_ms: unsafe extern "C" fn(context: *const c_void) -> i64,
    /// The stored offsets of source partitions. `partitions`: JSON array of objects; the result through `call.text`: JSON array
    /// of the same length, null where there is none. Source connectors and tasks only.
    pub offsets: unsafe extern "C" fn(context: *const c_void, call: *const Call, partitions: Str) -> i32,
    /// Sinks: stop delivery of these partitions. `partitions`: JSON array of `{"topic","partition"}`; empty means all.
    pub pause: unsafe extern "C" fn(context: *const c_void, partitions: Str) -> i32,
    /// Sinks: resume delivery.
    pub resume: unsafe extern "C" fn(context: *const c_void, partitions: Str) -> i32,
    /// Sinks: ask for a commit soon after the current call.
    pub request_commit: unsafe extern "C" fn(context: *const c_void) -> i32,
    /// Connectors: ask for `task_configs` to be called again and the tasks to be replaced.
    pub request_reconfiguration: unsafe extern "C" fn(context: *const c_void) -> i32,
    /// Source tasks under `transaction.boundary=connector`: what was emitted up to here is one transaction, commit it (1) or abort it (0).
    pub end_transaction: unsafe extern "C" fn(context: *const c_void, commit: i32) -> i32,
    /// Reads keys of this task's state.
    pub state_get_many: unsafe extern "C" fn(
        context: *const c_void,
        call: *const Call,
        shard: Str,
        keys: *const Str,
        count: usize,
        entry: StateEntryFn,
        out: *mut c_void,
    ) -> i32,
    /// Writes keys of this task's state; durable together with the next commit of offsets.
    pub state_put_many: unsafe extern "C" fn(
        context: *const c_void,
        call: *const Call,
        shard: Str,
        writes: *const StateWrite,
        count: usize,
    ) -> i32,
    /// Calls `entry` for keys from `from` (inclusive) that begin with `prefix`, in byte order.
    pub state_scan: unsafe extern "C" fn(
        context: *const c_void,
        call: *const Call,
        shard: Str,
        prefix: Str,
        from: Str,
        entry: StateEntryFn,
        out: *mut c_void,
    ) -> i32,
    /// Sink tasks: writes records of their own to the log, beside what they put elsewhere. `batch`, moved: its topic is where they go,
    /// keys and values are binary or utf8 and are written as they are, as are the values of headers. They are acknowledged before
    /// offsets of what was put until then are committed. A batch without rows asks whether this worker and this task can. Since minor 1.
    pub produce: unsafe extern "C" fn(context: *const c_void, call: *const Call, batch: *mut Batch) -> i32,
}

/// The type of the entry symbol. `host` stays valid for the life of the process. The result is static, or null when the
/// plugin refuses this worker.
pub type PluginEntry = unsafe extern "C" fn(host: *const Host) -> *const Plugin;

/// What a plugin library is.
#[repr(C)]
pub struct Plugin {
    /// `size_of::<Plugin>()`.
    pub size: usize,
    /// [`ABI_MAJOR`] it was built against.
    pub abi_major: u32,
    /// [`ABI_MINOR`] it was built against.
    pub abi_minor: u32,
    /// 1 if a panic in the plugin is caught at the boundary, and in languages without panics; 0 (`panic=abort`) is refused.
    pub contains_panics: u32,
    /// Zero.
    pub reserved: u32,
    /// Name, as in the manifest.
    pub name: Str,
    /// Version, as in the manifest.
    pub version: Str,
    /// The classes.
    pub classes: *const *const Class,
    /// Number of classes.
    pub class_count: usize,
}

// SAFETY: a descriptor is immutable and static.
unsafe impl Sync for Plugin {}

/// A connector or transform class.
#[repr(C)]
pub struct Class {
    /// `size_of::<Class>()`.
    pub size: usize,
    /// [`KIND_SOURCE`], [`KIND_SINK`] or [`KIND_TRANSFORM`].
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
    /// Class name, as users write it in `connector.class` or `transforms.x.type`.
    pub name: Str,
    /// The config definition as JSON (the SDK's `ConfigDef`); static.
    pub config_def: Str,
    /// A [`ConnectorVtable`] or [`TransformVtable`], by kind.
    pub vtable: *const c_void,
    /// Other names that users may write, as a JSON array of strings; may be empty.
    pub aliases: Str,
    /// What the class is for, in a sentence or two; may be empty.
    pub documentation: Str,
}

// SAFETY: a class descriptor is immutable and static.
unsafe impl Sync for Class {}

/// Makes an instance. `context` is the first argument of the host's services for this instance, valid until `destroy` returns.
pub type CreateFn =
    unsafe extern "C" fn(call: *const Call, host: *const Host, context: *const c_void, out: *mut *mut c_void) -> i32;
/// A call without arguments.
pub type PlainFn = unsafe extern "C" fn(call: *const Call, instance: *mut c_void) -> i32;
/// A call with one JSON argument.
pub type JsonFn = unsafe extern "C" fn(call: *const Call, instance: *mut c_void, json: Str) -> i32;
/// A call that takes a batch, moved.
pub type BatchFn = unsafe extern "C" fn(call: *const Call, instance: *mut c_void, batch: *mut Batch) -> i32;
/// From any thread, also while another call runs on the instance: make that call return soon. Not after `destroy` began.
pub type CancelFn = unsafe extern "C" fn(instance: *mut c_void);
/// From any thread, one at a time, also while another call runs on the instance and beside [`CancelFn`]: positions whose records,
/// with all before them, are acknowledged by the log, or need not be: JSON array of `{"partition":{…},"offset":{…}}`. Must not block.
/// Answers [`OK`]; [`UNSUPPORTED`]: it is of no use to this task, and is not called again; or [`PANICKED`]. Not after `destroy` began.
pub type AcknowledgedFn = unsafe extern "C" fn(instance: *mut c_void, positions: Str) -> i32;
/// Frees the instance. Not called after a panic, nor while a call hangs.
pub type DestroyFn = unsafe extern "C" fn(instance: *mut c_void);

/// The functions of a connector. JSON configs are objects of strings.
#[repr(C)]
pub struct ConnectorVtable {
    /// `size_of::<ConnectorVtable>()`.
    pub size: usize,
    /// Makes an unstarted connector.
    pub create: CreateFn,
    /// Checks a whole config beyond what the config definition says, without side effects and before `start`.
    /// `text`: JSON object `{key: [message]}`, of the problems only.
    pub validate: JsonFn,
    /// Starts with a config.
    pub start: JsonFn,
    /// Divides the work. `text`: JSON array of at most `max_tasks` configs.
    pub task_configs: unsafe extern "C" fn(call: *const Call, instance: *mut c_void, max_tasks: u32) -> i32,
    /// Ends what `start` began.
    pub stop: PlainFn,
    /// See [`CancelFn`]; may be null.
    pub cancel: Option<CancelFn>,
    /// Frees.
    pub destroy: DestroyFn,
    /// REST wants to change offsets: `{"config":{…},"offsets":[{"partition":{…},"offset":{…}|null}]}` for a source,
    /// `{"config":{…},"offsets":[{"topic","partition","offset"}]}` for a sink (no `offset`: reset). `text`: `true` when the
    /// connector has checked or done it itself, `false` when it does not care. May be null.
    pub alter_offsets: Option<JsonFn>,
    /// Whether a source with this config supports exactly-once; whether a sink with this config keeps its offsets in its own store and
    /// begins where `open` answers, by the origins of batches. `text`: `"supported"`, `"unsupported"`; for a sink also `"prepared"`, since
    /// minor version 2: its tasks prepare transactions ([`SinkTaskVtable::prepare`]). May be null: unknown.
    pub exactly_once_support: Option<JsonFn>,
    /// Whether a source with this config can define transaction boundaries. `text`: `true` or `false`. May be null: false.
    pub transaction_boundaries: Option<JsonFn>,
    /// A [`SourceTaskVtable`] or [`SinkTaskVtable`], by the class's kind.
    pub task: *const c_void,
}

// SAFETY: a function table is immutable and static.
unsafe impl Sync for ConnectorVtable {}

/// The functions of a source task.
#[repr(C)]
pub struct SourceTaskVtable {
    /// `size_of::<SourceTaskVtable>()`.
    pub size: usize,
    /// Makes an unstarted task.
    pub create: CreateFn,
    /// Starts with a task config.
    pub start: JsonFn,
    /// Emits what is there; may wait a while for it ([`Host::wait`]), and may emit nothing.
    pub poll: PlainFn,
    /// Offsets that are safely stored: JSON array of `{"partition":{…},"offset":{…}}`. May be null.
    pub commit: Option<JsonFn>,
    /// Ends what `start` began. The last call but `destroy`.
    pub stop: PlainFn,
    /// See [`CancelFn`]; may be null.
    pub cancel: Option<CancelFn>,
    /// Frees.
    pub destroy: DestroyFn,
    /// See [`AcknowledgedFn`]; may be null. Since minor version 1. With at-least-once delivery it comes before offsets are stored,
    /// and [`Host::request_commit`] hurries nothing then.
    pub acknowledged: Option<AcknowledgedFn>,
}

/// The functions of a sink task. Offsets are JSON arrays of `{"topic","partition","offset"}`, next-to-read.
#[repr(C)]
pub struct SinkTaskVtable {
    /// `size_of::<SinkTaskVtable>()`.
    pub size: usize,
    /// Makes an unstarted task.
    pub create: CreateFn,
    /// Starts with a task config.
    pub start: JsonFn,
    /// Partitions that the task is given, with their start offsets where known. `text`, optional: offsets to start at instead.
    pub open: JsonFn,
    /// Takes a batch, moved. [`RETRIABLE`]: nothing of it counts, the same batch comes again later.
    pub put: BatchFn,
    /// Everything put so far has to be safe when this returns; the offsets are those of what was put.
    pub flush: JsonFn,
    /// Asked before a commit with the offsets of what was put. `text`: the offsets that may be committed; none: commit nothing.
    /// May be null: `flush` is called, and all may be committed.
    pub pre_commit: Option<JsonFn>,
    /// Partitions that are taken away, after their last commit.
    pub close: JsonFn,
    /// Ends what `start` began. The last call but `destroy`.
    pub stop: PlainFn,
    /// See [`CancelFn`]; may be null.
    pub cancel: Option<CancelFn>,
    /// Frees.
    pub destroy: DestroyFn,
    /// Before `open`, where [`ConnectorVtable::exactly_once_support`] answers `"prepared"` (so for the following three): JSON array of
    /// `{"topic","partition","epoch","token"}`. `epoch`: this owner's, larger than those of all owners before. `token`, optional: what
    /// the log says is to be there: it is committed, as by `commit_prepared`. Then everything else that is prepared for the partition by
    /// smaller epochs is aborted, and nothing of this epoch or a larger one. Null: not implemented. Since minor version 2.
    pub recover: Option<JsonFn>,
    /// In place of `pre_commit`, with the offsets of what was put. `text`: JSON array of `{"topic","partition","offset","token"}`: what was put
    /// of the partition since the last `prepare`, up to the offset, is durable and not visible, and `token` commits it from any task. No `token`:
    /// there is nothing to commit. Partitions that are not named are not committed. A token is text of at most [`MAX_TOKEN`] bytes, of one
    /// partition, and never used again. Since minor version 2.
    pub prepare: Option<JsonFn>,
    /// JSON array of `{"topic","partition","token"}`, which the log carries: each is visible when this returns. A token that is not known
    /// was committed before. [`RETRIABLE`]: the same call comes again. Tasks of other workers may do the same at the same time. Since minor
    /// version 2.
    pub commit_prepared: Option<JsonFn>,
    /// The same of tokens that the log does not carry and will not: what they stand for is dropped, if it is there. Since minor version 2.
    pub abort_prepared: Option<JsonFn>,
}

/// Bytes of a token that [`SinkTaskVtable::prepare`] may answer with: it has to fit into the metadata of a group's offset.
pub const MAX_TOKEN: usize = 4000;

/// The functions of a transform.
#[repr(C)]
pub struct TransformVtable {
    /// `size_of::<TransformVtable>()`.
    pub size: usize,
    /// Makes an unconfigured transform.
    pub create: CreateFn,
    /// Takes the transform's own config (keys without the `transforms.x.` prefix).
    pub configure: JsonFn,
    /// Takes a batch, moved, and emits any number.
    pub apply: BatchFn,
    /// Event time has passed this point, decimal ms as JSON; may emit. May be null.
    pub on_watermark: Option<JsonFn>,
    /// Frees.
    pub destroy: DestroyFn,
}
