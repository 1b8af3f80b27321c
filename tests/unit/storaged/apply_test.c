/*
 * apply_test: what operations do, and that each is done once.
 */
#include "tests/unit/storaged/engine_fixture.h"

#define ORIGIN 77

struct machine {
    char dir[256];
    struct engine *engine;
    struct apply *apply;
    uint64_t seq;
};

static void machine_init(struct machine *machine)
{
    *machine = (struct machine){.seq = 0};
    fixture_make_dir(machine->dir);
    MUST(memory_engine_create(machine->dir, FIXTURE_LIMIT_BYTES, &machine->engine, err));
    MUST(apply_create(machine->engine, &machine->apply, err));
}

static void machine_reopen(struct machine *machine)
{
    apply_destroy(machine->apply);
    engine_close(machine->engine);
    MUST(memory_engine_open(machine->dir, FIXTURE_LIMIT_BYTES, &machine->engine, err));
    MUST(apply_create(machine->engine, &machine->apply, err));
}

static void machine_fini(struct machine *machine)
{
    apply_destroy(machine->apply);
    engine_close(machine->engine);
    fixture_remove_dir(machine->dir);
}

static struct ms_command command_of(struct machine *machine, enum ms_command_kind kind,
                                    const char *key, const char *value)
{
    machine->seq++;
    return (struct ms_command){
        .id = {.origin = ORIGIN, .seq = machine->seq},
        .ack_seq = 1,
        .kind = kind,
        .key = (const uint8_t *)key,
        .key_bytes = strlen(key),
        .value = (const uint8_t *)value,
        .value_bytes = value == NULL ? 0 : strlen(value),
    };
}

static struct apply_result do_put(struct machine *machine, const char *key, const char *value)
{
    struct ms_command command = command_of(machine, MS_COMMAND_PUT, key, value);

    return fixture_apply(machine->engine, machine->apply, &command);
}

static struct apply_result do_delete(struct machine *machine, const char *key)
{
    struct ms_command command = command_of(machine, MS_COMMAND_DELETE, key, NULL);

    return fixture_apply(machine->engine, machine->apply, &command);
}

static struct apply_result do_conditional(struct machine *machine, enum ms_command_kind kind,
                                          const char *key, enum ms_command_condition condition,
                                          uint64_t revision)
{
    struct ms_command command =
        command_of(machine, kind, key, kind == MS_COMMAND_PUT ? "value" : NULL);

    command.condition = condition;
    command.revision = revision;
    return fixture_apply(machine->engine, machine->apply, &command);
}

static void expect_kv(struct machine *machine, const char *key, const char *value,
                      uint64_t create_revision, uint64_t mod_revision, uint64_t version)
{
    struct ms_memdb_kv kv;

    MUST(engine_get(machine->engine, (const uint8_t *)key, strlen(key), 0, &kv, err));
    cr_assert_eq(kv.value_bytes, strlen(value));
    cr_assert_eq(memcmp(kv.value, value, kv.value_bytes), 0);
    cr_assert_eq(kv.create_revision, create_revision);
    cr_assert_eq(kv.mod_revision, mod_revision);
    cr_assert_eq(kv.version, version);
    cr_assert_eq(kv.lease, 0);
}

static void expect_absent(struct machine *machine, const char *key)
{
    struct ms_memdb_kv kv;

    cr_assert_eq(engine_get(machine->engine, (const uint8_t *)key, strlen(key), 0, &kv, NULL),
                 MS_ENOENT);
}

static void expect_result(struct apply_result result, enum ms_result_code code, uint64_t revision)
{
    cr_assert_eq(result.code, code, "code %d", (int)result.code);
    cr_assert_eq(result.revision, revision, "revision %llu", (unsigned long long)result.revision);
}

/* Revisions start at 1; each change adds one; versions start over after a delete. */
Test(apply, revisions_and_versions_count_as_in_etcd)
{
    struct machine m;
    struct ms_memdb_meta meta;

    machine_init(&m);
    engine_meta(m.engine, &meta);
    cr_assert_eq(meta.revision, 1);
    expect_result(do_put(&m, "a", "1"), MS_RESULT_OK, 2);
    expect_result(do_put(&m, "b", ""), MS_RESULT_OK, 3);
    expect_result(do_put(&m, "a", "2"), MS_RESULT_OK, 4);
    expect_kv(&m, "a", "2", 2, 4, 2);
    expect_kv(&m, "b", "", 3, 3, 1);
    expect_result(do_delete(&m, "a"), MS_RESULT_OK, 5);
    expect_absent(&m, "a");
    expect_result(do_delete(&m, "a"), MS_RESULT_NOT_FOUND, 5);
    expect_result(do_put(&m, "a", "3"), MS_RESULT_OK, 6);
    expect_kv(&m, "a", "3", 6, 6, 1);
    engine_meta(m.engine, &meta);
    cr_assert_eq(meta.keys, 2);
    cr_assert_eq(meta.revision, 6);
    cr_assert_eq(meta.applied, 6);
    machine_fini(&m);
}

