/* emulator.cc - blocks of CUDA kernels on the host, and the table of api.h over it: memory is the host's, a stream does its
 * work at once, a graph is a list of what was recorded. */
extern "C" {
#include "kernels/cuda/api.h"
#include "kernels/kernel.h"
}
#include "emulator.h"
#include "emulator_control.h"

#include <cstdio>
#include <ucontext.h>
#include <vector>

#define STACK_BYTES  (256 << 10)
#define SHARED_BYTES (228 << 10)

emulator_thread emulator_now;

namespace {
enum wait_for { NOTHING, BLOCK_BARRIER, WARP_BARRIER };
struct fiber {
    ucontext_t context;
    std::vector<char> stack;
    uint3 thread;
    bool done;
    wait_for wait;
    uint64_t brought;
};
std::vector<fiber> fibers;
ucontext_t scheduler;
int current;
const std::function<void()> *running;
alignas(256) unsigned char shared_bytes[SHARED_BYTES];
emulator_order_kind order = EMULATOR_FORWARD;
uint32_t order_state = 1;

struct work {
    std::function<void()> run;
};
struct stream_state {
    bool capturing;
    std::vector<work> recorded;
};

void enter()
{
    (*running)();
    fibers[(size_t)current].done = true;
    swapcontext(&fibers[(size_t)current].context, &scheduler);
}

void yield(wait_for why)
{
    fibers[(size_t)current].wait = why;
    swapcontext(&fibers[(size_t)current].context, &scheduler);
    emulator_now.thread = fibers[(size_t)current].thread;
}

void resume(int i)
{
    current = i;
    emulator_now.thread = fibers[(size_t)i].thread;
    swapcontext(&scheduler, &fibers[(size_t)i].context);
}

bool all_wait(int from, int to, wait_for why)
{
    for (int i = from; i < to; i++)
        if (!fibers[(size_t)i].done && fibers[(size_t)i].wait != why)
            return false;
    return true;
}

std::vector<int> in_order(int n)
{
    std::vector<int> v((size_t)n);
    for (int i = 0; i < n; i++)
        v[(size_t)i] = order == EMULATOR_REVERSE ? n - 1 - i : i;
    for (int i = n - 1; order == EMULATOR_RANDOM && i > 0; i--) {
        order_state = order_state * 1664525u + 1013904223u;
        std::swap(v[(size_t)i], v[(order_state >> 8) % (unsigned)(i + 1)]);
    }
    return v;
}

/* The warp [from, to) until all of its threads are done or at the block's barrier. */
void run_warp(int from, int to)
{
    for (;;) {
        bool ran = false;
        for (int k : in_order(to - from)) {
            const fiber &f = fibers[(size_t)(from + k)];
            if (f.done || f.wait != NOTHING)
                continue;
            resume(from + k);
            ran = true;
        }
        if (ran)
            continue;
        bool freed = false;
        if (all_wait(from, to, WARP_BARRIER))
            for (int i = from; i < to; i++)
                if (fibers[(size_t)i].wait == WARP_BARRIER) {
                    fibers[(size_t)i].wait = NOTHING;
                    freed = !fibers[(size_t)i].done || freed;
                }
        if (!freed)
            return;
    }
}

void run_block(const char *name)
{
    const dim3 d = emulator_now.block_dim;
    const int n = (int)(d.x * d.y * d.z);
    if (fibers.size() < (size_t)n)
        fibers.resize((size_t)n);
    for (int i = 0; i < n; i++) {
        fiber &f = fibers[(size_t)i];
        f.stack.resize(STACK_BYTES);
        f.done = false;
        f.wait = NOTHING;
        f.thread = {(unsigned)i % d.x, (unsigned)i / d.x % d.y, (unsigned)i / (d.x * d.y)};
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.data();
        f.context.uc_stack.ss_size = f.stack.size();
        f.context.uc_link = nullptr;
        makecontext(&f.context, enter, 0);
    }
    for (;;) {
        for (int w : in_order((n + 31) / 32))
            run_warp(w * 32, std::min(n, w * 32 + 32));
        bool together = all_wait(0, n, BLOCK_BARRIER), left = false;
        for (int i = 0; i < n; i++)
            if (!fibers[(size_t)i].done) {
                left = true;
                fibers[(size_t)i].wait = NOTHING;
            }
        if (!left)
            return;
        if (!together) {
            fprintf(stderr, "emulator: %s: threads wait at different barriers\n", name);
            abort();
        }
    }
}

void run_grid(const char *name, dim3 grid, dim3 block, const std::function<void()> &body)
{
    running = &body;
    emulator_now.block_dim = block;
    emulator_now.grid_dim = grid;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                emulator_now.block = {x, y, z};
                memset(shared_bytes, 0xFF, sizeof shared_bytes);
                run_block(name);
            }
}

