/* test_emulator.c - the emulator finds what a device leaves undefined: each fault fails the queue with the kernel's name,
 * differs between orders of threads, or damages a guard; and what is allowed passes. */
#include "emulator/emulator_control.h"
#include "emulator/faulty.h"
#include "exec/backend.h"
#include "harness.h"

#include <math.h>
#include <stdio.h>

#define N 128
#if defined(__SANITIZE_ADDRESS__)
#define ASAN 1 /* ends the program at writes that guards find otherwise */
#else
#define ASAN 0
#endif

static backend *b;
static float *out; /* on the device */
static float host[N];

static bool is(float got, int want)
{
    return (double)got == (double)want;
}

static void open_device(void)
{
    const backend_options o = {.threads = 1};
    OK(backend_open("emulated", &o, &b));
    OK(b->alloc(b, N * sizeof *out, (void **)&out));
}

static void close_device(void)
{
    b->free(b, out, N * sizeof *out);
    backend_close(b);
}

static status run(void (*launch)(cuda_queue *, float *, int), emulator_order_kind order)
{
    emulator_order(order);
    launch(b->queue, out, N);
    TRY(b->remote->copy(b, host, out, sizeof host, COPY_TO_HOST));
    return b->remote->wait(b);
}

START_TEST(missing_barrier)
{
    open_device();
    for (int order = EMULATOR_FORWARD; order <= EMULATOR_RANDOM; order++) {
        OK(run(faulty_sound_rotate, (emulator_order_kind)order));
        for (int i = 0; i < N; i++)
            ck_assert_msg(is(host[i], (i + 1) % N), "%g", (double)host[i]);
    }
    OK(run(faulty_missing_barrier, EMULATOR_FORWARD));
    ck_assert_msg(isnan(host[0]) && !isnan(host[N - 1]), "forward: the next thread has not written yet");
    OK(run(faulty_missing_barrier, EMULATOR_REVERSE));
    ck_assert_msg(!isnan(host[0]) && isnan(host[N - 1]), "reverse: it has");
    close_device();
}
END_TEST

START_TEST(early_copy)
{
    open_device();
    OK(run(faulty_sound_rotate, EMULATOR_FORWARD));
    OK(run(faulty_early_copy, EMULATOR_FORWARD));
    ck_assert_msg(is(host[0], N / 2), "forward: copies arrive when waited for, not %g", (double)host[0]);
    OK(run(faulty_sound_rotate, EMULATOR_FORWARD));
    OK(run(faulty_early_copy, EMULATOR_REVERSE));
    ck_assert_msg(is(host[0], N / 2 + 1), "reverse: at once, not %g", (double)host[0]);
    close_device();
}
END_TEST

static const struct {
    void (*launch)(cuda_queue *, float *, int);
    const char *kernel, *says;
    bool asan;
} faults[] = {
    {faulty_behind_shared, "behind_shared", "wrote behind dynamic shared memory of 512 bytes, at 512", true},
    {faulty_two_barriers, "two_barriers", "threads wait at different barriers (thread 0 at line", false},
    {faulty_barrier_in_warp, "barrier_in_warp", "threads wait at different barriers", false},
    {faulty_gone_lane, "gone_lane", "takes from lane 0", false},
    {faulty_left_out, "left_out", "which leaves it out", false},
    {faulty_wide_block, "sound_rotate", "invalid configuration argument", false},
    {faulty_empty_grid, "sound_rotate", "invalid configuration argument", false},
    {faulty_much_shared, "sound_rotate", "invalid argument", false},
    {faulty_two_shared, "two_shared", "20480 bytes of dynamic shared memory beside", false},
    {faulty_crooked_copy, "crooked_copy", "no multiple of that", false},
};

START_TEST(faults_fail_the_queue)
{
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        if (faults[i].asan && ASAN)
            continue;
        open_device();
        FAILS(ST_OOM, faults[i].says, run(faults[i].launch, EMULATOR_FORWARD));
        ck_assert_msg(strstr(status_message(), faults[i].kernel) != NULL, "'%s' names %s", status_message(), faults[i].kernel);
        close_device();
    }
}
END_TEST

