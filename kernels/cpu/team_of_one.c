/* team_of_one.c - a parallel region that one thread runs is a call.
 *
 * GCC turns every `omp parallel` into GOMP_parallel(body, data, threads, flags), also where its `if` says no or one thread
 * is asked for. libgomp (GCC 12) then makes a team on the heap, starts it, ends it and frees it: 0.3 us each time, a third of
 * the step of a student whose nodes take 1 us, and an allocation in a step. The linker leads calls of our own objects here
 * (--wrap, CMakeLists.txt). Outside of any region the body finds the same thread number (0), number of threads (1) and
 * loop bounds as in such a team; inside a region it would not, so those go the usual way. */
#include <omp.h>

void __real_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
void __wrap_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);

void __wrap_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags)
{
    if (threads == 1 && omp_get_level() == 0)
        body(data);
    else
        __real_GOMP_parallel(body, data, threads, flags);
}
