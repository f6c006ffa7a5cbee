/* tables/: grid arithmetic, quota schedule, and single operations through the backend's op table. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/engine/denoise.h"
#include "model/grid.h"
#include "model/safetensors.h"
#include "tests/golden/tool/cases.h"
#include "tests/golden/tool/files.h"
#include "worker/text/rope.h"

static uint32_t u32(const json_t *object, const char *key)
{
    return (uint32_t)json_integer_value(json_object_get(object, key));
}

static bool grid_row_matches(const struct rmk_grid_spec *spec, const json_t *row)
{
    const json_t *box = json_object_get(row, "paste_box");
    struct rmk_grid grid;
    const struct rmk_size size = {.width = u32(row, "W"), .height = u32(row, "H")};

    if (rmk_grid_plan(spec, size, RMK_IMAGE_ANYRES, 1, 1, &grid, NULL) != RMK_OK) {
        return false;
    }
    bool same = grid.resolution.width == u32(row, "res_w") && grid.resolution.height == u32(row, "res_h") &&
                grid.grid_width == u32(row, "grid_w") && grid.grid_height == u32(row, "grid_h") &&
                grid.unpadded.width == u32(row, "unpad_w") && grid.unpadded.height == u32(row, "unpad_h") &&
                grid.map.width == u32(row, "out_w") && grid.map.height == u32(row, "out_h") &&
                grid.rows == u32(row, "image_rows") &&
                grid.times == json_number_value(json_object_get(row, "times"));
    if (json_is_array(box)) {
        same = same && json_integer_value(json_array_get(box, 0)) == grid.paste_x &&
               json_integer_value(json_array_get(box, 1)) == grid.paste_y;
    }
    return same;
}

static void run_grid(struct report *report, const json_t *rows)
{
    struct rmk_grid_spec spec = {
        .tile = 384, .patch = 14, .side = 27, .max_factor = 4, .aspect = RMK_IMAGE_ANYRES, .merge = RMK_MERGE_SPATIAL_UNPAD};
    size_t good = 0;

    if (rmk_grid_parse_pinpoints("(1x1),...,(6x6)", &spec, NULL) != RMK_OK) {
        report_failed(report, "tables/grid384", "pinpoints", "the string form is not read");
        return;
    }
    for (size_t i = 0; i < json_array_size(rows); i++) {
        good += grid_row_matches(&spec, json_array_get(rows, i));
    }
    report_exact(report, "tables/grid384", "geometry", good > 0 && good == json_array_size(rows), "%zu of %zu sizes identical",
                 good, json_array_size(rows));
}

static void run_schedule(struct report *report, const json_t *rows)
{
    size_t good = 0;

    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const json_t *k = json_object_get(row, "k");
        bool same = json_array_size(k) > 0;
        for (uint32_t step = 0; step < json_array_size(k); step++) {
            same = same && rmk_denoise_quota(u32(row, "masks"), u32(row, "steps"), step) ==
                               json_integer_value(json_array_get(k, step));
        }
        good += same;
    }
    report_exact(report, "tables/schedule", "quota", good > 0 && good == json_array_size(rows), "%zu of %zu schedules identical",
                 good, json_array_size(rows));
}

/* ---- single operations ------------------------------------------------------------------------------------------- */

static const float *floats(const struct rmk_checkpoint *file, const char *name, size_t *out_count)
{
    const struct rmk_tensor *tensor = rmk_checkpoint_find(file, name);

    if (tensor == NULL || tensor->dtype != RMK_F32) {
        return NULL;
    }
    *out_count = tensor->bytes / sizeof(float);
    return tensor->data;
}

