/*
 * peer_hello: who is there, and may we talk? From the openings to the verdicts on both sides, and
 * again whenever what is said or judged has changed. The bytes are drawn in peer_handshake.h.
 */
#include <stdio.h>
#include <string.h>

#include "raftd/peer_private.h"

/* How long the far side gets to read the reason before the connection is cut. */
#define REFUSAL_LINGER_MS 1000u

/* ---- saying ---- */

static struct peers_hello say_hello(const struct peer_connection *connection)
{
    const struct peers_events *events = &connection->peers->options.events;
    struct peers_hello hello = {0};

    events->say_hello(events->ctx, &hello);
    hello.to = connection->peer;
    return hello;
}

static void put_hello(struct peer_connection *connection)
{
    uint8_t bytes[PEER_HANDSHAKE_HELLO_BYTES];

    connection->ours = say_hello(connection);
    peer_handshake_put_hello(&connection->ours, connection->channel, bytes);
    peer_connection_put(connection, PEER_FRAME_HELLO, bytes, sizeof(bytes));
}

static void put_welcome(struct peer_connection *connection, const struct peer_verdict *verdict)
{
    uint8_t bytes[PEER_HANDSHAKE_WELCOME_MAX];
    size_t len_bytes;

    connection->ours = say_hello(connection);
    peer_handshake_put_hello(&connection->ours, PEER_CHANNEL_NONE, bytes);
    len_bytes = peer_handshake_put_verdict(verdict, bytes + PEER_HANDSHAKE_HELLO_BYTES);
    peer_connection_put(connection, PEER_FRAME_WELCOME, bytes,
                        PEER_HANDSHAKE_HELLO_BYTES + len_bytes);
}

static void refuse(struct peer_connection *connection, const struct peer_verdict *verdict)
{
    struct peers *peers = connection->peers;

    if (!connection->dialled && connection->state == PEER_CONNECTION_SHAKING) {
        put_welcome(connection, verdict);
    } else {
        uint8_t bytes[PEER_HANDSHAKE_VERDICT_MAX];
        size_t len_bytes = peer_handshake_put_verdict(verdict, bytes);

        peer_connection_put(connection, PEER_FRAME_REFUSAL, bytes, len_bytes);
    }
    peers->stats.strangers++;
    peers_complain(peers, PEER_COMPLAINT_STRANGER, "refused a peer", connection->address,
                   verdict->text);
    connection->refused = true;
    peer_connection_finish(connection, peers_now_ms(peers) + REFUSAL_LINGER_MS);
}

/* ---- openings ---- */

/* Our opening, also to a far side with which we will not go further. */
static int put_opening(struct peer_connection *connection)
{
    peer_handshake_open(connection->peers->options.has_key, &connection->opening);
    return peer_stream_put_raw(&connection->stream, connection->opening.bytes,
                               sizeof(connection->opening.bytes));
}

void peer_hello_begin(struct peer_connection *connection)
{
    if (put_opening(connection) != MS_OK) {
        peer_connection_break(connection, MS_ENOMEM);
        return;
    }
    peer_stream_flush(&connection->stream);
}

/* The far side's opening was made by another version, or with a key where there is none. */
static int part_ways(struct peer_connection *connection, int reason)
{
    struct peers *peers = connection->peers;
    const char *detail = reason == MS_EPERM ? "only one side has a cluster key"
                                            : "it speaks another version of the protocol";

    if (connection->dialled) {
        const struct peers_events *events = &peers->options.events;
        const struct peers_hello theirs = {.from = connection->peer};

        connection->refused = true;
        if (reason == MS_EUNAVAILABLE) {
            events->refused(events->ctx, &theirs, PEERS_REFUSED_VERSION, detail);
        }
        peers_complain(peers, PEER_COMPLAINT_REFUSED, "cannot talk to a member",
                       connection->address, detail);
        return reason;
    }
    peers->stats.strangers++;
    peers_complain(peers, PEER_COMPLAINT_STRANGER, "refused a peer", connection->address, detail);
    if (put_opening(connection) != MS_OK) {
        return MS_ENOMEM;
    }
    peer_connection_finish(connection, peers_now_ms(peers) + REFUSAL_LINGER_MS);
    return MS_OK;
}

int peer_hello_opening(struct peer_connection *connection, const uint8_t *bytes)
{
    const struct peers_options *options = &connection->peers->options;
    struct peer_seal_keys keys;
    int rc = peer_handshake_check(bytes, options->has_key);

    if (rc == MS_EUNAVAILABLE || rc == MS_EPERM) {
        return part_ways(connection, rc);
    }
    if (rc == MS_OK && !connection->dialled) {
        rc = put_opening(connection);
    }
    if (rc == MS_OK && options->has_key) {
        rc = peer_handshake_keys(options->key, &connection->opening, bytes, connection->dialled,
                                 &keys);
    }
    if (rc == MS_OK) {
        rc = peer_stream_start(&connection->stream, options->has_key ? &keys : NULL);
    }
    sodium_memzero(&keys, sizeof(keys));
    if (rc != MS_OK) {
        return rc;
    }
    if (connection->dialled) {
        put_hello(connection);
    } else {
        peer_stream_flush(&connection->stream);
    }
    return MS_OK;
}

/* ---- verdicts ---- */

/* What we think of the far side; the text of a refusal is never empty. */
static struct peer_verdict judge(const struct peer_connection *connection)
{
    const struct peers_options *options = &connection->peers->options;
    struct peer_verdict verdict = {.reason = PEERS_REFUSED_IDENTITY};

