/*
 * admin_execute: see admin_execute.h.
 */
#include "supervisor/admin_execute.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/admin_command.h"

struct execution {
    const struct admin_command *command;
    const struct admin_actions *actions;
    void *ctx;
    FILE *out;
};

/* A failing command writes nothing and fills err: the client gets its text. */
typedef int command_fn(const struct execution *e, struct ms_err *err);

static command_fn do_status;
static command_fn do_workers;
static command_fn do_restart;
static command_fn do_log_level;
static command_fn do_reload;
static command_fn do_stop;
static command_fn do_help;

static const struct {
    const char *name;
    size_t arguments;
    const char *usage;
    const char *help;
    command_fn *run;
} commands[] = {
    {"status", 0, "status", "how the node, its workers and the members stand", do_status},
    {"workers", 0, "workers", "the worker processes", do_workers},
    {"restart", 1, "restart WORKER", "replace a worker process now", do_restart},
    {"log-level", 1, "log-level LEVEL", "debug, info, warn or error, until the next reload",
     do_log_level},
    {"reload", 0, "reload", "read the configuration again, as SIGHUP does", do_reload},
    {"stop", 0, "stop", "stop the node in an orderly way", do_stop},
    {"help", 0, "help", "this list", do_help},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

/* For commands that have nothing to tell but that they were carried out. */
static void done(const struct execution *e, const char *text)
{
    (void)fprintf(e->out, "%s\n", e->command->json ? "{\"ok\":true}" : text);
}

static int do_status(const struct execution *e, struct ms_err *err)
{
    struct admin_snapshot snapshot;
    int rc;

    e->actions->snapshot(e->ctx, &snapshot);
    rc = admin_status_render(&snapshot, e->command->json, e->out);
    return rc == MS_OK ? MS_OK : ms_err_set(err, rc, 0, "cannot render the status");
}

static int do_workers(const struct execution *e, struct ms_err *err)
{
    struct admin_snapshot snapshot;
    int rc;

    e->actions->snapshot(e->ctx, &snapshot);
    rc = admin_status_render_workers(&snapshot, e->command->json, e->out);
    return rc == MS_OK ? MS_OK : ms_err_set(err, rc, 0, "cannot render the workers");
}

static int do_restart(const struct execution *e, struct ms_err *err)
{
    int rc = e->actions->restart(e->ctx, e->command->words[1], err);

    if (rc == MS_OK) {
        done(e, "restarting");
    }
    return rc;
}

static int do_log_level(const struct execution *e, struct ms_err *err)
{
    enum ms_log_level level;

    if (ms_log_level_parse(e->command->words[1], &level) != MS_OK) {
        return ms_err_set(err, MS_EINVAL, 0, "levels are debug, info, warn, error");
    }
    e->actions->set_log_level(e->ctx, level);
    done(e, "set");
    return MS_OK;
}

static int do_reload(const struct execution *e, struct ms_err *err)
{
    char note[ADMIN_NOTE_BYTES] = "";
    int rc = e->actions->reload(e->ctx, note, err);

    if (rc == MS_OK) {
        done(e, note[0] != '\0' ? note : "reloaded");
    }
    return rc;
}

static int do_stop(const struct execution *e, struct ms_err *err)
{
    (void)err;
    e->actions->stop(e->ctx);
    done(e, "stopping");
    return MS_OK;
}

static int do_help(const struct execution *e, struct ms_err *err)
{
    (void)err;
    if (e->command->json) {
        (void)fputs("{\"commands\":[", e->out);
        for (size_t i = 0; i < COMMAND_COUNT; i++) {
            (void)fprintf(e->out, "%s\"%s\"", i > 0 ? "," : "", commands[i].usage);
        }
        (void)fputs("]}\n", e->out);
        return MS_OK;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        (void)fprintf(e->out, "%-18s %s\n", commands[i].usage, commands[i].help);
    }
    return MS_OK;
}

static int dispatch(const struct execution *e, struct ms_err *err)
{
    const char *name = e->command->words[0];

    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(name, commands[i].name) != 0) {
            continue;
        }
        if (e->command->word_count != commands[i].arguments + 1) {
            return ms_err_set(err, MS_EINVAL, 0, "usage: %s", commands[i].usage);
        }
        return commands[i].run(e, err);
    }
    return ms_err_set(err, MS_EINVAL, 0, "unknown command \"%.64s\"; try help", name);
}

char *admin_execute_error(const char *text)
{
    char *answer = NULL;

    return asprintf(&answer, "error: %s\n\n", text) >= 0 ? answer : NULL;
}

char *admin_execute(char *line, size_t len_bytes, const struct admin_actions *actions, void *ctx)
{
    struct admin_command command;
    struct execution e = {.command = &command, .actions = actions, .ctx = ctx};
    struct ms_err err = {0};
    char *answer = NULL;
    size_t answer_bytes = 0;
    int rc;

    e.out = open_memstream(&answer, &answer_bytes);
    if (e.out == NULL) {
        return NULL;
    }
    rc = admin_command_parse(line, len_bytes, &command, &err);
    if (rc == MS_OK) {
        rc = dispatch(&e, &err);
    }
    (void)fputc('\n', e.out);
    if (fclose(e.out) != 0) { /* memory ran out while writing */
        free(answer);
        return NULL;
    }
    if (rc != MS_OK) {
        free(answer);
        return admin_execute_error(err.text);
    }
    return answer;
}
