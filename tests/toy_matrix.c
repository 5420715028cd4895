/* toy_matrix.c - a made-up matrix. */
#include "toy_matrix.h"
#include "base/io.h"
#include "deploy/report.h"
#include "harness.h"

#include <math.h>
#include <stdio.h>

typedef struct row {
    const char *key, *title, *engine, *version, *isa;
    double slow;   /* against ONNX Runtime */
    bool emulated; /* a fixed set of 500 samples, no teacher */
    bool absent;
} row;

static const row rows[] = {
    {"own", "our executor", "distill", "0.1.0", "avx512_vnni", 1.3},
    {"ort", "ONNX Runtime CPU", "ONNX Runtime", "1.31.1", "avx512_vnni", 1},
    {"ort-basic", "ONNX Runtime CPU, basic optimisations", "ONNX Runtime", "1.31.1", "avx512_vnni", 1.4},
    {"ort-none", "ONNX Runtime CPU, no optimisations", "ONNX Runtime", "1.31.1", "avx512_vnni", 1.9},
    {"ort-old", "ONNX Runtime CPU, two years old", "ONNX Runtime", "1.20.0", "avx512_vnni", 1.1},
    {"ort-haswell", "ONNX Runtime CPU, AVX2 without VNNI (qemu)", "ONNX Runtime", "1.31.1", "avx2", 40, .emulated = true},
    {"ort-nehalem", "ONNX Runtime CPU, SSE only (qemu)", "ONNX Runtime", "1.31.1", "sse4.2", 55, .emulated = true},
    {"ort-a76", "ONNX Runtime CPU, ARM Cortex-A76 (qemu)", "ONNX Runtime", "1.31.1", "neon", 60, .emulated = true},
    {"openvino", "OpenVINO CPU", "OpenVINO", "2026.4", "avx512_vnni", 1.2},
    {"ort-web-wasm", "ONNX Runtime Web, wasm", "ONNX Runtime Web", "1.31.0", "wasm", 6},
    {"ort-web-jsep", "ONNX Runtime Web, WebGPU (JSEP)", "ONNX Runtime Web", "1.31.0", "swiftshader", 90, .emulated = true},
    {"ort-web-webgl", "ONNX Runtime Web, WebGL", "ONNX Runtime Web", "1.31.0", "swiftshader", 120, .emulated = true},
    {"litert-xnnpack", "LiteRT, XNNPACK", "LiteRT", "2.1.6", "avx512", 0.9},
    {"litert-reference", "LiteRT, reference kernels", "LiteRT", "2.1.6", "x86-64", 25},
    {"tflm", "TFLite-Micro", "TFLite-Micro", "0.dev2026", "x86-64", 30, .emulated = true},
    {"opencv", "OpenCV DNN", "OpenCV", "4.13.0", "avx512", 2},
    {"ncnn", "ncnn", "ncnn", "1.0.20260526", "avx512", 1.6},
    {"tract", "tract", "tract", "0.22.0", "avx2", 2.2},
    {"onnx-reference", "onnx.reference (numpy)", "onnx", "1.21.0", "x86-64", 300, .emulated = true},
    {"ort-cuda", "ONNX Runtime CUDA", .absent = true},
    {"tensorrt", "TensorRT", .absent = true},
    {"directml", "DirectML", .absent = true},
    {"coreml-mlpackage", "CoreML .mlpackage", .absent = true},
    {"qnn", "Qualcomm QNN", .absent = true},
    {"nnapi", "Android NNAPI", .absent = true},
};
#define N_ROWS (sizeof rows / sizeof *rows)

typedef struct column {
    const char *key, *model;
    double accuracy, kib, ms;
    size_t disagree;
    bool portable;
} column;

