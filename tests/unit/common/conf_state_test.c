/*
 * conf_state: what encode writes decode reads, and decode takes nothing else.
 */
#include "common/conf_state.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct ms_conf_state three_members(void)
{
    struct ms_conf_state conf = {.cluster_id = 77, .auto_leave = 1, .member_count = 3};

    for (uint32_t i = 0; i < 3; i++) {
        conf.members[i].id = 10 + i;
        conf.members[i].data_id = 1000 + i;
        conf.members[i].flags = i == 2 ? MS_CONF_LEARNER : MS_CONF_VOTER;
        (void)snprintf(conf.members[i].peer_url, sizeof(conf.members[i].peer_url),
                       "http://10.0.0.%u:9021", i);
    }
    return conf;
}

Test(conf_state, round_trip_keeps_every_member)
{
    struct ms_conf_state in = three_members();
    struct ms_conf_state out;
    uint8_t data[MS_CONF_STATE_BYTES_MAX];

    ms_conf_state_encode(&in, data);
    cr_assert_eq(ms_conf_state_decode(data, ms_conf_state_encoded_bytes(&in), &out), MS_OK);
    cr_assert_eq(memcmp(&in, &out, sizeof(in)), 0);
}

Test(conf_state, no_members_and_the_most_members_fit)
{
    struct ms_conf_state in = {0};
    struct ms_conf_state out;
    uint8_t data[MS_CONF_STATE_BYTES_MAX];

    ms_conf_state_encode(&in, data);
    cr_assert_eq(ms_conf_state_decode(data, ms_conf_state_encoded_bytes(&in), &out), MS_OK);
    cr_assert_eq(out.member_count, 0);

    in.member_count = MS_STATUS_MEMBERS_MAX;
    for (uint32_t i = 0; i < in.member_count; i++) {
        in.members[i].id = i + 1;
        in.members[i].flags = MS_CONF_VOTER | MS_CONF_VOTER_OUTGOING;
        memset(in.members[i].peer_url, 'u', MS_PEER_URL_BYTES - 1);
    }
    cr_assert_leq(ms_conf_state_encoded_bytes(&in), sizeof(data));
    ms_conf_state_encode(&in, data);
    cr_assert_eq(ms_conf_state_decode(data, ms_conf_state_encoded_bytes(&in), &out), MS_OK);
    cr_assert_eq(memcmp(&in, &out, sizeof(in)), 0);
}

Test(conf_state, every_shorter_or_longer_input_is_corrupt)
{
    struct ms_conf_state in = three_members();
    struct ms_conf_state out;
    uint8_t data[256] = {0};
    size_t len_bytes = ms_conf_state_encoded_bytes(&in);

    ms_conf_state_encode(&in, data);
    for (size_t cut = 0; cut < sizeof(data); cut++) {
        int want = cut == len_bytes ? MS_OK : MS_ECORRUPT;

        cr_assert_eq(ms_conf_state_decode(data, cut, &out), want, "%zu bytes", cut);
    }
}

Test(conf_state, impossible_fields_are_corrupt)
{
    static const struct {
        size_t offset;
        uint8_t byte;
        const char *what;
    } cases[] = {
        {0, 1, "unknown format"},  {4, 2, "auto_leave 2"},        {8, 65, "too many members"},
        {12, 1, "padding"},        {24, 0, "member id 0"},        {24, 11, "ids not ascending"},
        {40, 0, "no flags"},       {40, 16, "unknown flag"},      {44, 0xff, "URL too long"},
        {46, 1, "member padding"}, {48, 0, "zero byte in a URL"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ms_conf_state in = three_members();
        struct ms_conf_state out;
        uint8_t data[256];

        ms_conf_state_encode(&in, data);
        data[cases[i].offset] = cases[i].byte;
        cr_assert_eq(ms_conf_state_decode(data, ms_conf_state_encoded_bytes(&in), &out),
                     MS_ECORRUPT, "%s", cases[i].what);
    }
}
