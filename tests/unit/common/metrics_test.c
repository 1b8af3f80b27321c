/*
 * metrics: counting, and text that Prometheus accepts.
 */
#include "common/metrics.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    TEXT_BYTES = 256 * 1024
};

struct metrics_fixture {
    int fd;
    struct ms_metrics_page *page;
    char *text;
};

static void metrics_fixture_init(struct metrics_fixture *f)
{
    struct ms_err err;

    cr_assert_eq(ms_metrics_page_create(&f->fd, &err), MS_OK, "%s", err.text);
    cr_assert_eq(ms_metrics_page_map(f->fd, &f->page, &err), MS_OK, "%s", err.text);
    f->text = calloc(1, TEXT_BYTES);
    cr_assert_not_null(f->text);
}

static void metrics_fixture_fini(struct metrics_fixture *f)
{
    free(f->text);
    ms_metrics_page_unmap(f->page);
    (void)close(f->fd);
}

static const char *render(struct metrics_fixture *f)
{
    size_t len_bytes = ms_metrics_render(f->page, f->text, TEXT_BYTES);

    cr_assert_lt(len_bytes, TEXT_BYTES);
    cr_assert_eq(len_bytes, strlen(f->text));
    return f->text;
}

static void assert_line(struct metrics_fixture *f, const char *line)
{
    char needle[256];

    (void)snprintf(needle, sizeof(needle), "\n%s\n", line);
    cr_assert_not_null(strstr(render(f), needle), "no line \"%s\" in\n%s", line, f->text);
}

Test(metrics, values_outlive_the_mapping_that_wrote_them)
{
    struct metrics_fixture f;
    struct ms_metrics_page *other;
    struct ms_metrics *slot;

    metrics_fixture_init(&f);
    slot = ms_metrics_slot(f.page, MS_ROLE_RAFTD, 0);
    ms_metrics_set(slot, MS_METRIC_RAFT_TERM, 7);
    ms_metrics_add(slot, MS_METRIC_RAFT_PROPOSALS, 3);
    ms_metrics_add(slot, MS_METRIC_RAFT_PROPOSALS, 4);
    cr_assert_eq(ms_metrics_page_map(f.fd, &other, NULL), MS_OK);
    slot = ms_metrics_slot(other, MS_ROLE_RAFTD, 0);
    cr_assert_eq(ms_metrics_get(slot, MS_METRIC_RAFT_TERM), 7);
    cr_assert_eq(ms_metrics_get(slot, MS_METRIC_RAFT_PROPOSALS), 7);
    ms_metrics_page_unmap(other);
    assert_line(&f, "metastore_raft_term 7");
    assert_line(&f, "metastore_raft_proposals_total 7");
    metrics_fixture_fini(&f);
}

Test(metrics, every_slot_knows_its_page)
{
    struct metrics_fixture f;

    metrics_fixture_init(&f);
    cr_assert_eq(ms_metrics_page_of(ms_metrics_slot(f.page, MS_ROLE_SUPERVISOR, 0)), f.page);
    cr_assert_eq(ms_metrics_page_of(ms_metrics_slot(f.page, MS_ROLE_STORAGED, 0)), f.page);
    cr_assert_eq(ms_metrics_page_of(ms_metrics_slot(f.page, MS_ROLE_APID, MS_API_WORKERS_MAX - 1)),
                 f.page);
    metrics_fixture_fini(&f);
}

Test(metrics, several_api_processes_are_shown_as_their_sum)
{
    struct metrics_fixture f;

    metrics_fixture_init(&f);
    ms_metrics_set(ms_metrics_slot(f.page, MS_ROLE_APID, 0), MS_METRIC_API_CONNECTIONS, 2);
    ms_metrics_set(ms_metrics_slot(f.page, MS_ROLE_APID, 3), MS_METRIC_API_CONNECTIONS, 5);
    ms_metrics_count_request(ms_metrics_slot(f.page, MS_ROLE_APID, 0), MS_ROUTE_PUT, 204);
    ms_metrics_count_request(ms_metrics_slot(f.page, MS_ROLE_APID, 1), MS_ROUTE_PUT, 204);
    ms_metrics_count_request(ms_metrics_slot(f.page, MS_ROLE_APID, 1), MS_ROUTE_GET, 299);
    assert_line(&f, "metastore_http_connections 7");
    assert_line(&f, "metastore_http_requests_total{route=\"put\",code=\"204\"} 2");
    assert_line(&f, "metastore_http_requests_total{route=\"get\",code=\"other\"} 1");
    metrics_fixture_fini(&f);
}

