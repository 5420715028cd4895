/* test_sources.c - image folders, manifests, npy and npz as data sets; bad samples and their places. */
#include "base/hash.h"
#include "base/io.h"
#include "base/mem.h"
#include "data/loader.h"
#include "data/npy.h"
#include "data_files.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { W = 12, H = 10 };

/* A PNG of picture(seed) at dir/name. */
static void put_png(const char *dir, const char *name, unsigned seed)
{
    uint8_t px[W * H * 3];
    text t = {0};
    picture(px, W, H, 3, seed);
    bytes_png(&t, W, H, 2, px);
    bytes_save(&t, dir, name);
}

static const char *make_folder(void)
{
    const char *dir = test_tmp_dir();
    char name[64];
    for (unsigned i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "train/%s/%02u.png",
                 i % 3 == 0   ? "Zebra"
                 : i % 3 == 1 ? "ant"
                              : "b\xc3\xa4r",
                 i);
        put_png(dir, name, i);
        snprintf(name, sizeof name, "val/%s/%02u.PNG", i % 2 ? "ant" : "Zebra", i);
        if (i < 10)
            put_png(dir, name, 100 + i);
    }
    save_text(dir, "train/ant/Thumbs.db", "not an image");
    save_text(dir, "train/.DS_Store", "x");
    return dir;
}

START_TEST(folder_of_classes)
{
    const char *dir = make_folder();
    data_options o = data_options_default();
    dataset *ds;
    image im = {0};
    uint8_t px[W * H * 3];
    o.path = dir;
    OK(dataset_open(&o, &ds));
    const data_info *info = dataset_info(ds);
    ck_assert_str_eq(info->kind, "image folder");
    ck_assert_int_eq(info->classes, 3);
    ck_assert_str_eq(info->class_name[0], "Zebra"); /* bytewise */
    ck_assert_str_eq(info->class_name[1], "ant");
    ck_assert_str_eq(info->class_name[2], "b\xc3\xa4r");
    ck_assert(info->part[DATA_TRAIN].n == 30 && info->part[DATA_VAL].n == 10 && !info->split);
    ck_assert(info->part[DATA_VAL].histogram[0] == 5 && info->part[DATA_VAL].histogram[1] == 5 &&
              info->part[DATA_VAL].histogram[2] == 0);
    ck_assert(info->image && info->input[0].sh.dim[0] == 3 && info->input[0].sh.dim[1] == H &&
              info->input[0].sh.dim[2] == W);
    for (uint32_t i = 0; i < 30; i++) {
        const char *file = dataset_file(ds, DATA_TRAIN, i);
        unsigned seed = (unsigned)atoi(strrchr(file, '/') + 1);
        ck_assert_int_eq(dataset_label(ds, DATA_TRAIN, i), seed % 3);
        OK(dataset_pixels(ds, DATA_TRAIN, i, &im));
        picture(px, W, H, 3, seed);
        ck_assert_mem_eq(im.px, px, sizeof px);
    }
    char sha[65];
    strcpy(sha, info->sha256);
    dataset_close(ds);
    OK(dataset_open(&o, &ds));
    ck_assert_str_eq(sha, dataset_info(ds)->sha256);
    dataset_close(ds);
    put_png(dir, "train/ant/01.png", 999); /* other contents: another data set */
    OK(dataset_open(&o, &ds));
    ck_assert_str_ne(sha, dataset_info(ds)->sha256);
    dataset_close(ds);
    image_free(&im);
}
END_TEST

static uint64_t run_digest(dataset *ds, uint32_t threads, int batches)
{
    loader *l;
    const batch *b;
    uint64_t h = 0;
    loader_options o = loader_train_options(7, 5);
    o.threads = threads;
    OK(loader_open(ds, &o, &l));
    size_t row = (size_t)shape_count(&dataset_info(ds)->input[0].sh) * sizeof(float);
    for (int k = 0; k < batches; k++) {
        OK(loader_next(l, &b));
        h = h * 0x9E3779B97F4A7C15u + hash_xxh3(b->x[0], b->n * row) + hash_xxh3(b->index, b->n * 4) +
            hash_xxh3(b->label, b->n * 8);
    }
    loader_close(l);
    return h;
}

