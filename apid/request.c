/*
 * request: the translation. See request.h.
 *
 * A key is the percent-decoded path with its leading slash, byte for byte: dot segments, repeated
 * slashes and %2F are part of it, and '+' is a plus sign.
 */
#include "apid/request.h"

#include <string.h>

#include "common/decimal.h"
#include "common/peer_url.h"

#define STARTS_WITH(data, len, literal) \
    ((len) >= sizeof(literal) - 1 && memcmp((data), (literal), sizeof(literal) - 1) == 0)
#define EQUALS(data, len, literal) \
    ((len) == sizeof(literal) - 1 && memcmp((data), (literal), sizeof(literal) - 1) == 0)

enum method {
    METHOD_GET,
    METHOD_HEAD,
    METHOD_PUT,
    METHOD_DELETE,
    METHOD_POST,
    METHOD_OTHER,
};

static const struct {
    const char *path;
    enum api_kind kind;
} pages[] = {
    {"/health", API_HEALTH},   {"/livez", API_LIVEZ},     {"/readyz", API_READYZ},
    {"/metrics", API_METRICS}, {"/version", API_VERSION},
};

/* What the query said. */
struct query {
    bool prefix;
    bool serializable;
    uint32_t limit;
    const uint8_t *after;
    size_t after_bytes;
};

static enum method method_of(const struct request_text *text)
{
    if (EQUALS(text->data, text->len_bytes, "GET")) {
        return METHOD_GET;
    }
    if (EQUALS(text->data, text->len_bytes, "PUT")) {
        return METHOD_PUT;
    }
    if (EQUALS(text->data, text->len_bytes, "DELETE")) {
        return METHOD_DELETE;
    }
    if (EQUALS(text->data, text->len_bytes, "HEAD")) {
        return METHOD_HEAD;
    }
    if (EQUALS(text->data, text->len_bytes, "POST")) {
        return METHOD_POST;
    }
    return METHOD_OTHER;
}

static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    if (digit >= 'A' && digit <= 'F') {
        return digit - 'A' + 10;
    }
    return -1;
}

/*
 * Decodes percent escapes. *out points into the source when there are none; otherwise the result
 * goes to *scratch, which is moved on. MS_EINVAL: a malformed escape.
 */
static int percent_decode(const char *src, size_t src_bytes, uint8_t **scratch, const uint8_t **out,
                          size_t *out_bytes)
{
    uint8_t *dst = *scratch;
    size_t len_bytes = 0;

    if (memchr(src, '%', src_bytes) == NULL) {
        *out = (const uint8_t *)src;
        *out_bytes = src_bytes;
        return MS_OK;
    }
    for (size_t i = 0; i < src_bytes; i++) {
        int high;
        int low;

        if (src[i] != '%') {
            dst[len_bytes++] = (uint8_t)src[i];
            continue;
        }
        if (src_bytes - i < 3) {
            return MS_EINVAL;
        }
        high = hex_value(src[i + 1]);
        low = hex_value(src[i + 2]);
        if (high < 0 || low < 0) {
            return MS_EINVAL;
        }
        dst[len_bytes++] = (uint8_t)(high * 16 + low);
        i += 2;
    }
    *out = dst;
    *out_bytes = len_bytes;
    *scratch = dst + len_bytes;
    return MS_OK;
}

static int parse_limit(const char *text, size_t len_bytes, uint32_t *out)
{
    uint64_t limit;

    if (!ms_decimal_parse(text, len_bytes, &limit) || limit == 0) {
        return MS_EINVAL;
    }
    *out = (uint32_t)(limit < REQUEST_LIST_LIMIT_MAX ? limit : REQUEST_LIST_LIMIT_MAX);
    return MS_OK;
}

/* One name=value of the query. Names that are not ours are other people's business. */
static int parse_parameter(const char *text, size_t len_bytes, uint8_t **scratch,
                           struct query *query, enum api_error *error)
{
    const char *equals = memchr(text, '=', len_bytes);
    size_t name_bytes = equals != NULL ? (size_t)(equals - text) : len_bytes;
    const char *value = equals != NULL ? equals + 1 : text + len_bytes;
    size_t value_bytes = len_bytes - (size_t)(value - text);

