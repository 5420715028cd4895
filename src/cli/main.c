/* main.c - options, commands, signals; the only place where messages are printed and the program ends.
 *
 * A run is, in this order: job -> session (teacher, data, student, training graph) -> plan -> steps -> export -> proof in
 * our executor and in ONNX Runtime -> report. cmd_train.c reads as that list. */
#include "cli/cli.h"
#include "base/log.h"
#include "base/mem.h"
#include "matrix/gate.h"
#include "onnx/import.h"
#include "train/job_spec.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

extern char **environ;

const command commands[] = {
    {"train", 't', "", "train a student from a teacher, export and prove it (the default command)",
     "Exit codes: 0 all held, 1 a check did not hold, 2 diverged, 64 usage, 65 bad data, 66 no input, 69 runtime missing,\n"
     "70 internal, 71 memory, 73 cannot create, 74 I/O, 75 stopped and resumable, 78 config.\n", cmd_train},
    {"run", 'r', "MODEL [INPUT ...]", "run an ONNX model on .pb, .npy, .npz files or a data set; --check compares", NULL,
     cmd_run},
    {"inspect", 'i', "MODEL", "graph, shapes, parameters, multiply-accumulates, operators of a model", NULL, cmd_inspect},
    {"validate", 'v', "[RUN_DIR]", "a student against its teacher and the runtimes on the validation samples", NULL,
     cmd_validate},
    {"step", 's', "", "a few training steps on given samples without augmentation, for parity checks",
     "No job file is needed: keys come from --set. Unlike in a job the defaults are train.lr = 0.002, train.schedule = constant\n"
     "and samples in file order. --out FILE.npz gets, per step, loss.total, loss.ce, loss.kl (T^2 KL, unweighted) and lr; of\n"
     "the first step teacher.logits, student.logits and grad.NAME (without weight decay); at the end every parameter and\n"
     "running statistic by the name of its ONNX initializer.\n", cmd_step},
    {"bench", 'b', "", "how long a training step of a job takes here", NULL, cmd_bench},
    {"quant", 'q', "MODEL", "a float32 ONNX model in fewer bits, proved against it: --data DIR --variant KEY",
     "KEY: fp32, fp16, int8-ptq, and int8-qat, portable, portable-s8, which train (teacher, labels and losses as in a run; without a\n"
     "teacher the model in float is it) in a folder FILE.train, from whose checkpoints --resume goes on. Scheme, calibration and what stays float are keys of [quant]: --set quant.calibration=entropy;\n"
     "`distill config --defaults` lists them. The file is MODEL's name with .KEY.onnx unless --out says else;\n"
     "the same as TensorFlow Lite, where that has a form of it, lies beside it as .tflite.\n", cmd_quant},
    {"export", 'e', "MODEL", "a model as TFLite, for ncnn, or as ONNX of this program's form: --out FILE.tflite",
     "Images are [N, H, W, C] in TFLite files. A model in QDQ form becomes int8 operators with the same integers. The file is\n"
     "MODEL's name with .tflite unless --out says else; --out FILE.param writes ncnn's layers, and their weights to FILE.bin.\n", cmd_export},
    {"report", 'p', "RUN_DIR", "make report.html of a run anew", NULL, cmd_report},
    {"matrix", 'm', "RUN_DIR", "every variant of a run in every runtime that is here, each judged by our executor",
     "Cells that were measured before come from matrix.sqlite in cache.dir; --refresh measures anew. Leaves RUN_DIR/matrix.json, the\n"
     "runners' logs in RUN_DIR/matrix/log, and the matrix in report.html. Runtimes come by tools/setup-runtimes; --list says which\n"
     "are here. The keys of [matrix] say the rest.\n\n"
     "distill matrix pack RUN_DIR --for linux|windows|macos|android|ios [--out FILE]: an archive that fills the rows of another machine.\n"
     "With --profile RUN_DIR is a folder for probes that measure what a device can do, before there is a student.\n"
     "distill matrix merge RUN_DIR RESULT.json: takes what came back from it, checked and judged here.\n"
     "distill matrix bisect RUN_DIR RUNTIME/VARIANT: the first layer where a runtime parts from our executor, cut out.\n"
     "distill matrix history RUN_DIR RUNTIME/VARIANT: what the cell was before, and since when and by what it is as it is.\n", cmd_matrix},
    {"runner", 'n', "ENGINE", "one model in one engine, for the deployment matrix: a line of JSON in, a line out",
     "ENGINE: own, ort, openvino. `distill matrix` starts it; the protocol stands in src/matrix/README.md.\n", cmd_runner},
    {"gate", 'g', "RUN_DIR", "the rules of [gate] on the matrix of a run; exit status 1 when one does not hold",
     "Rules stand in [gate] of the run's config.ini (or of --student FILE), one a line, with or without a name:\n"
     "  METRIC [drop|rise] OP NUMBER[%] [vs teacher|fp32|champion] [on RUNTIME[/VARIANT],...|all] [strict]\n"
     "  metrics: top1 worst_class disagree flips max_error mean_error p99_error error p50_ms p90_ms p99_ms load_ms\n"
     "           throughput size_mb peak_mb spread broken\n"
     "e.g. top1 >= 0.92, top1 drop <= 0.005 vs teacher, p90_ms <= 12 on ort, spread <= 0.003. A difference in accuracy counts\n"
     "where it is beyond chance; `strict`: as measured. The champion is gate.champion (champion.json beside the run folder).\n",
     cmd_gate},
    {"config", 'c', "", "the keys of a job file: --defaults, --show, --schema", NULL, cmd_config},
    {"cache", 'k', "", "teacher outputs that runs keep on disk: --list, --clean",
     "They lie in cache.dir (default: distill in $XDG_CACHE_HOME, else in ~/.cache); a job with cache.views = N makes and uses\n"
     "them. Removing them at any time is safe: what is missing is computed again. Files that a run has open stay.\n", cmd_cache},
    {"doctor", 'd', "", "what this machine has: processor, memory, runtimes, libraries", NULL, cmd_doctor},
    {"help", 'h', "[TOPIC]", "help on a command or on ops, completion", NULL, cmd_help},
    {0}};

