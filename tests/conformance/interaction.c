/*
 * interaction: the commands that drive a cluster.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/err.h"
#include "raftd/core/core.h"
#include "tests/conformance/commands.h"
#include "tests/conformance/describe.h"
#include "tests/conformance/kinds.h"
#include "tests/conformance/world.h"

#define RECIPIENTS_MAX 256

static const char *const level_names[] = {"DEBUG", "INFO", "WARN", "ERROR", "FATAL", "NONE"};
#define LEVELS (sizeof(level_names) / sizeof(level_names[0]))

/* All nodes named by an argument without value; the caller frees. NULL if the script is broken. */
static struct world_node **nodes_of(struct world *world, const struct script_step *step,
                                    size_t *count)
{
    struct world_node **nodes = buffer_alloc((step->arg_count + 1) * sizeof(struct world_node *));

    *count = 0;
    for (size_t i = 0; i < step->arg_count; i++) {
        struct world_node *node;

        if (step->args[i].has_values) {
            continue;
        }
        node = command_node_at(world, step, i);
        if (node == NULL) {
            free(nodes);
            return NULL;
        }
        nodes[(*count)++] = node;
    }
    return nodes;
}

/* ---- elections, time, leadership ---- */

static void campaign(struct world *world, const struct script_step *step)
{
    struct world_node *node = command_node_at(world, step, 0);

    if (node != NULL) {
        command_check(world, raft_campaign(node->raft));
    }
}

static void tick(struct world *world, const struct script_step *step, unsigned ticks)
{
    struct world_node *node = command_node_at(world, step, 0);

    for (unsigned i = 0; node != NULL && i < ticks && !world_stopped(world); i++) {
        command_check(world, raft_tick(node->raft));
    }
}

static void tick_election(struct world *world, const struct script_step *step)
{
    tick(world, step, COMMAND_ELECTION_TICKS);
}

static void tick_heartbeat(struct world *world, const struct script_step *step)
{
    tick(world, step, COMMAND_HEARTBEAT_TICKS);
}

static void set_election_timeout(struct world *world, const struct script_step *step)
{
    struct world_node *node = command_node_at(world, step, 0);
    uint64_t ticks;

    if (node == NULL || !command_number_of(world, step, "timeout", &ticks)) {
        return;
    }
    if (ticks == 0 || ticks > UINT32_MAX) {
        world_break(world, "timeout= must be at least 1");
        return;
    }
    raft_set_election_timeout(node->raft, (uint32_t)ticks);
}

static void transfer_leadership(struct world *world, const struct script_step *step)
{
    struct world_node *node;
    uint64_t from;
    uint64_t to;

    if (!command_number_of(world, step, "from", &from) ||
        !command_number_of(world, step, "to", &to) || (node = world_node(world, from)) == NULL ||
        world_node(world, to) == NULL) {
        return;
    }
    command_check(world, raft_transfer_leader(node->raft, to));
}

static void forget_leader(struct world *world, const struct script_step *step)
{
    struct world_node *node = command_node_at(world, step, 0);

    if (node != NULL) {
        command_check(world, raft_forget_leader(node->raft));
    }
}

static void report_unreachable(struct world *world, const struct script_step *step)
{
    struct world_node *node = command_node_at(world, step, 0);
    struct world_node *peer = node == NULL ? NULL : command_node_at(world, step, 1);

    if (peer != NULL) {
        command_check(world, raft_report_unreachable(node->raft, peer->id));
    }
}

/* ---- proposals ---- */

static void propose(struct world *world, const struct script_step *step)
{
    struct world_node *node = command_node_at(world, step, 0);
    struct raft_buffer *owner = NULL;
    struct raft_entry entry = {.type = RAFT_ENTRY_NORMAL};
    uint8_t *bytes = NULL;

    if (node == NULL) {
        return;
    }
    if (step->arg_count != 2 || step->args[1].has_values) {
        world_break(world, "exactly one word of data is needed");
        return;
    }
    entry.len_bytes = strlen(step->args[1].key);
    command_check(world, raft_buffer_create(&store_alloc, entry.len_bytes, &owner, &bytes));
    memcpy(bytes, step->args[1].key, entry.len_bytes);
    entry.data = bytes;
    entry.owner = owner;
    command_check(world, raft_propose(node->raft, &entry, 1));
    raft_buffer_release(owner);
}

