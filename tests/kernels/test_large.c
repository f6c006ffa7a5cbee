/* Indices, grids and strides at the size of LLaDA-V 8B with 64 requests of 3039 rows, where 32 bits
 * no longer hold an element's place. Results are checked at a few rows by plain arithmetic here:
 * what an index that wraps gives is not near them. $RMK_TEST_LARGE=1 takes the full size, which
 * needs a GPU of 60 GB; otherwise the same goes through in small. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"
#include "kernels/convert.h"
#include "model/dummy.h"

static struct {
    uint32_t rows; /* of all requests in one step */
    uint32_t width;
    uint32_t ff;
    uint32_t vocab;
    uint32_t reads;
    uint32_t requests; /* of attention */
    uint32_t keys;
    uint32_t heads;
    uint32_t head_width;
} size;

enum { TABLE = 1, UP, DOWN, HEAD }; /* seeds of dummy tensors */

static int choose_size(void **state)
{
    const char *large = getenv("RMK_TEST_LARGE");

    (void)state;
    if (large != NULL && strcmp(large, "1") == 0) {
        size.rows = 64 * 3040;
        size.width = 4096;
        size.ff = 12288;
        size.vocab = 126464;
        size.reads = 1024;
        size.requests = 16;
        size.keys = 3039;
        size.heads = 32;
        size.head_width = 128;
    } else {
        size.rows = 150;
        size.width = 64;
        size.ff = 96;
        size.vocab = 500;
        size.reads = 9;
        size.requests = 3;
        size.keys = 70;
        size.heads = 2;
        size.head_width = 32;
    }
    return 0;
}

/* -- dummy tensors on both sides
 * --------------------------------------------------------------------- */

static void *take(struct pair *pair, size_t bytes)
{
    struct rmk_why why = {0};
    void *memory = NULL;

    if (pair->device->ops->alloc(pair->device, bytes, &memory, &why) != RMK_OK) {
        fail_msg("%s", why.text);
    }
    return memory;
}

/* bf16 [rows, columns]: on the device; for devices of the host that is here. */
static uint16_t *dummy_tensor(struct pair *pair, uint64_t seed, uint32_t rows, uint32_t columns)
{
    const size_t count = (size_t)rows * columns;
    uint16_t *values = take(pair, count * sizeof(*values));

    if (pair->device->ops->dummy != NULL) {
        CHECK(pair->device->ops->dummy(pair->device, seed, 0, columns, rows, columns, values));
        return values;
    }
    for (size_t i = 0; i < count; i++) {
        values[i] = rmk_dummy_bits(seed, i);
    }
    return values;
}

static struct rmk_linear *dummy_linear(struct pair *pair, uint64_t seed, uint32_t n, uint32_t k)
{
    const bool on_device = pair->device->ops->dummy != NULL;
    uint16_t *values = dummy_tensor(pair, seed, n, k);
    struct rmk_linear *linear = NULL;
    const struct rmk_linear_source source = {.weight_host = on_device ? NULL : values,
                                             .weight_device = on_device ? values : NULL,
                                             .dtype = RMK_BF16,
                                             .ld = k,
                                             .n = n,
                                             .k = k};

    CHECK(pair->device->ops->linear_create(pair->device, &source, &linear, NULL));
    CHECK(pair->device->ops->synchronize(pair->device, NULL));
    pair->device->ops->free(pair->device, values);
    return linear;
}

static double weight(uint64_t seed, uint64_t row, uint32_t columns, uint64_t column)
{
    return (double)rmk_dummy_f32(seed, row * columns + column);
}

/* Row `i` of a step is row `id_of(i)` of the table. */
static int32_t id_of(uint32_t i)
{
    return (int32_t)((uint64_t)i * 40503 % size.vocab);
}

static float *embedded(struct pair *pair, const uint16_t *table, uint32_t rows)
{
    int32_t *ids = malloc(rows * sizeof(*ids));
    float *x = take(pair, (size_t)rows * size.width * sizeof(*x));

    assert_non_null(ids);
    for (uint32_t i = 0; i < rows; i++) {
        ids[i] = id_of(i);
    }
    CHECK(pair->device->ops->embed(pair->device, table, RMK_BF16, 0, size.vocab, size.width, ids,
                                   rows, x));
    free(ids);
    return x;
}

