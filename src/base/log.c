/* log.c - one sink for messages on the way. It is set once, before threads start. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#define LINE_MAX_BYTES 2048

static log_sink sink;
static void *sink_ctx;
static _Thread_local int hushed;

void log_set_sink(log_sink new_sink, void *ctx)
{
    sink = new_sink;
    sink_ctx = ctx;
}

void log_hush(bool begin)
{
    hushed += begin ? 1 : -1;
}

void log_line(log_level level, const char *fmt, ...)
{
    if (!sink || hushed > 0)
        return;
    char line[LINE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    sink(level, line, sink_ctx);
}
