/* The answer does not depend on the neighbours, nor on faults: every request of a mix of 65 is
 * answered alone, then all together, in two orders, with narrow plans and wide ones, with and
 * without losses of the group and of all it kept. Each time the head must see the same logits, bit
 * by bit, come to the same numbers, and the engine to the same ids.
 *
 * RMK_COMPANY_ORDERS=N: N orders of each kind instead of one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/tokenizer.h"
#include "tests/company/party.h"

static void load_spec(const char *model, const char *vision, struct rmk_spec *spec)
{
    char path[256];
    struct rmk_tokenizer *tokenizer;
    struct rmk_why why = {0};

    (void)snprintf(path, sizeof(path), "%s/tokenizer.json", model);
    if (rmk_spec_read(model, vision, NULL, spec, &why) != RMK_OK ||
        rmk_tokenizer_create(path, &tokenizer, &why) != RMK_OK ||
        rmk_spec_bind_tokenizer(spec, tokenizer, &why) != RMK_OK) {
        fail_msg("%s", why.text);
    }
    rmk_tokenizer_destroy(tokenizer);
}

static void expect_same_answer(const struct party_answer *together,
                               const struct party_answer *alone, uint32_t index)
{
    if (together->reason != alone->reason || together->id_count != alone->id_count ||
        memcmp(together->ids, alone->ids, alone->id_count * sizeof(*alone->ids)) != 0 ||
        together->usage.forwards != alone->usage.forwards ||
        together->usage.refreshes != alone->usage.refreshes) {
        fail_msg("request %u: other ids, or %u forwards instead of %u", index,
                 together->usage.forwards, alone->usage.forwards);
    }
    assert_false(together->usage.restarted);
}

static void check_company(struct party *party, uint32_t ranks, const struct party_plan *plan,
                          const struct party_ask *asks, const struct party_answer *alone,
                          const char *label)
{
    static struct party_answer together[PARTY_ASKS];
    const bool lossy = plan->losses[0] != 0;
    uint32_t recovered = 0;
    uint32_t replayed = 0;
    uint64_t compared = 0;

    for (uint32_t rank = 0; rank < ranks; rank++) {
        spy_compare(party_spy(party, rank));
    }
    uint32_t rounds = party_run(party, plan, asks, 0, PARTY_ASKS, together);
    for (uint32_t rank = 0; rank < ranks; rank++) {
        const struct spy *spy = party_spy(party, rank);
        compared += spy->compared;
        if (spy->differing > 0) {
            fail_msg("%s, rank %u: %llu of %llu rows of the head differ; %s", label, rank,
                     (unsigned long long)spy->differing, (unsigned long long)spy->compared,
                     spy->first);
        }
        assert_int_equal(spy_missing(spy), 0);
    }
    for (uint32_t i = 0; i < PARTY_ASKS; i++) {
        expect_same_answer(&together[i], &alone[i], i);
        recovered += together[i].usage.recoveries > 0;
        replayed += together[i].usage.replays > 0;
    }
    print_message("%s: %u rounds of up to %u rows, %llu rows of the head the same; %u requests "
                  "recovered, %u with replays\n",
                  label, rounds, party_widest(party), (unsigned long long)compared, recovered,
                  replayed);
    assert_int_equal(party_widest(party), plan->rows_per_plan);
    assert_true(lossy == (recovered > 0));
    assert_true(lossy == (replayed > 0));
}

static uint32_t order_count(void)
{
    const char *text = getenv("RMK_COMPANY_ORDERS");

    return text == NULL ? 1 : (uint32_t)strtoul(text, NULL, 10);
}

static void check(const char *model, const char *vision, enum rmk_dtype act, uint32_t ranks)
{
    static struct party_ask asks[PARTY_ASKS];
    static struct party_answer alone[PARTY_ASKS];
    struct rmk_spec spec;
    char label[128];

    load_spec(model, vision, &spec);
    party_make_asks(&spec, asks);
    /* One rank has two threads: which rows a thread gets is another matter of company. */
    struct party *party = party_create(&spec, act, ranks, ranks == 1 ? 2 : 1);
    uint32_t rounds = 0;
    for (uint32_t i = 0; i < PARTY_ASKS; i++) {
        rounds += party_run(party, &(struct party_plan){.rows_per_plan = 1}, asks, i, i + 1, alone);
    }
    for (uint32_t order = 0; order < order_count(); order++) {
        const struct party_plan plans[] = {
            {.rows_per_plan = PARTY_ASKS, .order_seed = 1000 * order, .losses = {3, 7, 9}},
            {.rows_per_plan = 19, .order_seed = 1000 * order + 500},
        };
        for (unsigned i = 0; i < 2; i++) {
            (void)snprintf(label, sizeof(label), "%s, %s, %u ranks, order %u%s", model,
                           act == RMK_F32 ? "fp32" : "bf16", ranks, order,
                           i == 0 ? ", losses" : "");
            check_company(party, ranks, &plans[i], asks, alone, label);
        }
    }
    assert_true(rounds > 4 * PARTY_ASKS); /* alone they took a good many */
    party_destroy(party);
    party_free_asks(asks);
}

static void alone_and_among_64_neighbours_and_through_losses_in_fp32(void **state)
{
    (void)state;
    check("models/demo", "models/demo/vision", RMK_F32, 1);
    check("models/demo", "models/demo/vision", RMK_F32, 2);
}

static void alone_and_among_64_neighbours_and_through_losses_in_bf16(void **state)
{
    (void)state;
    check("models/demo", "models/demo/vision", RMK_BF16, 1);
    check("models/demo", "models/demo/vision", RMK_BF16, 2);
}

/* Fewer key/value heads than heads, biases, and widths that fill no tile. */
static void alone_and_among_64_neighbours_with_grouped_heads(void **state)
{
    const char *model = "tests/data/golden/models/tinygqa";

    (void)state;
    check(model, "tests/data/golden/models/tinygqa-siglip", RMK_F32, 2);
    check(model, "tests/data/golden/models/tinygqa-siglip", RMK_BF16, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone_and_among_64_neighbours_and_through_losses_in_fp32),
        cmocka_unit_test(alone_and_among_64_neighbours_and_through_losses_in_bf16),
        cmocka_unit_test(alone_and_among_64_neighbours_with_grouped_heads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
