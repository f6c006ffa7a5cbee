/* cublasLt behind gemm.h.
 *
 * It thinks in columns: our row-major y [m, n] = x [m, k] W[n, k]^T is its column-major
 * Y [n, m] = W^T [n, k] X [k, m], with W stored [k, n] and read transposed. fp32 is computed as
 * strict fp32 (no TF32, no emulation by bf16 parts), the 16-bit types with fp32 sums.
 */
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/row_class.h"

#include <stdlib.h>

#include <cublasLt.h>

enum {
    PLANS_MAX = 128,
    WORKSPACE_BYTES = RMK_CUDA_WORKSPACE_BYTES,
};

struct plan {
    uint32_t n;
    uint32_t k;
    uint32_t row_class;
    enum rmk_dtype y_dtype;
    bool bias;
    bool usable;     /* there is an algorithm */
    bool bias_apart; /* none that also adds the bias: ours does, afterwards (fp32 y only) */
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t weight;
    cublasLtMatrixLayout_t x;
    cublasLtMatrixLayout_t y;
    cublasLtMatmulAlgo_t algorithm;
};

struct rmk_gemm {
    cublasLtHandle_t handle;
    void *workspace;
    uint32_t plan_count;
    struct plan plans[PLANS_MAX];
};

/* -- life
 * -------------------------------------------------------------------------------------------- */

enum rmk_err rmk_gemm_create(struct rmk_cuda *cuda, struct rmk_gemm **out, struct rmk_why *why)
{
    struct rmk_gemm *gemm = (struct rmk_gemm *)calloc(1, sizeof(*gemm));

    if (gemm == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a device");
    }
    cublasStatus_t status = cublasLtCreate(&gemm->handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
        gemm->handle = NULL;
        rmk_gemm_destroy(gemm);
        return rmk_fail(why, RMK_EUNAVAILABLE, "backend cuda: cublasLt on GPU %d: %s", cuda->index,
                        cublasLtGetStatusString(status));
    }
    cudaError_t error = cudaMalloc(&gemm->workspace, WORKSPACE_BYTES);
    if (error != cudaSuccess) {
        rmk_gemm_destroy(gemm);
        return rmk_fail(why, RMK_ELIMIT, "backend cuda: no workspace for GEMMs on GPU %d: %s",
                        cuda->index, cudaGetErrorString(error));
    }
    *out = gemm;
    return RMK_OK;
}

static void forget_plan(struct plan *plan)
{
    if (plan->operation != NULL) {
        (void)cublasLtMatmulDescDestroy(plan->operation);
    }
    const cublasLtMatrixLayout_t layouts[] = {plan->weight, plan->x, plan->y};
    for (cublasLtMatrixLayout_t layout : layouts) {
        if (layout != NULL) {
            (void)cublasLtMatrixLayoutDestroy(layout);
        }
    }
}

void rmk_gemm_destroy(struct rmk_gemm *gemm)
{
    if (gemm == NULL) {
        return;
    }
    for (struct plan &plan : gemm->plans) {
        forget_plan(&plan);
    }
    (void)cudaFree(gemm->workspace);
    if (gemm->handle != NULL) {
        (void)cublasLtDestroy(gemm->handle);
    }
    free(gemm);
}

/* -- plans
 * ------------------------------------------------------------------------------------------- */

