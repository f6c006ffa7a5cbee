/* scenes/NAME: one model, messages and pictures, compared stage by stage from prompt ids to whole
 * generations. */
#include "tests/golden/tool/scene.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "common/limits.h"
#include "model/chat.h"
#include "model/safetensors.h"
#include "tests/golden/tool/files.h"
#include "worker/vision/encoder.h"

/* Measured between independent fp32 programs (reference specification, section 11): embedding rows
 * 4e-6 to 8e-6, logits up to 1e-4 with a spread of about 20. A wrong kernel is off by 1e-2 and
 * more. */
#define ROWS_TOLERANCE   1e-4
#define LOGITS_TOLERANCE 5e-4

enum { MESSAGES_MAX = 64, SUB_STRIDE = 61 };

/* ---- prompts
 * ----------------------------------------------------------------------------------------------------------
 */

static bool equal_ids(const struct rmk_ids *ids, const json_t *want, struct rmk_why *why)
{
    if (ids->count != json_array_size(want)) {
        (void)rmk_fail(why, RMK_EINVAL, "%zu ids, reference %zu", ids->count,
                       json_array_size(want));
        return false;
    }
    for (size_t i = 0; i < ids->count; i++) {
        if (json_integer_value(json_array_get(want, i)) != ids->items[i]) {
            (void)rmk_fail(why, RMK_EINVAL, "id %zu is %d, reference %d", i, ids->items[i],
                           (int)json_integer_value(json_array_get(want, i)));
            return false;
        }
    }
    return true;
}

static enum rmk_role role_of(const char *name)
{
    if (strcmp(name, "system") == 0) {
        return RMK_ROLE_SYSTEM;
    }
    return strcmp(name, "assistant") == 0 ? RMK_ROLE_ASSISTANT : RMK_ROLE_USER;
}

static bool prompt_of_messages(const struct rmk_tokenizer *tokenizer, const json_t *messages,
                               const json_t *prompt, const json_t *want, struct rmk_why *why)
{
    static const struct rmk_chat_options official = {.parse_special = true,
                                                     .parse_placeholders = true};
    struct rmk_part parts[MESSAGES_MAX];
    struct rmk_message list[MESSAGES_MAX];
    struct rmk_ids ids = {0};
    char *rendered = NULL;
    size_t count = json_array_size(messages);
    bool good = false;

    if (count > MESSAGES_MAX) {
        (void)rmk_fail(why, RMK_ELIMIT, "%zu messages", count);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *message = json_array_get(messages, i);
        const json_t *text = json_array_get(message, 1);
        parts[i] = (struct rmk_part){
            .kind = RMK_PART_TEXT,
            .text = rmk_bytes_of(json_string_value(text), json_string_length(text))};
        list[i] =
            (struct rmk_message){.role = role_of(json_string_value(json_array_get(message, 0))),
                                 .parts = &parts[i],
                                 .part_count = json_is_string(text) ? 1 : 0};
    }
    if (rmk_chat_encode(tokenizer, list, count, &official, &ids, &rendered, why) == RMK_OK) {
        good = equal_ids(&ids, want, why);
        if (good && strcmp(rendered, json_string_value(prompt)) != 0) {
            (void)rmk_fail(why, RMK_EINVAL, "the rendered prompt differs");
            good = false;
        }
    }
    rmk_ids_deinit(&ids);
    free(rendered);
    return good;
}

bool golden_prompt(const struct rmk_tokenizer *tokenizer, const json_t *messages,
                   const json_t *prompt, const json_t *want, struct rmk_why *why)
{
    struct rmk_ids ids = {0};

    bool good = rmk_chat_encode_prompt(
                    tokenizer, rmk_bytes_of(json_string_value(prompt), json_string_length(prompt)),
                    false, &ids, why) == RMK_OK &&
                equal_ids(&ids, want, why);
    rmk_ids_deinit(&ids);
    if (good && json_is_array(messages)) {
        good = prompt_of_messages(tokenizer, messages, prompt, want, why);
    }
    return good;
}

/* ---- models: kept from scene to scene, as several share one
 * -------------------------------------------------------- */

struct model {
    char key[512];
    struct rmk_spec spec;
    struct rmk_tokenizer *tokenizer;
    struct rmk_device *device; /* of the encoder */
    struct rmk_encoder *encoder;
    struct group *group;
};

