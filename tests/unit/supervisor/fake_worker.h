/*
 * fake_worker: a worker process that keeps the rules of the control channel and has no work, so
 * that supervision can be tested without the real ones. It is ready only when a message went forth
 * and back on each of an apid's links.
 *
 * The variable FAKE_RAFTD (FAKE_STORAGED, FAKE_APID) makes it misbehave:
 *
 *   exit:N    leaves with status N before it is ready
 *   freeze    is stopped before it is ready, in its first incarnation
 *   mute      answers nothing once it is ready, with all signals but SIGKILL and SIGABRT ignored
 *   stubborn  does not leave when told to stop
 *   accuse    tells the supervisor that storaged broke the protocol, once in the node's life
 *   liar      says READY twice
 *   orphan    leaves a process behind that has ended, for PID 1 to reap
 */
#ifndef METASTORE_TESTS_UNIT_SUPERVISOR_FAKE_WORKER_H
#define METASTORE_TESTS_UNIT_SUPERVISOR_FAKE_WORKER_H

/* Plays the role of that name on MS_FD_CONTROL; returns the exit status. */
int fake_worker_main(const char *name);

#endif
