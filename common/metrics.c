/*
 * metrics: the shared page of counters and its rendering as Prometheus text.
 *
 * The page is mapped at a multiple of its size, so that a slot finds its page by its own address
 * and not by anything that another process could have written.
 */
#include "common/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "common/shm.h"

#define METRICS_MAGIC UINT64_C(0x5343495254454d4d)

/* Bucket i holds what is at most BUCKET_MIN_NS << i; the last one everything beyond. */
#define BUCKET_MIN_NS UINT64_C(10000)
#define BUCKET_COUNT  22

#define SLOT_COUNT (3 + MS_API_WORKERS_MAX)

/* The status codes that the program answers; the last column is for all others. */
static const int request_codes[] = {200, 204, 304, 400, 401, 403, 404, 405, 408, 409, 411, 412,
                                    413, 414, 415, 417, 429, 431, 500, 501, 503, 504, 505, 507};
#define CODE_COUNT (sizeof(request_codes) / sizeof(request_codes[0]) + 1)

struct histogram {
    _Atomic uint64_t buckets[BUCKET_COUNT + 1];
    _Atomic uint64_t sum_ns;
};

/* Aligned, so that two processes never write to one cache line. */
struct ms_metrics {
    _Alignas(64) _Atomic uint64_t values[MS_METRIC_COUNT];
    struct histogram histograms[MS_HISTOGRAM_COUNT];
    _Atomic uint64_t requests[MS_ROUTE_COUNT][CODE_COUNT];
};

struct ms_metrics_page {
    uint64_t magic;
    struct ms_metrics slots[SLOT_COUNT];
};

#define PAGE_BYTES ((size_t)131072)
_Static_assert(sizeof(struct ms_metrics_page) <= PAGE_BYTES, "metrics page size");

struct metric_row {
    const char *exposition;
    const char *labels;
    const char *help;
    enum ms_role role;
    enum ms_metric_type type;
};

