/* An answer, complete: what the client gets, and what a client that asks again with the same
 * request id gets. Counted, immutable once made.
 */
#ifndef RMK_COORDINATOR_RESULT_H
#define RMK_COORDINATOR_RESULT_H

#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "coordinator/engine/engine.h"

struct rmk_result {
    uint32_t references;
    enum rmk_finish reason; /* LENGTH, STOP, or DEADLINE with the canvas as it was */
    const char *profile;    /* static */
    char *text;             /* may hold NUL bytes */
    size_t text_size;
    int32_t *ids; /* generated, then the suffix */
    uint32_t id_count;
    uint32_t suffix_count;
    uint32_t completion_tokens; /* generated ids, undecided positions not counted */
    uint32_t prompt_rows;
    uint32_t image_rows;
    uint32_t image_tiles;
    struct rmk_usage usage;
    char numerics[96]; /* "cpu/f32/tp2" */
};

/* Copies text and ids; the other fields are the caller's to fill. One reference. NULL: no memory.
 */
struct rmk_result *rmk_result_create(struct rmk_bytes text, const int32_t *ids, uint32_t id_count);
/* As clients read it: "stop", "length", "deadline". */
const char *rmk_result_reason(const struct rmk_result *result);
struct rmk_result *rmk_result_ref(struct rmk_result *result);
/* Takes NULL. */
void rmk_result_unref(struct rmk_result *result);

#endif