/* The cache of decoded images, resizing and random resized crop change nothing between threads and runs. */
START_TEST(files_give_the_same_with_and_without_cache)
{
    static const char *const augment[] = {"", "crop:1 flip", "rrc flip jitter:0.3:0.3:0.3 mixup:0.3"};
    const char *dir = make_folder();
    for (int a = 0; a < 3; a++)
        for (int c = 1; c <= 3; c += 2) {
            uint64_t want = 0;
            for (uint32_t threads = 0; threads < 4; threads++) {
                data_options o = data_options_default();
                dataset *ds;
                o.path = dir;
                o.channels = c;
                o.height = 8;
                o.width = 9;
                o.resize = a == 1 ? RESIZE_CROP : RESIZE_STRETCH;
                o.cache_bytes = threads % 2 ? 0 : 1 << 20;
                OK(augment_parse(augment[a], &o.augment));
                OK(dataset_open(&o, &ds));
                uint64_t got = run_digest(ds, threads, 40);
                if (threads == 0)
                    want = got;
                ck_assert_uint_eq(got, want);
                dataset_close(ds);
            }
        }
}
END_TEST

START_TEST(images_without_classes_are_unlabelled)
{
    const char *dir = test_tmp_dir();
    data_options o = data_options_default();
    dataset *ds;
    put_png(dir, "b.png", 1);
    put_png(dir, "a.png", 2);
    put_png(dir, "c.png", 3);
    o.path = dir;
    o.val_ratio = 0.34;
    OK(dataset_open(&o, &ds));
    const data_info *info = dataset_info(ds);
    ck_assert(info->classes == 0 && info->part[DATA_TRAIN].n == 2 && info->part[DATA_VAL].n == 1 &&
              info->part[DATA_TRAIN].labelled == 0);
    ck_assert_int_eq(dataset_label(ds, DATA_TRAIN, 0), -1);
    dataset_close(ds);
    o.labelled_only = true;
    FAILS(ST_CONFIG, "no training sample", dataset_open(&o, &ds));
}
END_TEST

START_TEST(manifest_lists_images)
{
    const char *dir = test_tmp_dir();
    data_options o = data_options_default();
    dataset *ds;
    loader *l;
    const batch *b;
    for (unsigned i = 0; i < 6; i++) {
        char name[32];
        snprintf(name, sizeof name, "i/%u, x.png", i);
        put_png(dir, name, i);
    }
    o.path = save_text(dir, "m.csv",
                       "\xef\xbb\xbfweight,label,note,Path,split\r\n"
                       "2.5,dog,\"a \"\"quoted\"\" note\",\"i/0, x.png\",train\r\n"
                       "\r\n"
                       ",cat,,\"i/1, x.png\",\r\n"
                       "0,,\"two\nlines\",\"i/2, x.png\",train\r\n"
                       "1,dog,,\"i/3, x.png\",val\r\n"
                       "1,cow,,\"i/4, x.png\",test\r\n"
                       "1,cat,,\"i/5, x.png\",train");
    OK(dataset_open(&o, &ds));
    const data_info *info = dataset_info(ds);
    ck_assert_str_eq(info->kind, "CSV manifest");
    ck_assert(info->part[DATA_TRAIN].n == 4 && info->part[DATA_VAL].n == 1 &&
              info->classes == 2); /* test is not used: no cow */
    ck_assert_str_eq(info->class_name[1], "dog");
    loader_options lo = loader_train_options(4, 0);
    lo.shuffle = false;
    OK(loader_open(ds, &lo, &l));
    OK(loader_next(l, &b));
    ck_assert(b->label[0] == 1 && b->label[1] == 0 && b->label[2] == -1 && b->label[3] == 0);
    ck_assert(b->weight[0] == 2.5f && b->weight[1] == 1 && b->weight[2] == 0 && b->weight[3] == 1);
    loader_close(l);
    dataset_close(ds);
    o.path = save_text(dir, "n.csv", "path,label\n\"i/0, x.png\",7\n\"i/1, x.png\",-1\n\"i/2, x.png\",0\n");
    o.val_ratio = 0;
    OK(dataset_open(&o, &ds));
    ck_assert(dataset_info(ds)->classes == 8 && !dataset_info(ds)->class_name);
    ck_assert(dataset_label(ds, DATA_TRAIN, 0) == 7 && dataset_label(ds, DATA_TRAIN, 1) == -1);
    dataset_close(ds);
}
END_TEST

