/*
 * notify: what arrives at NOTIFY_SOCKET, and that nobody can make us wait there.
 */
#include <criterion/criterion.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "supervisor/notify.h"

static int receiver = -1;

/* An abstract socket: no file to clean up. */
static void listen_abstract(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(sa_family_t); /* the kernel chooses the name */
    char name[64];

    receiver = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(receiver, (struct sockaddr *)&address, len), 0);
    len = sizeof(address);
    cr_assert_eq(getsockname(receiver, (struct sockaddr *)&address, &len), 0);
    (void)snprintf(name, sizeof(name), "@%.*s",
                   (int)(len - offsetof(struct sockaddr_un, sun_path) - 1), address.sun_path + 1);
    (void)setenv("NOTIFY_SOCKET", name, 1);
}

static void close_receiver(void)
{
    (void)close(receiver);
}

static const char *received(void)
{
    static char text[1024];
    ssize_t len = recv(receiver, text, sizeof(text) - 1, MSG_DONTWAIT);

    text[len > 0 ? len : 0] = '\0';
    return text;
}

TestSuite(notify, .init = listen_abstract, .fini = close_receiver, .timeout = 60);

Test(notify, states_arrive_as_systemd_writes_them)
{
    struct ms_err err = {0};

    cr_assert_eq(notify_ready(&err), MS_OK, "%s", err.text);
    cr_assert_str_eq(received(), "READY=1");
    cr_assert_eq(notify_stopping(&err), MS_OK);
    cr_assert_str_eq(received(), "STOPPING=1");
    cr_assert_eq(notify_watchdog(&err), MS_OK);
    cr_assert_str_eq(received(), "WATCHDOG=1");
    cr_assert_eq(notify_status(&err, "serving on %s", "port 1"), MS_OK);
    cr_assert_str_eq(received(), "STATUS=serving on port 1");
    cr_assert_eq(notify_reloading(&err), MS_OK);
    cr_assert_eq(strncmp(received(), "RELOADING=1\nMONOTONIC_USEC=", 27), 0);
}

Test(notify, nobody_there_is_fine)
{
    struct ms_err err = {0};

    (void)unsetenv("NOTIFY_SOCKET");
    cr_assert_eq(notify_ready(&err), MS_OK);
    (void)setenv("NOTIFY_SOCKET", "", 1);
    cr_assert_eq(notify_ready(&err), MS_OK);
}

Test(notify, a_broken_address_is_an_error)
{
    struct ms_err err = {0};
    char path[200];

    (void)setenv("NOTIFY_SOCKET", "relative", 1);
    cr_assert_eq(notify_ready(&err), MS_EINVAL);
    memset(path, '/', sizeof(path));
    path[sizeof(path) - 1] = '\0';
    (void)setenv("NOTIFY_SOCKET", path, 1);
    cr_assert_eq(notify_ready(&err), MS_EINVAL);
    (void)setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
    cr_assert_eq(notify_ready(&err), MS_EIO);
}

/* sd_notify() itself would hang here for ever. */
Test(notify, one_who_does_not_read_cannot_stop_us)
{
    struct ms_instant began;
    struct ms_err err = {0};
    int rc = MS_OK;

    for (int i = 0; i < 100000 && rc == MS_OK; i++) {
        rc = notify_status(&err, "number %d", i);
    }
    cr_assert_eq(rc, MS_EAGAIN, "%s", err.text);
    began = ms_clock_now();
    cr_assert_eq(notify_stopping(&err), MS_EAGAIN);
    cr_assert_lt(ms_clock_elapsed_ms(began, ms_clock_now()), 10000);
}

Test(notify, the_watchdog_is_due_at_half_its_time)
{
    char pid[24];

    (void)unsetenv("WATCHDOG_USEC");
    cr_assert_eq(notify_watchdog_interval_ms(), 0);
    (void)setenv("WATCHDOG_USEC", "30000000", 1);
    cr_assert_eq(notify_watchdog_interval_ms(), 15000);
    (void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
    (void)setenv("WATCHDOG_PID", pid, 1);
    cr_assert_eq(notify_watchdog_interval_ms(), 15000);
    (void)setenv("WATCHDOG_PID", "1", 1);
    cr_assert_eq(notify_watchdog_interval_ms(), 0, "meant for another process");
}
