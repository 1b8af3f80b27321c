/*
 * member_context: what travels with a change of the membership beyond what the core knows.
 *
 * The context of a conf-change entry, the same bytes on every node and in every log:
 *
 *   offset size (little-endian)
 *        0    1  format, MEMBER_CONTEXT_FORMAT
 *        1    1  zero
 *        2    2  length of the URL, 0: unchanged
 *        4    4  zero
 *        8    8  cluster id; only in founding entries, else 0
 *       16    8  origin of the request, 0: nobody waits for this change
 *       24    8  number of the request within its origin
 *       32    8  data id of the member, 0: unchanged
 *       40    .  peer URL, printable ASCII
 */
#ifndef METASTORE_RAFTD_MEMBER_CONTEXT_H
#define METASTORE_RAFTD_MEMBER_CONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include "common/status_page.h"

#define MEMBER_CONTEXT_FORMAT    1
#define MEMBER_CONTEXT_BYTES_MAX (40 + MS_PEER_URL_BYTES - 1)

/* Whose wish a change is: an apid's or a raftd's incarnation, and a number it uses once. */
struct member_request_id {
    uint64_t origin; /* 0: nobody's */
    uint64_t seq;
};

struct member_context {
    uint64_t cluster_id;
    struct member_request_id request;
    uint64_t data_id;
    char peer_url[MS_PEER_URL_BYTES]; /* "": unchanged */
};

/* Writes it to dst (MEMBER_CONTEXT_BYTES_MAX long). Returns the length. */
size_t member_context_encode(const struct member_context *context, uint8_t *dst);

/*
 * Reads the context of an entry; none at all (len_bytes 0) is one that says nothing. MS_ECORRUPT:
 * malformed, of another format, or bytes left over.
 */
int member_context_decode(const void *data, size_t len_bytes, struct member_context *out);

#endif
