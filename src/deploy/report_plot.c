/* report_plot.c - a line diagram as inline SVG, with its legend.
 *
 * Lines differ by dashes as well as by colour (classes s0.. of the style sheet). Long curves are drawn through the means
 * of at most POINTS_MAX equal stretches; a value that is not finite interrupts the line. */
#include "deploy/report_page.h"

#include <math.h>
#include <string.h>

#define WIDTH      360
#define HEIGHT     220
#define LEFT       50
#define RIGHT      10
#define TOP        10
#define BOTTOM     36
#define POINTS_MAX 180
#define STYLES     6 /* line styles of the style sheet */

typedef struct axis {
    double low, high, step;
    int decimals;
} axis;

/* Round ends and a round step with about `ticks` of them: 1, 2, 2.5 or 5 times a power of ten. */
static axis round_axis(double low, double high, int ticks)
{
    static const double nice[] = {1, 2, 2.5, 5, 10};
    double span = high > low ? high - low : fabs(high) > 0 ? fabs(high) : 1;
    double power = pow(10, floor(log10(span / ticks))), step = 10 * power;
    for (size_t i = 0; i < sizeof nice / sizeof *nice; i++)
        if (nice[i] * power * ticks >= span) {
            step = nice[i] * power;
            break;
        }
    axis a = {.step = step, .low = floor(low / step + 1e-9) * step, .high = ceil(high / step - 1e-9) * step};
    if (a.high <= a.low)
        a.high = a.low + step;
    while (a.decimals < 9 && fabs(step * pow(10, a.decimals) - round(step * pow(10, a.decimals))) > 1e-6)
        a.decimals++;
    return a;
}

static double map_x(const axis *x, double v)
{
    return LEFT + (v - x->low) / (x->high - x->low) * (WIDTH - LEFT - RIGHT);
}

static double map_y(const axis *y, double v)
{
    return HEIGHT - BOTTOM - (v - y->low) / (y->high - y->low) * (HEIGHT - TOP - BOTTOM);
}

/* Smallest and largest finite values of all curves and of the reference; false when there is none. */
static bool find_range(const plot *p, double *x_high, double *low, double *high)
{
    bool any = false;
    *x_high = 0;
    for (size_t k = 0; k < p->n; k++)
        for (size_t i = 0; i < p->curves[k].n; i++) {
            double x = p->curves[k].x[i], y = p->curves[k].y[i];
            if (!isfinite(y) || fabs(y) > 1e30)
                continue;
            *low = any && *low < y ? *low : y;
            *high = any && *high > y ? *high : y;
            *x_high = *x_high > x ? *x_high : x;
            any = true;
        }
    if (any && isfinite(p->reference)) {
        *low = *low < p->reference ? *low : p->reference;
        *high = *high > p->reference ? *high : p->reference;
    }
    return any;
}

static void put_y_axis(text *t, const plot *p, const axis *y)
{
    int ticks = (int)lround((y->high - y->low) / y->step);
    for (int i = 0; i <= ticks; i++) {
        double v = y->low + i * y->step, at = map_y(y, v);
        text_printf(t, "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>", LEFT, at,
                    WIDTH - RIGHT, at);
        text_printf(t, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 6, at + 4);
        if (p->percent)
            text_printf(t, "%.*f\xc2\xa0%%", y->decimals > 2 ? y->decimals - 2 : 0, 100 * v);
        else
            text_printf(t, "%.*f", y->decimals, v);
        text_add(t, "</text>\n");
    }
}

