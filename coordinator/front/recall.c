#include "coordinator/front/recall.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/limits.h"
#include "common/list.h"
#include "common/map.h"
#include "coordinator/result.h"

/* A tenant's number, a slash, the id. */
enum { KEY_BYTES = 10 + 1 + RMK_REQUEST_ID_BYTES_MAX + 1 };

struct entry {
    struct rmk_map_node node;
    struct rmk_list link; /* in `finished`, oldest first; by itself while live */
    char key[KEY_BYTES];
    uint8_t contents[RMK_DIGEST_BYTES];
    struct rmk_request *request; /* live */
    struct rmk_result *result;   /* finished */
};

struct rmk_recall {
    struct rmk_map *map;
    struct rmk_list finished;
    uint32_t live_count;
    uint32_t live_max;
    uint32_t finished_count;
    uint32_t finished_max;
};

static void drop(struct rmk_recall *recall, struct entry *entry)
{
    rmk_map_remove(recall->map, &entry->node);
    rmk_list_remove(&entry->link);
    rmk_result_unref(entry->result);
    free(entry);
}

static void drop_oldest(struct rmk_recall *recall)
{
    drop(recall, rmk_list_entry(recall->finished.next, struct entry, link));
    recall->finished_count--;
}

struct rmk_recall *rmk_recall_create(uint32_t live_max, uint32_t finished_max)
{
    struct rmk_recall *recall = calloc(1, sizeof(*recall));

    if (recall == NULL) {
        return NULL;
    }
    rmk_list_init(&recall->finished);
    recall->live_max = live_max;
    recall->finished_max = finished_max;
    /* One more than both: the newest answer comes in before the oldest goes. */
    recall->map = rmk_map_create((size_t)live_max + finished_max + 1);
    if (recall->map == NULL) {
        free(recall);
        return NULL;
    }
    return recall;
}

void rmk_recall_destroy(struct rmk_recall *recall)
{
    if (recall == NULL) {
        return;
    }
    rmk_assert(recall->live_count == 0);
    while (recall->finished_count > 0) {
        drop_oldest(recall);
    }
    rmk_map_destroy(recall->map);
    free(recall);
}

static void make_key(char key[KEY_BYTES], uint32_t tenant, const char *id)
{
    (void)snprintf(key, KEY_BYTES, "%u/%s", tenant, id);
}

static struct entry *find(const struct rmk_recall *recall, uint32_t tenant, const char *id)
{
    char key[KEY_BYTES];

    make_key(key, tenant, id);
    struct rmk_map_node *node = rmk_map_find(recall->map, rmk_bytes_text(key));

    return node == NULL ? NULL : rmk_map_entry(node, struct entry, node);
}

enum rmk_recalled rmk_recall_look(const struct rmk_recall *recall, uint32_t tenant, const char *id,
                                  const uint8_t contents[RMK_DIGEST_BYTES],
                                  struct rmk_request **out_request, struct rmk_result **out_result)
{
    const struct entry *entry = find(recall, tenant, id);

    if (entry == NULL) {
        return RMK_RECALLED_NEW;
    }
    if (memcmp(entry->contents, contents, RMK_DIGEST_BYTES) != 0) {
        return RMK_RECALLED_OTHER;
    }
    if (entry->request != NULL) {
        *out_request = entry->request;
        return RMK_RECALLED_LIVE;
    }
    *out_result = entry->result;
    return RMK_RECALLED_FINISHED;
}

enum rmk_err rmk_recall_begin(struct rmk_recall *recall, uint32_t tenant, const char *id,
                              const uint8_t contents[RMK_DIGEST_BYTES], struct rmk_request *request,
                              struct rmk_why *why)
{
    struct entry *entry;
    enum rmk_err err;

    if (recall->live_count == recall->live_max) {
        return rmk_fail(why, RMK_ELIMIT,
                        "%u requests are open, no more are allowed; try again later",
                        recall->live_count);
    }
    entry = calloc(1, sizeof(*entry));
    if (entry == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a request id");
    }
    rmk_list_init(&entry->link);
    make_key(entry->key, tenant, id);
    memcpy(entry->contents, contents, RMK_DIGEST_BYTES);
    entry->request = request;
    err = rmk_map_insert(recall->map, &entry->node, rmk_bytes_text(entry->key));
    rmk_assert(err == RMK_OK);
    recall->live_count++;
    return err;
}

void rmk_recall_end(struct rmk_recall *recall, uint32_t tenant, const char *id,
                    struct rmk_result *result)
{
    struct entry *entry = find(recall, tenant, id);

    rmk_assert(entry != NULL);
    rmk_assert(entry->request != NULL);
    recall->live_count--;
    entry->request = NULL;
    if (result == NULL || recall->finished_max == 0) {
        drop(recall, entry);
        return;
    }
    entry->result = rmk_result_ref(result);
    rmk_list_append(&recall->finished, &entry->link);
    recall->finished_count++;
    if (recall->finished_count > recall->finished_max) {
        drop_oldest(recall);
    }
}
