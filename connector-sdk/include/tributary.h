/*
 * The C interface between the Tributary worker and a plugin library.
 *
 * Generated from connector-sdk/abi/src/lib.rs by a test; do not edit.
 * To write it anew: TRIBUTARY_UPDATE=1 cargo test -p tributary-abi --test c
 *
 * The C interface between the Tributary worker and a plugin library: layouts and nothing else.
 *
 * What holds on both sides:
 * - A plugin exports one symbol, TRIBUTARY_ENTRY_SYMBOL, of type tributary_plugin_entry. The major version is part of its name;
 * the worker refuses a library that has another.
 * - Every struct begins with its size in bytes, as its maker knew it. Fields are only ever appended, and a reader
 * touches a field only where size covers it (TRIBUTARY_COVERS).
 * - Strings and JSON cross as tributary_str, pointer and length, UTF-8, not terminated. What a function receives is borrowed
 * for the call, unless its documentation says *moved*.
 * - No memory is freed by the side that did not allocate it: results go out through the callbacks of tributary_call, which copy;
 * batches are *moved* under the release rule of the Arrow C Data Interface.
 * - No unwinding crosses: an exported function that panics catches it and answers TRIBUTARY_PANICKED.
 * - The calls on one instance come one at a time and from one thread, except cancel and acknowledged, which come from any.
 * - Imported arrays are checked in everything that the structures themselves tell: counts, nulls, offsets, UTF-8. That a
 * buffer is as long as its length says is the maker's promise; nothing can check it.
 */
#ifndef TRIBUTARY_H
#define TRIBUTARY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The Arrow C Data Interface, as Arrow's own headers have it. */
#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

/* struct ArrowSchema of the Arrow C Data Interface. */
struct ArrowSchema {
    /* Type, as a format string. */
    const char *format;
    /* Field name. */
    const char *name;
    /* Encoded metadata. */
    const char *metadata;
    /* Bit flags. */
    int64_t flags;
    /* Number of children. */
    int64_t n_children;
    /* Children. */
    struct ArrowSchema **children;
    /* Dictionary type. */
    struct ArrowSchema *dictionary;
    /* Frees the struct's contents; null once released or moved. */
    void (*release)(struct ArrowSchema *);
    /* The producer's. */
    void *private_data;
};

/* struct ArrowArray of the Arrow C Data Interface. */
struct ArrowArray {
    /* Number of rows. */
    int64_t length;
    /* Number of nulls, or -1. */
    int64_t null_count;
    /* First row. */
    int64_t offset;
    /* Number of buffers. */
    int64_t n_buffers;
    /* Number of children. */
    int64_t n_children;
    /* Buffers. */
    const void **buffers;
    /* Children. */
    struct ArrowArray **children;
    /* Dictionary values. */
    struct ArrowArray *dictionary;
    /* Frees the struct's contents; null once released or moved. Callable from any thread, also after stop. */
    void (*release)(struct ArrowArray *);
    /* The producer's. */
    void *private_data;
};

#endif /* ARROW_C_DATA_INTERFACE */

typedef struct tributary_str tributary_str;
typedef struct tributary_batch tributary_batch;
typedef struct tributary_call tributary_call;
typedef struct tributary_state_write tributary_state_write;
typedef struct tributary_host tributary_host;
typedef struct tributary_plugin tributary_plugin;
typedef struct tributary_class tributary_class;
typedef struct tributary_connector_vtable tributary_connector_vtable;
typedef struct tributary_source_task_vtable tributary_source_task_vtable;
typedef struct tributary_sink_task_vtable tributary_sink_task_vtable;
typedef struct tributary_transform_vtable tributary_transform_vtable;

/* Major version: part of the entry symbol's name, changed when an existing layout or meaning changes. */
#define TRIBUTARY_ABI_MAJOR 1

/* Minor version: grows when fields are appended. */
#define TRIBUTARY_ABI_MINOR 2

/* The one symbol that a plugin library exports. */
#define TRIBUTARY_ENTRY_SYMBOL "tributary_plugin_v1"

/* Answer of a call: done. */
#define TRIBUTARY_OK 0

/* Answer of a call: it failed for good; tributary_call.error was called with the reason. */
#define TRIBUTARY_FAILED 1

/* Answer of a call: it failed, and the same call may succeed later; tributary_call.error was called with the reason. */
#define TRIBUTARY_RETRIABLE 2

/* Answer of a call: the plugin panicked; the instance must not be called again, not even to destroy it. */
#define TRIBUTARY_PANICKED 3

