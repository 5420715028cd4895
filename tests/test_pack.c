/* test_pack.c - a packed matrix, run from a fresh folder with an empty environment, comes back as it was packed; what was changed on
 * the way, belongs elsewhere or asks for too much is refused. */
#include "base/hash.h"
#include "base/io.h"
#include "base/json_in.h"
#include "base/mem.h"
#include "data/npy.h"
#include "data_files.h"
#include "harness.h"
#include "matrix/merge.h"
#include "matrix/pack.h"
#include "onnx_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SAMPLES = 7, CLASSES = 3 };

/* Speaks the protocol and answers what was expected, or misbehaves as its argument says. */
static const char fake[] =
    "import json, os, shutil, sys, time\n"
    "kind, q = sys.argv[1], json.loads(sys.stdin.readline())\n"
    "print('a log line of', kind, file=sys.stderr)\n"
    "if os.environ.get('HOME') or os.environ.get('DISTILL_RUNTIMES') is None: sys.exit(9)  # the environment was empty\n"
    "facts = {'protocol': 1, 'ok': True, 'runtime': 'Fake', 'version': '1.2', 'build': 'b', 'device': 'd', 'isa': 'sse', 'forms': ['onnx']}\n"
    "if kind == 'absent': print(json.dumps({'protocol': 1, 'ok': False, 'kind': 'missing', 'message': 'nobody here'})); sys.exit()\n"
    "if q.get('describe'): print(json.dumps(facts)); sys.exit()\n"
    "if kind == 'crash': os.abort()\n"
    "if kind == 'hang': time.sleep(60)\n"
    "if kind == 'garbage': print('{\"protocol\": 0}'); sys.exit()\n"
    "if kind == 'refuse': print(json.dumps({'protocol': 1, 'ok': False, 'kind': 'unsupported', 'message': 'no Conv here'})); sys.exit()\n"
    "root = os.path.dirname(os.path.dirname(q['model'])); name = os.path.basename(q['model'])[8:-5]\n"
    "shutil.copyfile(f'{root}/expected/{name}.npy', q['output'])\n"
    "facts.update(type='float32', shape=[7, 3], providers=[{'name': 'P', 'nodes': 5}], load_ms=1.5, run_s=0.5, latency_ms=[0.5, 0.25], peak_mb=12.5, notes=['one', 'two'])\n"
    "print(json.dumps(facts))\n";

typedef struct packed {
    const char *run, *archive, *folder; /* the run; the archive; where it was unpacked */
    pack_facts facts;
    tensor y;
} packed;

static tensor numbers(shape sh)
{
    tensor t;
    OK(tensor_new(&t, NULL, DTYPE_F32, sh));
    for (int64_t i = 0; i < shape_count(&sh); i++)
        tensor_put(&t, i, (double)(i * 37 % 23) / 8);
    return t;
}

static const char *const kinds[] = {"good", "absent", "crash", "hang", "garbage", "refuse"};

static void make_pack(packed *p, const char *target)
{
    const char *src = test_tmp_dir();
    p->run = test_tmp_dir();
    tensor x = numbers(SHAPE(SAMPLES, 2));
    p->y = numbers(SHAPE(SAMPLES, CLASSES));
    OK(npy_write(test_path(src, "x.npy"), &x));
    OK(npy_write(test_path(src, "y.npy"), &p->y));
    tensor_free(&x);
    const char *onnx = save_text(src, "student.a.onnx", "model a"), *param = save_text(src, "student.a.param", "layers");
    save_text(src, "student.a.bin", "weights");
    const pack_model both[] = {{"onnx", onnx}, {"ncnn", param}}, b[] = {{"onnx", save_text(src, "student.b.onnx", "model b")}};
    const pack_column columns[] = {
        {"a", both, 2, "x", test_path(src, "x.npy"), test_path(src, "y.npy"), NULL, SAMPLES},
        {"b", b, 1, "x", test_path(src, "x.npy"), test_path(src, "y.npy"), "logits", SAMPLES}};
    const pack_extra extras[] = {{"run.py", SOURCE_DIR "/tools/runners/run_pack.py", false},
                                 {"tools/runners/fake.py", save_text(src, "fake.py", fake), false}};
    pack_row rows[sizeof kinds / sizeof *kinds];
    const char *commands[sizeof kinds / sizeof *kinds][4];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        memcpy(commands[i], ((const char *[]){"{python}", "{pack}/tools/runners/fake.py", kinds[i], NULL}), sizeof commands[i]);
        rows[i] = (pack_row){.runtime = kinds[i], .title = "Fake", .how = "it cannot be had", .command = commands[i], .forms = "onnx",
                             .options = "{\"level\":\"all\"}", .seconds = i == 3 ? 0.5 : 30};
    }
    const pack_plan what = {.target = pack_find_target(target), .run = "demo", .set = "val", .columns = columns, .rows = rows,
                            .extras = extras, .n_columns = 2, .n_rows = sizeof kinds / sizeof *kinds, .n_extras = 2, .batch = 4,
                            .threads = 1, .latency_runs = 3, .latency_seconds = 0.1};
    p->archive = test_path(src, "pack");
    OK(pack_write(&what, p->run, p->archive, &p->facts));
}