Test(metrics, a_histogram_counts_up_to_each_bound)
{
    struct metrics_fixture f;
    struct ms_metrics *slot;

    metrics_fixture_init(&f);
    slot = ms_metrics_slot(f.page, MS_ROLE_STORAGED, 0);
    ms_metrics_observe(slot, MS_HISTOGRAM_WAL_SYNC, 0);
    ms_metrics_observe(slot, MS_HISTOGRAM_WAL_SYNC, 10000);
    ms_metrics_observe(slot, MS_HISTOGRAM_WAL_SYNC, 10001);
    ms_metrics_observe(slot, MS_HISTOGRAM_WAL_SYNC, 40000);
    ms_metrics_observe(slot, MS_HISTOGRAM_WAL_SYNC, UINT64_C(100000000000));
    assert_line(&f, "metastore_wal_sync_duration_seconds_bucket{le=\"1e-05\"} 2");
    assert_line(&f, "metastore_wal_sync_duration_seconds_bucket{le=\"2e-05\"} 3");
    assert_line(&f, "metastore_wal_sync_duration_seconds_bucket{le=\"4e-05\"} 4");
    assert_line(&f, "metastore_wal_sync_duration_seconds_bucket{le=\"20.97152\"} 4");
    assert_line(&f, "metastore_wal_sync_duration_seconds_bucket{le=\"+Inf\"} 5");
    assert_line(&f, "metastore_wal_sync_duration_seconds_sum 100.000060001");
    assert_line(&f, "metastore_wal_sync_duration_seconds_count 5");
    metrics_fixture_fini(&f);
}

Test(metrics, labels_and_bounds_share_the_braces)
{
    struct metrics_fixture f;

    metrics_fixture_init(&f);
    ms_metrics_observe(ms_metrics_slot(f.page, MS_ROLE_APID, 0), MS_HISTOGRAM_HTTP_PUT, 15000);
    assert_line(&f, "metastore_http_request_duration_seconds_bucket{route=\"put\",le=\"2e-05\"} 1");
    assert_line(&f, "metastore_http_request_duration_seconds_count{route=\"put\"} 1");
    metrics_fixture_fini(&f);
}

/* The format's rules: each name has one HELP and one TYPE, before its first sample, and all samples
 * of a name stand together. */
Test(metrics, each_name_is_described_once_and_stands_together)
{
    struct metrics_fixture f;
    char seen[128][96];
    size_t seen_count = 0;
    char current[96] = "";
    char *rest;

    metrics_fixture_init(&f);
    (void)render(&f);
    for (char *line = strtok_r(f.text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            cr_assert_eq(sscanf(line, "# HELP %95s", current), 1);
            cr_assert_gt(strlen(line), strlen("# HELP  ") + strlen(current), "%s: no help", line);
            for (size_t i = 0; i < seen_count; i++) {
                cr_assert_str_neq(seen[i], current, "described twice");
            }
            cr_assert_lt(seen_count, 128);
            (void)strcpy(seen[seen_count++], current);
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            cr_assert_eq(strncmp(line + 7, current, strlen(current)), 0, "%s", line);
        } else {
            cr_assert_eq(strncmp(line, current, strlen(current)), 0, "%s is not a %s", line,
                         current);
            cr_assert_not_null(strchr(line, ' '));
        }
    }
    metrics_fixture_fini(&f);
}

Test(metrics, a_short_buffer_is_not_overrun_and_the_length_tells)
{
    struct metrics_fixture f;
    size_t whole;
    char small[100];

    metrics_fixture_init(&f);
    whole = ms_metrics_render(f.page, NULL, 0);
    cr_assert_gt(whole, sizeof(small));
    memset(small, 'x', sizeof(small));
    cr_assert_eq(ms_metrics_render(f.page, small, sizeof(small) - 1), whole);
    cr_assert_eq(small[sizeof(small) - 1], 'x');
    cr_assert_eq(small[sizeof(small) - 2], '\0');
    metrics_fixture_fini(&f);
}
