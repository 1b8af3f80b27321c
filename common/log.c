/*
 * log: builds one line on the stack and writes it with one system call.
 *
 * A line has a fixed room. What does not fit is cut between two characters, never inside an
 * escape, and the line then ends in truncated=true, so that both formats stay parseable whatever
 * a value holds. A line that cannot be written is lost: there is no other place to say so.
 */
#include "common/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

/* Not above PIPE_BUF: a pipe takes such a write whole, so lines of several writers do not mix. */
#define LINE_BYTES 4096

/* Kept back for what ends a cut line: a quote, the truncation mark, a brace, the newline. */
#define LINE_END_BYTES 32

#define CODE_POINT_INVALID UINT32_MAX

struct line {
    char bytes[LINE_BYTES];
    size_t used_bytes;
    bool cut;
    enum ms_log_format format;
};

/* The process has one log: set up by ms_log_init before the first thread, read ever after. */
static struct {
    const char *process;
    enum ms_log_format format;
    _Atomic int level;
} log_state = {.process = "metastore", .format = MS_LOG_TEXT, .level = MS_LOG_INFO};

void ms_log_init(const char *process, enum ms_log_format format, enum ms_log_level level)
{
    log_state.process = process;
    log_state.format = format;
    ms_log_set_level(level);
    /* The first conversion of a time may read files: now, not behind a sandbox. */
    tzset();
}

void ms_log_set_level(enum ms_log_level level)
{
    atomic_store_explicit(&log_state.level, (int)level, memory_order_relaxed);
}

enum ms_log_level ms_log_get_level(void)
{
    return (enum ms_log_level)atomic_load_explicit(&log_state.level, memory_order_relaxed);
}

const char *ms_log_level_name(enum ms_log_level level)
{
    switch (level) {
    case MS_LOG_DEBUG:
        return "debug";
    case MS_LOG_INFO:
        return "info";
    case MS_LOG_WARN:
        return "warn";
    case MS_LOG_ERROR:
        return "error";
    }
    return "unknown";
}

int ms_log_level_parse(const char *text, enum ms_log_level *out)
{
    for (int level = MS_LOG_DEBUG; level <= MS_LOG_ERROR; level++) {
        if (strcmp(text, ms_log_level_name((enum ms_log_level)level)) == 0) {
            *out = (enum ms_log_level)level;
            return MS_OK;
        }
    }
    return MS_EINVAL;
}

/* Adds all of it or, once anything did not fit, nothing: the rest would only confuse. */
static void put(struct line *line, const char *bytes, size_t len_bytes)
{
    if (line->cut || line->used_bytes + len_bytes + LINE_END_BYTES > sizeof(line->bytes)) {
        line->cut = true;
        return;
    }
    memcpy(line->bytes + line->used_bytes, bytes, len_bytes);
    line->used_bytes += len_bytes;
}

static void put_text(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* From the room kept back: what a cut line still needs. */
static void put_end(struct line *line, const char *text)
{
    size_t len_bytes = strlen(text);

    assert(len_bytes <= sizeof(line->bytes) - line->used_bytes);
    memcpy(line->bytes + line->used_bytes, text, len_bytes);
    line->used_bytes += len_bytes;
}

/*
 * The code point at text, which is not at its end, and its length in bytes. An invalid sequence
 * (RFC 3629: stray or missing continuation, overlong, surrogate, too large) is one byte long and
 * gives CODE_POINT_INVALID.
 */
static uint32_t next_code_point(const char *text, size_t *len_bytes)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *bytes = (const uint8_t *)text;
    size_t count;
    uint32_t point;

    *len_bytes = 1;
    if (bytes[0] < 0x80) {
        return bytes[0];
    }
    if ((bytes[0] & 0xe0) == 0xc0) {
        count = 2;
        point = bytes[0] & 0x1f;
    } else if ((bytes[0] & 0xf0) == 0xe0) {
        count = 3;
        point = bytes[0] & 0x0f;
    } else if ((bytes[0] & 0xf8) == 0xf0) {
        count = 4;
        point = bytes[0] & 0x07;
    } else {
        return CODE_POINT_INVALID;
    }
    for (size_t i = 1; i < count; i++) {
        if ((bytes[i] & 0xc0) != 0x80) { /* the final NUL too */
            return CODE_POINT_INVALID;
        }
        point = point << 6 | (bytes[i] & 0x3f);
    }
    if (point < smallest[count] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) {
        return CODE_POINT_INVALID;
    }
    *len_bytes = count;
    return point;
}

/* C0 and C1: what a terminal could take for a command. */
static bool is_control(uint32_t point)
{
    return point < 0x20 || (point >= 0x7f && point <= 0x9f);
}

static bool needs_quotes(const char *text)
{
    size_t len_bytes;

    if (*text == '\0') {
        return true;
    }
    for (; *text != '\0'; text += len_bytes) {
        uint32_t point = next_code_point(text, &len_bytes);

        if (point == ' ' || point == '"' || point == '=' || point == '\\' || is_control(point) ||
            point == CODE_POINT_INVALID) {
            return true;
        }
    }
    return false;
}

