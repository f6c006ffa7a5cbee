/* A checkpoint on disk: one `model.safetensors`, or the shards named by
 * `model.safetensors.index.json`.
 *
 * Files are mapped, never copied; headers are checked whole at open (bounds, overlaps, holes, shape
 * times dtype, names, index targets inside the directory), so deeper code may trust every view. A
 * rank reads only the rows it needs; pages it never touches are never loaded. Format:
 * huggingface/safetensors, README.
 */
#ifndef RMK_MODEL_SAFETENSORS_H
#define RMK_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

enum rmk_dtype {
    RMK_F32 = 0,
    RMK_BF16,
    RMK_F16,
    RMK_F64,
    RMK_I64,
    RMK_I32,
    RMK_U8,
};

size_t rmk_dtype_bytes(enum rmk_dtype dtype);
const char *rmk_dtype_name(enum rmk_dtype dtype);

enum { RMK_TENSOR_RANK_MAX = 8 };

/* A borrowed view into the mapping; lives until rmk_checkpoint_close. Row-major. The format does
 * not promise that `data` is aligned to its type. */
struct rmk_tensor {
    const void *data;
    enum rmk_dtype dtype;
    uint32_t rank;
    uint64_t shape[RMK_TENSOR_RANK_MAX];
    uint64_t bytes;
};

struct rmk_checkpoint;

/* Map every shard of the checkpoint in directory `dir`.
 *
 * Errors:
 *   RMK_ENOTFOUND  no index and no single file in `dir`, or a shard is missing
 *   RMK_ECORRUPT   a header is malformed, a tensor reaches past its file, tensors overlap or leave
 * holes RMK_EINVAL     the index names a file outside `dir`
 */
enum rmk_err rmk_checkpoint_open(const char *dir, struct rmk_checkpoint **out_checkpoint,
                                 struct rmk_why *why);

/* Map one file, which need not be a model (golden tensors). */
enum rmk_err rmk_checkpoint_open_file(const char *path, struct rmk_checkpoint **out_checkpoint,
                                      struct rmk_why *why);

/* Takes NULL. */
void rmk_checkpoint_close(struct rmk_checkpoint *checkpoint);

/* NULL when there is no tensor of that name. */
const struct rmk_tensor *rmk_checkpoint_find(const struct rmk_checkpoint *checkpoint,
                                             const char *name);

/* The tensor `name` with exactly this shape; the sentence names tensor, wanted and found shape. */
enum rmk_err rmk_checkpoint_expect(const struct rmk_checkpoint *checkpoint, const char *name,
                                   uint32_t rank, const uint64_t *shape,
                                   const struct rmk_tensor **out_tensor, struct rmk_why *why);

/* The file that `tensor` (of this checkpoint) lies in, and where in it its data begin. The path
 * lives as long as the checkpoint. */
void rmk_checkpoint_place(const struct rmk_checkpoint *checkpoint, const struct rmk_tensor *tensor,
                          const char **out_path, uint64_t *out_offset);

size_t rmk_checkpoint_count(const struct rmk_checkpoint *checkpoint);
const char *rmk_checkpoint_name(const struct rmk_checkpoint *checkpoint, size_t index);

/* Digest over names, dtypes, shapes and file sizes (not over the weights themselves, which would
 * read them all): ranks and coordinator compare it in the handshake. 32 bytes (SHA-256). */
void rmk_checkpoint_digest(const struct rmk_checkpoint *checkpoint, uint8_t out_digest[32]);

/* Convert `count` elements of dtype F32, BF16 or F16 starting at element `first` to fp32. */
void rmk_tensor_to_f32(const struct rmk_tensor *tensor, uint64_t first, uint64_t count, float *out);

#endif
