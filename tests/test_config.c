/* test_config.c - job files: every key, every source, every fault. */
#include "harness.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/text.h"
#include "config/ini_reader.h"
#include "config/schema.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static const config_sources nothing;

/* A job from a text; fails the test when there are faults. */
static job *load(const char *ini)
{
    job *j = NULL;
    OK(config_load_text("cfg.ini", ini, strlen(ini), &nothing, &j));
    return j;
}

static job *load_set(const char *ini, const char *const *set, size_t n_set)
{
    config_sources from = {.set = set, .n_set = n_set};
    job *j = NULL;
    OK(config_load_text("cfg.ini", ini, ini ? strlen(ini) : 0, &from, &j));
    return j;
}

/* ---- good files ---------------------------------------------------------------------------------------------- */

START_TEST(defaults_are_those_of_the_schema)
{
    job *j = load("");
    ck_assert_int_eq(j->train.epochs, 10);
    ck_assert_int_eq(j->train.batch, 128);
    ck_assert(j->train.lr == 0.1);
    ck_assert(j->train.nesterov);
    ck_assert_int_eq(j->train.steps, 0);
    ck_assert_int_eq(j->train.optimizer, OPTIMIZER_SGD);
    ck_assert_uint_eq(j->train.no_decay.n, 2);
    ck_assert(names_contain(j->train.no_decay, "bias") && names_contain(j->train.no_decay, "norm"));
    ck_assert(j->distill.temperature == 4 && isnan(j->distill.temperature_end));
    ck_assert_uint_eq(j->data.labelled.n, 1);
    ck_assert(ranges_contain(j->data.labelled, 0) && ranges_contain(j->data.labelled, INT64_MAX - 1));
    ck_assert_str_eq(j->data.dir, "");
    ck_assert_int_eq(j->export.opset, 17);
    ck_assert_int_eq(j->export.batch, 0);
    ck_assert_uint_eq(j->n_layer, 0);
    ck_assert_uint_eq(j->n_hint, 0);
    limits want = limits_default();
    ck_assert_mem_eq(&j->limits, &want, sizeof want);
    config_free(j);
    config_free(NULL);
}
END_TEST

START_TEST(a_whole_file_is_read)
{
    job *j = load("\xEF\xBB\xBF; a job\r\n"
                  "[data]\r\n"
                  "dir = data/fashion-mnist   ; beside the program\r\n"
                  "labelled = 0:600 1000:\n"
                  "  # an indented comment\n"
                  "   \n"
                  "mean=0.2860\n"
                  "std:0.3530\n"
                  "augment = crop:2 flip mixup:0.2\n"
                  "val = a;b #c\n"
                  "[ student ] # header comment\n"
                  "arch = resnet\n"
                  "widths =\t16 24\t32\n"
                  "[train]\n"
                  "no_decay =\n"
                  "schedule = step\n"
                  "milestones = 2.5 5\n"
                  "clip = 1e-3\n"
                  "ema = off\n"
                  "[hint mid layer]\n"
                  "student = layer2\n"
                  "teacher = /layer3/Relu_output_0\n"
                  "weight_end = 0\n"
                  "[hint auto]\n"
                  "pairs = 2\n"
                  "[export]\n"
                  "batch = 8");
    ck_assert_str_eq(j->data.dir, "data/fashion-mnist");
    ck_assert_str_eq(j->data.val, "a;b #c");
    ck_assert_uint_eq(j->data.labelled.n, 2);
    ck_assert(ranges_contain(j->data.labelled, 599) && !ranges_contain(j->data.labelled, 600));
    ck_assert(!ranges_contain(j->data.labelled, 999) && ranges_contain(j->data.labelled, 1000));
    ck_assert(j->data.mean.n == 1 && j->data.mean.at[0] == 0.286);
    ck_assert(j->data.std.n == 1 && j->data.std.at[0] == 0.353);
    ck_assert_uint_eq(j->data.augment.n, 3);
    ck_assert_int_eq(j->data.augment.at[0].kind, AUGMENT_CROP);
    ck_assert(j->data.augment.at[0].value == 2);
    ck_assert_str_eq(j->data.augment.at[1].name, "flip");
    ck_assert(isnan(j->data.augment.at[1].value));
    ck_assert_int_eq(j->student.arch, ARCH_RESNET);
    ck_assert_uint_eq(j->student.widths.n, 3);
    ck_assert_int_eq(j->student.widths.at[2], 32);
    ck_assert_uint_eq(j->train.no_decay.n, 0);
    ck_assert_uint_eq(j->train.milestones.n, 2);
    ck_assert(j->train.clip == 1e-3 && j->train.ema == 0);
    ck_assert_uint_eq(j->n_hint, 2);
    ck_assert_str_eq(j->hint[0].name, "mid layer");
    ck_assert_str_eq(j->hint[0].teacher, "/layer3/Relu_output_0");
    ck_assert(j->hint[0].weight == 1 && j->hint[0].weight_end == 0);
    ck_assert_int_eq(j->hint[1].pairs, 2);
    ck_assert_uint_eq(j->hint[1].from.line, 24);
    ck_assert_int_eq(j->export.batch, 8);
    char where[ORIGIN_ROOM];
    ck_assert_str_eq(origin_text(config_origin(j, "data.dir"), where), "cfg.ini:3:7");
    ck_assert_str_eq(origin_text(config_origin(j, "student.widths"), where), "cfg.ini:13:10");
    ck_assert_str_eq(origin_text(config_origin(j, "hint.auto.pairs"), where), "cfg.ini:25:9");
    ck_assert_str_eq(origin_text(config_origin(j, "train.lr"), where), "default");
    ck_assert_ptr_null(config_origin(j, "train.no"));
    ck_assert_ptr_null(config_origin(j, "no"));
    ck_assert_ptr_null(config_origin(j, "hint.none.pairs"));
    config_free(j);
}
END_TEST

