/* cmd_train.c - the default command: the whole way from a teacher to a proven student. */
#include "base/hash.h"
#include "base/io.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/run_page.h"
#include "cli/summary.h"
#include "deploy/prove.h"
#include "deploy/report.h"
#include "matrix/runner.h"
#include "onnx/export.h"
#include "train/job_spec.h"
#include "train/loop.h"
#include "train/session_ahead.h"
#include "train/session_qat.h"
#include "train/trial.h"
#include "train/variants.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

typedef struct job_run {
    cli *c;
    job *j;
    session s;
    bool open;
    arena mem;
    const char *dir, *model, *validation_file, *report_file, *run_file;
    char started[32];
    double began;
    size_t program; /* bytes that the process had before it opened anything */
    size_t program_files; /* of these, pages of files */
    loop_result loop;
    validation v;
    proof p;
    text device;
    int lock;
} job_run;

/* ---- where ---- */

/* runs/STEM of the job file unless --out says else. */
static status choose_folder(job_run *x)
{
    const char *file = x->c->o.student, *slash = strrchr(file, '/'), *stem = slash ? slash + 1 : file;
    const char *dot = strrchr(stem, '.');
    int length = (int)(dot && dot != stem ? (size_t)(dot - stem) : strlen(stem));
    if (x->c->o.out)
        TRY(arena_strdup(&x->mem, &x->dir, x->c->o.out));
    else
        TRY(arena_printf(&x->mem, &x->dir, "runs/%.*s", length, stem));
    TRY(arena_printf(&x->mem, &x->model, "%s/student.onnx", x->dir));
    TRY(arena_printf(&x->mem, &x->validation_file, "%s/validation.json", x->dir));
    TRY(arena_printf(&x->mem, &x->report_file, "%s/report.html", x->dir));
    return arena_printf(&x->mem, &x->run_file, "%s/run.json", x->dir);
}

/* train.batch and teacher.ahead = auto; a run that goes on keeps what was chosen. */
static status choose_batches(job_run *x)
{
    const char *before = NULL;
    if (x->c->o.resume)
        TRY(arena_printf(&x->mem, &before, "%s/config.ini", x->dir));
    TRY(group_recall(x->j, before));
    return session_choose_batch(x->j, before);
}

/* ---- the plan ---- */

/* What a new process may take without pushing others out: memory in use as a cache counts. */
static uint64_t available_memory(void)
{
    char info[4096];
    unsigned long long kib = 0;
    io_read_system("/proc/meminfo", info, sizeof info);
    const char *at = strstr(info, "MemAvailable:");
    return at && sscanf(at, "MemAvailable: %llu", &kib) == 1 ? (uint64_t)kib << 10 : 0;
}

static size_t taken_so_far(void)
{
    struct rusage use;
    return getrusage(RUSAGE_SELF, &use) == 0 ? (size_t)use.ru_maxrss << 10 : 0;
}

/* Bytes of the program's and the libraries' files that are in memory: they come as they are used. */
static size_t files_in_memory(void)
{
    char info[4096];
    unsigned long long kib = 0;
    io_read_system("/proc/self/status", info, sizeof info);
    const char *at = strstr(info, "RssFile:");
    return at && sscanf(at, "RssFile: %llu", &kib) == 1 ? (size_t)kib << 10 : 0;
}

static void model_line(text *t, const char *what, const char *name, const graph_stats *g)
{
    char parameters[24], macs[24];
    text_printf(t, "  %-8s %-28s %6zu layers %10s parameters %10s MACs\n", what, name, g->layers,
                human_count((double)g->parameters, parameters), human_count(g->macs, macs));
}

static void memory_line(text *t, const char *what, size_t bytes)
{
    char b[24];
    if (bytes)
        text_printf(t, "    %-34s %12s\n", what, human_bytes((double)bytes, b));
}

/* What exec.memory_limit costs. */
static void recomputed_line(text *t, const recomputation *again)
{
    char a[24], b[24];
    if (again->nodes)
        text_printf(t, "      saved %s: %zu nodes run twice in a step, %s multiply-adds more\n",
                    human_bytes((double)again->saved, a), again->nodes, human_count(again->macs, b));
}