static void unpack(packed *p)
{
    p->folder = test_tmp_dir();
    ck_assert(unpack_archive(p->archive, p->folder));
    p->folder = test_path(p->folder, "distill-matrix-linux");
}

/* sh run.sh there, with nothing in its environment; its exit status. */
static int run_there(const packed *p, const char *arguments, const char *out)
{
    char command[4096];
    snprintf(command, sizeof command, "cd / && env -i sh '%s/run.sh' %s --out '%s' >'%s' 2>&1", p->folder, arguments, out,
             test_path(p->folder, "said"));
    int code = system(command);
    if (code != 0 && !strstr(arguments, "--fails")) {
        unsigned char *said = NULL;
        size_t n;
        if (io_read_file(test_path(p->folder, "said"), 1 << 20, &said, &n) == ST_OK)
            fputs((char *)said, stderr);
        mem_free(said);
    }
    return code;
}

static bool no_python(const char *test)
{
    if (access("/usr/bin/python3", X_OK) == 0)
        return false;
    test_skip(test, "no /usr/bin/python3: what an empty environment finds");
    return true;
}

static const merge_cell *cell_of(const merge_result *r, const char *runtime, const char *variant)
{
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->cells[i].runtime, runtime) == 0 && strcmp(r->cells[i].variant, variant) == 0)
            return &r->cells[i];
    return NULL;
}

START_TEST(comes_back_as_it_was_packed)
{
    packed p;
    merge_result r;
    if (no_python("comes_back_as_it_was_packed"))
        return;
    make_pack(&p, "linux");
    unpack(&p);
    const char *result = test_path(p.folder, "result.json");
    ck_assert_int_eq(run_there(&p, "--name there", result), 0);
    OK(merge_read(result, p.run, &r));
    ck_assert_uint_eq(r.n, 10); /* five runtimes are present */
    ck_assert_str_eq(r.host.name, "there");
    ck_assert_str_eq(r.target, "linux");
    ck_assert_str_eq(r.id, p.facts.id);
    for (size_t i = 0; i < 2; i++) {
        const merge_cell *c = cell_of(&r, "good", i ? "b" : "a");
        ck_assert(c && c->ok && c->samples == SAMPLES && shape_equal(&c->y.sh, &p.y.sh));
        ck_assert_int_eq(memcmp(c->y.data, p.y.data, tensor_bytes(&p.y)), 0);
        ck_assert_str_eq(c->engine, "Fake");
        ck_assert_str_eq(c->providers, "P 5");
        ck_assert_str_eq(c->notes, "one; two");
        ck_assert(c->n_latency == 2 && c->latency_ms[1] == 0.25 && c->peak_mb == 12.5);
        ck_assert_ptr_nonnull(strstr(c->log, "a log line of good"));
    }
    ck_assert_str_eq(cell_of(&r, "crash", "a")->kind, "crash");
    ck_assert_str_eq(cell_of(&r, "hang", "a")->kind, "timeout");
    ck_assert_str_eq(cell_of(&r, "garbage", "a")->kind, "crash");
    ck_assert_str_eq(cell_of(&r, "refuse", "a")->message, "no Conv here");
    ck_assert_ptr_null(cell_of(&r, "absent", "a"));
    merge_free(&r);
    FAILS(ST_BAD_DATA, "did not make", merge_read(result, test_tmp_dir(), &r)); /* another run */
    merge_free(&r);
    tensor_free(&p.y);
}
END_TEST