START_TEST(layers_keep_their_attributes)
{
    job *j = load("[layer c1]\nop = Conv\nchannels = 16\nkernel_shape = 3 3\n[layer r1]\nop = Relu\n"
                  "[layer sum]\nop = Add\ninput = r1 c1\n");
    ck_assert_uint_eq(j->n_layer, 3);
    ck_assert_str_eq(j->layer[0].op, "Conv");
    ck_assert_int_eq(j->layer[0].channels, 16);
    ck_assert_uint_eq(j->layer[0].n_free, 1);
    ck_assert_str_eq(j->layer[0].free[0].key, "kernel_shape");
    ck_assert_str_eq(j->layer[0].free[0].value, "3 3");
    ck_assert_uint_eq(j->layer[0].free[0].from.line, 4);
    ck_assert_uint_eq(j->layer[0].free[0].from.column, 16);
    ck_assert_uint_eq(j->layer[2].input.n, 2);
    ck_assert_str_eq(j->layer[2].input.at[1], "c1");
    FAILS(ST_CONFIG, "cfg.ini:4:16: error: kernel_shape: 3 numbers",
          config_fault(&j->layer[0].free[0].from, "kernel_shape: %d numbers", 3));
    config_free(j);
}
END_TEST

/* ---- sources ------------------------------------------------------------------------------------------------- */

START_TEST(later_sources_win)
{
    static const char ini[] =
        "[train]\nlr = 0.2\nbatch = 32\nseed = 2\nkeep = 4\n[hint mid]\nstudent = a\nteacher = b\n";
    const char *env[] = {"HOME=/root",
                         "DISTILL_TRAIN_LR=0.3",
                         "DISTILL_TRAIN_BATCH=64",
                         "DISTILL_TRAIN_SEED=3",
                         "DISTILL_DATA_VAL_LABELS=x y",
                         "DISTILL_DATA_VAL=z",
                         "DISTILL_TEST_DATA=/x",
                         "DISTILL_=1",
                         "DISTILL_TRAIN=1",
                         "DISTILL_HINT_X=1",
                         NULL};
    const char *set[] = {"train.batch=96",    "train.seed=4",      "hint.mid.weight=0.25",
                         "train.no_decay=",   "data.dir=a=b",      "layer.c.op=Relu",
                         "layer.c.alpha=0.1", "hint.auto.pairs=3", "train.batch=97"};
    const config_override flags[] = {{"train.seed", "5", "--seed"}, {"exec.threads", "2", "--threads"}};
    config_sources from = {.env = env, .set = set, .n_set = 9, .flags = flags, .n_flags = 2};
    job *j = NULL;
    OK(config_load_text("cfg.ini", ini, sizeof ini - 1, &from, &j));
    static const struct {
        const char *key, *origin;
    } want[] = {{"train.epochs", "default"},
                {"train.keep", "cfg.ini:5:8"},
                {"train.lr", "environment DISTILL_TRAIN_LR"},
                {"data.val_labels", "environment DISTILL_DATA_VAL_LABELS"},
                {"train.batch", "--set train.batch=97"},
                {"hint.mid.weight", "--set hint.mid.weight=0.25"},
                {"hint.mid.student", "cfg.ini:7:11"},
                {"layer.c.alpha", "--set layer.c.alpha=0.1"},
                {"train.seed", "--seed"},
                {"exec.threads", "--threads"}};
    char where[ORIGIN_ROOM];
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        ck_assert_str_eq(origin_text(config_origin(j, want[i].key), where), want[i].origin);
    ck_assert_int_eq(j->train.keep, 4);
    ck_assert(j->train.lr == 0.3);
    ck_assert_int_eq(j->train.batch, 97);
    ck_assert_int_eq(j->train.seed, 5);
    ck_assert_int_eq(j->exec.threads, 2);
    ck_assert(j->hint[0].weight == 0.25);
    ck_assert_uint_eq(j->n_hint, 2);
    ck_assert_uint_eq(j->train.no_decay.n, 0);
    ck_assert_str_eq(j->data.dir, "a=b");
    ck_assert_str_eq(j->layer[0].free[0].value, "0.1");
    config_free(j);
}
END_TEST

/* [data] views is [cache] views now: old files, variables and --set are still read, and printed where it stands now. */
START_TEST(a_key_that_moved_is_found)
{
    char buf[ORIGIN_ROOM];
    text t = {0};
    job *j = load("[data]\naugment = flip\nviews = 3\n[train]\nseed = 2\n"), *k = NULL;
    ck_assert_int_eq(j->cache.views, 3);
    ck_assert_str_eq(origin_text(config_origin(j, "cache.views"), buf), "cfg.ini:3:9");
    config_write(j, &t);
    ck_assert(strstr(t.s, "views = 3") > strstr(t.s, "[cache]"));
    text_free(&t);
    config_free(j);
    j = load_set("", (const char *const[]){"data.views=5"}, 1);
    ck_assert_int_eq(j->cache.views, 5);
    config_free(j);
    const char both[] = "[data]\nviews = 3\n[cache]\nviews = 4\n";
    FAILS(ST_CONFIG, "stands twice", config_load_text("cfg.ini", both, sizeof both - 1, &nothing, &k));
}
END_TEST

