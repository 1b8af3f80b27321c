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
    struct admin_wish *wish;
};

/*
 * A failing command writes nothing and fills err: the client gets its text. MS_EAGAIN: likewise,
 * but the answer takes longer, for what wish says.
 */
typedef int command_fn(const struct execution *e, struct ms_err *err);

static command_fn do_status;
static command_fn do_workers;
static command_fn do_restart;
static command_fn do_log_level;
static command_fn do_reload;
static command_fn do_member_list;
static command_fn do_member_add;
static command_fn do_member_promote;
static command_fn do_member_update;
static command_fn do_member_remove;
static command_fn do_leader;
static command_fn do_leader_transfer;
static command_fn do_stop;
static command_fn do_help;

static const struct command {
    const char *name;
    const char *verb; /* the second word; NULL: the command has one */
    size_t arguments_min;
    size_t arguments_max;
    const char *usage;
    const char *help;
    command_fn *run;
} commands[] = {
    {"status", NULL, 0, 0, "status", "how the node, its workers and the members stand", do_status},
    {"workers", NULL, 0, 0, "workers", "the worker processes", do_workers},
    {"restart", NULL, 1, 1, "restart WORKER", "replace a worker process now", do_restart},
    {"log-level", NULL, 1, 1, "log-level LEVEL",
     "debug, info, warn or error, until the next reload", do_log_level},
    {"reload", NULL, 0, 0, "reload", "read the configuration again, as SIGHUP does", do_reload},
    {"member", "list", 0, 0, "member list", "the members of the cluster", do_member_list},
    {"member", "add", 2, 3, "member add ID URL [--learner]",
     "add a member, to be started with --join; a learner does not vote", do_member_add},
    {"member", "promote", 1, 1, "member promote ID", "a learner that has caught up gets a vote",
     do_member_promote},
    {"member", "update", 2, 2, "member update ID URL", "a member has another peer URL from now on",
     do_member_update},
    {"member", "remove", 1, 1, "member remove ID", "remove a member; its node stops",
     do_member_remove},
    {"leader", NULL, 0, 0, "leader", "which member leads", do_leader},
    {"leader", "transfer", 0, 1, "leader transfer [ID]",
     "hand the leadership to a member, or to any that is up to date", do_leader_transfer},
    {"stop", NULL, 0, 0, "stop", "stop the node in an orderly way", do_stop},
    {"help", NULL, 0, 0, "help", "this list", do_help},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

/* Words of a command that are not arguments. */
static size_t own_words(const struct command *command)
{
    return command->verb != NULL ? 2 : 1;
}

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
    (void)err;
    e->wish->kind = ADMIN_WISH_RELOAD;
    e->wish->json = e->command->json;
    return MS_EAGAIN;
}

static int do_member_list(const struct execution *e, struct ms_err *err)
{
    struct admin_snapshot snapshot;
    int rc;

    e->actions->snapshot(e->ctx, &snapshot);
    rc = admin_status_render_members(&snapshot, e->command->json, e->out);
    return rc == MS_OK ? MS_OK : ms_err_set(err, rc, 0, "cannot render the members");
}

static int do_leader(const struct execution *e, struct ms_err *err)
{
    struct admin_snapshot snapshot;
    int rc;

    e->actions->snapshot(e->ctx, &snapshot);
    rc = admin_status_render_leader(&snapshot, e->command->json, e->out);
    return rc == MS_OK ? MS_OK : ms_err_set(err, rc, 0, "cannot render the leader");
}

static int ask(const struct execution *e, enum ms_member_operation operation, struct ms_err *err)
{
    int rc = admin_member_parse(operation, e->command->words + 2, e->command->word_count - 2,
                                &e->wish->request, err);

    e->wish->kind = ADMIN_WISH_MEMBER;
    e->wish->json = e->command->json;
    return rc == MS_OK ? MS_EAGAIN : rc;
}

static int do_member_add(const struct execution *e, struct ms_err *err)
{
    return ask(e, MS_MEMBER_ADD_VOTER, err);
}

