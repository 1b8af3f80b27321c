/*
 * process: the event loop of raftd.
 *
 * A thin shell: it turns descriptors and timers of libuv and the supervisor's messages into calls
 * of the node, and the node's outcome into an exit status.
 */
#ifndef METASTORE_RAFTD_PROCESS_H
#define METASTORE_RAFTD_PROCESS_H

#include "common/worker.h"

/*
 * Runs until the supervisor says stop or the node cannot go on (which is logged). Returns an
 * enum ms_exit. worker is borrowed and has no handlers yet.
 */
int raftd_process_run(struct ms_worker *worker);

#endif