/* Of a device with memory of its own: what this job has taken there, and what is left. */
static void device_room(text *t, backend *b)
{
    size_t available, all;
    char a[24], f[24];
    if (b->remote && b->remote->memory(b, &available, &all) == ST_OK)
        text_printf(t, "; %s of it taken by this job, %s free", human_bytes((double)b->taken, a), human_bytes((double)available, f));
}

static status print_plan(job_run *x)
{
    const session *s = &x->s;
    const data_info *d = s->info;
    const session_memory m = session_measure_memory(s);
    char buf[200], a[24], b[24];
    const char *method;
    size_t variant;
    text t = {0};
    TRY(job_method(s, &x->mem, &method));
    TRY(trial_memory(&x->s, &variant));
    size_t files = files_in_memory(), program = x->program + (files > x->program_files ? files - x->program_files : 0);
    text_add(&t, "plan\n");
    if (s->teacher_file)
        model_line(&t, "teacher", s->teacher_file->path, &s->teacher_stats);
    model_line(&t, "student", s->title, &s->student_stats);
    if (s->teacher_file && s->student_stats.parameters > 0)
        text_printf(&t, "  the student has %.1f times fewer parameters and %.1f times fewer MACs\n",
                    (double)s->teacher_stats.parameters / (double)s->student_stats.parameters,
                    s->teacher_stats.macs / s->student_stats.macs);
    text_printf(&t, "  data     %s (%s), samples %s, %u to train on (%u labelled), %u to validate%s\n", d->path, d->kind,
                shape_print(&d->input[0].sh, buf), d->part[DATA_TRAIN].n, d->part[DATA_TRAIN].labelled,
                d->part[DATA_VAL].n, d->split ? " (split off)" : "");
    if (d->known)
        text_printf(&t, "           recognised as %s by its bytes\n", d->known);
    text_printf(&t, "  loss     %s\n", method);
    text_printf(&t, "  steps    %" PRIu64 " (%g epochs of %" PRIu64 "), batch %" PRId64 "%s\n", s->steps,
                (double)s->steps / (double)s->steps_per_epoch, s->steps_per_epoch, s->j->train.batch,
                s->t.cache ? ", teacher outputs remembered by view" : "");
    if (s->cache_dir)
        text_printf(&t, "  cache    teacher outputs of %lld view%s also in %s\n", (long long)s->j->cache.views,
                    s->j->cache.views == 1 ? "" : "s", s->cache_dir);
    size_t total = m.data + m.batches + m.parameters + m.optimizer + m.activations + m.workspace + m.teacher +
                   m.teacher_cache + m.evaluation + program + variant;
    uint64_t here = available_memory();
    text_printf(&t, "  memory   %s planned", human_bytes((double)total, a));
    text_printf(&t, here ? ", %s free\n" : "\n", human_bytes((double)here, b));
    memory_line(&t, "samples", m.data);
    memory_line(&t, "batches in preparation", m.batches);
    memory_line(&t, "parameters", m.parameters);
    memory_line(&t, "optimizer and statistics", m.optimizer);
    memory_line(&t, "activations and gradients", m.activations);
    recomputed_line(&t, &exec_plan(s->train)->again);
    memory_line(&t, "workspace", m.workspace);
    memory_line(&t, "teacher", m.teacher);
    memory_line(&t, "remembered teacher outputs", m.teacher_cache);
    memory_line(&t, "evaluation", m.evaluation);
    memory_line(&t, "variants that train, the largest", variant);
    memory_line(&t, "program and libraries", program);
    text_printf(&t, "  device   %s", x->device.s);
    device_room(&t, s->b);
    status st = t.st;
    if (st == ST_OK)
        log_info("%s", t.s);
    text_free(&t);
    if (here && total > here)
        log_warn("more memory is planned than is free: the run may be killed; a smaller train.batch helps");
    return st;
}

/* ---- run.json ---- */

