#include "tests/company/spy.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"

enum { SPIES_MAX = 4 };

/* By device; filled while one thread runs. */
static struct spy *spies[SPIES_MAX];

static struct spy *spy_of(const struct rmk_device *device)
{
    for (unsigned i = 0; i < SPIES_MAX; i++) {
        if (spies[i] != NULL && spies[i]->device == device) {
            return spies[i];
        }
    }
    rmk_assert(false);
    return NULL;
}

static void note_difference(struct spy *spy, const struct rmk_head_row *row, const char *what,
                            double by)
{
    if (spy->differing++ == 0) {
        (void)snprintf(spy->first, sizeof(spy->first),
                       "request %" PRIu64 ", forward %" PRIu64 ", position %u: %s differs by %g",
                       row->seed - SPY_SEED, row->forward, row->position, what, by);
    }
}

static void see(struct spy *spy, const struct rmk_head_row *row,
                const struct rmk_head_result *result, const float *conditional,
                const float *unconditional, size_t n)
{
    size_t count = unconditional == NULL ? n : 2 * n;
    uint64_t request = row->seed - SPY_SEED;

    rmk_assert(request < SPY_REQUESTS_MAX);
    rmk_assert(row->forward < SPY_FORWARDS_MAX);
    rmk_assert(row->position < SPY_POSITIONS_MAX);
    struct spy_sight *sight = &spy->sights[request][row->forward][row->position];
    if (spy->recording) {
        rmk_assert(sight->logits == NULL);
        sight->logits = malloc(count * sizeof(*sight->logits));
        rmk_assert(sight->logits != NULL);
        memcpy(sight->logits, conditional, n * sizeof(*sight->logits));
        if (unconditional != NULL) {
            memcpy(sight->logits + n, unconditional, n * sizeof(*sight->logits));
        }
        sight->result = *result;
        return;
    }
    spy->compared++;
    sight->again = true;
    if (sight->logits == NULL) {
        note_difference(spy, row, "it was not read when alone: everything", INFINITY);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        float now = i < n ? conditional[i] : unconditional[i - n];
        if (memcmp(&now, &sight->logits[i], sizeof(now)) != 0) {
            note_difference(spy, row, i < n ? "a logit" : "a logit without the prompt",
                            fabs((double)now - (double)sight->logits[i]));
            break;
        }
    }
    if (result->token != sight->result.token || result->best != sight->result.best ||
        result->logit != sight->result.logit || result->max != sight->result.max ||
        result->sum != sight->result.sum || result->nonfinite != sight->result.nonfinite) {
        note_difference(spy, row, "the head's maximum, choice or sum",
                        fabs(result->sum - sight->result.sum));
    }
}

static enum rmk_err head(struct rmk_device *device, const struct rmk_linear *layer, const void *x,
                         const void *x_uncond, uint32_t m, uint32_t vocab_begin, uint32_t vocab_all,
                         const int32_t *suppressed, uint32_t suppressed_count,
                         const struct rmk_head_row *rows, struct rmk_head_result *results)
{
    struct spy *spy = spy_of(device);
    const size_t n = spy->columns;
    void *logits = NULL;
    void *uncond = NULL;
    enum rmk_err err;

    RMK_TRY(spy->real->head(device, layer, x, x_uncond, m, vocab_begin, vocab_all, suppressed,
                            suppressed_count, rows, results));
    RMK_TRY(spy->real->alloc(device, (m * n + 1) * sizeof(float), &logits, NULL));
    RMK_TRY(spy->real->linear(device, layer, x, m, logits, RMK_F32));
    if (x_uncond != NULL) {
        RMK_TRY(spy->real->alloc(device, (m * n + 1) * sizeof(float), &uncond, NULL));
        RMK_TRY(spy->real->linear(device, layer, x_uncond, m, uncond, RMK_F32));
    }
    for (uint32_t i = 0; i < m; i++) {
        const float *row = (const float *)logits + i * n;
        /* The witness is one: the head chose from these very numbers. */
        rmk_assert(x_uncond != NULL || results[i].token < 0 ||
                   results[i].logit == (double)row[(uint32_t)results[i].token - vocab_begin]);
        see(spy, &rows[i], &results[i], row, uncond == NULL ? NULL : (const float *)uncond + i * n,
            n);
    }
out:
    if (logits != NULL) {
        spy->real->free(device, logits);
    }
    if (uncond != NULL) {
        spy->real->free(device, uncond);
    }
    return err;
}

struct spy *spy_create(struct rmk_device *device, uint32_t columns)
{
    struct spy *spy = calloc(1, sizeof(*spy));
    unsigned place = 0;

    rmk_assert(spy != NULL);
    while (spies[place] != NULL) {
        place++;
        rmk_assert(place < SPIES_MAX);
    }
    spy->device = device;
    spy->columns = columns;
    spy->real = device->ops;
    spy->ops = *device->ops;
    spy->ops.head = head;
    spy->recording = true;
    device->ops = &spy->ops;
    spies[place] = spy;
    return spy;
}

void spy_destroy(struct spy *spy)
{
    struct spy_sight *sights = &spy->sights[0][0][0];

    for (size_t i = 0; i < sizeof(spy->sights) / sizeof(*sights); i++) {
        free(sights[i].logits);
    }
    for (unsigned i = 0; i < SPIES_MAX; i++) {
        if (spies[i] == spy) {
            spies[i] = NULL;
        }
    }
    spy->device->ops = spy->real;
    free(spy);
}

void spy_compare(struct spy *spy)
{
    struct spy_sight *sights = &spy->sights[0][0][0];

    for (size_t i = 0; i < sizeof(spy->sights) / sizeof(*sights); i++) {
        sights[i].again = false;
    }
    spy->recording = false;
    spy->compared = 0;
    spy->differing = 0;
}

uint64_t spy_missing(const struct spy *spy)
{
    const struct spy_sight *sights = &spy->sights[0][0][0];
    uint64_t missing = 0;

    for (size_t i = 0; i < sizeof(spy->sights) / sizeof(*sights); i++) {
        missing += sights[i].logits != NULL && !sights[i].again;
    }
    return missing;
}