/* Answer of a call: the plugin does not implement this. */
#define TRIBUTARY_UNSUPPORTED 4

/* tributary_class.kind: a source connector; vtable is a tributary_connector_vtable whose task is a tributary_source_task_vtable. */
#define TRIBUTARY_KIND_SOURCE 1

/* tributary_class.kind: a sink connector; vtable is a tributary_connector_vtable whose task is a tributary_sink_task_vtable. */
#define TRIBUTARY_KIND_SINK 2

/* tributary_class.kind: a transform; vtable is a tributary_transform_vtable. */
#define TRIBUTARY_KIND_TRANSFORM 3

/* Levels of tributary_host.log, as in the log facades: error. */
#define TRIBUTARY_LEVEL_ERROR 1

/* Warning. */
#define TRIBUTARY_LEVEL_WARN 2

/* Information. */
#define TRIBUTARY_LEVEL_INFO 3

/* Debugging. */
#define TRIBUTARY_LEVEL_DEBUG 4

/* Tracing. */
#define TRIBUTARY_LEVEL_TRACE 5

/* Kinds of tributary_host.metric: a counter that only grows; value is added. */
#define TRIBUTARY_METRIC_COUNTER 1

/* A gauge; value replaces the last one. */
#define TRIBUTARY_METRIC_GAUGE 2

/* Borrowed bytes: UTF-8 text, JSON or raw bytes as the field says. ptr may be null when len is 0. */
struct tributary_str {
    /* First byte. */
    const uint8_t *ptr;
    /* Number of bytes. */
    size_t len;
};

/*
 * A batch: a run of records that share topic, source partition (or topic-partition) and key and value types.
 *
 * array is a struct array with these children, of which only value must be there:
 * key, value (binary, utf8, utf8 with extension arrow.json, or any other type), headers
 * (list of struct {key utf8, schema utf8 nullable, value binary nullable}), timestamp (int64, ms since the epoch),
 * partition (int32), offset (utf8 JSON for sources, a non-null one marks a place to resume; int64 for sinks),
 * origin_offset (int64, of batches with an origin).
 *
 * Child schemas and arrays have release set as well, as Arrow's libraries do: a null one means moved or released.
 * Unions, views and run-end encoded types do not cross.
 *
 * A function that takes a batch *moved* takes over schema and array: it copies both structs out and sets the
 * originals' release to null, whatever it answers. The strings are borrowed for the call.
 */
struct tributary_batch {
    /* sizeof(tributary_batch). */
    size_t size;
    /* Topic of every record. */
    tributary_str topic;
    /* The source partition as a JSON object; empty in sinks. */
    tributary_str source_partition;
    /* The Kafka partition the records were read from; -1 in sources. */
    int32_t partition;
    /* Zero. */
    uint32_t reserved;
    /* Types of the columns. */
    struct ArrowSchema schema;
    /* The columns. */
    struct ArrowArray array;
    /*
     * Sinks whose tributary_connector_vtable.exactly_once_support says so: the topic by which open named what these records were read from,
     * where that is not topic and partition; else empty. Since minor version 1.
     */
    tributary_str origin_topic;
    /* The partition of origin_topic, whose offsets are the column origin_offset; -1 without one. */
    int32_t origin_partition;
    /* Zero. */
    uint32_t origin_reserved;
};

/* Where one call puts its results. Made by the caller, valid for the call only, used on the calling thread only. */
struct tributary_call {
    /* sizeof(tributary_call). */
    size_t size;
    /* First argument of the callbacks. */
    void *ctx;
    /* Reason of a failure: message and, where there is one, a trace. */
    void (*error)(void *ctx, tributary_str message, tributary_str trace);
    /* The call's result, JSON; the last one counts. */
    void (*text)(void *ctx, tributary_str json);
    /*
     * A batch, moved. Answers TRIBUTARY_OK, or TRIBUTARY_FAILED if the batch is malformed (then stop emitting and fail: the
     * call has failed for the worker, whatever it answers).
     */
    int32_t (*emit)(void *ctx, tributary_batch *batch);
    /*
     * One record of the batch given to this call failed: its row, whether a retry may help (0 or 1), and why.
     * Records not named here were accepted. Only where the call answers TRIBUTARY_OK.
     */
    void (*fail_record)(void *ctx, uint64_t row, int32_t retriable, tributary_str message);
};

/*
 * What tributary_host.state_get_many and tributary_host.state_scan call for each entry. For a get, index is the key's place in
 * the request, and absent keys are not reported. Returns 0 to go on, else to end a scan.
 */
typedef int32_t (*tributary_state_entry_fn)(void *out, uint64_t index, tributary_str key, tributary_str value);

