/* A language model of a few numbers for tests: a spec made by hand, and the checkpoint that dummy
 * weights of the same seed would be, as a file. */
#ifndef RMK_TESTS_SUPPORT_DUMMY_MODEL_H
#define RMK_TESTS_SUPPORT_DUMMY_MODEL_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/dummy.h"
#include "model/spec.h"

enum { DUMMY_SEED = 5 };

/* Five heads on five key/value heads, which no number of ranks but 1 and 5 divides; biases; two
 * unused vocabulary rows. */
static inline struct rmk_spec dummy_spec(void)
{
    return (struct rmk_spec){
        .text =
            {
                .layer_count = 2,
                .width = 40,
                .head_count = 5,
                .kv_head_count = 5,
                .head_width = 8,
                .ff_width = 27,
                .vocab_rows = 53,
                .vocab = 51,
                .max_positions = 2048,
                .prompt_rows_max = 2048,
                .rms_eps = 1e-6f,
                .rope_theta = 10000.0,
                .rope_factor = 1.0,
                .attention_bias = true,
                .mask_id = 50,
                .eot_id = 49,
                .suppressed = {0, 1, 26, -1},
            },
        .dir = "dummy",
    };
}

struct dummy_writer {
    FILE *header;
    FILE *data;
    uint64_t offset;
    const char *poisoned; /* tensor whose row `poisoned_row` is NaN; may be NULL */
    uint64_t poisoned_row;
};

static inline void dummy_write(struct dummy_writer *writer, const char *name, uint64_t rows,
                               uint64_t columns)
{
    uint64_t count = rows * columns;

    (void)fprintf(writer->header, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[",
                  writer->offset == 0 ? "{" : ",", name);
    if (columns == 1) {
        (void)fprintf(writer->header, "%llu", (unsigned long long)rows);
    } else {
        (void)fprintf(writer->header, "%llu,%llu", (unsigned long long)rows,
                      (unsigned long long)columns);
    }
    (void)fprintf(writer->header, "],\"data_offsets\":[%llu,%llu]}",
                  (unsigned long long)writer->offset,
                  (unsigned long long)(writer->offset + 2 * count));
    const uint64_t seed = rmk_dummy_seed(DUMMY_SEED, name);
    for (uint64_t i = 0; i < count; i++) {
        uint16_t bits = strstr(name, "norm") != NULL ? 0x3f80 : rmk_dummy_bits(seed, i);
        if (writer->poisoned != NULL && strcmp(writer->poisoned, name) == 0 &&
            i / columns == writer->poisoned_row) {
            bits = 0x7fc0;
        }
        (void)fwrite(&bits, sizeof(bits), 1, writer->data);
    }
    writer->offset += 2 * count;
}

/* dir/model.safetensors; an `odd` one has its tensors at odd addresses, as the format allows. */
static inline int dummy_checkpoint(const char *dir, const struct rmk_text_spec *text, int odd,
                                   const char *poisoned, uint64_t poisoned_row)
{
    char *header = NULL;
    char *data = NULL;
    size_t header_bytes = 0;
    size_t data_bytes = 0;
    struct dummy_writer writer = {.header = open_memstream(&header, &header_bytes),
                                  .data = open_memstream(&data, &data_bytes),
                                  .poisoned = poisoned,
                                  .poisoned_row = poisoned_row};
    const uint64_t d = text->width;
    const uint64_t query = (uint64_t)text->head_count * text->head_width;
    const uint64_t key = (uint64_t)text->kv_head_count * text->head_width;
    const struct {
        const char *name;
        uint64_t rows;
        uint64_t columns;
    } parts[] = {
        {"input_layernorm.weight", d, 1},
        {"self_attn.q_proj.weight", query, d},
        {"self_attn.k_proj.weight", key, d},
        {"self_attn.v_proj.weight", key, d},
        {"self_attn.o_proj.weight", d, query},
        {"self_attn.q_proj.bias", query, 1},
        {"self_attn.k_proj.bias", key, 1},
        {"self_attn.v_proj.bias", key, 1},
        {"self_attn.o_proj.bias", d, 1},
        {"post_attention_layernorm.weight", d, 1},
        {"mlp.gate_proj.weight", text->ff_width, d},
        {"mlp.up_proj.weight", text->ff_width, d},
        {"mlp.down_proj.weight", d, text->ff_width},
    };
    char path[512];

    dummy_write(&writer, "model.embed_tokens.weight", text->vocab_rows, d);
    for (uint32_t layer = 0; layer < text->layer_count; layer++) {
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
            char name[128];
            (void)snprintf(name, sizeof(name), "model.layers.%u.%s", layer, parts[i].name);
            dummy_write(&writer, name, parts[i].rows, parts[i].columns);
        }
    }
    dummy_write(&writer, "model.norm.weight", d, 1);
    dummy_write(&writer, "lm_head.weight", text->vocab_rows, d);
    (void)fputc('}', writer.header);
    (void)fflush(writer.header);
    while (header_bytes % 2 != (odd ? 1u : 0u)) {
        (void)fputc(' ', writer.header);
        (void)fflush(writer.header);
    }
    (void)fclose(writer.header);
    (void)fclose(writer.data);

    (void)snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    FILE *file = fopen(path, "wb");
    uint64_t length = header_bytes;
    int failed = file == NULL || fwrite(&length, sizeof(length), 1, file) != 1 ||
                 fwrite(header, 1, header_bytes, file) != header_bytes ||
                 fwrite(data, 1, data_bytes, file) != data_bytes;
    failed |= file != NULL && fclose(file) != 0;
    free(header);
    free(data);
    return failed;
}

#endif
