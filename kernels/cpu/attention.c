#include <string.h>

#include "kernels/convert.h"
#include "kernels/cpu/cpu.h"

struct rope_job {
    struct rmk_cpu *cpu;
    const struct rmk_segment *segment;
    void *q;
    const void *k;
    const void *v;
    const float *cos;
    const float *sin;
    const uint32_t *positions;
    size_t heads;
    size_t kv_heads;
    size_t head_width;
    uint32_t step;
};

static void rope_row(const struct rope_job *job, size_t t)
{
    const struct rmk_loops *loops = job->cpu->loops;
    bool bf16 = job->cpu->device.info.act == RMK_BF16;
    size_t bytes = bf16 ? sizeof(uint16_t) : sizeof(float);
    size_t width = job->head_width;
    size_t half = width / 2;
    size_t kv_row = job->kv_heads * width;
    size_t position = job->positions[t];
    const float *cos = job->cos + position * half;
    const float *sin = job->sin + position * half;

    rmk_assert(position < job->segment->kv_count);
    for (size_t head = 0; head < job->heads; head++) {
        size_t place = (t * job->heads + head) * width;
        if (bf16) {
            uint16_t *q = (uint16_t *)job->q + place;
            loops->rope_bf16(q, cos, sin, half, q);
        } else {
            float *q = (float *)job->q + place;
            loops->rope_f32(q, cos, sin, half, q);
        }
    }
    for (size_t head = 0; head < job->kv_heads; head++) {
        size_t source = t * kv_row + head * width;
        size_t target = position * kv_row + head * width;
        if (bf16) {
            loops->rope_bf16((const uint16_t *)job->k + source, cos, sin, half,
                             (uint16_t *)job->segment->k + target);
        } else {
            loops->rope_f32((const float *)job->k + source, cos, sin, half,
                            (float *)job->segment->k + target);
        }
    }
    memcpy((char *)job->segment->v + position * kv_row * bytes,
           (const char *)job->v + t * kv_row * bytes, kv_row * bytes);
}

static void rope_task(void *context, uint32_t task, uint32_t worker)
{
    const struct rope_job *job = context;
    size_t begin = (size_t)task * job->step;
    size_t end = begin + job->step;

    (void)worker;
    end = end < job->segment->row_count ? end : job->segment->row_count;
    for (size_t row = begin; row < end; row++) {
        rope_row(job, job->segment->row_begin + row);
    }
}

enum rmk_err rmk_cpu_rope_kv(struct rmk_device *device, void *q, const void *k, const void *v,
                             const float *cos, const float *sin, const uint32_t *positions_host,
                             const struct rmk_segment *segments_host, uint32_t segment_count,
                             uint32_t heads, uint32_t kv_heads, uint32_t head_width)
{
    struct rope_job job = {
        .cpu = rmk_cpu_of(device),
        .q = q,
        .k = k,
        .v = v,
        .cos = cos,
        .sin = sin,
        .positions = positions_host,
        .heads = heads,
        .kv_heads = kv_heads,
        .head_width = head_width,
        .step = 16,
    };

    rmk_assert(head_width % 2 == 0);
    for (uint32_t s = 0; s < segment_count; s++) {
        job.segment = &segments_host[s];
        double work = (double)job.segment->row_count * (heads + kv_heads) * head_width;
        rmk_cpu_run(job.cpu, rope_task, &job, (job.segment->row_count + 15) / 16, work);
    }
    return RMK_OK;
}

struct attention_job {
    struct rmk_cpu *cpu;
    const void *q;
    void *y;
    const struct rmk_segment *segments;
    uint32_t segment_count;
    uint32_t kv_heads;
    uint32_t group; /* query heads of a key/value head */
    uint32_t head_width;
    uint32_t parts; /* each head's queries are cut into at most so many */
    float scale;
};

static size_t queries_of(const struct attention_job *job, const struct rmk_segment *segment)
{
    return (size_t)segment->row_count * job->group;
}

/* Whole tiles, so that a part costs no more tiles than its share. */
static size_t part_queries(const struct attention_job *job, const struct rmk_segment *segment)
{
    size_t tiles = (queries_of(job, segment) + RMK_ATTEND_ROWS - 1) / RMK_ATTEND_ROWS;

    return (tiles + job->parts - 1) / job->parts * RMK_ATTEND_ROWS;
}

static uint32_t task_count_of(const struct attention_job *job, const struct rmk_segment *segment)
{
    size_t queries = queries_of(job, segment);

    if (queries == 0) {
        return 0;
    }
    size_t part = part_queries(job, segment);
    return (uint32_t)((queries + part - 1) / part) * job->kv_heads;
}

