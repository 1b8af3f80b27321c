/*
 * memory_space: reserving pages, counting free ones.
 */
#include "storaged/memory_space.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "common/memdb_layout.h"

#define STEP_BYTES        (UINT64_C(4) << 20)
#define RESERVE_BYTES_MAX (UINT64_C(16) << 20)
#define RESERVE_BYTES_MIN (UINT64_C(2) << 20)
#define MAP_SLACK_BYTES   (UINT64_C(1) << 30)

/* Above the limit free pages are counted after every so many commits, or a step of growth. */
#define MEASURE_COMMITS 64

/* A full store is open again when it has come so far below its limit. */
#define REOPEN_SHIFT 6

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static uint64_t reserve_bytes(const struct memory_space *space)
{
    uint64_t quarter = space->limit_bytes / 4;

    if (quarter > RESERVE_BYTES_MAX) {
        return RESERVE_BYTES_MAX;
    }
    return quarter < RESERVE_BYTES_MIN ? RESERVE_BYTES_MIN : quarter;
}

uint64_t memory_space_map_bytes(uint64_t limit_bytes)
{
    uint64_t bytes = limit_bytes > (UINT64_MAX >> 2) ? UINT64_MAX >> 2 : limit_bytes;
    struct rlimit file;

    bytes = round_up(2 * bytes + MAP_SLACK_BYTES, STEP_BYTES);
    /* The file is as long as the map, if only as a hole. */
    if (getrlimit(RLIMIT_FSIZE, &file) == 0 && file.rlim_cur != RLIM_INFINITY &&
        bytes > file.rlim_cur) {
        bytes = file.rlim_cur / STEP_BYTES * STEP_BYTES;
    }
    return bytes;
}

uint64_t memory_space_file_bytes(const struct memory_space *space)
{
    MDB_envinfo info;
    MDB_stat stat;

    (void)mdb_env_info(space->env, &info); /* fails only without arguments */
    (void)mdb_env_stat(space->env, &stat);
    return ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
}

/* Reserves the file up to at least target_bytes. */
static int grow(struct memory_space *space, uint64_t target_bytes, struct ms_err *err)
{
    uint64_t target = round_up(target_bytes, STEP_BYTES);
    mdb_filehandle_t fd;
    int failed = ENOSPC;

    if (target > space->map_bytes) {
        target = space->map_bytes;
    }
    if (target_bytes <= target && mdb_env_get_fd(space->env, &fd) == MDB_SUCCESS) {
        if (target <= space->reserved_bytes) {
            return MS_OK;
        }
        do {
            failed = fallocate(fd, 0, (off_t)space->reserved_bytes,
                               (off_t)(target - space->reserved_bytes)) == 0
                         ? 0
                         : errno;
        } while (failed == EINTR);
        /* Without reservation a full file system shows only when it is too late; but then it is
         * one that was chosen against all advice. */
        if (failed == 0 || failed == EOPNOTSUPP) {
            space->reserved_bytes = target;
            return MS_OK;
        }
    }
    return ms_err_set(err, MS_ENOSPC, failed, "memory engine: reserve %llu bytes",
                      (unsigned long long)target_bytes);
}

int memory_space_init(struct memory_space *space, MDB_env *env, uint64_t limit_bytes,
                      uint64_t map_bytes, struct ms_err *err)
{
    uint64_t file_bytes;
    mdb_filehandle_t fd;
    struct stat st;

    *space = (struct memory_space){.env = env, .limit_bytes = limit_bytes, .map_bytes = map_bytes};
    file_bytes = memory_space_file_bytes(space);
    if (space->limit_bytes > map_bytes - map_bytes / 4) {
        space->limit_bytes = map_bytes - map_bytes / 4;
    }
    /* Reservation went from the start without gaps, so its amount is its end. */
    if (mdb_env_get_fd(env, &fd) == MDB_SUCCESS && fstat(fd, &st) == 0) {
        space->reserved_bytes = (uint64_t)st.st_blocks * 512 / STEP_BYTES * STEP_BYTES;
    }
    space->used_bytes = file_bytes;
    if (grow(space, file_bytes + reserve_bytes(space), err) != MS_OK) {
        if (space->reserved_bytes <= file_bytes) {
            return MS_ENOSPC;
        }
        space->refused = true; /* a store that was full before: its reserve is there to be used */
        space->full = true;
    }
    return MS_OK;
}

