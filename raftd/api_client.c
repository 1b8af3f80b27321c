/*
 * api_client: see api_client.h.
 */
#include "raftd/api_client.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void api_clients_init(struct api_clients *clients)
{
    memset(clients, 0, sizeof(*clients));
    for (size_t i = 0; i < MS_API_WORKERS_MAX; i++) {
        ms_link_init_closed(&clients->slots[i].link);
    }
}

void api_clients_fini(struct api_clients *clients)
{
    for (size_t i = 0; i < MS_API_WORKERS_MAX; i++) {
        api_client_close(&clients->slots[i]);
    }
}

int api_client_take_link(struct api_client *client, const struct ms_link *link)
{
    struct api_answer *answers = calloc(API_CLIENT_ANSWERS_MAX, sizeof(*answers));
    struct api_member_answer *member_answers =
        calloc(API_CLIENT_MEMBER_ANSWERS_MAX, sizeof(*member_answers));

    assert(!ms_link_is_open(&client->link));
    if (answers == NULL || member_answers == NULL) {
        free(answers);
        free(member_answers);
        return MS_ENOMEM;
    }
    *client =
        (struct api_client){.link = *link, .answers = answers, .member_answers = member_answers};
    return MS_OK;
}

void api_client_close(struct api_client *client)
{
    ms_link_fini(&client->link);
    free(client->answers);
    free(client->member_answers);
    memset(client, 0, sizeof(*client));
    ms_link_init_closed(&client->link);
}

bool api_client_may_read(const struct api_client *client)
{
    return client->count == 0 && client->member_count == 0;
}

static int send_member_answer(struct api_client *client, const struct api_member_answer *answer)
{
    size_t text_bytes = strlen(answer->text);
    void *dst_body = NULL;
    void *dst_tail = NULL;
    int rc = ms_link_begin(&client->link, MS_IPC_MEMBER_ANSWER, text_bytes, &dst_body, &dst_tail);

    if (rc == MS_OK) {
        memcpy(dst_body, &answer->head, sizeof(answer->head));
        memcpy(dst_tail, answer->text, text_bytes);
        ms_link_commit(&client->link);
    }
    return rc;
}

/* What is rare: answers about the membership, and the word that proposals may be lost. */
static int pump_rare(struct api_client *client)
{
    int rc = MS_OK;

    while (rc == MS_OK && client->member_count > 0) {
        rc = send_member_answer(client, &client->member_answers[0]);
        if (rc == MS_OK) {
            client->member_count--;
            memmove(&client->member_answers[0], &client->member_answers[1],
                    client->member_count * sizeof(client->member_answers[0]));
        }
    }
    if (rc == MS_OK && client->lost) {
        const struct ms_proposals_lost body = {.term = client->lost_term};

        rc = ms_link_send(&client->link, MS_IPC_PROPOSALS_LOST, &body);
        client->lost = rc != MS_OK;
    }
    return rc;
}

int api_client_pump(struct api_client *client)
{
    int rc = pump_rare(client);

    if (rc != MS_OK) {
        return rc == MS_EAGAIN ? MS_OK : rc;
    }
    while (client->count > 0) {
        const struct api_answer *answer = &client->answers[client->first];

        rc = ms_link_send(&client->link, answer->type, &answer->body);
        if (rc != MS_OK) {
            return rc == MS_EAGAIN ? MS_OK : rc;
        }
        client->first = (client->first + 1) % API_CLIENT_ANSWERS_MAX;
        client->count--;
    }
    return MS_OK;
}

/* The slot of this link; NULL if the link is not the present one. */
static struct api_client *find(struct api_clients *clients, struct api_client_ref ref)
{
    struct api_client *client = &clients->slots[ref.instance];

    assert(ref.instance < MS_API_WORKERS_MAX);
    if (!ms_link_is_open(&client->link) || client->link.info.generation != ref.generation) {
        return NULL;
    }
    return client;
}

void api_clients_answer(struct api_clients *clients, struct api_client_ref ref,
                        const struct api_answer *answer)
{
    struct api_client *client = find(clients, ref);

    if (client == NULL) {
        return;
    }
    assert(client->count < API_CLIENT_ANSWERS_MAX);
    client->answers[(client->first + client->count) % API_CLIENT_ANSWERS_MAX] = *answer;
    client->count++;
}

void api_clients_answer_member(struct api_clients *clients, struct api_client_ref ref,
                               const struct ms_member_answer *answer, const char *text)
{
    struct api_client *client = find(clients, ref);
    struct api_member_answer *kept;

    if (client == NULL) {
        return;
    }
    assert(client->member_count < API_CLIENT_MEMBER_ANSWERS_MAX);
    kept = &client->member_answers[client->member_count++];
    kept->head = *answer;
    (void)snprintf(kept->text, sizeof(kept->text), "%s", text);
}

void api_clients_proposals_lost(struct api_clients *clients, raft_term term)
{
    for (size_t i = 0; i < MS_API_WORKERS_MAX; i++) {
        struct api_client *client = &clients->slots[i];

        if (ms_link_is_open(&client->link)) {
            client->lost = true;
            client->lost_term = term;
        }
    }
}
