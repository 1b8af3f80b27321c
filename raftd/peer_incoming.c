/*
 * peer_incoming: who dials us. Anybody may try, so all of it is bounded: strangers cannot keep
 * members out, because a new connection takes the place of the oldest that has not been admitted.
 */
#include "raftd/peer_private.h"

#include <unistd.h>

#define BACKLOG 128

/* How many of a kind there are; *oldest of them all is the one that came first. */
static unsigned count_incoming(const struct peers *peers, bool unadmitted_only,
                               struct peer_connection **oldest)
{
    unsigned count = 0;

    *oldest = NULL;
    for (struct peer_connection *at = peers->connections; at != NULL; at = at->next) {
        bool counts = at->state == PEER_CONNECTION_SHAKING ||
                      at->state == PEER_CONNECTION_FINISHING ||
                      (at->state == PEER_CONNECTION_ADMITTED && !unadmitted_only);

        if (!at->dialled && counts) {
            count++;
            *oldest = at; /* new ones are put in front */
        }
    }
    return count;
}

static void make_room(struct peers *peers)
{
    struct peer_connection *oldest;

    if (count_incoming(peers, true, &oldest) >= PEERS_UNADMITTED_MAX ||
        count_incoming(peers, false, &oldest) >= PEERS_INCOMING_MAX) {
        peers->stats.strangers++;
        peers_complain(peers, PEER_COMPLAINT_STRANGER, "too many connections to the peer port",
                       oldest->address, "the oldest was closed");
        peer_connection_break(oldest, MS_EFULL);
    }
}

/* Takes the connection that waits at the listener. MS_ENOMEM: it goes on waiting. */
static int take(struct peers *peers, uv_stream_t *listener)
{
    struct peer_connection *connection;
    int rc = peer_connection_create(peers, PEER_CHANNEL_NONE, false, &connection);

    if (rc != MS_OK) {
        return rc;
    }
    if (uv_accept(listener, (uv_stream_t *)&connection->stream.tcp) == 0) {
        peer_connection_accepted(connection);
    } else {
        peer_connection_break(connection, MS_EPEER);
    }
    make_room(peers);
    return MS_OK;
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct peers *peers = listener->data;

    if (status < 0) {
        peers_complain(peers, PEER_COMPLAINT_ADDRESS, "cannot accept a connection", "",
                       uv_strerror(status));
        return;
    }
    if (!peers->closing && take(peers, listener) != MS_OK) {
        peers_complain(peers, PEER_COMPLAINT_ADDRESS, "cannot accept a connection", "",
                       "not enough memory");
        peers->accept_again = true;
        peers_wake(peers);
    }
}

void peer_incoming_retry(struct peers *peers)
{
    peers->accept_again = false;
    for (size_t i = 0; i < peers->listener_count; i++) {
        /* Most often nothing waits: libuv says so, and the connection made for it is closed. */
        if (take(peers, (uv_stream_t *)&peers->listeners[i]) != MS_OK) {
            peers->accept_again = true;
        }
    }
}

static void on_listener_closed(uv_handle_t *handle)
{
    peers_handle_closed(handle->data);
}

int peers_take_listener(struct peers *peers, int fd, struct ms_err *err)
{
    uv_tcp_t *listener = &peers->listeners[peers->listener_count];
    int rc;

    if (peers->listener_count == PEERS_LISTENERS_MAX) {
        (void)close(fd);
        return ms_err_set(err, MS_EFULL, 0, "more than %u peer listeners", PEERS_LISTENERS_MAX);
    }
    rc = uv_tcp_init(peers->options.loop, listener);
    if (rc != 0) {
        (void)close(fd);
        return ms_err_set(err, MS_EIO, -rc, "create a peer listener");
    }
    listener->data = peers;
    peers->open_handles++;
    rc = uv_tcp_open(listener, fd);
    if (rc != 0) {
        (void)close(fd);
    } else {
        rc = uv_listen((uv_stream_t *)listener, BACKLOG, on_connection);
    }
    if (rc != 0) {
        /* Its place is not used again: libuv needs it until it is closed. */
        uv_close((uv_handle_t *)listener, on_listener_closed);
        peers->listener_count++;
        return ms_err_set(err, MS_EIO, -rc, "listen for peers");
    }
    peers->listener_count++;
    return MS_OK;
}

void peer_incoming_close(struct peers *peers)
{
    for (size_t i = 0; i < peers->listener_count; i++) {
        if (!uv_is_closing((uv_handle_t *)&peers->listeners[i])) {
            uv_close((uv_handle_t *)&peers->listeners[i], on_listener_closed);
        }
    }
}

void peer_incoming_replace(struct peers *peers, const struct peer_connection *newest)
{
    for (struct peer_connection *at = peers->connections; at != NULL; at = at->next) {
        if (at != newest && !at->dialled && at->state == PEER_CONNECTION_ADMITTED &&
            at->peer == newest->peer && at->channel == newest->channel) {
            peer_connection_break(at, MS_OK);
        }
    }
}

void peer_incoming_expire(struct peers *peers, node_id peer, uint64_t at_ms)
{
    for (struct peer_connection *at = peers->connections; at != NULL; at = at->next) {
        if (!at->dialled && at->state == PEER_CONNECTION_ADMITTED && at->peer == peer) {
            at->expires_ms = at_ms;
        }
    }
}
