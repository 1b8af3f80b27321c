/*
 * term_runs: what is known of terms without the entries.
 */
#include "raftd/term_runs.h"

#include <criterion/criterion.h>

#include "common/err.h"

/* Entries 1 .. 10 of term 1, 11 .. 20 of term 5, 21 of term 6. */
static void fill(struct term_runs *terms)
{
    term_runs_reset(terms, 0, 0);
    for (int i = 0; i < 10; i++) {
        term_runs_add(terms, 1);
    }
    for (int i = 0; i < 10; i++) {
        term_runs_add(terms, 5);
    }
    term_runs_add(terms, 6);
}

Test(term_runs, entry_has_the_term_of_its_run)
{
    static struct term_runs terms;

    fill(&terms);
    cr_assert_eq(terms.last_index, 21);
    cr_assert_eq(terms.count, 4);
    cr_assert_eq(term_runs_at(&terms, 0), 0);
    cr_assert_eq(term_runs_at(&terms, 1), 1);
    cr_assert_eq(term_runs_at(&terms, 10), 1);
    cr_assert_eq(term_runs_at(&terms, 11), 5);
    cr_assert_eq(term_runs_at(&terms, 20), 5);
    cr_assert_eq(term_runs_at(&terms, 21), 6);
}

Test(term_runs, what_is_forgotten_is_forgotten_in_the_middle_of_a_run_too)
{
    static struct term_runs terms;

    fill(&terms);
    term_runs_forget(&terms, 15);
    cr_assert_eq(term_runs_first_index(&terms), 15);
    cr_assert_eq(term_runs_at(&terms, 15), 5);
    cr_assert_eq(term_runs_at(&terms, 21), 6);
    term_runs_forget(&terms, 3); /* gone already */
    cr_assert_eq(term_runs_first_index(&terms), 15);
    term_runs_forget(&terms, 21);
    cr_assert_eq(terms.count, 1);
    cr_assert_eq(term_runs_at(&terms, 21), 6);
}

Test(term_runs, more_runs_than_fit_cost_the_oldest)
{
    static struct term_runs terms;

    term_runs_reset(&terms, 0, 0);
    for (raft_term term = 1; term <= TERM_RUNS_MAX + 5; term++) {
        term_runs_add(&terms, term);
    }
    cr_assert_eq(terms.count, TERM_RUNS_MAX);
    cr_assert_eq(term_runs_first_index(&terms), 6);
    cr_assert_eq(term_runs_at(&terms, 6), 6);
    cr_assert_eq(term_runs_at(&terms, TERM_RUNS_MAX + 5), TERM_RUNS_MAX + 5);
}

Test(term_runs, older_runs_join_at_what_is_known)
{
    const struct ms_log_term_run older[] = {{.index = 0, .term = 0},
                                            {.index = 1, .term = 1},
                                            {.index = 11, .term = 5},
                                            {.index = 40, .term = 9}};
    static struct term_runs terms;

    term_runs_reset(&terms, 15, 5);
    term_runs_add(&terms, 7);
    cr_assert_eq(term_runs_learn(&terms, older, 4, 50), MS_OK);
    cr_assert_eq(term_runs_first_index(&terms), 0);
    cr_assert_eq(term_runs_at(&terms, 10), 1);
    cr_assert_eq(term_runs_at(&terms, 12), 5);
    cr_assert_eq(term_runs_at(&terms, 16), 7);
    cr_assert_eq(terms.last_index, 16);
}

Test(term_runs, contradictions_are_refused_and_nothing_new_is_nothing_new)
{
    const struct ms_log_term_run other[] = {{.index = 1, .term = 1}, {.index = 11, .term = 4}};
    const struct ms_log_term_run falling[] = {{.index = 1, .term = 3}, {.index = 11, .term = 2}};
    const struct ms_log_term_run short_of_it[] = {{.index = 1, .term = 1}};
    const struct ms_log_term_run newer[] = {{.index = 15, .term = 5}};
    static struct term_runs terms;

    term_runs_reset(&terms, 15, 5);
    cr_assert_eq(term_runs_learn(&terms, other, 2, 50), MS_EPROTO);
    cr_assert_eq(term_runs_learn(&terms, falling, 2, 50), MS_EPROTO);
    cr_assert_eq(term_runs_learn(&terms, short_of_it, 1, 14), MS_OK);
    cr_assert_eq(term_runs_learn(&terms, newer, 1, 50), MS_OK);
    cr_assert_eq(term_runs_learn(&terms, NULL, 0, 50), MS_OK);
    cr_assert_eq(term_runs_first_index(&terms), 15);
    cr_assert_eq(terms.count, 1);
}
