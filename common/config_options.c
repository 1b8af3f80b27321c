/*
 * config_options: the table of options, and how one value is checked and stored.
 */
#include "common/config_options.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/decimal.h"

#define ENVIRONMENT_PREFIX "METASTORE_"
#define ANY_MAX            ((uint64_t)INT64_MAX)
#define HOUR_MS            UINT64_C(3600000)
#define DAY_MS             (24 * HOUR_MS)

/* A message and its ring must stay within MS_RING_CAPACITY_MAX, with room for several. */
#define REQUEST_BYTES_MAX UINT64_C(67108864)

/* X(name, kind, field, default, min, max, traits, shape, help) */
#define OPTION_TABLE(X)                                                                            \
    X("id", NUMBER, id, "1", 1, ANY_MAX, PLAIN, "N",                                               \
      "this node's Raft id: its position in --cluster, counted from 1")                            \
    X("cluster", TEXT, cluster, "http://127.0.0.1:9021", 0, 0, PLAIN, "URLS",                      \
      "comma-separated peer URLs of all members")                                                  \
    X("port", NUMBER, port, "9121", 1, 65535, PLAIN, "P", "HTTP(S) API port")                      \
    X("listen", TEXT, listen, "127.0.0.1", 0, 0, PLAIN, "ADDR", "API address")                     \
    X("join", FLAG, join, "", 0, 0, PLAIN, "", "join a running cluster that knows this node")      \
    X("storage", CHOICE, storage, "memory", 0, 0, PLAIN, "memory|rocksdb", "state engine")         \
    X("rocksdb", FLAG, storage, "", 0, 0, SHORTHAND, "", "same as --storage rocksdb")              \
    X("raft-log", CHOICE, raft_log, "wal", 0, 0, PLAIN, "wal|rocksdb", "where the Raft log lives") \
    X("memory-dir", TEXT, memory_dir, "/dev/shm", 0, 0, PLAIN, "DIR",                              \
      "where the memory engine's file lies")                                                       \
    X("memory-limit", NUMBER, memory_limit_bytes, "0", 0, ANY_MAX, PLAIN, "BYTES",                 \
      "bound on that file; 0: half of what is free there")                                         \
    X("history", NUMBER, history, "100000", 0, ANY_MAX, RELOADS, "N",                              \
      "revisions kept readable before automatic compaction; 0: no compaction")                     \
    X("data-dir", TEXT, data_dir, "./data", 0, 0, PLAIN, "DIR", "node N keeps its data in DIR/N/") \
    X("admin-socket", TEXT, admin_socket, "", 0, 0, PLAIN, "PATH",                                 \
      "admin socket (default DIR/N/admin.sock)")                                                   \
    X("config", TEXT, config_file, "", 0, 0, NO_FILE, "FILE",                                      \
      "INI file with these options, without the dashes")                                           \
    X("tls-cert", TEXT, tls_cert, "", 0, 0, TLS, "FILE", "certificate chain: the API is HTTPS")    \
    X("tls-key", TEXT, tls_key, "", 0, 0, TLS, "FILE", "its private key")                          \
    X("tls-client-ca", TEXT, tls_client_ca, "", 0, 0, TLS, "FILE",                                 \
      "clients must show a certificate signed by one of these")                                    \
    X("cluster-key-file", TEXT, cluster_key_file, "", 0, 0, PLAIN, "FILE",                         \
      "the peers' shared key; needed when a peer is not on loopback")                              \
    X("snapshot-count", NUMBER, snapshot_count, "10000", 1, ANY_MAX, RELOADS, "N",                 \
      "applied entries between snapshots, at least")                                               \
    X("snapshot-catch-up-entries", NUMBER, snapshot_catch_up_entries, "5000", 0, ANY_MAX, RELOADS, \
      "N", "entries kept in the log for slow followers")                                           \
    X("heartbeat-interval", NUMBER, heartbeat_interval_ms, "100", 1, HOUR_MS, PLAIN, "MS",         \
      "time between heartbeats of the leader")                                                     \
    X("election-timeout", NUMBER, election_timeout_ms, "1000", 2, HOUR_MS, PLAIN, "MS",            \
      "silence after which a follower stands for election")                                        \
    X("request-timeout", NUMBER, request_timeout_ms, "5000", 1, HOUR_MS, PLAIN, "MS",              \
      "deadline of one client request")                                                            \
    X("max-request-bytes", NUMBER, max_request_bytes, "1572864", 1, REQUEST_BYTES_MAX, PLAIN, "N", \
      "larger requests are refused with 413")                                                      \
    X("read-mode", CHOICE, read_mode, "safe", 0, 0, PLAIN, "safe|lease",                           \
      "how linearizable reads are made; lease trusts the clocks' rate")                            \
    X("log-level", CHOICE, log_level, "info", 0, 0, RELOADS, "debug|info|warn|error",              \
      "least severe lines that are logged")                                                        \
    X("log-format", CHOICE, log_format, "text", 0, 0, PLAIN, "text|json", "form of the log lines") \
    X("api-workers", NUMBER, api_workers, "1", 1, MS_API_WORKERS_MAX, PLAIN, "N",                  \
      "processes that serve the API")                                                              \
    X("restart-intensity", NUMBER, restart_intensity, "10", 0, 1000000, HIDDEN, "N", "")           \
    X("restart-period", NUMBER, restart_period_ms, "60000", 1, DAY_MS, HIDDEN, "MS", "")           \
    X("liveness-deadline", NUMBER, liveness_deadline_ms, "2000", 100, HOUR_MS, HIDDEN, "MS", "")

