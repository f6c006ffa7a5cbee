/* model/safetensors.c: good files are seen whole, every broken one is refused in one sentence. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/safetensors.h"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/remask-safetensors-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command);
}

static void write_bytes(const char *name, const void *bytes, size_t size)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* A file of `header` and `data_bytes` bytes 0, 1, 2, …; `claimed` is what the length prefix says.
 */
static void write_claiming(const char *name, const char *header, uint64_t claimed,
                           size_t data_bytes)
{
    size_t length = strlen(header);
    uint8_t *bytes = malloc(8 + length + data_bytes);

    assert_non_null(bytes);
    memcpy(bytes, &claimed, 8);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++) {
        bytes[8 + length + i] = (uint8_t)i;
    }
    write_bytes(name, bytes, 8 + length + data_bytes);
    free(bytes);
}

static void write_tensors(const char *name, const char *header, size_t data_bytes)
{
    write_claiming(name, header, strlen(header), data_bytes);
}

static enum rmk_err open_file(const char *name, struct rmk_checkpoint **out, struct rmk_why *why)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return rmk_checkpoint_open_file(path, out, why);
}

static void refuses_file(const char *name, enum rmk_err wanted, const char *sentence)
{
    struct rmk_checkpoint *checkpoint = NULL;
    struct rmk_why why = {0};
    enum rmk_err err = open_file(name, &checkpoint, &why);

    if (err != wanted || strstr(why.text, sentence) == NULL) {
        fail_msg("wanted %s with '%s', got %s with '%s'", rmk_err_name(wanted), sentence,
                 rmk_err_name(err), why.text);
    }
    assert_null(checkpoint);
}

static void refuses_header(const char *header, size_t data_bytes, enum rmk_err wanted,
                           const char *sentence)
{
    write_tensors("bad", header, data_bytes);
    refuses_file("bad", wanted, sentence);
}

static void refuses_dir(enum rmk_err wanted, const char *sentence)
{
    struct rmk_checkpoint *checkpoint = NULL;
    struct rmk_why why = {0};
    enum rmk_err err = rmk_checkpoint_open(dir, &checkpoint, &why);

    if (err != wanted || strstr(why.text, sentence) == NULL) {
        fail_msg("wanted %s with '%s', got %s with '%s'", rmk_err_name(wanted), sentence,
                 rmk_err_name(err), why.text);
    }
    assert_null(checkpoint);
}

#define TWO                                                                                        \
    "{\"__metadata__\":{\"format\":\"pt\"},"                                                       \
    "\"b\":{\"dtype\":\"U8\",\"shape\":[2,3],\"data_offsets\":[8,14]},"                            \
    "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"

static void tensors_are_found_whatever_their_order(void **state)
{
    struct rmk_checkpoint *checkpoint;

    (void)state;
    write_tensors("good", TWO "   ", 14); /* writers pad the header with spaces */
    assert_int_equal(open_file("good", &checkpoint, NULL), RMK_OK);
    assert_int_equal(rmk_checkpoint_count(checkpoint), 2);
    assert_string_equal(rmk_checkpoint_name(checkpoint, 0), "a");
    assert_string_equal(rmk_checkpoint_name(checkpoint, 1), "b");

    const struct rmk_tensor *b = rmk_checkpoint_find(checkpoint, "b");
    assert_non_null(b);
    assert_int_equal(b->dtype, RMK_U8);
    assert_int_equal(b->rank, 2);
    assert_int_equal(b->shape[1], 3);
    assert_int_equal(b->bytes, 6);
    assert_int_equal(((const uint8_t *)b->data)[0], 8);
    assert_null(rmk_checkpoint_find(checkpoint, "c"));
    assert_null(rmk_checkpoint_find(checkpoint, "__metadata__"));
    rmk_checkpoint_close(checkpoint);
}

static void a_wrong_shape_is_named_with_both_shapes(void **state)
{
    struct rmk_checkpoint *checkpoint;
    const struct rmk_tensor *tensor = NULL;
    struct rmk_why why = {0};

    (void)state;
    write_tensors("good", TWO, 14);
    assert_int_equal(open_file("good", &checkpoint, NULL), RMK_OK);
    assert_int_equal(rmk_checkpoint_expect(checkpoint, "b", 2, (uint64_t[]){2, 3}, &tensor, &why),
                     RMK_OK);
    assert_ptr_equal(tensor, rmk_checkpoint_find(checkpoint, "b"));
    assert_int_equal(rmk_checkpoint_expect(checkpoint, "b", 2, (uint64_t[]){3, 2}, &tensor, &why),
                     RMK_ECORRUPT);
    assert_string_equal(why.text, "tensor b has shape 2x3, the configuration wants 3x2");
    assert_int_equal(rmk_checkpoint_expect(checkpoint, "b", 1, (uint64_t[]){6}, &tensor, &why),
                     RMK_ECORRUPT);
    assert_int_equal(rmk_checkpoint_expect(checkpoint, "q", 1, (uint64_t[]){6}, &tensor, &why),
                     RMK_ENOTFOUND);
    assert_string_equal(why.text, "tensor q (6) is missing");
    rmk_checkpoint_close(checkpoint);
}

