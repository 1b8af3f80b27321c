/*
 * script: see script.h. The text is read once and cut up in place; only arrays are made anew.
 */
#include "tests/conformance/script.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "tests/conformance/buffer.h"

#define FILE_BYTES_MAX (64u << 20)

/* Everything a script owns, in one list. */
struct memory {
    struct memory *next;
    char bytes[];
};

struct parser {
    const char *path;
    char *at;
    size_t line; /* of at */
    struct memory *memory;
    char *error;
};

static void *take(struct parser *parser, size_t len_bytes)
{
    struct memory *memory = buffer_alloc(sizeof(*memory) + len_bytes);

    memory->next = parser->memory;
    parser->memory = memory;
    memset(memory->bytes, 0, len_bytes);
    return memory->bytes;
}

static char *copy(struct parser *parser, const char *text, size_t len)
{
    char *result = take(parser, len + 1);

    memcpy(result, text, len);
    return result;
}

static int fail(struct parser *parser, size_t line, const char *what)
{
    (void)snprintf(parser->error, SCRIPT_ERROR_BYTES, "%s:%zu: %s", parser->path, line, what);
    return MS_EINVAL;
}

static char *trim(char *text)
{
    size_t len;

    while (isspace((unsigned char)*text)) {
        text++;
    }
    len = strlen(text);
    while (len > 0 && isspace((unsigned char)text[len - 1])) {
        text[--len] = '\0';
    }
    return text;
}

/* The next line without its newline, cut off in place; NULL at the end of the file. */
static char *next_line(struct parser *parser)
{
    char *line = parser->at;
    char *end;

    if (*line == '\0') {
        return NULL;
    }
    end = strchr(line, '\n');
    if (end == NULL) {
        parser->at = line + strlen(line);
    } else {
        *end = '\0';
        parser->at = end + 1;
    }
    parser->line++;
    return line;
}

static bool is_blank(const char *line)
{
    while (isspace((unsigned char)*line)) {
        line++;
    }
    return *line == '\0';
}

/* ---- directives ---- */

/* The end of a list that starts after "(": the matching parenthesis, or NULL. */
static char *list_end(char *at)
{
    int depth = 1;

    for (; *at != '\0'; at++) {
        depth += *at == '(' ? 1 : *at == ')' ? -1 : 0;
        if (depth == 0) {
            return at;
        }
    }
    return NULL;
}

static void add_value(struct parser *parser, struct script_arg *arg, const char *text, size_t len)
{
    char **grown = take(parser, (arg->value_count + 1) * sizeof(*grown));

    if (arg->value_count > 0) {
        memcpy(grown, arg->values, arg->value_count * sizeof(*grown));
    }
    grown[arg->value_count++] = copy(parser, text, len);
    arg->values = grown;
}

/* Cuts "a, b" (without the parentheses around it) at its commas. */
static void parse_list(struct parser *parser, struct script_arg *arg, const char *at,
                       const char *end)
{
    while (at < end) {
        const char *start = at;
        int depth = 0;

        while (at < end && (*at != ',' || depth > 0)) {
            depth += *at == '(' ? 1 : *at == ')' ? -1 : 0;
            at++;
        }
        add_value(parser, arg, start, (size_t)(at - start));
        if (at == end) {
            return;
        }
        at++;
        while (at < end && *at == ' ') {
            at++;
        }
        if (at == end) {
            add_value(parser, arg, at, 0); /* a trailing comma: one more, empty */
        }
    }
}

static int parse_arg(struct parser *parser, size_t line, char **text, struct script_arg *arg)
{
    char *at = *text;
    size_t len = strcspn(at, " =");

    if (len == 0) {
        return fail(parser, line, "argument without a name");
    }
    arg->key = copy(parser, at, len);
    at += len;
    if (*at == '=') {
        at++;
        arg->has_values = true;
        if (*at == '(') {
            char *end = list_end(at + 1);

            if (end == NULL) {
                return fail(parser, line, "unclosed parenthesis");
            }
            parse_list(parser, arg, at + 1, end);
            at = end + 1;
            if (*at != '\0' && *at != ' ') {
                return fail(parser, line, "text after a closing parenthesis");
            }
        } else {
            len = strcspn(at, " ");
            add_value(parser, arg, at, len);
            at += len;
        }
    }
    *text = at;
    return MS_OK;
}

static int parse_directive(struct parser *parser, struct script_step *step)
{
    char *at = step->directive;
    size_t len = strcspn(at, " \t");

    step->command = copy(parser, at, len);
    at += len;
    for (;;) {
        struct script_arg *grown;
        int rc;

        while (*at == ' ' || *at == '\t') {
            at++;
        }
        if (*at == '\0') {
            return MS_OK;
        }
        grown = take(parser, (step->arg_count + 1) * sizeof(*grown));
        if (step->arg_count > 0) {
            memcpy(grown, step->args, step->arg_count * sizeof(*grown));
        }
        step->args = grown;
        rc = parse_arg(parser, step->line, &at, &step->args[step->arg_count]);
        if (rc != MS_OK) {
            return rc;
        }
        step->arg_count++;
    }
}

/* Joins lines that end in a backslash. */
static char *read_directive(struct parser *parser, char *first)
{
    struct buffer text = {0};
    char *line = trim(first);
    char *result;
    size_t len;

    for (;;) {
        len = strlen(line);
        if (len == 0 || line[len - 1] != '\\') {
            buffer_add(&text, "%s", line);
            break;
        }
        buffer_add_bytes(&text, line, len - 1);
        buffer_add(&text, " ");
        line = next_line(parser);
        if (line == NULL) {
            break;
        }
        line = trim(line);
    }
    result = copy(parser, buffer_text(&text), text.len);
    buffer_fini(&text);
    return trim(result);
}

