/* describe.c - asks runtimes what they are, and remembers it. See runtimes.h. */
#include "base/hash.h"
#include "base/io.h"
#include "base/json_in.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "matrix/runner.h"
#include "matrix/runtimes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#define SECONDS   60
#define CACHE_MAX ((uint64_t)4 << 20)

/* ---- what it depends on ---- */

static void add_file(text *t, const char *path)
{
    struct stat sb;
    if (stat(path, &sb) == 0)
        text_printf(t, "%s %lld %lld.%ld\n", path, (long long)sb.st_size, (long long)sb.st_mtim.tv_sec, sb.st_mtim.tv_nsec);
    else
        text_printf(t, "%s -\n", path);
}

static void add_folder(text *t, const char *dir)
{
    char path[4096];
    char **names;
    size_t n;
    add_file(t, dir);
    if (!io_is_dir(dir) || io_list(dir, 10000, &names, &n) != ST_OK)
        return;
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], "__pycache__") != 0 && (size_t)snprintf(path, sizeof path, "%s/%s", dir, names[i]) < sizeof path)
            add_file(t, path);
    io_list_free(names, n);
}

/* The command, what it says of files and environment, the processor, the system; and the folders of all runtimes: one that is
 * installed anew may serve several rows. */
static status print_of(const runtime_row *r, const runtime_launch *l, const runtime_places *p, char hex[65])
{
    char cpu[64], path[4096];
    struct utsname u;
    text t = {0};
    text_printf(&t, "%s\n", r->options);
    if (strstr(r->options, "\"device\"")) { /* a driver may come and go */
        const char *visible = getenv("CUDA_VISIBLE_DEVICES");
        io_read_system("/proc/driver/nvidia/version", path, sizeof path);
        text_printf(&t, "%s %s\n", path, visible ? visible : "all");
        add_folder(&t, "/proc/driver/nvidia/gpus");
    }
    for (size_t i = 0; l->command[i]; i++) {
        text_printf(&t, "%s\n", l->command[i]);
        if (strchr(l->command[i], '/'))
            add_file(&t, l->command[i]);
    }
    if (l->emulator)
        add_file(&t, l->emulator);
    for (size_t i = 0; l->env[i]; i++) {
        text_printf(&t, "%s\n", l->env[i]);
        if (strncmp(l->env[i], "DISTILL_ORT=", 12) == 0)
            add_file(&t, l->env[i] + 12);
    }
    if (p->root && (size_t)snprintf(path, sizeof path, "%s/tools/runners", p->root) < sizeof path)
        add_folder(&t, path);
    if (p->root && (size_t)snprintf(path, sizeof path, "%s/tools/runners/engines", p->root) < sizeof path)
        add_folder(&t, path);
    add_folder(&t, p->runtimes);
    text_printf(&t, "%s\n", runner_cpu_name(cpu, sizeof cpu));
    if (uname(&u) == 0)
        text_printf(&t, "%s %s %s\n", u.release, u.version, u.machine);
    status st = t.st == ST_OK ? hash_sha256_hex(t.s, t.n, hex) : t.st;
    text_free(&t);
    return st;
}

/* ---- the file ---- */

static void get_facts(json_in *j, arena *mem, json_t *o, runtime_facts *f)
{
    *f = (runtime_facts){.present = json_in_bool(j, o, "present", false),
                         .how = json_in_string(j, mem, o, "how"),
                         .runtime = json_in_string(j, mem, o, "runtime"),
                         .version = json_in_string(j, mem, o, "version"),
                         .build = json_in_string(j, mem, o, "build"),
                         .device = json_in_string(j, mem, o, "device"),
                         .isa = json_in_string(j, mem, o, "isa"),
                         .emulator = json_in_string(j, mem, o, "emulator")};
}

static void put_facts(json *j, const char *key, const char *print, const runtime_facts *f)
{
    json_put_object(j, key);
    json_put_string(j, "print", print);
    json_put_bool(j, "present", f->present);
    json_put_string(j, "how", f->how);
    json_put_string(j, "runtime", f->runtime);
    json_put_string(j, "version", f->version);
    json_put_string(j, "build", f->build);
    json_put_string(j, "device", f->device);
    json_put_string(j, "isa", f->isa);
    json_put_string(j, "emulator", f->emulator);
    json_end_object(j);
}

/* ---- asking ---- */

static status take_answer(const runtime_row *r, const process_result *p, arena *mem, runtime_facts *f)
{
    json_in j = {0};
    status st;
    *f = (runtime_facts){0};
    if (p->end != PROCESS_ANSWERED)
        return arena_printf(mem, &f->how, "its runner failed: %s; %s", p->why, r->get ? r->get : "");
    st = json_in_parse(&j, r->key, p->answer, strlen(p->answer), limits_default().json_depth);
    if (st == ST_OK && json_in_bool(&j, j.root, "ok", false)) {
        get_facts(&j, mem, j.root, f);
        f->present = true;
        f->how = NULL;
    } else if (st == ST_OK) {
        f->how = json_in_string(&j, mem, j.root, "message");
    }
    if (st == ST_OK)
        st = j.st;
    if (st == ST_BAD_DATA) {
        *f = (runtime_facts){0};
        st = arena_printf(mem, &f->how, "its runner speaks nonsense: %s", status_message());
    }
    json_in_close(&j);
    return st;
}

