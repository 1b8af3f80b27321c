/*
 * kinds: the three kinds of scripts, each with its own commands.
 */
#ifndef METASTORE_TESTS_CONFORMANCE_KINDS_H
#define METASTORE_TESTS_CONFORMANCE_KINDS_H

#include "tests/conformance/buffer.h"
#include "tests/conformance/script.h"

#define KIND_ERROR_BYTES 320

struct raft_change; /* raftd/core/raft.h */

struct kind {
    const char *name;            /* also of the folder where such scripts are kept */
    const char *const *commands; /* ends in NULL; empty: whatever the other kinds do not know */
    void *(*create)(uint64_t seed);
    void (*destroy)(void *state);
    /*
     * Runs one step; out gets its output. MS_EINVAL with error (KIND_ERROR_BYTES) if the step
     * makes no sense or the core failed in a way that no output can express.
     */
    int (*run)(void *state, const struct script_step *step, struct buffer *out, char *error);
};

extern const struct kind kind_interaction;
extern const struct kind kind_quorum;
extern const struct kind kind_confchange;

/*
 * "v1 l2 r3 u4" to changes; *count is how many. false with error (KIND_ERROR_BYTES) for
 * anything else.
 */
bool kind_parse_changes(const char *text, struct raft_change *changes, size_t max, size_t *count,
                        char *error);

#endif