START_TEST(bad_overrides)
{
    static const struct {
        const char *set, *want;
    } rows[] = {
        {"", "--set : error: expected section.key=value"},
        {"train", "--set train: error: expected section.key=value"},
        {"train.lr", "--set train.lr: error: expected section.key=value"},
        {"=3", "expected section.key=value"},
        {".=3", "expected section.key=value"},
        {"train.=3", "expected section.key=value"},
        {".lr=3", "expected section.key=value"},
        {"lr=3", "expected section.key=value"},
        {"train.lr=", "lr: has no value; expected: number, 0 to 1000000"},
        {"train.nesterov=", "nesterov: has no value"},
        {"train.optimizer=", "optimizer: has no value"},
        {"trian.lr=1", "unknown section [trian]; did you mean 'train'?"},
        {"matrix.runtime=ort", "unknown key 'runtime' in [matrix]; did you mean 'runtimes'?"},
        {"gate.x.top=1", "[gate] takes no name"},
        {"device.memory=1", "[device] needs a name"},
        {"train.lrr=1", "unknown key 'lrr' in [train]; did you mean 'lr'?"},
        {"train.x.lr=1", "[train] takes no name"},
        {"hint.weight=1", "[hint] needs a name"},
        {"hint.a]b.weight=1", "expected section.key=value"},
        {"data.dir=a ;b", "the value cannot stand in a file"},
        {"data.dir=;b", "the value cannot stand in a file"},
        {"data.dir= b", "the value cannot stand in a file"},
        {"data.dir=a\nlr = 3", "the value cannot stand in a file"},
        {"data.dir=\xff", "the value cannot stand in a file"},
        {"layer.a.b c=1", "expected section.key=value"},
        {"train.lr=0x10", "--set train.lr=0x10: error: lr: '0x10' is not a number"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        config_sources from = {.set = &rows[i].set, .n_set = 1};
        job *j = NULL;
        FAILS(ST_CONFIG, rows[i].want, config_load(&from, &j));
        ck_assert_ptr_null(j);
    }
    const char *env[] = {"DISTILL_TRAIN_LEARNING=1", NULL};
    config_sources from = {.env = env};
    job *j = NULL;
    FAILS(ST_CONFIG, "environment DISTILL_TRAIN_LEARNING: error: unknown key 'learning' in [train]",
          config_load(&from, &j));
    env[0] = "DISTILL_TRAIN_LR=";
    FAILS(ST_CONFIG, "environment DISTILL_TRAIN_LR: error: lr: has no value", config_load(&from, &j));
    const config_override flag = {"exec.threads", "many", "--threads"};
    from = (config_sources){.flags = &flag, .n_flags = 1};
    FAILS(ST_CONFIG, "--threads: error: threads: 'many' is not a whole number", config_load(&from, &j));
}
END_TEST

/* ---- bad files ----------------------------------------------------------------------------------------------- */

#define T "[train]\n"
#define D "[data]\n"
#define S "[student]\n"
#define X "[distill]\n"

static const struct {
    const char *ini, *want; /* the whole first line, or its beginning */
} bad[] = {
    /* lines */
    {"lr = 1\n", "cfg.ini:1:1: error: the key stands before any [section]"},
    {T "  lr = 1\n", "cfg.ini:2:3: error: the line is indented"},
    {T "lr = 1\n\t2\n", "cfg.ini:3:2: error: the line is indented"},
    {" [train]\n", "cfg.ini:1:2: error: the line is indented"},
    {"[train\nlr = 1\n", "cfg.ini:1:7: error: the section header has no ']'"},
    {"[train]]\n", "cfg.ini:1:8: error: something stands after the section header"},
    {"[train] lr = 1\n", "cfg.ini:1:9: error: something stands after the section header"},
    {"[]\n", "cfg.ini:1:2: error: the section has no name"},
    {"[  ]\n", "cfg.ini:1:2: error: the section has no name"},
    {T "lr\n", "cfg.ini:2:1: error: expected 'key = value'"},
    {T "lr ; = 3\n", "cfg.ini:2:1: error: expected 'key = value'"},
    {T "= 3\n", "cfg.ini:2:1: error: there is no key before the '='"},
    {T "lr = 1\rbatch = 2\n", "cfg.ini:2:7: error: a carriage return without a line feed"},
    {T "lr = 1\xff\n", "cfg.ini:2:7: error: a byte that is not UTF-8"},
    {T "lr = \xc3\xa9\xc0\x80\n", "cfg.ini:2:7: error: a byte that is not UTF-8"},
    {"; \xe9\n", "cfg.ini:1:3: error: a byte that is not UTF-8"},
    {T "lr = 1\x1b[2J\n", "cfg.ini:2:7: error: a control character"},
    {"\xEF\xBB\xBF\xEF\xBB\xBF" T, "cfg.ini:1:1: error: the key stands before any [section]"},
    {T "an_extremely_long_key_that_goes_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_"
       "and_on = 1\n",
     "cfg.ini:2:1: error: the line has no '=' or a very long key"},
    /* sections and keys */
    {"[trian]\n", "cfg.ini:1:1: error: unknown section [trian]; did you mean 'train'?"},
    {"[Train]\n", "cfg.ini:1:1: error: unknown section [Train]; did you mean 'train'?"},
    {"[something]\nx = 1\ny = 2\n", "cfg.ini:1:1: error: unknown section [something]"},
    {"[matrix]\nslow_samples = 0\n", "cfg.ini:2:16: error: slow_samples: 0 is out of range (1 to 1000000000)"},
    {"[gate]\ntop1 >= 0.9\ntop1 >=  0.9 ; again\n", "cfg.ini:3:10: error: key 'top1 >= 0.9' stands twice in [gate]; first in line 2"},
    {"[gate]\na = top1 > 0.9\na = top1 > 0.8\n", "cfg.ini:3:5: error: key 'a' stands twice in [gate]; first in line 2"},
    {"[gate]\ntop1 > 0.9\n", "cfg.ini:2:1: error: expected 'key = value'"},
    {"[device a]\nram = 1\n", "cfg.ini:2:1: error: unknown key 'ram' in [device]"},
    {"[train]\n[data]\n[train]\n", "cfg.ini:3:1: error: section [train] stands twice; first in line 1"},
    {"[hint a]\nstudent = a\nteacher = b\n[hint a]\n",
     "cfg.ini:4:1: error: section [hint a] stands twice; first in line 1"},
    {"[train x]\n", "cfg.ini:1:1: error: [train] takes no name"},
    {"[hint]\n", "cfg.ini:1:1: error: [hint] needs a name: [hint NAME]"},
    {T "momentun = 1\n", "cfg.ini:2:1: error: unknown key 'momentun' in [train]; did you mean 'momentum'?"},
    {T "LR = 1\n", "cfg.ini:2:1: error: unknown key 'LR' in [train]; did you mean 'lr'?"},
    {T "weight-decay = 1\n",
     "cfg.ini:2:1: error: unknown key 'weight-decay' in [train]; did you mean 'weight_decay'?"},
    {T "qqqq = 1\n", "cfg.ini:2:1: error: unknown key 'qqqq' in [train]"},
    {T "lr = 1\nlr = 2\n", "cfg.ini:3:1: error: key 'lr' stands twice in [train]; first in line 2"},
    {"[layer a]\nop = Conv\npads = 1\npads = 2\n",
     "cfg.ini:4:8: error: key 'pads' stands twice in [layer a]; first in line 3"},
    /* numbers */
    {T "lr =\n", "cfg.ini:2:5: error: lr: has no value; expected: number, 0 to 1000000"},
    {T "lr = 1e400\n", "cfg.ini:2:6: error: lr: '1e400' is too large"},
    {T "lr = 1e-400\n", "cfg.ini:2:6: error: lr: '1e-400' is too small"},
    {T "lr = nan\n", "cfg.ini:2:6: error: lr: 'nan' is not a number"},
    {T "lr = inf\n", "cfg.ini:2:6: error: lr: 'inf' is not a number"},
    {T "lr = 0x1p3\n", "cfg.ini:2:6: error: lr: '0x1p3' is not a number"},
    {T "lr = 1,5\n", "cfg.ini:2:6: error: lr: '1,5' is not a number"},
    {T "lr = 1_000\n", "cfg.ini:2:6: error: lr: '1_000' is not a number"},
    {T "lr = -1\n", "cfg.ini:2:6: error: lr: -1 is out of range (0 to 1000000)"},
    {T "lr = 0.1 # fast\n", "cfg.ini:2:6: error: lr: '0.1 # fast' is not a number; write it like 0.1 or 1e-3 "
                            "(after a value, comments begin with ';')"},
    {T "epochs = 5 epochs\n", "cfg.ini:2:10: error: epochs: '5 epochs' is not a whole number"},
    {T "epochs = 1.5\n", "cfg.ini:2:10: error: epochs: '1.5' is not a whole number"},
    {T "epochs = 9223372036854775808\n", "cfg.ini:2:10: error: epochs: '9223372036854775808' is too large"},
    {T "epochs = 0\n", "cfg.ini:2:10: error: epochs: 0 is out of range (1 to 1000000)"},
    {T "momentum = 1\n", "cfg.ini:2:12: error: momentum: 1 is out of range (0 to below 1)"},
    {T "ema = 0.9999x\n", "cfg.ini:2:7: error: ema: '0.9999x' is not a number"},
    {T "clip = -0.5\n", "cfg.ini:2:8: error: clip: -0.5 is out of range (above 0 to 1000000000, or off)"},
    {X "temperature = 0\n", "cfg.ini:2:15: error: temperature: 0 is out of range (above 0 to 1000000)"},
    {"[export]\nopset = 22\n", "cfg.ini:2:9: error: opset: 22 is out of range (13 to 21)"},
    {"[export]\nbatch = dynamik\n", "cfg.ini:2:9: error: batch: 'dynamik' is not a whole number"},
    {"[limits]\nnodes = 0\n", "cfg.ini:2:9: error: nodes: 0 is out of range (>= 1)"},
    /* words */
    {T "nesterov = maybe\n", "cfg.ini:2:12: error: nesterov: 'maybe' is neither true nor false"},
    {T "optimizer = adamv\n",
     "cfg.ini:2:13: error: optimizer: 'adamv' is unknown; did you mean 'adam'? (sgd, adam or adamw)"},
    {T "optimizer = SGD\n", "cfg.ini:2:13: error: optimizer: 'SGD' is unknown; did you mean 'sgd'?"},
    {S "arch = vgg\n", "cfg.ini:2:8: error: arch: 'vgg' is unknown; it may be auto, mlp, cnn, resnet, wrn, "
                       "mobilenetv2 or dscnn"},
    {T "no_decay = bias nrom\n", "cfg.ini:2:17: error: no_decay: 'nrom' is unknown; did you mean 'norm'?"},
    /* lists */
    {S "widths = 16 24 x\n", "cfg.ini:2:16: error: widths: 'x' is not a whole number"},
    {S "widths = 16, 24\n", "cfg.ini:2:10: error: widths: '16,' is not a whole number"},
    {S "widths = 16 0\n", "cfg.ini:2:13: error: widths: 0 is out of range"},
    {D "std = 0.5 0\n", "cfg.ini:2:11: error: std: 0 is out of range (above 0"},
    {D "labelled = 600\n", "cfg.ini:2:12: error: labelled: '600' is not a range"},
    {D "labelled =\n", "cfg.ini:2:11: error: labelled: has no value; write none for no sample"},
    {D "labelled = 0:10 20:20\n", "cfg.ini:2:17: error: labelled: the range 20:20 is empty"},
    {D "labelled = -5:\n", "cfg.ini:2:12: error: labelled: the range -5: is empty"},
    {D "labelled = 1:2:3\n", "cfg.ini:2:12: error: labelled: '2:3' is not a whole number"},
    {D "labelled = 0:10 none\n", "cfg.ini:2:17: error: labelled: 'none' is not a range"},
    {D "augment = crop:2 flop\n", "cfg.ini:2:18: error: augment: 'flop' is unknown; did you mean 'flip'?"},
    {D "augment = crop:\n", "cfg.ini:2:11: error: augment: '' is not a number"},
    {D "augment = \xc3\xa9 crop:x\n", "cfg.ini:2:11: error: augment: '\xc3\xa9' is unknown"},
    {D "dir = \xc3\xa9\xc3\xa9\naugment = flip \xc3\xa9\n",
     "cfg.ini:3:16: error: augment: '\xc3\xa9' is unknown"},
    /* between values */
    {D "augment = crop\n", "cfg.ini:2:11: error: augment: crop needs a number: pixels of padding"},
    {D "augment = crop:1.5\n", "cfg.ini:2:11: error: augment: crop needs a number: pixels of padding"},
    {D "augment = flip:1\n", "cfg.ini:2:11: error: augment: flip takes no number"},
    {D "augment = flip flip\n", "cfg.ini:2:11: error: augment: flip stands twice"},
    {D "mean = 0 0 0\nstd = 1 1\n", "cfg.ini:3:7: error: std: has 2 values, mean has 3"},
    {D "size = 1 2 3\n", "cfg.ini:2:8: error: size: has 3 values"},
    {D "labels = a\n", "cfg.ini:2:10: error: labels: belong to data.train"},
    {D "val_labels = a\n", "cfg.ini:2:14: error: val_labels: belong to data.val"},
    {D "dir = a\ntrain = b\n", "cfg.ini:3:9: error: train: data.dir is set too"},
    {S "arch = mlp\nonnx = s.onnx\n", "cfg.ini:3:8: error: onnx: student.arch is set too"},
    {S "arch = mlp\n[layer a]\nop = Relu\n",
     "cfg.ini:3:1: error: a [layer NAME] section beside student.arch"},
    {"[layer a]\nkernel = 3\n", "cfg.ini:1:1: error: [layer a] has no op"},
    {S "from_scratch = yes\n", "cfg.ini:2:16: error: from_scratch: has a meaning only with student.onnx"},
    {T "schedule = step\n", "cfg.ini:2:12: error: schedule: step needs milestones"},
    {T "milestones = 5\n", "cfg.ini:2:14: error: milestones: have a meaning only with schedule = step"},
    {T "schedule = step\nmilestones = 5 5\n",
     "cfg.ini:3:14: error: milestones: each must be above the one before"},
    {T "epochs = 2\nwarmup = 2\n",
     "cfg.ini:3:10: error: warmup: is as long as the whole training (2 epochs)"},
    {T "min_lr = 0.2\n", "cfg.ini:2:10: error: min_lr: is above lr"},
    {X "task = 0\nkd = 0\n", "cfg.ini:3:6: error: distill.task, distill.kd and all hints have weight 0"},
    {X "ramp = constant\nkd_end = 0\n", "cfg.ini:2:8: error: ramp: constant, but an ..._end value is set"},
    {X "task_loss = mse\nlabel_smoothing = 0.1\n",
     "cfg.ini:3:19: error: label_smoothing: has a meaning only with task_loss = ce"},
    {"[hint auto]\n", "cfg.ini:1:1: error: [hint auto] needs the number of pairs"},
    {"[hint auto]\npairs = 2\nstudent = a\n", "cfg.ini:1:1: error: [hint auto] finds its layers by itself"},
    {"[hint a]\nstudent = x\n", "cfg.ini:1:1: error: [hint a] needs student = LAYER and teacher = VALUE"},
    {"[hint a]\nstudent = x\nteacher = y\npairs = 2\n",
     "cfg.ini:1:1: error: [hint a]: pairs has a meaning only in [hint auto]"},
    {"[export]\nvariants = fp32 int8\n", "cfg.ini:2:17: error: variants: 'int8' is unknown; did you mean 'int8-ptq'?"},
    {"[export]\nvariants =\n", "cfg.ini:2:11: error: variants: none"},
    {"[exec]\ndevice = gpu\n", "cfg.ini:2:10: error: device: 'gpu' is unknown"},
    {"[exec]\ndevice = cuda:\n", "cfg.ini:2:10: error: device: 'cuda:' is unknown"},
};

START_TEST(bad_files_are_refused)
{
    size_t n = sizeof bad / sizeof *bad;
    ck_assert_uint_ge(n, 40);
    for (size_t i = 0; i < n; i++) {
        job *j = NULL;
        status st = config_load_text("cfg.ini", bad[i].ini, strlen(bad[i].ini), &nothing, &j);
        ck_assert_msg(st == ST_CONFIG, "no error in:\n%s", bad[i].ini);
        ck_assert_ptr_null(j);
        ck_assert_msg(strncmp(status_message(), bad[i].want, strlen(bad[i].want)) == 0,
                      "for:\n%s\ngot:  %s\nwant: %s", bad[i].ini, status_message(), bad[i].want);
        ck_assert_msg(strchr(status_message(), '\n') == NULL, "for:\n%s\nmore than one error: %s", bad[i].ini,
                      status_message());
    }
}
END_TEST

START_TEST(bytes_of_a_file)
{
    job *j = NULL;
    static const char nul[] = "[train]\nlr = 1\0 2\n";
    FAILS(ST_CONFIG, "cfg.ini:2:7: error: a NUL byte",
          config_load_text("cfg.ini", nul, sizeof nul - 1, &nothing, &j));
    const char *dir = test_tmp_dir(), *path = test_path(dir, "a.ini");
    config_sources from = {.file = path};
    FAILS(ST_NO_INPUT, "a.ini: cannot be opened", config_load(&from, &j));
    OK(io_write_file(path, "[train]\nlr = 3", 14));
    OK(config_load(&from, &j));
    ck_assert(j->train.lr == 3);
    config_free(j);
    from.file = dir;
    FAILS(ST_BAD_DATA, "is a folder", config_load(&from, &j));
    from.file = "/dev/zero";
    FAILS(ST_BAD_DATA, "is a device", config_load(&from, &j));
    from.file = test_path(dir, "fifo");
    ck_assert_int_eq(mkfifo(from.file, 0600), 0);
    FAILS(ST_BAD_DATA, "is a pipe", config_load(&from, &j));
    /* the file limit and one byte more */
    size_t n = (size_t)limits_default().ini_file;
    char *big = NULL;
    OK(mem_alloc(&big, n + 1, 1));
    memset(big, '\n', n + 1);
    OK(io_write_file(path, big, n));
    from.file = path;
    OK(config_load(&from, &j));
    config_free(j);
    OK(io_write_file(path, big, n + 1));
    FAILS(ST_BAD_DATA, "more than the limit of 1048576", config_load(&from, &j));
    mem_free(big);
}
END_TEST

/* Values of any length up to the line limit arrive as they are written, whatever inih's buffer. */
START_TEST(long_lines)
{
    static const size_t lengths[] = {1,   150, 180, 190, 195, 196, 197,  198,      199,
                                     200, 201, 202, 210, 390, 400, 1000, 65536 - 6};
    rng r = rng_make(5, RNG_TEST, 0, 0);
    static const char letters[] = "ab /.=:;#[\\\"x\xc3\xa9";
    for (size_t i = 0; i < 400; i++) {
        size_t n = i < 17 ? lengths[i] : 1 + rng_below(&r, 900);
        text ini = {0}, want = {0};
        for (size_t k = 0; k < n; k++) {
            uint32_t c = rng_below(&r, i < 17 ? 2 : 15);
            bool edge = k == 0 || k + 1 == n;
            if (c == 13 && k + 1 < n) {
                text_add(&want, "\xc3\xa9");
                k++;
            } else {
                char letter = edge || c >= 13 ? 'z' : letters[c];
                text_add_n(&want, letter == ';' && want.s[want.n - 1] == ' ' ? "_" : &letter, 1);
            }
        }
        text_printf(&ini, "[data]\n; %s\ndir = %s%s\nmean = 0.5\n", n < 60000 ? want.s : "", want.s,
                    n < 60000 ? "  ; comment = 3 ; \xc3\xa9" : "");
        job *j = NULL;
        OK(config_load_text("cfg.ini", ini.s, ini.n, &nothing, &j));
        ck_assert_str_eq(j->data.dir, want.s);
        ck_assert_uint_eq(j->data.mean.n, 1);
        config_free(j);
        text_free(&ini);
        text_free(&want);
    }
    /* one byte more than a line may have */
    text ini = {0};
    text_add(&ini, "[data]\ndir = ");
    while (ini.n < 7 + 65537)
        text_add(&ini, "x");
    job *j = NULL;
    FAILS(ST_CONFIG, "cfg.ini:2:1: error: the line has 65537 bytes; 65536 are allowed",
          config_load_text("cfg.ini", ini.s, ini.n, &nothing, &j));
    text_free(&ini);
    /* a list of single digits, long runs of blanks, and the column of a fault far to the right */
    text_add(&ini, "[train]\nschedule = step\nmilestones =");
    for (int i = 1; i <= 500; i++)
        text_printf(&ini, " %d", i);
    j = load(ini.s);
    ck_assert_uint_eq(j->train.milestones.n, 500);
    ck_assert(j->train.milestones.at[499] == 500);
    config_free(j);
    text_add(&ini, " y");
    FAILS(ST_CONFIG, "cfg.ini:3:1906: error: milestones: 'y' is not a number",
          config_load_text("cfg.ini", ini.s, ini.n, &nothing, &j));
    text_free(&ini);
    text_printf(&ini, "[train]\nlr =%*s0.5%*s; x\n", 190, "", 900, "");
    j = load(ini.s);
    ck_assert(j->train.lr == 0.5);
    config_free(j);
    text_free(&ini);
    text_printf(&ini, "[data]\ndir = a%*sb\n", 900, "");
    FAILS(ST_CONFIG, "error: too many blanks or comment signs in a row",
          config_load_text("cfg.ini", ini.s, ini.n, &nothing, &j));
    text_free(&ini);
}
END_TEST

START_TEST(all_faults_at_once)
{
    text ini = {0};
    text_add(&ini, "[train]\n");
    for (int i = 0; i < 20; i++)
        text_printf(&ini, "qq%d = 1\n", i);
    job *j = NULL;
    for (int more = 0; more < 2; more++) {
        FAILS(ST_CONFIG, "cfg.ini:2:1: error: unknown key 'qq0' in [train]",
              config_load_text("cfg.ini", ini.s, ini.n, &nothing, &j));
        int lines = 1;
        for (const char *p = status_message(); *p; p++)
            lines += *p == '\n';
        ck_assert_int_eq(lines, 20 + more);
        ck_assert_ptr_nonnull(strstr(status_message(), "cfg.ini:21:1: error: unknown key 'qq19' in [train]"));
        ck_assert(!more == !strstr(status_message(), "there are more errors; these are the first 20"));
        text_add(&ini, "qq20 = 1\n");
    }
    text_free(&ini);
    /* faults of all sources together */
    const char *env[] = {"DISTILL_TRAIN_LR=x", NULL}, *set[] = {"train.epochs=x"};
    config_sources from = {.env = env, .set = set, .n_set = 1};
    static const char one[] = "[train]\nbatch = x\n";
    ck_assert_int_eq(config_load_text("cfg.ini", one, sizeof one - 1, &from, &j), ST_CONFIG);
    ck_assert_str_eq(
        status_message(),
        "cfg.ini:2:9: error: batch: 'x' is not a whole number\n"
        "environment DISTILL_TRAIN_LR: error: lr: 'x' is not a number; write it like 0.1 or 1e-3\n"
        "--set train.epochs=x: error: epochs: 'x' is not a whole number");
}
END_TEST

START_TEST(too_much_is_refused)
{
    text ini = {0};
    job *j = NULL;
    for (int i = 0; i < 5000; i++)
        text_printf(&ini, "[layer l%d]\nop = Relu\n", i);
    FAILS(ST_CONFIG, "more than 4096 sections", config_load_text("cfg.ini", ini.s, ini.n, &nothing, &j));
    text_free(&ini);
    text_add(&ini, "[layer a]\nop = Relu\n");
    for (int i = 0; i < 257; i++)
        text_printf(&ini, "k%d = 1\n", i);
    FAILS(ST_CONFIG, "cfg.ini:259:8: error: [layer a] has more than 256 keys",
          config_load_text("cfg.ini", ini.s, ini.n, &nothing, &j));
    text_free(&ini);
}
END_TEST

/* ---- printing ------------------------------------------------------------------------------------------------ */

/* Another valid value than the default, for a key. */
static const char *another_value(const schema_key *k, const char *section)
{
    static char buf[64];
    if (strcmp(k->name, "variants") == 0 || strcmp(k->name, "from_scratch") == 0 ||
        strcmp(section, "hint") == 0)
        return NULL;
    switch (k->type) {
    case KEY_BOOL:
        return strcmp(k->dflt, "true") == 0 ? "false" : "true";
    case KEY_INT:
    case KEY_INTS:
        snprintf(buf, sizeof buf, "%.0f", k->lo + 1);
        if (strcmp(buf, k->dflt) == 0)
            snprintf(buf, sizeof buf, "%.0f", k->lo + 2);
        return buf;
    case KEY_FLOAT:
    case KEY_FLOATS:
        snprintf(buf, sizeof buf, "%.17g", k->lo + (k->hi < 2 ? (k->hi - k->lo) / 3 : 1.0 / 3));
        return buf;
    case KEY_STRING:
    case KEY_PATH:
        return strcmp(k->name, "device") == 0 ? "cuda:1" : "some  text = x;y \xc3\xa9";
    case KEY_ENUM:
    case KEY_NAMES:
        return k->choices ? k->choices[strcmp(k->choices[0].text, k->dflt) == 0].text : "a b";
    case KEY_RANGES:
        return "3:5 7:";
    default:
        return "flip crop:3 jitter:0.30000000000000004";
    }
}

static void check_round_trip(job *j)
{
    text first = {0}, second = {0};
    char hash[65], hash2[65];
    config_write(j, &first);
    ck_assert_int_eq(first.st, ST_OK);
    job *again = load(first.s);
    config_write(again, &second);
    ck_assert_str_eq(first.s, second.s);
    OK(config_hash(j, hash));
    OK(config_hash(again, hash2));
    ck_assert_str_eq(hash, hash2);
    /* --show is an INI file too */
    text_free(&second);
    config_show(j, &second);
    config_free(again);
    again = load(second.s);
    text_free(&second);
    config_write(again, &second);
    ck_assert_str_eq(first.s, second.s);
    config_free(again);
    text_free(&first);
    text_free(&second);
}

/* Runs that were made before a key was there go on where it has its default, and not where it has not. */
START_TEST(keys_that_came_later)
{
    static const struct {
        const char *ini;
        bool same;
    } rows[] = {{"[train]\nprecision = auto\n", true}, {"[train]\nprecision = fp16\n", false}, {"[teacher]\nprecision = fp32\n", true},
                {"[teacher]\nprecision = same\n", true}, {"[teacher]\nprecision = bf16\n", false}, {"[exec]\ncudnn_plans = measure\n", true},
                {"[train]\nlog_every = 3\n", true}, {"[train]\nlr = 0.2\n", false}};
    char plain[65], hash[65];
    job *j = load("");
    OK(config_hash(j, plain));
    config_free(j);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        j = load(rows[i].ini);
        OK(config_hash(j, hash));
        ck_assert_msg((strcmp(plain, hash) == 0) == rows[i].same, "%s", rows[i].ini);
        config_free(j);
    }
}
END_TEST

