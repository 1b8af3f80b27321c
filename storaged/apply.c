/*
 * apply: decodes commands, evaluates conditions, counts revisions, as etcd does: the store starts
 * at revision 1, and each operation that changes something adds one.
 */
#include "storaged/apply.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/command.h"
#include "storaged/answers.h"

struct pending_conf {
    raft_index index;
    size_t len_bytes;
    uint8_t *data;
};

struct apply {
    struct engine *engine; /* borrowed */
    struct answers *answers;
    struct apply_counters counters;
    size_t conf_count;
    struct pending_conf confs[APPLY_CONFS_MAX]; /* by index, ascending; all above the applied one */
};

int apply_create(struct engine *engine, struct apply **out, struct ms_err *err)
{
    struct apply *apply = calloc(1, sizeof(*apply));
    int rc;

    if (apply == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "state machine: out of memory");
    }
    apply->engine = engine;
    rc = answers_create(&apply->answers);
    if (rc != MS_OK) {
        (void)ms_err_set(err, rc, 0, "state machine: out of memory");
        goto out;
    }
    rc = answers_load(apply->answers, engine, err);
    if (rc != MS_OK) {
        goto out;
    }
    *out = apply;
    apply = NULL;

out:
    apply_destroy(apply);
    return rc;
}

void apply_destroy(struct apply *apply)
{
    if (apply == NULL) {
        return;
    }
    for (size_t i = 0; i < apply->conf_count; i++) {
        free(apply->confs[i].data);
    }
    answers_destroy(apply->answers);
    free(apply);
}

void apply_counters(const struct apply *apply, struct apply_counters *out)
{
    *out = apply->counters;
}

bool apply_next_answer(const struct apply *apply, uint64_t origin, uint64_t from_seq,
                       struct apply_result *out)
{
    struct answer answer;
    uint64_t seq;

    if (!answers_next(apply->answers, origin, from_seq, &seq, &answer)) {
        return false;
    }
    *out = (struct apply_result){.id = {.origin = origin, .seq = seq},
                                 .revision = answer.revision,
                                 .code = answer.code,
                                 .duplicate = true};
    return true;
}

/* ---- configurations ------------------------------------------------------------------------ */

int apply_conf(struct apply *apply, raft_index index, const uint8_t *conf, size_t len_bytes,
               struct ms_err *err)
{
    struct ms_conf_state decoded;
    struct pending_conf *pending;
    struct ms_memdb_meta meta;

    engine_meta(apply->engine, &meta);
    if (index <= meta.applied) {
        return MS_OK;
    }
    if (ms_conf_state_decode(conf, len_bytes, &decoded) != MS_OK) {
        return ms_err_set(err, MS_ECORRUPT, 0, "configuration for entry %llu cannot be decoded",
                          (unsigned long long)index);
    }
    if (apply->conf_count > 0 && index <= apply->confs[apply->conf_count - 1].index) {
        return ms_err_set(err, MS_EPROTO, 0, "configuration for entry %llu after that for %llu",
                          (unsigned long long)index,
                          (unsigned long long)apply->confs[apply->conf_count - 1].index);
    }
    if (apply->conf_count == APPLY_CONFS_MAX) {
        return ms_err_set(err, MS_EFULL, 0, "%d configurations wait for their entries",
                          APPLY_CONFS_MAX);
    }
    pending = &apply->confs[apply->conf_count];
    pending->data = malloc(len_bytes);
    if (pending->data == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "state machine: out of memory");
    }
    memcpy(pending->data, conf, len_bytes);
    pending->len_bytes = len_bytes;
    pending->index = index;
    apply->conf_count++;
    return MS_OK;
}

/* Stores the newest configuration at or below the index; to be dropped once it is committed. */
static int store_conf(struct apply *apply, raft_index index, struct ms_err *err)
{
    const struct pending_conf *newest = NULL;

    for (size_t i = 0; i < apply->conf_count && apply->confs[i].index <= index; i++) {
        newest = &apply->confs[i];
    }
    return newest == NULL ? MS_OK
                          : engine_set_conf(apply->engine, newest->data, newest->len_bytes, err);
}

static void drop_confs(struct apply *apply, raft_index index)
{
    size_t gone = 0;

    while (gone < apply->conf_count && apply->confs[gone].index <= index) {
        free(apply->confs[gone].data);
        gone++;
    }
    apply->conf_count -= gone;
    memmove(apply->confs, &apply->confs[gone], apply->conf_count * sizeof(apply->confs[0]));
}

