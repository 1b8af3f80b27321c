/*
 * history: recording and judging.
 */
#include "tests/crash/history.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/err.h"
#include "tests/support/check.h"
#include "tests/support/files.h"

enum {
    CAPACITY_FIRST = 1024,
    HEADER_BYTES = 64,
    VALUE_BYTES = 32,
    LINE_BYTES = 320
};

void history_init(struct history *history)
{
    *history = (struct history){0};
}

void history_fini(struct history *history)
{
    free(history->operations);
    *history = (struct history){0};
}

static void add(struct history *history, const struct lin_operation *operation)
{
    if (history->count == history->capacity) {
        size_t capacity = history->capacity == 0 ? CAPACITY_FIRST : 2 * history->capacity;
        struct lin_operation *grown = realloc(history->operations, capacity * sizeof(*grown));

        check_that(grown != NULL, "no memory for a history");
        history->operations = grown;
        history->capacity = capacity;
    }
    history->operations[history->count++] = *operation;
}

void history_append(struct history *history, const struct history *other)
{
    for (size_t i = 0; i < other->count; i++) {
        add(history, &other->operations[i]);
    }
}

/* ---- asking ---------------------------------------------------------------------------------- */

static const char *method_of(enum lin_kind kind)
{
    switch (kind) {
    case LIN_GET:
        return "GET";
    case LIN_PUT:
        return "PUT";
    case LIN_DELETE:
        return "DELETE";
    }
    return "";
}

static void write_condition(const struct history_request *request, char *dst, size_t dst_bytes)
{
    dst[0] = '\0';
    switch (request->condition) {
    case LIN_ALWAYS:
        break;
    case LIN_IF_REVISION:
        (void)snprintf(dst, dst_bytes, "If-Match: \"%" PRIu64 "\"\r\n", request->expected);
        break;
    case LIN_IF_ABSENT:
        (void)snprintf(dst, dst_bytes, "If-None-Match: *\r\n");
        break;
    case LIN_IF_PRESENT:
        (void)snprintf(dst, dst_bytes, "If-Match: *\r\n");
        break;
    }
}

/*
 * What an answer says about the effect. A refusal such as 503 is no promise that nothing was done:
 * the request may have been forwarded and lost its way back.
 */
static enum lin_outcome outcome_of(const struct history_request *request, const struct reply *reply)
{
    if (reply->status == (request->kind == LIN_GET ? 200 : 204)) {
        return LIN_DONE;
    }
    if (reply->status == 404 && request->kind != LIN_PUT) {
        return LIN_ABSENT;
    }
    if (reply->status == 412 && request->condition != LIN_ALWAYS) {
        return LIN_REFUSED;
    }
    return LIN_UNKNOWN;
}

int history_ask(struct history *history, struct connection *connection, const char *path,
                const struct history_request *request, struct reply *reply)
{
    char header[HEADER_BYTES];
    char body[VALUE_BYTES] = "";
    struct lin_operation operation = {
        .kind = request->kind,
        .condition = request->condition,
        .key = request->key,
        .value = request->value,
        .expected = request->expected,
        .client = request->client,
        .tag = request->node,
    };

    write_condition(request, header, sizeof(header));
    if (request->kind == LIN_PUT) {
        (void)snprintf(body, sizeof(body), "%" PRIu64, request->value);
    }
    operation.invoked = ms_clock_now().ns;
    connection_send(connection, method_of(request->kind), path, header, body, reply);
    operation.returned = ms_clock_now().ns;
    operation.outcome = outcome_of(request, reply);
    if (operation.outcome == LIN_DONE) {
        operation.revision = request->kind == LIN_DELETE ? 0 : reply->revision;
        if (request->kind == LIN_GET) {
            operation.value = strtoull(reply->body, NULL, 10);
        }
    }
    if (reply->sent_ns != 0 && (operation.outcome != LIN_UNKNOWN || request->kind != LIN_GET)) {
        add(history, &operation);
    }
    return reply->status;
}

/* ---- judging --------------------------------------------------------------------------------- */

static void write_all(const struct history *history)
{
    char path[FILES_PATH_BYTES];
    const char *tmp = getenv("TMPDIR");
    FILE *file;
    int fd;

    files_path(path, sizeof(path), "%s/ms-history-XXXXXX", tmp != NULL ? tmp : "/tmp");
    fd = mkstemp(path);
    file = fd >= 0 ? fdopen(fd, "w") : NULL;
    check_that(file != NULL, "create %s", path);
    for (size_t i = 0; i < history->count; i++) {
        char line[LINE_BYTES];

        (void)fprintf(file, "key %" PRIu64 " %s\n", history->operations[i].key,
                      linearizability_describe(&history->operations[i], line, sizeof(line)));
    }
    (void)fclose(file);
    (void)printf("the whole history: %s\n", path);
}

bool history_judge(const struct history *history)
{
    static struct lin_report report;
    int rc = linearizability_check(history->operations, history->count, NULL, &report);

    check_that(rc == MS_OK, "the history could not be judged: %s %s", ms_status_text(rc),
               report.text);
    if (report.verdict == LIN_OK) {
        (void)printf("history of %zu operations on %zu keys: linearizable\n", history->count,
                     report.keys);
        return true;
    }
    (void)printf("history of %zu operations: %s\n%s", history->count,
                 report.verdict == LIN_VIOLATED ? "NOT LINEARIZABLE" : "UNDECIDED", report.text);
    write_all(history);
    return false;
}
