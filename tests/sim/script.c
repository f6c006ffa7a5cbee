/* Scripts: a small cluster without chance, and the trace that it must give.
 *
 *     # what this shows
 *     limits requests=4 queued=4 rows=1 retries=2 plan_timeout=50000 encode_timeout=50000
 *     group 0 slots=2 rows=128 step_rows=256 class=1
 *     vision 0 parallel=2 cache=4
 *     at 0 group-up 0          kv=ROWS: key/value rows of a group; cache, rule: numbers of their
 * enums at 1000 submit 1 gen=4 block=4 steps=2 prompt=3 items=1 picture=7 stop=5 … at 2000 cancel 1
 *     ---
 *     t=0 group-up …
 *
 * Links take 100 us, a plan 1 ms, a tile 1 ms. `--rewrite` puts the trace there; people read the
 * difference.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

enum {
    WORDS_MAX = 32,
    SCRIPT_BYTES_MAX = 1 << 20,
};

static struct sim world;

struct line {
    const char *path;
    uint32_t number;
    char *words[WORDS_MAX];
    uint32_t count;
};

static _Noreturn void refuse(const struct line *line, const char *what)
{
    (void)fprintf(stderr, "%s:%u: %s\n", line->path, line->number, what);
    exit(1);
}

/* `key=value` among the words; `otherwise` when it is not there. */
static uint64_t value_of(const struct line *line, const char *key, uint64_t otherwise)
{
    size_t length = strlen(key);

    for (uint32_t i = 0; i < line->count; i++) {
        if (strncmp(line->words[i], key, length) == 0 && line->words[i][length] == '=') {
            return strtoull(line->words[i] + length + 1, NULL, 0);
        }
    }
    return otherwise;
}

static uint64_t number_at(const struct line *line, uint32_t place)
{
    char *end = NULL;

    if (place >= line->count) {
        refuse(line, "a number is missing");
    }
    uint64_t number = strtoull(line->words[place], &end, 0);
    if (*end != '\0') {
        refuse(line, "not a number");
    }
    return number;
}

static uint32_t index_at(const struct line *line, uint32_t place, uint32_t max)
{
    uint64_t number = number_at(line, place);

    if (number >= max) {
        refuse(line, "too large");
    }
    return (uint32_t)number;
}

/* ---- settings
 * ----------------------------------------------------------------------------------------------------
 */

static void set_limits(const struct line *line)
{
    world.limits.requests_max = (uint32_t)value_of(line, "requests", 8);
    world.limits.queued_max = (uint32_t)value_of(line, "queued", 8);
    world.limits.rows_per_plan_max = (uint32_t)value_of(line, "rows", 1);
    world.limits.retries_max = (uint32_t)value_of(line, "retries", 2);
    world.limits.plan_timeout_us = value_of(line, "plan_timeout", 50000);
    world.limits.encode_timeout_us = value_of(line, "encode_timeout", 50000);
}

static void set_group(const struct line *line)
{
    uint32_t index = index_at(line, 1, SIM_GROUPS_MAX);
    struct sim_group *group = &world.groups[index];

    world.group_count = index + 1 > world.group_count ? index + 1 : world.group_count;
    group->slot_count = (uint32_t)value_of(line, "slots", 2);
    group->rows_max = (uint32_t)value_of(line, "rows", SIM_ROWS_MAX);
    group->step_rows_max = (uint32_t)value_of(line, "step_rows", UINT64_C(2) * SIM_ROWS_MAX);
    group->numerics_class = value_of(line, "class", 1);
    group->kv_rows_max = (uint32_t)value_of(line, "kv", 0);
    group->feature_rows_max = group->kv_rows_max;
}

static void set_vision(const struct line *line)
{
    uint32_t index = index_at(line, 1, SIM_VISIONS_MAX);
    struct sim_vision *vision = &world.visions[index];

    world.vision_count = index + 1 > world.vision_count ? index + 1 : world.vision_count;
    vision->parallel_max = (uint32_t)value_of(line, "parallel", 2);
    vision->cache_max = (uint32_t)value_of(line, "cache", 4);
}

/* ---- what happens
 * ------------------------------------------------------------------------------------------------
 */

static void submit(struct sim *sim, struct sim_event *event)
{
    sim_client_submit(sim, &sim->asks[event->index]);
}

static void tell(struct sim *sim, struct sim_event *event)
{
    for (uint32_t i = 0; i < sim->ask_count; i++) {
        if (sim->asks[i].tag == event->index) {
            sim_client_tell(sim, &sim->asks[i], (enum rmk_event_kind)event->number);
        }
    }
}