static void near(const struct pair *pair, const char *what, uint32_t row, uint32_t column,
                 double got, double want, double largest)
{
    /* Roundings of a few ops in the compute type; a wrong element is off by about the largest. */
    const double tolerance = (pair->act == RMK_F32 ? 1e-4 : 3e-2) * largest;

    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("%s: row %u, column %u: %.6g, should be %.6g (largest %.3g)", what, row, column,
                 got, want, largest);
    }
}

/* -- a layer's rows
 * ---------------------------------------------------------------------------------- */

static void normed_row(uint32_t row, double *out)
{
    double squares = 0;

    for (uint32_t i = 0; i < size.width; i++) {
        out[i] = weight(TABLE, (uint64_t)id_of(row), size.width, i);
        squares += out[i] * out[i];
    }
    for (uint32_t i = 0; i < size.width; i++) {
        out[i] /= sqrt(squares / size.width + 1e-5);
    }
}

static void check_feed_forward(const struct pair *pair, uint32_t row, const float *got)
{
    enum { COLUMNS = 5 };
    double *normed = malloc(size.width * sizeof(*normed));
    double *hidden = malloc(size.ff * sizeof(*hidden));
    double largest = 0;
    double want[COLUMNS];
    uint32_t columns[COLUMNS] = {0, 1, size.width / 2, size.width - 2, size.width - 1};

    assert_non_null(normed);
    assert_non_null(hidden);
    normed_row(row, normed);
    for (uint32_t f = 0; f < size.ff; f++) {
        double gate = 0;
        double up = 0;
        for (uint32_t i = 0; i < size.width; i++) {
            gate += normed[i] * weight(UP, f, size.width, i);
            up += normed[i] * weight(UP, (uint64_t)size.ff + f, size.width, i);
        }
        hidden[f] = gate / (1 + exp(-gate)) * up;
    }
    for (uint32_t c = 0; c < COLUMNS; c++) {
        want[c] = 0;
        for (uint32_t f = 0; f < size.ff; f++) {
            want[c] += hidden[f] * weight(DOWN, columns[c], size.ff, f);
        }
    }
    for (uint32_t i = 0; i < size.width; i++) {
        largest = fmax(largest, fabs((double)got[i]));
    }
    for (uint32_t c = 0; c < COLUMNS; c++) {
        near(pair, "feed-forward", row, columns[c], (double)got[columns[c]], want[c], largest);
    }
    free(normed);
    free(hidden);
}

static void rows_body(struct pair *pair)
{
    struct rmk_device *device = pair->device;
    const struct rmk_ops *ops = device->ops;
    const size_t act = rmk_convert_bytes(pair->act);
    const uint32_t checked[] = {0, size.rows / 2 + 1, size.rows - 1};
    float *ones = malloc(size.width * sizeof(*ones));
    float *row = malloc(size.width * sizeof(*row));

    assert_non_null(ones);
    assert_non_null(row);
    reserve(pair, &(struct rmk_reserve){
                      .rows_max = size.rows, .inner_max = size.ff, .outer_max = 2 * size.ff});
    uint16_t *table = dummy_tensor(pair, TABLE, size.vocab, size.width);
    float *x = embedded(pair, table, size.rows);
    float *w = take(pair, size.width * sizeof(*w));
    for (uint32_t i = 0; i < size.width; i++) {
        ones[i] = 1.0F;
    }
    CHECK(ops->upload(device, w, ones, size.width * sizeof(*w)));
    void *normed = take(pair, size.rows * size.width * act);
    CHECK(ops->rmsnorm(device, x, NULL, w, 1e-5F, normed, size.rows, size.width));
    struct rmk_linear *up = dummy_linear(pair, UP, 2 * size.ff, size.width);
    void *gate_up = take(pair, (size_t)size.rows * 2 * size.ff * act);
    CHECK(ops->linear(device, up, normed, size.rows, gate_up, pair->act));
    void *hidden = take(pair, (size_t)size.rows * size.ff * act);
    CHECK(ops->swiglu(device, gate_up, hidden, size.rows, size.ff));
    struct rmk_linear *down = dummy_linear(pair, DOWN, size.width, size.ff);
    CHECK(ops->linear(device, down, hidden, size.rows, x, RMK_F32));
    for (size_t i = 0; i < sizeof(checked) / sizeof(checked[0]); i++) {
        CHECK(ops->download(device, row, x + (size_t)checked[i] * size.width,
                            size.width * sizeof(*row)));
        check_feed_forward(pair, checked[i], row);
    }
    ops->linear_destroy(device, up);
    ops->linear_destroy(device, down);
    void *const memory[] = {table, x, w, normed, gate_up, hidden};
    for (size_t i = 0; i < sizeof(memory) / sizeof(memory[0]); i++) {
        ops->free(device, memory[i]);
    }
    free(ones);
    free(row);
}

