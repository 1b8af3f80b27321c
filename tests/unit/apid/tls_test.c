/*
 * tls: which files are accepted, what a client can negotiate, and certificates changed under way.
 */
#include "apid/tls.h"

#include <ftw.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "tests/unit/apid/api_fixture.h"

static char directory[256];

static void directory_create(void)
{
    const char *tmp = getenv("TMPDIR");

    (void)snprintf(directory, sizeof(directory), "%s/apid-tls-XXXXXX", tmp != NULL ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(directory));
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void directory_remove(void)
{
    (void)nftw(directory, remove_one, 4, FTW_DEPTH | FTW_PHYS);
}

/* The name of a file below the test's directory; a few can be in use at a time. */
static const char *path_of(const char *name, const char *suffix)
{
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];

    (void)snprintf(path, sizeof(paths[0]), "%s/%s%s", directory, name, suffix);
    return path;
}

static struct tls_files files_of(const char *name)
{
    return (struct tls_files){.cert = path_of(name, ".crt"), .key = path_of(name, ".key")};
}

/* A self-signed certificate for name, in NAME.crt and NAME.key. */
static void make_certificate(const char *name)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *subject = X509_get_subject_name(cert);
    FILE *file;

    cr_assert_not_null(key);
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(cert, subject);
    cr_assert_gt(X509_sign(cert, key, EVP_sha256()), 0);
    file = fopen(path_of(name, ".crt"), "w");
    cr_assert_eq(PEM_write_X509(file, cert), 1);
    (void)fclose(file);
    file = fopen(path_of(name, ".key"), "w");
    cr_assert_eq(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    (void)fclose(file);
    X509_free(cert);
    EVP_PKEY_free(key);
}

struct client {
    SSL_CTX *context;
    SSL *ssl;
    int fd;
};

static void client_create(struct client *client)
{
    client->context = SSL_CTX_new(TLS_client_method());
    client->ssl = SSL_new(client->context);
    client->fd = fixture_connect(fixture.port);
    SSL_set_fd(client->ssl, client->fd);
}

static void client_destroy(struct client *client)
{
    SSL_free(client->ssl);
    SSL_CTX_free(client->context);
    (void)close(client->fd);
}

/* Turns the loop until the handshake is over, one way or the other. */
static bool handshake(struct client *client)
{
    struct ms_instant start = ms_clock_now();

    while (ms_clock_elapsed_ms(start, ms_clock_now()) < FIXTURE_PATIENCE_MS) {
        int rc = SSL_connect(client->ssl);

        if (rc == 1) {
            return true;
        }
        if (SSL_get_error(client->ssl, rc) != SSL_ERROR_WANT_READ) {
            ERR_clear_error();
            return false;
        }
        fixture_turn();
    }
    return false;
}

/* The status line of GET /livez over the connection; "" if the server ends it. */
static const char *ask(struct client *client)
{
    static const char request[] = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    static char text[4096];
    struct ms_instant start = ms_clock_now();
    size_t len_bytes = 0;

    text[0] = '\0';
    cr_assert_gt(SSL_write(client->ssl, request, sizeof(request) - 1), 0);
    while (!fixture_is_whole(text, len_bytes, false)) {
        int got = SSL_read(client->ssl, text + len_bytes, (int)(sizeof(text) - 1 - len_bytes));

        cr_assert_lt(ms_clock_elapsed_ms(start, ms_clock_now()), FIXTURE_PATIENCE_MS);
        if (got > 0) {
            len_bytes += (size_t)got;
            text[len_bytes] = '\0';
        } else if (SSL_get_error(client->ssl, got) == SSL_ERROR_WANT_READ) {
            fixture_turn();
        } else {
            ERR_clear_error();
            return "";
        }
    }
    return text;
}

/* The common name of the server's certificate. */
static const char *server_name(struct client *client)
{
    static char name[64];
    X509 *cert = SSL_get1_peer_certificate(client->ssl);

    cr_assert_not_null(cert);
    X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name, sizeof(name));
    X509_free(cert);
    return name;
}

static void expect_unusable(const struct tls_files *files, const char *part)
{
    SSL_CTX *context = NULL;
    struct ms_err err;

    cr_assert_eq(tls_context_create(files, &context, &err), MS_EINVAL);
    cr_assert_null(context);
    cr_assert_not_null(strstr(err.text, part), "%s", err.text);
}

Test(tls, unusable_files_are_named)
{
    struct tls_files files;

    directory_create();
    make_certificate("a");
    make_certificate("b");
    files = files_of("a");
    files.cert = path_of("none", ".crt");
    expect_unusable(&files, "none.crt: No such file or directory");
    files.cert = path_of("a", ".key"); /* PEM, but of another kind */
    expect_unusable(&files, "a.key: no start line");
    files = files_of("a");
    files.key = path_of("none", ".key");
    expect_unusable(&files, "none.key: No such file or directory");
    files = files_of("a");
    files.key = path_of("b", ".key");
    expect_unusable(&files, "b.key: key values mismatch");
    files = files_of("a");
    files.client_ca = path_of("none", ".ca");
    expect_unusable(&files, "none.ca: No such file or directory");
    directory_remove();
}