    if (EQUALS(text, name_bytes, "consistency")) {
        query->serializable = EQUALS(value, value_bytes, "serializable");
        if (!query->serializable && !EQUALS(value, value_bytes, "linearizable")) {
            *error = API_ERROR_BAD_CONSISTENCY;
            return MS_EINVAL;
        }
    } else if (EQUALS(text, name_bytes, "prefix")) {
        query->prefix = EQUALS(value, value_bytes, "true");
        if (!query->prefix && !EQUALS(value, value_bytes, "false")) {
            *error = API_ERROR_BAD_PREFIX;
            return MS_EINVAL;
        }
    } else if (EQUALS(text, name_bytes, "limit")) {
        if (parse_limit(value, value_bytes, &query->limit) != MS_OK) {
            *error = API_ERROR_BAD_LIMIT;
            return MS_EINVAL;
        }
    } else if (EQUALS(text, name_bytes, "after")) {
        if (percent_decode(value, value_bytes, scratch, &query->after, &query->after_bytes) !=
            MS_OK) {
            *error = API_ERROR_BAD_PERCENT;
            return MS_EINVAL;
        }
        if (query->after_bytes > MS_KEY_BYTES_MAX) {
            *error = API_ERROR_KEY_TOO_LONG;
            return MS_EINVAL;
        }
    }
    return MS_OK;
}

static int parse_query(const char *text, size_t len_bytes, uint8_t **scratch, struct query *query,
                       enum api_error *error)
{
    while (len_bytes > 0) {
        const char *amp = memchr(text, '&', len_bytes);
        size_t part_bytes = amp != NULL ? (size_t)(amp - text) : len_bytes;
        int rc = parse_parameter(text, part_bytes, scratch, query, error);

        if (rc != MS_OK) {
            return rc;
        }
        part_bytes += amp != NULL;
        text += part_bytes;
        len_bytes -= part_bytes;
    }
    return MS_OK;
}

/* "revision" in double quotes, as we write it: tags are compared octet by octet. */
static bool parse_etag(const char *text, size_t len_bytes, uint64_t *out)
{
    return len_bytes > 2 && text[0] == '"' && text[len_bytes - 1] == '"' && text[1] != '0' &&
           ms_decimal_parse(text + 1, len_bytes - 2, out);
}

/* RFC 9110 13.1.1. A list of tags would be legal there; one revision is all that makes sense. */
static int parse_if_match(const struct request_input *input, struct api_request *out,
                          enum api_error *error)
{
    const struct request_text *text = &input->if_match;

    if (input->if_match_repeated) {
        *error = API_ERROR_BAD_IF_MATCH;
        return MS_EINVAL;
    }
    if (EQUALS(text->data, text->len_bytes, "*")) {
        out->condition = MS_CONDITION_PRESENT;
        return MS_OK;
    }
    if (!parse_etag(text->data, text->len_bytes, &out->revision)) {
        *error = API_ERROR_BAD_IF_MATCH;
        return MS_EINVAL;
    }
    out->condition = MS_CONDITION_MOD_REVISION;
    return MS_OK;
}

static int parse_write_conditions(const struct request_input *input, struct api_request *out,
                                  enum api_error *error)
{
    if (input->if_none_match.data == NULL) {
        return input->if_match.data == NULL ? MS_OK : parse_if_match(input, out, error);
    }
    if (input->if_match.data != NULL) {
        *error = API_ERROR_TWO_CONDITIONS;
        return MS_EINVAL;
    }
    if (input->if_none_match_repeated ||
        !EQUALS(input->if_none_match.data, input->if_none_match.len_bytes, "*")) {
        *error = API_ERROR_BAD_IF_NONE_MATCH;
        return MS_EINVAL;
    }
    out->condition = MS_CONDITION_ABSENT;
    return MS_OK;
}

/*
 * For a read, an If-None-Match that we cannot understand (a list among them) never matches: the
 * value is sent, which is always right.
 */
static int parse_read_conditions(const struct request_input *input, struct api_request *out,
                                 enum api_error *error)
{
    const char *tag = input->if_none_match.data;
    size_t tag_bytes = input->if_none_match.len_bytes;

