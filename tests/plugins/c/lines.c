/*
 * A source and a sink in plain C, with nothing but the header.
 *
 * Source: emits batches of three numbered lines with timestamps, and resumes from its offset. `spoil` makes it emit a
 * malformed batch. Sink: counts records and bytes, refuses "bad" ones by their row, keeps its count in the state.
 */
#include <stdio.h>

#include "arrays.h"

#ifndef VERSION
#define VERSION "1.0.0"
#endif

typedef struct {
    const tributary_host *host;
    const void *context;
    char config[1024];
    long next;
    long records;
    long bytes;
} instance;

static int fail(const tributary_call *call, const char *message) {
    call->error(call->ctx, text(message), text(""));
    return TRIBUTARY_FAILED;
}

static int create(const tributary_call *call, const tributary_host *host, const void *context, void **out) {
    instance *self = calloc(1, sizeof *self);
    if (!self) return fail(call, "out of memory");
    self->host = host;
    self->context = context;
    *out = self;
    return TRIBUTARY_OK;
}

static void destroy(void *it) {
    instance *self = it;
    self->host->metric(self->context, TRIBUTARY_METRIC_GAUGE, text("live"), (double)atomic_load(&live));
    free(self);
}

static int validate(const tributary_call *call, void *it, tributary_str json) {
    (void)it, (void)json;
    call->text(call->ctx, text("{}"));
    return TRIBUTARY_OK;
}

static int start(const tributary_call *call, void *it, tributary_str json) {
    instance *self = it;
    if (json.len >= sizeof self->config) return fail(call, "the config is too long for this plugin");
    memcpy(self->config, json.ptr, json.len);
    self->host->log(self->context, TRIBUTARY_LEVEL_INFO, text("started in C"), text("{\"version\":\"" VERSION "\"}"));
    return TRIBUTARY_OK;
}

static int task_configs(const tributary_call *call, void *it, uint32_t max_tasks) {
    instance *self = it;
    char json[1100];
    (void)max_tasks;
    snprintf(json, sizeof json, "[%s]", self->config);
    call->text(call->ctx, text(json));
    return TRIBUTARY_OK;
}

static int stop(const tributary_call *call, void *it) {
    (void)call, (void)it;
    return TRIBUTARY_OK;
}

/* ---- the source ---- */

/* The worker's answer to a question of ours: the offset's number. */
static void on_offsets(void *ctx, tributary_str json) {
    char copy[256] = {0};
    memcpy(copy, json.ptr, json.len < sizeof copy - 1 ? json.len : sizeof copy - 1);
    char *found = strstr(copy, "\"next\":");
    if (found) *(long *)ctx = strtol(found + 7, NULL, 10);
}

static void on_error(void *ctx, tributary_str message, tributary_str trace) {
    (void)ctx, (void)message, (void)trace;
}

static int on_emit(void *ctx, tributary_batch *batch) {
    (void)ctx, (void)batch;
    return TRIBUTARY_FAILED;
}

static void on_fail_record(void *ctx, uint64_t row, int32_t retriable, tributary_str message) {
    (void)ctx, (void)row, (void)retriable, (void)message;
}

static int source_start(const tributary_call *call, void *it, tributary_str json) {
    instance *self = it;
    int status = start(call, it, json);
    if (status != TRIBUTARY_OK) return status;
    tributary_call mine = {sizeof mine, &self->next, on_error, on_offsets, on_emit, on_fail_record};
    return self->host->offsets(self->context, &mine, text("[{\"c\":1}]"));
}

static void spoil(tributary_batch *batch, const char *config) {
    struct ArrowArray *value = batch->array.children[0];
    if (strstr(config, "\"spoil\":\"offsets\"")) ((int32_t *)value->buffers[1])[3] = -1;
    if (strstr(config, "\"spoil\":\"falling\"")) ((int32_t *)value->buffers[1])[1] = 15;
    if (strstr(config, "\"spoil\":\"length\"")) value->length = 2;
    if (strstr(config, "\"spoil\":\"type\"")) batch->schema.children[1]->format = "u";
    if (strstr(config, "\"spoil\":\"utf8\"")) ((char *)value->buffers[2])[0] = (char)0xFF;
    if (strstr(config, "\"spoil\":\"size\"")) batch->size = 3;
}

