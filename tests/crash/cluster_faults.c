/*
 * cluster_faults: a schedule drawn from a seed, carried out on real processes.
 */
#include "tests/crash/cluster_faults.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "tests/crash/cluster_members.h"
#include "tests/seed.h"
#include "tests/support/check.h"

enum {
    STRIKE_MIN_MS = 100,
    STRIKE_MAX_MS = 900,
    LAST_MIN_MS = 200, /* of a fault that is ended */
    LAST_MAX_MS = 3000,
    MEMBERS_MIN_MS = 2500, /* between changes of the membership */
    MEMBERS_MAX_MS = 5000,
    GENERATION_MS = 1000, /* of keys */
    LEAVE_DEADLINE_MS = 20000
};

/* How often, relative to each other. */
static const struct {
    const char *name;
    unsigned weight;
    bool needs_network;
} kinds[FAULT_KINDS] = {
    [FAULT_NONE] = {"none", 0, false},
    [FAULT_KILL_RAFTD] = {"raftd killed", 4, false},
    [FAULT_KILL_STORAGED] = {"storaged killed", 4, false},
    [FAULT_KILL_APID] = {"apid killed", 2, false},
    [FAULT_KILL_NODE] = {"node killed", 4, false},
    [FAULT_CUT_POWER] = {"power cut", 3, false},
    [FAULT_STOP_NODE] = {"node stopped", 3, false},
    [FAULT_STOP_RAFTD] = {"raftd stopped", 2, false},
    [FAULT_STOP_STORAGED] = {"storaged stopped", 2, false},
    [FAULT_CUT_LINK] = {"link cut", 5, true},
    [FAULT_PART_PAIR] = {"pair parted", 3, true},
};

static bool passes_by_itself(enum fault_kind kind)
{
    return kind == FAULT_KILL_RAFTD || kind == FAULT_KILL_STORAGED || kind == FAULT_KILL_APID;
}

static void sleep_until(struct ms_instant at)
{
    const struct timespec when = {.tv_sec = (time_t)(at.ns / 1000000000),
                                  .tv_nsec = (long)(at.ns % 1000000000)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR) {
    }
}

static struct ms_instant in_some_ms(struct faults *faults, uint64_t low, uint64_t high)
{
    return ms_clock_add_ms(ms_clock_now(), check_random_between(&faults->random, low, high));
}

void faults_init(struct faults *faults, struct cluster *cluster, struct cluster_clients *clients,
                 uint64_t seed)
{
    *faults = (struct faults){.cluster = cluster, .clients = clients, .random = seed};
    for (size_t i = 0; i < cluster->founders; i++) {
        faults->nodes[i].member = true;
    }
}

static size_t count_members(const struct faults *faults)
{
    size_t count = 0;

    for (size_t i = 0; i < faults->cluster->node_count; i++) {
        count += faults->nodes[i].member;
    }
    return count;
}

static size_t count_suffering(const struct faults *faults)
{
    size_t count = 0;

    for (size_t i = 0; i < faults->cluster->node_count; i++) {
        count += faults->nodes[i].member && faults->nodes[i].fault != FAULT_NONE;
    }
    return count;
}

/* How many more members may be taken out of action. */
static size_t count_bearable(const struct faults *faults)
{
    size_t bearable = (count_members(faults) - 1) / 2;
    size_t suffering = count_suffering(faults);

    return bearable > suffering ? bearable - suffering : 0;
}

/* ---- faults ---------------------------------------------------------------------------------- */

/* A random member that is well; node_count if there is none. */
static size_t pick_well(struct faults *faults)
{
    size_t nodes = faults->cluster->node_count;
    size_t first = (size_t)test_random_below(&faults->random, nodes);

    for (size_t i = 0; i < nodes; i++) {
        size_t position = (first + i) % nodes;

        if (faults->nodes[position].member && faults->nodes[position].fault == FAULT_NONE) {
            return position;
        }
    }
    return nodes;
}

static enum fault_kind pick_kind(struct faults *faults)
{
    uint64_t total = 0;
    uint64_t dice;

    for (int kind = 0; kind < FAULT_KINDS; kind++) {
        bool possible = !kinds[kind].needs_network || cluster_can_cut(faults->cluster);

        total += possible ? kinds[kind].weight : 0;
    }
    dice = test_random_below(&faults->random, total);
    for (int kind = 0; kind < FAULT_KINDS; kind++) {
        bool possible = !kinds[kind].needs_network || cluster_can_cut(faults->cluster);
        uint64_t weight = possible ? kinds[kind].weight : 0;

        if (dice < weight) {
            return (enum fault_kind)kind;
        }
        dice -= weight;
    }
    return FAULT_NONE;
}

