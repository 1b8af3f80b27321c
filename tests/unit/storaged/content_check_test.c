/*
 * content_check: content that can be, and content that cannot.
 */
#include <criterion/criterion.h>

#include "storaged/content_check.h"

static struct content_check check;
static struct engine_snapshot_info info;

static void begin(void)
{
    memset(&check, 0, sizeof(check));
    memset(&info, 0, sizeof(info));
    info.meta.revision = 10;
}

static int key(const char *name, uint64_t revision, bool tombstone)
{
    const struct engine_stamp stamp = {.revision = revision, .tombstone = tombstone};
    bool is_new;

    return content_check_key(&check, (const uint8_t *)name, strlen(name), &stamp, 1, &is_new, NULL);
}

static int change(const char *name, uint64_t revision, bool tombstone)
{
    const struct engine_change made = {
        .kv = {.key = (const uint8_t *)name, .key_bytes = strlen(name), .mod_revision = revision},
        .tombstone = tombstone};

    return content_check_change(&check, &made, NULL);
}

static int finish(uint64_t keys)
{
    info.meta.keys = keys;
    return content_check_finish(&check, &info, NULL);
}

Test(content_check, nothing_at_all_is_a_store)
{
    begin();
    cr_assert_eq(finish(0), MS_OK);
    cr_assert_eq(finish(1), MS_ECORRUPT);
}

Test(content_check, stamps_and_changes_that_belong_together_are_a_store)
{
    begin();
    cr_assert_eq(key("a", 2, false), MS_OK);
    cr_assert_eq(key("a", 4, true), MS_OK);
    cr_assert_eq(key("b", 3, false), MS_OK);
    cr_assert_eq(change("a", 2, false), MS_OK);
    cr_assert_eq(change("b", 3, false), MS_OK);
    cr_assert_eq(change("a", 4, true), MS_OK);
    cr_assert_eq(finish(1), MS_OK, "a was deleted");
    info.meta.revision = 3;
    cr_assert_eq(finish(1), MS_ECORRUPT, "a change beyond the revision of the store");
}

Test(content_check, order_counts)
{
    begin();
    cr_assert_eq(key("b", 2, false), MS_OK);
    cr_assert_eq(key("a", 3, false), MS_ECORRUPT);
    begin();
    cr_assert_eq(key("a", 3, false), MS_OK);
    cr_assert_eq(key("a", 3, false), MS_ECORRUPT);
    begin();
    cr_assert_eq(change("a", 3, false), MS_OK);
    cr_assert_eq(change("b", 2, false), MS_ECORRUPT);
}

Test(content_check, lengths_count)
{
    static uint8_t name[MS_KEY_BYTES_MAX + 1];
    const struct engine_stamp stamp = {.revision = 2};
    bool is_new;

    begin();
    cr_assert_eq(content_check_key(&check, name, 0, &stamp, 1, &is_new, NULL), MS_ECORRUPT);
    cr_assert_eq(content_check_key(&check, name, sizeof(name), &stamp, 1, &is_new, NULL),
                 MS_ECORRUPT);
    cr_assert_eq(content_check_key(&check, name, 5, &stamp, 0, &is_new, NULL), MS_ECORRUPT);
    cr_assert_eq(content_check_record(name, 0, NULL), MS_ECORRUPT);
    cr_assert_eq(content_check_record(name, ENGINE_RECORD_NAME_MAX + 1, NULL), MS_ECORRUPT);
    cr_assert_eq(content_check_record(name, 1, NULL), MS_OK);
}

Test(content_check, each_stamp_has_its_own_change)
{
    begin();
    cr_assert_eq(key("a", 2, false), MS_OK);
    cr_assert_eq(finish(1), MS_ECORRUPT, "no change");
    cr_assert_eq(change("b", 2, false), MS_OK);
    cr_assert_eq(finish(1), MS_ECORRUPT, "one of another key");
    begin();
    cr_assert_eq(key("a", 2, false), MS_OK);
    cr_assert_eq(change("a", 3, false), MS_OK);
    cr_assert_eq(finish(1), MS_ECORRUPT, "one of another revision");
    begin();
    cr_assert_eq(key("a", 2, false), MS_OK);
    cr_assert_eq(change("a", 2, true), MS_OK);
    cr_assert_eq(finish(1), MS_ECORRUPT, "one that deletes");
}
