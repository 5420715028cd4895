/* batch_images.c - a batch of normalised images out of all images of a data set.
 *
 * BatchImages(pixels, table, row, number, view, other_row, other_number, share):
 *   pixels  [n, h, w, c] uint8, c = C or 1 (which serves every channel)
 *   table   [C, 256] float: a byte of channel k becomes table[k][byte]
 *           or pixels [n, C, h, w] and table [2, C] of one floating type: v of channel k becomes (v - table[0][k]) / table[1][k]; such
 *           images change neither size nor colour
 *   row     [B] int64: sample j of the batch is image row[j]; outside of [0, n) its elements are NaN
 *   number, view  [B] int64, both or none: sample j is changed by the random numbers of the stream (seed, RNG_AUGMENT, view[j],
 *           number[j]) as the attributes ask: random resized crop, colour, crop, flip, cutout, in this order (picture.h). None: as
 *           it is.
 *   other_row, other_number [B] int64, share [B] float, all or none: y = share * y + (1 - share) * y', y' made of image
 *           other_row[j] in the same way (mixup)
 * Result: [B, C, H, W] of the table's type; H x W is `height` x `width` where scale_max asks for random resized crops, else the
 * pixels' own h x w. */
#include "ops/batch_images.h"
#include "ops/common.h"

static status check_indices(const graph *g, const node *n, int i, shape rows)
{
    const value *v = op_in(g, n, i);
    if (v && v->type != DTYPE_I64)
        return op_fail(n, "input %d '%s' is not int64", i, v->name);
    return op_check_shape(g, n, i, rows, "row");
}

/* Height and width of the result. */
static status find_size(const graph *g, const node *n, int64_t *h, int64_t *w)
{
    const batch_boxes_attrs *at = n->attr;
    if (at->scale_max == 0 && at->scale_min == 0 && at->height == 0 && at->width == 0)
        return ST_OK;
    if (!(at->scale_min > 0 && at->scale_max >= at->scale_min && at->scale_max <= 1) || !op_in(g, n, BATCH_NUMBER))
        return op_fail(n, "random resized crops take %g to %g of an image, and numbers to draw them by", at->scale_min, at->scale_max);
    *h = at->height;
    *w = at->width;
    return ST_OK;
}

static status batch_images_infer(graph *g, node *n)
{
    const value *pixels = op_in(g, n, BATCH_PIXELS), *table = op_in(g, n, BATCH_TABLE), *row = op_in(g, n, BATCH_ROW);
    const batch_images_attrs *at = &((const batch_boxes_attrs *)n->attr)->change;
    const bool bytes = pixels->type == DTYPE_U8;
    if ((!bytes && pixels->type != table->type) || pixels->sh.rank != 4 || table->sh.rank != 2)
        return op_fail(n, "the pixels '%s' are neither uint8 [n, H, W, C] nor floats [n, C, H, W] like the table", pixels->name);
    TRY(op_check_float(g, n, BATCH_TABLE));
    const int64_t channels = table->sh.dim[!bytes], own = pixels->sh.dim[bytes ? 3 : 1];
    if (channels < 1 || (bytes ? table->sh.dim[1] != 256 || (own != 1 && own != channels) : table->sh.dim[0] != 2 || own != channels))
        return op_fail(n, "the table '%s' is not %s for pixels of %lld channels", table->name, bytes ? "[channels, 256]" : "[2, channels]",
                       (long long)own);
    int64_t h = pixels->sh.dim[bytes ? 1 : 2], w = pixels->sh.dim[bytes ? 2 : 3];
    if (h > INT16_MAX || w > INT16_MAX) /* limits.image_pixels is far below */
        return op_fail(n, "images that large are not supported");
    TRY(find_size(g, n, &h, &w));
    if (!bytes && (((const batch_boxes_attrs *)n->attr)->scale_max > 0 || at->brightness > 0 || at->contrast > 0 || at->saturation > 0))
        return op_fail(n, "floats change neither size nor colour");
    if (h < 1 || w < 1 || h > INT16_MAX || w > INT16_MAX)
        return op_fail(n, "images of %lld x %lld are not supported", (long long)w, (long long)h);
    if (row->sh.rank != 1)
        return op_fail(n, "the rows '%s' are no list", row->name);
    const shape rows = row->sh, y = {4, {rows.dim[0], channels, h, w}};
    for (int i = BATCH_ROW; i <= BATCH_OTHER_NUMBER; i++)
        TRY(check_indices(g, n, i, rows));
    TRY(op_check_shape(g, n, BATCH_SHARE, rows, "share"));
    TRY(op_check_same_type(g, n, BATCH_TABLE, BATCH_SHARE));
    if (!op_in(g, n, BATCH_NUMBER) != !op_in(g, n, BATCH_VIEW) || !op_in(g, n, BATCH_OTHER_ROW) != !op_in(g, n, BATCH_SHARE) ||
        !op_in(g, n, BATCH_OTHER_NUMBER) != !(op_in(g, n, BATCH_OTHER_ROW) && op_in(g, n, BATCH_NUMBER)))
        return op_fail(n, "number and view belong together, and the numbers of the others to them");
    if (at->crop < 0 || at->crop > 65535 || at->cutout < 0 || at->cutout > 65535)
        return op_fail(n, "crop %lld or cutout %lld is outside [0, 65535]", (long long)at->crop, (long long)at->cutout);
    op_set_out(g, n, 0, table->type, y);
    return ST_OK;
}

#define CHANGE(field) .name = #field, .offset = offsetof(batch_boxes_attrs, change.field)
static const attr_desc batch_images_rows[] = {
    {CHANGE(crop), .type = ATTR_INT},
    {CHANGE(flip), .type = ATTR_INT},
    {CHANGE(cutout), .type = ATTR_INT},
    {CHANGE(brightness), .type = ATTR_FLOAT},
    {CHANGE(contrast), .type = ATTR_FLOAT},
    {CHANGE(saturation), .type = ATTR_FLOAT},
    {CHANGE(seed), .type = ATTR_INT},
    {ATTR(batch_boxes_attrs, scale_min), .type = ATTR_FLOAT},
    {ATTR(batch_boxes_attrs, scale_max), .type = ATTR_FLOAT},
    {ATTR(batch_boxes_attrs, height), .type = ATTR_INT},
    {ATTR(batch_boxes_attrs, width), .type = ATTR_INT},
    {ATTR(batch_boxes_attrs, nearest), .type = ATTR_INT},
    {0},
};
const op_desc op_batch_images = {
    .name = "BatchImages", .in = {3, 8}, .out = {1, 1}, .flags = OP_INTERNAL, .attrs = batch_images_rows,
    .attr_size = sizeof(batch_boxes_attrs), .infer = batch_images_infer, NO_GRAD("data are not differentiated"),
};
