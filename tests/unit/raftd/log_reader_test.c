/*
 * log_reader: asking for stretches of the log, and finding them again.
 */
#include "raftd/log_reader.h"

#include <criterion/criterion.h>
#include <string.h>

#include "raftd/entry_codec.h"
#include "tests/unit/raftd/heap_fixture.h"

struct fixture {
    struct log_reader reader;
    struct ms_link link;  /* raftd's end */
    struct ms_link store; /* storaged's end */
};

static void init(struct fixture *f)
{
    struct ms_link_info info = {
        .kind = MS_LINK_RAFT_APPLY, .peer_role = MS_ROLE_STORAGED, .generation = 1};
    int left[MS_LINK_FD_COUNT];
    int right[MS_LINK_FD_COUNT];

    memset(f, 0, sizeof(*f));
    log_reader_init(&f->reader, &heap);
    cr_assert_eq(ms_link_create(&info, 1u << 20, left, right, NULL), MS_OK);
    cr_assert_eq(ms_link_take(&f->link, &info, MS_ROLE_RAFTD, left, NULL), MS_OK);
    info.peer_role = MS_ROLE_RAFTD;
    cr_assert_eq(ms_link_take(&f->store, &info, MS_ROLE_STORAGED, right, NULL), MS_OK);
}

static void fini(struct fixture *f)
{
    log_reader_fini(&f->reader);
    ms_link_fini(&f->link);
    ms_link_fini(&f->store);
}

/* The next request that storaged gets; false if there is none. */
static bool requested(struct fixture *f, struct ms_log_read *out)
{
    struct ms_ipc_message message;

    cr_assert_eq(log_reader_pump(&f->reader, &f->link), MS_OK);
    if (ms_link_receive(&f->store, &message) != MS_OK) {
        return false;
    }
    cr_assert_eq(message.type, MS_IPC_LOG_READ);
    memcpy(out, message.body, sizeof(*out));
    ms_link_release(&f->store);
    return true;
}

/* storaged answers with count entries of term 1 from first on. */
static int answer(struct fixture *f, const struct ms_log_entries *body,
                  struct log_reader_answer *out)
{
    struct raft_entry entries[32];
    struct ms_ipc_message message;
    void *dst_body = NULL;
    void *dst_tail = NULL;
    size_t tail_bytes = 0;
    int rc;

    cr_assert(body->count <= 32);
    for (uint32_t i = 0; i < body->count; i++) {
        entries[i] = (struct raft_entry){.term = 1, .index = body->first_index + i};
    }
    (void)entry_codec_fit(entries, body->count, SIZE_MAX, &tail_bytes);
    cr_assert_eq(ms_link_begin(&f->store, MS_IPC_LOG_ENTRIES, tail_bytes, &dst_body, &dst_tail),
                 MS_OK);
    memcpy(dst_body, body, sizeof(*body));
    entry_codec_pack(entries, body->count, dst_tail);
    ms_link_commit(&f->store);
    cr_assert_eq(ms_link_receive(&f->link, &message), MS_OK);
    rc = log_reader_handle(&f->reader, &message, out);
    ms_link_release(&f->link);
    return rc;
}

/* Asks, answers with count entries, and expects that they are taken. */
static void serve(struct fixture *f, uint32_t count)
{
    struct log_reader_answer out;
    struct ms_log_read read;

    cr_assert(requested(f, &read));
    cr_assert_eq(answer(f,
                        &(struct ms_log_entries){
                            .request = read.request, .first_index = read.low, .count = count},
                        &out),
                 MS_OK);
    cr_assert(out.available);
    cr_assert_eq(out.first_gone, 0);
}

static int get(struct fixture *f, raft_index first, raft_index end, size_t *count)
{
    struct raft_slice slice = {0};
    int rc = log_reader_entries(&f->reader, first, end, RAFT_NO_LIMIT, &slice);

    if (rc == MS_OK) {
        cr_assert_eq(slice.entries[0].index, first);
        *count = slice.count;
        raft_slice_release(&slice);
    }
    return rc;
}

