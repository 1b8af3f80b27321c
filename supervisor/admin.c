/*
 * admin: see admin.h.
 */
#include "supervisor/admin.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "supervisor/admin_command.h"

#define BACKLOG 16

struct admin {
    uv_pipe_t listener;
    struct admin_actions actions;
    void *ctx;
    struct client *clients; /* list */
    size_t client_count;
    uint64_t last_request; /* number of the newest request to raftd */
    size_t open_handles;   /* of the listener and the clients; the memory goes with the last */
    bool closing;
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
};

/*
 * A client is either reading a line, waiting for others, or writing an answer: so one that does not
 * read its answers cannot make us keep more than one.
 */
struct client {
    struct admin *admin;
    struct client *next;
    uv_pipe_t pipe;
    uv_timer_t idle; /* while it waits for raftd: the deadline */
    uv_write_t write;
    char *answer; /* heap, while it is being written */
    struct admin_input input;
    struct admin_wish wish; /* what it waits for */
    bool ended;             /* no more input will come */
    bool leaving;           /* close once the answer is written */
    bool closing;
    size_t open_handles;
};

static void serve(struct client *client);
static void on_idle(uv_timer_t *timer);

/* ---- life and end --------------------------------------------------------------------------- */

static void release_admin(struct admin *admin)
{
    if (--admin->open_handles == 0) {
        free(admin);
    }
}

static void on_client_closed(uv_handle_t *handle)
{
    struct client *client = handle->data;
    struct admin *admin = client->admin;

    if (--client->open_handles > 0) {
        return;
    }
    free(client->answer);
    free(client);
    release_admin(admin);
}

static void close_client(struct client *client)
{
    struct client **link = &client->admin->clients;

    if (client->closing) {
        return;
    }
    client->closing = true;
    while (*link != client) {
        link = &(*link)->next;
    }
    *link = client->next;
    client->admin->client_count--;
    uv_close((uv_handle_t *)&client->pipe, on_client_closed);
    uv_close((uv_handle_t *)&client->idle, on_client_closed);
}

/* ---- one answer after the other ------------------------------------------------------------- */

static void on_written(uv_write_t *request, int status)
{
    struct client *client = request->data;

    free(client->answer);
    client->answer = NULL;
    if (client->closing) {
        return;
    }
    if (status != 0 || client->leaving) {
        close_client(client);
        return;
    }
    serve(client);
}

/* Takes answer (heap). */
static void send_answer(struct client *client, char *answer)
{
    uv_buf_t buffer;

    assert(client->answer == NULL);
    if (answer == NULL) { /* no memory: a client without an answer must not think there was one */
        close_client(client);
        return;
    }
    client->answer = answer;
    client->write.data = client;
    buffer = uv_buf_init(answer, (unsigned)strlen(answer));
    if (uv_write(&client->write, (uv_stream_t *)&client->pipe, &buffer, 1, on_written) != 0) {
        close_client(client);
    }
}

/* ---- answers that take longer --------------------------------------------------------------- */

/* Takes answer (heap). The client waits for nothing any more. */
static void grant_wish(struct client *client, char *answer)
{
    client->wish = (struct admin_wish){.kind = ADMIN_WISH_NOTHING};
    (void)uv_timer_start(&client->idle, on_idle, ADMIN_IDLE_TIMEOUT_MS, 0);
    send_answer(client, answer);
}

static void answer_member(struct client *client, enum ms_member_code code, const char *text)
{
    grant_wish(client, admin_member_answer(&client->wish, code, text));
}

static void on_idle(uv_timer_t *timer)
{
    struct client *client = timer->data;

    switch (client->wish.kind) {
    case ADMIN_WISH_NOTHING:
        close_client(client);
        break;
    case ADMIN_WISH_MEMBER:
        answer_member(client, MS_MEMBER_UNKNOWN, "deadline passed; the outcome is unknown");
        break;
    case ADMIN_WISH_RELOAD:
        grant_wish(client, admin_execute_error("deadline passed; the outcome is unknown"));
        break;
    }
}

static void ask_raftd(struct client *client)
{
    struct admin *admin = client->admin;
    struct ms_err err = {0};
    struct ms_instant deadline;

    client->wish.request.head.request = ++admin->last_request;
    if (admin->actions.ask_member(admin->ctx, &client->wish.request, &err) != MS_OK) {
        grant_wish(client, admin_execute_error(err.text));
        return;
    }
    deadline.ns = client->wish.request.head.deadline_ns;
    (void)uv_timer_start(&client->idle, on_idle,
                         ms_clock_elapsed_ms(ms_clock_now(), deadline) + ADMIN_GRACE_MS, 0);
}

