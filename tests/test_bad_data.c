/* test_bad_data.c - hostile and broken data files, made by generators: each gets a message that names the
 * file and says what is wrong, the right status, and no crash (the sanitizer build runs this too). "BADINPUTS
 * n" counts them; a family such as every truncation of a file counts once. */
#include "base/io.h"
#include "base/mem.h"
#include "data/gzip.h"
#include "data/idx.h"
#include "data/loader.h"
#include "data/npy.h"
#include "data_files.h"
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <turbojpeg.h>
#include <unistd.h>
#include <zlib.h>

static limits lim;
static int cases;
static struct timespec started;

/* Between `begin` and `judge` the input is read. */
static void begin(void)
{
    lim = limits_default();
    status_clear();
    clock_gettime(CLOCK_MONOTONIC, &started);
}

static void judge(const char *what, const char *file, status got, status want, const char *part)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const char *message = status_message();
    ck_assert_msg(got == want, "%s: status %d instead of %d: %s", what, (int)got, (int)want, message);
    ck_assert_msg(strstr(message, part) != NULL, "%s: '%s' lacks '%s'", what, message, part);
    ck_assert_msg(strstr(message, file) != NULL, "%s: '%s' does not name '%s'", what, message, file);
    ck_assert_msg(now.tv_sec - started.tv_sec < 5, "%s took more than 5 s", what);
    cases++;
}

static void report(void)
{
    printf("BADINPUTS %d\n", cases);
    cases = 0;
}

/* A copy for the readers that take their input. */
static unsigned char *copy(const text *t)
{
    unsigned char *p;
    OK(mem_alloc(&p, t->n + 1, 1));
    memcpy(p, t->s ? t->s : "", t->n);
    return p;
}

/* ---- npy ---- */

static void npy_file(text *t, unsigned major, unsigned minor, const char *dict, size_t body)
{
    size_t n = strlen(dict);
    text_add_n(t, "\x93NUMPY", 6);
    bytes_u8(t, major);
    bytes_u8(t, minor);
    bytes_le16(t, (unsigned)n);
    if (major > 1)
        bytes_le16(t, 0);
    text_add(t, dict);
    bytes_fill(t, 7, body);
}

static void refuse_npy(const char *what, text *t, const char *part)
{
    tensor out;
    begin();
    status st = npy_parse("bad.npy", copy(t), t->n, &lim, &out);
    judge(what, "bad.npy", st, ST_BAD_DATA, part);
    ck_assert_ptr_null(out.data);
    text_free(t);
}

START_TEST(npy_headers)
{
    static const struct {
        const char *dict, *part;
        size_t body;
    } heads[] = {
        {"", "'{' expected", 0},
        {"{}", "lacks 'descr'", 0},
        {"{'descr': '<f4', 'shape': (2,), }", "lacks 'fortran_order'", 8},
        {"{'descr': '<f4', 'fortran_order': False}", "lacks 'shape'", 8},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", "unknown or second key 'x'", 8},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", "second key 'descr'", 8},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", "pickle", 16},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", "structured", 8},
        {"{'descr': '<V0', 'fortran_order': False, 'shape': (2,)}", "'<V0'", 0},
        {"{'descr': '<U4', 'fortran_order': False, 'shape': (2,)}", "'<U4'", 32},
        {"{'descr': '<f16', 'fortran_order': False, 'shape': (2,)}", "'<f16'", 32},
        {"{'descr': '', 'fortran_order': False, 'shape': (2,)}", "element type ''", 8},
        {"{'descr': '<f4\\'', 'fortran_order': False, 'shape': (2,)}", "a type such as", 8},
        {"{'descr': '<f4, 'fortran_order': False, 'shape': (2,)}", "element type", 8},
        {"{'descr': 5, 'fortran_order': False, 'shape': (2,)}", "a type such as", 8},
        {"{'descr': '<f4', 'fortran_order': 1, 'shape': (2,)}", "True or False", 8},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': 2}", "a shape such as", 8},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2.5,)}", "',' or ')'", 8},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", "a whole number >= 0", 8},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,,)}", "a dimension", 8},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,", "a dimension", 8},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "63 bits", 8},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", "2^40 elements", 8},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (0, 4294967296, 4294967296)}", "2^40 elements", 0},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", "more than 8 dimensions",
         4},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x", "the end of the header", 8},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
         "needs 8 bytes after the header, the file has 7; it was cut off", 7},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", "the file has 9; too many", 9},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000,)}", "cut off", 9},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': ()}", "needs 4 bytes", 0},
        {"not a dict at all \x01\x02", "'{' expected at 'not a dict at al'", 0},
    };
    text t = {0};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        npy_file(&t, 1, 0, heads[i].dict, heads[i].body);
        refuse_npy(heads[i].dict, &t, heads[i].part);
    }
    report();
}
END_TEST

