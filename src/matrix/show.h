/* show.h - a matrix for readers: a table of 80 columns, markdown, CSV, and the section of the report page. */
#ifndef DISTILL_MATRIX_SHOW_H
#define DISTILL_MATRIX_SHOW_H

#include "base/text.h"
#include "data/data.h"
#include "matrix/decide.h"
#include "matrix/gate.h"
#include "matrix/matrix.h"

typedef struct show_options {
    bool color;              /* escape sequences; no meaning by colour alone */
    int width;               /* columns, 40 at least; 0: 80 */
    const gate_result *gate; /* NULL: none */
    const decision *decided; /* NULL: none */
    dataset *pictures;       /* whose validation samples the page shows; NULL: those in validation.json */
} show_options;

void show_terminal(const matrix *m, const show_options *o, text *t);
void show_markdown(const matrix *m, const show_options *o, text *t);
void show_csv(const matrix *m, text *t); /* a line a cell, RFC 4180 */
/* HTML of the page's section: heat map, a drill-down for each cell (class bars, worst images, error histogram, log), accuracy over
 * latency and size as inline SVG. run_dir: where logs, class names and pictures of samples are read from; NULL: nowhere. */
MUST_USE status show_page(const matrix *m, const show_options *o, const char *run_dir, text *t);
/* Writes RUN_DIR/report.html durably: deploy/report.h's page, with the matrix's section where m is not NULL. o NULL: none. */
MUST_USE status show_report(const char *run_dir, const matrix *m, const show_options *o);

#endif
