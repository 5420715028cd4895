/* run_info.c - run.json out and in; the layout stands in report.h. */
#include "base/io.h"
#include "base/json_in.h"
#include "base/text.h"
#include "deploy/report.h"

#define FILE_MAX ((uint64_t)8 << 20)
#define SCHEMA   1

/* ---- out ---- */

/* A count, null when unknown. */
static void put_known(json *j, const char *key, int64_t v)
{
    if (v < 0)
        json_put_string(j, key, NULL);
    else
        json_put_int(j, key, v);
}

static void put_model(json *j, const char *key, const model_info *m)
{
    json_put_object(j, key);
    json_put_string(j, "name", m->name);
    json_put_string(j, "path", m->path);
    json_put_string(j, "sha256", m->sha256);
    put_known(j, "parameters", m->parameters);
    put_known(j, "macs", m->macs);
    put_known(j, "bytes", m->bytes);
    json_end_object(j);
}

static void put_origin(json *j, const run_info *r)
{
    json_put_string(j, "version", r->version);
    json_put_string(j, "build", r->build);
    json_put_array(j, "command");
    for (size_t i = 0; i < r->n_command; i++)
        json_put_string(j, NULL, r->command[i]);
    json_end_array(j);
    json_put_string(j, "folder", r->folder);
    json_put_string(j, "started", r->started);
    json_put_number(j, "seconds", r->seconds);
    json_put_int(j, "seed", (int64_t)r->seed);
    json_put_int(j, "threads", r->threads);
    json_put_string(j, "device", r->device);
    json_put_object(j, "host");
    json_put_string(j, "system", r->system);
    json_put_string(j, "cpu", r->cpu);
    json_put_int(j, "cores", r->cores);
    put_known(j, "memory", r->memory);
    json_end_object(j);
}

static void put_training(json *j, const run_info *r)
{
    json_put_object(j, "training");
    json_put_int(j, "steps", r->steps);
    json_put_int(j, "steps_done", r->steps_done);
    json_put_number(j, "epochs", r->epochs);
    json_put_int(j, "batch", r->batch);
    json_put_int(j, "samples", r->samples);
    json_put_int(j, "labelled", r->labelled);
    json_put_string(j, "method", r->method);
    json_end_object(j);
}

static void put_lists(json *j, const run_info *r)
{
    json_put_array(j, "files");
    for (size_t i = 0; i < r->n_files; i++) {
        json_put_object(j, NULL);
        json_put_string(j, "name", r->files[i].name);
        json_put_string(j, "path", r->files[i].path);
        json_put_string(j, "sha256", r->files[i].sha256);
        put_known(j, "bytes", r->files[i].bytes);
        json_end_object(j);
    }
    json_end_array(j);
    json_put_array(j, "libraries");
    for (size_t i = 0; i < r->n_libraries; i++) {
        json_put_object(j, NULL);
        json_put_string(j, "name", r->libraries[i].name);
        json_put_string(j, "version", r->libraries[i].version);
        json_end_object(j);
    }
    json_end_array(j);
}

status run_info_write(const char *path, const run_info *r)
{
    text t = {0};
    json j = {.out = &t, .pretty = true};
    json_put_object(&j, NULL);
    json_put_int(&j, "schema", SCHEMA);
    json_put_string(&j, "name", r->name);
    json_put_string(&j, "status", r->status);
    json_put_string(&j, "reason", r->reason);
    put_origin(&j, r);
    put_training(&j, r);
    if (r->has_teacher)
        put_model(&j, "teacher", &r->teacher);
    put_model(&j, "student", &r->student);
    put_lists(&j, r);
    json_end_object(&j);
    text_add(&t, "\n");
    status st = t.st;
    if (st == ST_OK)
        st = io_write_file(path, t.s, t.n);
    text_free(&t);
    return st;
}

/* ---- in ---- */

static model_info get_model(json_in *j, arena *mem, json_t *o)
{
    return (model_info){.name = json_in_string(j, mem, o, "name"),
                        .path = json_in_string(j, mem, o, "path"),
                        .sha256 = json_in_string(j, mem, o, "sha256"),
                        .parameters = json_in_int(j, o, "parameters", -1),
                        .macs = json_in_int(j, o, "macs", -1),
                        .bytes = json_in_int(j, o, "bytes", -1)};
}

