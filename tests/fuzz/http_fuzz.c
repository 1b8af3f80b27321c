/*
 * Requests come from anybody: whatever the bytes, translation either refuses them with an error
 * that has an answer, or gives a request that keeps its promises.
 *
 * Input: method, target, If-Match, If-None-Match and body, one after the other, each ended by a
 * newline but the body. "-" stands for a header that is absent.
 */
#include <stdlib.h>
#include <string.h>

#include "apid/request.h"

#define BODY_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct request_text next_line(const char **at, size_t *left)
{
    const char *end = memchr(*at, '\n', *left);
    size_t len_bytes = end != NULL ? (size_t)(end - *at) : *left;
    struct request_text text = {.data = *at, .len_bytes = len_bytes};

    len_bytes += end != NULL;
    *at += len_bytes;
    *left -= len_bytes;
    return text;
}

static struct request_text next_header(const char **at, size_t *left)
{
    struct request_text text = next_line(at, left);

    return text.len_bytes == 1 && text.data[0] == '-' ? (struct request_text){NULL, 0} : text;
}

static void require(int holds)
{
    if (!holds) {
        abort();
    }
}

/* Reads every byte, so that a sanitizer sees one that is not there. */
static void touch(const uint8_t *data, size_t len_bytes)
{
    static volatile uint8_t sink;

    for (size_t i = 0; i < len_bytes; i++) {
        sink = data[i];
    }
    (void)sink;
}

static void check(const struct api_request *request)
{
    touch(request->key, request->key_bytes);
    touch(request->value, request->value_bytes);
    touch(request->after, request->after_bytes);
    require(request->key_bytes >= 1 && request->key_bytes <= MS_KEY_BYTES_MAX);
    require(request->key[0] == '/');
    require(request->value_bytes <= BODY_MAX);
    require(request->after_bytes <= MS_KEY_BYTES_MAX);
    if (request->kind == API_LIST) {
        require(request->limit >= 1 && request->limit <= REQUEST_LIST_LIMIT_MAX);
    }
    if (request->kind == API_PUT || request->kind == API_DELETE) {
        const struct ms_command command = {
            .kind = request->kind == API_PUT ? MS_COMMAND_PUT : MS_COMMAND_DELETE,
            .condition = request->condition,
            .revision = request->revision,
            .key = request->key,
            .key_bytes = request->key_bytes,
            .value = request->value,
            .value_bytes = request->value_bytes,
        };
        size_t len_bytes = ms_command_encoded_bytes(&command);
        uint8_t *encoded = malloc(len_bytes);
        struct ms_command decoded;

        require(encoded != NULL);
        ms_command_encode(&command, encoded);
        require(ms_command_decode(encoded, len_bytes, &decoded) == MS_OK);
        free(encoded);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *at = (const char *)data;
    size_t left = size;
    struct request_input input = {.framing = FRAMING_SOUND};
    struct api_request request;
    enum api_error error = API_ERROR_INTERNAL;
    uint8_t *scratch;

    (void)framing_check(at, left, true); /* as a head, which is a matter of its own */
    input.method = next_line(&at, &left);
    input.target = next_line(&at, &left);
    input.if_match = next_header(&at, &left);
    input.if_none_match = next_header(&at, &left);
    input.body = (struct request_text){.data = at, .len_bytes = left};

    scratch = malloc(request_scratch_bytes(&input));
    if (request_translate(&input, BODY_MAX, scratch, &request, &error) == MS_OK) {
        check(&request);
    } else {
        struct answer answer = answer_error(error);

        require(answer.status >= 400 && answer.body_bytes > 0);
        require(error != API_ERROR_INTERNAL);
    }
    free(scratch);
    return 0;
}
