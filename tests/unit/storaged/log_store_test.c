/*
 * log_store: what every implementation has to do, checked on each of them.
 */
#include <criterion/criterion.h>

#include "storaged/log_store.h"
#include "tests/unit/storaged/log_stores.h"

struct fixture {
    const struct implementation *implementation;
    char path[FIXTURE_PATH_BYTES];
    struct log_store *store;
};

static void fixture_open(struct fixture *f)
{
    struct ms_err err = {.status = MS_OK};
    int rc = f->implementation->open(f->path, &f->store, &err);

    cr_assert_eq(rc, MS_OK, "%s: %s", f->implementation->name, err.text);
}

static void fixture_reopen(struct fixture *f)
{
    log_store_destroy(f->store);
    fixture_open(f);
}

/* Runs a case once on a new store of each implementation. */
static void on_each(void (*run)(struct fixture *f))
{
    for (size_t i = 0; i < IMPLEMENTATIONS; i++) {
        struct fixture f = {.implementation = &implementations[i]};

        fixture_make_dir(f.path);
        fixture_open(&f);
        run(&f);
        log_store_destroy(f.store);
        fixture_remove_dir(f.path);
    }
}

static struct log_state state_of(struct log_store *store)
{
    struct log_state state;

    log_store_state(store, &state);
    return state;
}

static bool collect_text(void *ctx, const struct log_entry *entry)
{
    char *text = ctx;
    size_t len = strlen(text);

    (void)snprintf(text + len, 512 - len, "%.*s@%llu ", (int)entry->data_bytes,
                   (const char *)entry->data, (unsigned long long)entry->term);
    return true;
}

/* Asserts what the entries [low, high) are, as "text@term " each. */
static void expect_entries(struct log_store *store, raft_index low, raft_index high,
                           const char *expected)
{
    struct log_store_range range = {.low = low, .high = high, .max_bytes = UINT64_MAX};
    struct ms_err err = {.status = MS_OK};
    char text[512] = "";

    cr_assert_eq(log_store_entries(store, &range, collect_text, text, &err), MS_OK, "%s", err.text);
    cr_assert_str_eq(text, expected);
}

static void run_empty(struct fixture *f)
{
    for (int i = 0; i < 2; i++) {
        struct log_state state = state_of(f->store);
        raft_term term = 7;
        uint8_t conf[16];
        size_t conf_bytes;
        raft_index conf_index;

        cr_assert_eq(state.first_index, 1);
        cr_assert_eq(state.last_index, 0);
        cr_assert_eq(state.hard_state.term, 0);
        cr_assert_eq(log_store_term(f->store, 0, &term, NULL), MS_OK);
        cr_assert_eq(term, 0, "the term before the first entry is 0");
        cr_assert_eq(log_store_term(f->store, 1, &term, NULL), MS_EUNAVAILABLE);
        cr_assert_eq(log_store_sync(f->store, NULL), MS_OK, "nothing to sync is no error");
        cr_assert_eq(log_store_conf(f->store, UINT64_MAX, conf, sizeof(conf), &conf_bytes,
                                    &conf_index, NULL),
                     MS_ENOENT);
        fixture_reopen(f);
    }
}

Test(log_store, empty_log_has_term_zero_and_nothing_else)
{
    on_each(run_empty);
}

static void run_append(struct fixture *f)
{
    struct ms_hard_state hard_state = {.term = 3, .vote = 2, .commit = 1};
    struct log_state state;

    cr_assert_eq(fixture_put(f->store, 1, 1, "a"), MS_OK);
    cr_assert_eq(fixture_put(f->store, 2, 2, ""), MS_OK);
    cr_assert_eq(log_store_append(f->store, NULL, 0, &hard_state, NULL), MS_OK);
    cr_assert_eq(state_of(f->store).last_index, 0, "nothing counts before it is durable");
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    for (int i = 0; i < 2; i++) {
        state = state_of(f->store);
        cr_assert_eq(state.last_index, 2);
        cr_assert_eq(state.last_term, 2);
        cr_assert_eq(state.hard_state.term, 3);
        cr_assert_eq(state.hard_state.vote, 2);
        cr_assert_eq(state.hard_state.commit, 1);
        expect_entries(f->store, 1, 3, "a@1 @2 ");
        fixture_reopen(f);
    }
}

