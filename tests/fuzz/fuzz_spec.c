/* Any bytes as a model's configuration: refused in a sentence, or numbers that deeper code may rely
 * on. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rmk_spec spec;
    struct rmk_why why = {0};
    char *text = malloc(size + 1);

    check(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    /* As overrides of an empty configuration, which spares a file for each input. */
    if (rmk_spec_read("tests/fuzz/empty_model", NULL, text, &spec, &why) == RMK_OK) {
        check(spec.text.layer_count > 0);
        check(spec.text.head_width > 0 && spec.text.head_width % 2 == 0);
        check(spec.text.head_count * spec.text.head_width == spec.text.width);
        check(spec.text.head_count % spec.text.kv_head_count == 0);
        check(spec.text.rms_eps >= 0);
        check(spec.text.rope_theta > 0);
        check(!spec.vision.present || spec.grid.side > 0);
        check(!spec.vision.present || spec.vision.width % spec.vision.head_count == 0);
        check(spec.grid.pinpoint_count <= RMK_PINPOINTS_MAX);
        check(spec.grid.aspect != RMK_IMAGE_ANYRES || spec.grid.pinpoint_count > 0);
    } else {
        check(why.text[0] != '\0');
    }
    free(text);
    return 0;
}
