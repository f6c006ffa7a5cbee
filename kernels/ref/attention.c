#include <math.h>
#include <string.h>

#include "kernels/ref/ref.h"

static void rotate(const float *x, const float *cos, const float *sin, uint32_t head_width,
                   float *y)
{
    uint32_t half = head_width / 2;

    for (uint32_t i = 0; i < half; i++) {
        double a = (double)x[i];
        double b = (double)x[i + half];
        y[i] = (float)(a * (double)cos[i] - b * (double)sin[i]);
        y[i + half] = (float)(b * (double)cos[i] + a * (double)sin[i]);
    }
}

enum rmk_err rmk_ref_rope_kv(struct rmk_device *device, void *q, const void *k, const void *v,
                             const float *cos, const float *sin, const uint32_t *positions_host,
                             const struct rmk_segment *segments_host, uint32_t segment_count,
                             uint32_t heads, uint32_t kv_heads, uint32_t head_width)
{
    size_t q_width = (size_t)heads * head_width;
    size_t kv_width = (size_t)kv_heads * head_width;
    size_t half = head_width / 2;

    (void)device;
    rmk_assert(head_width % 2 == 0);
    for (uint32_t s = 0; s < segment_count; s++) {
        const struct rmk_segment *segment = &segments_host[s];
        for (size_t t = segment->row_begin; t < (size_t)segment->row_begin + segment->row_count;
             t++) {
            size_t position = positions_host[t];
            rmk_assert(position < segment->kv_count);
            float *q_row = (float *)q + t * q_width;
            for (size_t head = 0; head < heads; head++) {
                float *pair = q_row + head * head_width;
                rotate(pair, cos + position * half, sin + position * half, head_width, pair);
            }
            const float *k_row = (const float *)k + t * kv_width;
            float *k_target = (float *)segment->k + position * kv_width;
            for (size_t head = 0; head < kv_heads; head++) {
                rotate(k_row + head * head_width, cos + position * half, sin + position * half,
                       head_width, k_target + head * head_width);
            }
            memcpy((float *)segment->v + position * kv_width, (const float *)v + t * kv_width,
                   kv_width * sizeof(float));
        }
    }
    return RMK_OK;
}

/* One query of one head against all keys of its segment. */
static void attend(struct rmk_ref *ref, const float *q, const float *k, const float *v,
                   size_t kv_count, size_t kv_width, size_t head_width, double scale, float *y)
{
    double largest = -INFINITY;
    double total = 0.0;

    for (size_t j = 0; j < kv_count; j++) {
        ref->scores[j] = scale * rmk_ref_dot(q, k + j * kv_width, head_width);
        largest = fmax(largest, ref->scores[j]);
    }
    memset(ref->sums, 0, head_width * sizeof(double));
    for (size_t j = 0; j < kv_count; j++) {
        double weight = exp(ref->scores[j] - largest);
        total += weight;
        for (size_t i = 0; i < head_width; i++) {
            ref->sums[i] += weight * (double)v[j * kv_width + i];
        }
    }
    for (size_t i = 0; i < head_width; i++) {
        y[i] = (float)(ref->sums[i] / total);
    }
}

enum rmk_err rmk_ref_attention(struct rmk_device *device, const void *q,
                               const struct rmk_segment *segments_host, uint32_t segment_count,
                               uint32_t heads, uint32_t kv_heads, uint32_t head_width, float scale,
                               void *y)
{
    struct rmk_ref *ref = rmk_ref_of(device);
    size_t q_width = (size_t)heads * head_width;
    size_t kv_width = (size_t)kv_heads * head_width;

    rmk_assert(kv_heads > 0);
    rmk_assert(heads % kv_heads == 0);
    rmk_assert(head_width <= ref->reserve.head_width_max);
    for (uint32_t s = 0; s < segment_count; s++) {
        const struct rmk_segment *segment = &segments_host[s];
        rmk_assert(segment->row_count == 0 || segment->kv_count > 0);
        rmk_assert(segment->kv_count <= ref->reserve.kv_rows_max);
        for (size_t t = segment->row_begin; t < (size_t)segment->row_begin + segment->row_count;
             t++) {
            for (size_t head = 0; head < heads; head++) {
                size_t place = t * q_width + head * head_width;
                size_t kv_place = head / (heads / kv_heads) * head_width;
                attend(ref, (const float *)q + place, (const float *)segment->k + kv_place,
                       (const float *)segment->v + kv_place, segment->kv_count, kv_width,
                       head_width, (double)scale, (float *)y + place);
            }
        }
    }
    return RMK_OK;
}
