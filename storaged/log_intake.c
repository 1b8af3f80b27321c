/*
 * log_intake: checking and staging.
 */
#include "storaged/log_intake.h"

#include "common/conf_state.h"

void log_intake_begin(struct log_intake *intake, uint64_t *seq)
{
    const struct ms_ipc_message *message = &intake->message;

    intake->busy = true;
    intake->left = 0;
    intake->has_piece = false;
    if (message->type == MS_IPC_LOG_APPEND) {
        const struct ms_log_append *append = (const void *)message->body;

        *seq = append->seq;
        intake->left = append->count;
        intake->next_index = append->first_index;
        intake->entries =
            (struct ipc_entries){.tail = message->tail, .tail_bytes = message->tail_bytes};
    } else if (message->type == MS_IPC_LOG_SNAPSHOT) {
        *seq = ((const struct ms_log_snapshot *)(const void *)message->body)->seq;
    } else {
        /* The catalogue lets nothing else in but LOG_CONF. */
        *seq = ((const struct ms_log_conf *)(const void *)message->body)->seq;
    }
}

/* Reads the next entries of the message into the piece. */
static int read_piece(struct log_intake *intake)
{
    intake->piece_count = 0;
    while (intake->left > 0 && intake->piece_count < LOG_INTAKE_PIECE) {
        struct log_entry *entry = &intake->piece[intake->piece_count];

        if (ipc_entries_next(&intake->entries, entry) != MS_OK ||
            entry->index != intake->next_index) {
            return MS_EPROTO;
        }
        intake->next_index++;
        intake->left--;
        intake->piece_count++;
    }
    if (intake->left == 0 && intake->entries.offset != intake->entries.tail_bytes) {
        return MS_EPROTO;
    }
    intake->has_piece = true;
    return MS_OK;
}

static int stage_append(struct log_intake *intake, struct log_store *store, struct ms_err *err)
{
    const struct ms_log_append *append = (const void *)intake->message.body;

    for (;;) {
        const struct ms_hard_state *hard_state;
        int rc = intake->has_piece ? MS_OK : read_piece(intake);

        if (rc != MS_OK) {
            return rc;
        }
        /* Behind the last entry: its commit index may name it. */
        hard_state = intake->left == 0 && append->has_hard_state != 0 ? &append->hard_state : NULL;
        rc = log_store_append(store, intake->piece, intake->piece_count, hard_state, err);
        if (rc != MS_OK) {
            return rc;
        }
        intake->has_piece = false;
        if (intake->left == 0) {
            return MS_OK;
        }
    }
}

static int stage_snapshot(struct log_intake *intake, struct log_store *store, struct ms_err *err)
{
    const struct ms_ipc_message *message = &intake->message;
    const struct ms_log_snapshot *snapshot = (const void *)message->body;
    const struct log_store_install install = {.index = snapshot->index,
                                              .term = snapshot->term,
                                              .hard_state = snapshot->hard_state,
                                              .conf = message->tail,
                                              .conf_bytes = message->tail_bytes};
    int rc;

    if (message->tail_bytes > MS_CONF_STATE_BYTES_MAX || snapshot->index == 0 ||
        !intake->claim(intake->ctx, snapshot->index, snapshot->term)) {
        return MS_EPROTO;
    }
    rc = log_store_install(store, &install, err);
    switch (rc) {
    case MS_EBUSY:
        return MS_EAGAIN;
    case MS_EAGAIN:
        return MS_EBUSY;
    default:
        return rc;
    }
}

static int stage_conf(const struct log_intake *intake, struct log_store *store, struct ms_err *err)
{
    const struct ms_ipc_message *message = &intake->message;
    const struct ms_log_conf *conf = (const void *)message->body;

    if (message->tail_bytes > MS_CONF_STATE_BYTES_MAX) {
        return MS_EPROTO;
    }
    return log_store_put_conf(store, conf->index, message->tail, message->tail_bytes, err);
}

int log_intake_stage(struct log_intake *intake, struct log_store *store, struct ms_err *err)
{
    int rc;

    if (intake->message.type == MS_IPC_LOG_APPEND) {
        rc = stage_append(intake, store, err);
    } else if (intake->message.type == MS_IPC_LOG_SNAPSHOT) {
        rc = stage_snapshot(intake, store, err);
    } else {
        rc = stage_conf(intake, store, err);
    }
    if (rc == MS_OK) {
        intake->busy = false;
    }
    return rc;
}
