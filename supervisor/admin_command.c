/*
 * admin_command: see admin_command.h.
 */
#include "supervisor/admin_command.h"

#include <assert.h>
#include <string.h>

/* Drops the line handed out last. */
static void compact(struct admin_input *input)
{
    if (input->taken > 0) {
        memmove(input->bytes, input->bytes + input->taken, input->used - input->taken);
        input->used -= input->taken;
        input->taken = 0;
    }
}

char *admin_input_space(struct admin_input *input, size_t *room)
{
    compact(input);
    *room = ADMIN_LINE_BYTES_MAX - input->used;
    return input->bytes + input->used;
}

void admin_input_added(struct admin_input *input, size_t len_bytes)
{
    assert(input->taken == 0 && len_bytes <= ADMIN_LINE_BYTES_MAX - input->used);
    input->used += len_bytes;
}

int admin_input_line(struct admin_input *input, char **line, size_t *len_bytes)
{
    char *end;
    size_t len;

    compact(input);
    end = memchr(input->bytes, '\n', input->used);
    if (end == NULL) {
        return input->used == ADMIN_LINE_BYTES_MAX ? MS_ERANGE : MS_EAGAIN;
    }
    len = (size_t)(end - input->bytes);
    input->taken = len + 1;
    if (len > 0 && input->bytes[len - 1] == '\r') {
        len--;
    }
    input->bytes[len] = '\0';
    *line = input->bytes;
    *len_bytes = len;
    return MS_OK;
}

int admin_input_rest(struct admin_input *input, char **line, size_t *len_bytes)
{
    compact(input);
    if (input->used == 0) {
        return MS_EAGAIN;
    }
    input->taken = input->used;
    input->bytes[input->used] = '\0';
    *line = input->bytes;
    *len_bytes = input->used;
    return MS_OK;
}

int admin_command_parse(char *line, size_t len_bytes, struct admin_command *out, struct ms_err *err)
{
    struct admin_command command = {0};
    char *rest = line;
    char *word;

    for (size_t i = 0; i < len_bytes; i++) {
        unsigned char byte = (unsigned char)line[i];

        if ((byte < ' ' && byte != '\t') || byte > '~') {
            return ms_err_set(err, MS_EINVAL, 0, "a command is printable ASCII");
        }
    }
    while ((word = strsep(&rest, " \t")) != NULL) {
        if (word[0] == '\0') {
            continue;
        }
        if (strcmp(word, "--json") == 0) {
            command.json = true;
            continue;
        }
        if (command.word_count == ADMIN_WORDS_MAX) {
            return ms_err_set(err, MS_EINVAL, 0, "more than %d words", ADMIN_WORDS_MAX);
        }
        command.words[command.word_count++] = word;
    }
    if (command.word_count == 0) {
        return ms_err_set(err, MS_EINVAL, 0, "no command; try help");
    }
    *out = command;
    return MS_OK;
}