START_TEST(faults_in_a_program)
{
    void *program = NULL;
    size_t kernels;
    open_device();
    OK(b->remote->record(b));
    faulty_two_barriers(b->queue, out, N);
    OK(b->remote->recorded(b, &program, &kernels));
    ck_assert_uint_eq(kernels, 1);
    OK(b->remote->wait(b)); /* recorded only */
    OK(b->remote->replay(b, program));
    FAILS(ST_OOM, "two_barriers", b->remote->wait(b));
    b->remote->forget(b, program);
    close_device();
}
END_TEST

START_TEST(memory_while_recording)
{
    void *p = NULL, *program = NULL;
    size_t kernels;
    open_device();
    OK(b->remote->record(b));
    FAILS(ST_OOM, "not permitted when stream is capturing", b->alloc(b, 16, &p));
    OK(b->remote->recorded(b, &program, &kernels));
    b->remote->forget(b, program);
    OK(b->alloc(b, 16, &p));
    b->free(b, p, 16);
    close_device();
}
END_TEST

START_TEST(failed_queue_does_nothing)
{
    open_device();
    OK(run(faulty_sound_rotate, EMULATOR_FORWARD));
    FAILS(ST_OOM, "sound_rotate", run(faulty_wide_block, EMULATOR_FORWARD));
    memset(host, 0, sizeof host);
    FAILS(ST_OOM, "sound_rotate", run(faulty_early_end, EMULATOR_FORWARD));
    ck_assert_msg(is(host[1], 0), "%g", (double)host[1]); /* nothing was copied either */
    close_device();
    open_device(); /* another queue is sound */
    OK(run(faulty_sound_rotate, EMULATOR_FORWARD));
    close_device();
}
END_TEST

START_TEST(allowed)
{
    open_device();
    for (int order = EMULATOR_FORWARD; order <= EMULATOR_RANDOM; order++) {
        OK(run(faulty_early_end, (emulator_order_kind)order));
        OK(run(faulty_half_warps, (emulator_order_kind)order));
        ck_assert_msg(is(host[17], 16 * 16 + 120), "%g", (double)host[17]); /* 16 + ... + 31 */
        ck_assert_msg(is(host[15], 15), "%g", (double)host[15]);
        ck_assert_msg(is(host[32], 32 * 16 + 120), "%g", (double)host[32]);
    }
    close_device();
}
END_TEST

START_TEST(shared_memory_is_garbage)
{
    open_device();
    for (int i = 0; i < 6; i++) { /* also after what a kernel uses was learned */
        OK(run(faulty_old_shared, EMULATOR_FORWARD));
        for (int k = 0; k < N; k++)
            ck_assert_msg(isnan(host[k]), "launch %d: the block saw what the one before wrote", i);
    }
    close_device();
}
END_TEST

START_TEST(beside_memory)
{
    if (ASAN) {
        test_skip("beside_memory", "AddressSanitizer ends the program there");
        return;
    }
    size_t before = emulator_count()->damaged;
    open_device();
    OK(run(faulty_sound_rotate, EMULATOR_FORWARD));
    close_device();
    ck_assert_uint_eq(emulator_count()->damaged, before);
    open_device();
    OK(run(faulty_behind_memory, EMULATOR_FORWARD));
    close_device();
    ck_assert_uint_eq(emulator_count()->damaged, before + 1);
}
END_TEST

/* Work of a stream is done when somebody waits: who does not wait sees old numbers. */
START_TEST(later_than_the_call)
{
    float in[N];
    open_device();
    OK(run(faulty_sound_rotate, EMULATOR_FORWARD));
    for (int i = 0; i < N; i++)
        in[i] = 7;
    host[0] = -1;
    OK(b->remote->copy(b, out, in, sizeof in, COPY_TO_DEVICE));
    OK(b->remote->copy(b, host, out, sizeof host, COPY_TO_HOST));
    ck_assert_msg(is(host[0], -1), "%g", (double)host[0]);
    in[0] = 8; /* too early: it is what will be copied */
    OK(b->remote->wait(b));
    ck_assert_msg(is(host[0], 8), "%g", (double)host[0]);
    ck_assert_msg(is(host[1], 7), "%g", (double)host[1]);
    close_device();
}
END_TEST

