/*
 * admin: what a test asks of and does to a node's workers.
 */
#ifndef METASTORE_TESTS_SUPPORT_ADMIN_H
#define METASTORE_TESTS_SUPPORT_ADMIN_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/support/node.h"

enum {
    ADMIN_WORKERS_MAX = 32
};

struct admin_worker {
    char name[32];
    pid_t pid;
    char state[32];
    uint64_t restarts;
};

/* A connection to the admin socket; fails the test if there is none. */
int admin_connect(const struct node *node);

/*
 * Sends one line and reads the answer up to its empty line (which is cut off) into out. Returns the
 * answer's length, or -1 when the node closed the connection instead.
 */
ssize_t admin_exchange(int fd, const char *line, char *out, size_t out_bytes);

/* One command on a connection of its own. */
void admin_command(const struct node *node, const char *line, char *out, size_t out_bytes);

/* `status --json`, parsed; json_decref it. */
json_t *admin_status(const struct node *node);

/* A number of the "node" part of the status. */
uint64_t admin_status_number(const struct node *node, const char *name);

/* All workers; returns how many. */
size_t admin_workers(const struct node *node, struct admin_worker *out, size_t max);

/* One of them by name. */
struct admin_worker admin_worker(const struct node *node, const char *name);

/* Sends a signal to a worker, waits for its end if the signal kills, and returns the pid it had. */
pid_t admin_kill_worker(const struct node *node, const char *name, int signal_number);

/* Waits until the worker runs under another pid than this one; returns the new one. */
pid_t admin_wait_replaced(const struct node *node, const char *name, pid_t old_pid);

#endif