/* Channel-first [1, 3, h, w] of the file against our channel-last maps. */
static void run_bilinear(struct report *report, struct rmk_device *device, const struct rmk_checkpoint *file, const json_t *entry)
{
    const uint32_t h = u32(entry, "h");
    const uint32_t w = u32(entry, "w");
    const uint32_t oh = u32(entry, "oh");
    const uint32_t ow = u32(entry, "ow");
    char name[64];
    size_t count = 0;

    (void)snprintf(name, sizeof(name), "in%u", u32(entry, "k"));
    const float *input = floats(file, name, &count);
    (void)snprintf(name, sizeof(name), "out%u_f32", u32(entry, "k"));
    const float *want = floats(file, name, &count);
    if (input == NULL || want == NULL) {
        report_failed(report, "tables/ops", name, "the tensor is missing");
        return;
    }
    float *in = malloc((size_t)h * w * 3 * sizeof(float));
    float *out = malloc((size_t)oh * ow * 3 * sizeof(float));
    float *planar = malloc((size_t)oh * ow * 3 * sizeof(float));
    rmk_assert(in != NULL && out != NULL && planar != NULL);
    for (size_t c = 0; c < 3; c++) {
        for (size_t i = 0; i < (size_t)h * w; i++) {
            in[i * 3 + c] = input[c * h * w + i];
        }
    }
    enum rmk_err err = device->ops->bilinear(device, in, h, w, (uint64_t)w * 3, out, oh, ow, (uint64_t)ow * 3, 3);
    for (size_t c = 0; c < 3; c++) {
        for (size_t i = 0; i < (size_t)oh * ow; i++) {
            planar[c * oh * ow + i] = out[i * 3 + c];
        }
    }
    if (err == RMK_OK) {
        /* The reference computes source coordinates in fp32: near 25 a unit in the last place is 2e-6, and a fraction off by
         * that much moves a mean of values 3 apart by 6e-6 (seen: 4.8e-6). A wrong neighbour is off by 1e-1. */
        (void)report_floats(report, "tables/ops", name, planar, want, (size_t)oh * ow * 3, 1e-5);
    } else {
        report_failed(report, "tables/ops", name, "the device failed");
    }
    free(in);
    free(out);
    free(planar);
}

static void run_gelu(struct report *report,
                     struct rmk_device *device,
                     const struct rmk_checkpoint *file,
                     const char *name,
                     enum rmk_gelu kind)
{
    size_t count = 0;
    const float *input = floats(file, "act_in", &count);
    const float *want = floats(file, name, &count);

    if (input == NULL || want == NULL) {
        report_failed(report, "tables/ops", name, "the tensor is missing");
        return;
    }
    float *x = malloc(count * sizeof(float));
    rmk_assert(x != NULL);
    memcpy(x, input, count * sizeof(float));
    (void)device->ops->gelu(device, x, count, kind);
    /* Vectorised erf and tanh are good to about 1e-6 relative; inputs reach 10. */
    (void)report_floats(report, "tables/ops", name, x, want, count, 1e-5);
    free(x);
}

static void run_silu(struct report *report, struct rmk_device *device, const struct rmk_checkpoint *file)
{
    size_t count = 0;
    const float *input = floats(file, "act_in", &count);
    const float *want = floats(file, "silu", &count);

    if (input == NULL || want == NULL) {
        report_failed(report, "tables/ops", "silu", "the tensor is missing");
        return;
    }
    float *gate_up = malloc(2 * count * sizeof(float));
    float *y = malloc(count * sizeof(float));
    rmk_assert(gate_up != NULL && y != NULL);
    for (size_t i = 0; i < count; i++) { /* one row: gates, then ones */
        gate_up[i] = input[i];
        gate_up[count + i] = 1.0f;
    }
    (void)device->ops->swiglu(device, gate_up, y, 1, (uint32_t)count);
    (void)report_floats(report, "tables/ops", "silu", y, want, count, 1e-5); /* exp to about 1e-6 relative */
    free(gate_up);
    free(y);
}

static void run_rmsnorm(struct report *report, struct rmk_device *device, const struct rmk_checkpoint *file)
{
    size_t count = 0;
    size_t width = 0;
    const float *input = floats(file, "rms_in", &count);
    const float *want = floats(file, "rms_out", &count);
    const float *weight = floats(file, "rms_weight", &width);

    if (input == NULL || want == NULL || weight == NULL) {
        report_failed(report, "tables/ops", "rms", "a tensor is missing");
        return;
    }
    float *x = malloc(count * sizeof(float));
    float *y = malloc(count * sizeof(float));
    rmk_assert(x != NULL && y != NULL);
    memcpy(x, input, count * sizeof(float));
    (void)device->ops->rmsnorm(device, x, NULL, weight, 1e-5f, y, (uint32_t)(count / width), (uint32_t)width);
    (void)report_floats(report, "tables/ops", "rms", y, want, count, 1e-5); /* the mean's order of summation */
    free(x);
    free(y);
}