/* v1= and transition=; false if the command ends here. */
static bool change_options(struct world *world, const struct script_step *step,
                           struct raft_conf_change *change)
{
    static const char *const transitions[] = {"auto", "implicit", "explicit"};

    for (size_t i = 1; i < step->arg_count; i++) {
        const struct script_arg *arg = &step->args[i];

        for (size_t v = 0; v < arg->value_count; v++) {
            const char *value = arg->values[v];

            if (strcmp(arg->key, "v1") == 0) {
                if (!script_bool(value, &change->v1)) {
                    world_fail(world, "strconv.ParseBool: parsing \"%s\": invalid syntax", value);
                    return false;
                }
            } else if (strcmp(arg->key, "transition") == 0) {
                size_t t = 0;

                while (t < 3 && strcmp(value, transitions[t]) != 0) {
                    t++;
                }
                if (t == 3) {
                    world_fail(world, "unknown transition %s", value);
                    return false;
                }
                change->transition = (enum raft_transition)t;
            } else {
                world_fail(world, "unknown command %s", arg->key);
                return false;
            }
        }
    }
    return true;
}

static void propose_conf_change(struct world *world, const struct script_step *step)
{
    struct world_node *node = command_node_at(world, step, 0);
    struct raft_conf_change change;
    char error[KIND_ERROR_BYTES];

    memset(&change, 0, sizeof(change));
    if (node == NULL || !change_options(world, step, &change)) {
        return;
    }
    if (!kind_parse_changes(step->input, change.changes, RAFT_CHANGES_MAX, &change.count, error)) {
        world_fail(world, "%s", error);
        return;
    }
    if (change.v1 && (change.count > 1 || change.transition != RAFT_TRANSITION_AUTO)) {
        world_fail(world, "v1 conf change can only have one operation and no transition");
        return;
    }
    if (change.v1 && change.count == 0) {
        world_break(world, "a v1 change needs an operation");
        return;
    }
    command_check(world, raft_propose_conf_change(node->raft, &change));
}

/* ---- work ---- */

/* For each node named: its work, with a header and indented if there are several. */
static void for_each(struct world *world, const struct script_step *step, const char *what,
                     void (*work)(struct world_node *))
{
    size_t count;
    struct world_node **nodes = nodes_of(world, step, &count);

    for (size_t i = 0; nodes != NULL && i < count && !world_stopped(world); i++) {
        struct buffer inner = {0};
        struct buffer *outer;

        if (count == 1) {
            work(nodes[i]);
            continue;
        }
        world_print(world, "> %" PRIu64 " %s\n", nodes[i]->id, what);
        outer = world_indent(world, &inner);
        work(nodes[i]);
        world_outdent(world, outer);
    }
    free(nodes);
}

static void process_ready(struct world *world, const struct script_step *step)
{
    for_each(world, step, "handling Ready", world_process_ready);
}

static void process_append_thread(struct world *world, const struct script_step *step)
{
    for_each(world, step, "processing append thread", world_process_append);
}

static void process_apply_thread(struct world *world, const struct script_step *step)
{
    for_each(world, step, "processing apply thread", world_process_apply);
}

static bool set_level(struct world *world, const char *name)
{
    for (size_t i = 0; i < LEVELS; i++) {
        if (strcasecmp(name, level_names[i]) == 0) {
            world->level = (int)i;
            return true;
        }
    }
    world_fail(world, "log levels must be either of [DEBUG INFO WARN ERROR FATAL NONE]");
    return false;
}

static void log_level(struct world *world, const struct script_step *step)
{
    if (step->arg_count == 0) {
        world_break(world, "a level is needed");
        return;
    }
    (void)set_level(world, step->args[0].key);
}

