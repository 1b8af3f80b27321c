/*
 * ctl: see ctl.h.
 */
#include "supervisor/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/err.h"
#include "common/exit_codes.h"
#include "supervisor/admin_command.h"

#define DEFAULT_SOCKET  "./data/1/admin.sock"
#define SOCKET_VARIABLE "METASTORE_ADMIN_SOCKET"
#define TIMEOUT_S       30

static const char help_text[] =
    "usage: metastorectl [-S SOCKET] [--json] COMMAND\n"
    "\n"
    "Talks to a running node over its admin socket.\n"
    "\n"
    "  -S, --socket SOCKET  the node's admin socket (default: $" SOCKET_VARIABLE ",\n"
    "                       else " DEFAULT_SOCKET ")\n"
    "      --json           answer in JSON\n"
    "      --help, --version\n"
    "\n"
    "`metastorectl help` asks the node for its commands: status, workers, restart WORKER,\n"
    "log-level LEVEL, reload, member list | add ID URL [--learner] | promote ID | update ID URL |\n"
    "remove ID, leader [transfer [ID]], stop.\n";

struct ctl_options {
    const char *socket;
    bool json;
    bool learner; /* a word of a command, though it looks like an option */
};

static int usage_error(const char *text)
{
    (void)fprintf(stderr, "error: %s\nTry 'metastorectl --help'.\n", text);
    return MS_EXIT_USAGE;
}

/* The words as one line. MS_EINVAL: a word that the line could not carry; MS_ERANGE: too long. */
static int make_line(const struct ctl_options *options, char *const words[], int count, char *line,
                     size_t line_bytes)
{
    size_t used = 0;

    if (options->json) {
        used = (size_t)snprintf(line, line_bytes, "--json");
    }
    for (int i = 0; i < count; i++) {
        int len;

        if (words[i][0] == '\0' || strpbrk(words[i], " \t\r\n") != NULL) {
            return MS_EINVAL;
        }
        len = snprintf(line + used, line_bytes - used, "%s%s", used > 0 ? " " : "", words[i]);
        if ((size_t)len + 1 >= line_bytes - used) {
            return MS_ERANGE;
        }
        used += (size_t)len;
    }
    if (options->learner) {
        int len = snprintf(line + used, line_bytes - used, " --learner");

        if ((size_t)len + 1 >= line_bytes - used) {
            return MS_ERANGE;
        }
        used += (size_t)len;
    }
    line[used++] = '\n';
    line[used] = '\0';
    return MS_OK;
}

static int connect_to(const char *path, int *out_fd, struct ms_err *err)
{
    const struct timeval timeout = {.tv_sec = TIMEOUT_S};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int rc = MS_OK;
    int fd;

    if (strlen(path) >= sizeof(address.sun_path)) {
        return ms_err_set(err, MS_ERANGE, 0, "the path %s is too long for a socket", path);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return ms_err_set(err, MS_EIO, errno, "socket");
    }
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        rc = ms_err_set(err, MS_EIO, errno, "cannot reach a node at %s", path);
        (void)close(fd);
        return rc;
    }
    *out_fd = fd;
    return MS_OK;
}

static int send_all(int fd, const char *text, struct ms_err *err)
{
    size_t left = strlen(text);

    while (left > 0) {
        ssize_t sent = send(fd, text, left, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0) {
            return ms_err_set(err, MS_EIO, errno, "send the command");
        }
        text += sent;
        left -= (size_t)sent;
    }
    return MS_OK;
}

/* Prints the lines up to the empty one. MS_EPERM: the node answered with an error, in err. */
static int print_answer(FILE *in, struct ms_err *err)
{
    static const char error_mark[] = "error: ";
    char *line = NULL;
    size_t room = 0;
    int rc = MS_OK;
    bool first = true;
    ssize_t len;

    while ((len = getline(&line, &room, in)) > 0 && strcmp(line, "\n") != 0) {
        if (first && strncmp(line, error_mark, sizeof(error_mark) - 1) == 0) {
            line[strcspn(line, "\n")] = '\0';
            rc = ms_err_set(err, MS_EPERM, 0, "%s", line + sizeof(error_mark) - 1);
            goto out;
        }
        first = false;
        (void)fputs(line, stdout);
    }
    if (len <= 0) {
        rc = ferror(in) ? ms_err_set(err, MS_EIO, errno, "no answer")
                        : ms_err_set(err, MS_EPEER, 0, "the node hung up");
    } else if (fflush(stdout) != 0) {
        rc = ms_err_set(err, MS_EIO, errno, "write the answer");
    }

out:
    free(line);
    return rc;
}

static int ask(const char *socket_path, const char *line, struct ms_err *err)
{
    FILE *in = NULL;
    int fd = -1;
    int rc;

    rc = connect_to(socket_path, &fd, err);
    if (rc != MS_OK) {
        return rc;
    }
    in = fdopen(fd, "r");
    if (in == NULL) {
        rc = ms_err_set(err, MS_ENOMEM, errno, "read the answer");
        (void)close(fd);
        return rc;
    }
    rc = send_all(fd, line, err);
    if (rc == MS_OK) {
        rc = print_answer(in, err);
    }
    (void)fclose(in);
    return rc;
}

int ctl_main(int argc, char *const argv[])
{
    static const struct option long_options[] = {
        {"socket", required_argument, NULL, 'S'}, {"json", no_argument, NULL, 'j'},
        {"learner", no_argument, NULL, 'l'},      {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},      {NULL, 0, NULL, 0}};
    struct ctl_options options = {.socket = getenv(SOCKET_VARIABLE)};
    char line[ADMIN_LINE_BYTES_MAX];
    struct ms_err err = {0};
    int option;

    if (options.socket == NULL || options.socket[0] == '\0') {
        options.socket = DEFAULT_SOCKET;
    }
    while ((option = getopt_long(argc, argv, "S:h", long_options, NULL)) != -1) {
        switch (option) {
        case 'S':
            options.socket = optarg;
            break;
        case 'j':
            options.json = true;
            break;
        case 'l':
            options.learner = true;
            break;
        case 'h':
            (void)fputs(help_text, stdout);
            return MS_EXIT_OK;
        case 'V':
            (void)puts("metastorectl " MS_VERSION);
            return MS_EXIT_OK;
        default: /* getopt_long has said what is wrong */
            (void)fputs("Try 'metastorectl --help'.\n", stderr);
            return MS_EXIT_USAGE;
        }
    }
    if (optind == argc) {
        return usage_error("no command");
    }
    if (make_line(&options, argv + optind, argc - optind, line, sizeof(line)) != MS_OK) {
        return usage_error("a command's words are not empty, without blanks, and not too long");
    }
    if (ask(options.socket, line, &err) != MS_OK) {
        (void)fprintf(stderr, "error: %s\n", err.text);
        return MS_EXIT_CANNOT_RUN;
    }
    return MS_EXIT_OK;
}