static const column columns[] = {
    {"fp32", "student", 0.9005, 312, 0.121, 0},
    {"fp16", "student", 0.9006, 158, 0.134, 3},
    {"bf16", "student", 0.8998, 158, 0.129, 21},
    {"int8-ptq", "student", 0.8961, 97, 0.083, 214},
    {"int8-qat", "student", 0.9002, 97, 0.084, 168},
    {"portable", "student", 0.8987, 94, 0.091, 201, true},
    {"portable-s8", "student", 0.8984, 94, 0.092, 207, true},
    {"teacher-fp32", "teacher", 0.9391, 10890, 4.61, 0},
    {"teacher-fp16", "teacher", 0.9391, 5450, 4.83, 2},
    {"teacher-int8-ptq", "teacher", 0.9364, 2790, 2.31, 118},
    {"teacher-portable", "teacher", 0.9349, 2780, 2.4, 139, true},
    {"teacher-bf16", "teacher", 0.9388, 5450, 4.7, 12},
};
#define N_COLUMNS (sizeof columns / sizeof *columns)

/* Of the toy's quirks: which cell goes wrong, how. */
static cell_state quirk(const row *r, const column *c, const char **reason)
{
    bool eight = strstr(c->key, "int8") != NULL, half = strstr(c->key, "16") != NULL, teacher = strcmp(c->model, "teacher") == 0;
    *reason = NULL;
    if (r->absent)
        *reason = "it needs a device that this machine has not: distill matrix pack";
    if (r->absent || (teacher && r->emulated))
        return CELL_NOT_RUN;
    if (strcmp(r->key, "ort-haswell") == 0 && (eight || c->portable)) {
        *reason = "8-bit products saturate on AVX2 without VNNI: 71 of 500 samples are of another class than in our executor";
        return CELL_DIFFERS;
    }
    if (strcmp(r->key, "ort-web-jsep") == 0 && (eight || c->portable)) {
        *reason = "largest error 41.2, tolerance 0.05; the runtime reported no error";
        return CELL_DIFFERS;
    }
    if (strcmp(r->key, "ort-web-webgl") == 0 && half) {
        *reason = "ended by signal 11 (segmentation fault)";
        return CELL_CRASH;
    }
    if (strcmp(r->key, "onnx-reference") == 0 && c->portable) {
        *reason = "no answer in 60 s";
        return CELL_TIMEOUT;
    }
    if ((strncmp(r->key, "litert", 6) == 0 || strcmp(r->key, "tflm") == 0) && half) {
        *reason = "there is no file in a form that it reads";
        return CELL_UNSUPPORTED;
    }
    if (strcmp(r->key, "ort-web-webgl") == 0 && (eight || c->portable)) {
        *reason = "cannot resolve operator 'QuantizeLinear' with opsets: ai.onnx v17";
        return CELL_UNSUPPORTED;
    }
    return CELL_OK;
}