/* One write of tributary_host.state_put_many. */
struct tributary_state_write {
    /* Key bytes. */
    tributary_str key;
    /* Value bytes; ignored when remove is not 0. */
    tributary_str value;
    /* Not 0: remove the key. */
    uint32_t remove;
    /* Zero. */
    uint32_t reserved;
};

/*
 * The worker's services. One table for the process; every function takes the context that create received.
 * Callable from any thread between create and the return of destroy, except where said.
 */
struct tributary_host {
    /* sizeof(tributary_host). */
    size_t size;
    /* TRIBUTARY_ABI_MINOR of the worker. */
    uint32_t abi_minor;
    /* Zero. */
    uint32_t reserved;
    /* Whether a line at level would be kept: ask before formatting. */
    int32_t (*log_enabled)(const void *context, int32_t level);
    /* Writes a log line; fields is a JSON object or empty. */
    void (*log)(const void *context, int32_t level, tributary_str message, tributary_str fields);
    /* Updates a metric of this connector or task by name. */
    void (*metric)(const void *context, int32_t kind, tributary_str name, double value);
    /* Not 0 once the instance has to come to an end: return from the current call soon. */
    int32_t (*cancelled)(const void *context);
    /* Sleeps for ms, or until cancelled; answers as cancelled. */
    int32_t (*wait)(const void *context, uint64_t ms);
    /* The worker's clock, ms since the epoch. Virtual in tests. */
    int64_t (*now_ms)(const void *context);
    /*
     * The stored offsets of source partitions. partitions: JSON array of objects; the result through call.text: JSON array
     * of the same length, null where there is none. Source connectors and tasks only.
     */
    int32_t (*offsets)(const void *context, const tributary_call *call, tributary_str partitions);
    /* Sinks: stop delivery of these partitions. partitions: JSON array of {"topic","partition"}; empty means all. */
    int32_t (*pause)(const void *context, tributary_str partitions);
    /* Sinks: resume delivery. */
    int32_t (*resume)(const void *context, tributary_str partitions);
    /* Sinks: ask for a commit soon after the current call. */
    int32_t (*request_commit)(const void *context);
    /* Connectors: ask for task_configs to be called again and the tasks to be replaced. */
    int32_t (*request_reconfiguration)(const void *context);
    /* Source tasks under transaction.boundary=connector: what was emitted up to here is one transaction, commit it (1) or abort it (0). */
    int32_t (*end_transaction)(const void *context, int32_t commit);
    /* Reads keys of this task's state. */
    int32_t (*state_get_many)(const void *context, const tributary_call *call, tributary_str shard, const tributary_str *keys, size_t count, tributary_state_entry_fn entry, void *out);
    /* Writes keys of this task's state; durable together with the next commit of offsets. */
    int32_t (*state_put_many)(const void *context, const tributary_call *call, tributary_str shard, const tributary_state_write *writes, size_t count);
    /* Calls entry for keys from from (inclusive) that begin with prefix, in byte order. */
    int32_t (*state_scan)(const void *context, const tributary_call *call, tributary_str shard, tributary_str prefix, tributary_str from, tributary_state_entry_fn entry, void *out);
    /*
     * Sink tasks: writes records of their own to the log, beside what they put elsewhere. batch, moved: its topic is where they go,
     * keys and values are binary or utf8 and are written as they are, as are the values of headers. They are acknowledged before
     * offsets of what was put until then are committed. A batch without rows asks whether this worker and this task can. Since minor 1.
     */
    int32_t (*produce)(const void *context, const tributary_call *call, tributary_batch *batch);
};

/*
 * The type of the entry symbol. host stays valid for the life of the process. The result is static, or null when the
 * plugin refuses this worker.
 */
typedef const tributary_plugin *(*tributary_plugin_entry)(const tributary_host *host);

/* What a plugin library is. */
struct tributary_plugin {
    /* sizeof(tributary_plugin). */
    size_t size;
    /* TRIBUTARY_ABI_MAJOR it was built against. */
    uint32_t abi_major;
    /* TRIBUTARY_ABI_MINOR it was built against. */
    uint32_t abi_minor;
    /* 1 if a panic in the plugin is caught at the boundary, and in languages without panics; 0 (panic=abort) is refused. */
    uint32_t contains_panics;
    /* Zero. */
    uint32_t reserved;
    /* Name, as in the manifest. */
    tributary_str name;
    /* Version, as in the manifest. */
    tributary_str version;
    /* The classes. */
    const tributary_class *const *classes;
    /* Number of classes. */
    size_t class_count;
};

