/*
 * cluster_key: see cluster_key.h.
 */
#include "supervisor/cluster_key.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEX_BYTES (2 * MS_CLUSTER_KEY_BYTES)

/* More than the longest form, so that a file that is too long shows. */
#define FILE_BYTES_MAX (HEX_BYTES + 8)

static int check_file(int fd, const char *path, struct ms_err *err)
{
    struct stat found;
    mode_t forbidden;

    if (fstat(fd, &found) != 0) {
        return ms_err_set(err, MS_EIO, errno, "cluster key file %s", path);
    }
    if (!S_ISREG(found.st_mode)) {
        return ms_err_set(err, MS_EINVAL, 0, "cluster key file %s is not a regular file", path);
    }
    forbidden = found.st_uid == 0 ? S_IRWXO | S_IWGRP | S_IXGRP : S_IRWXO | S_IRWXG;
    if ((found.st_mode & forbidden) != 0) {
        return ms_err_set(err, MS_EPERM, 0,
                          "cluster key file %s has mode %04o: others have access (chmod 600 it)",
                          path, found.st_mode & 07777u);
    }
    return MS_OK;
}

static int hex_value(uint8_t digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    if (digit >= 'A' && digit <= 'F') {
        return digit - 'A' + 10;
    }
    return -1;
}

static int decode_hex(const uint8_t *text, uint8_t key[static MS_CLUSTER_KEY_BYTES])
{
    for (size_t i = 0; i < MS_CLUSTER_KEY_BYTES; i++) {
        int high = hex_value(text[2 * i]);
        int low = hex_value(text[2 * i + 1]);

        if (high < 0 || low < 0) {
            return MS_EINVAL;
        }
        key[i] = (uint8_t)(high << 4 | low);
    }
    return MS_OK;
}

static int decode(const uint8_t *text, size_t len_bytes, uint8_t key[static MS_CLUSTER_KEY_BYTES])
{
    if (len_bytes == MS_CLUSTER_KEY_BYTES) {
        memcpy(key, text, MS_CLUSTER_KEY_BYTES);
        return MS_OK;
    }
    if (len_bytes > HEX_BYTES && text[len_bytes - 1] == '\n') {
        len_bytes--;
    }
    if (len_bytes > HEX_BYTES && text[len_bytes - 1] == '\r') {
        len_bytes--;
    }
    return len_bytes == HEX_BYTES ? decode_hex(text, key) : MS_EINVAL;
}

int cluster_key_read(const char *path, uint8_t key[static MS_CLUSTER_KEY_BYTES], struct ms_err *err)
{
    uint8_t text[FILE_BYTES_MAX];
    uint8_t decoded[MS_CLUSTER_KEY_BYTES];
    ssize_t len;
    int rc;
    int fd;

    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a FIFO must not hold us */
    if (fd < 0) {
        return ms_err_set(err, errno == ENOENT ? MS_ENOENT : MS_EIO, errno,
                          "open cluster key file %s", path);
    }
    rc = check_file(fd, path, err);
    if (rc != MS_OK) {
        goto out;
    }
    len = read(fd, text, sizeof(text));
    if (len < 0) {
        rc = ms_err_set(err, MS_EIO, errno, "read cluster key file %s", path);
        goto out;
    }
    rc = decode(text, (size_t)len, decoded);
    if (rc != MS_OK) {
        rc = ms_err_set(err, rc, 0, "cluster key file %s holds neither %d bytes nor %d hex digits",
                        path, MS_CLUSTER_KEY_BYTES, HEX_BYTES);
        goto out;
    }
    memcpy(key, decoded, sizeof(decoded));

out:
    explicit_bzero(text, sizeof(text));
    explicit_bzero(decoded, sizeof(decoded));
    (void)close(fd);
    return rc;
}
