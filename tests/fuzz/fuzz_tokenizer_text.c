/* Any bytes as text: refused as no UTF-8, or encoded and decoded without loss. Then the same bytes
 * as ids, decoded whole and token by token, and as a message of a chat. */
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"
#include "model/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rmk_tokenizer *tokenizer;

static void encode_and_back(struct rmk_bytes text, enum rmk_special special, struct rmk_ids *ids)
{
    char *decoded;
    size_t size;

    ids->count = 0;
    enum rmk_err err = rmk_tokenizer_encode(tokenizer, text, special, ids, NULL);
    rmk_assert(err == (rmk_utf8_valid(text, NULL) ? RMK_OK : RMK_EINVAL));
    if (err != RMK_OK) {
        return;
    }
    rmk_assert(rmk_tokenizer_decode(tokenizer, ids->items, ids->count, false, &decoded, &size,
                                    NULL) == RMK_OK);
    rmk_assert(rmk_bytes_equal(rmk_bytes_of(decoded, size), text));
    free(decoded);
}

static void decode_both_ways(struct rmk_bytes bytes, struct rmk_ids *ids)
{
    struct rmk_detokenizer state = {0};
    size_t capacity = rmk_tokenizer_piece_max(tokenizer) + 12;
    char *streamed = malloc((bytes.size + 1) * capacity);
    char *whole;
    size_t whole_size;
    size_t size = 0;

    rmk_assert(streamed != NULL);
    ids->count = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        int32_t id = (int32_t)bytes.data[i] * (i % 3 == 0 ? 3 : 1);
        size_t piece;
        rmk_assert(rmk_ids_append(ids, &id, 1) == RMK_OK);
        rmk_assert(rmk_detokenizer_push(&state, tokenizer, id, true, streamed + size, capacity,
                                        &piece) == RMK_OK);
        size += piece;
    }
    size += rmk_detokenizer_flush(&state, streamed + size);
    rmk_assert(rmk_tokenizer_decode(tokenizer, ids->items, ids->count, true, &whole, &whole_size,
                                    NULL) == RMK_OK);
    rmk_assert(rmk_bytes_equal(rmk_bytes_of(streamed, size), rmk_bytes_of(whole, whole_size)));
    rmk_assert(rmk_utf8_valid(rmk_bytes_of(whole, whole_size), NULL));
    free(whole);
    free(streamed);
}

static void chat(struct rmk_bytes text, struct rmk_ids *ids)
{
    for (int i = 0; i < 8; i++) {
        const struct rmk_chat_options options = {
            .parse_special = i & 1, .parse_placeholders = i & 2, .keep_token_after_image = i & 4};
        const struct rmk_part parts[] = {{.kind = RMK_PART_MEDIA}, {.text = text}};
        const struct rmk_message message = {.role = RMK_ROLE_USER, .parts = parts, .part_count = 2};
        ids->count = 0;
        enum rmk_err err = rmk_chat_encode(tokenizer, &message, 1, &options, ids, NULL, NULL);
        rmk_assert(err == (rmk_utf8_valid(text, NULL) ? RMK_OK : RMK_EINVAL));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rmk_bytes bytes = rmk_bytes_of(data, size);
    struct rmk_ids ids = {0};
    struct rmk_why why = {0};

    if (tokenizer == NULL) {
        rmk_assert(rmk_tokenizer_create("tests/data/models/tiny-tokenizer/tokenizer.json",
                                        &tokenizer, &why) == RMK_OK);
    }
    encode_and_back(bytes, RMK_SPECIAL_PARSE, &ids);
    encode_and_back(bytes, RMK_SPECIAL_PLAIN, &ids);
    decode_both_ways(bytes, &ids);
    chat(bytes, &ids);
    rmk_ids_deinit(&ids);
    return 0;
}