static size_t padded_keys(size_t kv_count)
{
    return (kv_count + RMK_ATTEND_KEYS - 1) / RMK_ATTEND_KEYS * RMK_ATTEND_KEYS;
}

/* One head's keys are far apart, further than the processor foresees, and mostly out of its
 * caches: without this a pack waits for memory at every key. */
static void prefetch_row(const struct rmk_segment *segment, size_t key, size_t row_bytes,
                         size_t begin, size_t bytes)
{
    enum { AHEAD = 8, LINE_BYTES = 64 };
    size_t place = (key + AHEAD) * row_bytes + begin;

    if (key + AHEAD < segment->kv_count) {
        for (size_t i = 0; i < bytes; i += LINE_BYTES) {
            __builtin_prefetch((const char *)segment->k + place + i);
            __builtin_prefetch((const char *)segment->v + place + i);
        }
    }
}

/* See struct rmk_attend_pack. `widen` reads bf16 into an fp32 pack. */
static void pack_f32(const struct attention_job *job, const struct rmk_segment *segment,
                     size_t head, bool widen, struct rmk_cpu_worker *worker)
{
    size_t width = job->head_width;
    size_t value_width = (width + 15) / 16 * 16;
    size_t row = job->kv_heads * width;
    float *k_pack = worker->attend_k;
    float *v_pack = worker->attend_v;
    size_t bytes = widen ? sizeof(uint16_t) : sizeof(float);
    float widened[2][1024];

    rmk_assert(width <= 1024);
    for (size_t key = 0; key < padded_keys(segment->kv_count); key++) {
        float *k_target =
            k_pack + key / RMK_ATTEND_PANEL * RMK_ATTEND_PANEL * width + key % RMK_ATTEND_PANEL;
        float *v_target = v_pack + key * value_width;
        if (key >= segment->kv_count) {
            for (size_t i = 0; i < width; i++) {
                k_target[i * RMK_ATTEND_PANEL] = 0.0F;
            }
            memset(v_target, 0, value_width * sizeof(float));
            continue;
        }
        size_t first = key * row + head * width;
        prefetch_row(segment, key, row * bytes, head * width * bytes, width * bytes);
        const float *k = (const float *)segment->k + first;
        const float *v = (const float *)segment->v + first;
        if (widen) {
            job->cpu->loops->from_bf16((const uint16_t *)segment->k + first, widened[0], width);
            job->cpu->loops->from_bf16((const uint16_t *)segment->v + first, widened[1], width);
            k = widened[0];
            v = widened[1];
        }
        for (size_t i = 0; i < width; i++) {
            k_target[i * RMK_ATTEND_PANEL] = k[i];
        }
        memcpy(v_target, v, width * sizeof(float));
        memset(v_target + width, 0, (value_width - width) * sizeof(float));
    }
}

static void pack_bf16(const struct attention_job *job, const struct rmk_segment *segment,
                      size_t head, struct rmk_cpu_worker *worker)
{
    size_t width = job->head_width;
    size_t pairs = (width + 1) / 2;
    size_t value_width = (width + 15) / 16 * 16;
    size_t row = job->kv_heads * width;
    uint32_t *k_pack = worker->attend_k; /* pairs */
    uint16_t *v_pack = worker->attend_v;

    for (size_t key = 0; key < padded_keys(segment->kv_count); key++) {
        prefetch_row(segment, key, row * sizeof(*v_pack), head * width * sizeof(*v_pack),
                     width * sizeof(*v_pack));
        uint32_t *k_target =
            k_pack + key / RMK_ATTEND_PANEL * RMK_ATTEND_PANEL * pairs + key % RMK_ATTEND_PANEL;
        uint16_t *v_target = v_pack + key / 2 * 2 * value_width + key % 2;
        bool present = key < segment->kv_count;
        size_t first = present ? key * row + head * width : 0;
        const uint16_t *k = (const uint16_t *)segment->k + first;
        const uint16_t *v = (const uint16_t *)segment->v + first;
        for (size_t pair = 0; pair < pairs; pair++) {
            uint32_t low = present ? k[pair * 2] : 0;
            uint32_t high = present && pair * 2 + 1 < width ? k[pair * 2 + 1] : 0;
            k_target[pair * RMK_ATTEND_PANEL] = high << 16 | low;
        }
        for (size_t i = 0; i < value_width; i++) {
            v_target[i * 2] = present && i < width ? v[i] : 0;
        }
    }
}

static void pack(const struct attention_job *job, uint32_t segment, uint32_t head,
                 struct rmk_cpu_worker *worker)
{
    bool bf16 = job->cpu->device.info.act == RMK_BF16;