/* Cells of 4 bytes: [0] = one, then [1] = [0] in a branch beside [2] = [0] and, unless `late`, [4] = [1]; behind both [3] = [1]. */
static void branched(char *cell, bool late, uint32_t got[5])
{
    const backend_remote *r = b->remote;
    uint32_t one = 1;
    void *program;
    size_t kernels;
    OK(r->record(b));
    OK(r->copy(b, cell, &one, sizeof one, COPY_TO_DEVICE));
    OK(r->branch(b, BRANCH_BEGIN));
    OK(r->copy(b, cell + 4, cell, 4, COPY_ON_DEVICE));
    OK(r->branch(b, BRANCH_LEAVE));
    OK(r->copy(b, cell + 8, cell, 4, COPY_ON_DEVICE));
    if (!late)
        OK(r->copy(b, cell + 16, cell + 4, 4, COPY_ON_DEVICE));
    OK(r->branch(b, BRANCH_JOIN));
    OK(r->copy(b, cell + 12, cell + 4, 4, COPY_ON_DEVICE));
    if (late)
        OK(r->copy(b, cell + 16, cell + 4, 4, COPY_ON_DEVICE));
    OK(r->recorded(b, &program, &kernels));
    ck_assert_uint_eq(kernels, 0);
    OK(r->replay(b, program));
    OK(r->copy(b, got, cell, 20, COPY_TO_HOST));
    OK(r->wait(b));
    r->forget(b, program);
}

START_TEST(branches)
{
    static const emulator_order_kind orders[] = {EMULATOR_FORWARD, EMULATOR_REVERSE, EMULATOR_RANDOM};
    uint32_t got[5];
    for (int i = 0; i < 3; i++) {
        char *cell;
        open_device();
        OK(b->alloc(b, 20, (void **)&cell));
        emulator_order(orders[i]);
        branched(cell, true, got);
        for (int k = 0; k < 5; k++)
            ck_assert_uint_eq(got[k], 1);
        b->free(b, cell, 20);
        OK(b->alloc(b, 20, (void **)&cell));
        branched(cell, false, got);
        if (orders[i] != EMULATOR_RANDOM) /* a reader that does not wait shows when the branch runs last */
            ck_assert_uint_eq(got[4], orders[i] == EMULATOR_FORWARD);
        ck_assert_uint_eq(got[3], 1);
        b->free(b, cell, 20);
        emulator_order(EMULATOR_FORWARD);
        close_device();
    }
}
END_TEST

START_TEST(a_branch_that_nobody_waits_for)
{
    void *program;
    size_t kernels;
    open_device();
    OK(b->remote->record(b));
    OK(b->remote->branch(b, BRANCH_BEGIN));
    faulty_sound_rotate(b->queue, out, N);
    OK(b->remote->branch(b, BRANCH_LEAVE));
    FAILS(ST_OOM, "not joined", b->remote->recorded(b, &program, &kernels));
    ck_assert_ptr_null(program);
    OK(b->remote->record(b)); /* and all is well again */
    OK(b->remote->recorded(b, &program, &kernels));
    b->remote->forget(b, program);
    close_device();
}
END_TEST

START_TEST(everything_is_given_back)
{
    const emulator_counts was = *emulator_count();
    void *program = NULL;
    size_t kernels;
    open_device();
    OK(b->remote->record(b));
    faulty_sound_rotate(b->queue, out, N);
    faulty_sound_rotate(b->queue, out, N);
    OK(b->remote->recorded(b, &program, &kernels));
    ck_assert_uint_eq(kernels, 2);
    ck_assert_uint_eq(emulator_count()->memory, was.memory + 1);
    ck_assert_uint_eq(emulator_count()->graphs, was.graphs + 1);
    b->remote->forget(b, program);
    close_device();
    ck_assert_uint_eq(emulator_count()->memory, was.memory);
    ck_assert_uint_eq(emulator_count()->host_memory, was.host_memory);
    ck_assert_uint_eq(emulator_count()->streams, was.streams);
    ck_assert_uint_eq(emulator_count()->graphs, was.graphs);
}
END_TEST

const test_entry test_table[] = {TEST(missing_barrier), TEST(early_copy), TEST(faults_fail_the_queue), TEST(faults_in_a_program),
                                 TEST(memory_while_recording), TEST(failed_queue_does_nothing), TEST(allowed), TEST(shared_memory_is_garbage),
                                 TEST(beside_memory), TEST(later_than_the_call), TEST(branches), TEST(a_branch_that_nobody_waits_for),
                                 TEST(everything_is_given_back), {0}};
