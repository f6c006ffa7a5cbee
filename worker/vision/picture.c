#include "worker/vision/picture.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum rmk_err rmk_picture_init(struct rmk_picture *picture, struct rmk_size size,
                              struct rmk_why *why)
{
    uint64_t bytes = (uint64_t)size.width * size.height * 3;

    rmk_assert(bytes > 0);
    /* calloc, because a large one comes as untouched zero pages: decoders write every byte anyway.
     */
    picture->pixels = calloc(1, bytes + RMK_PICTURE_SLACK);
    if (picture->pixels == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for an image of %ux%u", size.width,
                        size.height);
    }
    picture->size = size;
    return RMK_OK;
}

void rmk_picture_deinit(struct rmk_picture *picture)
{
    free(picture->pixels);
    *picture = (struct rmk_picture){0};
}

enum rmk_err rmk_picture_orient(struct rmk_picture *picture, uint8_t orientation,
                                struct rmk_why *why)
{
    /* What EXIF calls orientation is three bits: which axes are walked backwards, and whether they
     * are exchanged. */
    static const struct {
        bool swap;
        bool back_x;
        bool back_y;
    } moves[] = {
        [1] = {false, false, false}, [2] = {false, true, false}, [3] = {false, true, true},
        [4] = {false, false, true},  [5] = {true, false, false}, [6] = {true, false, true},
        [7] = {true, true, true},    [8] = {true, true, false},
    };
    struct rmk_size source = picture->size;
    struct rmk_size target = source;
    struct rmk_picture upright = {0};
    enum rmk_err err = RMK_OK;

    rmk_assert(orientation >= 1);
    rmk_assert(orientation <= 8);
    if (orientation == 1) {
        goto out;
    }
    if (moves[orientation].swap) {
        target = (struct rmk_size){source.height, source.width};
    }
    RMK_TRY(rmk_picture_init(&upright, target, why));
    for (uint32_t y = 0; y < target.height; y++) {
        uint8_t *row = rmk_picture_row(&upright, y);
        for (uint32_t x = 0; x < target.width; x++) {
            uint32_t from_x = moves[orientation].swap ? y : x;
            uint32_t from_y = moves[orientation].swap ? x : y;
            from_x = moves[orientation].back_x ? source.width - 1 - from_x : from_x;
            from_y = moves[orientation].back_y ? source.height - 1 - from_y : from_y;
            memcpy(row + 3 * (size_t)x, rmk_picture_row(picture, from_y) + 3 * (size_t)from_x, 3);
        }
    }
    rmk_picture_deinit(picture);
    *picture = upright;
out:
    return err;
}