static const struct metric_row metric_rows[] = {
#define METRIC_ROW(name, role_, type_, exposition_, labels_, help_) \
    {.exposition = (exposition_),                                   \
     .labels = (labels_),                                           \
     .help = (help_),                                               \
     .role = MS_ROLE_##role_,                                       \
     .type = MS_METRIC_##type_},
    MS_METRIC_CATALOGUE(METRIC_ROW)
#undef METRIC_ROW
};

static const struct metric_row histogram_rows[] = {
#define HISTOGRAM_ROW(name, role_, exposition_, labels_, help_) \
    {.exposition = (exposition_), .labels = (labels_), .help = (help_), .role = MS_ROLE_##role_},
    MS_HISTOGRAM_CATALOGUE(HISTOGRAM_ROW)
#undef HISTOGRAM_ROW
};

static const char *const route_names[] = {
    [MS_ROUTE_GET] = "get",     [MS_ROUTE_PUT] = "put",       [MS_ROUTE_DELETE] = "delete",
    [MS_ROUTE_LIST] = "list",   [MS_ROUTE_HEALTH] = "health", [MS_ROUTE_METRICS] = "metrics",
    [MS_ROUTE_OTHER] = "other",
};

int ms_metrics_page_create(int *out_fd, struct ms_err *err)
{
    const uint64_t magic = METRICS_MAGIC;

    return ms_shm_create("metastore-metrics", PAGE_BYTES, &magic, sizeof(magic), out_fd, err);
}

int ms_metrics_page_map(int fd, struct ms_metrics_page **out, struct ms_err *err)
{
    struct ms_metrics_page *page;
    void *memory;
    int rc;

    rc = ms_shm_map_aligned(fd, PAGE_BYTES, true, &memory, err);
    if (rc != MS_OK) {
        return rc;
    }
    page = memory;
    if (page->magic != METRICS_MAGIC) {
        ms_metrics_page_unmap(page);
        return ms_err_set(err, MS_ECORRUPT, 0, "metrics page: not one");
    }
    *out = page;
    return MS_OK;
}

void ms_metrics_page_unmap(struct ms_metrics_page *page)
{
    if (page != NULL) {
        (void)munmap(page, PAGE_BYTES);
    }
}

struct ms_metrics *ms_metrics_slot(struct ms_metrics_page *page, enum ms_role role,
                                   uint32_t instance)
{
    size_t index = 0;

    assert(instance == 0 || (role == MS_ROLE_APID && instance < MS_API_WORKERS_MAX));
    switch (role) {
    case MS_ROLE_SUPERVISOR:
        index = 0;
        break;
    case MS_ROLE_RAFTD:
        index = 1;
        break;
    case MS_ROLE_STORAGED:
        index = 2;
        break;
    case MS_ROLE_APID:
        index = 3 + instance;
        break;
    }
    return &page->slots[index];
}

const struct ms_metrics_page *ms_metrics_page_of(const struct ms_metrics *slot)
{
    return (const struct ms_metrics_page *)((uintptr_t)slot & ~(PAGE_BYTES - 1));
}

void ms_metrics_add(struct ms_metrics *slot, enum ms_metric metric, uint64_t delta)
{
    atomic_fetch_add_explicit(&slot->values[metric], delta, memory_order_relaxed);
}

void ms_metrics_set(struct ms_metrics *slot, enum ms_metric metric, uint64_t value)
{
    atomic_store_explicit(&slot->values[metric], value, memory_order_relaxed);
}

uint64_t ms_metrics_get(const struct ms_metrics *slot, enum ms_metric metric)
{
    return atomic_load_explicit(&slot->values[metric], memory_order_relaxed);
}

/* The first bucket whose bound is not below the value. */
static size_t bucket_of(uint64_t value_ns)
{
    uint64_t above = value_ns == 0 ? 0 : (value_ns - 1) / BUCKET_MIN_NS;
    size_t index = above == 0 ? 0 : (size_t)(64 - __builtin_clzll(above));

    return index < BUCKET_COUNT ? index : BUCKET_COUNT;
}

void ms_metrics_observe(struct ms_metrics *slot, enum ms_histogram histogram, uint64_t value_ns)
{
    struct histogram *target = &slot->histograms[histogram];

    atomic_fetch_add_explicit(&target->buckets[bucket_of(value_ns)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&target->sum_ns, value_ns, memory_order_relaxed);
}

void ms_metrics_count_request(struct ms_metrics *slot, enum ms_route route, int http_status)
{
    size_t column = 0;

    while (column < CODE_COUNT - 1 && request_codes[column] != http_status) {
        column++;
    }
    atomic_fetch_add_explicit(&slot->requests[route][column], 1, memory_order_relaxed);
}

/* ---- rendering ----------------------------------------------------------------------------- */

/* Appends as far as there is room, and counts what the whole would need. */
struct text {
    char *dst;
    size_t dst_bytes;
    size_t len_bytes;
};

__attribute__((format(printf, 2, 3))) static void text_add(struct text *text, const char *format,
                                                           ...)
{
    size_t room = text->len_bytes < text->dst_bytes ? text->dst_bytes - text->len_bytes : 0;
    va_list args;
    int written;

    va_start(args, format);
    written = vsnprintf(room > 0 ? text->dst + text->len_bytes : NULL, room, format, args);
    va_end(args);
    if (written > 0) {
        text->len_bytes += (size_t)written;
    }
}

static void add_head(struct text *text, const struct metric_row *row, const char *type)
{
    text_add(text, "# HELP %s %s\n# TYPE %s %s\n", row->exposition, row->help, row->exposition,
             type);
}

/* Rows of one name stand together: a head is due where the name changes. */
static bool starts_name(const struct metric_row *rows, size_t index)
{
    return index == 0 || strcmp(rows[index].exposition, rows[index - 1].exposition) != 0;
}

/* The slots of a role: [first, first + count). Several apid processes are shown as their sum. */
static const struct ms_metrics *slots_of(const struct ms_metrics_page *page, enum ms_role role,
                                         size_t *count)
{
    *count = role == MS_ROLE_APID ? MS_API_WORKERS_MAX : 1;
    return ms_metrics_slot((struct ms_metrics_page *)page, role, 0);
}

static uint64_t sum_values(const struct ms_metrics_page *page, enum ms_role role, size_t metric)
{
    size_t count;
    const struct ms_metrics *slots = slots_of(page, role, &count);
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i++) {
        sum += ms_metrics_get(&slots[i], (enum ms_metric)metric);
    }
    return sum;
}

static void render_values(struct text *text, const struct ms_metrics_page *page)
{
    for (size_t i = 0; i < MS_METRIC_COUNT; i++) {
        const struct metric_row *row = &metric_rows[i];
        const char *open = row->labels[0] != '\0' ? "{" : "";
        const char *close = row->labels[0] != '\0' ? "}" : "";

        if (starts_name(metric_rows, i)) {
            add_head(text, row, row->type == MS_METRIC_COUNTER ? "counter" : "gauge");
        }
        text_add(text, "%s%s%s%s %" PRIu64 "\n", row->exposition, open, row->labels, close,
                 sum_values(page, row->role, i));
    }
}

static void render_requests(struct text *text, const struct ms_metrics_page *page)
{
    size_t count;
    const struct ms_metrics *slots = slots_of(page, MS_ROLE_APID, &count);

    text_add(text, "# HELP metastore_http_requests_total Answered requests.\n"
                   "# TYPE metastore_http_requests_total counter\n");
    for (size_t route = 0; route < MS_ROUTE_COUNT; route++) {
        for (size_t column = 0; column < CODE_COUNT; column++) {
            char code[16] = "other";
            uint64_t sum = 0;

            for (size_t i = 0; i < count; i++) {
                sum +=
                    atomic_load_explicit(&slots[i].requests[route][column], memory_order_relaxed);
            }
            if (sum == 0) {
                continue; /* most pairs never happen */
            }
            if (column < CODE_COUNT - 1) {
                (void)snprintf(code, sizeof(code), "%d", request_codes[column]);
            }
            text_add(text, "metastore_http_requests_total{route=\"%s\",code=\"%s\"} %" PRIu64 "\n",
                     route_names[route], code, sum);
        }
    }
}

static void render_histogram(struct text *text, const struct ms_metrics_page *page, size_t index)
{
    const struct metric_row *row = &histogram_rows[index];
    const char *comma = row->labels[0] != '\0' ? "," : "";
    const char *open = row->labels[0] != '\0' ? "{" : "";
    const char *close = row->labels[0] != '\0' ? "}" : "";
    size_t count;
    const struct ms_metrics *slots = slots_of(page, row->role, &count);
    uint64_t cumulative = 0;
    uint64_t sum_ns = 0;

    for (size_t bucket = 0; bucket <= BUCKET_COUNT; bucket++) {
        char bound[32] = "+Inf";

        for (size_t i = 0; i < count; i++) {
            cumulative += atomic_load_explicit(&slots[i].histograms[index].buckets[bucket],
                                               memory_order_relaxed);
        }
        if (bucket < BUCKET_COUNT) {
            (void)snprintf(bound, sizeof(bound), "%.9g", (double)(BUCKET_MIN_NS << bucket) / 1e9);
        }
        text_add(text, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", row->exposition, row->labels,
                 comma, bound, cumulative);
    }
    for (size_t i = 0; i < count; i++) {
        sum_ns += atomic_load_explicit(&slots[i].histograms[index].sum_ns, memory_order_relaxed);
    }
    text_add(text, "%s_sum%s%s%s %" PRIu64 ".%09" PRIu64 "\n", row->exposition, open, row->labels,
             close, sum_ns / 1000000000, sum_ns % 1000000000);
    /* The same sum as the last bucket, not a counter of its own: the two must never differ. */
    text_add(text, "%s_count%s%s%s %" PRIu64 "\n", row->exposition, open, row->labels, close,
             cumulative);
}

size_t ms_metrics_render(const struct ms_metrics_page *page, char *dst, size_t dst_bytes)
{
    struct text text = {.dst = dst, .dst_bytes = dst_bytes};

    render_values(&text, page);
    render_requests(&text, page);
    for (size_t i = 0; i < MS_HISTOGRAM_COUNT; i++) {
        if (starts_name(histogram_rows, i)) {
            add_head(&text, &histogram_rows[i], "histogram");
        }
        render_histogram(&text, page, i);
    }
    return text.len_bytes;
}
