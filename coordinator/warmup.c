#include "coordinator/warmup.h"

#include "common/clock.h"
#include "common/rpc/rpc.h"
#include "coordinator/front/ask.h"

/* A group that cannot do four positions within this has not warmed up; the next try follows. */
#define WARMUP_TIMEOUT_US 120000000u

static void on_accepted(struct rmk_listener *listener, const char *request_id, uint32_t prompt_rows)
{
    (void)listener;
    (void)request_id;
    (void)prompt_rows;
}

static void on_text(struct rmk_listener *listener, struct rmk_bytes text, const int32_t *ids,
                    uint32_t id_count)
{
    (void)listener;
    (void)text;
    (void)ids;
    (void)id_count;
}

static void on_canvas(struct rmk_listener *listener, const struct rmk_canvas *canvas)
{
    (void)listener;
    (void)canvas;
}

static void on_ended(struct rmk_listener *listener, const struct rmk_outcome *outcome)
{
    struct rmk_warmup *warmup = (struct rmk_warmup *)listener;

    warmup->under_way = false;
    warmup->warm = outcome->status == RMK_STATUS_OK;
    warmup->done(warmup->context, warmup->warm);
}

void rmk_warmup_init(struct rmk_warmup *warmup, struct rmk_requests *requests,
                     void (*done)(void *context, bool ok), void *context)
{
    static const struct rmk_listener_ops ops = {
        .accepted = on_accepted,
        .text = on_text,
        .canvas = on_canvas,
        .ended = on_ended,
    };

    *warmup = (struct rmk_warmup){
        .listener = {.ops = &ops, .peer = "self", .method = "warm-up"},
        .requests = requests,
        .done = done,
        .context = context,
    };
}

void rmk_warmup_begin(struct rmk_warmup *warmup)
{
    struct rmk_ask *ask;

    if (warmup->warm || warmup->under_way) {
        return;
    }
    ask = rmk_ask_create(1, 1, 0, 0);
    if (ask == NULL) {
        warmup->done(warmup->context, false);
        return;
    }
    ask->parts_all[0].text = rmk_bytes_text("Hello");
    ask->messages_all[0] =
        (struct rmk_ask_message){.role = "user", .parts = ask->parts_all, .part_count = 1};
    ask->gen_length = 4;
    ask->block_length = 4;
    ask->steps = 1;
    ask->no_default_stop = true;
    ask->decoding.profile = "exact"; /* whatever the default is: it asks least of a group */
    warmup->under_way = true;
    rmk_requests_open(warmup->requests, ask, rmk_clock_us() + WARMUP_TIMEOUT_US, &warmup->listener);
}

void rmk_warmup_stop(struct rmk_warmup *warmup)
{
    if (warmup->under_way) {
        warmup->under_way = false;
        rmk_requests_leave(warmup->requests, &warmup->listener);
    }
}