static void get_origin(json_in *j, arena *mem, run_info *r)
{
    json_t *host = json_in_object(j, j->root, "host");
    r->version = json_in_string(j, mem, j->root, "version");
    r->build = json_in_string(j, mem, j->root, "build");
    r->folder = json_in_string(j, mem, j->root, "folder");
    r->started = json_in_string(j, mem, j->root, "started");
    r->seconds = json_in_number(j, j->root, "seconds");
    r->seed = (uint64_t)json_in_int(j, j->root, "seed", 0);
    r->threads = (int)json_in_int(j, j->root, "threads", 0);
    r->device = json_in_string(j, mem, j->root, "device");
    r->system = json_in_string(j, mem, host, "system");
    r->cpu = json_in_string(j, mem, host, "cpu");
    r->cores = (int)json_in_int(j, host, "cores", 0);
    r->memory = json_in_int(j, host, "memory", -1);
}

static void get_training(json_in *j, arena *mem, run_info *r)
{
    json_t *o = json_in_object(j, j->root, "training");
    r->steps = json_in_int(j, o, "steps", 0);
    r->steps_done = json_in_int(j, o, "steps_done", 0);
    r->epochs = json_in_number(j, o, "epochs");
    r->batch = json_in_int(j, o, "batch", 0);
    r->samples = json_in_int(j, o, "samples", 0);
    r->labelled = json_in_int(j, o, "labelled", 0);
    r->method = json_in_string(j, mem, o, "method");
}

static status get_command(json_in *j, arena *mem, run_info *r)
{
    const char **command;
    json_t *array = json_in_array(j, j->root, "command", &r->n_command);
    TRY(arena_alloc(mem, &command, r->n_command, sizeof *command));
    r->command = command;
    for (size_t i = 0; i < r->n_command; i++) {
        const char *word = json_string_value(json_array_get(array, i));
        if (!word)
            json_in_fail(j, "'command' must hold strings");
        TRY(j->st);
        TRY(arena_strdup(mem, &command[i], word));
    }
    return ST_OK;
}

static status get_lists(json_in *j, arena *mem, run_info *r)
{
    file_info *files;
    library_info *libraries;
    json_t *array = json_in_array(j, j->root, "files", &r->n_files);
    TRY(arena_alloc(mem, &files, r->n_files, sizeof *files));
    r->files = files;
    for (size_t i = 0; i < r->n_files; i++) {
        json_t *o = json_array_get(array, i);
        files[i] = (file_info){.name = json_in_string(j, mem, o, "name"),
                               .path = json_in_string(j, mem, o, "path"),
                               .sha256 = json_in_string(j, mem, o, "sha256"),
                               .bytes = json_in_int(j, o, "bytes", -1)};
    }
    array = json_in_array(j, j->root, "libraries", &r->n_libraries);
    TRY(arena_alloc(mem, &libraries, r->n_libraries, sizeof *libraries));
    r->libraries = libraries;
    for (size_t i = 0; i < r->n_libraries; i++) {
        json_t *o = json_array_get(array, i);
        libraries[i] = (library_info){.name = json_in_string(j, mem, o, "name"),
                                      .version = json_in_string(j, mem, o, "version")};
    }
    return j->st;
}

static status get_run(json_in *j, arena *mem, run_info *r)
{
    int64_t schema = json_in_int(j, j->root, "schema", 0);
    if (schema != SCHEMA)
        json_in_fail(j, "schema %lld is not known; this program reads schema %d", (long long)schema, SCHEMA);
    r->name = json_in_string(j, mem, j->root, "name");
    r->status = json_in_string(j, mem, j->root, "status");
    r->reason = json_in_string(j, mem, j->root, "reason");
    if (!r->name || !r->status)
        json_in_fail(j, "'name' and 'status' are needed");
    get_origin(j, mem, r);
    get_training(j, mem, r);
    json_t *teacher = json_in_object(j, j->root, "teacher");
    r->has_teacher = teacher != NULL;
    r->teacher = get_model(j, mem, teacher);
    r->student = get_model(j, mem, json_in_object(j, j->root, "student"));
    TRY(j->st);
    TRY(get_command(j, mem, r));
    return get_lists(j, mem, r);
}

status run_info_read(const char *path, arena *mem, run_info *out)
{
    json_in j;
    *out = (run_info){0};
    status st = json_in_open(&j, path, FILE_MAX, limits_default().json_depth);
    if (st == ST_OK)
        st = get_run(&j, mem, out);
    json_in_close(&j);
    return st;
}