static void ask_reload(struct client *client)
{
    struct admin *admin = client->admin;
    struct ms_err err = {0};

    if (admin->actions.reload(admin->ctx, &err) != MS_OK) {
        grant_wish(client, admin_execute_error(err.text));
    }
}

void admin_on_member_answer(struct admin *admin, const struct ms_control_member_answer *answer)
{
    struct client *client = admin->clients;

    if (answer->head.request == 0) {
        return;
    }
    while (client != NULL && client->wish.request.head.request != answer->head.request) {
        client = client->next;
    }
    if (client != NULL) {
        answer_member(client, (enum ms_member_code)answer->head.code, answer->text);
    }
}

/* The first client that waits for such a thing; NULL: none. */
static struct client *client_with_wish(struct admin *admin, enum admin_wish_kind kind)
{
    struct client *client = admin->clients;

    while (client != NULL && client->wish.kind != kind) {
        client = client->next;
    }
    return client;
}

void admin_on_raftd_lost(struct admin *admin)
{
    struct client *client;

    while ((client = client_with_wish(admin, ADMIN_WISH_MEMBER)) != NULL) {
        answer_member(client, MS_MEMBER_UNKNOWN, "raftd was lost; the outcome is unknown");
    }
}

void admin_on_reloaded(struct admin *admin, const char *refused, const char *remarks)
{
    struct client *client;

    while ((client = client_with_wish(admin, ADMIN_WISH_RELOAD)) != NULL) {
        grant_wish(client, admin_execute_reloaded(client->wish.json, refused, remarks));
    }
}

/* ---- commands -------------------------------------------------------------------------------- */

static void execute(struct client *client, char *line, size_t len)
{
    struct admin *admin = client->admin;
    struct admin_wish wish = {.kind = ADMIN_WISH_NOTHING};
    char *answer = NULL;

    if (admin_execute(line, len, &admin->actions, admin->ctx, &answer, &wish) != MS_EAGAIN) {
        send_answer(client, answer);
        return;
    }
    client->wish = wish;
    switch (wish.kind) {
    case ADMIN_WISH_MEMBER:
        ask_raftd(client);
        break;
    case ADMIN_WISH_RELOAD:
        ask_reload(client);
        break;
    case ADMIN_WISH_NOTHING:
        assert(false);
        break;
    }
}

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct client *client = handle->data;
    size_t room;
    char *space = admin_input_space(&client->input, &room);

    (void)suggested;
    *out = uv_buf_init(space, (unsigned)room);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer)
{
    struct client *client = stream->data;

    (void)buffer;
    if (len == 0) {
        return;
    }
    if (len < 0 && len != UV_EOF) {
        close_client(client);
        return;
    }
    if (len == UV_EOF) {
        client->ended = true;
    } else {
        admin_input_added(&client->input, (size_t)len);
    }
    (void)uv_read_stop(stream);
    serve(client);
}

/* Answers the next line if one is there; otherwise waits for more, or ends. */
static void serve(struct client *client)
{
    size_t len = 0;
    char *line;
    int rc;

    rc = admin_input_line(&client->input, &line, &len);
    if (rc == MS_EAGAIN && client->ended) {
        rc = admin_input_rest(&client->input, &line, &len);
        client->leaving = true;
    }
    if (rc == MS_OK) {
        /* From one answer to the next: a line that trickles in does not keep the place. */
        (void)uv_timer_start(&client->idle, on_idle, ADMIN_IDLE_TIMEOUT_MS, 0);
        execute(client, line, len);
    } else if (rc == MS_ERANGE) {
        client->leaving = true;
        send_answer(client, admin_execute_error("the line is too long"));
    } else if (client->ended ||
               uv_read_start((uv_stream_t *)&client->pipe, on_allocate, on_read) != 0) {
        close_client(client);
    }
}

/* ---- new clients ---------------------------------------------------------------------------- */

static bool is_permitted(struct client *client)
{
    struct ucred peer;
    socklen_t peer_bytes = sizeof(peer);
    uv_os_fd_t fd;

    if (uv_fileno((uv_handle_t *)&client->pipe, &fd) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes) != 0) {
        return false;
    }
    return peer.uid == 0 || peer.uid == geteuid();
}

