/*
 * node: a real metastore process in a directory of its own, from start to the last worker's end.
 *
 * Readiness is an event (the READY=1 datagram that systemd would get), so is the end of a process
 * (its pidfd); nothing here sleeps. Whatever happens to the test, its processes die with it: the
 * supervisor by a parent-death signal, the rest by a caretaker process that outlives the test,
 * which also removes the directories.
 */
#ifndef METASTORE_TESTS_SUPPORT_NODE_H
#define METASTORE_TESTS_SUPPORT_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "tests/support/files.h"

/* For one event. Generous: sanitizers and a busy machine make everything slow. */
enum {
    NODE_DEADLINE_MS = 60000
};

struct node {
    uint16_t port;
    char url[64];         /* http://127.0.0.1:PORT */
    char dir[128];        /* everything below is in it */
    char data_dir[160];   /* --data-dir */
    char node_dir[192];   /* data_dir/1 */
    char memory_dir[128]; /* --memory-dir, in /dev/shm */
    char log_path[192];   /* standard error of all starts, one after the other */
    char admin_path[224]; /* node_dir/admin.sock */
    char ready_path[192]; /* NOTIFY_SOCKET */
    int ready_fd;         /* receives the datagrams */
    pid_t pid;            /* the supervisor; 0: none */
    int pid_fd;
    int caretaker_fd; /* closed: the caretaker acts */
    pid_t caretaker;
    bool passed;
};

struct node_launch {
    const char *const *arguments;   /* after the usual ones; NULL-terminated */
    const char *const *environment; /* NAME=value beside the inherited ones; NULL-terminated */
    bool bare;                      /* without the usual --port, --data-dir, --memory-dir */
    bool keep_port_closed;          /* listen_fd is handed over as systemd would: LISTEN_FDS=1 */
    int listen_fd;                  /* with keep_port_closed */
    rlim_t file_bytes_max;          /* RLIMIT_FSIZE; 0: unlimited */
};

/* Directories and a free port; starts nothing. */
void node_init(struct node *node);

/* Starts it and waits until it is ready; arguments (NULL-terminated) come after the usual ones. */
void node_start(struct node *node, ...) __attribute__((sentinel));

/* The same in two steps, for a start that may fail. */
void node_spawn(struct node *node, const struct node_launch *launch);
void node_wait_ready(struct node *node);

/*
 * Waits for a datagram with this line in it ("READY=1", "STOPPING=1"); others are skipped. False if
 * the node ended or the deadline passed first. line_out (may be NULL) gets the whole datagram.
 */
bool node_wait_notify(struct node *node, const char *line, int timeout_ms, char *out,
                      size_t out_bytes);

/* Waits for the supervisor's end: its exit status, or 128 + signal. */
int node_wait_exit(struct node *node, int timeout_ms);

/* Spawns with the arguments, expects an end by itself, and returns the exit status. */
int node_run(struct node *node, const struct node_launch *launch);

/* SIGTERM, and fails the test unless it exits with 0. */
void node_stop(struct node *node);

/* kill -9 of supervisor and workers at once, and waits until all of them are gone. */
void node_kill_all(struct node *node);

/* What a power cut leaves: node_kill_all, then all that was in memory is gone. */
void node_power_cut(struct node *node);
/* The second half of it, for a node that does not run any more. */
void node_forget_memory(const struct node *node);

/* At the end of a test that went well: node_stop unless it ended already. */
void node_finish(struct node *node);

/* After every test: ends and removes what is left; prints the log unless node_finish was reached.
 */
void node_fini(struct node *node);

/* Whether the log holds the text; node_log returns all of it (free()). */
bool node_log_has(const struct node *node, const char *text);
char *node_log(const struct node *node);

/* $MS_BINARY, $MS_CTL: absolute paths of what is tested. */
const char *node_binary(void);
const char *node_ctl(void);

/*
 * Runs a program to its end (argv NULL-terminated, argv[0] its path); out gets what it printed on
 * both outputs. Returns its exit status, or 128 + signal.
 */
int node_command(const char *const argv[], char *out, size_t out_bytes);

/* A TCP port of 127.0.0.1 that nobody uses now. */
uint16_t node_free_port(void);

/* Waits for the end of a process that may not be our child; false at the deadline. */
bool node_wait_gone(pid_t pid, int timeout_ms);

#endif
