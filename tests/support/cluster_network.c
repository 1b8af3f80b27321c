/*
 * cluster_network: namespaces, pairs of virtual links, and a bridge.
 */
#include "tests/support/cluster_network.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/check.h"
#include "tests/support/files.h"
#include "tests/support/node.h"

enum {
    WORDS_MAX = 24,
    COMMAND_BYTES = 256
};

#define BRIDGE     "peers"
#define MAC_FORMAT "02:00:00:00:00:%02zx"

/* No node has a number that large: frames to such an address are lost. */
#define NOBODY_OFFSET 0x80u

/* Runs "ip" with these words (printf's); false if it complains. */
__attribute__((format(printf, 1, 2))) static bool ip(const char *format, ...)
{
    char command[COMMAND_BYTES];
    char output[512];
    const char *words[WORDS_MAX] = {"ip"};
    size_t count = 1;
    char *rest = NULL;
    va_list args;

    va_start(args, format);
    (void)vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    for (char *word = strtok_r(command, " ", &rest); word != NULL && count + 1 < WORDS_MAX;
         word = strtok_r(NULL, " ", &rest)) {
        words[count++] = word;
    }
    return node_command(words, output, sizeof(output)) == 0;
}

/* A new namespace for the calling thread, as a descriptor; -1 if that is not allowed. */
static int new_namespace(void)
{
    return unshare(CLONE_NEWNET) == 0 ? open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC) : -1;
}

/* One byte of a node's addresses. */
static uint8_t number_of(size_t position)
{
    return (uint8_t)(position + 1);
}

void cluster_network_peer_address(size_t position, char dst[CLUSTER_ADDRESS_BYTES])
{
    (void)snprintf(dst, CLUSTER_ADDRESS_BYTES, "10.77.0.%u", number_of(position));
}

void cluster_network_client_address(size_t position, char dst[CLUSTER_ADDRESS_BYTES])
{
    (void)snprintf(dst, CLUSTER_ADDRESS_BYTES, "10.78.%u.1", number_of(position));
}

void cluster_network_enter(const struct cluster_network *network, size_t position)
{
    check_that(setns(network->node_fd[position], CLONE_NEWNET) == 0, "enter a network: %s",
               strerror(errno));
}

void cluster_network_leave(const struct cluster_network *network)
{
    check_that(setns(network->home_fd, CLONE_NEWNET) == 0, "leave a network: %s", strerror(errno));
}

/* Called at home. */
static bool add_node(struct cluster_network *network, size_t position)
{
    char peer[CLUSTER_ADDRESS_BYTES];
    char client[CLUSTER_ADDRESS_BYTES];
    char where[64];
    size_t number = position + 1;
    bool done;

    network->node_fd[position] = new_namespace();
    if (network->node_fd[position] < 0) {
        return false;
    }
    network->count = number;
    cluster_network_leave(network);
    (void)snprintf(where, sizeof(where), "/proc/%d/fd/%d", getpid(), network->node_fd[position]);
    done = ip("link add p%zu type veth peer name p%zu-node", number, number) &&
           ip("link set p%zu-node netns %s", number, where) &&
           ip("link set p%zu master " BRIDGE, number) && ip("link set p%zu up", number) &&
           ip("link add c%zu type veth peer name c%zu-node", number, number) &&
           ip("link set c%zu-node netns %s", number, where) &&
           ip("address add 10.78.%zu.254/24 dev c%zu", number, number) &&
           ip("link set c%zu up", number);
    if (!done) {
        return false;
    }
    cluster_network_peer_address(position, peer);
    cluster_network_client_address(position, client);
    cluster_network_enter(network, position);
    done = ip("link set lo up") && ip("address add %s/24 dev p%zu-node", peer, number) &&
           ip("link set p%zu-node address " MAC_FORMAT, number, number) &&
           ip("link set p%zu-node up", number) &&
           ip("address add %s/24 dev c%zu-node", client, number) &&
           ip("link set c%zu-node up", number);
    cluster_network_leave(network);
    return done;
}

/*
 * Tells a node where all others are, once and for all: else a link that was mended would still be
 * without a way for seconds, because the kernel has given up asking.
 */
static bool introduce(const struct cluster_network *network, size_t position)
{
    bool done = true;

    cluster_network_enter(network, position);
    for (size_t i = 0; i < network->count && done; i++) {
        char peer[CLUSTER_ADDRESS_BYTES];

        cluster_network_peer_address(i, peer);
        done = i == position || ip("neighbour add %s lladdr " MAC_FORMAT " dev p%zu-node nud "
                                   "permanent",
                                   peer, i + 1, position + 1);
    }
    cluster_network_leave(network);
    return done;
}

bool cluster_network_create(struct cluster_network *network, size_t count, const char **reason)
{
    *network = (struct cluster_network){.home_fd = -1};
    check_that(count <= CLUSTER_NETWORK_MAX, "too many nodes for a network: %zu", count);
    if (geteuid() != 0) {
        *reason = "not root";
        return false;
    }
    network->home_fd = new_namespace();
    if (network->home_fd < 0) {
        *reason = "network namespaces are not allowed here";
        return false;
    }
    if (!ip("link set lo up")) {
        *reason = "no ip command that works";
        goto fail;
    }
    if (!ip("link add " BRIDGE " type bridge") || !ip("link set " BRIDGE " up")) {
        *reason = "bridges are not allowed here";
        goto fail;
    }
    for (size_t i = 0; i < count; i++) {
        if (!add_node(network, i)) {
            *reason = "links between namespaces are not allowed here";
            goto fail;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (!introduce(network, i)) {
            *reason = "neighbours cannot be told here";
            goto fail;
        }
    }
    return true;

fail:
    cluster_network_destroy(network);
    return false;
}

void cluster_network_destroy(struct cluster_network *network)
{
    if (network->home_fd < 0) {
        return;
    }
    /* A namespace, with all its links, goes with the last who knows it. */
    for (size_t i = 0; i < network->count; i++) {
        (void)close(network->node_fd[i]);
    }
    (void)close(network->home_fd);
    *network = (struct cluster_network){.home_fd = -1};
}

void cluster_network_cut(const struct cluster_network *network, size_t position, bool cut)
{
    check_that(ip("link set p%zu %s", position + 1, cut ? "nomaster" : "master " BRIDGE),
               "cut or mend a link");
    (void)network;
}

void cluster_network_cut_way(const struct cluster_network *network, size_t from, size_t to,
                             bool cut)
{
    char peer[CLUSTER_ADDRESS_BYTES];

    cluster_network_peer_address(to, peer);
    cluster_network_enter(network, from);
    check_that(ip("neighbour replace %s lladdr " MAC_FORMAT " dev p%zu-node nud permanent", peer,
                  to + 1 + (cut ? NOBODY_OFFSET : 0), from + 1),
               "cut or mend a way");
    cluster_network_leave(network);
}

void cluster_network_part(const struct cluster_network *network, size_t position, bool parted)
{
    check_that(
        ip("link set p%zu type bridge_slave isolated %s", position + 1, parted ? "on" : "off"),
        "part a link");
    (void)network;
}
