/* One warp's 16 x 8 x 16 product on the tensor cores (PTX mma.sync.m16n8k16, fp32 sums), and the
 * loads that bring its operands from shared memory. Registers as the PTX manual lays them out, with
 * g = lane / 4 and p = lane % 4 * 2:
 *
 *     A [16 x 16]   a[0] = A[g][p, p+1]    a[1] = A[g+8][p, p+1]
 *                   a[2] = A[g][p+8, p+9]  a[3] = A[g+8][p+8, p+9]
 *     B [16 x 8]    b[0] = B[p, p+1][g]    b[1] = B[p+8, p+9][g]
 *     D [16 x 8]    d[0, 1] = D[g][p, p+1] d[2, 3] = D[g+8][p, p+1]
 */
#ifndef RMK_KERNELS_CUDA_MMA_H
#define RMK_KERNELS_CUDA_MMA_H

#include "kernels/cuda/number.h"

template <typename T> static __device__ __forceinline__ uint32_t rmk_pack(float low, float high)
{
    return (uint32_t)rmk_narrow<T>(low).bits | (uint32_t)rmk_narrow<T>(high).bits << 16;
}

#ifdef RMK_CUDA_EMULATED

template <typename T> static float rmk_mma_half(uint32_t word, uint32_t index)
{
    return rmk_widen(T{(uint16_t)(word >> (index % 2 * 16))});
}

/* D += A B */
template <typename T>
static void rmk_mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    struct operands {
        uint32_t a[4];
        uint32_t b[2];
    } mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    const unsigned char *slots = rmk_emulate_exchange(&mine, sizeof(mine));
    const uint32_t g = rmk_emulate_lane() / 4;
    const uint32_t p = rmk_emulate_lane() % 4 * 2;
    auto of_lane = [slots](uint32_t lane) {
        return (const operands *)(slots + lane * RMK_EMULATE_SLOT_BYTES);
    };

    for (uint32_t i = 0; i < 4; i++) {
        uint32_t low_half = i / 2; /* rows g or g + 8 */
        uint32_t column = p + i % 2;
        for (uint32_t k = 0; k < 16; k++) {
            uint32_t lane = k % 8 / 2;
            uint32_t a_word = of_lane(g * 4 + lane)->a[low_half + k / 8 * 2];
            uint32_t b_word = of_lane(column * 4 + lane)->b[k / 8];
            d[i] = fmaf(rmk_mma_half<T>(a_word, k), rmk_mma_half<T>(b_word, k), d[i]);
        }
    }
}

/* Four 8 x 8 matrices: lane l gives the address of row l % 8 of matrix l / 8 and gets, of matrix j,
 * row l / 4, columns p and p + 1 in out[j]. */
static inline void rmk_load_matrices(uint32_t (&out)[4], const void *row)
{
    const unsigned char *slots = rmk_emulate_exchange(&row, sizeof(row));

    for (uint32_t j = 0; j < 4; j++) {
        const uint32_t *address;
        uint32_t lane = j * 8 + rmk_emulate_lane() / 4;
        memcpy(&address, slots + lane * RMK_EMULATE_SLOT_BYTES, sizeof(address));
        out[j] = address[rmk_emulate_lane() % 4];
    }
    __syncwarp(); /* a lane must not overwrite what another still reads through its address */
}

/* The same of the transposed matrices: rows p and p + 1, column l / 4. */
static inline void rmk_load_transposed(uint32_t (&out)[4], const void *row)
{
    const unsigned char *slots = rmk_emulate_exchange(&row, sizeof(row));

    for (uint32_t j = 0; j < 4; j++) {
        out[j] = 0;
        for (uint32_t half = 0; half < 2; half++) {
            const uint16_t *address;
            uint32_t lane = j * 8 + rmk_emulate_lane() % 4 * 2 + half;
            memcpy(&address, slots + lane * RMK_EMULATE_SLOT_BYTES, sizeof(address));
            out[j] |= (uint32_t)address[rmk_emulate_lane() / 4] << (half * 16);
        }
    }
    __syncwarp();
}

#else

template <typename T>
static __device__ __forceinline__ void rmk_mma(float (&d)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2]);

template <>
__device__ __forceinline__ void rmk_mma<rmk_bf16>(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
__device__ __forceinline__ void rmk_mma<rmk_f16>(float (&d)[4], const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static __device__ __forceinline__ void rmk_load_matrices(uint32_t (&out)[4], const void *row)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(row);

    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
}

static __device__ __forceinline__ void rmk_load_transposed(uint32_t (&out)[4], const void *row)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(row);

    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
}

#endif
#endif
