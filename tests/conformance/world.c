/*
 * world: see world.h.
 */
#include "tests/conformance/world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/conformance/describe.h"

/* A script that is not stable by then never will be. */
#define STABILIZE_ROUNDS_MAX 10000

/* ---- queues ---- */

static void queue_push(struct world_queue *queue, struct raft_message *message)
{
    if (queue->count == queue->capacity) {
        queue->capacity = queue->capacity == 0 ? 16 : 2 * queue->capacity;
        queue->items = buffer_realloc(queue->items, queue->capacity * sizeof(struct raft_message));
    }
    raft_message_take(&queue->items[queue->count++], message);
}

static struct raft_message queue_pop(struct world_queue *queue)
{
    struct raft_message message = queue->items[0];

    queue->count--;
    memmove(queue->items, queue->items + 1, queue->count * sizeof(struct raft_message));
    return message;
}

static void queue_fini(struct world_queue *queue)
{
    for (size_t i = 0; i < queue->count; i++) {
        raft_message_release(&store_alloc, &queue->items[i]);
    }
    free(queue->items);
}

/* ---- life ---- */

void world_init(struct world *world, uint64_t seed)
{
    memset(world, 0, sizeof(*world));
    world->level = RAFT_LOG_DEBUG;
    world->seed = seed;
}

void world_fini(struct world *world)
{
    for (size_t i = 0; i < world->count; i++) {
        struct world_node *node = world->nodes[i];

        raft_destroy(node->raft);
        queue_fini(&node->append_work);
        queue_fini(&node->apply_work);
        store_fini(&node->store);
        free(node);
    }
    free(world->nodes);
    queue_fini(&world->in_flight);
}

struct world_node *world_node(struct world *world, uint64_t id)
{
    if (id == 0 || id > world->count) {
        world_break(world, "there is no node %" PRIu64, id);
        return NULL;
    }
    return world->nodes[id - 1];
}

/* ---- output ---- */

void world_print(struct world *world, const char *format, ...)
{
    char small[256];
    char *text = small;
    va_list args;
    int len;

    if (world->level == WORLD_LEVEL_NONE) {
        return;
    }
    va_start(args, format);
    len = vsnprintf(small, sizeof(small), format, args);
    va_end(args);
    if (len < 0) {
        return;
    }
    if ((size_t)len >= sizeof(small)) {
        text = buffer_alloc((size_t)len + 1);
        va_start(args, format);
        (void)vsnprintf(text, (size_t)len + 1, format, args);
        va_end(args);
    }
    buffer_add_bytes(world->out, text, (size_t)len);
    if (text != small) {
        free(text);
    }
}

void world_fail(struct world *world, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(world->error, sizeof(world->error), format, args);
    va_end(args);
}

void world_break(struct world *world, const char *format, ...)
{
    va_list args;

    if (world->broken[0] != '\0') {
        return; /* the first reason is the one that helps */
    }
    va_start(args, format);
    (void)vsnprintf(world->broken, sizeof(world->broken), format, args);
    va_end(args);
}

bool world_stopped(const struct world *world)
{
    return world->error[0] != '\0' || world->broken[0] != '\0';
}

const char *world_status_text(int status)
{
    switch (status) {
    case MS_EDROPPED:
        return "raft proposal dropped";
    case MS_EPERM:
        return "raft: cannot step raft local message";
    case MS_ENOENT:
        return "raft: cannot step as peer not found";
    case MS_ECOMPACTED:
        return "requested index is unavailable due to compaction";
    case MS_EEXIST:
        return "requested index is older than the existing snapshot";
    default:
        return "refused by the core";
    }
}

struct buffer *world_indent(struct world *world, struct buffer *inner)
{
    struct buffer *outer = world->out;

    world->out = inner;
    return outer;
}

void world_outdent(struct world *world, struct buffer *outer)
{
    struct buffer *inner = world->out;

    buffer_add_indented(outer, inner);
    buffer_fini(inner);
    world->out = outer;
}

void world_print_message(struct world *world, const struct raft_message *message)
{
    struct buffer text = {0};

    describe_message(&text, "", message);
    world_print(world, "%s\n", buffer_text(&text));
    buffer_fini(&text);
}

/* ---- nodes ---- */

static void print_log(void *ctx, enum raft_log_level level, const char *line)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR"};
    struct world_node *node = ctx;

    if ((int)level >= node->world->level) {
        world_print(node->world, "%s %s\n", names[level], line);
    }
}

/* splitmix64: expected output must not depend on what this returns. */
static uint32_t draw(void *ctx, uint32_t n)
{
    struct world_node *node = ctx;
    uint64_t z = node->world->seed += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) % n);
}

