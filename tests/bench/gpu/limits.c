#include "tests/bench/gpu/limits.h"

#include <stddef.h>
#include <string.h>

struct limits_peak limits_peak_of(const char *description)
{
    /* Makers' data sheets, dense. The more special name comes first. */
    static const struct {
        const char *name;
        struct limits_peak peak;
    } table[] = {
        {"GH200", {989e12, 4.0e12}},    {"H200", {989e12, 4.8e12}},
        {"H100 NVL", {835e12, 3.9e12}}, {"H100 PCIe", {756e12, 2.0e12}},
        {"H100", {989e12, 3.35e12}},    {"B200", {2250e12, 8.0e12}},
        {"A100", {312e12, 2.04e12}},    {"L40S", {362e12, 0.864e12}},
        {"L4", {121e12, 0.3e12}},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strstr(description, table[i].name) != NULL) {
            return table[i].peak;
        }
    }
    return (struct limits_peak){0, 0};
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double layer_weights(const struct limits_text *text)
{
    return 4 * text->width * text->width + 3 * text->width * text->ff;
}

double limits_cached(const struct limits_peak *peak, const struct limits_text *text,
                     double requests, double keys)
{
    return requests * keys * 2 * text->layers * text->width * 2 / peak->bytes;
}

double limits_forward(const struct limits_peak *peak, const struct limits_text *text,
                      double requests, double queries, double keys, double reads)
{
    const double body = text->layers * layer_weights(text);
    const double head = text->vocab * text->width;
    const double rows = requests * queries;
    const double products =
        larger(2 * (body + head) / peak->bytes, 2 * (rows * body + reads * head) / peak->flops);
    const double attention = larger(limits_cached(peak, text, requests, keys),
                                    4 * text->width * text->layers * rows * keys / peak->flops);

    return products + attention;
}

double limits_tower(const struct limits_peak *peak, const struct limits_tower *tower, double tiles)
{
    const double weights = 4 * tower->width * tower->width + 2 * tower->width * tower->ff;
    const double projector = tower->width * tower->projected + tower->projected * tower->projected;
    const double rows = tiles * tower->rows;
    const double flops =
        tower->layers * (2 * rows * weights + 4 * tower->width * rows * tower->rows) +
        2 * rows * projector;

    return larger(flops / peak->flops, 2 * (tower->layers * weights + projector) / peak->bytes);
}
