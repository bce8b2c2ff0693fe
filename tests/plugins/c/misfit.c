/* A library that is no proper plugin; how, is said by a macro. */
#include <stddef.h>

#include "tributary.h"

#define STR(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

static int create(const tributary_call *call, const tributary_host *host, const void *context, void **out) {
    (void)call, (void)host, (void)context;
    *out = NULL;
    return TRIBUTARY_OK;
}

static int json(const tributary_call *call, void *it, tributary_str text) {
    (void)call, (void)it, (void)text;
#if defined(TALKS_NONSENSE)
    call->text(call->ctx, (tributary_str)STR("nonsense"));
    return TALKS_NONSENSE;
#endif
    return TRIBUTARY_OK;
}

static int batch(const tributary_call *call, void *it, tributary_batch *moved) {
    (void)call, (void)it;
    moved->array.release(&moved->array);
    moved->schema.release(&moved->schema);
    return TRIBUTARY_OK;
}

static void destroy(void *it) {
    (void)it;
}

static const tributary_transform_vtable transform = {
#ifdef SMALL_TABLE
    .size = 16,
#else
    .size = sizeof transform,
#endif
    .create = create,
    .configure = json,
#ifndef NO_APPLY
    .apply = batch,
#endif
    .destroy = destroy};

static const tributary_class class = {
    sizeof(tributary_class),
#ifdef UNKNOWN_KIND
    99,
#else
    TRIBUTARY_KIND_TRANSFORM,
#endif
    0,
    STR("com.example.Misfit"),
#ifdef BAD_CONFIG_DEF
    STR("{\"keys\":5}"),
#else
    STR("{\"keys\":[]}"),
#endif
#ifdef NO_TABLE
    NULL,
#else
    &transform,
#endif
    STR(""),
    STR("")};
static const tributary_class *const list[] = {&class};

static const tributary_plugin plugin = {
#ifdef SMALL_DESCRIPTOR
    24,
#else
    sizeof(tributary_plugin),
#endif
#ifdef OTHER_MAJOR
    TRIBUTARY_ABI_MAJOR + 1,
#else
    TRIBUTARY_ABI_MAJOR,
#endif
    TRIBUTARY_ABI_MINOR,
#ifdef PANIC_ABORT
    0,
#else
    1,
#endif
    0, STR("misfit"), STR("1.0.0"),
#ifdef NO_CLASSES
    NULL, 0
#else
    list, 1
#endif
};

#if defined(OTHER_SYMBOL)
const tributary_plugin *tributary_plugin_v2(const tributary_host *host) {
#elif defined(NO_SYMBOL)
const tributary_plugin *some_library(const tributary_host *host) {
#else
const tributary_plugin *tributary_plugin_v1(const tributary_host *host) {
#endif
    (void)host;
#ifdef REFUSES
    (void)plugin;
    return NULL;
#else
    return &plugin;
#endif
}
