/* fuzz_onnx.c - libFuzzer target: the guard, unpacking, import as teacher and as student, export of what came in. */
#include "onnx/export.h"
#include "onnx/import.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Wrong input is the only thing that may go wrong here (and a machine that is too small). */
static void expect(status st)
{
    if (st != ST_OK && st != ST_BAD_DATA && st != ST_OOM)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    limits lim = limits_default();
    onnx_model *m;
    lim.fold_bytes = 1 << 20;
    lim.elements = 1 << 24;
    status st = onnx_open_bytes("fuzz.onnx", data, size, &lim, &m);
    expect(st);
    for (int trainable = 0; trainable < 2 && st == ST_OK; trainable++) {
        graph *g;
        text t = {0};
        status in = onnx_import(m, &(import_options){.batch = trainable ? 2 : 0, .trainable = trainable}, &g);
        expect(in);
        if (in != ST_OK)
            continue;
        if (graph_validate(g) != ST_OK)
            abort();
        expect(onnx_export(g, &(export_options){.opset = 21, .fixed_batch = true}, &t));
        text_free(&t);
        graph_free(g);
    }
    onnx_close(st == ST_OK ? m : NULL);
    return 0;
}
