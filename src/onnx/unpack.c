/* unpack.c - protobuf-c's allocator on base/mem.h with a byte budget. */
#include "onnx/unpack.h"

#include "base/mem.h"
#include <inttypes.h>

enum { ALLOCATION_COST = 32 }; /* what an allocation costs beside its bytes */

typedef struct budget {
    uint64_t left;
    bool exceeded, failed;
} budget;

static void *budget_alloc(void *context, size_t n)
{
    budget *b = context;
    void *p = NULL;
    if (n > b->left || b->left - n < ALLOCATION_COST) {
        b->exceeded = true;
        return NULL;
    }
    b->left -= n + ALLOCATION_COST;
    if (mem_alloc(&p, n, 1) != ST_OK)
        b->failed = true;
    return p;
}

static void budget_free(void *context, void *p)
{
    (void)context;
    mem_free(p);
}

status unpack_message(const char *path, const ProtobufCMessageDescriptor *kind, const void *data, size_t n,
                      size_t file, ProtobufCMessage **out)
{
    uint64_t total = 4 * (uint64_t)file + (64u << 20);
    budget b = {total, false, false};
    ProtobufCAllocator allocator = {budget_alloc, budget_free, &b};
    *out = protobuf_c_message_unpack(kind, &allocator, n, data);
    if (*out)
        return ST_OK;
    if (b.failed)
        return fail_within(ST_OOM, "%s", path);
    if (b.exceeded)
        return fail(ST_BAD_DATA, "%s: unpacking needs more than %" PRIu64 " bytes for a file of %zu", path,
                    total, file);
    return fail(ST_BAD_DATA, "%s: not a valid %s", path, kind->short_name);
}

void unpack_free(ProtobufCMessage *m)
{
    budget b = {0, false, false};
    ProtobufCAllocator allocator = {budget_alloc, budget_free, &b};
    if (m)
        protobuf_c_message_free_unpacked(m, &allocator);
}
