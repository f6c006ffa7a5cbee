/* Any bytes as a tokenizer.json: refused in a sentence, or a tokenizer that encodes and decodes
 * without loss. */
#include <stdlib.h>

#include "model/tokenizer_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct rmk_tokenizer *tokenizer)
{
    struct rmk_bytes text = rmk_bytes_text("Hi <a> 12\n\n  \xc3\xa9 e\xcc\x81!");
    struct rmk_ids ids = {0};
    char *decoded;
    size_t size;

    for (int special = 0; special < 2; special++) {
        ids.count = 0;
        if (rmk_tokenizer_encode(tokenizer, text, (enum rmk_special)special, &ids, NULL) !=
            RMK_OK) {
            continue; /* a pattern that takes too long */
        }
        rmk_assert(rmk_tokenizer_decode(tokenizer, ids.items, ids.count, false, &decoded, &size,
                                        NULL) == RMK_OK);
        if (tokenizer->normal_form == 0) {
            rmk_assert(rmk_bytes_equal(rmk_bytes_of(decoded, size), text));
        }
        free(decoded);
    }
    rmk_ids_deinit(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rmk_tokenizer *tokenizer = NULL;
    struct rmk_why why = {0};

    if (rmk_tokenizer_create_from_json(rmk_bytes_of(data, size), &tokenizer, &why) == RMK_OK) {
        use(tokenizer);
    } else {
        rmk_assert(why.text[0] != '\0');
    }
    rmk_tokenizer_destroy(tokenizer);
    return 0;
}
