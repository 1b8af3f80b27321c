/*
 * config: the options of a node, from command line, environment, file and defaults.
 *
 * One table gives name, type, limits, default and help text of every option; parsing, --help,
 * METASTORE_* variables and the INI file all read it. The result is plain data, so that the
 * supervisor can hand it to workers as bytes.
 */
#ifndef METASTORE_COMMON_CONFIG_H
#define METASTORE_COMMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define MS_CONFIG_PATH_BYTES    1024
#define MS_CONFIG_CLUSTER_BYTES 4096
#define MS_CONFIG_ADDR_BYTES    256
#define MS_API_WORKERS_MAX      16
#define MS_CONFIG_NAMES_BYTES   1024 /* all options' names in a row */

enum ms_storage_kind {
    MS_STORAGE_MEMORY = 0,
    MS_STORAGE_ROCKSDB = 1,
};

enum ms_raft_log_kind {
    MS_RAFT_LOG_WAL = 0,
    MS_RAFT_LOG_ROCKSDB = 1,
};

enum ms_read_mode {
    MS_READ_SAFE = 0,
    MS_READ_LEASE = 1,
};

struct ms_config {
    uint64_t id;
    uint64_t port;
    uint64_t memory_limit_bytes; /* 0: half of what is free in memory_dir at start */
    uint64_t history;
    uint64_t snapshot_count;
    uint64_t snapshot_catch_up_entries;
    uint64_t heartbeat_interval_ms;
    uint64_t election_timeout_ms;
    uint64_t request_timeout_ms;
    uint64_t max_request_bytes;
    uint64_t api_workers;
    uint64_t restart_intensity;    /* own-fault deaths ... */
    uint64_t restart_period_ms;    /* ... within this long before the supervisor gives up */
    uint64_t liveness_deadline_ms; /* an unanswered ping older than this aborts the worker */
    uint32_t storage;              /* enum ms_storage_kind */
    uint32_t raft_log;             /* enum ms_raft_log_kind */
    uint32_t read_mode;            /* enum ms_read_mode */
    uint32_t log_level;            /* enum ms_log_level */
    uint32_t log_format;           /* enum ms_log_format */
    uint32_t join;
    char cluster[MS_CONFIG_CLUSTER_BYTES];
    char listen[MS_CONFIG_ADDR_BYTES];
    char memory_dir[MS_CONFIG_PATH_BYTES];
    char data_dir[MS_CONFIG_PATH_BYTES]; /* as given; the node's own is node_dir */
    char node_dir[MS_CONFIG_PATH_BYTES]; /* absolute DIR/N, set by ms_config_resolve */
    char admin_socket[MS_CONFIG_PATH_BYTES];
    char config_file[MS_CONFIG_PATH_BYTES];
    char tls_cert[MS_CONFIG_PATH_BYTES];
    char tls_key[MS_CONFIG_PATH_BYTES];
    char tls_client_ca[MS_CONFIG_PATH_BYTES];
    char cluster_key_file[MS_CONFIG_PATH_BYTES];
};

enum ms_config_action {
    MS_CONFIG_RUN,
    MS_CONFIG_SHOW_HELP,
    MS_CONFIG_SHOW_VERSION,
};

/*
 * Reads everything: defaults, then the file (named by --config or METASTORE_CONFIG), then environ,
 * then argv. Checks each value against its limits and the whole for contradictions (for instance
 * --tls-cert without --tls-key, id beyond --cluster without --join, peers off loopback without a
 * key, election timeout not above heartbeat). MS_EUSAGE: err's text names the option, its source
 * and what is allowed. MS_ENOENT / MS_EIO: the file cannot be read.
 */
int ms_config_load(int argc, char *const argv[], char *const environment[], struct ms_config *out,
                   enum ms_config_action *action, struct ms_err *err);

/*
 * Again from the same sources for SIGHUP. Options that cannot change at run time keep the value in
 * *current; fixed gets the names of those that differ, as "port, listen", or "".
 */
int ms_config_reload(int argc, char *const argv[], char *const environment[],
                     struct ms_config *current, char fixed[static MS_CONFIG_NAMES_BYTES],
                     struct ms_err *err);

/* The text of --help: every option with its default. Returns the length as snprintf does. */
int ms_config_help(char *dst, size_t dst_bytes);

/*
 * Splits --cluster: the n-th URL (1-based) into dst, without a slash at its end. MS_ENOENT past the
 * end, MS_EINVAL malformed.
 */
int ms_config_cluster_url(const struct ms_config *config, uint64_t id, char *dst, size_t dst_bytes);
uint64_t ms_config_cluster_size(const struct ms_config *config);

/*
 * This node's own URL: the one at position id. A node that joins with an id beyond the list, which
 * may be any number, is the last one. Errors as above.
 */
int ms_config_own_url(const struct ms_config *config, char *dst, size_t dst_bytes);

#endif
