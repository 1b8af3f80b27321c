/*
 * cluster: nodes, their addresses and their processes.
 */
#include "tests/support/cluster.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "tests/support/check.h"
#include "tests/support/files.h"

enum {
    PEER_PORT = 9021, /* in a network of its own every node can have the same */
    API_PORT = 9121,
    KEY_BYTES = 32,
    URLS_BYTES = CLUSTER_NODES_MAX * CLUSTER_URL_BYTES,
    ARGUMENTS_MAX = 40
};

bool cluster_can_cut(const struct cluster *cluster)
{
    return cluster->network.home_fd >= 0;
}

/* ---- preparation ----------------------------------------------------------------------------- */

/* Below the first node's directory, which goes away whatever happens to the test. */
static void write_key(struct cluster *cluster)
{
    uint8_t key[KEY_BYTES];

    files_path(cluster->key_path, sizeof(cluster->key_path), "%s/key", cluster->nodes[0].node.dir);
    check_that(getrandom(key, sizeof(key), 0) == (ssize_t)sizeof(key), "draw a cluster key");
    files_write(cluster->key_path, key, sizeof(key));
}

static void prepare(struct cluster *cluster, size_t position)
{
    struct cluster_node *member = &cluster->nodes[position];
    struct node *node = &member->node;
    char peer_host[CLUSTER_ADDRESS_BYTES] = "127.0.0.1";
    uint16_t peer_port = PEER_PORT;

    node_init(node);
    member->id = position + 1;
    member->founder = position < cluster->founders;
    if (cluster_can_cut(cluster)) {
        cluster_network_peer_address(position, peer_host);
        cluster_network_client_address(position, member->api_host);
        node->port = API_PORT;
    } else {
        (void)snprintf(member->api_host, sizeof(member->api_host), "127.0.0.1");
        peer_port = node_free_port();
    }
    files_path(node->url, sizeof(node->url), "http://%s:%u", member->api_host, node->port);
    files_path(node->node_dir, sizeof(node->node_dir), "%s/%llu", node->data_dir,
               (unsigned long long)member->id);
    files_path(node->admin_path, sizeof(node->admin_path), "%s/admin.sock", node->node_dir);
    files_path(member->peer_url, sizeof(member->peer_url), "http://%s:%u", peer_host, peer_port);
    member->api = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(node->port)};
    check_that(inet_pton(AF_INET, member->api_host, &member->api.sin_addr) == 1, "address %s",
               member->api_host);
    member->prepared = true;
}

void cluster_init(struct cluster *cluster, size_t founders, size_t node_count,
                  const char *const *arguments)
{
    const char *reason = "";

    check_that(founders <= node_count && node_count <= CLUSTER_NODES_MAX, "%zu nodes", node_count);
    memset(cluster, 0, sizeof(*cluster));
    cluster->founders = founders;
    cluster->node_count = node_count;
    cluster->arguments = arguments;
    if (!cluster_network_create(&cluster->network, node_count, &reason)) {
        (void)printf("networks cannot be cut here (%s): that part is left out\n", reason);
    }
    for (size_t i = 0; i < node_count; i++) {
        prepare(cluster, i);
    }
    write_key(cluster);
}

void cluster_fini(struct cluster *cluster, bool passed)
{
    for (size_t i = 0; i < cluster->node_count; i++) {
        struct cluster_node *member = &cluster->nodes[i];

        if (!member->prepared) {
            continue;
        }
        /* One that was never started, or was removed, has no say in it. */
        member->node.passed = passed;
        node_fini(&member->node);
    }
    cluster_network_destroy(&cluster->network);
}

/* ---- start and end --------------------------------------------------------------------------- */

static void founders_list(const struct cluster *cluster, char *dst, size_t dst_bytes)
{
    size_t used = 0;

    for (size_t i = 0; i < cluster->founders; i++) {
        used += (size_t)snprintf(dst + used, dst_bytes - used, "%s%s", i > 0 ? "," : "",
                                 cluster->nodes[i].peer_url);
        check_that(used < dst_bytes, "the list of members is too long");
    }
}

/* A node that joins is told where the founders are, and after them where it is itself. */
static void add_own_url(const struct cluster *cluster, const struct cluster_node *member,
                        char *urls, size_t urls_bytes)
{
    for (size_t i = cluster->founders; i < member->id; i++) {
        size_t used = strlen(urls);

        (void)snprintf(urls + used, urls_bytes - used, ",%s", cluster->nodes[i].peer_url);
    }
}

