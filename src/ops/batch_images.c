/* batch_images.c - a batch of normalised images out of all images of a data set.
 *
 * BatchImages(pixels, table, row, number, view, other_row, other_number, share):
 *   pixels  [n, H, W, c] uint8, c = C or 1 (which serves every channel)
 *   table   [C, 256] float: a byte of channel k becomes table[k][byte]
 *   row     [B] int64: sample j of the batch is image row[j]; outside of [0, n) its elements are NaN
 *   number, view  [B] int64, both or none: sample j is changed by the random numbers of the stream (seed, RNG_AUGMENT, view[j],
 *           number[j]) as the attributes ask: colour, crop, flip, cutout, in this order (picture.h). None: as it is.
 *   other_row, other_number [B] int64, share [B] float, all or none: y = share * y + (1 - share) * y', y' made of image
 *           other_row[j] in the same way (mixup)
 * Result: [B, C, H, W] of the table's type. */
#include "ops/common.h"

static status check_indices(const graph *g, const node *n, int i, shape rows)
{
    const value *v = op_in(g, n, i);
    if (v && v->type != DTYPE_I64)
        return op_fail(n, "input %d '%s' is not int64", i, v->name);
    return op_check_shape(g, n, i, rows, "row");
}

static status batch_images_infer(graph *g, node *n)
{
    const value *pixels = op_in(g, n, BATCH_PIXELS), *table = op_in(g, n, BATCH_TABLE), *row = op_in(g, n, BATCH_ROW);
    const batch_images_attrs *at = n->attr;
    if (pixels->type != DTYPE_U8 || pixels->sh.rank != 4)
        return op_fail(n, "the pixels '%s' are not uint8 [n, H, W, C]", pixels->name);
    TRY(op_check_float(g, n, BATCH_TABLE));
    const int64_t channels = table->sh.rank == 2 ? table->sh.dim[0] : 0, own = pixels->sh.dim[3];
    if (channels < 1 || table->sh.dim[1] != 256 || (own != 1 && own != channels))
        return op_fail(n, "the table '%s' is not [channels, 256] for pixels of %lld channels", table->name, (long long)own);
    if (pixels->sh.dim[1] > INT16_MAX || pixels->sh.dim[2] > INT16_MAX) /* limits.image_pixels is far below */
        return op_fail(n, "images that large are not supported");
    if (row->sh.rank != 1)
        return op_fail(n, "the rows '%s' are no list", row->name);
    const shape rows = row->sh, y = {4, {rows.dim[0], channels, pixels->sh.dim[1], pixels->sh.dim[2]}};
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

static const attr_desc batch_images_rows[] = {
    {ATTR(batch_images_attrs, crop), .type = ATTR_INT},
    {ATTR(batch_images_attrs, flip), .type = ATTR_INT},
    {ATTR(batch_images_attrs, cutout), .type = ATTR_INT},
    {ATTR(batch_images_attrs, brightness), .type = ATTR_FLOAT},
    {ATTR(batch_images_attrs, contrast), .type = ATTR_FLOAT},
    {ATTR(batch_images_attrs, saturation), .type = ATTR_FLOAT},
    {ATTR(batch_images_attrs, seed), .type = ATTR_INT},
    {0},
};
const op_desc op_batch_images = {
    .name = "BatchImages", .in = {3, 8}, .out = {1, 1}, .flags = OP_INTERNAL, .attrs = batch_images_rows,
    .attr_size = sizeof(batch_images_attrs), .infer = batch_images_infer, NO_GRAD("data are not differentiated"),
};
