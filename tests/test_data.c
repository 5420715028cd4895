/* test_data.c - data sets, the order of samples, augmentation and the loader, on the real Fashion-MNIST. */
#include "base/hash.h"
#include "base/mem.h"
#include "data/loader.h"
#include "data/npy.h"
#include "data_files.h"
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FASHION SOURCE_DIR "/data/fashion-mnist"

static data_options fashion_options(void)
{
    data_options o = data_options_default();
    o.path = FASHION;
    o.n_mean = o.n_std = 1;
    o.mean[0] = 0.2860f;
    o.std[0] = 0.3530f;
    return o;
}

static dataset *open_fashion(const char *augment)
{
    dataset *ds;
    data_options o = fashion_options();
    OK(augment_parse(augment, &o.augment));
    OK(dataset_open(&o, &ds));
    return ds;
}

/* A number that any difference in a batch changes. */
static uint64_t batch_digest(const dataset *ds, const batch *b)
{
    const data_info *info = dataset_info(ds);
    uint64_t h = b->step * 31 + b->n;
    for (uint32_t k = 0; k < info->n_inputs; k++)
        h = h * 0x9E3779B97F4A7C15u + hash_xxh3(b->x[k], b->n * (size_t)shape_count(&info->input[k].sh) *
                                                             dtype_of(info->input[k].type)->size);
    h = h * 0x9E3779B97F4A7C15u + hash_xxh3(b->label, b->n * sizeof *b->label);
    h = h * 0x9E3779B97F4A7C15u + hash_xxh3(b->index, b->n * sizeof *b->index);
    h = h * 0x9E3779B97F4A7C15u + hash_xxh3(b->view, b->n * sizeof *b->view);
    if (b->lambda)
        h = h * 0x9E3779B97F4A7C15u + hash_xxh3(b->lambda, b->n * sizeof *b->lambda) +
            hash_xxh3(b->label2, b->n * sizeof *b->label2);
    return h;
}