static void a_header_length_that_lies_is_refused(void **state)
{
    char sentence[80];

    (void)state;
    (void)snprintf(sentence, sizeof(sentence), "header is %zu bytes, file has %zu",
                   strlen(TWO) + 15, 8 + strlen(TWO) + 14);
    write_claiming("bad", TWO, strlen(TWO) + 15, 14);
    refuses_file("bad", RMK_ECORRUPT, sentence);
    write_claiming("bad", TWO, UINT64_MAX, 14);
    refuses_file("bad", RMK_ECORRUPT, "larger than the format allows");
    write_claiming("bad", TWO, 100000001, 14);
    refuses_file("bad", RMK_ECORRUPT, "larger than the format allows");
    write_claiming("bad", TWO, 0, 14);
    refuses_file("bad", RMK_ECORRUPT, "does not begin with '{'");
    write_claiming("bad", TWO, strlen(TWO) - 1, 14);
    refuses_file("bad", RMK_ECORRUPT, "not JSON");
    write_bytes("bad", "1234567", 7);
    refuses_file("bad", RMK_ECORRUPT, "file of 7 bytes has no header");
    write_bytes("bad", "", 0);
    refuses_file("bad", RMK_ECORRUPT, "file of 0 bytes has no header");
    refuses_file("absent", RMK_ENOTFOUND, "no such file");
}

static void a_header_that_is_not_plain_json_is_refused(void **state)
{
    (void)state;
    refuses_header(" {}", 0, RMK_ECORRUPT, "does not begin with '{'");
    refuses_header("[]", 0, RMK_ECORRUPT, "does not begin with '{'");
    refuses_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                   "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                   2, RMK_ECORRUPT, "duplicate");
    refuses_header("{\"__metadata__\":{\"format\":1}}", 0, RMK_ECORRUPT, "format is not a string");
    refuses_header("{\"__metadata__\":[]}", 0, RMK_ECORRUPT, "__metadata__ is not an object");
    refuses_header("{\"a\":[]}", 0, RMK_ECORRUPT, "tensor a: its description is not an object");
    refuses_header("{\"a\\nb\":[]}", 0, RMK_ECORRUPT, "tensor a?b:");
    refuses_header("{\"\\u0000\":[]}", 0, RMK_ECORRUPT, "not JSON");
    refuses_header("{\"\xff\":[]}", 0, RMK_ECORRUPT, "not JSON");
}

