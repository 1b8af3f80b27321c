/*
 * clients: writers and readers at random nodes, and the history they leave.
 *
 * A client has one operation at a time. When the answer does not come it sends the same operation
 * again, here or elsewhere, or gives up; then nobody knows whether it took effect.
 */
#include <stdlib.h>

#include "tests/sim/sim.h"
#include "tests/sim/wire.h"

enum client_state {
    CLIENT_THINKS,
    CLIENT_WRITES,
    CLIENT_ASKS,  /* for a read index */
    CLIENT_WAITS, /* for the state machine to get so far */
};

struct sim_client {
    enum client_state state;
    node_id node;  /* where it is connected */
    uint64_t wait; /* number of its current wait: others that end are of no interest */
    uint64_t attempts;
    bool taken; /* some node has taken the proposal */
    struct machine_command command;
    struct lin_operation operation;
    raft_index floor; /* committed anywhere when the read was asked for */
    raft_index read_index;
    struct raft_read_id read;
    uint64_t last_revision; /* of some key, for conditions that may hold */
};

struct cluster_clients {
    struct sim_client clients[MACHINE_ORIGINS_MAX];
    struct lin_operation *history;
    size_t count;
    size_t capacity;
    uint64_t last_value;
};

static void wake_after(struct sim *sim, size_t number, uint64_t delay_us)
{
    struct sim_client *client = &sim->clients->clients[number];

    client->wait++;
    sim_schedule(sim, delay_us, EVENT_CLIENT, number, client->wait, NULL);
}

void clients_create(struct sim *sim)
{
    sim->clients = report_calloc(1, sizeof(*sim->clients));
    for (size_t i = 0; i < sim->profile.clients; i++) {
        sim->clients->clients[i].command.origin = i;
        wake_after(sim, i, sim_below(sim, sim->profile.think_us + 1));
    }
}

void clients_destroy(struct sim *sim)
{
    free(sim->clients->history);
    free(sim->clients);
    sim->clients = NULL;
}

/* ---- the history ---- */

static void record(struct sim *sim, struct sim_client *client, enum lin_outcome outcome)
{
    struct cluster_clients *clients = sim->clients;

    client->operation.outcome = outcome;
    client->operation.returned = sim->now;
    if (clients->count == clients->capacity) {
        clients->capacity = clients->capacity == 0 ? 256 : 2 * clients->capacity;
        clients->history =
            report_realloc(clients->history, clients->capacity * sizeof(*clients->history));
    }
    clients->history[clients->count++] = client->operation;
}

static void finish(struct sim *sim, struct sim_client *client)
{
    client->state = CLIENT_THINKS;
    wake_after(sim, client->command.origin, sim_below(sim, sim->profile.think_us + 1));
}

static void give_up(struct sim *sim, struct sim_client *client)
{
    REPORT(client->node, "client gives up", "", "client seq", client->command.origin,
           client->command.seq);
    if (client->state == CLIENT_WRITES && client->taken) {
        record(sim, client, LIN_UNKNOWN);
    }
    finish(sim, client);
}

void clients_judge(struct sim *sim)
{
    struct lin_report *report = report_calloc(1, sizeof(*report));
    int rc;

    for (size_t i = 0; i < sim->profile.clients; i++) {
        struct sim_client *client = &sim->clients->clients[i];

        if (client->state == CLIENT_WRITES && client->taken) {
            record(sim, client, LIN_UNKNOWN);
        }
    }
    rc = linearizability_check(sim->clients->history, sim->clients->count, NULL, report);
    if (rc != MS_OK || report->verdict == LIN_VIOLATED) {
        report_fail("linearizability", "%s\n%s", ms_status_text(rc), report->text);
    }
    sim->totals->operations += sim->clients->count;
    sim->totals->undecided += report->verdict == LIN_UNDECIDED;
    free(report);
}

/* ---- sending ---- */

