/*
 * list: the JSON of a listing, byte by byte, and where it is cut.
 */
#include "apid/list.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static struct ms_memdb_kv kv_of(const void *key, size_t key_bytes, const void *value,
                                size_t value_bytes)
{
    return (struct ms_memdb_kv){.key = key,
                                .key_bytes = key_bytes,
                                .value = value,
                                .value_bytes = value_bytes,
                                .create_revision = 2,
                                .mod_revision = UINT64_MAX,
                                .version = 1};
}

static json_t *parsed(const struct list *list)
{
    json_error_t error;
    json_t *json =
        json_loadb(list->text, list->len_bytes, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);

    cr_assert_not_null(json, "%s: %.*s", error.text, (int)list->len_bytes, list->text);
    return json;
}

/* One listed key and value, as text. */
static void expect_entry(const void *key, size_t key_bytes, const void *value, size_t value_bytes,
                         const char *expected)
{
    struct ms_memdb_kv kv = kv_of(key, key_bytes, value, value_bytes);
    struct list list;
    char whole[512];

    list_init(&list, 1);
    cr_assert(list_visit(&list, &kv));
    cr_assert_eq(list_finish(&list), MS_OK);
    snprintf(whole, sizeof(whole),
             "[{%s,\"create_revision\":2,\"mod_revision\":18446744073709551615,\"version\":1}]\n",
             expected);
    cr_assert_eq(list.len_bytes, strlen(whole));
    cr_assert_arr_eq(list.text, whole, strlen(whole), "%.*s", (int)list.len_bytes, list.text);
    json_decref(parsed(&list));
    list_fini(&list);
}

Test(list, empty_listing_is_an_empty_array)
{
    struct list list;

    list_init(&list, 1);
    cr_assert_eq(list_finish(&list), MS_OK);
    cr_assert_eq(list.len_bytes, 3);
    cr_assert_arr_eq(list.text, "[]\n", 3);
    list_fini(&list);
}

Test(list, values_are_base64_with_padding)
{
    expect_entry("/a", 2, "", 0, "\"key\":\"/a\",\"value\":\"\"");
    expect_entry("/a", 2, "f", 1, "\"key\":\"/a\",\"value\":\"Zg==\"");
    expect_entry("/a", 2, "fo", 2, "\"key\":\"/a\",\"value\":\"Zm8=\"");
    expect_entry("/a", 2, "foo", 3, "\"key\":\"/a\",\"value\":\"Zm9v\"");
    expect_entry("/a", 2, "foobar\xff", 7, "\"key\":\"/a\",\"value\":\"Zm9vYmFy/w==\"");
}

Test(list, keys_are_json_strings)
{
    expect_entry("/a\"b\\c", 6, "", 0, "\"key\":\"/a\\\"b\\\\c\",\"value\":\"\"");
    expect_entry("/\0\n\x7f", 4, "", 0, "\"key\":\"/\\u0000\\u000a\\u007f\",\"value\":\"\"");
    expect_entry("/\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 10, "", 0,
                 "\"key\":\"/\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\",\"value\":\"\"");
}

Test(list, keys_that_are_not_utf8_are_base64)
{
    expect_entry("/\xff", 2, "", 0, "\"key_base64\":\"L/8=\",\"value\":\"\"");
    expect_entry("/\xc0\xaf", 3, "", 0, "\"key_base64\":\"L8Cv\",\"value\":\"\"");
    expect_entry("/\xed\xa0\x80", 4, "", 0, "\"key_base64\":\"L+2ggA==\",\"value\":\"\"");
    expect_entry("/\xf4\x90\x80\x80", 5, "", 0, "\"key_base64\":\"L/SQgIA=\",\"value\":\"\"");
    expect_entry("/\xe2\x82", 3, "", 0, "\"key_base64\":\"L+KC\",\"value\":\"\"");
    expect_entry("/\xe0\x80\x80", 4, "", 0, "\"key_base64\":\"L+CAgA==\",\"value\":\"\"");
}

Test(list, limit_is_kept_and_more_is_said_only_if_there_is)
{
    struct ms_memdb_kv kv = kv_of("/a", 2, "v", 1);
    struct list list;
    json_t *json;

    list_init(&list, 2);
    cr_assert(list_visit(&list, &kv));
    cr_assert(list_visit(&list, &kv));
    cr_assert_not(list.more);
    cr_assert_not(list_visit(&list, &kv));
    cr_assert(list.more);
    cr_assert_eq(list_finish(&list), MS_OK);
    json = parsed(&list);
    cr_assert_eq(json_array_size(json), 2);
    json_decref(json);
    list_fini(&list);
}

Test(list, size_is_bounded)
{
    const size_t value_bytes = LIST_BYTES_MAX / 8;
    char *value = calloc(1, value_bytes);
    struct ms_memdb_kv kv = kv_of("/a", 2, value, value_bytes);
    struct list list;

    list_init(&list, 1000);
    while (list_visit(&list, &kv)) {
        cr_assert_leq(list.len_bytes, LIST_BYTES_MAX);
    }
    cr_assert(list.more);
    cr_assert_eq(list.count, 5, "six times four thirds of an eighth fill it, less the frames");
    cr_assert_eq(list_finish(&list), MS_OK);
    json_decref(parsed(&list));
    list_fini(&list);
    free(value);
}

Test(list, first_entry_comes_whatever_its_size)
{
    const size_t value_bytes = LIST_BYTES_MAX;
    char *value = calloc(1, value_bytes);
    struct ms_memdb_kv kv = kv_of("/a", 2, value, value_bytes);
    struct list list;

    list_init(&list, 1000);
    cr_assert(list_visit(&list, &kv));
    cr_assert_not(list_visit(&list, &kv));
    cr_assert(list.more);
    cr_assert_eq(list_finish(&list), MS_OK);
    list_fini(&list);
    free(value);
}