/* 40 images; files 5, 6 and 39 are bad. 5 -> 7, 6 -> 7, 39 -> 0. */
START_TEST(bad_samples_are_listed_and_replaced)
{
    const char *dir = test_tmp_dir();
    data_options o = data_options_default();
    dataset *ds;
    loader *l;
    const batch *b;
    for (unsigned i = 0; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof name, i == 6 ? "=%02u.png" : "x%02u.png", i);
        if (i == 6)
            snprintf(name, sizeof name, "x06,\"=1+1.png");
        put_png(dir, name, i);
    }
    save_text(dir, "x05.png", "<html>404</html>");
    save_text(dir, "x06,\"=1+1.png", "");
    put_png(dir, "-x39.png", 1); /* sorts first: everything moves by one */
    save_text(dir, "x39.png", "\x89PNG\r\n\x1a\nrubbish");
    o.path = dir;
    o.val_ratio = 0;
    o.max_bad = 0.1;
    for (uint32_t threads = 0; threads <= 2; threads++) {
        OK(dataset_open(&o, &ds));
        ck_assert_uint_eq(dataset_info(ds)->part[DATA_TRAIN].n, 41);
        loader_options lo = loader_eval_options(DATA_TRAIN, 41);
        lo.threads = threads;
        OK(loader_open(ds, &lo, &l));
        for (int twice = 0; twice < 2; twice++) {
            OK(loader_next(l, &b));
            for (uint32_t j = 0; j < 41; j++) {
                uint32_t want = j == 6 || j == 7 ? 8 : j == 40 ? 0 : j;
                ck_assert_uint_eq(b->index[j], want);
                ck_assert_mem_eq((const float *)b->x[0] + j * W * H * 3,
                                 (const float *)b->x[0] + want * W * H * 3, W * H * 3 * 4);
            }
            loader_seek(l, 0);
        }
        ck_assert_uint_eq(dataset_bad_count(ds), 3);
        const char *csv = test_path(dir, "bad_samples.csv");
        unsigned char *s;
        size_t n;
        OK(dataset_write_bad(ds, csv));
        OK(io_read_file(csv, 1 << 20, &s, &n));
        const char *csv_text = (const char *)s, *expect = "part,index,path,reason\ntraining,6,\"x05.png\",\"";
        ck_assert_int_eq(strncmp(csv_text, expect, strlen(expect)), 0);
        ck_assert_ptr_nonnull(strstr(csv_text, "HTML"));
        ck_assert_ptr_nonnull(strstr(csv_text, "\ntraining,7,\"x06,\"\"=1+1.png\",\""));
        ck_assert_ptr_nonnull(strstr(csv_text, "\ntraining,40,\"x39.png\",\""));
        mem_free(s);
        loader_close(l);
        dataset_close(ds);
    }
    o.max_bad = 0.05; /* two of 41 are tolerated, not three */
    for (uint32_t threads = 0; threads <= 3; threads++) {
        OK(dataset_open(&o, &ds));
        loader_options lo = loader_eval_options(DATA_TRAIN, 10);
        lo.threads = threads;
        OK(loader_open(ds, &lo, &l));
        status st = ST_OK;
        int read = 0;
        for (b = NULL; st == ST_OK && (read == 0 || b); read++)
            st = loader_next(l, &b);
        ck_assert_int_eq(st, ST_BAD_DATA);
        ck_assert_ptr_nonnull(strstr(status_message(), "3 of 41 training samples are bad"));
        loader_close(l);
        ck_assert_int_eq(dataset_check(ds, DATA_TRAIN, 41), ST_BAD_DATA);
        dataset_close(ds);
    }
    OK(dataset_open(&o, &ds));
    FAILS(ST_BAD_DATA, "3 of 41", dataset_check(ds, DATA_TRAIN, 100));
    dataset_close(ds);
    o.max_bad = 0.08;
    OK(dataset_open(&o, &ds));
    OK(dataset_check(ds, DATA_TRAIN, 100));
    ck_assert_uint_eq(dataset_bad_count(ds), 3);
    dataset_close(ds);
}
END_TEST