static void put_x_axis(text *t, const axis *x)
{
    int ticks = (int)floor((x->high - x->low) / x->step + 1e-9);
    text_printf(t, "<line class=\"axis\" x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>", LEFT, HEIGHT - BOTTOM,
                WIDTH - RIGHT, HEIGHT - BOTTOM);
    for (int i = 0; i <= ticks; i++) {
        double v = x->low + i * x->step, at = map_x(x, v);
        text_printf(t, "<line class=\"axis\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>", at,
                    HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 4);
        text_printf(t, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">", at, HEIGHT - BOTTOM + 16,
                    at > WIDTH - RIGHT - 14 ? "end" : "middle");
        page_count(t, (int64_t)llround(v));
        text_add(t, "</text>\n");
    }
    text_printf(t, "<text class=\"label\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">optimizer steps</text>\n",
                (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4);
}

/* Mean of the finite values of points [from, to); NAN when there is none. */
static void mean_point(const curve *c, size_t from, size_t to, double *x, double *y)
{
    double sx = 0, sy = 0;
    size_t n = 0;
    for (size_t i = from; i < to; i++)
        if (isfinite(c->y[i]) && fabs(c->y[i]) <= 1e30) {
            sx += c->x[i];
            sy += c->y[i];
            n++;
        }
    *x = n ? sx / (double)n : c->x[from];
    *y = n ? sy / (double)n : (double)NAN;
}

static void put_curve(text *t, const plot *p, size_t k, const axis *x, const axis *y)
{
    const curve *c = &p->curves[k];
    size_t n = c->n < POINTS_MAX ? c->n : POINTS_MAX;
    bool drawing = false;
    text_printf(t, "<path class=\"line s%zu\" d=\"", k % STYLES);
    for (size_t i = 0; i < n; i++) {
        double px, py;
        mean_point(c, i * c->n / n, (i + 1) * c->n / n, &px, &py);
        if (isnan(py)) {
            drawing = false;
            continue;
        }
        text_printf(t, "%s%.1f %.1f", drawing ? "L" : "M", map_x(x, px), map_y(y, py));
        drawing = true;
    }
    text_add(t, "\"/>\n");
    for (size_t i = 0; ((p->dots && c->n <= 60) || c->n == 1) && i < c->n; i++)
        if (isfinite(c->y[i]))
            text_printf(t, "<circle class=\"dot s%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>", k % STYLES,
                        map_x(x, c->x[i]), map_y(y, c->y[i]));
}

static void put_reference(text *t, const plot *p, const axis *y)
{
    double at = map_y(y, p->reference);
    text_printf(t, "<line class=\"line reference\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>\n", LEFT, at,
                WIDTH - RIGHT, at);
}

static void put_level(text *t, const plot *p, double v)
{
    if (p->percent)
        page_percent(t, v);
    else
        page_number(t, v, "%.4g");
}

static void put_legend_entry(text *t, const plot *p, const char *style, const char *name, double last)
{
    text_printf(t,
                "<li><svg viewBox=\"0 0 30 10\" width=\"30\" height=\"10\" aria-hidden=\"true\"><line "
                "class=\"line %s\" "
                "x1=\"0\" y1=\"5\" x2=\"30\" y2=\"5\"/></svg> ",
                style);
    page_escaped(t, name);
    text_add(t, " <span class=\"quiet\">");
    put_level(t, p, last);
    text_add(t, "</span></li>\n");
}

static void put_legend(text *t, const plot *p)
{
    text_add(t, "<ul class=\"legend\">\n");
    for (size_t k = 0; k < p->n; k++) {
        const curve *c = &p->curves[k];
        char style[8] = {'s', (char)('0' + k % STYLES), 0};
        if (c->n > 0)
            put_legend_entry(t, p, style, c->name, c->y[c->n - 1]);
    }
    if (isfinite(p->reference))
        put_legend_entry(t, p, "reference", p->reference_name, p->reference);
    text_add(t, "</ul>\n");
}

status page_plot(text *t, const plot *p)
{
    double x_high, low = 0, high = 0;
    text_add(t, "<figure class=\"plot\">\n<figcaption>");
    page_escaped(t, p->title);
    text_add(t, "</figcaption>\n");
    if (!find_range(p, &x_high, &low, &high)) {
        text_add(t, "<p class=\"quiet\">Nothing was recorded.</p>\n</figure>\n");
        return t->st;
    }
    if (low > 0 && (low < 0.4 * high || high - low < 1e-12 * high) && !p->percent)
        low = 0;
    axis x = round_axis(0, x_high > 0 ? x_high : 1, 4), y = round_axis(low, high, 5);
    if (p->percent && y.high > 1)
        y.high = high <= 1 ? 1 : y.high;
    x.high = x_high > 0 ? x_high : 1; /* the line ends at the edge; ticks stay round */
    text_printf(t, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    page_escaped(t, p->title);
    text_add(t, " over optimizer steps\">\n");
    put_y_axis(t, p, &y);
    put_x_axis(t, &x);
    if (isfinite(p->reference))
        put_reference(t, p, &y);
    for (size_t k = 0; k < p->n; k++)
        put_curve(t, p, k, &x, &y);
    text_add(t, "</svg>\n");
    put_legend(t, p);
    text_add(t, "</figure>\n");
    return t->st;
}