Test(log_store, what_was_synced_is_there_after_reopening)
{
    on_each(run_append);
}

static void run_unsynced(struct fixture *f)
{
    cr_assert_eq(fixture_put(f->store, 1, 1, "a"), MS_OK);
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    cr_assert_eq(fixture_put(f->store, 2, 1, "b"), MS_OK);
    fixture_reopen(f);
    cr_assert_eq(state_of(f->store).last_index, 1);
}

Test(log_store, what_was_not_synced_is_not)
{
    on_each(run_unsynced);
}

static void run_truncate(struct fixture *f)
{
    cr_assert_eq(fixture_put(f->store, 1, 1, "a"), MS_OK);
    cr_assert_eq(fixture_put(f->store, 2, 1, "b"), MS_OK);
    cr_assert_eq(fixture_put(f->store, 3, 1, "c"), MS_OK);
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    cr_assert_eq(fixture_put(f->store, 2, 2, "B"), MS_OK);
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(state_of(f->store).last_index, 2);
        expect_entries(f->store, 1, 3, "a@1 B@2 ");
        fixture_reopen(f);
    }
    /* Twice within one sync: the later one counts. */
    cr_assert_eq(fixture_put(f->store, 3, 2, "C"), MS_OK);
    cr_assert_eq(fixture_put(f->store, 4, 2, "D"), MS_OK);
    cr_assert_eq(fixture_put(f->store, 2, 3, "x"), MS_OK);
    cr_assert_eq(fixture_put(f->store, 3, 3, "y"), MS_OK);
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(state_of(f->store).last_index, 3);
        expect_entries(f->store, 1, 4, "a@1 x@3 y@3 ");
        fixture_reopen(f);
    }
}

Test(log_store, a_conflicting_suffix_is_replaced)
{
    on_each(run_truncate);
}

static void run_gap(struct fixture *f)
{
    struct log_entry entries[2] = {{.index = 1, .term = 1}, {.index = 3, .term = 1}};

    cr_assert_eq(fixture_put(f->store, 2, 1, "b"), MS_EINVAL);
    cr_assert_eq(log_store_append(f->store, entries, 2, NULL, NULL), MS_EINVAL);
    cr_assert_eq(fixture_put(f->store, 1, 1, "a"), MS_OK);
    cr_assert_eq(fixture_put(f->store, 3, 1, "c"), MS_EINVAL);
}

Test(log_store, gaps_are_refused)
{
    on_each(run_gap);
}

static void run_ranges(struct fixture *f)
{
    struct log_store_range range = {.low = 1, .high = 4, .max_bytes = 1};
    char text[512] = "";

    cr_assert_eq(fixture_put(f->store, 1, 1, "aaaa"), MS_OK);
    cr_assert_eq(fixture_put(f->store, 2, 1, "bbbb"), MS_OK);
    cr_assert_eq(fixture_put(f->store, 3, 1, "cccc"), MS_OK);
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    cr_assert_eq(log_store_entries(f->store, &range, collect_text, text, NULL), MS_OK);
    cr_assert_str_eq(text, "aaaa@1 ", "the first comes whatever its size");
    range.max_bytes = 8;
    text[0] = '\0';
    cr_assert_eq(log_store_entries(f->store, &range, collect_text, text, NULL), MS_OK);
    cr_assert_str_eq(text, "aaaa@1 bbbb@1 ");
    range.high = 5;
    text[0] = '\0';
    cr_assert_eq(log_store_entries(f->store, &range, collect_text, text, NULL), MS_EUNAVAILABLE);
    cr_assert_str_eq(text, "");
}

Test(log_store, ranges_are_cut_by_size_and_refused_beyond_the_end)
{
    on_each(run_ranges);
}

