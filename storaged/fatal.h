/*
 * fatal: leaves a mark when this process dies of its own fault.
 *
 * After a stray write the memory engine's file cannot be trusted. The supervisor usually tells the
 * next storaged how this one ended; the mark is for when the supervisor died as well.
 */
#ifndef METASTORE_STORAGED_FATAL_H
#define METASTORE_STORAGED_FATAL_H

#include "common/err.h"

/*
 * From now on SIGSEGV, SIGBUS, SIGABRT, SIGILL and SIGFPE write one byte to marker_fd (borrowed for
 * ever) before they do what they did before. Also works when the stack of the calling thread has
 * run over. Once per process.
 */
int fatal_arm(int marker_fd, struct ms_err *err);

#endif
