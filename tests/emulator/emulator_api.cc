/* emulator_api.cc - the table of api.h over the emulator: memory is the host's, between guards; a stream keeps what it is
 * given until somebody waits for it, so that a host that looks too early, or overwrites what is still to be copied, shows;
 * a graph is what was recorded, with what each must follow: it runs in any order that respects that, which emulator_order
 * chooses. A failure of a stream stays, as on a device. */
#include "emulator_inside.h"

#include <cstdio>
#include <list>
#include <map>
#include <vector>

#define GUARD 256 /* bytes watched on either side of device memory */

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define SHIELD(p, n)   __asan_poison_memory_region(p, n)
#define UNSHIELD(p, n) __asan_unpoison_memory_region(p, n)
#else
#define SHIELD(p, n)   ((void)0)
#define UNSHIELD(p, n) ((void)0)
#endif

namespace {
typedef std::function<int()> work;
struct graph_node {
    work run;
    std::vector<size_t> after; /* nodes before it */
};
struct graph_state {
    std::vector<graph_node> node;
    size_t kernels = 0;
};
struct stream_state {
    stream_state *capture = nullptr; /* the stream whose recording it takes part in; itself where that began; nullptr: none */
    int failed = 0;
    graph_state recorded;      /* of the stream where it began */
    std::vector<size_t> front; /* what the next node of this stream has to follow */
    std::list<work> pending;
};
struct event_state {
    stream_state *of = nullptr;
    stream_state *capture = nullptr; /* recorded in its recording, behind `front` */
    std::vector<size_t> front;
    size_t asked = 0, happened = 0; /* records outside of recordings */
    double at = 0;      /* when the last one happened */
};

std::vector<stream_state *> streams;
struct block_of {
    size_t bytes;
    bool host;
};
std::map<void *, block_of> blocks;
emulator_counts counts;
double clock_now; /* seconds; what work takes is said by emulator_pass */

void drain(stream_state *s)
{
    while (!s->pending.empty()) {
        work w = std::move(s->pending.front());
        s->pending.pop_front();
        if (s->failed == 0)
            s->failed = w();
        else
            w = nullptr;
    }
}

int submit(void *stream, work f)
{
    stream_state *s = (stream_state *)stream;
    if (!s->capture)
        return s->pending.push_back(std::move(f)), 0;
    std::vector<graph_node> &all = s->capture->recorded.node;
    all.push_back({std::move(f), std::move(s->front)});
    s->front = {all.size() - 1};
    return 0;
}

/* The nodes in an order that respects what each must follow: as they were recorded, the last first, or some way. */
std::vector<size_t> some_order(const graph_state *g)
{
    static uint32_t state = 1;
    std::vector<size_t> order, ready, missing(g->node.size());
    std::vector<std::vector<size_t>> next(g->node.size());
    for (size_t i = 0; i < g->node.size(); i++) {
        missing[i] = g->node[i].after.size();
        for (size_t before : g->node[i].after)
            next[before].push_back(i);
        if (missing[i] == 0)
            ready.push_back(i);
    }
    while (!ready.empty()) {
        emulator_order_kind how = emulator_order_now();
        state = state * 1664525u + 1013904223u;
        size_t at = how == EMULATOR_RANDOM ? (state >> 8) % ready.size() : 0;
        for (size_t i = 1; i < ready.size() && how != EMULATOR_RANDOM; i++)
            if ((ready[i] > ready[at]) == (how == EMULATOR_REVERSE))
                at = i;
        size_t n = ready[at];
        ready.erase(ready.begin() + (std::ptrdiff_t)at);
        order.push_back(n);
        for (size_t i : next[n])
            if (--missing[i] == 0)
                ready.push_back(i);
    }
    return order;
}

/* Whether the nodes in `front` come before those of `end` or are among them. */
bool is_followed(const graph_state &g, const std::vector<size_t> &front, const std::vector<size_t> &end)
{
    std::vector<bool> seen(g.node.size(), false);
    std::vector<size_t> open = end;
    while (!open.empty()) {
        size_t n = open.back();
        open.pop_back();
        if (seen[n])
            continue;
        seen[n] = true;
        open.insert(open.end(), g.node[n].after.begin(), g.node[n].after.end());
    }
    for (size_t n : front)
        if (!seen[n])
            return false;
    return true;
}

void end_capture(stream_state *s)
{
    for (stream_state *other : streams)
        if (other->capture == s)
            other->capture = nullptr;
}

void drain_all()
{
    for (stream_state *s : streams)
        drain(s);
}

int take(void **out, size_t bytes, bool host)
{
    size_t all = (bytes + 2 * GUARD + 255) / 256 * 256;
    unsigned char *p = (unsigned char *)aligned_alloc(256, all);
    if (!p)
        return EMULATED_NO_MEMORY;
    memset(p, 0xA5, all);
    memset(p + GUARD, 0xE5, bytes);
    SHIELD(p, GUARD);
    SHIELD(p + GUARD + bytes, GUARD);
    *out = p + GUARD;
    blocks[*out] = {bytes, host};
    (host ? counts.host_memory : counts.memory)++;
    return 0;
}

int give(void *p, bool host)
{
    auto b = blocks.find(p);
    if (b == blocks.end() || b->second.host != host)
        return EMULATED_BAD_VALUE;
    drain_all();
    unsigned char *low = (unsigned char *)p - GUARD, *high = (unsigned char *)p + b->second.bytes;
    UNSHIELD(low, GUARD);
    UNSHIELD(high, GUARD);
    for (size_t i = 0; i < GUARD; i++)
        if (low[i] != 0xA5 || high[i] != 0xA5) {
            fprintf(stderr, "emulator: a kernel or copy wrote beside device memory of %zu bytes\n", b->second.bytes);
            counts.damaged++;
            break;
        }
    (host ? counts.host_memory : counts.memory)--;
    blocks.erase(b);
    free(low);
    return 0;
}
} // namespace

