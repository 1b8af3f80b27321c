/*
 * admin_fuzz: whatever an admin client sends, in whatever pieces, gives answers of the promised
 * form.
 *
 * The first byte says in how large pieces the rest arrives.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/admin_command.h"
#include "supervisor/admin_execute.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The page a status comes from is written by another process: it may hold anything, too. */
static const uint8_t *page;
static size_t page_bytes;

static void take_snapshot(void *ctx, struct admin_snapshot *out)
{
    (void)ctx;
    memset(out, 0, sizeof(*out));
    out->storage = "memory";
    out->worker_count = 1;
    memcpy(out->workers[0].name, "raftd", sizeof("raftd"));
    out->workers[0].state = "running";
    memcpy(&out->status, page, page_bytes < sizeof(out->status) ? page_bytes : sizeof(out->status));
}

static int restart(void *ctx, const char *worker, struct ms_err *err)
{
    (void)ctx;
    return strcmp(worker, "raftd") == 0
               ? MS_OK
               : ms_err_set(err, MS_ENOENT, 0, "no worker \"%.64s\"", worker);
}

static void set_log_level(void *ctx, enum ms_log_level level)
{
    (void)ctx;
    if (level > MS_LOG_ERROR) {
        abort();
    }
}

static void stop(void *ctx)
{
    (void)ctx;
}

/* One answer: not empty, an empty line at its end and nowhere else, errors on one line. */
static void check(char *answer)
{
    const char *end;

    if (answer == NULL) {
        return; /* no memory */
    }
    end = strstr(answer, "\n\n");
    if (end == NULL || end == answer || end[2] != '\0' ||
        (strncmp(answer, "error: ", 7) == 0 && strchr(answer, '\n') != end)) {
        (void)fprintf(stderr, "answer: %s", answer);
        abort();
    }
    free(answer);
}

/* What a worker said that refused something, or remarks: of the fuzzer's making, too. */
static char *reloaded(const struct admin_wish *wish)
{
    char text[sizeof(((struct ms_control_reloaded *)NULL)->text)] = "";

    memcpy(text, page, page_bytes < sizeof(text) - 1 ? page_bytes : sizeof(text) - 1);
    return admin_execute_reloaded(wish->json, page_bytes % 2 == 0 ? text : NULL, text);
}

/* Requests to raftd are well-formed; what it says to them is of the fuzzer's making, too. */
static void execute(char *line, size_t len, const struct admin_actions *actions)
{
    struct ms_control_member_answer said = {.head.code = 0};
    struct admin_wish wish;
    char *answer = NULL;
    int rc = admin_execute(line, len, actions, NULL, &answer, &wish);

    if (rc == MS_EAGAIN && wish.kind == ADMIN_WISH_RELOAD) {
        answer = reloaded(&wish);
    } else if (rc == MS_EAGAIN) {
        if (memchr(wish.request.peer_url, '\0', sizeof(wish.request.peer_url)) == NULL ||
            (wish.request.head.id == 0 && wish.request.head.operation != MS_MEMBER_TRANSFER)) {
            abort();
        }
        memcpy(&said, page, page_bytes < sizeof(said) ? page_bytes : sizeof(said));
        said.text[sizeof(said.text) - 1] = '\0';
        answer = admin_member_answer(&wish, (enum ms_member_code)said.head.code, said.text);
    }
    check(answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct admin_actions actions = {.snapshot = take_snapshot,
                                                 .restart = restart,
                                                 .set_log_level = set_log_level,
                                                 .stop = stop};
    struct admin_input input = {0};
    size_t piece;
    size_t len;
    char *line;

    if (size == 0) {
        return 0;
    }
    piece = (size_t)data[0] + 1;
    data++;
    size--;
    page = data;
    page_bytes = size;
    while (size > 0) {
        size_t room;
        char *space = admin_input_space(&input, &room);
        size_t now = size < piece ? size : piece;
        int rc;

        now = now < room ? now : room;
        memcpy(space, data, now);
        admin_input_added(&input, now);
        data += now;
        size -= now;
        while ((rc = admin_input_line(&input, &line, &len)) == MS_OK) {
            execute(line, len, &actions);
        }
        if (rc == MS_ERANGE) { /* the connection ends here */
            return 0;
        }
    }
    if (admin_input_rest(&input, &line, &len) == MS_OK) {
        execute(line, len, &actions);
    }
    return 0;
}