static void propose(struct sim *sim, struct sim_client *client)
{
    struct sim_node *node = sim_node(sim, client->node);
    struct raft_entry entry = {
        .type = RAFT_ENTRY_NORMAL, .data = &client->command, .len_bytes = sizeof(client->command)};
    struct raft_slice copy;
    int rc;

    if (node->raft == NULL || node->paused_until > sim->now) {
        return;
    }
    copy = wire_copy_entries(&entry, 1);
    rc = raft_propose(node->raft, copy.entries, copy.count);
    raft_slice_release(&copy);
    REPORT(node->id, rc == MS_OK ? "proposes" : "refuses", "", "client seq key kind",
           client->command.origin, client->command.seq, client->command.key, client->command.kind);
    if (rc == MS_OK) {
        client->taken = true;
    } else if (rc != MS_EDROPPED && rc != MS_EFULL) {
        report_fail("propose", "node %lu: %s", node->id, ms_status_text(rc));
    }
    node_note(sim, node);
    node_touch(sim, node);
}

static void answer_read(struct sim *sim, struct sim_client *client)
{
    struct sim_node *node = sim_node(sim, client->node);
    const struct machine_cell *cell = &node->machine.cells[client->operation.key];

    if (node->machine.applied < client->read_index) {
        client->state = CLIENT_WAITS;
        return;
    }
    REPORT(node->id, "reads", "", "client key value applied", client->command.origin,
           client->operation.key, cell->value, node->machine.applied);
    client->operation.value = cell->value;
    client->operation.revision = cell->revision;
    client->last_revision = cell->revision;
    record(sim, client, cell->revision == 0 ? LIN_ABSENT : LIN_DONE);
    finish(sim, client);
}

static void ask(struct sim *sim, struct sim_client *client)
{
    struct sim_node *node = sim_node(sim, client->node);

    if (node->raft == NULL || node->paused_until > sim->now) {
        return;
    }
    if (sim->profile.lease && node->lease_until > node_clock(sim, node)) {
        client->read_index = node->basic.commit;
        check_read(node, client->read_index, client->floor, true);
        sim->totals->lease_reads++;
        answer_read(sim, client);
        return;
    }
    client->read = (struct raft_read_id){.origin = node->read_origin, .seq = ++node->read_seq};
    if (raft_read_index(node->raft, client->read) == MS_OK) {
        REPORT(node->id, "asks for a read index", "", "client seq floor", client->command.origin,
               client->read.seq, client->floor);
    }
    node_note(sim, node);
    node_touch(sim, node);
}

/* ---- choosing ---- */

static void choose_write(struct sim *sim, struct sim_client *client)
{
    struct machine_command *command = &client->command;

    client->state = CLIENT_WRITES;
    client->taken = false;
    command->seq++;
    command->ack = command->seq;
    command->key = sim_below(sim, sim->profile.keys);
    command->kind = sim_chance(sim, 250) ? LIN_DELETE : LIN_PUT;
    command->condition = sim_chance(sim, 500) ? LIN_ALWAYS : (uint32_t)sim_below(sim, 4);
    command->expected = 0;
    if (command->condition == LIN_IF_REVISION) {
        command->expected = client->last_revision != 0 ? client->last_revision : 1;
    }
    if (command->kind == LIN_DELETE && command->condition == LIN_IF_ABSENT) {
        command->condition = LIN_ALWAYS; /* nobody asks for that */
    }
    command->value = command->kind == LIN_PUT ? ++sim->clients->last_value : 0;
    client->operation = (struct lin_operation){.kind = (enum lin_kind)command->kind,
                                               .condition = (enum lin_condition)command->condition,
                                               .key = command->key,
                                               .value = command->value,
                                               .expected = command->expected};
}

