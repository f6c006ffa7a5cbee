#include <stdio.h>
#include <stdlib.h>

#include "cli/check_tensors.h"
#include "cli/cli.h"
#include "cli/json_text.h"
#include "common/config.h"
#include "model/known_answers.h"
#include "model/safetensors.h"
#include "model/spec.h"
#include "model/tokenizer.h"

struct check {
    struct rmk_spec spec;
    struct rmk_tokenizer *tokenizer;
    struct rmk_checkpoint *model;
    struct rmk_checkpoint *tower; /* a separate folder's */
    uint32_t failed;
    json_t *lines; /* NULL: they are printed at once, as text */
};

static void tell(struct check *check, bool ok, const char *what, const char *sentence)
{
    check->failed += !ok;
    if (check->lines == NULL) {
        (void)printf("%-5s %-14s %s\n", ok ? "ok" : "FAIL", what, sentence);
        return;
    }
    (void)json_array_append_new(check->lines,
                                json_pack("{s:s, s:b, s:o, s:[]}", "check", what, "ok", ok,
                                          "details", rmk_json_text(sentence), "faults"));
}

static void good(struct check *check, const char *what, const char *details)
{
    tell(check, true, what, details);
}

static void bad(struct check *check, const char *what, const char *sentence)
{
    tell(check, false, what, sentence);
}

/* One of the things that the line before counts. */
static void tell_fault(struct check *check, const char *sentence)
{
    if (check->lines == NULL) {
        (void)printf("        %s\n", sentence);
        return;
    }
    json_t *last = json_array_get(check->lines, json_array_size(check->lines) - 1);
    (void)json_array_append_new(json_object_get(last, "faults"), rmk_json_text(sentence));
}

static void check_config(struct check *check)
{
    const struct rmk_text_spec *text = &check->spec.text;
    const struct rmk_vision_spec *vision = &check->spec.vision;
    char line[256];

    (void)snprintf(
        line, sizeof(line), "%u layers, width %u, %u heads (%u for keys and values), vocabulary %u",
        text->layer_count, text->width, text->head_count, text->kv_head_count, text->vocab_rows);
    good(check, "config", line);
    if (vision->present) {
        (void)snprintf(
            line, sizeof(line), "%u layers, width %u, tiles of %u pixels, %u rows each%s%.100s",
            vision->layer_count, vision->width, vision->tile, vision->side * vision->side,
            check->spec.vision_dir[0] != '\0' ? ", from " : "", check->spec.vision_dir);
        good(check, "vision config", line);
    } else {
        good(check, "vision config", "none: a text-only model");
    }
}

/* Known answers exist only for the published tokenizer. Of another none comes out; some but not all
 * means a damaged one. */
static void check_known_answers(struct check *check)
{
    enum { PUBLISHED_SIZE = 126349 };
    const uint32_t count = rmk_tokenizer_known_answer_count();
    struct rmk_why why = {0};
    char line[640];
    uint32_t failed = 0;

    if (rmk_tokenizer_size(check->tokenizer) != PUBLISHED_SIZE) {
        good(check, "known answers", "none for this tokenizer: it is not the published one");
        return;
    }
    if (rmk_tokenizer_known_answers(check->tokenizer, &failed, &why) == RMK_OK) {
        (void)snprintf(line, sizeof(line), "all %u texts", count);
        good(check, "known answers", line);
    } else if (failed == count) {
        good(check, "known answers", "none of them: another tokenizer of the same size");
    } else {
        (void)snprintf(line, sizeof(line), "%u of %u texts: %s", failed, count, why.text);
        bad(check, "known answers", line);
    }
}

static void check_tokenizer(struct check *check, const char *dir)
{
    struct rmk_why why = {0};
    char line[128];

    if (rmk_tokenizer_create_in(dir, &check->tokenizer, &why) != RMK_OK ||
        rmk_spec_bind_tokenizer(&check->spec, check->tokenizer, &why) != RMK_OK) {
        bad(check, "tokenizer", why.text);
        return;
    }
    (void)snprintf(line, sizeof(line), "%u tokens, mask %d", check->spec.text.vocab,
                   check->spec.text.mask_id);
    good(check, "tokenizer", line);
    check_known_answers(check);
}

