/*
 * log_store: SIGKILL between, before and in the middle of writes; what was acknowledged is there,
 * and nothing is there that was not written.
 */
#include <signal.h>
#include <sys/wait.h>

#include "tests/unit/storaged/log_stores.h"

#define ROUNDS      40
#define ENTRIES_MAX 8192
#define STEPS_MAX   1500

/* What a store holds after a step of the script, but for its marks, which come behind the step. */
struct script {
    uint64_t step;
    raft_term term;
    raft_index last_index;
    raft_index snapshot_index; /* before the marks of this step */
    raft_index marked_index;   /* after them; the same in most steps */
    raft_term terms[ENTRIES_MAX];
};

static uint8_t script_data[4096];

static uint32_t entry_bytes(raft_index index, raft_term term)
{
    return (uint32_t)((index * 37 + term * 101) % (index % 16 == 0 ? 3000 : 90));
}

/*
 * One step: some entries, at times over others of an older term, and a hard state with its number;
 * or (*count is 0) a new beginning behind the last index.
 */
static raft_index script_next(struct script *script, unsigned *count)
{
    raft_index first = script->last_index + 1;

    script->step++;
    script->snapshot_index = script->marked_index;
    if (script->step % 13 == 0) {
        script->term++;
        script->last_index += 5;
        script->terms[script->last_index] = script->term;
        script->snapshot_index = script->last_index;
        script->marked_index = script->last_index;
        *count = 0;
        return first;
    }
    if (script->step % 10 == 0 && script->last_index > script->snapshot_index + 2) {
        script->term++;
        first -= 2;
    }
    *count = 1 + (unsigned)(script->step % 4);
    cr_assert_lt(first + *count, ENTRIES_MAX);
    for (unsigned i = 0; i < *count; i++) {
        script->terms[first + i] = script->term;
    }
    script->last_index = first + *count - 1;
    if (script->step % 7 == 0) {
        script->marked_index = script->last_index - 1;
    }
    return first;
}

static void store_step(struct log_store *store, struct script *script)
{
    struct log_entry entries[4];
    struct ms_hard_state hard_state;
    unsigned count = 0;
    raft_index first = script_next(script, &count);

    hard_state = (struct ms_hard_state){.term = script->term, .commit = script->step};
    if (count == 0) {
        const struct log_store_install install = {.index = script->last_index,
                                                  .term = script->term,
                                                  .hard_state = hard_state,
                                                  .conf = script_data,
                                                  .conf_bytes = 100};

        cr_assert_eq(fixture_install(store, &install), MS_OK);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        entries[i] = (struct log_entry){.index = first + i,
                                        .term = script->term,
                                        .data = script_data + (first + i) % 256,
                                        .data_bytes = entry_bytes(first + i, script->term)};
    }
    cr_assert_eq(log_store_append(store, entries, count, &hard_state, NULL), MS_OK);
    cr_assert_eq(fixture_sync(store, NULL), MS_OK);
}

static void store_mark(struct log_store *store, const struct script *script)
{
    raft_index at = script->marked_index;

    if (at != script->snapshot_index) {
        cr_assert_eq(fixture_mark(store, at, script->terms[at], at > 10 ? at - 10 : 0), MS_OK);
    }
}

/* Goes on with the script until it is killed; a byte to acks_fd for each step that is durable. */
static void write_on(const struct implementation *implementation, const char *path, uint64_t from,
                     int acks_fd)
{
    static struct script script;
    struct log_store *store;
    unsigned count;

    script = (struct script){.term = 1};
    while (script.step < from) {
        (void)script_next(&script, &count);
    }
    cr_assert_eq(implementation->open(path, &store, NULL), MS_OK);
    for (;;) {
        store_mark(store, &script);
        store_step(store, &script);
        cr_assert_eq(write(acks_fd, "s", 1), 1);
    }
}

static bool check_entry(void *ctx, const struct log_entry *entry)
{
    const struct script *script = ctx;

    cr_assert_eq(entry->term, script->terms[entry->index], "entry %llu",
                 (unsigned long long)entry->index);
    cr_assert_eq(entry->data_bytes, entry_bytes(entry->index, entry->term));
    cr_assert_eq(memcmp(entry->data, script_data + entry->index % 256, entry->data_bytes), 0);
    return true;
}

