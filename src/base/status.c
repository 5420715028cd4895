/* status.c - the per-thread record of the last failure. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_MAX 8192

static _Thread_local char message[MESSAGE_MAX];

status status_record(status st, const char *fmt, ...)
{
    char text[MESSAGE_MAX]; /* the arguments may point into the old message */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    memcpy(message, text, sizeof text);
    return st;
}

status fail_within(status st, const char *fmt, ...)
{
    char text[MESSAGE_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t used = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    snprintf(text + used, sizeof text - used, ": %.*s", (int)(MESSAGE_MAX - 3 - used), message);
    memcpy(message, text, sizeof text);
    return st;
}

const char *status_message(void)
{
    return message;
}

void status_clear(void)
{
    message[0] = 0;
}
