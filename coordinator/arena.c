#include "coordinator/arena.h"

#include <stdint.h>
#include <stdlib.h>

#include "common/err.h"

struct rmk_arena_chunk {
    struct rmk_arena_chunk *next;
    size_t size;
    size_t used;
    _Alignas(16) uint8_t bytes[];
};

enum { CHUNK_BYTES = 64 * 1024 };

void *rmk_arena_take(struct rmk_arena *arena, size_t size)
{
    struct rmk_arena_chunk *chunk = arena->chunks;
    void *memory;

    size = (size + 15) & ~(size_t)15;
    while (chunk != NULL && chunk->size - chunk->used < size) {
        chunk = chunk->next;
    }
    if (chunk == NULL) {
        size_t room = size > CHUNK_BYTES ? size : CHUNK_BYTES;

        chunk = malloc(sizeof(*chunk) + room);
        rmk_assert(chunk != NULL);
        chunk->size = room;
        chunk->used = 0;
        chunk->next = arena->chunks;
        arena->chunks = chunk;
    }
    memory = chunk->bytes + chunk->used;
    chunk->used += size;
    return memory;
}

void rmk_arena_reset(struct rmk_arena *arena)
{
    for (struct rmk_arena_chunk *chunk = arena->chunks; chunk != NULL; chunk = chunk->next) {
        chunk->used = 0;
    }
}

void rmk_arena_deinit(struct rmk_arena *arena)
{
    while (arena->chunks != NULL) {
        struct rmk_arena_chunk *next = arena->chunks->next;

        free(arena->chunks);
        arena->chunks = next;
    }
}
