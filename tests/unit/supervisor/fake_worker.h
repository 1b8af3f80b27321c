/*
 * fake_worker: a worker process that keeps the rules of the control channel and has no work, so
 * that supervision can be tested without the real ones. It is ready only when a message went forth
 * and back on each of an apid's links.
 *
 * The variable FAKE_RAFTD (FAKE_STORAGED, FAKE_APID) makes it misbehave:
 *
 *   exit:N    leaves with status N before it is ready
 *   needs:F   says that it cannot run, before it is ready, unless there is a file F
 *   picky     refuses every reload
 *   dies-of-reload  as it says
 *   freeze    is stopped before it is ready, in its first incarnation
 *   mute      answers nothing once it is ready, with all signals but SIGKILL and SIGABRT ignored
 *   stubborn  does not leave when told to stop
 *   accuse    tells the supervisor that storaged broke the protocol, once in the node's life
 *   liar      says READY twice
 *   orphan    leaves a process behind that has ended, for PID 1 to reap
 *
 * A fake raftd answers requests for the membership by the id in them, see fake_worker.c, and each
 * worker logs which cluster key it was given. FAKE_NODE, with any value, sends the node a SIGTERM
 * before it has done anything.
 */
#ifndef METASTORE_TESTS_UNIT_SUPERVISOR_FAKE_WORKER_H
#define METASTORE_TESTS_UNIT_SUPERVISOR_FAKE_WORKER_H

/* Ids with a meaning; a request for another one is granted. */
enum fake_member {
    FAKE_MEMBER_UNKNOWN = 404, /* refused, with this number in the text */
    FAKE_MEMBER_SILENT = 408,  /* never answered */
    FAKE_MEMBER_DEADLY = 410,  /* raftd dies of it */
    FAKE_MEMBER_SELF = 499,    /* granted; the node itself is removed by it */
};

/* Plays the role of that name on MS_FD_CONTROL; returns the exit status. */
int fake_worker_main(const char *name);

#endif
