#include "model/tokenizer_parts.h"

#include <jansson.h>
#include <string.h>
#include <utf8proc.h>

/* Nested Sequences are flattened by a walk that goes no deeper than this. */
enum { SEQUENCE_DEPTH_MAX = 4 };

/* GPT-2's pattern, which ByteLevel applies unless use_regex is false. */
static const char gpt2_regex[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static const char *type_of(const json_t *part)
{
    const char *type = json_string_value(json_object_get(part, "type"));

    return type != NULL ? type : "";
}

static bool is_type(const json_t *part, const char *type)
{
    return strcmp(type_of(part), type) == 0;
}

/* One kind of part: what is done with each of them, and under which name a Sequence lists them. */
struct visitor {
    const char *list;
    enum rmk_err (*visit)(struct rmk_tokenizer *, const json_t *, bool *found, struct rmk_why *);
    bool found;
};

static enum rmk_err walk(struct rmk_tokenizer *tokenizer, const json_t *part,
                         struct visitor *visitor, int depth, struct rmk_why *why)
{
    const json_t *list = json_object_get(part, visitor->list);
    size_t i;
    const json_t *item;

    if (part == NULL || json_is_null(part)) {
        return RMK_OK;
    }
    if (!is_type(part, "Sequence")) {
        return visitor->visit(tokenizer, part, &visitor->found, why);
    }
    if (depth == SEQUENCE_DEPTH_MAX) {
        return rmk_fail(why, RMK_EUNSUPPORTED, "Sequences are nested more than %d deep", depth);
    }
    if (!json_is_array(list)) {
        return rmk_fail(why, RMK_ECORRUPT, "a Sequence has no list %s", visitor->list);
    }
    json_array_foreach(list, i, item)
    {
        enum rmk_err err = walk(tokenizer, item, visitor, depth + 1, why);
        if (err != RMK_OK) {
            return err;
        }
    }
    return RMK_OK;
}

static enum rmk_err unknown(const json_t *part, struct rmk_why *why)
{
    return rmk_fail(why, RMK_EUNSUPPORTED, "\"%.60s\" is not supported", type_of(part));
}

/* ---- normalizer ---- */

static enum rmk_err visit_normalizer(struct rmk_tokenizer *tokenizer, const json_t *part,
                                     bool *found, struct rmk_why *why)
{
    static const struct {
        const char *type;
        int form;
    } forms[] = {
        {"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
        {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
        {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
        {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (is_type(part, forms[i].type)) {
            if (*found) {
                return rmk_fail(why, RMK_EUNSUPPORTED, "more than one normal form");
            }
            *found = true;
            tokenizer->normal_form = forms[i].form;
            return RMK_OK;
        }
    }
    return unknown(part, why);
}

/* ---- pre-tokenizer ---- */

static enum rmk_err add_stage(struct rmk_tokenizer *tokenizer, const char *text, bool literal,
                              struct rmk_why *why)
{
    struct rmk_pattern **stage = &tokenizer->stages[tokenizer->stage_count];

    if (tokenizer->stage_count == RMK_TOKENIZER_STAGES_MAX) {
        return rmk_fail(why, RMK_EUNSUPPORTED, "more than %d patterns one after the other",
                        RMK_TOKENIZER_STAGES_MAX);
    }
    enum rmk_err err = literal ? rmk_pattern_create_literal(text, stage, why)
                               : rmk_pattern_create(text, stage, why);
    tokenizer->stage_count += err == RMK_OK;
    return err;
}

static enum rmk_err add_split(struct rmk_tokenizer *tokenizer, const json_t *part,
                              struct rmk_why *why)
{
    const json_t *pattern = json_object_get(part, "pattern");
    const char *behavior = json_string_value(json_object_get(part, "behavior"));
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *literal = json_string_value(json_object_get(pattern, "String"));

    if (behavior == NULL || (regex == NULL) == (literal == NULL)) {
        return rmk_fail(why, RMK_ECORRUPT, "a Split lacks its pattern or its behavior");
    }
    /* With Isolated, `invert` has no effect: matches and what lies between them are pieces alike.
     */
    if (strcmp(behavior, "Isolated") != 0) {
        return rmk_fail(why, RMK_EUNSUPPORTED, "Split with behavior \"%.60s\" is not supported",
                        behavior);
    }
    return add_stage(tokenizer, regex != NULL ? regex : literal, regex == NULL, why);
}

static enum rmk_err visit_pre_tokenizer(struct rmk_tokenizer *tokenizer, const json_t *part,
                                        bool *found, struct rmk_why *why)
{
    if (*found) {
        return rmk_fail(why, RMK_EUNSUPPORTED, "ByteLevel is not the last");
    }
    if (is_type(part, "Split")) {
        return add_split(tokenizer, part, why);
    }
    if (is_type(part, "Digits")) {
        bool one_by_one = json_is_true(json_object_get(part, "individual_digits"));
        return add_stage(tokenizer, one_by_one ? "\\p{N}" : "\\p{N}+", false, why);
    }
    if (!is_type(part, "ByteLevel")) {
        return unknown(part, why);
    }
    *found = true;
    if (!json_is_false(json_object_get(part, "add_prefix_space"))) {
        return rmk_fail(why, RMK_EUNSUPPORTED, "ByteLevel with add_prefix_space is not supported");
    }
    return json_is_false(json_object_get(part, "use_regex"))
               ? RMK_OK
               : add_stage(tokenizer, gpt2_regex, false, why);
}

/* ---- post-processor and decoder ---- */

/* ByteLevel only trims offsets. A template may be there as long as it adds no token. */
static enum rmk_err visit_post_processor(struct rmk_tokenizer *tokenizer, const json_t *part,
                                         bool *found, struct rmk_why *why)
{
    const json_t *template = json_object_get(part, "single");
    size_t i;
    const json_t *item;

    (void)tokenizer;
    *found = true;
    if (is_type(part, "ByteLevel")) {
        return RMK_OK;
    }
    if (!is_type(part, "TemplateProcessing") || !json_is_array(template)) {
        return unknown(part, why);
    }
    json_array_foreach(template, i, item)
    {
        if (json_object_get(item, "SpecialToken") != NULL) {
            return rmk_fail(why, RMK_EUNSUPPORTED,
                            "a template that adds tokens to every text is not supported");
        }
    }
    return RMK_OK;
}

static enum rmk_err visit_decoder(struct rmk_tokenizer *tokenizer, const json_t *part, bool *found,
                                  struct rmk_why *why)
{
    (void)tokenizer;
    if (!is_type(part, "ByteLevel")) {
        return unknown(part, why);
    }
    *found = true;
    return RMK_OK;
}

enum rmk_err rmk_tokenizer_read_pipeline(struct rmk_tokenizer *tokenizer, const json_t *top,
                                         struct rmk_why *why)
{
    struct {
        const char *name;
        struct visitor visitor;
        bool needed; /* without it this is not byte-level BPE */
    } parts[] = {
        {"normalizer", {"normalizers", visit_normalizer, false}, false},
        {"pre_tokenizer", {"pretokenizers", visit_pre_tokenizer, false}, true},
        {"post_processor", {"processors", visit_post_processor, false}, false},
        {"decoder", {"decoders", visit_decoder, false}, true},
    };

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        const json_t *part = json_object_get(top, parts[i].name);
        enum rmk_err err = walk(tokenizer, part, &parts[i].visitor, 0, why);
        if (err == RMK_OK && parts[i].needed && !parts[i].visitor.found) {
            err = rmk_fail(why, RMK_EUNSUPPORTED, "no ByteLevel, so this is not byte-level BPE");
        }
        if (err != RMK_OK) {
            rmk_why_context(why, "%s", parts[i].name);
            return err;
        }
    }
    return RMK_OK;
}
