/* worker/tp/nccl.h against the real header, where there is one. */
#include "worker/tp/nccl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>
#include <nccl.h>

_Static_assert(RMK_NCCL_SUCCESS == (int)ncclSuccess, "");
_Static_assert(RMK_NCCL_IN_PROGRESS == (int)ncclInProgress, "");
_Static_assert(RMK_NCCL_INT8 == (int)ncclInt8, "");
_Static_assert(RMK_NCCL_FLOAT32 == (int)ncclFloat32, "");
_Static_assert(RMK_NCCL_SUM == (int)ncclSum, "");
_Static_assert(sizeof(struct rmk_nccl_id) == sizeof(ncclUniqueId), "");
#if NCCL_VERSION_CODE >= 22800 && NCCL_VERSION_CODE < 22900
_Static_assert(sizeof(struct rmk_nccl_config) == sizeof(ncclConfig_t), "");
_Static_assert(offsetof(struct rmk_nccl_config, comm_name) == offsetof(ncclConfig_t, commName), "");
_Static_assert(offsetof(struct rmk_nccl_config, nvlink_centric_sched) ==
                   offsetof(ncclConfig_t, nvlinkCentricSched),
               "");
#endif

/* The compiler has done the comparing; what is left is the value that marks a config. */
static void the_magic_number_is_that_of_the_header(void **state)
{
    const ncclConfig_t config = NCCL_CONFIG_INITIALIZER;

    (void)state;
    assert_int_equal(config.magic, (unsigned)RMK_NCCL_CONFIG_MAGIC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_magic_number_is_that_of_the_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
