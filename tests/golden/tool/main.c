/* remask-golden DIR… --backend ref|cpu|cuda [--plugin FILE] --tp R [--allow-pending] [--only NAME]
 * [--quiet]
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

int main(int argc, char **argv)
{
    int backend = 0;
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
    const struct settings settings = {
        .backend = backends[backend], .plugin = plugin, .ranks = (unsigned)ranks, .only = only};
    report.quiet = quiet;
    for (size_t i = 0; i < config.operand_count; i++) {
        const char *root = config.operands[i];
        const unsigned before = report.passed + report.failed + report.pending;
        if (only == NULL) {
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
    const bool good = report.failed == 0 && (report.pending == 0 || allow_pending);
    (void)printf("%s: backend %s, %u rank(s): %u passed, %u failed, %u pending, %u forced picks, "
                 "%u the reference raised\n",
                 good ? "green" : "RED", settings.backend, settings.ranks, report.passed,
                 report.failed, report.pending, report.forced, report.raised);
    rmk_config_deinit(&config);
    return good ? 0 : 1;
}