/* A connector or transform class. */
struct tributary_class {
    /* sizeof(tributary_class). */
    size_t size;
    /* TRIBUTARY_KIND_SOURCE, TRIBUTARY_KIND_SINK or TRIBUTARY_KIND_TRANSFORM. */
    uint32_t kind;
    /* Zero. */
    uint32_t reserved;
    /* Class name, as users write it in connector.class or transforms.x.type. */
    tributary_str name;
    /* The config definition as JSON (the SDK's ConfigDef); static. */
    tributary_str config_def;
    /* A tributary_connector_vtable or tributary_transform_vtable, by kind. */
    const void *vtable;
    /* Other names that users may write, as a JSON array of strings; may be empty. */
    tributary_str aliases;
    /* What the class is for, in a sentence or two; may be empty. */
    tributary_str documentation;
};

/* Makes an instance. context is the first argument of the host's services for this instance, valid until destroy returns. */
typedef int32_t (*tributary_create_fn)(const tributary_call *call, const tributary_host *host, const void *context, void **out);

/* A call without arguments. */
typedef int32_t (*tributary_plain_fn)(const tributary_call *call, void *instance);

/* A call with one JSON argument. */
typedef int32_t (*tributary_json_fn)(const tributary_call *call, void *instance, tributary_str json);

/* A call that takes a batch, moved. */
typedef int32_t (*tributary_batch_fn)(const tributary_call *call, void *instance, tributary_batch *batch);

/* From any thread, also while another call runs on the instance: make that call return soon. Not after destroy began. */
typedef void (*tributary_cancel_fn)(void *instance);

/*
 * From any thread, one at a time, also while another call runs on the instance and beside tributary_cancel_fn: positions whose records,
 * with all before them, are acknowledged by the log, or need not be: JSON array of {"partition":{…},"offset":{…}}. Must not block.
 * Answers TRIBUTARY_OK; TRIBUTARY_UNSUPPORTED: it is of no use to this task, and is not called again; or TRIBUTARY_PANICKED. Not after destroy began.
 */
typedef int32_t (*tributary_acknowledged_fn)(void *instance, tributary_str positions);

/* Frees the instance. Not called after a panic, nor while a call hangs. */
typedef void (*tributary_destroy_fn)(void *instance);

/* The functions of a connector. JSON configs are objects of strings. */
struct tributary_connector_vtable {
    /* sizeof(tributary_connector_vtable). */
    size_t size;
    /* Makes an unstarted connector. */
    tributary_create_fn create;
    /*
     * Checks a whole config beyond what the config definition says, without side effects and before start.
     * text: JSON object {key: [message]}, of the problems only.
     */
    tributary_json_fn validate;
    /* Starts with a config. */
    tributary_json_fn start;
    /* Divides the work. text: JSON array of at most max_tasks configs. */
    int32_t (*task_configs)(const tributary_call *call, void *instance, uint32_t max_tasks);
    /* Ends what start began. */
    tributary_plain_fn stop;
    /* See tributary_cancel_fn; may be null. */
    tributary_cancel_fn cancel;
    /* Frees. */
    tributary_destroy_fn destroy;
    /*
     * REST wants to change offsets: {"config":{…},"offsets":[{"partition":{…},"offset":{…}|null}]} for a source,
     * {"config":{…},"offsets":[{"topic","partition","offset"}]} for a sink (no offset: reset). text: true when the
     * connector has checked or done it itself, false when it does not care. May be null.
     */
    tributary_json_fn alter_offsets;
    /*
     * Whether a source with this config supports exactly-once; whether a sink with this config keeps its offsets in its own store and
     * begins where open answers, by the origins of batches. text: "supported", "unsupported"; for a sink also "prepared", since
     * minor version 2: its tasks prepare transactions (tributary_sink_task_vtable.prepare). May be null: unknown.
     */
    tributary_json_fn exactly_once_support;
    /* Whether a source with this config can define transaction boundaries. text: true or false. May be null: false. */
    tributary_json_fn transaction_boundaries;
    /* A tributary_source_task_vtable or tributary_sink_task_vtable, by the class's kind. */
    const void *task;
};