static void a_layers_rows_are_right_from_the_first_to_the_last(void **state)
{
    (void)state;
    for_each_act(rows_body);
}

/* -- attention
 * --------------------------------------------------------------------------------------- */

static void check_attention(const struct pair *pair, uint32_t request, uint32_t query,
                            uint32_t head, const float *got)
{
    const uint32_t first = request * size.keys;
    const uint64_t begin = (uint64_t)head * size.head_width;
    double *scores = malloc(size.keys * sizeof(*scores));
    double sum = 0;
    double largest = 0;

    assert_non_null(scores);
    for (uint32_t key = 0; key < size.keys; key++) {
        scores[key] = 0;
        for (uint32_t i = 0; i < size.head_width; i++) {
            scores[key] += weight(TABLE, (uint64_t)id_of(first + query), size.width, begin + i) *
                           weight(TABLE, (uint64_t)id_of(first + key), size.width, begin + i);
        }
        scores[key] = exp(100 * scores[key]);
        sum += scores[key];
    }
    for (uint32_t i = 0; i < size.head_width; i++) {
        largest = fmax(largest, fabs((double)got[begin + i]));
    }
    for (uint32_t i = 0; i < size.head_width; i += size.head_width / 4) {
        double want = 0;
        for (uint32_t key = 0; key < size.keys; key++) {
            want += scores[key] / sum *
                    weight(TABLE, (uint64_t)id_of(first + key), size.width, begin + i);
        }
        near(pair, "attention", first + query, (uint32_t)begin + i, (double)got[begin + i], want,
             largest);
    }
    free(scores);
}

static void attention_body(struct pair *pair)
{
    struct rmk_device *device = pair->device;
    const struct rmk_ops *ops = device->ops;
    const size_t act = rmk_convert_bytes(pair->act);
    const uint32_t rows = size.requests * size.keys;
    struct rmk_segment *segments = calloc(size.requests, sizeof(*segments));
    uint8_t *raw = malloc(size.width * act);
    float *row = malloc(size.width * sizeof(*row));

    assert_non_null(segments);
    assert_non_null(raw);
    assert_non_null(row);
    reserve(pair, &(struct rmk_reserve){.rows_max = rows,
                                        .kv_rows_max = size.keys,
                                        .heads_max = size.heads,
                                        .head_width_max = size.head_width});
    uint16_t *table = dummy_tensor(pair, TABLE, size.vocab, size.width);
    float *x = embedded(pair, table, rows);
    uint8_t *q = take(pair, rows * size.width * act);
    uint8_t *y = take(pair, rows * size.width * act);
    CHECK(ops->cast(device, x, q, (size_t)rows * size.width));
    for (uint32_t r = 0; r < size.requests; r++) {
        segments[r] = (struct rmk_segment){.row_begin = r * size.keys,
                                           .row_count = size.keys,
                                           .kv_count = size.keys,
                                           .k = q + (size_t)r * size.keys * size.width * act,
                                           .v = q + (size_t)r * size.keys * size.width * act};
    }
    CHECK(ops->attention(device, q, segments, size.requests, size.heads, size.heads,
                         size.head_width, 100.0F, y));
    for (uint32_t last = 0; last < 2; last++) {
        const uint32_t request = last * (size.requests - 1);
        const uint32_t query = last * (size.keys - 1);
        CHECK(ops->download(device, raw,
                            y + ((size_t)request * size.keys + query) * size.width * act,
                            size.width * act));
        for (uint32_t i = 0; i < size.width; i++) {
            row[i] = rmk_convert_get(raw, pair->act, i);
        }
        check_attention(pair, request, query, 0, row);
        check_attention(pair, request, query, size.heads - 1, row);
    }
    void *const memory[] = {table, x, q, y};
    for (size_t i = 0; i < sizeof(memory) / sizeof(memory[0]); i++) {
        ops->free(device, memory[i]);
    }
    free(segments);
    free(raw);
    free(row);
}

