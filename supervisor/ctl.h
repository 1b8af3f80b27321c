/*
 * ctl: metastorectl, the client of the admin socket.
 */
#ifndef METASTORE_SUPERVISOR_CTL_H
#define METASTORE_SUPERVISOR_CTL_H

/*
 * Sends one command and prints the answer. Returns the exit status: 0; 1 when the command was
 * refused or the node was not reached ("error: ..." on standard error); 2 for wrong usage.
 */
int ctl_main(int argc, char *const argv[]);

#endif
