/*
 * shm: memory of a fixed size, mapped only if nobody can make it shorter.
 */
#include "common/shm.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SIZE_BYTES = 16384
};

Test(shm, both_mappings_show_the_same_bytes)
{
    struct ms_err err;
    void *first;
    void *second;
    int fd;

    cr_assert_eq(ms_shm_create("test", SIZE_BYTES, "head", 4, &fd, &err), MS_OK, "%s", err.text);
    cr_assert_eq(ms_shm_map(fd, SIZE_BYTES, true, &first, &err), MS_OK, "%s", err.text);
    cr_assert_eq(ms_shm_map_aligned(fd, SIZE_BYTES, false, &second, &err), MS_OK, "%s", err.text);
    cr_assert_arr_eq(first, "head", 4);
    ((uint8_t *)first)[SIZE_BYTES - 1] = 7;
    cr_assert_eq(((uint8_t *)second)[SIZE_BYTES - 1], 7);
    cr_assert_eq((uintptr_t)second % SIZE_BYTES, 0);
    (void)munmap(first, SIZE_BYTES);
    (void)munmap(second, SIZE_BYTES);
    (void)close(fd);
}

Test(shm, the_size_can_never_change)
{
    int fd;

    cr_assert_eq(ms_shm_create("test", SIZE_BYTES, NULL, 0, &fd, NULL), MS_OK);
    cr_assert_neq(ftruncate(fd, 0), 0);
    cr_assert_neq(ftruncate(fd, 2 * SIZE_BYTES), 0);
    (void)close(fd);
}

Test(shm, unsealed_or_differently_sized_memory_is_corrupt)
{
    void *memory = NULL;
    int fd;

    fd = memfd_create("test", MFD_CLOEXEC);
    cr_assert_geq(fd, 0);
    cr_assert_eq(ftruncate(fd, SIZE_BYTES), 0);
    cr_assert_eq(ms_shm_map(fd, SIZE_BYTES, true, &memory, NULL), MS_ECORRUPT);
    (void)close(fd);

    cr_assert_eq(ms_shm_create("test", SIZE_BYTES, NULL, 0, &fd, NULL), MS_OK);
    cr_assert_eq(ms_shm_map(fd, SIZE_BYTES * 2, true, &memory, NULL), MS_ECORRUPT);
    cr_assert_eq(ms_shm_map_aligned(fd, SIZE_BYTES / 2, true, &memory, NULL), MS_ECORRUPT);
    cr_assert_null(memory, "an error must leave *out alone");
    (void)close(fd);
}
