/*
 * rebuild_test: what a start makes of memory, snapshots and log, in every combination.
 */
#include <fcntl.h>

#include "storaged/rebuild.h"
#include "tests/unit/storaged/engine_fixture.h"

#define ENTRIES_MAX 500

/* A log in memory: entry i is a PUT, or a configuration change at every CONF_EVERYth. */
#define CONF_EVERY 50

struct fake_log {
    struct rebuild_log log;
    struct apply_entry entries[ENTRIES_MAX + 1]; /* by index */
};

struct site {
    char root[256];
    char memory[280];
    char node[280];
    char snap[280];
    struct memory_dir *dir;
    struct snapshot_files *files;
    struct fake_log *log;
    struct rebuild_result result;
};

static int log_term(void *ctx, raft_index index, raft_term *out)
{
    const struct fake_log *fake = ctx;

    cr_assert_geq(index, fake->log.first_index);
    cr_assert_leq(index, fake->log.last_index);
    *out = fake->entries[index].term;
    return MS_OK;
}

static int log_read(void *ctx, raft_index low, raft_index high, size_t max_bytes,
                    struct apply_entry *entries, size_t *count, struct ms_err *err)
{
    const struct fake_log *fake = ctx;
    size_t room = *count < 7 ? *count : 7; /* short answers are allowed */

    (void)max_bytes;
    (void)err;
    cr_assert_geq(low, fake->log.first_index);
    cr_assert_leq(high, fake->log.last_index + 1);
    for (*count = 0; *count < room && low + *count < high; ++*count) {
        entries[*count] = fake->entries[low + *count];
    }
    return MS_OK;
}

static int log_conf(void *ctx, raft_index index, uint8_t *dst, size_t *len_bytes)
{
    struct ms_conf_state conf = {.member_count = 1};

    (void)ctx;
    if (index % (2 * CONF_EVERY) != 0) {
        return MS_ENOENT; /* one that changed nothing */
    }
    conf.members[0].id = index;
    conf.members[0].flags = MS_CONF_VOTER;
    ms_conf_state_encode(&conf, dst);
    *len_bytes = ms_conf_state_encoded_bytes(&conf);
    return MS_OK;
}

static struct fake_log *log_make(void)
{
    struct fake_log *fake = calloc(1, sizeof(*fake));

    cr_assert_not_null(fake);
    for (raft_index index = 1; index <= ENTRIES_MAX; index++) {
        char key[32];
        const struct ms_command command = {
            .id = {.origin = 3, .seq = index},
            .ack_seq = index > 10 ? index - 10 : 1,
            .kind = MS_COMMAND_PUT,
            .key = (const uint8_t *)key,
            .key_bytes =
                (size_t)snprintf(key, sizeof(key), "k%llu", (unsigned long long)index % 70),
            .value = (const uint8_t *)key,
            .value_bytes = 2,
        };

        fake->entries[index] = fixture_entry(index, &command);
        fake->entries[index].term = 1 + index / 100;
        if (index % CONF_EVERY == 0) {
            fake->entries[index].type = MS_ENTRY_CONF_CHANGE_V2;
        }
    }
    fake->log = (struct rebuild_log){
        .first_index = 1, .term = log_term, .read = log_read, .conf = log_conf, .ctx = fake};
    return fake;
}

static void log_extend(struct site *site, raft_index last, raft_index commit)
{
    site->log->log.last_index = last;
    site->log->log.commit_index = commit;
    site->log->log.conf_index = last; /* whatever changed anything is recorded */
}

static void site_init(struct site *site)
{
    *site = (struct site){.dir = NULL};
    fixture_make_dir(site->root);
    (void)snprintf(site->memory, sizeof(site->memory), "%s/memory", site->root);
    (void)snprintf(site->node, sizeof(site->node), "%s/node", site->root);
    (void)snprintf(site->snap, sizeof(site->snap), "%s/snap", site->root);
    cr_assert_eq(mkdir(site->memory, 0700), 0);
    cr_assert_eq(mkdir(site->node, 0700), 0);
    site->log = log_make();
}

static void stop(struct site *site)
{
    apply_destroy(site->result.apply);
    engine_close(site->result.engine);
    snapshot_files_close(site->files);
    memory_dir_close(site->dir);
    site->result = (struct rebuild_result){0};
    site->files = NULL;
    site->dir = NULL;
}

static void site_fini(struct site *site)
{
    stop(site);
    for (raft_index index = 1; index <= ENTRIES_MAX; index++) {
        fixture_free_entry(&site->log->entries[index]);
    }
    free(site->log);
    fixture_remove_dir(site->root);
}

