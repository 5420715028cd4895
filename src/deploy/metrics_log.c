/* metrics_log.c - metrics.jsonl, read into curves; the lines are described in report.h.
 *
 * A run that was killed and resumed repeats steps: when the step number falls back, what was said of later steps goes. A
 * line that cannot be read (torn by a crash) is counted and left out. */
#include "base/io.h"
#include "base/json_in.h"
#include "deploy/report.h"

#include <math.h>
#include <string.h>

#define FILE_MAX   ((uint64_t)1 << 30)
#define CURVES_MAX 64 /* loss terms */

static status add_point(curve *c, double x, double y)
{
    size_t cap_x = c->cap, cap_y = c->cap;
    TRY(mem_push(&c->x, &cap_x, c->n, sizeof *c->x));
    TRY(mem_push(&c->y, &cap_y, c->n, sizeof *c->y));
    c->cap = cap_x;
    c->x[c->n] = x;
    c->y[c->n++] = y;
    return ST_OK;
}

static void cut_after(curve *c, double step)
{
    while (c->n > 0 && c->x[c->n - 1] > step)
        c->n--;
}

static void free_curve(curve *c)
{
    char *name;
    memcpy(&name, &c->name, sizeof name); /* owned here, const for readers */
    mem_free(name);
    mem_free(c->x);
    mem_free(c->y);
}

void metrics_log_free(metrics_log *m)
{
    for (size_t i = 0; i < m->n_loss; i++)
        free_curve(&m->loss[i]);
    mem_free(m->loss);
    free_curve(&m->rate);
    free_curve(&m->accuracy);
    free_curve(&m->error);
    free_curve(&m->eval_loss);
    *m = (metrics_log){0};
}

static status loss_curve(metrics_log *m, const char *name, curve **out)
{
    char *copy;
    *out = NULL;
    for (size_t i = 0; i < m->n_loss; i++)
        if (strcmp(m->loss[i].name, name) == 0) {
            *out = &m->loss[i];
            return ST_OK;
        }
    if (m->n_loss == CURVES_MAX)
        return ST_OK;
    TRY(mem_grow(&m->loss, m->n_loss + 1, sizeof *m->loss));
    TRY(mem_strdup(&copy, name));
    m->loss[m->n_loss] = (curve){.name = copy};
    *out = &m->loss[m->n_loss++];
    return ST_OK;
}

static status add_losses(metrics_log *m, json_in *j, json_t *loss, double step)
{
    const char *key;
    json_t *value;
    json_object_foreach(loss, key, value)
    {
        curve *c;
        size_t n = strlen(key), suffix = strlen("_nonfinite");
        if (n > suffix && strcmp(key + n - suffix, "_nonfinite") == 0)
            continue;
        TRY(loss_curve(m, key, &c));
        if (c)
            TRY(add_point(c, step, json_in_number(j, loss, key)));
    }
    return ST_OK;
}

static void fall_back(metrics_log *m, double step)
{
    for (size_t i = 0; i < m->n_loss; i++)
        cut_after(&m->loss[i], step);
    cut_after(&m->rate, step);
    cut_after(&m->accuracy, step);
    cut_after(&m->error, step);
    cut_after(&m->eval_loss, step);
}

static status take_event(metrics_log *m, json_in *j)
{
    const char *event = json_string_value(json_object_get(j->root, "event"));
    double step = json_in_number(j, j->root, "step");
    if (!event || !isfinite(step)) {
        json_in_fail(j, "no event or step");
        return ST_OK;
    }
    if (step < m->last_step)
        fall_back(m, step);
    m->last_step = step;
    if (strcmp(event, "step") == 0) {
        m->last_epoch = json_in_number(j, j->root, "epoch");
        TRY(add_point(&m->rate, step, json_in_number(j, j->root, "lr")));
        TRY(add_losses(m, j, json_in_object(j, j->root, "loss"), step));
    } else if (strcmp(event, "eval") == 0) {
        double error = json_in_number(j, j->root, "error"), apart = json_in_number(j, j->root, "distance");
        if (!isnan(error) || !isnan(apart))
            TRY(add_point(&m->error, step, isnan(error) ? apart : error));
        TRY(add_point(&m->accuracy, step, json_in_number(j, j->root, "accuracy")));
        TRY(add_point(&m->eval_loss, step, json_in_number(j, j->root, "loss")));
    }
    m->resumes += strcmp(event, "resume") == 0;
    m->nonfinite += strcmp(event, "nonfinite") == 0;
    return ST_OK;
}

static status take_line(metrics_log *m, const char *path, const char *s, size_t n)
{
    json_in j;
    status st = json_in_parse(&j, path, s, n, limits_default().json_depth);
    if (st == ST_OK)
        st = take_event(m, &j);
    m->unreadable += st == ST_BAD_DATA || j.st != ST_OK;
    json_in_close(&j);
    return st == ST_BAD_DATA ? ST_OK : st;
}

status metrics_log_read(const char *path, metrics_log *out)
{
    unsigned char *data;
    size_t size;
    status st = ST_OK;
    *out = (metrics_log){0};
    if (!io_exists(path))
        return ST_OK;
    TRY(io_read_file(path, FILE_MAX, &data, &size));
    const char *at = (const char *)data, *end = at + size;
    while (at < end && st == ST_OK) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop ? stop : end;
        if (stop > at)
            st = take_line(out, path, at, (size_t)(stop - at));
        at = stop + 1;
    }
    mem_free(data);
    if (st != ST_OK)
        metrics_log_free(out);
    return st;
}
