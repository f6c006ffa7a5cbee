#include "coordinator/served.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/safetensors.h"
#include "model/tokenizer.h"

/* The last part of a path; trailing slashes do not count. */
static void base_name(const char *path, char *out, size_t capacity)
{
    size_t end = strlen(path);
    size_t begin;

    while (end > 1 && path[end - 1] == '/') {
        end--;
    }
    begin = end;
    while (begin > 0 && path[begin - 1] != '/') {
        begin--;
    }
    (void)snprintf(out, capacity, "%.*s", (int)(end - begin), path + begin);
}

enum rmk_err rmk_model_data_create(const char *dir, const char *vision_dir, const char *overrides,
                                   const char *name, bool load_dummy,
                                   struct rmk_model_data **out_data, struct rmk_why *why)
{
    struct rmk_model_data *data = calloc(1, sizeof(*data));
    struct rmk_checkpoint *checkpoint = NULL;
    enum rmk_err err;

    if (data == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a model's configuration");
        goto out;
    }
    RMK_TRY(rmk_spec_read(dir, vision_dir, overrides, &data->spec, why));
    RMK_TRY(rmk_tokenizer_create_in(dir, &data->tokenizer, why));
    RMK_TRY(rmk_spec_bind_tokenizer(&data->spec, data->tokenizer, why));
    if (!load_dummy) {
        RMK_TRY(rmk_checkpoint_open(dir, &checkpoint, why));
        rmk_checkpoint_digest(checkpoint, data->served.digest);
    }
    if (name != NULL) {
        (void)snprintf(data->name, sizeof(data->name), "%s", name);
    } else {
        base_name(dir, data->name, sizeof(data->name));
    }
    data->served.spec = &data->spec;
    data->served.tokenizer = data->tokenizer;
    data->served.name = data->name;
    *out_data = data;
    data = NULL;
out:
    rmk_checkpoint_close(checkpoint);
    rmk_model_data_destroy(data);
    return err;
}

void rmk_model_data_destroy(struct rmk_model_data *data)
{
    if (data != NULL) {
        rmk_tokenizer_destroy(data->tokenizer);
        free(data);
    }
}
