/* remote.c - running on a backend with memory of its own: constants go there once, inputs and outputs have a place on the host
 * too. A phase (or a chain of phases of several executors) runs kernel by kernel the first time, when libraries choose and load
 * what they need, is recorded the second time and launched as one program from then on. */
#include "base/clock.h"
#include "exec/inside.h"

#include <string.h>

static size_t align(size_t n)
{
    return (n + 255) & ~(size_t)255;
}

/* ---- places ---- */

static bool is_mirrored(const graph *g, value_id v)
{
    if (g->value[v].kind == VALUE_INPUT)
        return true;
    for (size_t i = 0; i < g->n_output; i++)
        if (g->output[i] == v)
            return g->value[v].kind == VALUE_TEMP;
    return false;
}

/* Puts input or output v at `at` of the box, with all that shares its storage, once. Outputs that share storage have a
 * place each on the host, and one on the device. */
static void place_in_box(exec *e, value_id v, size_t *at, bool measure)
{
    const plan *p = e->p;
    size_t bytes = plan_value_bytes(&e->g->value[v]);
    bool whole = p->offset[v] != SIZE_MAX;
    for (value_id u = 1; u < v && whole; u++) /* another output has moved the storage already */
        whole = !(p->root[u] == p->root[v] && is_mirrored(e->g, u));
    for (value_id u = 1; u < e->g->n_value && whole; u++)
        if (p->root[u] == p->root[v] && plan_value_bytes(&e->g->value[u]) > bytes)
            bytes = plan_value_bytes(&e->g->value[u]);
    for (value_id u = 1; u < e->g->n_value && whole && !measure; u++)
        if (p->root[u] == p->root[v])
            e->data[u] = e->far->box + *at;
    if (!measure)
        e->far->host[v] = e->far->mirror + *at;
    *at += align(bytes);
}

/* Inputs in their order, then outputs; scalars of a kind lie next to each other. */
static size_t place_all_in_box(exec *e, bool measure)
{
    const graph *g = e->g;
    size_t at = 0;
    for (size_t i = 0; i < g->n_input; i++)
        place_in_box(e, g->input[i], &at, measure);
    for (value_id v = 1; v < g->n_value; v++)
        if (g->value[v].kind != VALUE_INPUT && is_mirrored(g, v))
            place_in_box(e, v, &at, measure);
    return at;
}

/* Marks the constants that a node reads, if only to prepare itself, or that are outputs. [n_value] */
static void mark_read(const exec *e, bool *read)
{
    const graph *g = e->g;
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_in; i++)
            read[e->p->root[g->node[k].in[i]]] = true;
    for (size_t i = 0; i < g->n_output; i++)
        read[e->p->root[g->output[i]]] = true;
    for (size_t v = 1; v < g->n_value; v++)
        read[v] = read[e->p->root[v]] && g->value[v].kind == VALUE_CONST && g->value[v].data;
}

static status place_constants(exec *e)
{
    const graph *g = e->g;
    remote_part *f = e->far;
    bool *read = NULL;
    size_t at = 0;
    status st = ST_OK;
    TRY_DONE(mem_alloc(&read, g->n_value, sizeof *read));
    mark_read(e, read);
    for (size_t v = 1; v < g->n_value; v++)
        if (read[v])
            f->constant_bytes += align(plan_value_bytes(&g->value[v]));
    TRY_DONE(e->b->alloc(e->b, f->constant_bytes, (void **)&f->constants));
    for (size_t v = 1; v < g->n_value; v++) {
        const value *x = &g->value[v];
        if (x->kind == VALUE_CONST)
            f->host[v] = (void *)(uintptr_t)x->data;
        if (!read[v])
            continue;
        TRY_DONE(e->b->remote->copy(e->b, f->constants + at, x->data, plan_value_bytes(x), COPY_TO_DEVICE));
        e->data[v] = f->constants + at;
        at += align(plan_value_bytes(x));
    }
    for (size_t v = 1; v < g->n_value; v++) /* views of what was moved */
        if (e->p->root[v] != v && g->value[e->p->root[v]].kind == VALUE_CONST)
            e->data[v] = e->data[e->p->root[v]];
done:
    mem_free(read);
    return st;
}

