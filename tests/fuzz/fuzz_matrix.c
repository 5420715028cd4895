/* fuzz_matrix.c - libFuzzer target: matrix.json, whose cells are also what the store keeps and what other machines send back; what
 * is read is written and read again. */
#include "base/io.h"
#include "matrix/matrix.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size)
        abort();
    fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    matrix m;
    snprintf(path, sizeof path, "/dev/shm/fuzz_matrix_%d.json", (int)getpid());
    put(path, data, size);
    status st = matrix_read(path, &m);
    if (st != ST_OK && st != ST_BAD_DATA)
        abort();
    if (st == ST_OK) {
        text t = {0};
        matrix again;
        matrix_put(&t, &m, true);
        if (t.st == ST_OK)
            put(path, t.s, t.n);
        if (t.st != ST_OK || matrix_read(path, &again) != ST_OK)
            abort(); /* what we write, we read */
        matrix_free(&again);
        text_free(&t);
    }
    matrix_free(&m);
    unlink(path);
    return 0;
}
