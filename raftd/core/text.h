/*
 * text: the little formatting that log lines need, without stdio.
 *
 * Understands %s, %lu and %lx (64 bit) and %%, nothing else. Output beyond the buffer is cut
 * off; the result always ends in 0.
 */
#ifndef METASTORE_RAFTD_CORE_TEXT_H
#define METASTORE_RAFTD_CORE_TEXT_H

#include "raftd/core/raft.h"

_Static_assert(sizeof(unsigned long) == sizeof(uint64_t), "%lu must take a uint64_t");

struct text {
    char *dst;
    size_t capacity; /* terminating 0 included; > 0 */
    size_t len;
};

void core_text_init(struct text *text, char *dst, size_t capacity);
void core_text_str(struct text *text, const char *str);
void core_text_dec(struct text *text, uint64_t number);
void core_text_hex(struct text *text, uint64_t number);
/* "(1 2 a)": ids in the order given. */
void core_text_ids(struct text *text, const struct raft_ids *ids);
/* "voters=(1 2)&&(1) learners=(3) autoleave" and so on. */
void core_text_conf(struct text *text, const struct raft_conf_state *conf);

/* Where log lines go, and which. */
struct logger {
    void (*write)(void *ctx, enum raft_log_level level, const char *line);
    void *ctx;
    enum raft_log_level level;
};

/* Whether a line of this level would be written, for callers that prepare expensive text. */
bool core_logger_on(const struct logger *logger, enum raft_log_level level);
void core_logger_write(const struct logger *logger, enum raft_log_level level, const char *format,
                       ...) __attribute__((format(printf, 3, 4)));

#endif
