/*
 * tls: see tls.h.
 */
#include "apid/tls.h"

#include <openssl/err.h>

/*
 * What OpenSSL said, as our error; its queue is empty afterwards. One failure is told several
 * times there: an error of the system, if there is one, says best what to do about it; else the
 * first says what was found, and those behind it only who was called.
 */
static int openssl_error(struct ms_err *err, const char *what, const char *file)
{
    unsigned long first = ERR_peek_error();
    const char *reason = ERR_reason_error_string(first);
    unsigned long code;

    while ((code = ERR_get_error()) != 0) {
        if (ERR_SYSTEM_ERROR(code)) {
            ERR_clear_error();
            return ms_err_set(err, MS_EINVAL, ERR_GET_REASON(code), "%s %s", what, file);
        }
    }
    return ms_err_set(err, MS_EINVAL, 0, "%s %s: %s", what, file,
                      reason != NULL ? reason : "not understood");
}

static int require_client_certificates(SSL_CTX *context, const char *file, struct ms_err *err)
{
    static const unsigned char session_context[] = "metastore";
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(file);

    if (names == NULL || SSL_CTX_load_verify_locations(context, file, NULL) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return openssl_error(err, "TLS client CA", file);
    }
    SSL_CTX_set_client_CA_list(context, names);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    /* Without it OpenSSL refuses to resume sessions that were made with a client certificate. */
    SSL_CTX_set_session_id_context(context, session_context, sizeof(session_context) - 1);
    return MS_OK;
}

int tls_context_create(const struct tls_files *files, SSL_CTX **out, struct ms_err *err)
{
    SSL_CTX *context;
    int rc = MS_OK;

    ERR_clear_error();
    context = SSL_CTX_new(TLS_server_method());
    if (context == NULL) {
        return openssl_error(err, "TLS", "context");
    }
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    if (SSL_CTX_use_certificate_chain_file(context, files->cert) != 1) {
        rc = openssl_error(err, "TLS certificate", files->cert);
        goto out;
    }
    if (SSL_CTX_use_PrivateKey_file(context, files->key, SSL_FILETYPE_PEM) != 1) {
        rc = openssl_error(err, "TLS key", files->key);
        goto out;
    }
    if (SSL_CTX_check_private_key(context) != 1) {
        rc = openssl_error(err, "TLS key does not belong to the certificate:", files->key);
        goto out;
    }
    if (files->client_ca != NULL && files->client_ca[0] != '\0') {
        rc = require_client_certificates(context, files->client_ca, err);
        if (rc != MS_OK) {
            goto out;
        }
    }
    *out = context;
    context = NULL;

out:
    SSL_CTX_free(context);
    return rc;
}
