/*
 * describe: see describe.h.
 */
#include "tests/conformance/describe.h"

#include <inttypes.h>
#include <string.h>

/* ---- quoting ---- */

/* Decodes one code point; its length in bytes, 0 if it is not valid UTF-8. */
static size_t decode_utf8(const unsigned char *at, size_t len_bytes, uint32_t *point)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = at[0] < 0x80       ? 1
                 : at[0] >> 5 == 6  ? 2
                 : at[0] >> 4 == 14 ? 3
                 : at[0] >> 3 == 30 ? 4
                                    : 0;
    uint32_t result;

    if (len == 0 || len > len_bytes) {
        return 0;
    }
    result = len == 1 ? at[0] : at[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if (at[i] >> 6 != 2) {
            return 0;
        }
        result = result << 6 | (at[i] & 0x3fu);
    }
    if (result < smallest[len] || result > 0x10ffff || (result >= 0xd800 && result <= 0xdfff)) {
        return 0;
    }
    *point = result;
    return len;
}

/* Spaces, format characters, private use and what is unassigned by design. */
static bool is_invisible(uint32_t point)
{
    static const struct {
        uint32_t first;
        uint32_t last;
    } ranges[] = {
        {0x00, 0x1f},     {0x7f, 0xa0},       {0xad, 0xad},        {0x600, 0x605},
        {0x61c, 0x61c},   {0x6dd, 0x6dd},     {0x70f, 0x70f},      {0x1680, 0x1680},
        {0x180e, 0x180e}, {0x2000, 0x200f},   {0x2028, 0x202f},    {0x205f, 0x206f},
        {0x3000, 0x3000}, {0xe000, 0xf8ff},   {0xfeff, 0xfeff},    {0xfff0, 0xfffb},
        {0xfffe, 0xffff}, {0xe0000, 0xe00ff}, {0xf0000, 0x10ffff},
    };

    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        if (point >= ranges[i].first && point <= ranges[i].last) {
            return true;
        }
    }
    return false;
}

static void quote_point(struct buffer *out, const char *bytes, size_t len, uint32_t point)
{
    static const char named[] = "\a\b\t\n\v\f\r";
    const char *name = point < 0x20 && point > 0 ? strchr(named, (int)point) : NULL;

    if (point == '"' || point == '\\') {
        buffer_add(out, "\\%c", (char)point);
    } else if (name != NULL) {
        buffer_add(out, "\\%c", "abtnvfr"[name - named]);
    } else if (!is_invisible(point)) {
        buffer_add_bytes(out, bytes, len);
    } else if (point < 0x80) {
        buffer_add(out, "\\x%02" PRIx32, point);
    } else if (point < 0x10000) {
        buffer_add(out, "\\u%04" PRIx32, point);
    } else {
        buffer_add(out, "\\U%08" PRIx32, point);
    }
}

void describe_quoted(struct buffer *out, const char *bytes, size_t len_bytes)
{
    size_t at = 0;

    buffer_add(out, "\"");
    while (at < len_bytes) {
        uint32_t point = 0;
        size_t len = decode_utf8((const unsigned char *)bytes + at, len_bytes - at, &point);

        if (len == 0) {
            buffer_add(out, "\\x%02x", (unsigned char)bytes[at]);
            len = 1;
        } else {
            quote_point(out, bytes + at, len, point);
        }
        at += len;
    }
    buffer_add(out, "\"");
}

/* ---- entries ---- */

static void describe_change(struct buffer *out, const struct raft_entry *entry)
{
    struct raft_conf_change change;

    if (raft_conf_change_decode(entry, &change) != MS_OK) {
        buffer_add(out, " malformed");
        return;
    }
    for (size_t i = 0; i < change.count; i++) {
        /* Letters in the order of enum raft_change_type. */
        buffer_add(out, " %c%" PRIu64, "vrul"[change.changes[i].type], change.changes[i].id);
    }
}

void describe_entry(struct buffer *out, const struct raft_entry *entry)
{
    buffer_add(out, "%" PRIu64 "/%" PRIu64 " ", entry->term, entry->index);
    switch (entry->type) {
    case RAFT_ENTRY_NORMAL:
        buffer_add(out, "EntryNormal ");
        describe_quoted(out, entry->data, entry->len_bytes);
        break;
    case RAFT_ENTRY_CONF_CHANGE:
        buffer_add(out, "EntryConfChange");
        describe_change(out, entry);
        break;
    case RAFT_ENTRY_CONF_CHANGE_V2:
        buffer_add(out, "EntryConfChangeV2");
        describe_change(out, entry);
        break;
    }
}

void describe_entries(struct buffer *out, const struct raft_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        describe_entry(out, &entries[i]);
        buffer_add(out, "\n");
    }
}

/* ---- messages ---- */

static void describe_ids(struct buffer *out, const char *name, const struct raft_ids *ids)
{
    buffer_add(out, "%s:[", name);
    for (size_t i = 0; i < ids->count; i++) {
        buffer_add(out, i > 0 ? " %" PRIu64 : "%" PRIu64, ids->ids[i]);
    }
    buffer_add(out, "] ");
}

