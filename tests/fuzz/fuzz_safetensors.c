/* Any bytes as a safetensors file: refused in a sentence, or every view lies inside the file. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rmk_checkpoint *checkpoint = NULL;
    struct rmk_why why = {0};
    char path[64];
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    if (fd < 0 || write(fd, data, size) != (ssize_t)size) {
        abort();
    }
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (rmk_checkpoint_open_file(path, &checkpoint, &why) == RMK_OK) {
        volatile uint8_t sink = 0;
        for (size_t i = 0; i < rmk_checkpoint_count(checkpoint); i++) {
            const struct rmk_tensor *tensor =
                rmk_checkpoint_find(checkpoint, rmk_checkpoint_name(checkpoint, i));
            for (uint64_t j = 0; j < tensor->bytes; j++) {
                sink ^= ((const uint8_t *)tensor->data)[j];
            }
        }
    } else if (why.text[0] == '\0') {
        abort();
    }
    rmk_checkpoint_close(checkpoint);
    (void)close(fd);
    return 0;
}
