/* The engine against the official program's records: for every golden run, the recorded answers of
 * the model go in at the door, and the same rows must be read, the same tokens committed in the
 * same order, the loop end after as many evaluations, and the same ids come out.
 *
 * Where the records hold only what was picked (`picks`), the other rows get a confidence below all
 * picks; with `cand` every row has its own. For random remasking the recorded confidences are not
 * given to the engine at all: it has to draw them.
 */
#include <dirent.h>
#include <math.h>
#include <stdio.h>

#include <jansson.h>

#include "tests/unit/coordinator/engine/door.h"

static const struct rmk_engine_limits limits = {
    .requests_max = 1,
    .queued_max = 1,
    .groups_max = 1,
    .visions_max = 1,
    .rows_per_plan_max = 1,
    .plan_timeout_us = 1000000,
    .encode_timeout_us = 1000000,
};

static int64_t number(const json_t *object, const char *key, int64_t otherwise)
{
    const json_t *value = json_object_get(object, key);

    return json_is_number(value) ? (int64_t)json_number_value(value) : otherwise;
}

/* What is recorded of one row in this step. */
static const json_t *find_row(const json_t *list, int64_t position)
{
    size_t i;
    const json_t *row;

    json_array_foreach(list, i, row)
    {
        if (number(row, "pos", INT64_MIN) == position) {
            return row;
        }
    }
    return NULL;
}

static void read_ids(const json_t *list, int32_t *out, uint32_t *out_count)
{
    size_t i;
    const json_t *id;

    json_array_foreach(list, i, id)
    {
        out[i] = (int32_t)json_integer_value(id);
    }
    *out_count = (uint32_t)json_array_size(list);
}

/* One run's request. Memory of the arrays is this struct. */
struct ask {
    struct rmk_submit submit;
    struct rmk_stop stops[RMK_STOP_COUNT_MAX];
    int32_t stop_ids[RMK_STOP_COUNT_MAX][RMK_STOP_IDS_MAX];
    int32_t suffix[RMK_SUFFIX_MAX];
    uint32_t prompt_masks[RMK_PROMPT_MASKS_MAX];
};

static void make_ask(const json_t *scene, const json_t *run, struct ask *ask)
{
    const json_t *params = json_object_get(run, "params");
    const char *remasking = json_string_value(json_object_get(params, "remasking"));
    const json_t *stops = json_object_get(run, "stop_ids");
    const json_t *prompt_ids = json_object_get(scene, "prompt_ids");
    int64_t mask_id = number(scene, "mask_id", -1);

    memset(ask, 0, sizeof(*ask));
    ask->submit = (struct rmk_submit){
        .prompt_rows = (uint32_t)number(run, "prompt_rows", 0),
        .prompt_masks = ask->prompt_masks,
        .mask_id = (int32_t)mask_id,
        .gen_length = (uint32_t)number(params, "gen_length", 128),
        .block_length = (uint32_t)number(params, "block_length", 128),
        .steps = (uint32_t)number(params, "steps", 128),
        .temperature = json_number_value(json_object_get(params, "temperature")),
        .cfg_scale = (float)json_number_value(json_object_get(params, "cfg_scale")),
        .remasking = remasking != NULL && strcmp(remasking, "random") == 0
                         ? RMK_REMASK_RANDOM
                         : RMK_REMASK_LOW_CONFIDENCE,
        .seed = (uint64_t)number(run, "noise_seed", 0),
        .golden_noise = true,
        .stops = ask->stops,
        .stop_count = (uint32_t)json_array_size(stops),
        .suffix = ask->suffix,
    };
    for (uint32_t i = 0; i < ask->submit.stop_count; i++) {
        read_ids(json_array_get(stops, i), ask->stop_ids[i], &ask->stops[i].count);
        ask->stops[i].ids = ask->stop_ids[i];
    }
    read_ids(json_object_get(run, "suffix_ids"), ask->suffix, &ask->submit.suffix_count);
    /* Rows are ids here: the scenes with masks in the prompt have no pictures. */
    for (uint32_t i = 0; i < json_array_size(prompt_ids); i++) {
        if (json_integer_value(json_array_get(prompt_ids, i)) == mask_id) {
            ask->prompt_masks[ask->submit.prompt_mask_count++] = i;
        }
    }
}

/* The recorded answer to what the plan reads. */
static void answer(const json_t *step, const struct ask *ask, const struct rmk_plan_row *row,
                   struct rmk_guess *guesses)
{
    const json_t *picks = json_object_get(step, "picks");
    const json_t *every = json_object_get(step, "cand");