/* Opens what is left and tells the step it stands at over steps_fd. */
static void check_store(const struct implementation *implementation, const char *path, int steps_fd)
{
    static struct script script;
    struct ms_err err = {.status = MS_OK};
    struct log_store_range range = {.max_bytes = UINT64_MAX};
    struct log_state state;
    struct log_store *store;
    unsigned count;

    cr_assert_eq(implementation->open(path, &store, &err), MS_OK, "%s", err.text);
    log_store_state(store, &state);
    script = (struct script){.term = 1};
    while (script.step < state.hard_state.commit) {
        (void)script_next(&script, &count);
    }
    cr_assert_eq(state.last_index, script.last_index);
    cr_assert(state.snapshot_index == script.snapshot_index ||
              state.snapshot_index == script.marked_index);
    if (state.last_index > 0) {
        cr_assert_eq(state.last_term, script.term);
        range.low = state.first_index;
        range.high = state.last_index + 1;
        cr_assert_eq(log_store_entries(store, &range, check_entry, &script, &err), MS_OK, "%s",
                     err.text);
    }
    cr_assert_eq(write(steps_fd, &script.step, sizeof(script.step)), sizeof(script.step));
    log_store_destroy(store);
}

/*
 * Runs a part in a process of its own: a database that was opened leaves threads behind that a fork
 * does not copy, so this process never opens one.
 */
static uint64_t checked_step(const struct implementation *implementation, const char *path)
{
    uint64_t step = UINT64_MAX;
    int fds[2];
    int status;
    pid_t child;

    cr_assert_eq(pipe(fds), 0);
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        check_store(implementation, path, fds[1]);
        _exit(0);
    }
    (void)close(fds[1]);
    cr_assert_eq(read(fds[0], &step, sizeof(step)), sizeof(step), "the store was not sound");
    (void)close(fds[0]);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return step;
}

/* Kills the writer some time after a number of acknowledgements; returns how many there were. */
static uint64_t kill_writer(const struct implementation *implementation, const char *path,
                            uint64_t from)
{
    unsigned wanted = fixture_random(25);
    uint64_t acknowledged = 0;
    int fds[2];
    int status;
    char byte;
    pid_t child;

    cr_assert_eq(pipe(fds), 0);
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        (void)close(fds[0]);
        write_on(implementation, path, from, fds[1]);
        _exit(1);
    }
    (void)close(fds[1]);
    while (acknowledged < wanted && read(fds[0], &byte, 1) == 1) {
        acknowledged++;
    }
    (void)usleep(fixture_random(1500)); /* somewhere in its work */
    cr_assert_eq(kill(child, SIGKILL), 0);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status), "the writer failed by itself");
    while (read(fds[0], &byte, 1) == 1) {
        acknowledged++;
    }
    (void)close(fds[0]);
    return acknowledged;
}

static void run_killed(const struct implementation *implementation)
{
    char path[FIXTURE_PATH_BYTES];
    uint64_t step = 0;

    fixture_make_dir(path);
    for (unsigned round = 0; round < ROUNDS && step < STEPS_MAX; round++) {
        uint64_t acknowledged = kill_writer(implementation, path, step);
        uint64_t found = checked_step(implementation, path);

        cr_assert_geq(found, step + acknowledged, "%s: acknowledged steps are lost",
                      implementation->name);
        cr_assert_leq(found, step + acknowledged + 1, "%s: steps were made up",
                      implementation->name);
        step = found;
    }
    cr_assert_gt(step, ROUNDS, "the writer hardly got to write");
    (void)printf("log_store: %s: killed %d times in %llu steps\n", implementation->name, ROUNDS,
                 (unsigned long long)step);
    fixture_remove_dir(path);
}

Test(log_store_crash, killed_writer_leaves_what_it_acknowledged)
{
    fixture_seed("log_store_crash");
    for (size_t i = 0; i < sizeof(script_data); i++) {
        script_data[i] = (uint8_t)(i * 31 + (i >> 8));
    }
    for (size_t i = 0; i < IMPLEMENTATIONS; i++) {
        run_killed(&implementations[i]);
    }
}
