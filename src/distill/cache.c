/* cache.c - see cache.h. */
#include "distill/cache.h"
#include "base/hash.h"
#include "base/log.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define CHUNK      65536 /* bytes read at a time, so that small records cost no call each */
#define OPEN_FILES 32

/* What is known of a sample. In memory: its packed outputs lie there. */
enum { UNKNOWN, READ /* in memory, the input not yet compared */, KNOWN, ABSENT /* not on disk, or not to be trusted */ };

typedef struct view_file {
    cache_file f;
    bool tried, open;
    uint64_t used; /* when, for closing the one used longest ago */
} view_file;

struct tap_cache {
    cache_options o;
    size_t payload, record;
    unsigned char *memory;  /* [views][samples][payload], or NULL */
    size_t memory_bytes;
    uint64_t *input;        /* [views][samples] of what was READ ahead; NULL without a memory or a disk */
    uint8_t *state;         /* [views][samples] */
    uint32_t *sample_of;    /* [rows], UINT32_MAX: none; with memory and disk */
    view_file *file;        /* [views] */
    unsigned char *chunk;   /* [chunk_records][record] */
    uint32_t chunk_records;
    unsigned char *scratch; /* one record */
    size_t open;
    uint64_t clock;
    bool trial_over, complained;
    cache_stats stats;
};

static size_t place_of(const tap_cache *c, uint32_t view, uint32_t sample)
{
    return (size_t)view * c->o.samples + sample;
}

static uint32_t row_of(const tap_cache *c, uint32_t sample)
{
    return c->o.row ? c->o.row[sample] : sample;
}

static unsigned char *slot(const tap_cache *c, size_t place)
{
    return c->memory + place * c->payload;
}

/* ---- files of views ---- */

static void complain(tap_cache *c, const char *consequence)
{
    if (!c->complained)
        log_warn("teacher outputs on disk: %s; %s", status_message(), consequence);
    c->complained = true;
}

static void close_oldest(tap_cache *c)
{
    view_file *oldest = NULL;
    for (uint32_t v = 0; v < c->o.views; v++)
        if (c->file[v].open && (!oldest || c->file[v].used < oldest->used))
            oldest = &c->file[v];
    if (!oldest)
        return;
    cache_file_close(&oldest->f);
    oldest->open = oldest->tried = false;
    c->open--;
}

static status open_view(tap_cache *c, uint32_t view, view_file *v)
{
    text all = {0};
    char key[65], about[CACHE_ABOUT];
    text_printf(&all, "%s\nview %u\n", c->o.identity, view);
    status st = all.st;
    if (st == ST_OK)
        st = hash_sha256_hex(all.s, all.n, key);
    text_free(&all);
    TRY(st);
    snprintf(about, sizeof about, "%s, view %u", c->o.about, view);
    TRY(cache_file_open(c->o.dir, c->o.disk_limit, key, about, c->record, c->o.rows, &v->f));
    if (v->f.rows < c->o.rows) {
        st = fail(ST_OOM, "%s: room for %u of %u samples of view %u in cache.size", c->o.dir, v->f.rows, c->o.rows, view);
        complain(c, "the others are computed in every pass that does not find them in memory");
    }
    return ST_OK;
}

/* The view's file, open, or NULL. */
static cache_file *file_of(tap_cache *c, uint32_t view)
{
    view_file *v = c->file ? &c->file[view] : NULL;
    if (!v)
        return NULL;
    v->used = ++c->clock;
    if (v->tried)
        return v->open ? &v->f : NULL;
    if (c->open >= OPEN_FILES)
        close_oldest(c);
    v->tried = true;
    if (open_view(c, view, v) != ST_OK) {
        complain(c, "going on without them");
        return NULL;
    }
    v->open = v->f.rows > 0;
    if (!v->open)
        cache_file_close(&v->f);
    c->open += v->open;
    return v->open ? &v->f : NULL;
}

static void give_up(tap_cache *c, uint32_t view)
{
    complain(c, "going on without them");
    cache_file_close(&c->file[view].f);
    c->file[view].open = false;
    c->open--;
}

/* ---- open and close ---- */

static status open_memory(tap_cache *c, size_t places)
{
    size_t bytes;
    if (!size_mul(places, c->payload, &bytes) || (c->o.memory_limit && bytes > c->o.memory_limit))
        return ST_OK;
    TRY(mem_alloc(&c->memory, bytes, 1)); /* not mem_map: with huge pages the first samples would take all of it at once */
    c->memory_bytes = bytes;
    return ST_OK;
}

