/* emulator.cc - blocks of CUDA kernels on the host.
 *
 * The threads of a block share one host thread. A warp's threads begin one after the other on one stack: a thread that
 * ends leaves it to the next one, a thread that waits (barrier, shuffle) keeps it, and the next begins on another. So a
 * kernel without barriers costs a call a thread. A thread that waits goes on in the next one of its warp directly; what
 * lanes do together (a shuffle, a product) is done once, when all of them wait there.
 *
 * What a device leaves undefined is a failure here, with the kernel's name: threads of a block at different barriers, a
 * shuffle from a lane that is done or does not take part, writes beside dynamic shared memory, more of it than there is, copies
 * of 16 bytes from crooked addresses. The failure is of the stream, as on a device: its next `wait` returns it. Shared memory is
 * NaN when a block begins. */
#include "emulator_inside.h"
#include "fiber.h"

#include <cstdarg>
#include <map>
#include <vector>

#define SHARED_BYTES  (227 << 10)
#define SHARED_NORMAL (48 << 10)  /* what a kernel gets that has not asked for more */
#define CANARY        1024        /* bytes watched on either side of dynamic shared memory */
#define GRANULE       256         /* of static shared memory, for knowing what a kernel uses */

emulator_thread emulator_now;
extern "C" __attribute__((weak)) unsigned char __start_emulated_shared[];
extern "C" __attribute__((weak)) unsigned char __stop_emulated_shared[];

