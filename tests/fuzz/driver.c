/* Runs a fuzz target without libFuzzer: over every file named (folders are walked one level), then
 * over a fixed number of deterministic mutations of each. CI runs this; a long hunt links
 * libFuzzer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static unsigned long inputs;

static void run_mutations(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);

    if (copy == NULL) {
        exit(1);
    }
    for (int round = 0; round < 200; round++) {
        memcpy(copy, data, size);
        size_t length = size;
        unsigned edits = 1 + (unsigned)(next_random() % 4);
        for (unsigned i = 0; i < edits && length > 0; i++) {
            copy[next_random() % length] = (uint8_t)next_random();
        }
        if (next_random() % 4 == 0 && length > 0) {
            length = next_random() % length;
        }
        (void)LLVMFuzzerTestOneInput(copy, length);
        inputs++;
    }
    free(copy);
}

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");

    if (file == NULL) {
        (void)fprintf(stderr, "%s: cannot be opened\n", path);
        return 1;
    }
    (void)fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    uint8_t *data = malloc((size_t)size + 1);
    if (data == NULL || fread(data, 1, (size_t)size, file) != (size_t)size) {
        (void)fprintf(stderr, "%s: cannot be read\n", path);
        (void)fclose(file);
        free(data);
        return 1;
    }
    (void)fclose(file);
    (void)LLVMFuzzerTestOneInput(data, (size_t)size);
    inputs++;
    run_mutations(data, (size_t)size);
    free(data);
    return 0;
}

static int run_path(const char *path)
{
    struct stat status;

    if (stat(path, &status) != 0) {
        (void)fprintf(stderr, "%s: not there\n", path);
        return 1;
    }
    if (!S_ISDIR(status.st_mode)) {
        return run_file(path);
    }
    DIR *folder = opendir(path);
    int failed = folder == NULL;
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        char name[4096];
        if (entry->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        failed |= run_file(name);
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
    return failed;
}

int main(int argc, char **argv)
{
    int failed = argc < 2;

    for (int i = 1; i < argc; i++) {
        failed |= run_path(argv[i]);
    }
    (void)printf("%lu inputs\n", inputs);
    return failed || inputs == 0;
}
