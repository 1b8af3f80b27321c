/*
 * roles: the entry points that the executable can become, and the names they go by.
 */
#ifndef METASTORE_COMMON_ROLES_H
#define METASTORE_COMMON_ROLES_H

/* Each runs a worker on MS_FD_CONTROL until it is told to stop, and returns an enum ms_exit. */
int raftd_main(void);
int storaged_main(void);
int apid_main(void);

#endif