static int do_member_promote(const struct execution *e, struct ms_err *err)
{
    return ask(e, MS_MEMBER_PROMOTE, err);
}

static int do_member_update(const struct execution *e, struct ms_err *err)
{
    return ask(e, MS_MEMBER_UPDATE_URL, err);
}

static int do_member_remove(const struct execution *e, struct ms_err *err)
{
    return ask(e, MS_MEMBER_REMOVE, err);
}

static int do_leader_transfer(const struct execution *e, struct ms_err *err)
{
    return ask(e, MS_MEMBER_TRANSFER, err);
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
        (void)fprintf(e->out, "%-30s %s\n", commands[i].usage, commands[i].help);
    }
    return MS_OK;
}

/* "usage: " and all forms of the command of that name. */
static int refuse_usage(const char *name, struct ms_err *err)
{
    char text[256] = "";
    size_t used = 0;

    for (size_t i = 0; i < COMMAND_COUNT && used < sizeof(text); i++) {
        if (strcmp(name, commands[i].name) == 0) {
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s",
                                     used > 0 ? " | " : "", commands[i].usage);
        }
    }
    if (used == 0) {
        return ms_err_set(err, MS_EINVAL, 0, "unknown command \"%.64s\"; try help", name);
    }
    return ms_err_set(err, MS_EINVAL, 0, "usage: %s", text);
}

static int dispatch(const struct execution *e, struct ms_err *err)
{
    const struct admin_command *said = e->command;

    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct command *command = &commands[i];
        size_t own = own_words(command);

        if (strcmp(said->words[0], command->name) != 0 || said->word_count < own ||
            (command->verb != NULL && strcmp(said->words[1], command->verb) != 0)) {
            continue;
        }
        if (said->word_count - own >= command->arguments_min &&
            said->word_count - own <= command->arguments_max) {
            return command->run(e, err);
        }
    }
    return refuse_usage(said->words[0], err);
}

static char *answer_of(const char *start, const char *text, const char *remarks)
{
    char *answer = NULL;
    size_t answer_bytes = 0;
    FILE *out = open_memstream(&answer, &answer_bytes);

    if (out == NULL) {
        return NULL;
    }
    (void)fputs(start, out);
    admin_member_print_words(out, text);
    (void)fputs(remarks[0] != '\0' ? "; " : "", out);
    admin_member_print_words(out, remarks);
    (void)fputs("\n\n", out);
    if (fclose(out) != 0) { /* memory ran out while writing */
        free(answer);
        return NULL;
    }
    return answer;
}

char *admin_execute_error(const char *text)
{
    return answer_of("error: ", text, "");
}

char *admin_execute_reloaded(bool json, const char *refused, const char *remarks)
{
    if (refused != NULL) {
        return answer_of("error: ", refused, remarks);
    }
    return json ? answer_of("", "{\"ok\":true}", "") : answer_of("", "reloaded", remarks);
}

int admin_execute(char *line, size_t len_bytes, const struct admin_actions *actions, void *ctx,
                  char **answer, struct admin_wish *wish)
{
    struct admin_command command;
    struct execution e = {.command = &command, .actions = actions, .ctx = ctx, .wish = wish};
    struct ms_err err = {0};
    char *text = NULL;
    size_t text_bytes = 0;
    int rc;

    e.out = open_memstream(&text, &text_bytes);
    if (e.out == NULL) {
        return MS_ENOMEM;
    }
    rc = admin_command_parse(line, len_bytes, &command, &err);
    if (rc == MS_OK) {
        rc = dispatch(&e, &err);
    }
    (void)fputc('\n', e.out);
    if (fclose(e.out) != 0) { /* memory ran out while writing */
        free(text);
        return MS_ENOMEM;
    }
    if (rc == MS_OK) {
        *answer = text;
        return MS_OK;
    }
    free(text);
    if (rc == MS_EAGAIN) {
        return MS_EAGAIN;
    }
    text = admin_execute_error(err.text);
    if (text == NULL) {
        return MS_ENOMEM;
    }
    *answer = text;
    return MS_OK;
}
