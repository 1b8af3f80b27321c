/*
 * api_client: see api_client.h.
 */
#include "raftd/api_client.h"

#include <assert.h>
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

    assert(!ms_link_is_open(&client->link));
    if (answers == NULL) {
        return MS_ENOMEM;
    }
    *client = (struct api_client){.link = *link, .answers = answers};
    return MS_OK;
}

void api_client_close(struct api_client *client)
{
    ms_link_fini(&client->link);
    free(client->answers);
    memset(client, 0, sizeof(*client));
    ms_link_init_closed(&client->link);
}

bool api_client_may_read(const struct api_client *client)
{
    return client->count == 0;
}

int api_client_pump(struct api_client *client)
{
    while (client->count > 0) {
        const struct api_answer *answer = &client->answers[client->first];
        int rc = ms_link_send(&client->link, answer->type, &answer->body);

        if (rc != MS_OK) {
            return rc == MS_EAGAIN ? MS_OK : rc;
        }
        client->first = (client->first + 1) % API_CLIENT_ANSWERS_MAX;
        client->count--;
    }
    return MS_OK;
}

void api_clients_answer(struct api_clients *clients, struct api_client_ref ref,
                        const struct api_answer *answer)
{
    struct api_client *client = &clients->slots[ref.instance];

    assert(ref.instance < MS_API_WORKERS_MAX);
    if (!ms_link_is_open(&client->link) || client->link.info.generation != ref.generation) {
        return;
    }
    assert(client->count < API_CLIENT_ANSWERS_MAX);
    client->answers[(client->first + client->count) % API_CLIENT_ANSWERS_MAX] = *answer;
    client->count++;
}
