/*
 * commands: see commands.h.
 */
#include "tests/conformance/commands.h"

#include "common/err.h"

bool command_number_at(struct world *world, const struct script_step *step, size_t at,
                       uint64_t *number)
{
    if (at >= step->arg_count || step->args[at].has_values ||
        !script_number(step->args[at].key, number)) {
        world_break(world, "argument %zu must be a number", at + 1);
        return false;
    }
    return true;
}

struct world_node *command_node_at(struct world *world, const struct script_step *step, size_t at)
{
    uint64_t id;

    return command_number_at(world, step, at, &id) ? world_node(world, id) : NULL;
}

bool command_number_of(struct world *world, const struct script_step *step, const char *key,
                       uint64_t *number)
{
    const struct script_arg *arg = script_find(step, key);

    if (arg == NULL || arg->value_count != 1 || !script_number(arg->values[0], number)) {
        world_break(world, "%s= must be a number", key);
        return false;
    }
    return true;
}

void command_check(struct world *world, int rc)
{
    if (rc == MS_EDROPPED) {
        world_fail(world, "%s", world_status_text(rc));
    } else if (rc != MS_OK) {
        world_break(world, "the core refused: %s", ms_status_text(rc));
    }
}
