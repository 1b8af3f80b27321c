/*
 * memory_dir: where the memory engine's file lies, whose it is, and whether it can be trusted.
 *
 *   MEMORY-DIR/metastore-UID-HASH/   mode 0700; HASH names the node's data directory
 *       owner                        text: format, boot id, data directory; locked while in use
 *       poisoned                     empty while sound; a storaged that dies of its own fault
 *                                    leaves a byte in it
 *       epoch-N/                     one LMDB environment; a rebuild makes another one
 *
 * It decides nothing about content: what is in an environment is memory_engine's business.
 */
#ifndef METASTORE_STORAGED_MEMORY_DIR_H
#define METASTORE_STORAGED_MEMORY_DIR_H

#include <stdbool.h>
#include <stdint.h>

#include "common/control.h"
#include "common/err.h"

struct memory_dir;

#define MEMORY_DIR_PATH_BYTES (4096 + 128)

struct memory_dir_options {
    const char *memory_dir;          /* --memory-dir */
    const char *node_dir;            /* absolute; the fall-back lies below it */
    uint64_t limit_bytes;            /* --memory-limit; 0: half of what is free */
    enum ms_worker_end previous_end; /* of the storaged before this one */
    const char *boot_id_file;        /* NULL: the kernel's */
};

/* Room below which a file system is not worth being used for the memory engine. */
#define MEMORY_DIR_BYTES_MIN (UINT64_C(64) << 20)

/*
 * Finds or makes the directory, takes its owner lock, removes what dead nodes left beside it, and
 * judges what an earlier storaged of this node left in it. MS_EBUSY: another process holds the
 * lock. MS_EIO: memory_dir is no directory that can be used. MS_ENOSPC, MS_EPERM: it has too little
 * room, or our name in it is taken by somebody else, and the fall-back cannot be used either.
 */
int memory_dir_open(const struct memory_dir_options *options, struct memory_dir **out,
                    struct ms_err *err);

/* Gives the lock back; the content stays for the next storaged. NULL is allowed. */
void memory_dir_close(struct memory_dir *dir);

/* For an orderly stop: removes everything, then closes. */
void memory_dir_remove_and_close(struct memory_dir *dir);

/*
 * The newest environment that an earlier storaged left, if it may be trusted; NULL otherwise.
 * Valid until memory_dir_renew.
 */
const char *memory_dir_kept(const struct memory_dir *dir);

/* A constant phrase: why nothing was kept; NULL if something was. */
const char *memory_dir_distrust(const struct memory_dir *dir);

/*
 * Makes a new, empty environment directory under a new epoch and clears the poison marker. What
 * was there before is removed (who still maps it keeps its own view of it).
 */
int memory_dir_renew(struct memory_dir *dir, struct ms_err *err);

/* An environment that is not in use yet. */
struct memory_dir_aside {
    uint64_t epoch;
    char path[MEMORY_DIR_PATH_BYTES];
};

/*
 * Makes a new, empty environment directory beside the one in use. A crash before memory_dir_switch
 * leaves both; the next start finds the newer one and judges it like any other. MS_ENOSPC, MS_EIO.
 */
int memory_dir_begin(struct memory_dir *dir, struct memory_dir_aside *out, struct ms_err *err);

/* From now on it is the one in use. Returns the epoch that was. */
uint64_t memory_dir_switch(struct memory_dir *dir, const struct memory_dir_aside *aside);

/* Removes an environment that is not in use. Any thread. MS_EIO. */
int memory_dir_remove(const struct memory_dir *dir, uint64_t epoch, struct ms_err *err);

/* The environment in use, for STORE_OPENED; valid until another one is, or close. */
const char *memory_dir_path(const struct memory_dir *dir);
uint64_t memory_dir_epoch(const struct memory_dir *dir);

/* The bound that results from options and free room. */
uint64_t memory_dir_limit_bytes(const struct memory_dir *dir);

/* Why the data directory is used instead of memory_dir (worth a warning); NULL when it is not. */
const char *memory_dir_fallback(const struct memory_dir *dir);

/* The descriptor of the poison marker, for fatal_arm; borrowed, valid until close. */
int memory_dir_marker_fd(const struct memory_dir *dir);

#endif
