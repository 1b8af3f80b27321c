/*
 * member_note: see member_note.h.
 */
#include "raftd/member_note.h"

#include <assert.h>
#include <string.h>

#include "common/err.h"
#include "common/le.h"

/* Offsets; the first five fields lie alike in both. */
#define FORMAT_AT    0
#define NUMBER_AT    1
#define LENGTH_AT    2
#define ATTEMPT_AT   4
#define ORIGIN_AT    8
#define SEQ_AT       16
#define ASK_TERM_AT  24
#define ASK_ID_AT    32
#define ASK_URL_AT   40
#define REPLY_IDX_AT 24
#define REPLY_TXT_AT 32

static void put_head(uint8_t *dst, uint8_t number, size_t length, uint32_t attempt,
                     struct member_request_id id)
{
    dst[FORMAT_AT] = MEMBER_NOTE_FORMAT;
    dst[NUMBER_AT] = number;
    ms_le_put_u16(dst + LENGTH_AT, (uint16_t)length);
    ms_le_put_u32(dst + ATTEMPT_AT, attempt);
    ms_le_put_u64(dst + ORIGIN_AT, id.origin);
    ms_le_put_u64(dst + SEQ_AT, id.seq);
}

size_t member_note_put_ask(const struct member_ask *ask, uint8_t *dst)
{
    size_t url_bytes = strlen(ask->wish.peer_url);

    assert(url_bytes < sizeof(ask->wish.peer_url));
    put_head(dst, (uint8_t)ask->wish.operation, url_bytes, ask->attempt, ask->id);
    ms_le_put_u64(dst + ASK_TERM_AT, ask->term);
    ms_le_put_u64(dst + ASK_ID_AT, ask->wish.id);
    memcpy(dst + ASK_URL_AT, ask->wish.peer_url, url_bytes);
    return ASK_URL_AT + url_bytes;
}

size_t member_note_put_reply(const struct member_reply *reply, uint8_t *dst)
{
    size_t text_bytes = strlen(reply->text);

    assert(text_bytes < sizeof(reply->text));
    put_head(dst, (uint8_t)reply->code, text_bytes, reply->attempt, reply->id);
    ms_le_put_u64(dst + REPLY_IDX_AT, reply->index);
    memcpy(dst + REPLY_TXT_AT, reply->text, text_bytes);
    return REPLY_TXT_AT + text_bytes;
}

bool member_note_is_text(const uint8_t *bytes, size_t len_bytes, bool blanks)
{
    for (size_t i = 0; i < len_bytes; i++) {
        if (bytes[i] < ' ' || bytes[i] > '~' || (bytes[i] == ' ' && !blanks)) {
            return false;
        }
    }
    return true;
}

int member_note_get_ask(const uint8_t *data, size_t len_bytes, struct member_ask *out)
{
    size_t url_bytes;

    if (len_bytes < ASK_URL_AT || data[FORMAT_AT] != MEMBER_NOTE_FORMAT ||
        data[NUMBER_AT] < MS_MEMBER_ADD_VOTER || data[NUMBER_AT] > MS_MEMBER_TRANSFER) {
        return MS_EPROTO;
    }
    url_bytes = ms_le_get_u16(data + LENGTH_AT);
    if (url_bytes >= sizeof(out->wish.peer_url) || len_bytes != ASK_URL_AT + url_bytes ||
        !member_note_is_text(data + ASK_URL_AT, url_bytes, false)) {
        return MS_EPROTO;
    }
    *out = (struct member_ask){
        .id = {.origin = ms_le_get_u64(data + ORIGIN_AT), .seq = ms_le_get_u64(data + SEQ_AT)},
        .attempt = ms_le_get_u32(data + ATTEMPT_AT),
        .term = ms_le_get_u64(data + ASK_TERM_AT),
        .wish = {.operation = (enum ms_member_operation)data[NUMBER_AT],
                 .id = ms_le_get_u64(data + ASK_ID_AT)},
    };
    memcpy(out->wish.peer_url, data + ASK_URL_AT, url_bytes);
    return MS_OK;
}

int member_note_get_reply(const uint8_t *data, size_t len_bytes, struct member_reply *out)
{
    size_t text_bytes;

    if (len_bytes < REPLY_TXT_AT || data[FORMAT_AT] != MEMBER_NOTE_FORMAT ||
        data[NUMBER_AT] > MS_MEMBER_UNKNOWN) {
        return MS_EPROTO;
    }
    text_bytes = ms_le_get_u16(data + LENGTH_AT);
    if (text_bytes >= sizeof(out->text) || len_bytes != REPLY_TXT_AT + text_bytes ||
        !member_note_is_text(data + REPLY_TXT_AT, text_bytes, true)) {
        return MS_EPROTO;
    }
    *out = (struct member_reply){
        .id = {.origin = ms_le_get_u64(data + ORIGIN_AT), .seq = ms_le_get_u64(data + SEQ_AT)},
        .attempt = ms_le_get_u32(data + ATTEMPT_AT),
        .code = (enum ms_member_code)data[NUMBER_AT],
        .index = ms_le_get_u64(data + REPLY_IDX_AT),
    };
    memcpy(out->text, data + REPLY_TXT_AT, text_bytes);
    return MS_OK;
}