static void run_compact(struct fixture *f)
{
    raft_term term = 0;

    for (raft_index i = 1; i <= 10; i++) {
        cr_assert_eq(fixture_put(f->store, i, i, "e"), MS_OK);
    }
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    cr_assert_eq(log_store_compact(f->store, 3, NULL), MS_EINVAL, "no snapshot covers that");
    cr_assert_eq(fixture_mark(f->store, 6, 6, 4), MS_OK);
    for (int i = 0; i < 2; i++) {
        struct log_store_range range = {.low = 4, .high = 6, .max_bytes = 100};
        struct log_state state = state_of(f->store);

        cr_assert_eq(state.first_index, 5);
        cr_assert_eq(state.snapshot_index, 6);
        cr_assert_eq(state.snapshot_term, 6);
        cr_assert_eq(log_store_term(f->store, 3, &term, NULL), MS_ECOMPACTED);
        cr_assert_eq(log_store_term(f->store, 4, &term, NULL), MS_OK);
        cr_assert_eq(term, 4);
        cr_assert_eq(log_store_entries(f->store, &range, collect_text, NULL, NULL), MS_ECOMPACTED);
        expect_entries(f->store, 5, 11, "e@5 e@6 e@7 e@8 e@9 e@10 ");
        fixture_reopen(f);
    }
    cr_assert_eq(log_store_compact(f->store, 2, NULL), MS_OK, "gone already");
    cr_assert_eq(fixture_put(f->store, 6, 9, "late"), MS_OK, "covered by the snapshot: skipped");
    cr_assert_eq(log_store_set_snapshot(f->store, 5, 5, NULL), MS_EINVAL, "older");
    /* To the very end. */
    cr_assert_eq(fixture_mark(f->store, 10, 10, 10), MS_OK);
    fixture_reopen(f);
    cr_assert_eq(state_of(f->store).first_index, 11);
    cr_assert_eq(state_of(f->store).last_index, 10);
    cr_assert_eq(state_of(f->store).last_term, 10);
    cr_assert_eq(fixture_put(f->store, 11, 10, "next"), MS_OK);
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    expect_entries(f->store, 11, 12, "next@10 ");
}

Test(log_store, compaction_forgets_entries_but_not_the_term_before_the_first)
{
    on_each(run_compact);
}

static struct log_store_install snapshot_of(raft_index index, raft_term term)
{
    return (struct log_store_install){.index = index,
                                      .term = term,
                                      .hard_state = {.term = 9, .vote = 3, .commit = index},
                                      .conf = (const uint8_t *)"conf",
                                      .conf_bytes = 4};
}

static void run_install(struct fixture *f)
{
    struct log_store_install install = snapshot_of(100, 7);
    uint8_t conf[64];
    size_t conf_bytes = 0;
    raft_index index = 0;
    raft_term term = 0;

    cr_assert_eq(fixture_put(f->store, 1, 1, "a"), MS_OK);
    cr_assert_eq(fixture_put(f->store, 2, 1, "b"), MS_OK);
    cr_assert_eq(fixture_install(f->store, &install), MS_EBUSY, "something is staged");
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    cr_assert_eq(fixture_mark(f->store, 100, 7, 0), MS_EINVAL, "the log has no such entry");
    cr_assert_eq(fixture_install(f->store, &install), MS_OK);
    for (int i = 0; i < 2; i++) {
        struct log_state state = state_of(f->store);

        cr_assert_eq(state.first_index, 101);
        cr_assert_eq(state.last_index, 100);
        cr_assert_eq(state.last_term, 7);
        cr_assert_eq(state.snapshot_index, 100);
        cr_assert_eq(state.hard_state.term, 9);
        cr_assert_eq(state.hard_state.vote, 3);
        cr_assert_eq(state.hard_state.commit, 100);
        cr_assert_eq(log_store_term(f->store, 100, &term, NULL), MS_OK);
        cr_assert_eq(term, 7);
        cr_assert_eq(log_store_conf(f->store, 200, conf, 64, &conf_bytes, &index, NULL), MS_OK);
        cr_assert_eq(index, 100);
        cr_assert_eq(conf_bytes, 4);
        cr_assert_arr_eq(conf, "conf", 4);
        fixture_reopen(f);
    }
    cr_assert_eq(fixture_put(f->store, 101, 7, "c"), MS_OK);
    cr_assert_eq(fixture_put(f->store, 102, 7, "d"), MS_OK);
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    expect_entries(f->store, 101, 103, "c@7 d@7 ");
    /* A snapshot of an entry that the log holds with another term. */
    install = snapshot_of(101, 8);
    cr_assert_eq(fixture_install(f->store, &install), MS_OK);
    fixture_reopen(f);
    cr_assert_eq(state_of(f->store).first_index, 102);
    cr_assert_eq(state_of(f->store).last_index, 101);
}