    if (worker->packed_segment == segment && worker->packed_head == head) {
        return;
    }
    if (bf16 && job->cpu->loops->attend_bf16_packs) {
        pack_bf16(job, &job->segments[segment], head, worker);
    } else {
        pack_f32(job, &job->segments[segment], head, bf16, worker);
    }
    worker->packed_segment = segment;
    worker->packed_head = head;
}

/* Queries [begin, end) of one key/value head: query i is row i % row_count of query head i /
 * row_count of the group. */
static void attend_part(const struct attention_job *job, uint32_t segment_index, uint32_t head,
                        size_t begin, size_t end, struct rmk_cpu_worker *worker)
{
    const struct rmk_segment *segment = &job->segments[segment_index];
    const struct rmk_loops *loops = job->cpu->loops;
    size_t offsets[RMK_ATTEND_ROWS];
    struct rmk_attend_pack packed = {.k = worker->attend_k, .v = worker->attend_v};
    struct rmk_attend_tile tile = {
        .q = job->q,
        .y = job->y,
        .offsets = offsets,
        .head_width = job->head_width,
        .kv_count = segment->kv_count,
        .scale = job->scale,
        .pack = &packed,
        .scratch = worker->attend_scratch,
    };

    pack(job, segment_index, head, worker);
    for (size_t first = begin; first < end; first += RMK_ATTEND_ROWS) {
        tile.rows = (uint32_t)(end - first < RMK_ATTEND_ROWS ? end - first : RMK_ATTEND_ROWS);
        for (uint32_t i = 0; i < tile.rows; i++) {
            size_t query_head = (size_t)head * job->group + (first + i) / segment->row_count;
            size_t t = segment->row_begin + (first + i) % segment->row_count;
            offsets[i] = (t * job->kv_heads * job->group + query_head) * job->head_width;
        }
        if (job->cpu->device.info.act == RMK_BF16) {
            loops->attend_bf16(&tile);
        } else {
            loops->attend_f32(&tile);
        }
    }
}

static void attention_task(void *context, uint32_t task, uint32_t worker)
{
    const struct attention_job *job = context;
    uint32_t segment = 0;

    for (;;) {
        uint32_t tasks = task_count_of(job, &job->segments[segment]);
        if (task < tasks) {
            break;
        }
        task -= tasks;
        segment++;
    }
    size_t queries = queries_of(job, &job->segments[segment]);
    size_t part = part_queries(job, &job->segments[segment]);
    uint32_t parts = (uint32_t)((queries + part - 1) / part);
    size_t begin = task % parts * part;
    size_t end = queries - begin < part ? queries : begin + part;
    attend_part(job, segment, task / parts, begin, end, &job->cpu->workers[worker]);
}

enum rmk_err rmk_cpu_attention(struct rmk_device *device, const void *q,
                               const struct rmk_segment *segments_host, uint32_t segment_count,
                               uint32_t heads, uint32_t kv_heads, uint32_t head_width, float scale,
                               void *y)
{
    struct rmk_cpu *cpu = rmk_cpu_of(device);
    uint32_t tasks = 0;
    double work = 0.0;

    rmk_assert(kv_heads > 0);
    rmk_assert(heads % kv_heads == 0);
    rmk_assert(head_width <= cpu->reserve.head_width_max);
    rmk_assert(scale >= 0.0F); /* the largest product is then the largest score */
    struct attention_job job = {
        .cpu = cpu,
        .q = q,
        .y = y,
        .segments = segments_host,
        .segment_count = segment_count,
        .kv_heads = kv_heads,
        .group = heads / kv_heads,
        .head_width = head_width,
        .scale = scale,
    };
    /* Some tasks for each thread; more would pack the same keys more often. */
    size_t units = (size_t)segment_count * kv_heads;
    job.parts = units == 0 ? 1 : (uint32_t)((4 * (size_t)cpu->worker_count + units - 1) / units);
    for (uint32_t s = 0; s < segment_count; s++) {
        const struct rmk_segment *segment = &segments_host[s];
        rmk_assert(segment->row_count == 0 || segment->kv_count > 0);
        rmk_assert(segment->kv_count <= cpu->reserve.kv_rows_max);
        tasks += task_count_of(&job, segment);
        work += (double)segment->row_count * segment->kv_count * heads * head_width / 8.0;
    }
    for (uint32_t i = 0; i < cpu->worker_count; i++) {
        cpu->workers[i].packed_segment = UINT32_MAX;
    }
    rmk_cpu_run(cpu, attention_task, &job, tasks, work);
    return RMK_OK;
}