START_TEST(written_files_read_back)
{
    job *j = load("");
    check_round_trip(j);
    config_free(j);
    j = load("[layer c1]\nop = Conv\nkernel_shape = 3 3\n[layer x y]\nop = Relu\n[hint auto]\npairs = 2\n"
             "[train]\nlr = 0.30000000000000004\nno_decay =\n[data]\nlabelled = none\ndir = a;b # c\n");
    check_round_trip(j);
    config_free(j);
    j = load("[gate]\ntop1 >= 0.92\nsize = size_mb <= 1\ntop1 drop <= 0.005 vs teacher\n[device phone]\nlatency = 12\n");
    check_round_trip(j);
    config_free(j);
}
END_TEST

/* Rules stand with a name, which --set can replace, or without; the hash, by which a run is resumed, does not know of them. */
START_TEST(gate_rules_are_kept_as_they_stand)
{
    char buf[ORIGIN_ROOM], hash[65], without[65];
    const char *set[] = {"gate.size=size_mb < 2", "gate.new=disagree <= 0.001"};
    job *j = load("");
    OK(config_hash(j, without));
    ck_assert_uint_eq(j->gate.n_free, 0);
    ck_assert_str_eq(j->gate.name, "");
    config_free(j);
    j = load_set("[gate]\ntop1 >= 0.92 ; a comment\nsize = size_mb <= 1\nspread<=0.003\nchampion = c.json\n", set, 2);
    ck_assert_uint_eq(j->gate.n_free, 4);
    ck_assert_str_eq(j->gate.free[0].key, "top1 >= 0.92");
    ck_assert_str_eq(j->gate.free[0].value, "");
    ck_assert_str_eq(origin_text(&j->gate.free[0].from, buf), "cfg.ini:2:9");
    ck_assert_str_eq(j->gate.free[1].key, "size");
    ck_assert_str_eq(j->gate.free[1].value, "size_mb < 2");
    ck_assert_str_eq(j->gate.free[2].key, "spread<= 0.003");
    ck_assert_str_eq(j->gate.free[3].value, "disagree <= 0.001");
    ck_assert_str_eq(j->gate.champion, "c.json");
    OK(config_hash(j, hash));
    ck_assert_str_eq(hash, without);
    config_free(j);
}
END_TEST

