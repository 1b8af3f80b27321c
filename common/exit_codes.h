/*
 * exit_codes: what an exit status of the program or of a worker means.
 */
#ifndef METASTORE_COMMON_EXIT_CODES_H
#define METASTORE_COMMON_EXIT_CODES_H

enum ms_exit {
    MS_EXIT_OK = 0,         /* stopped on request */
    MS_EXIT_CANNOT_RUN = 1, /* port in use, data dir locked, data damaged: a retry is pointless */
    MS_EXIT_USAGE = 2,      /* wrong option; the message names it */
    MS_EXIT_GAVE_UP = 3,    /* supervisor only: a worker kept dying */

    /* Workers only. */
    MS_EXIT_INTERNAL = 70, /* own fault: restarted, and counted against the restart intensity */
    MS_EXIT_ORPHANED = 71, /* the supervisor is gone */
    MS_EXIT_DISK = 72,     /* a sync or write of the log failed: restarted to read back the truth */
};

#endif