/* ---- commands ------------------------------------------------------------------------------ */

/* current is NULL when the key does not exist. */
static bool condition_holds(const struct ms_command *command, const struct ms_memdb_kv *current)
{
    switch (command->condition) {
    case MS_CONDITION_NONE:
        return true;
    case MS_CONDITION_MOD_REVISION:
        return current != NULL && current->mod_revision == command->revision;
    case MS_CONDITION_ABSENT:
        return current == NULL;
    case MS_CONDITION_PRESENT:
        return current != NULL;
    }
    return false;
}

static int do_put(struct apply *apply, const struct ms_command *command,
                  const struct ms_memdb_kv *current, struct ms_memdb_meta *meta, struct ms_err *err)
{
    uint64_t revision = meta->revision + 1;
    const struct engine_change change = {
        .kv =
            {
                .key = command->key,
                .key_bytes = command->key_bytes,
                .value = command->value,
                .value_bytes = command->value_bytes,
                .create_revision = current == NULL ? revision : current->create_revision,
                .mod_revision = revision,
                .version = current == NULL ? 1 : current->version + 1,
                .lease = 0,
            },
    };
    int rc = engine_change(apply->engine, &change, err);

    if (rc == MS_OK) {
        meta->revision = revision;
        meta->keys += current == NULL;
    }
    return rc;
}

static int do_delete(struct apply *apply, const struct ms_command *command,
                     struct ms_memdb_meta *meta, struct ms_err *err)
{
    const struct engine_change change = {
        .kv =
            {
                .key = command->key,
                .key_bytes = command->key_bytes,
                .mod_revision = meta->revision + 1,
            },
        .tombstone = true,
    };
    int rc = engine_change(apply->engine, &change, err);

    if (rc == MS_OK) {
        meta->revision++;
        meta->keys--;
    }
    return rc;
}

static enum ms_result_code do_compact(const struct ms_command *command, struct ms_memdb_meta *meta)
{
    if (command->revision > meta->revision) {
        return MS_RESULT_INVALID;
    }
    if (command->revision <= meta->compact_revision) {
        return MS_RESULT_CONDITION_FAILED; /* compacted further already */
    }
    meta->compact_revision = command->revision;
    return MS_RESULT_OK;
}

static int do_key_command(struct apply *apply, const struct ms_command *command,
                          struct ms_memdb_meta *meta, enum ms_result_code *code, struct ms_err *err)
{
    struct ms_memdb_kv kv;
    const struct ms_memdb_kv *current = &kv;
    int rc = engine_find(apply->engine, command->key, command->key_bytes, &kv, err);

    if (rc == MS_ENOENT) {
        current = NULL;
    } else if (rc != MS_OK) {
        return rc;
    }
    if (!condition_holds(command, current)) {
        *code = MS_RESULT_CONDITION_FAILED;
        return MS_OK;
    }
    if (command->kind == MS_COMMAND_DELETE && current == NULL) {
        *code = MS_RESULT_NOT_FOUND;
        return MS_OK;
    }
    *code = MS_RESULT_OK;
    return command->kind == MS_COMMAND_PUT ? do_put(apply, command, current, meta, err)
                                           : do_delete(apply, command, meta, err);
}

/* One command whose id is new, or that has none. */
static int do_command(struct apply *apply, const struct ms_command *command,
                      struct ms_memdb_meta *meta, struct answer *answer, struct ms_err *err)
{
    int rc = MS_OK;

    switch (command->kind) {
    case MS_COMMAND_PUT:
    case MS_COMMAND_DELETE:
        rc = do_key_command(apply, command, meta, &answer->code, err);
        break;
    case MS_COMMAND_COMPACT:
        answer->code = do_compact(command, meta);
        break;
    }
    answer->revision = meta->revision;
    return rc;
}

/*
 * One command, done at most once. *answered: there is an id, and *result is its answer.
 */
static int apply_command(struct apply *apply, raft_index index, const struct ms_command *command,
                         struct ms_memdb_meta *meta, struct apply_result *result, bool *answered,
                         struct ms_err *err)
{
    struct answer answer = {0};
    int rc = MS_OK;

