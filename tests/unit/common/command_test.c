/*
 * command: what encode writes decode reads, and decode takes nothing else.
 */
#include "common/command.h"

#include <criterion/criterion.h>
#include <string.h>

static const uint8_t key[] = "/config/db";
static const uint8_t value[] = {0, 1, 2, 255};

static struct ms_command put_command(void)
{
    return (struct ms_command){
        .id = {.origin = 0x1122334455667788, .seq = 9},
        .ack_seq = 7,
        .revision = 42,
        .kind = MS_COMMAND_PUT,
        .condition = MS_CONDITION_MOD_REVISION,
        .key = key,
        .key_bytes = sizeof(key) - 1,
        .value = value,
        .value_bytes = sizeof(value),
    };
}

Test(command, round_trip_keeps_every_field)
{
    struct ms_command in = put_command();
    struct ms_command out;
    uint8_t data[128];
    size_t len_bytes = ms_command_encoded_bytes(&in);

    cr_assert_eq(len_bytes, MS_COMMAND_HEADER_BYTES + in.key_bytes + in.value_bytes);
    ms_command_encode(&in, data);
    cr_assert_eq(ms_command_decode(data, len_bytes, &out), MS_OK);
    cr_assert_eq(out.id.origin, in.id.origin);
    cr_assert_eq(out.id.seq, in.id.seq);
    cr_assert_eq(out.ack_seq, in.ack_seq);
    cr_assert_eq(out.revision, in.revision);
    cr_assert_eq(out.kind, in.kind);
    cr_assert_eq(out.condition, in.condition);
    cr_assert_eq(out.key_bytes, in.key_bytes);
    cr_assert_arr_eq(out.key, in.key, in.key_bytes);
    cr_assert_eq(out.value_bytes, in.value_bytes);
    cr_assert_arr_eq(out.value, in.value, in.value_bytes);
    cr_assert(out.key == data + MS_COMMAND_HEADER_BYTES, "the key is borrowed, not copied");
}

Test(command, bytes_are_little_endian_as_drawn)
{
    struct ms_command in = put_command();
    uint8_t data[128];

    ms_command_encode(&in, data);
    cr_assert_eq(data[0], MS_COMMAND_FORMAT);
    cr_assert_eq(data[1], MS_COMMAND_PUT);
    cr_assert_eq(data[2], MS_CONDITION_MOD_REVISION);
    cr_assert_eq(data[4], sizeof(key) - 1);
    cr_assert_eq(data[8], 0x88);
    cr_assert_eq(data[15], 0x11);
    cr_assert_eq(data[16], 9);
    cr_assert_eq(data[24], 7);
    cr_assert_eq(data[32], 42);
    cr_assert_eq(data[40], sizeof(value));
}

Test(command, every_shorter_or_longer_input_is_corrupt)
{
    struct ms_command in = put_command();
    struct ms_command out;
    uint8_t data[128] = {0};
    size_t len_bytes = ms_command_encoded_bytes(&in);

    ms_command_encode(&in, data);
    for (size_t cut = 0; cut < sizeof(data); cut++) {
        int want = cut == len_bytes ? MS_OK : MS_ECORRUPT;

        cr_assert_eq(ms_command_decode(data, cut, &out), want, "%zu bytes", cut);
    }
}

Test(command, a_value_may_be_empty_but_not_a_key)
{
    struct ms_command in = put_command();
    struct ms_command out;
    uint8_t data[128];

    in.value_bytes = 0;
    ms_command_encode(&in, data);
    cr_assert_eq(ms_command_decode(data, ms_command_encoded_bytes(&in), &out), MS_OK);
    cr_assert_eq(out.value_bytes, 0);
    data[4] = 0;
    cr_assert_eq(ms_command_decode(data, MS_COMMAND_HEADER_BYTES, &out), MS_ECORRUPT);
}

Test(command, the_longest_key_passes_and_one_more_byte_does_not)
{
    static uint8_t data[MS_COMMAND_HEADER_BYTES + MS_KEY_BYTES_MAX + 1];
    static uint8_t long_key[MS_KEY_BYTES_MAX];
    struct ms_command in = put_command();
    struct ms_command out;

    memset(long_key, 'k', sizeof(long_key));
    in.key = long_key;
    in.key_bytes = sizeof(long_key);
    in.value_bytes = 0;
    ms_command_encode(&in, data);
    cr_assert_eq(ms_command_decode(data, ms_command_encoded_bytes(&in), &out), MS_OK);
    data[4] = 1; /* 8193 */
    cr_assert_eq(ms_command_decode(data, sizeof(data), &out), MS_ECORRUPT);
}

Test(command, impossible_fields_are_corrupt)
{
    static const struct {
        size_t offset;
        uint8_t byte;
        const char *what;
    } cases[] = {
        {0, 0, "format 0"},
        {0, 2, "unknown format"},
        {1, 0, "kind 0"},
        {1, 4, "unknown kind"},
        {2, 4, "unknown condition"},
        {3, 1, "padding"},
        {44, 1, "long padding"},
        {1, MS_COMMAND_DELETE, "delete with a value"},
        {1, MS_COMMAND_COMPACT, "compact with a key"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ms_command in = put_command();
        struct ms_command out = {.revision = 1};
        uint8_t data[128];

        ms_command_encode(&in, data);
        data[cases[i].offset] = cases[i].byte;
        cr_assert_eq(ms_command_decode(data, ms_command_encoded_bytes(&in), &out), MS_ECORRUPT,
                     "%s", cases[i].what);
        cr_assert_eq(out.revision, 1, "an error must leave *out alone");
    }
}

Test(command, compaction_has_neither_key_nor_value)
{
    struct ms_command in = {.kind = MS_COMMAND_COMPACT, .revision = 1000};
    struct ms_command out;
    uint8_t data[MS_COMMAND_HEADER_BYTES];

    cr_assert_eq(ms_command_encoded_bytes(&in), sizeof(data));
    ms_command_encode(&in, data);
    cr_assert_eq(ms_command_decode(data, sizeof(data), &out), MS_OK);
    cr_assert_eq(out.kind, MS_COMMAND_COMPACT);
    cr_assert_eq(out.revision, 1000);
}
