/* worker/text/load.c on a file whose bytes tell their place: on memory of the host, and on a device
 * that takes pieces, which is made of the ops of ref and keeps to the contract's latest moment. */
#include "worker/text/load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { FILE_BYTES = 1 << 20, HEADER = 13, PART = 4096 };

static char path[] = "/tmp/remask-load-XXXXXX";
static struct rmk_device *device;
static const struct rmk_ops *host_ops;

static uint16_t word_at(uint64_t index)
{
    return (uint16_t)(index * 40503u + (index >> 7));
}

static int make_file(void **state)
{
    const struct rmk_device_options options = {.backend = "ref", .act = RMK_F32};
    static uint16_t words[FILE_BYTES / 2];
    int fd = mkstemp(path);

    (void)state;
    for (size_t i = 0; i < FILE_BYTES / 2; i++) {
        words[i] = word_at(i);
    }
    if (fd < 0 || write(fd, "thirteenbytes", HEADER) != HEADER ||
        write(fd, words, FILE_BYTES) != FILE_BYTES || close(fd) != 0 ||
        rmk_device_create(&options, &device, NULL) != RMK_OK) {
        return 1;
    }
    host_ops = device->ops;
    return 0;
}

static int remove_file(void **state)
{
    (void)state;
    rmk_device_destroy(device);
    return unlink(path);
}

/* -- a device that takes pieces
 * ---------------------------------------------------------------------- */

/* Copies run only when a part is asked for again, or at the end: a part that is given out too early
 * is read after it was overwritten. */
static struct {
    struct rmk_ops ops;
    uint8_t *ring;
    uint32_t part_count;
    size_t part_bytes;
    struct {
        void *target;
        size_t bytes;
    } flying[RMK_LOAD_PARTS];
    uint32_t flying_count;
    uint32_t flying_most;
    uint32_t sent;
    uint32_t fail_at; /* 0: never */
} late;

static void land(uint32_t part)
{
    if (late.flying[part].target != NULL) {
        memcpy(late.flying[part].target, late.ring + part * late.part_bytes,
               late.flying[part].bytes);
        late.flying[part].target = NULL;
        late.flying_count--;
    }
}

static enum rmk_err late_begin(struct rmk_device *unused, uint32_t part_count, size_t part_bytes,
                               struct rmk_why *why)
{
    (void)unused;
    (void)why;
    assert_null(late.ring);
    assert_int_equal(part_count, RMK_LOAD_PARTS);
    late.part_count = part_count;
    late.part_bytes = part_bytes;
    late.ring = malloc(part_count * part_bytes);
    return RMK_OK;
}

static void late_end(struct rmk_device *unused)
{
    (void)unused;
    for (uint32_t part = 0; part < late.part_count; part++) {
        land(part);
    }
    free(late.ring);
    late.ring = NULL;
}

static enum rmk_err late_room(struct rmk_device *unused, uint32_t part, void **out_host)
{
    (void)unused;
    land(part);
    *out_host = late.ring + part * late.part_bytes;
    return RMK_OK;
}

static enum rmk_err late_send(struct rmk_device *unused, uint32_t part, size_t count,
                              enum rmk_dtype dtype, void *target, enum rmk_dtype target_dtype)
{
    (void)unused;
    assert_int_equal(dtype, target_dtype);
    if (++late.sent == late.fail_at) {
        return RMK_EINTERNAL;
    }
    late.flying[part].target = target;
    late.flying[part].bytes = count * rmk_dtype_bytes(dtype);
    late.flying_count++;
    late.flying_most = late.flying_count > late.flying_most ? late.flying_count : late.flying_most;
    return RMK_OK;
}

static void use_late_device(bool use)
{
    memset(&late, 0, sizeof(late));
    late.ops = *host_ops;
    late.ops.load_begin = late_begin;
    late.ops.load_end = late_end;
    late.ops.load_room = late_room;
    late.ops.load_send = late_send;
    device->ops = use ? &late.ops : host_ops;
}

