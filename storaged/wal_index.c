/*
 * wal_index: the rules by which records make up a log.
 */
#include "storaged/wal_index.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void wal_state_init(struct log_state *state)
{
    *state = (struct log_state){.first_index = 1};
}

static int state_take_entry(struct log_state *state, const struct log_entry *entry,
                            struct ms_err *err)
{
    if (entry->index < state->first_index || entry->index > state->last_index + 1) {
        return ms_err_set(err, MS_ECORRUPT, 0,
                          "entry %" PRIu64 " does not follow a log of %" PRIu64 " to %" PRIu64,
                          entry->index, state->first_index, state->last_index);
    }
    state->cuts += entry->index <= state->last_index;
    state->last_index = entry->index;
    state->last_term = entry->term;
    return MS_OK;
}

static int state_take_opening(const struct log_state *state, const struct log_state *said,
                              struct ms_err *err)
{
    /* Compared number by number: the structs have no padding, but need not stay so. */
    if (state->hard_state.term != said->hard_state.term ||
        state->hard_state.vote != said->hard_state.vote ||
        state->hard_state.commit != said->hard_state.commit ||
        state->first_index != said->first_index || state->last_index != said->last_index ||
        state->last_term != said->last_term || state->compacted_term != said->compacted_term ||
        state->snapshot_index != said->snapshot_index ||
        state->snapshot_term != said->snapshot_term) {
        return ms_err_set(err, MS_ECORRUPT, 0,
                          "a segment begins at entry %" PRIu64 ", the one before ends at %" PRIu64,
                          said->last_index, state->last_index);
    }
    return MS_OK;
}

int wal_state_take(struct log_state *state, const struct wal_item *item, struct ms_err *err)
{
    switch (item->type) {
    case WAL_RECORD_OPENING:
        return state_take_opening(state, &item->opening.state, err);
    case WAL_RECORD_ENTRY:
        return state_take_entry(state, &item->entry, err);
    case WAL_RECORD_HARD_STATE:
        state->hard_state = item->hard_state;
        return MS_OK;
    case WAL_RECORD_CONF:
        return MS_OK;
    case WAL_RECORD_SNAPSHOT:
        if (item->mark.index < state->snapshot_index || item->mark.index > state->last_index) {
            break;
        }
        state->snapshot_index = item->mark.index;
        state->snapshot_term = item->mark.term;
        return MS_OK;
    case WAL_RECORD_COMPACT:
        if (item->mark.index < state->first_index || item->mark.index > state->last_index) {
            break;
        }
        state->first_index = item->mark.index + 1;
        state->compacted_term = item->mark.term;
        return MS_OK;
    case WAL_RECORD_RESET:
        if (item->mark.index < state->snapshot_index) {
            break;
        }
        state->cuts++;
        state->first_index = item->mark.index + 1;
        state->last_index = item->mark.index;
        state->last_term = item->mark.term;
        state->compacted_term = item->mark.term;
        state->snapshot_index = item->mark.index;
        state->snapshot_term = item->mark.term;
        return MS_OK;
    }
    return ms_err_set(err, MS_ECORRUPT, 0,
                      "mark %d at entry %" PRIu64 " does not fit a log of %" PRIu64 " to %" PRIu64,
                      (int)item->type, item->mark.index, state->first_index, state->last_index);
}

void wal_summary_add_entries(struct wal_summary *summary, raft_index first, uint64_t count)
{
    size_t kept = 0;

    summary->entries += count;
    if (summary->lowest == 0 || first < summary->lowest) {
        summary->lowest = first;
    }
    for (size_t i = 0; i < summary->conf_count; i++) {
        if (summary->confs[i] < first) {
            summary->confs[kept++] = summary->confs[i];
        }
    }
    summary->conf_count = kept;
}

int wal_batch_take(const struct wal_batch *batch, struct log_state *state,
                   struct wal_summary *summary, struct ms_err *err)
{
    struct wal_item item;
    size_t offset = 0;
    int rc;

