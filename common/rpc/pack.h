/* protobuf-c at the edge: packing into a call, unpacking with a memory bound, and the string check
 * protobuf-c lacks.
 *
 * protobuf-c accepts invalid UTF-8 and embedded NULs in strings (then strlen lies), and a message
 * of two-byte elements unpacks to twenty times its size. Everything that arrives goes through
 * rmk_unpack.
 */
#ifndef RMK_COMMON_RPC_PACK_H
#define RMK_COMMON_RPC_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "common/bytes.h"
#include "common/err.h"

struct rmk_rpc_call;

/* Nesting of messages; ours nest five deep. */
#define RMK_PACK_DEPTH_MAX 16

/* Pack straight into a message of the call and queue it: as rmk_rpc_call_send, one copy less.
 * `message` is a generated struct, passed as `&m.base`. */
bool rmk_pack_send(struct rmk_rpc_call *call, const ProtobufCMessage *message);

/* Pack into one allocation that the caller frees. NULL: no memory. */
uint8_t *rmk_pack(const ProtobufCMessage *message, size_t *out_size);

/* Unpack and check. The result is freed with the generated `…__free_unpacked(m, NULL)`.
 *
 * Errors:
 *   RMK_EINVAL  not a message of this type; a string that is no UTF-8 or contains a NUL (named)
 *   RMK_ELIMIT  nested too deep, or more memory than a message of this size may take
 */
enum rmk_err rmk_unpack(const ProtobufCMessageDescriptor *descriptor, struct rmk_bytes bytes,
                        ProtobufCMessage **out_message, struct rmk_why *why);

/* The string check on packed bytes, without unpacking: every string field of the message and of the
 * messages in it. Errors as rmk_unpack. */
enum rmk_err rmk_pack_check(const ProtobufCMessageDescriptor *descriptor, struct rmk_bytes bytes,
                            struct rmk_why *why);

#endif
