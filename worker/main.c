/* remask-worker text | vision: one GPU's or CPU's share of the cluster. */
#include <stdio.h>
#include <string.h>

#include "common/config.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/process.h"
#include "common/rpc/secure.h"
#include "worker/spawn.h"
#include "worker/text/serve.h"
#include "worker/tp/comm.h"
#include "worker/vision/serve.h"

/* Flags that both roles share. */
struct shared {
    const char *model;
    const char *vision_dir;
    const char *coordinator;
    const char *tls_ca;
    const char *tls_cert;
    const char *tls_key;
    bool insecure;
    int backend;
    int dtype;
    uint64_t threads;
    uint64_t device_index;
    const char *plugin;
    bool batch_invariant;
    int load_format;
    bool verify_weights;
    uint64_t seed;
    int log_level;
    int log_format;
};

static const char *const backends[] = {"cpu", "ref", "cuda", NULL};
static const char *const dtypes[] = {"f32", "bf16", "f16", NULL};
static const enum rmk_dtype dtype_values[] = {RMK_F32, RMK_BF16, RMK_F16};
static const char *const load_formats[] = {"checkpoint", "dummy", NULL};
static const char *const collectives[] = {"auto", "cpu", "nccl", NULL};

enum { SHARED_FLAGS = 18 };

static void fill_shared_flags(struct shared *shared, struct rmk_config_flag flags[SHARED_FLAGS])
{
    const struct rmk_config_flag table[SHARED_FLAGS] = {
        {.name = "model",
         .kind = RMK_CONFIG_TEXT,
         .target = &shared->model,
         .argument = "DIR",
         .required = true,
         .help = "checkpoint folder (config.json, safetensors, tokenizer.json)"},
        {.name = "vision-dir",
         .kind = RMK_CONFIG_TEXT,
         .target = &shared->vision_dir,
         .argument = "DIR",
         .help =
             "separate SigLIP2 folder: tower geometry, and weights where the checkpoint has none"},
        {.name = "coordinator",
         .kind = RMK_CONFIG_TEXT,
         .target = &shared->coordinator,
         .fallback = "127.0.0.1:8003",
         .argument = "HOST:PORT",
         .help = "the coordinator's cluster port"},
        {.name = "tls-ca",
         .kind = RMK_CONFIG_TEXT,
         .target = &shared->tls_ca,
         .argument = "FILE",
         .help = "PEM file of the cluster's certificate authority: turns mutual TLS on"},
        {.name = "tls-cert",
         .kind = RMK_CONFIG_TEXT,
         .target = &shared->tls_cert,
         .argument = "FILE",
         .help = "this worker's certificate"},
        {.name = "tls-key",
         .kind = RMK_CONFIG_TEXT,
         .target = &shared->tls_key,
         .argument = "FILE",
         .help = "this worker's private key"},
        {.name = "insecure",
         .kind = RMK_CONFIG_SWITCH,
         .target = &shared->insecure,
         .help = "plain text to a coordinator beyond loopback"},
        {.name = "backend",
         .kind = RMK_CONFIG_CHOICE,
         .target = &shared->backend,
         .fallback = "cpu",
         .choices = backends,
         .help = "where the model runs"},
        {.name = "dtype",
         .kind = RMK_CONFIG_CHOICE,
         .target = &shared->dtype,
         .fallback = "f32",
         .choices = dtypes,
         .help = "compute type"},
        {.name = "threads",
         .kind = RMK_CONFIG_UINT,
         .target = &shared->threads,
         .fallback = "0",
         .max = 1024,
         .argument = "N",
         .help = "CPU threads of this process; 0: the host's cores divided by its ranks"},
        {.name = "device",
         .kind = RMK_CONFIG_UINT,
         .target = &shared->device_index,
         .fallback = "0",
         .max = 1024,
         .argument = "N",
         .help = "GPU of the first local rank"},
        {.name = "plugin",
         .kind = RMK_CONFIG_TEXT,
         .target = &shared->plugin,
         .argument = "FILE",
         .help = "the CUDA plugin, when it is not beside this program"},
        {.name = "batch-invariant",
         .kind = RMK_CONFIG_SWITCH,
         .target = &shared->batch_invariant,
         .fallback = "true",
         .help =
             "cuda: an answer does not depend on what else is in the batch; off, products of few "
             "rows are faster in bf16 and f16"},
        {.name = "load-format",
         .kind = RMK_CONFIG_CHOICE,
         .target = &shared->load_format,
         .fallback = "checkpoint",
         .choices = load_formats,
         .help = "dummy: random weights by seed, for benchmarks at any size"},
        {.name = "verify-weights",
         .kind = RMK_CONFIG_SWITCH,
         .target = &shared->verify_weights,
         .help = "first compare every file of the checkpoint with its SHA256SUMS"},
        {.name = "seed",
         .kind = RMK_CONFIG_UINT,
         .target = &shared->seed,
         .fallback = "0",
         .argument = "N",
         .help = "of dummy weights"},
        {.name = "log-level",
         .kind = RMK_CONFIG_CHOICE,
         .target = &shared->log_level,
         .fallback = "info",
         .choices = rmk_log_level_names,
         .help = "least level that is logged"},
        {.name = "log-format",
         .kind = RMK_CONFIG_CHOICE,
         .target = &shared->log_format,
         .fallback = "logfmt",
         .choices = rmk_log_format_names,
         .help = "how a log line looks"},
    };

    memcpy(flags, table, sizeof(table));
}

