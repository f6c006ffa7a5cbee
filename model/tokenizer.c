#include "model/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_parts.h"

enum rmk_err rmk_ids_append(struct rmk_ids *ids, const int32_t *items, size_t count)
{
    if (count > ids->capacity - ids->count) {
        if (count > SIZE_MAX / sizeof(*items) / 4 - ids->count) {
            return RMK_ELIMIT;
        }
        size_t capacity = ids->count + count < 64 ? 64 : (ids->count + count) * 2;
        int32_t *grown = realloc(ids->items, capacity * sizeof(*grown));
        if (grown == NULL) {
            return RMK_ELIMIT;
        }
        ids->items = grown;
        ids->capacity = capacity;
    }
    if (count > 0) {
        memcpy(ids->items + ids->count, items, count * sizeof(*items));
    }
    ids->count += count;
    return RMK_OK;
}

void rmk_ids_deinit(struct rmk_ids *ids)
{
    free(ids->items);
    *ids = (struct rmk_ids){0};
}

void rmk_tokenizer_destroy(struct rmk_tokenizer *tokenizer)
{
    if (tokenizer == NULL) {
        return;
    }
    for (size_t i = 0; i < tokenizer->stage_count; i++) {
        rmk_pattern_destroy(tokenizer->stages[i]);
    }
    free(tokenizer->literals.items);
    free(tokenizer->normalised_literals.items);
    rmk_bpe_deinit(&tokenizer->bpe);
    free(tokenizer->places);
    free(tokenizer->tokens);
    free(tokenizer->arena);
    free(tokenizer);
}

uint32_t rmk_tokenizer_size(const struct rmk_tokenizer *tokenizer)
{
    return tokenizer->size;
}

size_t rmk_tokenizer_piece_max(const struct rmk_tokenizer *tokenizer)
{
    return tokenizer->piece_max;
}

int32_t rmk_tokenizer_find(const struct rmk_tokenizer *tokenizer, const char *content)
{
    return rmk_tokenizer_find_bytes(tokenizer, rmk_bytes_text(content));
}

int32_t rmk_tokenizer_find_bytes(const struct rmk_tokenizer *tokenizer, struct rmk_bytes content)
{
    return *rmk_tokenizer_place(tokenizer, content);
}

static uint64_t hash(uint64_t seed, struct rmk_bytes text)
{
    uint64_t state = seed ^ text.size * 0x9e3779b97f4a7c15u;

    for (size_t at = 0; at < text.size; at += 8) {
        uint64_t word = 0;
        size_t left = text.size - at;
        memcpy(&word, text.data + at, left < 8 ? left : 8);
        state = (state ^ word) * 0xbf58476d1ce4e5b9u;
        state ^= state >> 29;
    }
    state *= 0x94d049bb133111ebu;
    return state ^ state >> 32;
}

int32_t *rmk_tokenizer_place(const struct rmk_tokenizer *tokenizer, struct rmk_bytes content)
{
    uint64_t at = hash(tokenizer->seed, content) & tokenizer->place_mask;

    for (;;) {
        int32_t id = tokenizer->places[at];
        if (id < 0) {
            return &tokenizer->places[at];
        }
        const struct rmk_token *token = &tokenizer->tokens[id];
        if (rmk_bytes_equal(content,
                            rmk_tokenizer_bytes(tokenizer, token->content, token->content_size))) {
            return &tokenizer->places[at];
        }
        at = (at + 1) & tokenizer->place_mask;
    }
}

enum rmk_err rmk_tokenizer_keep(struct rmk_tokenizer *tokenizer, struct rmk_bytes text,
                                uint32_t *out_offset)
{
    size_t needed = tokenizer->arena_size + text.size;

    if (needed > UINT32_MAX) {
        return RMK_ELIMIT;
    }
    if (needed > tokenizer->arena_capacity) {
        char *grown = realloc(tokenizer->arena, needed * 2);
        if (grown == NULL) {
            return RMK_ELIMIT;
        }
        tokenizer->arena = grown;
        tokenizer->arena_capacity = needed * 2;
    }
    if (text.size > 0) {
        memcpy(tokenizer->arena + tokenizer->arena_size, text.data, text.size);
    }
    *out_offset = (uint32_t)tokenizer->arena_size;
    tokenizer->arena_size = needed;
    return RMK_OK;
}
