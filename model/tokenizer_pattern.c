#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/tokenizer_pattern.h"

#include <pcre2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* The patterns of this family cost about 20 steps for a byte at worst (every digit a piece,
     * nine alternatives tried); a run of white space is walked a few times. */
    STEPS_PER_BYTE = 256,
    STEPS_BASE = 1 << 20,
    HEAP_KIBIBYTES_MAX = 64 * 1024, /* the interpreter's backtracking stack */
};

struct rmk_pattern {
    pcre2_code *code;
};

struct rmk_matcher {
    pcre2_match_context *context;
    pcre2_match_data *data;
    uint64_t steps_left;
    size_t last_position; /* where the previous step of this match stood */
};

/* ---- Oniguruma to PCRE2 ---- */

/* Oniguruma's \s. PCRE2's own would add U+180E. */
#define SPACE "\\p{Z}\\x09-\\x0d\\x85"

struct translation {
    const char *next; /* unread rest of the regex */
    char *out;        /* large enough, see rmk_pattern_create */
    size_t size;
};

static void put(struct translation *t, const char *text, size_t size)
{
    memcpy(t->out + t->size, text, size);
    t->size += size;
}

static void put_text(struct translation *t, const char *text)
{
    put(t, text, strlen(text));
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Only general categories: names of scripts mean Script in one engine and Script_Extensions in the
 * other. */
static bool translate_property(struct translation *t)
{
    const char *name = t->next + 1; /* past p or P */
    size_t length = 0;

    if (*name != '{') {
        return false;
    }
    name += name[1] == '^' ? 2 : 1;
    while (length < 3 && is_letter(name[length])) {
        length++;
    }
    if (length < 1 || length > 2 || name[length] != '}') {
        return false;
    }
    const char *end = name + length + 1;
    put_text(t, "\\");
    put(t, t->next, (size_t)(end - t->next));
    t->next = end;
    return true;
}

/* \xHH, \x{H…} as they are; \uHHHH becomes \x{HHHH}. */
static bool translate_codepoint(struct translation *t)
{
    bool braces = t->next[0] == 'x' && t->next[1] == '{';
    const char *digits = t->next + (braces ? 2 : 1);
    size_t wanted = t->next[0] == 'u' ? 4 : 2;
    size_t length = 0;

    while (length < (braces ? 6 : wanted) && is_hex(digits[length])) {
        length++;
    }
    if (length == 0 || (!braces && length != wanted) || (braces && digits[length] != '}')) {
        return false;
    }
    put_text(t, "\\x{");
    put(t, digits, length);
    put_text(t, "}");
    t->next = digits + length + (braces ? 1 : 0);
    return true;
}

/* After a backslash. */
static bool translate_escape(struct translation *t, bool in_class)
{
    char c = *t->next;

    if (c == 'p' || c == 'P') {
        return translate_property(t);
    }
    if (c == 'x' || c == 'u') {
        return translate_codepoint(t);
    }
    if (c == 's') {
        put_text(t, in_class ? SPACE : "[" SPACE "]");
    } else if (c == 'S' && !in_class) {
        put_text(t, "[^" SPACE "]");
    } else if (c == 'v') {
        put_text(t, "\\x0b"); /* in PCRE2 \v is a class */
    } else if (c != '\0' && strchr(in_class ? "dDrntf" : "dDrntfAzZ", c) != NULL) {
        put_text(t, "\\");
        put(t, &c, 1);
    } else if (c > ' ' && c < 0x7f && !is_letter(c) && !(c >= '0' && c <= '9')) {
        put_text(t, "\\");
        put(t, &c, 1);
    } else {
        return false;
    }
    t->next++;
    return true;
}

/* After an opening bracket. Classes in classes and && exist only in Oniguruma. */
static bool translate_class(struct translation *t)
{
    put_text(t, "[");
    if (*t->next == '^') {
        put_text(t, "^");
        t->next++;
    }
    if (*t->next == ']') {
        return false;
    }
    while (*t->next != ']') {
        char c = *t->next++;
        if (c == '\0' || c == '[' || (c == '&' && *t->next == '&')) {
            return false;
        }
        if (c == '\\') {
            if (!translate_escape(t, true)) {
                return false;
            }
        } else {
            put(t, &c, 1);
        }
    }
    t->next++;
    put_text(t, "]");
    return true;
}

/* After an opening parenthesis: the groups that mean the same in both. No names, verbs, recursion
 * or flags but i. */
static bool translate_group(struct translation *t)
{
    static const char *const openings[] = {"?:", "?=", "?!", "?>", "?<=", "?<!", "?i:"};

    put_text(t, "(");
    if (*t->next == '*') {
        return false;
    }
    if (*t->next != '?') {
        return true;
    }
    for (size_t i = 0; i < sizeof(openings) / sizeof(openings[0]); i++) {
        size_t length = strlen(openings[i]);
        if (strncmp(t->next, openings[i], length) == 0) {
            put(t, openings[i], length);
            t->next += length;
            return true;
        }
    }
    return false;
}

/* After an opening brace: {n}, {n,} and {n,m}. A + or ? behind them differs in meaning. */
static bool translate_interval(struct translation *t)
{
    size_t digits = strspn(t->next, "0123456789");
    const char *end = t->next + digits;

    if (digits == 0) {
        return false;
    }
    if (*end == ',') {
        end++;
        end += strspn(end, "0123456789");
    }
    if (*end != '}' || end[1] == '+' || end[1] == '?') {
        return false;
    }
    put_text(t, "{");
    put(t, t->next, (size_t)(end + 1 - t->next));
    t->next = end + 1;
    return true;
}

static bool translate(struct translation *t)
{
    while (*t->next != '\0') {
        char c = *t->next++;
        bool good = true;
        switch (c) {
        case '\\':
            good = translate_escape(t, false);
            break;
        case '[':
            good = translate_class(t);
            break;
        case '(':
            good = translate_group(t);
            break;
        case '{':
            good = translate_interval(t);
            break;
        default:
            put(t, &c, 1);
        }
        if (!good) {
            return false;
        }
    }
    return true;
}

/* ---- compiling ---- */

static enum rmk_err compile(const char *text, size_t size, uint32_t options,
                            struct rmk_pattern **out_pattern, struct rmk_why *why)
{
    struct rmk_pattern *pattern = NULL;
    pcre2_compile_context *context = NULL;
    enum rmk_err err = RMK_OK;
    int code;
    PCRE2_SIZE offset;

    pattern = calloc(1, sizeof(*pattern));
    context = pcre2_compile_context_create(NULL);
    if (pattern == NULL || context == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a pattern");
        goto out;
    }
    (void)pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pattern->code = pcre2_compile((PCRE2_SPTR)text, size, options | PCRE2_UTF | PCRE2_AUTO_CALLOUT,
                                  &code, &offset, context);
    if (pattern->code == NULL) {
        PCRE2_UCHAR message[160] = "";
        (void)pcre2_get_error_message(code, message, sizeof(message));
        err = rmk_fail(why, RMK_ECORRUPT, "the pattern is no regular expression: %s",
                       (const char *)message);
        goto out;
    }
    /* Without JIT (no support, or no executable memory allowed) the interpreter gives the same
     * matches. */
    (void)pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE);

    *out_pattern = pattern;
    pattern = NULL;
out:
    pcre2_compile_context_free(context);
    rmk_pattern_destroy(pattern);
    return err;
}

