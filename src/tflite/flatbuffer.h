/* flatbuffer.h - writes the FlatBuffers wire format (tables, vectors, strings), back to front.
 *
 * A FlatBuffer is built from its leaves: what an object refers to must be finished before it, and a reference is the
 * distance of the finished object from the end of the buffer. Memory grows at the front. Tables with equal vtables share
 * one. Failures (memory, 2 GiB) stick in `st`, so that a caller may write freely and check once, at fb_finish.
 * Source of the format: https://flatbuffers.dev/internals/ . Hosts are little-endian, as the format is. */
#ifndef DISTILL_TFLITE_FLATBUFFER_H
#define DISTILL_TFLITE_FLATBUFFER_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

enum { FB_FIELDS = 24 }; /* of one table */

typedef uint32_t fb_ref; /* distance from the end of the buffer; 0: none */

typedef struct flatbuffer {
    unsigned char *at; /* [cap], its last `used` bytes are written */
    size_t cap, used, limit; /* limit 0: 2 GiB - 1 */
    size_t align;            /* the strictest alignment so far */
    status st;
    uint32_t field[FB_FIELDS]; /* of the open table: where each field ends, 0: absent */
    int n_field;               /* -1: no table is open */
    uint32_t table_end;
    fb_ref *vtable; /* those written */
    size_t n_vtable, cap_vtable;
} flatbuffer;

void fb_begin(flatbuffer *b);
void fb_free(flatbuffer *b);

/* n elements of `size` bytes each, the first of which lies at a multiple of `align` (a power of two >= size). */
fb_ref fb_vector(flatbuffer *b, const void *elements, size_t n, size_t size, size_t align);
fb_ref fb_string(flatbuffer *b, const char *s);
fb_ref fb_refs(flatbuffer *b, const fb_ref *refs, size_t n); /* a vector of tables or strings */

/* A table: between begin and end only fb_put. A field that equals its default is left out, as readers expect; `slot` is
 * the field's number in the schema. fb_put_ref leaves out reference 0. */
void fb_table_begin(flatbuffer *b);
void fb_put_i8(flatbuffer *b, int slot, int v, int def);
void fb_put_i32(flatbuffer *b, int slot, int32_t v, int32_t def);
void fb_put_f32(flatbuffer *b, int slot, float v, float def);
void fb_put_ref(flatbuffer *b, int slot, fb_ref ref);
fb_ref fb_table_end(flatbuffer *b);

/* Ends the buffer with its root table and the four letters of its kind. The bytes are b->at + cap - used, `used` of
 * them, valid until fb_free. */
MUST_USE status fb_finish(flatbuffer *b, fb_ref root, const char *identifier);

#endif