void emulator_submit(void *stream, emulator_launch_of l)
{
    if (((stream_state *)stream)->capture)
        ((stream_state *)stream)->capture->recorded.kernels++;
    submit(stream, [launch = std::move(l)] { return emulator_run(&launch); });
}

void emulator_enqueue(void *stream, std::function<void()> work)
{
    submit(stream, [f = std::move(work)] { return f(), 0; });
}

void emulator_pass(double seconds) { clock_now += seconds; }

extern "C" const emulator_counts *emulator_count(void) { return &counts; }

static int driver_now = 13000, level_now = 90, code_now = 90;
static size_t memory_now = (size_t)4 << 30;
extern "C" void emulator_driver(int version) { driver_now = version; }
extern "C" void emulator_level(int level) { level_now = level; }
extern "C" void emulator_code(int level) { code_now = level; }
extern "C" void emulator_memory(size_t bytes) { memory_now = bytes; }

static int emulated_driver_version(int *version) { return *version = driver_now, 0; }
static int emulated_runtime_version(int *version) { return *version = 13000, 0; }
static int emulated_device_count(int *n) { return *n = 1, 0; }
static int emulated_device_info(int device, cuda_device_info *out)
{
    if (device != 0)
        return EMULATED_NO_DEVICE;
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "emulated GPU");
    out->level = level_now;
    out->multiprocessors = 2;
    out->memory = memory_now;
    out->l2 = 1 << 20;
    out->shared_per_block = 48 << 10;
    out->shared_per_block_optin = 227 << 10;
    return 0;
}
static int emulated_compiled_for(int *level) { return *level = code_now < level_now ? code_now : level_now, 0; }
static int emulated_use_device(int device) { return device == 0 ? 0 : EMULATED_NO_DEVICE; }
static int emulated_memory(size_t *available, size_t *all)
{
    size_t in_use = 0;
    for (const auto &b : blocks)
        in_use += b.second.host ? 0 : b.second.bytes;
    *all = memory_now;
    *available = *all > in_use ? *all - in_use : 0;
    return 0;
}
static int emulated_alloc(void **out, size_t bytes) { return take(out, bytes, false); }
static int emulated_release(void *p) { return give(p, false); }
static int emulated_alloc_host(void **out, size_t bytes) { return take(out, bytes, true); }
static int emulated_release_host(void *p) { return give(p, true); }
static int emulated_stream_make(void **out)
{
    stream_state *s = new stream_state();
    streams.push_back(s);
    counts.streams++;
    return *out = s, 0;
}
static int emulated_stream_free(void *stream)
{
    stream_state *s = (stream_state *)stream;
    drain(s);
    streams.erase(std::find(streams.begin(), streams.end(), s));
    counts.streams--;
    return delete s, 0;
}
static int emulated_wait(void *stream)
{
    stream_state *s = (stream_state *)stream;
    if (s->capture)
        return EMULATED_BAD_CAPTURE;
    drain(s);
    counts.waits++;
    return s->failed;
}
static int emulated_copy(void *to, const void *from, size_t bytes, cuda_copy way, void *stream)
{
    (void)way;
    return submit(stream, [=] { return memcpy(to, from, bytes), 0; });
}
static int emulated_fill(void *to, int byte, size_t bytes, void *stream)
{
    return submit(stream, [=] { return memset(to, byte, bytes), 0; });
}
static int emulated_event_make(void **out)
{
    counts.events++;
    return *out = new event_state(), 0;
}
static int emulated_event_free(void *event)
{
    drain_all();
    counts.events--;
    return delete (event_state *)event, 0;
}
static int emulated_event_record(void *event, void *stream)
{
    event_state *e = (event_state *)event;
    e->of = (stream_state *)stream;
    e->capture = e->of->capture;
    e->front = e->of->front;
    if (e->capture)
        return 0;
    e->asked++;
    return submit(stream, [=] { return e->at = clock_now, e->happened++, 0; });
}
/* Does the work of the event's stream up to the record that was the last one when it was asked for. */
static void reach(event_state *e, size_t record)
{
    while (e->happened < record && !e->of->pending.empty()) {
        work w = std::move(e->of->pending.front());
        e->of->pending.pop_front();
        if (e->of->failed == 0)
            e->of->failed = w();
        else
            w = nullptr;
    }
}
/* A stream that waits for an event does the other stream's work up to it; one that waits for an event of a recording takes part
 * in that. */
