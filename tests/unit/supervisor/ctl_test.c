/*
 * ctl: what metastorectl makes of its arguments and of answers. The far end is a thread.
 */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "supervisor/ctl.h"

#define SOCKET_VARIABLE "METASTORE_ADMIN_SOCKET"

static struct {
    char dir[64];
    char path[96];
    int listener;
    pthread_t thread;
    const char *answer;
    char line[4200];
} far;

static void *serve(void *unused)
{
    int fd = accept(far.listener, NULL, NULL);
    ssize_t len = read(fd, far.line, sizeof(far.line) - 1);

    far.line[len > 0 ? len : 0] = '\0';
    (void)!write(fd, far.answer, strlen(far.answer));
    (void)close(fd);
    return unused;
}

static void set_up(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    (void)snprintf(far.dir, sizeof(far.dir), "/tmp/ctl_test.XXXXXX");
    cr_assert_not_null(mkdtemp(far.dir));
    (void)snprintf(far.path, sizeof(far.path), "%s/sock", far.dir);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", far.path);
    far.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(far.listener, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(listen(far.listener, 1), 0);
    cr_redirect_stdout();
    cr_redirect_stderr();
}

static void clean_up(void)
{
    (void)close(far.listener);
    (void)unlink(far.path);
    (void)rmdir(far.dir);
}

static int run(char *const argv[])
{
    int argc = 0;

    while (argv[argc] != NULL) {
        argc++;
    }
    optind = 0; /* getopt anew */
    return ctl_main(argc, argv);
}

#define RUN(...) run((char *[]){(char[]){"metastorectl"}, __VA_ARGS__, NULL})

static void answer_with(const char *answer)
{
    far.answer = answer;
    cr_assert_eq(pthread_create(&far.thread, NULL, serve, NULL), 0);
}

static void expect_line(const char *line)
{
    cr_assert_eq(pthread_join(far.thread, NULL), 0);
    cr_assert_str_eq(far.line, line);
}

TestSuite(ctl, .init = set_up, .fini = clean_up, .timeout = 60);

Test(ctl, prints_the_answer_up_to_the_empty_line)
{
    answer_with("one\ntwo\n\nthree\n");
    cr_assert_eq(RUN((char[]){"-S"}, far.path, (char[]){"status"}), 0);
    expect_line("status\n");
    (void)fflush(stdout);
    cr_assert_stdout_eq_str("one\ntwo\n");
}

Test(ctl, an_error_goes_to_standard_error_and_is_1)
{
    answer_with("error: no such thing\n\n");
    cr_assert_eq(RUN((char[]){"--socket"}, far.path, (char[]){"restart"}, (char[]){"nobody"}), 1);
    expect_line("restart nobody\n");
    (void)fflush(stderr);
    cr_assert_stderr_eq_str("error: no such thing\n");
}

Test(ctl, words_of_a_command_that_look_like_options_reach_the_node)
{
    answer_with("added as a learner\n\n");
    cr_assert_eq(RUN((char[]){"-S"}, far.path, (char[]){"member"}, (char[]){"add"},
                     (char[]){"--learner"}, (char[]){"4"}, (char[]){"http://h:1"}),
                 0);
    expect_line("member add 4 http://h:1 --learner\n");
}

Test(ctl, json_may_stand_on_either_side_and_the_environment_names_the_socket)
{
    (void)setenv(SOCKET_VARIABLE, far.path, 1);
    answer_with("[]\n\n");
    cr_assert_eq(RUN((char[]){"workers"}, (char[]){"--json"}), 0);
    expect_line("--json workers\n");
}

Test(ctl, a_node_that_hangs_up_is_an_error)
{
    answer_with("half an ans");
    cr_assert_eq(RUN((char[]){"-S"}, far.path, (char[]){"status"}), 1);
    expect_line("status\n");
}

Test(ctl, a_node_that_is_not_there_is_an_error)
{
    cr_assert_eq(RUN((char[]){"-S"}, (char[]){"/nonexistent/sock"}, (char[]){"status"}), 1);
}

Test(ctl, a_socket_path_that_is_too_long_is_an_error)
{
    char path[300];

    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    cr_assert_eq(RUN((char[]){"-S"}, path, (char[]){"status"}), 1);
}

Test(ctl, wrong_usage_is_2)
{
    char word[5000];

    memset(word, 'x', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    cr_assert_eq(run((char *[]){(char[]){"metastorectl"}, NULL}), 2);
    cr_assert_eq(RUN((char[]){"--colour"}, (char[]){"status"}), 2);
    cr_assert_eq(RUN((char[]){"-S"}), 2);
    cr_assert_eq(RUN((char[]){"two words"}), 2);
    cr_assert_eq(RUN((char[]){"status\nstop"}), 2);
    cr_assert_eq(RUN((char[]){""}), 2);
    cr_assert_eq(RUN(word), 2);
}

Test(ctl, help_and_version_are_0)
{
    cr_assert_eq(RUN((char[]){"--help"}), 0);
    cr_assert_eq(RUN((char[]){"--version"}), 0);
}
