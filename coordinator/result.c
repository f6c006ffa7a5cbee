#include "coordinator/result.h"

#include <stdlib.h>
#include <string.h>

struct rmk_result *rmk_result_create(struct rmk_bytes text, const int32_t *ids, uint32_t id_count)
{
    struct rmk_result *result = calloc(1, sizeof(*result));

    if (result == NULL) {
        return NULL;
    }
    result->references = 1;
    result->text = malloc(text.size + 1);
    result->ids = malloc(((size_t)id_count + 1) * sizeof(*result->ids));
    if (result->text == NULL || result->ids == NULL) {
        rmk_result_unref(result);
        return NULL;
    }
    if (text.size > 0) {
        memcpy(result->text, text.data, text.size);
    }
    result->text[text.size] = '\0';
    result->text_size = text.size;
    if (id_count > 0) {
        memcpy(result->ids, ids, id_count * sizeof(*ids));
    }
    result->id_count = id_count;
    return result;
}

const char *rmk_result_reason(const struct rmk_result *result)
{
    switch (result->reason) {
    case RMK_FINISH_STOP:
        return "stop";
    case RMK_FINISH_DEADLINE:
        return "deadline";
    default:
        return "length";
    }
}

struct rmk_result *rmk_result_ref(struct rmk_result *result)
{
    result->references++;
    return result;
}

void rmk_result_unref(struct rmk_result *result)
{
    if (result == NULL || --result->references > 0) {
        return;
    }
    free(result->text);
    free(result->ids);
    free(result);
}