static enum rmk_err check_size(size_t size, struct rmk_why *why)
{
    if (size == 0) {
        return rmk_fail(why, RMK_ECORRUPT, "the pattern is empty");
    }
    if (size > RMK_PATTERN_BYTES_MAX) {
        return rmk_fail(why, RMK_EUNSUPPORTED, "the pattern has %zu bytes, at most %d are allowed",
                        size, RMK_PATTERN_BYTES_MAX);
    }
    return RMK_OK;
}

enum rmk_err rmk_pattern_create(const char *regex, struct rmk_pattern **out_pattern,
                                struct rmk_why *why)
{
    struct translation translation = {.next = regex};
    size_t size = strlen(regex);
    enum rmk_err err;

    RMK_TRY(check_size(size, why));
    /* What grows most is \S: two bytes become 21. */
    translation.out = malloc(size * 12);
    if (translation.out == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a pattern");
        goto out;
    }
    if (!translate(&translation)) {
        err = rmk_fail(why, RMK_EUNSUPPORTED,
                       "the pattern has syntax that is not supported at byte %td",
                       translation.next - regex);
        goto out;
    }
    RMK_TRY(
        compile(translation.out, translation.size, PCRE2_UCP | PCRE2_MULTILINE, out_pattern, why));
out:
    free(translation.out);
    return err;
}

