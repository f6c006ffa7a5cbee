#include "common/rpc/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/rpc/internal.h"
#include "common/utf8.h"

enum { PATH_BYTES_MAX = 256 };

/* What unpacking may take beyond the message itself: a legitimate message of many small parts stays
 * far below, an attack of two-byte elements (some hundred bytes each in memory) does not get far.
 */
enum { MEMORY_FACTOR = 32 };
#define MEMORY_BASE      ((size_t)1 << 20)
#define MEMORY_EXTRA_MAX ((size_t)64 << 20)

/* ---- the wire ------------------------------------------------------------------------------ */

enum wire_type { VARINT = 0, FIXED64 = 1, LENGTH = 2, FIXED32 = 5 };

struct wire_field {
    uint32_t number;
    enum wire_type type;
    struct rmk_bytes payload; /* LENGTH only */
};

static bool read_varint(struct rmk_bytes *rest, uint64_t *out)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < 10 && i < rest->size; i++) {
        value |= (uint64_t)(rest->data[i] & 0x7f) << (7 * i);
        if (rest->data[i] < 0x80) {
            *rest = rmk_bytes_of(rest->data + i + 1, rest->size - i - 1);
            *out = value;
            return true;
        }
    }
    return false;
}

static bool skip(struct rmk_bytes *rest, uint64_t size)
{
    if (size > rest->size) {
        return false;
    }
    *rest = rmk_bytes_of(rest->data + size, rest->size - (size_t)size);
    return true;
}

/* Take one field off the front of `rest`, which is not empty. False: malformed. */
static bool read_field(struct rmk_bytes *rest, struct wire_field *out)
{
    uint64_t key;
    uint64_t value;

    if (!read_varint(rest, &key) || key >> 3 == 0 || key >> 3 > 0x1fffffff) {
        return false;
    }
    *out = (struct wire_field){.number = (uint32_t)(key >> 3), .type = (enum wire_type)(key & 7)};
    switch (out->type) {
    case VARINT:
        return read_varint(rest, &value);
    case FIXED64:
        return skip(rest, 8);
    case FIXED32:
        return skip(rest, 4);
    case LENGTH:
        if (!read_varint(rest, &value) || value > rest->size) {
            return false;
        }
        out->payload = rmk_bytes_of(rest->data, (size_t)value);
        return skip(rest, value);
    }
    return false; /* groups, which proto3 does not have, and numbers that are no type */
}

/* ---- the check ----------------------------------------------------------------------------- */

/* `messages[2].parts[0].text`, built from its end while errors go up. */
struct path {
    char text[PATH_BYTES_MAX];
};

/* How many fields with that number come before `payload` in the message: only asked for an error.
 */
static unsigned index_of(struct rmk_bytes message, const struct wire_field *field)
{
    struct wire_field other;
    unsigned index = 0;

    while (message.size > 0 && read_field(&message, &other) &&
           other.payload.data != field->payload.data) {
        index += other.number == field->number;
    }
    return index;
}

static void path_prepend(struct path *path, const ProtobufCFieldDescriptor *descriptor,
                         struct rmk_bytes message, const struct wire_field *field)
{
    char old[PATH_BYTES_MAX];
    char index[16] = "";

    memcpy(old, path->text, sizeof(old));
    if (descriptor->label == PROTOBUF_C_LABEL_REPEATED) {
        (void)snprintf(index, sizeof(index), "[%u]", index_of(message, field));
    }
    (void)snprintf(path->text, sizeof(path->text), "%s%s%s%.*s", descriptor->name, index,
                   old[0] != '\0' ? "." : "", PATH_BYTES_MAX - 64, old);
}

static enum rmk_err check_string(struct rmk_bytes text, struct rmk_why *why)
{
    size_t offset;

    if (text.size > 0 && memchr(text.data, '\0', text.size) != NULL) {
        return rmk_fail(why, RMK_EINVAL, "contains a NUL byte");
    }
    if (!rmk_utf8_valid(text, &offset)) {
        return rmk_fail(why, RMK_EINVAL, "is no UTF-8 at byte %zu", offset);
    }
    return RMK_OK;
}