static volatile sig_atomic_t stop_flag;

static void on_signal(int number)
{
    (void)number;
    if (stop_flag)
        _exit(ST_STOPPED); /* asked twice: at once */
    stop_flag = 1;
}

static void catch_signals(void)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGUSR1, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* ---- messages ---- */

/* Bytes of s, which has n, that would drive a terminal: controls other than line ends and tabs, and what is no UTF-8. 0: none, a letter
 * stands there, *letter bytes long. `colors`: ESC [ 31 m and the like are our own. */
static size_t control_length(const char *s, size_t n, bool colors, size_t *letter)
{
    unsigned char c = (unsigned char)*s;
    *letter = utf8_length(s, n);
    if (*letter == 0)
        return 1;
    if (*letter == 2 && c == 0xC2 && (unsigned char)s[1] < 0xA0) /* C1 */
        return 2;
    if (c == 0x1B && colors && n > 2 && s[1] == '[') {
        size_t end = 2 + strspn(s + 2, "0123456789;");
        if (end < n && s[end] == 'm') {
            *letter = end + 1;
            return 0;
        }
    }
    return (c < 0x20 && c != '\n' && c != '\t') || c == 0x7F;
}

/* What files, runners and other machines said must not drive the terminal: what would is written as '?'. */
static bool put_plain(FILE *to, const char *s, size_t n, bool colors)
{
    bool whole = true;
    size_t from = 0;
    for (size_t i = 0, letter; i < n;) {
        size_t bad = control_length(s + i, n - i, colors, &letter);
        if (bad) {
            whole = whole && fwrite(s + from, 1, i - from, to) == i - from && putc('?', to) != EOF;
            from = i + bad;
        }
        i += bad ? bad : letter;
    }
    return whole && fwrite(s + from, 1, n - from, to) == n - from;
}

void cli_end_line(cli *c)
{
    if (c->redrawn)
        fputs("\n", stderr);
    c->redrawn = false;
}

static void show_progress(const char *line, bool redraw, void *ctx)
{
    cli *c = ctx;
    if (redraw) {
        fprintf(stderr, "\r\033[K%s", line);
        c->redrawn = true;
    } else {
        fprintf(stderr, "%s%s\n", c->redrawn ? "\r\033[K" : "", line);
        c->redrawn = false;
    }
    fflush(stderr);
}

static void show_message(log_level level, const char *line, void *ctx)
{
    cli *c = ctx;
    if ((level == LOG_INFO && c->o.quiet) || (level == LOG_DEBUG && !c->o.verbose))
        return;
    cli_end_line(c);
    fputs(level == LOG_WARN ? "warning: " : "", stderr);
    put_plain(stderr, line, strlen(line), false);
    fputs("\n", stderr);
}

