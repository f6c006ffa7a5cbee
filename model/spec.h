/* What a checkpoint says about itself, checked once: config.json (and the tower's own config when
 * there is one) become numbers that deeper code relies on. Nothing here touches weights.
 */
#ifndef RMK_MODEL_SPEC_H
#define RMK_MODEL_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "model/grid.h"

enum rmk_rope_scaling {
    RMK_ROPE_NONE = 0,
    RMK_ROPE_LINEAR,  /* positions divided by the factor */
    RMK_ROPE_DYNAMIC, /* NTK base change when L > max_positions; stateless here (the reference leaks
                         it) */
};

/* The language model: LLaDA, a bidirectional LLaMA-form transformer. Letters as everywhere: D, H,
 * Dh, F, V. */
struct rmk_text_spec {
    uint32_t layer_count;
    uint32_t width;         /* D */
    uint32_t head_count;    /* H */
    uint32_t kv_head_count; /* divides H */
    uint32_t head_width;    /* Dh = D / H */
    uint32_t ff_width;      /* F */
    uint32_t vocab_rows;    /* rows of embed_tokens and lm_head in the file */
    uint32_t vocab; /* V: columns that exist, len(tokenizer); set by rmk_spec_bind_tokenizer */
    uint32_t max_positions;   /* max_position_embeddings: only DYNAMIC scaling looks at it */
    uint32_t prompt_rows_max; /* tokenizer_model_max_length; 2^30 when it says nothing */
    float rms_eps;
    double rope_theta;
    enum rmk_rope_scaling rope_scaling;
    double rope_factor;
    bool attention_bias;
    bool tied_head;  /* tie_word_embeddings: lm_head is embed_tokens */
    int32_t mask_id; /* the rest by name from the tokenizer */
    int32_t eot_id;
    int32_t suppressed[4]; /* endoftext, startoftext, start_header, end_header; -1: not in this
                              tokenizer */
};

/* The tower: SigLIP form without its last block and head. */
struct rmk_vision_spec {
    bool present;         /* false: a text-only checkpoint */
    uint32_t layer_count; /* blocks that run: announced - 1 */
    uint32_t width;
    uint32_t head_count;
    uint32_t ff_width;
    uint32_t channel_count; /* 3 */
    uint32_t tile;          /* image_size */
    uint32_t patch;
    uint32_t side; /* tile / patch, floor */
    float layer_norm_eps;
    uint32_t
        projector_depth;  /* linears: mlpNx_gelu -> N; "linear" -> 1 (named mm_projector.weight) */
    bool projector_plain; /* true: "linear" */
};

struct rmk_spec {
    struct rmk_text_spec text;
    struct rmk_vision_spec vision;
    struct rmk_grid_spec grid;
    char dir[1024];
    char vision_dir[1024]; /* separate SigLIP2 directory for geometry and, where needed, weights;
                              may be empty */
};

/* Read `dir`/config.json. `vision_dir` may be NULL: then, in this order, `dir`/vision,
 * `dir`-siglip, else the published SigLIP2 so400m numbers. `overrides_json` may be NULL: an object
 * whose fields replace the config's.
 *
 * Errors name file and field: RMK_ENOTFOUND, RMK_ECORRUPT (not JSON), RMK_EINVAL (a field is out of
 * range or heads do not divide), RMK_EUNSUPPORTED (another architecture, use_cache true,
 * mm_use_im_start_end, …).
 */
enum rmk_err rmk_spec_read(const char *dir, const char *vision_dir, const char *overrides_json,
                           struct rmk_spec *out_spec, struct rmk_why *why);

struct rmk_tokenizer;

/* Cut the vocabulary to the tokenizer and find the special ids by name.
 * RMK_EINVAL: the tokenizer is larger than the embedding table, or the mask token is missing. */
enum rmk_err rmk_spec_bind_tokenizer(struct rmk_spec *spec, const struct rmk_tokenizer *tokenizer,
                                     struct rmk_why *why);

#endif