namespace {
enum state_of { RUNS, AT_BLOCK, AT_WARP, DONE };
struct worker {
    fiber on;
};
struct copy {
    void *to;
    const void *from; /* NULL: zeros */
    size_t size;
};
struct lane { /* a thread of the block */
    state_of state;
    worker *on;
    unsigned mask; /* of the lanes that it waits for */
    int line;      /* where it waits */
    int from;      /* the lane of the warp that it takes from; -1: none */
    uint64_t brought, got;
    emulator_task *task; /* NULL: none; `operands` are this lane's */
    void *operands;
    unsigned char gathered[2][64]; /* in turns: nobody is two gathers ahead of another lane */
    unsigned gathers;
    std::vector<std::vector<copy>> *copies; /* groups under way, the last one still open; NULL: none ever */
};

lane lanes[1024];
uint3 place[1024]; /* of the threads of a block of `placed` */
dim3 placed(0, 0, 0);
fiber host;
std::vector<worker *> &idle = *new std::vector<worker *>, &all_workers = *new std::vector<worker *>; /* until the program ends */
worker *on_turn; /* whose stack this is */
int current;
fiber *left;                         /* the stack that was left last */
int begin_order[32], n_begin, begun; /* the warp's threads that have not begun */
int turn[32], n_turn, turned;        /* the warp's threads that go on, those that wait still among them */
int threads;                         /* of the block */
const std::function<void()> *running;

char message[240];
bool faulty;
alignas(256) unsigned char shared_room[CANARY + SHARED_BYTES + CANARY];
unsigned char *const shared_begin = shared_room + CANARY;
size_t shared_bytes;
emulator_order_kind order = EMULATOR_FORWARD;
uint32_t order_state = 1;

#ifdef __SANITIZE_ADDRESS__
void shield(bool on)
{
    if (on) {
        __asan_poison_memory_region(shared_room, sizeof shared_room);
        __asan_unpoison_memory_region(shared_begin, shared_bytes);
    } else {
        __asan_unpoison_memory_region(shared_room, sizeof shared_room);
    }
}
#else
void shield(bool) {}
#endif

/* The first fault of a launch; its block is left where it stands. */
__attribute__((format(printf, 1, 2))) void fault(const char *text, ...)
{
    if (faulty)
        return;
    va_list args;
    va_start(args, text);
    int n = snprintf(message, sizeof message, "block (%u, %u, %u): ", emulator_now.block.x, emulator_now.block.y,
                     emulator_now.block.z);
    vsnprintf(message + n, sizeof message - (size_t)n, text, args);
    va_end(args);
    faulty = true;
}

/* ---- stacks ---- */

void work();
worker *take_worker()
{
    if (idle.empty()) {
        worker *w = new worker();
        fiber_ready(&w->on, work);
        all_workers.push_back(w);
        return w;
    }
    worker *w = idle.back();
    idle.pop_back();
    return w;
}

/* The stack to go on with: of a thread of the warp that begins or goes on, in their order; the host's when none is left. */
fiber *next()
{
    if (!faulty && begun < n_begin) {
        on_turn = take_worker();
        return &on_turn->on;
    }
    while (!faulty && turned < n_turn) {
        const int i = turn[turned++];
        if (lanes[i].state == RUNS) {
            on_turn = lanes[i].on;
            return &on_turn->on;
        }
    }
    return &host;
}

void change(fiber *me, fiber *to)
{
    left = me;
    fiber_go(me, to);
    fiber_arrived(me, left);
}

void leave()
{
    worker *w = on_turn;
    change(&w->on, next());
    on_turn = w;
}

/* On a stack: begins threads until there is none left, or is left where one of them waits. */
void work()
{
    fiber none;
    fiber_arrived(&none, left);
    for (;;) {
        while (begun < n_begin) {
            current = begin_order[begun++];
            lanes[current].on = on_turn;
            emulator_now.thread = place[current];
            (*running)();
            lanes[current].state = DONE;
        }
        idle.push_back(on_turn);
        leave();
    }
}

/* Until all threads that may go on are done or wait. */
void run_turn()
{
    fiber *to = next();
    if (to != &host)
        change(&host, to);
}

/* After a fault threads stand wherever they were: their stacks begin anew. */
void drop_workers()
{
    idle.clear();
    for (worker *w : all_workers) {
        fiber_ready(&w->on, work);
        idle.push_back(w);
    }
}

/* ---- the order of threads ---- */

void in_order(int n, int first, int *v)
{
    for (int i = 0; i < n; i++)
        v[i] = first + (order == EMULATOR_REVERSE ? n - 1 - i : i);
    for (int i = n - 1; order == EMULATOR_RANDOM && i > 0; i--) {
        order_state = order_state * 1664525u + 1013904223u;
        std::swap(v[i], v[(order_state >> 8) % (unsigned)(i + 1)]);
    }
}

void wait_here(state_of why, unsigned mask, int line)
{
    int me = current;
    lanes[me].state = why;
    lanes[me].mask = mask;
    lanes[me].line = line;
    leave();
    lanes[me].from = -1;
    lanes[me].task = nullptr;
    current = me;
    emulator_now.thread = place[me];
}

/* What the lanes in `mask` of the warp [from, to), which all wait, do together. */
void do_together(int from, int to, unsigned mask)
{
    void *operands[32];
    emulator_task *task = nullptr;
    int with = 0;
    for (int k = from; k < to; k++) {
        lane &l = lanes[k];
        if (!(mask >> (k - from) & 1) || l.state != AT_WARP)
            continue;
        if (l.task) {
            task = l.task;
            operands[k - from] = l.operands;
            with++;
        } else if (l.from >= 0) {
            const int other = from + l.from;
            if (other >= to || !(mask >> l.from & 1) || lanes[other].state != AT_WARP || lanes[other].from < 0)
                fault("thread %d takes from lane %d at line %d, which is done or does not take part", k, l.from, l.line);
            else
                l.got = lanes[other].brought;
        }
    }
    if (task && with < 32)
        fault("%d lanes do at line %d what takes a whole warp: another is done or does not take part", with, lanes[from].line);
    else if (task)
        task(operands);
}

/* Frees the lanes whose masks are complete: everyone named waits here too, or is done. */
bool free_warp(int from, int to)
{
    bool freed = false;
    for (int i = from; i < to && !faulty; i++) {
        unsigned mask = lanes[i].mask;
        bool complete = lanes[i].state == AT_WARP;
        for (int k = from; complete && k < to; k++) {
            if (!(mask >> (k - from) & 1) || lanes[k].state == DONE)
                continue;
            complete = lanes[k].state == AT_WARP;
            if (complete && (lanes[k].mask != mask || lanes[k].line != lanes[i].line))
                fault("lanes of a warp wait for each other at different places (lines %d and %d) or with different masks "
                      "(%#x and %#x)", lanes[i].line, lanes[k].line, mask, lanes[k].mask);
        }
        if (complete && !faulty)
            do_together(from, to, mask);
        for (int k = from; complete && !faulty && k < to; k++)
            if ((mask >> (k - from) & 1) && lanes[k].state == AT_WARP) {
                lanes[k].state = RUNS;
                freed = true;
            }
    }
    return freed;
}

/* The warp [from, to) until all of its threads are done or wait for other warps. */
void run_warp(int from, int to, bool begins)
{
    n_begin = begun = n_turn = turned = 0;
    if (begins) {
        n_begin = to - from;
        in_order(n_begin, from, begin_order);
        run_turn();
    }
    for (bool first = begins; !faulty; first = false) {
        if (!first) {
            n_turn = to - from;
            turned = 0;
            in_order(n_turn, from, turn);
            run_turn();
        }
        if (!free_warp(from, to))
            return;
    }
}

/* All warps wait: at one barrier of the block? */
bool free_block()
{
    int first = -1;
    for (int i = 0; i < threads; i++) {
        if (lanes[i].state == DONE)
            continue;
        if (first < 0)
            first = i;
        if (lanes[i].state != lanes[first].state || lanes[i].line != lanes[first].line) {
            fault("threads wait at different barriers (thread %d at line %d, thread %d at line %d)", first, lanes[first].line, i,
                  lanes[i].line);
            return false;
        }
    }
    if (first >= 0 && lanes[first].state == AT_WARP) {
        fault("thread %d waits at line %d for lanes that do not come", first, lanes[first].line);
        return false;
    }
    for (int i = 0; i < threads; i++)
        if (lanes[i].state == AT_BLOCK)
            lanes[i].state = RUNS;
    return first >= 0;
}

void run_block()
{
    int warps[32], n = (threads + 31) / 32;
    for (int i = 0; i < threads; i++) {
        lanes[i].state = RUNS;
        lanes[i].from = -1;
        lanes[i].task = nullptr;
        lanes[i].gathers = 0;
        if (lanes[i].copies)
            lanes[i].copies->clear();
    }
    for (bool begins = true; !faulty; begins = false) {
        in_order(n, 0, warps);
        for (int w = 0; w < n && !faulty; w++)
            run_warp(warps[w] * 32, std::min(threads, warps[w] * 32 + 32), begins);
        if (faulty || !free_block())
            return;
    }
}

/* ---- shared memory ---- */

/* Which granules of all static shared memory a kernel writes: learned from its first launches, NaN before each block. */
struct kernel_use {
    unsigned launches = 0;
    std::vector<uint32_t> granules;
};
std::map<const void *, kernel_use> used;

typedef uint64_t __attribute__((may_alias, aligned(1))) eight;

/* Between variables lies what a sanitizer forbids: no memset. */
void foul(unsigned char *at, size_t n)
{
    for (; n >= 8; at += 8, n -= 8)
        *(volatile eight *)at = ~(uint64_t)0;
    for (volatile unsigned char *p = at; n; n--)
        *p++ = 0xFF;
}

bool is_foul(const unsigned char *at, size_t n)
{
    for (; n >= 8; at += 8, n -= 8)
        if (*(const eight *)at != ~(uint64_t)0)
            return false;
    for (; n; n--)
        if (*at++ != 0xFF)
            return false;
    return true;
}

size_t static_bytes() { return __start_emulated_shared ? (size_t)(__stop_emulated_shared - __start_emulated_shared) : 0; }

void foul_static(const kernel_use &k)
{
    for (uint32_t g : k.granules) {
        size_t at = (size_t)g * GRANULE;
        foul(__start_emulated_shared + at, std::min((size_t)GRANULE, static_bytes() - at));
    }
}

void learn_static(kernel_use *k)
{
    const size_t n = static_bytes();
    for (size_t g = 0; g * GRANULE < n; g++)
        if (!is_foul(__start_emulated_shared + g * GRANULE, std::min((size_t)GRANULE, n - g * GRANULE)) &&
            !std::binary_search(k->granules.begin(), k->granules.end(), (uint32_t)g))
            k->granules.insert(std::lower_bound(k->granules.begin(), k->granules.end(), (uint32_t)g), (uint32_t)g);
}

void watch_dynamic(size_t bytes)
{
    shield(false);
    shared_bytes = bytes;
    memset(shared_room, 0xA5, CANARY);
    memset(shared_begin + bytes, 0xA5, CANARY);
    shield(true);
}

void check_dynamic()
{
    shield(false);
    for (size_t i = 0; i < CANARY; i++) {
        if (shared_room[i] != 0xA5)
            fault("wrote %zu bytes before dynamic shared memory", CANARY - i);
        if (shared_begin[shared_bytes + i] != 0xA5)
            fault("wrote behind dynamic shared memory of %zu bytes, at %zu", shared_bytes, shared_bytes + i);
    }
    shield(true);
}

/* ---- launches ---- */

void set_places(dim3 d)
{
    threads = (int)(d.x * d.y * d.z);
    if (d.x == placed.x && d.y == placed.y && d.z == placed.z)
        return;
    for (unsigned i = 0; i < (unsigned)threads; i++)
        place[i] = {i % d.x, i / d.x % d.y, i / (d.x * d.y)};
    placed = d;
}

void run_grid(const emulator_launch_of *l)
{
    kernel_use &k = used[l->kernel];
    bool learns = k.launches < 4;
    running = &l->body;
    emulator_now.block_dim = l->block;
    emulator_now.grid_dim = l->grid;
    set_places(l->block);
    watch_dynamic(l->shared);
    if (learns)
        foul(__start_emulated_shared, static_bytes());
    for (unsigned z = 0; z < l->grid.z && !faulty; z++)
        for (unsigned y = 0; y < l->grid.y && !faulty; y++)
            for (unsigned x = 0; x < l->grid.x && !faulty; x++) {
                emulator_now.block = {x, y, z};
                memset(shared_begin, 0xFF, l->shared);
                foul_static(k);
                run_block();
                if (learns && x + y + z == 0)
                    learn_static(&k);
            }
    if (learns)
        learn_static(&k);
    k.launches++;
    const size_t own = k.granules.size() * GRANULE;
    if (l->shared && own + l->shared > SHARED_NORMAL + 4 * GRANULE) /* variables share granules at their ends */
        fault("%zu bytes of dynamic shared memory beside %zu of the kernel's own: more than a block gets", l->shared, own);
    check_dynamic();
}

/* What a device would refuse. */
int check_launch(const emulator_launch_of *l)
{
    const dim3 g = l->grid, b = l->block;
    uint64_t n = (uint64_t)b.x * b.y * b.z;
    if (n == 0 || n > 1024 || b.z > 64 || g.x == 0 || g.y == 0 || g.z == 0 || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535)
        return EMULATED_BAD_CONFIGURATION;
    return l->shared > SHARED_NORMAL ? EMULATED_BAD_VALUE : 0;
}
} // namespace

