#include "model/grid.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct rmk_size rmk_grid_best(const struct rmk_grid_spec *spec, struct rmk_size size)
{
    struct rmk_size best = {0};
    uint64_t best_effective = 0;
    uint64_t best_waste = UINT64_MAX; /* stands for infinity: the first candidate always beats it */
    uint64_t area = (uint64_t)size.width * size.height;

    for (uint32_t i = 0; i < spec->pinpoint_count; i++) {
        struct rmk_size point = spec->pinpoints[i];
        double scale = fmin((double)point.width / size.width, (double)point.height / size.height);
        uint64_t scaled = (uint64_t)(size.width * scale) * (uint64_t)(size.height * scale);
        uint64_t effective = scaled < area ? scaled : area;
        uint64_t waste = (uint64_t)point.width * point.height - effective;

        if (effective > best_effective || (effective == best_effective && waste < best_waste)) {
            best = point;
            best_effective = effective;
            best_waste = waste;
        }
    }
    return best;
}

/* Size after the resize that keeps the aspect, never larger than the canvas. The ceiling is taken
 * of the rounded product, so an exact product may come out one larger; the reference does the same.
 */
static struct rmk_size fit(struct rmk_size size, struct rmk_size canvas)
{
    double across = (double)canvas.width / size.width;
    double down = (double)canvas.height / size.height;
    struct rmk_size fitted = canvas;

    if (across < down) {
        fitted.height = (uint32_t)fmin(ceil(size.height * across), canvas.height);
    } else {
        fitted.width = (uint32_t)fmin(ceil(size.width * down), canvas.width);
    }
    return fitted;
}

/* Which part of the feature map lies on the picture. One row or column too many survives when the
 * padding is odd; an extremely thin picture may leave none. */
static void unpad(struct rmk_size size, struct rmk_size map, struct rmk_grid *grid)
{
    grid->unpadded = map;
    if ((double)size.width / size.height > (double)map.width / map.height) {
        double scale = (double)map.width / size.width;
        grid->unpad_y = (map.height - (uint32_t)(size.height * scale)) / 2;
        grid->unpadded.height = map.height - 2 * grid->unpad_y;
    } else {
        double scale = (double)map.height / size.height;
        grid->unpad_x = (map.width - (uint32_t)(size.width * scale)) / 2;
        grid->unpadded.width = map.width - 2 * grid->unpad_x;
    }
}

/* Python's `int(count // divisor)` on floats: the quotient of what fmod leaves, corrected when that
 * division rounds across an integer. A plain floor(count / divisor) differs by one for some sizes.
 */
static uint32_t floor_divide(double count, double divisor)
{
    double quotient = (count - fmod(count, divisor)) / divisor;
    double whole = floor(quotient);

    if (quotient - whole > 0.5) {
        whole += 1.0;
    }
    return (uint32_t)whole;
}

/* Above this the reference shrinks the map; below it the small excess is accepted. */
static const double times_max = 1.1;

static void shrink(const struct rmk_grid_spec *spec, struct rmk_grid *grid)
{
    uint64_t cells = (uint64_t)grid->unpadded.width * grid->unpadded.height;
    uint64_t cells_max = (uint64_t)spec->max_factor * spec->side * spec->side;

    grid->times = sqrt((double)cells / (double)cells_max);
    if (grid->times > times_max) {
        grid->map.width = floor_divide(grid->unpadded.width, grid->times);
        grid->map.height = floor_divide(grid->unpadded.height, grid->times);
    }
}

static enum rmk_err plan_anyres(const struct rmk_grid_spec *spec, struct rmk_size size,
                                struct rmk_grid *grid, uint64_t *out_rows, struct rmk_why *why)
{
    struct rmk_size point = rmk_grid_best(spec, size);
    uint64_t cell_count = (uint64_t)spec->side * spec->side;

    if (point.width == 0 || point.height == 0) {
        return rmk_fail(why, RMK_EUNSUPPORTED,
                        "image_grid_pinpoints is empty, so pictures cannot be cut into tiles");
    }
    if (point.width % spec->tile != 0 || point.height % spec->tile != 0) {
        return rmk_fail(why, RMK_EUNSUPPORTED,
                        "image_grid_pinpoints has %ux%u, which is no multiple of the tile size %u",
                        point.width, point.height, spec->tile);
    }
    grid->resolution = point;
    grid->grid_width = point.width / spec->tile;
    grid->grid_height = point.height / spec->tile;
    grid->tile_count = 1 + grid->grid_width * grid->grid_height;
    grid->resized = fit(size, point);
    grid->paste_x = (point.width - grid->resized.width) / 2;
    grid->paste_y = (point.height - grid->resized.height) / 2;
    grid->unpadded.width = grid->grid_width * spec->side;
    grid->unpadded.height = grid->grid_height * spec->side;
    if (spec->merge == RMK_MERGE_SPATIAL_UNPAD) {
        unpad(size, grid->unpadded, grid);
    }
    grid->map = grid->unpadded;
    if (spec->merge == RMK_MERGE_SPATIAL_UNPAD && spec->max_factor > 0) {
        shrink(spec, grid);
    }
    uint32_t newline = spec->merge == RMK_MERGE_SPATIAL_UNPAD;
    *out_rows = cell_count + (uint64_t)grid->map.height * (grid->map.width + newline);
    return RMK_OK;
}

