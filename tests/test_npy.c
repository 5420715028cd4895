/* test_npy.c - npy and npz: what we write NumPy reads, what NumPy writes we read. */
#include "base/io.h"
#include "base/mem.h"
#include "data/npy.h"
#include "data_files.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const limits *lim(void)
{
    static limits l;
    l = limits_default();
    return &l;
}

static const dtype types[] = {DTYPE_F32, DTYPE_F64, DTYPE_F16, DTYPE_I8,  DTYPE_U8,  DTYPE_I16,
                              DTYPE_U16, DTYPE_I32, DTYPE_U32, DTYPE_I64, DTYPE_U64, DTYPE_BOOL};
#define TYPES (sizeof types / sizeof *types)

/* Values that every type holds: 0 1 0 1 ... for bool, else small numbers, some negative. */
static void make(tensor *t, dtype type, shape sh, const char *name)
{
    OK(tensor_new(t, name, type, sh));
    for (int64_t i = 0; i < shape_count(&sh); i++)
        tensor_put(t, i,
                   type == DTYPE_BOOL ? (double)(i % 2)
                                      : (double)(i % 100) -
                                            (dtype_of(type)->is_signed || dtype_of(type)->is_float ? 50 : 0));
}

static void same(const tensor *a, const tensor *b)
{
    ck_assert_int_eq(a->type, b->type);
    ck_assert(shape_equal(&a->sh, &b->sh));
    ck_assert_mem_eq(a->data, b->data, tensor_bytes(a));
}

static bool is_shape(const tensor *t, shape sh)
{
    return shape_equal(&t->sh, &sh);
}

START_TEST(own_round_trip)
{
    const shape shapes[] = {
        {0}, SHAPE(5), SHAPE(1), SHAPE(0), SHAPE(3, 4), SHAPE(2, 0, 3), SHAPE(2, 1, 3, 1, 2, 1, 2, 2)};
    const char *path = test_path(test_tmp_dir(), "a.npy");
    for (size_t k = 0; k < TYPES; k++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            tensor a, b;
            make(&a, types[k], shapes[s], NULL);
            OK(npy_write(path, &a));
            OK(npy_read(path, lim(), &b));
            same(&a, &b);
            tensor_free(&a);
            tensor_free(&b);
        }
}
END_TEST

static void fill_list(tensor_list *l)
{
    for (size_t k = 0; k < TYPES; k++) {
        char name[64];
        tensor t;
        snprintf(name, sizeof name, "/model/layer.%zu/%s", k, dtype_of(types[k])->name);
        make(&t, types[k], SHAPE(3, (int64_t)k * 100 + 1), name);
        OK(tensor_list_add(l, &t));
    }
}

/* Row by row it is the same array; what cannot be read so is refused. */
START_TEST(rows_are_those_of_the_whole_array)
{
    const char *path = test_path(test_tmp_dir(), "rows.npy");
    npy_rows r;
    unsigned char part[4 * 3 * 8], *bytes;
    size_t n;
    for (size_t k = 0; k < TYPES; k++) {
        tensor a;
        make(&a, types[k], SHAPE(11, 4, 3), NULL);
        OK(npy_write(path, &a));
        OK(npy_rows_open(path, lim(), &r));
        ck_assert(r.type == types[k] && shape_equal(&r.sh, &a.sh) && r.row == tensor_bytes(&a) / 11);
        for (size_t i = 0; i < 11; i++) {
            OK(npy_rows_read(&r, i, 1, part));
            ck_assert_mem_eq(part, (char *)a.data + i * r.row, r.row);
        }
        npy_rows_close(&r);
        tensor_free(&a);
    }
    OK(io_read_file(path, 1 << 20, &bytes, &n));
    OK(io_write_file(path, bytes, n - 1));
    FAILS(ST_BAD_DATA, "it was cut off", npy_rows_open(path, lim(), &r));
    npy_rows_close(&r);
    OK(io_write_file(path, bytes, n));
    OK(npy_rows_open(path, lim(), &r));
    OK(io_write_file(path, "", 0)); /* another file of that name: what was opened stays */
    OK(npy_rows_read(&r, 10, 1, part));
    npy_rows_close(&r);
    mem_free(bytes);
    FAILS(ST_BAD_DATA, "not an npy file", npy_rows_open(path, lim(), &r));
    npy_rows_close(&r);
    FAILS(ST_NO_INPUT, "none.npy", npy_rows_open("/tmp/none.npy", lim(), &r));
    npy_rows_close(&r);
    tensor nothing;
    make(&nothing, DTYPE_F32, SHAPE(0, 2), NULL);
    OK(npy_write(path, &nothing));
    FAILS(ST_BAD_DATA, "no rows", npy_rows_open(path, lim(), &r));
    npy_rows_close(&r);
    tensor_free(&nothing);
    char fortran[137];
    snprintf(fortran, sizeof fortran, "%-10s%-117s\n12345678", "", "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2), }");
    memcpy(fortran, "\x93NUMPY\x01\x00\x76\x00", 10); /* 118 bytes of header follow */
    OK(io_write_file(path, fortran, sizeof fortran - 1));
    FAILS(ST_BAD_DATA, "C order", npy_rows_open(path, lim(), &r));
    npy_rows_close(&r);
}
END_TEST

