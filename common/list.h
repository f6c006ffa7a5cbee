/* An intrusive doubly linked list: the link lives in the object, so nothing is allocated and
 * removal is O(1). */
#ifndef RMK_COMMON_LIST_H
#define RMK_COMMON_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct rmk_list {
    struct rmk_list *next;
    struct rmk_list *previous;
};

/* The object of `type` whose `member` is this link. */
#define rmk_list_entry(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

/* `link` may be removed inside the loop, others may not. */
#define rmk_list_each(link, following, head)                                                       \
    for (link = (head)->next, following = link->next; link != (head);                              \
         link = following, following = link->next)

/* A head, or a link that is in no list. */
static inline void rmk_list_init(struct rmk_list *head)
{
    head->next = head;
    head->previous = head;
}

static inline bool rmk_list_empty(const struct rmk_list *head)
{
    return head->next == head;
}

static inline void rmk_list_append(struct rmk_list *head, struct rmk_list *link)
{
    link->previous = head->previous;
    link->next = head;
    head->previous->next = link;
    head->previous = link;
}

/* Removing a link that is in no list is fine if it was initialised. */
static inline void rmk_list_remove(struct rmk_list *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
    rmk_list_init(link);
}

#endif
