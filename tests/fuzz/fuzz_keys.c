/* A file of API keys: refused with a line, or every key of it is known. */
#include <stdint.h>
#include <string.h>

#include "coordinator/front/keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rmk_keys *keys = NULL;
    struct rmk_why why = {0};

    rmk_assert(rmk_keys_create(NULL, &keys, &why) == RMK_OK);
    if (rmk_keys_parse(keys, rmk_bytes_of(data, size), &why) != RMK_OK) {
        rmk_assert(why.text[0] != '\0');
        rmk_assert(rmk_keys_count(keys) == 0);
    } else {
        rmk_assert(rmk_keys_count(keys) > 0);
        rmk_assert(rmk_keys_tenant_count(keys) > 0);
        rmk_assert(rmk_keys_tenant_count(keys) <= rmk_keys_count(keys));
    }
    rmk_keys_destroy(keys);
    return 0;
}