    assert_int_equal(row->read_count, number(step, "candidates", -1));
    for (uint32_t i = 0; i < row->read_count; i++) {
        int64_t position = (int64_t)row->reads[i] - ask->submit.prompt_rows;
        const json_t *known = find_row(every, position);
        known = known != NULL ? known : find_row(picks, position);
        guesses[i].position = (int32_t)position;
        guesses[i].token = (int32_t)number(known, "token", 1);
        guesses[i].confidence = 1e-9 / (i + 1);
        if (known != NULL && ask->submit.remasking == RMK_REMASK_LOW_CONFIDENCE) {
            guesses[i].confidence = json_real_value(json_object_get(known, "conf"));
        }
    }
}

/* Commits come in the order of the recorded picks; those inside the prompt are seen in the next
 * plan's updates. */
static void check_commits(const struct door *door, const json_t *step, const struct ask *ask)
{
    const struct rmk_action *emit = door_find(door, RMK_ACTION_EMIT);
    const json_t *pick;
    size_t i;
    uint32_t next = 0;

    json_array_foreach(json_object_get(step, "picks"), i, pick)
    {
        int64_t position = number(pick, "pos", 0);
        if (position < 0) {
            continue;
        }
        assert_non_null(emit);
        assert_true(next < emit->emit.commit_count);
        const struct rmk_commit *commit = &emit->emit.commits[next++];
        assert_int_equal(commit->position, position);
        assert_int_equal(commit->token, number(pick, "token", -1));
        if (ask->submit.remasking == RMK_REMASK_RANDOM) {
            /* Drawn values are multiples of 2^-24 = 6e-8; the project's own records keep nine
             * decimals. */
            double recorded = json_real_value(json_object_get(pick, "conf"));
            assert_true(fabs(commit->confidence - recorded) < 1e-9);
        }
    }
    assert_int_equal(emit == NULL ? 0 : emit->emit.commit_count, next);
    if (emit != NULL) {
        assert_int_equal(emit->emit.block, number(step, "block", -1));
        assert_int_equal(emit->emit.step, number(step, "step", -1));
    }
}

static void check_prompt_picks(const json_t *step, const struct ask *ask,
                               const struct rmk_plan_row *row)
{
    const json_t *pick;
    size_t i;

    json_array_foreach(json_object_get(step, "picks"), i, pick)
    {
        int64_t position = number(pick, "pos", 0);
        bool told = false;
        for (uint32_t j = 0; j < row->update_count; j++) {
            told |= row->updates[j].position == (uint32_t)(position + ask->submit.prompt_rows) &&
                    row->updates[j].id == number(pick, "token", -1);
        }
        assert_true(told || number(pick, "token", -1) == ask->submit.mask_id);
    }
}

static void check_answer(const struct door *door, const json_t *run)
{
    const struct rmk_action *finish = door_find(door, RMK_ACTION_FINISH);
    const json_t *ids = json_object_get(run, "result_ids");

    assert_non_null(finish);
    assert_true(finish->finish.reason == RMK_FINISH_LENGTH ||
                finish->finish.reason == RMK_FINISH_STOP);
    assert_int_equal(finish->finish.usage.forwards, number(run, "forwards", -1));
    assert_int_equal(finish->finish.id_count, json_array_size(ids));
    for (uint32_t i = 0; i < finish->finish.id_count; i++) {
        assert_int_equal(finish->finish.ids[i], json_integer_value(json_array_get(ids, i)));
    }
}

static void replay(const json_t *scene, const json_t *run)
{
    struct door door = {0};
    struct ask ask;
    struct rmk_guess guesses[RMK_GEN_LENGTH_MAX];
    const json_t *step;
    const json_t *before = NULL;
    size_t i;

    make_ask(scene, run, &ask);
    door_open(&door, &limits);
    door_group_up(&door, 0, 1, 1, RMK_PROMPT_ROWS_MAX);
    door_submit(&door, &ask.submit);
    json_array_foreach(json_object_get(run, "steps"), i, step)
    {
        const struct rmk_action *action = door_find(&door, RMK_ACTION_RUN_STEP);
        assert_non_null(action);
        const struct rmk_plan_row *row = action->plan.rows;
        assert_int_equal(row->forward, i);
        if (before != NULL) {
            check_prompt_picks(before, &ask, row);
        }
        before = step;
        answer(step, &ask, row, guesses);
        struct rmk_row_result result = {
            .request = row->request,
            .guesses = guesses,
            .guess_count = row->read_count,
        };
        door_step(&door, (struct rmk_event){
                             .kind = RMK_EVENT_STEP_DONE,
                             .step = {.group = 0,
                                      .epoch = 1,
                                      .sequence = action->plan.sequence,
                                      .rows = &result,
                                      .row_count = 1},
                         });
        check_commits(&door, step, &ask);
    }
    check_answer(&door, run);
    door_close(&door);
}

