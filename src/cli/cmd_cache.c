/* cmd_cache.c - `distill cache`: the teacher outputs that runs keep on disk: what there is, and away with it. */
#include "base/io.h"
#include "cli/cli.h"
#include "distill/cache_file.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

static void when(int64_t nanoseconds, char buf[32])
{
    time_t t = (time_t)(nanoseconds / 1000000000);
    struct tm utc;
    buf[0] = 0;
    if (gmtime_r(&t, &utc))
        strftime(buf, 32, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

static const char *what(const cache_entry *e)
{
    return *e->about ? e->about : "damaged: it will be made anew";
}

static status list_text(const char *dir, const job *j, const cache_entry *at, size_t n)
{
    text t = {0};
    char room[24], limit[24], last[32];
    uint64_t sum = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        sum += at[i].facts.room;
        size += at[i].facts.size;
    }
    text_printf(&t, "%s: %zu file%s, %s on disk", dir, n, n == 1 ? "" : "s", human_bytes((double)sum, room));
    text_printf(&t, " (%s when full), at most %s\n", human_bytes((double)size, room),
                human_bytes((double)j->cache.size * 1048576, limit));
    for (size_t i = 0; i < n; i++) {
        when(at[i].facts.modified, last);
        text_printf(&t, "%.12s %10s  %s  %s%s\n", at[i].name, human_bytes((double)at[i].facts.room, room), last, what(&at[i]),
                    at[i].in_use ? " (in use)" : "");
    }
    return cli_print(&t);
}

static status list_json(const char *dir, const job *j, const cache_entry *at, size_t n)
{
    text t = {0};
    char last[32];
    json out = {.out = &t};
    json_put_object(&out, NULL);
    json_put_int(&out, "schema", 1);
    json_put_string(&out, "dir", dir);
    json_put_int(&out, "limit", j->cache.size * 1048576);
    json_put_array(&out, "files");
    for (size_t i = 0; i < n; i++) {
        when(at[i].facts.modified, last);
        json_put_object(&out, NULL);
        json_put_string(&out, "name", at[i].name);
        json_put_string(&out, "what", what(&at[i]));
        json_put_int(&out, "bytes", (int64_t)at[i].facts.room);
        json_put_int(&out, "full_bytes", (int64_t)at[i].facts.size);
        json_put_string(&out, "opened", last);
        json_put_bool(&out, "in_use", at[i].in_use);
        json_end_object(&out);
    }
    json_end_array(&out);
    json_end_object(&out);
    text_add(&t, "\n");
    return cli_print(&t);
}

static status clean(const char *dir, bool as_json)
{
    text t = {0};
    char room[24];
    size_t removed, kept;
    uint64_t bytes;
    TRY(cache_clean(dir, &removed, &bytes, &kept));
    if (as_json) {
        json out = {.out = &t};
        json_put_object(&out, NULL);
        json_put_int(&out, "schema", 1);
        json_put_string(&out, "dir", dir);
        json_put_int(&out, "removed", (int64_t)removed);
        json_put_int(&out, "removed_bytes", (int64_t)bytes);
        json_put_int(&out, "in_use", (int64_t)kept);
        json_end_object(&out);
        text_add(&t, "\n");
    } else {
        text_printf(&t, "%s: removed %zu file%s, %s", dir, removed, removed == 1 ? "" : "s",
                    human_bytes((double)bytes, room));
        if (kept)
            text_printf(&t, "; %zu that a run has open stayed", kept);
        text_add(&t, "\n");
    }
    return cli_print(&t);
}

status cmd_cache(cli *c)
{
    job *j = NULL;
    arena mem = {0};
    cache_entry *at;
    size_t n;
    const char *dir;
    status st = ST_OK;
    if (c->o.args.n)
        return fail(ST_USAGE, "what is '%s'? Options begin with --; see `distill help cache`", c->o.args.at[0]);
    if (c->o.list == c->o.clean)
        return fail(ST_USAGE, "distill cache --list, or distill cache --clean");
    TRY_DONE(cli_load_job(c, c->o.student != NULL, &j));
    TRY_DONE(io_cache_folder(j->cache.dir, &mem, &dir));
    if (c->o.clean) {
        st = clean(dir, c->o.json);
        goto done;
    }
    TRY_DONE(cache_list(dir, &mem, &at, &n));
    st = c->o.json ? list_json(dir, j, at, n) : list_text(dir, j, at, n);
done:
    config_free(j);
    arena_free(&mem);
    return st;
}
