/* Decodes and tiles one picture file each time a line arrives on standard input, and answers with a
 * line of JSON: milliseconds per stage. bench_preprocess.py drives it turn by turn with Pillow, so
 * that both meet the same machine. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "worker/vision/decode.h"
#include "worker/vision/preprocess.h"

static double now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static enum rmk_err load(const char *path, struct rmk_bytes *out_bytes, struct rmk_why *why)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(RMK_IMAGE_BYTES_MAX);
    enum rmk_err err = RMK_OK;

    if (file == NULL || data == NULL) {
        err = rmk_fail(why, RMK_EIO, "%s: cannot be opened", path);
        free(data);
    } else {
        *out_bytes = rmk_bytes_of(data, fread(data, 1, RMK_IMAGE_BYTES_MAX, file));
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return err;
}

static enum rmk_err run(const struct rmk_grid_spec *spec, struct rmk_bytes bytes,
                        struct rmk_why *why)
{
    struct rmk_picture picture = {0};
    struct rmk_grid grid;
    uint8_t *tiles = NULL;
    float *pixels = NULL;
    double begin = now_ms();
    enum rmk_err err;

    RMK_TRY(rmk_decode(bytes, NULL, &picture, why));
    double decoded = now_ms();
    RMK_TRY(rmk_grid_plan(spec, picture.size, RMK_IMAGE_ANYRES, 1, 1, &grid, why));
    size_t value_count = (size_t)grid.tile_count * spec->tile * spec->tile * 3;
    tiles = malloc(value_count);
    pixels = malloc(value_count * sizeof(*pixels));
    if (tiles == NULL || pixels == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for %u tiles", grid.tile_count);
        goto out;
    }
    RMK_TRY(rmk_preprocess_tiles(&picture, &grid, spec->tile, 0, grid.tile_count, tiles, why));
    double tiled = now_ms();
    rmk_preprocess_normalize(tiles, grid.tile_count, spec->tile, pixels);
    double end = now_ms();

    uint64_t sum = 0; /* over the tiles, for the script to compare */
    for (size_t i = 0; i < value_count; i++) {
        sum = sum * 31 + tiles[i];
    }
    (void)printf("{\"total_ms\":%.3f,\"decode_ms\":%.3f,\"tiles_ms\":%.3f,\"normalize_ms\":%.3f,"
                 "\"tiles\":%u,\"sum\":%llu}\n",
                 end - begin, decoded - begin, tiled - decoded, end - tiled, grid.tile_count,
                 (unsigned long long)sum);
    (void)fflush(stdout);
out:
    rmk_picture_deinit(&picture);
    free(tiles);
    free(pixels);
    return err;
}

int main(int argc, char **argv)
{
    struct rmk_grid_spec spec = {.tile = 384, .patch = 14, .side = 27, .max_factor = 4};
    struct rmk_bytes bytes = {0};
    struct rmk_why why = {0};
    enum rmk_err err = RMK_OK;

    if (argc != 2) {
        (void)fprintf(stderr, "usage: bench-preprocess IMAGE\n");
        return 64;
    }
    RMK_TRY(rmk_grid_parse_pinpoints("(1x1),...,(6x6)", &spec, &why));
    RMK_TRY(load(argv[1], &bytes, &why));
    for (int c = getchar(); c != EOF; c = getchar()) {
        if (c == '\n') {
            RMK_TRY(run(&spec, bytes, &why));
        }
    }
out:
    free((void *)bytes.data);
    if (err != RMK_OK) {
        (void)fprintf(stderr, "bench-preprocess: %s\n", why.text);
    }
    return err != RMK_OK;
}
