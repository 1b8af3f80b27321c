/*
 * entry_store: what stays, what goes, and what the core can read.
 */
#include "raftd/entry_store.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static long live;
static bool refuse;

static void *take(void *ctx, size_t len_bytes)
{
    (void)ctx;
    if (refuse) {
        return NULL;
    }
    live++;
    return malloc(len_bytes);
}

static void give(void *ctx, void *memory)
{
    (void)ctx;
    live--;
    free(memory);
}

static const struct raft_alloc alloc = {.alloc = take, .free = give};

/* Appends count entries of the term, each with its own data. */
static void append(struct entry_store *store, raft_index first, size_t count, raft_term term)
{
    for (size_t i = 0; i < count; i++) {
        struct raft_buffer *buffer = NULL;
        uint8_t *bytes = NULL;
        struct raft_entry entry = {.term = term, .index = first + i, .len_bytes = 100};

        cr_assert_eq(raft_buffer_create(&alloc, 100, &buffer, &bytes), MS_OK);
        memset(bytes, (int)term, 100);
        entry.data = bytes;
        entry.owner = buffer;
        cr_assert_eq(entry_store_append(store, &entry, 1), MS_OK);
        raft_buffer_release(buffer);
    }
}

static raft_term term_at(const struct entry_store *store, raft_index index)
{
    raft_term term = 0;

    cr_assert_eq(entry_store_term(store, index, &term), MS_OK);
    return term;
}

Test(entry_store, begins_after_its_base)
{
    struct entry_store store;
    raft_term term = 0;

    entry_store_init(&store, &alloc, 0);
    entry_store_reset(&store, 7, 3);
    cr_assert_eq(entry_store_first_index(&store), 8);
    cr_assert_eq(entry_store_last_index(&store), 7);
    cr_assert_eq(term_at(&store, 7), 3);
    cr_assert_eq(entry_store_term(&store, 6, &term), MS_ECOMPACTED);
    cr_assert_eq(entry_store_term(&store, 8, &term), MS_EUNAVAILABLE);
    entry_store_fini(&store);
}

Test(entry_store, empty_store_has_term_zero_before_the_first_entry)
{
    struct entry_store store;

    entry_store_init(&store, &alloc, 0);
    cr_assert_eq(term_at(&store, 0), 0);
    entry_store_fini(&store);
}

/* Raft 5.3: a conflict discards the entry and all that follow it. */
Test(entry_store, append_discards_what_it_replaces)
{
    struct entry_store store;

    entry_store_init(&store, &alloc, 0);
    append(&store, 1, 10, 1);
    append(&store, 6, 2, 2);
    cr_assert_eq(entry_store_last_index(&store), 7);
    cr_assert_eq(term_at(&store, 5), 1);
    cr_assert_eq(term_at(&store, 6), 2);
    cr_assert_eq(live, 7, "replaced data is given back");
    entry_store_fini(&store);
    cr_assert_eq(live, 0);
}

Test(entry_store, applied_entries_go_when_the_bound_is_reached)
{
    struct entry_store store;
    const uint64_t per_entry = 100 + sizeof(struct raft_entry);

    entry_store_init(&store, &alloc, 5 * per_entry);
    append(&store, 1, 20, 1);
    cr_assert_eq(entry_store_unapplied_bytes(&store), 20 * per_entry);
    cr_assert_eq(entry_store_base_index(&store), 0, "what is not applied stays, bound or not");
    entry_store_applied(&store, 18);
    cr_assert_eq(entry_store_unapplied_bytes(&store), 2 * per_entry);
    cr_assert_eq(entry_store_base_index(&store), 15);
    cr_assert_eq(live, 5);
    entry_store_fini(&store);
    cr_assert_eq(live, 0);
}

Test(entry_store, terms_of_entries_that_went_stay_known_until_the_log_forgets_them)
{
    struct entry_store store;
    struct raft_slice slice;
    raft_term term = 0;

    entry_store_init(&store, &alloc, 0);
    append(&store, 1, 10, 1);
    append(&store, 11, 10, 4);
    entry_store_applied(&store, 20);
    cr_assert_eq(live, 0);
    cr_assert_eq(entry_store_first_index(&store), 1);
    cr_assert_eq(term_at(&store, 10), 1);
    cr_assert_eq(term_at(&store, 11), 4);
    cr_assert_eq(entry_store_entries(&store, 5, 8, 100, &slice), MS_EAGAIN, "it is in the log");

    entry_store_compacted(&store, 12);
    cr_assert_eq(entry_store_first_index(&store), 12);
    cr_assert_eq(term_at(&store, 11), 4);
    cr_assert_eq(entry_store_term(&store, 10, &term), MS_ECOMPACTED);
    cr_assert_eq(entry_store_entries(&store, 11, 12, 100, &slice), MS_ECOMPACTED);
    entry_store_fini(&store);
}

