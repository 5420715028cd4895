/* run_page.h - what a run's job says of its deployment matrix, and the page that shows both. */
#ifndef DISTILL_CLI_RUN_PAGE_H
#define DISTILL_CLI_RUN_PAGE_H

#include "config/config.h"
#include "matrix/champion.h"
#include "matrix/show.h"

typedef struct judgement {
    arena mem;
    champion before;
    gate_result gate;
    decision decided;
    show_options show; /* points to what there is of it */
} judgement;
/* The gate against the champion, and what ships where. A fault of job or champion costs a warning and that part of the judgement; *out is to be freed also
 * after failure. m gets the marks of its samples, where the cache has them. */
MUST_USE status judgement_make(const job *j, const char *run_dir, matrix *m, judgement *out);
void judgement_free(judgement *v);

/* The marks of single samples for m and for the champion's matrix (NULL: none), where the cache has them. */
MUST_USE status run_fetch_marks(const job *j, matrix *m, matrix *before);

/* Makes report.html of a run folder anew, with matrix.json where it has one. */
MUST_USE status run_page_write(const char *run_dir);

#endif