START_TEST(outputs_of_others_are_collected)
{
    packed p;
    merge_result r;
    if (no_python("outputs_of_others_are_collected"))
        return;
    make_pack(&p, "linux");
    unpack(&p);
    const char *dir = test_tmp_dir();
    OK(io_make_dirs(test_path(dir, "good")));
    OK(npy_write(test_path(dir, "good/b.npy"), &p.y));
    save_text(dir, "good/b.json", "{\"runtime\": \"App\", \"version\": \"3\", \"latency_ms\": [7], \"form\": \"onnx\"}");
    char arguments[4096];
    snprintf(arguments, sizeof arguments, "--collect '%s' --name phone", dir);
    const char *result = test_path(p.folder, "result.json");
    ck_assert_int_eq(run_there(&p, arguments, result), 0);
    OK(merge_read(result, p.run, &r));
    ck_assert_uint_eq(r.n, 1);
    ck_assert(r.cells[0].ok && r.cells[0].n_latency == 1 && strcmp(r.cells[0].engine, "App") == 0);
    merge_free(&r);
    tensor_free(&p.y);
}
END_TEST

START_TEST(a_damaged_pack_does_not_run)
{
    static const char *const files[] = {"models/student.a.onnx", "inputs/x.npy", "expected/b.npy", "tools/runners/fake.py", "README.txt"};
    packed p;
    if (no_python("a_damaged_pack_does_not_run"))
        return;
    make_pack(&p, "linux");
    unpack(&p);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        unsigned char *bytes;
        size_t n;
        OK(io_read_file(test_path(p.folder, files[i]), 1 << 20, &bytes, &n));
        bytes[n / 2] ^= 1;
        OK(io_write_file(test_path(p.folder, files[i]), bytes, n));
        ck_assert_int_ne(run_there(&p, "--runtimes good", test_path(p.folder, "--fails")), 0);
        ck_assert(!io_exists(test_path(p.folder, "--fails")));
        bytes[n / 2] ^= 1;
        OK(io_write_file(test_path(p.folder, files[i]), bytes, n));
        mem_free(bytes);
    }
    ck_assert_int_eq(run_there(&p, "--runtimes good", test_path(p.folder, "result.json")), 0);
    tensor_free(&p.y);
}
END_TEST

/* ---- what is refused ---- */

static char *read_result(const char *path, size_t *n)
{
    unsigned char *bytes;
    OK(io_read_file(path, 1 << 24, &bytes, n));
    return (char *)bytes;
}

static void expect(const packed *p, const char *bytes, size_t n, const char *why)
{
    const char *path = test_path(p->run, "tried.json");
    merge_result r;
    OK(io_write_file(path, bytes, n));
    FAILS(ST_BAD_DATA, why, merge_read(path, p->run, &r));
    merge_free(&r);
}

START_TEST(whatever_is_changed_is_refused)
{
    packed p;
    size_t n;
    if (no_python("whatever_is_changed_is_refused"))
        return;
    make_pack(&p, "linux");
    unpack(&p);
    const char *result = test_path(p.folder, "result.json");
    ck_assert_int_eq(run_there(&p, "--runtimes good,refuse", result), 0);
    char *bytes = read_result(result, &n), *at = strstr(bytes, "\"latency_ms\": [0.5");
    ck_assert_ptr_nonnull(at);
    at[17] = '4'; /* a better latency */
    expect(&p, bytes, n, "signature does not hold");
    at[17] = '-';
    expect(&p, bytes, n, ""); /* no JSON any more, whatever the message */
    at[17] = '5';
    for (size_t i = 0; i < n; i += 61) { /* any byte */
        char was = bytes[i];
        bytes[i] = was == 'x' ? 'y' : 'x';
        expect(&p, bytes, n, "");
        bytes[i] = was;
    }
    for (size_t i = 0; i < n - 1; i += i < 400 ? 1 : 97) /* cut anywhere */
        expect(&p, bytes, i, "");
    bytes[n - 1] = ' '; /* its line's end */
    expect(&p, bytes, n, "signature does not hold");
    mem_free(bytes);
    tensor_free(&p.y);
}
END_TEST