/* The first line of its --version, and the runner that it runs: for another processor that is another program than this one. */
static status name_emulator(const runtime_launch *l, const volatile sig_atomic_t *stop, arena *mem, runtime_facts *f)
{
    const char *const command[] = {"/bin/sh", "-c", "\"$0\" --version | head -n 1", l->emulator, NULL};
    const char *program = l->emulator, *build;
    process_result p;
    for (size_t i = 0; l->command[i]; i++)
        program = l->command[i][0] == '/' && !io_is_dir(l->command[i]) ? l->command[i] : program;
    TRY(process_ask(&(process_options){.command = command, .seconds = SECONDS, .stop = stop}, "", mem, &p));
    TRY(runner_file_build(program, mem, &build));
    return arena_printf(mem, &f->emulator, "%.200s; runs %s", p.end == PROCESS_ANSWERED ? p.answer : l->emulator, build);
}

static status ask(const runtime_row *r, const runtime_launch *l, const char *log_dir, const volatile sig_atomic_t *stop, arena *mem,
                  runtime_facts *f)
{
    process_result p;
    const char *request;
    process_options o = {.command = l->command, .env = l->env, .seconds = SECONDS, .stop = stop};
    if (log_dir)
        TRY(arena_printf(mem, &o.log, "%s/%s.describe.txt", log_dir, r->key));
    TRY(arena_printf(mem, &request, "{\"protocol\": 1, \"describe\": true, \"options\": {%s}}", r->options));
    status st = process_ask(&o, request, mem, &p);
    if (st == ST_UNAVAILABLE)
        return arena_printf(mem, &f->how, "%s; %s", status_message(), r->get ? r->get : "");
    TRY(st);
    TRY(take_answer(r, &p, mem, f));
    return l->emulator && f->present ? name_emulator(l, stop, mem, f) : ST_OK;
}

/* What is remembered of rows that were not asked for now. */
static status keep_others(json_in *known, const runtime_row *const *rows, size_t n, arena *mem, json *j)
{
    const char *key;
    json_t *o;
    if (!known->root)
        return ST_OK;
    json_object_foreach(known->root, key, o) {
        runtime_facts f;
        bool asked = false;
        for (size_t i = 0; i < n; i++)
            asked = asked || strcmp(rows[i]->key, key) == 0;
        if (asked || !runtimes_find(key) || !json_is_object(o))
            continue;
        get_facts(known, mem, o, &f);
        const char *print = json_in_string(known, mem, o, "print");
        if (print)
            put_facts(j, key, print, &f);
    }
    return ST_OK;
}

status runtimes_describe(const runtime_row *const *rows, size_t n, const runtime_places *p, const char *cache, const char *log_dir,
                         const volatile sig_atomic_t *stop, arena *mem, runtime_facts *facts)
{
    json_in known = {0};
    text t = {0};
    json j = {.out = &t, .pretty = true};
    status st = ST_OK;
    bool asked = false;
    if (cache && io_exists(cache) && json_in_open(&known, cache, CACHE_MAX, 8) != ST_OK)
        log_info("%s; it is made anew", status_message());
    json_put_object(&j, NULL);
    for (size_t i = 0; i < n; i++) {
        runtime_launch l;
        char print[65];
        facts[i] = (runtime_facts){0};
        TRY_DONE(runtimes_launch(rows[i], p, mem, &l));
        facts[i].how = l.missing;
        if (l.missing)
            continue;
        TRY_DONE(print_of(rows[i], &l, p, print));
        json_t *o = known.root ? json_in_object(&known, known.root, rows[i]->key) : NULL;
        const char *was = o ? json_in_string(&known, mem, o, "print") : NULL;
        if (was && strcmp(was, print) == 0) {
            get_facts(&known, mem, o, &facts[i]);
        } else {
            log_debug("asking %s what it is", rows[i]->key);
            asked = true;
            TRY_DONE(ask(rows[i], &l, log_dir, stop, mem, &facts[i]));
        }
        put_facts(&j, rows[i]->key, print, &facts[i]);
    }
    TRY_DONE(keep_others(&known, rows, n, mem, &j));
    json_end_object(&j);
    st = t.st;
    if (st == ST_OK && asked && cache && io_write_file(cache, t.s, t.n) != ST_OK)
        log_warn("%s", status_message());
done:
    json_in_close(&known);
    text_free(&t);
    return st;
}
