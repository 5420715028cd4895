/* flatbuffer.c - see flatbuffer.h. `used` is the place of the front of the buffer, counted from its end; a value is
 * aligned when its place is a multiple of its size, because fb_finish makes the whole a multiple of the strictest. */
#include "tflite/flatbuffer.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "FlatBuffers are little-endian");

void fb_begin(flatbuffer *b)
{
    *b = (flatbuffer){.align = 4, .n_field = -1};
}

void fb_free(flatbuffer *b)
{
    mem_free(b->at);
    mem_free(b->vtable);
    *b = (flatbuffer){.n_field = -1};
}

/* Room for n more bytes at the front; false when there is none, and the failure sticks. */
static bool reserve(flatbuffer *b, size_t n)
{
    size_t limit = b->limit ? b->limit : INT32_MAX, want;
    if (b->st != ST_OK)
        return false;
    if (!size_add(b->used, n, &want) || want > limit) {
        b->st = fail(ST_BAD_DATA, "a FlatBuffer may have %zu bytes; this one would be larger", limit);
        return false;
    }
    if (want <= b->cap)
        return true;
    size_t cap = b->cap ? b->cap : 1024;
    while (cap < want)
        cap *= 2; /* want < 2^31 */
    unsigned char *grown;
    b->st = mem_alloc(&grown, cap, 1);
    if (b->st != ST_OK)
        return false;
    if (b->used)
        memcpy(grown + cap - b->used, b->at + b->cap - b->used, b->used);
    mem_free(b->at);
    b->at = grown;
    b->cap = cap;
    return true;
}

static void push(flatbuffer *b, const void *data, size_t n)
{
    if (n == 0 || !reserve(b, n))
        return;
    b->used += n;
    memcpy(b->at + b->cap - b->used, data, n);
}

/* Zeros in front, so that after `more` further bytes the place is a multiple of `align`. */
static void align_front(flatbuffer *b, size_t more, size_t align)
{
    static const unsigned char zeros[64] = {0};
    if (align > b->align)
        b->align = align;
    size_t sum;
    if (!size_add(b->used, more, &sum))
        sum = SIZE_MAX; /* reserve will refuse it */
    push(b, zeros, (size_t)(-(intptr_t)sum) & (align - 1));
}

static fb_ref here(const flatbuffer *b)
{
    return b->st == ST_OK ? (fb_ref)b->used : 0;
}

fb_ref fb_vector(flatbuffer *b, const void *elements, size_t n, size_t size, size_t align)
{
    size_t bytes;
    if (!size_mul(n, size, &bytes) || n > INT32_MAX)
        bytes = SIZE_MAX / 2;
    uint32_t count = (uint32_t)n;
    align_front(b, bytes, align < 4 ? 4 : align);
    push(b, elements, bytes);
    push(b, &count, sizeof count);
    return here(b);
}

fb_ref fb_string(flatbuffer *b, const char *s)
{
    size_t n = strlen(s); /* a NUL follows that is not counted */
    if (n >= INT32_MAX) {
        if (b->st == ST_OK)
            b->st = fail(ST_BAD_DATA, "a string has %zu bytes", n);
        return 0;
    }
    uint32_t count = (uint32_t)n;
    align_front(b, n + 1, 4);
    push(b, s, n + 1);
    push(b, &count, sizeof count);
    return here(b);
}

static void push_ref(flatbuffer *b, fb_ref ref)
{
    align_front(b, 4, 4);
    uint32_t distance = (uint32_t)(b->used + 4) - ref;
    push(b, &distance, sizeof distance);
}

fb_ref fb_refs(flatbuffer *b, const fb_ref *refs, size_t n)
{
    uint32_t count = (uint32_t)n;
    align_front(b, n * 4, 4);
    for (size_t i = n; i-- > 0;)
        push_ref(b, refs[i]);
    push(b, &count, sizeof count);
    return here(b);
}

/* ---- tables ---- */

void fb_table_begin(flatbuffer *b)
{
    if (b->n_field >= 0 && b->st == ST_OK)
        b->st = fail(ST_INTERNAL, "a table was begun inside a table");
    memset(b->field, 0, sizeof b->field);
    b->n_field = 0;
    b->table_end = (uint32_t)b->used;
}

static void put(flatbuffer *b, int slot, const void *v, size_t size)
{
    if ((slot < 0 || slot >= FB_FIELDS || b->n_field < 0) && b->st == ST_OK)
        b->st = fail(ST_INTERNAL, "field %d of no open table", slot);
    if (b->st != ST_OK)
        return;
    align_front(b, size, size);
    push(b, v, size);
    b->field[slot] = (uint32_t)b->used;
    if (slot >= b->n_field)
        b->n_field = slot + 1;
}

void fb_put_i8(flatbuffer *b, int slot, int v, int def)
{
    int8_t byte = (int8_t)v;
    if (v != def)
        put(b, slot, &byte, 1);
}

void fb_put_i32(flatbuffer *b, int slot, int32_t v, int32_t def)
{
    if (v != def)
        put(b, slot, &v, 4);
}

void fb_put_f32(flatbuffer *b, int slot, float v, float def)
{
    if (memcmp(&v, &def, sizeof v) != 0)
        put(b, slot, &v, 4);
}

void fb_put_ref(flatbuffer *b, int slot, fb_ref ref)
{
    if (!ref)
        return;
    align_front(b, 4, 4);
    uint32_t distance = (uint32_t)(b->used + 4) - ref;
    put(b, slot, &distance, sizeof distance);
}

/* Place of a vtable with these bytes, 0: none yet. */
static fb_ref find_vtable(const flatbuffer *b, const uint16_t *entry, size_t bytes)
{
    for (size_t i = 0; i < b->n_vtable; i++)
        if (b->vtable[i] >= bytes && memcmp(b->at + b->cap - b->vtable[i], entry, bytes) == 0)
            return b->vtable[i];
    return 0;
}

fb_ref fb_table_end(flatbuffer *b)
{
    uint16_t entry[2 + FB_FIELDS] = {0};
    int32_t to_vtable = 0;
    int n = b->n_field;
    b->n_field = -1;
    align_front(b, 4, 4);
    push(b, &to_vtable, sizeof to_vtable);
    if (b->st != ST_OK)
        return 0;
    fb_ref table = (fb_ref)b->used;
    size_t bytes = 4 + 2 * (size_t)n;
    entry[0] = (uint16_t)bytes;
    entry[1] = (uint16_t)(table - b->table_end);
    for (int i = 0; i < n; i++)
        entry[2 + i] = b->field[i] ? (uint16_t)(table - b->field[i]) : 0;
    fb_ref vtable = find_vtable(b, entry, bytes);
    if (!vtable) {
        push(b, entry, bytes);
        vtable = here(b);
        if (b->st == ST_OK)
            b->st = mem_push(&b->vtable, &b->cap_vtable, b->n_vtable, sizeof *b->vtable);
        if (b->st != ST_OK)
            return 0;
        b->vtable[b->n_vtable++] = vtable;
    }
    to_vtable = (int32_t)vtable - (int32_t)table;
    memcpy(b->at + b->cap - table, &to_vtable, sizeof to_vtable);
    return table;
}

status fb_finish(flatbuffer *b, fb_ref root, const char *identifier)
{
    align_front(b, 8, b->align);
    push(b, identifier, 4);
    push_ref(b, root);
    return b->st;
}
