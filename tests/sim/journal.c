/*
 * journal: see journal.h.
 */
#include "tests/sim/journal.h"

#include <stdlib.h>

#include "tests/sim/report.h"
#include "tests/sim/wire.h"

void journal_begin(struct journal *journal, const struct disk *disk)
{
    *journal = (struct journal){.latest = disk->hard, .sent = disk->hard, .acked = disk->hard};
    STAILQ_INIT(&journal->writes);
    journal->sent_last = entry_log_last(&disk->log);
    journal->acked_last = journal->sent_last;
    (void)entry_log_term(&disk->log, journal->acked_last, &journal->acked_last_term);
}

void journal_destroy_write(struct write *write)
{
    raft_message_release(&wire_alloc, &write->message);
    free(write);
}

void journal_fini(struct journal *journal)
{
    struct write *write;

    while ((write = STAILQ_FIRST(&journal->writes)) != NULL) {
        STAILQ_REMOVE_HEAD(&journal->writes, next);
        journal_destroy_write(write);
    }
    journal->unsent = NULL;
}

static struct write *push(struct journal *journal)
{
    struct write *write = report_calloc(1, sizeof(*write));

    STAILQ_INSERT_TAIL(&journal->writes, write, next);
    if (journal->unsent == NULL) {
        journal->unsent = write;
    }
    return write;
}

void journal_append(struct journal *journal, struct raft_message *message)
{
    raft_message_take(&push(journal)->message, message);
}

void journal_write_conf(struct journal *journal, raft_index index,
                        const struct raft_conf_state *conf)
{
    struct write *write = push(journal);

    write->conf_index = index;
    write->conf = *conf;
}

/* ---- sending ---- */

static bool has_hard(const struct raft_message *message)
{
    return message->term != 0 || message->vote != 0 || message->commit != 0;
}

static struct raft_hard_state hard_of(const struct raft_message *message)
{
    return (struct raft_hard_state){
        .term = message->term, .vote = message->vote, .commit = message->commit};
}

/* A new term, or a vote: what must be on disk before anybody hears of it. */
static bool promises_more(const struct raft_hard_state *hard, const struct raft_hard_state *than)
{
    return hard->term > than->term ||
           (hard->term == than->term && hard->vote != 0 && than->vote == 0);
}

/* Adds the hard state to the record if it says anything new. */
static void attach_hard(struct journal *journal, struct record *record)
{
    struct raft_hard_state hard = journal->latest;

    if (hard.commit > journal->sent_last) {
        hard.commit = journal->sent_last;
    }
    if (promises_more(&hard, &journal->sent) || hard.commit > journal->sent.commit) {
        record->has_hard = true;
        record->hard = hard;
        journal->sent = hard;
    }
}

/* The next record of a write; NULL if there is nothing more to it. */
static struct record *next_record(struct journal *journal, struct write *write, size_t piece)
{
    const struct raft_slice *entries = &write->message.entries;
    struct record *record;
    size_t count = entries->count - write->sent;

    if (write->conf_index != 0) {
        if (write->last_seq != 0) {
            return NULL;
        }
        record = report_calloc(1, sizeof(*record));
        record->conf_index = write->conf_index;
        record->conf = write->conf;
        return record;
    }
    if (has_hard(&write->message)) {
        journal->latest = hard_of(&write->message);
    }
    if (write->message.snapshot != NULL && !write->snapshot_sent) {
        const struct raft_snapshot *snapshot = write->message.snapshot;

        record = report_calloc(1, sizeof(*record));
        record->snapshot = machine_to_snapshot(machine_of_snapshot(snapshot), &snapshot->conf);
        write->snapshot_sent = true;
        journal->sent_last = snapshot->index;
        attach_hard(journal, record);
        return record;
    }
    if (count == 0 && !promises_more(&journal->latest, &journal->sent)) {
        return NULL;
    }
    record = report_calloc(1, sizeof(*record));
    count = count < piece ? count : piece;
    if (count > 0) {
        record->entries = wire_copy_entries(entries->entries + write->sent, count);
        journal->sent_last = entries->entries[write->sent + count - 1].index;
        write->sent += count;
    }
    attach_hard(journal, record);
    return record;
}