static void model_close(struct model *model)
{
    group_destroy(model->group);
    rmk_encoder_destroy(model->encoder);
    if (model->device != NULL) {
        rmk_device_destroy(model->device);
    }
    rmk_tokenizer_destroy(model->tokenizer);
    memset(model, 0, sizeof(*model));
}

enum { ROWS_MAX = 8192, READS_MAX = 2048 };

static enum rmk_err model_open(struct model *model, const char *root, const json_t *scene,
                               const struct settings *settings, struct rmk_why *why)
{
    const char *name = json_string_value(json_object_get(scene, "model"));
    const json_t *overrides = json_object_get(scene, "config_overrides");
    char *overrides_text = json_is_object(overrides) ? json_dumps(overrides, 0) : NULL;
    char key[512];
    char source[1024];
    char dir[1024];
    char vision_dir[1100];
    char path[1200];
    enum rmk_err err = RMK_OK;

    (void)snprintf(key, sizeof(key), "%s/%s %s", root, name,
                   overrides_text != NULL ? overrides_text : "");
    if (strcmp(key, model->key) == 0) {
        goto out;
    }
    model_close(model);
    (void)snprintf(source, sizeof(source), "%s/models/%s", root, name);
    (void)snprintf(vision_dir, sizeof(vision_dir), "%s-siglip", source);
    RMK_TRY(model_folder(source, dir, why));
    RMK_TRY(rmk_spec_read(dir, file_exists("%s/config.json", vision_dir) ? vision_dir : NULL,
                          overrides_text, &model->spec, why));
    (void)snprintf(path, sizeof(path), "%s/tokenizer.json", dir);
    RMK_TRY(rmk_tokenizer_create(path, &model->tokenizer, why));
    RMK_TRY(rmk_spec_bind_tokenizer(&model->spec, model->tokenizer, why));
    const struct group_options group = {
        .spec = &model->spec,
        .backend = settings->backend,
        .act = settings->act,
        .plugin = settings->plugin,
        .size = settings->ranks,
        .rows_max = ROWS_MAX,
        .reads_max = READS_MAX,
    };
    RMK_TRY(group_create(&group, &model->group, why));
    if (model->spec.vision.present) {
        const struct rmk_device_options device = {.backend = settings->backend,
                                                  .act = settings->act,
                                                  .threads = 2,
                                                  .plugin = settings->plugin};
        RMK_TRY(rmk_device_create(&device, &model->device, why));
        const struct rmk_encoder_options encoder = {
            .spec = &model->spec, .device = model->device, .tile_batch = 4};
        RMK_TRY(rmk_encoder_create(&encoder, &model->encoder, why));
    }
    (void)snprintf(model->key, sizeof(model->key), "%s", key);
out:
    free(overrides_text);
    return err;
}

/* ---- pictures
 * ------------------------------------------------------------------------------------------------------------
 */

struct item {
    struct rmk_tiles tiles;
    float *features; /* [tiles.grid.rows, D] */
};

struct pictures {
    struct item items[RMK_ITEMS_MAX];
    uint32_t count;
};

static void pictures_deinit(struct pictures *pictures)
{
    for (uint32_t i = 0; i < pictures->count; i++) {
        rmk_tiles_deinit(&pictures->items[i].tiles);
        free(pictures->items[i].features);
    }
}

static enum rmk_image_mode mode_of(const char *how)
{
    static const struct {
        const char *how;
        enum rmk_image_mode mode;
    } table[] = {
        {"anyres", RMK_IMAGE_ANYRES},
        {"pad_list", RMK_IMAGE_PAD},
        {"pad_tensor", RMK_IMAGE_PAD_BARE},
        {"square_list", RMK_IMAGE_SQUARE},
        {"square_tensor", RMK_IMAGE_SQUARE_BARE},
        {"video", RMK_IMAGE_VIDEO},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(table[i].how, how) == 0) {
            return table[i].mode;
        }
    }
    return RMK_IMAGE_AUTO;
}

static enum rmk_err read_blobs(const char *root, const json_t *files, struct rmk_bytes *blobs,
                               struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    for (size_t i = 0; i < json_array_size(files); i++) {
        char path[2048];
        uint8_t *bytes = NULL;
        size_t size = 0;
        (void)snprintf(path, sizeof(path), "%s/images/%s", root,
                       json_string_value(json_array_get(files, i)));
        RMK_TRY(file_read(path, &bytes, &size, why));
        blobs[i] = rmk_bytes_of(bytes, size);
    }
out:
    return err;
}