static cudaDataType_t type_of(enum rmk_dtype dtype)
{
    return dtype == RMK_F32 ? CUDA_R_32F : dtype == RMK_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

/* What the address of any row is a multiple of, when the array's is of 256. */
static uint32_t alignment_of(uint32_t width, enum rmk_dtype dtype)
{
    uint64_t bytes = (uint64_t)width * rmk_cuda_bytes(dtype);
    uint32_t alignment = 256;

    while (bytes % alignment != 0) {
        alignment /= 2;
    }
    return alignment;
}

static bool is_aligned(const void *address, uint32_t alignment)
{
    return (uintptr_t)address % alignment == 0;
}

static bool set_operation(struct plan *plan, cublasLtMatmulDescAttributes_t attribute,
                          const void *value, size_t bytes)
{
    return cublasLtMatmulDescSetAttribute(plan->operation, attribute, value, bytes) ==
           CUBLAS_STATUS_SUCCESS;
}

static bool describe(struct plan *plan, enum rmk_dtype act)
{
    const cublasComputeType_t compute =
        act == RMK_F32 ? CUBLAS_COMPUTE_32F_PEDANTIC : CUBLAS_COMPUTE_32F;
    const cublasOperation_t transposed = CUBLAS_OP_T;

    return cublasLtMatmulDescCreate(&plan->operation, compute, CUDA_R_32F) ==
               CUBLAS_STATUS_SUCCESS &&
           set_operation(plan, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)) &&
           cublasLtMatrixLayoutCreate(&plan->weight, type_of(act), plan->k, plan->n, plan->k) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&plan->x, type_of(act), plan->k,
                                      rmk_row_class_rows(plan->row_class),
                                      plan->k) == CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&plan->y, type_of(plan->y_dtype), plan->n,
                                      rmk_row_class_rows(plan->row_class),
                                      plan->n) == CUBLAS_STATUS_SUCCESS;
}

static bool set_bias(struct plan *plan, const void *bias)
{
    const cublasLtEpilogue_t epilogue =
        bias != NULL ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    const int32_t type = (int32_t)type_of(plan->y_dtype);

    return set_operation(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue)) &&
           (bias == NULL ||
            (set_operation(plan, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof(type)) &&
             set_operation(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias))));
}

static bool choose(struct rmk_gemm *gemm, struct plan *plan, enum rmk_dtype act)
{
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t found;
    const uint64_t workspace = WORKSPACE_BYTES;
    /* Parts of a sum are added in fp32 when they are. */
    const uint32_t schemes = plan->row_class == RMK_ROW_CLASS_WHOLE
                                 ? CUBLASLT_REDUCTION_SCHEME_NONE
                                 : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t k_alignment = alignment_of(plan->k, act);
    const uint32_t n_alignment = alignment_of(plan->n, plan->y_dtype);
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t bytes;
    } wishes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof(workspace)},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof(schemes)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &k_alignment, sizeof(k_alignment)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &k_alignment, sizeof(k_alignment)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &n_alignment, sizeof(n_alignment)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &n_alignment, sizeof(n_alignment)},
    };
    bool good = cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS;
    int count = 0;

    for (size_t i = 0; good && i < sizeof(wishes) / sizeof(wishes[0]); i++) {
        good = cublasLtMatmulPreferenceSetAttribute(preference, wishes[i].name, wishes[i].value,
                                                    wishes[i].bytes) == CUBLAS_STATUS_SUCCESS;
    }
    good = good &&
           cublasLtMatmulAlgoGetHeuristic(gemm->handle, plan->operation, plan->weight, plan->x,
                                          plan->y, plan->y, preference, 1, &found,
                                          &count) == CUBLAS_STATUS_SUCCESS &&
           count == 1 && found.state == CUBLAS_STATUS_SUCCESS;
    if (good) {
        plan->algorithm = found.algo;
    }
    if (preference != NULL) {
        (void)cublasLtMatmulPreferenceDestroy(preference);
    }
    return good;
}

static const void *bias_of(const struct rmk_product *product)
{
    if (product->bias == NULL) {
        return NULL;
    }
    return product->y_dtype == RMK_F32 ? (const void *)product->bias : product->bias_act;
}

static void decline(struct rmk_cuda *cuda, struct plan *plan)
{
    plan->usable = false; /* for good, so that rows do not meet two kernels in turn */
    cuda->device.info.slow_products++;
}

/* Of the last PLANS_MAX shapes; an older one is planned again, and alike. */
static struct plan *plan_of(struct rmk_cuda *cuda, const struct rmk_product *product)
{
    struct rmk_gemm *gemm = cuda->gemm;
    const enum rmk_dtype act = cuda->device.info.act;
    const void *bias = bias_of(product);
    const uint32_t row_class = rmk_row_class(product->m, cuda->by_rows);