static int terminal_width(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

static void open_terminal(cli *c)
{
    setvbuf(stderr, NULL, _IOLBF, BUFSIZ); /* a message is one write */
    const char *term = getenv("TERM");
    bool dumb = !term || strcmp(term, "dumb") == 0;
    c->sink = (progress_sink){.line = show_progress, .ctx = c, .terminal = isatty(STDERR_FILENO) && !dumb,
                              .width = terminal_width()};
    log_set_sink(show_message, c);
}

status cli_print(text *t)
{
    status st = t->st;
    bool whole = st != ST_OK || !t->n || (isatty(STDOUT_FILENO) ? put_plain(stdout, t->s, t->n, true) : fwrite(t->s, 1, t->n, stdout) == t->n);
    if (st == ST_OK && t->n && (!whole || fflush(stdout) != 0))
        st = fail(ST_IO, "standard output cannot be written");
    text_free(t);
    return st;
}

/* ---- options ---- */

typedef enum option_type { TYPE_FLAG, TYPE_TEXT, TYPE_MAYBE, TYPE_NUMBER, TYPE_REAL, TYPE_LIST } option_type;
typedef struct option_row {
    const char *name;
    char letter;
    const char *arg;
    option_type type;
    const char *commands;
    size_t offset;
} option_row;

#define OPTION(field, name, letter, arg, type, commands, meaning)                                                 \
    {name, letter, arg, TYPE_##type, commands, offsetof(options, field)},
static const option_row rows[] = {
#include "cli/options.def"
};
#undef OPTION
#define N_ROWS (sizeof rows / sizeof *rows)

static const command *find_command(const char *name)
{
    for (const command *c = commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

static status append(text_list *l, const char *given)
{
    const char **at = (const char **)(uintptr_t)l->at;
    TRY(mem_grow(&at, l->n + 1, sizeof *at));
    at[l->n++] = given;
    l->at = at;
    return ST_OK;
}

static status take_option(options *o, const option_row *r, const char *given)
{
    char what[64];
    char *field = (char *)o + r->offset;
    snprintf(what, sizeof what, "--%s", r->name);
    status st = ST_OK;
    switch (r->type) {
    case TYPE_FLAG:
        *(bool *)field = true;
        break;
    case TYPE_TEXT:
        memcpy(field, &given, sizeof given);
        break;
    case TYPE_MAYBE:
        given = given ? given : "";
        memcpy(field, &given, sizeof given);
        break;
    case TYPE_NUMBER:
        st = parse_int(given, what, (int64_t *)(void *)field);
        break;
    case TYPE_REAL:
        st = parse_double(given, what, (double *)(void *)field);
        break;
    case TYPE_LIST:
        st = append((text_list *)(void *)field, given);
        break;
    }
    if (st == ST_CONFIG)
        st = fail(ST_USAGE, "%s", status_message());
    return st;
}

static status unknown_option(const char *given)
{
    const char *name = given + strspn(given, "-");
    char plain[64];
    snprintf(plain, sizeof plain, "%.*s", (int)strcspn(name, "="), name);
    const char *near = nearest_name(plain, &rows[0].name, N_ROWS, sizeof *rows);
    return fail(ST_USAGE, "unknown option '%s'%s%s%s; `distill help` lists all", given, near ? "; did you mean --" : "",
                near ? near : "", near ? "?" : "");
}

static status parse_options(cli *c, const command *cmd, int first)
{
    struct option longs[N_ROWS + 1] = {0};
    char shorts[3 * N_ROWS + 3] = "+:";
    size_t used = 2;
    for (size_t i = 0; i < N_ROWS; i++) {
        longs[i] = (struct option){rows[i].name, rows[i].type == TYPE_MAYBE ? optional_argument : rows[i].arg ? required_argument : no_argument,
                                   NULL, 1000 + (int)i};
        if (!rows[i].letter)
            continue;
        shorts[used++] = rows[i].letter;
        if (rows[i].arg)
            shorts[used++] = ':';
    }
    opterr = 0;
    optind = first;
    while (optind < c->argc) {
        int at = optind, got = getopt_long(c->argc, c->argv, shorts, longs, NULL);
        if (got == -1) { /* a plain word: options may follow it */
            bool rest = strcmp(c->argv[optind - 1], "--") == 0 && optind - 1 >= at;
            do
                TRY(append(&c->o.args, c->argv[optind++]));
            while (rest && optind < c->argc);
            continue;
        }
        if (got == '?')
            return unknown_option(c->argv[at]);
        if (got == ':')
            return fail(ST_USAGE, "option '%s' needs a value", c->argv[at]);
        size_t i = 0;
        while (i < N_ROWS && got != 1000 + (int)i && got != rows[i].letter)
            i++;
        if (strcmp(rows[i].commands, "*") != 0 && !strchr(rows[i].commands, cmd->letter))
            return fail(ST_USAGE, "`distill %s` does not take --%s; see `distill help %s`", cmd->name, rows[i].name,
                        cmd->name);
        TRY(take_option(&c->o, &rows[i], optarg));
        if (rows[i].offset == offsetof(options, batch))
            c->o.batch_text = optarg;
    }
    return ST_OK;
}

/* ---- the job ---- */

const char *const *cli_environment(void)
{
    return (const char *const *)environ;
}

size_t cli_flags(cli *c, config_override *flags)
{
    const options *o = &c->o;
    const struct {
        const char *value, *key, *flag;
    } texts[] = {{o->teacher, "teacher.path", "--teacher"},   {o->teacher_output, "teacher.output", "--teacher-output"},
                 {o->teacher_precision, "teacher.precision", "--teacher-precision"},
                 {o->device, "exec.device", "--device"},
                 {o->deterministic ? "true" : NULL, "exec.deterministic", "--deterministic"}, {o->data, "data.dir", "--data"},
                 {o->samples, "data.samples", "--samples"},   {o->seed, "train.seed", "--seed"},
                 {o->runtimes, "matrix.runtimes", "--runtimes"}, {o->variants, "matrix.variants", "--variants"},
                 {o->threads, "exec.threads", "--threads"},   {o->batch_text, "train.batch", "--batch"}};
    size_t n = 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].value)
            flags[n++] = (config_override){texts[i].key, texts[i].value, texts[i].flag};
    return n;
}

status cli_load_job(cli *c, bool file, job **out)
{
    config_override flags[CLI_FLAGS];
    const options *o = &c->o;
    if (file && !o->student)
        return fail(ST_USAGE, "which student? Give a job file: distill --teacher t.onnx --student cfg.ini");
    const config_sources from = {.file = file ? o->student : NULL, .env = cli_environment(), .set = o->set.at,
                                 .n_set = o->set.n, .flags = flags, .n_flags = cli_flags(c, flags)};
    arena mem = {0};
    const char *const *rules;
    size_t n;
    TRY(config_load(&from, out));
    status st = gate_rules_of(*out, &mem, &rules, &n); /* a rule that cannot be read is told before hours of training */
    arena_free(&mem);
    if (st != ST_OK) {
        config_free(*out);
        *out = NULL;
    }
    return st;
}

status cli_open_data(const job *j, const char *model, arena *mem, dataset **ds, int64_t *bytes)
{
    onnx_model *m = NULL;
    graph *g = NULL;
    data_options d;
    status st = ST_OK;
    TRY_DONE(onnx_open(model, &j->limits, &m));
    *bytes = (int64_t)m->bytes;
    TRY_DONE(onnx_import(m, &(import_options){.batch = 1}, &g));
    TRY_DONE(job_data_options(j, g, true, mem, &d));
    TRY_DONE(dataset_open(&d, ds));
done:
    graph_free(g);
    onnx_close(m);
    return st;
}

/* ---- beginning and end ---- */

static int finish(cli *c, status st)
{
    cli_end_line(c);
    if (st != ST_OK) {
        const char *m = *status_message() ? status_message() : "failed without a message (a bug)";
        bool located = strstr(m, ": error: ") != NULL; /* messages about a file carry their place in front */
        fputs(located ? "" : "error: ", stderr);
        put_plain(stderr, m, strlen(m), false);
        fputs("\n", stderr);
    }
    mem_free((void *)(uintptr_t)c->o.set.at);
    mem_free((void *)(uintptr_t)c->o.args.at);
    return (int)st;
}

int main(int argc, char **argv)
{
    cli c = {.argc = argc, .argv = argv, .stop = &stop_flag};
    const command *cmd = argc > 1 ? find_command(argv[1]) : NULL;
    int first = cmd ? 2 : 1;
    text t = {0};
    open_terminal(&c);
    catch_signals();
    if (!cmd && argc > 1 && argv[1][0] != '-') {
        const char *near = nearest_name(argv[1], &commands[0].name, sizeof commands / sizeof *commands - 1,
                                        sizeof *commands);
        return finish(&c, fail(ST_USAGE, "unknown command '%s'%s%s%s; `distill help` lists them", argv[1],
                               near ? "; did you mean '" : "", near ? near : "", near ? "'?" : ""));
    }
    status st = parse_options(&c, cmd ? cmd : commands, first);
    if (st != ST_OK)
        return finish(&c, st);
    if (c.o.version) {
        cli_version(c.o.json, &t);
        return finish(&c, cli_print(&t));
    }
    if (c.o.help || argc == 1) {
        help_text(cmd ? cmd->name : NULL, &t);
        st = cli_print(&t);
        return finish(&c, st == ST_OK && argc == 1 ? fail(ST_USAGE, "nothing to do: give --teacher and --student") : st);
    }
    return finish(&c, (cmd ? cmd : commands)->run(&c));
}