START_TEST(npy_frames)
{
    static const char dict[] = "{'descr': '<i2', 'fortran_order': False, 'shape': (3,), }\n";
    text t = {0};
    refuse_npy("empty", &t, "not an npy file");
    text_add(&t, "PK\3\4 this is a zip");
    refuse_npy("another file", &t, "not an npy file");
    npy_file(&t, 0, 0, dict, 6);
    refuse_npy("version 0", &t, "version 0.0");
    npy_file(&t, 4, 0, dict, 6);
    refuse_npy("version 4", &t, "version 4.0");
    npy_file(&t, 1, 7, dict, 6);
    refuse_npy("version 1.7", &t, "version 1.7");
    npy_file(&t, 1, 0, dict, 6);
    t.s[8] = t.s[9] = (char)0xff;
    refuse_npy("header longer than the file", &t, "header of 65535 bytes");
    npy_file(&t, 2, 0, dict, 6);
    t.s[8] = t.s[9] = t.s[10] = t.s[11] = (char)0xff;
    refuse_npy("header of 4 GiB", &t, "header of 4294967295 bytes");
    npy_file(&t, 1, 0, dict, 6);
    for (size_t n = 0; n < t.n; n++) {
        tensor out;
        begin();
        ck_assert_int_eq(npy_parse("bad.npy", copy(&(text){.s = t.s, .n = n}), n, &lim, &out), ST_BAD_DATA);
    }
    cases++;
    for (size_t bit = 0; bit < t.n * 8; bit++) { /* flipped bits: any answer but a crash */
        tensor out;
        t.s[bit / 8] ^= (char)(1 << bit % 8);
        begin();
        status st = npy_parse("bad.npy", copy(&t), t.n, &lim, &out);
        ck_assert(st == ST_OK || st == ST_BAD_DATA);
        tensor_free(&out);
        t.s[bit / 8] ^= (char)(1 << bit % 8);
    }
    cases++;
    text_free(&t);
    begin();
    tensor out;
    lim.elements = 2;
    npy_file(&t, 1, 0, dict, 6);
    judge("limits.elements", "bad.npy", npy_parse("bad.npy", copy(&t), t.n, &lim, &out), ST_BAD_DATA,
          "limits.elements = 2");
    text_free(&t);
    report();
}
END_TEST

/* ---- npz ---- */

typedef struct member {
    const char *name;
    const void *data;
    size_t n;
    unsigned method, flags;
    uint32_t crc, packed, size; /* as written */
} member;

/* An archive; each member's data is written as it stands. */
static void zip_file(text *t, const member *m, size_t n)
{
    uint32_t offset[8];
    for (size_t i = 0; i < n; i++) {
        offset[i] = (uint32_t)t->n;
        bytes_le32(t, 0x04034b50);
        bytes_le16(t, 20);
        bytes_le16(t, m[i].flags);
        bytes_le16(t, m[i].method);
        bytes_le32(t, 0x00210000);
        bytes_le32(t, m[i].crc);
        bytes_le32(t, m[i].packed);
        bytes_le32(t, m[i].size);
        bytes_le16(t, (unsigned)strlen(m[i].name));
        bytes_le16(t, 0);
        text_add(t, m[i].name);
        text_add_n(t, m[i].data, m[i].n);
    }
    uint32_t start = (uint32_t)t->n;
    for (size_t i = 0; i < n; i++) {
        bytes_le32(t, 0x02014b50);
        bytes_le16(t, 20);
        bytes_le16(t, 20);
        bytes_le16(t, m[i].flags);
        bytes_le16(t, m[i].method);
        bytes_le32(t, 0x00210000);
        bytes_le32(t, m[i].crc);
        bytes_le32(t, m[i].packed);
        bytes_le32(t, m[i].size);
        bytes_le16(t, (unsigned)strlen(m[i].name));
        bytes_fill(t, 0, 12);
        bytes_le32(t, offset[i]);
        text_add(t, m[i].name);
    }
    uint32_t size = (uint32_t)t->n - start;
    bytes_le32(t, 0x06054b50);
    bytes_le32(t, 0);
    bytes_le16(t, (unsigned)n);
    bytes_le16(t, (unsigned)n);
    bytes_le32(t, size);
    bytes_le32(t, start);
    bytes_le16(t, 0);
}