#define ONE(dtype, shape, offsets)                                                                 \
    "{\"t\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void a_tensor_that_contradicts_itself_is_refused(void **state)
{
    (void)state;
    refuses_header(ONE("\"F99\"", "[1]", "[0,1]"), 1, RMK_EUNSUPPORTED, "tensor t: dtype F99");
    refuses_header(ONE("7", "[1]", "[0,1]"), 1, RMK_ECORRUPT, "tensor t: dtype");
    refuses_header(ONE("\"U8\"", "1", "[0,1]"), 1, RMK_ECORRUPT, "tensor t: shape");
    refuses_header(ONE("\"U8\"", "[-1]", "[0,1]"), 1, RMK_ECORRUPT, "tensor t: shape");
    refuses_header(ONE("\"U8\"", "[1.0]", "[0,1]"), 1, RMK_ECORRUPT, "tensor t: shape");
    refuses_header(ONE("\"U8\"", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, RMK_ECORRUPT,
                   "tensor t: shape");
    refuses_header(ONE("\"F32\"", "[4294967296,4294967296]", "[0,0]"), 0, RMK_ECORRUPT,
                   "shape overflows");
    refuses_header(ONE("\"F32\"", "[4611686018427387904]", "[0,0]"), 0, RMK_ECORRUPT,
                   "shape overflows");
    refuses_header(ONE("\"F32\"", "[99999999999999999999]", "[0,0]"), 0, RMK_ECORRUPT, "not JSON");
    refuses_header(ONE("\"F32\"", "[2]", "[0,4]"), 4, RMK_ECORRUPT,
                   "need 8 bytes, data_offsets have 4");
    refuses_header(ONE("\"U8\"", "[1]", "[1,0]"), 1, RMK_ECORRUPT,
                   "do not lie in the file's 1 data bytes");
    refuses_header(ONE("\"U8\"", "[1]", "[-1,0]"), 1, RMK_ECORRUPT, "do not lie");
    refuses_header(ONE("\"U8\"", "[2]", "[0,2]"), 1, RMK_ECORRUPT,
                   "do not lie"); /* a truncated file */
    refuses_header(ONE("\"U8\"", "[1]", "[0]"), 1, RMK_ECORRUPT, "data_offsets is not a pair");
    refuses_header("{\"t\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, RMK_ECORRUPT, "data_offsets");
}

static void overlaps_and_holes_are_refused(void **state)
{
    (void)state;
    refuses_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                   "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[3,7]}}",
                   7, RMK_ECORRUPT,
                   "tensor b: begins at byte 3, overlapping a tensor that ends at byte 4");
    refuses_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                   "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[5,9]}}",
                   9, RMK_ECORRUPT, "tensor b: begins at byte 5, after a hole from byte 4");
    refuses_header(ONE("\"U8\"", "[1]", "[1,2]"), 2, RMK_ECORRUPT, "after a hole from byte 0");
    refuses_header(ONE("\"U8\"", "[1]", "[0,1]"), 2, RMK_ECORRUPT,
                   "tensors end at byte 1 of 2 data bytes");
    refuses_header("{}", 1, RMK_ECORRUPT, "tensors end at byte 0 of 1 data bytes");
}

static void empty_tensors_and_scalars_are_legal(void **state)
{
    struct rmk_checkpoint *checkpoint;

    (void)state;
    write_tensors("good",
                  "{\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                  "\"e\":{\"dtype\":\"F32\",\"shape\":[0,9],\"data_offsets\":[4,4]}}",
                  4);
    assert_int_equal(open_file("good", &checkpoint, NULL), RMK_OK);
    assert_int_equal(rmk_checkpoint_find(checkpoint, "s")->rank, 0);
    assert_int_equal(rmk_checkpoint_find(checkpoint, "e")->bytes, 0);
    rmk_checkpoint_close(checkpoint);
}

static void a_hundred_thousand_tensors_are_taken_and_five_million_brackets_are_not(void **state)
{
    enum { COUNT = 100000, BRACKETS = 5000000 };
    struct rmk_checkpoint *checkpoint;
    char *header = malloc((size_t)COUNT * 100);
    size_t used = 1;

    (void)state;
    assert_non_null(header);
    header[0] = '{';
    for (int i = 0; i < COUNT; i++) {
        used += (size_t)sprintf(
            header + used, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
            i == 0 ? "" : ",", i, i, i + 1);
    }
    memcpy(header + used, "}", 2);
    write_tensors("good", header, COUNT);
    assert_int_equal(open_file("good", &checkpoint, NULL), RMK_OK);
    assert_int_equal(rmk_checkpoint_count(checkpoint), COUNT);
    assert_int_equal(*(const uint8_t *)rmk_checkpoint_find(checkpoint, "t77777")->data,
                     77777 % 256);
    rmk_checkpoint_close(checkpoint);

    memset(header, '{', BRACKETS);
    header[BRACKETS] = '\0';
    write_tensors("bad", header, 0);
    refuses_file("bad", RMK_ELIMIT, "too many things");
    free(header);
}

#define SHARD_A "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}"
#define SHARD_B                                                                                    \
    "{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"                              \
    "\"unlisted\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}"

static void write_index(const char *text)
{
    write_bytes("model.safetensors.index.json", text, strlen(text));
}

static void shards_are_joined_by_the_index(void **state)
{
    struct rmk_checkpoint *checkpoint;

    (void)state;
    write_tensors("one.safetensors", SHARD_A, 1);
    write_tensors("two.safetensors", SHARD_B, 2);
    write_index("{\"metadata\":{\"total_size\":3},"
                "\"weight_map\":{\"b\":\"two.safetensors\",\"a\":\"one.safetensors\"}}");
    assert_int_equal(rmk_checkpoint_open(dir, &checkpoint, NULL), RMK_OK);
    assert_int_equal(rmk_checkpoint_count(checkpoint), 2);
    assert_non_null(rmk_checkpoint_find(checkpoint, "a"));
    assert_non_null(rmk_checkpoint_find(checkpoint, "b"));
    assert_null(rmk_checkpoint_find(checkpoint, "unlisted"));
    rmk_checkpoint_close(checkpoint);

    /* The single file goes before the index, as in the official loader. */
    write_tensors("model.safetensors", TWO, 14);
    assert_int_equal(rmk_checkpoint_open(dir, &checkpoint, NULL), RMK_OK);
    assert_non_null(rmk_checkpoint_find(checkpoint, "a"));
    assert_int_equal(rmk_checkpoint_find(checkpoint, "a")->dtype, RMK_F32);
    rmk_checkpoint_close(checkpoint);
}