static void describe_snapshot(struct buffer *out, const struct raft_snapshot *snapshot)
{
    buffer_add(out, "Index:%" PRIu64 " Term:%" PRIu64 " ConfState:", snapshot->index,
               snapshot->term);
    describe_ids(out, "Voters", &snapshot->conf.voters);
    describe_ids(out, "VotersOutgoing", &snapshot->conf.voters_outgoing);
    describe_ids(out, "Learners", &snapshot->conf.learners);
    describe_ids(out, "LearnersNext", &snapshot->conf.learners_next);
    buffer_add(out, "AutoLeave:%s", snapshot->conf.auto_leave ? "true" : "false");
}

static void describe_node(struct buffer *out, node_id id)
{
    if (id == RAFT_NONE) {
        buffer_add(out, "None");
    } else if (id == RAFT_APPEND_THREAD) {
        buffer_add(out, "AppendThread");
    } else if (id == RAFT_APPLY_THREAD) {
        buffer_add(out, "ApplyThread");
    } else {
        buffer_add(out, "%" PRIx64, id);
    }
}

static void describe_message_entries(struct buffer *out, const char *indent,
                                     const struct raft_slice *entries)
{
    if (entries->count == 0) {
        return;
    }
    buffer_add(out, " Entries:[");
    for (size_t i = 0; i < entries->count; i++) {
        if (entries->count > 1) {
            buffer_add(out, "\n%s  ", indent);
        }
        describe_entry(out, &entries->entries[i]);
    }
    if (entries->count > 1) {
        buffer_add(out, "\n%s", indent);
    }
    buffer_add(out, "]");
}

void describe_message(struct buffer *out, const char *indent, const struct raft_message *message)
{
    buffer_add(out, "%s", indent);
    describe_node(out, message->from);
    buffer_add(out, "->");
    describe_node(out, message->to);
    buffer_add(out, " %s Term:%" PRIu64 " Log:%" PRIu64 "/%" PRIu64,
               raft_message_name(message->type), message->term, message->log_term, message->index);
    if (message->reject) {
        buffer_add(out, " Rejected (Hint: %" PRIu64 ")", message->reject_hint);
    }
    /* What votes say about commits is this core's addition; the scripts' text has no words for it.
     */
    if (message->commit != 0 && message->commit_term == 0) {
        buffer_add(out, " Commit:%" PRIu64, message->commit);
    }
    if (message->vote != 0) {
        buffer_add(out, " Vote:%" PRIu64, message->vote);
    }
    describe_message_entries(out, indent, &message->entries);
    if (message->snapshot != NULL && message->snapshot->index > 0) {
        buffer_add(out, "\n%s  Snapshot: ", indent);
        describe_snapshot(out, message->snapshot);
    }
    if (message->response_count > 0) {
        struct buffer deeper = {0};

        buffer_add(&deeper, "%s  ", indent);
        buffer_add(out, " Responses:[");
        for (size_t i = 0; i < message->response_count; i++) {
            buffer_add(out, "\n");
            describe_message(out, buffer_text(&deeper), &message->responses[i]);
        }
        buffer_add(out, "\n%s]", indent);
        buffer_fini(&deeper);
    }
}

/* ---- readies ---- */

static void describe_states(struct buffer *out, const struct raft_ready *ready)
{
    if (ready->has_soft_state) {
        buffer_add(out, "Lead:%" PRIu64 " State:%s\n", ready->soft_state.lead,
                   raft_state_name(ready->soft_state.state));
    }
    if (ready->has_hard_state) {
        buffer_add(out, "HardState Term:%" PRIu64, ready->hard_state.term);
        if (ready->hard_state.vote != 0) {
            buffer_add(out, " Vote:%" PRIu64, ready->hard_state.vote);
        }
        buffer_add(out, " Commit:%" PRIu64 "\n", ready->hard_state.commit);
    }
}

void describe_ready(struct buffer *out, const struct raft_ready *ready)
{
    struct buffer body = {0};

    describe_states(&body, ready);
    if (ready->entries.count > 0) {
        buffer_add(&body, "Entries:\n");
        describe_entries(&body, ready->entries.entries, ready->entries.count);
    }
    if (ready->snapshot != NULL) {
        buffer_add(&body, "Snapshot ");
        describe_snapshot(&body, ready->snapshot);
        buffer_add(&body, "\n");
    }
    if (ready->committed.count > 0) {
        buffer_add(&body, "CommittedEntries:\n");
        describe_entries(&body, ready->committed.entries, ready->committed.count);
    }
    if (ready->message_count > 0) {
        buffer_add(&body, "Messages:\n");
        for (size_t i = 0; i < ready->message_count; i++) {
            describe_message(&body, "", &ready->messages[i]);
            buffer_add(&body, "\n");
        }
    }
    if (body.len > 0) {
        buffer_add(out, "Ready MustSync=%s:\n", ready->must_sync ? "true" : "false");
        buffer_add_bytes(out, body.text, body.len);
    } else {
        buffer_add(out, "<empty Ready>");
    }
    buffer_fini(&body);
}
