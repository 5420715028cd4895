/* cuda_survey.c - what `distill doctor` says of GPUs: driver, run time, every device with its free memory. */
#include "exec/cuda_libs.h"
#include "exec/internal.h"
#include "kernels/cuda/api.h"

#include <stdio.h>
#include <string.h>

/* The first driver on Linux that serves a CUDA (release notes of CUDA: minor version compatibility). */
const char *cuda_driver_for(int runtime)
{
    return runtime >= 14000 ? "a newer driver" : runtime >= 13000 ? "driver 580 or newer" : runtime >= 12000 ? "driver 525 or newer"
                                                                                              : "driver 450 or newer";
}

bool cuda_has_driver(const cuda_api *api)
{
    int version = 0;
    return api->driver_version(&version) == 0 && version > 0;
}

static void survey_device(const cuda_api *api, int index, backend_teller tell, void *ctx)
{
    cuda_device_info d;
    size_t available = 0, all = 0;
    char name[24], line[500], a[24], m[24];
    snprintf(name, sizeof name, "cuda:%d", index);
    int code = api->device_info(index, &d);
    if (code == 0)
        code = api->use_device(index);
    if (code == 0)
        code = api->memory(&available, &all);
    if (code != 0)
        snprintf(line, sizeof line, "cannot be used: %s (error %d)", api->text(code), code);
    else
        snprintf(line, sizeof line, "%s, sm_%d, %d multiprocessors, %s of %s free", d.name, d.level, d.multiprocessors,
                 human_bytes((double)available, a), human_bytes((double)all, m));
    tell(ctx, name, code == 0, line);
}

/* One line a library, "NAME: what". */
static void survey_libraries(backend_teller tell, void *ctx)
{
    cuda_libs *l = NULL;
    text t = {0};
    if (cuda_libs_open_all(&l) == ST_OK)
        cuda_libs_describe(l, &t);
    for (char *line = t.s, *end; t.st == ST_OK && line && *line; line = end) {
        char *what = strstr(line, ": ");
        end = line + strcspn(line, "\n");
        end += *end ? (*end = 0, 1) : 0;
        if (what) {
            *what = 0;
            tell(ctx, line, true, what + 2);
        }
    }
    text_free(&t);
    cuda_libs_close(l);
}

void cuda_survey(const cuda_api *api, backend_teller tell, void *ctx)
{
    int driver = 0, runtime = 0, n = 0;
    char line[300], needs[80];
    if (!cuda_has_driver(api)) {
        tell(ctx, "GPU", true, "none: there is no NVIDIA driver; jobs run on the CPU");
        return;
    }
    api->driver_version(&driver);
    api->runtime_version(&runtime);
    bool old = driver / 1000 < runtime / 1000;
    snprintf(needs, sizeof needs, ": too old, it needs %s", cuda_driver_for(runtime));
    snprintf(line, sizeof line, "the driver serves CUDA %d.%d, the program was built with CUDA %d.%d%s", driver / 1000, driver % 1000 / 10,
             runtime / 1000, runtime % 1000 / 10, old ? needs : "");
    tell(ctx, "CUDA", !old, line);
    int code = old ? 0 : api->device_count(&n);
    if (code != 0) {
        snprintf(line, sizeof line, "devices cannot be listed: %s (error %d)", api->text(code), code);
        tell(ctx, "GPU", false, line);
    } else if (!old && n == 0) {
        tell(ctx, "GPU", true, "none: the driver sees no device; jobs run on the CPU");
    }
    for (int i = 0; i < n; i++)
        survey_device(api, i, tell, ctx);
    if (n > 0)
        survey_libraries(tell, ctx);
}