/* A condition that does not hold changes nothing and answers with the store's revision. */
Test(apply, conditions_guard_operations)
{
    struct machine m;

    machine_init(&m);
    expect_result(do_conditional(&m, MS_COMMAND_PUT, "k", MS_CONDITION_PRESENT, 0),
                  MS_RESULT_CONDITION_FAILED, 1);
    expect_result(do_conditional(&m, MS_COMMAND_PUT, "k", MS_CONDITION_MOD_REVISION, 1),
                  MS_RESULT_CONDITION_FAILED, 1);
    expect_result(do_conditional(&m, MS_COMMAND_DELETE, "k", MS_CONDITION_PRESENT, 0),
                  MS_RESULT_CONDITION_FAILED, 1);
    expect_result(do_conditional(&m, MS_COMMAND_DELETE, "k", MS_CONDITION_ABSENT, 0),
                  MS_RESULT_NOT_FOUND, 1);
    expect_absent(&m, "k");
    expect_result(do_conditional(&m, MS_COMMAND_PUT, "k", MS_CONDITION_ABSENT, 0), MS_RESULT_OK, 2);
    expect_result(do_conditional(&m, MS_COMMAND_PUT, "k", MS_CONDITION_ABSENT, 0),
                  MS_RESULT_CONDITION_FAILED, 2);
    expect_result(do_conditional(&m, MS_COMMAND_PUT, "k", MS_CONDITION_MOD_REVISION, 2),
                  MS_RESULT_OK, 3);
    expect_result(do_conditional(&m, MS_COMMAND_PUT, "k", MS_CONDITION_PRESENT, 0), MS_RESULT_OK,
                  4);
    expect_result(do_conditional(&m, MS_COMMAND_DELETE, "k", MS_CONDITION_MOD_REVISION, 3),
                  MS_RESULT_CONDITION_FAILED, 4);
    expect_kv(&m, "k", "value", 2, 4, 3);
    expect_result(do_conditional(&m, MS_COMMAND_DELETE, "k", MS_CONDITION_MOD_REVISION, 4),
                  MS_RESULT_OK, 5);
    expect_absent(&m, "k");
    machine_fini(&m);
}

Test(apply, compaction_moves_forward_only)
{
    struct machine m;
    struct ms_command command;
    struct ms_memdb_meta meta;

    machine_init(&m);
    (void)do_put(&m, "a", "1");
    (void)do_put(&m, "a", "2");
    command = (struct ms_command){.id = {ORIGIN, 100}, .ack_seq = 1, .kind = MS_COMMAND_COMPACT};
    command.revision = 4;
    expect_result(fixture_apply(m.engine, m.apply, &command), MS_RESULT_INVALID, 3);
    command.id.seq++;
    command.revision = 3;
    expect_result(fixture_apply(m.engine, m.apply, &command), MS_RESULT_OK, 3);
    command.id.seq++;
    expect_result(fixture_apply(m.engine, m.apply, &command), MS_RESULT_CONDITION_FAILED, 3);
    engine_meta(m.engine, &meta);
    cr_assert_eq(meta.compact_revision, 3);
    machine_fini(&m);
}

/* The same id again: the same answer, no second effect; also after the process was replaced. */
Test(apply, repeated_operations_are_done_once)
{
    struct machine m;
    struct ms_command put;
    struct ms_command failed;
    struct apply_counters counters;
    struct apply_result again;

    machine_init(&m);
    put = command_of(&m, MS_COMMAND_PUT, "k", "v");
    expect_result(fixture_apply(m.engine, m.apply, &put), MS_RESULT_OK, 2);
    failed = command_of(&m, MS_COMMAND_PUT, "k", "w");
    failed.condition = MS_CONDITION_ABSENT;
    expect_result(fixture_apply(m.engine, m.apply, &failed), MS_RESULT_CONDITION_FAILED, 2);
    (void)do_delete(&m, "k");
    for (int round = 0; round < 2; round++) {
        again = fixture_apply(m.engine, m.apply, &put);
        expect_result(again, MS_RESULT_OK, 2);
        cr_assert(again.duplicate);
        cr_assert_eq(again.id.seq, put.id.seq);
        /* It would succeed now, but it was answered. */
        expect_result(fixture_apply(m.engine, m.apply, &failed), MS_RESULT_CONDITION_FAILED, 2);
        expect_absent(&m, "k");
        apply_counters(m.apply, &counters);
        cr_assert_eq(counters.duplicates, 2);
        machine_reopen(&m);
    }
    machine_fini(&m);
}