static int emulated_event_wait(void *stream, void *event)
{
    event_state *e = (event_state *)event;
    stream_state *s = (stream_state *)stream;
    if (e->capture || s->capture) {
        if (!e->capture || !e->capture->capture || (s->capture && s->capture != e->capture))
            return EMULATED_BAD_CAPTURE;
        if (!s->capture) {
            s->front.clear();
            counts.branches++;
        }
        s->capture = e->capture;
        for (size_t n : e->front)
            if (std::find(s->front.begin(), s->front.end(), n) == s->front.end())
                s->front.push_back(n);
        return 0;
    }
    const size_t record = e->asked;
    return submit(stream, [=] { return reach(e, record), 0; });
}
static int emulated_event_sync(void *event)
{
    event_state *e = (event_state *)event;
    if (e->capture)
        return EMULATED_BAD_CAPTURE;
    reach(e, e->asked);
    counts.waits++;
    return e->of ? e->of->failed : 0;
}
static int emulated_event_seconds(void *from, void *to, double *out)
{
    const event_state *a = (event_state *)from, *b = (event_state *)to;
    if (a->happened < a->asked || b->happened < b->asked)
        return EMULATED_NOT_READY;
    return *out = ((event_state *)to)->at - ((event_state *)from)->at, 0;
}
static int emulated_capture_begin(void *stream)
{
    stream_state *s = (stream_state *)stream;
    if (s->capture)
        return EMULATED_BAD_CAPTURE;
    s->capture = s;
    s->recorded = {};
    s->front.clear();
    return 0;
}
static int emulated_capture_end(void *stream, void **graph, size_t *kernels)
{
    stream_state *s = (stream_state *)stream;
    if (s->capture != s)
        return EMULATED_BAD_CAPTURE;
    bool joined = true;
    for (stream_state *other : streams)
        joined = joined && (other->capture != s || is_followed(s->recorded, other->front, s->front));
    end_capture(s);
    if (!joined)
        return *graph = nullptr, EMULATED_UNJOINED;
    *kernels = s->recorded.kernels;
    *graph = new graph_state(std::move(s->recorded));
    s->recorded = {};
    counts.graphs++;
    return 0;
}
static int emulated_graph_launch(void *graph, void *stream)
{
    counts.launches++;
    return submit(stream, [=] {
        int code = 0;
        for (size_t n : some_order((const graph_state *)graph))
            if (code == 0)
                code = ((const graph_state *)graph)->node[n].run();
        return code;
    });
}
static int emulated_graph_free(void *graph)
{
    drain_all();
    counts.graphs--;
    return delete (graph_state *)graph, 0;
}
static int last_failure; /* of a call, until somebody asks */
static int emulated_last_error()
{
    const int code = last_failure;
    return last_failure = 0, code;
}
static const char *emulated_text(int code)
{
    return code == EMULATED_NO_MEMORY           ? "out of memory"
           : code == EMULATED_BAD_VALUE         ? "invalid argument"
           : code == EMULATED_BAD_CONFIGURATION ? "invalid configuration argument"
           : code == EMULATED_NO_DEVICE         ? "invalid device ordinal"
           : code == EMULATED_UNJOINED          ? "capture was not joined to original stream"
           : code == EMULATED_BAD_CAPTURE       ? "operation not permitted when stream is capturing"
           : code == EMULATED_NOT_READY         ? "device not ready"
           : code == EMULATED_FAULT             ? "a failure that the test asked for"
           : code == EMULATED_LAUNCH_FAILURE    ? emulator_message()
                                                : "emulated failure";
}