Test(log_store, a_foreign_snapshot_starts_the_log_anew)
{
    on_each(run_install);
}

static void run_install_again(struct fixture *f)
{
    struct log_store_install install = snapshot_of(10, 2);

    cr_assert_eq(fixture_install(f->store, &install), MS_OK);
    cr_assert_eq(fixture_put(f->store, 11, 2, "k"), MS_OK);
    cr_assert_eq(fixture_put(f->store, 12, 2, "l"), MS_OK);
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    /* The same once more: who sends it has not heard that it was done. */
    cr_assert_eq(fixture_install(f->store, &install), MS_OK);
    expect_entries(f->store, 11, 13, "k@2 l@2 ");
    /* One of an entry that is here: what follows is of the same log. */
    install = snapshot_of(11, 2);
    cr_assert_eq(fixture_install(f->store, &install), MS_OK);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(state_of(f->store).snapshot_index, 11);
        cr_assert_eq(state_of(f->store).last_index, 12);
        expect_entries(f->store, 11, 13, "k@2 l@2 ");
        fixture_reopen(f);
    }
    install = snapshot_of(5, 1);
    cr_assert_eq(fixture_install(f->store, &install), MS_EINVAL, "older than the one recorded");
    install = snapshot_of(20, 3);
    install.hard_state.commit = 21;
    cr_assert_eq(fixture_install(f->store, &install), MS_EINVAL, "commits what is not there");
    expect_entries(f->store, 11, 13, "k@2 l@2 ");
}

Test(log_store, installing_again_discards_nothing)
{
    on_each(run_install_again);
}

static void run_confs(struct fixture *f)
{
    uint8_t conf[64];
    size_t conf_bytes = 0;
    raft_index index = 0;

    for (raft_index i = 1; i <= 5; i++) {
        cr_assert_eq(fixture_put(f->store, i, 1, "e"), MS_OK);
    }
    cr_assert_eq(log_store_put_conf(f->store, 2, (const uint8_t *)"two", 3, NULL), MS_OK);
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    cr_assert_eq(log_store_put_conf(f->store, 4, (const uint8_t *)"four", 4, NULL), MS_OK);
    cr_assert_eq(log_store_put_conf(f->store, 4, (const uint8_t *)"FOUR", 4, NULL), MS_OK);
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(log_store_conf(f->store, 1, conf, 64, &conf_bytes, &index, NULL), MS_ENOENT);
        cr_assert_eq(log_store_conf(f->store, 3, conf, 64, &conf_bytes, &index, NULL), MS_OK);
        cr_assert_eq(index, 2);
        cr_assert_arr_eq(conf, "two", 3);
        cr_assert_eq(log_store_conf(f->store, 9, conf, 64, &conf_bytes, &index, NULL), MS_OK);
        cr_assert_eq(index, 4);
        cr_assert_eq(conf_bytes, 4);
        cr_assert_arr_eq(conf, "FOUR", 4, "the last one said counts");
        cr_assert_eq(log_store_conf(f->store, 9, conf, 2, &conf_bytes, &index, NULL), MS_ERANGE);
        fixture_reopen(f);
    }
}