static const char tls_flags[] = "--tls-cert, --tls-key and --tls-ca";

/* What both roles do first. The exit status, or below zero to go on; the TLS text lives as long as
 * the process. */
static int begin(struct rmk_config *config, int argc, char **argv, const struct shared *shared,
                 struct rmk_host_options *host)
{
    const int status = rmk_config_load(config, argc - 1, argv + 1); /* the role is the first word */
    const struct rmk_tls_files files = {
        .certificate = shared->tls_cert, .key = shared->tls_key, .authority = shared->tls_ca};
    struct rmk_why why = {0};

    if (status >= 0) {
        return status;
    }
    rmk_log_init((enum rmk_log_level)shared->log_level, (enum rmk_log_format)shared->log_format,
                 argv[1]);
    host->rpc.message_bytes_max = RMK_CLUSTER_MESSAGE_BYTES_MAX;
    if (rmk_secure_load(&files, shared->coordinator, true, shared->insecure, tls_flags, &host->rpc,
                        &why) != RMK_OK) {
        (void)fprintf(stderr, "remask-worker: %s\n", why.text);
        return RMK_EXIT_USAGE;
    }
    host->model_dir = shared->model;
    host->vision_dir = shared->vision_dir;
    host->coordinator = shared->coordinator;
    host->load_dummy = shared->load_format == 1;
    host->dummy_seed = shared->seed;
    host->verify_weights = shared->verify_weights;
    return -1;
}

static struct rmk_device_options device_options(const struct shared *shared, uint32_t local_index,
                                                uint32_t local_count)
{
    const uint32_t cores = rmk_process_cores();
    uint32_t threads = (uint32_t)shared->threads;

    if (threads == 0) {
        threads = cores / local_count > 0 ? cores / local_count : 1;
    }
    return (struct rmk_device_options){
        .backend = backends[shared->backend],
        .act = dtype_values[shared->dtype],
        .threads = threads,
        .device_index = (uint32_t)shared->device_index + local_index,
        .plugin = shared->plugin,
        .by_rows = !shared->batch_invariant,
    };
}

