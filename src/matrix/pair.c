/* pair.c - see pair.h. */
#include "matrix/pair.h"
#include "matrix/stats.h"

#include <math.h>
#include <stdio.h>

static double share_of_labels(const matrix_cell *c)
{
    return c->images ? (double)c->labelled / (double)c->images : 0;
}

pair_result pair_compare(const matrix_cell *first, const matrix_cell *second, bool same_samples)
{
    const double unknown = (double)NAN;
    pair_result r = {.drop = first->accuracy - second->accuracy, .p = unknown, .low = unknown, .high = unknown};
    if (isnan(r.drop))
        return r;
    if (same_samples && first->right && second->right && first->images && second->images) {
        r.paired = true;
        r.n = first->images < second->images ? first->images : second->images;
        r.p = stats_paired(first->right, second->right, r.n, &r.b, &r.c);
        r.drop = ((double)r.b - (double)r.c) / ((double)r.n * share_of_labels(first->images <= second->images ? first : second));
        r.beyond = r.p < STATS_LEVEL;
    } else if (first->labelled && second->labelled) {
        stats_newcombe(first->correct, first->labelled, second->correct, second->labelled, &r.low, &r.high);
        r.beyond = r.low > 0 || r.high < 0;
    } else {
        r.beyond = true; /* nothing is known of the samples: as measured */
    }
    return r;
}

const char *pair_text(const pair_result *r, char *buf)
{
    if (r->paired)
        snprintf(buf, PAIR_ROOM, "p = %.2g: %zu against %zu of %zu", r->p, r->b, r->c, r->n);
    else if (!isnan(r->low))
        snprintf(buf, PAIR_ROOM, "95 %% interval %.4f to %.4f", r->low, r->high);
    else
        snprintf(buf, PAIR_ROOM, "samples unknown");
    return buf;
}