int emulator_run(const emulator_launch_of *l)
{
    faulty = false;
    run_grid(l);
    if (faulty) {
        drop_workers();
        cuda_note(l->q, l->name, EMULATED_LAUNCH_FAILURE);
    }
    return faulty ? EMULATED_LAUNCH_FAILURE : 0;
}

const char *emulator_message() { return message; }
void *emulator_shared() { return shared_begin; }
void emulator_barrier(int line) { wait_here(AT_BLOCK, 0, line); }
int emulator_lane() { return current & 31; }

/* A failed thread never goes on. */
static void stop()
{
    for (;;)
        leave();
}

void emulator_warp(unsigned mask, int line)
{
    if (!(mask >> (current & 31) & 1)) {
        fault("thread %d waits at line %d for mask %#x, which leaves it out", current, line, mask);
        stop();
    }
    wait_here(AT_WARP, mask, line);
}

uint64_t emulator_exchange(uint64_t mine, int from, unsigned mask, int line)
{
    lanes[current].brought = mine;
    lanes[current].from = from & 31;
    emulator_warp(mask, line);
    return lanes[current].got;
}

void emulator_together(emulator_task *task, void *operands, int line)
{
    lanes[current].task = task;
    lanes[current].operands = operands;
    emulator_warp(~0u, line);
}