static void run_rope(struct report *report, const struct rmk_checkpoint *file, double theta, uint32_t head_width)
{
    const struct rmk_tensor *positions = rmk_checkpoint_find(file, "rope_positions");
    char name[64];
    size_t count = 0;

    (void)snprintf(name, sizeof(name), "rope_%.0f_%u_cos", theta, head_width);
    const float *want_cos = floats(file, name, &count);
    (void)snprintf(name, sizeof(name), "rope_%.0f_%u_sin", theta, head_width);
    const float *want_sin = floats(file, name, &count);
    if (positions == NULL || want_cos == NULL || want_sin == NULL) {
        return; /* this file has other sizes */
    }
    const uint32_t half = head_width / 2;
    int64_t *at = malloc(positions->bytes + 1); /* a copy: views of a file need not be aligned */
    uint32_t rows = 0;
    rmk_assert(at != NULL);
    memcpy(at, positions->data, positions->bytes);
    for (uint64_t i = 0; i < positions->shape[0]; i++) {
        rows = at[i] >= rows ? (uint32_t)at[i] + 1 : rows;
    }
    const struct rmk_text_spec spec = {.head_width = head_width, .rope_theta = theta};
    float *cos_table = malloc((size_t)rows * half * sizeof(float));
    float *sin_table = malloc((size_t)rows * half * sizeof(float));
    rmk_assert(cos_table != NULL && sin_table != NULL);
    rmk_rope_tables(&spec, rows, 0, rows, cos_table, sin_table);
    bool good = true;
    for (uint64_t i = 0; i < positions->shape[0]; i++) {
        for (uint32_t k = 0; k < half; k++) {
            /* Angles are bit-exact; cos and sin of another libm may differ in the last place. */
            good = good && fabsf(cos_table[(size_t)at[i] * half + k] - want_cos[i * half + k]) <= 1.2e-7f &&
                   fabsf(sin_table[(size_t)at[i] * half + k] - want_sin[i * half + k]) <= 1.2e-7f;
        }
    }
    report_exact(report, "tables/ops", name, good, "%llu positions within one unit in the last place",
                 (unsigned long long)positions->shape[0]);
    free(cos_table);
    free(sin_table);
    free(at);
}

static void run_ops(struct report *report, const char *root, const struct settings *settings)
{
    const struct rmk_device_options options = {.backend = settings->backend, .act = RMK_F32, .threads = 1};
    struct rmk_checkpoint *file = NULL;
    struct rmk_device *device = NULL;
    struct rmk_why why = {0};
    char path[2048];
    json_t *list = NULL;

    (void)snprintf(path, sizeof(path), "%s/tables/ops.safetensors", root);
    list = file_json(&why, "%s/tables/ops.json", root);
    if (list == NULL || rmk_checkpoint_open_file(path, &file, &why) != RMK_OK ||
        rmk_device_create(&options, &device, &why) != RMK_OK) {
        report_failed(report, "tables/ops", "open", "%s", why.text);
        goto out;
    }
    const json_t *bilinear = json_object_get(list, "bilinear");
    for (size_t i = 0; i < json_array_size(bilinear); i++) {
        run_bilinear(report, device, file, json_array_get(bilinear, i));
    }
    run_gelu(report, device, file, "gelu_erf", RMK_GELU_ERF);
    run_gelu(report, device, file, "gelu_tanh", RMK_GELU_TANH);
    run_silu(report, device, file);
    run_rmsnorm(report, device, file);
    run_rope(report, file, 500000, 128);
    run_rope(report, file, 500000, 16);
    run_rope(report, file, 10000, 64);
out:
    if (device != NULL) {
        rmk_device_destroy(device);
    }
    rmk_checkpoint_close(file);
    json_decref(list);
}

void cases_tables(struct report *report, const char *root, const struct settings *settings)
{
    struct rmk_why why = {0};

    if (file_exists("%s/tables/grid384.json", root)) {
        json_t *grid = file_json(&why, "%s/tables/grid384.json", root);
        run_grid(report, grid);
        json_decref(grid);
    }
    if (file_exists("%s/tables/schedule.json", root)) {
        json_t *schedule = file_json(&why, "%s/tables/schedule.json", root);
        run_schedule(report, schedule);
        json_decref(schedule);
    }
    if (file_exists("%s/tables/ops.json", root)) {
        run_ops(report, root, settings);
    }
}