status remote_open(exec *e)
{
    const graph *g = e->g;
    remote_part *f;
    if (!e->b->remote)
        return ST_OK;
    TRY(mem_alloc(&e->far, 1, sizeof *e->far));
    f = e->far;
    TRY(mem_alloc(&f->host, g->n_value, sizeof *f->host));
    f->box_bytes = place_all_in_box(e, true);
    TRY(e->b->alloc(e->b, f->box_bytes, (void **)&f->box));
    TRY(e->b->remote->alloc_host(e->b, f->box_bytes, (void **)&f->mirror));
    place_all_in_box(e, false);
    TRY(place_constants(e));
    for (size_t v = 1; v < g->n_value; v++)
        if ((g->value[v].kind == VALUE_PARAM || g->value[v].kind == VALUE_STATE) && !value_is_copy(&g->value[v]))
            f->host[v] = store_find(e->s, g->value[v].name)->t.data;
    for (size_t k = 1; k < g->n_node; k++)
        f->mutates = f->mutates || op_of(g->node[k].op)->flags & OP_MUTATES;
    TRY(copies_open(e));
    return e->b->remote->wait(e->b);
}

void remote_close(exec *e)
{
    remote_part *f = e->far;
    if (!f)
        return;
    for (int when = PHASE_MAIN; when <= PHASE_UPDATE; when++)
        e->b->remote->forget(e->b, f->program[when]);
    e->b->free(e->b, f->constants, f->constant_bytes);
    e->b->free(e->b, f->box, f->box_bytes);
    e->b->remote->free_host(e->b, f->mirror);
    copies_close(e);
    mem_free(f->host);
    mem_free(f);
    e->far = NULL;
}

/* ---- copies ---- */

static bool is_read_in(const graph *g, value_id v, phase when)
{
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; g->node[k].when == when && i < g->node[k].n_in; i++)
            if (g->node[k].in[i] == v)
                return true;
    return false;
}

typedef struct span { /* copies that wait for others right behind them */
    exec *e;
    copy_way way;
    char *host, *there;
    size_t bytes;
} span;

static status span_end(span *s)
{
    bool up = s->way == COPY_TO_DEVICE;
    size_t bytes = s->bytes;
    s->bytes = 0;
    return bytes ? s->e->b->remote->copy(s->e->b, up ? s->there : s->host, up ? s->host : s->there, bytes, s->way) : ST_OK;
}

static status span_add(span *s, char *host, char *there, size_t bytes)
{
    const remote_part *f = s->e->far;
    bool boxed = s->bytes && s->there >= f->box && s->there < f->box + f->box_bytes;
    if (boxed && host == s->host + align(s->bytes) && there == s->there + align(s->bytes)) { /* what is between is nobody's */
        s->bytes = align(s->bytes) + bytes;
        return ST_OK;
    }
    TRY(span_end(s));
    s->host = host;
    s->there = there;
    s->bytes = bytes;
    return ST_OK;
}

static bool is_linked(const exec_link *link, size_t n, size_t part, value_id v, bool out)
{
    for (size_t i = 0; i < n; i++)
        if (out ? link[i].from == part && link[i].out == v : link[i].to == part && link[i].in == v)
            return true;
    return false;
}

typedef struct linked { /* part `at` of a chain */
    const exec_link *link;
    size_t n, at;
    size_t host_bytes; /* larger outputs stay */
    bool bare;         /* others make the host's copies */
} linked;
static const linked alone = {.host_bytes = SIZE_MAX};

/* Whether v is an input that the phase reads, or an output that it makes for the host; not one that links carry. */
static bool moves(const exec *e, phase when, value_id v, bool up, const linked *l)
{
    const graph *g = e->g;
    const value *x = &g->value[v];
    if (!e->far->host[v] || !is_mirrored(g, v) || (x->kind == VALUE_INPUT) != up || is_linked(l->link, l->n, l->at, v, !up))
        return false;
    return up ? is_read_in(g, v, when) : g->node[x->from].when == when && plan_value_bytes(x) <= l->host_bytes;
}

