/* show_page.h - inside src/matrix/show_*: the parts of the page's section. All append HTML; strings from outside go through
 * put_words, which escapes and bounds them. */
#ifndef DISTILL_MATRIX_SHOW_PAGE_H
#define DISTILL_MATRIX_SHOW_PAGE_H

#include "base/mem.h"
#include "deploy/validation.h"
#include "matrix/show.h"
#include "matrix/show_cell.h"

#define SHOW_PICTURES 256 /* different samples that are shown as pictures */
#define SHOW_LOGS     (256 << 10)

typedef struct page_view {
    const matrix *m;
    const show_options *o;
    const char *run_dir; /* NULL: no logs, no pictures */
    show_metric metric;
    validation val; /* of the run: class names and pictures of samples; empty when there is none */
    size_t pictures[SHOW_PICTURES], n_pictures; /* samples whose picture is in the page */
    arena mem;                                  /* of pictures */
    size_t log_bytes;                           /* of logs in the page */
} page_view;

void put_words(text *t, const char *s);                               /* NULL: nothing; at most 400 letters */
void put_figure(text *t, const page_view *v, double value);           /* of the view's metric, with its unit */
void put_state(text *t, cell_state s);                                /* its word in its colour */
bool own_cell(const page_view *v, const matrix_cell *c, const matrix_cell **own); /* the same file in our executor */

void page_map(text *t, const page_view *v);        /* show_map.c: every runtime and variant */
void page_scatter(text *t, const page_view *v);    /* show_plot.c: accuracy against latency, and against size */
status page_cells(text *t, page_view *v);          /* show_cells.c: every cell in detail */
void page_gate(text *t, const gate_result *g);     /* show_gate.c: margins */
void page_decision(text *t, const decision *d);    /* show_gate.c */

extern const char show_style[];

#endif
