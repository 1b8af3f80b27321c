/*
 * text: see text.h. The core may not use stdio, and needs so little that this is shorter than
 * any wrapper would be.
 */
#include "raftd/core/text.h"

#include <assert.h>
#include <stdarg.h>

void core_text_init(struct text *text, char *dst, size_t capacity)
{
    assert(capacity > 0);
    text->dst = dst;
    text->capacity = capacity;
    text->len = 0;
    dst[0] = '\0';
}

static void put_char(struct text *text, char c)
{
    if (text->len + 1 < text->capacity) {
        text->dst[text->len++] = c;
        text->dst[text->len] = '\0';
    }
}

void core_text_str(struct text *text, const char *str)
{
    while (*str != '\0') {
        put_char(text, *str++);
    }
}

static void put_number(struct text *text, uint64_t number, unsigned base)
{
    char digits[20]; /* 2^64 has twenty decimal digits */
    size_t count = 0;

    do {
        digits[count++] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number > 0);
    while (count > 0) {
        put_char(text, digits[--count]);
    }
}

void core_text_dec(struct text *text, uint64_t number)
{
    put_number(text, number, 10);
}

void core_text_hex(struct text *text, uint64_t number)
{
    put_number(text, number, 16);
}

void core_text_ids(struct text *text, const struct raft_ids *ids)
{
    put_char(text, '(');
    for (size_t i = 0; i < ids->count; i++) {
        if (i > 0) {
            put_char(text, ' ');
        }
        core_text_hex(text, ids->ids[i]);
    }
    put_char(text, ')');
}

void core_text_conf(struct text *text, const struct raft_conf_state *conf)
{
    core_text_str(text, "voters=");
    core_text_ids(text, &conf->voters);
    if (conf->voters_outgoing.count > 0) {
        core_text_str(text, "&&");
        core_text_ids(text, &conf->voters_outgoing);
    }
    if (conf->learners.count > 0) {
        core_text_str(text, " learners=");
        core_text_ids(text, &conf->learners);
    }
    if (conf->learners_next.count > 0) {
        core_text_str(text, " learners_next=");
        core_text_ids(text, &conf->learners_next);
    }
    if (conf->auto_leave) {
        core_text_str(text, " autoleave");
    }
}

/* Appends format; the compiler has checked the arguments against it (see core_logger_write). */
static void text_vformat(struct text *text, const char *format, va_list args)
{
    for (; *format != '\0'; format++) {
        if (*format != '%') {
            put_char(text, *format);
            continue;
        }
        format++;
        if (*format == 's') {
            core_text_str(text, va_arg(args, const char *));
        } else if (*format == 'l' && format[1] == 'u') {
            format++;
            core_text_dec(text, va_arg(args, uint64_t));
        } else if (*format == 'l' && format[1] == 'x') {
            format++;
            core_text_hex(text, va_arg(args, uint64_t));
        } else {
            assert(*format == '%');
            put_char(text, '%');
        }
    }
}

bool core_logger_on(const struct logger *logger, enum raft_log_level level)
{
    return logger->write != NULL && level >= logger->level;
}

void core_logger_write(const struct logger *logger, enum raft_log_level level, const char *format,
                       ...)
{
    char line[RAFT_LOG_LINE_MAX];
    struct text text;
    va_list args;

    if (!core_logger_on(logger, level)) {
        return;
    }
    core_text_init(&text, line, sizeof(line));
    va_start(args, format);
    text_vformat(&text, format, args);
    va_end(args);
    logger->write(logger->ctx, level, line);
}