static void refuse(struct client *client, const char *text)
{
    client->leaving = true;
    send_answer(client, admin_execute_error(text));
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct admin *admin = listener->data;
    struct client *client;

    if (status != 0) {
        return; /* out of descriptors, for instance: the client stays in the backlog */
    }
    client = calloc(1, sizeof(*client));
    if (client == NULL) {
        return; /* likewise */
    }
    client->admin = admin;
    /* These two cannot fail: they only set up memory. */
    (void)uv_pipe_init(listener->loop, &client->pipe, 0);
    (void)uv_timer_init(listener->loop, &client->idle);
    client->pipe.data = client;
    client->idle.data = client;
    client->open_handles = 2;
    client->next = admin->clients;
    admin->clients = client;
    admin->client_count++;
    admin->open_handles++;
    if (uv_accept(listener, (uv_stream_t *)&client->pipe) != 0) {
        close_client(client);
        return;
    }
    (void)uv_timer_start(&client->idle, on_idle, ADMIN_IDLE_TIMEOUT_MS, 0);
    if (!is_permitted(client)) {
        refuse(client, "not permitted");
    } else if (admin->client_count > ADMIN_CLIENTS_MAX) {
        refuse(client, "too many admin clients");
    } else {
        serve(client);
    }
}

/* ---- the socket ----------------------------------------------------------------------------- */

static int remove_stale(const char *path, struct ms_err *err)
{
    struct stat found;

    if (lstat(path, &found) != 0) {
        return errno == ENOENT ? MS_OK : ms_err_set(err, MS_EIO, errno, "admin socket %s", path);
    }
    if (!S_ISSOCK(found.st_mode)) {
        return ms_err_set(err, MS_EEXIST, 0, "admin socket %s: something else is there", path);
    }
    if (unlink(path) != 0 && errno != ENOENT) {
        return ms_err_set(err, MS_EIO, errno, "remove the old admin socket %s", path);
    }
    return MS_OK;
}

static int bind_socket(const char *path, int *out_fd, struct ms_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t old_mask;
    int rc;
    int fd;

    if (strlen(path) >= sizeof(address.sun_path)) {
        return ms_err_set(err, MS_ERANGE, 0,
                          "admin socket %s: the path has %zu bytes, a socket's may have %zu; "
                          "choose a shorter --admin-socket",
                          path, strlen(path), sizeof(address.sun_path) - 1);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    rc = remove_stale(path, err);
    if (rc != MS_OK) {
        return rc;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return ms_err_set(err, MS_EIO, errno, "admin socket %s", path);
    }
    /* The mask, not a later chmod: there must be no moment at which others could connect. */
    old_mask = umask(0177);
    rc = bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0
             ? MS_OK
             : ms_err_set(err, MS_EIO, errno, "bind admin socket %s", path);
    (void)umask(old_mask);
    if (rc != MS_OK) {
        (void)close(fd);
        return rc;
    }
    *out_fd = fd;
    return MS_OK;
}

static void on_listener_closed(uv_handle_t *handle)
{
    release_admin(handle->data);
}

int admin_create(uv_loop_t *loop, const char *path, const struct admin_actions *actions, void *ctx,
                 struct admin **out, struct ms_err *err)
{
    struct admin *admin;
    int fd = -1;
    int rc;

    rc = bind_socket(path, &fd, err);
    if (rc != MS_OK) {
        return rc;
    }
    admin = calloc(1, sizeof(*admin));
    if (admin == NULL) {
        rc = ms_err_set(err, MS_ENOMEM, 0, "admin socket %s", path);
        goto out;
    }
    admin->actions = *actions;
    admin->ctx = ctx;
    memcpy(admin->path, path, strlen(path) + 1);
    (void)uv_pipe_init(loop, &admin->listener, 0);
    admin->listener.data = admin;
    admin->open_handles = 1;
    rc = uv_pipe_open(&admin->listener, fd);
    if (rc == 0) {
        fd = -1; /* the handle's now */
        rc = uv_listen((uv_stream_t *)&admin->listener, BACKLOG, on_connection);
    }
    if (rc != 0) {
        rc = ms_err_set(err, MS_EIO, -rc, "listen on admin socket %s", path);
        admin_destroy(admin);
        goto out;
    }
    *out = admin;
    return MS_OK;

out:
    if (fd >= 0) {
        (void)close(fd);
        (void)unlink(path);
    }
    return rc;
}

void admin_destroy(struct admin *admin)
{
    if (admin == NULL || admin->closing) {
        return;
    }
    admin->closing = true;
    (void)unlink(admin->path);
    while (admin->clients != NULL) {
        close_client(admin->clients);
    }
    uv_close((uv_handle_t *)&admin->listener, on_listener_closed);
}