static status parse_npz(const text *t)
{
    tensor_list l;
    begin();
    status st = npz_parse("bad.npz", (const unsigned char *)(t->s ? t->s : ""), t->n, &lim, &l);
    tensor_list_free(&l);
    return st;
}

static void refuse_npz(const char *what, text *t, const char *part)
{
    status st = parse_npz(t);
    judge(what, "bad.npz", st, ST_BAD_DATA, part);
    text_free(t);
}

static member stored(const char *name, const text *npy)
{
    uint32_t n = (uint32_t)npy->n;
    return (member){name, npy->s, npy->n, 0, 0, (uint32_t)crc32(0, (const Bytef *)npy->s, n), n, n};
}

static void raw_deflate(text *t, size_t zeros)
{
    z_stream z = {0};
    unsigned char out[65536], in[65536] = {0};
    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    int r = Z_OK;
    while (r == Z_OK) {
        size_t now = zeros < sizeof in ? zeros : sizeof in;
        z.next_in = in;
        z.avail_in = (uInt)now;
        zeros -= now;
        do {
            z.next_out = out;
            z.avail_out = sizeof out;
            r = deflate(&z, zeros ? Z_NO_FLUSH : Z_FINISH);
            text_add_n(t, out, sizeof out - z.avail_out);
        } while (z.avail_out == 0);
    }
    ck_assert_int_eq(r, Z_STREAM_END);
    deflateEnd(&z);
}