    memset(summary, 0, sizeof(*summary));
    while ((rc = wal_item_next(batch->payload, batch->payload_bytes, &offset, &item)) == MS_OK) {
        rc = state != NULL ? wal_state_take(state, &item, err) : MS_OK;
        if (rc != MS_OK) {
            return rc;
        }
        if (item.type == WAL_RECORD_ENTRY) {
            wal_summary_add_entries(summary, item.entry.index, 1);
        } else if (item.type == WAL_RECORD_CONF) {
            if (summary->conf_count == WAL_BATCH_CONFS_MAX) {
                return ms_err_set(err, MS_ECORRUPT, 0, "too many configurations in a batch");
            }
            summary->confs[summary->conf_count++] = item.conf.index;
        }
    }
    if (rc != MS_ENOENT) {
        return ms_err_set(err, MS_ECORRUPT, 0, "unknown record in a valid batch");
    }
    return MS_OK;
}

static int grow(void **array, size_t *room, size_t wanted, size_t element_bytes, struct ms_err *err)
{
    size_t more = *room == 0 ? 64 : *room * 2;
    void *grown;

    if (wanted <= *room) {
        return MS_OK;
    }
    if (more < wanted) {
        more = wanted;
    }
    grown = reallocarray(*array, more, element_bytes);
    if (grown == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "memory for the index of a segment");
    }
    *array = grown;
    *room = more;
    return MS_OK;
}

int wal_directory_reserve(struct wal_directory *directory, struct ms_err *err)
{
    void *places = directory->places;
    void *confs = directory->confs;
    int rc = grow(&places, &directory->place_room, directory->place_count + 1,
                  sizeof(*directory->places), err);

    directory->places = places;
    if (rc == MS_OK) {
        rc = grow(&confs, &directory->conf_room, directory->conf_count + WAL_BATCH_CONFS_MAX,
                  sizeof(*directory->confs), err);
        directory->confs = confs;
    }
    return rc;
}

void wal_directory_add(struct wal_directory *directory, const struct wal_summary *summary,
                       uint64_t offset)
{
    uint32_t block = (uint32_t)(offset / WAL_BLOCK_BYTES);

    if (summary->lowest != 0) {
        while (directory->place_count > 0 &&
               directory->places[directory->place_count - 1].lowest >= summary->lowest) {
            directory->place_count--;
        }
        assert(directory->place_count < directory->place_room);
        directory->places[directory->place_count++] =
            (struct wal_place){.lowest = summary->lowest, .block = block};
    }
    assert(directory->conf_count + summary->conf_count <= directory->conf_room);
    for (size_t i = 0; i < summary->conf_count; i++) {
        directory->confs[directory->conf_count++] =
            (struct wal_conf_place){.index = summary->confs[i], .block = block};
    }
}

void wal_directory_fini(struct wal_directory *directory)
{
    free(directory->places);
    free(directory->confs);
    memset(directory, 0, sizeof(*directory));
}

bool wal_directory_find(const struct wal_directory *directory, raft_index index, uint64_t *offset)
{
    size_t low = 0;
    size_t high = directory->place_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (directory->places[middle].lowest <= index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) {
        return false;
    }
    *offset = (uint64_t)directory->places[low - 1].block * WAL_BLOCK_BYTES;
    return true;
}

/* The lowest index of an entry in batches behind the block; UINT64_MAX: none has any. */
static raft_index lowest_behind(const struct wal_directory *directory, uint32_t block)
{
    size_t low = 0;
    size_t high = directory->place_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (directory->places[middle].block <= block) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    /* What was left out of the places was replaced by one that starts no higher. */
    return low < directory->place_count ? directory->places[low].lowest : UINT64_MAX;
}

bool wal_directory_find_conf(const struct wal_directory *directory, raft_index low, raft_index high,
                             raft_index *index, uint64_t *offset)
{
    bool any = false;

    for (size_t i = 0; i < directory->conf_count; i++) {
        const struct wal_conf_place *place = &directory->confs[i];

        if (place->index >= low && place->index <= high && (!any || place->index >= *index) &&
            lowest_behind(directory, place->block) > place->index) {
            *index = place->index;
            *offset = (uint64_t)place->block * WAL_BLOCK_BYTES;
            any = true;
        }
    }
    return any;
}
