/*
 * config: options from command line, environment, file and defaults, checked one by one and as a
 * whole. The file's syntax is config_file.c's business.
 */
#include "common/config.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/config_options.h"
#include "common/peer_url.h"
#include "common/status_page.h"

/* Below this an LMDB environment with its reserve has no room for data. */
#define MEMORY_LIMIT_MIN UINT64_C(1048576)

/* ---- the sources --------------------------------------------------------------------------- */

static int apply_defaults(struct ms_config *config, struct ms_err *err)
{
    const struct ms_option_source source = {.origin = MS_ORIGIN_DEFAULT};
    const struct ms_option *option;

    memset(config, 0, sizeof(*config));
    for (size_t i = 0; (option = ms_option_at(i)) != NULL; i++) {
        if (option->fallback[0] != '\0') {
            int rc = ms_option_set(config, option, &source, option->fallback, err);

            if (rc != MS_OK) {
                return rc;
            }
        }
    }
    return MS_OK;
}

static const char *environment_value(char *const environment[], const struct ms_option *option)
{
    char name[MS_OPTION_NAME_BYTES];
    size_t name_bytes;

    ms_option_variable(option, name);
    name_bytes = strlen(name);
    for (; environment != NULL && *environment != NULL; environment++) {
        if (strncmp(*environment, name, name_bytes) == 0 && (*environment)[name_bytes] == '=') {
            const char *value = *environment + name_bytes + 1;

            /* An empty variable is how shells and unit files say "not set". */
            return *value != '\0' ? value : NULL;
        }
    }
    return NULL;
}

static int apply_environment(struct ms_config *config, char *const environment[],
                             struct ms_err *err)
{
    const struct ms_option_source source = {.origin = MS_ORIGIN_ENVIRONMENT};
    const struct ms_option *option;

    for (size_t i = 0; (option = ms_option_at(i)) != NULL; i++) {
        const char *value = environment_value(environment, option);

        if (value != NULL) {
            int rc = ms_option_set(config, option, &source, value, err);

            if (rc != MS_OK) {
                return rc;
            }
        }
    }
    return MS_OK;
}

/* Applies argv; stops at --help and --version, which need no sound rest. */
static int apply_arguments(struct ms_config *config, int argc, char *const argv[],
                           enum ms_config_action *action, struct ms_err *err)
{
    const struct ms_option_source source = {.origin = MS_ORIGIN_ARGUMENT};

    for (int i = 1; i < argc; i++) {
        const char *name = argv[i] + 2;
        const struct ms_option *option;
        const char *value;
        size_t name_bytes;
        int rc;

        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            *action = MS_CONFIG_SHOW_HELP;
            return MS_OK;
        }
        if (strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "-V") == 0) {
            *action = MS_CONFIG_SHOW_VERSION;
            return MS_OK;
        }
        if (strncmp(argv[i], "--", 2) != 0) {
            return ms_err_set(err, MS_EUSAGE, 0, "unexpected argument \"%.128s\" (see --help)",
                              argv[i]);
        }
        name_bytes = strcspn(name, "=");
        option = ms_option_find(name, name_bytes);
        if (option == NULL) {
            return ms_err_set(err, MS_EUSAGE, 0, "unknown option --%.*s (see --help)",
                              (int)(name_bytes < 128 ? name_bytes : 128), name);
        }
        if (name[name_bytes] == '=') {
            value = name + name_bytes + 1;
        } else if (option->kind == MS_OPTION_FLAG) {
            value = "true";
        } else if (i + 1 < argc) {
            value = argv[++i];
        } else {
            value = "";
        }
        rc = ms_option_set(config, option, &source, value, err);
        if (rc != MS_OK) {
            return rc;
        }
    }
    return MS_OK;
}

/* ---- the whole ----------------------------------------------------------------------------- */

uint64_t ms_config_cluster_size(const struct ms_config *config)
{
    uint64_t count = 1;

    for (const char *c = config->cluster; *c != '\0'; c++) {
        count += *c == ',';
    }
    return count;
}

int ms_config_cluster_url(const struct ms_config *config, uint64_t id, char *dst, size_t dst_bytes)
{
    const char *text = config->cluster;
    struct ms_peer_url url;

    if (id == 0 || id > ms_config_cluster_size(config)) {
        return MS_ENOENT;
    }
    for (; id > 1; id--) {
        text += strcspn(text, ",") + 1;
    }
    if (ms_peer_url_parse(text, strcspn(text, ","), &url) != MS_OK ||
        strlen(url.text) >= dst_bytes) {
        return MS_EINVAL;
    }
    memcpy(dst, url.text, strlen(url.text) + 1);
    return MS_OK;
}

int ms_config_own_url(const struct ms_config *config, char *dst, size_t dst_bytes)
{
    uint64_t count = ms_config_cluster_size(config);
    uint64_t position = config->id <= count || !config->join ? config->id : count;

    return ms_config_cluster_url(config, position, dst, dst_bytes);
}

