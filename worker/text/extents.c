#include "worker/text/extents.h"

#include <stdlib.h>
#include <string.h>

enum rmk_err rmk_extents_init(struct rmk_extents *extents, uint32_t row_count, uint32_t count_max,
                              struct rmk_why *why)
{
    *extents = (struct rmk_extents){.row_count = row_count, .count_max = count_max};
    extents->taken = calloc((size_t)count_max + 1, sizeof(struct rmk_extent *));
    return extents->taken != NULL ? RMK_OK : rmk_fail(why, RMK_ELIMIT, "no memory for extents");
}

void rmk_extents_deinit(struct rmk_extents *extents)
{
    free(extents->taken);
    *extents = (struct rmk_extents){0};
}

static uint32_t end_of(const struct rmk_extent *extent)
{
    return extent->begin + extent->count;
}

bool rmk_extents_take(struct rmk_extents *extents, uint32_t count, struct rmk_extent *extent)
{
    uint32_t begin = 0;
    uint32_t place = 0;

    rmk_assert(count > 0);
    for (; place < extents->count && extents->taken[place]->begin - begin < count; place++) {
        begin = end_of(extents->taken[place]);
    }
    if (extents->count == extents->count_max || extents->row_count - begin < count) {
        return false;
    }
    memmove(&extents->taken[place + 1], &extents->taken[place],
            (extents->count - place) * sizeof(struct rmk_extent *));
    *extent = (struct rmk_extent){.begin = begin, .count = count};
    extents->taken[place] = extent;
    extents->count++;
    extents->used += count;
    return true;
}

void rmk_extents_give_back(struct rmk_extents *extents, struct rmk_extent *extent)
{
    uint32_t place = 0;

    if (extent->count == 0) {
        return;
    }
    while (extents->taken[place] != extent) {
        place++;
        rmk_assert(place < extents->count);
    }
    extents->count--;
    extents->used -= extent->count;
    memmove(&extents->taken[place], &extents->taken[place + 1],
            (extents->count - place) * sizeof(struct rmk_extent *));
    *extent = (struct rmk_extent){0};
}

struct rmk_extent *rmk_extents_loose(const struct rmk_extents *extents, uint32_t *out_gap)
{
    uint32_t begin = 0;

    for (uint32_t i = 0; i < extents->count; i++) {
        if (extents->taken[i]->begin > begin) {
            *out_gap = extents->taken[i]->begin - begin;
            return extents->taken[i];
        }
        begin = end_of(extents->taken[i]);
    }
    return NULL;
}
