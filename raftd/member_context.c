/*
 * member_context: see member_context.h.
 */
#include "raftd/member_context.h"

#include <assert.h>
#include <string.h>

#include "common/err.h"
#include "common/le.h"
#include "raftd/member_note.h"

/* Offsets of the fixed part. */
#define FORMAT_AT     0
#define ZERO_AT       1
#define URL_LENGTH_AT 2
#define ZEROS_AT      4
#define CLUSTER_ID_AT 8
#define ORIGIN_AT     16
#define SEQ_AT        24
#define DATA_ID_AT    32
#define URL_AT        40

size_t member_context_encode(const struct member_context *context, uint8_t *dst)
{
    size_t url_bytes = strlen(context->peer_url);

    assert(url_bytes < sizeof(context->peer_url));
    memset(dst, 0, URL_AT);
    dst[FORMAT_AT] = MEMBER_CONTEXT_FORMAT;
    ms_le_put_u16(dst + URL_LENGTH_AT, (uint16_t)url_bytes);
    ms_le_put_u64(dst + CLUSTER_ID_AT, context->cluster_id);
    ms_le_put_u64(dst + ORIGIN_AT, context->request.origin);
    ms_le_put_u64(dst + SEQ_AT, context->request.seq);
    ms_le_put_u64(dst + DATA_ID_AT, context->data_id);
    memcpy(dst + URL_AT, context->peer_url, url_bytes);
    return URL_AT + url_bytes;
}

int member_context_decode(const void *data, size_t len_bytes, struct member_context *out)
{
    const uint8_t *bytes = data;
    size_t url_bytes;

    if (len_bytes == 0) {
        *out = (struct member_context){0};
        return MS_OK;
    }
    if (len_bytes < URL_AT || bytes[FORMAT_AT] != MEMBER_CONTEXT_FORMAT || bytes[ZERO_AT] != 0 ||
        ms_le_get_u32(bytes + ZEROS_AT) != 0) {
        return MS_ECORRUPT;
    }
    url_bytes = ms_le_get_u16(bytes + URL_LENGTH_AT);
    if (url_bytes >= sizeof(out->peer_url) || len_bytes != URL_AT + url_bytes ||
        !member_note_is_text(bytes + URL_AT, url_bytes, false)) {
        return MS_ECORRUPT;
    }
    *out = (struct member_context){
        .cluster_id = ms_le_get_u64(bytes + CLUSTER_ID_AT),
        .request = {.origin = ms_le_get_u64(bytes + ORIGIN_AT),
                    .seq = ms_le_get_u64(bytes + SEQ_AT)},
        .data_id = ms_le_get_u64(bytes + DATA_ID_AT),
    };
    memcpy(out->peer_url, bytes + URL_AT, url_bytes);
    return MS_OK;
}
