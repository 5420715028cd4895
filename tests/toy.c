/* toy.c - the toy job's files. */
#include "toy.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/rng.h"
#include "data/npy.h"
#include "harness.h"
#include "onnx/export.h"
#include "student/student.h"
#include "train/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Each class is a bright quarter of the picture; the rest is noise. */
static double pixel(rng *r, int label, int y, int x)
{
    int quarter = (y >= TOY_SIZE / 2) * 2 + (x >= TOY_SIZE / 2);
    return 100 * rng_uniform(r) + (quarter == label ? 90 : 0);
}

static void write_part(const char *dir, const char *part, int n, uint32_t stream, dtype type, int odd, double number)
{
    tensor x, y;
    char name[64];
    rng r = rng_make(5, RNG_TEST, stream, 0);
    shape plane = type == DTYPE_U8 ? SHAPE(n, TOY_SIZE, TOY_SIZE) : SHAPE(n, 1, TOY_SIZE, TOY_SIZE);
    OK(tensor_new(&x, "x", type, plane));
    OK(tensor_new(&y, "y", DTYPE_U8, SHAPE(n)));
    for (int i = 0; i < n; i++) {
        int label = (int)rng_below(&r, TOY_CLASSES);
        tensor_put(&y, i, label);
        for (int k = 0; k < TOY_SIZE * TOY_SIZE; k++) {
            double v = pixel(&r, label, k / TOY_SIZE, k % TOY_SIZE);
            tensor_put(&x, (int64_t)i * TOY_SIZE * TOY_SIZE + k, type == DTYPE_U8 ? floor(v) : v / 255);
        }
    }
    if (odd >= 0)
        tensor_put(&x, (int64_t)odd * TOY_SIZE * TOY_SIZE + 27, number);
    snprintf(name, sizeof name, "data/x_%s.npy", part);
    OK(npy_write(test_path(dir, name), &x));
    snprintf(name, sizeof name, "data/y_%s.npy", part);
    OK(npy_write(test_path(dir, name), &y));
    tensor_free(&x);
    tensor_free(&y);
}

void toy_model(const char *ini, const char *path)
{
    job *j = NULL;
    graph *g = NULL;
    config_override seed = {"train.seed", "7", "--seed"};
    OK(config_load_text("model", ini, strlen(ini), &(config_sources){.flags = &seed, .n_flags = 1}, &j));
    student_spec s = {.job = j, .classes = TOY_CLASSES, .sample = SHAPE(1, TOY_SIZE, TOY_SIZE)};
    OK(student_build(&s, 1, &g));
    g->n_output = 1;
    OK(onnx_export_file(g, &(export_options){0}, path));
    graph_free(g);
    config_free(j);
}

static void make(const char *dir, dtype type, int odd, double number)
{
    char ini[8192];
    OK(io_make_dirs(test_path(dir, "data")));
    write_part(dir, "train", TOY_TRAIN, 1, type, odd, number);
    write_part(dir, "val", TOY_VAL, 2, type, -1, 0);
    toy_model("[student]\narch = cnn\nwidths = 8 16\ndepth = 2\n", test_path(dir, "teacher.onnx"));
    int n = snprintf(ini, sizeof ini,
                     "[data]\ndir = %s/data\nmean = 0.5\nstd = 0.25\n[teacher]\npath = %s/teacher.onnx\n[student]\narch = "
                     "cnn\nwidths = 4 8\ndepth = 2\n[train]\nepochs = 4\nbatch = 16\nlr = 0.05\n[exec]\nthreads = 1\n",
                     dir, dir);
    OK(io_write_file(test_path(dir, "job.ini"), ini, (size_t)n));
}

void toy_make(const char *dir)
{
    make(dir, DTYPE_U8, -1, 0);
}

void toy_make_float(const char *dir, int odd, double number)
{
    make(dir, DTYPE_F32, odd, number);
}

job *toy_job(const char *dir, const char *const *set)
{
    job *j = NULL;
    config_sources from = {.file = test_path(dir, "job.ini"), .set = set};
    while (set && set[from.n_set])
        from.n_set++;
    OK(config_load(&from, &j));
    return j;
}

void toy_restore(store *s, const char *path)
{
    checkpoint c;
    const limits lim = limits_default();
    OK(checkpoint_read(path, &lim, &c));
    OK(checkpoint_restore(&c, s));
    checkpoint_free(&c);
}

uint64_t toy_hash_of(store *s, bool (*counts)(const char *name))
{
    uint64_t h = 0;
    OK(store_pull(s));
    for (size_t i = 0; i < s->n; i++) {
        const tensor *t = &s->at[i].t;
        if (counts && !counts(t->name))
            continue;
        h = h * 0x9E3779B97F4A7C15u + hash_xxh3(t->name, strlen(t->name));
        h = h * 0x9E3779B97F4A7C15u + hash_xxh3(t->data, tensor_bytes(t));
    }
    return h;
}

uint64_t toy_hash(store *s)
{
    return toy_hash_of(s, NULL);
}