    if (tag != NULL && !input->if_none_match_repeated) {
        out->unless_any = EQUALS(tag, tag_bytes, "*");
        if (STARTS_WITH(tag, tag_bytes, "W/")) { /* weak comparison: RFC 9110 13.1.2 */
            tag += 2;
            tag_bytes -= 2;
        }
        if (!parse_etag(tag, tag_bytes, &out->unless_revision)) {
            out->unless_revision = 0;
        }
    }
    return input->if_match.data == NULL ? MS_OK : parse_if_match(input, out, error);
}

/*
 * Takes "http://host" off a target in absolute form, which a server must accept (RFC 9112 3.2.2).
 * Whose name the host is, is no concern of a store with one name space.
 */
static struct request_text origin_form(const struct request_text *target)
{
    struct request_text rest = *target;
    size_t scheme_bytes = 0;
    const char *slash;

    if (STARTS_WITH(target->data, target->len_bytes, "http://")) {
        scheme_bytes = strlen("http://");
    } else if (STARTS_WITH(target->data, target->len_bytes, "https://")) {
        scheme_bytes = strlen("https://");
    }
    if (scheme_bytes == 0) {
        return rest;
    }
    slash = memchr(target->data + scheme_bytes, '/', target->len_bytes - scheme_bytes);
    rest.data = slash != NULL ? slash : "/";
    rest.len_bytes = slash != NULL ? target->len_bytes - (size_t)(slash - target->data) : 1;
    return rest;
}

/* The part of the target that is the path, and the query behind it. */
static void split_target(const struct request_text *target, size_t *path_bytes, const char **query,
                         size_t *query_bytes)
{
    const char *mark = memchr(target->data, '?', target->len_bytes);

    *path_bytes = mark != NULL ? (size_t)(mark - target->data) : target->len_bytes;
    *query = mark != NULL ? mark + 1 : NULL;
    *query_bytes = mark != NULL ? target->len_bytes - *path_bytes - 1 : 0;
}

static bool is_page(const struct api_request *request, enum api_kind *kind)
{
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        if (request->key_bytes == strlen(pages[i].path) &&
            memcmp(request->key, pages[i].path, request->key_bytes) == 0) {
            *kind = pages[i].kind;
            return true;
        }
    }
    return false;
}

/* Names that belong to other interfaces of the node. */
static bool is_reserved(const uint8_t *key, size_t key_bytes)
{
    return STARTS_WITH(key, key_bytes, "/v3/") || STARTS_WITH(key, key_bytes, "/ui/");
}

/* "/" and decimal digits: to POST and DELETE that is a member, whatever the number. */
static bool names_member(const uint8_t *key, size_t key_bytes)
{
    if (key_bytes < 2) {
        return false;
    }
    for (size_t i = 1; i < key_bytes; i++) {
        if (key[i] < '0' || key[i] > '9') {
            return false;
        }
    }
    return true;
}

static int refuse(enum api_error *error, enum api_error reason)
{
    *error = reason;
    return MS_EINVAL;
}

static int translate_read(const struct request_input *input, const struct query *query,
                          struct api_request *out, enum api_error *error)
{
    out->serializable = query->serializable;
    if (query->prefix) {
        out->kind = API_LIST;
        out->limit = query->limit;
        out->after = query->after;
        out->after_bytes = query->after_bytes;
        return MS_OK;
    }
    if (out->key_bytes < 2) {
        return refuse(error, API_ERROR_EMPTY_KEY);
    }
    out->kind = API_GET;
    return parse_read_conditions(input, out, error);
}

static int translate_write(const struct request_input *input, enum api_kind kind, size_t body_max,
                           struct api_request *out, enum api_error *error)
{
    if (out->key_bytes < 2) {
        return refuse(error, API_ERROR_EMPTY_KEY);
    }
    out->kind = kind;
    if (kind == API_PUT) {
        if (input->body.len_bytes > body_max) {
            return refuse(error, API_ERROR_TOO_LARGE);
        }
        out->value = (const uint8_t *)input->body.data;
        out->value_bytes = input->body.len_bytes;
    }
    return parse_write_conditions(input, out, error);
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* The body is a peer URL; blanks around it, such as an end of line, are not part of it. */
static int translate_member_url(const struct request_text *body, struct api_request *out,
                                enum api_error *error)
{
    const char *text = body->data;
    size_t len_bytes = body->len_bytes;
    struct ms_peer_url url;

