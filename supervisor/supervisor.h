/*
 * supervisor: one node, from its configuration to its exit status.
 *
 * Owns what must outlive a worker: the data dir's lock, the listening sockets, the shared pages,
 * the admin socket, the children. It never looks into a ring, at a key or at the Raft log: a
 * worker's bug must not reach it.
 */
#ifndef METASTORE_SUPERVISOR_SUPERVISOR_H
#define METASTORE_SUPERVISOR_SUPERVISOR_H

#include "common/config.h"
#include "common/exit_codes.h"

struct supervisor_options {
    /* Borrowed; read again for every reload. */
    int argc;
    char *const *argv;
    char *const *environment;
    struct ms_config config; /* as loaded from them */
};

/*
 * Runs the node in the calling thread until it is told to stop (SIGTERM, SIGINT, the admin socket),
 * cannot run or gives up. Takes over SIGTERM, SIGINT, SIGHUP and SIGCHLD, and reaps every child of
 * the process. Logs what happens. Workers are this executable with PROCESS_WORKER_MARK: its main()
 * must know it.
 */
enum ms_exit supervisor_run(const struct supervisor_options *options);

/*
 * Blocks the signals that supervisor_run handles, until it does. The first thing a program does:
 * one that comes while it is still reading its configuration then stops it in order, with status 0.
 */
void supervisor_hold_signals(void);

#endif
