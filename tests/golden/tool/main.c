/* remask-golden DIR… --backend ref|cpu|cuda [--dtype f32|bf16|f16] [--plugin FILE] --tp R
 * [--allow-pending] [--only NAME] [--quiet]
 *
 * Runs every case under each DIR (format: the reference data's README) stage by stage. The last
 * line has the counts; exit 1 on any mismatch, or when something is pending and that was not
 * allowed. */
#include <stdio.h>

#include "common/config.h"
#include "common/limits.h"
#include "tests/golden/tool/cases.h"
#include "tests/golden/tool/files.h"

static const char *const backends[] = {"ref", "cpu", "cuda", NULL};
static const char *const dtypes[] = {"f32", "bf16", "f16", NULL};
static const enum rmk_dtype dtype_values[] = {RMK_F32, RMK_BF16, RMK_F16};

static double percent(unsigned part, unsigned whole)
{
    return whole > 0 ? 100.0 * part / whole : 0;
}

/* False: too little, or nothing was compared. */
static bool print_agreement(const struct agreement *agreement, const char *dtype, uint64_t least)
{
    const double picks = percent(agreement->picks_equal, agreement->picks);

    (void)printf(
        "agreement of %s with the fp32 record, each step from the recorded canvas: %u of %u "
        "tokens (%.2f %%), %u of %u steps commit the same positions (%.2f %%), largest "
        "difference of a confidence %.3g\n",
        dtype, agreement->picks_equal, agreement->picks, picks, agreement->steps_equal,
        agreement->steps, percent(agreement->steps_equal, agreement->steps),
        agreement->confidence_worst);
    return agreement->picks > 0 && picks >= (double)least;
}

int main(int argc, char **argv)
{
    int backend = 0;
    int dtype = 0;
    uint64_t agreement_min = 0;
    uint64_t ranks = 1;
    bool allow_pending = false;
    const char *plugin = NULL;
    const char *only = NULL;
    bool quiet = false;
    struct rmk_config_flag flags[] = {
        {.name = "backend",
         .kind = RMK_CONFIG_CHOICE,
         .target = &backend,
         .fallback = "cpu",
         .choices = backends,
         .help = "what computes"},
        {.name = "plugin",
         .kind = RMK_CONFIG_TEXT,
         .target = &plugin,
         .argument = "FILE",
         .help = "the CUDA plugin, when it is not beside this program"},
        {.name = "dtype",
         .kind = RMK_CONFIG_CHOICE,
         .target = &dtype,
         .fallback = "f32",
         .choices = dtypes,
         .help = "compute type; another than the record's f32: agreement is measured"},
        {.name = "agreement-min",
         .kind = RMK_CONFIG_UINT,
         .target = &agreement_min,
         .fallback = "0",
         .max = 100,
         .argument = "PERCENT",
         .help = "least share of recorded tokens that are picked again"},
        {.name = "tp",
         .kind = RMK_CONFIG_UINT,
         .target = &ranks,
         .fallback = "1",
         .min = 1,
         .max = RMK_TP_RANKS_MAX,
         .argument = "R",
         .help = "tensor-parallel ranks"},
        {.name = "allow-pending",
         .kind = RMK_CONFIG_SWITCH,
         .target = &allow_pending,
         .help = "parts that do not exist yet are no failure"},
        {.name = "only",
         .kind = RMK_CONFIG_TEXT,
         .target = &only,
         .argument = "NAME",
         .help = "scenes whose name contains this"},
        {.name = "quiet",
         .kind = RMK_CONFIG_SWITCH,
         .target = &quiet,
         .help = "leave out lines that are ok"},
    };
    struct rmk_config config = {
        .program = "remask-golden",
        .summary = "Compares every stage with recorded data of the official program.",
        .operands_name = "DIR…",
        .flags = flags,
        .flag_count = sizeof(flags) / sizeof(flags[0]),
        .operands_min = 1,
        .operands_max = 64,
    };
    struct report report = {0};
    int status = rmk_config_load(&config, argc, argv);

    if (status >= 0) {
        rmk_config_deinit(&config);
        return status;
    }
    const struct settings settings = {.backend = backends[backend],
                                      .act = dtype_values[dtype],
                                      .plugin = plugin,
                                      .ranks = (unsigned)ranks,
                                      .only = only};
    report.quiet = quiet;
    report.agreement.measured = settings.act != RMK_F32;
    for (size_t i = 0; i < config.operand_count; i++) {
        const char *root = config.operands[i];
        const unsigned before = report.passed + report.failed + report.pending;
        if (only == NULL && !report.agreement.measured) {
            cases_text(&report, root);
            cases_images(&report, root);
            cases_tables(&report, root, &settings);
        }
        cases_scenes(&report, root, &settings);
        if (report.passed + report.failed + report.pending == before) {
            report_failed(&report, root, "cases", "nothing to compare is in this folder");
        }
    }
    model_folders_remove();
    bool good = report.failed == 0 && (report.pending == 0 || allow_pending);
    if (report.agreement.measured) {
        good = print_agreement(&report.agreement, dtypes[dtype], agreement_min) && good;
    }
    (void)printf("%s: backend %s, %u rank(s): %u passed, %u failed, %u pending, %u forced picks, "
                 "%u the reference raised\n",
                 good ? "green" : "RED", settings.backend, settings.ranks, report.passed,
                 report.failed, report.pending, report.forced, report.raised);
    rmk_config_deinit(&config);
    return good ? 0 : 1;
}