static void report(struct check *check, const char *what, const struct rmk_tensor_faults *faults)
{
    char line[128];

    if (faults->count == 0) {
        (void)snprintf(line, sizeof(line), "%u tensors", faults->checked);
        good(check, what, line);
        return;
    }
    (void)snprintf(line, sizeof(line), "%u of %u tensors are missing or wrong", faults->count,
                   faults->checked);
    bad(check, what, line);
    for (uint32_t i = 0; i < faults->count && i < RMK_TENSOR_FAULTS_MAX; i++) {
        tell_fault(check, faults->sentences[i].text);
    }
    if (faults->count > RMK_TENSOR_FAULTS_MAX) {
        (void)snprintf(line, sizeof(line), "and %u more", faults->count - RMK_TENSOR_FAULTS_MAX);
        tell_fault(check, line);
    }
}

/* The tower may live in a folder of its own when the model's checkpoint lacks it. */
static void check_tower(struct check *check, struct rmk_tensor_faults *faults)
{
    const struct rmk_checkpoint *holder = check->model;
    struct rmk_why why = {0};

    if (rmk_check_tower_prefix(check->model) == NULL && check->spec.vision_dir[0] != '\0') {
        if (rmk_checkpoint_open(check->spec.vision_dir, &check->tower, &why) != RMK_OK) {
            rmk_why_context(&why, "the checkpoint has no vision tower, and its SigLIP2 folder");
            bad(check, "vision tower", why.text);
            return;
        }
        holder = check->tower;
    }
    rmk_check_tower(&check->spec, holder, faults);
    report(check, "vision tower", faults);
}

static void check_weights(struct check *check, const char *dir)
{
    struct rmk_tensor_faults *faults = calloc(3, sizeof(*faults));
    struct rmk_why why = {0};
    char line[128];

    if (faults == NULL) {
        bad(check, "checkpoint", "no memory");
        return;
    }
    if (rmk_checkpoint_open(dir, &check->model, &why) != RMK_OK) {
        bad(check, "checkpoint", why.text);
        goto out;
    }
    (void)snprintf(line, sizeof(line), "%zu tensors in the files",
                   rmk_checkpoint_count(check->model));
    good(check, "checkpoint", line);
    rmk_check_language(&check->spec, check->model, &faults[0]);
    report(check, "language model", &faults[0]);
    if (check->spec.vision.present) {
        check_tower(check, &faults[1]);
        rmk_check_projector(&check->spec, check->model, &faults[2]);
        report(check, "projector", &faults[2]);
    }
out:
    free(faults);
}

static int run(const char *dir, const char *vision_dir, bool json)
{
    struct check check = {.lines = json ? json_array() : NULL};
    struct rmk_why why = {0};

    if (rmk_spec_read(dir, vision_dir, NULL, &check.spec, &why) == RMK_OK) {
        check_config(&check);
        check_tokenizer(&check, dir);
        check_weights(&check, dir);
    } else {
        bad(&check, "config", why.text);
    }
    rmk_tokenizer_destroy(check.tokenizer);
    rmk_checkpoint_close(check.model);
    rmk_checkpoint_close(check.tower);
    if (json) {
        rmk_json_print_line(json_pack("{s:o, s:b, s:o}", "model", rmk_json_text(dir), "ok",
                                      check.failed == 0, "checks", check.lines));
    }
    if (check.failed > 0) {
        (void)fflush(stdout);
        (void)fprintf(stderr, "remask check: %s: %u check%s failed\n", dir, check.failed,
                      check.failed == 1 ? "" : "s");
        return RMK_EXIT_DATA;
    }
    return RMK_EXIT_OK;
}

int rmk_check_run(int argc, char **argv)
{
    const char *vision_dir = NULL;
    bool json = false;
    struct rmk_config_flag flags[] = {
        {.name = "vision-dir",
         .kind = RMK_CONFIG_TEXT,
         .target = &vision_dir,
         .argument = "DIR",
         .help = "separate SigLIP2 folder; not given: vision in the model's folder, or DIR-siglip "
                 "beside it, if there"},
        {.name = "json",
         .kind = RMK_CONFIG_SWITCH,
         .target = &json,
         .help = "one line of JSON: model, ok, and each check with its details and faults"},
    };
    struct rmk_config config = {
        .program = "remask check",
        .summary = "Whether a checkpoint folder is complete: configuration, tokenizer, and every "
                   "tensor with its shape.",
        .operands_name = "DIR",
        .flags = flags,
        .flag_count = sizeof(flags) / sizeof(flags[0]),
        .operands_min = 1,
        .operands_max = 1,
    };
    int status = rmk_config_load(&config, argc, argv);

    if (status < 0) {
        status = run(config.operands[0], vision_dir, json);
    }
    rmk_config_deinit(&config);
    return status;
}
