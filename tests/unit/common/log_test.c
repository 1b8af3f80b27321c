/*
 * log: lines as a pipe at standard error sees them.
 */
#include "common/log.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int log_end;

/* From here on standard error is a pipe that read_line reads. */
static void capture(enum ms_log_format format, enum ms_log_level level)
{
    int ends[2];

    cr_assert_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    cr_assert_geq(dup2(ends[1], STDERR_FILENO), 0);
    log_end = ends[0];
    ms_log_init("raftd", format, level);
}

/* What has been written since the last call; "" if nothing. */
static const char *read_line(void)
{
    static char line[8192];
    ssize_t len_bytes = read(log_end, line, sizeof(line) - 1);

    line[len_bytes > 0 ? len_bytes : 0] = '\0';
    return line;
}

/* What stands behind "<time> info raftd ". */
static const char *read_rest(void)
{
    const char *line = read_line();
    const char *rest = strstr(line, " info raftd ");

    cr_assert_not_null(rest, "line: %s", line);
    return rest + strlen(" info raftd ");
}

Test(log, text_line_is_as_documented)
{
    const char *line;

    capture(MS_LOG_TEXT, MS_LOG_INFO);
    ms_log(MS_LOG_INFO, "became leader", MS_F_U64("term", 2), MS_F_I64("delta", -6));
    line = read_line();
    /* 2026-11-21T02:20:00.123Z */
    for (size_t i = 0; i < 24; i++) {
        char shape = "dddd-dd-ddTdd:dd:dd.dddZ"[i];

        cr_assert(shape == 'd' ? isdigit((unsigned char)line[i]) : line[i] == shape, "%s", line);
    }
    cr_assert_str_eq(line + 24, " info raftd msg=\"became leader\" term=2 delta=-6\n");
}

Test(log, message_of_one_word_is_quoted_too)
{
    capture(MS_LOG_TEXT, MS_LOG_INFO);
    ms_log_plain(MS_LOG_INFO, "recovered");
    cr_assert_str_eq(read_rest(), "msg=\"recovered\"\n");
}

Test(log, text_values_are_quoted_only_when_needed)
{
    capture(MS_LOG_TEXT, MS_LOG_INFO);
    ms_log(MS_LOG_INFO, "m", MS_F_STR("a", "plain/x-1"), MS_F_STR("b", "two words"),
           MS_F_STR("c", "k=v"), MS_F_STR("d", "q\"\\"), MS_F_STR("e", ""), MS_F_STR("f", NULL));
    cr_assert_str_eq(read_rest(), "msg=\"m\" a=plain/x-1 b=\"two words\" c=\"k=v\" "
                                  "d=\"q\\\"\\\\\" e=\"\" f=null\n");
}

Test(log, text_values_cannot_forge_a_line_or_command_a_terminal)
{
    capture(MS_LOG_TEXT, MS_LOG_INFO);
    ms_log(MS_LOG_INFO, "m", MS_F_STR("a", "x\ny"), MS_F_STR("b", "\x1b[2J"),
           MS_F_STR("c", "\xc2\x9b"), MS_F_STR("d", "\xff\xc3"),
           MS_F_STR("e", "gr\xc3\xbc\xc3\x9f"));
    cr_assert_str_eq(read_rest(), "msg=\"m\" a=\"x\\ny\" b=\"\\u001b[2J\" c=\"\\u009b\" "
                                  "d=\"\\xff\\xc3\" e=gr\xc3\xbc\xc3\x9f\n");
}

/* Past one JSON string (RFC 8259 7) at text, or NULL if there is none. */
static const char *skip_json_string(const char *text)
{
    if (*text++ != '"') {
        return NULL;
    }
    for (; *text != '"'; text++) {
        if ((unsigned char)*text < 0x20) {
            return NULL;
        }
        if (*text != '\\') {
            continue;
        }
        text++;
        if (*text == 'u') {
            if (strspn(text + 1, "0123456789abcdef") < 4) {
                return NULL;
            }
            text += 4;
        } else if (*text == '\0' || strchr("\"\\/bfnrt", *text) == NULL) {
            return NULL;
        }
    }
    return text + 1;
}