static void fill(matrix *m, matrix_cell *x, const row *r, const column *c, const char *word)
{
    double *share, *ms;
    *x = matrix_cell_empty();
    x->runtime = word ? word : r->key;
    x->variant = word ? word : c->key;
    x->state = quirk(r, c, &x->reason);
    x->emulated = r->emulated;
    if (x->reason && word)
        x->reason = word;
    if (x->state == CELL_NOT_RUN)
        return;
    x->engine = word ? word : r->engine;
    x->version = word ? word : r->version;
    x->build = word ? word : "sha256 9f2c61aa0d3e";
    x->device = word ? word : "AMD EPYC 9B45";
    x->isa = word ? word : r->isa;
    x->providers = word ? word : "CPUExecutionProvider 23";
    x->notes = word;
    x->host = word ? word : "here";
    x->log = x->state == CELL_OK ? NULL : "matrix/log.txt";
    x->key = "5d41402abc4b2a76b9719d911017c592ae1b2c3d4e5f60718293a4b5c6d7e8f9";
    x->when = 1795000000;
    x->bytes = (int64_t)(c->kib * 1024);
    x->seconds = 0.4 * r->slow;
    if (x->state != CELL_OK && x->state != CELL_DIFFERS)
        return;
    bool wrong = x->state == CELL_DIFFERS, exact = c->portable || strcmp(r->key, "own") == 0;
    x->images = x->labelled = r->emulated ? 500 : 10000;
    x->accuracy = wrong ? 0.76 : c->accuracy + (r->emulated ? 0.004 : 0);
    x->correct = (size_t)(x->accuracy * (double)x->images);
    x->accuracy_low = x->accuracy - 0.006;
    x->accuracy_high = x->accuracy + 0.006;
    OK(arena_alloc(&m->mem, &share, TOY_CLASSES, sizeof *share));
    for (size_t i = 0; i < TOY_CLASSES; i++)
        share[i] = fmin(1, x->accuracy + (i == 6 ? -0.2 : 0.03) - 0.01 * (double)i);
    x->class_accuracy = share;
    x->classes = TOY_CLASSES;
    x->worst_class = 6;
    x->worst_class_accuracy = share[6];
    x->disagree = wrong ? 88 : r->emulated ? c->disagree / 20 : c->disagree;
    x->flips = wrong ? 71 : exact || c->disagree < 100 ? 0 : 4;
    x->max_error = wrong ? 41.2 : exact ? 0 : c->disagree ? 0.031 : 1.9e-6;
    x->mean_error = x->max_error / 30;
    x->p99_error = x->max_error / 3;
    x->tolerance = c->portable ? 0 : c->disagree ? 0.05 : 1e-5;
    if (exact)
        x->histogram[0] = (uint32_t)(10 * x->images);
    else
        for (int i = 0; i < CELL_HISTOGRAM; i++)
            x->histogram[i] = (uint32_t)(10 * (double)x->images * exp(-0.5 * pow(i - (wrong ? 9 : 3), 2)));
    x->n_worst = 5;
    for (size_t i = 0; i < x->n_worst; i++) {
        x->worst[i].sample = (i * 37 + 11) % 60;
        x->worst[i].error = x->max_error / (double)(i + 1);
    }
    if (c->portable)
        x->output_hash = wrong ? "00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff"
                               : "1b4f0e9851971998e732078544c96b36c3d01cedf7caa332359d6f1d83567014";
    x->p50_ms = c->ms * r->slow;
    x->p90_ms = 1.1 * x->p50_ms;
    x->p99_ms = 1.7 * x->p50_ms;
    x->n_latency = 100;
    OK(arena_alloc(&m->mem, &ms, x->n_latency, sizeof *ms));
    for (size_t i = 0; i < x->n_latency; i++)
        ms[i] = x->p50_ms * (1 + 0.002 * (double)((i * 61) % 100) + (i == 40 ? 0.6 : 0));
    x->latency_ms = ms;
    x->throughput = 900 / x->p50_ms;
    x->load_ms = 12.5;
    x->peak_mb = 60 + 2 * c->kib / 1024;
}

