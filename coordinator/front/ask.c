#include "coordinator/front/ask.h"

#include <stdlib.h>

#include "coordinator/back/images.h"

struct rmk_ask *rmk_ask_create(uint32_t message_count, uint32_t part_count, uint32_t media_count,
                               uint32_t frame_count)
{
    struct rmk_ask *ask = calloc(1, sizeof(*ask));

    if (ask == NULL) {
        return NULL;
    }
    ask->messages_all = calloc((size_t)message_count + 1, sizeof(*ask->messages_all));
    ask->parts_all = calloc((size_t)part_count + 1, sizeof(*ask->parts_all));
    ask->media_all = calloc((size_t)media_count + 1, sizeof(*ask->media_all));
    ask->frames_all = calloc((size_t)frame_count + 1, sizeof(struct rmk_blob *));
    ask->messages = ask->messages_all;
    ask->message_count = message_count;
    ask->media_all_count = media_count;
    ask->frames_all_count = frame_count;
    ask->request_id = "";
    ask->model = "";
    ask->suffix = "";
    if (ask->messages_all == NULL || ask->parts_all == NULL || ask->media_all == NULL ||
        ask->frames_all == NULL) {
        rmk_ask_destroy(ask);
        return NULL;
    }
    return ask;
}

void rmk_ask_destroy(struct rmk_ask *ask)
{
    if (ask == NULL) {
        return;
    }
    if (ask->frames_all != NULL) {
        for (uint32_t i = 0; i < ask->frames_all_count; i++) {
            rmk_blob_unref(ask->frames_all[i]);
        }
    }
    free(ask->frames_all);
    free(ask->media_all);
    free(ask->parts_all);
    free(ask->messages_all);
    if (ask->release != NULL) {
        ask->release(ask->holder);
    }
    free(ask);
}