static enum rmk_err tile_pictures(const char *root, const json_t *scene,
                                  const struct rmk_grid_spec *grid, struct pictures *pictures,
                                  struct rmk_why *why)
{
    const json_t *files = json_object_get(scene, "images");
    const char *how = json_string_value(json_object_get(scene, "how"));
    const enum rmk_image_mode mode = mode_of(how);
    struct rmk_bytes blobs[RMK_FRAMES_MAX] = {{0}};
    const size_t count = json_array_size(files);
    enum rmk_err err = RMK_OK;

    if (count == 0) {
        return RMK_OK;
    }
    if (mode == RMK_IMAGE_AUTO || count > RMK_FRAMES_MAX ||
        (mode != RMK_IMAGE_VIDEO && count > RMK_ITEMS_MAX)) {
        return rmk_fail(why, RMK_EUNSUPPORTED, "%zu pictures as '%s'", count, how);
    }
    RMK_TRY(read_blobs(root, files, blobs, why));
    if (mode == RMK_IMAGE_VIDEO) {
        RMK_TRY(rmk_tiles_make(grid, blobs, (uint32_t)count, mode, &pictures->items[0].tiles, why));
        pictures->count = 1;
    } else {
        for (uint32_t i = 0; i < count; i++) {
            RMK_TRY(rmk_tiles_make(grid, &blobs[i], 1, mode, &pictures->items[i].tiles, why));
            pictures->count = i + 1;
        }
    }
out:
    for (size_t i = 0; i < count; i++) {
        free((void *)blobs[i].data);
    }
    return err;
}

static bool tiles_equal(const struct pictures *pictures, uint32_t tile, const char *want)
{
    struct rmk_digest *digest = NULL;
    uint8_t sum[RMK_DIGEST_BYTES];
    char text[RMK_DIGEST_HEX_BYTES];

    if (want == NULL || rmk_digest_create(&digest, NULL) != RMK_OK) {
        return false;
    }
    for (uint32_t i = 0; i < pictures->count; i++) {
        const struct rmk_tiles *tiles = &pictures->items[i].tiles;
        rmk_digest_update(digest, tiles->pixels, (size_t)tiles->grid.tile_count * tile * tile * 3);
    }
    rmk_digest_finish(digest, sum);
    rmk_digest_destroy(digest);
    rmk_digest_hex(sum, text);
    return strcmp(text, want) == 0;
}

/* ---- tensors
 * -----------------------------------------------------------------------------------------------------------------
 */

static const float *tensor_f32(const struct rmk_checkpoint *file, const char *name,
                               uint64_t *out_rows, uint64_t *out_width)
{
    const struct rmk_tensor *tensor = rmk_checkpoint_find(file, name);

    if (tensor == NULL || tensor->dtype != RMK_F32 || tensor->rank < 2) {
        return NULL;
    }
    *out_width = tensor->shape[tensor->rank - 1];
    *out_rows = *out_width > 0 ? tensor->bytes / sizeof(float) / *out_width : 0;
    return tensor->data;
}

/* Rows [count, width] against tensor `name`, or every 61st of them against `name`_sub when only
 * that is recorded. */
static void compare_rows(struct report *report, const char *scene, const char *name,
                         const struct rmk_checkpoint *file, const float *rows, uint64_t count,
                         uint64_t width)
{
    char sub[64];
    uint64_t want_rows = 0;
    uint64_t want_width = 0;
    const float *want = tensor_f32(file, name, &want_rows, &want_width);
    float *picked = NULL;

    if (want == NULL) {
        (void)snprintf(sub, sizeof(sub), "%s_sub", name);
        want = tensor_f32(file, sub, &want_rows, &want_width);
        if (want == NULL) {
            report_failed(report, scene, name, "neither %s nor %s is recorded", name, sub);
            return;
        }
        picked = malloc((count / SUB_STRIDE + 1) * width * sizeof(float));
        rmk_assert(picked != NULL);
        uint64_t taken = 0;
        for (uint64_t i = 0; i < count; i += SUB_STRIDE) {
            memcpy(picked + taken++ * width, rows + i * width, width * sizeof(float));
        }
        rows = picked;
        count = taken;
    }
    if (want_rows != count || want_width != width) {
        report_failed(report, scene, name, "%llu x %llu, reference %llu x %llu",
                      (unsigned long long)count, (unsigned long long)width,
                      (unsigned long long)want_rows, (unsigned long long)want_width);
    } else {
        (void)report_floats(report, scene, name, rows, want, count * width, ROWS_TOLERANCE);
    }
    free(picked);
}

