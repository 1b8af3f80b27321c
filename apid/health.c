/*
 * health: see health.h.
 */
#include "apid/health.h"

#define TEXT_ANSWER(status_, text_)                   \
    ((struct answer){.status = (status_),             \
                     .type = ANSWER_TEXT,             \
                     .body = (text_),                 \
                     .body_bytes = sizeof(text_) - 1, \
                     .body_stays = true,              \
                     .retry_after = (status_) == 503})

struct answer health_answer(const struct health_state *state)
{
    bool healthy = state->has_leader && !state->log_full && !state->memory_full;

    /* etcd, too, calls this JSON text/plain. */
    return healthy ? TEXT_ANSWER(200, "{\"health\":\"true\"}")
                   : TEXT_ANSWER(503, "{\"health\":\"false\"}");
}

struct answer livez_answer(const struct health_state *state)
{
    if (state->raftd_gone_ms > state->gone_limit_ms) {
        return TEXT_ANSWER(503, "raftd is not running\n");
    }
    if (state->storaged_gone_ms > state->gone_limit_ms) {
        return TEXT_ANSWER(503, "storaged is not running\n");
    }
    return TEXT_ANSWER(200, "ok\n");
}

struct answer readyz_answer(const struct health_state *state)
{
    if (state->draining) {
        return TEXT_ANSWER(503, "stopping\n");
    }
    if (!state->has_leader) {
        return TEXT_ANSWER(503, "no leader\n");
    }
    if (!state->store_open) {
        return TEXT_ANSWER(503, "the store is not open\n");
    }
    if (state->log_full) {
        return TEXT_ANSWER(503, "the disk is full\n");
    }
    if (state->memory_full) {
        return TEXT_ANSWER(503, "the memory limit is reached\n");
    }
    if (state->commit > state->applied + HEALTH_LAG_MAX) {
        return TEXT_ANSWER(503, "catching up\n");
    }
    return TEXT_ANSWER(200, "ok\n");
}