static int text_main(int argc, char **argv)
{
    struct shared shared = {0};
    const char *group = NULL;
    uint64_t size = 0;
    uint64_t rank = 0;
    uint64_t local_ranks = 0;
    uint64_t node = 0;
    uint64_t slots = 0;
    uint64_t rows_max = 0;
    uint64_t staging = 0;
    int collective = 0;
    const char *nccl = NULL;
    uint64_t ranks_per_device = 0;
    uint64_t kv = 0;
    uint64_t feature = 0;
    bool supervised = false;
    bool dry_run = false;
    struct rmk_config_flag flags[SHARED_FLAGS + 15] = {{0}};
    const struct rmk_config_flag own[] = {
        {.name = "group",
         .kind = RMK_CONFIG_TEXT,
         .target = &group,
         .fallback = "g0",
         .argument = "NAME",
         .help = "ranks of one group share the name"},
        {.name = "tp",
         .kind = RMK_CONFIG_UINT,
         .target = &size,
         .fallback = "0",
         .max = RMK_TP_RANKS_MAX,
         .argument = "R",
         .help = "ranks of the group, over all hosts; 0: --local-ranks"},
        {.name = "rank",
         .kind = RMK_CONFIG_UINT,
         .target = &rank,
         .fallback = "0",
         .max = RMK_TP_RANKS_MAX - 1,
         .argument = "N",
         .help = "which rank this process is"},
        {.name = "local-ranks",
         .kind = RMK_CONFIG_UINT,
         .target = &local_ranks,
         .fallback = "1",
         .min = 1,
         .max = RMK_TP_RANKS_MAX,
         .argument = "N",
         .help = "ranks of this host, one process each"},
        {.name = "node",
         .kind = RMK_CONFIG_UINT,
         .target = &node,
         .fallback = "0",
         .max = RMK_TP_RANKS_MAX,
         .argument = "N",
         .help = "this host's number: its ranks begin at node times local-ranks"},
        {.name = "slots",
         .kind = RMK_CONFIG_UINT,
         .target = &slots,
         .fallback = "4",
         .min = 1,
         .max = RMK_GROUP_SLOTS_MAX,
         .argument = "N",
         .help = "requests resident at once"},
        {.name = "rows-max",
         .kind = RMK_CONFIG_UINT,
         .target = &rows_max,
         .fallback = "0",
         .max = RMK_PROMPT_ROWS_MAX,
         .argument = "N",
         .help = "longest sequence (prompt, generation, suffix); 0: from the model, at most 8192"},
        {.name = "staging-bytes",
         .kind = RMK_CONFIG_BYTES,
         .target = &staging,
         .fallback = "512MiB",
         .argument = "SIZE",
         .help = "features pulled ahead of their requests"},
        {.name = "ranks-per-device",
         .kind = RMK_CONFIG_UINT,
         .target = &ranks_per_device,
         .fallback = "1",
         .min = 1,
         .max = RMK_TP_RANKS_MAX,
         .argument = "N",
         .help = "ranks that share a GPU; NCCL can do it from 2.30 on, so auto is cpu then"},
        {.name = "collectives",
         .kind = RMK_CONFIG_CHOICE,
         .target = &collective,
         .fallback = "auto",
         .choices = collectives,
         .help = "how ranks add up: nccl between GPUs, cpu through shared memory; auto: nccl where "
                 "each rank has a GPU to itself"},
        {.name = "nccl",
         .kind = RMK_CONFIG_TEXT,
         .target = &nccl,
         .argument = "FILE",
         .help = "the NCCL library, when it is not the system's libnccl.so.2"},
        {.name = "kv-bytes",
         .kind = RMK_CONFIG_BYTES,
         .target = &kv,
         .argument = "SIZE",
         .help = "keys and values kept between steps, each rank; absent: for all slots, at most a "
                 "quarter of the memory, shared by the ranks on it"},
        {.name = "feature-bytes",
         .kind = RMK_CONFIG_BYTES,
         .target = &feature,
         .argument = "SIZE",
         .help = "attention and MLP outputs kept for the feature cache; absent: for one request, "
                 "at most a quarter of the memory"},
        {.name = "supervised",
         .kind = RMK_CONFIG_SWITCH,
         .target = &supervised,
         .help = "this process is one rank of a supervisor (set by --local-ranks)"},
        {.name = "dry-run",
         .kind = RMK_CONFIG_SWITCH,
         .target = &dry_run,
         .help = "load, print the memory plan, leave"},
    };
    fill_shared_flags(&shared, flags);
    memcpy(flags + SHARED_FLAGS, own, sizeof(own));
    struct rmk_config config = {
        .program = "remask-worker text",
        .summary = "One or more tensor-parallel ranks of the text model.",
        .flags = flags,
        .flag_count = sizeof(flags) / sizeof(flags[0]),
    };
    struct rmk_text_serve_options options = {0};
    int status = begin(&config, argc, argv, &shared, &options.host);

    if (status >= 0) {
        goto out;
    }
    if (size == 0) {
        size = local_ranks;
    }
    if (local_ranks > 1 && !supervised && !dry_run) {
        status = rmk_spawn_ranks(argv, (uint32_t)(node * local_ranks), (uint32_t)local_ranks);
        goto out;
    }
    if (rank >= size) {
        (void)fprintf(stderr, "remask-worker: --rank %llu is not below --tp %llu\n",
                      (unsigned long long)rank, (unsigned long long)size);
        status = RMK_EXIT_USAGE;
        goto out;
    }
    if (supervised) {
        rmk_spawn_bind_to_parent();
    }
    options.group = group;
    options.rank = (uint32_t)rank;
    options.size = (uint32_t)size;
    options.host.device =
        device_options(&shared, (uint32_t)(rank % local_ranks), (uint32_t)local_ranks);
    options.host.device.device_index =
        (uint32_t)(shared.device_index + rank % local_ranks / ranks_per_device);
    options.slot_count = (uint32_t)slots;
    options.rows_max = (uint32_t)rows_max;
    options.staging_bytes_max = staging;
    options.kv_bytes_max =
        rmk_config_flag(&config, "kv-bytes")->given != NULL ? kv : RMK_TEXT_BYTES_AUTO;
    options.feature_bytes_max =
        rmk_config_flag(&config, "feature-bytes")->given != NULL ? feature : RMK_TEXT_BYTES_AUTO;
    options.local_ranks = (uint32_t)local_ranks;
    options.device_ranks =
        (uint32_t)(ranks_per_device < local_ranks ? ranks_per_device : local_ranks);
    options.dry_run = dry_run;
    options.collectives = collective > 0 ? collectives[collective] : NULL;
    if (nccl != NULL) {
        rmk_comm_nccl_library(nccl);
    }
    if (options.device_ranks > 1) {
        rmk_comm_nccl_share_gpus();
    }
    status = rmk_text_serve(&options);
out:
    rmk_config_deinit(&config);
    return status;
}