static void group_up(struct sim *sim, struct sim_event *event)
{
    sim_group_form(sim, event->index);
}

static void group_die(struct sim *sim, struct sim_event *event)
{
    sim->faults++;
    sim_group_die(sim, event->index, true);
}

static void group_stall(struct sim *sim, struct sim_event *event)
{
    sim->faults++;
    sim->groups[event->index].stall_next = true;
}

static void group_fail(struct sim *sim, struct sim_event *event)
{
    sim->faults++;
    sim->groups[event->index].fail_next = true;
}

static void vision_up(struct sim *sim, struct sim_event *event)
{
    sim_vision_form(sim, event->index);
}

static void vision_die(struct sim *sim, struct sim_event *event)
{
    sim->faults++;
    sim_vision_die(sim, event->index, true);
}

static void vision_stall(struct sim *sim, struct sim_event *event)
{
    sim->faults++;
    sim->visions[event->index].stall_next = true;
}

static void vision_fail(struct sim *sim, struct sim_event *event)
{
    sim->faults++;
    sim->visions[event->index].fail_next = true;
}

static void drain(struct sim *sim, struct sim_event *event)
{
    (void)event;
    sim->draining = true;
    sim_deliver(sim, &(struct rmk_event){.kind = RMK_EVENT_DRAIN});
}

static const struct verb {
    const char *name;
    void (*run)(struct sim *, struct sim_event *);
    uint64_t number;
} verbs[] = {
    {"submit", submit, 0},
    {"cancel", tell, RMK_EVENT_CANCEL},
    {"text-stop", tell, RMK_EVENT_TEXT_STOP},
    {"slow", tell, RMK_EVENT_CLIENT_SLOW},
    {"ready", tell, RMK_EVENT_CLIENT_READY},
    {"group-up", group_up, 0},
    {"group-die", group_die, 0},
    {"group-stall", group_stall, 0},
    {"group-fail", group_fail, 0},
    {"vision-up", vision_up, 0},
    {"vision-die", vision_die, 0},
    {"vision-stall", vision_stall, 0},
    {"vision-fail", vision_fail, 0},
    {"drain", drain, 0},
};

static uint32_t make_ask(const struct line *line)
{
    uint32_t index = world.ask_count++;

    if (index == SIM_ASKS_MAX) {
        refuse(line, "too many requests");
    }
    struct sim_ask *ask = &world.asks[index];
    ask->tag = number_at(line, 3);
    ask->content = ask->tag;
    ask->seed = ask->tag;
    ask->gen_length = (uint32_t)value_of(line, "gen", 4);
    ask->block_length = (uint32_t)value_of(line, "block", ask->gen_length);
    ask->steps = (uint32_t)value_of(line, "steps", ask->gen_length);
    ask->prompt_rows = (uint32_t)value_of(line, "prompt", 3);
    ask->deadline_us = value_of(line, "deadline", 0);
    ask->lane = (enum rmk_lane)value_of(line, "lane", RMK_LANE_ONLINE);
    ask->tenant = (uint32_t)value_of(line, "tenant", 0) % SIM_TENANTS;
    ask->stop_count = value_of(line, "stop", SIM_VOCABULARY) < SIM_VOCABULARY;
    ask->stop_counts[0] = 1;
    ask->stop_ids[0][0] = (int32_t)value_of(line, "stop", 0);
    ask->rule.rule = (enum rmk_rule)value_of(line, "rule", RMK_RULE_QUOTA);
    ask->rule.tau = (double)value_of(line, "tau", 900) / 1000;
    ask->cache.cache = (enum rmk_cache)value_of(line, "cache", RMK_CACHE_NONE);
    ask->cache.refresh_interval = (uint32_t)value_of(line, "interval", 0);
    ask->cache.prompt_interval = (uint32_t)value_of(line, "kp", 25);
    ask->cache.gen_interval = (uint32_t)value_of(line, "kg", 7);
    ask->cache.transfer_ratio = 0.25;
    ask->best_at_deadline = value_of(line, "best", 0) != 0;
    ask->item_count = (uint32_t)value_of(line, "items", 0);
    for (uint32_t i = 0; i < ask->item_count && i < SIM_ITEMS_MAX; i++) {
        uint64_t picture = value_of(line, "picture", 1) + i;
        memcpy(ask->items[i].key, &picture, sizeof(picture));
        ask->items[i].rows = 2;
        ask->items[i].tile_count = (uint32_t)value_of(line, "tiles", 2);
        ask->prompt_rows += 2;
    }
    if (ask->gen_length > SIM_GEN_MAX || sim_ask_rows(ask) > SIM_ROWS_MAX ||
        ask->item_count > SIM_ITEMS_MAX) {
        refuse(line, "longer than the simulator goes");
    }
    return index;
}