/* Recursion is bounded by `depth`. On an error `path` names the field as far as it is known. */
static enum rmk_err check_message(const ProtobufCMessageDescriptor *descriptor,
                                  struct rmk_bytes message, unsigned depth, struct path *path,
                                  struct rmk_why *why)
{
    struct rmk_bytes rest = message;
    enum rmk_err err = RMK_OK;

    if (depth > RMK_PACK_DEPTH_MAX) {
        return rmk_fail(why, RMK_ELIMIT, "nested deeper than %d messages", RMK_PACK_DEPTH_MAX);
    }
    while (rest.size > 0) {
        struct wire_field field;
        if (!read_field(&rest, &field)) {
            return rmk_fail(why, RMK_EINVAL, "is no %s", descriptor->name);
        }
        const ProtobufCFieldDescriptor *known =
            protobuf_c_message_descriptor_get_field(descriptor, field.number);
        if (known == NULL || field.type != LENGTH) {
            continue;
        }
        if (known->type == PROTOBUF_C_TYPE_STRING) {
            err = check_string(field.payload, why);
        } else if (known->type == PROTOBUF_C_TYPE_MESSAGE) {
            err = check_message(known->descriptor, field.payload, depth + 1, path, why);
        }
        if (err != RMK_OK) {
            path_prepend(path, known, message, &field);
            return err;
        }
    }
    return RMK_OK;
}

enum rmk_err rmk_pack_check(const ProtobufCMessageDescriptor *descriptor, struct rmk_bytes bytes,
                            struct rmk_why *why)
{
    struct path path = {.text = ""};
    enum rmk_err err = check_message(descriptor, bytes, 1, &path, why);

    if (err != RMK_OK) {
        rmk_why_context(why, "%s", path.text[0] != '\0' ? path.text : "message");
    }
    return err;
}

/* ---- unpacking ----------------------------------------------------------------------------- */

struct budget {
    size_t left;
    bool exceeded;
};

static void *budget_alloc(void *context, size_t size)
{
    struct budget *budget = context;

    if (size > budget->left) {
        budget->exceeded = true;
        return NULL;
    }
    budget->left -= size;
    return malloc(size);
}

static void budget_free(void *context, void *memory)
{
    (void)context; /* not credited: the sizes are not known any more */
    free(memory);
}

enum rmk_err rmk_unpack(const ProtobufCMessageDescriptor *descriptor, struct rmk_bytes bytes,
                        ProtobufCMessage **out_message, struct rmk_why *why)
{
    size_t extra = bytes.size < MEMORY_EXTRA_MAX / MEMORY_FACTOR ? MEMORY_FACTOR * bytes.size
                                                                 : MEMORY_EXTRA_MAX;
    struct budget budget = {.left = bytes.size + extra + MEMORY_BASE};
    ProtobufCAllocator allocator = {
        .alloc = budget_alloc, .free = budget_free, .allocator_data = &budget};
    enum rmk_err err;

    RMK_TRY(rmk_pack_check(descriptor, bytes, why));
    ProtobufCMessage *message =
        protobuf_c_message_unpack(descriptor, &allocator, bytes.size, bytes.data);
    if (message == NULL && budget.exceeded) {
        err = rmk_fail(why, RMK_ELIMIT, "message: a %s of %zu bytes has too many small parts",
                       descriptor->name, bytes.size);
    } else if (message == NULL) {
        err = rmk_fail(why, RMK_EINVAL, "message: is no %s", descriptor->name);
    } else {
        *out_message = message;
    }
out:
    return err;
}

/* ---- packing ------------------------------------------------------------------------------- */

bool rmk_pack_send(struct rmk_rpc_call *call, const ProtobufCMessage *message)
{
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));

    (void)protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    return rmk_rpc_call_send_slice(call, slice);
}

uint8_t *rmk_pack(const ProtobufCMessage *message, size_t *out_size)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *data = malloc(size > 0 ? size : 1);

    if (data != NULL) {
        *out_size = protobuf_c_message_pack(message, data);
    }
    return data;
}