Test(tls, http_over_tls_with_alpn)
{
    static const unsigned char protocols[] = "\x02h2\x08http/1.1";
    const unsigned char *selected;
    unsigned selected_bytes;
    struct tls_files files;
    struct client client;

    directory_create();
    make_certificate("a");
    files = files_of("a");
    fixture_start_tls(1000, &files);
    client_create(&client);
    cr_assert(handshake(&client));
    cr_assert_eq(strncmp(ask(&client), "HTTP/1.1 200", 12), 0);
    client_destroy(&client);

    client_create(&client);
    cr_assert_eq(SSL_set_alpn_protos(client.ssl, protocols, sizeof(protocols) - 1), 0);
    cr_assert(handshake(&client));
    SSL_get0_alpn_selected(client.ssl, &selected, &selected_bytes);
    cr_assert_eq(selected_bytes, 2);
    cr_assert_arr_eq(selected, "h2", 2);
    client_destroy(&client);
    directory_remove();
}

Test(tls, old_versions_are_refused)
{
    struct tls_files files;
    struct client client;

    directory_create();
    make_certificate("a");
    files = files_of("a");
    fixture_start_tls(1000, &files);
    client_create(&client);
    SSL_set_security_level(client.ssl, 0);
    SSL_set_min_proto_version(client.ssl, TLS1_VERSION);
    SSL_set_max_proto_version(client.ssl, TLS1_1_VERSION);
    cr_assert_not(handshake(&client));
    client_destroy(&client);
    client_create(&client);
    SSL_set_max_proto_version(client.ssl, TLS1_2_VERSION);
    cr_assert(handshake(&client));
    cr_assert_eq(strncmp(ask(&client), "HTTP/1.1 200", 12), 0);
    client_destroy(&client);
    directory_remove();
}

Test(tls, certificate_changes_for_new_connections_only)
{
    struct tls_files files;
    struct client early;
    struct client old;
    struct client new;
    struct ms_err err;

    directory_create();
    make_certificate("a");
    make_certificate("b");
    files = files_of("a");
    fixture_start_tls(1000, &files);
    client_create(&early); /* accepted with the old certificate, no byte sent yet */
    fixture_turn();
    client_create(&old);
    cr_assert(handshake(&old));
    files = files_of("b");
    cr_assert_eq(http_reload_tls(fixture.apid.http, &files, &err), MS_OK);
    client_create(&new);
    cr_assert(handshake(&new));
    cr_assert_str_eq(server_name(&new), "b");
    cr_assert_eq(strncmp(ask(&old), "HTTP/1.1 200", 12), 0, "its connection goes on");
    cr_assert(handshake(&early));
    cr_assert_str_eq(server_name(&early), "a");
    client_destroy(&new);

    files.key = path_of("none", ".key");
    cr_assert_eq(http_reload_tls(fixture.apid.http, &files, &err), MS_EINVAL);
    client_create(&new);
    cr_assert(handshake(&new));
    cr_assert_str_eq(server_name(&new), "b", "a bad one changes nothing");
    client_destroy(&new);
    client_destroy(&old);
    client_destroy(&early);
    directory_remove();
}

Test(tls, client_certificates_are_required)
{
    struct tls_files files;
    struct client client;

    directory_create();
    make_certificate("server");
    make_certificate("friend");
    make_certificate("stranger");
    files = files_of("server");
    files.client_ca = path_of("friend", ".crt");
    fixture_start_tls(1000, &files);

    client_create(&client);
    cr_assert_eq(SSL_use_certificate_file(client.ssl, path_of("friend", ".crt"), SSL_FILETYPE_PEM),
                 1);
    cr_assert_eq(SSL_use_PrivateKey_file(client.ssl, path_of("friend", ".key"), SSL_FILETYPE_PEM),
                 1);
    cr_assert(handshake(&client));
    cr_assert_eq(strncmp(ask(&client), "HTTP/1.1 200", 12), 0);
    client_destroy(&client);

    client_create(&client);
    /* In TLS 1.3 the client's side of the handshake ends before the server has judged it. */
    cr_assert(!handshake(&client) || ask(&client)[0] == '\0');
    client_destroy(&client);

    client_create(&client);
    cr_assert_eq(
        SSL_use_certificate_file(client.ssl, path_of("stranger", ".crt"), SSL_FILETYPE_PEM), 1);
    cr_assert_eq(SSL_use_PrivateKey_file(client.ssl, path_of("stranger", ".key"), SSL_FILETYPE_PEM),
                 1);
    cr_assert(!handshake(&client) || ask(&client)[0] == '\0');
    client_destroy(&client);
    directory_remove();
}