START_TEST(npz_archives)
{
    text npy = {0}, t = {0}, z = {0};
    npy_file(&npy, 1, 0, "{'descr': '<i2', 'fortran_order': False, 'shape': (3,), }\n", 6);
    member m = stored("a.npy", &npy), two[2];
    zip_file(&t, &m, 1);
    OK(parse_npz(&t)); /* the generator itself is right */
    for (size_t n = 0; n < t.n; n++) {
        ck_assert_int_eq(parse_npz(&(text){.s = t.s, .n = n}), ST_BAD_DATA);
        ck_assert_ptr_nonnull(strstr(status_message(), "bad.npz"));
    }
    cases++;
    for (size_t bit = 0; bit < t.n * 8; bit++) {
        t.s[bit / 8] ^= (char)(1 << bit % 8);
        status st = parse_npz(&t);
        ck_assert(st == ST_OK || st == ST_BAD_DATA);
        t.s[bit / 8] ^= (char)(1 << bit % 8);
    }
    cases++;
    text_free(&t);
    refuse_npz("empty", &t, "not an npz file");
    text_add(&t, "\x93NUMPY...");
    refuse_npz("an npy", &t, "not an npz file");
    text_add(&t, "PK\3\4 and nothing else");
    refuse_npz("no directory", &t, "no end of a zip directory");
    m = stored("../../etc/a.npy", &npy);
    zip_file(&t, &m, 1);
    refuse_npz("a path upwards", &t, "contains '..'");
    m = stored("x/..", &npy);
    zip_file(&t, &m, 1);
    refuse_npz("a path that ends upwards", &t, "contains '..'");
    m = stored("a.txt", &npy);
    zip_file(&t, &m, 1);
    refuse_npz("no array", &t, "'a.txt' is no array");
    m = stored(".npy", &npy);
    zip_file(&t, &m, 1);
    refuse_npz("no name", &t, "is no array");
    two[0] = two[1] = stored("a.npy", &npy);
    zip_file(&t, two, 2);
    refuse_npz("duplicates", &t, "two members are called 'a.npy'");
    m = stored("a.npy", &npy);
    m.crc++;
    zip_file(&t, &m, 1);
    refuse_npz("wrong CRC", &t, "CRC differs");
    m = stored("a.npy", &npy);
    m.flags = 1;
    zip_file(&t, &m, 1);
    refuse_npz("encrypted", &t, "encrypted");
    m = stored("a.npy", &npy);
    m.method = 12;
    zip_file(&t, &m, 1);
    refuse_npz("bzip2", &t, "zip method 12");
    m = stored("a.npy", &npy);
    m.size = 1000000;
    zip_file(&t, &m, 1);
    refuse_npz("two sizes", &t, "two sizes");
    m = stored("a.npy", &npy);
    m.packed = m.size = 1000000;
    zip_file(&t, &m, 1);
    refuse_npz("longer than the file", &t, "past the end of the file");
    m = stored("a.npy", &npy);
    m.size = 0xfffffffe;
    m.method = 8;
    zip_file(&t, &m, 1);
    refuse_npz("claims 4 GiB", &t, "a zip bomb?");
    m = stored("a.npy", &npy);
    m.size = UINT32_MAX; /* zip64 without its field */
    zip_file(&t, &m, 1);
    refuse_npz("zip64 without sizes", &t, "damaged zip64 sizes");
    m = stored("a.npy", &npy);
    m.method = 8;
    zip_file(&t, &m, 1);
    refuse_npz("not deflated", &t, "damaged data");
    raw_deflate(&z, (size_t)80 << 20);
    m = (member){"a.npy", z.s, z.n, 8, 0, 0, (uint32_t)z.n, 80u << 20};
    zip_file(&t, &m, 1);
    refuse_npz("a bomb that says so", &t, "a zip bomb?");
    m.size = 100; /* and one that lies: stopped after 100 bytes */
    zip_file(&t, &m, 1);
    refuse_npz("a bomb that lies", &t, "damaged data: 101 of 100 bytes");
    m = stored("a.npy", &npy);
    zip_file(&t, &m, 1);
    t.s[30] = 'b'; /* the name in the member's own header */
    refuse_npz("another name", &t, "another name");
    zip_file(&t, &m, 1);
    t.s[t.n - 22 + 10] = 5;
    refuse_npz("five members", &t, "5 zip members do not fit");
    zip_file(&t, &m, 1);
    memset(t.s + t.n - 6, 0xff, 4);
    refuse_npz("directory elsewhere", &t, "outside the file");
    zip_file(&t, &m, 1);
    text_add(&t, "trailing bytes");
    refuse_npz("bytes after the end", &t, "no end of a zip directory");
    text_free(&npy);
    text_add(&npy, "this is no array, 30 bytes!!!!");
    m = stored("a.npy", &npy);
    zip_file(&t, &m, 1);
    refuse_npz("a member that is no npy", &t, "member 'a.npy': not an npy file");
    text_free(&npy);
    text_free(&z);
    report();
}
END_TEST

/* ---- idx and gzip ---- */

static status parse_idx(const text *t)
{
    tensor out;
    begin();
    status st = idx_parse("bad.idx", copy(t), t->n, &lim, &out);
    tensor_free(&out);
    return st;
}

static void refuse_idx(const char *what, text *t, const char *part)
{
    status st = parse_idx(t);
    judge(what, "bad.idx", st, ST_BAD_DATA, part);
    text_free(t);
}

