/*
 * world: the cluster that an interaction script drives: nodes, their storage and work queues,
 * and the messages between them.
 */
#ifndef METASTORE_TESTS_CONFORMANCE_WORLD_H
#define METASTORE_TESTS_CONFORMANCE_WORLD_H

#include "raftd/core/raft.h"
#include "tests/conformance/buffer.h"
#include "tests/conformance/store.h"

#define WORLD_ERROR_BYTES 256

/* Levels above those of the core. */
enum world_level {
    WORLD_LEVEL_FATAL = RAFT_LOG_ERROR + 1,
    WORLD_LEVEL_NONE, /* nothing is printed but errors */
};

/* A queue of messages it owns, oldest first. */
struct world_queue {
    struct raft_message *items;
    size_t count;
    size_t capacity;
};

struct world_node {
    struct world *world;
    node_id id;
    struct raft *raft;
    struct store store;
    bool async_storage;
    struct world_queue append_work;
    struct world_queue apply_work;
};

struct world {
    struct world_node **nodes; /* node i has id i + 1 */
    size_t count;
    struct world_queue in_flight;
    int level; /* enum raft_log_level or enum world_level */
    uint64_t seed;
    struct buffer *out;             /* where output goes now */
    char error[WORLD_ERROR_BYTES];  /* of the command: part of its output; "" if none */
    char broken[WORLD_ERROR_BYTES]; /* why the script cannot go on; "" if it can */
};

void world_init(struct world *world, uint64_t seed);
void world_fini(struct world *world);

/* NULL, and world->broken set, if there is no such node. */
struct world_node *world_node(struct world *world, uint64_t id);
/* Prints, unless the level is NONE. */
void world_print(struct world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void world_fail(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_break(struct world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Whether an error or a break ends the command. */
bool world_stopped(const struct world *world);
/* The text of a status as the scripts know it. */
const char *world_status_text(int status);

/* Sends what is printed until world_outdent() to inner, and then indented to where it went. */
struct buffer *world_indent(struct world *world, struct buffer *inner);
void world_outdent(struct world *world, struct buffer *outer);

/*
 * A node with the next id. options: all but id, storage, alloc, draw and log; conf, index: what
 * it starts from (0: nothing).
 */
void world_add_node(struct world *world, const struct raft_options *options,
                    const struct raft_conf_state *conf, raft_index index);

void world_process_ready(struct world_node *node);
void world_process_append(struct world_node *node);
void world_process_apply(struct world_node *node);

/* A recipient, and what becomes of messages to it. */
struct world_recipient {
    node_id id;
    bool drop;
};

/* Any type. */
#define WORLD_ANY_TYPE (-1)

/* Delivers or drops what is in flight to each of them, in order; the number of messages. */
size_t world_deliver(struct world *world, const struct world_recipient *recipients, size_t count,
                     int type);
/* Rounds of everything for these nodes until nothing is left to do. */
void world_stabilize(struct world *world, struct world_node **nodes, size_t count);
/* Takes the message over. */
void world_send(struct world *world, struct raft_message *message);
/* Prints a message, with a newline. */
void world_print_message(struct world *world, const struct raft_message *message);

#endif