/* Every key alone: set to another value it reads back, moves the hash unless it is marked, and knows its origin. */
START_TEST(every_key_reads_back_and_moves_the_hash)
{
    char base[65], hash[65], set[200], key[100];
    job *j = load("[layer l]\nop = Relu\n");
    OK(config_hash(j, base));
    config_free(j);
    int keys = 0;
    for (const schema_section *s = config_schema; s < config_schema + config_schema_n; s++)
        for (const schema_key *k = s->keys; k < s->keys + s->n_keys; k++) {
            const char *value = another_value(k, s->name), *texts[3] = {set, NULL, NULL};
            size_t n = 1;
            if (!value)
                continue;
            snprintf(key, sizeof key, "%s%s.%s", s->name, s->named ? ".l" : "", k->name);
            snprintf(set, sizeof set, "%s=%s", key, value);
            /* what some keys need beside them */
            bool labels = strcmp(key, "data.labels") == 0, val_labels = strcmp(key, "data.val_labels") == 0;
            bool milestones = strcmp(key, "train.milestones") == 0, step = strcmp(key, "train.schedule") == 0;
            bool min_lr = strcmp(key, "train.min_lr") == 0;
            bool layers_off = strcmp(key, "student.arch") == 0 || strcmp(key, "student.onnx") == 0;
            if (labels || val_labels || milestones || step || min_lr)
                texts[n++] = labels       ? "data.train=x"
                             : val_labels ? "data.val=x"
                             : step       ? "train.milestones=1"
                             : min_lr     ? "train.lr=1"
                                          : "train.schedule=step";
            j = load_set(layers_off ? NULL : "[layer l]\nop = Relu\n", texts, n);
            ck_assert_int_eq(config_origin(j, key)->kind, ORIGIN_SET);
            OK(config_hash(j, hash));
            ck_assert_msg((strcmp(base, hash) == 0) == !!(k->flags & NO_RESULT), "%s = %s: the hash", key,
                          value);
            check_round_trip(j);
            config_free(j);
            keys++;
        }
    ck_assert_int_gt(keys, 90);
}
END_TEST