/* Encode every item and compare tower and projector over all tiles in order. */
static enum rmk_err encode_pictures(struct report *report, const char *name, struct model *model,
                                    struct pictures *pictures, const struct rmk_checkpoint *file,
                                    struct rmk_why *why)
{
    const uint64_t patches = (uint64_t)model->spec.vision.side * model->spec.vision.side;
    const uint64_t tower_width = model->spec.vision.width;
    const uint64_t width = model->spec.text.width;
    uint64_t tile_total = 0;
    float *tower = NULL;
    float *projected = NULL;
    enum rmk_err err = RMK_OK;

    for (uint32_t i = 0; i < pictures->count; i++) {
        tile_total += pictures->items[i].tiles.grid.tile_count;
    }
    tower = malloc((tile_total * patches * tower_width + 1) * sizeof(float));
    projected = malloc((tile_total * patches * width + 1) * sizeof(float));
    rmk_assert(tower != NULL && projected != NULL);
    uint64_t begun = 0;
    for (uint32_t i = 0; i < pictures->count;) {
        struct rmk_encoder_item items[RMK_ENCODER_ITEMS_MAX];
        uint32_t count = 0;
        for (; i < pictures->count && count < RMK_ENCODER_ITEMS_MAX; i++, count++) {
            struct item *item = &pictures->items[i];
            item->features = malloc(((size_t)item->tiles.grid.rows * width + 1) * sizeof(float));
            rmk_assert(item->features != NULL);
            items[count] = (struct rmk_encoder_item){
                .tiles = &item->tiles,
                .features = item->features,
                .tower = tower + begun * patches * tower_width,
                .projected = projected + begun * patches * width,
            };
            begun += item->tiles.grid.tile_count;
        }
        RMK_TRY(rmk_encoder_encode(model->encoder, items, count, why));
        for (uint32_t j = 0; j < count; j++) {
            RMK_TRY(items[j].err);
        }
    }
    if (pictures->count > 0) {
        compare_rows(report, name, "vision", file, tower, tile_total * patches, tower_width);
        compare_rows(report, name, "projected", file, projected, tile_total * patches, width);
    }
out:
    free(tower);
    free(projected);
    return err;
}

/* ---- the prompt as the runner takes it, with the reference's quirks
 * ------------------------------------------------ */

/* Which item stands at placeholder `index`: the last is reused once, as the reference does (section
 * 7). */
static const struct item *item_at(const struct pictures *pictures, uint32_t index)
{
    if (pictures->count == 0 || index > pictures->count) {
        return NULL;
    }
    return &pictures->items[index < pictures->count ? index : pictures->count - 1];
}

static enum rmk_err lay_out(struct scene *scene, const int32_t *ids, size_t count,
                            const struct pictures *pictures, struct rmk_why *why)
{
    const uint32_t rows_max = scene->spec->text.prompt_rows_max;
    uint32_t placeholder = 0;

    scene->layout = calloc(count + 1, sizeof(*scene->layout));
    scene->prompt_masks = calloc(count + 1, sizeof(*scene->prompt_masks));
    rmk_assert(scene->layout != NULL && scene->prompt_masks != NULL);
    for (size_t i = 0; i < count && scene->prompt_rows < rows_max; i++) {
        struct rmk_layout *piece = &scene->layout[scene->layout_count];
        if (ids[i] == RMK_IMAGE_ID) {
            const struct item *item = item_at(pictures, placeholder++);
            if (item == NULL) {
                return rmk_fail(why, RMK_EINVAL, "placeholder %u has no picture", placeholder - 1);
            }
            *piece = (struct rmk_layout){.features = item->features, .rows = item->tiles.grid.rows};
            scene->layout_count += piece->rows > 0;
        } else if (scene->layout_count > 0 && piece[-1].ids != NULL) {
            piece = &piece[-1];
            piece->rows++;
        } else {
            *piece = (struct rmk_layout){.ids = &ids[i], .rows = 1};
            scene->layout_count++;
        }
        if (ids[i] == scene->spec->text.mask_id) {
            scene->prompt_masks[scene->prompt_mask_count++] = scene->prompt_rows;
        }
        scene->prompt_rows += ids[i] == RMK_IMAGE_ID ? piece->rows : 1;
    }
    if (scene->prompt_rows > rows_max) { /* the reference cuts the end off, quirk 13 */
        scene->layout[scene->layout_count - 1].rows -= scene->prompt_rows - rows_max;
        scene->prompt_rows = rows_max;
    }
    return RMK_OK;
}