START_TEST(idx_files)
{
    static const unsigned char px[24] = {1, 2, 3};
    static const uint32_t dim[3] = {2, 3, 4},
                          huge[8] = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, 1, 1, 1};
    text t = {0};
    bytes_idx(&t, 8, 3, dim, px, 24);
    OK(parse_idx(&t));
    for (size_t n = 0; n < t.n; n++)
        ck_assert_int_eq(parse_idx(&(text){.s = t.s, .n = n}), ST_BAD_DATA);
    cases++;
    text_free(&t);
    refuse_idx("empty", &t, "too short");
    text_add(&t, "<html>");
    refuse_idx("text", &t, "starts with 3c 68");
    bytes_idx(&t, 0, 3, dim, px, 24);
    refuse_idx("type 0", &t, "0x00 is unknown");
    bytes_idx(&t, 0x10, 3, dim, px, 24);
    refuse_idx("type 16", &t, "0x10 is unknown");
    bytes_idx(&t, 0x0a, 3, dim, px, 24);
    refuse_idx("type 10", &t, "0x0a is unknown");
    bytes_idx(&t, 8, 0, dim, px, 24);
    refuse_idx("rank 0", &t, "rank 0");
    bytes_idx(&t, 8, 8, huge, px, 24);
    t.s[3] = (char)255;
    refuse_idx("rank 255", &t, "rank 255");
    bytes_idx(&t, 8, 8, huge, px, 24);
    t.s[4] = t.s[5] = 0;
    refuse_idx("sizes overflow", &t, "2^40 elements");
    bytes_idx(&t, 8, 1, huge, px, 24);
    refuse_idx("too many samples", &t, "limits.samples");
    bytes_idx(&t, 8, 3, dim, px, 23);
    refuse_idx("short", &t, "cut off");
    bytes_idx(&t, 8, 3, dim, px, 24);
    bytes_u8(&t, 0);
    refuse_idx("trailing", &t, "too many");
    bytes_idx(&t, 0x0e, 3, dim, px, 24);
    refuse_idx("float64 of uint8's size", &t, "needs 192 bytes");
    report();
}
END_TEST

static void refuse_gzip(const char *what, const text *t, const char *part)
{
    unsigned char *out;
    size_t n;
    begin();
    status st = gzip_inflate("bad.gz", (const unsigned char *)t->s, t->n, &lim, &out, &n);
    judge(what, "bad.gz", st, ST_BAD_DATA, part);
    ck_assert_ptr_null(out);
}

START_TEST(gzip_files)
{
    text t = {0}, twice = {0};
    unsigned char *out;
    size_t n;
    char hello[3000];
    memset(hello, 'x', sizeof hello);
    for (size_t i = 0; i < sizeof hello; i += 7)
        hello[i] = (char)i;
    begin();
    bytes_gzip(&t, hello, sizeof hello);
    OK(gzip_inflate("a.gz", (const unsigned char *)t.s, t.n, &lim, &out, &n));
    ck_assert(n == sizeof hello && memcmp(out, hello, n) == 0);
    mem_free(out);
    for (size_t k = 3; k < t.n; k++) {
        begin();
        ck_assert_int_eq(gzip_inflate("a.gz", (const unsigned char *)t.s, k, &lim, &out, &n), ST_BAD_DATA);
        ck_assert_ptr_nonnull(strstr(status_message(), "ends early"));
    }
    cases++;
    text_add_n(&twice, t.s, t.n); /* several members are one file, as gzip itself reads them */
    text_add_n(&twice, t.s, t.n);
    OK(gzip_inflate("a.gz", (const unsigned char *)twice.s, twice.n, &lim, &out, &n));
    ck_assert_uint_eq(n, 2 * sizeof hello);
    mem_free(out);
    text_add(&t, "rubbish");
    refuse_gzip("bytes after the end", &t, "7 bytes after the end");
    text_free(&t);
    bytes_gzip(&t, hello, sizeof hello);
    t.s[t.n / 2] ^= 0x55;
    refuse_gzip("damaged", &t, "damaged gzip data");
    text_free(&t);
    bytes_gzip(&t, hello, sizeof hello);
    t.s[t.n - 6] ^= 1;
    refuse_gzip("wrong CRC", &t, "damaged gzip data: incorrect data check");
    text_free(&t);
    char *zeros = calloc(1, (size_t)70 << 20);
    bytes_gzip(&t, zeros, (size_t)70 << 20);
    free(zeros);
    refuse_gzip("a bomb", &t, "a gzip bomb?");
    begin();
    lim.data_file = 1000;
    text_free(&t);
    bytes_gzip(&t, hello, sizeof hello);
    judge("limits.data_file", "bad.gz",
          gzip_inflate("bad.gz", (const unsigned char *)t.s, t.n, &lim, &out, &n), ST_BAD_DATA,
          "more than 1000 bytes");
    text_free(&t);
    text_free(&twice);
    report();
}
END_TEST

