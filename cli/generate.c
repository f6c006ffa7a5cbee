#include "cli/generate.h"

#include <stdlib.h>
#include <string.h>

#include "cli/client.h"
#include "cli/json_text.h"
#include "cli/wire.h"
#include "common/clock.h"

void rmk_answer_deinit(struct rmk_answer *answer)
{
    if (answer->result != NULL) {
        remask__v1__generate_result__free_unpacked(answer->result, NULL);
        free((void *)(uintptr_t)answer->text.data);
        answer->result = NULL;
    }
}

const Remask__V1__Usage *rmk_answer_usage(const struct rmk_answer *answer)
{
    static const Remask__V1__Usage none = REMASK__V1__USAGE__INIT;

    return answer->result != NULL && answer->result->usage != NULL ? answer->result->usage : &none;
}

json_t *rmk_answer_usage_json(const struct rmk_answer *answer)
{
    const Remask__V1__Usage *usage = rmk_answer_usage(answer);
    json_t *json = json_object();
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"prompt_rows", usage->prompt_rows},
        {"image_rows", usage->image_rows},
        {"image_tiles", usage->image_tiles},
        {"completion_tokens", usage->completion_tokens},
        {"forwards", usage->forwards},
        {"refreshes", usage->refreshes},
        {"replays", usage->replays},
        {"recoveries", usage->recoveries},
        {"queue_us", usage->queue_us},
        {"encode_us", usage->encode_us},
        {"first_commit_us", usage->first_commit_us},
        {"compute_us", usage->compute_us},
        {"total_us", usage->total_us},
    };

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        (void)json_object_set_new(json, numbers[i].name,
                                  json_integer((json_int_t)numbers[i].value));
    }
    (void)json_object_set_new(json, "tokens_per_forward", json_real(usage->tokens_per_forward));
    (void)json_object_set_new(json, "restarted", json_boolean(usage->restarted));
    (void)json_object_set_new(json, "profile", rmk_json_text(usage->profile));
    (void)json_object_set_new(json, "numerics", rmk_json_text(usage->numerics));
    return json;
}

json_t *rmk_answer_ids_json(const struct rmk_answer *answer)
{
    json_t *ids = json_array();

    for (size_t i = 0; answer->result != NULL && i < answer->result->n_ids; i++) {
        (void)json_array_append_new(ids, json_integer(answer->result->ids[i]));
    }
    return ids;
}

/* ---- the call
 * -------------------------------------------------------------------------------------- */

static enum rmk_err keep_result(struct rmk_answer *answer, Remask__V1__GenerateEvent *event,
                                struct rmk_bytes text)
{
    uint8_t *copy = malloc(text.size + 1);

    if (copy == NULL) {
        return rmk_fail(&answer->why, RMK_ELIMIT, "no memory for an answer of %zu bytes",
                        text.size);
    }
    if (text.size > 0) {
        memcpy(copy, text.data, text.size);
    }
    answer->text = rmk_bytes_of(copy, text.size);
    answer->result = event->result;
    event->kind_case = REMASK__V1__GENERATE_EVENT__KIND__NOT_SET; /* the answer's now */
    return RMK_OK;
}

static void take_piece(struct rmk_generate *generate, struct rmk_bytes text)
{
    if (text.size > 0 && generate->answer->first_text_us == 0) {
        generate->answer->first_text_us = rmk_clock_us();
    }
    if (generate->events->piece != NULL) {
        generate->events->piece(generate, text);
    }
}

/* Not rmk_unpack, which takes no NULs in strings: an answer may well have some. */
static void on_message(struct rmk_rpc_call *call, struct rmk_bytes bytes, void *context)
{
    static const uint32_t piece_path[] = {2, 1};  /* GenerateEvent.text, TextDelta.text */
    static const uint32_t result_path[] = {4, 2}; /* GenerateEvent.result, GenerateResult.text */
    struct rmk_generate *generate = context;
    struct rmk_answer *answer = generate->answer;
    enum rmk_err err = RMK_OK;

    if (answer->status != RMK_STATUS_OK) {
        return;
    }
    Remask__V1__GenerateEvent *event =
        remask__v1__generate_event__unpack(NULL, bytes.size, bytes.data);
    if (event == NULL) {
        err = rmk_fail(&answer->why, RMK_EINTERNAL, "the server's answer is no message");
    } else if (event->kind_case == REMASK__V1__GENERATE_EVENT__KIND_TEXT) {
        take_piece(generate, rmk_wire_find(bytes, piece_path, 2));
    } else if (event->kind_case == REMASK__V1__GENERATE_EVENT__KIND_RESULT &&
               answer->result == NULL) {
        err = keep_result(answer, event, rmk_wire_find(bytes, result_path, 2));
    }
    if (err != RMK_OK) {
        answer->status = (int)rmk_status_of(err);
        rmk_rpc_call_cancel(call);
    }
    if (event != NULL) {
        remask__v1__generate_event__free_unpacked(event, NULL);
    }
}

static void on_done(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    struct rmk_generate *generate = context;
    struct rmk_answer *answer = generate->answer;

    (void)call;
    if (answer->status == RMK_STATUS_OK && status != RMK_STATUS_OK) {
        answer->status = status;
        (void)rmk_client_explain(generate->endpoint, status, message, &answer->why);
    } else if (answer->status == RMK_STATUS_OK && answer->result == NULL) {
        answer->status = RMK_STATUS_INTERNAL;
        (void)rmk_fail(&answer->why, RMK_EINTERNAL, "the server ended the stream without a result");
    }
    if (answer->status != RMK_STATUS_OK) {
        rmk_answer_deinit(answer);
    }
    answer->ended_us = rmk_clock_us();
    generate->call = NULL;
    generate->events->done(generate);
}

void rmk_generate_begin(struct rmk_generate *generate, struct rmk_rpc_channel *channel,
                        struct rmk_bytes packed, uint64_t deadline_ms, const char *const *metadata)
{
    static const struct rmk_rpc_events events = {.on_message = on_message, .on_done = on_done};

    *generate->answer = (struct rmk_answer){.begun_us = rmk_clock_us()};
    generate->call = rmk_rpc_channel_call(channel, "/remask.v1.Remask/Generate", deadline_ms, false,
                                          metadata, &events, generate);
    (void)rmk_rpc_call_send(generate->call, packed);
    rmk_rpc_call_half_close(generate->call);
}
