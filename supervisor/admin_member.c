/*
 * admin_member: see admin_member.h.
 */
#include "supervisor/admin_member.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/decimal.h"
#include "common/peer_url.h"

static bool takes_url(enum ms_member_operation operation)
{
    return operation == MS_MEMBER_ADD_VOTER || operation == MS_MEMBER_ADD_LEARNER ||
           operation == MS_MEMBER_UPDATE_URL;
}

static int parse_id(const char *text, node_id *out, struct ms_err *err)
{
    uint64_t id;

    if (!ms_decimal_parse(text, strlen(text), &id) || id == 0 || id > INT64_MAX) {
        return ms_err_set(err, MS_EINVAL, 0, "\"%.64s\" is no member id: ids are numbers from 1 on",
                          text);
    }
    *out = id;
    return MS_OK;
}

static int parse_url(const char *text, char out[static MS_PEER_URL_BYTES], struct ms_err *err)
{
    struct ms_peer_url url;

    if (ms_peer_url_parse(text, strlen(text), &url) != MS_OK) {
        return ms_err_set(err, MS_EINVAL, 0, "\"%.128s\" is no peer URL like http://HOST:PORT",
                          text);
    }
    memcpy(out, url.text, sizeof(url.text));
    return MS_OK;
}

int admin_member_parse(enum ms_member_operation operation, const char *const *arguments,
                       size_t count, struct ms_control_member_request *out, struct ms_err *err)
{
    struct ms_control_member_request request = {.head.operation = operation};
    const char *id = NULL;
    const char *url = NULL;
    int rc = MS_OK;

    for (size_t i = 0; i < count; i++) {
        if (strcmp(arguments[i], "--learner") == 0 && operation == MS_MEMBER_ADD_VOTER) {
            request.head.operation = MS_MEMBER_ADD_LEARNER;
        } else if (id == NULL) {
            id = arguments[i];
        } else if (url == NULL && takes_url(operation)) {
            url = arguments[i];
        } else {
            return ms_err_set(err, MS_EINVAL, 0, "\"%.64s\" is one word too many", arguments[i]);
        }
    }
    if (id != NULL) {
        rc = parse_id(id, &request.head.id, err);
    } else if (operation != MS_MEMBER_TRANSFER) {
        rc = ms_err_set(err, MS_EINVAL, 0, "the member's id is missing");
    }
    if (rc == MS_OK && takes_url(operation)) {
        rc = url != NULL ? parse_url(url, request.peer_url, err)
                         : ms_err_set(err, MS_EINVAL, 0, "the member's peer URL is missing");
    }
    if (rc == MS_OK) {
        *out = request;
    }
    return rc;
}

static const char *success_text(uint32_t operation)
{
    switch ((enum ms_member_operation)operation) {
    case MS_MEMBER_ADD_VOTER:
        return "added";
    case MS_MEMBER_ADD_LEARNER:
        return "added as a learner";
    case MS_MEMBER_PROMOTE:
        return "promoted";
    case MS_MEMBER_REMOVE:
        return "removed";
    case MS_MEMBER_UPDATE_URL:
        return "updated";
    case MS_MEMBER_TRANSFER:
        return "leadership transferred";
    }
    return "done";
}

/* For answers without a reason in words. raftd may be corrupt: any number may come. */
static const char *failure_text(enum ms_member_code code)
{
    switch (code) {
    case MS_MEMBER_INVALID:
        return "the request is not valid";
    case MS_MEMBER_NOT_FOUND:
        return "no such member";
    case MS_MEMBER_CONFLICT:
        return "the id or the URL belongs to a member already";
    case MS_MEMBER_NOT_READY:
        return "the cluster is not ready for that";
    case MS_MEMBER_NO_LEADER:
        return "no leader; nothing was done";
    case MS_MEMBER_BUSY:
        return "another change is under way; nothing was done";
    case MS_MEMBER_OK:
    case MS_MEMBER_UNKNOWN:
        break;
    }
    return "the outcome is unknown";
}

void admin_member_print_words(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        (void)fputc(*text >= ' ' && *text <= '~' ? *text : '?', out);
    }
}

char *admin_member_answer(const struct admin_wish *wish, enum ms_member_code code, const char *text)
{
    char *answer = NULL;
    size_t answer_bytes = 0;
    FILE *out = open_memstream(&answer, &answer_bytes);

    if (out == NULL) {
        return NULL;
    }
    if (code != MS_MEMBER_OK) {
        (void)fputs("error: ", out);
        admin_member_print_words(out, text[0] != '\0' ? text : failure_text(code));
    } else if (wish->json) {
        (void)fputs("{\"ok\":true}", out);
    } else {
        admin_member_print_words(out, text[0] != '\0' ? text
                                                      : success_text(wish->request.head.operation));
    }
    (void)fputs("\n\n", out);
    if (fclose(out) != 0) { /* memory ran out while writing */
        free(answer);
        return NULL;
    }
    return answer;
}
