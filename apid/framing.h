/*
 * framing: is it beyond doubt where an HTTP/1 request ends and for whom it is?
 *
 * libh2o takes the headers that say so for itself and, where they contradict each other, picks one.
 * A proxy in front may have picked another one, and what is the body of one request to the one is
 * the next request to the other (request smuggling, RFC 9112 11.2). So the head is looked through
 * once more here, and what could be read in two ways is refused. Pure: no h2o.
 */
#ifndef METASTORE_APID_FRAMING_H
#define METASTORE_APID_FRAMING_H

#include <stdbool.h>
#include <stddef.h>

enum framing_defect {
    FRAMING_SOUND,
    FRAMING_LENGTH, /* the length of the body is told twice, or in a way HTTP/1.0 does not have */
    FRAMING_HOST,   /* more than one Host, or none in HTTP/1.1 (RFC 9112 3.2) */
};

/*
 * Looks through a head that was parsed once already: the request line, header lines, an empty line.
 * What follows it in the len_bytes bytes is not looked at.
 */
enum framing_defect framing_check(const char *head, size_t len_bytes, bool is_http_1_1);

#endif
