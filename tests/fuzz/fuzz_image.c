/* fuzz_image.c - libFuzzer target: every image decoder, then channels and a resize of what came out. */
#include "data/image.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try(const char *name, const uint8_t *data, size_t size)
{
    limits lim = limits_default();
    image im = {0}, to = {0};
    resizer r = {0};
    lim.image_pixels = 1 << 18;
    lim.jpeg_scans = 20;
    status st = image_decode(name, data, size, &lim, &im);
    if (st != ST_OK && st != ST_BAD_DATA)
        abort();
    if (st == ST_OK && (im.channels != 1 && im.channels != 3))
        abort();
    if (st == ST_OK)
        st = image_resize(&r, &im, 0, 0, im.height, im.width, FILTER_BILINEAR, 9, 7, &to);
    if (st == ST_OK)
        st = image_set_channels(&to, name, to.channels == 1 ? 3 : 1);
    image_free(&im);
    image_free(&to);
    resizer_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try("fuzz.jpg", data, size);
    try("fuzz.tga", data, size);
    return 0;
}