void toy_matrix(matrix *m, size_t n_rows, size_t n_columns, const char *word)
{
    ck_assert_uint_le(n_rows, N_ROWS);
    ck_assert_uint_le(n_columns, N_COLUMNS);
    *m = (matrix){.run = word ? word : "fashion-600",
                  .set = word ? word : "data/fashion-mnist test",
                  .version = word ? word : "0.1.0",
                  .system = word ? word : "Linux 6.12",
                  .cpu = word ? word : "AMD EPYC 9B45",
                  .cores = 2,
                  .memory = (int64_t)8 << 30,
                  .samples = 10000,
                  .seconds = 743,
                  .n_rows = n_rows,
                  .n_columns = n_columns};
    OK(arena_alloc(&m->mem, &m->rows, n_rows, sizeof *m->rows));
    OK(arena_alloc(&m->mem, &m->columns, n_columns, sizeof *m->columns));
    OK(arena_alloc(&m->mem, &m->cells, n_rows * n_columns, sizeof *m->cells));
    for (size_t k = 0; k < n_columns; k++) {
        const column *c = &columns[k];
        matrix_file *file;
        OK(arena_alloc(&m->mem, &file, 2, sizeof *file));
        file[0] = (matrix_file){"onnx", word ? word : "export/student.onnx", word ? word : "ab12", (int64_t)(c->kib * 1024)};
        file[1] = (matrix_file){"tflite", word ? word : "export/student.tflite", word ? word : "cd34", (int64_t)(c->kib * 1000)};
        m->columns[k] = (matrix_column){word ? word : c->key, c->model, file, 2, c->portable};
    }
    for (size_t r = 0; r < n_rows; r++) {
        const row *x = &rows[r];
        m->rows[r] = (matrix_row){word ? word : x->key, word ? word : x->title,
                                  x->absent ? (word ? word : "it needs a device that this machine has not: distill matrix pack") : NULL,
                                  !x->absent, x->emulated};
        for (size_t k = 0; k < n_columns; k++)
            fill(m, matrix_at(m, r, k), x, &columns[k], word);
    }
}

void toy_gate(const matrix *m, size_t failing, const char *word, gate_result *g)
{
    static const char *const rule[] = {"top1 >= 0.89", "disagree <= 0.001 on ort", "p90_ms <= 12", "size_mb <= 1"};
    size_t n = 0, cells = m->n_rows * m->n_columns;
    *g = (gate_result){.held = failing == 0};
    OK(arena_alloc(&g->mem, &g->margins, 4 * cells + 1, sizeof *g->margins));
    for (size_t at = 0; at < 4 * cells; at++) { /* rule by rule */
        const size_t k = at / cells;
        const matrix_cell *c = &m->cells[at % cells];
        if (c->state != CELL_OK && c->state != CELL_DIFFERS)
            continue;
        const double value[] = {c->accuracy, (double)c->disagree / (double)c->images, c->p90_ms, (double)c->bytes / 1e6};
        const double limit[] = {0.89, 0.001, 12, 1};
        double margin = k == 0 ? value[k] - limit[k] : limit[k] - value[k];
        bool held = margin >= 0 || k >= failing;
        g->margins[n++] = (gate_margin){word ? word : rule[k], c->runtime, c->variant, value[k], limit[k], margin, held, word};
    }
    g->margins[n++] = (gate_margin){word ? word : "spread <= 0.003", NULL, NULL, 0.0021, 0.003, 0.0009, true, word};
    g->n = n;
}

void toy_decision(const char *word, decision *d)
{
    static const char *because[2], *change[2];
    static device_choice choices[2];
    because[0] = word ? word : "7 target platforms, 2 of them unknown: quantising for each costs 21 validation runs a model update";
    because[1] = word ? word : "portable INT8 has one hash in 11 of 12 rows that ran it, and loses 0.18 points against fp32";
    change[0] = word ? word : "fewer than 5 platforms: measure both, the cost of validation decides";
    change[1] = word ? word : "a memory budget below 96 KiB";
    choices[0] = (device_choice){word ? word : "phone", word ? word : "litert-xnnpack", word ? word : "portable", word ? word : "fits 1 MB, 0.08 ms of 12"};
    choices[1] = (device_choice){word ? word : "mcu", word ? word : "tflm", NULL, word ? word : "flash of 64 KiB is less than the smallest variant, 94 KiB"};
    static decision_cost costs[2];
    static decision_way ways[2];
    costs[0] = (decision_cost){word ? word : "litert-xnnpack", word ? word : "portable", 1, 0.4, 96256};
    costs[1] = (decision_cost){word ? word : "coreml-mlpackage", word ? word : "portable", 0, (double)NAN, -1};
    ways[0] = (decision_way){word ? word : "distilled float", 1, 19, 4.2, 319488};
    ways[1] = (decision_way){word ? word : "portable INT8", 1, 1, 0.4, 96256};
    *d = (decision){.costs = costs, .n_costs = 2, .ways = ways, .n_ways = 2, .rule = word ? word : "five and more platforms, or unknown ones",
                    .variant = word ? word : "portable",
                    .summary = word ? word : "Ship the distilled student in portable INT8: bit-identical where it ran, 94 KiB, 89.87 % against 90.05 % in float.",
                    .because = because,
                    .n_because = 2,
                    .would_change = change,
                    .n_would_change = 2,
                    .choices = choices,
                    .n_choices = 2};
}

