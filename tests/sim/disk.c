/*
 * disk: see disk.h.
 */
#include "tests/sim/disk.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/report.h"
#include "tests/sim/wire.h"

/* ---- a log ---- */

raft_index entry_log_last(const struct entry_log *log)
{
    return log->base_index + log->count;
}

bool entry_log_term(const struct entry_log *log, raft_index index, raft_term *term)
{
    if (index < log->base_index || index > entry_log_last(log)) {
        return false;
    }
    *term = index == log->base_index ? log->base_term : entry_log_at(log, index)->term;
    return true;
}

const struct raft_entry *entry_log_at(const struct entry_log *log, raft_index index)
{
    return &log->items[index - log->base_index - 1];
}

static void cut_after(struct entry_log *log, raft_index index)
{
    while (log->count > 0 && entry_log_last(log) > index) {
        log->count--;
        raft_buffer_release(log->items[log->count].owner);
    }
}

void entry_log_append(struct entry_log *log, const struct raft_slice *entries)
{
    const struct raft_entry *first = entries->entries;
    size_t skip = 0;

    if (entries->count == 0) {
        return;
    }
    if (first->index > entry_log_last(log) + 1) {
        report_fail("log-gap", "entry %lu after a log that ends at %lu", first->index,
                    entry_log_last(log));
    }
    if (first->index <= log->base_index) {
        skip = (size_t)(log->base_index + 1 - first->index);
    }
    if (skip >= entries->count) {
        return;
    }
    cut_after(log, first[skip].index - 1);
    if (log->count + entries->count > log->capacity) {
        log->capacity = 2 * (log->count + entries->count);
        log->items = report_realloc(log->items, log->capacity * sizeof(*log->items));
    }
    for (size_t i = skip; i < entries->count; i++) {
        raft_buffer_ref(first[i].owner);
        log->items[log->count++] = first[i];
    }
}

void entry_log_compact(struct entry_log *log, raft_index index)
{
    size_t gone = (size_t)(index - log->base_index);

    if (index <= log->base_index) {
        return;
    }
    (void)entry_log_term(log, index, &log->base_term);
    log->base_index = index;
    for (size_t i = 0; i < gone; i++) {
        raft_buffer_release(log->items[i].owner);
    }
    log->count -= gone;
    memmove(log->items, log->items + gone, log->count * sizeof(*log->items));
}

void entry_log_reset(struct entry_log *log, raft_index base_index, raft_term base_term)
{
    cut_after(log, log->base_index);
    log->base_index = base_index;
    log->base_term = base_term;
}

void entry_log_fini(struct entry_log *log)
{
    cut_after(log, log->base_index);
    free(log->items);
    *log = (struct entry_log){0};
}

/* ---- writes ---- */

static void record_destroy(struct record *record)
{
    raft_slice_release(&record->entries);
    raft_snapshot_release(record->snapshot);
    free(record);
}

static void add_conf(struct disk *disk, raft_index index, const struct raft_conf_state *conf)
{
    while (disk->conf_count > 0 && disk->confs[disk->conf_count - 1].index >= index) {
        disk->conf_count--; /* the same change, applied again after a restart */
    }
    if (disk->conf_count == DISK_CONFS_MAX) {
        report_fail("simulator", "more than %d configurations", DISK_CONFS_MAX);
    }
    disk->confs[disk->conf_count++] = (struct disk_conf){.index = index, .conf = *conf};
}

void disk_write(struct disk *disk, struct record_list *records)
{
    struct record *record = STAILQ_FIRST(records);

    STAILQ_REMOVE_HEAD(records, next);
    if (record->has_hard) {
        disk->hard = record->hard;
    }
    if (record->snapshot != NULL) {
        entry_log_reset(&disk->log, record->snapshot->index, record->snapshot->term);
        disk->snapshot = *machine_of_snapshot(record->snapshot);
        disk->conf_count = 0;
    }
    entry_log_append(&disk->log, &record->entries);
    if (record->conf_index != 0) {
        add_conf(disk, record->conf_index, &record->conf);
    }
    record_destroy(record);
}

void disk_lose(struct record_list *records)
{
    struct record *record;

    while ((record = STAILQ_FIRST(records)) != NULL) {
        STAILQ_REMOVE_HEAD(records, next);
        record_destroy(record);
    }
}

void disk_snapshot(struct disk *disk, const struct machine *machine, raft_index keep_after)
{
    size_t old = 0;

    if (machine->applied <= disk->snapshot.applied) {
        return;
    }
    disk->snapshot = *machine;
    entry_log_compact(&disk->log, keep_after);
    while (old < disk->conf_count && disk->confs[old].index <= machine->applied) {
        old++;
    }
    disk->conf_count -= old;
    memmove(disk->confs, disk->confs + old, disk->conf_count * sizeof(disk->confs[0]));
}

/* ---- reading ---- */

static const struct raft_conf_state *conf_at(const struct disk *disk, raft_index index)
{
    for (size_t i = 0; i < disk->conf_count; i++) {
        if (disk->confs[i].index == index) {
            return &disk->confs[i].conf;
        }
    }
    return NULL;
}

void disk_rebuild(const struct disk *disk, struct machine *machine)
{
    raft_index last = entry_log_last(&disk->log);
    raft_index target = disk->hard.commit < last ? disk->hard.commit : last;
    raft_index newest_at = disk->conf_count > 0 ? disk->confs[disk->conf_count - 1].index : 0;

    *machine = disk->snapshot;
    for (raft_index index = machine->applied + 1; index <= target; index++) {
        const struct raft_entry *entry = entry_log_at(&disk->log, index);

        if (entry->type == RAFT_ENTRY_NORMAL) {
            struct machine_command command;
            struct machine_answer answer;

            machine_apply(machine, entry, &command, &answer);
            continue;
        }
        if (index > newest_at) {
            return;
        }
        machine->applied = index;
        machine->applied_term = entry->term;
        if (conf_at(disk, index) != NULL) {
            machine->conf = *conf_at(disk, index);
        }
    }
}

void disk_fini(struct disk *disk)
{
    entry_log_fini(&disk->log);
}