static void an_index_that_lies_or_leaves_the_directory_is_refused(void **state)
{
    (void)state;
    refuses_dir(RMK_ENOTFOUND, "neither model.safetensors nor model.safetensors.index.json");
    write_bytes("pytorch_model.bin", "x", 1);
    refuses_dir(RMK_ENOTFOUND, "pickled weights are never read");

    write_tensors("one.safetensors", SHARD_A, 1);
    write_index("{\"weight_map\":{\"a\":\"../../etc/passwd\"}}");
    refuses_dir(RMK_EINVAL, "../../etc/passwd is not a plain name");
    write_index("{\"weight_map\":{\"a\":\"/etc/passwd\"}}");
    refuses_dir(RMK_EINVAL, "/etc/passwd is not a plain name");
    write_index("{\"weight_map\":{\"a\":\"..\"}}");
    refuses_dir(RMK_EINVAL, "not a plain name");
    write_index("{\"weight_map\":{\"a\":\"\"}}");
    refuses_dir(RMK_EINVAL, "not a plain name");
    write_index("{\"weight_map\":{\"a\":\"three.safetensors\"}}");
    refuses_dir(RMK_ENOTFOUND, "three.safetensors");
    write_index("{\"weight_map\":{\"z\":\"one.safetensors\"}}");
    refuses_dir(RMK_ECORRUPT, "tensor z is not in one.safetensors");
    write_index("{\"weight_map\":{\"a\":1}}");
    refuses_dir(RMK_ECORRUPT, "a does not name a file");
    write_index("{\"weight_map\":[]}");
    refuses_dir(RMK_ECORRUPT, "weight_map is missing");
    write_index("");
    refuses_dir(RMK_ECORRUPT, "empty");
    write_index("{");
    refuses_dir(RMK_ECORRUPT, "model.safetensors.index.json: ");
}

static void link_to(const char *target, const char *name)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    (void)unlink(path);
    assert_int_equal(symlink(target, path), 0);
}

static void links_may_stay_inside_but_not_leave(void **state)
{
    struct rmk_checkpoint *checkpoint;
    char other[] = "/tmp/remask-elsewhere-XXXXXX";

    (void)state;
    write_tensors("real", SHARD_A, 1);
    link_to("real", "model.safetensors");
    assert_int_equal(rmk_checkpoint_open(dir, &checkpoint, NULL), RMK_OK);
    rmk_checkpoint_close(checkpoint);

    int fd = mkstemp(other);
    assert_true(fd >= 0);
    (void)close(fd);
    link_to(other, "model.safetensors");
    refuses_dir(RMK_EINVAL, "is a link that leaves the directory");
    (void)unlink(other);
    link_to("model.safetensors", "model.safetensors"); /* a ring: nothing is there */
    refuses_dir(RMK_ENOTFOUND, "neither");
}

