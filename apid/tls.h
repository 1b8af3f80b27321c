/*
 * tls: certificates, and what of TLS is allowed at the API.
 */
#ifndef METASTORE_APID_TLS_H
#define METASTORE_APID_TLS_H

#include <openssl/ssl.h>

#include "common/err.h"

struct tls_files {
    const char *cert;      /* PEM, the node's certificate first, then intermediates */
    const char *key;       /* PEM */
    const char *client_ca; /* PEM; "" or NULL: clients need no certificate */
};

/*
 * Reads the files and makes a context for new connections: TLS 1.2 and newer. The caller owns *out
 * (SSL_CTX_free). MS_EINVAL: a file cannot be read or used; the text names it.
 */
int tls_context_create(const struct tls_files *files, SSL_CTX **out, struct ms_err *err);

#endif
