#include "common/rpc/mailbox.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/loop.h"

enum { SENDERS = 4, LETTERS = 5000 };

struct letter {
    struct rmk_mailbox_item item;
    unsigned sender;
    unsigned number;
};

struct office {
    struct rmk_mailbox mailbox;
    unsigned next[SENDERS]; /* the number due from each */
    unsigned total;
    bool in_order;
};

static void deliver(struct rmk_mailbox_item *item, void *context)
{
    struct letter *letter = (struct letter *)(void *)item;
    struct office *office = context;

    office->in_order = office->in_order && letter->number == office->next[letter->sender];
    office->next[letter->sender]++;
    office->total++;
    free(letter);
}

struct sender {
    pthread_t thread;
    struct office *office;
    unsigned index;
};

static void post(struct office *office, unsigned sender, unsigned number)
{
    struct letter *letter = calloc(1, sizeof(*letter));

    rmk_assert(letter != NULL);
    letter->sender = sender;
    letter->number = number;
    rmk_mailbox_post(&office->mailbox, &letter->item);
}

static void *send_all(void *context)
{
    const struct sender *sender = context;

    for (unsigned i = 0; i < LETTERS; i++) {
        post(sender->office, sender->index, i);
    }
    return NULL;
}

static void every_letter_arrives_once_and_in_its_senders_order(void **state)
{
    struct test_loop loop;
    struct office office = {.in_order = true};
    struct sender senders[SENDERS];
    bool closed = false;

    (void)state;
    test_loop_init(&loop);
    assert_int_equal(rmk_mailbox_init(&office.mailbox, &loop.loop, deliver, &office, NULL), RMK_OK);
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.office = &office, .index = i};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]), 0);
    }
    test_loop_while(&loop, office.total < SENDERS * LETTERS);
    for (unsigned i = 0; i < SENDERS; i++) {
        assert_int_equal(pthread_join(senders[i].thread, NULL), 0);
    }
    assert_int_equal(office.total, SENDERS * LETTERS);
    assert_true(office.in_order);
    office.mailbox.context = &closed; /* no more deliveries: what `closed` gets */
    rmk_mailbox_close(&office.mailbox, test_loop_set);
    test_loop_while(&loop, !closed);
    assert_int_equal(test_loop_close(&loop), 0);
}

static void deliver_into_flagged(struct rmk_mailbox_item *item, void *context)
{
    (void)item;
    test_loop_set(context);
}

static void closing_delivers_what_is_still_there(void **state)
{
    struct test_loop loop;
    struct rmk_mailbox mailbox;
    struct rmk_mailbox_item item;
    bool delivered = false;

    (void)state;
    test_loop_init(&loop);
    assert_int_equal(rmk_mailbox_init(&mailbox, &loop.loop, deliver_into_flagged, &delivered, NULL),
                     RMK_OK);
    rmk_mailbox_post(&mailbox, &item);
    assert_false(delivered);
    rmk_mailbox_close(&mailbox, test_loop_set);
    assert_true(delivered);
    assert_int_equal(test_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_letter_arrives_once_and_in_its_senders_order),
        cmocka_unit_test(closing_delivers_what_is_still_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
