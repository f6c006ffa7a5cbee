#include "model/known_answers.h"

#include <string.h>

#include "model/tokenizer.h"

enum { IDS_MAX = 80 };

struct answer {
    const char *text;
    uint32_t count;
    int32_t ids[IDS_MAX];
};

static const struct answer answers[] = {
    {"user", 1, {3840}},
    {"assistant", 2, {598, 10450}},
    {"\n\n", 2, {198, 198}},
    {"Hello, how are you?", 6, {14455, 11, 1099, 449, 362, 30}},
    {"x x x x x", 5, {87, 1529, 1529, 1529, 1529}},
    {"I'm good, thank you!", 7, {40, 3180, 1505, 11, 7949, 362, 0}},
    {"<|startoftext|><|start_header_id|>user<|end_header_id|>\n\n"
     "Lily can run 12 kilometers per hour for 4 hours. After that, she runs 6 kilometers per hour. "
     "How many kilometers can she run in 8 hours?"
     "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
     49,
     {126080, 126346, 3840, 126347, 198,    198,  86059, 560,    2001, 220,  16,   17,   44137,
      854,    6984,   352,  220,    19,     3871, 13,    4474,   378,  11,   1285, 9660, 220,
      21,     44137,  854,  6984,   13,     2071, 1494,  44137,  560,  1285, 2001, 296,  220,
      23,     3871,   30,   126348, 126346, 598,  10450, 126347, 198,  198}},
};

enum { ANSWER_COUNT = sizeof(answers) / sizeof(answers[0]) };

uint32_t rmk_tokenizer_known_answer_count(void)
{
    return ANSWER_COUNT;
}

enum rmk_err rmk_tokenizer_known_answers(const struct rmk_tokenizer *tokenizer,
                                         uint32_t *out_failed, struct rmk_why *why)
{
    struct rmk_ids ids = {0};
    uint32_t failed = 0;
    enum rmk_err err = RMK_OK;

    for (size_t i = 0; i < ANSWER_COUNT; i++) {
        const struct answer *answer = &answers[i];
        ids.count = 0;
        RMK_TRY(rmk_tokenizer_encode(tokenizer, rmk_bytes_text(answer->text), RMK_SPECIAL_PARSE,
                                     &ids, why));
        if (ids.count == answer->count &&
            memcmp(ids.items, answer->ids, ids.count * sizeof(*ids.items)) == 0) {
            continue;
        }
        if (failed++ == 0) {
            size_t at = 0;
            while (at < ids.count && at < answer->count && ids.items[at] == answer->ids[at]) {
                at++;
            }
            (void)rmk_fail(why, RMK_ECORRUPT,
                           "the tokenizer gives %zu tokens for \"%.40s\", the published one %u; "
                           "token %zu is the first that differs",
                           ids.count, answer->text, (unsigned)answer->count, at);
        }
    }
    *out_failed = failed;
    err = failed == 0 ? RMK_OK : RMK_ECORRUPT;
out:
    rmk_ids_deinit(&ids);
    return err;
}
