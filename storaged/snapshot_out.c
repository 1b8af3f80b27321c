/*
 * snapshot_out: the sessions.
 */
#include "storaged/snapshot_out.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

/* The kernel is asked to have so much ready behind what was read. */
#define READ_AHEAD_BYTES (1 << 20)

enum session_state {
    SESSION_FREE = 0,
    SESSION_WAITS,   /* for a snapshot */
    SESSION_REFUSED, /* SNAP_OPENED with a status is due, then it is free */
    SESSION_OPEN,
};

struct session {
    enum session_state state;
    uint64_t id;
    raft_index min_index;
    int status; /* when refused */
    bool due;   /* when open: SNAP_OPENED was not sent yet */
    int fd;     /* when open, as is the rest */
    struct snapshot_file file;
    size_t conf_bytes;
    uint8_t conf[MS_CONF_STATE_BYTES_MAX];
};

struct snapshot_out {
    const struct snapshot_files *files; /* borrowed */
    struct session sessions[SNAPSHOT_OUT_SESSIONS_MAX];
    struct engine_snapshot_info info; /* of the one looked at last: too large for a stack */
};

int snapshot_out_create(const struct snapshot_files *files, struct snapshot_out **out,
                        struct ms_err *err)
{
    struct snapshot_out *made = calloc(1, sizeof(*made));

    if (made == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for the sending of snapshots");
    }
    made->files = files;
    *out = made;
    return MS_OK;
}

static void free_session(struct session *session)
{
    if (session->state == SESSION_OPEN) {
        (void)close(session->fd);
    }
    session->state = SESSION_FREE;
}

void snapshot_out_reset(struct snapshot_out *out)
{
    for (size_t i = 0; i < SNAPSHOT_OUT_SESSIONS_MAX; i++) {
        free_session(&out->sessions[i]);
    }
}

void snapshot_out_destroy(struct snapshot_out *out)
{
    if (out != NULL) {
        snapshot_out_reset(out);
        free(out);
    }
}

static struct session *find(struct snapshot_out *out, uint64_t id)
{
    for (size_t i = 0; i < SNAPSHOT_OUT_SESSIONS_MAX; i++) {
        if (out->sessions[i].state != SESSION_FREE && out->sessions[i].id == id) {
            return &out->sessions[i];
        }
    }
    return NULL;
}

static struct session *find_free(struct snapshot_out *out)
{
    for (size_t i = 0; i < SNAPSHOT_OUT_SESSIONS_MAX; i++) {
        if (out->sessions[i].state == SESSION_FREE) {
            return &out->sessions[i];
        }
    }
    return NULL;
}

/* ---- opening ------------------------------------------------------------------------------- */

static void refuse(struct session *session, int status)
{
    session->state = SESSION_REFUSED;
    session->status = status;
}

/* Opens the newest snapshot if it reaches far enough; else the session goes on waiting. */
static void try_open(struct snapshot_out *out, struct session *session)
{
    struct ms_err err = {.status = MS_OK};
    struct snapshot_file newest;
    int fd = -1;
    int rc;

    if (snapshot_files_get(out->files, 0, &newest) != MS_OK || newest.index < session->min_index) {
        return;
    }
    rc = snapshot_files_info(out->files, &newest, &out->info, &err);
    if (rc == MS_OK) {
        rc = snapshot_files_read(out->files, &newest, &fd, &err);
    }
    if (rc != MS_OK) {
        ms_log_err(MS_LOG_ERROR, "cannot open a snapshot for a follower", &err);
        refuse(session, MS_ENOENT);
        return;
    }
    session->state = SESSION_OPEN;
    session->fd = fd;
    session->file = newest;
    session->conf_bytes = out->info.conf_bytes;
    memcpy(session->conf, out->info.conf, out->info.conf_bytes);
    session->due = true;
}

int snapshot_out_open(struct snapshot_out *out, const struct ms_snap_open *message,
                      struct ms_link *link)
{
    struct session *session;

    if (find(out, message->session) != NULL) {
        return MS_EPROTO;
    }
    session = find_free(out);
    if (session == NULL) {
        const struct ms_snap_opened full = {.session = message->session, .status = MS_EFULL};

        return ms_link_send(link, MS_IPC_SNAP_OPENED, &full);
    }
    session->state = SESSION_WAITS;
    session->id = message->session;
    session->min_index = message->min_index;
    try_open(out, session);
    return MS_OK;
}

void snapshot_out_close(struct snapshot_out *out, const struct ms_snap_close *message)
{
    struct session *session = find(out, message->session);

    if (session != NULL) {
        free_session(session);
    }
}

bool snapshot_out_wants(const struct snapshot_out *out, raft_index *min_index)
{
    bool wants = false;

    *min_index = 0;
    for (size_t i = 0; i < SNAPSHOT_OUT_SESSIONS_MAX; i++) {
        const struct session *session = &out->sessions[i];

        if (session->state == SESSION_WAITS) {
            wants = true;
            *min_index = session->min_index > *min_index ? session->min_index : *min_index;
        }
    }
    return wants;
}