static void stabilize(struct world *world, const struct script_step *step)
{
    const struct script_arg *level = script_find(step, "log-level");
    int before = world->level;
    size_t count;
    struct world_node **nodes = nodes_of(world, step, &count);

    if (nodes != NULL &&
        (level == NULL || level->value_count == 0 || set_level(world, level->values[0]))) {
        if (count > 0) {
            world_stabilize(world, nodes, count);
        } else {
            world_stabilize(world, world->nodes, world->count);
        }
    }
    world->level = before;
    free(nodes);
}

/* ---- messages ---- */

struct delivery {
    struct world_recipient recipients[RECIPIENTS_MAX];
    size_t count;
    int type;
};

static void add_recipient(struct world *world, struct delivery *delivery, const char *text,
                          bool drop)
{
    struct world_recipient recipient = {.drop = drop};

    if (delivery->count == RECIPIENTS_MAX || !script_number(text, &recipient.id)) {
        world_break(world, "not an id, or too many of them: %s", text);
        return;
    }
    for (size_t i = 0; i < delivery->count && drop; i++) {
        if (delivery->recipients[i].id == recipient.id) {
            world_break(world, "cannot both deliver and drop messages to %" PRIu64, recipient.id);
        }
    }
    delivery->recipients[delivery->count++] = recipient;
}

static void set_type(struct world *world, struct delivery *delivery, const char *name)
{
#define MESSAGE_TYPE(enumerator, number, text) \
    if (strcmp(name, text) == 0) {             \
        delivery->type = (int)enumerator;      \
        return;                                \
    }
    RAFT_MESSAGE_LIST(MESSAGE_TYPE)
#undef MESSAGE_TYPE
    world_break(world, "unknown message type %s", name);
}

static void deliver_msgs(struct world *world, const struct script_step *step)
{
    struct delivery delivery = {.type = WORLD_ANY_TYPE};

    for (size_t i = 0; i < step->arg_count; i++) {
        const struct script_arg *arg = &step->args[i];

        if (!arg->has_values) {
            add_recipient(world, &delivery, arg->key, false);
        }
        for (size_t v = 0; v < arg->value_count; v++) {
            if (strcmp(arg->key, "drop") == 0) {
                add_recipient(world, &delivery, arg->values[v], true);
            } else if (strcmp(arg->key, "type") == 0) {
                set_type(world, &delivery, arg->values[v]);
            } else {
                world_break(world, "unknown argument %s=", arg->key);
            }
        }
    }
    if (!world_stopped(world) &&
        world_deliver(world, delivery.recipients, delivery.count, delivery.type) == 0) {
        world_print(world, "no messages\n");
    }
}

static void send_snapshot(struct world *world, const struct script_step *step)
{
    struct world_node *from = command_node_at(world, step, 0);
    struct world_node *to = from == NULL ? NULL : command_node_at(world, step, 1);
    struct raft_basic_status status;
    struct raft_message message;

    if (to == NULL) {
        return;
    }
    raft_basic_status(from->raft, &status);
    message = (struct raft_message){.type = RAFT_MSG_SNAP,
                                    .from = from->id,
                                    .to = to->id,
                                    .term = status.term,
                                    .snapshot = raft_snapshot_ref(store_newest(&from->store))};
    world_print_message(world, &message);
    world_send(world, &message);
}

/* ---- looking ---- */

static void print_log(struct world_node *node)
{
    const struct store *store = &node->store;
    struct buffer text = {0};

    if (store->count == 0) {
        world_print(node->world, "log is empty: first index=%" PRIu64 ", last index=%" PRIu64,
                    store_first_index(store), store_last_index(store));
        return;
    }
    describe_entries(&text, store->entries, store->count);
    world_print(node->world, "%s", buffer_text(&text));
    buffer_fini(&text);
}

static void raft_log(struct world *world, const struct script_step *step)
{
    struct world_node *node = command_node_at(world, step, 0);

    if (node != NULL) {
        print_log(node);
    }
}