/* One tile of the whole picture, on a grey square or squeezed. */
static void plan_single(const struct rmk_grid_spec *spec, struct rmk_size size,
                        struct rmk_grid *grid, uint64_t *out_rows)
{
    bool padded = grid->mode == RMK_IMAGE_PAD || grid->mode == RMK_IMAGE_PAD_BARE;
    bool bare = grid->mode == RMK_IMAGE_PAD_BARE || grid->mode == RMK_IMAGE_SQUARE_BARE;
    uint32_t newline = !bare && spec->merge == RMK_MERGE_SPATIAL_UNPAD;

    grid->tile_count = 1;
    if (padded && size.width > size.height) {
        grid->paste_y = (size.width - size.height) / 2;
    } else if (padded) {
        grid->paste_x = (size.height - size.width) / 2;
    }
    grid->map = (struct rmk_size){spec->side, spec->side};
    *out_rows = (uint64_t)spec->side * spec->side + newline;
}

static void plan_video(const struct rmk_grid_spec *spec, uint32_t frame_count,
                       struct rmk_grid *grid, uint64_t *out_rows)
{
    uint32_t side = spec->pool == RMK_POOL_BILINEAR ? (spec->side + 1) / 2 : spec->side / 2;
    uint64_t frame_rows = (uint64_t)side * side;
    uint64_t tail_rows = 0;

    grid->tile_count = frame_count;
    grid->map = (struct rmk_size){side, side};
    /* The newline vector exists only with "unpad" in the merge type. */
    if (spec->merge == RMK_MERGE_SPATIAL_UNPAD) {
        switch (spec->newline) {
        case RMK_NEWLINE_GRID:
            frame_rows += side;
            break;
        case RMK_NEWLINE_FRAME:
            frame_rows += 1;
            break;
        case RMK_NEWLINE_ONE_TOKEN:
            tail_rows = 1;
            break;
        case RMK_NEWLINE_NONE:
            break;
        }
    }
    *out_rows = frame_count * frame_rows + tail_rows;
}

enum rmk_err rmk_grid_plan(const struct rmk_grid_spec *spec, struct rmk_size size,
                           enum rmk_image_mode mode, uint32_t picture_count, uint32_t frame_count,
                           struct rmk_grid *out_grid, struct rmk_why *why)
{
    struct rmk_grid grid = {.mode = mode};
    uint64_t rows = 0;
    enum rmk_err err = RMK_OK;

    rmk_assert(spec->tile > 0);
    rmk_assert(spec->side > 0);
    if (size.width == 0 || size.height == 0) {
        err = rmk_fail(why, RMK_EINVAL, "picture is %ux%u, it needs at least one pixel each way",
                       size.width, size.height);
        goto out;
    }
    if (frame_count == 0) {
        err = rmk_fail(why, RMK_EINVAL, "video has no frames");
        goto out;
    }
    if (mode == RMK_IMAGE_AUTO) {
        grid.mode = picture_count > 1 ? RMK_IMAGE_PAD : spec->aspect;
    }
    switch (grid.mode) {
    case RMK_IMAGE_ANYRES:
        RMK_TRY(plan_anyres(spec, size, &grid, &rows, why));
        break;
    case RMK_IMAGE_PAD:
    case RMK_IMAGE_PAD_BARE:
    case RMK_IMAGE_SQUARE:
    case RMK_IMAGE_SQUARE_BARE:
        plan_single(spec, size, &grid, &rows);
        break;
    case RMK_IMAGE_VIDEO:
        plan_video(spec, frame_count, &grid, &rows);
        break;
    case RMK_IMAGE_AUTO:
        rmk_assert(grid.mode != RMK_IMAGE_AUTO); /* spec->aspect names a mode of its own */
    }
    if (rows > UINT32_MAX) {
        err =
            rmk_fail(why, RMK_EINVAL, "%s would take %llu prompt rows",
                     grid.mode == RMK_IMAGE_VIDEO ? "video" : "picture", (unsigned long long)rows);
        goto out;
    }
    grid.rows = (uint32_t)rows;
    *out_grid = grid;
out:
    return err;
}

/* A cursor over the config's text. */
struct scanner {
    const char *at;
};

static void skip_space(struct scanner *scanner)
{
    while (isspace((unsigned char)*scanner->at)) {
        scanner->at++;
    }
}

static bool at(struct scanner *scanner, char wanted)
{
    skip_space(scanner);
    return *scanner->at == wanted;
}

static bool take(struct scanner *scanner, char wanted)
{
    bool taken = at(scanner, wanted);

    scanner->at += taken;
    return taken;
}