/* ---- embedding and logits
 * -------------------------------------------------------------------------------------------- */

struct probe {
    const struct scene *scene;
    const uint32_t *positions;
    uint32_t position_count;
    uint32_t gen_length;
    float *embeddings; /* rank 0's */
    float *logits;
};

static enum rmk_err run_probe(struct rmk_runner *runner, uint32_t rank, void *context,
                              struct rmk_why *why)
{
    const struct probe *probe = context;
    const struct scene *scene = probe->scene;
    const struct rmk_open open = {
        .slot = 0,
        .prompt_rows = scene->prompt_rows,
        .layout = scene->layout,
        .layout_count = scene->layout_count,
        .gen_length = probe->gen_length,
    };
    const size_t embedding_count = (size_t)scene->prompt_rows * scene->spec->text.width;
    const size_t logit_count = (size_t)probe->position_count * scene->spec->text.vocab;
    float *embeddings = rank == 0 ? probe->embeddings : calloc(embedding_count + 1, sizeof(float));
    float *logits = rank == 0 ? probe->logits : calloc(logit_count + 1, sizeof(float));
    enum rmk_err err;

    rmk_assert(embeddings != NULL && logits != NULL);
    rmk_runner_close(runner, 0);
    RMK_TRY(rmk_runner_open(runner, &open, why));
    RMK_TRY(rmk_runner_embeddings(runner, 0, 0, scene->prompt_rows, embeddings, why));
    RMK_TRY(rmk_runner_logits(runner, 0, probe->positions, probe->position_count, logits, why));
out:
    if (rank != 0) {
        free(embeddings);
        free(logits);
    }
    return err;
}

static void compare_logits(struct report *report, struct scene *scene,
                           const struct rmk_checkpoint *file)
{
    const struct rmk_tensor *rows = rmk_checkpoint_find(file, "logits_rows");
    const struct rmk_tensor *want = rmk_checkpoint_find(file, "logits_fp32");
    const uint32_t vocab = scene->spec->text.vocab;
    const uint64_t columns =
        (uint64_t)json_integer_value(json_object_get(scene->json, "logit_columns"));
    struct rmk_why why = {0};

    if (rows == NULL || want == NULL || rows->dtype != RMK_I64 || want->dtype != RMK_F32 ||
        columns != vocab || want->bytes != rows->shape[0] * vocab * sizeof(float)) {
        report_failed(report, scene->name, "logits", "recorded tensors do not fit %u columns",
                      vocab);
        return;
    }
    const uint32_t count = (uint32_t)rows->shape[0];
    uint32_t *positions = calloc(count, sizeof(*positions));
    float *logits = malloc((size_t)count * vocab * sizeof(float));
    float *embeddings =
        malloc(((size_t)scene->prompt_rows * scene->spec->text.width + 1) * sizeof(float));
    rmk_assert(positions != NULL && logits != NULL && embeddings != NULL);
    for (uint32_t i = 0; i < count; i++) {
        positions[i] = (uint32_t)((const int64_t *)rows->data)[i];
    }
    struct probe probe = {
        .scene = scene,
        .positions = positions,
        .position_count = count,
        .gen_length = (uint32_t)json_integer_value(json_object_get(scene->json, "logits_gen_rows")),
        .embeddings = embeddings,
        .logits = logits,
    };
    if (group_run(scene->group, run_probe, &probe, &why) != RMK_OK) {
        report_failed(report, scene->name, "logits", "%s", why.text);
    } else {
        compare_rows(report, scene->name, "prompt_embeds", file, embeddings, scene->prompt_rows,
                     scene->spec->text.width);
        (void)report_floats(report, scene->name, "logits", logits, want->data,
                            (size_t)count * vocab, LOGITS_TOLERANCE);
    }
    free(positions);
    free(logits);
    free(embeddings);
}

/* ---- one scene
 * ---------------------------------------------------------------------------------------------------------------
 */