START_TEST(npz_round_trip_and_same_bytes)
{
    const char *dir = test_tmp_dir();
    for (int deflated = 0; deflated < 2; deflated++) {
        const char *a = test_path(dir, deflated ? "d.npz" : "s.npz"), *again = test_path(dir, "again.npz");
        tensor_list l = {0}, m;
        unsigned char *x, *y;
        size_t nx, ny;
        fill_list(&l);
        OK(npz_write(a, l.at, l.n, deflated));
        OK(npz_write(again, l.at, l.n, deflated));
        OK(io_read_file(a, 1 << 30, &x, &nx));
        OK(io_read_file(again, 1 << 30, &y, &ny));
        ck_assert(nx == ny && memcmp(x, y, nx) == 0);
        OK(npz_read(a, lim(), &m));
        ck_assert_uint_eq(l.n, m.n);
        for (size_t i = 0; i < l.n; i++) {
            ck_assert_str_eq(l.at[i].name, m.at[i].name);
            same(&l.at[i], &m.at[i]);
        }
        mem_free(x);
        mem_free(y);
        tensor_list_free(&l);
        tensor_list_free(&m);
    }
    FAILS(ST_CANNOT_CREATE, "nowhere", npz_write(test_path(dir, "nowhere/x.npz"), NULL, 0, false));
}
END_TEST

START_TEST(files_of_numpy_in_the_repository)
{
    tensor_list l;
    OK(npz_read(SOURCE_DIR "/data/fashion-teacher/parity/student_init.npz", lim(), &l));
    const tensor *stem = tensor_list_find(&l, "stem.weight");
    ck_assert_ptr_nonnull(stem);
    ck_assert(stem->type == DTYPE_F32 && is_shape(stem, SHAPE(16, 1, 3, 3)));
    tensor_list_free(&l);
    OK(npz_read(SOURCE_DIR "/data/fashion-teacher/parity/logits_fp64.npz", lim(), &l));
    const tensor *t = tensor_list_find(&l, "teacher_logits");
    ck_assert_ptr_nonnull(t);
    ck_assert(t->type == DTYPE_F64 && is_shape(t, SHAPE(2560, 10)));
    tensor_list_free(&l);
}
END_TEST

/* NumPy reads what we wrote (given folder), checks it, and writes the same values in every other form. */
static const char script[] =
    "import sys, os, numpy as np\n"
    "d = sys.argv[1]\n"
    "names = 'float32 float64 float16 int8 uint8 int16 uint16 int32 uint32 int64 uint64 bool'.split()\n"
    "for f in ('s.npz', 'd.npz'):\n"
    "    z = np.load(os.path.join(d, f))\n"
    "    assert len(z.files) == 12, z.files\n"
    "    for k, n in enumerate(names):\n"
    "        a = z['/model/layer.%d/%s' % (k, n)]\n"
    "        i = np.arange(3 * (k * 100 + 1))\n"
    "        v = i % 2 if n == 'bool' else i % 100 - (50 if np.dtype(n).kind in 'if' else 0)\n"
    "        assert a.dtype == np.dtype(n) and a.shape == (3, k * 100 + 1), (n, a.dtype, a.shape)\n"
    "        assert (a == v.reshape(a.shape)).all(), n\n"
    "one = np.load(os.path.join(d, 'one.npy'))\n"
    "assert one.shape == (2, 3, 4) and one.dtype == np.int32 and (one.ravel() == np.arange(24) - 50).all()\n"
    "a = (np.arange(24) - 50).reshape(2, 3, 4).astype(np.int32)\n"
    "np.save(os.path.join(d, 'fortran.npy'), np.asfortranarray(a))\n"
    "np.save(os.path.join(d, 'big.npy'), a.astype('>i4'))\n"
    "np.save(os.path.join(d, 'bigfortran.npy'), np.asfortranarray(a.astype('>i4')))\n"
    "for v in ((1, 0), (2, 0), (3, 0)):\n"
    "    with open(os.path.join(d, 'v%d.npy' % v[0]), 'wb') as f: np.lib.format.write_array(f, a, "
    "version=v)\n"
    "np.savez(os.path.join(d, 'z.npz'), a=a, b=a.T, c=np.float64(3.5))\n"
    "np.savez_compressed(os.path.join(d, 'zc.npz'), a=a, b=a.T, c=np.float64(3.5))\n"
    "np.save(os.path.join(d, 'object.npy'), np.array([{}, 1], dtype=object), allow_pickle=True)\n"
    "np.save(os.path.join(d, 'struct.npy'), np.zeros(3, dtype=[('a', 'f4'), ('b', 'i4')]))\n"
    "np.save(os.path.join(d, 'text.npy'), np.array(['x', 'yy']))\n"
    "np.save(os.path.join(d, 'complex.npy'), np.zeros(3, np.complex64))\n";