static void put_escaped(struct line *line, const char *text)
{
    size_t len_bytes;
    char escape[8];

    for (; *text != '\0' && !line->cut; text += len_bytes) {
        uint32_t point = next_code_point(text, &len_bytes);

        if (point == '"' || point == '\\') {
            (void)snprintf(escape, sizeof(escape), "\\%c", (char)point);
            put_text(line, escape);
        } else if (point == '\n') {
            put_text(line, "\\n");
        } else if (is_control(point)) {
            (void)snprintf(escape, sizeof(escape), "\\u%04" PRIx32, point);
            put_text(line, escape);
        } else if (point != CODE_POINT_INVALID) {
            put(line, text, len_bytes);
        } else if (line->format == MS_LOG_JSON) {
            put_text(line, "\\ufffd"); /* JSON has no way to hold the byte itself */
        } else {
            (void)snprintf(escape, sizeof(escape), "\\x%02x", (unsigned)(uint8_t)*text);
            put_text(line, escape);
        }
    }
}

static void put_quoted(struct line *line, const char *text)
{
    put_text(line, "\"");
    if (line->cut) {
        return;
    }
    put_escaped(line, text);
    put_end(line, "\"");
}

static void put_name(struct line *line, const char *name)
{
    if (line->format == MS_LOG_JSON) {
        put_text(line, line->used_bytes == 0 ? "{\"" : ",\"");
        put_text(line, name);
        put_text(line, "\":");
    } else {
        put_text(line, " ");
        put_text(line, name);
        put_text(line, "=");
    }
}

static void put_string(struct line *line, const char *value)
{
    if (value == NULL) {
        put_text(line, "null");
    } else if (line->format == MS_LOG_JSON || needs_quotes(value)) {
        put_quoted(line, value);
    } else {
        put_escaped(line, value); /* nothing in it needs an escape, but it may have to be cut */
    }
}

static void put_field(struct line *line, const struct ms_log_field *field)
{
    size_t before_bytes = line->used_bytes;
    size_t value_bytes;
    char number[24];

    put_name(line, field->name);
    value_bytes = line->used_bytes;
    switch (field->type) {
    case MS_LOG_FIELD_U64:
        (void)snprintf(number, sizeof(number), "%" PRIu64, field->value.u64);
        put_text(line, number);
        break;
    case MS_LOG_FIELD_I64:
        (void)snprintf(number, sizeof(number), "%" PRId64, field->value.i64);
        put_text(line, number);
        break;
    case MS_LOG_FIELD_STR:
        put_string(line, field->value.str);
        break;
    }
    if (line->cut && line->used_bytes == value_bytes) {
        line->used_bytes = before_bytes; /* a name without its value says nothing */
    }
}

static void put_head(struct line *line, enum ms_log_level level, const char *msg)
{
    uint64_t now_ms = ms_clock_wall_ms();
    time_t now_s = (time_t)(now_ms / 1000);
    size_t len_bytes;
    struct tm utc;
    char ts[40];

    (void)gmtime_r(&now_s, &utc);
    len_bytes = strftime(ts, sizeof(ts), "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(ts + len_bytes, sizeof(ts) - len_bytes, ".%03uZ", (unsigned)(now_ms % 1000));
    if (line->format == MS_LOG_JSON) {
        put_name(line, "ts");
        put_string(line, ts);
        put_name(line, "level");
        put_string(line, ms_log_level_name(level));
        put_name(line, "process");
        put_string(line, log_state.process);
    } else {
        put_text(line, ts);
        put_text(line, " ");
        put_text(line, ms_log_level_name(level));
        put_text(line, " ");
        put_text(line, log_state.process);
    }
    /* Quoted even if it is one word: whoever searches for a message need not know. */
    put_name(line, "msg");
    put_quoted(line, msg);
}

static void put_tail(struct line *line)
{
    bool json = line->format == MS_LOG_JSON;

    if (line->cut) {
        put_end(line, json ? ",\"truncated\":true" : " truncated=true");
    }
    put_end(line, json ? "}\n" : "\n");
}

void ms_log_write(enum ms_log_level level, const char *msg, const struct ms_log_field *fields,
                  size_t field_count)
{
    int saved_errno = errno;
    struct line line;
    ssize_t written;

    assert(field_count == 0 || fields != NULL);

    if (level < ms_log_get_level()) {
        return;
    }
    line.used_bytes = 0;
    line.cut = false;
    line.format = log_state.format;
    put_head(&line, level, msg);
    for (size_t i = 0; i < field_count; i++) {
        put_field(&line, &fields[i]);
    }
    put_tail(&line);
    do {
        written = write(STDERR_FILENO, line.bytes, line.used_bytes);
    } while (written < 0 && errno == EINTR);
    errno = saved_errno; /* callers log between a failed call and their look at errno */
}

void ms_log_err(enum ms_log_level level, const char *msg, const struct ms_err *err)
{
    const char *text = err->text[0] != '\0' ? err->text : ms_status_text(err->status);

    ms_log(level, msg, MS_F_STR("error", text));
}