static void plan(const struct line *line)
{
    const struct verb *verb = verbs;

    if (line->count < 3) {
        refuse(line, "at TIME VERB");
    }
    while (verb < verbs + sizeof(verbs) / sizeof(verbs[0]) &&
           strcmp(verb->name, line->words[2]) != 0) {
        verb++;
    }
    if (verb == verbs + sizeof(verbs) / sizeof(verbs[0])) {
        refuse(line, "no such verb");
    }
    struct sim_event *event = sim_at(&world, number_at(line, 1), verb->run);
    event->number = verb->number;
    if (verb->run == submit) {
        event->index = make_ask(line);
    } else if (verb->run != drain) {
        event->index = index_at(line, 3, verb->run == tell ? 1000 : SIM_GROUPS_MAX);
    }
}

static void read_line(struct line *line)
{
    if (line->count == 0 || line->words[0][0] == '#') {
        return;
    }
    if (strcmp(line->words[0], "limits") == 0) {
        set_limits(line);
    } else if (strcmp(line->words[0], "group") == 0) {
        set_group(line);
    } else if (strcmp(line->words[0], "vision") == 0) {
        set_vision(line);
    } else if (strcmp(line->words[0], "at") == 0) {
        plan(line);
    } else {
        refuse(line, "limits, group, vision or at");
    }
}

/* The script's part of `text`, which is cut into words; returns its length. */
static void read_script(const char *path, char *text)
{
    struct line line = {.path = path};
    char *rest = NULL;
    char *next;

    for (char *row = text; row != NULL; row = next) {
        next = strchr(row, '\n');
        if (next != NULL) {
            *next++ = '\0';
        }
        line.number++;
        line.count = 0;
        for (char *word = strtok_r(row, " ", &rest); word != NULL && line.count < WORDS_MAX;
             word = strtok_r(NULL, " ", &rest)) {
            line.words[line.count++] = word;
        }
        read_line(&line);
    }
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = calloc(1, SCRIPT_BYTES_MAX);

    if (file == NULL || text == NULL) {
        (void)fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    (void)fread(text, 1, SCRIPT_BYTES_MAX - 1, file);
    (void)fclose(file);
    return text;
}

static void run(const char *path, char *text)
{
    static const struct line defaults = {0};

    world.seed = 1;
    world.link_us_min = 100;
    world.link_us_max = 100;
    world.compute_us_min = 1000;
    world.compute_us_max = 1000;
    world.tile_us = 1000;
    world.form_us = 20000;
    world.model = (struct sim_model){.salt = 1, .levels = 1000};
    set_limits(&defaults);
    read_script(path, text);
    world.limits.groups_max = world.group_count;
    world.limits.visions_max = world.vision_count;
    sim_begin(&world);
    while (sim_run_next(&world) && world.now_us < 60000000) {
    }
    if (world.ended_count < world.ask_count) {
        sim_fail(&world, SIM_LIVENESS, "%s: %u requests have not ended", path,
                 world.ask_count - world.ended_count);
    }
    sim_end(&world);
}

int sim_run_script(const char *path, bool rewrite)
{
    static const char divider[] = "---\n";
    char *text = read_file(path);
    char *expected = strstr(text, divider);
    char *trace = NULL;
    size_t trace_bytes = 0;
    int result = 0;

    char *script = strndup(text, expected == NULL ? strlen(text) : (size_t)(expected - text));
    world.record = open_memstream(&trace, &trace_bytes);
    if (script == NULL || world.record == NULL) {
        return 1;
    }
    char *words = strdup(script);
    run(path, words);
    (void)fclose(world.record);
    if (rewrite) {
        FILE *file = fopen(path, "w");
        if (file == NULL) {
            (void)fprintf(stderr, "%s: cannot be written\n", path);
            return 1;
        }
        (void)fprintf(file, "%s%s%s", script, divider, trace);
        (void)fclose(file);
    } else if (expected == NULL || strcmp(expected + strlen(divider), trace) != 0) {
        (void)fprintf(stderr,
                      "%s: the trace is another one (--rewrite, then read the difference):\n%s",
                      path, trace);
        result = 1;
    }
    free(words);
    free(script);
    free(trace);
    free(text);
    return result;
}