/* ---- the table: every call is counted and can be made to fail ---- */

namespace {
size_t calls, fail_from, fail_last; /* the calls [fail_from, fail_last] fail */
const char *failed_call;

/* What ends something ends it also when it reports a failure (of earlier work), as on a device. */
bool ends(const char *name)
{
    static const char *const list[] = {"release", "release_host", "stream_free", "event_free", "graph_free", "last_error"};
    for (const char *s : list)
        if (strcmp(s, name) == 0)
            return true;
    return false;
}

/* What may not be called while a recording is under way: it waits for the device, or may. Making streams is on no list that could be
 * found; nothing here has to. */
bool breaks_recording(const char *name)
{
    static const char *const list[] = {"alloc", "release", "alloc_host", "release_host", "stream_make", "stream_free", "wait", "event_sync",
                                       "memory"};
    bool recording = false;
    for (const stream_state *s : streams)
        recording = recording || s->capture;
    for (const char *s : list)
        if (recording && strcmp(s, name) == 0)
            return true;
    return false;
}

bool fails_now(const char *name)
{
    calls++;
    if (calls < fail_from || calls > fail_last)
        return false;
    if (!failed_call)
        failed_call = name;
    return true;
}

/* A recording that fails is over. */
void give_up_recording(const char *name)
{
    for (stream_state *s : streams)
        if (strcmp(name, "capture_end") == 0) {
            s->capture = nullptr;
            s->recorded = {};
        }
}

int fault_code(const char *name) { return strncmp(name, "alloc", 5) == 0 ? EMULATED_NO_MEMORY : EMULATED_FAULT; }
} // namespace

extern "C" void emulator_fail(size_t first, size_t last)
{
    calls = 0;
    fail_from = first;
    fail_last = first ? last : 0;
    if (first == 0)
        fail_from = ~(size_t)0;
    failed_call = nullptr;
    last_failure = 0;
}
extern "C" size_t emulator_calls(void) { return calls; }
extern "C" const char *emulator_failed_call(void) { return failed_call; }

#define COUNTED(name, parameters, arguments)                                                                           \
    static int counted_##name parameters                                                                               \
    {                                                                                                                  \
        bool fail = fails_now(#name);                                                                                  \
        if (fail && !ends(#name)) {                                                                                    \
            give_up_recording(#name);                                                                                  \
            return last_failure = fault_code(#name);                                                                   \
        }                                                                                                              \
        int code = breaks_recording(#name) ? (int)EMULATED_BAD_CAPTURE : emulated_##name arguments;                    \
        code = fail ? fault_code(#name) : code;                                                                        \
        last_failure = code && strcmp(#name, "last_error") != 0 ? code : last_failure;                                 \
        return code;                                                                                                   \
    }
CUDA_API(COUNTED)
#undef COUNTED

extern "C" const cuda_api emulator_api = {
#define FIELD(name, parameters, arguments) .name = counted_##name,
    CUDA_API(FIELD)
#undef FIELD
    .text = emulated_text};
