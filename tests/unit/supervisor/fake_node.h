/*
 * fake_node: a real supervisor with fake workers, as a process under a test.
 *
 * The test binary is the program: its main() must hand over to fake_node_main first.
 */
#ifndef METASTORE_TESTS_UNIT_SUPERVISOR_FAKE_NODE_H
#define METASTORE_TESTS_UNIT_SUPERVISOR_FAKE_NODE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FAKE_NODE_DEADLINE_MS 30000 /* for one event */

struct fake_node {
    char base[64]; /* temporary directory */
    char admin_path[96];
    char log_path[96];
    uint16_t port;
    int notify_fd; /* where sd_notify ends up */
    pid_t pid;     /* 0 when it has been waited for */
    int pidfd;
};

/* -1 if the process is to run the tests; else it was a node or a worker, and this its exit status.
 */
int fake_node_main(int argc, char *argv[]);

/* For TestSuite's init and fini: a directory, and the end of whatever is left. */
void fake_node_set_up(struct fake_node *node);
void fake_node_clean_up(struct fake_node *node);

/*
 * Starts the node. arguments and environment ("NAME=value") end in NULL and may be NULL; new_pids
 * makes it PID 1 of a PID namespace (returns false where that is not permitted).
 */
bool fake_node_start(struct fake_node *node, const char *const *arguments,
                     const char *const *environment, bool new_pids);

/* Waits until the service manager is told something that has this part. Fails the test if not. */
void fake_node_wait_notify(struct fake_node *node, const char *part);

/* READY=1, which comes when all workers are running. */
void fake_node_wait_ready(struct fake_node *node);

/* Sends a signal to the supervisor. */
void fake_node_signal(struct fake_node *node, int signo);

/* Waits for the end: exit status, or 128 + signal. */
int fake_node_wait_exit(struct fake_node *node);

/* The answer to one admin line without the empty line at its end, valid until the next call. */
const char *fake_node_admin(struct fake_node *node, const char *line);

/* A connection to the admin socket. */
int fake_node_admin_connect(struct fake_node *node);

/* A number of one worker from `workers`: "pid", "restarts", ... */
int64_t fake_node_worker(struct fake_node *node, const char *worker, const char *field);

/* Waits until the worker was restarted at least so often and all workers are running. */
void fake_node_wait_restarts(struct fake_node *node, const char *worker, int64_t restarts);

/* What the node and its workers have logged, valid until the next call. */
const char *fake_node_log(struct fake_node *node);
bool fake_node_log_has(struct fake_node *node, const char *part);

#endif