/* Is line one flat JSON object of valid UTF-8, and a newline? That is all the log ever writes. */
static bool is_json_line(const char *line)
{
    if (*line != '{' || mbstowcs(NULL, line, 0) == (size_t)-1) {
        return false;
    }
    do {
        size_t len_bytes;

        line = skip_json_string(line + 1);
        if (line == NULL || *line != ':') {
            return false;
        }
        line++;
        if (*line == '"') {
            line = skip_json_string(line);
        } else {
            len_bytes = strspn(line, "-0123456789abcdefghijklmnopqrstuvwxyz"); /* 12, null, true */
            line = len_bytes > 0 ? line + len_bytes : NULL;
        }
    } while (line != NULL && *line == ',');
    return line != NULL && strcmp(line, "}\n") == 0;
}

Test(log, json_line_holds_the_same_fields)
{
    const char *line;

    capture(MS_LOG_JSON, MS_LOG_INFO);
    ms_log(MS_LOG_WARN, "became \"leader\"", MS_F_U64("term", 2), MS_F_I64("delta", -6),
           MS_F_STR("path", "a\\b\n\x01"), MS_F_STR("none", NULL));
    line = read_line();
    cr_assert(is_json_line(line), "%s", line);
    cr_assert_eq(strncmp(line, "{\"ts\":\"", 7), 0);
    cr_assert_str_eq(line + 7 + 24, "\",\"level\":\"warn\",\"process\":\"raftd\","
                                    "\"msg\":\"became \\\"leader\\\"\",\"term\":2,\"delta\":-6,"
                                    "\"path\":\"a\\\\b\\n\\u0001\",\"none\":null}\n");
}

Test(log, json_stays_valid_whatever_bytes_a_value_holds)
{
    cr_assert_not_null(setlocale(LC_CTYPE, "C.UTF-8"));
    capture(MS_LOG_JSON, MS_LOG_INFO);
    for (unsigned first = 1; first < 256; first++) {
        /* Every lead byte: alone, before a continuation, before ASCII. */
        const char values[3][3] = {
            {(char)first, '\0'}, {(char)first, '\x80', '\0'}, {(char)first, 'x', '\0'}};
        const char *line;

        ms_log(MS_LOG_INFO, "m", MS_F_STR("a", values[0]), MS_F_STR("b", values[1]),
               MS_F_STR("c", values[2]));
        line = read_line();
        cr_assert(is_json_line(line), "lead byte %u: %s", first, line);
    }
}

Test(log, malformed_utf8_is_never_passed_on)
{
    /* Overlong slash, surrogate, beyond the last plane, cut in the middle. */
    static const char *const bad[] = {"\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80", "\xf0\x9f\x98"};

    capture(MS_LOG_TEXT, MS_LOG_INFO);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *line;

        ms_log(MS_LOG_INFO, "m", MS_F_STR("a", bad[i]));
        line = read_rest();
        for (const char *at = line; *at != '\0'; at++) {
            cr_assert_lt((unsigned char)*at, 0x80, "case %zu: %s", i, line);
        }
    }
    ms_log(MS_LOG_INFO, "m", MS_F_STR("a", "\xf0\x9f\x98\x80"));
    cr_assert_str_eq(read_rest(), "msg=\"m\" a=\xf0\x9f\x98\x80\n");
}