    *answered = command->id.origin != 0 || command->id.seq != 0;
    if (!*answered) {
        return do_command(apply, command, meta, &answer, err);
    }
    *result = (struct apply_result){.id = command->id, .duplicate = true};
    switch (answers_find(apply->answers, command->id, &answer)) {
    case ANSWERS_FORGOTTEN:
        apply->counters.duplicates++;
        result->code = MS_RESULT_FORGOTTEN;
        result->revision = meta->revision;
        return MS_OK;
    case ANSWERS_KNOWN:
        apply->counters.duplicates++;
        break;
    case ANSWERS_NEW:
        result->duplicate = false;
        rc = do_command(apply, command, meta, &answer, err);
        break;
    }
    if (rc == MS_OK) {
        rc = answers_record(apply->answers, command->id, command->ack_seq, index, answer);
        if (rc != MS_OK) {
            (void)ms_err_set(err, rc, 0, "answers: out of memory");
        }
    }
    result->code = answer.code;
    result->revision = answer.revision;
    return rc;
}

/* Which entry is the first new one. */
static int check_entries(const struct apply_entry *entries, size_t count, raft_index applied,
                         size_t *first, struct ms_err *err)
{
    size_t skip = 0;

    for (size_t i = 0; i < count; i++) {
        if (i > 0 && entries[i].index != entries[i - 1].index + 1) {
            return ms_err_set(err, MS_EPROTO, 0, "entry %llu follows entry %llu",
                              (unsigned long long)entries[i].index,
                              (unsigned long long)entries[i - 1].index);
        }
        skip += entries[i].index <= applied;
    }
    if (skip < count && entries[skip].index != applied + 1) {
        return ms_err_set(err, MS_EPROTO, 0, "entry %llu comes where entry %llu is to be applied",
                          (unsigned long long)entries[skip].index, (unsigned long long)applied + 1);
    }
    *first = skip;
    return MS_OK;
}

/* Applies entries that follow the applied one, in one commit. */
static int apply_slice(struct apply *apply, const struct apply_entry *entries, size_t count,
                       struct apply_result *results, size_t *result_count, struct ms_err *err)
{
    struct engine_volume volume = {.operations = count};
    struct ms_memdb_meta meta;
    size_t written = 0;
    int rc;

    engine_meta(apply->engine, &meta);
    for (size_t i = 0; i < count; i++) {
        volume.bytes += entries[i].len_bytes;
    }
    rc = engine_begin(apply->engine, &volume, err);
    if (rc != MS_OK) {
        return rc;
    }
    for (size_t i = 0; i < count; i++) {
        const struct apply_entry *entry = &entries[i];
        struct ms_command command;
        bool answered = false;

        meta.applied = entry->index;
        meta.applied_term = entry->term;
        if (entry->type != MS_ENTRY_NORMAL || entry->len_bytes == 0) {
            continue; /* its effect, if any, is a configuration */
        }
        if (ms_command_decode(entry->data, entry->len_bytes, &command) != MS_OK) {
            /* Without effect on every node alike. Whom to answer cannot be known. */
            apply->counters.undecodable++;
            continue;
        }
        rc = apply_command(apply, entry->index, &command, &meta, &results[written], &answered, err);
        if (rc != MS_OK) {
            return rc;
        }
        written += answered;
    }
    rc = answers_flush(apply->answers, apply->engine, err);
    if (rc == MS_OK) {
        rc = store_conf(apply, meta.applied, err);
    }
    if (rc == MS_OK) {
        rc = engine_commit(apply->engine, &meta, err);
    }
    if (rc != MS_OK) {
        return rc;
    }
    drop_confs(apply, meta.applied);
    *result_count += written;
    return MS_OK;
}

int apply_entries(struct apply *apply, const struct apply_entry *entries, size_t count,
                  struct apply_result *results, size_t *result_count, struct ms_err *err)
{
    struct ms_memdb_meta meta;
    size_t slice = count;
    size_t done = 0;
    int rc;

    assert(count <= APPLY_BATCH_MAX);
    *result_count = 0;
    engine_meta(apply->engine, &meta);
    rc = check_entries(entries, count, meta.applied, &done, err);
    while (rc == MS_OK && done < count) {
        size_t take = count - done < slice ? count - done : slice;

        rc = apply_slice(apply, &entries[done], take, &results[*result_count], result_count, err);
        if (rc == MS_OK) {
            done += take;
        } else if (rc == MS_ENOSPC && take > 1) {
            /* Smaller steps need less room at a time, as pages that one frees serve the next. */
            slice = take / 2;
            rc = MS_OK;
        }
    }
    return rc;
}
