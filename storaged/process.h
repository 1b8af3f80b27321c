/*
 * process: storaged as a process: the event loop around a node, and the supervisor's orders.
 */
#ifndef METASTORE_STORAGED_PROCESS_H
#define METASTORE_STORAGED_PROCESS_H

#include "common/worker.h"

/* Runs until told to stop or unable to go on; returns an enum ms_exit. */
int storaged_process_run(struct ms_worker *worker);

#endif