/* ---- whole data sets ---- */

static void refuse_set(const char *what, const data_options *o, const char *file, status want,
                       const char *part)
{
    dataset *ds;
    begin();
    status st = dataset_open(o, &ds);
    judge(what, file, st, want, part);
    ck_assert_ptr_null(ds);
}

static void put_idx(const char *dir, const char *name, uint32_t n, uint32_t side, unsigned value)
{
    text t = {0};
    const uint32_t dim[3] = {n, side, side};
    bytes_idx(&t, 8, side ? 3 : 1, dim, "", 0);
    bytes_fill(&t, value, (size_t)n * (side ? side * side : 1));
    bytes_save(&t, dir, name);
}

START_TEST(array_sets)
{
    data_options o = data_options_default();
    const char *dir = o.path = test_tmp_dir();
    tensor x;
    refuse_set("an empty folder", &o, dir, ST_BAD_DATA, "train-images-idx3-ubyte[.gz]");
    put_idx(dir, "train-images-idx3-ubyte", 10, 4, 9);
    put_idx(dir, "train-labels-idx1-ubyte", 9, 0, 1);
    refuse_set("labels != images", &o, "train-labels-idx1-ubyte", ST_BAD_DATA,
               "labels of shape [9] for 10 samples");
    put_idx(dir, "train-labels-idx1-ubyte", 10, 0, 7);
    o.classes = 7;
    refuse_set("label >= classes", &o, "train-images-idx3-ubyte", ST_BAD_DATA,
               "label 7 of sample 0 is outside the 7 classes");
    o.classes = 0;
    put_idx(dir, "train-labels-idx1-ubyte", 10, 2, 7);
    refuse_set("labels of rank 3", &o, "train-labels-idx1-ubyte", ST_BAD_DATA, "one number a sample");
    put_idx(dir, "train-labels-idx1-ubyte", 10, 0, 7);
    put_idx(dir, "train-images-idx3-ubyte", 0, 4, 9);
    refuse_set("no samples", &o, "train-images-idx3-ubyte", ST_BAD_DATA, "0 samples");
    put_idx(dir, "train-images-idx3-ubyte", 10, 4, 9);
    save_text(dir, "train-images-idx3-ubyte", "<!DOCTYPE html>");
    refuse_set("a web page", &o, "train-images-idx3-ubyte", ST_BAD_DATA, "neither npy nor idx");
    save_text(dir, "train-images-idx3-ubyte", "");
    refuse_set("an empty file", &o, "train-images-idx3-ubyte", ST_BAD_DATA,
               "neither npy nor idx (starts with nothing)");
    put_idx(dir, "train-images-idx3-ubyte", 10, 4, 9);
    put_idx(dir, "t10k-labels-idx1-ubyte", 3, 0, 1);
    put_idx(dir, "t10k-images-idx3-ubyte", 4, 4, 1);
    refuse_set("validation labels != images", &o, "t10k-labels-idx1-ubyte", ST_BAD_DATA,
               "labels of shape [3]");
    OK(tensor_new(&x, NULL, DTYPE_F32, SHAPE(4, 1, 4, 4)));
    OK(npy_write(test_path(dir, "v.npy"), &x));
    o.train = test_path(dir, "train-images-idx3-ubyte");
    o.labels = test_path(dir, "train-labels-idx1-ubyte");
    o.val = test_path(dir, "v.npy");
    refuse_set("parts of two kinds", &o, "v.npy", ST_BAD_DATA, "another kind");
    tensor_free(&x);
    o = data_options_default();
    o.path = test_path(dir, "nowhere");
    refuse_set("missing", &o, "nowhere", ST_NO_INPUT, "does not exist");
    o.path = test_path(dir, "x.npy");
    ck_assert_int_eq(mkfifo(o.path, 0600), 0);
    refuse_set("a pipe", &o, "x.npy", ST_BAD_DATA, "pipe");
    o.path = test_path(dir, "loop.npy");
    ck_assert_int_eq(symlink("loop.npy", o.path), 0);
    refuse_set("a link to itself", &o, "loop.npy", ST_NO_INPUT, "");
    o.path = test_path(dir, "d.npy");
    OK(io_make_dirs(o.path));
    refuse_set("a folder called .npy", &o, "d.npy", ST_BAD_DATA, "no data set was recognised");
    o.path = "/dev/zero";
    o.kind = DATA_ARRAYS;
    refuse_set("a device", &o, "/dev/zero", ST_BAD_DATA, "device");
    o = data_options_default();
    refuse_set("no path", &o, "data", ST_CONFIG, "no path");
    static const struct {
        const char *name, *part;
        shape sh;
        dtype type;
    } arrays[] = {
        {"a scalar", "first dimension", {0}, DTYPE_F32},
        {"empty samples", "are empty", {.rank = 3, .dim = {4, 0, 4}}, DTYPE_U8},
        {"no samples", "0 samples", {.rank = 2, .dim = {0, 4}}, DTYPE_I32},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        OK(tensor_new(&x, NULL, arrays[i].type, arrays[i].sh));
        o.path = test_path(test_tmp_dir(), "s.npy");
        OK(npy_write(o.path, &x));
        refuse_set(arrays[i].name, &o, "s.npy", ST_BAD_DATA, arrays[i].part);
        tensor_free(&x);
    }
    OK(tensor_new(&x, NULL, DTYPE_U64, SHAPE(2, 2)));
    memset(x.data, 0xff, tensor_bytes(&x));
    OK(npy_write(o.path, &x));
    refuse_set("uint64 beyond int64", &o, "s.npy", ST_BAD_DATA, "does not fit int64");
    tensor_free(&x);
    OK(tensor_new(&x, NULL, DTYPE_F64, SHAPE(3, 5)));
    for (int i = 0; i < 3; i++) {
        static const double values[] = {NAN, -INFINITY, 1e300};
        tensor_put(&x, 7, values[i]);
        OK(npy_write(o.path, &x));
        refuse_set("no number", &o, "s.npy", ST_BAD_DATA, "element 2 of sample 1 is");
    }
    tensor_free(&x);
    report();
}
END_TEST