void toy_run(const char *dir, const char *word)
{
    enum { PICTURES = 60, SIDE = 28 };
    static const char *const names[TOY_CLASSES] = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                                                   "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"};
    const char *log = word ? word : "qemu: loading /lib/libonnxruntime.so\nonnxruntime: Conv_3: falling back to u8s8\nSegmentation fault\n";
    run_info r = {.name = word ? word : "fashion-600", .status = "done", .version = "0.1.0", .steps = 20, .steps_done = 20, .epochs = 1,
                  .seconds = 12, .student = {.name = "resnet8", .parameters = 78000, .macs = 3.1e6, .bytes = 319488}};
    float logits[PICTURES * TOY_CLASSES];
    int32_t labels[PICTURES];
    validation v = {.set = word ? word : "data/fashion-mnist test", .samples = PICTURES, .classes = TOY_CLASSES};
    OK(arena_alloc(&v.mem, &v.class_names, TOY_CLASSES, sizeof *v.class_names));
    for (int i = 0; i < TOY_CLASSES; i++)
        v.class_names[i] = word ? word : names[i];
    for (int i = 0; i < PICTURES * TOY_CLASSES; i++)
        logits[i] = (float)(i % 7);
    for (int i = 0; i < PICTURES; i++)
        labels[i] = i % TOY_CLASSES;
    OK(score_logits(logits, labels, PICTURES, TOY_CLASSES, &v.student));
    OK(arena_alloc(&v.mem, &v.farthest, PICTURES, sizeof *v.farthest));
    v.n_farthest = PICTURES;
    for (int i = 0; i < PICTURES; i++) {
        uint8_t pixels[SIDE * SIDE];
        for (int k = 0; k < SIDE * SIDE; k++)
            pixels[k] = (uint8_t)(k % SIDE > 4 + i % 5 && k % SIDE < 22 - i % 3 && k / SIDE > 3 ? 90 + (k * (i + 3)) % 150 : 0);
        v.farthest[i] = (far_sample){.sample = (size_t)i};
        OK(thumbnail_from_bytes(&v.mem, pixels, SIDE, SIDE, 1, SIDE, &v.farthest[i].image));
    }
    OK(run_info_write(test_path(dir, "run.json"), &r));
    OK(validation_write(test_path(dir, "validation.json"), &v));
    OK(io_make_dirs(test_path(dir, "matrix")));
    OK(io_write_file(test_path(dir, "matrix/log.txt"), log, strlen(log)));
    validation_free(&v);
}

const char *toy_hostile_word(size_t i)
{
    static char endless[701], wide[601], accents[601], bytes[301], words[1001];
    static const char *const all[] = {endless, wide, accents, bytes, words, "\033[31mred\033[0m\033]0;title\007", "a\nb\tc\r\vd", "", " ", "<b>|`"};
    memset(endless, 'w', sizeof endless - 1);
    for (size_t k = 0; k < 200; k++)
        memcpy(wide + 3 * k, "\u6f22", 3);
    for (size_t k = 0; k < 300; k++)
        memcpy(accents + 2 * k, "\u00e4", 2);
    memset(bytes, 0xC3, sizeof bytes - 1);
    for (size_t k = 0; k + 1 < sizeof words; k++)
        words[k] = k % 37 == 36 ? ' ' : 'v';
    return i < sizeof all / sizeof *all ? all[i] : NULL;
}