static int vision_main(int argc, char **argv)
{
    struct shared shared = {0};
    const char *listen = NULL;
    const char *advertise = NULL;
    uint64_t tile_batch = 0;
    uint64_t parallel = 0;
    uint64_t cache = 0;
    bool supervised = false;
    struct rmk_config_flag flags[SHARED_FLAGS + 6] = {{0}};
    const struct rmk_config_flag own[] = {
        {.name = "listen",
         .kind = RMK_CONFIG_TEXT,
         .target = &listen,
         .fallback = "127.0.0.1:8004",
         .argument = "HOST:PORT",
         .help = "where text workers pull features; port 0: the system chooses"},
        {.name = "advertise",
         .kind = RMK_CONFIG_TEXT,
         .target = &advertise,
         .argument = "HOST",
         .help = "the host that text workers are told, when it is not the one listened on"},
        {.name = "tile-batch",
         .kind = RMK_CONFIG_UINT,
         .target = &tile_batch,
         .fallback = "0",
         .max = 64,
         .argument = "N",
         .help = "tiles through the tower at once, of several pictures where they are small; 0: 4, "
                 "on a GPU 16"},
        {.name = "parallel",
         .kind = RMK_CONFIG_UINT,
         .target = &parallel,
         .fallback = "4",
         .min = 1,
         .max = 256,
         .argument = "N",
         .help = "pictures under way at once"},
        {.name = "cache-bytes",
         .kind = RMK_CONFIG_BYTES,
         .target = &cache,
         .fallback = "1GiB",
         .argument = "SIZE",
         .help = "features kept by content"},
        {.name = "supervised",
         .kind = RMK_CONFIG_SWITCH,
         .target = &supervised,
         .help = "leave when the parent process does"},
    };
    fill_shared_flags(&shared, flags);
    memcpy(flags + SHARED_FLAGS, own, sizeof(own));
    struct rmk_config config = {
        .program = "remask-worker vision",
        .summary = "Decodes, tiles and encodes pictures for the text groups.",
        .flags = flags,
        .flag_count = sizeof(flags) / sizeof(flags[0]),
    };
    struct rmk_vision_serve_options options = {0};
    struct rmk_why why = {0};
    int status = begin(&config, argc, argv, &shared, &options.host);

    if (status >= 0) {
        goto out;
    }
    if (rmk_secure_check_reach(listen, shared.tls_cert != NULL, shared.insecure, tls_flags, &why) !=
        RMK_OK) {
        (void)fprintf(stderr, "remask-worker: --listen: %s\n", why.text);
        status = RMK_EXIT_USAGE;
        goto out;
    }
    if (supervised) {
        rmk_spawn_bind_to_parent();
    }
    options.listen = listen;
    options.advertise = advertise;
    options.host.device = device_options(&shared, 0, 1);
    if (tile_batch == 0) {
        tile_batch = strcmp(options.host.device.backend, "cuda") == 0 ? 16 : 4;
    }
    options.tile_batch = (uint32_t)tile_batch;
    options.parallel_max = (uint32_t)parallel;
    options.cache_bytes_max = cache;
    status = rmk_vision_serve(&options);
out:
    rmk_config_deinit(&config);
    return status;
}

int main(int argc, char **argv)
{
    rmk_process_init();
    rmk_process_explain_truncation("remask-worker: a file of the checkpoint");
    if (argc >= 2 && strcmp(argv[1], "text") == 0) {
        return text_main(argc, argv);
    }
    if (argc >= 2 && strcmp(argv[1], "vision") == 0) {
        return vision_main(argc, argv);
    }
    const bool help = argc >= 2 && strcmp(argv[1], "--help") == 0;
    (void)fprintf(help ? stdout : stderr,
                  "usage: remask-worker text|vision [FLAGS]; --help after the role lists them\n");
    return help ? 0 : RMK_EXIT_USAGE;
}