void cluster_spawn(struct cluster *cluster, size_t position)
{
    struct cluster_node *member = &cluster->nodes[position];
    const char *words[ARGUMENTS_MAX] = {NULL};
    const struct node_launch launch = {.arguments = words};
    char urls[URLS_BYTES];
    char id[24];
    size_t count = 0;

    (void)snprintf(id, sizeof(id), "%llu", (unsigned long long)member->id);
    founders_list(cluster, urls, sizeof(urls));
    words[count++] = "--id";
    words[count++] = id;
    words[count++] = "--listen";
    words[count++] = member->api_host;
    words[count++] = "--cluster-key-file";
    words[count++] = cluster->key_path;
    words[count++] = "--cluster";
    words[count++] = urls;
    if (!member->founder) {
        add_own_url(cluster, member, urls, sizeof(urls));
        words[count++] = "--join";
    }
    for (size_t i = 0; cluster->arguments != NULL && cluster->arguments[i] != NULL; i++) {
        check_that(count + 1 < ARGUMENTS_MAX, "too many arguments");
        words[count++] = cluster->arguments[i];
    }
    if (cluster_can_cut(cluster)) {
        cluster_network_enter(&cluster->network, position);
    }
    node_spawn(&member->node, &launch);
    if (cluster_can_cut(cluster)) {
        cluster_network_leave(&cluster->network);
    }
}

void cluster_wait_ready(struct cluster *cluster, size_t position)
{
    node_wait_ready(&cluster->nodes[position].node);
}

void cluster_hear(const struct cluster *cluster)
{
    for (size_t i = 0; i < cluster->node_count; i++) {
        char text[1024];

        while (recv(cluster->nodes[i].node.ready_fd, text, sizeof(text), MSG_DONTWAIT) >= 0) {
        }
    }
}

/* Children of the supervisor; each of them may end at any moment. */
static size_t children_of(pid_t parent, pid_t *out, size_t max)
{
    char path[64];
    size_t count = 0;
    int pid;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
    file = fopen(path, "re");
    while (file != NULL && count < max && fscanf(file, "%d", &pid) == 1) {
        out[count++] = pid;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return count;
}

pid_t cluster_worker(const struct cluster *cluster, size_t position, const char *name)
{
    const struct node *node = &cluster->nodes[position].node;
    pid_t pids[CLUSTER_WORKERS_MAX];
    size_t count = node->pid != 0 ? children_of(node->pid, pids, CLUSTER_WORKERS_MAX) : 0;

    for (size_t i = 0; i < count; i++) {
        char path[64];
        char comm[32] = "";
        FILE *file;

        (void)snprintf(path, sizeof(path), "/proc/%d/comm", pids[i]);
        file = fopen(path, "re");
        if (file == NULL) {
            continue;
        }
        if (fscanf(file, "%31s", comm) == 1 && strcmp(comm, name) == 0) {
            (void)fclose(file);
            return pids[i];
        }
        (void)fclose(file);
    }
    return 0;
}

bool cluster_signal_worker(const struct cluster *cluster, size_t position, const char *name,
                           int signal_number)
{
    pid_t pid = cluster_worker(cluster, position, name);

    return pid > 0 && kill(pid, signal_number) == 0;
}

void cluster_signal_all(const struct cluster *cluster, size_t position, int signal_number)
{
    const struct node *node = &cluster->nodes[position].node;
    pid_t pids[CLUSTER_WORKERS_MAX];
    size_t count;

    /* The supervisor first when it is to stop, so that it does not act on its stopped workers. */
    (void)kill(node->pid, signal_number);
    count = children_of(node->pid, pids, CLUSTER_WORKERS_MAX);
    for (size_t i = 0; i < count; i++) {
        (void)kill(pids[i], signal_number);
    }
}

void cluster_kill(struct cluster *cluster, size_t position, bool power_cut)
{
    struct node *node = &cluster->nodes[position].node;
    pid_t pids[CLUSTER_WORKERS_MAX];
    size_t count;

    /* Stopped, it starts nobody while its children are counted. */
    (void)kill(node->pid, SIGSTOP);
    count = children_of(node->pid, pids, CLUSTER_WORKERS_MAX);
    (void)kill(node->pid, SIGKILL);
    for (size_t i = 0; i < count; i++) {
        (void)kill(pids[i], SIGKILL);
    }
    (void)node_wait_exit(node, NODE_DEADLINE_MS);
    for (size_t i = 0; i < count; i++) {
        check_that(node_wait_gone(pids[i], NODE_DEADLINE_MS), "pid %d outlived its supervisor",
                   pids[i]);
    }
    if (power_cut) {
        node_forget_memory(node);
    }
}

/* ---- network --------------------------------------------------------------------------------- */

void cluster_cut(struct cluster *cluster, size_t position, bool cut)
{
    if (cluster->nodes[position].cut != cut) {
        cluster_network_cut(&cluster->network, position, cut);
        cluster->nodes[position].cut = cut;
    }
}

void cluster_part(struct cluster *cluster, size_t position, bool parted)
{
    if (cluster->nodes[position].parted != parted) {
        cluster_network_part(&cluster->network, position, parted);
        cluster->nodes[position].parted = parted;
    }
}
