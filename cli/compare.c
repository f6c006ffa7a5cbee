#include "cli/compare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/generate.h"
#include "cli/json_text.h"
#include "cli/request.h"
#include "common/limits.h"

enum {
    OWN_FLAGS = 1,
    FLAG_COUNT = OWN_FLAGS + RMK_REQUEST_FLAGS,
    BYTES_BEFORE = 40,
    BYTES_AFTER = 30,
};

/* ---- asking
 * ----------------------------------------------------------------------------------------- */

struct question {
    struct rmk_generate generate; /* first: a generate is a question */
    bool done;
};

static void on_done(struct rmk_generate *generate)
{
    ((struct question *)generate)->done = true;
}

static enum rmk_err ask(struct rmk_client *client, const struct rmk_request_options *options,
                        char *const *paths, size_t path_count, struct rmk_answer *answer,
                        struct rmk_why *why)
{
    static const struct rmk_generate_events events = {.done = on_done};
    struct question question = {
        .generate = {.events = &events, .answer = answer, .endpoint = client->endpoint}};
    uint8_t *packed = NULL;
    size_t size = 0;
    enum rmk_err err;

    err = rmk_request_pack(options, paths, path_count, &packed, &size, why);
    if (err != RMK_OK) {
        if (path_count == 1) {
            rmk_why_context(why, "%s", paths[0]); /* of several, the right one is named already */
        }
        goto out;
    }
    rmk_generate_begin(&question.generate, client->channel, rmk_bytes_of(packed, size),
                       rmk_request_deadline_ms(options), rmk_request_metadata(options));
    while (!question.done) {
        (void)uv_run(&client->loop, UV_RUN_ONCE);
    }
    if (answer->result == NULL) {
        err = rmk_fail(why, rmk_err_of_status(answer->status), "%s", answer->why.text);
    }
out:
    free(packed);
    return err;
}

/* ---- printing
 * --------------------------------------------------------------------------------------- */

static void print_run(const struct rmk_answer *answer)
{
    const Remask__V1__Usage *usage = rmk_answer_usage(answer);

    (void)printf("%-9s %u forwards, %u of them over every position; %.2f tokens each; compute "
                 "%.1f ms, encode %.1f ms, total %.1f ms; %u tokens, %s\n",
                 usage->profile, usage->forwards, usage->refreshes, usage->tokens_per_forward,
                 (double)usage->compute_us / 1e3, (double)usage->encode_us / 1e3,
                 (double)usage->total_us / 1e3, usage->completion_tokens,
                 answer->result->finish_reason);
}

/* On one line, whatever the text holds. */
static void print_piece(struct rmk_bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        (void)putchar(text.data[i] < 0x20 || text.data[i] == 0x7f ? ' ' : text.data[i]);
    }
}

static void print_excerpt(const struct rmk_answer *answer, size_t offset)
{
    struct rmk_excerpt excerpt =
        rmk_compare_excerpt(answer->text, offset, BYTES_BEFORE, BYTES_AFTER);

    (void)printf("  %-9s %s", rmk_answer_usage(answer)->profile, excerpt.begins_later ? "…" : "");
    print_piece(excerpt.before);
    (void)printf(" | ");
    print_piece(excerpt.after);
    (void)printf("%s\n", excerpt.ends_earlier ? "…" : "");
}

static double speedup_of(const struct rmk_answer *exact, const struct rmk_answer *other)
{
    const uint64_t other_us = rmk_answer_usage(other)->compute_us;

    return other_us == 0 ? 0 : (double)rmk_answer_usage(exact)->compute_us / (double)other_us;
}

static void print_text(const struct rmk_answer *exact, const struct rmk_answer *other,
                       const struct rmk_parting *parting)
{
    print_run(exact);
    print_run(other);
    (void)printf("%.2f times as fast to compute\n", speedup_of(exact, other));
    if (parting->same) {
        (void)printf("the answers are the same\n");
        return;
    }
    (void)printf("the answers part at token %zu; %zu of %zu positions agree\n", parting->token,
                 parting->agreeing, parting->longer);
    print_excerpt(exact, parting->text_offset);
    print_excerpt(other, parting->text_offset);
}

