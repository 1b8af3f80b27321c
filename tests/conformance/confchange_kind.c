/*
 * confchange_kind: scripts about which configuration may follow which, on a bare configuration.
 */
#include "raftd/core/confchange.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raftd/core/raft.h"
#include "tests/conformance/describe.h"
#include "tests/conformance/kinds.h"

#define CONF_TEXT_MAX RAFT_LOG_LINE_MAX

struct state {
    struct tracker tracker;
    uint64_t steps; /* taken so far: where probing of new members starts */
};

/* ---- changes as text ---- */

static bool parse_id(const char *text, uint64_t *id, char *error)
{
    struct buffer quoted = {0};
    bool digits = *text != '\0' && strspn(text, "0123456789") == strlen(text);

    if (script_number(text, id)) {
        return true;
    }
    describe_quoted(&quoted, text, strlen(text));
    (void)snprintf(error, KIND_ERROR_BYTES, "strconv.ParseUint: parsing %.256s: %s",
                   buffer_text(&quoted), digits ? "value out of range" : "invalid syntax");
    buffer_fini(&quoted);
    return false;
}

static bool parse_change(const char *word, struct raft_change *change, char *error)
{
    static const char letters[] = "vrul"; /* in the order of enum raft_change_type */
    const char *letter;

    if (strlen(word) < 2) {
        (void)snprintf(error, KIND_ERROR_BYTES, "unknown token %s", word);
        return false;
    }
    letter = strchr(letters, word[0]);
    if (letter == NULL) {
        (void)snprintf(error, KIND_ERROR_BYTES, "unknown input: %.200s", word);
        return false;
    }
    change->type = (enum raft_change_type)(letter - letters);
    return parse_id(word + 1, &change->id, error);
}

bool kind_parse_changes(const char *text, struct raft_change *changes, size_t max, size_t *count,
                        char *error)
{
    bool more = *text != '\0';

    *count = 0;
    while (more) {
        size_t len = strcspn(text, " ");
        struct buffer word = {0};
        bool parsed = false;

        buffer_add_bytes(&word, text, len);
        if (*count == max) {
            (void)snprintf(error, KIND_ERROR_BYTES, "too many changes");
        } else {
            parsed = parse_change(buffer_text(&word), &changes[*count], error);
        }
        buffer_fini(&word);
        if (!parsed) {
            return false;
        }
        (*count)++;
        more = text[len] == ' ';
        text += len + 1;
    }
    return true;
}

/* ---- commands ---- */

static void *confchange_create(uint64_t seed)
{
    struct state *state = buffer_alloc(sizeof(*state));

    (void)seed;
    memset(state, 0, sizeof(*state));
    state->tracker.max_inflight_messages = 10;
    return state;
}

static void confchange_destroy(void *state)
{
    free(state);
}

static void print_tracker(const struct tracker *tracker, struct buffer *out)
{
    char buffer[CONF_TEXT_MAX];
    struct text text;

    core_text_init(&text, buffer, sizeof(buffer));
    core_text_conf(&text, &tracker->conf);
    buffer_add(out, "%s\n", buffer);
    for (size_t i = 0; i < tracker->count; i++) {
        core_text_init(&text, buffer, sizeof(buffer));
        progress_text(&text, &tracker->peers[i]);
        buffer_add(out, "%" PRIu64 ": %s\n", tracker->peers[i].id, buffer);
    }
}

static int confchange_run(void *state, const struct script_step *step, struct buffer *out,
                          char *error)
{
    struct state *s = state;
    struct tracker next = s->tracker;
    raft_index last_index = s->steps++;
    struct raft_change changes[RAFT_CHANGES_MAX];
    const struct script_arg *arg = script_find(step, "autoleave");
    char text[KIND_ERROR_BYTES];
    const char *reason = "";
    bool auto_leave = false;
    size_t count;
    int rc;

    if (arg != NULL && (arg->value_count != 1 || !script_bool(arg->values[0], &auto_leave))) {
        (void)snprintf(error, KIND_ERROR_BYTES, "autoleave= must be true or false");
        return MS_EINVAL;
    }
    if (!kind_parse_changes(step->input, changes, RAFT_CHANGES_MAX, &count, text)) {
        buffer_add(out, "%s\n", text);
        return MS_OK;
    }
    if (strcmp(step->command, "simple") == 0) {
        rc = confchange_simple(&next, last_index, changes, count, &reason);
    } else if (strcmp(step->command, "enter-joint") == 0) {
        rc = confchange_enter_joint(&next, last_index, auto_leave, changes, count, &reason);
    } else if (strcmp(step->command, "leave-joint") == 0) {
        if (count > 0) {
            reason = "this command takes no input";
            rc = MS_EINVAL;
        } else {
            rc = confchange_leave_joint(&next, &reason);
        }
    } else {
        buffer_add(out, "unknown command");
        return MS_OK;
    }
    if (rc != MS_OK) {
        buffer_add(out, "%s\n", reason);
    } else {
        s->tracker = next;
        print_tracker(&next, out);
    }
    return MS_OK;
}

static const char *const commands[] = {"simple", "enter-joint", "leave-joint", NULL};

const struct kind kind_confchange = {
    .name = "confchange",
    .commands = commands,
    .create = confchange_create,
    .destroy = confchange_destroy,
    .run = confchange_run,
};
