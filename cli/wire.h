/* Texts straight from a packed message. protobuf-c ends a string at its first NUL, and a model that
 * writes bytes writes NULs as well; the wire has the whole length. */
#ifndef RMK_CLI_WIRE_H
#define RMK_CLI_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"

/* Follow field numbers from the outermost message inwards, all of them length-delimited, and view
 * the last one's bytes. The last of several occurrences counts, as everywhere in protobuf. Empty
 * when there is none, or the message is malformed. */
struct rmk_bytes rmk_wire_find(struct rmk_bytes message, const uint32_t *fields,
                               size_t field_count);

#endif
