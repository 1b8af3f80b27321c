/*
 * HTTPS: certificates made on the spot, HTTP/2 by ALPN, client certificates, reload by SIGHUP.
 */
#include <signal.h>
#include <stdio.h>

#include "tests/seed.h"
#include "tests/system/fixture.h"

SYSTEM_SUITE(tls);

static char ca[FILES_PATH_BYTES];
static char cert[FILES_PATH_BYTES];
static char key[FILES_PATH_BYTES];

static void run(const char *const argv[])
{
    char out[4096];
    int status = node_command(argv, out, sizeof(out));

    cr_assert_eq(status, 0, "%s %s: %d: %s", argv[0], argv[1], status, out);
}

/* A self-signed certificate for 127.0.0.1 with this common name, into cert_path and key_path. */
static void make_certificate(const char *name, const char *cert_path, const char *key_path)
{
    char subject[128];

    (void)snprintf(subject, sizeof(subject), "/CN=%s", name);
    run((const char *const[]){"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                              "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                              subject, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
                              key_path, "-out", cert_path, NULL});
}

/* A client whose answers show which certificate the server has. */
static struct http_client *tls_client(const char *ca_file)
{
    struct http_client *tls;
    char url[64];

    (void)snprintf(url, sizeof(url), "https://127.0.0.1:%u", node.port);
    tls = http_client_create(url);
    http_client_set_tls(tls, ca_file, NULL, NULL);
    return tls;
}

static void make_usual_files(void)
{
    files_path(cert, sizeof(cert), "%s/cert.pem", node.dir);
    files_path(key, sizeof(key), "%s/key.pem", node.dir);
    make_certificate("first", cert, key);
}

Test(tls, requests_are_served_over_https_and_not_over_http)
{
    struct http_client *tls;

    make_usual_files();
    node_start(&node, "--tls-cert", cert, "--tls-key", key, NULL);
    tls = tls_client(cert);
    ASSERT_STATUS(http_put(tls, "/k", "v", &answer), 204);
    ASSERT_STATUS(http_get(tls, "/k", &answer), 200);
    assert_body("v");
    cr_assert_eq(answer.version, 11);
    cr_assert_neq(http_get(client, "/k", &answer), 200, "plain HTTP was served");
    http_client_destroy(tls);
    node_finish(&node);
}

Test(tls, http2_is_negotiated)
{
    struct http_client *tls;

    make_usual_files();
    node_start(&node, "--tls-cert", cert, "--tls-key", key, NULL);
    tls = tls_client(cert);
    http_client_set_http2(tls);
    ASSERT_STATUS(http_put(tls, "/k", "v", &answer), 204);
    cr_assert_eq(answer.version, 20, "HTTP/2 was not used");
    ASSERT_STATUS(http_get(tls, "/k", &answer), 200);
    assert_body("v");
    ASSERT_STATUS(http_get(tls, "/absent", &answer), 404);
    http_client_destroy(tls);
    node_finish(&node);
}

Test(tls, a_reload_takes_the_new_certificate_and_keeps_connections)
{
    struct http_client *open_before;
    struct http_client *after;
    char second[FILES_PATH_BYTES];
    char second_key[FILES_PATH_BYTES];

    make_usual_files();
    files_path(second, sizeof(second), "%s/second.pem", node.dir);
    files_path(second_key, sizeof(second_key), "%s/second-key.pem", node.dir);
    make_certificate("second", second, second_key);
    node_start(&node, "--tls-cert", cert, "--tls-key", key, NULL);
    open_before = tls_client(cert);
    ASSERT_STATUS(http_put(open_before, "/k", "v", &answer), 204);

    cr_assert_eq(rename(second, cert), 0);
    cr_assert_eq(rename(second_key, key), 0);
    cr_assert_eq(kill(node.pid, SIGHUP), 0);
    cr_assert(node_wait_notify(&node, "RELOADING=1", NODE_DEADLINE_MS, NULL, 0));
    node_wait_ready(&node);

    /* The old connection goes on; new ones see the new certificate. */
    ASSERT_STATUS(http_get(open_before, "/k", &answer), 200);
    after = tls_client(cert); /* trusts only the second one */
    ASSERT_STATUS(http_get(after, "/k", &answer), 200);
    http_client_destroy(after);
    http_client_destroy(open_before);
    node_finish(&node);
}