/* Text of a result with `from` replaced by `to` (once), signed as who has the key could sign it. */
static void expect_signed(const packed *p, const char *bytes, const char *from, const char *to, const char *why)
{
    char name[64], hex[65];
    unsigned char key[32];
    const char *at = strstr(bytes, from);
    text t = {0};
    json_in j;
    arena mem = {0};
    ck_assert_msg(at != NULL, "the result has no %s", from);
    text_add_n(&t, bytes, (size_t)(at - bytes));
    text_add(&t, to);
    text_add(&t, at + strlen(from));
    snprintf(name, sizeof name, "%s/%s.json", PACK_FOLDER, p->facts.id);
    OK(json_in_open(&j, test_path(p->run, name), 1 << 20, 16));
    const char *said = json_in_string(&j, &mem, j.root, "key");
    for (size_t i = 0; i < 32; i++) {
        unsigned v;
        ck_assert_int_eq(sscanf(said + 2 * i, "%2x", &v), 1);
        key[i] = (unsigned char)v;
    }
    json_in_close(&j);
    arena_free(&mem);
    memset(t.s + 15, '0', 64);
    OK(hash_hmac_hex(key, 32, t.s, t.n, NULL, 0, hex));
    memcpy(t.s + 15, hex, 64);
    if (why) {
        expect(p, t.s, t.n, why);
    } else {
        merge_result r;
        OK(io_write_file(test_path(p->run, "tried.json"), t.s, t.n));
        OK(merge_read(test_path(p->run, "tried.json"), p->run, &r));
        merge_free(&r);
    }
    text_free(&t);
}

START_TEST(signed_but_hostile)
{
    packed p;
    size_t n;
    if (no_python("signed_but_hostile"))
        return;
    make_pack(&p, "linux");
    unpack(&p);
    const char *result = test_path(p.folder, "result.json");
    ck_assert_int_eq(run_there(&p, "--runtimes good", result), 0);
    char *b = read_result(result, &n);
    expect_signed(&p, b, "sse", "sve", NULL); /* the signing of this test is right */
    expect_signed(&p, b, "\"runtime\": \"good\", \"variant\": \"a\"", "\"runtime\": \"../../../../etc/x\", \"variant\": \"a\"", "was not packed");
    expect_signed(&p, b, "\"variant\": \"b\"", "\"variant\": \"a\"", "there twice");
    expect_signed(&p, b, "\"variant\": \"a\"", "\"variant\": \"c\"", "was not packed");
    expect_signed(&p, b, "\"form\": \"onnx\"", "\"form\": \"ncnn\"", "another model than was packed");
    expect_signed(&p, b, "\"form\": \"onnx\"", "\"form\": \"tflite\"", "another model than was packed");
    expect_signed(&p, b, "\"form\": \"onnx\", ", "", "does not say which file ran");
    expect_signed(&p, b, "\"input_sha256\": \"", "\"input_sha256\": \"0", "other inputs than were packed");
    expect_signed(&p, b, "\"samples\": 7", "\"samples\": 8", "1 to 7 were packed");
    expect_signed(&p, b, "\"samples\": 7", "\"samples\": 6", "not [6, ...]");
    expect_signed(&p, b, "\"output\": {\"type\": \"float32\", \"shape\": [7, 3]", "\"output\": {\"type\": \"float32\", \"shape\": [7, 3000000000000]", "");
    expect_signed(&p, b, "\"output\": {\"type\": \"float32\", \"shape\": [7, 3]", "\"output\": {\"type\": \"float32\", \"shape\": [7, 4]", "not as many");
    expect_signed(&p, b, "\"output\": {\"type\": \"float32\", \"shape\": [7, 3]", "\"output\": {\"type\": \"float32\", \"shape\": [7, -3]", "shape");
    expect_signed(&p, b, "\"output\": {\"type\": \"float32\"", "\"output\": {\"type\": \"float64\"", "outputs of type float64");
    expect_signed(&p, b, "\"data\": \"AAAA", "\"data\": \"AAAB", "not what their hash says");
    expect_signed(&p, b, "\"data\": \"AAAA", "\"data\": \"????", "not base64");
    expect_signed(&p, b, "\"latency_ms\": [0.5", "\"latency_ms\": [-0.5", "no time");
    expect_signed(&p, b, "\"latency_ms\": [0.5", "\"latency_ms\": [\"x\"", "no time");
    expect_signed(&p, b, "\"schema\": 1", "\"schema\": 2", "schema 2");
    expect_signed(&p, b, "\"version\": \"" DISTILL_VERSION "\"", "\"version\": \"9\"", "was made by version 9");
    expect_signed(&p, b, "\"manifest_sha256\": \"", "\"manifest_sha256\": \"0", "another manifest.json");
    expect_signed(&p, b, "\"pack\": \"", "\"pack\": \"../", "not a result");
    expect_signed(&p, b, "\"target\": \"linux\"", "\"target\": \"li\\u0007nux\"", "control characters");
    expect_signed(&p, b, "\"host\": {", "\"host\": {\"name\": \"\"}, \"x\": {", "which machine");
    uint64_t blocks = mem_count();
    merge_result r;
    OK(merge_read(result, p.run, &r));
    merge_free(&r);
    blocks = mem_count() - blocks;
    for (uint64_t i = 1; i <= blocks; i++) { /* memory that runs out at any place */
        mem_fail_at(i, false);
        status st = merge_read(result, p.run, &r);
        mem_fail_at(0, false);
        ck_assert_msg(st == ST_OOM, "%d: %s", (int)st, status_message());
        merge_free(&r);
    }
    text deep = {0};
    text_add(&deep, "\"x\": ");
    for (int i = 0; i < 100; i++)
        text_add(&deep, "[");
    for (int i = 0; i < 100; i++)
        text_add(&deep, "]");
    text_add(&deep, ", \"host\": {");
    expect_signed(&p, b, "\"host\": {", deep.s, "");
    text_free(&deep);
    mem_free(b);
    tensor_free(&p.y);
}
END_TEST