void snapshot_out_made(struct snapshot_out *out)
{
    for (size_t i = 0; i < SNAPSHOT_OUT_SESSIONS_MAX; i++) {
        if (out->sessions[i].state == SESSION_WAITS) {
            try_open(out, &out->sessions[i]);
        }
    }
}

void snapshot_out_deny(struct snapshot_out *out)
{
    for (size_t i = 0; i < SNAPSHOT_OUT_SESSIONS_MAX; i++) {
        if (out->sessions[i].state == SESSION_WAITS) {
            refuse(&out->sessions[i], MS_ENOENT);
        }
    }
}

raft_index snapshot_out_lowest(const struct snapshot_out *out)
{
    raft_index lowest = 0;

    for (size_t i = 0; i < SNAPSHOT_OUT_SESSIONS_MAX; i++) {
        const struct session *session = &out->sessions[i];

        if (session->state == SESSION_OPEN && (lowest == 0 || session->file.index < lowest)) {
            lowest = session->file.index;
        }
    }
    return lowest;
}

/* ---- answers ------------------------------------------------------------------------------- */

static bool session_is_due(const struct session *session)
{
    return session->state == SESSION_REFUSED || (session->state == SESSION_OPEN && session->due);
}

bool snapshot_out_is_due(const struct snapshot_out *out)
{
    for (size_t i = 0; i < SNAPSHOT_OUT_SESSIONS_MAX; i++) {
        if (session_is_due(&out->sessions[i])) {
            return true;
        }
    }
    return false;
}

static int tell_opened(struct session *session, struct ms_link *link)
{
    bool is_open = session->state == SESSION_OPEN;
    size_t conf_bytes = is_open ? session->conf_bytes : 0;
    struct ms_snap_opened opened = {.session = session->id, .status = session->status};
    void *body;
    void *tail;
    int rc = ms_link_begin(link, MS_IPC_SNAP_OPENED, conf_bytes, &body, &tail);

    if (rc != MS_OK) {
        return rc;
    }
    if (is_open) {
        opened.status = MS_OK;
        opened.index = session->file.index;
        opened.term = session->file.term;
        opened.size_bytes = session->file.size_bytes;
        memcpy(tail, session->conf, conf_bytes);
        session->due = false;
    } else {
        free_session(session);
    }
    memcpy(body, &opened, sizeof(opened));
    ms_link_commit(link);
    return MS_OK;
}

int snapshot_out_tell(struct snapshot_out *out, struct ms_link *link)
{
    int rc = MS_OK;

    for (size_t i = 0; i < SNAPSHOT_OUT_SESSIONS_MAX && rc == MS_OK; i++) {
        if (session_is_due(&out->sessions[i])) {
            rc = tell_opened(&out->sessions[i], link);
        }
    }
    return rc;
}

static int read_piece(int fd, uint8_t *dst, size_t len_bytes, uint64_t offset)
{
    while (len_bytes > 0) {
        ssize_t done = pread(fd, dst, len_bytes, (off_t)offset);

        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return MS_EIO;
        }
        dst += done;
        offset += (uint64_t)done;
        len_bytes -= (size_t)done;
    }
    return MS_OK;
}

int snapshot_out_read(struct snapshot_out *out, const struct ms_snap_read *message,
                      struct ms_link *link)
{
    struct session *session = find(out, message->session);
    struct ms_snap_data data = {.session = message->session, .offset = message->offset};
    size_t len_bytes = 0;
    void *body;
    void *tail;
    int rc;

    if (session == NULL || session->state != SESSION_OPEN) {
        data.status = MS_ENOENT;
    } else if (message->offset > session->file.size_bytes || message->len_bytes == 0 ||
               message->len_bytes > MS_SNAP_PIECE_BYTES ||
               message->len_bytes > ms_link_tail_max(link, MS_IPC_SNAP_DATA)) {
        data.status = MS_ERANGE;
    } else {
        uint64_t rest = session->file.size_bytes - message->offset;

        len_bytes = message->len_bytes < rest ? message->len_bytes : rest;
    }
    rc = ms_link_begin(link, MS_IPC_SNAP_DATA, len_bytes, &body, &tail);
    if (rc == MS_OK && len_bytes > 0) {
        data.status = read_piece(session->fd, tail, len_bytes, message->offset);
        if (data.status != MS_OK) {
            rc = ms_link_begin(link, MS_IPC_SNAP_DATA, 0, &body, &tail);
        } else {
            (void)posix_fadvise(session->fd, (off_t)(message->offset + len_bytes), READ_AHEAD_BYTES,
                                POSIX_FADV_WILLNEED); /* a hint */
        }
    }
    if (rc == MS_OK) {
        memcpy(body, &data, sizeof(data));
        ms_link_commit(link);
    }
    return rc;
}