static int try_start(struct site *site, enum ms_worker_end previous_end, struct ms_err *cause)
{
    const struct memory_dir_options options = {
        .memory_dir = site->memory,
        .node_dir = site->node,
        .limit_bytes = FIXTURE_LIMIT_BYTES,
        .previous_end = previous_end,
    };
    struct rebuild_options rebuild;

    MUST(memory_dir_open(&options, &site->dir, err));
    MUST(snapshot_files_open(site->snap, &site->files, err));
    rebuild = (struct rebuild_options){
        .dir = site->dir, .snapshots = site->files, .log = &site->log->log};
    return rebuild_open(&rebuild, &site->result, cause);
}

static void start(struct site *site, enum ms_worker_end previous_end)
{
    MUST(try_start(site, previous_end, err));
}

static raft_index applied_of(struct site *site)
{
    struct ms_memdb_meta meta;

    engine_meta(site->result.engine, &meta);
    return meta.applied;
}

static struct snapshot_file take_snapshot(struct site *site)
{
    struct engine_snapshot *snapshot;
    struct snapshot_file file;

    MUST(engine_snapshot_begin(site->result.engine, &snapshot, err));
    MUST(snapshot_files_write(site->files, site->result.engine, snapshot, NULL, &file, err));
    engine_snapshot_end(site->result.engine, snapshot);
    MUST(snapshot_files_add(site->files, &file, err));
    return file;
}

/* The state after so many entries, from nothing but the log. */
static void expect_state(struct site *site, raft_index applied)
{
    static uint8_t conf[MS_CONF_STATE_BYTES_MAX];
    struct ms_conf_state decoded;
    struct ms_memdb_meta meta;
    size_t bytes = 0;

    engine_meta(site->result.engine, &meta);
    cr_assert_eq(meta.applied, applied);
    cr_assert_eq(meta.applied_term, applied == 0 ? 0 : site->log->entries[applied].term);
    cr_assert_eq(meta.revision, 1 + applied - applied / CONF_EVERY);
    MUST(engine_conf(site->result.engine, conf, &bytes, err));
    if (applied < 2 * CONF_EVERY) {
        cr_assert_eq(bytes, 0);
        return;
    }
    cr_assert_eq(ms_conf_state_decode(conf, bytes, &decoded), MS_OK);
    cr_assert_eq(decoded.members[0].id, applied / (2 * CONF_EVERY) * (2 * CONF_EVERY));
}

static void flip_byte(const struct site *site, const struct snapshot_file *file, off_t at)
{
    char name[SNAPSHOT_NAME_BYTES];
    char path[400];
    uint8_t byte;
    int fd;

    snapshot_files_name(file, name);
    (void)snprintf(path, sizeof(path), "%s/%s", site->snap, name);
    fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    cr_assert_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 0x40;
    cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
    (void)close(fd);
}

/* ---- tests ---- */

Test(rebuild, starts_from_nothing_and_applies_what_is_committed)
{
    struct site site;

    site_init(&site);
    start(&site, MS_END_NONE);
    cr_assert(!site.result.kept);
    expect_state(&site, 0);
    stop(&site);
    log_extend(&site, 320, 300); /* 20 of them may never be committed */
    start(&site, MS_END_OWN_FAULT);
    expect_state(&site, 300);
    cr_assert_eq(site.result.entries, 300);
    stop(&site);
    log_extend(&site, 320, 400); /* 80 of them never reached this disk */
    start(&site, MS_END_OWN_FAULT);
    expect_state(&site, 320);
    site_fini(&site);
}

Test(rebuild, keeps_what_a_killed_process_left)
{
    struct site site;

    site_init(&site);
    log_extend(&site, 200, 200);
    start(&site, MS_END_NONE);
    stop(&site);
    start(&site, MS_END_KILLED);
    cr_assert(site.result.kept);
    cr_assert_null(site.result.distrust);
    cr_assert_eq(site.result.entries, 0);
    expect_state(&site, 200);
    stop(&site);
    log_extend(&site, 250, 240);
    start(&site, MS_END_KILLED);
    cr_assert(site.result.kept);
    cr_assert_eq(site.result.entries, 40);
    expect_state(&site, 240);
    site_fini(&site);
}

