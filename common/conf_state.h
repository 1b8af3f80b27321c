/*
 * conf_state: the membership as the log says it, in the form that goes to disk, into snapshots and
 * over the log link.
 *
 *   offset size (little-endian)
 *        0    4  format, MS_CONF_STATE_FORMAT
 *        4    4  auto_leave, 0 or 1
 *        8    4  number of members
 *       12    4  zero
 *       16    8  cluster id
 *       24    .  members, each: 8 id, 8 data id, 4 flags (enum ms_conf_flag bits), 2 URL length,
 *                2 zero, URL
 */
#ifndef METASTORE_COMMON_CONF_STATE_H
#define METASTORE_COMMON_CONF_STATE_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/status_page.h"
#include "common/types.h"

#define MS_CONF_STATE_FORMAT    2
#define MS_CONF_STATE_BYTES_MAX (24 + MS_STATUS_MEMBERS_MAX * (24 + MS_PEER_URL_BYTES))

enum ms_conf_flag {
    MS_CONF_VOTER = 1,
    MS_CONF_VOTER_OUTGOING = 2,
    MS_CONF_LEARNER = 4,
    MS_CONF_LEARNER_NEXT = 8,
};

struct ms_conf_member {
    node_id id;
    uint64_t data_id; /* names the data dir this member votes with; 0: it has not said yet */
    uint32_t flags;
    char peer_url[MS_PEER_URL_BYTES];
};

struct ms_conf_state {
    uint64_t cluster_id; /* 0: a node that has not joined yet */
    uint32_t auto_leave;
    uint32_t member_count; /* ids ascending */
    struct ms_conf_member members[MS_STATUS_MEMBERS_MAX];
};

size_t ms_conf_state_encoded_bytes(const struct ms_conf_state *conf);
void ms_conf_state_encode(const struct ms_conf_state *conf, uint8_t *dst);
int ms_conf_state_decode(const uint8_t *data, size_t len_bytes, struct ms_conf_state *out);

#endif