/* Twice within one batch is twice as well. */
Test(apply, repetitions_inside_a_batch_are_recognised)
{
    struct machine m;
    struct apply_entry entries[3];
    struct apply_result results[3];
    struct ms_command command;
    size_t count;

    machine_init(&m);
    command = command_of(&m, MS_COMMAND_PUT, "k", "v");
    for (size_t i = 0; i < 3; i++) {
        entries[i] = fixture_entry(1 + i, &command);
    }
    MUST(apply_entries(m.apply, entries, 3, results, &count, err));
    cr_assert_eq(count, 3);
    for (size_t i = 0; i < 3; i++) {
        expect_result(results[i], MS_RESULT_OK, 2);
        cr_assert_eq(results[i].duplicate, i > 0);
        fixture_free_entry(&entries[i]);
    }
    expect_kv(&m, "k", "v", 2, 2, 1);
    machine_fini(&m);
}

/* Below the acknowledged watermark an id is not done again, even when its answer is gone. */
Test(apply, acknowledged_operations_are_not_done_again)
{
    struct machine m;
    struct ms_command first;
    struct ms_command later;

    machine_init(&m);
    first = command_of(&m, MS_COMMAND_PUT, "k", "v");
    (void)fixture_apply(m.engine, m.apply, &first);
    later = command_of(&m, MS_COMMAND_DELETE, "k", NULL);
    later.ack_seq = later.id.seq;
    expect_result(fixture_apply(m.engine, m.apply, &later), MS_RESULT_OK, 3);
    expect_result(fixture_apply(m.engine, m.apply, &first), MS_RESULT_FORGOTTEN, 3);
    expect_absent(&m, "k");
    machine_fini(&m);
}

/* What comes again after a restart is skipped, a gap is refused, and neither changes anything. */
Test(apply, entries_continue_where_the_state_stands)
{
    struct machine m;
    struct apply_entry entries[3];
    struct apply_result results[3];
    struct ms_memdb_meta meta;
    size_t count = 99;

    machine_init(&m);
    for (size_t i = 0; i < 3; i++) {
        struct ms_command command = command_of(&m, MS_COMMAND_PUT, "k", "v");

        entries[i] = fixture_entry(1 + i, &command);
    }
    cr_assert_eq(apply_entries(m.apply, &entries[1], 2, results, &count, NULL), MS_EPROTO);
    MUST(apply_entries(m.apply, entries, 2, results, &count, err));
    cr_assert_eq(count, 2);
    MUST(apply_entries(m.apply, entries, 2, results, &count, err));
    cr_assert_eq(count, 0);
    MUST(apply_entries(m.apply, entries, 3, results, &count, err));
    cr_assert_eq(count, 1);
    cr_assert_eq(results[0].id.seq, 3);
    entries[2].index = 7;
    cr_assert_eq(apply_entries(m.apply, entries, 3, results, &count, NULL), MS_EPROTO);
    engine_meta(m.engine, &meta);
    cr_assert_eq(meta.applied, 3);
    cr_assert_eq(meta.revision, 4);
    MUST(apply_entries(m.apply, NULL, 0, results, &count, err));
    for (size_t i = 0; i < 3; i++) {
        fixture_free_entry(&entries[i]);
    }
    machine_fini(&m);
}

/* Empty entries, configuration changes and nonsense move the applied index and nothing else. */
Test(apply, entries_without_a_command_only_count)
{
    static const uint8_t nonsense[60] = {9, 9, 9};
    const struct apply_entry entries[] = {
        {.index = 1, .term = 3, .type = MS_ENTRY_NORMAL},
        {.index = 2, .term = 3, .type = MS_ENTRY_CONF_CHANGE_V2, .data = nonsense, .len_bytes = 5},
        {.index = 3, .term = 4, .type = MS_ENTRY_NORMAL, .data = nonsense, .len_bytes = 60},
        {.index = 4, .term = 5, .type = MS_ENTRY_NORMAL, .data = nonsense, .len_bytes = 1},
    };
    struct machine m;
    struct apply_result results[4];
    struct apply_counters counters;
    struct ms_memdb_meta meta;
    size_t count = 99;

    machine_init(&m);
    MUST(apply_entries(m.apply, entries, 4, results, &count, err));
    cr_assert_eq(count, 0);
    engine_meta(m.engine, &meta);
    cr_assert_eq(meta.applied, 4);
    cr_assert_eq(meta.applied_term, 5);
    cr_assert_eq(meta.revision, 1);
    apply_counters(m.apply, &counters);
    cr_assert_eq(counters.undecodable, 2);
    machine_fini(&m);
}