/* A commit index may reach the disk before the configuration that it commits. */
Test(rebuild, waits_for_raftd_where_a_configuration_is_not_recorded_yet)
{
    struct site site;

    site_init(&site);
    log_extend(&site, 320, 320);
    site.log->log.conf_index = 250;
    start(&site, MS_END_NONE);
    expect_state(&site, 299);
    cr_assert_eq(site.result.entries, 299);
    stop(&site);
    start(&site, MS_END_KILLED);
    cr_assert(site.result.kept);
    expect_state(&site, 299);
    stop(&site);
    site.log->log.conf_index = 300;
    start(&site, MS_END_KILLED);
    cr_assert(site.result.kept);
    expect_state(&site, 320);
    stop(&site);
    site.log->log.conf_index = 0;
    start(&site, MS_END_OWN_FAULT);
    expect_state(&site, CONF_EVERY - 1);
    site_fini(&site);
}

/* Memory that is not of this log, as after the data directory was replaced, is not used. */
Test(rebuild, memory_must_fit_the_log)
{
    struct site site;

    site_init(&site);
    log_extend(&site, 200, 200);
    start(&site, MS_END_NONE);
    stop(&site);
    log_extend(&site, 150, 150);
    start(&site, MS_END_KILLED);
    cr_assert(!site.result.kept);
    cr_assert_not_null(strstr(site.result.distrust, "ahead of the log"));
    expect_state(&site, 150);
    stop(&site);
    site.log->entries[150].term = 9;
    log_extend(&site, 160, 160);
    start(&site, MS_END_KILLED);
    cr_assert(!site.result.kept);
    cr_assert_not_null(strstr(site.result.distrust, "not of this log"));
    cr_assert_eq(applied_of(&site), 160);
    site_fini(&site);
}

Test(rebuild, continues_from_the_newest_snapshot)
{
    struct site site;

    site_init(&site);
    log_extend(&site, 220, 220);
    start(&site, MS_END_NONE);
    (void)take_snapshot(&site);
    stop(&site);
    site.log->log.first_index = 201; /* as compaction leaves it */
    site.log->log.snapshot_index = 220;
    site.log->log.snapshot_term = 3;
    log_extend(&site, 300, 290);
    start(&site, MS_END_OWN_FAULT);
    cr_assert_eq(site.result.snapshot_index, 220);
    cr_assert_eq(site.result.entries, 70);
    cr_assert_eq(site.result.skipped.status, MS_OK);
    expect_state(&site, 290);
    site_fini(&site);
}

/* A damaged snapshot is passed over only when the log leads on from something older. */
Test(rebuild, damaged_snapshots_are_passed_over_or_refused)
{
    struct snapshot_file first;
    struct snapshot_file second;
    struct ms_err cause = {0};
    struct site site;

    site_init(&site);
    log_extend(&site, 120, 120);
    start(&site, MS_END_NONE);
    first = take_snapshot(&site);
    stop(&site);
    log_extend(&site, 220, 220);
    start(&site, MS_END_KILLED);
    second = take_snapshot(&site);
    stop(&site);
    log_extend(&site, 300, 300);
    flip_byte(&site, &second, 3000);

    site.log->log.first_index = 100;
    start(&site, MS_END_OWN_FAULT);
    cr_assert_eq(site.result.snapshot_index, 120);
    cr_assert_eq(site.result.skipped.status, MS_ECORRUPT);
    expect_state(&site, 300);
    stop(&site);

    site.log->log.first_index = 122; /* one entry too late for the first one */
    cr_assert_eq(try_start(&site, MS_END_OWN_FAULT, &cause), MS_ECORRUPT);
    cr_assert_not_null(strstr(cause.text, "00000000000000000220"), "%s", cause.text);
    cr_assert_not_null(strstr(cause.text, "at byte"), "%s", cause.text);
    stop(&site);

    flip_byte(&site, &first, 3000);
    site.log->log.first_index = 100;
    cr_assert_eq(try_start(&site, MS_END_OWN_FAULT, &cause), MS_ECORRUPT);
    stop(&site);

    site.log->log.first_index = 1; /* then no snapshot is needed at all */
    start(&site, MS_END_OWN_FAULT);
    cr_assert_eq(site.result.snapshot_index, 0);
    expect_state(&site, 300);
    site_fini(&site);
}

Test(rebuild, a_log_without_its_beginning_needs_a_snapshot)
{
    struct ms_err cause = {0};
    struct site site;

    site_init(&site);
    site.log->log.first_index = 50;
    log_extend(&site, 60, 60);
    cr_assert_eq(try_start(&site, MS_END_NONE, &cause), MS_ECORRUPT);
    cr_assert_not_null(strstr(cause.text, "no snapshot"), "%s", cause.text);
    site_fini(&site);
}
