/*
 * admin_command: from the bytes of an admin client to the words of a command.
 *
 * Input is cut into lines of bounded length, lines into words. Everything a client can send is
 * either a command line or refused; nothing here acts on it.
 */
#ifndef METASTORE_SUPERVISOR_ADMIN_COMMAND_H
#define METASTORE_SUPERVISOR_ADMIN_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

#define ADMIN_LINE_BYTES_MAX 4096
#define ADMIN_WORDS_MAX      16

/* Bytes received and not used yet. Zeroed at first. */
struct admin_input {
    char bytes[ADMIN_LINE_BYTES_MAX + 1];
    size_t used;
    size_t taken; /* of used: the line handed out last, dropped by the next call */
};

/* Where the next bytes belong; *room is 0 when a line is waiting that must be taken first. */
char *admin_input_space(struct admin_input *input, size_t *room);
void admin_input_added(struct admin_input *input, size_t len_bytes);

/*
 * The next whole line, without its end and NUL-terminated, valid until the next call.
 *
 *   MS_OK      *line, *len_bytes.
 *   MS_EAGAIN  more bytes are needed.
 *   MS_ERANGE  longer than a line may be: the connection is of no more use.
 */
int admin_input_line(struct admin_input *input, char **line, size_t *len_bytes);

/* At the end of input: what is left counts as a line, if it is not empty (else MS_EAGAIN). */
int admin_input_rest(struct admin_input *input, char **line, size_t *len_bytes);

struct admin_command {
    bool json; /* the word --json was there; it is not among the words */
    size_t word_count;
    const char *words[ADMIN_WORDS_MAX]; /* in the line */
};

/*
 * Splits a line (modified) at blanks. MS_EINVAL, with text for the client: unprintable bytes, no
 * word or too many.
 */
int admin_command_parse(char *line, size_t len_bytes, struct admin_command *out,
                        struct ms_err *err);

#endif