/* ---- steps ---- */

static int read_input(struct parser *parser, struct script_step *step)
{
    struct buffer input = {0};
    char *line;

    while ((line = next_line(parser)) != NULL && strcmp(line, "----") != 0) {
        buffer_add(&input, "%s\n", line);
    }
    step->input = trim(copy(parser, buffer_text(&input), input.len));
    buffer_fini(&input);
    return line != NULL ? MS_OK : fail(parser, step->line, "no ---- after this directive");
}

/* Output with blank lines, between two pairs of separators. */
static int read_framed(struct parser *parser, struct buffer *expected, size_t start)
{
    bool separator = false;
    char *line;

    while ((line = next_line(parser)) != NULL) {
        bool is_separator = strcmp(line, "----") == 0;

        if (is_separator && separator) {
            return MS_OK;
        }
        if (separator) {
            buffer_add(expected, "----\n");
        }
        if (!is_separator) {
            buffer_add(expected, "%s\n", line);
        }
        separator = is_separator;
    }
    return fail(parser, start, "output with blank lines does not end in two lines ----");
}

static int read_expected(struct parser *parser, struct script_step *step)
{
    struct buffer expected = {0};
    char *line = next_line(parser);
    int rc = MS_OK;

    if (line != NULL && strcmp(line, "----") == 0) {
        rc = read_framed(parser, &expected, step->line);
    } else {
        for (; line != NULL && !is_blank(line); line = next_line(parser)) {
            buffer_add(&expected, "%s\n", line);
        }
    }
    step->expected = copy(parser, buffer_text(&expected), expected.len);
    buffer_fini(&expected);
    return rc;
}

static int parse(struct parser *parser, struct script *script)
{
    size_t capacity = 0;
    char *line;

    while ((line = next_line(parser)) != NULL) {
        struct script_step *step;
        int rc;

        if (is_blank(line) || *trim(line) == '#') {
            continue;
        }
        if (script->count == capacity) {
            struct script_step *grown;

            capacity = capacity == 0 ? 64 : 2 * capacity;
            grown = take(parser, capacity * sizeof(*grown));
            if (script->count > 0) {
                memcpy(grown, script->steps, script->count * sizeof(*grown));
            }
            script->steps = grown;
        }
        step = &script->steps[script->count++];
        step->line = parser->line;
        step->directive = read_directive(parser, line);
        if (strcmp(step->directive, "----") == 0) {
            return fail(parser, step->line, "---- without a directive before it");
        }
        rc = parse_directive(parser, step);
        if (rc == MS_OK) {
            rc = read_input(parser, step);
        }
        if (rc == MS_OK) {
            rc = read_expected(parser, step);
        }
        if (rc != MS_OK) {
            return rc;
        }
    }
    return MS_OK;
}

static int read_file(struct parser *parser, FILE *file)
{
    struct buffer text = {0};
    char chunk[16384];
    size_t got;
    int rc = MS_OK;

    while ((got = fread(chunk, 1, sizeof(chunk), file)) > 0 && text.len <= FILE_BYTES_MAX) {
        buffer_add_bytes(&text, chunk, got);
    }
    if (ferror(file) != 0) {
        (void)snprintf(parser->error, SCRIPT_ERROR_BYTES, "%s: %s", parser->path, strerror(errno));
        rc = MS_EIO;
    } else if (text.len > FILE_BYTES_MAX) {
        rc = fail(parser, 1, "the file is too long");
    } else if (text.len > 0 && memchr(text.text, '\0', text.len) != NULL) {
        rc = fail(parser, 1, "the file is not text");
    } else {
        parser->at = copy(parser, buffer_text(&text), text.len);
    }
    buffer_fini(&text);
    return rc;
}

int script_read(const char *path, struct script *out, char *error)
{
    struct parser parser = {.path = path, .error = error};
    FILE *file = fopen(path, "re");
    int rc;

    *out = (struct script){.path = path};
    if (file == NULL) {
        (void)snprintf(error, SCRIPT_ERROR_BYTES, "%s: %s", path, strerror(errno));
        return MS_EIO;
    }
    rc = read_file(&parser, file);
    (void)fclose(file);
    if (rc == MS_OK) {
        rc = parse(&parser, out);
    }
    out->memory = parser.memory;
    if (rc != MS_OK) {
        script_fini(out);
    }
    return rc;
}

void script_fini(struct script *script)
{
    struct memory *memory = script->memory;

    while (memory != NULL) {
        struct memory *next = memory->next;

        free(memory);
        memory = next;
    }
    *script = (struct script){0};
}

/* ---- values ---- */

const struct script_arg *script_find(const struct script_step *step, const char *key)
{
    for (size_t i = 0; i < step->arg_count; i++) {
        if (strcmp(step->args[i].key, key) == 0) {
            return &step->args[i];
        }
    }
    return NULL;
}

bool script_number(const char *text, uint64_t *number)
{
    uint64_t result = 0;

    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || __builtin_mul_overflow(result, (uint64_t)10, &result) ||
            __builtin_add_overflow(result, (uint64_t)(*text - '0'), &result)) {
            return false;
        }
    }
    *number = result;
    return true;
}

bool script_bool(const char *text, bool *value)
{
    static const char *const spellings[2][6] = {
        {"0", "f", "F", "false", "FALSE", "False"},
        {"1", "t", "T", "true", "TRUE", "True"},
    };

    for (size_t i = 0; i < 6; i++) {
        for (int v = 0; v < 2; v++) {
            if (strcmp(text, spellings[v][i]) == 0) {
                *value = v == 1;
                return true;
            }
        }
    }
    return false;
}
