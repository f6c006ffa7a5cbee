/* A GenerateRequest as it comes from a client: the string check, then unpacking with its memory
 * bound. What comes out is walked, so that a string or a length that lies is noticed. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/rpc/pack.h"
#include "common/utf8.h"
#include "remask/v1/remask.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_at_text(const char *text)
{
    rmk_assert(rmk_utf8_valid(rmk_bytes_text(text), NULL));
}

static void look_at_media(const Remask__V1__Media *media)
{
    if (media->kind_case == REMASK__V1__MEDIA__KIND_IMAGE && media->image.len > 0) {
        volatile uint8_t last = media->image.data[media->image.len - 1];
        (void)last;
    }
}

static void look_at(const Remask__V1__GenerateRequest *request)
{
    look_at_text(request->request_id);
    look_at_text(request->raw_prompt);
    look_at_text(request->model);
    for (size_t i = 0; i < request->n_messages; i++) {
        const Remask__V1__Message *message = request->messages[i];
        look_at_text(message->role);
        for (size_t j = 0; j < message->n_parts; j++) {
            const Remask__V1__Part *part = message->parts[j];
            if (part->kind_case == REMASK__V1__PART__KIND_TEXT) {
                look_at_text(part->text);
            } else if (part->kind_case == REMASK__V1__PART__KIND_MEDIA) {
                look_at_media(part->media);
            }
        }
    }
    for (size_t i = 0; request->sampling != NULL && i < request->sampling->n_stop; i++) {
        look_at_text(request->sampling->stop[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ProtobufCMessage *message = NULL;
    struct rmk_why why = {0};
    enum rmk_err err = rmk_unpack(&remask__v1__generate_request__descriptor,
                                  rmk_bytes_of(data, size), &message, &why);

    if (err == RMK_OK) {
        look_at((const Remask__V1__GenerateRequest *)message);
        protobuf_c_message_free_unpacked(message, NULL);
    } else {
        rmk_assert(why.text[0] != '\0'); /* every refusal says why */
    }
    return 0;
}
