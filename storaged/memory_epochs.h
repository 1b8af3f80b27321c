/*
 * memory_epochs: the environments in a memory directory (memory_dir.h), by number.
 */
#ifndef METASTORE_STORAGED_MEMORY_EPOCHS_H
#define METASTORE_STORAGED_MEMORY_EPOCHS_H

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

#define MEMORY_EPOCH_FORMAT "epoch-%" PRIu64

/* Opens a listing of a directory without giving its descriptor away. NULL and errno on failure. */
DIR *memory_epochs_list(int dir_fd);

/* Removes one with all that LMDB puts into it; one that is not there is MS_OK. MS_EIO. */
int memory_epochs_remove(int dir_fd, uint64_t epoch, struct ms_err *err);

/* The newest there is (0: none); if remove, all but keep (0: all) are removed on the way. MS_EIO.
 */
int memory_epochs_scan(int dir_fd, bool remove, uint64_t keep, uint64_t *newest,
                       struct ms_err *err);

#endif