/* All runs of a scene; those in which the reference itself raised have nothing to compare. */
static unsigned replay_scene(const char *folder)
{
    char path[4096];
    unsigned count = 0;
    size_t i;
    const json_t *run;

    (void)snprintf(path, sizeof(path), "%s/runs.json", folder);
    json_t *runs = json_load_file(path, JSON_ALLOW_NUL, NULL);
    (void)snprintf(path, sizeof(path), "%s/scene.json", folder);
    json_t *scene = json_load_file(path, JSON_ALLOW_NUL, NULL);
    assert_non_null(runs);
    assert_non_null(scene);
    json_array_foreach(runs, i, run)
    {
        if (json_object_get(run, "error") == NULL) {
            replay(scene, run);
            count++;
        }
    }
    json_decref(runs);
    json_decref(scene);
    return count;
}

static unsigned replay_folder(const char *folder)
{
    DIR *scenes = opendir(folder);
    struct dirent *entry;
    unsigned count = 0;

    while (scenes != NULL && (entry = readdir(scenes)) != NULL) {
        char path[2048];
        if (entry->d_name[0] != '.') {
            (void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
            count += replay_scene(path);
        }
    }
    if (scenes != NULL) {
        (void)closedir(scenes);
    }
    return count;
}

static void projects_own_golden_runs_are_replayed_exactly(void **state)
{
    (void)state;
    assert_true(replay_folder("tests/data/golden/scenes") > 0);
}

/* The full set where it is at hand: in $RMK_REFERENCE, or beside the checkout. */
static void full_golden_runs_are_replayed_exactly(void **state)
{
    const char *reference = getenv("RMK_REFERENCE");
    char path[1024];

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/golden/scenes",
                   reference != NULL ? reference : "../shared/reference");
    unsigned count = replay_folder(path);
    if (count == 0) {
        skip();
    }
    print_message("%u runs\n", count);
}

static void schedule_table_is_the_references(void **state)
{
    const char *reference = getenv("RMK_REFERENCE");
    char path[1024];
    const json_t *row;
    size_t i;
    unsigned checked = 0;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/golden/tables/schedule.json",
                   reference != NULL ? reference : "../shared/reference");
    json_t *table = json_load_file(path, JSON_ALLOW_NUL, NULL);
    if (table == NULL) {
        table = json_load_file("tests/data/golden/tables/schedule.json", 0, NULL);
    }
    assert_non_null(table);
    json_array_foreach(table, i, row)
    {
        const json_t *quotas = json_object_get(row, "k");
        uint32_t masks = (uint32_t)number(row, "masks", 0);
        uint32_t steps = (uint32_t)number(row, "steps", 0);
        assert_int_equal(json_array_size(quotas), steps);
        for (uint32_t step = 0; step < steps; step++) {
            assert_int_equal(rmk_denoise_quota(masks, steps, step),
                             json_integer_value(json_array_get(quotas, step)));
            checked++;
        }
    }
    assert_true(checked > 100);
    json_decref(table);
}

/* Made by hand from the specification: blocks of 2, one mask inside the prompt that takes the first
 * slot; the stop is committed with a gap before it, and the gap filled. Masks right of the stop are
 * never read again. */
static void hand_made_run_with_prompt_mask_and_gap_before_the_stop(void **state)
{
    static const char scene_text[] = "{\"mask_id\": 99, \"prompt_ids\": [5, 99, 6]}";
    static const char run_text[] =
        "{\"params\": {\"gen_length\": 4, \"block_length\": 4, \"steps\": 4}, \"prompt_rows\": 3,"
        " \"stop_ids\": [[8]], \"suffix_ids\": [4], \"forwards\": 4, \"result_ids\": [7, 3, 4], "
        "\"steps\": ["
        " {\"block\": 0, \"step\": 0, \"candidates\": 5, \"picks\": [{\"pos\": -2, \"token\": 9, "
        "\"conf\": 0.9}]},"
        " {\"block\": 0, \"step\": 1, \"candidates\": 4, \"picks\": [{\"pos\": 2, \"token\": 8, "
        "\"conf\": 0.8}]},"
        " {\"block\": 0, \"step\": 2, \"candidates\": 2, \"picks\": [{\"pos\": 1, \"token\": 3, "
        "\"conf\": 0.7}]},"
        " {\"block\": 0, \"step\": 3, \"candidates\": 1, \"picks\": [{\"pos\": 0, \"token\": 7, "
        "\"conf\": 0.6}]}]}";
    json_t *scene = json_loads(scene_text, 0, NULL);
    json_t *run = json_loads(run_text, 0, NULL);

    (void)state;
    assert_non_null(scene);
    assert_non_null(run);
    replay(scene, run);
    json_decref(scene);
    json_decref(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedule_table_is_the_references),
        cmocka_unit_test(hand_made_run_with_prompt_mask_and_gap_before_the_stop),
        cmocka_unit_test(projects_own_golden_runs_are_replayed_exactly),
        cmocka_unit_test(full_golden_runs_are_replayed_exactly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