static void choose(struct sim *sim, struct sim_client *client)
{
    client->node = sim_any_node(sim)->id;
    client->attempts = 0;
    if (sim_chance(sim, 450)) {
        client->state = CLIENT_ASKS;
        client->read = (struct raft_read_id){0}; /* an answer to an older read is none to this */
        client->floor = sim->commit;
        client->operation =
            (struct lin_operation){.kind = LIN_GET, .key = sim_below(sim, sim->profile.keys)};
    } else {
        choose_write(sim, client);
    }
    client->operation.invoked = sim->now;
    client->operation.client = client->command.origin;
    client->operation.tag = sim->step;
}

void clients_wake(struct sim *sim, const struct event *event)
{
    struct sim_client *client = &sim->clients->clients[event->node];

    if (event->life != client->wait) {
        return;
    }
    if (client->state == CLIENT_THINKS) {
        if (sim->healing) {
            return;
        }
        choose(sim, client);
    } else if (client->attempts > 2 && sim_chance(sim, 400)) {
        give_up(sim, client);
        return;
    } else if (sim_chance(sim, 300)) {
        client->node = sim_any_node(sim)->id;
    }
    client->attempts++;
    wake_after(sim, event->node,
               sim_between(sim, sim->profile.tick_us,
                           2 * sim->profile.tick_us * sim->profile.election_ticks));
    if (client->state == CLIENT_WRITES) {
        propose(sim, client);
    } else {
        client->state = CLIENT_ASKS;
        ask(sim, client);
    }
}

/* ---- answers ---- */

void clients_applied(struct sim *sim, struct sim_node *node, const struct machine_command *command,
                     const struct machine_answer *answer)
{
    for (size_t i = 0; i < sim->profile.clients; i++) {
        struct sim_client *client = &sim->clients->clients[i];

        if (client->node != node->id) {
            continue;
        }
        if (client->state == CLIENT_WAITS) {
            answer_read(sim, client);
        } else if (client->state == CLIENT_WRITES && command->seq != 0 && command->origin == i &&
                   command->seq == client->command.seq && answer->seq != 0) {
            REPORT(node->id, "answers", "", "client seq outcome revision", i, answer->seq,
                   (uint64_t)answer->outcome, answer->revision);
            client->operation.revision = answer->revision;
            if (answer->revision != 0) {
                client->last_revision = answer->revision;
            }
            record(sim, client, answer->outcome);
            finish(sim, client);
        }
    }
}

void clients_reads_ready(struct sim *sim, struct sim_node *node,
                         const struct raft_read_state *state)
{
    if (state->id.origin != node->read_origin) {
        return; /* asked for by this node before it was restarted */
    }
    if (state->id.seq == node->renew_seq) {
        /* It still led when this was asked, and its followers keep still for a while. */
        if (node->renew_term == node->basic.term && node->basic.state == RAFT_STATE_LEADER) {
            node->lease_until =
                node->renew_asked_at + sim->profile.election_ticks * sim->profile.tick_us * 7 / 10;
        }
        node->renew_seq = 0;
        return;
    }
    for (size_t i = 0; i < sim->profile.clients; i++) {
        struct sim_client *client = &sim->clients->clients[i];

        if (client->state == CLIENT_ASKS && client->node == node->id &&
            client->read.origin == state->id.origin && client->read.seq == state->id.seq) {
            check_read(node, state->index, client->floor, false);
            sim->totals->index_reads++;
            client->read_index = state->index;
            answer_read(sim, client);
        }
    }
}

void clients_renew_lease(struct sim *sim, struct sim_node *node)
{
    uint64_t clock = node_clock(sim, node);

    if (!sim->profile.lease || node->basic.state != RAFT_STATE_LEADER ||
        node->no_lease_term == node->basic.term ||
        (node->renew_seq != 0 && clock - node->renew_asked_at < 3 * sim->profile.tick_us)) {
        return;
    }
    node->renew_seq = ++node->read_seq;
    node->renew_asked_at = clock;
    node->renew_term = node->basic.term;
    (void)raft_read_index(node->raft,
                          (struct raft_read_id){node->read_origin, node->renew_seq}); /* a try */
    node_note(sim, node);
}