START_TEST(defaults_are_printed_and_read_back)
{
    text t = {0}, want = {0}, got = {0};
    config_defaults(&t);
    ck_assert_int_eq(t.st, ST_OK);
    job *printed = load(t.s), *none = load("");
    config_write(printed, &got);
    config_write(none, &want);
    ck_assert_str_eq(got.s, want.s);
    for (const schema_section *s = config_schema; s < config_schema + config_schema_n; s++)
        for (const schema_key *k = s->keys; k < s->keys + s->n_keys; k++) {
            char line[300], key[100];
            snprintf(line, sizeof line, "\n%s%s =%s%s\n", s->named ? "; " : "", k->name, *k->dflt ? " " : "",
                     k->dflt);
            ck_assert_msg(strstr(t.s, line) != NULL, "[%s] %s is not printed", s->name, k->name);
            ck_assert_ptr_nonnull(strstr(t.s, k->meaning));
            snprintf(key, sizeof key, "%s.%s", s->name, k->name);
            if (!s->named)
                ck_assert_int_eq(config_origin(printed, key)->kind, ORIGIN_FILE);
            /* the default is the canonical text of its value */
            union {
                double d;
                void *p[4];
            } field = {0};
            arena a = {0};
            text canonical = {0};
            size_t at;
            OK(schema_parse(k, k->dflt, &a, &field, &at));
            schema_print(k, &field, &canonical);
            ck_assert_str_eq(canonical.n ? canonical.s : "", k->dflt);
            text_free(&canonical);
            arena_free(&a);
        }
    config_free(printed);
    config_free(none);
    text_free(&t);
    text_free(&got);
    text_free(&want);
}
END_TEST

