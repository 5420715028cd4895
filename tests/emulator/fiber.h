/* fiber.h - stacks that code can leave and come back to: how one host thread is all threads of a block.
 *
 * On x86-64 a change of stacks is twenty instructions (ucontext makes two system calls of each), elsewhere ucontext does it.
 * Address and thread sanitizers are told of every change. Stacks are mapped once, with a page below that faults. */
#ifndef DISTILL_TESTS_FIBER_H
#define DISTILL_TESTS_FIBER_H

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

#if defined(__x86_64__) && !(defined(__CET__) && (__CET__ & 2)) /* no shadow stack */
#define FIBER_ASM 1
#else
#define FIBER_ASM 0
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

#define FIBER_BYTES (256 << 10)
#define FIBER_GUARD (16 << 10)

struct fiber { /* a stack, or the one that the program began on */
    char *low = nullptr; /* NULL: the program's own */
    const void *bottom = nullptr;
    size_t bytes = 0;
#if FIBER_ASM
    void *sp = nullptr;
#else
    ucontext_t context;
#endif
#ifdef __SANITIZE_ADDRESS__
    void *fake = nullptr;
#endif
#ifdef __SANITIZE_THREAD__
    void *tsan = nullptr;
#endif
};

#if FIBER_ASM
extern "C" void emulator_switch(void **save, void *to);
asm(".text\n.p2align 4\n.globl emulator_switch\n.type emulator_switch, @function\nemulator_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
    ".size emulator_switch, .-emulator_switch\n");
#endif

/* The first time `f` is gone to, entry() runs; it never returns. Also takes a stack out of whatever it was doing. */
static inline void fiber_ready(fiber *f, void (*entry)())
{
    if (!f->low) {
        void *p = mmap(nullptr, FIBER_GUARD + FIBER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || mprotect(p, FIBER_GUARD, PROT_NONE) != 0) {
            perror("emulator: no memory for a stack");
            abort();
        }
        f->low = (char *)p + FIBER_GUARD;
        f->bottom = f->low;
        f->bytes = FIBER_BYTES;
#ifdef __SANITIZE_THREAD__
        f->tsan = __tsan_create_fiber(0);
#endif
    }
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(f->low, FIBER_BYTES);
    f->fake = nullptr;
#endif
#if FIBER_ASM
    void **top = (void **)(f->low + FIBER_BYTES);
    top[-1] = nullptr;       /* where entry would return to */
    top[-2] = (void *)entry; /* where the switch returns to: the stack is as after a call */
    for (int i = 3; i <= 8; i++)
        top[-i] = nullptr;
    f->sp = top - 8;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->low;
    f->context.uc_stack.ss_size = FIBER_BYTES;
    f->context.uc_link = nullptr;
    makecontext(&f->context, entry, 0);
#endif
}

/* After arriving on a stack; `from` is the one that was left. */
static inline void fiber_arrived(fiber *on, fiber *from)
{
#ifdef __SANITIZE_ADDRESS__
    const void *bottom = nullptr;
    size_t bytes = 0;
    __sanitizer_finish_switch_fiber(on->fake, &bottom, &bytes);
    if (!from->low) { /* the program's own stack: only now it is known */
        from->bottom = bottom;
        from->bytes = bytes;
    }
#endif
    (void)on;
    (void)from;
}

/* Leaves `from`, goes on in `to`; returns when somebody goes to `from` again. The caller then calls fiber_arrived. */
static inline void fiber_go(fiber *from, fiber *to)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&from->fake, to->bottom, to->bytes);
#endif
#ifdef __SANITIZE_THREAD__
    if (!from->low)
        from->tsan = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to->tsan, 0);
#endif
#if FIBER_ASM
    emulator_switch(&from->sp, to->sp);
#else
    swapcontext(&from->context, &to->context);
#endif
}

#endif