void world_add_node(struct world *world, const struct raft_options *options,
                    const struct raft_conf_state *conf, raft_index index)
{
    struct world_node *node = buffer_alloc(sizeof(*node));
    struct raft_options own = *options;
    int rc;

    memset(node, 0, sizeof(*node));
    node->world = world;
    node->id = world->count + 1;
    node->async_storage = options->async_storage;
    store_init(&node->store, index, index > 0 ? 1 : 0, conf);
    own.id = node->id;
    own.applied = index;
    own.alloc = store_alloc;
    own.storage = store_interface(&node->store);
    own.draw = draw;
    own.draw_ctx = node;
    own.log = print_log;
    own.log_ctx = node;
    own.log_level = RAFT_LOG_DEBUG;
    rc = raft_create(&own, &node->raft);
    if (rc != MS_OK) {
        world_break(world, "a node cannot be made with these options: %s", ms_status_text(rc));
        store_fini(&node->store);
        free(node);
        return;
    }
    world->nodes = buffer_realloc(world->nodes, (world->count + 1) * sizeof(struct world_node *));
    world->nodes[world->count++] = node;
}

void world_send(struct world *world, struct raft_message *message)
{
    queue_push(&world->in_flight, message);
}

/* Any status here says that the driver or the core is wrong, not the script's expectation. */
static void check(struct world_node *node, int rc, const char *what)
{
    if (rc != MS_OK) {
        world_break(node->world, "%s on node %" PRIu64 ": %s", what, node->id, ms_status_text(rc));
    }
}

/* ---- storage work ---- */

static void write_log(struct world_node *node, const struct raft_snapshot *snapshot,
                      const struct raft_slice *entries)
{
    int rc;

    if (snapshot != NULL && snapshot->index > 0) {
        if (entries->count > 0) {
            world_fail(node->world, "can't apply snapshot and entries at the same time");
            return;
        }
        rc = store_apply_snapshot(&node->store, snapshot);
        if (rc != MS_OK) {
            world_fail(node->world, "%s", world_status_text(rc));
        }
        return;
    }
    check(node, store_append(&node->store, entries->entries, entries->count), "append to storage");
}

static void apply_entries(struct world_node *node, const struct raft_slice *entries)
{
    for (size_t i = 0; i < entries->count && !world_stopped(node->world); i++) {
        const struct raft_entry *entry = &entries->entries[i];
        struct raft_conf_change change;
        struct raft_conf_state conf;
        int rc;

        if (entry->type == RAFT_ENTRY_NORMAL) {
            store_applied(&node->store, entry, NULL);
            continue;
        }
        rc = raft_conf_change_decode(entry, &change);
        if (rc == MS_OK) {
            rc = raft_apply_conf_change(node->raft, &change, &conf);
        }
        if (rc != MS_OK) {
            world_break(node->world,
                        "node %" PRIu64 " cannot apply the change at index %" PRIu64 ": %s",
                        node->id, entry->index, raft_conf_change_reason(node->raft));
            return;
        }
        store_applied(&node->store, entry, &conf);
    }
}

/* Takes the oldest message, does work with it, and sends its responses. */
static void process_work(struct world_node *node, struct world_queue *queue, const char *none,
                         void (*work)(struct world_node *, const struct raft_message *))
{
    struct world *world = node->world;
    struct raft_message message;
    size_t response_count;

    if (queue->count == 0) {
        world_print(world, "%s", none);
        return;
    }
    message = queue_pop(queue);
    response_count = message.response_count;
    message.response_count = 0; /* printed later */
    world_print(world, "Processing:\n");
    world_print_message(world, &message);
    work(node, &message);
    message.response_count = response_count;
    if (!world_stopped(world)) {
        world_print(world, "Responses:\n");
        for (size_t i = 0; i < response_count; i++) {
            world_print_message(world, &message.responses[i]);
        }
        for (size_t i = 0; i < response_count; i++) {
            world_send(world, &message.responses[i]);
        }
    }
    raft_message_release(&store_alloc, &message);
}

static void append_work(struct world_node *node, const struct raft_message *message)
{
    write_log(node, message->snapshot, &message->entries);
}

static void apply_work(struct world_node *node, const struct raft_message *message)
{
    apply_entries(node, &message->entries);
}

void world_process_append(struct world_node *node)
{
    process_work(node, &node->append_work, "no append work to perform", append_work);
}

void world_process_apply(struct world_node *node)
{
    process_work(node, &node->apply_work, "no apply work to perform", apply_work);
}

static void dispatch(struct world_node *node, struct raft_message *message)
{
    if (message->to == RAFT_APPEND_THREAD) {
        queue_push(&node->append_work, message);
    } else if (message->to == RAFT_APPLY_THREAD) {
        queue_push(&node->apply_work, message);
    } else {
        world_send(node->world, message);
    }
}

void world_process_ready(struct world_node *node)
{
    struct world *world = node->world;
    struct buffer text = {0};
    struct raft_ready ready;
    int rc = raft_ready(node->raft, &ready);

    if (rc != MS_OK) {
        check(node, rc, "ready");
        return;
    }
    describe_ready(&text, &ready);
    world_print(world, "%s", buffer_text(&text));
    buffer_fini(&text);
    if (!node->async_storage) {
        write_log(node, ready.snapshot, &ready.entries);
        if (!world_stopped(world)) {
            apply_entries(node, &ready.committed);
        }
    }
    if (!world_stopped(world)) {
        for (size_t i = 0; i < ready.message_count; i++) {
            dispatch(node, &ready.messages[i]);
        }
        if (!node->async_storage) {
            check(node, raft_advance(node->raft), "advance");
        }
    }
    raft_ready_release(node->raft, &ready);
}