Test(entry_store, terms_of_the_log_before_its_base_can_be_learned)
{
    const struct ms_log_term_run runs[] = {
        {.index = 2, .term = 1}, {.index = 6, .term = 3}, {.index = 12, .term = 4}};
    const struct ms_log_term_run other[] = {{.index = 2, .term = 1}, {.index = 6, .term = 2}};
    struct entry_store store;
    raft_term term = 0;

    entry_store_init(&store, &alloc, 0);
    entry_store_reset(&store, 10, 3);
    cr_assert_eq(entry_store_learn_terms(&store, other, 2, 20), MS_EPROTO);
    cr_assert_eq(entry_store_first_index(&store), 11);
    cr_assert_eq(entry_store_learn_terms(&store, runs, 3, 20), MS_OK);
    cr_assert_eq(entry_store_first_index(&store), 3);
    cr_assert_eq(entry_store_base_index(&store), 10);
    cr_assert_eq(term_at(&store, 2), 1);
    cr_assert_eq(term_at(&store, 5), 1);
    cr_assert_eq(term_at(&store, 6), 3);
    cr_assert_eq(term_at(&store, 10), 3);
    cr_assert_eq(entry_store_term(&store, 1, &term), MS_ECOMPACTED);
    cr_assert_eq(entry_store_term(&store, 11, &term), MS_EUNAVAILABLE);
    entry_store_fini(&store);
}

Test(entry_store, entries_are_cut_to_the_limit_but_never_to_nothing)
{
    struct entry_store store;
    struct raft_slice slice;

    entry_store_init(&store, &alloc, UINT64_MAX);
    append(&store, 1, 10, 1);
    cr_assert_eq(entry_store_entries(&store, 3, 9, UINT64_MAX, &slice), MS_OK);
    cr_assert_eq(slice.count, 6);
    cr_assert_eq(slice.entries[0].index, 3);
    raft_slice_release(&slice);
    cr_assert_eq(entry_store_entries(&store, 3, 9, 0, &slice), MS_OK);
    cr_assert_eq(slice.count, 1);
    /* The slice has references of its own. */
    entry_store_fini(&store);
    cr_assert_eq(((const uint8_t *)slice.entries[0].data)[0], 1);
    raft_slice_release(&slice);
    cr_assert_eq(live, 0);
}

Test(entry_store, entries_outside_are_told_apart)
{
    struct entry_store store;
    struct raft_slice slice;

    entry_store_init(&store, &alloc, 0);
    entry_store_reset(&store, 10, 1);
    append(&store, 11, 5, 1);
    cr_assert_eq(entry_store_entries(&store, 10, 12, 100, &slice), MS_ECOMPACTED);
    cr_assert_eq(entry_store_entries(&store, 12, 17, 100, &slice), MS_EUNAVAILABLE);
    cr_assert_eq(entry_store_entries(&store, 12, 12, 100, &slice), MS_EUNAVAILABLE);
    refuse = true;
    cr_assert_eq(entry_store_entries(&store, 12, 16, 100, &slice), MS_ENOMEM);
    refuse = false;
    entry_store_fini(&store);
}

Test(entry_store, long_life_needs_bounded_memory)
{
    struct entry_store store;

    entry_store_init(&store, &alloc, 1000);
    for (raft_index i = 1; i <= 100000; i += 10) {
        append(&store, i, 10, i / 1000 + 1);
        entry_store_applied(&store, i + 9);
    }
    cr_assert_eq(entry_store_last_index(&store), 100000);
    cr_assert(store.capacity <= 1024, "%zu", store.capacity);
    entry_store_fini(&store);
    cr_assert_eq(live, 0);
}

Test(entry_store, configuration_changes_are_found)
{
    struct entry_store store;
    const struct raft_entry change = {.term = 1, .index = 4, .type = RAFT_ENTRY_CONF_CHANGE_V2};

    entry_store_init(&store, &alloc, 0);
    append(&store, 1, 3, 1);
    cr_assert_eq(entry_store_append(&store, &change, 1), MS_OK);
    append(&store, 5, 3, 1);
    cr_assert(entry_store_has_conf_change(&store, 0, 7));
    cr_assert(entry_store_has_conf_change(&store, 3, 4));
    cr_assert_not(entry_store_has_conf_change(&store, 4, 7));
    cr_assert_not(entry_store_has_conf_change(&store, 0, 3));
    entry_store_fini(&store);
}