static status open_disk(tap_cache *c, size_t places)
{
    TRY(mem_alloc(&c->file, c->o.views, sizeof *c->file));
    c->chunk_records = c->memory && c->record < CHUNK ? (uint32_t)(CHUNK / c->record) : 1;
    TRY(mem_alloc(&c->chunk, c->chunk_records, c->record));
    c->stats.disk = true;
    for (uint32_t v = 0; v < c->o.views && v < OPEN_FILES; v++) /* now, so that steps allocate nothing */
        (void)file_of(c, v);
    if (!c->memory)
        return ST_OK;
    TRY(mem_alloc(&c->input, places, sizeof *c->input));
    TRY(mem_alloc(&c->sample_of, c->o.rows, sizeof *c->sample_of));
    memset(c->sample_of, 0xff, c->o.rows * sizeof *c->sample_of);
    for (uint32_t i = 0; i < c->o.samples; i++)
        c->sample_of[row_of(c, i)] = i;
    return ST_OK;
}

status cache_open(const cache_options *o, tap_cache **out)
{
    tap_cache *c;
    size_t places;
    status st = ST_OK;
    *out = NULL;
    TRY(mem_alloc(&c, 1, sizeof *c));
    c->o = *o;
    c->payload = code_bytes(&o->code);
    c->record = CACHE_RECORD_HEAD + c->payload;
    c->trial_over = !o->dir;
    if (!size_mul(o->views, o->samples, &places)) {
        st = fail(ST_OOM, "out of memory: %u views of %u samples cannot be remembered", o->views, o->samples);
        goto done;
    }
    TRY_DONE(mem_alloc(&c->state, places, 1));
    TRY_DONE(mem_alloc(&c->scratch, 1, c->record));
    TRY_DONE(open_memory(c, places));
    if (o->dir)
        TRY_DONE(open_disk(c, places));
    c->stats.memory = c->memory_bytes + places * (c->input ? 9 : 1);
    *out = c;
done:
    if (st != ST_OK)
        cache_close(c);
    return st;
}

void cache_close(tap_cache *c)
{
    if (!c)
        return;
    for (uint32_t v = 0; c->file && v < c->o.views; v++)
        if (c->file[v].open)
            cache_file_close(&c->file[v].f);
    mem_free(c->memory);
    mem_free(c->input);
    mem_free(c->state);
    mem_free(c->sample_of);
    mem_free(c->file);
    mem_free(c->chunk);
    mem_free(c->scratch);
    mem_free(c);
}

/* ---- reading ---- */

/* Files the records of a chunk: those of this part's samples that nothing is known of. */
static void take_chunk(tap_cache *c, uint32_t view, uint32_t first, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++) {
        const unsigned char *r = c->chunk + k * c->record;
        uint32_t sample = c->sample_of[first + k];
        if (sample == UINT32_MAX)
            continue;
        size_t place = place_of(c, view, sample);
        if (c->state[place] != UNKNOWN)
            continue;
        record_state is = cache_record_state(r, c->record, first + k);
        c->stats.damaged += is == RECORD_DAMAGED;
        c->state[place] = is == RECORD_WHOLE ? READ : ABSENT;
        if (is != RECORD_WHOLE)
            continue;
        memcpy(slot(c, place), r + CACHE_RECORD_HEAD, c->payload);
        c->input[place] = cache_record_input(r);
    }
}

static bool read_chunk(tap_cache *c, uint32_t view, uint32_t row)
{
    cache_file *f = file_of(c, view);
    if (!f || f->made || row >= f->rows)
        return false;
    uint32_t first = row - row % c->chunk_records, n = c->chunk_records, got;
    n = n > f->rows - first ? f->rows - first : n;
    n = first + n > c->o.rows ? c->o.rows - first : n; /* another run's data set may go on further */
    if (cache_file_read(f, first, n, c->chunk, &got) != ST_OK) {
        give_up(c, view);
        return false;
    }
    if (c->memory)
        take_chunk(c, view, first, got);
    return row - first < got;
}

static bool load_to_memory(tap_cache *c, uint32_t view, uint32_t sample, uint64_t input)
{
    size_t place = place_of(c, view, sample);
    if (c->state[place] == UNKNOWN && !read_chunk(c, view, row_of(c, sample)))
        c->state[place] = ABSENT;
    if (c->state[place] != READ)
        return c->state[place] == KNOWN;
    c->state[place] = c->input[place] == input ? KNOWN : ABSENT;
    return c->state[place] == KNOWN;
}

