#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/up.h"
#include "common/process.h"

/* "text g0" logs to text-g0.log, from the beginning. */
static void prepare(struct rmk_cluster *cluster, struct rmk_child *child, const char *name)
{
    rmk_child_init(child, &cluster->loop, name);
    (void)snprintf(child->log, sizeof(child->log), "%.900s/%s.log", cluster->log_dir, name);
    for (char *at = child->log + strlen(cluster->log_dir); *at != '\0'; at++) {
        if (*at == ' ') {
            *at = '-';
        }
    }
    (void)unlink(child->log);
}

static enum rmk_err add_all(struct rmk_child *child, const struct rmk_config_texts *flags,
                            struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    for (size_t i = 0; i < flags->count; i++) {
        RMK_TRY(rmk_child_argument(child, flags->items[i], why));
    }
out:
    return err;
}

/* Its port of the three; 0 while the system has not chosen. A coordinator that starts again must
 * come back to the addresses that workers and clients know. */
static enum rmk_err add_address(struct rmk_cluster *cluster, const char *flag, unsigned offset,
                                struct rmk_why *why)
{
    const uint64_t base = cluster->options->port_base;

    return rmk_child_argumentf(&cluster->coordinator, why, "--%s=127.0.0.1:%llu", flag,
                               (unsigned long long)(base == 0 ? 0 : base + offset));
}

enum rmk_err rmk_cluster_coordinator(struct rmk_cluster *cluster, struct rmk_why *why)
{
    const struct rmk_up_options *options = cluster->options;
    struct rmk_child *child = &cluster->coordinator;
    enum rmk_err err;

    prepare(cluster, child, "coordinator");
    RMK_TRY(rmk_child_argumentf(child, why, "%s/remask-coordinator", cluster->bin_dir));
    RMK_TRY(rmk_child_argumentf(child, why, "--model=%s", cluster->model));
    if (options->vision_dir != NULL) {
        RMK_TRY(rmk_child_argumentf(child, why, "--vision-dir=%s", options->vision_dir));
    }
    RMK_TRY(rmk_child_argumentf(child, why, "--ready-file=%s", cluster->ready_file));
    RMK_TRY(rmk_child_argumentf(child, why, "--drain-timeout-ms=%llu",
                                (unsigned long long)(options->stop_timeout_us / 1000)));
    RMK_TRY(rmk_child_argument(child, "--log-format=logfmt", why));
    if (options->vision_count == 0) {
        RMK_TRY(rmk_child_argument(child, "--no-require-vision", why));
    }
    RMK_TRY(add_all(child, &options->coordinator_flags, why));
    RMK_TRY(add_address(cluster, "listen", 1, why));
    RMK_TRY(add_address(cluster, "metrics-listen", 2, why));
    RMK_TRY(add_address(cluster, "cluster-listen", 3, why));
out:
    return err;
}

static enum rmk_err add_shared(struct rmk_cluster *cluster, struct rmk_child *child,
                               const char *role, uint64_t processes, struct rmk_why *why)
{
    const struct rmk_up_options *options = cluster->options;
    const uint64_t cores = rmk_process_cores();
    const uint64_t share = cores / processes > 0 ? cores / processes : 1;
    enum rmk_err err;

    RMK_TRY(rmk_child_argumentf(child, why, "%s/remask-worker", cluster->bin_dir));
    RMK_TRY(rmk_child_argument(child, role, why));
    RMK_TRY(rmk_child_argumentf(child, why, "--model=%s", cluster->model));
    if (options->vision_dir != NULL) {
        RMK_TRY(rmk_child_argumentf(child, why, "--vision-dir=%s", options->vision_dir));
    }
    RMK_TRY(rmk_child_argumentf(child, why, "--coordinator=%s", cluster->internal));
    RMK_TRY(rmk_child_argumentf(child, why, "--backend=%s", options->backend));
    RMK_TRY(rmk_child_argumentf(child, why, "--dtype=%s", options->dtype));
    RMK_TRY(
        rmk_child_argumentf(child, why, "--threads=%llu",
                            (unsigned long long)(options->threads > 0 ? options->threads : share)));
    RMK_TRY(rmk_child_argument(child, "--log-format=logfmt", why));
out:
    return err;
}

static enum rmk_err fill_text(struct rmk_cluster *cluster, struct rmk_child *child, unsigned index,
                              struct rmk_why *why)
{
    const struct rmk_up_options *options = cluster->options;
    char name[32];
    enum rmk_err err;

    (void)snprintf(name, sizeof(name), "text g%u", index);
    prepare(cluster, child, name);
    RMK_TRY(add_shared(cluster, child, "text", options->group_count * options->rank_count, why));
    RMK_TRY(rmk_child_argumentf(child, why, "--group=g%u", index));
    RMK_TRY(rmk_child_argumentf(child, why, "--local-ranks=%llu",
                                (unsigned long long)options->rank_count));
    RMK_TRY(rmk_child_argumentf(child, why, "--device=%llu",
                                (unsigned long long)(index * options->rank_count)));
    RMK_TRY(add_all(child, &options->text_flags, why));
out:
    return err;
}

static enum rmk_err fill_vision(struct rmk_cluster *cluster, struct rmk_child *child,
                                unsigned index, struct rmk_why *why)
{
    char name[32];
    enum rmk_err err;

    (void)snprintf(name, sizeof(name), "vision v%u", index);
    prepare(cluster, child, name);
    RMK_TRY(add_shared(cluster, child, "vision", cluster->options->vision_count, why));
    RMK_TRY(rmk_child_argument(child, "--listen=127.0.0.1:0", why));
    RMK_TRY(add_all(child, &cluster->options->vision_flags, why));
out:
    return err;
}

enum rmk_err rmk_cluster_workers(struct rmk_cluster *cluster, struct rmk_why *why)
{
    const struct rmk_up_options *options = cluster->options;
    const size_t count = (size_t)(options->group_count + options->vision_count);
    enum rmk_err err = RMK_OK;

    cluster->workers = calloc(count, sizeof(*cluster->workers));
    if (cluster->workers == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for %zu workers", count);
        goto out;
    }
    for (unsigned i = 0; i < count; i++) {
        struct rmk_child *child = &cluster->workers[cluster->worker_count++];

        if (i < options->group_count) {
            RMK_TRY(fill_text(cluster, child, i, why));
        } else {
            RMK_TRY(fill_vision(cluster, child, i - (unsigned)options->group_count, why));
        }
    }
out:
    return err;
}