static int poll(const tributary_call *call, void *it) {
    instance *self = it;
    char lines[3][32], offset[32];
    const char *values[3] = {lines[0], lines[1], lines[2]};
    const char *offsets[3] = {NULL, NULL, offset};
    if (self->host->wait(self->context, 1)) return TRIBUTARY_OK;
    for (int i = 0; i < 3; i++) snprintf(lines[i], sizeof lines[i], "line %ld", self->next++);
    snprintf(offset, sizeof offset, "{\"next\":%ld}", self->next);

    tributary_batch batch = {
        .size = sizeof batch,
        .topic = text("lines"),
        .source_partition = text("{\"c\":1}"),
        .partition = -1,
        .origin_partition = -1,
    };
    make_schema(&batch.schema, "+s", "", 3);
    make_schema(batch.schema.children[0], "u", "value", 0);
    make_schema(batch.schema.children[1], "l", "timestamp", 0);
    make_schema(batch.schema.children[2], "u", "offset", 0);
    make_array(&batch.array, 3, 1, 3);
    make_texts(batch.array.children[0], values, 3);
    make_array(batch.array.children[1], 3, 2, 0);
    int64_t *times = malloc(3 * sizeof *times);
    for (int i = 0; i < 3; i++) times[i] = self->host->now_ms(self->context) + i;
    batch.array.children[1]->buffers[1] = times;
    make_texts(batch.array.children[2], offsets, 3);
    spoil(&batch, self->config);

    int status = call->emit(call->ctx, &batch);
    if (strstr(self->config, "\"spoil\":\"twice\"")) status = call->emit(call->ctx, &batch);
    /* Moved if it was looked at; a batch that was refused for its size is still ours. */
    if (batch.array.release) batch.array.release(&batch.array);
    if (batch.schema.release) batch.schema.release(&batch.schema);
    return status == TRIBUTARY_OK ? TRIBUTARY_OK : fail(call, "the worker did not take the lines");
}

/* ---- the sink ---- */

static int open_partitions(const tributary_call *call, void *it, tributary_str json) {
    (void)call, (void)it, (void)json;
    return TRIBUTARY_OK;
}

static int put(const tributary_call *call, void *it, tributary_batch *batch) {
    instance *self = it;
    int status = TRIBUTARY_OK;
    struct ArrowArray array = batch->array;
    struct ArrowSchema schema = batch->schema;
    batch->array.release = NULL;
    batch->schema.release = NULL;
    int64_t column = 0;
    while (column < schema.n_children && strcmp(schema.children[column]->name, "value") != 0) column++;
    const char *format = column < schema.n_children ? schema.children[column]->format : "";
    if (strcmp(format, "u") != 0 && strcmp(format, "z") != 0) {
        status = fail(call, "only text and bytes can be counted");
    } else {
        struct ArrowArray *values = array.children[column];
        const int32_t *offsets = (const int32_t *)values->buffers[1] + values->offset;
        const char *bytes = values->buffers[2];
        for (int64_t row = 0; row < array.length; row++) {
            int32_t size = offsets[row + 1] - offsets[row];
            if (size == 3 && memcmp(bytes + offsets[row], "bad", 3) == 0) {
                call->fail_record(call->ctx, (uint64_t)row, 0, text("bad is not counted"));
                continue;
            }
            self->records++;
            self->bytes += size;
        }
        self->host->metric(self->context, TRIBUTARY_METRIC_GAUGE, text("bytes"), (double)self->bytes);
    }
    array.release(&array);
    schema.release(&schema);
    return status;
}

static int flush(const tributary_call *call, void *it, tributary_str json) {
    instance *self = it;
    char count[32];
    (void)json;
    snprintf(count, sizeof count, "%ld", self->records);
    tributary_state_write write = {text("records"), text(count), 0, 0};
    return self->host->state_put_many(self->context, call, text("0"), &write, 1);
}

/* ---- what the library is ---- */

static const tributary_source_task_vtable source_task = {
#ifdef OF_MINOR_0
    .size = offsetof(tributary_source_task_vtable, acknowledged),
#else
    .size = sizeof source_task,
#endif
    .create = create, .start = source_start, .poll = poll, .stop = stop, .destroy = destroy};
static const tributary_sink_task_vtable sink_task = {
    .size = sizeof sink_task, .create = create, .start = start, .open = open_partitions, .put = put, .flush = flush,
    .close = open_partitions, .stop = stop, .destroy = destroy};
static const tributary_connector_vtable source = {
    .size = sizeof source, .create = create, .validate = validate, .start = start, .task_configs = task_configs,
    .stop = stop, .destroy = destroy, .task = &source_task};
static const tributary_connector_vtable sink = {
    .size = sizeof sink, .create = create, .validate = validate, .start = start, .task_configs = task_configs,
    .stop = stop, .destroy = destroy, .task = &sink_task};

#define STR(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

static const tributary_class classes[] = {
    {sizeof(tributary_class), TRIBUTARY_KIND_SOURCE, 0, STR("com.example.c.LinesSourceConnector"), STR("{\"keys\":[]}"),
     &source, STR("[\"com.example.c.Lines\"]"), STR("Numbered lines, in C.")},
    {sizeof(tributary_class), TRIBUTARY_KIND_SINK, 0, STR("com.example.c.CountSinkConnector"), STR("{\"keys\":[]}"),
     &sink, STR(""), STR("")}};
static const tributary_class *const list[] = {&classes[0], &classes[1]};
static const tributary_plugin plugin = {
    sizeof(tributary_plugin), TRIBUTARY_ABI_MAJOR, TRIBUTARY_ABI_MINOR, 1, 0, STR("lines"), STR(VERSION), list, 2};

const tributary_plugin *tributary_plugin_v1(const tributary_host *host) {
    return host->size >= sizeof(tributary_host) ? &plugin : NULL;
}