Test(log, line_that_is_too_long_is_cut_and_says_so)
{
    static const char fill[5] = {'a', ' ', '\n', '\xff', '"'};
    char value[6000];

    for (size_t kind = 0; kind < sizeof(fill); kind++) {
        /* Every alignment of the cut with what stands around it. */
        for (size_t len_bytes = 600; len_bytes < 4200; len_bytes += 7) {
            const char *line;
            size_t line_bytes;

            memset(value, fill[kind], len_bytes);
            value[len_bytes] = '\0';
            capture(MS_LOG_JSON, MS_LOG_INFO);
            ms_log(MS_LOG_INFO, "m", MS_F_STR("v", value), MS_F_U64("n", 123456789));
            line = read_line();
            line_bytes = strlen(line);
            cr_assert_leq(line_bytes, 4096);
            cr_assert_eq(line[line_bytes - 1], '\n');
            cr_assert(is_json_line(line), "%zu times %d: %s", len_bytes, fill[kind], line);
            cr_assert(strstr(line, "\"n\":123456789") != NULL ||
                          strstr(line, "\"truncated\":true") != NULL,
                      "%s", line);
            (void)close(log_end);
        }
    }
    capture(MS_LOG_TEXT, MS_LOG_INFO);
    memset(value, 'a', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    ms_log(MS_LOG_INFO, "m", MS_F_STR("v", value));
    cr_assert_not_null(strstr(read_line(), "aaa truncated=true\n"));
}

Test(log, a_message_alone_can_be_too_long)
{
    char value[6000];
    const char *line;

    memset(value, 'm', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    capture(MS_LOG_JSON, MS_LOG_INFO);
    ms_log(MS_LOG_INFO, value, MS_F_U64("n", 1));
    line = read_line();
    cr_assert_not_null(strstr(line, "mmm\",\"truncated\":true}\n"), "%s", line);
}

Test(log, lines_below_the_level_are_not_written)
{
    capture(MS_LOG_TEXT, MS_LOG_WARN);
    ms_log_plain(MS_LOG_INFO, "no");
    cr_assert_str_eq(read_line(), "");
    ms_log_plain(MS_LOG_WARN, "yes");
    cr_assert_str_neq(read_line(), "");
    ms_log_set_level(MS_LOG_DEBUG);
    cr_assert_eq(ms_log_get_level(), MS_LOG_DEBUG);
    ms_log_plain(MS_LOG_DEBUG, "now");
    cr_assert_str_neq(read_line(), "");
}

Test(log, level_names_can_be_parsed_back)
{
    enum ms_log_level level;

    for (int i = MS_LOG_DEBUG; i <= MS_LOG_ERROR; i++) {
        cr_assert_eq(ms_log_level_parse(ms_log_level_name((enum ms_log_level)i), &level), MS_OK);
        cr_assert_eq((int)level, i);
    }
    cr_assert_eq(ms_log_level_parse("loud", &level), MS_EINVAL);
    cr_assert_eq(ms_log_level_parse("", &level), MS_EINVAL);
    cr_assert_eq(level, MS_LOG_ERROR, "an error must leave *out alone");
}

Test(log, err_line_has_the_text_or_else_the_status)
{
    struct ms_err err;

    capture(MS_LOG_TEXT, MS_LOG_INFO);
    (void)ms_err_set(&err, MS_EIO, ENOENT, "open x");
    ms_log_err(MS_LOG_INFO, "failed", &err);
    cr_assert_str_eq(read_rest(), "msg=\"failed\" error=\"open x: No such file or directory\"\n");
    (void)ms_err_set(&err, MS_ETIMEDOUT, 0, "%s", "");
    ms_log_err(MS_LOG_INFO, "failed", &err);
    cr_assert_str_eq(read_rest(), "msg=\"failed\" error=\"timed out\"\n");
}

Test(log, errno_survives_a_line_that_cannot_be_written)
{
    capture(MS_LOG_TEXT, MS_LOG_INFO);
    (void)close(STDERR_FILENO);
    errno = ENOSPC;
    ms_log_plain(MS_LOG_INFO, "nobody reads this");
    cr_assert_eq(errno, ENOSPC);
}
