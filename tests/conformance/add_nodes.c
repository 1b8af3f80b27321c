/*
 * add_nodes: new nodes, and what they are made from.
 */
#include <string.h>

#include "tests/conformance/commands.h"
#include "tests/conformance/describe.h"

#define INFLIGHT_DEFAULT 2147483647u

struct node_plan {
    struct raft_options options;
    struct raft_conf_state conf;
    raft_index index;
    bool bootstrap;
};

static bool plan_member(struct world *world, struct raft_ids *ids, const char *value)
{
    if (ids->count == RAFT_MEMBERS_MAX || !script_number(value, &ids->ids[ids->count])) {
        world_break(world, "not an id, or too many of them: %s", value);
        return false;
    }
    ids->count++;
    return true;
}

/* One flag, if the key names one. */
static bool plan_flag(struct world *world, struct raft_options *options, const char *key,
                      const char *value)
{
    const struct {
        const char *key;
        bool *flag;
    } flags[] = {
        {"async-storage-writes", &options->async_storage},
        {"prevote", &options->pre_vote},
        {"checkquorum", &options->check_quorum},
        {"step-down-on-removal", &options->step_down_on_removal},
        {"disable-conf-change-validation", &options->disable_conf_change_validation},
    };

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (strcmp(key, flags[i].key) == 0) {
            if (!script_bool(value, flags[i].flag)) {
                world_break(world, "%s= must be true or false", key);
            }
            return true;
        }
    }
    return false;
}

static void plan_read_only(struct world *world, struct raft_options *options, const char *value)
{
    if (strcmp(value, "safe") == 0) {
        options->read_mode = RAFT_READ_SAFE;
    } else if (strcmp(value, "lease-based") == 0) {
        options->read_mode = RAFT_READ_LEASE;
    } else {
        struct buffer quoted = {0};

        describe_quoted(&quoted, value, strlen(value));
        world_fail(world, "invalid read-only option %s", buffer_text(&quoted));
        buffer_fini(&quoted);
    }
}

static void plan_value(struct world *world, struct node_plan *plan, const char *key,
                       const char *value)
{
    uint64_t number = 0;
    bool is_number = script_number(value, &number);

    if (strcmp(key, "voters") == 0) {
        plan->bootstrap |= plan_member(world, &plan->conf.voters, value);
    } else if (strcmp(key, "learners") == 0) {
        plan->bootstrap |= plan_member(world, &plan->conf.learners, value);
    } else if (strcmp(key, "read-only") == 0) {
        plan_read_only(world, &plan->options, value);
    } else if (strcmp(key, "content") == 0) {
        plan->bootstrap = true; /* of the state machine; nothing shows it */
    } else if (plan_flag(world, &plan->options, key, value)) {
        return;
    } else if (!is_number) {
        world_break(world, "unknown option or not a number: %s=%s", key, value);
    } else if (strcmp(key, "index") == 0) {
        plan->index = number;
        plan->bootstrap = true;
    } else if (strcmp(key, "inflight") == 0 && number > 0 && number <= INFLIGHT_DEFAULT) {
        plan->options.max_inflight_messages = (uint32_t)number;
    } else if (strcmp(key, "max-committed-size-per-ready") == 0) {
        plan->options.max_committed_bytes = number;
    } else {
        world_break(world, "unknown option or value: %s=%s", key, value);
    }
}

void command_add_nodes(struct world *world, const struct script_step *step)
{
    struct node_plan plan;
    uint64_t count;

    if (!command_number_at(world, step, 0, &count)) {
        return;
    }
    memset(&plan, 0, sizeof(plan));
    plan.options.election_ticks = COMMAND_ELECTION_TICKS;
    plan.options.heartbeat_ticks = COMMAND_HEARTBEAT_TICKS;
    plan.options.max_message_bytes = RAFT_NO_LIMIT;
    plan.options.max_inflight_messages = INFLIGHT_DEFAULT;
    for (size_t i = 1; i < step->arg_count; i++) {
        for (size_t v = 0; v < step->args[i].value_count && !world_stopped(world); v++) {
            plan_value(world, &plan, step->args[i].key, step->args[i].values[v]);
        }
    }
    for (uint64_t i = 0; i < count && !world_stopped(world); i++) {
        if (plan.bootstrap && plan.index <= 1) {
            world_fail(world, "index must be specified as > 1 due to bootstrap");
            return;
        }
        world_add_node(world, &plan.options, &plan.conf, plan.index);
    }
}