/* ---- delivery ---- */

/* What stays inside a node is not lost on a network. */
static bool is_internal(const struct raft_message *message)
{
    return message->from == message->to || message->from == RAFT_APPEND_THREAD ||
           message->from == RAFT_APPLY_THREAD;
}

static bool concerns(const struct raft_message *message, const struct world_recipient *recipient,
                     int type)
{
    return message->to == recipient->id && !(recipient->drop && is_internal(message)) &&
           (type == WORLD_ANY_TYPE || (int)message->type == type);
}

/* Moves what concerns the recipient out of flight. */
static struct world_queue collect(struct world *world, const struct world_recipient *recipient,
                                  int type)
{
    struct world_queue found = {0};
    size_t kept = 0;

    for (size_t i = 0; i < world->in_flight.count; i++) {
        struct raft_message *message = &world->in_flight.items[i];

        if (concerns(message, recipient, type)) {
            queue_push(&found, message);
        } else {
            struct raft_message moved = *message;

            world->in_flight.items[kept++] = moved;
        }
    }
    world->in_flight.count = kept;
    return found;
}

static void deliver_one(struct world *world, const struct raft_message *message)
{
    struct world_node *node = world_node(world, message->to);
    int rc;

    if (node == NULL) {
        return;
    }
    rc = raft_step(node->raft, message);
    if (rc == MS_ENOMEM || rc == MS_EFULL || rc == MS_EINVAL || rc == MS_ECORRUPT) {
        check(node, rc, "step");
    } else if (rc != MS_OK) {
        world_print(world, "%s\n", world_status_text(rc));
    }
}

size_t world_deliver(struct world *world, const struct world_recipient *recipients, size_t count,
                     int type)
{
    size_t handled = 0;

    for (size_t r = 0; r < count; r++) {
        struct world_queue found = collect(world, &recipients[r], type);

        handled += found.count;
        for (size_t i = 0; i < found.count && !world_stopped(world); i++) {
            if (recipients[r].drop) {
                world_print(world, "dropped: ");
            }
            world_print_message(world, &found.items[i]);
            if (!recipients[r].drop) {
                deliver_one(world, &found.items[i]);
            }
        }
        queue_fini(&found);
    }
    return handled;
}

/* ---- stabilize ---- */

static bool has_mail(const struct world *world, node_id id)
{
    for (size_t i = 0; i < world->in_flight.count; i++) {
        if (world->in_flight.items[i].to == id) {
            return true;
        }
    }
    return false;
}

static void indented(struct world_node *node, void (*work)(struct world_node *))
{
    struct buffer inner = {0};
    struct buffer *outer = world_indent(node->world, &inner);

    work(node);
    world_outdent(node->world, outer);
}

static void receive(struct world_node *node)
{
    struct world_recipient recipient = {.id = node->id};

    (void)world_deliver(node->world, &recipient, 1, WORLD_ANY_TYPE);
}

static void all_append_work(struct world_node *node)
{
    while (node->append_work.count > 0 && !world_stopped(node->world)) {
        indented(node, world_process_append);
    }
}

static void all_apply_work(struct world_node *node)
{
    while (node->apply_work.count > 0 && !world_stopped(node->world)) {
        indented(node, world_process_apply);
    }
}

static void handle_ready(struct world_node *node)
{
    indented(node, world_process_ready);
}

static void receive_messages(struct world_node *node)
{
    indented(node, receive);
}

static bool has_ready(const struct world_node *node)
{
    return raft_has_ready(node->raft);
}

static bool has_messages(const struct world_node *node)
{
    return has_mail(node->world, node->id);
}

static bool has_append_work(const struct world_node *node)
{
    return node->append_work.count > 0;
}

static bool has_apply_work(const struct world_node *node)
{
    return node->apply_work.count > 0;
}

void world_stabilize(struct world *world, struct world_node **nodes, size_t count)
{
    static const struct {
        bool (*due)(const struct world_node *);
        void (*work)(struct world_node *);
        const char *what;
    } phases[] = {
        {has_ready, handle_ready, "handling Ready"},
        {has_messages, receive_messages, "receiving messages"},
        {has_append_work, all_append_work, "processing append thread"},
        {has_apply_work, all_apply_work, "processing apply thread"},
    };

    for (size_t round = 0; round < STABILIZE_ROUNDS_MAX; round++) {
        bool done = true;

        for (size_t p = 0; p < sizeof(phases) / sizeof(phases[0]); p++) {
            for (size_t i = 0; i < count; i++) {
                if (!phases[p].due(nodes[i])) {
                    continue;
                }
                world_print(world, "> %" PRIu64 " %s\n", nodes[i]->id, phases[p].what);
                phases[p].work(nodes[i]);
                if (world_stopped(world)) {
                    return;
                }
                done = false;
            }
        }
        if (done) {
            return;
        }
    }
    world_break(world, "not stable after %d rounds", STABILIZE_ROUNDS_MAX);
}
