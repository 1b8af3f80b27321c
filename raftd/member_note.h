/*
 * member_note: requests and answers about the membership, as notes between nodes.
 *
 *   MEMBER_REQUEST                              MEMBER_ANSWER
 *   offset size (little-endian)                 offset size (little-endian)
 *        0    1  format, MEMBER_NOTE_FORMAT          0    1  format, MEMBER_NOTE_FORMAT
 *        1    1  enum ms_member_operation            1    1  enum ms_member_code
 *        2    2  length of the URL                   2    2  length of the text
 *        4    4  attempt                             4    4  attempt
 *        8    8  origin of the request               8    8  origin of the request
 *       16    8  number within its origin           16    8  number within its origin
 *       24    8  term of the leader that is asked   24    8  index: OK once this is applied
 *       32    8  member                             32    .  text, printable ASCII
 *       40    .  peer URL, printable ASCII
 */
#ifndef METASTORE_RAFTD_MEMBER_NOTE_H
#define METASTORE_RAFTD_MEMBER_NOTE_H

#include <stddef.h>
#include <stdint.h>

#include "common/member_request.h"
#include "common/status_page.h"
#include "common/types.h"
#include "raftd/member_context.h"
#include "raftd/peers.h"

#define MEMBER_NOTE_FORMAT    1
#define MEMBER_NOTE_BYTES_MAX (40 + MS_PEER_URL_BYTES - 1)
_Static_assert(MEMBER_NOTE_BYTES_MAX <= PEERS_NOTE_BYTES_MAX, "a request fits into a note");
_Static_assert(32 + MS_MEMBER_TEXT_BYTES - 1 <= MEMBER_NOTE_BYTES_MAX, "so does an answer");

/* What somebody wants. */
struct member_wish {
    enum ms_member_operation operation;
    node_id id;
    char peer_url[MS_PEER_URL_BYTES]; /* "" where none is needed */
};

struct member_ask {
    struct member_request_id id;
    uint32_t attempt; /* the asker's; an answer counts only for the last one */
    raft_term term;
    struct member_wish wish;
};

struct member_reply {
    struct member_request_id id;
    uint32_t attempt;
    enum ms_member_code code;
    raft_index index;
    char text[MS_MEMBER_TEXT_BYTES];
};

/* Write to dst (MEMBER_NOTE_BYTES_MAX long). Return the length. */
size_t member_note_put_ask(const struct member_ask *ask, uint8_t *dst);
size_t member_note_put_reply(const struct member_reply *reply, uint8_t *dst);

/* MS_EPROTO: malformed, an unknown number, or bytes left over. */
int member_note_get_ask(const uint8_t *data, size_t len_bytes, struct member_ask *out);
int member_note_get_reply(const uint8_t *data, size_t len_bytes, struct member_reply *out);

/* Whether all bytes are printable ASCII; blanks only if allowed. */
bool member_note_is_text(const uint8_t *bytes, size_t len_bytes, bool blanks);

#endif