static void begin(struct faults *faults, size_t position, enum fault_kind kind)
{
    struct cluster *cluster = faults->cluster;

    faults->counts[kind]++;
    switch (kind) {
    case FAULT_KILL_RAFTD:
        (void)cluster_signal_worker(cluster, position, "raftd", SIGKILL);
        return;
    case FAULT_KILL_STORAGED:
        (void)cluster_signal_worker(cluster, position, "storaged", SIGKILL);
        return;
    case FAULT_KILL_APID:
        (void)cluster_signal_worker(cluster, position, "apid", SIGKILL);
        return;
    case FAULT_KILL_NODE:
    case FAULT_CUT_POWER:
        atomic_store(&faults->clients->serves[position], false);
        cluster_kill(cluster, position, kind == FAULT_CUT_POWER);
        break;
    case FAULT_STOP_NODE:
        cluster_signal_all(cluster, position, SIGSTOP);
        break;
    case FAULT_STOP_RAFTD:
        (void)cluster_signal_worker(cluster, position, "raftd", SIGSTOP);
        break;
    case FAULT_STOP_STORAGED:
        (void)cluster_signal_worker(cluster, position, "storaged", SIGSTOP);
        break;
    case FAULT_CUT_LINK:
        cluster_cut(cluster, position, true);
        break;
    case FAULT_PART_PAIR:
        cluster_part(cluster, position, true);
        break;
    case FAULT_NONE:
    case FAULT_KINDS:
        return;
    }
    faults->nodes[position].fault = kind;
    faults->nodes[position].ends = in_some_ms(faults, LAST_MIN_MS, LAST_MAX_MS);
}

static void end_fault(struct faults *faults, size_t position)
{
    struct cluster *cluster = faults->cluster;

    switch (faults->nodes[position].fault) {
    case FAULT_KILL_NODE:
    case FAULT_CUT_POWER:
        cluster_spawn(cluster, position);
        atomic_store(&faults->clients->serves[position], true);
        break;
    case FAULT_STOP_NODE:
        cluster_signal_all(cluster, position, SIGCONT);
        break;
    case FAULT_STOP_RAFTD:
        /* If the supervisor has replaced it, its successor does not mind. */
        (void)cluster_signal_worker(cluster, position, "raftd", SIGCONT);
        break;
    case FAULT_STOP_STORAGED:
        (void)cluster_signal_worker(cluster, position, "storaged", SIGCONT);
        break;
    case FAULT_CUT_LINK:
        cluster_cut(cluster, position, false);
        break;
    case FAULT_PART_PAIR:
        cluster_part(cluster, position, false);
        break;
    case FAULT_NONE:
    case FAULT_KILL_RAFTD:
    case FAULT_KILL_STORAGED:
    case FAULT_KILL_APID:
    case FAULT_KINDS:
        break;
    }
    faults->nodes[position].fault = FAULT_NONE;
}

static void strike(struct faults *faults)
{
    enum fault_kind kind = pick_kind(faults);
    size_t position = pick_well(faults);
    size_t other;

    if (position == faults->cluster->node_count) {
        return;
    }
    if (kind == FAULT_PART_PAIR) {
        /* The two of a pair do not hear each other; whoever leads, both hear the rest. */
        if (count_bearable(faults) == 0 || count_suffering(faults) > 0) {
            return;
        }
        begin(faults, position, kind);
        other = pick_well(faults);
        if (other < faults->cluster->node_count) {
            begin(faults, other, kind);
        }
        return;
    }
    if (passes_by_itself(kind) || count_bearable(faults) > 0) {
        begin(faults, position, kind);
    }
}

/* All at once, as when a data centre goes dark. */
static void black_out(struct faults *faults)
{
    faults_heal(faults);
    for (size_t i = 0; i < faults->cluster->node_count; i++) {
        if (faults->nodes[i].member) {
            cluster_signal_all(faults->cluster, i, SIGSTOP); /* the same instant, nearly */
        }
    }
    for (size_t i = 0; i < faults->cluster->node_count; i++) {
        if (faults->nodes[i].member) {
            begin(faults, i, FAULT_CUT_POWER);
            faults->counts[FAULT_CUT_POWER]--;
        }
    }
    faults->blackouts++;
    faults_heal(faults);
}

void faults_heal(struct faults *faults)
{
    for (size_t i = 0; i < faults->cluster->node_count; i++) {
        if (faults->nodes[i].fault != FAULT_NONE) {
            end_fault(faults, i);
        }
    }
}

