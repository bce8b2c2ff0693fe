/* Arrow arrays in plain C, as far as these plugins need them: each struct owns its buffers, and counts itself. */
#ifndef ARRAYS_H
#define ARRAYS_H

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tributary.h"

/* Structs made and not yet released: 0 when all is given back. */
static atomic_long live;

static void release_schema(struct ArrowSchema *schema) {
    for (int64_t i = 0; i < schema->n_children; i++) {
        if (schema->children[i]->release) schema->children[i]->release(schema->children[i]);
        free(schema->children[i]);
    }
    free(schema->children);
    schema->release = NULL;
    atomic_fetch_sub(&live, 1);
}

static void release_array(struct ArrowArray *array) {
    for (int64_t i = 0; i < array->n_children; i++) {
        if (array->children[i]->release) array->children[i]->release(array->children[i]);
        free(array->children[i]);
    }
    free(array->children);
    for (int64_t i = 0; i < array->n_buffers; i++) free((void *)array->buffers[i]);
    free(array->buffers);
    array->release = NULL;
    atomic_fetch_sub(&live, 1);
}

static void make_schema(struct ArrowSchema *schema, const char *format, const char *name, int64_t children) {
    memset(schema, 0, sizeof *schema);
    schema->format = format;
    schema->name = name;
    schema->flags = ARROW_FLAG_NULLABLE;
    schema->n_children = children;
    schema->children = children ? calloc(children, sizeof *schema->children) : NULL;
    for (int64_t i = 0; i < children; i++) schema->children[i] = calloc(1, sizeof **schema->children);
    schema->release = release_schema;
    atomic_fetch_add(&live, 1);
}

static void make_array(struct ArrowArray *array, int64_t length, int64_t buffers, int64_t children) {
    memset(array, 0, sizeof *array);
    array->length = length;
    array->n_buffers = buffers;
    array->buffers = calloc(buffers, sizeof *array->buffers);
    array->n_children = children;
    array->children = children ? calloc(children, sizeof *array->children) : NULL;
    for (int64_t i = 0; i < children; i++) array->children[i] = calloc(1, sizeof **array->children);
    array->release = release_array;
    atomic_fetch_add(&live, 1);
}

/* An array of texts; NULL is null. */
static void make_texts(struct ArrowArray *array, const char *const *texts, int64_t length) {
    make_array(array, length, 3, 0);
    int32_t *offsets = malloc((length + 1) * sizeof *offsets);
    uint8_t *valid = calloc(length / 8 + 1, 1);
    size_t total = 0;
    for (int64_t i = 0; i < length; i++) total += texts[i] ? strlen(texts[i]) : 0;
    char *bytes = malloc(total + 1);
    offsets[0] = 0;
    for (int64_t i = 0; i < length; i++) {
        size_t size = texts[i] ? strlen(texts[i]) : 0;
        if (texts[i]) {
            memcpy(bytes + offsets[i], texts[i], size);
            valid[i / 8] |= 1 << (i % 8);
        } else {
            array->null_count++;
        }
        offsets[i + 1] = offsets[i] + (int32_t)size;
    }
    array->buffers[0] = valid;
    array->buffers[1] = offsets;
    array->buffers[2] = bytes;
}

static tributary_str text(const char *string) {
    return (tributary_str){(const uint8_t *)string, strlen(string)};
}

#endif
