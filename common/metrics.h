/*
 * metrics: counters, gauges and latency histograms in a page that outlives the worker.
 *
 * The page has one slot per worker process; a slot has one writer (its worker; relaxed atomics make
 * it safe for that worker's threads too) and is not reset when the worker is replaced, so counters
 * never go back. apid renders all slots for /metrics; the supervisor reads gauges for `status`.
 */
#ifndef METASTORE_COMMON_METRICS_H
#define METASTORE_COMMON_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "common/err.h"
#include "common/ipc_catalogue.h"

enum ms_metric_type {
    MS_METRIC_COUNTER,
    MS_METRIC_GAUGE,
};

/*
 * X(enumerator, role whose slots have it, type, exposition name, labels or "", help)
 * Rows of one exposition name stand together.
 */
#define MS_METRIC_CATALOGUE(X)                                                                    \
    X(RAFT_TERM, RAFTD, GAUGE, "metastore_raft_term", "", "Current Raft term.")                   \
    X(RAFT_COMMIT, RAFTD, GAUGE, "metastore_raft_commit_index", "", "Committed index.")           \
    X(RAFT_IS_LEADER, RAFTD, GAUGE, "metastore_raft_is_leader", "", "1 on the leader.")           \
    X(RAFT_HAS_LEADER, RAFTD, GAUGE, "metastore_raft_has_leader", "",                             \
      "1 while a leader is known.")                                                               \
    X(RAFT_ELECTIONS, RAFTD, COUNTER, "metastore_raft_leader_changes_total", "",                  \
      "Leader changes seen.")                                                                     \
    X(RAFT_PROPOSALS, RAFTD, COUNTER, "metastore_raft_proposals_total", "",                       \
      "Proposals that entered the log.")                                                          \
    X(RAFT_PROPOSALS_REFUSED, RAFTD, COUNTER, "metastore_raft_proposals_refused_total", "",       \
      "Proposals refused before they entered the log.")                                           \
    X(RAFT_READ_INDEX, RAFTD, COUNTER, "metastore_raft_read_index_total", "",                     \
      "Read index requests.")                                                                     \
    X(STORE_APPLIED, STORAGED, GAUGE, "metastore_store_applied_index", "", "Applied index.")      \
    X(STORE_REVISION, STORAGED, GAUGE, "metastore_store_revision", "", "Revision of the store.")  \
    X(STORE_COMPACTED, STORAGED, GAUGE, "metastore_store_compact_revision", "",                   \
      "History below this revision is gone.")                                                     \
    X(STORE_KEYS, STORAGED, GAUGE, "metastore_store_keys", "", "Live keys.")                      \
    X(STORE_BYTES, STORAGED, GAUGE, "metastore_store_bytes", "",                                  \
      "Bytes that the memory engine's file uses.")                                                \
    X(STORE_LIMIT_BYTES, STORAGED, GAUGE, "metastore_store_limit_bytes", "",                      \
      "Bound on the memory engine's file.")                                                       \
    X(STORE_COMMITS, STORAGED, COUNTER, "metastore_store_commits_total", "",                      \
      "Commits of the state engine; each holds one or more operations.")                          \
    X(STORE_DUPLICATES, STORAGED, COUNTER, "metastore_store_duplicate_operations_total", "",      \
      "Operations recognised by their id and not done again.")                                    \
    X(SNAPSHOT_INDEX, STORAGED, GAUGE, "metastore_snapshot_index", "",                            \
      "Index of the newest snapshot.")                                                            \
    X(SNAPSHOTS, STORAGED, COUNTER, "metastore_snapshots_total", "", "Snapshots written.")        \
    X(LOG_FIRST_INDEX, STORAGED, GAUGE, "metastore_log_first_index", "",                          \
      "First index in the log.")                                                                  \
    X(LOG_LAST_INDEX, STORAGED, GAUGE, "metastore_log_last_index", "", "Last durable index.")     \
    X(WAL_BYTES, STORAGED, COUNTER, "metastore_wal_written_bytes_total", "",                      \
      "Bytes written to the log, with padding.")                                                  \
    X(WAL_SYNCS, STORAGED, COUNTER, "metastore_wal_syncs_total", "", "Syncs of the log.")         \
    X(WAL_ENTRIES, STORAGED, COUNTER, "metastore_wal_entries_total", "", "Entries made durable.") \
    X(WAL_FULL, STORAGED, GAUGE, "metastore_wal_full", "", "1 while the log's disk has no room.") \
    X(RING_PROPOSE, APID, GAUGE, "metastore_ring_used_bytes", "ring=\"apid-raftd\"",              \
      "Bytes waiting in a ring.")                                                                 \
    X(RING_LOG, RAFTD, GAUGE, "metastore_ring_used_bytes", "ring=\"raftd-log\"", "")              \
    X(RING_APPLY, RAFTD, GAUGE, "metastore_ring_used_bytes", "ring=\"raftd-apply\"", "")          \
    X(RING_RESULT, STORAGED, GAUGE, "metastore_ring_used_bytes", "ring=\"storaged-apid\"", "")    \
    X(API_CONNECTIONS, APID, GAUGE, "metastore_http_connections", "", "Open client connections.") \
    X(API_INFLIGHT, APID, GAUGE, "metastore_http_requests_in_flight", "",                         \
      "Requests that wait for an answer.")                                                        \
    X(API_RESENT, APID, COUNTER, "metastore_operations_resent_total", "",                         \
      "Operations sent again because they might have been lost.")                                 \
    X(RESTARTS_RAFTD, SUPERVISOR, COUNTER, "metastore_worker_restarts_total", "worker=\"raftd\"", \
      "Times a worker was replaced.")                                                             \
    X(RESTARTS_STORAGED, SUPERVISOR, COUNTER, "metastore_worker_restarts_total",                  \
      "worker=\"storaged\"", "")                                                                  \
    X(RESTARTS_APID, SUPERVISOR, COUNTER, "metastore_worker_restarts_total", "worker=\"apid\"", "")

