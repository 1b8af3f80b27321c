/*
 * quorum_kind: scripts about what majorities and joint majorities have agreed on.
 */
#include "raftd/core/quorum.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "raftd/core/tracker.h"
#include "tests/conformance/kinds.h"

/* One step's arguments. */
struct question {
    struct raft_ids incoming; /* ascending */
    struct raft_ids outgoing;
    struct raft_ids order; /* as written, without repetition: whose the values are */
    uint64_t values[RAFT_MEMBERS_MAX];
    bool known[RAFT_MEMBERS_MAX];
    size_t value_count;
    bool joint;
};

static int fail(char *error, const char *what, const char *text)
{
    (void)snprintf(error, KIND_ERROR_BYTES, "%s: %.200s", what, text);
    return MS_EINVAL;
}

/* ---- arguments ---- */

static int add_voter(struct question *question, struct raft_ids *half, const char *text,
                     char *error)
{
    uint64_t id;

    if (!script_number(text, &id)) {
        return fail(error, "not an id", text);
    }
    if (!core_ids_contain(&question->order, id)) {
        if (question->order.count == RAFT_MEMBERS_MAX) {
            return fail(error, "too many ids", text);
        }
        question->order.ids[question->order.count++] = id;
    }
    return core_ids_add(half, id) == MS_OK ? MS_OK : fail(error, "too many ids", text);
}

static int add_value(struct question *question, const char *text, bool vote, char *error)
{
    uint64_t value = 0;
    bool known = strcmp(text, "_") != 0;

    if (question->value_count == RAFT_MEMBERS_MAX) {
        return fail(error, "too many values", text);
    }
    if (known && vote) {
        if (strcmp(text, "y") != 0 && strcmp(text, "n") != 0) {
            return fail(error, "unknown vote", text);
        }
        value = text[0] == 'y' ? QUORUM_VOTE_YES : QUORUM_VOTE_NO;
    } else if (known && (!script_number(text, &value) || value == 0)) {
        return fail(error, "not an index above 0", text);
    }
    question->values[question->value_count] = value;
    question->known[question->value_count++] = known;
    return MS_OK;
}

/* The outgoing half comes after the incoming one, however they are written. */
static int read_question(const struct script_step *step, struct question *question, char *error)
{
    static const char *const keys[] = {"cfg", "cfgj", "idx", "votes"};
    size_t found = 0;

    for (size_t k = 0; k < 4; k++) {
        for (size_t i = 0; i < step->arg_count; i++) {
            const struct script_arg *arg = &step->args[i];

            if (strcmp(arg->key, keys[k]) != 0) {
                continue;
            }
            found++;
            question->joint |= k == 1;
            for (size_t v = 0; v < arg->value_count; v++) {
                int rc = MS_OK;

                if (k == 1 && strcmp(arg->values[v], "zero") == 0) {
                    continue;
                }
                if (k < 2) {
                    rc = add_voter(question, k == 0 ? &question->incoming : &question->outgoing,
                                   arg->values[v], error);
                } else {
                    rc = add_value(question, arg->values[v], k == 3, error);
                }
                if (rc != MS_OK) {
                    return rc;
                }
            }
        }
    }
    if (found < step->arg_count) {
        return fail(error, "unknown argument in", step->directive);
    }
    if (question->value_count != question->order.count) {
        return fail(error, "not one value for each id", step->directive);
    }
    return MS_OK;
}

/* ---- answers ---- */

static size_t position_of(const struct question *question, node_id id)
{
    size_t at = 0;

    while (question->order.ids[at] != id) {
        at++;
    }
    return at;
}

static raft_index acked(const void *ctx, node_id id)
{
    const struct question *question = ctx;

    return question->values[position_of(question, id)];
}

static enum quorum_vote voted(const void *ctx, node_id id)
{
    return (enum quorum_vote)acked(ctx, id);
}

/* How many come before id when sorted by (index, id), where equal indexes share the first one's. */
static size_t bar_of(const struct question *question, node_id id)
{
    size_t bar = 0;

    for (size_t i = 0; i < question->order.count; i++) {
        bar += question->values[i] < acked(question, id);
    }
    return bar;
}

static void print_table(const struct question *question, struct buffer *out)
{
    struct raft_ids all;
    int n;

    (void)core_ids_union(&question->incoming, &question->outgoing, &all); /* fits: see order */
    n = (int)all.count;
    if (n == 0) {
        buffer_add(out, "<empty majority quorum>");
        return;
    }
    buffer_add(out, "%*s    idx\n", n, "");
    for (size_t i = 0; i < all.count; i++) {
        size_t at = position_of(question, all.ids[i]);
        int bar = (int)bar_of(question, all.ids[i]);

        if (question->known[at]) {
            for (int x = 0; x < bar; x++) {
                buffer_add(out, "x");
            }
            buffer_add(out, ">%*s", n - bar, "");
        } else {
            buffer_add(out, "?%*s", n, "");
        }
        buffer_add(out, " %5" PRIu64 "    (id=%" PRIx64 ")\n", question->values[at], all.ids[i]);
    }
}

static void print_committed(const struct question *question, struct buffer *out)
{
    raft_index index =
        quorum_joint_committed(&question->incoming, &question->outgoing, acked, question);

    print_table(question, out);
    if (index == UINT64_MAX) {
        buffer_add(out, "∞\n");
    } else {
        buffer_add(out, "%" PRIu64 "\n", index);
    }
}

static void print_vote(const struct question *question, struct buffer *out)
{
    static const char *const names[] = {
        [QUORUM_PENDING] = "VotePending",
        [QUORUM_WON] = "VoteWon",
        [QUORUM_LOST] = "VoteLost",
    };

    buffer_add(
        out, "%s\n",
        names[quorum_joint_tally(&question->incoming, &question->outgoing, voted, question)]);
}

static void *quorum_create(uint64_t seed)
{
    (void)seed;
    return NULL; /* steps are independent */
}

static void quorum_destroy(void *state)
{
    (void)state;
}

static int quorum_run(void *state, const struct script_step *step, struct buffer *out, char *error)
{
    struct question question;
    int rc;

    (void)state;
    memset(&question, 0, sizeof(question));
    rc = read_question(step, &question, error);
    if (rc != MS_OK) {
        return rc;
    }
    if (strcmp(step->command, "committed") == 0) {
        print_committed(&question, out);
    } else if (strcmp(step->command, "vote") == 0) {
        print_vote(&question, out);
    } else {
        return fail(error, "unknown command", step->command);
    }
    return MS_OK;
}

static const char *const commands[] = {"committed", "vote", NULL};

const struct kind kind_quorum = {
    .name = "quorum",
    .commands = commands,
    .create = quorum_create,
    .destroy = quorum_destroy,
    .run = quorum_run,
};