/* File names that a spreadsheet would take for a formula. */
START_TEST(bad_list_holds_no_formula)
{
    static const char *const names[] = {"=1.png", "+1.png", "-1.png", "@1.png", "\t=2.png"};
    const char *dir = test_tmp_dir();
    data_options o = data_options_default();
    dataset *ds;
    unsigned char *s;
    size_t n;
    for (int i = 0; i < 5; i++)
        save_text(dir, names[i], "GIF89a");
    put_png(dir, "good.png", 1);
    o.path = dir;
    o.val_ratio = 0;
    o.max_bad = 1;
    OK(dataset_open(&o, &ds));
    OK(dataset_check(ds, DATA_TRAIN, 100));
    ck_assert_uint_eq(dataset_bad_count(ds), 5);
    OK(dataset_write_bad(ds, test_path(dir, "bad.csv")));
    OK(io_read_file(test_path(dir, "bad.csv"), 1 << 20, &s, &n));
    for (size_t i = 0; i + 1 < n; i++)
        if (s[i] == '\n' || s[i] == ',' || s[i] == '"')
            ck_assert_msg(!strchr("=+-@\t", s[i + 1]), "%s", (const char *)s);
    mem_free(s);
    dataset_close(ds);
}
END_TEST

static void add(tensor_list *l, const char *name, dtype type, shape sh, int modulo)
{
    tensor t;
    OK(tensor_new(&t, name, type, sh));
    for (int64_t i = 0; i < shape_count(&sh); i++)
        tensor_put(&t, i, (double)(i % modulo));
    OK(tensor_list_add(l, &t));
}

START_TEST(npz_with_both_parts)
{
    tensor_list l = {0};
    const char *path = test_path(test_tmp_dir(), "set.npz");
    data_options o = data_options_default();
    dataset *ds;
    image im = {0};
    add(&l, "y_train", DTYPE_U8, SHAPE(20, 1), 5);
    add(&l, "x_train", DTYPE_U8, SHAPE(20, 3, 6, 7), 251); /* NCHW */
    add(&l, "x_test", DTYPE_U8, SHAPE(4, 3, 6, 7), 13);
    add(&l, "y_test", DTYPE_I64, SHAPE(4), 4);
    OK(npz_write(path, l.at, l.n, true));
    o.path = path;
    OK(dataset_open(&o, &ds));
    const data_info *info = dataset_info(ds);
    ck_assert(info->part[DATA_TRAIN].n == 20 && info->part[DATA_VAL].n == 4 && info->classes == 5 &&
              info->image);
    ck_assert(info->input[0].sh.dim[0] == 3 && info->input[0].sh.dim[1] == 6 &&
              info->input[0].sh.dim[2] == 7);
    OK(dataset_pixels(ds, DATA_TRAIN, 2, &im));
    for (int y = 0; y < 6; y++)
        for (int x = 0; x < 7; x++)
            for (int c = 0; c < 3; c++)
                ck_assert_int_eq(im.px[(y * 7 + x) * 3 + c], (252 + c * 42 + y * 7 + x) % 251);
    image_free(&im);
    dataset_close(ds);
    tensor_list_free(&l);
    add(&l, "x_train", DTYPE_U8, SHAPE(20, 6, 7, 3), 251); /* NHWC */
    OK(npz_write(path, l.at, l.n, false));
    OK(dataset_open(&o, &ds));
    ck_assert(dataset_info(ds)->input[0].sh.dim[0] == 3 && dataset_info(ds)->part[DATA_TRAIN].n == 18);
    dataset_close(ds);
    tensor_list_free(&l);
}
END_TEST

