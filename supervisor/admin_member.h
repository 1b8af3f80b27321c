/*
 * admin_member: the commands that change the membership or the leader. raftd carries them out;
 * here words become a request to it, and its answer becomes text.
 */
#ifndef METASTORE_SUPERVISOR_ADMIN_MEMBER_H
#define METASTORE_SUPERVISOR_ADMIN_MEMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "common/control.h"
#include "common/err.h"
#include "common/member_request.h"

enum admin_wish_kind {
    ADMIN_WISH_NOTHING,
    ADMIN_WISH_MEMBER, /* raftd is to carry out request */
    ADMIN_WISH_RELOAD,
};

/* What a client wants that takes longer than a call. */
struct admin_wish {
    enum admin_wish_kind kind;
    bool json;                                /* the form of the answer */
    struct ms_control_member_request request; /* number and deadline are the sender's to set */
};

/*
 * The request for an operation with these arguments (ADD_VOTER: "ID URL", and "--learner" in any
 * place; UPDATE_URL: "ID URL"; TRANSFER: "ID" or nothing; others: "ID"). MS_EINVAL, with text for
 * the client: an argument that is not understood.
 */
int admin_member_parse(enum ms_member_operation operation, const char *const *arguments,
                       size_t count, struct ms_control_member_request *out, struct ms_err *err);

/* Writes words that may come from elsewhere as one line: what is not printable becomes '?'. */
void admin_member_print_words(FILE *out, const char *text);

/*
 * The answer to the client, in the form of admin_execute: what was done, or "error: " and why not.
 * text may be empty. Heap memory; NULL when there is none.
 */
char *admin_member_answer(const struct admin_wish *wish, enum ms_member_code code,
                          const char *text);

#endif