    const uint32_t count = gemm->plan_count < PLANS_MAX ? gemm->plan_count : PLANS_MAX;
    for (uint32_t i = 0; i < count; i++) {
        struct plan *plan = &gemm->plans[i];
        if (plan->n == product->n && plan->k == product->k && plan->row_class == row_class &&
            plan->y_dtype == product->y_dtype && plan->bias == (bias != NULL)) {
            return plan;
        }
    }
    struct plan *plan = &gemm->plans[gemm->plan_count++ % PLANS_MAX];
    forget_plan(plan);
    *plan = {};
    plan->n = product->n;
    plan->k = product->k;
    plan->row_class = row_class;
    plan->y_dtype = product->y_dtype;
    plan->bias = bias != NULL;
    if (describe(plan, act)) {
        plan->usable = set_bias(plan, bias) && choose(gemm, plan, act);
        if (!plan->usable && plan->bias && plan->y_dtype == RMK_F32) {
            plan->bias_apart = true;
            plan->usable = set_bias(plan, NULL) && choose(gemm, plan, act);
        }
    }
    if (!plan->usable) {
        decline(cuda, plan);
    }
    return plan;
}

void rmk_gemm_prepare(struct rmk_cuda *cuda, const struct rmk_product *product)
{
    (void)plan_of(cuda, product);
}

/* -- running
 * ----------------------------------------------------------------------------------------- */

__global__ void __launch_bounds__(RMK_CUDA_BLOCK)
    bias_kernel(float *y, const float *bias, uint32_t n, size_t count)
{
    size_t i = (size_t)blockIdx.x * RMK_CUDA_BLOCK + threadIdx.x;

    if (i < count) {
        y[i] += bias[i % n];
    }
}

static bool set_rows(const struct plan *plan, uint32_t m)
{
    const uint64_t rows = m;
    const cublasLtMatrixLayout_t layouts[] = {plan->x, plan->y};

    for (cublasLtMatrixLayout_t layout : layouts) {
        if (cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_COLS, &rows,
                                             sizeof(rows)) != CUBLAS_STATUS_SUCCESS) {
            return false;
        }
    }
    return true;
}

enum rmk_err rmk_gemm_run(struct rmk_cuda *cuda, const struct rmk_product *product, bool *out_done)
{
    struct plan *plan = plan_of(cuda, product);
    const enum rmk_dtype act = cuda->device.info.act;
    const float one = 1.0F;
    const float zero = 0.0F;

    *out_done = false;
    if (!plan->usable || !is_aligned(product->x, alignment_of(product->k, act)) ||
        !is_aligned(product->weight, alignment_of(product->k, act)) ||
        !is_aligned(product->y, alignment_of(product->n, product->y_dtype)) ||
        !set_bias(plan, plan->bias_apart ? NULL : bias_of(product)) ||
        !set_rows(plan, product->m)) {
        return RMK_OK;
    }
    cublasStatus_t status =
        cublasLtMatmul(cuda->gemm->handle, plan->operation, &one, product->weight, plan->weight,
                       product->x, plan->x, &zero, product->y, plan->y, product->y, plan->y,
                       &plan->algorithm, cuda->gemm->workspace, WORKSPACE_BYTES, cuda->stream);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
        decline(cuda, plan);
        return RMK_OK;
    }
    if (status != CUBLAS_STATUS_SUCCESS) {
        if (cuda->failed.text[0] == '\0') {
            (void)rmk_fail(&cuda->failed, RMK_EINTERNAL, "GPU %d: cublasLt: %s", cuda->index,
                           cublasLtGetStatusString(status));
        }
        return RMK_EINTERNAL;
    }
    if (plan->bias_apart) {
        const size_t count = (size_t)product->m * product->n;
        RMK_CUDA(cuda, RMK_LAUNCH(cuda, bias_kernel, dim3(rmk_cuda_blocks(count, RMK_CUDA_BLOCK)),
                                  dim3(RMK_CUDA_BLOCK), 0, (float *)product->y, product->bias,
                                  product->n, count));
    }
    *out_done = true;
    return RMK_OK;
}