static void check_grids(struct report *report, const char *name, const json_t *json,
                        const struct pictures *pictures)
{
    const json_t *grids = json_object_get(json, "grids_wh");
    bool same = json_array_size(grids) == pictures->count;

    if (!json_is_array(grids)) {
        return;
    }
    for (uint32_t i = 0; same && i < pictures->count; i++) {
        const json_t *pair = json_array_get(grids, i);
        same = json_integer_value(json_array_get(pair, 0)) ==
                   pictures->items[i].tiles.grid.grid_width &&
               json_integer_value(json_array_get(pair, 1)) ==
                   pictures->items[i].tiles.grid.grid_height;
    }
    report_exact(report, name, "grids", same, "%u pictures", pictures->count);
}

static void run_scene(struct report *report, const char *root, const char *name,
                      const struct settings *settings, struct model *model)
{
    struct rmk_why why = {0};
    struct scene scene = {.name = name};
    struct pictures pictures = {.count = 0};
    struct rmk_checkpoint *file = NULL;
    json_t *json = file_json(&why, "%s/scenes/%s/scene.json", root, name);
    json_t *runs = file_json(&why, "%s/scenes/%s/runs.json", root, name);
    char path[2048];
    int32_t *ids = NULL;

    (void)snprintf(path, sizeof(path), "%s/scenes/%s/tensors.safetensors", root, name);
    if (json == NULL || runs == NULL || model_open(model, root, json, settings, &why) != RMK_OK ||
        rmk_checkpoint_open_file(path, &file, &why) != RMK_OK) {
        report_failed(report, name, "open", "%s", why.text);
        goto out;
    }
    scene.json = json;
    scene.spec = &model->spec;
    scene.tokenizer = model->tokenizer;
    scene.group = model->group;
    const json_t *want_ids = json_object_get(json, "prompt_ids");
    why.text[0] = '\0';
    bool same = golden_prompt(model->tokenizer, json_object_get(json, "messages"),
                              json_object_get(json, "prompt"), want_ids, &why);
    report_exact(report, name, "prompt ids", same, "%zu ids %s", json_array_size(want_ids),
                 why.text);
    if (tile_pictures(root, json, &model->spec.grid, &pictures, &why) != RMK_OK) {
        report_failed(report, name, "tiles", "%s", why.text);
        goto out;
    }
    if (pictures.count > 0) {
        report_exact(report, name, "tiles",
                     tiles_equal(&pictures, model->spec.vision.tile,
                                 json_string_value(json_object_get(json, "tiles_u8_sha256"))),
                     "%u items", pictures.count);
        check_grids(report, name, json, &pictures);
    }
    if (encode_pictures(report, name, model, &pictures, file, &why) != RMK_OK) {
        report_failed(report, name, "encode", "%s", why.text);
        goto out;
    }
    ids = calloc(json_array_size(want_ids) + 1, sizeof(*ids));
    rmk_assert(ids != NULL);
    for (size_t i = 0; i < json_array_size(want_ids); i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(want_ids, i));
    }
    if (lay_out(&scene, ids, json_array_size(want_ids), &pictures, &why) != RMK_OK) {
        report_failed(report, name, "prompt rows", "%s", why.text);
        goto out;
    }
    const uint32_t want_rows = (uint32_t)json_integer_value(json_object_get(json, "prompt_rows"));
    report_exact(report, name, "prompt rows", scene.prompt_rows == want_rows, "%u, reference %u",
                 scene.prompt_rows, want_rows);
    if (scene.prompt_rows != want_rows) {
        goto out;
    }
    compare_logits(report, &scene, file);
    for (size_t i = 0; i < json_array_size(runs); i++) {
        golden_run(report, &scene, json_array_get(runs, i));
    }
out:
    pictures_deinit(&pictures);
    free(scene.layout);
    free(scene.prompt_masks);
    free(ids);
    rmk_checkpoint_close(file);
    json_decref(json);
    json_decref(runs);
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

void cases_scenes(struct report *report, const char *root, const struct settings *settings)
{
    struct dirent **entries = NULL;
    struct model model = {.tokenizer = NULL};
    char path[1024];

    (void)snprintf(path, sizeof(path), "%s/scenes", root);
    int count = scandir(path, &entries, visible,
                        alphasort); /* sorted: scenes of one model follow each other */
    for (int i = 0; i < count; i++) {
        if (settings->only == NULL || strstr(entries[i]->d_name, settings->only) != NULL) {
            run_scene(report, root, entries[i]->d_name, settings, &model);
        }
        free(entries[i]);
    }
    free(entries);
    model_close(&model);
}