/* Peers elsewhere are talked to only over connections that a key protects. */
static int check_reach(const struct ms_config *config, const char *text, struct ms_err *err)
{
    struct ms_peer_url url;

    if (config->cluster_key_file[0] != '\0' ||
        ms_peer_url_parse(text, strlen(text), &url) != MS_OK || ms_peer_url_is_loopback(&url)) {
        return MS_OK;
    }
    return ms_err_set(err, MS_EUSAGE, 0,
                      "option --cluster: %s is not on loopback, which needs --cluster-key-file",
                      text);
}

static int check_cluster(const struct ms_config *config, struct ms_err *err)
{
    char urls[MS_STATUS_MEMBERS_MAX][MS_PEER_URL_BYTES];
    uint64_t count = ms_config_cluster_size(config);

    if (count > MS_STATUS_MEMBERS_MAX) {
        return ms_err_set(err, MS_EUSAGE, 0,
                          "option --cluster names %" PRIu64 " members, more than %d", count,
                          MS_STATUS_MEMBERS_MAX);
    }
    for (uint64_t i = 0; i < count; i++) {
        int rc;

        if (ms_config_cluster_url(config, i + 1, urls[i], sizeof(urls[i])) != MS_OK) {
            return ms_err_set(err, MS_EUSAGE, 0,
                              "option --cluster: URL %" PRIu64 " is not like http://HOST:PORT",
                              i + 1);
        }
        for (uint64_t j = 0; j < i; j++) {
            if (strcmp(urls[i], urls[j]) == 0) {
                return ms_err_set(err, MS_EUSAGE, 0, "option --cluster names %s twice", urls[i]);
            }
        }
        rc = check_reach(config, urls[i], err);
        if (rc != MS_OK) {
            return rc;
        }
    }
    if (config->id > count && !config->join) {
        return ms_err_set(err, MS_EUSAGE, 0,
                          "option --id is %" PRIu64 ", but --cluster names %" PRIu64
                          " member%s (a node that was added later needs --join)",
                          config->id, count, count == 1 ? "" : "s");
    }
    return MS_OK;
}

static int check_whole(const struct ms_config *config, struct ms_err *err)
{
    if (config->election_timeout_ms <= config->heartbeat_interval_ms) {
        return ms_err_set(err, MS_EUSAGE, 0,
                          "option --election-timeout (%" PRIu64
                          " ms) must be above --heartbeat-interval (%" PRIu64 " ms)",
                          config->election_timeout_ms, config->heartbeat_interval_ms);
    }
    if ((config->tls_cert[0] != '\0') != (config->tls_key[0] != '\0')) {
        return ms_err_set(err, MS_EUSAGE, 0, "option --tls-%s needs --tls-%s as well",
                          config->tls_cert[0] != '\0' ? "cert" : "key",
                          config->tls_cert[0] != '\0' ? "key" : "cert");
    }
    if (config->tls_client_ca[0] != '\0' && config->tls_cert[0] == '\0') {
        return ms_err_set(err, MS_EUSAGE, 0,
                          "option --tls-client-ca needs --tls-cert and --tls-key as well");
    }
    if (config->memory_limit_bytes != 0 && config->memory_limit_bytes < MEMORY_LIMIT_MIN) {
        return ms_err_set(err, MS_EUSAGE, 0,
                          "option --memory-limit must be 0 or at least %" PRIu64 ", not %" PRIu64,
                          MEMORY_LIMIT_MIN, config->memory_limit_bytes);
    }
    return check_cluster(config, err);
}

/* Drops "." components and repeated slashes from an absolute path; ".." may cross a link: kept. */
static void simplify_path(char *path)
{
    char *dst = path;
    const char *src = path;

    while (*src != '\0') {
        size_t slashes = strspn(src, "/");
        size_t part_bytes = strcspn(src + slashes, "/");

        src += slashes;
        if (part_bytes > 0 && !(part_bytes == 1 && *src == '.')) {
            *dst++ = '/';
            memmove(dst, src, part_bytes);
            dst += part_bytes;
        }
        src += part_bytes;
    }
    *dst = '\0';
}

/* Fills what follows from the rest: node_dir and the admin socket's default. */
static int resolve_paths(struct ms_config *config, struct ms_err *err)
{
    char directory[PATH_MAX] = "";
    char path[PATH_MAX + MS_CONFIG_PATH_BYTES + 32];
    int written;

    if (config->data_dir[0] != '/' && getcwd(directory, sizeof(directory)) == NULL) {
        return ms_err_set(err, MS_EIO, errno, "find the working directory");
    }
    (void)snprintf(path, sizeof(path), "%s/%s/%" PRIu64, directory, config->data_dir, config->id);
    simplify_path(path);
    if (strlen(path) >= sizeof(config->node_dir)) {
        return ms_err_set(err, MS_EUSAGE, 0, "option --data-dir: %s is longer than %zu bytes", path,
                          sizeof(config->node_dir) - 1);
    }
    memcpy(config->node_dir, path, strlen(path) + 1);
    if (config->admin_socket[0] == '\0') {
        written =
            snprintf(config->admin_socket, sizeof(config->admin_socket), "%s/admin.sock", path);
        if (written < 0 || (size_t)written >= sizeof(config->admin_socket)) {
            return ms_err_set(err, MS_EUSAGE, 0,
                              "option --data-dir: %s is too long for the admin socket in it", path);
        }
    }
    return MS_OK;
}

