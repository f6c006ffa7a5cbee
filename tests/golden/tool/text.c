/* text/: encode_*.json, decode_*.json, prompts_*.json, each `_small` (tokenizer of the first model
 * that fits) or `_large`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/chat.h"
#include "model/tokenizer.h"
#include "tests/golden/tool/cases.h"
#include "tests/golden/tool/files.h"
#include "tests/golden/tool/scene.h"

static bool same_ids(const struct rmk_ids *ids, const json_t *want)
{
    if (ids->count != json_array_size(want)) {
        return false;
    }
    for (size_t i = 0; i < ids->count; i++) {
        if (json_integer_value(json_array_get(want, i)) != ids->items[i]) {
            return false;
        }
    }
    return true;
}

static bool same_text(const char *text, size_t size, const json_t *want)
{
    return json_is_string(want) && json_string_length(want) == size &&
           memcmp(json_string_value(want), text, size) == 0;
}

static bool encodes(const struct rmk_tokenizer *tokenizer, const json_t *item, struct rmk_why *why)
{
    const json_t *text = json_object_get(item, "text");
    struct rmk_ids ids = {0};

    bool good = rmk_tokenizer_encode(
                    tokenizer, rmk_bytes_of(json_string_value(text), json_string_length(text)),
                    RMK_SPECIAL_PARSE, &ids, why) == RMK_OK &&
                same_ids(&ids, json_object_get(item, "ids"));
    rmk_ids_deinit(&ids);
    return good;
}

static bool decodes_to(const struct rmk_tokenizer *tokenizer, const json_t *ids, bool skip,
                       const json_t *want, struct rmk_why *why)
{
    size_t count = json_array_size(ids);
    int32_t *items = calloc(count + 1, sizeof(*items));
    char *text = NULL;
    size_t size = 0;

    rmk_assert(items != NULL);
    for (size_t i = 0; i < count; i++) {
        items[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    }
    bool good = rmk_tokenizer_decode(tokenizer, items, count, skip, &text, &size, why) == RMK_OK &&
                same_text(text, size, want);
    free(text);
    free(items);
    return good;
}

static bool encode_case(const struct rmk_tokenizer *tokenizer, const json_t *item,
                        struct rmk_why *why)
{
    const json_t *ids = json_object_get(item, "ids");

    return encodes(tokenizer, item, why) &&
           decodes_to(tokenizer, ids, false, json_object_get(item, "decoded"), why) &&
           decodes_to(tokenizer, ids, true, json_object_get(item, "decoded_skip_special"), why);
}

static bool decode_case(const struct rmk_tokenizer *tokenizer, const json_t *item,
                        struct rmk_why *why)
{
    const json_t *ids = json_object_get(item, "ids");

    return decodes_to(tokenizer, ids, false, json_object_get(item, "text"), why) &&
           decodes_to(tokenizer, ids, true, json_object_get(item, "skip_special"), why);
}

static bool prompt_case(const struct rmk_tokenizer *tokenizer, const json_t *item,
                        struct rmk_why *why)
{
    return golden_prompt(tokenizer, json_object_get(item, "messages"),
                         json_object_get(item, "prompt"), json_object_get(item, "ids"), why);
}

static void run_file(struct report *report, const char *root, const char *name,
                     const struct rmk_tokenizer *tokenizer,
                     bool (*check)(const struct rmk_tokenizer *, const json_t *, struct rmk_why *))
{
    struct rmk_why why = {0};
    char label[64];

    if (!file_exists("%s/text/%s.json", root, name)) {
        return;
    }
    json_t *cases = file_json(&why, "%s/text/%s.json", root, name);
    (void)snprintf(label, sizeof(label), "text/%s", name);
    size_t good = 0;
    size_t first_bad = SIZE_MAX;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        if (check(tokenizer, json_array_get(cases, i), &why)) {
            good++;
        } else if (first_bad == SIZE_MAX) {
            first_bad = i;
        }
    }
    if (first_bad == SIZE_MAX) {
        report_exact(report, label, "ids and text", good > 0, "%zu cases identical", good);
    } else {
        report_failed(report, label, "ids and text",
                      "%zu of %zu identical; the first that is not: %zu %s", good,
                      json_array_size(cases), first_bad, why.text);
    }
    json_decref(cases);
}

static void run_size(struct report *report, const char *root, const char *size,
                     const char *tokenizer_path)
{
    static const struct {
        const char *kind;
        bool (*check)(const struct rmk_tokenizer *, const json_t *, struct rmk_why *);
    } kinds[] = {{"encode", encode_case}, {"decode", decode_case}, {"prompts", prompt_case}};
    struct rmk_tokenizer *tokenizer = NULL;
    struct rmk_why why = {0};
    char name[64];

    if (!file_exists("%s/text/encode_%s.json", root, size)) {
        return;
    }
    if (rmk_tokenizer_create(tokenizer_path, &tokenizer, &why) != RMK_OK) {
        report_failed(report, "text", size, "%s", why.text);
        return;
    }
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        (void)snprintf(name, sizeof(name), "%s_%s", kinds[i].kind, size);
        run_file(report, root, name, tokenizer, kinds[i].check);
    }
    rmk_tokenizer_destroy(tokenizer);
}

void cases_text(struct report *report, const char *root)
{
    static const char *const small_models[] = {"mha", "tiny"};
    char path[2048];

    for (size_t i = 0; i < sizeof(small_models) / sizeof(small_models[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/models/%s/tokenizer.json", root, small_models[i]);
        if (file_exists("%s", path)) {
            run_size(report, root, "small", path);
            break;
        }
    }
    (void)snprintf(path, sizeof(path), "%s/../tokenizer/tokenizer-standin-126349.json.gz", root);
    if (file_exists("%s", path)) {
        run_size(report, root, "large", path);
    }
}
