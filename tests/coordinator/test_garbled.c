/* Workers whose messages are damaged, by chance but the same in each run: whatever comes, the
 * coordinator goes on, and once they stop it answers as ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/coordinator/world.h"

enum { GROUPS = 2, CLIENTS = 4, GARBLED = 100 };

static struct world world;
static struct fake ranks[GROUPS];
static struct fake vision;
static struct client clients[CLIENTS];
static uint32_t garbled; /* by those who have been replaced */

static int setup(void **state)
{
    (void)state;
    world_init(&world);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_end(&world);
    return 0;
}

static bool is_ready(void *context)
{
    return rmk_app_ready(((struct world *)context)->app);
}

static bool has_ended(void *context)
{
    return ((struct fake *)context)->ended;
}

static void attach(struct fake *fake, uint64_t seed)
{
    static const char *const names[] = {"g0", "g1"};

    if (fake == &vision) {
        fake_vision(fake, &world, "vision");
    } else {
        fake_text(fake, &world, 0, 1);
        fake->group = names[fake - ranks];
    }
    fake->garble = seed;
    fake_attach(fake);
}

/* Whoever was thrown out comes back as another process. */
static void replace(struct fake *fake, uint64_t seed)
{
    if (fake->ended) {
        garbled += fake->garbled_count;
        attach(fake, seed);
    }
}

static void ask_again(struct client *client, uint32_t number)
{
    struct ask ask;

    ask_init(&ask, "Write letters.", 8 + number % 24);
    if (number % 3 == 0) {
        ask_picture(&ask, 100 + number % 7, 60);
    }
    client_ask(client, &world, &ask, 0);
}

/* An answer, or an honest word of why not. Which letters nobody knows: a token may have become
 * another. */
static void judge(const struct client *client)
{
    if (client->status == RMK_STATUS_OK) {
        assert_non_null(client->result);
        assert_string_equal(client->text, client->result->text);
    } else {
        assert_true(client->message[0] != '\0');
    }
}

static void whatever_workers_send_the_coordinator_goes_on(void **state)
{
    const char *more = getenv("RMK_GARBLED"); /* a longer hunt */
    const uint32_t wanted = more != NULL ? (uint32_t)strtoul(more, NULL, 10) : GARBLED;
    uint64_t seed = 1;
    uint32_t asked = 0;
    uint32_t answered = 0;

    (void)state;
    world.options.form_timeout_ms = 300; /* whose Formed was garbled */
    world.options.plan_timeout_ms = 300; /* whose result was */
    world_start(&world);
    for (uint32_t i = 0; i < GROUPS; i++) {
        attach(&ranks[i], seed++);
    }
    attach(&vision, seed++);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        ask_again(&clients[i], asked++);
    }
    while (garbled < wanted) {
        world_run(&world, 1);
        for (uint32_t i = 0; i < GROUPS; i++) {
            replace(&ranks[i], seed++);
        }
        replace(&vision, seed++);
        for (uint32_t i = 0; i < CLIENTS; i++) {
            if (clients[i].ended) {
                judge(&clients[i]);
                answered += clients[i].status == RMK_STATUS_OK;
                client_deinit(&clients[i]);
                ask_again(&clients[i], asked++);
            }
        }
    }
    assert_true(answered > 0);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        rmk_rpc_call_cancel(clients[i].call);
        client_wait(&clients[i]);
        client_deinit(&clients[i]);
    }
    for (uint32_t i = 0; i < GROUPS; i++) {
        fake_kill(&ranks[i]);
        world_wait(&world, has_ended, &ranks[i], "a rank to end");
    }
    fake_text(&ranks[0], &world, 0, 1);
    ranks[0].group = "fresh";
    fake_attach(&ranks[0]);
    world_wait(&world, is_ready, &world, "a group that is well");
    ask_again(&clients[0], 1);
    client_wait(&clients[0]);
    assert_int_equal(clients[0].status, RMK_STATUS_OK);
    assert_string_equal(clients[0].result->text, alphabet(9));
    client_deinit(&clients[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whatever_workers_send_the_coordinator_goes_on, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
