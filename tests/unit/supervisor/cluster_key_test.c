/*
 * cluster_key: which files hold a key, and which must not be trusted with one.
 */
#include "supervisor/cluster_key.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char base[256];
static char path[300];

static void set_up(void)
{
    const char *tmp = getenv("TMPDIR");

    (void)snprintf(base, sizeof(base), "%s/cluster_key_test.XXXXXX", tmp != NULL ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(base));
    (void)snprintf(path, sizeof(path), "%s/key", base);
}

static void clean_up(void)
{
    (void)unlink(path);
    (void)rmdir(path);
    (void)rmdir(base);
}

static void write_file(const void *bytes, size_t len, mode_t mode)
{
    FILE *file = fopen(path, "w");

    cr_assert_not_null(file);
    cr_assert_eq(fwrite(bytes, 1, len, file), len);
    cr_assert_eq(fclose(file), 0);
    cr_assert_eq(chmod(path, mode), 0);
}

static void expect_refusal(int status, const char *part)
{
    uint8_t key[MS_CLUSTER_KEY_BYTES] = {1, 2, 3};
    struct ms_err err = {0};

    cr_assert_eq(cluster_key_read(path, key, &err), status, "%s", err.text);
    cr_assert_not_null(strstr(err.text, part), "\"%s\" lacks \"%s\"", err.text, part);
    cr_assert_not_null(strstr(err.text, path), "%s", err.text);
    cr_assert(key[0] == 1 && key[1] == 2 && key[2] == 3 && key[3] == 0, "changed");
}

TestSuite(cluster_key, .init = set_up, .fini = clean_up);

Test(cluster_key, is_bytes_or_hex_digits)
{
    static const char hex[] = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
    static const char *const ends[] = {"", "\n", "\r\n"};
    uint8_t expected[MS_CLUSTER_KEY_BYTES];
    uint8_t key[MS_CLUSTER_KEY_BYTES];
    struct ms_err err = {0};
    char text[80];

    for (size_t i = 0; i < sizeof(expected); i++) {
        expected[i] = (uint8_t)i;
    }
    write_file(expected, sizeof(expected), 0600);
    cr_assert_eq(cluster_key_read(path, key, &err), MS_OK, "%s", err.text);
    cr_assert_arr_eq(key, expected, sizeof(key));
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        (void)snprintf(text, sizeof(text), "%s%s", hex, ends[i]);
        write_file(text, strlen(text), 0400);
        memset(key, 0, sizeof(key));
        cr_assert_eq(cluster_key_read(path, key, &err), MS_OK, "%s", err.text);
        cr_assert_arr_eq(key, expected, sizeof(key));
        (void)unlink(path);
    }
}

Test(cluster_key, anything_else_is_refused)
{
    static const size_t lengths[] = {0, 1, 31, 33, 63, 65, 67, 1000};
    char text[1000];

    memset(text, 'a', sizeof(text));
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        write_file(text, lengths[i], 0600);
        expect_refusal(MS_EINVAL, "neither 32 bytes nor 64 hex digits");
    }
    text[7] = 'g';
    write_file(text, 64, 0600);
    expect_refusal(MS_EINVAL, "neither");
}

Test(cluster_key, what_others_can_read_is_no_secret)
{
    static const mode_t modes[] = {0604, 0602, 0620, 0610, 0644, 0666};

    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        write_file("01234567890123456789012345678901", 32, modes[i]);
        expect_refusal(MS_EPERM, "chmod 600");
    }
}

/* 0640 root:service is how secrets are handed to a service. */
Test(cluster_key, the_group_may_read_what_belongs_to_root)
{
    uint8_t key[MS_CLUSTER_KEY_BYTES];

    write_file("01234567890123456789012345678901", 32, 0640);
    if (geteuid() != 0) {
        expect_refusal(MS_EPERM, "chmod 600");
        return;
    }
    cr_assert_eq(cluster_key_read(path, key, NULL), MS_OK);
    cr_assert_eq(chown(path, 12345, 12345), 0);
    expect_refusal(MS_EPERM, "chmod 600");
}

Test(cluster_key, no_file_is_no_key)
{
    expect_refusal(MS_ENOENT, "open");
    cr_assert_eq(mkdir(path, 0700), 0);
    expect_refusal(MS_EINVAL, "regular");
    cr_assert_eq(rmdir(path), 0);
    cr_assert_eq(mkfifo(path, 0600), 0);
    expect_refusal(MS_EINVAL, "regular");
}