static status move_mirrors(exec *e, phase when, copy_way way, const linked *l)
{
    span s = {.e = e, .way = way};
    for (value_id v = 1; v < e->g->n_value && !l->bare; v++)
        if (moves(e, when, v, way == COPY_TO_DEVICE, l))
            TRY(span_add(&s, e->far->host[v], e->data[v], plan_value_bytes(&e->g->value[v])));
    return span_end(&s);
}

/* Steps [from, to) of the phase. */
static void put_steps(exec *e, phase when, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if (e->steps[i].when == when)
            e->steps[i].run(&e->steps[i].args);
}

static status put_part(exec *e, phase when, const linked *l)
{
    TRY(move_mirrors(e, when, COPY_TO_DEVICE, l));
    put_steps(e, when, 0, e->n_step);
    return move_mirrors(e, when, COPY_TO_HOST, l);
}

/* One kernel after the other, each waited for: its time includes the launch. */
static status run_watched(exec *e, phase when, const linked *l)
{
    TRY(move_mirrors(e, when, COPY_TO_DEVICE, l));
    TRY(e->b->remote->wait(e->b));
    for (size_t i = 0; i < e->n_step; i++) {
        const step *s = &e->steps[i];
        if (s->when != when)
            continue;
        double begin = clock_seconds();
        s->run(&s->args);
        TRY(e->b->remote->wait(e->b));
        double end = clock_seconds();
        e->seconds[s->n] += end - begin;
        if (e->seen)
            e->seen(e->seen_ctx, s->n, begin, end);
    }
    TRY(move_mirrors(e, when, COPY_TO_HOST, l));
    return e->b->remote->wait(e->b);
}

static status begin_run(exec *e)
{
    TRY(store_push(e->s));
    if (e->far->mutates)
        e->s->device_newer = true;
    return copies_begin_run(e);
}

static status record(exec *e, phase when)
{
    TRY(e->b->remote->record(e->b));
    status st = put_part(e, when, &alone);
    status end = e->b->remote->recorded(e->b, &e->far->program[when], &e->far->kernels[when]);
    return st != ST_OK ? st : end;
}

status remote_run(exec *e, phase when)
{
    TRY(begin_run(e));
    if (e->timing || e->seen)
        return run_watched(e, when, &alone);
    if (!e->far->ran[when] && !e->b->records_first) {
        TRY(put_part(e, when, &alone));
        e->far->ran[when] = true;
        return e->b->remote->wait(e->b);
    }
    if (!e->far->program[when])
        TRY(record(e, when));
    TRY(e->b->remote->replay(e->b, e->far->program[when]));
    return e->b->remote->wait(e->b);
}

size_t exec_kernels(const exec *e, phase when)
{
    return e->far ? e->far->kernels[when] : 0;
}

status exec_get(const exec *e, value_id v, void *to, size_t bytes)
{
    if (!e->far) {
        memcpy(to, e->data[v], bytes);
        return ST_OK;
    }
    TRY(e->b->remote->copy(e->b, to, e->data[v], bytes, COPY_TO_HOST));
    return e->b->remote->wait(e->b);
}

status exec_put(exec *e, value_id v, const void *from, size_t bytes)
{
    if (!e->far) {
        memcpy(e->data[v], from, bytes);
        return ST_OK;
    }
    e->s->written++; /* it may be a parameter */
    TRY(e->b->remote->copy(e->b, e->data[v], from, bytes, COPY_TO_DEVICE));
    return e->b->remote->wait(e->b);
}

/* ---- chains ---- */

