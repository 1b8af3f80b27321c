/*
 * main: which of its programs the executable is to be.
 *
 *   argv[0] is a worker's name and argv[1] the mark that only the supervisor gives -> that worker
 *   argv[0] ends in "metastorectl"                                                 -> admin client
 *   anything else                                                                  -> a node
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "common/config.h"
#include "common/exit_codes.h"
#include "common/log.h"
#include "common/roles.h"
#include "supervisor/ctl.h"
#include "supervisor/process.h"
#include "supervisor/supervisor.h"

#define PROGRAM_NAME "metastore"

extern char **environ;

static const struct {
    const char *name;
    int (*run)(void);
} roles[] = {{"raftd", raftd_main}, {"storaged", storaged_main}, {"apid", apid_main}};

static int run_worker(const char *name)
{
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        if (strcmp(name, roles[i].name) == 0) {
            return roles[i].run();
        }
    }
    (void)fprintf(stderr, "%s: \"%s\" is no worker\n", PROGRAM_NAME, name);
    return MS_EXIT_USAGE;
}

static int show_help(void)
{
    int len = ms_config_help(NULL, 0);
    char *text;

    if (len < 0) {
        return MS_EXIT_CANNOT_RUN;
    }
    text = malloc((size_t)len + 1);
    if (text == NULL) {
        return MS_EXIT_CANNOT_RUN;
    }
    (void)ms_config_help(text, (size_t)len + 1);
    (void)fputs(text, stdout);
    free(text);
    return MS_EXIT_OK;
}

static int run_node(int argc, char *const argv[])
{
    static struct supervisor_options options; /* large, and needed to the end */
    enum ms_config_action action = MS_CONFIG_RUN;
    struct ms_err err = {0};
    int rc;

    supervisor_hold_signals();
    options.argc = argc;
    options.argv = argv;
    options.environment = environ;
    rc = process_ensure_standard_fds(&err);
    if (rc == MS_OK) {
        rc = ms_config_load(argc, argv, environ, &options.config, &action, &err);
    }
    if (rc != MS_OK) {
        (void)fprintf(stderr, "%s: %s\n", PROGRAM_NAME, err.text);
        if (rc != MS_EUSAGE) {
            return MS_EXIT_CANNOT_RUN;
        }
        (void)fprintf(stderr, "Try '%s --help'.\n", PROGRAM_NAME);
        return MS_EXIT_USAGE;
    }
    switch (action) {
    case MS_CONFIG_SHOW_HELP:
        return show_help();
    case MS_CONFIG_SHOW_VERSION:
        (void)puts(PROGRAM_NAME " " MS_VERSION);
        return MS_EXIT_OK;
    case MS_CONFIG_RUN:
        break;
    }
    (void)prctl(PR_SET_NAME, PROGRAM_NAME); /* also when the file has another name */
    ms_log_init(PROGRAM_NAME, (enum ms_log_format)options.config.log_format,
                (enum ms_log_level)options.config.log_level);
    return (int)supervisor_run(&options);
}

int main(int argc, char *argv[])
{
    const char *slash;

    if (argc < 1) {
        return MS_EXIT_USAGE;
    }
    if (argc == 2 && strcmp(argv[1], PROCESS_WORKER_MARK) == 0) {
        return run_worker(argv[0]);
    }
    slash = strrchr(argv[0], '/');
    if (strcmp(slash != NULL ? slash + 1 : argv[0], "metastorectl") == 0) {
        return ctl_main(argc, argv);
    }
    return run_node(argc, argv);
}