Test(log_reader, what_is_asked_for_is_there_after_the_answer)
{
    struct fixture f;
    struct ms_log_read read;
    size_t count = 0;

    init(&f);
    cr_assert_eq(get(&f, 10, 30, &count), MS_EAGAIN);
    cr_assert_eq(get(&f, 10, 30, &count), MS_EAGAIN);
    serve(&f, 8);
    cr_assert_not(requested(&f, &read), "one question for one stretch");
    cr_assert_eq(get(&f, 10, 30, &count), MS_OK);
    cr_assert_eq(count, 8);
    cr_assert_eq(get(&f, 15, 17, &count), MS_OK);
    cr_assert_eq(count, 2);
    cr_assert_eq(get(&f, 18, 30, &count), MS_EAGAIN);
    cr_assert(requested(&f, &read));
    cr_assert_eq(read.low, 18);
    cr_assert_eq(read.high, 30);
    fini(&f);
}

Test(log_reader, several_stretches_are_kept_and_the_least_used_goes)
{
    struct fixture f;
    size_t count = 0;

    init(&f);
    for (raft_index i = 0; i < LOG_READER_WINDOWS; i++) {
        cr_assert_eq(get(&f, 100 * (i + 1), 100 * (i + 1) + 5, &count), MS_EAGAIN);
        serve(&f, 5);
    }
    cr_assert_eq(get(&f, 100, 105, &count), MS_OK); /* now the second is the least used */
    cr_assert_eq(get(&f, 900, 905, &count), MS_EAGAIN);
    serve(&f, 5);
    cr_assert_eq(get(&f, 100, 105, &count), MS_OK);
    cr_assert_eq(get(&f, 900, 905, &count), MS_OK);
    cr_assert_eq(get(&f, 200, 205, &count), MS_EAGAIN);
    fini(&f);
}

Test(log_reader, too_many_questions_wait_for_answers)
{
    struct fixture f;
    struct ms_log_read read;
    size_t count = 0;

    init(&f);
    for (raft_index i = 1; i <= LOG_READER_REQUESTS + 1; i++) {
        cr_assert_eq(get(&f, 100 * i, 100 * i + 5, &count), MS_EAGAIN);
    }
    for (raft_index i = 1; i <= LOG_READER_REQUESTS; i++) {
        cr_assert(requested(&f, &read));
    }
    cr_assert_not(requested(&f, &read));
    fini(&f);
}

Test(log_reader, new_storaged_is_asked_again)
{
    struct fixture f;
    struct ms_log_read first;
    struct ms_log_read second;
    size_t count = 0;

    init(&f);
    cr_assert_eq(get(&f, 10, 12, &count), MS_EAGAIN);
    cr_assert(requested(&f, &first));
    log_reader_link_lost(&f.reader);
    cr_assert(requested(&f, &second));
    cr_assert_eq(second.low, 10);
    cr_assert_neq(second.request, first.request);
    fini(&f);
}

Test(log_reader, compacted_entries_are_reported_gone)
{
    struct fixture f;
    struct log_reader_answer out;
    struct ms_log_read read;
    size_t count = 0;

    init(&f);
    cr_assert_eq(get(&f, 10, 12, &count), MS_EAGAIN);
    cr_assert(requested(&f, &read));
    cr_assert_eq(answer(&f,
                        &(struct ms_log_entries){.request = read.request, .status = MS_ECOMPACTED},
                        &out),
                 MS_OK);
    cr_assert_not(out.available);
    cr_assert_eq(out.first_gone, 10);
    fini(&f);
}

Test(log_reader, answer_that_does_not_fit_the_question_is_a_violation)
{
    struct fixture f;
    struct log_reader_answer out;
    struct ms_log_read read;
    size_t count = 0;

    init(&f);
    cr_assert_eq(get(&f, 10, 12, &count), MS_EAGAIN);
    cr_assert(requested(&f, &read));
    cr_assert_eq(answer(&f, &(struct ms_log_entries){.request = read.request + 1}, &out),
                 MS_EPROTO);
    cr_assert_eq(
        answer(&f, &(struct ms_log_entries){.request = read.request, .first_index = 11, .count = 1},
               &out),
        MS_EPROTO);
    cr_assert_eq(
        answer(&f, &(struct ms_log_entries){.request = read.request, .first_index = 10, .count = 3},
               &out),
        MS_EPROTO);
    cr_assert_eq(
        answer(&f, &(struct ms_log_entries){.request = read.request, .status = MS_EIO}, &out),
        MS_EPROTO);
    fini(&f);
}
