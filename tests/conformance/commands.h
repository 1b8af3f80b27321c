/*
 * commands: what the commands of interaction scripts share.
 *
 * A command that makes no sense breaks the script (world_break()); these functions have done so
 * when they return false or NULL.
 */
#ifndef METASTORE_TESTS_CONFORMANCE_COMMANDS_H
#define METASTORE_TESTS_CONFORMANCE_COMMANDS_H

#include "tests/conformance/script.h"
#include "tests/conformance/world.h"

#define COMMAND_ELECTION_TICKS  3
#define COMMAND_HEARTBEAT_TICKS 1

/* The number that is argument at (from 0), which has no value. */
bool command_number_at(struct world *world, const struct script_step *step, size_t at,
                       uint64_t *number);
/* The node named by argument at. */
struct world_node *command_node_at(struct world *world, const struct script_step *step, size_t at);
/* The one number given as key=N. */
bool command_number_of(struct world *world, const struct script_step *step, const char *key,
                       uint64_t *number);
/* A dropped proposal is the command's error; any other failure of the core breaks the script. */
void command_check(struct world *world, int rc);

/* add-nodes N [voters=(...)] [learners=(...)] [index=I] [options] */
void command_add_nodes(struct world *world, const struct script_step *step);

#endif
