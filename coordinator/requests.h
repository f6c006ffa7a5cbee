/* The requests of clients, from the door to the answer: intake on a pool thread, idempotency,
 * SUBMIT, settled text to whoever listens, the result.
 *
 *     open ──► intake (pool) ──► recall ──┬─ new ──► SUBMIT ──► accepted ──► emit* ──► finish ──►
 * ended ├─ live ──► joins: the settled text so far, then as the others └─ finished ──► the stored
 * result
 *
 * A listener is one client's call. A request goes on while it has one; the last to leave cancels
 * it.
 */
#ifndef RMK_COORDINATOR_REQUESTS_H
#define RMK_COORDINATOR_REQUESTS_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/limits.h"
#include "common/list.h"
#include "coordinator/engine/engine.h"

struct rmk_ask;
struct rmk_coordinator_metrics;
struct rmk_images;
struct rmk_intake;
struct rmk_intake_job;
struct rmk_listener;
struct rmk_loop;
struct rmk_result;
struct rmk_served;
struct rmk_stream;
struct rmk_tenant;

struct rmk_outcome {
    int status;                      /* enum rmk_status */
    const char *why;                 /* when it is not OK */
    const struct rmk_result *result; /* when it is OK */
    const char *request_id;
};

struct rmk_canvas {
    const int32_t *ids;
    uint32_t id_count;
    struct rmk_bytes text;
    uint32_t block;
    uint32_t step;
};

struct rmk_listener_ops {
    void (*accepted)(struct rmk_listener *listener, const char *request_id, uint32_t prompt_rows);
    /* Newly settled text and ids. */
    void (*text)(struct rmk_listener *listener, struct rmk_bytes text, const int32_t *ids,
                 uint32_t id_count);
    void (*canvas)(struct rmk_listener *listener, const struct rmk_canvas *canvas);
    /* Once, last; the listener is nobody's afterwards. May be called inside rmk_requests_open. */
    void (*ended)(struct rmk_listener *listener, const struct rmk_outcome *outcome);
};

/* Embedded in the front door's own struct, which lives until `ended` or until it leaves. */
struct rmk_listener {
    const struct rmk_listener_ops *ops;
    const char *peer; /* for the access log; borrowed */
    const char *method;
    const struct rmk_tenant *tenant; /* NULL: nobody in particular; borrowed */
    bool wants_canvas;
    /* of requests.c */
    struct rmk_request *request;
    struct rmk_intake_job *job;
    struct rmk_list link;
    uint64_t opened_us;
    size_t text_sent;
    uint32_t ids_sent;
    bool told_accepted;
    bool slow;
};

struct rmk_request {
    struct rmk_request_id id; /* the engine's; 0/0 until ACCEPTED */
    char name[RMK_REQUEST_ID_BYTES_MAX + 1];
    uint32_t tenant; /* its number */
    struct rmk_intake *intake;
    char numerics[96]; /* of the group that ran it last */
    /* of requests.c */
    struct rmk_list link;
    struct rmk_list dirty;
    struct rmk_list listeners;
    struct rmk_stream *stream;
    bool accepted;
    bool in_recall;     /* its name is taken */
    bool cancelled;     /* CANCEL is posted, or waits for ACCEPTED */
    bool slow;          /* CLIENT_SLOW is posted */
    bool stop_reported; /* TEXT_STOP is posted */
};

struct rmk_requests_options {
    uint32_t requests_max;
    uint32_t intakes_max;  /* jobs waiting for a pool thread or on one */
    uint32_t finished_max; /* answers kept for those who ask again */
    /* Whether some group can ever run it; RMK_EINVAL or RMK_EUNSUPPORTED with
     * the numbers when not. On the loop. */
    enum rmk_err (*fits)(void *context, const struct rmk_intake *intake, struct rmk_why *why);
    void *context;
};

struct rmk_requests;

enum rmk_err rmk_requests_create(uv_loop_t *uv, const struct rmk_served *served,
                                 const struct rmk_requests_options *options,
                                 struct rmk_coordinator_metrics *metrics,
                                 struct rmk_requests **out_requests, struct rmk_why *why);
/* Takes NULL. Nothing may be under way: rmk_requests_idle. */
void rmk_requests_destroy(struct rmk_requests *requests);

/* Where SUBMIT, CANCEL and the like go; set once, before the first open. */
void rmk_requests_connect(struct rmk_requests *requests, struct rmk_loop *loop);

/* Take the ask (destroyed in any case) and the listener. deadline_us: on rmk_clock_us; 0: none. */
void rmk_requests_open(struct rmk_requests *requests, struct rmk_ask *ask, uint64_t deadline_us,
                       struct rmk_listener *listener);
/* The number of the listener's tenant; 0: nobody in particular. */
uint32_t rmk_requests_tenant(const struct rmk_listener *listener);
/* Count and log a call that failed before there was an ask. */
void rmk_requests_refuse(struct rmk_requests *requests, struct rmk_listener *listener, int status,
                         const char *why);
/* The client has gone: no more calls to the listener. */
void rmk_requests_leave(struct rmk_requests *requests, struct rmk_listener *listener);
/* Its stream is full, or has room again. */
void rmk_requests_slow(struct rmk_requests *requests, struct rmk_listener *listener, bool slow);

/* From now on every open is refused with UNAVAILABLE. */
void rmk_requests_drain(struct rmk_requests *requests);
/* End every request with UNAVAILABLE and this sentence: the coordinator is going. */
void rmk_requests_abort(struct rmk_requests *requests, const char *why);
/* No request and no intake job is under way. */
bool rmk_requests_idle(const struct rmk_requests *requests);
uint32_t rmk_requests_job_count(const struct rmk_requests *requests);

/* ---- for perform --------------------------------------------------------------------------------
 */

/* NULL: finished meanwhile. */
struct rmk_request *rmk_requests_find(const struct rmk_requests *requests,
                                      struct rmk_request_id id);
void rmk_requests_accepted(struct rmk_requests *requests, const struct rmk_action *action);
void rmk_requests_emit(struct rmk_requests *requests, const struct rmk_action *action);
void rmk_requests_finish(struct rmk_requests *requests, const struct rmk_action *action);
/* Send what has settled in this turn. */
void rmk_requests_flush(struct rmk_requests *requests);

#endif
