/* fuzz_idx.c - libFuzzer target: idx files, gzip or not. */
#include "base/mem.h"
#include "data/gzip.h"
#include "data/idx.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    limits lim = limits_default();
    unsigned char *bytes;
    size_t n = size;
    tensor t;
    lim.data_file = 1 << 22;
    if (gzip_is(data, size)) {
        if (gzip_inflate("fuzz.gz", data, size, &lim, &bytes, &n) != ST_OK)
            return 0;
    } else {
        if (mem_alloc(&bytes, size, 1) != ST_OK)
            return 0;
        if (size)
            memcpy(bytes, data, size);
    }
    status st = idx_parse("fuzz.idx", bytes, n, &lim, &t);
    if (st == ST_OK ? !idx_is(data, size) && !gzip_is(data, size) : st != ST_BAD_DATA)
        abort();
    tensor_free(&t);
    return 0;
}