/* ---- members --------------------------------------------------------------------------------- */

static void add_member(struct faults *faults, size_t position)
{
    cluster_members_add(faults->clients, position);
    cluster_spawn(faults->cluster, position);
    faults->nodes[position].member = true;
    atomic_store(&faults->clients->serves[position], true);
    faults->added++;
}

/* It is to hear of it and end by itself, so it must be well and stay so. */
static void remove_member(struct faults *faults, size_t position)
{
    struct node *node = &faults->cluster->nodes[position].node;
    int status;

    atomic_store(&faults->clients->serves[position], false);
    cluster_members_remove(faults->clients, position);
    status = node_wait_exit(node, LEAVE_DEADLINE_MS);
    check_that(status == 0, "node %zu was removed and ended with status %d", position + 1, status);
    faults->nodes[position].member = false;
    faults->nodes[position].leaving = true;
    faults->removed++;
}

/* One that is no member and never was; node_count if there is none left. */
static size_t pick_spare(const struct faults *faults)
{
    for (size_t i = 0; i < faults->cluster->node_count; i++) {
        if (!faults->nodes[i].member && !faults->nodes[i].leaving) {
            return i;
        }
    }
    return faults->cluster->node_count;
}

/* A change is refused that would cost the quorum, so all have to be well for it. */
static void change_members(struct faults *faults)
{
    size_t spare = pick_spare(faults);

    faults_heal(faults);
    if (count_members(faults) > faults->cluster->founders) {
        remove_member(faults, pick_well(faults));
    } else if (spare < faults->cluster->node_count) {
        add_member(faults, spare);
    }
}

/* ---- the schedule ---------------------------------------------------------------------------- */

static struct ms_instant earlier(struct ms_instant a, struct ms_instant b)
{
    return a.ns < b.ns ? a : b;
}

static bool is_due(struct ms_instant at)
{
    return at.ns <= ms_clock_now().ns;
}

static struct ms_instant next_end(const struct faults *faults)
{
    struct ms_instant next = {.ns = UINT64_MAX};

    for (size_t i = 0; i < faults->cluster->node_count; i++) {
        if (faults->nodes[i].fault != FAULT_NONE) {
            next = earlier(next, faults->nodes[i].ends);
        }
    }
    return next;
}

static void end_due_faults(struct faults *faults)
{
    for (size_t i = 0; i < faults->cluster->node_count; i++) {
        if (faults->nodes[i].fault != FAULT_NONE && is_due(faults->nodes[i].ends)) {
            end_fault(faults, i);
        }
    }
}

void faults_run(struct faults *faults, uint64_t duration_ms)
{
    const struct ms_instant end = ms_clock_add_ms(ms_clock_now(), duration_ms);
    struct ms_instant dark = in_some_ms(faults, duration_ms / 2, duration_ms * 3 / 4);
    struct ms_instant strike_at = in_some_ms(faults, STRIKE_MIN_MS, STRIKE_MAX_MS);
    struct ms_instant members_at = in_some_ms(faults, MEMBERS_MIN_MS, MEMBERS_MAX_MS);
    struct ms_instant generation_at = ms_clock_add_ms(ms_clock_now(), GENERATION_MS);

    while (!is_due(end)) {
        sleep_until(earlier(end, earlier(earlier(dark, next_end(faults)),
                                         earlier(generation_at, earlier(strike_at, members_at)))));
        cluster_hear(faults->cluster);
        end_due_faults(faults);
        if (is_due(generation_at)) {
            atomic_fetch_add(&faults->clients->generation, 1);
            generation_at = ms_clock_add_ms(ms_clock_now(), GENERATION_MS);
        }
        if (is_due(dark)) {
            black_out(faults);
            dark.ns = UINT64_MAX;
        }
        if (is_due(strike_at)) {
            strike(faults);
            strike_at = in_some_ms(faults, STRIKE_MIN_MS, STRIKE_MAX_MS);
        }
        if (is_due(members_at)) {
            change_members(faults);
            members_at = in_some_ms(faults, MEMBERS_MIN_MS, MEMBERS_MAX_MS);
        }
    }
}

void faults_print(const struct faults *faults)
{
    (void)printf("faults:");
    for (int kind = 0; kind < FAULT_KINDS; kind++) {
        if (faults->counts[kind] > 0) {
            (void)printf(" %s %" PRIu64 ",", kinds[kind].name, faults->counts[kind]);
        }
    }
    (void)printf(" all power cut %" PRIu64 "; members added %" PRIu64 ", removed %" PRIu64 "\n",
                 faults->blackouts, faults->added, faults->removed);
}
