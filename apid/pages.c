/*
 * pages: what the node says of itself: health, metrics, version. Gathers the state; what it means
 * is health.c's to say.
 */
#include <string.h>

#include "apid/apid.h"
#include "apid/health.h"

/* Room for /metrics at first; rendered again when that was not enough. */
#define METRICS_BYTES ((size_t)64 << 10)

static struct health_state health_now(struct apid *apid, struct ms_instant now)
{
    struct health_state state = {
        .memory_full = apid->memory_full,
        .store_open = view_is_open(&apid->view),
        .draining = apid->draining,
        .raftd_gone_ms = links_away_ms(&apid->raftd, now),
        .storaged_gone_ms = links_away_ms(&apid->storaged, now),
        .gone_limit_ms = apid->away_limit_ms,
    };
    struct ms_raft_status status;

    if (ms_status_page_read(apid->status_page, false, &status) == MS_OK) {
        /* The page is raftd's last word: without raftd it is believed for an election timeout. */
        state.has_leader = status.leader != 0 && state.raftd_gone_ms <= apid->election_timeout_ms;
        state.log_full = status.log_full != 0;
        state.commit = status.commit;
    }
    if (view_applied(&apid->view, &state.applied) != MS_OK) {
        state.store_open = false;
    }
    return state;
}

static struct answer metrics_answer(struct apid *apid, struct http_exchange exchange)
{
    const struct ms_metrics_page *page = ms_metrics_page_of(apid->metrics);
    size_t room_bytes = METRICS_BYTES;
    char *text = http_alloc(exchange, room_bytes);
    size_t len_bytes = ms_metrics_render(page, text, room_bytes);

    if (len_bytes >= room_bytes) {
        room_bytes = len_bytes + METRICS_BYTES; /* numbers may have grown meanwhile */
        text = http_alloc(exchange, room_bytes);
        len_bytes = ms_metrics_render(page, text, room_bytes);
        len_bytes = len_bytes < room_bytes ? len_bytes : room_bytes - 1;
    }
    return (struct answer){.status = 200,
                           .type = ANSWER_PROMETHEUS,
                           .body = text,
                           .body_bytes = len_bytes,
                           .body_stays = true};
}

static struct answer version_answer(enum ms_storage_kind storage)
{
#define VERSION_BODY(storage_) "{\"metastore\":\"" MS_VERSION "\",\"storage\":\"" storage_ "\"}\n"
    const char *body =
        storage == MS_STORAGE_ROCKSDB ? VERSION_BODY("rocksdb") : VERSION_BODY("memory");
#undef VERSION_BODY

    return (struct answer){.status = 200,
                           .type = ANSWER_JSON,
                           .body = body,
                           .body_bytes = strlen(body),
                           .body_stays = true};
}

struct answer pages_answer(struct apid *apid, struct http_exchange exchange, enum api_kind kind,
                           struct ms_instant now)
{
    struct health_state state;

    switch (kind) {
    case API_HEALTH:
        state = health_now(apid, now);
        return health_answer(&state);
    case API_LIVEZ:
        state = health_now(apid, now);
        return livez_answer(&state);
    case API_READYZ:
        state = health_now(apid, now);
        return readyz_answer(&state);
    case API_METRICS:
        return metrics_answer(apid, exchange);
    case API_VERSION:
        return version_answer(apid->storage);
    case API_GET:
    case API_PUT:
    case API_DELETE:
    case API_LIST:
    case API_MEMBER_ADD:
    case API_MEMBER_REMOVE:
    case API_UNKNOWN:
        break;
    }
    return answer_error(API_ERROR_INTERNAL);
}
