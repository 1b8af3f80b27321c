/*
 * The configuration file, arguments and environment: any bytes give a configuration or a message.
 *
 * The input is lines: those before the first empty one become arguments (or variables, when they
 * start with METASTORE_), the rest is the file.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/config.h"

enum {
    WORDS_MAX = 32
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *argv[WORDS_MAX + 3] = {(char *)"metastore"};
    char *environment[WORDS_MAX + 1] = {NULL};
    int argc = 1;
    size_t variables = 0;
    enum ms_config_action action;
    struct ms_config config;
    struct ms_err err = {0};
    char fixed[MS_CONFIG_NAMES_BYTES];
    char name[64];
    char *text;
    char *rest;
    int fd;

    fd = memfd_create("config", MFD_CLOEXEC);
    text = malloc(size + 1);
    if (fd < 0 || text == NULL) {
        abort();
    }
    memcpy(text, data, size);
    text[size] = '\0';
    rest = text;
    for (int i = 0; i < WORDS_MAX && *rest != '\0'; i++) {
        size_t len_bytes = strcspn(rest, "\n");
        char *word = rest;

        rest += len_bytes + (rest[len_bytes] != '\0');
        word[len_bytes] = '\0';
        if (len_bytes == 0) {
            break;
        }
        if (strncmp(word, "METASTORE_", 10) == 0) {
            environment[variables++] = word;
        } else {
            argv[argc++] = word;
        }
    }
    if (write(fd, rest, (size_t)(text + size - rest)) != text + size - rest) {
        abort();
    }
    (void)snprintf(name, sizeof(name), "--config=/proc/self/fd/%d", fd);
    argv[argc++] = name;

    if (ms_config_load(argc, argv, environment, &config, &action, &err) != MS_OK) {
        if (err.text[0] == '\0') {
            abort(); /* a refusal without a reason */
        }
    } else if (action == MS_CONFIG_RUN &&
               (ms_config_reload(argc, argv, environment, &config, fixed, &err) != MS_OK ||
                fixed[0] != '\0')) {
        abort(); /* the same sources must give the same */
    }
    free(text);
    (void)close(fd);
    return 0;
}