static status check_links(const exec_chain *c)
{
    for (size_t i = 0; i < c->n_link; i++) {
        const exec_link *l = &c->link[i];
        const value *x = &c->part[l->from].e->g->value[l->out], *y = &c->part[l->to].e->g->value[l->in];
        if (l->from >= l->to || plan_value_bytes(x) != plan_value_bytes(y) || x->type != y->type)
            return fail(ST_INTERNAL, "'%s' cannot become '%s'", x->name, y->name);
    }
    return ST_OK;
}

/* Copies of parameters are looked at before a chain runs: in it no other executor may write the same store. */
static status check_copies(const exec_chain *c)
{
    for (size_t i = 0; i < c->n; i++)
        for (size_t k = 0; k < c->n; k++)
            if (c->part[i].e != c->part[k].e && c->part[i].e->s == c->part[k].e->s && c->part[i].e->far->copies &&
                c->part[k].e->far->mutates)
                return fail(ST_INTERNAL, "two executors of a chain write one store");
    return ST_OK;
}

status exec_chain_open(const exec_part *part, size_t n, const exec_link *link, size_t n_link, exec_chain **out)
{
    exec_chain *c;
    status st = ST_OK;
    *out = NULL;
    if (n < 1 || n > CHAIN_PARTS || !part[0].e->far)
        return ST_OK;
    TRY(mem_alloc(&c, 1, sizeof *c));
    TRY_DONE(mem_alloc(&c->link, n_link, sizeof *c->link));
    memcpy(c->part, part, n * sizeof *part);
    if (n_link)
        memcpy(c->link, link, n_link * sizeof *link);
    c->n = n;
    c->n_link = n_link;
    TRY_DONE(check_links(c));
    TRY_DONE(check_copies(c));
    *out = c;
    return ST_OK;
done:
    exec_chain_close(c);
    return st;
}

void exec_chain_close(exec_chain *c)
{
    if (!c)
        return;
    ring_close(c);
    if (c->n)
        c->part[0].e->b->remote->forget(c->part[0].e->b, c->program);
    mem_free(c->link);
    mem_free(c);
}

size_t exec_chain_kernels(const exec_chain *c)
{
    return c->kernels;
}

static bool is_input(const exec_chain *c, const exec_link *l)
{
    return c->part[l->from].e->g->value[l->out].kind == VALUE_INPUT;
}

/* What part i passes on: what it was given, what it makes. */
static status pass_some(const exec_chain *c, size_t i, bool inputs)
{
    exec *e = c->part[i].e;
    for (size_t k = 0; k < c->n_link; k++) {
        const exec_link *l = &c->link[k];
        if (l->from == i && is_input(c, l) == inputs)
            TRY(e->b->remote->copy(e->b, c->part[l->to].e->data[l->in], e->data[l->out], plan_value_bytes(&e->g->value[l->out]),
                                   COPY_ON_DEVICE));
    }
    return ST_OK;
}

static status pass_on(const exec_chain *c, size_t i)
{
    TRY(pass_some(c, i, true));
    return pass_some(c, i, false);
}

static linked links_of(const exec_chain *c, size_t i, bool bare)
{
    return (linked){c->link, c->n_link, i, c->part[i].host_bytes, bare};
}

static status put_whole(const exec_chain *c, size_t i, bool bare)
{
    const linked l = links_of(c, i, bare);
    TRY(put_part(c->part[i].e, c->part[i].when, &l));
    return pass_on(c, i);
}

/* Whether an operand lies where part i+1 gets something that part i makes. */
static bool takes_of(const exec_chain *c, size_t i, const kernel_args *a)
{
    const exec *e = c->part[i + 1].e;
    for (size_t k = 0; k < c->n_link; k++) {
        const exec_link *l = &c->link[k];
        if (l->from != i || l->to != i + 1 || is_input(c, l))
            continue;
        const uintptr_t at = (uintptr_t)e->data[l->in], end = at + plan_value_bytes(&e->g->value[l->in]);
        for (int n = 0; n < a->n_in; n++)
            if ((uintptr_t)a->in[n].data >= at && (uintptr_t)a->in[n].data < end)
                return true;
    }
    return false;
}

