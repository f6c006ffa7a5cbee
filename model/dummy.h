/* Weights of a model that nobody has trained, for benchmarks at any size and for tests: a value
 * depends on the seed, the tensor's name and the element's place in the whole tensor, so that every
 * cut and every machine has the same model. bf16, close to normal with deviation 0.02. A GPU calls
 * the same code. */
#ifndef RMK_MODEL_DUMMY_H
#define RMK_MODEL_DUMMY_H

#include <stdint.h>
#include <string.h>

#include "common/prng.h"

/* The seed of tensor `name` in the model of `seed`. */
static inline uint64_t rmk_dummy_seed(uint64_t seed, const char *name)
{
    for (; *name != '\0'; name++) {
        seed = (seed ^ (uint8_t)*name) * UINT64_C(0x100000001B3);
    }
    return seed;
}

/* One element, as bf16 bits. */
RMK_INLINE uint16_t rmk_dummy_bits(uint64_t tensor_seed, uint64_t element)
{
    uint64_t bits = rmk_prng_splitmix(tensor_seed, element);
    /* The sum of four uniform numbers is close to normal; its deviation is 65536 / sqrt(3). */
    int64_t sum = (int64_t)(bits & 0xffff) + (int64_t)(bits >> 16 & 0xffff) +
                  (int64_t)(bits >> 32 & 0xffff) + (int64_t)(bits >> 48) - 2 * 65535;
    float value = (float)sum * (0.02f * 1.7320508f / 65536.0f);
    uint32_t word;

    memcpy(&word, &value, sizeof(word));
    return (uint16_t)((word + 0x7fff + (word >> 16 & 1)) >> 16);
}

static inline float rmk_dummy_f32(uint64_t tensor_seed, uint64_t element)
{
    uint32_t word = (uint32_t)rmk_dummy_bits(tensor_seed, element) << 16;
    float value;

    memcpy(&value, &word, sizeof(value));
    return value;
}

#endif
