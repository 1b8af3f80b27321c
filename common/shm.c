/*
 * shm: memfds that cannot be resized, so that no far side can make a mapping fault.
 */
#include "common/shm.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int status_of(int sys_errno)
{
    return sys_errno == ENOMEM || sys_errno == ENOSPC ? MS_ENOMEM : MS_EIO;
}

int ms_shm_create(const char *name, size_t size_bytes, const void *head, size_t head_bytes,
                  int *out_fd, struct ms_err *err)
{
    int rc = MS_OK;
    int fd;

    assert(head_bytes <= size_bytes);

    fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return ms_err_set(err, status_of(errno), errno, "create shared memory %s", name);
    }
    if (ftruncate(fd, (off_t)size_bytes) != 0) {
        rc = ms_err_set(err, status_of(errno), errno, "size %zu for shared memory %s", size_bytes,
                        name);
        goto out;
    }
    if (pwrite(fd, head, head_bytes, 0) != (ssize_t)head_bytes) {
        rc = ms_err_set(err, status_of(errno), errno, "write shared memory %s", name);
        goto out;
    }
    if (fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
        rc = ms_err_set(err, MS_EIO, errno, "seal shared memory %s", name);
        goto out;
    }
    *out_fd = fd;
    fd = -1;

out:
    if (fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

static int check_sealed(int fd, size_t size_bytes, struct ms_err *err)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0 || (seals & SEALS) != SEALS) {
        return ms_err_set(err, MS_ECORRUPT, 0, "shared memory: not sealed");
    }
    if (fstat(fd, &st) != 0) {
        return ms_err_set(err, MS_EIO, errno, "shared memory: stat");
    }
    if (st.st_size != (off_t)size_bytes) {
        return ms_err_set(err, MS_ECORRUPT, 0, "shared memory: %jd bytes instead of %zu",
                          (intmax_t)st.st_size, size_bytes);
    }
    return MS_OK;
}

static int protection(bool writable)
{
    return writable ? PROT_READ | PROT_WRITE : PROT_READ;
}

int ms_shm_map(int fd, size_t size_bytes, bool writable, void **out, struct ms_err *err)
{
    void *memory;
    int rc;

    rc = check_sealed(fd, size_bytes, err);
    if (rc != MS_OK) {
        return rc;
    }
    memory = mmap(NULL, size_bytes, protection(writable), MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        return ms_err_set(err, status_of(errno), errno, "map %zu bytes of shared memory",
                          size_bytes);
    }
    *out = memory;
    return MS_OK;
}

int ms_shm_map_aligned(int fd, size_t size_bytes, bool writable, void **out, struct ms_err *err)
{
    uint8_t *reserved;
    uint8_t *aligned;
    size_t before_bytes;
    int rc;

    assert((size_bytes & (size_bytes - 1)) == 0);

    rc = check_sealed(fd, size_bytes, err);
    if (rc != MS_OK) {
        return rc;
    }
    reserved = mmap(NULL, 2 * size_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (reserved == MAP_FAILED) {
        return ms_err_set(err, status_of(errno), errno, "reserve %zu bytes of addresses",
                          2 * size_bytes);
    }
    before_bytes = -(uintptr_t)reserved & (size_bytes - 1);
    aligned = reserved + before_bytes;
    if (mmap(aligned, size_bytes, protection(writable), MAP_SHARED | MAP_FIXED, fd, 0) ==
        MAP_FAILED) {
        rc = ms_err_set(err, status_of(errno), errno, "map %zu bytes of shared memory", size_bytes);
        (void)munmap(reserved, 2 * size_bytes);
        return rc;
    }
    if (before_bytes > 0) {
        (void)munmap(reserved, before_bytes);
    }
    (void)munmap(aligned + size_bytes, size_bytes - before_bytes);
    *out = aligned;
    return MS_OK;
}