static status put_branch(const exec_chain *c, size_t i, const linked *l)
{
    exec *e = c->part[i].e;
    put_steps(e, c->part[i].when, 0, e->n_step);
    TRY(move_mirrors(e, c->part[i].when, COPY_TO_HOST, l));
    return pass_some(c, i, false);
}

/* Parts i and i+1, the first as a branch beside the second's begin. Only a begin: later steps may lie where earlier ones of the
 * plan had their values. The two share no memory that either writes but what links carry, which lies outside of what is planned. */
static status put_beside(const exec_chain *c, size_t i, bool bare)
{
    exec *e = c->part[i].e, *next = c->part[i + 1].e;
    const backend_remote *r = e->b->remote;
    const linked l = links_of(c, i, bare), l_next = links_of(c, i + 1, bare);
    const phase when = c->part[i + 1].when;
    size_t begin = 0;
    while (begin < next->n_step && !(next->steps[begin].when == when && takes_of(c, i, &next->steps[begin].args)))
        begin++;
    TRY(move_mirrors(e, c->part[i].when, COPY_TO_DEVICE, &l));
    TRY(pass_some(c, i, true));
    TRY(r->branch(e->b, BRANCH_BEGIN));
    status st = put_branch(c, i, &l), left = r->branch(e->b, BRANCH_LEAVE); /* also after a failure: a recording has to be ended */
    if (st == ST_OK && left == ST_OK)
        st = move_mirrors(next, when, COPY_TO_DEVICE, &l_next);
    if (st == ST_OK && left == ST_OK)
        put_steps(next, when, 0, begin);
    status joined = r->branch(e->b, BRANCH_JOIN);
    if (st != ST_OK || left != ST_OK || joined != ST_OK)
        return st != ST_OK ? st : left != ST_OK ? left : joined;
    put_steps(next, when, begin, next->n_step);
    TRY(move_mirrors(next, when, COPY_TO_HOST, &l_next));
    return pass_on(c, i + 1);
}

static status put_chain(const exec_chain *c, bool recording, bool bare)
{
    for (size_t i = 0; i < c->n; i++) {
        const bool beside = recording && c->part[i].beside && i + 1 < c->n && c->part[i].e != c->part[i + 1].e;
        TRY(beside ? put_beside(c, i, bare) : put_whole(c, i, bare));
        i += beside;
    }
    return ST_OK;
}

static status record_chain(exec_chain *c)
{
    backend *b = c->part[0].e->b;
    TRY(b->remote->record(b));
    status st = put_chain(c, true, false);
    status end = b->remote->recorded(b, &c->program, &c->kernels);
    return st != ST_OK ? st : end;
}

bool chain_moves(const exec_chain *c, size_t i, value_id v, bool up)
{
    const linked l = links_of(c, i, false);
    return moves(c->part[i].e, c->part[i].when, v, up, &l);
}

status chain_put_bare(const exec_chain *c, bool recording)
{
    return put_chain(c, recording, true);
}

status chain_begin_run(const exec_chain *c, bool *watched)
{
    *watched = false;
    for (size_t i = 0; i < c->n; i++) {
        TRY(begin_run(c->part[i].e));
        *watched = *watched || c->part[i].e->timing || c->part[i].e->seen;
    }
    return ST_OK;
}

status exec_chain_run(exec_chain *c)
{
    backend *b = c->part[0].e->b;
    bool watched;
    TRY(chain_begin_run(c, &watched));
    for (size_t i = 0; i < c->n && watched; i++) {
        const linked l = links_of(c, i, false);
        TRY(run_watched(c->part[i].e, c->part[i].when, &l));
        TRY(pass_on(c, i));
    }
    if (watched)
        return b->remote->wait(b);
    if (!c->ran && !b->records_first) {
        TRY(put_chain(c, false, false));
        c->ran = true;
        return b->remote->wait(b);
    }
    if (!c->program)
        TRY(record_chain(c));
    TRY(b->remote->replay(b, c->program));
    return b->remote->wait(b);
}
