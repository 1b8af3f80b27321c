/*
 * reads: from when on a read may look at the store, so that it sees every write that was answered
 * before the read began.
 *
 * Ways to know, cheapest first: the node is the only member; it is the only voter, or its lease as
 * leader holds, and all that is committed is applied; raftd obtained a read index (Raft thesis
 * 6.4), one for all reads that wait. Reads that must wait queue
 * here until the neighbours' messages release them. What talks to neighbours, and the reading
 * itself, are the port's: this file only decides.
 */
#ifndef METASTORE_APID_READS_H
#define METASTORE_APID_READS_H

#include <stdbool.h>
#include <stdint.h>

#include "apid/queue.h"
#include "common/config.h"
#include "common/err.h"
#include "common/status_page.h"
#include "common/types.h"

/* Part of whatever waits; owned by its embedder, who removes it before the memory goes. */
struct read_op {
    struct queue_node node;
    raft_index index; /* safe once applied >= index; known only while waiting for that */
    bool serializable;
};

struct reads_port {
    void *ctx;
    /* A consistent copy of raftd's status; false: none to be had just now. */
    bool (*status)(void *ctx, struct ms_raft_status *out);
    struct ms_instant (*now)(void *ctx);
    /* Where the store stands; false: it cannot be read. */
    bool (*applied)(void *ctx, raft_index *out);
    /* Send READ_INDEX / WAIT_APPLIED. False: not now; asked again at the next reads_pump. */
    bool (*ask_index)(void *ctx, uint64_t request);
    bool (*wait_applied)(void *ctx, uint64_t request, raft_index index);
    /* Read and answer / answer with a refusal (enum ms_refusal). The op is out of all queues. */
    void (*serve)(void *ctx, struct read_op *op);
    void (*refuse)(void *ctx, struct read_op *op, uint32_t reason);
};

struct reads {
    struct reads_port port;
    enum ms_read_mode mode;
    bool store_open;
    bool floor_passed;
    raft_index floor; /* of the store that is open */

    struct queue for_store;    /* until a store is open */
    struct queue for_question; /* until the next READ_INDEX goes out */
    struct queue for_answer;   /* until READ_READY answers question */
    struct queue for_applied;  /* until applied >= their index */
    uint64_t question;         /* the READ_INDEX that is out; 0: none */
    uint64_t applied_question; /* the WAIT_APPLIED that is out; 0: none */
    uint64_t last_request;
};

enum reads_gate {
    READS_NOW,         /* read at once */
    READS_FOR_STORE,   /* no store is open */
    READS_FOR_INDEX,   /* a read index is needed */
    READS_FOR_APPLIED, /* the store must first reach an index */
};

/* port is copied. The struct must not move afterwards. */
void reads_init(struct reads *reads, const struct reads_port *port, enum ms_read_mode mode);

/* What a read that arrives now must wait for; *index is set for READS_FOR_APPLIED. */
enum reads_gate reads_gate(struct reads *reads, bool serializable, raft_index *index);

/* Queues op for what reads_gate said. op->serializable must be set. */
void reads_add(struct reads *reads, struct read_op *op, enum reads_gate gate, raft_index index);

/* Takes op out of whichever queue it is in. */
void reads_remove(struct read_op *op);

/* Sends the questions that are due. Call once per turn of the loop, before flushing the links. */
void reads_pump(struct reads *reads);

/* READ_READY and WAIT_DONE. Answers to questions that are no longer ours are ignored. */
void reads_on_ready(struct reads *reads, uint64_t request, raft_index index, uint32_t reason);
void reads_on_wait_done(struct reads *reads, uint64_t request, raft_index applied);

/* A neighbour was replaced: what it was asked is asked again. */
void reads_on_raft_replaced(struct reads *reads);
void reads_on_store_replaced(struct reads *reads);

/* The store can be read from now on; is_new: it is another one than before. */
void reads_on_store_opened(struct reads *reads, raft_index floor, bool is_new);
void reads_on_store_closed(struct reads *reads);

#endif