static const struct ms_option options[] = {
#define OPTION_ROW(name_, kind_, field, fallback_, min_, max_, traits_, shape_, help_) \
    {.name = (name_),                                                                  \
     .kind = MS_OPTION_##kind_,                                                        \
     .traits = MS_OPTION_##traits_,                                                    \
     .offset = offsetof(struct ms_config, field),                                      \
     .size_bytes = sizeof(((struct ms_config *)NULL)->field),                          \
     .fallback = (fallback_),                                                          \
     .min = (min_),                                                                    \
     .max = (max_),                                                                    \
     .shape = (shape_),                                                                \
     .help = (help_)},
    OPTION_TABLE(OPTION_ROW)
#undef OPTION_ROW
};
#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))

const struct ms_option *ms_option_at(size_t position)
{
    return position < OPTION_COUNT ? &options[position] : NULL;
}

const struct ms_option *ms_option_find(const char *name, size_t name_bytes)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (strlen(options[i].name) == name_bytes &&
            memcmp(options[i].name, name, name_bytes) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

void ms_option_variable(const struct ms_option *option, char dst[MS_OPTION_NAME_BYTES])
{
    size_t at = sizeof(ENVIRONMENT_PREFIX) - 1;

    assert(at + strlen(option->name) < MS_OPTION_NAME_BYTES);
    memcpy(dst, ENVIRONMENT_PREFIX, at);
    for (const char *c = option->name; *c != '\0'; c++) {
        dst[at++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    }
    dst[at] = '\0';
}

/* ---- one value ----------------------------------------------------------------------------- */

/* Refuses a value: says where it stands, and what would have been right. */
__attribute__((format(printf, 4, 5))) static int refuse(const struct ms_option *option,
                                                        const struct ms_option_source *source,
                                                        struct ms_err *err, const char *format, ...)
{
    char what[256];
    char variable[MS_OPTION_NAME_BYTES];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    switch (source->origin) {
    case MS_ORIGIN_FILE:
        return ms_err_set(err, MS_EUSAGE, 0, "%s:%u: %s %s", source->file, source->line,
                          option->name, what);
    case MS_ORIGIN_ENVIRONMENT:
        ms_option_variable(option, variable);
        return ms_err_set(err, MS_EUSAGE, 0, "environment variable %s %s", variable, what);
    case MS_ORIGIN_ARGUMENT:
    case MS_ORIGIN_DEFAULT:
        break;
    }
    return ms_err_set(err, MS_EUSAGE, 0, "option --%s %s", option->name, what);
}

/* The position of text in "first|second|...", or -1. */
static int parse_choice(const char *choices, const char *text)
{
    size_t len_bytes = strlen(text);

    for (int position = 0;; position++) {
        size_t word_bytes = strcspn(choices, "|");

        if (word_bytes == len_bytes && memcmp(choices, text, len_bytes) == 0) {
            return position;
        }
        if (choices[word_bytes] == '\0') {
            return -1;
        }
        choices += word_bytes + 1;
    }
}

static int parse_flag(const char *text)
{
    /* Words and their opposites in turn: an even position means no. */
    int position = parse_choice("false|true|no|yes|off|on|0|1", text);

    return position < 0 ? -1 : position % 2;
}

static bool has_control_bytes(const char *text)
{
    for (; *text != '\0'; text++) {
        if (iscntrl((unsigned char)*text)) {
            return true;
        }
    }
    return false;
}

int ms_option_set(struct ms_config *config, const struct ms_option *option,
                  const struct ms_option_source *source, const char *value, struct ms_err *err)
{
    uint8_t *field = (uint8_t *)config + option->offset;
    uint64_t number;
    uint32_t word;
    int position;

    if (*value == '\0') {
        return refuse(option, source, err, "needs a value");
    }
    switch (option->kind) {
    case MS_OPTION_NUMBER:
        if (!ms_decimal_parse(value, strlen(value), &number) || number < option->min ||
            number > option->max) {
            return refuse(option, source, err,
                          "must be a number from %" PRIu64 " to %" PRIu64 ", not \"%.64s\"",
                          option->min, option->max, value);
        }
        memcpy(field, &number, sizeof(number));
        return MS_OK;
    case MS_OPTION_TEXT:
        if (strlen(value) >= option->size_bytes) {
            return refuse(option, source, err, "is longer than %zu bytes", option->size_bytes - 1);
        }
        if (has_control_bytes(value)) {
            return refuse(option, source, err, "holds control characters");
        }
        /* The whole field: what a longer value left behind would make equal settings differ. */
        memset(field, 0, option->size_bytes);
        memcpy(field, value, strlen(value));
        return MS_OK;
    case MS_OPTION_CHOICE:
    case MS_OPTION_FLAG:
        break;
    }
    position =
        option->kind == MS_OPTION_FLAG ? parse_flag(value) : parse_choice(option->shape, value);
    if (position < 0) {
        return refuse(option, source, err, "must be one of %s, not \"%.64s\"",
                      option->kind == MS_OPTION_FLAG ? "true|false" : option->shape, value);
    }
    if (position > 0 || (option->traits & MS_OPTION_SHORTHAND) == 0) {
        word = (uint32_t)position;
        memcpy(field, &word, sizeof(word));
    }
    return MS_OK;
}
