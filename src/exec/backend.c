/* backend.c - the list of devices that this build can use. */
#include "exec/backend.h"
#include "exec/internal.h"

#include <string.h>

static const struct {
    const char *name;
    status (*open)(const backend_options *o, backend **out);
} backends[] = {
    {"cpu", cpu_open},
};

status backend_open(const char *device, const backend_options *o, backend **out)
{
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (strcmp(device, backends[i].name) == 0 || strcmp(device, "auto") == 0)
            return backends[i].open(o, out);
    return fail(ST_UNAVAILABLE, "device '%s' is not in this build; --device takes auto or cpu", device);
}

void backend_close(backend *b)
{
    if (b)
        b->close(b);
}