START_TEST(tokens_and_float_rows)
{
    tensor_list l = {0};
    const char *path = test_path(test_tmp_dir(), "set.npz");
    data_options o = data_options_default();
    dataset *ds;
    loader *ld;
    const batch *b;
    add(&l, "input_ids", DTYPE_U16, SHAPE(12, 7), 1000);
    add(&l, "mask", DTYPE_BOOL, SHAPE(12, 7), 2);
    add(&l, "audio", DTYPE_F64, SHAPE(12, 2, 5), 17);
    add(&l, "targets", DTYPE_F32, SHAPE(12, 3), 7);
    OK(npz_write(path, l.at, l.n, false));
    o.path = path;
    o.val_ratio = 0;
    o.labelled = "0:6";
    for (int wide = 0; wide < 2; wide++) {
        o.int_type = wide ? DTYPE_I64 : DTYPE_I32;
        OK(dataset_open(&o, &ds));
        const data_info *info = dataset_info(ds);
        ck_assert(!info->image && info->n_inputs == 3 && info->target_size == 3 && info->classes == 0);
        ck_assert(info->part[DATA_TRAIN].labelled == 6);
        ck_assert_str_eq(info->input[0].name, "input_ids");
        ck_assert(info->input[0].type == o.int_type && info->input[1].type == o.int_type &&
                  info->input[2].type == DTYPE_F32);
        loader_options lo = loader_train_options(5, 3);
        OK(loader_open(ds, &lo, &ld));
        for (int k = 0; k < 10; k++) {
            OK(loader_next(ld, &b));
            for (uint32_t j = 0; j < 5; j++) {
                uint32_t i = b->index[j];
                for (uint32_t e = 0; e < 7; e++) {
                    uint32_t at = j * 7 + e, want = i * 7 + e;
                    ck_assert_double_eq(dtype_load(o.int_type, b->x[0], at), want);
                    ck_assert_double_eq(dtype_load(o.int_type, b->x[1], at), want % 2);
                }
                for (uint32_t e = 0; e < 10; e++)
                    ck_assert_double_eq((double)((const float *)b->x[2])[j * 10 + e], (i * 10 + e) % 17);
                ck_assert_int_eq(b->label[j], i < 6 ? 0 : -1);
                for (uint32_t e = 0; e < 3; e++)
                    ck_assert_double_eq((double)b->target[j * 3 + e], i < 6 ? (i * 3 + e) % 7 : 0);
            }
        }
        loader_close(ld);
        dataset_close(ds);
    }
    OK(augment_parse("flip", &o.augment));
    FAILS(ST_CONFIG, "holds rows, not images", dataset_open(&o, &ds));
    tensor_list_free(&l);
}
END_TEST

START_TEST(float_images_are_cropped_not_scaled)
{
    const char *dir = test_tmp_dir();
    tensor t;
    data_options o = data_options_default();
    dataset *ds;
    loader *l;
    const batch *b;
    OK(tensor_new(&t, NULL, DTYPE_F32, SHAPE(6, 2, 5, 4)));
    for (int64_t i = 0; i < 240; i++)
        tensor_put(&t, i, (double)i / 16 - 7);
    OK(npy_write(test_path(dir, "x_train.npy"), &t));
    o.path = dir;
    o.val_ratio = 0;
    OK(dataset_open(&o, &ds));
    loader_options lo = loader_eval_options(DATA_TRAIN, 6);
    OK(loader_open(ds, &lo, &l));
    OK(loader_next(l, &b));
    ck_assert_mem_eq(b->x[0], t.data, 960);
    loader_close(l);
    dataset_close(ds);
    o.n_mean = o.n_std = 2;
    o.mean[0] = 1, o.mean[1] = 2, o.std[0] = 2, o.std[1] = 4;
    OK(augment_parse("crop:1 flip", &o.augment));
    OK(dataset_open(&o, &ds));
    lo.augment = true;
    OK(loader_open(ds, &lo, &l));
    OK(loader_next(l, &b));
    for (uint32_t i = 0; i < 6; i++) {
        rng r = rng_make(0, RNG_AUGMENT, 0, i);
        augment_draw d = augment_make(&o.augment, &r, 5, 4, 5, 4);
        for (int c = 0; c < 2; c++)
            for (int y = 0; y < 5; y++)
                for (int x = 0; x < 4; x++) {
                    int sy = y + d.dy, sx = (d.flip ? 3 - x : x) + d.dx;
                    float v = sy < 0 || sy > 4 || sx < 0 || sx > 3
                                  ? 0
                                  : ((const float *)t.data)[((int)i * 2 + c) * 20 + sy * 4 + sx];
                    float want = (v - o.mean[c]) / o.std[c];
                    ck_assert_mem_eq((const float *)b->x[0] + ((int)i * 2 + c) * 20 + y * 4 + x, &want, 4);
                }
    }
    loader_close(l);
    dataset_close(ds);
    o.height = 7;
    FAILS(ST_BAD_DATA, "only uint8 images are resized", dataset_open(&o, &ds));
    tensor_free(&t);
}
END_TEST