static int free_bytes(const struct memory_space *space, uint64_t *out, struct ms_err *err)
{
    MDB_cursor *cursor = NULL;
    MDB_txn *txn = NULL;
    uint64_t pages = 0;
    MDB_val key;
    MDB_val value;
    MDB_stat stat;
    int code;

    code = mdb_txn_begin(space->env, NULL, MDB_RDONLY, &txn);
    if (code != MDB_SUCCESS) {
        goto out;
    }
    /* Database 0 is LMDB's list of free pages: a count and that many page numbers by transaction.
     */
    code = mdb_cursor_open(txn, 0, &cursor);
    if (code != MDB_SUCCESS) {
        goto out;
    }
    while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == MDB_SUCCESS) {
        size_t count;

        if (value.mv_size < sizeof(count)) {
            code = MDB_CORRUPTED;
            goto out;
        }
        memcpy(&count, value.mv_data, sizeof(count));
        pages += count;
    }
    if (code == MDB_NOTFOUND) {
        code = mdb_env_stat(space->env, &stat);
        *out = pages * stat.ms_psize;
    }

out:
    if (cursor != NULL) {
        mdb_cursor_close(cursor);
    }
    if (txn != NULL) {
        mdb_txn_abort(txn);
    }
    return code == MDB_SUCCESS ? MS_OK
                               : ms_err_set(err, ms_memdb_status(code), 0,
                                            "memory engine: free pages: %s", mdb_strerror(code));
}

int memory_space_ensure(struct memory_space *space, uint64_t need_bytes, struct ms_err *err)
{
    uint64_t file_bytes = memory_space_file_bytes(space);
    uint64_t reserve = reserve_bytes(space);
    uint64_t ahead = need_bytes > reserve ? need_bytes : reserve;
    uint64_t free = 0;
    int rc;

    if (space->reserved_bytes >= file_bytes + ahead) {
        return MS_OK;
    }
    if (!space->refused && grow(space, file_bytes + ahead, err) == MS_OK) {
        return MS_OK;
    }
    space->refused = true;
    space->full = true;
    /* Down to the reserve, and to pages that became free inside the file. */
    if (space->reserved_bytes >= file_bytes + need_bytes) {
        return MS_OK;
    }
    rc = free_bytes(space, &free, err);
    if (rc != MS_OK) {
        return rc;
    }
    if (space->reserved_bytes + free / 2 >= file_bytes + need_bytes) {
        return MS_OK;
    }
    return grow(space, file_bytes + need_bytes, err);
}

static void judge(struct memory_space *space)
{
    uint64_t threshold = space->limit_bytes;

    if (space->full) {
        threshold -= threshold >> REOPEN_SHIFT;
    }
    space->full = space->refused || space->used_bytes > threshold;
}

void memory_space_committed(struct memory_space *space)
{
    uint64_t file_bytes = memory_space_file_bytes(space);

    space->unmeasured++;
    if (file_bytes <= space->limit_bytes && !space->refused) {
        space->used_bytes = file_bytes;
        space->full = false;
        return;
    }
    if (space->unmeasured >= MEASURE_COMMITS || file_bytes >= space->measured_at + STEP_BYTES) {
        /* The count can only fail as any read can, and then the next one says so. */
        (void)memory_space_measure(space, NULL);
    }
}

int memory_space_measure(struct memory_space *space, struct ms_err *err)
{
    uint64_t file_bytes = memory_space_file_bytes(space);
    uint64_t free = 0;
    int rc = free_bytes(space, &free, err);

    if (rc != MS_OK) {
        return rc;
    }
    space->unmeasured = 0;
    space->measured_at = file_bytes;
    space->used_bytes = free < file_bytes ? file_bytes - free : 0;
    if (space->refused) {
        /* Free pages inside the file are as good as new ones. */
        space->refused = free < 2 * reserve_bytes(space) &&
                         grow(space, file_bytes + reserve_bytes(space), NULL) != MS_OK;
    }
    judge(space);
    return MS_OK;
}
