#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/engine/state.h" /* for looking in only */
#include "tests/sim/sim.h"

/* ---- chance
 * ------------------------------------------------------------------------------------------------------
 */

uint64_t sim_random(struct sim *sim)
{
    return sim_mix(sim->seed, sim->random++);
}

uint32_t sim_below(struct sim *sim, uint32_t bound)
{
    return (uint32_t)(sim_random(sim) % bound);
}

uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high)
{
    return low + sim_random(sim) % (high - low + 1);
}

bool sim_chance(struct sim *sim, uint32_t per_mille)
{
    return per_mille > 0 && sim_below(sim, 1000) < per_mille;
}

bool sim_is_healing(const struct sim *sim)
{
    return sim->now_us >= sim->chaos.until_us;
}

bool sim_fault(struct sim *sim, uint32_t per_mille)
{
    bool happens = !sim_is_healing(sim) && sim_chance(sim, per_mille);

    sim->faults += happens;
    return happens;
}

void sim_count(struct sim *sim, enum sim_stat what)
{
    sim->stats.counts[what]++;
}

uint64_t sim_link_delay(struct sim *sim)
{
    return sim_between(sim, sim->link_us_min, sim->link_us_max);
}

/* ---- failure and trace
 * ------------------------------------------------------------------------------------------- */

void sim_report(const struct sim *sim)
{
    uint32_t kept = sim->line_count < SIM_KEEP_LINES ? sim->line_count : SIM_KEEP_LINES;

    (void)fflush(stdout);
    (void)fprintf(stderr, "last %u lines of the trace:\n", kept);
    for (uint32_t i = sim->line_count - kept; i < sim->line_count; i++) {
        (void)fprintf(stderr, "  %s\n", sim->lines[i % SIM_KEEP_LINES]);
    }
    (void)fprintf(stderr, "seed 0x%llx at t=%llu\n", (unsigned long long)sim->seed,
                  (unsigned long long)sim->now_us);
}

void sim_fail(struct sim *sim, int code, const char *format, ...)
{
    va_list arguments;

    sim_report(sim);
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, "\n");
    exit(code);
}

void sim_note(struct sim *sim, const char *line)
{
    char *kept = sim->lines[sim->line_count++ % SIM_KEEP_LINES];

    (void)snprintf(kept, sizeof(sim->lines[0]), "%s", line);
    for (const char *c = line; *c != '\0'; c++) {
        sim->trace_hash = sim_mix(sim->trace_hash, (uint64_t)(unsigned char)*c);
    }
    if (sim->print_trace) {
        (void)printf("%s\n", line);
    }
    if (sim->record != NULL) {
        (void)fprintf(sim->record, "%s\n", line);
    }
}

static void take_trace(void *context, const char *line)
{
    const char *what = strchr(line, ' '); /* after the time */

    if (what != NULL && strncmp(what, " late ", 6) == 0) {
        sim_count(context, SIM_LATE);
    } else if (what != NULL && strncmp(what, " evict ", 7) == 0) {
        sim_count(context, SIM_EVICTED);
    }
    sim_note(context, line);
    if (((struct sim *)context)->stats.counts[SIM_ROWS_GARBLED] == 0 &&
        strstr(line, "the group's answer does not fit") != NULL) {
        sim_fail(context, SIM_WRONG, "an answer that nobody has garbled does not fit");
    }
}

/* ---- time
 * --------------------------------------------------------------------------------------------------------
 */

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

struct sim_event *sim_at(struct sim *sim, uint64_t at_us,
                         void (*run)(struct sim *, struct sim_event *))
{
    struct sim_event *event = calloc(1, sizeof(*event));

    if (sim->heap_count == sim->heap_max) {
        sim->heap_max = sim->heap_max == 0 ? 256 : sim->heap_max * 2;
        sim->heap = realloc(sim->heap, sim->heap_max * sizeof(struct sim_event *));
    }
    if (event == NULL || sim->heap == NULL) {
        sim_fail(sim, 1, "no memory");
    }
    event->at_us = at_us > sim->now_us ? at_us : sim->now_us;
    event->order = sim->orders++;
    event->run = run;
    uint32_t place = sim->heap_count++;
    for (; place > 0 && is_before(event, sim->heap[(place - 1) / 2]); place = (place - 1) / 2) {
        sim->heap[place] = sim->heap[(place - 1) / 2];
    }
    sim->heap[place] = event;
    return event;
}