static void attention_is_right_in_the_first_and_the_last_request(void **state)
{
    (void)state;
    for_each_act(attention_body);
}

/* -- the head
 * ----------------------------------------------------------------------------------------- */

static void check_head(const struct pair *pair, uint32_t row, const struct rmk_head_result *got)
{
    double *normed = malloc(size.width * sizeof(*normed));
    double chosen = NAN;
    double max = -INFINITY;
    double sum = 0;

    assert_non_null(normed);
    normed_row(row, normed);
    for (uint32_t id = 0; id < size.vocab; id++) {
        double logit = 0;
        for (uint32_t i = 0; i < size.width; i++) {
            logit += normed[i] * weight(HEAD, id, size.width, i);
        }
        chosen = got->token == (int32_t)id ? logit : chosen;
        sum = logit > max ? sum * exp(max - logit) + 1 : sum + exp(logit - max);
        max = logit > max ? logit : max;
    }
    near(pair, "head: best logit", row, (uint32_t)got->token, got->logit, max, max);
    near(pair, "head: logit of the choice", row, (uint32_t)got->token, chosen, max, max);
    near(pair, "head: log-sum-exp", row, 0, got->max + log(got->sum), max + log(sum), max);
    free(normed);
}

static void head_body(struct pair *pair)
{
    struct rmk_device *device = pair->device;
    const struct rmk_ops *ops = device->ops;
    struct rmk_head_row *rows = calloc(size.reads, sizeof(*rows));
    struct rmk_head_result *results = calloc(size.reads, sizeof(*results));
    float *ones = malloc(size.width * sizeof(*ones));

    assert_non_null(rows);
    assert_non_null(results);
    assert_non_null(ones);
    reserve(pair, &(struct rmk_reserve){.rows_max = size.reads,
                                        .inner_max = size.width,
                                        .head_rows_max = size.reads,
                                        .vocab = size.vocab});
    uint16_t *table = dummy_tensor(pair, TABLE, size.vocab, size.width);
    float *x = embedded(pair, table, size.reads);
    float *w = take(pair, size.width * sizeof(*w));
    void *normed = take(pair, size.reads * size.width * rmk_convert_bytes(pair->act));
    for (uint32_t i = 0; i < size.width; i++) {
        ones[i] = 1.0F;
    }
    CHECK(ops->upload(device, w, ones, size.width * sizeof(*w)));
    CHECK(ops->rmsnorm(device, x, NULL, w, 1e-5F, normed, size.reads, size.width));
    struct rmk_linear *head = dummy_linear(pair, HEAD, size.vocab, size.width);
    CHECK(ops->head(device, head, normed, NULL, size.reads, 0, size.vocab, NULL, 0, rows, results));
    check_head(pair, 0, &results[0]);
    check_head(pair, size.reads - 1, &results[size.reads - 1]);
    ops->linear_destroy(device, head);
    void *const memory[] = {table, x, w, normed};
    for (size_t i = 0; i < sizeof(memory) / sizeof(memory[0]); i++) {
        ops->free(device, memory[i]);
    }
    free(rows);
    free(results);
    free(ones);
}

static void the_head_is_right_over_the_whole_vocabulary(void **state)
{
    (void)state;
    for_each_act(head_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layers_rows_are_right_from_the_first_to_the_last),
        cmocka_unit_test(attention_is_right_in_the_first_and_the_last_request),
        cmocka_unit_test(the_head_is_right_over_the_whole_vocabulary),
    };
    return cmocka_run_group_tests(tests, choose_size, NULL);
}