    while (len_bytes > 0 && is_blank(text[len_bytes - 1])) {
        len_bytes--;
    }
    while (len_bytes > 0 && is_blank(text[0])) {
        text++;
        len_bytes--;
    }
    if (len_bytes == 0 || ms_peer_url_parse(text, len_bytes, &url) != MS_OK) {
        return refuse(error, API_ERROR_BAD_MEMBER_URL);
    }
    out->peer_url = text;
    out->peer_url_bytes = strlen(url.text); /* a slash at the end is left out */
    return MS_OK;
}

static int translate_member(const struct request_input *input, enum method method,
                            struct api_request *out, enum api_error *error)
{
    uint64_t id;

    if (!ms_decimal_parse((const char *)out->key + 1, out->key_bytes - 1, &id) || id == 0 ||
        id > INT64_MAX) {
        return refuse(error, API_ERROR_BAD_MEMBER_ID);
    }
    out->member = id;
    if (method == METHOD_DELETE) {
        out->kind = API_MEMBER_REMOVE;
        return MS_OK;
    }
    out->kind = API_MEMBER_ADD;
    return translate_member_url(&input->body, out, error);
}

size_t request_scratch_bytes(const struct request_input *input)
{
    const struct request_text *target = &input->target;

    return memchr(target->data, '%', target->len_bytes) != NULL ? target->len_bytes : 0;
}

int request_translate(const struct request_input *input, size_t body_max, uint8_t *scratch,
                      struct api_request *out, enum api_error *error)
{
    struct api_request request = {.kind = API_GET};
    struct query query = {.limit = REQUEST_LIST_LIMIT_DEFAULT};
    enum method method = method_of(&input->method);
    const struct request_text target = origin_form(&input->target);
    const char *query_text;
    size_t path_bytes;
    size_t query_bytes;
    int rc;

    if (input->framing != FRAMING_SOUND) {
        return refuse(error,
                      input->framing == FRAMING_HOST ? API_ERROR_BAD_HOST : API_ERROR_BAD_FRAMING);
    }
    if (target.len_bytes == 0 || target.data[0] != '/') {
        return refuse(error, API_ERROR_BAD_PATH);
    }
    split_target(&target, &path_bytes, &query_text, &query_bytes);
    if (percent_decode(target.data, path_bytes, &scratch, &request.key, &request.key_bytes) !=
        MS_OK) {
        return refuse(error, API_ERROR_BAD_PERCENT);
    }
    if (request.key_bytes > MS_KEY_BYTES_MAX) {
        return refuse(error, API_ERROR_KEY_TOO_LONG);
    }
    if (query_bytes > 0) {
        rc = parse_query(query_text, query_bytes, &scratch, &query, error);
        if (rc != MS_OK) {
            return rc;
        }
    }
    request.head = method == METHOD_HEAD;
    if (is_page(&request, &request.kind)) {
        if (method != METHOD_GET && method != METHOD_HEAD) {
            return refuse(error, API_ERROR_PAGE_METHOD);
        }
        *out = request;
        return MS_OK;
    }
    if (is_reserved(request.key, request.key_bytes)) {
        return refuse(error, API_ERROR_RESERVED);
    }
    if ((method == METHOD_POST || method == METHOD_DELETE) &&
        names_member(request.key, request.key_bytes)) {
        rc = translate_member(input, method, &request, error);
        if (rc == MS_OK) {
            *out = request;
        }
        return rc;
    }

    switch (method) {
    case METHOD_GET:
    case METHOD_HEAD:
        rc = translate_read(input, &query, &request, error);
        break;
    case METHOD_PUT:
        rc = translate_write(input, API_PUT, body_max, &request, error);
        break;
    case METHOD_DELETE:
        rc = translate_write(input, API_DELETE, body_max, &request, error);
        break;
    case METHOD_POST:
    case METHOD_OTHER:
        return refuse(error, API_ERROR_KEY_METHOD);
    }
    if (rc == MS_OK) {
        *out = request;
    }
    return rc;
}