Test(log_store, configurations_are_found_by_index)
{
    on_each(run_confs);
}

static void run_confs_cut(struct fixture *f)
{
    uint8_t conf[64];
    size_t conf_bytes = 0;
    raft_index index = 0;

    for (raft_index i = 1; i <= 6; i++) {
        cr_assert_eq(fixture_put(f->store, i, 1, "e"), MS_OK);
    }
    cr_assert_eq(log_store_put_conf(f->store, 2, (const uint8_t *)"two", 3, NULL), MS_OK);
    cr_assert_eq(log_store_put_conf(f->store, 5, (const uint8_t *)"five", 4, NULL), MS_OK);
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    cr_assert_eq(log_store_put_conf(f->store, 6, (const uint8_t *)"six", 3, NULL), MS_OK);
    /* In the same batch, and in a later one. */
    cr_assert_eq(fixture_put(f->store, 6, 2, "f"), MS_OK);
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    cr_assert_eq(log_store_conf(f->store, 9, conf, 64, &conf_bytes, &index, NULL), MS_OK);
    cr_assert_eq(index, 5);
    cr_assert_eq(fixture_put(f->store, 4, 3, "g"), MS_OK);
    cr_assert_eq(fixture_put(f->store, 5, 3, "h"), MS_OK);
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(log_store_conf(f->store, 9, conf, 64, &conf_bytes, &index, NULL), MS_OK);
        cr_assert_eq(index, 2, "that of entry 5 went with the entry");
        fixture_reopen(f);
    }
    cr_assert_eq(log_store_put_conf(f->store, 5, (const uint8_t *)"FIVE", 4, NULL), MS_OK);
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    cr_assert_eq(log_store_conf(f->store, 9, conf, 64, &conf_bytes, &index, NULL), MS_OK);
    cr_assert_eq(index, 5);
    cr_assert_arr_eq(conf, "FIVE", 4);
}

Test(log_store, configurations_of_discarded_entries_are_forgotten)
{
    on_each(run_confs_cut);
}

static void run_cuts(struct fixture *f)
{
    struct log_store_install install = snapshot_of(20, 4);
    uint64_t cuts = state_of(f->store).cuts;

    for (raft_index i = 1; i <= 3; i++) {
        cr_assert_eq(fixture_put(f->store, i, 1, "e"), MS_OK);
    }
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    cr_assert_eq(state_of(f->store).cuts, cuts, "nothing was discarded");
    cr_assert_eq(fixture_put(f->store, 3, 2, "f"), MS_OK);
    cr_assert_eq(state_of(f->store).cuts, cuts, "it is not durable yet");
    cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    cr_assert_neq(state_of(f->store).cuts, cuts);
    cuts = state_of(f->store).cuts;
    cr_assert_eq(fixture_install(f->store, &install), MS_OK);
    cr_assert_neq(state_of(f->store).cuts, cuts);
}

Test(log_store, discarded_entries_can_be_noticed)
{
    on_each(run_cuts);
}

/* ---- against a model ------------------------------------------------------------------------ */

#define MODEL_ENTRIES 4096
#define MODEL_STEPS   600

struct model_entry {
    raft_term term;
    uint32_t bytes;
    uint8_t fill;
};

struct model {
    struct model_entry entries[MODEL_ENTRIES]; /* by index */
    struct log_state state;
};

static uint8_t model_data[1 << 16];

