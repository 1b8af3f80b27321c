/*
 * reads: see reads.h.
 */
#include "apid/reads.h"

#include <assert.h>

static struct read_op *op_of(struct queue_node *node)
{
    return QUEUE_OWNER(node, struct read_op, node);
}

void reads_init(struct reads *reads, const struct reads_port *port, enum ms_read_mode mode)
{
    *reads = (struct reads){.port = *port, .mode = mode};
    queue_init(&reads->for_store);
    queue_init(&reads->for_question);
    queue_init(&reads->for_answer);
    queue_init(&reads->for_applied);
}

static bool has_applied(const struct reads *reads, raft_index index)
{
    raft_index applied;

    return reads->port.applied(reads->port.ctx, &applied) && applied >= index;
}

/* A store that was rebuilt may stand behind what was answered already: it must catch up first. */
static bool passes_floor(struct reads *reads)
{
    if (!reads->floor_passed) {
        reads->floor_passed = has_applied(reads, reads->floor);
    }
    return reads->floor_passed;
}

static bool is_sole_voter(const struct ms_raft_status *status)
{
    return status->sole_voter != 0 && status->leader == status->self;
}

/* The clock is read after the page: the lease held when the commit index was copied. */
static bool holds_lease(const struct reads *reads, const struct ms_raft_status *status)
{
    return reads->mode == MS_READ_LEASE && status->role == MS_RAFT_LEADER &&
           reads->port.now(reads->port.ctx).ns < status->lease_end_ns;
}

enum reads_gate reads_gate(struct reads *reads, bool serializable, raft_index *index)
{
    struct ms_raft_status status;

    if (!reads->store_open) {
        return READS_FOR_STORE;
    }
    if (serializable) {
        return READS_NOW;
    }
    if (!reads->port.status(reads->port.ctx, &status)) {
        return READS_FOR_INDEX;
    }
    if (is_sole_voter(&status) && status.member_count <= 1) {
        /* Nobody else answers writes, and this node only those that are applied. */
        *index = reads->floor;
        return passes_floor(reads) ? READS_NOW : READS_FOR_APPLIED;
    }
    if (is_sole_voter(&status) || holds_lease(reads, &status)) {
        /* Another member may have answered a write that is committed and not yet applied here. */
        *index = status.commit > reads->floor ? status.commit : reads->floor;
        return has_applied(reads, *index) ? READS_NOW : READS_FOR_APPLIED;
    }
    return READS_FOR_INDEX;
}

void reads_add(struct reads *reads, struct read_op *op, enum reads_gate gate, raft_index index)
{
    switch (gate) {
    case READS_FOR_STORE:
        queue_append(&reads->for_store, &op->node);
        break;
    case READS_FOR_INDEX:
        queue_append(&reads->for_question, &op->node);
        break;
    case READS_FOR_APPLIED:
        op->index = index;
        queue_append(&reads->for_applied, &op->node);
        break;
    case READS_NOW:
        assert(gate != READS_NOW);
        break;
    }
}

void reads_remove(struct read_op *op)
{
    queue_remove(&op->node);
}

static void serve(struct reads *reads, struct read_op *op)
{
    queue_remove(&op->node);
    reads->port.serve(reads->port.ctx, op);
}

/* The lowest index that anybody waits for; 0: nobody does. */
static raft_index lowest_wanted(const struct reads *reads)
{
    raft_index lowest = 0;

    for (struct queue_node *node = queue_first(&reads->for_applied); node != NULL;
         node = queue_next(&reads->for_applied, node)) {
        raft_index index = op_of(node)->index;

        if (lowest == 0 || index < lowest) {
            lowest = index;
        }
    }
    return lowest;
}

void reads_pump(struct reads *reads)
{
    if (reads->question == 0 && !queue_is_empty(&reads->for_question) &&
        reads->port.ask_index(reads->port.ctx, reads->last_request + 1)) {
        reads->question = ++reads->last_request;
        queue_append_all(&reads->for_answer, &reads->for_question);
    }
    if (reads->applied_question == 0 && !queue_is_empty(&reads->for_applied) &&
        reads->port.wait_applied(reads->port.ctx, reads->last_request + 1, lowest_wanted(reads))) {
        reads->applied_question = ++reads->last_request;
    }
}

/* Serves whoever has waited long enough, the others stay. */
static void serve_applied(struct reads *reads, raft_index applied)
{
    struct queue_node *node = queue_first(&reads->for_applied);

    while (node != NULL && reads->store_open) {
        struct queue_node *next = queue_next(&reads->for_applied, node);
        struct read_op *op = op_of(node);

        if (applied >= op->index) {
            serve(reads, op);
        }
        node = next;
    }
}

void reads_on_ready(struct reads *reads, uint64_t request, raft_index index, uint32_t reason)
{
    struct queue answered;
    struct queue_node *node;
    raft_index applied;

    if (request != reads->question) {
        return;
    }
    reads->question = 0;
    queue_init(&answered);
    queue_append_all(&answered, &reads->for_answer);
    while ((node = queue_first(&answered)) != NULL) {
        queue_remove(node);
        if (reason != 0) {
            reads->port.refuse(reads->port.ctx, op_of(node), reason);
        } else if (reads->store_open) {
            op_of(node)->index = index;
            queue_append(&reads->for_applied, node);
        } else {
            queue_append(&reads->for_store, node);
        }
    }
    if (reads->port.applied(reads->port.ctx, &applied)) {
        serve_applied(reads, applied);
    }
}

void reads_on_wait_done(struct reads *reads, uint64_t request, raft_index applied)
{
    if (request != reads->applied_question) {
        return;
    }
    reads->applied_question = 0;
    serve_applied(reads, applied);
}

void reads_on_raft_replaced(struct reads *reads)
{
    reads->question = 0;
    /* Those that were asked for come first again. */
    queue_append_all(&reads->for_answer, &reads->for_question);
    queue_append_all(&reads->for_question, &reads->for_answer);
}

void reads_on_store_replaced(struct reads *reads)
{
    reads->applied_question = 0;
}

void reads_on_store_opened(struct reads *reads, raft_index floor, bool is_new)
{
    struct queue waiting;
    struct queue_node *node;
    raft_index applied;

    reads->store_open = true;
    if (is_new) {
        reads->floor = floor;
        reads->floor_passed = false;
    }
    if (reads->port.applied(reads->port.ctx, &applied)) {
        serve_applied(reads, applied);
    }

    queue_init(&waiting);
    queue_append_all(&waiting, &reads->for_store);
    while ((node = queue_first(&waiting)) != NULL) {
        struct read_op *op = op_of(node);
        raft_index index = 0;
        enum reads_gate gate = reads_gate(reads, op->serializable, &index);

        queue_remove(node);
        if (gate == READS_NOW) {
            reads->port.serve(reads->port.ctx, op);
        } else {
            reads_add(reads, op, gate, index);
        }
    }
}

void reads_on_store_closed(struct reads *reads)
{
    reads->store_open = false;
    /* Their indices stay true, but asking from the start is as right and one case less. */
    queue_append_all(&reads->for_store, &reads->for_applied);
    reads->applied_question = 0;
}