    if (connection->theirs.from == options->self) {
        (void)snprintf(verdict.text, sizeof(verdict.text), "member %llu is this node itself",
                       (unsigned long long)options->self);
    } else if (connection->dialled && connection->theirs.from != connection->peer) {
        (void)snprintf(verdict.text, sizeof(verdict.text),
                       "member %llu answers where member %llu was expected",
                       (unsigned long long)connection->theirs.from,
                       (unsigned long long)connection->peer);
    } else {
        verdict.reason = options->events.judge(options->events.ctx, &connection->theirs,
                                               verdict.text, sizeof(verdict.text));
        if (verdict.reason != PEERS_ADMITTED && verdict.text[0] == '\0') {
            (void)snprintf(verdict.text, sizeof(verdict.text), "reason %d", (int)verdict.reason);
        }
    }
    return verdict;
}

static void admit(struct peer_connection *connection)
{
    uint64_t now_ms = peers_now_ms(connection->peers);

    connection->state = PEER_CONNECTION_ADMITTED;
    connection->admitted_ms = now_ms;
    connection->heard_ms = now_ms;
    connection->ping_ms = now_ms + connection->peers->ping_interval_ms;
    peers_admitted(connection->peers, connection);
}

static int take_hello(struct peer_connection *connection, const struct peer_frame *frame)
{
    struct peers_hello theirs;
    struct peer_verdict verdict;
    enum peer_channel channel;
    bool first = connection->state == PEER_CONNECTION_SHAKING;
    int rc = peer_handshake_get_hello(frame->payload, frame->len_bytes, &theirs, &channel);

    if (rc != MS_OK || channel == PEER_CHANNEL_NONE ||
        (!first && (theirs.from != connection->peer || channel != connection->channel))) {
        return MS_EPROTO;
    }
    connection->theirs = theirs;
    connection->peer = theirs.from;
    connection->channel = channel;
    verdict = judge(connection);
    if (verdict.reason != PEERS_ADMITTED) {
        refuse(connection, &verdict);
    } else if (first) {
        put_welcome(connection, &verdict);
        if (connection->state == PEER_CONNECTION_SHAKING) {
            admit(connection);
        }
    }
    return MS_OK;
}

static void be_refused(struct peer_connection *connection, const struct peer_verdict *verdict)
{
    const struct peers_events *events = &connection->peers->options.events;

    connection->refused = true;
    peers_complain(connection->peers, PEER_COMPLAINT_REFUSED, "refused by a peer",
                   connection->address, verdict->text);
    events->refused(events->ctx, &connection->theirs, verdict->reason, verdict->text);
    peer_connection_break(connection, MS_EPERM);
}

static int take_welcome(struct peer_connection *connection, const struct peer_frame *frame)
{
    struct peers_hello theirs;
    struct peer_verdict verdict;
    enum peer_channel channel;
    int rc;

    if (frame->len_bytes < PEER_HANDSHAKE_HELLO_BYTES) {
        return MS_EPROTO;
    }
    rc = peer_handshake_get_hello(frame->payload, PEER_HANDSHAKE_HELLO_BYTES, &theirs, &channel);
    if (rc == MS_OK) {
        rc = peer_handshake_get_verdict(frame->payload + PEER_HANDSHAKE_HELLO_BYTES,
                                        frame->len_bytes - PEER_HANDSHAKE_HELLO_BYTES, &verdict);
    }
    if (rc != MS_OK || channel != PEER_CHANNEL_NONE) {
        return MS_EPROTO;
    }
    connection->theirs = theirs;
    if (verdict.reason != PEERS_ADMITTED) {
        be_refused(connection, &verdict);
        return MS_OK;
    }
    verdict = judge(connection);
    if (verdict.reason != PEERS_ADMITTED) {
        refuse(connection, &verdict);
    } else if (connection->state == PEER_CONNECTION_SHAKING) {
        admit(connection);
    }
    return MS_OK;
}

static int take_refusal(struct peer_connection *connection, const struct peer_frame *frame)
{
    struct peer_verdict verdict;
    int rc = peer_handshake_get_verdict(frame->payload, frame->len_bytes, &verdict);

    if (rc != MS_OK || verdict.reason == PEERS_ADMITTED) {
        return MS_EPROTO;
    }
    be_refused(connection, &verdict);
    return MS_OK;
}

static bool same_hello(const struct peers_hello *a, const struct peers_hello *b)
{
    return a->cluster_id == b->cluster_id && a->from == b->from && a->to == b->to &&
           a->data_id == b->data_id && a->conf_index == b->conf_index && a->founding == b->founding;
}

void peer_hello_judge_again(struct peer_connection *connection)
{
    struct peer_verdict verdict = judge(connection);
    struct peers_hello ours;

    if (verdict.reason != PEERS_ADMITTED) {
        refuse(connection, &verdict);
        return;
    }
    ours = say_hello(connection);
    if (same_hello(&ours, &connection->ours)) {
        return;
    }
    if (connection->dialled) {
        put_hello(connection);
    } else {
        put_welcome(connection, &verdict);
    }
}

int peer_hello_frame(struct peer_connection *connection, const struct peer_frame *frame)
{
    if (frame->type == PEER_FRAME_HELLO) {
        return take_hello(connection, frame);
    }
    return frame->type == PEER_FRAME_WELCOME ? take_welcome(connection, frame)
                                             : take_refusal(connection, frame);
}