void submit(void *stream, std::function<void()> f)
{
    stream_state *s = (stream_state *)stream;
    if (s->capturing)
        s->recorded.push_back({std::move(f)});
    else
        f();
}
} // namespace

void *emulator_shared() { return shared_bytes; }
void emulator_barrier() { yield(BLOCK_BARRIER); }
void emulator_warp() { yield(WARP_BARRIER); }
int emulator_lane() { return current & 31; }
uint64_t emulator_exchange(uint64_t mine, int from)
{
    fibers[(size_t)current].brought = mine;
    yield(WARP_BARRIER);
    uint64_t got = fibers[(size_t)((current & ~31) + from)].brought;
    yield(WARP_BARRIER);
    return got;
}

void emulator_launch(cuda_queue *q, const char *name, dim3 grid, dim3 block, size_t shared, std::function<void()> body)
{
    if (shared > SHARED_BYTES || block.x * block.y * block.z > 1024 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.y > 65535 || grid.z > 65535 || block.x * block.y * block.z == 0) {
        cuda_note(q, name, 9); /* cudaErrorInvalidConfiguration */
        return;
    }
    submit(q->stream, [=] { run_grid(name, grid, block, body); });
}

extern "C" void emulator_order(emulator_order_kind kind) { order = kind; }

/* ---- the table ---- */

static int emulated_driver_version(int *version) { return *version = 13000, 0; }
static int emulated_runtime_version(int *version) { return *version = 13000, 0; }
static int emulated_device_count(int *n) { return *n = 1, 0; }
static int emulated_device_info(int, cuda_device_info *out)
{
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "emulated GPU");
    out->level = 90;
    out->multiprocessors = 2;
    out->memory = (size_t)4 << 30;
    out->l2 = 1 << 20;
    out->shared_per_block = 48 << 10;
    out->shared_per_block_optin = 227 << 10;
    return 0;
}
static int emulated_use_device(int device) { return device == 0 ? 0 : 101; }
static int emulated_memory(size_t *available, size_t *all) { return *available = *all = (size_t)4 << 30, 0; }
static int emulated_alloc(void **out, size_t bytes)
{
    *out = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (*out)
        memset(*out, 0xE5, (bytes + 255) / 256 * 256);
    return *out ? 0 : 2;
}
static int emulated_release(void *p) { return free(p), 0; }
static int emulated_alloc_host(void **out, size_t bytes) { return emulated_alloc(out, bytes); }
static int emulated_release_host(void *p) { return free(p), 0; }
static int emulated_stream_make(void **out) { return *out = new stream_state{}, 0; }
static int emulated_stream_free(void *stream) { return delete (stream_state *)stream, 0; }
static int emulated_wait(void *) { return 0; }
static int emulated_copy(void *to, const void *from, size_t bytes, cuda_copy, void *stream)
{
    return submit(stream, [=] { memcpy(to, from, bytes); }), 0;
}
static int emulated_fill(void *to, int byte, size_t bytes, void *stream)
{
    return submit(stream, [=] { memset(to, byte, bytes); }), 0;
}
static int emulated_event_make(void **out) { return *out = malloc(1), 0; }
static int emulated_event_free(void *event) { return free(event), 0; }
static int emulated_event_record(void *, void *) { return 0; }
static int emulated_event_wait(void *, void *) { return 0; }
static int emulated_event_seconds(void *, void *, double *out) { return *out = 0, 0; }
static int emulated_capture_begin(void *stream)
{
    stream_state *s = (stream_state *)stream;
    if (s->capturing)
        return 1;
    s->capturing = true;
    s->recorded.clear();
    return 0;
}
static int emulated_capture_end(void *stream, void **graph)
{
    stream_state *s = (stream_state *)stream;
    s->capturing = false;
    *graph = new std::vector<work>(std::move(s->recorded));
    s->recorded.clear();
    return 0;
}
static int emulated_graph_launch(void *graph, void *stream)
{
    for (const work &w : *(const std::vector<work> *)graph)
        submit(stream, w.run);
    return 0;
}
static int emulated_graph_free(void *graph) { return delete (std::vector<work> *)graph, 0; }
static int emulated_last_error() { return 0; }
static const char *emulated_text(int code)
{
    return code == 2 ? "out of memory" : code == 9 ? "invalid configuration argument" : "emulated failure";
}

extern "C" const cuda_api emulator_api = {
#define FIELD(name, parameters, arguments) .name = emulated_##name,
    CUDA_API(FIELD)
#undef FIELD
    .text = emulated_text};