static void model_append(struct model *model, struct fixture *f)
{
    struct log_state *state = &model->state;
    raft_index low = state->snapshot_index + 1;
    raft_index first = state->last_index + 1;
    unsigned count = 1 + fixture_random(8);
    struct log_entry entries[8];
    struct ms_hard_state hard_state;
    int rc;

    if (fixture_random(10) == 0 && state->last_index >= low) {
        first = low + fixture_random((unsigned)(state->last_index - low + 1));
        state->hard_state.term++;
    }
    for (unsigned i = 0; i < count; i++) {
        struct model_entry *entry = &model->entries[first + i];

        entry->term = state->hard_state.term;
        entry->fill = (uint8_t)fixture_random(256);
        entry->bytes = fixture_random(20) == 0 ? fixture_random(3000) : fixture_random(100);
        entries[i] = (struct log_entry){.term = entry->term,
                                        .index = first + i,
                                        .data = model_data + entry->fill,
                                        .data_bytes = entry->bytes};
    }
    hard_state = state->hard_state;
    hard_state.commit = state->snapshot_index;
    while ((rc = log_store_append(f->store, entries, count, &hard_state, NULL)) == MS_EAGAIN) {
        cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
    }
    cr_assert_eq(rc, MS_OK);
    state->hard_state = hard_state;
    state->last_index = first + count - 1;
    state->last_term = state->hard_state.term;
}

struct model_walk {
    const struct model *model;
    raft_index next;
};

static bool model_check_entry(void *ctx, const struct log_entry *entry)
{
    struct model_walk *walk = ctx;
    const struct model_entry *expected = &walk->model->entries[walk->next];

    cr_assert_eq(entry->index, walk->next);
    cr_assert_eq(entry->term, expected->term);
    cr_assert_eq(entry->data_bytes, expected->bytes);
    cr_assert(memcmp(entry->data, model_data + expected->fill, expected->bytes) == 0);
    walk->next++;
    return true;
}

static void model_check(const struct model *model, struct fixture *f)
{
    struct log_state state = state_of(f->store);
    struct log_store_range range = {
        .low = state.first_index, .high = state.last_index + 1, .max_bytes = UINT64_MAX};
    struct model_walk walk = {.model = model, .next = state.first_index};
    struct ms_err err = {.status = MS_OK};

    cr_assert_eq(state.first_index, model->state.first_index);
    cr_assert_eq(state.last_index, model->state.last_index);
    cr_assert_eq(state.last_term, model->state.last_term);
    cr_assert_eq(state.snapshot_index, model->state.snapshot_index);
    cr_assert_eq(state.hard_state.commit, model->state.hard_state.commit);
    cr_assert_eq(log_store_entries(f->store, &range, model_check_entry, &walk, &err), MS_OK, "%s",
                 err.text);
    cr_assert_eq(walk.next, state.last_index + 1);
    if (state.last_index > state.first_index + 2) {
        raft_index at = state.first_index + (state.last_index - state.first_index) / 2;
        raft_term term = 0;

        cr_assert_eq(log_store_term(f->store, at, &term, NULL), MS_OK);
        cr_assert_eq(term, model->entries[at].term);
    }
}

static void run_model(struct fixture *f)
{
    static struct model model;

    memset(&model, 0, sizeof(model));
    model.state.first_index = 1;
    model.state.hard_state.term = 1;
    for (size_t i = 0; i < sizeof(model_data); i++) {
        model_data[i] = (uint8_t)(i * 31);
    }
    for (unsigned step = 0; step < MODEL_STEPS; step++) {
        struct log_state *state = &model.state;
        unsigned what = fixture_random(100);

        if (what < 80 && state->last_index + 16 < MODEL_ENTRIES) {
            model_append(&model, f);
            continue;
        }
        cr_assert_eq(fixture_sync(f->store, NULL), MS_OK);
        if (what < 90) {
            model_check(&model, f);
        } else if (what < 95 && state->last_index > state->snapshot_index) {
            raft_index at = state->snapshot_index + 1 +
                            fixture_random((unsigned)(state->last_index - state->snapshot_index));

            cr_assert_eq(fixture_mark(f->store, at, model.entries[at].term, at > 20 ? at - 20 : 0),
                         MS_OK);
            state->snapshot_index = at;
            if (at > 20 && at - 20 >= state->first_index) {
                state->first_index = at - 20 + 1;
            }
        } else {
            fixture_reopen(f);
            model_check(&model, f);
        }
    }
}

Test(log_store, random_operations_match_a_model)
{
    fixture_seed("log_store");
    on_each(run_model);
}