static void compact(struct world *world, const struct script_step *step)
{
    struct world_node *node = command_node_at(world, step, 0);
    uint64_t index;
    int rc;

    if (node == NULL || !command_number_at(world, step, 1, &index)) {
        return;
    }
    rc = store_compact(&node->store, index);
    if (rc == MS_ECOMPACTED) {
        world_fail(world, "%s", world_status_text(rc));
    } else if (rc != MS_OK) {
        world_break(world, "there is no entry %" PRIu64, index);
    } else {
        print_log(node);
    }
}

static void raft_state(struct world *world, const struct script_step *step)
{
    (void)step;
    for (size_t i = 0; i < world->count; i++) {
        struct raft_basic_status status;

        raft_basic_status(world->nodes[i]->raft, &status);
        world_print(world, "%" PRIu64 ": %s (%s) Term:%" PRIu64 " Lead:%" PRIu64 "\n", status.id,
                    raft_state_name(status.state), status.is_voter ? "Voter" : "Non-Voter",
                    status.term, status.lead);
    }
}

static void print_status(struct world *world, const struct script_step *step)
{
    struct world_node *node = command_node_at(world, step, 0);
    const struct tracker *tracker;

    if (node == NULL || node->raft->state != RAFT_STATE_LEADER) {
        return;
    }
    tracker = &node->raft->tracker;
    for (size_t i = 0; i < tracker->count; i++) {
        char buffer[PROGRESS_TEXT_MAX];
        struct text text;

        core_text_init(&text, buffer, sizeof(buffer));
        progress_text(&text, &tracker->peers[i]);
        world_print(world, "%" PRIu64 ": %s\n", tracker->peers[i].id, buffer);
    }
}

static void breakpoint(struct world *world, const struct script_step *step)
{
    (void)world;
    (void)step;
}

/* ---- dispatch ---- */

static const struct {
    const char *name;
    void (*run)(struct world *world, const struct script_step *step);
} commands[] = {
    {"_breakpoint", breakpoint},
    {"add-nodes", command_add_nodes},
    {"campaign", campaign},
    {"compact", compact},
    {"deliver-msgs", deliver_msgs},
    {"forget-leader", forget_leader},
    {"log-level", log_level},
    {"process-append-thread", process_append_thread},
    {"process-apply-thread", process_apply_thread},
    {"process-ready", process_ready},
    {"propose", propose},
    {"propose-conf-change", propose_conf_change},
    {"raft-log", raft_log},
    {"raft-state", raft_state},
    {"report-unreachable", report_unreachable},
    {"send-snapshot", send_snapshot},
    {"set-randomized-election-timeout", set_election_timeout},
    {"stabilize", stabilize},
    {"status", print_status},
    {"tick-election", tick_election},
    {"tick-heartbeat", tick_heartbeat},
    {"transfer-leadership", transfer_leadership},
};

static void *interaction_create(uint64_t seed)
{
    struct world *world = buffer_alloc(sizeof(*world));

    world_init(world, seed);
    return world;
}

static void interaction_destroy(void *state)
{
    world_fini(state);
    free(state);
}

static int interaction_run(void *state, const struct script_step *step, struct buffer *out,
                           char *error)
{
    struct world *world = state;
    bool known = false;

    world->out = out;
    world->error[0] = '\0';
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]) && !known; i++) {
        if (strcmp(step->command, commands[i].name) == 0) {
            commands[i].run(world, step);
            known = true;
        }
    }
    if (!known) {
        world_fail(world, "unknown command");
    }
    if (world->broken[0] != '\0') {
        (void)snprintf(error, KIND_ERROR_BYTES, "%s", world->broken);
        return MS_EINVAL;
    }
    if (world->error[0] != '\0') {
        buffer_add(out, "%s", world->error);
    }
    if (out->len == 0) {
        buffer_add(out, "ok");
    }
    return MS_OK;
}

static const char *const no_commands[] = {NULL};

const struct kind kind_interaction = {
    .name = "interaction",
    .commands = no_commands,
    .create = interaction_create,
    .destroy = interaction_destroy,
    .run = interaction_run,
};