enum ms_metric {
#define MS_METRIC_ENUM(name, role, type, exposition, labels, help) MS_METRIC_##name,
    MS_METRIC_CATALOGUE(MS_METRIC_ENUM)
#undef MS_METRIC_ENUM
    MS_METRIC_COUNT
};

/* X(enumerator, role, exposition name, labels, help). Values are nanoseconds, shown in seconds. */
#define MS_HISTOGRAM_CATALOGUE(X)                                                           \
    X(HTTP_GET, APID, "metastore_http_request_duration_seconds", "route=\"get\"",           \
      "From the complete request to the start of the answer.")                              \
    X(HTTP_PUT, APID, "metastore_http_request_duration_seconds", "route=\"put\"", "")       \
    X(HTTP_DELETE, APID, "metastore_http_request_duration_seconds", "route=\"delete\"", "") \
    X(HTTP_LIST, APID, "metastore_http_request_duration_seconds", "route=\"list\"", "")     \
    X(HTTP_OTHER, APID, "metastore_http_request_duration_seconds", "route=\"other\"", "")   \
    X(WAL_SYNC, STORAGED, "metastore_wal_sync_duration_seconds", "",                        \
      "One write and sync of the log.")                                                     \
    X(STORE_COMMIT, STORAGED, "metastore_store_commit_duration_seconds", "",                \
      "One commit of the state engine.")                                                    \
    X(SNAPSHOT, STORAGED, "metastore_snapshot_duration_seconds", "", "Writing one snapshot.")

enum ms_histogram {
#define MS_HISTOGRAM_ENUM(name, role, exposition, labels, help) MS_HISTOGRAM_##name,
    MS_HISTOGRAM_CATALOGUE(MS_HISTOGRAM_ENUM)
#undef MS_HISTOGRAM_ENUM
    MS_HISTOGRAM_COUNT
};

/* Requests by route and status code; rows are routes, columns the codes the program answers. */
enum ms_route {
    MS_ROUTE_GET,
    MS_ROUTE_PUT,
    MS_ROUTE_DELETE,
    MS_ROUTE_LIST,
    MS_ROUTE_HEALTH,
    MS_ROUTE_METRICS,
    MS_ROUTE_OTHER,
    MS_ROUTE_COUNT
};

struct ms_metrics_page; /* the shared bytes */
struct ms_metrics;      /* one slot of a mapped page, for its writer */

int ms_metrics_page_create(int *out_fd, struct ms_err *err);
int ms_metrics_page_map(int fd, struct ms_metrics_page **out, struct ms_err *err);
void ms_metrics_page_unmap(struct ms_metrics_page *page);

/* The slot of one worker process; instance is 0 but for further apid processes. */
struct ms_metrics *ms_metrics_slot(struct ms_metrics_page *page, enum ms_role role,
                                   uint32_t instance);

void ms_metrics_add(struct ms_metrics *slot, enum ms_metric metric, uint64_t delta);
void ms_metrics_set(struct ms_metrics *slot, enum ms_metric metric, uint64_t value);
uint64_t ms_metrics_get(const struct ms_metrics *slot, enum ms_metric metric);
void ms_metrics_observe(struct ms_metrics *slot, enum ms_histogram histogram, uint64_t value_ns);

/* Counts one answer; codes outside the known ones are counted as "other". */
void ms_metrics_count_request(struct ms_metrics *slot, enum ms_route route, int http_status);

/*
 * Renders all slots as Prometheus text (version 0.0.4) into dst. Returns the length the whole text
 * has; when it is >= dst_bytes the text was cut and the caller should come with more room.
 */
size_t ms_metrics_render(const struct ms_metrics_page *page, char *dst, size_t dst_bytes);

/* The page a slot belongs to. */
const struct ms_metrics_page *ms_metrics_page_of(const struct ms_metrics *slot);

#endif