static struct sim_event *pop(struct sim *sim)
{
    struct sim_event *first = sim->heap[0];
    struct sim_event *last = sim->heap[--sim->heap_count];
    uint32_t place = 0;

    while (2 * place + 1 < sim->heap_count) {
        uint32_t child = 2 * place + 1;
        if (child + 1 < sim->heap_count && is_before(sim->heap[child + 1], sim->heap[child])) {
            child++;
        }
        if (!is_before(sim->heap[child], last)) {
            break;
        }
        sim->heap[place] = sim->heap[child];
        place = child;
    }
    sim->heap[place] = last;
    return first;
}

bool sim_run_next(struct sim *sim)
{
    if (sim->heap_count == 0) {
        return false;
    }
    struct sim_event *event = pop(sim);
    sim->now_us = event->at_us;
    event->run(sim, event);
    free(event->payload);
    free(event);
    return true;
}

void sim_run_until_ended(struct sim *sim, uint64_t limit_us)
{
    while (sim->ended_count < sim->ask_count) {
        if (!sim_run_next(sim)) {
            sim_fail(sim, SIM_LIVENESS, "nothing is going on, and %u of %u requests have not ended",
                     sim->ask_count - sim->ended_count, sim->ask_count);
        }
        if (sim->now_us > limit_us) {
            sim_fail(sim, SIM_LIVENESS, "long after healing %u of %u requests have not ended",
                     sim->ask_count - sim->ended_count, sim->ask_count);
        }
    }
}

/* ---- the engine
 * --------------------------------------------------------------------------------------------------
 */

void sim_begin(struct sim *sim)
{
    size_t bytes = (rmk_engine_bytes(&sim->limits) + 63) & ~(size_t)63;

    sim->memory = aligned_alloc(64, bytes);
    if (sim->memory == NULL) {
        sim_fail(sim, 1, "no memory");
    }
    memset(sim->memory, 0xA5, bytes); /* nothing may count on zeroes */
    sim->engine = rmk_engine_init(sim->memory, &sim->limits);
    rmk_engine_trace(sim->engine, take_trace, sim);
}

void sim_end(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->heap_count; i++) {
        free(sim->heap[i]->payload);
        free(sim->heap[i]);
    }
    free(sim->heap);
    free(sim->memory);
}

static void tick(struct sim *sim, struct sim_event *event)
{
    if (event->number != 0 && event->number != sim->timer_token) {
        return; /* set anew meanwhile */
    }
    sim_deliver(sim, &(struct rmk_event){.kind = RMK_EVENT_TICK});
}

static void perform_timer(struct sim *sim, uint64_t timer_us)
{
    struct sim_event *event = sim_at(sim, timer_us, tick);

    event->number = ++sim->timer_token;
    sim->timer_us = timer_us;
}

static void perform(struct sim *sim, const struct rmk_action *action)
{
    switch (action->kind) {
    case RMK_ACTION_ACCEPTED:
    case RMK_ACTION_EMIT:
    case RMK_ACTION_FINISH:
        sim_client_act(sim, action);
        break;
    case RMK_ACTION_ENCODE:
        sim_vision_act(sim, action);
        break;
    case RMK_ACTION_PREFETCH:
    case RMK_ACTION_RUN_STEP:
    case RMK_ACTION_RELEASE:
    case RMK_ACTION_DISSOLVE:
        sim_group_act(sim, action);
        break;
    case RMK_ACTION_SET_TIMER:
        perform_timer(sim, action->timer_us);
        break;
    }
}