START_TEST(label_arrays)
{
    data_options o = data_options_default();
    const char *dir = o.path = test_tmp_dir();
    tensor x, y;
    OK(tensor_new(&x, NULL, DTYPE_U8, SHAPE(3, 4, 4)));
    OK(npy_write(test_path(dir, "x_train.npy"), &x));
    OK(tensor_new(&y, NULL, DTYPE_I64, SHAPE(3)));
    for (int i = 0; i < 4; i++) {
        static const double values[] = {-2, 1e18, 5e9, 1.7e9};
        tensor_put(&y, 1, values[i]);
        OK(npy_write(test_path(dir, "y_train.npy"), &y));
        refuse_set("a label", &o, i < 3 ? "y_train.npy" : "x_train.npy", ST_BAD_DATA,
                   i < 3 ? "outside [-1, 2^31)" : "would mean");
    }
    tensor_free(&x);
    tensor_free(&y);
    report();
}
END_TEST

START_TEST(manifests)
{
    static const struct {
        const char *what, *csv, *part;
    } bad[] = {
        {"empty", "", "is empty"},
        {"only blank lines", "\n\r\n\n", "is empty"},
        {"no header", "a.png,1\n", "no column 'path'"},
        {"no rows", "path,label\n", "no training rows"},
        {"upwards", "path,label\n../a.png,1\n", "m.csv:2: '../a.png' contains '..'"},
        {"upwards inside", "path,label\na/../../a.png,1\n", "contains '..'"},
        {"absolute", "path,label\n/etc/passwd,1\n", "is absolute"},
        {"no path", "path,label\n,1\n", "m.csv:2: an empty path"},
        {"missing cell", "path,label\na.png,1\nb.png\n", "m.csv:3: 1 cells"},
        {"open quote", "path,label\n\"a.png,1\n", "m.csv:2: a quoted cell is not closed"},
        {"text after a quote", "path,label\n\"a.png\"x,1\n", "text after a closing quote"},
        {"stray quote", "path,label\na\"b.png,1\n", "a quote inside"},
        {"two columns", "path,label,path\na,1,b\n", "two columns 'path'"},
        {"unknown split", "path,split\na.png,dev\n", "split 'dev'"},
        {"weight", "path,weight\na.png,x\n", "weight 'x'"},
        {"negative weight", "path,weight\na.png,-1\n", "weight '-1'"},
        {"infinite weight", "path,weight\na.png,1e300\n", "weight '1e300'"},
        {"only validation", "path,split\na.png,val\n", "no training rows"},
        {"a web page", "<html><body>404</body></html>", "no column 'path'"},
    };
    data_options o = data_options_default();
    const char *dir = test_tmp_dir();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        o.path = save_text(dir, "m.csv", bad[i].csv);
        refuse_set(bad[i].what, &o, "m.csv", ST_BAD_DATA, bad[i].part);
    }
    text t = {0};
    text_add_n(&t, "path,label\na.png\0x,1\n", 21);
    o.path = bytes_save(&t, dir, "m.csv");
    refuse_set("NUL", &o, "m.csv", ST_BAD_DATA, "NUL");
    text_add(&t, "path,label\n");
    bytes_fill(&t, 'x', 100000);
    o.path = bytes_save(&t, dir, "m.csv");
    refuse_set("a long line", &o, "m.csv:2", ST_BAD_DATA, "limits.ini_line");
    text_add(&t, "path,label\n");
    bytes_fill(&t, ',', 1000);
    o.path = bytes_save(&t, dir, "m.csv");
    refuse_set("a thousand cells", &o, "m.csv:2", ST_BAD_DATA, "more than 64 cells");
    o.path = save_text(dir, "m.csv", "path,label\na.png,1\nb.png,2\nc.png,3\n");
    o.lim.samples = 2;
    refuse_set("too many rows", &o, "m.csv:4", ST_BAD_DATA, "limits.samples = 2");
    o.lim.samples = 100;
    refuse_set("no file can be read", &o, "c.png", ST_NO_INPUT, "none of the first images can be decoded");
    o.labels = "x.npy";
    o.train = o.path;
    refuse_set("labels beside a manifest", &o, "m.csv", ST_CONFIG, "holds its labels itself");
    report();
}
END_TEST