static bool take_number(struct scanner *scanner, uint32_t *out_number)
{
    uint64_t number = 0;
    const char *begin;

    skip_space(scanner);
    begin = scanner->at;
    for (; isdigit((unsigned char)*scanner->at); scanner->at++) {
        number = number * 10 + (uint64_t)(*scanner->at - '0');
        if (number > UINT16_MAX) {
            return false;
        }
    }
    *out_number = (uint32_t)number;
    return scanner->at != begin && number > 0;
}

static enum rmk_err append(struct rmk_grid_spec *spec, uint64_t width, uint64_t height,
                           struct rmk_why *why)
{
    if (spec->pinpoint_count == RMK_PINPOINTS_MAX) {
        return rmk_fail(why, RMK_EINVAL, "image_grid_pinpoints has more than %d entries",
                        RMK_PINPOINTS_MAX);
    }
    if (width > UINT16_MAX || height > UINT16_MAX) {
        return rmk_fail(why, RMK_EINVAL, "image_grid_pinpoints has an entry of %llux%llu pixels",
                        (unsigned long long)width, (unsigned long long)height);
    }
    spec->pinpoints[spec->pinpoint_count++] = (struct rmk_size){(uint32_t)width, (uint32_t)height};
    return RMK_OK;
}

static bool take_factors(struct scanner *scanner, struct rmk_size *out_factors)
{
    return take(scanner, '(') && take_number(scanner, &out_factors->width) && take(scanner, 'x') &&
           take_number(scanner, &out_factors->height) && take(scanner, ')');
}

/* "(1x1),...,(6x6)": the first and the last pair span both ranges; what stands between is only
 * decoration, but must look like it, so that a slip of the pen does not become a grid. */
static enum rmk_err parse_range(struct scanner *scanner, struct rmk_grid_spec *spec,
                                struct rmk_why *why)
{
    struct rmk_size first = {0};
    struct rmk_size last = {0};
    enum rmk_err err = RMK_OK;

    if (!take_factors(scanner, &first)) {
        return rmk_fail(why, RMK_EINVAL, "image_grid_pinpoints does not begin with a pair (AxB)");
    }
    last = first;
    for (;;) {
        while (take(scanner, ',') || take(scanner, '.')) {
        }
        if (at(scanner, '\0')) {
            break;
        }
        if (!take_factors(scanner, &last)) {
            return rmk_fail(why, RMK_EINVAL,
                            "image_grid_pinpoints has something that is no pair (AxB)");
        }
    }
    for (uint64_t i = first.width; i <= last.width; i++) {
        for (uint64_t j = first.height; j <= last.height; j++) {
            RMK_TRY(append(spec, i * spec->tile, j * spec->tile, why));
        }
    }
out:
    return err;
}

/* "[(384, 768), [768, 384]]": a Python literal of pairs in pixels. */
static enum rmk_err parse_literal(struct scanner *scanner, struct rmk_grid_spec *spec,
                                  struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;
    char closing = *scanner->at == '[' ? ']' : ')';

    scanner->at++;
    do {
        struct rmk_size point = {0};
        bool round = take(scanner, '(');
        bool good = (round || take(scanner, '[')) && take_number(scanner, &point.width) &&
                    take(scanner, ',') && take_number(scanner, &point.height) &&
                    take(scanner, round ? ')' : ']');
        if (!good) {
            return rmk_fail(why, RMK_EINVAL,
                            "image_grid_pinpoints has an entry that is no pair of sizes");
        }
        RMK_TRY(append(spec, point.width, point.height, why));
    } while (take(scanner, ',') && !at(scanner, closing));
    if (!take(scanner, closing)) {
        return rmk_fail(why, RMK_EINVAL, "image_grid_pinpoints is not closed by '%c'", closing);
    }
    if (!at(scanner, '\0')) {
        return rmk_fail(why, RMK_EINVAL, "image_grid_pinpoints goes on after its list");
    }
out:
    return err;
}

enum rmk_err rmk_grid_parse_pinpoints(const char *text, struct rmk_grid_spec *spec,
                                      struct rmk_why *why)
{
    struct rmk_grid_spec parsed = *spec;
    struct scanner scanner = {.at = text};
    enum rmk_err err;

    parsed.pinpoint_count = 0;
    if (strchr(text, 'x') != NULL) {
        RMK_TRY(parse_range(&scanner, &parsed, why));
    } else if (at(&scanner, '[') || at(&scanner, '(')) {
        RMK_TRY(parse_literal(&scanner, &parsed, why));
    } else {
        err = rmk_fail(why, RMK_EINVAL, "image_grid_pinpoints is neither a range nor a list");
        goto out;
    }
    for (uint32_t i = 0; i < parsed.pinpoint_count; i++) {
        struct rmk_size point = parsed.pinpoints[i];
        if (point.width % spec->tile != 0 || point.height % spec->tile != 0) {
            err =
                rmk_fail(why, RMK_EINVAL,
                         "image_grid_pinpoints has %ux%u, which is no multiple of the tile size %u",
                         point.width, point.height, spec->tile);
            goto out;
        }
    }
    if (parsed.pinpoint_count == 0) {
        err = rmk_fail(why, RMK_EINVAL, "image_grid_pinpoints is an empty range");
        goto out;
    }
    *spec = parsed;
out:
    return err;
}
