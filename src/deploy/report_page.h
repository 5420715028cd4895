/* report_page.h - the pieces that report.html is put together from. All append HTML to a text. */
#ifndef DISTILL_DEPLOY_REPORT_PAGE_H
#define DISTILL_DEPLOY_REPORT_PAGE_H

#include "base/text.h"
#include "deploy/report.h"

/* report_text.c: words and numbers. */
void page_escaped(text *t, const char *s); /* NULL: a dash. Safe in text and in quoted attributes */
void page_count(text *t, int64_t n);       /* 31,434; below 0: a dash */
void page_number(text *t, double v,
                 const char *format);     /* printf format of one double; a word when not finite */
void page_percent(text *t, double share); /* 90.05 %; NAN: a dash */
void page_points(text *t, double share);  /* a difference of shares in percent points, with its sign */
void page_command(text *t, const char *const *word, size_t n);       /* as a shell line */
void page_tick(text *t, bool good, const char *yes, const char *no); /* a sign and a word */

/* A section's heading; the contents of the page are the headings' ids (letters and -) and titles (plain words). */
void page_heading(text *t, const char *id, const char *title);

/* report_plot.c: one diagram with its legend; nothing is told by colour alone. */
typedef struct plot {
    const char *title, *y_label;
    const curve *curves; /* names are shown */
    size_t n;
    bool percent;     /* y is a share */
    bool dots;        /* few points: mark each */
    double reference; /* a level to compare with; NAN: none */
    const char *reference_name;
} plot;
status page_plot(text *t, const plot *p);

/* report_png.c: a picture as a data: URI. */
status page_picture(text *t, const thumbnail *picture);

/* report_tables.c */
void page_per_class(text *t, const validation *v);
void page_confusion(text *t, const validation *v);
void page_runtimes(text *t, const validation *v);
void page_variants(text *t, const validation *v); /* nothing where there are none */
status page_farthest(text *t, const validation *v);
const char *page_class_name(const validation *v, int32_t c); /* "none" below 0 */
/* The runtime whose latency stands in summaries: ONNX Runtime's, else any; NULL: none was measured. */
const runtime_result *page_latency_of(const validation *v, const char *model);

/* report_head.c */
void page_headline(text *t, const report_data *r);

/* report_facts.c */
void page_summary(text *t, const report_data *r);
void page_checks(text *t, const validation *v);
void page_facts(text *t, const report_data *r);

/* report_style.c */
extern const char page_style[];

#endif