static size_t encode_conf(node_id member, uint8_t dst[MS_CONF_STATE_BYTES_MAX])
{
    struct ms_conf_state conf = {.member_count = 1};

    conf.members[0].id = member;
    conf.members[0].flags = MS_CONF_VOTER;
    (void)snprintf(conf.members[0].peer_url, sizeof(conf.members[0].peer_url), "http://h:%d",
                   (int)member);
    ms_conf_state_encode(&conf, dst);
    return ms_conf_state_encoded_bytes(&conf);
}

static void expect_conf(struct machine *machine, node_id member)
{
    uint8_t data[MS_CONF_STATE_BYTES_MAX];
    struct ms_conf_state conf;
    size_t bytes = 0;

    MUST(engine_conf(machine->engine, data, &bytes, err));
    if (member == 0) {
        cr_assert_eq(bytes, 0);
        return;
    }
    cr_assert_eq(ms_conf_state_decode(data, bytes, &conf), MS_OK);
    cr_assert_eq(conf.members[0].id, member);
}

/* A configuration takes effect with the entry it belongs to, not before. */
Test(apply, configurations_come_with_their_entries)
{
    struct apply_entry entries[4];
    struct apply_result results[4];
    uint8_t conf[MS_CONF_STATE_BYTES_MAX];
    struct machine m;
    size_t bytes;
    size_t count;

    machine_init(&m);
    for (size_t i = 0; i < 4; i++) {
        entries[i] =
            (struct apply_entry){.index = 1 + i, .term = 1, .type = MS_ENTRY_CONF_CHANGE_V2};
    }
    bytes = encode_conf(1, conf);
    MUST(apply_conf(m.apply, 1, conf, bytes, err));
    bytes = encode_conf(2, conf);
    MUST(apply_conf(m.apply, 3, conf, bytes, err));
    cr_assert_eq(apply_conf(m.apply, 3, conf, bytes, NULL), MS_EPROTO);
    cr_assert_eq(apply_conf(m.apply, 4, conf, bytes - 1, NULL), MS_ECORRUPT);
    expect_conf(&m, 0);
    MUST(apply_entries(m.apply, entries, 2, results, &count, err));
    expect_conf(&m, 1);
    MUST(apply_entries(m.apply, &entries[2], 2, results, &count, err));
    expect_conf(&m, 2);
    MUST(apply_conf(m.apply, 2, conf, bytes, err)); /* applied long ago: no complaint */
    machine_reopen(&m);
    expect_conf(&m, 2);
    for (raft_index i = 0; i < APPLY_CONFS_MAX; i++) {
        MUST(apply_conf(m.apply, 10 + i, conf, bytes, err));
    }
    cr_assert_eq(apply_conf(m.apply, 1000, conf, bytes, NULL), MS_EFULL);
    machine_fini(&m);
}

/* However the entries are cut into batches: the same state and the same answers. */
Test(apply, batches_do_not_matter)
{
    struct fixture_random random = fixture_random_init("batches_do_not_matter");
    enum {
        TOTAL = 600
    };
    static struct apply_entry entries[TOTAL];
    static struct apply_result one[TOTAL];
    static struct apply_result many[TOTAL];
    struct machine single;
    struct machine batched;
    uint64_t left;
    uint64_t right;
    size_t count;

    machine_init(&single);
    machine_init(&batched);
    for (size_t i = 0; i < TOTAL; i++) {
        static struct fixture_key key;
        struct ms_command command = {
            .id = {.origin = 1 + fixture_below(&random, 3), .seq = 1 + fixture_below(&random, 400)},
            .ack_seq = fixture_below(&random, 100),
            .kind = fixture_below(&random, 3) == 0 ? MS_COMMAND_DELETE : MS_COMMAND_PUT,
            .condition = (enum ms_command_condition)fixture_below(&random, 4),
            .revision = fixture_below(&random, 300),
        };

        fixture_key_of(fixture_below(&random, 40), &key);
        command.key = key.data;
        command.key_bytes = key.bytes;
        entries[i] = fixture_entry(1 + i, &command);
        MUST(apply_entries(single.apply, &entries[i], 1, &one[i], &count, err));
        cr_assert_eq(count, 1);
    }
    for (size_t done = 0; done < TOTAL;) {
        size_t take = 1 + fixture_below(&random, 100);

        take = take > TOTAL - done ? TOTAL - done : take;
        MUST(apply_entries(batched.apply, &entries[done], take, &many[done], &count, err));
        cr_assert_eq(count, take);
        done += take;
    }
    for (size_t i = 0; i < TOTAL; i++) {
        cr_assert_eq(one[i].code, many[i].code);
        cr_assert_eq(one[i].revision, many[i].revision);
        cr_assert_eq(one[i].duplicate, many[i].duplicate);
        fixture_free_entry(&entries[i]);
    }
    MUST(engine_hash(single.engine, 0, &left, err));
    MUST(engine_hash(batched.engine, 0, &right, err));
    cr_assert_eq(left, right);
    machine_fini(&single);
    machine_fini(&batched);
}
