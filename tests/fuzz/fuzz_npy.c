/* fuzz_npy.c - libFuzzer target: npy and npz.. */
#include "base/mem.h"
#include "data/npy.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const tensor *t)
{
    size_t bytes;
    if (t->type == DTYPE_NONE || shape_bytes(&t->sh, t->type, &bytes) != ST_OK || bytes != tensor_bytes(t))
        abort();
    if (bytes && ((unsigned char *)t->data)[bytes - 1] == 1 && t->sh.rank < 0)
        abort(); /* touches the last byte */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    limits lim = limits_default();
    tensor_list l;
    tensor t;
    unsigned char *bytes;
    lim.data_file = 1 << 22;
    lim.elements = 1 << 22;
    status st = npz_parse("fuzz.npz", data, size, &lim, &l);
    if (st != ST_OK && st != ST_BAD_DATA)
        abort();
    for (size_t i = 0; i < l.n; i++)
        check(&l.at[i]);
    tensor_list_free(&l);
    if (mem_alloc(&bytes, size, 1) != ST_OK)
        return 0;
    if (size)
        memcpy(bytes, data, size);
    st = npy_parse("fuzz.npy", bytes, size, &lim, &t);
    if (st != ST_OK && st != ST_BAD_DATA)
        abort();
    if (st == ST_OK)
        check(&t);
    tensor_free(&t);
    return 0;
}