/* -- pieces
 * ------------------------------------------------------------------------------------------ */

struct rectangle {
    uint64_t first; /* word */
    uint64_t width;
    uint64_t pitch;
    uint64_t rows;
};

static struct rmk_load_piece piece_of(const struct rectangle *r, void *target)
{
    return (struct rmk_load_piece){.path = path,
                                   .tensor = "a.weight",
                                   .offset = HEADER + 2 * r->first,
                                   .pitch = 2 * r->pitch,
                                   .row_bytes = 2 * r->width,
                                   .row_count = r->rows,
                                   .dtype = RMK_BF16,
                                   .target_dtype = RMK_BF16,
                                   .target = target};
}

static void check(const struct rectangle *r, const uint16_t *values)
{
    for (uint64_t row = 0; row < r->rows; row++) {
        for (uint64_t column = 0; column < r->width; column++) {
            uint16_t wanted = word_at(r->first + row * r->pitch + column);
            if (values[row * r->width + column] != wanted) {
                fail_msg("row %llu, column %llu", (unsigned long long)row,
                         (unsigned long long)column);
            }
        }
    }
}

/* A dense one of many parts, columns out of rows, rows longer than a part, one word, nothing. */
static const struct rectangle rectangles[] = {
    {0, 100, 100, 1000}, {7, 33, 101, 900}, {5, 5000, 9001, 12}, {9, 2048, 4096, 31},
    {1000, 1, 1, 1},     {3, 0, 4, 7},      {11, 1, 64, 3000},   {1, 2049, 2050, 40}};
enum { RECTANGLES = sizeof(rectangles) / sizeof(rectangles[0]) };

static void load_all(struct rmk_load_progress *progress)
{
    uint16_t *targets[RECTANGLES];
    struct rmk_load *load = NULL;

    assert_int_equal(rmk_load_create(device, PART, progress, &load, NULL), RMK_OK);
    for (size_t i = 0; i < RECTANGLES; i++) {
        const struct rectangle *r = &rectangles[i];
        targets[i] = calloc(r->width * r->rows + 1, sizeof(uint16_t));
        const struct rmk_load_piece piece = piece_of(r, targets[i]);
        assert_int_equal(rmk_load_add(load, &piece, NULL), RMK_OK);
    }
    assert_int_equal(rmk_load_run(load, NULL), RMK_OK);
    assert_int_equal(rmk_load_run(load, NULL), RMK_OK); /* nothing is left of the plan */
    rmk_load_destroy(load);
    for (size_t i = 0; i < RECTANGLES; i++) {
        check(&rectangles[i], targets[i]);
        assert_int_equal(targets[i][rectangles[i].width * rectangles[i].rows], 0);
        free(targets[i]);
    }
}

static void every_rectangle_arrives_whole_and_dense_in_host_memory(void **state)
{
    (void)state;
    use_late_device(false);
    load_all(NULL);
}

static void and_on_a_device_whose_copies_run_as_late_as_they_may(void **state)
{
    (void)state;
    use_late_device(true);
    load_all(NULL);
    /* More blocks than the ring has parts, and copies were really left in flight. */
    assert_true(late.sent > 2 * RMK_LOAD_PARTS);
    assert_true(late.flying_most >= RMK_LOAD_FLYING);
    assert_null(late.ring);
    use_late_device(false);
}

/* -- progress
 * ---------------------------------------------------------------------------------------- */

static uint64_t reports;
static uint64_t reported_bytes;

static void count_report(const struct rmk_load_progress *progress, uint64_t now_us)
{
    (void)now_us;
    reports++;
    assert_true(progress->done_bytes >= reported_bytes);
    assert_true(progress->done_bytes <= progress->total_bytes);
    reported_bytes = progress->done_bytes;
}

