/*
 * reload: see reload.h.
 */
#include "supervisor/reload.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/config.h"
#include "common/log.h"
#include "supervisor/notify.h"
#include "supervisor/supervisor_private.h"

/* A worker that hangs is replaced long before: this is for one that answers pings and nothing else.
 */
#define RELOAD_DEADLINE_MS 10000

static void on_deadline(uv_timer_t *timer);

__attribute__((format(printf, 2, 3))) static void add_words(struct reload_words *words,
                                                            const char *format, ...)
{
    size_t room = sizeof(words->text) - words->used;
    size_t separator = words->used > 0 ? strlen("; ") : 0;
    va_list arguments;
    int len;

    if (room <= separator) {
        return;
    }
    memcpy(words->text + words->used, "; ", separator);
    va_start(arguments, format);
    len = vsnprintf(words->text + words->used + separator, room - separator, format, arguments);
    va_end(arguments);
    if (len < 0 || (size_t)len >= room - separator) {
        words->text[words->used] = '\0';
        return;
    }
    words->used += separator + (size_t)len;
}

static void tell_manager(int rc, const struct ms_err *err)
{
    if (rc != MS_OK) {
        ms_log_err(MS_LOG_WARN, "service manager not told", err);
    }
}

/* ---- the end --------------------------------------------------------------------------------- */

static void finish(struct supervisor *s)
{
    struct reload *reload = &s->reload;
    struct ms_err err = {0};

    reload->under_way = false;
    (void)uv_timer_stop(&reload->deadline);
    if (reload->refused.used > 0) {
        ms_log(MS_LOG_ERROR, "not all of the configuration was reloaded",
               MS_F_STR("refused", reload->refused.text));
    } else {
        ms_log_plain(MS_LOG_INFO, "configuration reloaded");
    }
    if (s->state == NODE_SERVING) { /* also after a failure: it serves on with what it had */
        tell_manager(notify_ready(&err), &err);
    }
    admin_on_reloaded(s->admin, reload->refused.used > 0 ? reload->refused.text : NULL,
                      reload->remarks.text);
}

static void finish_if_all_answered(struct supervisor *s)
{
    if (!s->reload.under_way) {
        return;
    }
    for (size_t i = 0; i < s->workers.count; i++) {
        if (s->workers.workers[i].reloading) {
            return;
        }
    }
    finish(s);
}

void reload_answered(struct supervisor *s, struct worker *worker,
                     const struct ms_control_reloaded *answer)
{
    if (answer->number != s->reload.number || !worker->reloading) {
        return;
    }
    worker->reloading = false;
    if (answer->refused != 0) {
        add_words(&s->reload.refused, "%s goes on with what it had: %s", worker->name,
                  answer->text);
    }
    finish_if_all_answered(s);
}

void reload_worker_lost(struct supervisor *s, struct worker *worker)
{
    if (!worker->reloading) {
        return;
    }
    worker->reloading = false;
    add_words(&s->reload.refused, "%s died before it answered", worker->name);
    finish_if_all_answered(s);
}

static void on_deadline(uv_timer_t *timer)
{
    struct supervisor *s = timer->data;

    for (size_t i = 0; i < s->workers.count; i++) {
        struct worker *worker = &s->workers.workers[i];

        if (worker->reloading) {
            worker->reloading = false;
            add_words(&s->reload.refused, "%s did not answer", worker->name);
        }
    }
    finish(s);
}

/* ---- the beginning --------------------------------------------------------------------------- */

/*
 * One that does not run yet gets the new configuration with its start, or as its first message. It
 * is not waited for: reading back a log may take long.
 */
static void tell_workers(struct supervisor *s)
{
    struct ms_control_reload message = {.number = s->reload.number, .config = s->config};

    for (size_t i = 0; i < s->workers.count; i++) {
        struct worker *worker = &s->workers.workers[i];

        worker->reloading = worker->state == WORKER_RUNNING && !worker->ending;
        if (!worker->reloading) {
            add_words(&s->reload.remarks, "%s is %s", worker->name, worker_state_name(worker));
        }
    }
    for (size_t i = 0; i < s->workers.count; i++) {
        if (worker_is_alive(&s->workers.workers[i])) {
            lifecycle_send(s, &s->workers.workers[i], MS_CONTROL_RELOAD, &message, NULL);
        }
    }
}

int reload_begin(struct supervisor *s, struct ms_err *err)
{
    struct reload *reload = &s->reload;
    char fixed[MS_CONFIG_NAMES_BYTES];
    struct ms_err notify_err = {0};
    int rc;

    if (s->state >= NODE_STOPPING) {
        return ms_err_set(err, MS_EBUSY, 0, "the node is stopping");
    }
    if (s->state == NODE_SERVING) {
        tell_manager(notify_reloading(&notify_err), &notify_err);
    }
    rc = ms_config_reload(s->options->argc, s->options->argv, s->options->environment, &s->config,
                          fixed, err);
    if (rc != MS_OK) {
        ms_log_err(MS_LOG_ERROR, "configuration not reloaded", err);
        if (s->state == NODE_SERVING && !reload->under_way) {
            tell_manager(notify_ready(&notify_err), &notify_err);
        }
        return rc;
    }
    ms_log_set_level((enum ms_log_level)s->config.log_level);
    reload->number++;
    reload->under_way = true;
    reload->refused = (struct reload_words){0};
    reload->remarks = (struct reload_words){0};
    if (fixed[0] != '\0') {
        add_words(&reload->remarks, "what changes with the next start only: %s", fixed);
        ms_log(MS_LOG_WARN, "options cannot change at run time", MS_F_STR("options", fixed));
    }
    (void)uv_timer_start(&reload->deadline, on_deadline, RELOAD_DEADLINE_MS, 0);
    tell_workers(s);
    finish_if_all_answered(s);
    return MS_OK;
}

void reload_init(struct supervisor *s)
{
    (void)uv_timer_init(&s->loop, &s->reload.deadline); /* cannot fail */
    s->reload.deadline.data = s;
}