START_TEST(memory_and_disk_run_out)
{
    packed p;
    make_pack(&p, "linux");
    const char *src = test_tmp_dir(), *to = test_path(src, "out");
    const pack_model m[] = {{"onnx", save_text(src, "m.onnx", "m")}};
    OK(npy_write(test_path(src, "y.npy"), &p.y));
    const pack_column c = {"a", m, 1, "x", test_path(src, "y.npy"), test_path(src, "y.npy"), NULL, SAMPLES};
    const char *command[] = {"x", NULL};
    const pack_row row = {.runtime = "r", .title = "R", .command = command, .forms = "onnx", .seconds = 1};
    const pack_plan what = {.target = pack_find_target("windows"), .run = "r", .set = "s", .columns = &c, .rows = &row, .n_columns = 1,
                            .n_rows = 1, .batch = 1, .threads = 1};
    uint64_t calls = io_count();
    OK(pack_write(&what, p.run, to, NULL));
    calls = io_count() - calls;
    OK(io_remove(to));
    for (uint64_t i = 1; i <= calls; i++) {
        io_fail_at(i, 28); /* ENOSPC */
        status st = pack_write(&what, p.run, to, NULL);
        io_fail_at(0, 0);
        ck_assert(st == ST_OK || !io_exists(to) || strstr(status_message(), "fsync")); /* written whole or not at all */
        OK(io_remove(to));
    }
    uint64_t blocks = mem_count();
    OK(pack_write(&what, p.run, to, NULL));
    blocks = mem_count() - blocks;
    OK(io_remove(to));
    for (uint64_t i = 1; i <= blocks; i++) {
        mem_fail_at(i, false);
        status st = pack_write(&what, p.run, to, NULL);
        mem_fail_at(0, false);
        ck_assert(st == ST_OOM && !io_exists(to));
    }
    tensor_free(&p.y);
}
END_TEST

START_TEST(every_target_has_its_archive)
{
    for (const pack_target *t = pack_targets; t->name; t++) {
        packed p;
        unsigned char *bytes;
        size_t n;
        make_pack(&p, t->name);
        OK(io_read_file(p.archive, 1 << 20, &bytes, &n));
        ck_assert_int_eq(memcmp(bytes, strcmp(t->ending, ".zip") == 0 ? "PK" : "\x1f\x8b", 2), 0);
        ck_assert(n == p.facts.bytes && p.facts.files >= 12);
        ck_assert_ptr_nonnull(t->script_text);
        mem_free(bytes);
        tensor_free(&p.y);
    }
    ck_assert_ptr_null(pack_find_target("amiga"));
    ck_assert(pack_has_row(pack_find_target("linux"), "ort") && !pack_has_row(pack_find_target("windows"), "tflm"));
    ck_assert(!pack_has_row(pack_find_target("android"), "litert"));
}
END_TEST

const test_entry test_table[] = {TEST(comes_back_as_it_was_packed), TEST(outputs_of_others_are_collected), TEST(a_damaged_pack_does_not_run),
                                 TEST(whatever_is_changed_is_refused), TEST(signed_but_hostile), TEST(memory_and_disk_run_out),
                                 TEST(every_target_has_its_archive), {0}};