int ms_config_load(int argc, char *const argv[], char *const environment[], struct ms_config *out,
                   enum ms_config_action *action, struct ms_err *err)
{
    enum ms_config_action wanted = MS_CONFIG_RUN;
    struct ms_config config;
    const char *file;
    char path[MS_CONFIG_PATH_BYTES];
    int rc;

    /* A first pass over the arguments, for the file's name and for --help. */
    rc = apply_defaults(&config, err);
    if (rc == MS_OK) {
        rc = apply_arguments(&config, argc, argv, &wanted, err);
    }
    if (rc != MS_OK) {
        return rc;
    }
    if (wanted != MS_CONFIG_RUN) {
        *action = wanted;
        return MS_OK;
    }
    file = config.config_file[0] != '\0'
               ? config.config_file
               : environment_value(environment, ms_option_find("config", strlen("config")));
    if (file != NULL && strlen(file) >= sizeof(path)) {
        return ms_err_set(err, MS_EUSAGE, 0,
                          "environment variable METASTORE_CONFIG is longer than %zu bytes",
                          sizeof(path) - 1);
    }
    (void)snprintf(path, sizeof(path), "%s", file != NULL ? file : "");

    rc = apply_defaults(&config, err);
    if (rc == MS_OK && path[0] != '\0') {
        rc = ms_config_read_file(&config, path, err);
    }
    if (rc == MS_OK) {
        rc = apply_environment(&config, environment, err);
    }
    if (rc == MS_OK) {
        rc = apply_arguments(&config, argc, argv, &wanted, err);
    }
    if (rc == MS_OK) {
        rc = check_whole(&config, err);
    }
    if (rc == MS_OK) {
        rc = resolve_paths(&config, err);
    }
    if (rc == MS_OK) {
        *out = config;
        *action = MS_CONFIG_RUN;
    }
    return rc;
}

static bool may_change(const struct ms_option *option, const struct ms_config *current,
                       const struct ms_config *fresh)
{
    if ((option->traits & MS_OPTION_TLS) != 0) {
        return (current->tls_cert[0] != '\0') == (fresh->tls_cert[0] != '\0');
    }
    return (option->traits & MS_OPTION_RELOADS) != 0;
}

int ms_config_reload(int argc, char *const argv[], char *const environment[],
                     struct ms_config *current, char fixed[static MS_CONFIG_NAMES_BYTES],
                     struct ms_err *err)
{
    struct ms_config before = *current;
    struct ms_config fresh;
    enum ms_config_action action;
    const struct ms_option *option;
    size_t used = 0;
    int rc;

    rc = ms_config_load(argc, argv, environment, &fresh, &action, err);
    if (rc != MS_OK) {
        return rc;
    }
    fixed[0] = '\0';
    for (size_t i = 0; (option = ms_option_at(i)) != NULL; i++) {
        const uint8_t *from = (const uint8_t *)&fresh + option->offset;
        uint8_t *to = (uint8_t *)current + option->offset;

        if (memcmp(from, to, option->size_bytes) == 0) {
            continue;
        }
        if (may_change(option, &before, &fresh)) {
            memcpy(to, from, option->size_bytes);
        } else if (used < MS_CONFIG_NAMES_BYTES) {
            used += (size_t)snprintf(fixed + used, MS_CONFIG_NAMES_BYTES - used, "%s%s",
                                     used > 0 ? ", " : "", option->name);
        }
    }
    return MS_OK;
}

int ms_config_help(char *dst, size_t dst_bytes)
{
    const struct ms_option *option;
    size_t at = 0;
    int written;

    written = snprintf(dst, dst_bytes,
                       "Usage: metastore [options]\n\n"
                       "Runs one node in the foreground. Options can also be given as METASTORE_*\n"
                       "variables and in a file; the command line has precedence, then the\n"
                       "environment, then the file.\n\n");
    for (size_t i = 0; written >= 0 && (option = ms_option_at(i)) != NULL; i++) {
        char left[MS_OPTION_NAME_BYTES];

        at += (size_t)written;
        if ((option->traits & MS_OPTION_HIDDEN) != 0) {
            written = 0;
            continue;
        }
        (void)snprintf(left, sizeof(left), "--%s%s%s", option->name,
                       option->shape[0] != '\0' ? " " : "", option->shape);
        written = snprintf(at < dst_bytes ? dst + at : NULL, at < dst_bytes ? dst_bytes - at : 0,
                           "  %-33s %s%s%s%s\n", left, option->help,
                           option->fallback[0] != '\0' ? " (default " : "", option->fallback,
                           option->fallback[0] != '\0' ? ")" : "");
    }
    if (written < 0) {
        return written;
    }
    at += (size_t)written;
    written = snprintf(at < dst_bytes ? dst + at : NULL, at < dst_bytes ? dst_bytes - at : 0,
                       "  %-33s %s\n  %-33s %s\n", "--help", "show this", "--version",
                       "show the version");
    return written < 0 ? written : (int)(at + (size_t)written);
}
