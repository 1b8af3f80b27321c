/*
 * machine: see machine.h.
 */
#include "tests/sim/machine.h"

#include <string.h>

#include "tests/sim/report.h"
#include "tests/sim/wire.h"

static bool condition_holds(const struct machine_command *command, const struct machine_cell *cell)
{
    switch ((enum lin_condition)command->condition) {
    case LIN_ALWAYS:
        return true;
    case LIN_IF_REVISION:
        return cell->revision != 0 && cell->revision == command->expected;
    case LIN_IF_ABSENT:
        return cell->revision == 0;
    case LIN_IF_PRESENT:
        return cell->revision != 0;
    }
    return false;
}

static struct machine_answer execute(struct machine *machine, const struct machine_command *command)
{
    struct machine_answer answer = {.seq = command->seq, .outcome = LIN_DONE};
    struct machine_cell *cell = &machine->cells[command->key];

    if (!condition_holds(command, cell)) {
        answer.outcome = LIN_REFUSED;
    } else if (command->kind == LIN_PUT) {
        machine->revision++;
        *cell = (struct machine_cell){.value = command->value, .revision = machine->revision};
        answer.revision = machine->revision;
    } else if (cell->revision == 0) {
        answer.outcome = LIN_ABSENT;
    } else {
        machine->revision++;
        *cell = (struct machine_cell){0};
        answer.revision = machine->revision;
    }
    return answer;
}

void machine_apply(struct machine *machine, const struct raft_entry *entry,
                   struct machine_command *command, struct machine_answer *answer)
{
    *command = (struct machine_command){0};
    *answer = (struct machine_answer){0};
    machine->applied = entry->index;
    machine->applied_term = entry->term;
    if (entry->len_bytes == 0) {
        return;
    }
    if (entry->len_bytes < sizeof(*command)) {
        report_fail("entry-data", "entry %lu has %zu bytes of data", entry->index,
                    entry->len_bytes);
    }
    memcpy(command, entry->data, sizeof(*command));
    if (command->seq < machine->origins[command->origin].ack) {
        return; /* its answer was given, or it was given up: forgotten */
    }
    if (command->seq == machine->origins[command->origin].answer.seq) {
        *answer = machine->origins[command->origin].answer;
        return;
    }
    if (command->ack > machine->origins[command->origin].ack) {
        machine->origins[command->origin].ack = command->ack;
    }
    *answer = execute(machine, command);
    machine->origins[command->origin].answer = *answer;
}

uint64_t machine_hash(const struct machine *machine)
{
    uint64_t hash = UINT64_C(0x9e3779b97f4a7c15) ^ machine->applied_term;

#define MIX(number) hash = (hash ^ (number)) * UINT64_C(0xff51afd7ed558ccd), hash ^= hash >> 32
    MIX(machine->applied);
    MIX(machine->revision);
    for (size_t i = 0; i < MACHINE_KEYS_MAX; i++) {
        MIX(machine->cells[i].value);
        MIX(machine->cells[i].revision);
    }
    for (size_t i = 0; i < MACHINE_ORIGINS_MAX; i++) {
        MIX(machine->origins[i].ack);
        MIX(machine->origins[i].answer.seq);
        MIX(machine->origins[i].answer.revision);
        MIX((uint64_t)machine->origins[i].answer.outcome);
    }
#undef MIX
    return hash == 0 ? 1 : hash;
}

/* The data of a snapshot. */
struct machine_buffer {
    struct raft_buffer base;
    struct machine machine;
};

static void destroy_buffer(struct raft_buffer *buffer)
{
    wire_alloc.free(wire_alloc.ctx, buffer);
}

struct raft_snapshot *machine_to_snapshot(const struct machine *machine,
                                          const struct raft_conf_state *conf)
{
    struct machine_buffer *buffer = wire_alloc.alloc(wire_alloc.ctx, sizeof(*buffer));
    struct raft_snapshot *snapshot = NULL;

    buffer->base = (struct raft_buffer){.refs = 1, .destroy = destroy_buffer};
    buffer->machine = *machine;
    (void)raft_snapshot_create(&wire_alloc, machine->applied, machine->applied_term, conf,
                               &buffer->base, &snapshot); /* never refused */
    raft_buffer_release(&buffer->base);
    return snapshot;
}

const struct machine *machine_of_snapshot(const struct raft_snapshot *snapshot)
{
    return &((const struct machine_buffer *)snapshot->data)->machine;
}