void emulator_gather(const void *mine, size_t size, void *all, int line)
{
    const int first = current & ~31;
    const unsigned turn = lanes[current].gathers++ & 1;
    memcpy(lanes[current].gathered[turn], mine, size);
    emulator_warp(~0u, line);
    for (int i = 0; i < 32; i++) {
        if (first + i >= threads || lanes[first + i].gathers < lanes[current].gathers) { /* it may be further, or done since */
            fault("thread %d takes from lane %d at line %d, which is done or does not take part", current, i, line);
            stop();
        }
        memcpy((char *)all + (size_t)i * size, lanes[first + i].gathered[turn], size);
    }
}

static std::vector<std::vector<copy>> &copies_under_way()
{
    lane &l = lanes[current];
    if (!l.copies)
        l.copies = new std::vector<std::vector<copy>>; /* the thread's place keeps it until the program ends */
    if (l.copies->empty())
        l.copies->emplace_back();
    return *l.copies;
}

static void arrive(const copy &one)
{
    if (one.from)
        memcpy(one.to, one.from, one.size);
    else
        memset(one.to, 0, one.size);
}

/* A copy arrives at some time before the wait is over: in one of the orders at once, so that who still reads what it writes over
 * is found too. */
void emulator_copy_begin(void *to, const void *from, size_t size, bool there)
{
    const copy one = {to, there ? from : nullptr, size};
    if (((uintptr_t)to | (uintptr_t)from) & (size - 1)) {
        fault("thread %d copies %zu bytes from or to an address that is no multiple of that", current, size);
        stop();
    }
    if (order == EMULATOR_REVERSE)
        arrive(one);
    else
        copies_under_way().back().push_back(one);
}

void emulator_copy_close() { copies_under_way().emplace_back(); }

void emulator_copy_wait(int left)
{
    std::vector<std::vector<copy>> &c = copies_under_way();
    while (c.size() > (size_t)left + 1) {
        for (const copy &one : c.front())
            arrive(one);
        c.erase(c.begin());
    }
}

void emulator_launch(cuda_queue *q, const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared,
                     std::function<void()> body)
{
    emulator_launch_of l = {q, name, kernel, grid, block, shared, std::move(body)};
    int code = check_launch(&l);
    if (cuda_note(q, name, code) && cuda_note(q, name, q->api->last_error()))
        emulator_submit(q->stream, std::move(l));
}

extern "C" void emulator_order(emulator_order_kind kind) { order = kind; }
emulator_order_kind emulator_order_now() { return order; }
