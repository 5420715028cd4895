/* metrics.c - one event: a JSON line and TensorBoard scalars. */
#include "train/metrics.h"
#include "base/io.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

status metrics_open(metrics *m, const char *dir)
{
    text path = {0};
    *m = (metrics){.jsonl = -1, .events = -1};
    text_printf(&path, "%s/metrics.jsonl", dir);
    status st = path.st;
    if (st == ST_OK)
        st = io_open_lines(path.s, &m->jsonl);
    if (st == ST_OK)
        st = tensorboard_open(dir, &m->events);
    text_free(&path);
    return st;
}

static double wall_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* "loss.ce" goes into the object "loss": members of one object follow each other in `at`. */
static void put_members(json *j, const metric *at, size_t n)
{
    char open[64] = "";
    for (size_t i = 0; i < n; i++) {
        const char *dot = strchr(at[i].name, '.');
        size_t length = dot ? (size_t)(dot - at[i].name) : 0;
        if (*open && (strncmp(open, at[i].name, length) != 0 || open[length])) {
            json_end_object(j);
            *open = 0;
        }
        if (dot && !*open) {
            snprintf(open, sizeof open, "%.*s", (int)length, at[i].name);
            json_put_object(j, open);
        }
        json_put_number(j, dot ? dot + 1 : at[i].name, at[i].value);
    }
    if (*open)
        json_end_object(j);
}

status metrics_event(metrics *m, const char *event, uint64_t step, const metric *at, size_t n, const char *note_key,
                     const char *note)
{
    json j = {.out = &m->line};
    double now = wall_time();
    m->line.n = 0;
    json_put_object(&j, NULL);
    json_put_string(&j, "event", event);
    json_put_number(&j, "time", now);
    json_put_int(&j, "step", (int64_t)step);
    if (note_key)
        json_put_string(&j, note_key, note);
    put_members(&j, at, n);
    json_end_object(&j);
    text_add(&m->line, "\n");
    TRY(m->line.st);
    TRY(io_append(m->jsonl, m->line.s, m->line.n));
    if (n > 0)
        TRY(tensorboard_scalars(m->events, now, step, at, n));
    return ST_OK;
}

status metrics_sync(metrics *m)
{
    TRY(io_sync(m->jsonl));
    return io_sync(m->events);
}

void metrics_close(metrics *m)
{
    io_close(m->jsonl);
    io_close(m->events);
    text_free(&m->line);
    *m = (metrics){.jsonl = -1, .events = -1};
}