START_TEST(json_output)
{
    text t = {0};
    json_error_t error;
    config_schema_json(&t);
    json_t *root = json_loadb(t.s, t.n, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(root != NULL, "%s", error.text);
    json_t *sections = json_object_get(root, "sections");
    ck_assert_uint_eq(json_array_size(sections), config_schema_n);
    for (size_t i = 0; i < config_schema_n; i++) {
        json_t *s = json_array_get(sections, i);
        ck_assert_str_eq(json_string_value(json_object_get(s, "name")), config_schema[i].name);
        ck_assert_uint_eq(json_array_size(json_object_get(s, "keys")), config_schema[i].n_keys);
    }
    json_decref(root);
    text_free(&t);
    job *j = load("[train]\nlr = 0.5\n[layer a]\nop = Relu\nx = \"\\\n");
    config_show_json(j, &t);
    root = json_loadb(t.s, t.n, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(root != NULL, "%s", error.text);
    json_t *lr = json_object_get(json_object_get(root, "train"), "lr");
    ck_assert_str_eq(json_string_value(json_object_get(lr, "value")), "0.5");
    ck_assert_str_eq(json_string_value(json_object_get(lr, "origin")), "cfg.ini:2:6");
    json_t *x = json_object_get(json_object_get(root, "layer.a"), "x");
    ck_assert_str_eq(json_string_value(json_object_get(x, "value")), "\"\\");
    json_decref(root);
    text_free(&t);
    config_free(j);
}
END_TEST

/* ---- failing memory, random bytes ---------------------------------------------------------------------------- */

START_TEST(every_failing_allocation)
{
    static const char ini[] = "[data]\naugment = crop:2 flip\n[train]\nlr = 0.2\n[layer c1]\nop = Conv\npads "
                              "= 1\n[layer c2]\nop = Relu\n";
    const char *set[] = {"train.batch=7"}, *env[] = {"DISTILL_TRAIN_SEED=3", NULL};
    config_sources from = {.set = set, .n_set = 1, .env = env};
    job *j = NULL;
    uint64_t before = mem_count();
    OK(config_load_text("cfg.ini", ini, sizeof ini - 1, &from, &j));
    uint64_t n = mem_count() - before;
    config_free(j);
    ck_assert_uint_ge(n, 5);
    for (uint64_t k = 1; k <= n; k++) {
        mem_fail_at(k, true);
        FAILS(ST_OOM, "out of memory", config_load_text("cfg.ini", ini, sizeof ini - 1, &from, &j));
        ck_assert_ptr_null(j);
    }
    mem_fail_at(0, true);
    static const char wrong[] = "[train]\nlr = x\nqq = 1\n[trian]\n";
    before = mem_count();
    ck_assert_int_eq(config_load_text("cfg.ini", wrong, sizeof wrong - 1, &nothing, &j), ST_CONFIG);
    n = mem_count() - before;
    for (uint64_t k = 1; k <= n; k++) {
        mem_fail_at(k, true);
        status st = config_load_text("cfg.ini", wrong, sizeof wrong - 1, &nothing, &j);
        ck_assert(st == ST_OOM || st == ST_CONFIG);
        ck_assert_ptr_null(j);
    }
    mem_fail_at(0, true);
}
END_TEST

/* A good file with bytes changed: it loads and reads back, or is refused with a place. */
START_TEST(changed_bytes)
{
    static const char good[] =
        "[data]\ndir = data\nlabelled = 0:600 700:\naugment = crop:2 flip\n[student]\narch = resnet\n"
        "widths = 16 24 32\n[train]\nlr = 0.1\nschedule = step\nmilestones = 3 6\n[hint a]\nstudent = "
        "x\nteacher = y\n";
    static const char letters[] = "[]=;:# \t\n\r\0aeltrin0129.-+\xff\xc3";
    rng r = rng_make(11, RNG_TEST, 0, 0);
    int fine = 0, refused = 0;
    for (int i = 0; i < 20000; i++) {
        char ini[sizeof good];
        size_t n = sizeof good - 1;
        memcpy(ini, good, sizeof good);
        for (uint32_t k = 1 + rng_below(&r, 4); k > 0; k--)
            ini[rng_below(&r, (uint32_t)n)] = letters[rng_below(&r, sizeof letters - 1)];
        if (rng_below(&r, 8) == 0)
            n = rng_below(&r, (uint32_t)n);
        job *j = NULL;
        status st = config_load_text("cfg.ini", ini, n, &nothing, &j);
        if (st != ST_OK) {
            if (st != ST_CONFIG || strncmp(status_message(), "cfg.ini:", 8) != 0)
                ck_abort_msg("status %d: %s for\n%.*s", (int)st, status_message(), (int)n, ini);
            refused++;
            continue;
        }
        if (fine++ % 16 == 0)
            check_round_trip(j);
        config_free(j);
    }
    ck_assert_int_gt(fine, 500);
    ck_assert_int_gt(refused, 1000);
}
END_TEST

const test_entry test_table[] = {
    TEST(defaults_are_those_of_the_schema),
    TEST(a_whole_file_is_read),
    TEST(layers_keep_their_attributes),
    TEST(later_sources_win),
    TEST(a_key_that_moved_is_found),
    TEST(bad_overrides),
    TEST(bad_files_are_refused),
    TEST(bytes_of_a_file),
    TEST(long_lines),
    TEST(all_faults_at_once),
    TEST(too_much_is_refused),
    TEST(keys_that_came_later), TEST(written_files_read_back), TEST(gate_rules_are_kept_as_they_stand),
    TEST(every_key_reads_back_and_moves_the_hash),
    TEST(defaults_are_printed_and_read_back),
    TEST(json_output),
    TEST(every_failing_allocation),
    TEST(changed_bytes),
    {0},
};
