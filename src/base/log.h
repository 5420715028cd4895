/* log.h - messages on the way: one sink, set by the program; the library is silent by default.
 *
 * Levels: LOG_WARN always shown, LOG_INFO without --quiet, LOG_DEBUG with -v. The sink gets one line without newline. */
#ifndef DISTILL_BASE_LOG_H
#define DISTILL_BASE_LOG_H

#include "base/status.h"

#include <stdbool.h>

typedef enum log_level { LOG_WARN, LOG_INFO, LOG_DEBUG } log_level;
typedef void (*log_sink)(log_level level, const char *line, void *ctx);
void log_set_sink(log_sink sink, void *ctx);
/* Between log_hush(true) and log_hush(false), which nest, this thread says nothing: for what is only tried, or done again. */
void log_hush(bool begin);
PRINTF_LIKE(2, 3) void log_line(log_level level, const char *fmt, ...);
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
