/*
 * shm: sealed shared memory of a fixed size, as the pages that outlive their writers need it.
 */
#ifndef METASTORE_COMMON_SHM_H
#define METASTORE_COMMON_SHM_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

/*
 * Creates size_bytes of zeros behind a descriptor (owned by the caller, O_CLOEXEC) that can no
 * longer be resized; the first head_bytes are copied from head. name is for /proc only.
 * MS_ENOMEM / MS_EIO: the kernel refused.
 */
int ms_shm_create(const char *name, size_t size_bytes, const void *head, size_t head_bytes,
                  int *out_fd, struct ms_err *err);

/*
 * Maps all of it. fd is borrowed; the caller owns the mapping (munmap with the same size).
 * MS_ECORRUPT: fd is not sealed memory of exactly that size, so an access could fault.
 */
int ms_shm_map(int fd, size_t size_bytes, bool writable, void **out, struct ms_err *err);

/*
 * The same, at an address that is a multiple of size_bytes, which must be a power of two: any
 * pointer into the mapping then tells where the mapping starts.
 */
int ms_shm_map_aligned(int fd, size_t size_bytes, bool writable, void **out, struct ms_err *err);

#endif