enum rmk_err rmk_pattern_create_literal(const char *literal, struct rmk_pattern **out_pattern,
                                        struct rmk_why *why)
{
    enum rmk_err err = check_size(strlen(literal), why);

    return err == RMK_OK ? compile(literal, strlen(literal), PCRE2_LITERAL, out_pattern, why) : err;
}

void rmk_pattern_destroy(struct rmk_pattern *pattern)
{
    if (pattern == NULL) {
        return;
    }
    pcre2_code_free(pattern->code);
    free(pattern);
}

/* ---- matching ---- */

/* Called before each item of the pattern that is tried. An item that ran over many characters (a
 * possessive repeat) is paid for by the distance from the step before. */
static int count_step(pcre2_callout_block *block, void *argument)
{
    struct rmk_matcher *matcher = argument;
    size_t position = block->current_position;
    size_t last = matcher->last_position;
    uint64_t cost = 1 + (position > last ? position - last : last - position);

    matcher->last_position = position;
    if (cost > matcher->steps_left) {
        return PCRE2_ERROR_CALLOUT;
    }
    matcher->steps_left -= cost;
    return 0;
}

enum rmk_err rmk_matcher_create(size_t text_bytes, struct rmk_matcher **out_matcher,
                                struct rmk_why *why)
{
    struct rmk_matcher *matcher = calloc(1, sizeof(*matcher));

    if (matcher != NULL) {
        matcher->steps_left = STEPS_BASE + (uint64_t)text_bytes * STEPS_PER_BYTE;
        matcher->context = pcre2_match_context_create(NULL);
        matcher->data = pcre2_match_data_create(1, NULL); /* the whole match, no groups */
    }
    if (matcher == NULL || matcher->context == NULL || matcher->data == NULL) {
        rmk_matcher_destroy(matcher);
        return rmk_fail(why, RMK_ELIMIT, "no memory to match patterns");
    }
    /* Steps bound the time, in the interpreter and in JIT code alike; PCRE2's own count would not
     * be the same in both. */
    (void)pcre2_set_match_limit(matcher->context, UINT32_MAX);
    (void)pcre2_set_depth_limit(matcher->context, UINT32_MAX);
    (void)pcre2_set_heap_limit(matcher->context, HEAP_KIBIBYTES_MAX);
    (void)pcre2_set_callout(matcher->context, count_step, matcher);
    *out_matcher = matcher;
    return RMK_OK;
}

void rmk_matcher_destroy(struct rmk_matcher *matcher)
{
    if (matcher == NULL) {
        return;
    }
    pcre2_match_data_free(matcher->data);
    pcre2_match_context_free(matcher->context);
    free(matcher);
}

enum rmk_err rmk_matcher_find(struct rmk_matcher *matcher, const struct rmk_pattern *pattern,
                              struct rmk_bytes text, size_t from, bool *out_found,
                              size_t *out_begin, size_t *out_end, struct rmk_why *why)
{
    /* The text is known to be UTF-8; checking it again at every match would make long texts
     * quadratic. */
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int result;

    matcher->last_position = from;
    result = pcre2_match(pattern->code, text.data, text.size, from, options, matcher->data,
                         matcher->context);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
        result = pcre2_match(pattern->code, text.data, text.size, from, options | PCRE2_NO_JIT,
                             matcher->data, matcher->context);
    }
    if (result == PCRE2_ERROR_NOMATCH) {
        *out_found = false;
        return RMK_OK;
    }
    if (result == PCRE2_ERROR_CALLOUT) {
        return rmk_fail(why, RMK_ELIMIT, "the pre-tokenizer's pattern takes too long on this text");
    }
    if (result < 0) {
        PCRE2_UCHAR message[160] = "";
        (void)pcre2_get_error_message(result, message, sizeof(message));
        return rmk_fail(why, RMK_ELIMIT, "the pre-tokenizer's pattern fails on this text: %s",
                        (const char *)message);
    }
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(matcher->data);
    *out_found = true;
    *out_begin = span[0];
    *out_end = span[1];
    return RMK_OK;
}
