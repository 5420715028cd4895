/* show_cell.c - what a cell says in a few letters. */
#include "matrix/show_cell.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static double value_of(show_metric k, const matrix_cell *c)
{
    switch (k) {
    case SHOW_ACCURACY: return c->accuracy;
    case SHOW_AGREEMENT: return c->images && c->disagree <= c->images ? 1 - (double)c->disagree / (double)c->images : (double)NAN;
    case SHOW_ERROR: return c->error;
    default: return c->mean_error;
    }
}

double show_value(show_metric k, const matrix_cell *c)
{
    return show_ran(c) ? value_of(k, c) : (double)NAN;
}

show_metric show_metric_of(const matrix *m)
{
    show_metric k = m->numbers ? SHOW_ERROR : SHOW_ACCURACY;
    for (size_t i = 0; i < m->n_rows * m->n_columns; i++)
        if (!isnan(show_value(k, &m->cells[i])))
            return k;
    return m->numbers ? SHOW_DISTANCE : SHOW_AGREEMENT;
}

const char *show_metric_name(show_metric k)
{
    static const char *const names[] = {"accuracy", "same class as float32", "mean absolute error", "mean distance from our executor"};
    return names[k];
}

const char *show_figure(show_metric k, double value, char *buf)
{
    if (isnan(value))
        snprintf(buf, SHOW_ROOM, "-");
    else if (show_is_share(k))
        snprintf(buf, SHOW_ROOM, "%.2f", fmin(fmax(100 * value, -999), 999));
    else
        snprintf(buf, SHOW_ROOM, "%.3g", value);
    return buf;
}

const char *show_ms(double ms, char *buf)
{
    if (isnan(ms) || ms < 0)
        snprintf(buf, SHOW_ROOM, "-");
    else if (ms >= 9.9995e5)
        snprintf(buf, SHOW_ROOM, "%.2g", ms);
    else
        snprintf(buf, SHOW_ROOM, "%.*f", ms < 9.9995 ? 3 : ms < 99.995 ? 2 : ms < 999.95 ? 1 : 0, ms);
    return buf;
}

bool show_same(const matrix *m, const matrix_cell *c)
{
    return c->state == CELL_OK && c->images > 0 && (m->numbers ? c->max_error == 0 : c->flips == 0);
}

bool show_gate_fails(const gate_result *g, const matrix_cell *c)
{
    for (size_t i = 0; g && i < g->n; i++) {
        const gate_margin *r = &g->margins[i];
        if (!r->held && r->runtime && r->variant && strcmp(r->runtime, c->runtime) == 0 && strcmp(r->variant, c->variant) == 0)
            return true;
    }
    return false;
}

bool show_row_ran(const matrix *m, size_t row)
{
    for (size_t k = 0; k < m->n_columns; k++)
        if (matrix_at(m, row, k)->state != CELL_NOT_RUN)
            return true;
    return false;
}

size_t show_row_images(const matrix *m, size_t row)
{
    size_t most = 0;
    for (size_t k = 0; k < m->n_columns; k++) {
        const matrix_cell *c = matrix_at(m, row, k);
        most = show_ran(c) && c->images > most ? c->images : most;
    }
    return most;
}

size_t show_most_images(const matrix *m)
{
    size_t most = 0;
    for (size_t r = 0; r < m->n_rows; r++) {
        size_t n = show_row_images(m, r);
        most = n > most ? n : most;
    }
    return most;
}

void show_tally(const matrix *m, size_t count[CELL_STATES])
{
    memset(count, 0, CELL_STATES * sizeof *count);
    for (size_t i = 0; i < m->n_rows * m->n_columns; i++)
        count[m->cells[i].state]++;
}

int64_t show_bytes(const matrix_column *c)
{
    return c->n_files ? c->files[0].bytes : -1;
}