static int64_t file_bytes(const char *path)
{
    struct stat st;
    return path && stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

static status write_run(job_run *x, const char *state, const char *reason)
{
    session *s = &x->s;
    struct utsname host;
    char system[300] = "unknown", cwd[4096] = "", sha[65] = "";
    const char *method;
    TRY(job_method(s, &x->mem, &method));
    if (uname(&host) == 0)
        snprintf(system, sizeof system, "%s %s %s", host.sysname, host.release, host.machine);
    if (!getcwd(cwd, sizeof cwd))
        cwd[0] = 0;
    bool exported = io_exists(x->model) && hash_sha256_file(x->model, sha) == ST_OK;
    const file_info files[] = {{"data", s->info->path, s->info->sha256, -1},
                               {"job", x->c->o.student, NULL, file_bytes(x->c->o.student)}};
    char host_cpu[80];
    const char *cpu = strstr(x->device.s, "cpu: ");
    cpu = cpu ? cpu + 5 : runner_cpu_name(host_cpu, sizeof host_cpu);
    run_info r = {.name = strrchr(x->dir, '/') ? strrchr(x->dir, '/') + 1 : x->dir, .status = state, .reason = reason,
                  .version = DISTILL_VERSION, .build = DISTILL_COMMIT, .folder = cwd, .started = x->started,
                  .device = x->device.s, .command = (const char *const *)x->c->argv, .n_command = (size_t)x->c->argc,
                  .seconds = clock_seconds() - x->began, .seed = (uint64_t)s->j->train.seed,
                  .threads = s->b->threads, .cores = (int)sysconf(_SC_NPROCESSORS_ONLN), .system = system,
                  .cpu = cpu,
                  .memory = (int64_t)sysconf(_SC_PHYS_PAGES) * (int64_t)sysconf(_SC_PAGESIZE),
                  .steps = (int64_t)s->steps, .steps_done = (int64_t)x->loop.steps_done, .batch = s->j->train.batch,
                  .samples = s->info->part[DATA_TRAIN].n, .labelled = s->info->part[DATA_TRAIN].labelled,
                  .epochs = (double)s->steps / (double)s->steps_per_epoch, .method = method,
                  .has_teacher = s->teacher_file != NULL, .files = files, .n_files = 2};
    r.student = (model_info){.name = s->title, .path = exported ? "student.onnx" : NULL, .sha256 = exported ? sha : NULL,
                             .parameters = s->student_stats.parameters, .macs = (int64_t)s->student_stats.macs,
                             .bytes = exported ? file_bytes(x->model) : -1};
    if (s->teacher_file)
        r.teacher = (model_info){.name = "teacher", .path = s->teacher_file->path, .sha256 = s->teacher_file->sha256,
                                 .parameters = s->teacher_stats.parameters, .macs = (int64_t)s->teacher_stats.macs,
                                 .bytes = (int64_t)s->teacher_file->bytes};
    return run_info_write(x->run_file, &r);
}

/* ---- export and proof ---- */

static status export_student(job_run *x)
{
    session *s = &x->s;
    char hash[65], accuracy[NUMBER_ROOM], mean[200] = "", std[200] = "";
    size_t at = 0, as = 0, n = 0;
    TRY(config_hash(s->j, hash));
    for (int64_t k = 0; s->info->image && k < s->info->input[0].sh.dim[0] && at + 32 < sizeof mean; k++) {
        at += (size_t)snprintf(mean + at, sizeof mean - at, "%s%.9g", k ? " " : "", (double)s->info->mean[k]);
        as += (size_t)snprintf(std + as, sizeof std - as, "%s%.9g", k ? " " : "", (double)s->info->std[k]);
    }
    export_pair facts[8];
    facts[n++] = (export_pair){"distill.config", hash};
    facts[n++] = (export_pair){"distill.teacher", s->teacher_file ? s->teacher_file->sha256 : "none"};
    facts[n++] = (export_pair){"distill.student", s->title};
    if (s->info->image)
        facts[n++] = (export_pair){"input.scale", "pixel / 255, minus mean, divided by std"};
    facts[n++] = (export_pair){"input.mean", *mean ? mean : "0"};
    facts[n++] = (export_pair){"input.std", *std ? std : "1"};
    if (!isnan(x->loop.last.error))
        facts[n++] = (export_pair){"validation.error", format_double(x->loop.last.error, accuracy)};
    if (!isnan(x->loop.last.accuracy))
        facts[n++] = (export_pair){"validation.accuracy", format_double(x->loop.last.accuracy, accuracy)};
    return session_export(s, x->model, facts, n);
}

/* The exported file must compute what the trained student computed. */
static status check_export(job_run *x)
{
    difference d;
    char detail[200];
    size_t n = x->loop.last.n, width = (size_t)x->p.width;
    status finite = x->p.numbers ? compare_numbers(x->loop.last.logits, x->p.student, n, width, &d)
                                 : compare_logits(x->loop.last.logits, x->p.student, n, width, &d);
    bool held = finite == ST_OK && d.disagreements == 0 && d.max_rel <= 1e-3;
    int used = snprintf(detail, sizeof detail, "largest difference %.3g", d.max_abs);
    if (!x->p.numbers)
        snprintf(detail + used, sizeof detail - (size_t)used, ", %zu other classes", d.disagreements);
    return prove_add_check(&x->v, held, "student.onnx is the trained student", detail);
}

/* A variant that trains, in a folder of its own below the run's. */
static status train_variant(job_run *x, const prove_options *o, const char *key, const char *file, const char *path)
{
    session *s = &x->s;
    char hash[65];
    const char *dir;
    TRY(config_hash(s->j, hash));
    TRY(arena_printf(&x->mem, &dir, "%s/%s", x->dir, key));
    const export_pair facts[] = {{"distill.config", hash},
                                 {"distill.teacher", s->teacher_file ? s->teacher_file->sha256 : "none"},
                                 {"distill.student", s->title}};
    const cli_variant v = {.key = key, .dir = dir, .run = x->dir, .file = file, .path = path, .facts = facts,
                           .n_facts = sizeof facts / sizeof *facts, .reference = x->p.student, .width = (size_t)x->p.width};
    return cli_train_variant(x->c, s, &v, o, &x->v);
}

/* The variants that the job asks for besides student.onnx: made, and proved on the same samples. */
static status add_variants(job_run *x, const prove_options *o)
{
    session *s = &x->s;
    const variant_job vj = {.j = s->j, .b = s->b, .ds = s->ds, .student = x->model,
                            .teacher = s->teacher_file ? s->teacher_file->path : NULL};
    const char *path, *file;
    for (size_t i = 0; i < s->j->export.variants.n; i++) {
        const char *key = s->j->export.variants.at[i];
        bool of_teacher = variant_of_teacher(key);
        text line = {0};
        TRY(arena_printf(&x->mem, &path, "%s/export", x->dir));
        TRY(io_make_dirs(path));
        TRY(arena_printf(&x->mem, &file, "export/student.%s.onnx", key));
        TRY(arena_printf(&x->mem, &path, "%s/%s", x->dir, file));
        if (qat_variant(key)) {
            TRY(train_variant(x, o, key, file, path));
            continue;
        }
        status st = variant_write(&vj, key, path, &line);
        if (st == ST_OK)
            log_info("variant %s", line.s);
        text_free(&line);
        TRY(st);
        const cli_variant made = {.key = key, .file = file, .path = path, .reference = of_teacher ? x->p.teacher : x->p.student,
                                  .width = (size_t)(of_teacher ? x->p.teacher_width : x->p.width)};
        TRY(cli_prove_variant(s->j, &made, of_teacher ? "teacher" : "student", o, &x->v));
    }
    return ST_OK;
}

static status prove_student(job_run *x)
{
    session *s = &x->s;
    prove_options o = {.b = s->b, .ds = s->ds, .numbers = s->numbers, .ort = x->c->o.ort, .atol = 1e-4, .rtol = 1e-4, .lim = &s->j->limits,
                       .teacher_output = *s->j->teacher.output ? s->j->teacher.output : NULL, .farthest = 24};
    TRY(prove(&o, s->teacher_file ? s->teacher_file->path : NULL, x->model, &x->v, &x->p));
    TRY(check_export(x));
    TRY(add_variants(x, &o));
    return validation_write(x->validation_file, &x->v);
}

/* ---- the end ---- */

static summary summarize(job_run *x)
{
    const session *s = &x->s;
    summary m = {.v = &x->v, .dir = x->dir, .report = x->report_file};
    m.student = (summary_model){x->model, s->student_stats.parameters, s->student_stats.macs, file_bytes(x->model)};
    if (s->teacher_file)
        m.teacher = (summary_model){s->teacher_file->path, s->teacher_stats.parameters, s->teacher_stats.macs,
                                    (int64_t)s->teacher_file->bytes};
    m.loop = &x->loop;
    return m;
}

/* ---- in order ---- */

static status dry_run(job_run *x)
{
    char folder[] = "/tmp/distill-XXXXXX";
    if (!mkdtemp(folder))
        return fail(ST_CANNOT_CREATE, "cannot make a folder in /tmp");
    status st = loop_sanity(&x->s, folder);
    if (st == ST_OK)
        st = trial_variants(&x->s, folder);
    if (rmdir(folder) != 0 && st == ST_OK)
        st = fail(ST_IO, "%s cannot be removed", folder);
    if (st == ST_OK)
        log_info("dry run: two steps, evaluation, checkpoint, resume and export%s worked; nothing was left behind",
                 x->j->export.variants.n > 1 ? ", and every variant," : "");
    return st;
}

static status train_and_prove(job_run *x)
{
    const options *o = &x->c->o;
    const loop_options lo = {.dir = x->dir, .resume = o->resume, .force = o->force, .force_resume = o->force_resume,
                             .sink = o->quiet ? NULL : &x->c->sink, .stop = x->c->stop};
    TRY(loop_prepare(&lo, &x->lock));
    TRY(write_run(x, "running", NULL));
    if (x->j->train.sanity && !o->resume) {
        TRY(loop_sanity(&x->s, x->dir));
        TRY(trial_variants(&x->s, x->dir));
    }
    TRY(loop_run(&x->s, &lo, &x->loop));
    cli_end_line(x->c);
    log_info("trained %" PRIu64 " steps in %.1f s (%.0f samples/s, waiting for data %.1f %%); proving the exported student",
             x->loop.steps_done, x->loop.seconds, x->loop.samples_per_second,
             x->loop.seconds > 0 ? 100 * x->loop.waited / x->loop.seconds : 0.0);
    if (x->s.t.cache) {
        cache_stats k = cache_measure(x->s.t.cache);
        log_info("teacher outputs: %" PRIu64 " computed, %" PRIu64 " read from disk, %" PRIu64 " remembered%s", k.computed,
                 k.loaded, k.hits - k.loaded, k.damaged ? "; some on disk were damaged and were made anew" : "");
    }
    TRY(export_student(x));
    TRY(prove_student(x));
    TRY(write_run(x, "done", NULL));
    TRY(run_page_write(x->dir));
    const summary m = summarize(x);
    TRY(summary_print(&m, o->json));
    return prove_held(&x->v) ? ST_OK : fail(ST_GATE, "not all checks held; see %s", x->report_file);
}

/* What went wrong is kept in run.json too; the first message stays the one that is printed. */
static status note_failure(job_run *x, status st)
{
    char *message = NULL;
    if (mem_strdup(&message, status_message()) != ST_OK)
        return st;
    if (write_run(x, st == ST_STOPPED ? "stopped" : "failed", message) != ST_OK)
        log_warn("run.json could not be written: %s", status_message());
    st = fail(st, "%s", message);
    mem_free(message);
    return st;
}

status cmd_train(cli *c)
{
    job_run x = {.c = c, .lock = -1};
    time_t t = time(NULL);
    struct tm utc;
    status st = ST_OK;
    x.began = clock_seconds();
    x.program = taken_so_far();
    x.program_files = files_in_memory();
    strftime(x.started, sizeof x.started, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &utc));
    if (c->o.args.n)
        return fail(ST_USAGE, "what is '%s'? Options begin with --; see `distill help`", c->o.args.at[0]);
    TRY_DONE(cli_load_job(c, true, &x.j));
    x.j->cache.disk = x.j->cache.disk && !c->o.dry_run; /* nothing is left behind */
    TRY_DONE(choose_folder(&x));
    TRY_DONE(choose_batches(&x));
    TRY_DONE(session_open(x.j, &x.s));
    group_keep(&x.s, x.j);
    x.open = true;
    x.s.b->describe(x.s.b, &x.device);
    TRY_DONE(x.device.st);
    TRY_DONE(dataset_check(x.s.ds, DATA_TRAIN, 64));
    TRY_DONE(print_plan(&x));
    st = c->o.dry_run ? dry_run(&x) : train_and_prove(&x);
    if (st != ST_OK && st != ST_GATE && x.lock >= 0)
        st = note_failure(&x, st);
done:
    evaluation_free(&x.loop.last);
    proof_free(&x.p);
    validation_free(&x.v);
    if (x.open)
        session_close(&x.s);
    config_free(x.j);
    text_free(&x.device);
    io_close(x.lock);
    arena_free(&x.mem);
    return st;
}
