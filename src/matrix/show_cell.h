/* show_cell.h - what a cell says in a few letters; shared by table, markdown, CSV and page. */
#ifndef DISTILL_MATRIX_SHOW_CELL_H
#define DISTILL_MATRIX_SHOW_CELL_H

#include "base/text.h"
#include "matrix/gate.h"
#include "matrix/matrix.h"

/* The figure that stands for a cell. */
typedef enum show_metric {
    SHOW_ACCURACY,
    SHOW_AGREEMENT, /* no sample has a label: the share of the samples of the same class as our float32 network's */
    SHOW_ERROR,     /* outputs are numbers: their mean absolute error from the targets */
    SHOW_DISTANCE   /* numbers without targets: the mean distance from the same file in our executor */
} show_metric;
show_metric show_metric_of(const matrix *m);
const char *show_metric_name(show_metric k); /* "accuracy" ... */
double show_value(show_metric k, const matrix_cell *c); /* shares 0 to 1; NAN: unknown */
/* "90.05", "0.0123"; shares in percent without the sign. "-" when unknown. buf: SHOW_ROOM bytes, which it returns. */
#define SHOW_ROOM 48
const char *show_figure(show_metric k, double value, char *buf);
const char *show_ms(double ms, char *buf); /* "0.123", "12.3"; "-" when unknown */
static inline bool show_is_share(show_metric k)
{
    return k == SHOW_ACCURACY || k == SHOW_AGREEMENT;
}

static inline bool show_ran(const matrix_cell *c)
{
    return c->state == CELL_OK || c->state == CELL_DIFFERS;
}
/* ran, and no sample came out otherwise than from the same file in our executor */
bool show_same(const matrix *m, const matrix_cell *c);
bool show_gate_fails(const gate_result *g, const matrix_cell *c); /* a rule on this very cell; g NULL: none */
bool show_row_ran(const matrix *m, size_t row);                   /* some cell is more than "not run here" */
size_t show_row_images(const matrix *m, size_t row);              /* the most samples that a cell of the row ran; 0 */
size_t show_most_images(const matrix *m);                         /* the most samples that a cell ran: fewer are other samples */
void show_tally(const matrix *m, size_t count[CELL_STATES]);
int64_t show_bytes(const matrix_column *c); /* of its first file; -1 */

#endif