/* Only the answer to the plan in flight lets the next one go. */
static void note_answer(struct sim *sim, const struct rmk_event *event)
{
    if (event->kind == RMK_EVENT_GROUP_UP) {
        struct sim_group *group = &sim->groups[event->group.group];
        group->told = true;
        if (event->group.epoch > group->flight_epoch) {
            group->flight_sequence = 0;
        }
    }
    if (event->kind == RMK_EVENT_STEP_DONE || event->kind == RMK_EVENT_STEP_FAILED) {
        struct sim_group *group = &sim->groups[event->step.group];
        if (group->flight_epoch == event->step.epoch &&
            group->flight_sequence == event->step.sequence) {
            group->flight_sequence = 0;
        }
    }
}

void sim_deliver(struct sim *sim, const struct rmk_event *event)
{
    struct rmk_event timed = *event;
    struct rmk_actions actions;
    struct rmk_engine_counts counts;

    timed.now_us = sim->now_us;
    note_answer(sim, &timed);
    rmk_engine_count(sim->engine, &sim->before);
    rmk_engine_step(sim->engine, &timed, &actions);
    sim->stats.steps++;
    for (uint32_t i = 0; i < actions.count; i++) {
        perform(sim, &actions.items[i]);
    }
    rmk_engine_check(sim->engine);
    rmk_engine_count(sim->engine, &counts);
    if (counts.open != counts.queued + counts.encoding + counts.running) {
        sim_fail(sim, SIM_WRONG, "%u requests are open, but %u + %u + %u are somewhere",
                 counts.open, counts.queued, counts.encoding, counts.running);
    }
    sim_client_check(sim);
}

/* ---- messages
 * ----------------------------------------------------------------------------------------------------
 */

struct sim_message *sim_message(enum rmk_event_kind kind)
{
    struct sim_message *message = calloc(1, sizeof(*message));

    if (message == NULL) {
        exit(1);
    }
    message->event.kind = kind;
    return message;
}

/* The answer to a plan that the engine still waits for; a late one says nothing about where its
 * requests are now. */
static bool is_awaited(const struct sim *sim, const struct rmk_event_step *step)
{
    const struct rmk_group *group = &sim->engine->fleet.groups[step->group];

    return group->up && group->in_flight && group->epoch == step->epoch &&
           group->sequence == step->sequence;
}

static void arrive(struct sim *sim, struct sim_event *event)
{
    struct sim_message *message = event->payload;
    enum rmk_event_kind kind = message->event.kind;

    if (kind == RMK_EVENT_STEP_DONE || kind == RMK_EVENT_STEP_FAILED) {
        bool counts = is_awaited(sim, &message->event.step);
        for (uint32_t i = 0; i < message->row_count; i++) {
            message->rows[i].guesses = message->guesses[i];
            message->rows[i].ahead = message->ahead[i];
            for (uint32_t j = 0; j < message->rows[i].ahead_count; j++) {
                message->ahead[i][j].guesses = message->ahead_guesses[i][j];
                message->ahead[i][j].commits = message->ahead_commits[i][j];
            }
            struct sim_ask *ask = sim_ask_of(sim, message->rows[i].request);
            if (ask != NULL && counts) {
                ask->numerics_class = message->classes[i];
            }
        }
        message->event.step.rows = message->rows;
        message->event.step.row_count = message->row_count;
        message->event.step.why = message->why;
    }
    if (kind == RMK_EVENT_FEATURES_FAILED) {
        message->event.features.why = message->why;
    }
    sim_deliver(sim, &message->event);
}

void sim_send(struct sim *sim, struct sim_message *message, uint64_t after_us, uint64_t *stream_us)
{
    uint64_t at_us = sim->now_us + after_us + sim_link_delay(sim);

    if (stream_us != NULL) {
        at_us = at_us > *stream_us ? at_us : *stream_us;
        *stream_us = at_us;
    }
    sim_at(sim, at_us, arrive)->payload = message;
    if (sim_fault(sim, sim->chaos.duplicate_per_mille)) {
        struct sim_message *again = sim_message(message->event.kind);
        sim_count(sim, SIM_DUPLICATES);
        *again = *message;
        sim_at(sim, at_us + sim_between(sim, 0, 200000), arrive)->payload = again;
    }
}
