/* cpu.c - what the processor says of itself. On x86 cpuid is asked, which an emulator answers as the emulated one. */
#include "base/io.h"
#include "matrix/runner.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#if defined(__x86_64__)
#include <cpuid.h>

const char *runner_cpu_name(char *buf, size_t n)
{
    unsigned word[13] = {0};
    for (unsigned i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002 + i, &word[4 * i], &word[4 * i + 1], &word[4 * i + 2], &word[4 * i + 3]))
            word[0] = 0;
    const char *name = (const char *)word + strspn((const char *)word, " ");
    snprintf(buf, n, "%s", *name ? name : "x86-64");
    for (size_t k = strlen(buf); k > 0 && buf[k - 1] == ' '; k--)
        buf[k - 1] = 0;
    return buf;
}

const char *runner_cpu_isa(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vnni"))
        return "avx512_vnni";
    if (__builtin_cpu_supports("avx512f"))
        return "avx512";
    if (!__builtin_cpu_supports("avx2"))
        return "sse";
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 4)) ? "avx2_vnni" : "avx2";
}

#else

const char *runner_cpu_name(char *buf, size_t n)
{
    char all[16384];
    struct utsname u;
    io_read_system("/proc/cpuinfo", all, sizeof all);
    const char *at = strstr(all, "model name"), *name = at ? strchr(at, ':') : NULL;
    if (name)
        snprintf(buf, n, "%.*s", (int)strcspn(name + 2, "\n"), name + 2);
    else
        snprintf(buf, n, "%s", uname(&u) == 0 ? u.machine : "unknown");
    return buf;
}

const char *runner_cpu_isa(void)
{
#if defined(__aarch64__)
    return "neon";
#else
    return "unknown";
#endif
}

#endif
