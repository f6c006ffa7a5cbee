/* Any bytes as a GenerateRequest: refused with a sentence, or a request whose numbers agree with
 * each other; and no picture is left behind either way. */
#include <stdlib.h>

#include "common/rpc/pack.h"
#include "coordinator/back/images.h"
#include "coordinator/front/ask.h"
#include "coordinator/front/grpc_ask.h"
#include "coordinator/front/intake.h"
#include "coordinator/served.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rmk_model_data *model;
static struct rmk_images *images;

static void load(void)
{
    struct rmk_why why = {0};

    if (model == NULL) {
        rmk_assert(rmk_model_data_create("models/demo", NULL, NULL, NULL, false, &model, &why) ==
                   RMK_OK);
        images = rmk_images_create(1 << 20);
        rmk_assert(images != NULL);
    }
}

static void check(const struct rmk_intake *intake)
{
    const struct rmk_submit *submit = &intake->submit;
    uint32_t rows = 0;

    for (uint32_t i = 0; i < intake->piece_count; i++) {
        const struct rmk_piece *piece = &intake->pieces[i];

        rows += piece->rows;
        rmk_assert(piece->id_first + piece->id_count <= intake->id_count);
        if (piece->id_count == 0) {
            rmk_assert(piece->item < submit->item_count);
        }
    }
    rmk_assert(rows == submit->prompt_rows);
    rmk_assert(rows <= model->spec.text.prompt_rows_max);
    rmk_assert(submit->gen_length > 0);
    rmk_assert(submit->gen_length % submit->block_length == 0);
    rmk_assert(submit->steps % (submit->gen_length / submit->block_length) == 0);
    for (uint32_t i = 0; i < intake->id_count; i++) {
        rmk_assert(intake->ids[i] >= 0);
        rmk_assert((uint32_t)intake->ids[i] < model->spec.text.vocab);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ProtobufCMessage *message = NULL;
    struct rmk_ask *ask = NULL;
    struct rmk_intake *intake = NULL;
    struct rmk_why why = {0};
    enum rmk_err err;

    load();
    RMK_TRY(rmk_unpack(&remask__v1__generate_request__descriptor, rmk_bytes_of(data, size),
                       &message, &why));
    RMK_TRY(rmk_grpc_ask(images, 0, (Remask__V1__GenerateRequest *)message, size, &ask, &why));
    RMK_TRY(rmk_intake_create(&model->served, ask, &intake, &why));
    rmk_intake_adopt(intake);
    check(intake);
out:
    rmk_assert((err == RMK_OK) == (intake != NULL));
    rmk_assert(err == RMK_OK || why.text[0] != '\0');
    rmk_intake_destroy(intake);
    rmk_ask_destroy(ask);
    rmk_assert(rmk_images_count(images) == 0);
    return 0;
}