START_TEST(fashion_is_what_is_published)
{
    static const struct {
        const char *file, *sha;
    } files[] = {
        {"train-images-idx3-ubyte.gz", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"},
        {"train-labels-idx1-ubyte.gz", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"},
        {"t10k-images-idx3-ubyte.gz", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"},
        {"t10k-labels-idx1-ubyte.gz", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"},
    };
    static const int64_t labels[16] = {9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9, 5, 5, 7, 9};
    static const uint8_t row3[28] = {[12] = 1, [15] = 13, [16] = 73, [19] = 1, [20] = 4, [25] = 1, [26] = 1};
    for (size_t i = 0; i < 4; i++) {
        char sha[65];
        OK(hash_sha256_file(test_path(FASHION, files[i].file), sha));
        ck_assert_str_eq(sha, files[i].sha);
    }
    dataset *ds = open_fashion("");
    const data_info *info = dataset_info(ds);
    ck_assert_str_eq(info->kind, "idx");
    ck_assert_int_eq(info->classes, 10);
    ck_assert_uint_eq(info->part[DATA_TRAIN].n, 60000);
    ck_assert_uint_eq(info->part[DATA_VAL].n, 10000);
    ck_assert_uint_eq(info->part[DATA_TRAIN].labelled, 60000);
    for (int k = 0; k < 10; k++) {
        ck_assert_uint_eq(info->part[DATA_TRAIN].histogram[k], 6000);
        ck_assert_uint_eq(info->part[DATA_VAL].histogram[k], 1000);
    }
    for (uint32_t i = 0; i < 16; i++)
        ck_assert_int_eq(dataset_label(ds, DATA_TRAIN, i), labels[i]);
    static const struct {
        data_part part;
        uint32_t i;
        unsigned sum;
    } sums[] = {{DATA_TRAIN, 0, 76247}, {DATA_TRAIN, 59999, 16684}, {DATA_VAL, 0, 33456}};
    image im = {0};
    for (size_t k = 0; k < 3; k++) {
        unsigned sum = 0;
        OK(dataset_pixels(ds, sums[k].part, sums[k].i, &im));
        ck_assert(im.height == 28 && im.width == 28 && im.channels == 1);
        for (int i = 0; i < 784; i++)
            sum += im.px[i];
        ck_assert_uint_eq(sum, sums[k].sum);
        if (k == 0)
            ck_assert_mem_eq(im.px + 3 * 28, row3, 28);
    }
    image_free(&im);
    ck_assert(info->known && strcmp(info->known, "Fashion-MNIST") == 0);
    ck_assert_uint_ge(dataset_bytes(ds), 70000 * 784);
    ck_assert_uint_lt(dataset_bytes(ds), 70000 * 810);
    dataset_close(ds);
}
END_TEST

/* The values of the normalised pixels 0, 1, 2, 100, 127, 254, 255 in PyTorch and NumPy, bit for bit, and the
 * teacher's published input. */
START_TEST(normalisation_is_pytorchs_bit_for_bit)
{
    static const uint32_t bits[7][2] = {{0, 0xbf4f6929},   {1, 0xbf4c911b},   {2, 0xbf49b90c},
                                        {100, 0x3e99f8f9}, {127, 0x3f19c603}, {254, 0x4000bd4c},
                                        {255, 0x4001734f}};
    dataset *ds = open_fashion("");
    loader *l;
    const batch *b;
    loader_options o = loader_eval_options(DATA_VAL, 16);
    image im = {0};
    tensor want;
    limits lim = limits_default();
    int seen = 0;
    OK(loader_open(ds, &o, &l));
    OK(loader_next(l, &b));
    OK(npy_read(SOURCE_DIR "/data/fashion-teacher/test_input.npy", &lim, &want));
    ck_assert_uint_eq(tensor_bytes(&want), 16 * 784 * sizeof(float));
    ck_assert_mem_eq(b->x[0], want.data, tensor_bytes(&want));
    tensor_free(&want);
    for (uint32_t i = 0; i < 16; i++) {
        OK(dataset_pixels(ds, DATA_VAL, i, &im));
        for (int k = 0; k < 784; k++)
            for (int v = 0; v < 7; v++)
                if (im.px[k] == bits[v][0]) {
                    ck_assert_mem_eq((const float *)b->x[0] + i * 784 + (uint32_t)k, &bits[v][1], 4);
                    seen |= 1 << v;
                }
    }
    ck_assert_int_eq(seen & 0x41, 0x41); /* at least black and white were there */
    image_free(&im);
    loader_close(l);
    dataset_close(ds);
}
END_TEST

static void digests(dataset *ds, loader_options o, uint32_t threads, uint64_t *out, int n)
{
    loader *l;
    const batch *b;
    o.threads = threads;
    OK(loader_open(ds, &o, &l));
    for (int k = 0; k < n; k++) {
        OK(loader_next(l, &b));
        ck_assert_ptr_nonnull(b);
        ck_assert_uint_eq(b->step, (uint64_t)k);
        out[k] = batch_digest(ds, b);
    }
    loader_close(l);
}

START_TEST(batches_do_not_depend_on_threads)
{
    enum { N = 60 };
    static const uint32_t threads[] = {0, 2, 7};
    uint64_t want[N], got[N];
    dataset *ds = open_fashion("crop:2 flip cutout:6 jitter:0.2:0.2 mixup:0.4");
    loader_options o = loader_train_options(64, 5);
    digests(ds, o, 1, want, N);
    for (size_t t = 0; t < 3; t++) {
        digests(ds, o, threads[t], got, N);
        ck_assert_mem_eq(got, want, sizeof want);
    }
    o.seed = 6;
    digests(ds, o, 1, got, N);
    for (int k = 0; k < N; k++)
        ck_assert_uint_ne(got[k], want[k]);
    dataset_close(ds);
}
END_TEST

START_TEST(seek_equals_reading_on)
{
    enum { N = 30 };
    static const int order[] = {29, 3, 3, 17, 0, 1, 2, 28, 11};
    uint64_t want[N];
    data_options d = fashion_options();
    dataset *ds;
    loader *l;
    const batch *b;
    d.samples = "0:500"; /* batches span passes */
    d.val_ratio = 0;
    OK(augment_parse("crop:2 flip", &d.augment));
    OK(dataset_open(&d, &ds));
    loader_options o = loader_train_options(128, 9);
    o.tail = TAIL_CARRY;
    o.threads = 2;
    digests(ds, o, 2, want, N);
    OK(loader_open(ds, &o, &l));
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        loader_seek(l, (uint64_t)order[i]);
        for (int k = order[i]; k < order[i] + 3 && k < N; k++) {
            OK(loader_next(l, &b));
            ck_assert_uint_eq(b->step, (uint64_t)k);
            ck_assert_uint_eq(batch_digest(ds, b), want[k]);
        }
    }
    loader_seek(l, 123456789); /* no replay: at once */
    OK(loader_next(l, &b));
    ck_assert_uint_eq(b->step, 123456789);
    loader_close(l);
    dataset_close(ds);
}
END_TEST

/* x[pass][sample] of two samples: where the views repeat, the pixels do. */
START_TEST(views_come_again)
{
    data_options d = fashion_options();
    dataset *ds;
    uint64_t seen[7][64];
    d.samples = "100:164";
    d.val_ratio = 0;
    OK(augment_parse("crop:2 flip", &d.augment));
    OK(dataset_open(&d, &ds));
    for (uint32_t views = 0; views <= 3; views++) {
        loader *l;
        const batch *b;
        loader_options o = loader_train_options(64, 3);
        o.views = views;
        OK(loader_open(ds, &o, &l));
        for (int pass = 0; pass < 7; pass++) {
            OK(loader_next(l, &b));
            for (uint32_t j = 0; j < 64; j++) {
                seen[pass][b->index[j]] = hash_xxh3((const float *)b->x[0] + j * 784, 784 * 4);
                ck_assert_uint_eq(b->view[j], (uint32_t)pass % (views ? views : 1000));
                ck_assert_int_eq(b->label[j], dataset_label(ds, DATA_TRAIN, b->index[j]));
            }
        }
        int repeats = 0;
        for (int p = 0; p < 7; p++)
            for (int q = 0; q < p; q++)
                for (uint32_t i = 0; i < 64; i++) {
                    bool same = seen[p][i] == seen[q][i];
                    if (views && p % (int)views == q % (int)views)
                        ck_assert(same);
                    else
                        repeats += same; /* 50 views are possible, so some come again by chance */
                }
        ck_assert_int_lt(repeats, 21 * 64 / 10);
        loader_close(l);
    }
    dataset_close(ds);
}
END_TEST

START_TEST(a_pass_is_a_permutation)
{
    dataset *ds = open_fashion("");
    loader *l;
    const batch *b;
    loader_options o = loader_train_options(128, 1);
    uint8_t *seen = calloc(60000, 2);
    int moved = 0;
    OK(loader_open(ds, &o, &l));
    ck_assert(loader_drops_tail(l));
    ck_assert_uint_eq(loader_pass_steps(l), 468); /* PyTorch's drop_last: floor(60000 / 128) */
    for (int k = 0; k < 936; k++) {
        OK(loader_next(l, &b));
        ck_assert_uint_eq(b->n, 128);
        for (uint32_t j = 0; j < b->n; j++) {
            ck_assert_uint_eq(b->view[j], (uint32_t)k / 468);
            ck_assert_uint_eq(seen[(k / 468) * 60000 + (int)b->index[j]]++, 0);
            moved += b->index[j] != (uint32_t)(k % 468 * 128) + j;
        }
    }
    ck_assert_int_gt(moved, 936 * 128 - 20);
    int left[2] = {0}, both = 0;
    for (int i = 0; i < 60000; i++) {
        left[0] += !seen[i];
        left[1] += !seen[60000 + i];
        both += !seen[i] && !seen[60000 + i];
    }
    ck_assert(left[0] == 96 && left[1] == 96 && both < 5); /* others are left out in each pass */
    loader_close(l);
    free(seen);
    dataset_close(ds);
}
END_TEST

START_TEST(the_tail_is_carried_when_an_epoch_is_longer_than_a_pass)
{
    data_options d = fashion_options();
    dataset *ds;
    loader *l;
    const batch *b;
    d.labelled = "0:600";
    d.labelled_only = true;
    OK(dataset_open(&d, &ds));
    ck_assert_uint_eq(dataset_info(ds)->part[DATA_TRAIN].n, 600);
    for (uint32_t i = 0; i < 600; i++)
        ck_assert_uint_eq(dataset_source_index(ds, DATA_TRAIN, i), i);
    loader_options o = loader_train_options(128, 1);
    o.steps_per_epoch = 468;
    OK(loader_open(ds, &o, &l));
    ck_assert(!loader_drops_tail(l));
    unsigned count[600] = {0};
    for (int k = 0; k < 468; k++) {
        OK(loader_next(l, &b));
        for (uint32_t j = 0; j < 128; j++) {
            ck_assert_uint_eq(b->view[j], ((uint32_t)k * 128 + j) / 600);
            count[b->index[j]]++;
        }
    }
    for (int i = 0; i < 600; i++) /* 468 * 128 / 600 = 99.84 */
        ck_assert(count[i] == 99 || count[i] == 100);
    loader_close(l);
    o.steps_per_epoch = 4; /* fits into a pass */
    OK(loader_open(ds, &o, &l));
    ck_assert(loader_drops_tail(l));
    loader_close(l);
    o.batch = 1000; /* more than there are: a batch spans passes */
    o.tail = TAIL_DROP;
    OK(loader_open(ds, &o, &l));
    ck_assert(!loader_drops_tail(l));
    ck_assert_uint_eq(loader_pass_steps(l), 1);
    OK(loader_next(l, &b));
    ck_assert_uint_eq(b->n, 1000);
    ck_assert_uint_eq(b->view[599], 0);
    ck_assert_uint_eq(b->view[600], 1);
    loader_close(l);
    dataset_close(ds);
}
END_TEST

START_TEST(labels_are_used_where_asked)
{
    data_options d = fashion_options();
    dataset *ds;
    d.labelled = "10:20, 59999";
    d.samples = "5:60000";
    OK(dataset_open(&d, &ds));
    const data_info *info = dataset_info(ds);
    ck_assert_uint_eq(info->part[DATA_TRAIN].n, 59995);
    ck_assert_uint_eq(info->part[DATA_TRAIN].labelled, 11);
    ck_assert_uint_eq(info->part[DATA_VAL].labelled, 10000);
    for (uint32_t i = 0; i < info->part[DATA_TRAIN].n; i++) {
        uint32_t row = dataset_source_index(ds, DATA_TRAIN, i);
        ck_assert_uint_eq(row, i + 5);
        ck_assert_int_eq(dataset_label(ds, DATA_TRAIN, i) >= 0, (row >= 10 && row < 20) || row == 59999);
    }
    dataset_close(ds);
}
END_TEST

START_TEST(validation_reads_all_in_order)
{
    dataset *ds = open_fashion("crop:2 flip");
    for (uint32_t threads = 0; threads <= 3; threads++) {
        loader *l;
        const batch *b;
        loader_options o = loader_eval_options(DATA_VAL, 300);
        o.threads = threads;
        OK(loader_open(ds, &o, &l));
        ck_assert_uint_eq(loader_pass_steps(l), 34);
        for (int twice = 0; twice < 2; twice++) {
            uint32_t at = 0;
            for (;;) {
                OK(loader_next(l, &b));
                if (!b)
                    break;
                ck_assert_uint_eq(b->n, at < 9900 ? 300 : 100);
                for (uint32_t j = 0; j < b->n; j++, at++) {
                    ck_assert_uint_eq(b->index[j], at);
                    ck_assert_int_eq(b->label[j], dataset_label(ds, DATA_VAL, at));
                    ck_assert_double_eq((double)b->weight[j], 1);
                }
            }
            ck_assert_uint_eq(at, 10000);
            OK(loader_next(l, &b)); /* stays at the end */
            ck_assert_ptr_null(b);
            loader_seek(l, 0);
        }
        loader_close(l);
    }
    dataset_close(ds);
}
END_TEST

START_TEST(split_is_disjoint_and_repeatable)
{
    text x = {0}, y = {0};
    const char *dir = test_tmp_dir();
    uint8_t px[1000], label[1000];
    for (int i = 0; i < 1000; i++) {
        px[i] = (uint8_t)i;
        label[i] = (uint8_t)(i % 7);
    }
    bytes_idx(&x, 8, 3, (uint32_t[]){1000, 1, 1}, px, 1000);
    bytes_idx(&y, 8, 1, (uint32_t[]){1000}, label, 1000);
    bytes_save(&x, dir, "train-images-idx3-ubyte");
    bytes_save(&y, dir, "train-labels-idx1-ubyte");
    uint32_t first[250];
    for (int round = 0; round < 3; round++) {
        data_options d = data_options_default();
        dataset *ds;
        uint8_t seen[1000] = {0};
        int same = 0;
        d.path = dir;
        d.val_ratio = 0.25;
        d.split_seed = round == 2 ? 8 : 7;
        d.labelled = "0:500"; /* training labels only: validation keeps all of its own */
        OK(dataset_open(&d, &ds));
        const data_info *info = dataset_info(ds);
        ck_assert(info->split && info->part[DATA_VAL].n == 250 && info->part[DATA_TRAIN].n == 750);
        ck_assert_uint_eq(info->part[DATA_VAL].labelled, 250);
        ck_assert(info->part[DATA_TRAIN].labelled > 300 && info->part[DATA_TRAIN].labelled < 450);
        for (int p = 0; p < 2; p++)
            for (uint32_t i = 0; i < info->part[p].n; i++) {
                uint32_t row = dataset_source_index(ds, (data_part)p, i);
                ck_assert_uint_eq(seen[row]++, 0);
                if (i)
                    ck_assert_uint_gt(row, dataset_source_index(ds, (data_part)p, i - 1));
                if (p == DATA_VAL && round == 0)
                    first[i] = row;
                same += p == DATA_VAL && first[i] == row;
            }
        if (round == 1)
            ck_assert_int_eq(same, 250);
        if (round == 2)
            ck_assert_int_lt(same, 100);
        dataset_close(ds);
    }
}
END_TEST

/* The pixels of a cropped and flipped image, from their definition. */
START_TEST(crop_and_flip_move_pixels)
{
    data_options d = fashion_options();
    dataset *ds;
    loader *l;
    const batch *b;
    image im = {0};
    d.samples = "0:512";
    d.val_ratio = 0;
    OK(augment_parse("crop:3 flip cutout:5", &d.augment));
    OK(dataset_open(&d, &ds));
    loader_options o = loader_train_options(512, 77);
    OK(loader_open(ds, &o, &l));
    OK(loader_next(l, &b));
    for (uint32_t j = 0; j < 512; j++) {
        rng r = rng_make(77, RNG_AUGMENT, 0, b->index[j]);
        augment_draw w = augment_make(&d.augment, &r, 28, 28, 28, 28);
        OK(dataset_pixels(ds, DATA_TRAIN, b->index[j], &im));
        for (int y = 0; y < 28; y++)
            for (int x = 0; x < 28; x++) {
                int sy = y + w.dy, sx = (w.flip ? 27 - x : x) + w.dx;
                bool inside = sy >= 0 && sy < 28 && sx >= 0 && sx < 28;
                float want = ((float)(inside ? im.px[sy * 28 + sx] : 0) / 255.0f - 0.2860f) / 0.3530f;
                if (y >= w.cut_y0 && y < w.cut_y1 && x >= w.cut_x0 && x < w.cut_x1)
                    want = 0;
                ck_assert_mem_eq((const float *)b->x[0] + j * 784 + (uint32_t)(y * 28 + x), &want, 4);
            }
    }
    image_free(&im);
    loader_close(l);
    dataset_close(ds);
}
END_TEST

START_TEST(mixup_mixes_two_samples)
{
    data_options d = fashion_options();
    dataset *plain, *mixed;
    loader *l, *m;
    const batch *a, *b;
    d.samples = "0:400";
    d.labelled = "0:200";
    d.val_ratio = 0;
    OK(augment_parse("crop:2", &d.augment));
    OK(dataset_open(&d, &plain));
    OK(augment_parse("crop:2 mixup:0.5", &d.augment));
    OK(dataset_open(&d, &mixed));
    loader_options o = loader_train_options(400, 4);
    o.shuffle = false;
    OK(loader_open(plain, &o, &l));
    OK(loader_open(mixed, &o, &m));
    OK(loader_next(l, &a));
    OK(loader_next(m, &b));
    ck_assert(!a->lambda && !a->label2 && b->lambda && b->label2);
    int self = 0;
    for (uint32_t j = 0; j < 400; j++) {
        rng r = rng_make(4, RNG_MIXUP, 0, j);
        uint32_t other = rng_below(&r, 400);
        self += other == j;
        ck_assert(b->lambda[j] >= 0 && b->lambda[j] <= 1);
        ck_assert_int_eq(b->label[j], dataset_label(mixed, DATA_TRAIN, j));
        ck_assert_int_eq(b->label2[j], dataset_label(mixed, DATA_TRAIN, other));
        for (uint32_t k = 0; k < 784; k++) {
            const float *x = a->x[0];
            float want = b->lambda[j] * x[j * 784 + k] + (1 - b->lambda[j]) * x[other * 784 + k];
            ck_assert_mem_eq((const float *)b->x[0] + j * 784 + k, &want, 4);
        }
    }
    ck_assert_int_lt(self, 10);
    loader_close(l);
    loader_close(m);
    dataset_close(plain);
    dataset_close(mixed);
}
END_TEST

START_TEST(nothing_is_allocated_between_batches)
{
    dataset *ds = open_fashion("crop:2 flip cutout:6 mixup:0.4 jitter:0.1");
    loader *l;
    const batch *b;
    loader_options o = loader_train_options(128, 1);
    o.threads = 2;
    OK(loader_open(ds, &o, &l));
    for (int k = 0; k < 20; k++)
        OK(loader_next(l, &b));
    uint64_t before = mem_count();
    for (int k = 0; k < 600; k++) /* over the end of a pass */
        OK(loader_next(l, &b));
    loader_seek(l, 3);
    OK(loader_next(l, &b));
    ck_assert_uint_eq(mem_count(), before);
    loader_close(l);
    dataset_close(ds);
}
END_TEST

START_TEST(a_batch_is_fast)
{
    dataset *ds = open_fashion("crop:2 flip");
    loader *l;
    const batch *b;
    loader_options o = loader_train_options(128, 1);
    struct timespec t0, t1;
    double best = 1;
    o.threads = 0;
    OK(loader_open(ds, &o, &l));
    for (int k = 0; k < 400; k++) {
        clock_gettime(CLOCK_MONOTONIC, &t0);
        OK(loader_next(l, &b));
        clock_gettime(CLOCK_MONOTONIC, &t1);
        double s = (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec);
        best = s < best ? s : best;
    }
    printf("TIME batch 128x1x28x28 crop flip normalise: %.3f ms\n", best * 1e3);
    ck_assert_double_lt(best, 5e-3); /* a bound for sanitizer builds too */
    loader_close(l);
    dataset_close(ds);
}
END_TEST

const test_entry test_table[] = {
    TEST(fashion_is_what_is_published),
    TEST(normalisation_is_pytorchs_bit_for_bit),
    TEST(batches_do_not_depend_on_threads),
    TEST(seek_equals_reading_on),
    TEST(views_come_again),
    TEST(a_pass_is_a_permutation),
    TEST(the_tail_is_carried_when_an_epoch_is_longer_than_a_pass),
    TEST(labels_are_used_where_asked),
    TEST(validation_reads_all_in_order),
    TEST(split_is_disjoint_and_repeatable),
    TEST(crop_and_flip_move_pixels),
    TEST(mixup_mixes_two_samples),
    TEST(nothing_is_allocated_between_batches),
    TEST(a_batch_is_fast),
    {0},
};
