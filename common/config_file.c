/*
 * config_file: the INI file. Same names as on the command line without the dashes, at the top or
 * below [metastore]; "#" and ";" start comments. Anything unknown is an error, with its line.
 */
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/config_options.h"

#define FILE_BYTES_MAX 65536

/* The longest value is a --cluster; the parser keeps one line, its end and a zero in its buffer. */
#define LINE_BYTES_MAX (MS_CONFIG_CLUSTER_BYTES + 128)

struct reading {
    const char *path;
    const char *next; /* what the parser has not asked for yet */
    unsigned line;    /* the one that it has */
    struct ms_config *config;
    int rc;
    struct ms_err *err;
};

/* Hands the parser one line, as fgets would; ends the reading at the first error. */
static char *next_line(char *dst, int dst_bytes, void *stream)
{
    struct reading *reading = stream;
    size_t line_bytes = strcspn(reading->next, "\n");

    if (*reading->next == '\0' || reading->rc != MS_OK) {
        return NULL;
    }
    line_bytes += reading->next[line_bytes] == '\n';
    reading->line++;
    if (line_bytes >= (size_t)dst_bytes) {
        reading->rc = ms_err_set(reading->err, MS_EUSAGE, 0, "%s:%u: line is too long",
                                 reading->path, reading->line);
        return NULL;
    }
    memcpy(dst, reading->next, line_bytes);
    dst[line_bytes] = '\0';
    reading->next += line_bytes;
    return dst;
}

static int on_value(void *user, const char *section, const char *name, const char *value)
{
    struct reading *reading = user;
    const struct ms_option_source source = {
        .origin = MS_ORIGIN_FILE, .file = reading->path, .line = reading->line};
    const struct ms_option *option;

    if (reading->rc != MS_OK) {
        return 0;
    }
    if (section[0] != '\0' && strcmp(section, "metastore") != 0) {
        reading->rc = ms_err_set(reading->err, MS_EUSAGE, 0, "%s:%u: unknown section [%s]",
                                 reading->path, reading->line, section);
        return 0;
    }
    option = ms_option_find(name, strlen(name));
    if (option == NULL || (option->traits & MS_OPTION_NO_FILE) != 0) {
        reading->rc = ms_err_set(reading->err, MS_EUSAGE, 0, "%s:%u: unknown option %s",
                                 reading->path, reading->line, name);
        return 0;
    }
    reading->rc = ms_option_set(reading->config, option, &source, value, reading->err);
    return reading->rc == MS_OK;
}

/* The file's text into dst, ended by a zero. */
static int read_text(const char *path, char *dst, size_t dst_bytes, struct ms_err *err)
{
    int rc = MS_OK;
    size_t len_bytes = 0;
    ssize_t got = 1;
    int fd;

    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return ms_err_set(err, errno == ENOENT ? MS_ENOENT : MS_EIO, errno, "open %s", path);
    }
    while (got > 0 && len_bytes < dst_bytes) {
        got = read(fd, dst + len_bytes, dst_bytes - len_bytes);
        if (got < 0 && errno == EINTR) {
            got = 1;
            continue;
        }
        if (got < 0) {
            rc = ms_err_set(err, MS_EIO, errno, "read %s", path);
            goto out;
        }
        len_bytes += (size_t)got;
    }
    if (len_bytes == dst_bytes) {
        rc = ms_err_set(err, MS_EUSAGE, 0, "%s: longer than %zu bytes", path, dst_bytes - 1);
        goto out;
    }
    if (memchr(dst, '\0', len_bytes) != NULL) {
        rc = ms_err_set(err, MS_EUSAGE, 0, "%s: not a text file", path);
        goto out;
    }
    dst[len_bytes] = '\0';

out:
    (void)close(fd);
    return rc;
}

int ms_config_read_file(struct ms_config *config, const char *path, struct ms_err *err)
{
    struct reading reading = {.path = path, .config = config, .err = err};
    char *text = NULL;
    int bad_line;
    int rc;

    text = malloc(FILE_BYTES_MAX + 1);
    if (text == NULL) {
        return ms_err_set(err, MS_ENOMEM, 0, "read %s", path);
    }
    rc = read_text(path, text, FILE_BYTES_MAX + 1, err);
    if (rc != MS_OK) {
        goto out;
    }

    /* The library's settings are the process's; nothing else here uses it. */
    ini_use_stack = false;
    ini_max_line = LINE_BYTES_MAX;
    ini_initial_alloc = LINE_BYTES_MAX;
    ini_allow_multiline = false;
    reading.next = text;
    bad_line = ini_parse_stream(next_line, &reading, on_value, &reading);
    rc = reading.rc;
    if (rc == MS_OK && bad_line < 0) {
        rc = ms_err_set(err, MS_ENOMEM, 0, "read %s", path);
    } else if (rc == MS_OK && bad_line > 0) {
        rc = ms_err_set(err, MS_EUSAGE, 0, "%s:%d: neither \"name = value\" nor [section]", path,
                        bad_line);
    }

out:
    free(text);
    return rc;
}