START_TEST(folders)
{
    data_options o = data_options_default();
    const char *dir = o.path = test_tmp_dir();
    save_text(dir, "train/a/1.png", "x");
    OK(io_make_dirs(test_path(dir, "train/b")));
    refuse_set("an empty class", &o, "train/b", ST_BAD_DATA, "holds no images");
    save_text(dir, "train/b/readme.txt", "x");
    refuse_set("a class without images", &o, "train/b", ST_BAD_DATA, "holds no images");
    save_text(dir, "train/b/1.png", "x");
    save_text(dir, "val/c/1.png", "x");
    refuse_set("a class of validation alone", &o, "val", ST_BAD_DATA, "class 'c' is not among the 2 classes");
    o.lim.samples = 1;
    refuse_set("too many images", &o, "train", ST_BAD_DATA, "");
    o = data_options_default();
    o.path = test_tmp_dir();
    OK(io_make_dirs(test_path(o.path, "train")));
    refuse_set("an empty train folder", &o, "train", ST_BAD_DATA, "neither class folders nor images");
    save_text(o.path, "train/x.png", "not an image");
    save_text(o.path, "train/y.png", "");
    refuse_set("no image can be decoded", &o, "train", ST_BAD_DATA,
               "none of the first images can be decoded");
    report();
}
END_TEST

const test_entry test_table[] = {
    TEST(npy_headers), TEST(npy_frames),   TEST(npz_archives), TEST(idx_files), TEST(gzip_files),
    TEST(array_sets),  TEST(label_arrays), TEST(manifests),    TEST(folders),   {0},
};
