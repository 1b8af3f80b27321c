/*
 * fds: the descriptors a worker finds open when it starts. All others come over the control
 * channel and are O_CLOEXEC.
 */
#ifndef METASTORE_COMMON_FDS_H
#define METASTORE_COMMON_FDS_H

enum ms_fd {
    MS_FD_CONTROL = 3, /* SOCK_SEQPACKET to the supervisor */
    MS_FD_LOCK = 4, /* the data dir's lock: held until the last of the node's processes is gone */
};

#endif
