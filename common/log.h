/*
 * log: one line per event on standard error, text or JSON, the same fields in both.
 *
 *   2026-11-21T02:20:00.123Z info raftd msg="became leader" term=2 commit=6
 *
 * One write(2) per line, so that lines of several processes never mix. Values of keys are never
 * logged; keys only at debug.
 */
#ifndef METASTORE_COMMON_LOG_H
#define METASTORE_COMMON_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

enum ms_log_level {
    MS_LOG_DEBUG = 0,
    MS_LOG_INFO = 1,
    MS_LOG_WARN = 2,
    MS_LOG_ERROR = 3,
};

enum ms_log_format {
    MS_LOG_TEXT = 0,
    MS_LOG_JSON = 1,
};

enum ms_log_field_type {
    MS_LOG_FIELD_U64,
    MS_LOG_FIELD_I64,
    MS_LOG_FIELD_STR,
};

struct ms_log_field {
    const char *name;
    enum ms_log_field_type type;
    union {
        uint64_t u64;
        int64_t i64;
        const char *str; /* may be NULL; escaped as the format needs */
    } value;
};

#define MS_F_U64(name_, v) \
    ((struct ms_log_field){.name = (name_), .type = MS_LOG_FIELD_U64, .value.u64 = (uint64_t)(v)})
#define MS_F_I64(name_, v) \
    ((struct ms_log_field){.name = (name_), .type = MS_LOG_FIELD_I64, .value.i64 = (int64_t)(v)})
#define MS_F_STR(name_, v) \
    ((struct ms_log_field){.name = (name_), .type = MS_LOG_FIELD_STR, .value.str = (v)})

/* Once per process, first thing. process is "metastore", "raftd" ...; borrowed for ever. */
void ms_log_init(const char *process, enum ms_log_format format, enum ms_log_level level);

/* May be called at any time, from any thread. */
void ms_log_set_level(enum ms_log_level level);
enum ms_log_level ms_log_get_level(void);

/* "debug", "info", "warn", "error". MS_EINVAL for anything else. */
int ms_log_level_parse(const char *text, enum ms_log_level *out);
const char *ms_log_level_name(enum ms_log_level level);

/* Writes one line unless level is below the set one. Thread-safe. msg is a constant phrase. */
void ms_log_write(enum ms_log_level level, const char *msg, const struct ms_log_field *fields,
                  size_t field_count);

/* ms_log(MS_LOG_INFO, "became leader", MS_F_U64("term", term), ...); at least one field. */
#define ms_log(level, msg, ...)                                              \
    ms_log_write((level), (msg), (const struct ms_log_field[]){__VA_ARGS__}, \
                 sizeof((const struct ms_log_field[]){__VA_ARGS__}) / sizeof(struct ms_log_field))

/* A line without fields. */
#define ms_log_plain(level, msg) ms_log_write((level), (msg), NULL, 0)

/* One line with the error's text as error="...". */
void ms_log_err(enum ms_log_level level, const char *msg, const struct ms_err *err);

#endif