Test(tls, a_reload_with_a_bad_certificate_keeps_the_old_one)
{
    const char *reload[] = {node_ctl(), "-S", node.admin_path, "reload", NULL};
    struct http_client *tls;
    char copy[FILES_PATH_BYTES];
    char out[1024];
    char *pem;
    size_t len_bytes;

    make_usual_files();
    files_path(copy, sizeof(copy), "%s/copy.pem", node.dir);
    pem = files_read(cert, &len_bytes);
    files_write(copy, pem, len_bytes);
    free(pem);
    node_start(&node, "--tls-cert", cert, "--tls-key", key, NULL);
    files_write(cert, "rubbish\n", 8);
    cr_assert_eq(kill(node.pid, SIGHUP), 0);
    cr_assert(node_wait_notify(&node, "RELOADING=1", NODE_DEADLINE_MS, NULL, 0));
    node_wait_ready(&node);
    cr_assert_eq(node_command(reload, out, sizeof(out)), 1, "%s", out);
    cr_assert_not_null(strstr(out, "error: apid goes on with what it had: TLS certificate"), "%s",
                       out);
    cr_assert_not_null(strstr(out, cert), "%s", out);
    tls = tls_client(copy);
    ASSERT_STATUS(http_put(tls, "/k", "v", &answer), 204);
    cr_assert_eq(admin_worker(&node, "apid").restarts, 0);
    http_client_destroy(tls);
    node_finish(&node);
}

Test(tls, client_certificates_are_asked_for_when_wanted)
{
    struct http_client *stranger;
    struct http_client *known;
    char client_key[FILES_PATH_BYTES];

    make_usual_files();
    files_path(ca, sizeof(ca), "%s/client.pem", node.dir);
    files_path(client_key, sizeof(client_key), "%s/client-key.pem", node.dir);
    make_certificate("client", ca, client_key);
    node_start(&node, "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", ca, NULL);
    stranger = tls_client(cert);
    cr_assert_eq(http_get(stranger, "/k", &answer), 0, "served without a certificate");
    known = tls_client(cert);
    http_client_set_tls(known, cert, ca, client_key);
    ASSERT_STATUS(http_put(known, "/k", "v", &answer), 204);
    http_client_destroy(stranger);
    http_client_destroy(known);
    node_finish(&node);
}

Test(tls, files_that_are_no_certificates_stop_the_start)
{
    int status;

    make_usual_files();
    files_write(cert, "rubbish\n", 8);
    status =
        node_run(&node, &(struct node_launch){.arguments = (const char *const[]){
                                                  "--tls-cert", cert, "--tls-key", key, NULL}});
    cr_assert_eq(status, 1);
    cr_assert(node_log_has(&node, "cert.pem"), "the message names the file");
    node_finish(&node);
}

/* What an operator does to a file must not end a node that serves. */
Test(tls, a_node_that_has_served_survives_bad_files)
{
    struct http_client *tls;
    char away[FILES_PATH_BYTES];
    uint64_t restarts;

    make_usual_files();
    files_path(away, sizeof(away), "%s/away.pem", node.dir);
    node_start(&node, "--tls-cert", cert, "--tls-key", key, NULL);
    cr_assert_eq(rename(key, away), 0);
    (void)admin_kill_worker(&node, "apid", SIGKILL);
    while (strcmp(admin_worker(&node, "apid").state, "failing") != 0) {
        cr_assert(node_wait_notify(&node, "STATUS=", NODE_DEADLINE_MS, NULL, 0));
    }
    cr_assert(node_log_has(&node, "key.pem: No such file or directory"));
    restarts = admin_worker(&node, "apid").restarts;
    cr_assert_eq(rename(away, key), 0);
    while (strcmp(admin_worker(&node, "apid").state, "running") != 0) {
        cr_assert(node_wait_notify(&node, "STATUS=", NODE_DEADLINE_MS, NULL, 0));
    }
    cr_assert_gt(admin_worker(&node, "apid").restarts, restarts);
    tls = tls_client(cert);
    ASSERT_STATUS(http_put(tls, "/k", "v", &answer), 204);
    http_client_destroy(tls);
    node_finish(&node);
}

Test(tls, noise_instead_of_a_handshake_does_no_harm)
{
    struct http_client *tls;
    uint64_t state = test_seed("tls");

    make_usual_files();
    node_start(&node, "--tls-cert", cert, "--tls-key", key, NULL);
    for (int i = 0; i < 50; i++) {
        uint8_t bytes[512];
        char reply[1024];

        for (size_t j = 0; j < sizeof(bytes); j++) {
            bytes[j] = (uint8_t)test_random(&state);
        }
        if (i % 2 == 0) {
            memcpy(bytes, "\x16\x03\x01\x01\xfa", 5); /* looks like a handshake record */
        }
        (void)http_raw_exchange(node.port, bytes, sizeof(bytes), reply, sizeof(reply));
    }
    tls = tls_client(cert);
    ASSERT_STATUS(http_put(tls, "/k", "v", &answer), 204);
    cr_assert_eq(admin_worker(&node, "apid").restarts, 0);
    http_client_destroy(tls);
    node_finish(&node);
}