static void reads_as(const char *dir, const char *name, const tensor *want)
{
    tensor t;
    OK(npy_read(test_path(dir, name), lim(), &t));
    same(want, &t);
    tensor_free(&t);
}

START_TEST(numpy_reads_ours_and_we_read_numpys)
{
    const char *python = test_python("numpy"), *dir = test_tmp_dir();
    if (!python) {
        test_skip("numpy_reads_ours_and_we_read_numpys", "no python3 with numpy");
        return;
    }
    tensor_list l = {0};
    tensor a;
    char command[8192];
    fill_list(&l);
    OK(npz_write(test_path(dir, "s.npz"), l.at, l.n, false));
    OK(npz_write(test_path(dir, "d.npz"), l.at, l.n, true));
    tensor_list_free(&l);
    make(&a, DTYPE_I32, SHAPE(2, 3, 4), NULL);
    OK(npy_write(test_path(dir, "one.npy"), &a));
    snprintf(command, sizeof command, "%s %s %s", python, save_text(dir, "check.py", script), dir);
    ck_assert_int_eq(system(command), 0);
    static const char *const same_values[] = {"fortran.npy", "big.npy", "bigfortran.npy",
                                              "v1.npy",      "v2.npy",  "v3.npy"};
    for (size_t i = 0; i < sizeof same_values / sizeof *same_values; i++)
        reads_as(dir, same_values[i], &a);
    for (int c = 0; c < 2; c++) {
        OK(npz_read(test_path(dir, c ? "zc.npz" : "z.npz"), lim(), &l));
        ck_assert_uint_eq(l.n, 3);
        same(&a, tensor_list_find(&l, "a"));
        const tensor *b = tensor_list_find(&l, "b"), *s = tensor_list_find(&l, "c");
        ck_assert(is_shape(b, SHAPE(4, 3, 2)) && s->sh.rank == 0);
        for (int64_t i = 0; i < 24; i++)
            ck_assert_double_eq(tensor_at(b, (i % 4) * 6 + i / 4 % 3 * 2 + i / 12), tensor_at(&a, i));
        ck_assert_double_eq(tensor_at(s, 0), 3.5);
        tensor_list_free(&l);
    }
    tensor_free(&a);
    tensor t;
    FAILS(ST_BAD_DATA, "pickle", npy_read(test_path(dir, "object.npy"), lim(), &t));
    FAILS(ST_BAD_DATA, "structured", npy_read(test_path(dir, "struct.npy"), lim(), &t));
    FAILS(ST_BAD_DATA, "'<U2'", npy_read(test_path(dir, "text.npy"), lim(), &t));
    FAILS(ST_BAD_DATA, "'<c8'", npy_read(test_path(dir, "complex.npy"), lim(), &t));
}
END_TEST

/* Every allocation on the way fails once: a clean error, nothing leaked (the sanitizer build tells). */
START_TEST(memory_runs_out)
{
    const char *dir = test_tmp_dir(), *path = test_path(dir, "m.npz");
    tensor_list l = {0}, m;
    fill_list(&l);
    OK(npz_write(path, l.at, l.n, true));
    bool done = false;
    int failures = 0;
    for (uint64_t n = 1; !done; n++) {
        mem_fail_at(n, true);
        status st = npz_read(path, lim(), &m);
        done = st == ST_OK;
        if (done)
            tensor_list_free(&m);
        else
            ck_assert_msg(st == ST_OOM, "status %d: %s", (int)st, status_message());
        failures += !done;
    }
    done = false;
    for (uint64_t n = 1; !done; n++) {
        mem_fail_at(n, true);
        status st = npz_write(test_path(dir, "w.npz"), l.at, l.n, true);
        mem_fail_at(0, true);
        done = st == ST_OK;
        ck_assert(done || (st == ST_OOM && !io_exists(test_path(dir, "w.npz"))));
        failures += !done;
    }
    ck_assert_int_gt(failures, 60);
    tensor_list_free(&l);
}
END_TEST

const test_entry test_table[] = {
    TEST(own_round_trip),
    TEST(rows_are_those_of_the_whole_array),
    TEST(npz_round_trip_and_same_bytes),
    TEST(files_of_numpy_in_the_repository),
    TEST(numpy_reads_ours_and_we_read_numpys),
    TEST(memory_runs_out),
    {0},
};