/* models--x/snapshots/REVISION/model.safetensors -> ../../blobs/HASH, and nothing else. */
static void the_links_of_the_hugging_face_cache_are_followed(void **state)
{
    struct rmk_checkpoint *checkpoint;
    struct rmk_why why = {0};
    char path[256];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        static const char *const folders[] = {"blobs", "snapshots", "snapshots/abc"};
        (void)snprintf(path, sizeof(path), "%s/%s", dir, folders[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    write_tensors("blobs/5eed", SHARD_A, 1);
    write_tensors("outside", SHARD_A, 1);
    link_to("../../blobs/5eed", "snapshots/abc/model.safetensors");
    assert_int_equal(rmk_checkpoint_open(path, &checkpoint, &why), RMK_OK);
    rmk_checkpoint_close(checkpoint);
    link_to("../../outside", "snapshots/abc/model.safetensors");
    assert_int_equal(rmk_checkpoint_open(path, &checkpoint, &why), RMK_EINVAL);
}

static void a_pipe_or_a_directory_is_no_checkpoint(void **state)
{
    char path[256];

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    refuses_dir(RMK_EINVAL, "not a regular file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    refuses_dir(RMK_EINVAL, "is a folder, not a file");
}

static void the_digest_sees_names_shapes_and_sizes(void **state)
{
    static const char *const headers[] = {
        ONE("\"U8\"", "[4]", "[0,4]"),
        ONE("\"U8\"", "[2,2]", "[0,4]"),
        ONE("\"F32\"", "[1]", "[0,4]"),
        ONE("\"U8\"", "[4]", "[0,4]") " ",
        "{\"u\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
    };
    enum { COUNT = sizeof(headers) / sizeof(headers[0]) };
    uint8_t digests[COUNT][32];
    uint8_t again[32];
    struct rmk_checkpoint *checkpoint;

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        write_tensors("model.safetensors", headers[i], 4);
        assert_int_equal(rmk_checkpoint_open(dir, &checkpoint, NULL), RMK_OK);
        rmk_checkpoint_digest(checkpoint, digests[i]);
        rmk_checkpoint_digest(checkpoint, again);
        assert_memory_equal(digests[i], again, 32);
        rmk_checkpoint_close(checkpoint);
        for (int j = 0; j < i; j++) {
            assert_memory_not_equal(digests[i], digests[j], 32);
        }
    }
}

static void numbers_of_every_float_type_become_fp32(void **state)
{
    static const uint16_t bf16[] = {0x3f80, 0xc000, 0x0001, 0x7f80};
    static const uint16_t f16[] = {0x3c00, 0xc000, 0x0001, 0x7c00, 0x8000,
                                   0x7bff, 0x0400, 0xfc00, 0x7e00};
    float out[9];

    (void)state;
    struct rmk_tensor tensor = {
        .data = bf16, .dtype = RMK_BF16, .rank = 1, .shape = {4}, .bytes = sizeof(bf16)};
    rmk_tensor_to_f32(&tensor, 0, 4, out);
    assert_true(out[0] == 1.0f);
    assert_true(out[1] == -2.0f);
    assert_true(out[2] == 0x1p-133f);
    assert_true(isinf(out[3]));
    rmk_tensor_to_f32(&tensor, 1, 1, out);
    assert_true(out[0] == -2.0f);

    tensor = (struct rmk_tensor){
        .data = f16, .dtype = RMK_F16, .rank = 1, .shape = {9}, .bytes = sizeof(f16)};
    rmk_tensor_to_f32(&tensor, 0, 9, out);
    assert_true(out[0] == 1.0f);
    assert_true(out[1] == -2.0f);
    assert_true(out[2] == 0x1p-24f);
    assert_true(isinf(out[3]) && out[3] > 0);
    assert_true(out[4] == 0.0f && signbit(out[4]));
    assert_true(out[5] == 65504.0f);
    assert_true(out[6] == 0x1p-14f);
    assert_true(isinf(out[7]) && out[7] < 0);
    assert_true(isnan(out[8]));

    /* At an odd address, as a file may have it. */
    uint8_t raw[9];
    float pair[2] = {1.5f, -3.0f};
    memcpy(raw + 1, pair, sizeof(pair));
    tensor =
        (struct rmk_tensor){.data = raw + 1, .dtype = RMK_F32, .rank = 1, .shape = {2}, .bytes = 8};
    rmk_tensor_to_f32(&tensor, 1, 1, out);
    assert_true(out[0] == -3.0f);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIR(tensors_are_found_whatever_their_order),
        IN_DIR(a_wrong_shape_is_named_with_both_shapes),
        IN_DIR(a_header_length_that_lies_is_refused),
        IN_DIR(a_header_that_is_not_plain_json_is_refused),
        IN_DIR(a_tensor_that_contradicts_itself_is_refused),
        IN_DIR(overlaps_and_holes_are_refused),
        IN_DIR(empty_tensors_and_scalars_are_legal),
        IN_DIR(a_hundred_thousand_tensors_are_taken_and_five_million_brackets_are_not),
        IN_DIR(shards_are_joined_by_the_index),
        IN_DIR(an_index_that_lies_or_leaves_the_directory_is_refused),
        IN_DIR(links_may_stay_inside_but_not_leave),
        IN_DIR(the_links_of_the_hugging_face_cache_are_followed),
        IN_DIR(a_pipe_or_a_directory_is_no_checkpoint),
        IN_DIR(the_digest_sees_names_shapes_and_sizes),
        cmocka_unit_test(numbers_of_every_float_type_become_fp32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
