/*
 * framing: see framing.h.
 */
#include "apid/framing.h"

#include <string.h>
#include <strings.h>

/* Takes one line off the front, without its end; false when there is none. */
static bool next_line(const char **at, size_t *left, const char **line, size_t *line_bytes)
{
    const char *end = memchr(*at, '\n', *left);

    if (end == NULL) {
        return false;
    }
    *line = *at;
    *line_bytes = (size_t)(end - *at);
    *left -= *line_bytes + 1;
    *at = end + 1;
    if (*line_bytes > 0 && (*line)[*line_bytes - 1] == '\r') {
        (*line_bytes)--;
    }
    return true;
}

/* True if the header line has this name, which ends in a colon. */
static bool is_named(const char *line, size_t line_bytes, const char *name)
{
    size_t name_bytes = strlen(name);

    return line_bytes >= name_bytes && strncasecmp(line, name, name_bytes) == 0;
}

enum framing_defect framing_check(const char *head, size_t len_bytes, bool is_http_1_1)
{
    unsigned lengths = 0;
    unsigned encodings = 0;
    unsigned hosts = 0;
    const char *line;
    size_t line_bytes = 0;

    /* An empty line before the request line is skipped: RFC 9112 2.2. */
    if (!next_line(&head, &len_bytes, &line, &line_bytes) ||
        (line_bytes == 0 && !next_line(&head, &len_bytes, &line, &line_bytes))) {
        return FRAMING_SOUND;
    }
    while (next_line(&head, &len_bytes, &line, &line_bytes) && line_bytes > 0) {
        switch (line[0]) { /* most lines are none of these */
        case 'c':
        case 'C':
            lengths += is_named(line, line_bytes, "content-length:");
            break;
        case 't':
        case 'T':
            encodings += is_named(line, line_bytes, "transfer-encoding:");
            break;
        case 'h':
        case 'H':
            hosts += is_named(line, line_bytes, "host:");
            break;
        default:
            break;
        }
    }
    if (lengths + encodings > 1 || (encodings > 0 && !is_http_1_1)) {
        return FRAMING_LENGTH;
    }
    if (hosts > 1 || (hosts == 0 && is_http_1_1)) {
        return FRAMING_HOST;
    }
    return FRAMING_SOUND;
}