size_t journal_send(struct journal *journal, struct record_list *records, size_t room, size_t piece)
{
    size_t added = 0;

    while (journal->unsent != NULL) {
        struct write *write = journal->unsent;
        struct record *record;

        while (added < room && (record = next_record(journal, write, piece)) != NULL) {
            journal->sent_seq++;
            record->seq = journal->sent_seq;
            write->last_seq = record->seq;
            STAILQ_INSERT_TAIL(records, record, next);
            added++;
        }
        if (added >= room) {
            break; /* whether this write is complete is found out next time */
        }
        write->last_seq = journal->sent_seq;
        journal->unsent = STAILQ_NEXT(write, next);
    }
    return added;
}

/* ---- after storaged died ---- */

/* How far the write reaches if the disk's log ends with one of its entries. */
static bool reaches(const struct write *write, raft_index last, raft_term term, size_t *entries)
{
    const struct raft_slice *slice = &write->message.entries;

    for (size_t i = 0; i < slice->count; i++) {
        if (slice->entries[i].index == last && slice->entries[i].term == term) {
            *entries = i + 1;
            return true;
        }
    }
    *entries = 0;
    return write->message.snapshot != NULL && write->message.snapshot->index == last &&
           write->message.snapshot->term == term;
}

void journal_resume(struct journal *journal, const struct disk *disk)
{
    raft_index last = entry_log_last(&disk->log);
    raft_term term = 0;
    struct write *reached = NULL;
    size_t reached_entries = 0;
    struct write *write;

    (void)entry_log_term(&disk->log, last, &term);
    STAILQ_FOREACH(write, &journal->writes, next)
    {
        size_t entries;

        if (reaches(write, last, term, &entries)) {
            reached = write;
            reached_entries = entries;
        }
    }
    if (reached == NULL && (last != journal->acked_last || term != journal->acked_last_term)) {
        report_fail("simulator", "the log ends at %lu of term %lu, reported was %lu of term %lu",
                    last, term, journal->acked_last, journal->acked_last_term);
    }
    STAILQ_FOREACH(write, &journal->writes, next)
    {
        write->sent = 0;
        write->snapshot_sent = false;
        write->last_seq = 0;
    }
    for (write = STAILQ_FIRST(&journal->writes); reached != NULL;
         write = STAILQ_NEXT(write, next)) {
        write->snapshot_sent = true;
        write->sent = write == reached ? reached_entries : write->message.entries.count;
        if (write == reached) {
            break;
        }
    }
    journal->unsent = STAILQ_FIRST(&journal->writes);
    journal->latest = journal->acked;
    journal->sent = disk->hard;
    journal->sent_last = last;
    journal->sent_seq = 0;
    journal->durable_seq = 0;
}

struct write *journal_done(struct journal *journal)
{
    struct write *write = STAILQ_FIRST(&journal->writes);

    if (write == NULL || write == journal->unsent || write->last_seq > journal->durable_seq) {
        return NULL;
    }
    STAILQ_REMOVE_HEAD(&journal->writes, next);
    if (write->conf_index != 0) {
        return write;
    }
    if (has_hard(&write->message)) {
        journal->acked = hard_of(&write->message);
    }
    if (write->message.snapshot != NULL) {
        journal->acked_last = write->message.snapshot->index;
        journal->acked_last_term = write->message.snapshot->term;
    }
    if (write->message.entries.count > 0) {
        const struct raft_entry *last =
            &write->message.entries.entries[write->message.entries.count - 1];

        journal->acked_last = last->index;
        journal->acked_last_term = last->term;
    }
    return write;
}

raft_index journal_settled(const struct journal *journal)
{
    raft_index settled = journal->acked_last;
    const struct write *write;

    STAILQ_FOREACH(write, &journal->writes, next)
    {
        const struct raft_slice *entries = &write->message.entries;

        if (write->message.snapshot != NULL) {
            return 0;
        }
        if (entries->count > 0 && entries->entries[0].index <= settled) {
            settled = entries->entries[0].index - 1;
        }
    }
    return settled;
}
