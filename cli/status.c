#include <stdio.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/json_text.h"
#include "cli/state.h"
#include "common/config.h"
#include "remask/v1/remask.pb-c.h"

static json_t *group_json(const Remask__V1__GroupStatus *group)
{
    json_t *ranks = json_array();

    for (size_t i = 0; i < group->n_ranks; i++) {
        (void)json_array_append_new(ranks, rmk_json_text(group->ranks[i]));
    }
    return json_pack("{s:o, s:o, s:I, s:i, s:o, s:o, s:I}", "name", rmk_json_text(group->name),
                     "state", rmk_json_text(group->state), "epoch", (json_int_t)group->epoch,
                     "size", (int)group->size, "ranks", ranks, "numerics",
                     rmk_json_text(group->numerics), "rounds", (json_int_t)group->rounds);
}

static json_t *vision_json(const Remask__V1__VisionStatus *vision)
{
    return json_pack("{s:o, s:o, s:I, s:I}", "name", rmk_json_text(vision->name), "address",
                     rmk_json_text(vision->address), "epoch", (json_int_t)vision->epoch, "encoded",
                     (json_int_t)vision->encoded);
}

static void print_json(const char *endpoint, const Remask__V1__StatusReply *reply)
{
    json_t *groups = json_array();
    json_t *visions = json_array();

    for (size_t i = 0; i < reply->n_groups; i++) {
        (void)json_array_append_new(groups, group_json(reply->groups[i]));
    }
    for (size_t i = 0; i < reply->n_visions; i++) {
        (void)json_array_append_new(visions, vision_json(reply->visions[i]));
    }
    rmk_json_print_line(
        json_pack("{s:s, s:o, s:o, s:o, s:I, s:i, s:i, s:I, s:I, s:o, s:o}", "endpoint", endpoint,
                  "version", rmk_json_text(reply->version), "model", rmk_json_text(reply->model),
                  "state", rmk_json_text(reply->state), "uptime_us", (json_int_t)reply->uptime_us,
                  "open_requests", (int)reply->open_requests, "queued_requests",
                  (int)reply->queued_requests, "accepted", (json_int_t)reply->accepted, "refused",
                  (json_int_t)reply->refused, "groups", groups, "visions", visions));
}

static void print_text(const char *endpoint, const Remask__V1__StatusReply *reply)
{
    (void)printf("%s: remask %s, model %s, %s, up for %.0f s\n", endpoint, reply->version,
                 reply->model, reply->state, (double)reply->uptime_us / 1e6);
    (void)printf("requests: %u open, %u queued; %llu accepted, %llu refused\n",
                 reply->open_requests, reply->queued_requests, (unsigned long long)reply->accepted,
                 (unsigned long long)reply->refused);
    for (size_t i = 0; i < reply->n_groups; i++) {
        const Remask__V1__GroupStatus *group = reply->groups[i];
        (void)printf("group %-8s %s, epoch %llu, %zu of %u ranks, %s, %llu rounds\n", group->name,
                     group->state, (unsigned long long)group->epoch, group->n_ranks, group->size,
                     group->numerics, (unsigned long long)group->rounds);
    }
    for (size_t i = 0; i < reply->n_visions; i++) {
        const Remask__V1__VisionStatus *vision = reply->visions[i];
        (void)printf("vision %-7s %s, epoch %llu, %llu encoded\n", vision->name, vision->address,
                     (unsigned long long)vision->epoch, (unsigned long long)vision->encoded);
    }
}

static int ask(const char *endpoint, const char *api_key, uint64_t timeout_us, bool json)
{
    Remask__V1__StatusRequest request = REMASK__V1__STATUS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    struct rmk_client client;
    struct rmk_why why = {0};

    enum rmk_err err = rmk_client_open(&client, endpoint, api_key, &why);
    if (err != RMK_OK) {
        (void)fprintf(stderr, "remask status: %s\n", why.text);
        return rmk_cli_exit_of_open(err);
    }
    err = rmk_client_ask(&client, "/remask.v1.Remask/Status", &request.base,
                         &remask__v1__status_reply__descriptor, (timeout_us + 999) / 1000, &reply,
                         &why);
    if (err != RMK_OK) {
        (void)fprintf(stderr, "remask status: %s\n", why.text);
    } else if (json) {
        print_json(endpoint, (const Remask__V1__StatusReply *)reply);
    } else {
        print_text(endpoint, (const Remask__V1__StatusReply *)reply);
    }
    if (reply != NULL) {
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    rmk_client_close(&client);
    return rmk_cli_exit_of(err);
}

int rmk_status_run(int argc, char **argv)
{
    const char *given = NULL;
    const char *name = NULL;
    const char *api_key = NULL;
    uint64_t timeout_us = 0;
    bool json = false;
    char endpoint[256];
    struct rmk_config_flag flags[] = {
        {.name = "endpoint",
         .kind = RMK_CONFIG_TEXT,
         .target = &given,
         .argument = "HOST:PORT",
         .help = "the coordinator; not given: the local cluster --name, else 127.0.0.1:8001"},
        {.name = "name",
         .kind = RMK_CONFIG_TEXT,
         .target = &name,
         .fallback = RMK_STATE_NAME_DEFAULT,
         .argument = "NAME",
         .help = "a local cluster that `remask up` started"},
        {.name = "api-key",
         .kind = RMK_CONFIG_TEXT,
         .target = &api_key,
         .argument = "KEY",
         .help = RMK_CLIENT_API_KEY_HELP},
        {.name = "json", .kind = RMK_CONFIG_SWITCH, .target = &json, .help = "one line of JSON"},
        {.name = "timeout",
         .kind = RMK_CONFIG_DURATION,
         .target = &timeout_us,
         .fallback = "10s",
         .argument = "TIME",
         .help = "0: wait for ever"},
    };
    struct rmk_config config = {
        .program = "remask status",
        .summary = "What a cluster is doing: its groups, vision workers and counters.",
        .flags = flags,
        .flag_count = sizeof(flags) / sizeof(flags[0]),
    };
    int status = rmk_config_load(&config, argc, argv);

    if (status < 0) {
        status = ask(rmk_client_endpoint(given, name, endpoint, sizeof(endpoint)), api_key,
                     timeout_us, json);
    }
    rmk_config_deinit(&config);
    return status;
}
