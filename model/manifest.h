/* Whether the files of a checkpoint are the ones that were published: a `SHA256SUMS` beside them,
 * as sha256sum writes it. Reads every byte, so it is asked for (--verify-weights); the handshake
 * compares rmk_checkpoint_digest instead.
 */
#ifndef RMK_MODEL_MANIFEST_H
#define RMK_MODEL_MANIFEST_H

#include "common/err.h"

/* Every file listed in `dir`/SHA256SUMS has its sum, and every .safetensors file in `dir` is
 * listed.
 *
 * Errors name the file:
 *   RMK_ENOTFOUND  no SHA256SUMS, or a listed file is missing
 *   RMK_ECORRUPT   a file has another sum or is not listed, or a line is no sum and name
 *   RMK_EINVAL     a listed name is not a plain one, or what has it is not a regular file
 */
enum rmk_err rmk_manifest_verify(const char *dir, struct rmk_why *why);

#endif