START_TEST(explicit_files)
{
    const char *dir = test_tmp_dir();
    data_options o = data_options_default();
    dataset *ds;
    tensor x, y;
    OK(tensor_new(&x, NULL, DTYPE_U8, SHAPE(8, 2, 2)));
    OK(tensor_new(&y, NULL, DTYPE_I32, SHAPE(8)));
    OK(npy_write(test_path(dir, "a.npy"), &x));
    OK(npy_write(test_path(dir, "b.npy"), &y));
    o.train = test_path(dir, "a.npy");
    o.labels = test_path(dir, "b.npy");
    o.val = o.train;
    o.val_labels = o.labels;
    OK(dataset_open(&o, &ds));
    ck_assert(dataset_info(ds)->part[DATA_VAL].labelled == 8 &&
              dataset_info(ds)->part[DATA_TRAIN].labelled == 8);
    ck_assert_str_eq(dataset_info(ds)->kind, "npy");
    dataset_close(ds);
    o.val = test_path(dir, "c.npy");
    FAILS(ST_NO_INPUT, "c.npy: does not exist", dataset_open(&o, &ds));
    tensor_free(&x);
    tensor_free(&y);
}
END_TEST

START_TEST(slices)
{
    uint8_t in[10];
    static const struct {
        const char *text, *want;
    } good[] = {
        {"0:3", "1110000000"}, {":", "1111111111"},     {"", "0000000000"},    {"none", "0000000000"},
        {"-2:", "0000000011"}, {"8:99", "0000000011"},  {"5:2", "0000000000"}, {"1 3, 5:7", "0101011000"},
        {"-1", "0000000001"},  {"-99:2", "1100000000"},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        OK(slices_parse(good[i].text, "x", 10, in));
        for (int k = 0; k < 10; k++)
            ck_assert_msg(in[k] == (good[i].want[k] == '1'), "'%s' at %d", good[i].text, k);
    }
    static const char *const bad[] = {
        "a", "0:3:1", "0-3", "10", "1e3", "99999999999999999999", "0:9999999999999999999999999", "0x1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        FAILS(ST_CONFIG, "x", slices_parse(bad[i], "x", 10, in));
}
END_TEST

/* Every allocation of opening, one batch and closing fails once. */
START_TEST(memory_runs_out)
{
    const char *dir = make_folder();
    data_options o = data_options_default();
    int failures = 0;
    o.path = dir;
    o.height = o.width = 8;
    OK(augment_parse("rrc flip mixup:0.3 jitter:0.1", &o.augment));
    for (uint64_t n = 1;; n++) {
        dataset *ds = NULL;
        loader *l = NULL;
        const batch *b;
        mem_fail_at(n, true);
        status st = dataset_open(&o, &ds);
        loader_options lo = loader_train_options(5, 1);
        lo.threads = n % 2 ? 0 : 2;
        if (st == ST_OK)
            st = loader_open(ds, &lo, &l);
        if (st == ST_OK)
            st = loader_next(l, &b);
        mem_fail_at(0, true);
        loader_close(l);
        dataset_close(ds);
        if (st == ST_OK)
            break;
        ck_assert_msg(st == ST_OOM, "allocation %d: status %d: %s", (int)n, (int)st, status_message());
        failures++;
        ck_assert_int_lt(failures, 3000);
    }
    ck_assert_int_gt(failures, 50);
}
END_TEST

const test_entry test_table[] = {
    TEST(folder_of_classes),
    TEST(files_give_the_same_with_and_without_cache),
    TEST(images_without_classes_are_unlabelled),
    TEST(manifest_lists_images),
    TEST(bad_samples_are_listed_and_replaced),
    TEST(bad_list_holds_no_formula),
    TEST(npz_with_both_parts),
    TEST(tokens_and_float_rows),
    TEST(float_images_are_cropped_not_scaled),
    TEST(explicit_files),
    TEST(slices),
    TEST(memory_runs_out),
    {0},
};