static json_t *run_json(const struct rmk_answer *answer, const struct rmk_parting *parting)
{
    json_t *json = json_object();
    json_t *excerpt_json = json_object();
    struct rmk_excerpt excerpt =
        rmk_compare_excerpt(answer->text, parting->text_offset, BYTES_BEFORE, BYTES_AFTER);

    (void)json_object_set_new(json, "text", rmk_json_bytes(answer->text));
    (void)json_object_set_new(json, "ids", rmk_answer_ids_json(answer));
    (void)json_object_set_new(json, "finish_reason", rmk_json_text(answer->result->finish_reason));
    (void)json_object_set_new(json, "usage", rmk_answer_usage_json(answer));
    if (!parting->same) {
        (void)json_object_set_new(excerpt_json, "before", rmk_json_bytes(excerpt.before));
        (void)json_object_set_new(excerpt_json, "after", rmk_json_bytes(excerpt.after));
        (void)json_object_set(json, "parting", excerpt_json);
    }
    json_decref(excerpt_json);
    return json;
}

static void print_json(const struct rmk_answer *exact, const struct rmk_answer *other,
                       const struct rmk_parting *parting)
{
    json_t *json = json_object();

    (void)json_object_set_new(json, "same", json_boolean(parting->same));
    (void)json_object_set_new(json, "first_difference",
                              parting->same ? json_null()
                                            : json_integer((json_int_t)parting->token));
    (void)json_object_set_new(json, "agreeing", json_integer((json_int_t)parting->agreeing));
    (void)json_object_set_new(json, "positions", json_integer((json_int_t)parting->longer));
    (void)json_object_set_new(json, "speedup", json_real(speedup_of(exact, other)));
    (void)json_object_set_new(json, "exact", run_json(exact, parting));
    (void)json_object_set_new(json, "other", run_json(other, parting));
    rmk_json_print_line(json);
}

/* ---- the command
 * ------------------------------------------------------------------------------------ */

/* One after the other: each has the cluster to itself, as far as this program can tell. */
static int run(const struct rmk_request_options *options, bool json, char *const *paths,
               size_t path_count)
{
    struct rmk_request_options official = *options;
    struct rmk_answer exact = {0};
    struct rmk_answer other = {0};
    struct rmk_client client;
    struct rmk_why why = {0};
    char endpoint[256];
    enum rmk_err err;

    rmk_sampling_reset_decoding(&official.sampling, "exact");
    err = rmk_client_open(
        &client, rmk_client_endpoint(options->endpoint, options->name, endpoint, sizeof(endpoint)),
        options->api_key, &why);
    if (err != RMK_OK) {
        (void)fprintf(stderr, "remask compare: %s\n", why.text);
        return RMK_EXIT_USAGE;
    }
    RMK_TRY(ask(&client, &official, paths, path_count, &exact, &why));
    RMK_TRY(ask(&client, options, paths, path_count, &other, &why));
    struct rmk_parting parting =
        rmk_compare_find(exact.result->ids, exact.result->n_ids, exact.text, other.result->ids,
                         other.result->n_ids, other.text);
    if (json) {
        print_json(&exact, &other, &parting);
    } else {
        print_text(&exact, &other, &parting);
    }
out:
    if (err != RMK_OK) {
        (void)fprintf(stderr, "remask compare: %s\n", why.text);
    }
    rmk_answer_deinit(&exact);
    rmk_answer_deinit(&other);
    rmk_client_close(&client);
    return rmk_cli_exit_of(err);
}

int rmk_compare_run(int argc, char **argv)
{
    struct rmk_request_options options = {0};
    struct rmk_config_flag flags[FLAG_COUNT] = {
        {.name = "json", .kind = RMK_CONFIG_SWITCH, .help = "one line of JSON"},
    };
    bool json = false;
    struct rmk_config config = {
        .program = "remask compare",
        .summary = "Ask once in the profile exact and once in another, or with a rule and cache of "
                   "your own, and\n"
                   "show where and how the answers part, and what each cost.",
        .operands_name = "IMAGE…",
        .flags = flags,
        .flag_count = FLAG_COUNT,
        .operands_min = 1,
        .operands_max = RMK_ITEMS_MAX,
    };

    flags[0].target = &json;
    rmk_request_flags(&options, flags + OWN_FLAGS);
    for (size_t i = OWN_FLAGS; i < FLAG_COUNT; i++) {
        if (strcmp(flags[i].name, "profile") == 0) {
            flags[i].fallback = "balanced";
            flags[i].help = "the other profile: balanced or fast";
        }
    }
    int status = rmk_config_load(&config, argc, argv);
    if (status < 0) {
        status =
            run(&options, json, (char *const *)(uintptr_t)config.operands, config.operand_count);
    }
    rmk_config_deinit(&config);
    return status;
}
