/*
 * health: which state makes which page say what.
 */
#include "apid/health.h"

#include <criterion/criterion.h>
#include <string.h>

static struct health_state good(void)
{
    return (struct health_state){
        .has_leader = true, .store_open = true, .commit = 10, .applied = 10, .gone_limit_ms = 1000};
}

static void expect(struct answer answer, int status, const char *body)
{
    cr_assert_eq(answer.status, status, "%.*s", (int)answer.body_bytes, (const char *)answer.body);
    cr_assert_eq(answer.body_bytes, strlen(body));
    cr_assert_arr_eq(answer.body, body, strlen(body));
}

Test(health, is_what_etcd_says)
{
    struct health_state state = good();

    expect(health_answer(&state), 200, "{\"health\":\"true\"}");
    state.has_leader = false;
    expect(health_answer(&state), 503, "{\"health\":\"false\"}");
    state = good();
    state.log_full = true;
    expect(health_answer(&state), 503, "{\"health\":\"false\"}");
    state = good();
    state.memory_full = true;
    expect(health_answer(&state), 503, "{\"health\":\"false\"}");
}

Test(health, leaderless_is_alive)
{
    struct health_state state = {.gone_limit_ms = 1000};

    expect(livez_answer(&state), 200, "ok\n");
}

Test(health, restart_is_no_death_but_absence_is)
{
    struct health_state state = good();

    state.raftd_gone_ms = 1000;
    expect(livez_answer(&state), 200, "ok\n");
    state.raftd_gone_ms = 1001;
    expect(livez_answer(&state), 503, "raftd is not running\n");
    state = good();
    state.storaged_gone_ms = 1001;
    expect(livez_answer(&state), 503, "storaged is not running\n");
}

Test(health, ready_is_able_to_commit_and_caught_up)
{
    struct health_state state = good();

    expect(readyz_answer(&state), 200, "ok\n");
    state.commit = state.applied + HEALTH_LAG_MAX;
    expect(readyz_answer(&state), 200, "ok\n");
    state.commit++;
    expect(readyz_answer(&state), 503, "catching up\n");
    state.memory_full = true;
    expect(readyz_answer(&state), 503, "the memory limit is reached\n");
    state.log_full = true;
    expect(readyz_answer(&state), 503, "the disk is full\n");
    state.store_open = false;
    expect(readyz_answer(&state), 503, "the store is not open\n");
    state.has_leader = false;
    expect(readyz_answer(&state), 503, "no leader\n");
    state.draining = true;
    expect(readyz_answer(&state), 503, "stopping\n");
    cr_assert(readyz_answer(&state).retry_after);
}