/* Without a memory: is the record on disk whole? It lies in c->chunk then. */
static bool read_one(tap_cache *c, uint32_t view, uint32_t sample)
{
    uint32_t row = row_of(c, sample);
    if (!read_chunk(c, view, row))
        return false;
    record_state is = cache_record_state(c->chunk, c->record, row);
    c->stats.damaged += is == RECORD_DAMAGED;
    return is == RECORD_WHOLE;
}

bool cache_known(const tap_cache *c, uint32_t view, uint32_t sample)
{
    return c->state[place_of(c, view, sample)] == KNOWN;
}

bool cache_gives(const tap_cache *c, const uint32_t *view, const uint32_t *sample, size_t n)
{
    bool all = c->memory && !cache_wants_trial(c);
    for (size_t i = 0; all && i < n; i++)
        all = cache_known(c, view[i], sample[i]);
    return all;
}

tap_records cache_records(const tap_cache *c)
{
    return (tap_records){c->memory, c->o.views, c->o.samples, c->payload, &c->o.code};
}

void cache_count_hits(tap_cache *c, size_t n)
{
    c->stats.hits += n;
}

bool cache_load(tap_cache *c, uint32_t view, uint32_t sample, uint64_t input)
{
    size_t place = place_of(c, view, sample);
    if (!c->file || c->state[place] == ABSENT)
        return false;
    bool found = c->memory ? load_to_memory(c, view, sample, input)
                           : read_one(c, view, sample) && cache_record_input(c->chunk) == input;
    c->state[place] = found ? KNOWN : ABSENT;
    c->stats.loaded += found;
    return found;
}

bool cache_get(tap_cache *c, uint32_t view, uint32_t sample, float *const *out)
{
    size_t place = place_of(c, view, sample);
    if (c->memory) {
        code_unpack(&c->o.code, slot(c, place), out);
    } else if (read_one(c, view, sample)) {
        code_unpack(&c->o.code, c->chunk + CACHE_RECORD_HEAD, out);
    } else {
        c->state[place] = ABSENT;
        return false;
    }
    c->stats.hits++;
    return true;
}

/* ---- writing ---- */

static bool is_finite(const tap_code *k, const float *const *out)
{
    for (size_t i = 0; i < k->n_out; i++)
        for (size_t j = 0; j < k->width[i]; j++)
            if (!isfinite(out[i][j]))
                return false;
    return true;
}

void cache_put(tap_cache *c, uint32_t view, uint32_t sample, uint64_t input, float *const *out)
{
    size_t place = place_of(c, view, sample);
    unsigned char *payload = c->scratch + CACHE_RECORD_HEAD;
    uint32_t row = row_of(c, sample);
    c->stats.computed++;
    if (!is_finite(&c->o.code, (const float *const *)out))
        return;
    memset(c->scratch, 0, c->record);
    code_pack(&c->o.code, (const float *const *)out, payload);
    if (c->o.code.store != CACHE_STORE_FP32)
        code_unpack(&c->o.code, payload, out);
    if (c->memory) {
        memcpy(slot(c, place), payload, c->payload);
        c->state[place] = KNOWN;
    }
    cache_file *f = file_of(c, view);
    if (!f || row >= f->rows)
        return;
    cache_record_seal(c->scratch, c->record, row, input);
    if (cache_file_write(f, row, c->scratch) != ST_OK)
        give_up(c, view);
    else if (!c->memory)
        c->state[place] = KNOWN, f->made = false;
}

/* ---- the trial ---- */

bool cache_wants_trial(const tap_cache *c)
{
    return !c->trial_over;
}

bool cache_agrees(tap_cache *c, uint32_t view, uint32_t sample, const float *const *fresh)
{
    const unsigned char *have = c->memory ? slot(c, place_of(c, view, sample)) : c->chunk + CACHE_RECORD_HEAD;
    if (!c->memory && !read_one(c, view, sample))
        return true; /* nothing to compare with any more */
    memset(c->scratch, 0, c->record);
    if (!is_finite(&c->o.code, fresh))
        return false;
    code_pack(&c->o.code, fresh, c->scratch + CACHE_RECORD_HEAD);
    return memcmp(have, c->scratch + CACHE_RECORD_HEAD, c->payload) == 0;
}

void cache_end_trial(tap_cache *c, bool agreed)
{
    c->trial_over = true;
    if (agreed)
        return;
    memset(c->state, ABSENT, (size_t)c->o.views * c->o.samples);
    log_warn("%s: the outputs kept there are not what the teacher gives now; they are computed anew", c->o.dir);
}

cache_stats cache_measure(const tap_cache *c)
{
    return c->stats;
}