static void progress_counts_every_byte_once(void **state)
{
    struct rmk_load_progress progress;
    uint64_t bytes = 0;

    (void)state;
    for (size_t i = 0; i < RECTANGLES; i++) {
        bytes += 2 * rectangles[i].width * rectangles[i].rows;
    }
    rmk_load_progress_init(&progress, bytes);
    progress.interval_us = 0;
    progress.report = count_report;
    load_all(&progress);
    assert_int_equal(progress.done_bytes, bytes);
    assert_int_equal(reported_bytes, bytes);
    assert_true(reports > 100); /* one a block at least */
}

static void a_progress_line_says_share_size_and_speed(void **state)
{
    const struct rmk_load_progress progress = {.total_bytes = UINT64_C(15200000000),
                                               .done_bytes = UINT64_C(6536000000),
                                               .begun_us = 1000000};
    const struct rmk_load_progress nothing = {.begun_us = 5};
    char line[128];

    (void)state;
    rmk_load_progress_describe(&progress, 2281569, line, sizeof(line));
    assert_string_equal(line, "weights 43 % of 15.2 GB, 5.1 GB/s");
    rmk_load_progress_describe(&nothing, 5, line, sizeof(line));
    assert_string_equal(line, "weights 100 % of 0.0 GB, 0.0 GB/s");
}

/* -- failures
 * ---------------------------------------------------------------------------------------- */

static void fails(const struct rmk_load_piece *piece, enum rmk_err wanted, const char *sentence)
{
    struct rmk_load *load = NULL;
    struct rmk_why why = {0};

    assert_int_equal(rmk_load_create(device, PART, NULL, &load, NULL), RMK_OK);
    enum rmk_err err = rmk_load_add(load, piece, &why);
    if (err == RMK_OK) {
        err = rmk_load_run(load, &why);
    }
    rmk_load_destroy(load);
    if (err != wanted || strstr(why.text, sentence) == NULL) {
        fail_msg("wanted %s with '%s', got %s with '%s'", rmk_err_name(wanted), sentence,
                 rmk_err_name(err), why.text);
    }
}

static void a_file_that_has_become_shorter_is_named_with_the_tensor(void **state)
{
    const struct rectangle beyond = {FILE_BYTES / 2 - 3000, 100, 100, 1000};
    static uint16_t target[100 * 1000];
    char wanted[128];

    (void)state;
    for (int use = 0; use < 2; use++) {
        use_late_device(use == 1);
        struct rmk_load_piece piece = piece_of(&beyond, target);
        (void)snprintf(wanted, sizeof(wanted), "%s: tensor a.weight: the file ends at byte %d",
                       path, HEADER + FILE_BYTES);
        fails(&piece, RMK_ECORRUPT, wanted);
        piece.path = "/tmp/remask-load-is-not-here";
        fails(&piece, RMK_EIO, "/tmp/remask-load-is-not-here: No such file");
        piece.path = "/tmp";
        fails(&piece, RMK_EIO, "/tmp: tensor a.weight: Is a directory");
    }
    use_late_device(false);
}

static void a_device_that_fails_ends_the_load_and_names_the_tensor(void **state)
{
    static uint16_t target[100 * 1000];
    const struct rmk_load_piece piece = piece_of(&rectangles[0], target);

    (void)state;
    use_late_device(true);
    late.fail_at = 30;
    fails(&piece, RMK_EINTERNAL, "tensor a.weight: the device failed");
    assert_null(late.ring);
    use_late_device(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rectangle_arrives_whole_and_dense_in_host_memory),
        cmocka_unit_test(and_on_a_device_whose_copies_run_as_late_as_they_may),
        cmocka_unit_test(progress_counts_every_byte_once),
        cmocka_unit_test(a_progress_line_says_share_size_and_speed),
        cmocka_unit_test(a_file_that_has_become_shorter_is_named_with_the_tensor),
        cmocka_unit_test(a_device_that_fails_ends_the_load_and_names_the_tensor),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
