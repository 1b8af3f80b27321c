/*
 * applier: storaged's end of the apply link: committed entries in, results out.
 *
 * Takes what waits in batches, one engine commit each, and answers everyone whom a batch concerns
 * after it. Reads of the log and snapshots for raftd come the same way. When a ring that it answers
 * into is full it takes nothing more until there is room, and nothing while the state is being
 * replaced by a snapshot.
 */
#ifndef METASTORE_STORAGED_APPLIER_H
#define METASTORE_STORAGED_APPLIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/link.h"
#include "common/metrics.h"
#include "storaged/api_links.h"
#include "storaged/apply.h"
#include "storaged/engine.h"
#include "storaged/ipc_entries.h"
#include "storaged/log_store.h"
#include "storaged/snapshot_in.h"
#include "storaged/snapshot_out.h"

/* One batch: whichever is reached first. */
#define APPLIER_BATCH_ENTRIES 1024u
#define APPLIER_BATCH_BYTES   (1u << 20)

/* Applied and not yet told to a sleeping raftd, at most. */
#define APPLIER_QUIET_ENTRIES 256u
#define APPLIER_QUIET_BYTES   (1u << 18)

/* Other messages handled before the batch gets its turn: each may be a long read. */
#define APPLIER_OTHERS_MAX 8u

struct applier_options {
    int epoll_fd; /* borrowed, like all below */
    struct engine *engine;
    struct apply *apply;
    struct log_store *store; /* reading side */
    struct api_links *api;
    struct snapshot_out *out;
    struct snapshot_in *in;
    struct ms_metrics *metrics; /* may be NULL */
};

struct applier;

enum applier_status {
    APPLIER_IDLE,    /* nothing waits */
    APPLIER_MORE,    /* call again */
    APPLIER_BLOCKED, /* a ring is full, or the engine has no room: something will happen */
    APPLIER_REFUSED, /* raftd broke the protocol: its link was closed; err says how */
    APPLIER_ENGINE_FAILED,
    APPLIER_LOG_FAILED,
};

int applier_create(const struct applier_options *options, struct applier **out, struct ms_err *err);
void applier_destroy(struct applier *applier);

/* Takes over a new link, also on failure. The old one must be closed. MS_EIO. */
int applier_take_link(struct applier *applier, const struct ms_link *link, struct ms_err *err);

/* The far end is dead: what it had published is still applied, then the link closes. */
void applier_drain(struct applier *applier);
bool applier_is_open(const struct applier *applier);

/* Whose link it is or was last. */
const struct ms_link_info *applier_peer(const struct applier *applier);

/* Applies up to one batch. */
enum applier_status applier_run(struct applier *applier, struct ms_err *err);

/* APPLY_SNAPSHOT came and waits: true, and which snapshot it names. */
bool applier_wants_snapshot(const struct applier *applier, struct ms_apply_snapshot *out);

/*
 * The state is another one (engine and apply are borrowed from now on instead of the old ones):
 * raftd is told once all apids are, and what waits in the link goes on.
 */
void applier_switch(struct applier *applier, struct engine *engine, struct apply *apply);

/* What APPLY_SNAPSHOT names does not fit the log: the link is closed. */
void applier_refuse(struct applier *applier);

/* As of the last batch. */
const struct ms_memdb_meta *applier_meta(const struct applier *applier);

/* Bytes of commands applied since the start. */
uint64_t applier_bytes(const struct applier *applier);

/* To be said to raftd as soon as there is room. */
void applier_tell_compacted(struct applier *applier, const struct ms_log_compacted *compacted);

/* Suggests a command to raftd; false if that is not possible now. */
bool applier_suggest(struct applier *applier, const uint8_t *command, size_t len_bytes);

/*
 * Wakes raftd if it should know of what was sent. Acknowledgements of a few applied entries are
 * left for it to find when something else wakes it.
 */
void applier_flush(struct applier *applier);
bool applier_prepare_sleep(struct applier *applier);

#endif
