/*
 * cluster_key: reads the secret that the members of a cluster share.
 */
#ifndef METASTORE_SUPERVISOR_CLUSTER_KEY_H
#define METASTORE_SUPERVISOR_CLUSTER_KEY_H

#include <stdint.h>

#include "common/control.h"
#include "common/err.h"

/*
 * Reads the file at path: MS_CLUSTER_KEY_BYTES bytes as they are, or twice as many hex digits, with
 * or without an end of line. The file must be a regular one that others than its owner cannot
 * read; the group may if it belongs to root, as with secrets that a service manager hands out.
 *
 *   MS_ENOENT, MS_EIO  it cannot be read
 *   MS_EPERM           others can read it
 *   MS_EINVAL          it holds no key
 *
 * Errors name the path and never the content.
 */
int cluster_key_read(const char *path, uint8_t key[static MS_CLUSTER_KEY_BYTES],
                     struct ms_err *err);

#endif
