#include "cli/client.h"

#include <stdio.h>
#include <string.h>

#include "cli/state.h"
#include "common/limits.h"
#include "common/rpc/pack.h"

static const char default_endpoint[] = "127.0.0.1:8001";

enum rmk_err rmk_client_open(struct rmk_client *client, const char *endpoint, const char *api_key,
                             struct rmk_why *why)
{
    const struct rmk_rpc_options options = {.message_bytes_max = RMK_MESSAGE_BYTES_MAX,
                                            .api_key = api_key};
    enum rmk_err err;

    memset(client, 0, sizeof(*client));
    client->endpoint = endpoint;
    (void)uv_loop_init(&client->loop);
    RMK_TRY(rmk_rpc_create(&client->loop, &client->rpc, why));
    err = rmk_rpc_channel_create(client->rpc, endpoint, &options, &client->channel, why);
    if (err != RMK_OK) {
        rmk_why_context(why, "--endpoint");
    }
out:
    if (err != RMK_OK) {
        rmk_client_close(client);
    }
    return err;
}

static void on_closed(void *context)
{
    struct rmk_client *client = context;

    client->closed = true;
}

void rmk_client_close(struct rmk_client *client)
{
    if (client->rpc != NULL) {
        rmk_rpc_channel_destroy(client->channel);
        rmk_rpc_close(client->rpc, on_closed, client);
        while (!client->closed) {
            (void)uv_run(&client->loop, UV_RUN_ONCE);
        }
        client->rpc = NULL;
        client->channel = NULL;
    }
    (void)uv_run(&client->loop, UV_RUN_DEFAULT); /* closing handles of the caller */
    (void)uv_loop_close(&client->loop);
}

/* ---- one question -------------------------------------------------------------------------------
 */

struct question {
    const char *endpoint;
    const ProtobufCMessageDescriptor *reply_type;
    ProtobufCMessage *reply;
    struct rmk_why *why;
    enum rmk_err err;
    bool done;
};

static void on_reply(struct rmk_rpc_call *call, struct rmk_bytes message, void *context)
{
    struct question *question = context;

    (void)call;
    if (question->reply == NULL && question->err == RMK_OK) {
        question->err = rmk_unpack(question->reply_type, message, &question->reply, question->why);
    }
}

static void on_answered(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    struct question *question = context;

    (void)call;
    question->done = true;
    if (question->err == RMK_OK && status != RMK_STATUS_OK) {
        question->err = rmk_client_explain(question->endpoint, status, message, question->why);
    }
    if (question->err == RMK_OK && question->reply == NULL) {
        question->err = rmk_fail(question->why, RMK_EINTERNAL,
                                 "%s ended the call without an answer", question->endpoint);
    }
}

enum rmk_err rmk_client_ask(struct rmk_client *client, const char *path,
                            const ProtobufCMessage *request,
                            const ProtobufCMessageDescriptor *reply_type, uint64_t deadline_ms,
                            ProtobufCMessage **out_reply, struct rmk_why *why)
{
    static const struct rmk_rpc_events events = {.on_message = on_reply, .on_done = on_answered};
    struct question question = {
        .endpoint = client->endpoint,
        .reply_type = reply_type,
        .why = why,
    };
    struct rmk_rpc_call *call =
        rmk_rpc_channel_call(client->channel, path, deadline_ms, false, NULL, &events, &question);

    (void)rmk_pack_send(call, request);
    rmk_rpc_call_half_close(call);
    while (!question.done) {
        (void)uv_run(&client->loop, UV_RUN_ONCE);
    }
    if (question.err != RMK_OK) {
        if (question.reply != NULL) {
            protobuf_c_message_free_unpacked(question.reply, NULL);
        }
        return question.err;
    }
    *out_reply = question.reply;
    return RMK_OK;
}

enum rmk_err rmk_client_explain(const char *endpoint, int status, const char *message,
                                struct rmk_why *why)
{
    const bool said = message != NULL && message[0] != '\0';

    /* The core's own words for a refused connection name sockets and subchannels. */
    if (status == RMK_STATUS_UNAVAILABLE && said && strstr(message, "failed to connect") != NULL) {
        return rmk_fail(why, RMK_EUNAVAILABLE,
                        "nobody answers at %s; is the cluster running? `remask up` starts one",
                        endpoint);
    }
    if (status == RMK_STATUS_DEADLINE_EXCEEDED &&
        (!said || strstr(message, "Deadline Exceeded") != NULL)) {
        return rmk_fail(why, RMK_EDEADLINE, "%s did not answer within the time allowed", endpoint);
    }
    return rmk_fail(why, rmk_err_of_status(status), "%s", said ? message : rmk_status_name(status));
}

const char *rmk_client_endpoint(const char *given, const char *name, char *buffer,
                                size_t buffer_size)
{
    if (given != NULL) {
        return given;
    }
    return rmk_state_endpoint(name, buffer, buffer_size) ? buffer : default_endpoint;
}