/* The functions of a source task. */
struct tributary_source_task_vtable {
    /* sizeof(tributary_source_task_vtable). */
    size_t size;
    /* Makes an unstarted task. */
    tributary_create_fn create;
    /* Starts with a task config. */
    tributary_json_fn start;
    /* Emits what is there; may wait a while for it (tributary_host.wait), and may emit nothing. */
    tributary_plain_fn poll;
    /* Offsets that are safely stored: JSON array of {"partition":{…},"offset":{…}}. May be null. */
    tributary_json_fn commit;
    /* Ends what start began. The last call but destroy. */
    tributary_plain_fn stop;
    /* See tributary_cancel_fn; may be null. */
    tributary_cancel_fn cancel;
    /* Frees. */
    tributary_destroy_fn destroy;
    /*
     * See tributary_acknowledged_fn; may be null. Since minor version 1. With at-least-once delivery it comes before offsets are stored,
     * and tributary_host.request_commit hurries nothing then.
     */
    tributary_acknowledged_fn acknowledged;
};

/* The functions of a sink task. Offsets are JSON arrays of {"topic","partition","offset"}, next-to-read. */
struct tributary_sink_task_vtable {
    /* sizeof(tributary_sink_task_vtable). */
    size_t size;
    /* Makes an unstarted task. */
    tributary_create_fn create;
    /* Starts with a task config. */
    tributary_json_fn start;
    /* Partitions that the task is given, with their start offsets where known. text, optional: offsets to start at instead. */
    tributary_json_fn open;
    /* Takes a batch, moved. TRIBUTARY_RETRIABLE: nothing of it counts, the same batch comes again later. */
    tributary_batch_fn put;
    /* Everything put so far has to be safe when this returns; the offsets are those of what was put. */
    tributary_json_fn flush;
    /*
     * Asked before a commit with the offsets of what was put. text: the offsets that may be committed; none: commit nothing.
     * May be null: flush is called, and all may be committed.
     */
    tributary_json_fn pre_commit;
    /* Partitions that are taken away, after their last commit. */
    tributary_json_fn close;
    /* Ends what start began. The last call but destroy. */
    tributary_plain_fn stop;
    /* See tributary_cancel_fn; may be null. */
    tributary_cancel_fn cancel;
    /* Frees. */
    tributary_destroy_fn destroy;
    /*
     * Before open, where tributary_connector_vtable.exactly_once_support answers "prepared" (so for the following three): JSON array of
     * {"topic","partition","epoch","token"}. epoch: this owner's, larger than those of all owners before. token, optional: what
     * the log says is to be there: it is committed, as by commit_prepared. Then everything else that is prepared for the partition by
     * smaller epochs is aborted, and nothing of this epoch or a larger one. Null: not implemented. Since minor version 2.
     */
    tributary_json_fn recover;
    /*
     * In place of pre_commit, with the offsets of what was put. text: JSON array of {"topic","partition","offset","token"}: what was put
     * of the partition since the last prepare, up to the offset, is durable and not visible, and token commits it from any task. No token:
     * there is nothing to commit. Partitions that are not named are not committed. A token is text of at most TRIBUTARY_MAX_TOKEN bytes, of one
     * partition, and never used again. Since minor version 2.
     */
    tributary_json_fn prepare;
    /*
     * JSON array of {"topic","partition","token"}, which the log carries: each is visible when this returns. A token that is not known
     * was committed before. TRIBUTARY_RETRIABLE: the same call comes again. Tasks of other workers may do the same at the same time. Since minor
     * version 2.
     */
    tributary_json_fn commit_prepared;
    /* The same of tokens that the log does not carry and will not: what they stand for is dropped, if it is there. Since minor version 2. */
    tributary_json_fn abort_prepared;
};

/* Bytes of a token that tributary_sink_task_vtable.prepare may answer with: it has to fit into the metadata of a group's offset. */
#define TRIBUTARY_MAX_TOKEN 4000

/* The functions of a transform. */
struct tributary_transform_vtable {
    /* sizeof(tributary_transform_vtable). */
    size_t size;
    /* Makes an unconfigured transform. */
    tributary_create_fn create;
    /* Takes the transform's own config (keys without the transforms.x. prefix). */
    tributary_json_fn configure;
    /* Takes a batch, moved, and emits any number. */
    tributary_batch_fn apply;
    /* Event time has passed this point, decimal ms as JSON; may emit. May be null. */
    tributary_json_fn on_watermark;
    /* Frees. */
    tributary_destroy_fn destroy;
};

/* Whether the struct behind ptr is large enough, by its own size, to hold field. */
#define TRIBUTARY_COVERS(ptr, type, field) \
    ((ptr)->size >= offsetof(type, field) + sizeof(((type *)0)->field))

/* What a plugin library defines: see tributary_plugin_entry. */
const tributary_plugin *tributary_plugin_v1(const tributary_host *host);

#ifdef __cplusplus
}
#endif

#endif /* TRIBUTARY_H */
