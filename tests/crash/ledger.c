/*
 * ledger: bookkeeping of acknowledged writes, and the comparison with the store.
 */
#include "tests/crash/ledger.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/check.h"

enum {
    MISTAKES_SHOWN = 20,
    PAGE_KEYS = 5000
};

void ledger_init(struct ledger *ledger, unsigned writer)
{
    memset(ledger, 0, sizeof(*ledger));
    ledger->writer = writer;
}

void ledger_fini(struct ledger *ledger)
{
    free(ledger->keys);
    ledger->keys = NULL;
}

struct ledger_key *ledger_add(struct ledger *ledger)
{
    if (ledger->count == ledger->capacity) {
        size_t capacity = ledger->capacity == 0 ? 4096 : 2 * ledger->capacity;
        struct ledger_key *grown = realloc(ledger->keys, capacity * sizeof(*grown));

        check_that(grown != NULL, "no memory for %zu keys", capacity);
        ledger->keys = grown;
        ledger->capacity = capacity;
    }
    memset(&ledger->keys[ledger->count], 0, sizeof(ledger->keys[0]));
    return &ledger->keys[ledger->count++];
}

void ledger_path(const struct ledger *ledger, size_t position, char *dst, size_t dst_bytes)
{
    (void)snprintf(dst, dst_bytes, "/crash/%02u/%09zu", ledger->writer, position);
}

__attribute__((format(printf, 2, 3))) static void mistake(struct ledger_totals *totals,
                                                          const char *format, ...)
{
    va_list args;

    if (totals->mistakes++ < MISTAKES_SHOWN) {
        (void)fputs("  MISTAKE: ", stdout);
        va_start(args, format);
        (void)vprintf(format, args);
        va_end(args);
        (void)fputc('\n', stdout);
    }
}

/* Values are decimal numbers; they come as base64. */
static uint64_t decode_value(const char *base64)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[64] = "";
    size_t at = 0;
    uint32_t bits = 0;
    int bit_count = 0;

    for (; *base64 != '\0' && *base64 != '=' && at + 1 < sizeof(text); base64++) {
        const char *digit = strchr(alphabet, *base64);

        if (digit == NULL) {
            return 0;
        }
        bits = bits << 6 | (uint32_t)(digit - alphabet);
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            text[at++] = (char)(bits >> bit_count & 0xff);
        }
    }
    text[at] = '\0';
    return strtoull(text, NULL, 10);
}

static void compare(struct ledger_key *key, const char *name, const json_t *row,
                    struct ledger_totals *totals)
{
    uint64_t value = decode_value(json_string_value(json_object_get(row, "value")));
    uint64_t version = (uint64_t)json_integer_value(json_object_get(row, "version"));
    uint64_t revision = (uint64_t)json_integer_value(json_object_get(row, "mod_revision"));
    bool unknown_applied = key->unknown != 0 && value == key->unknown;
    uint64_t expected = key->version + (unknown_applied ? 1 : 0);

    key->seen = true;
    totals->versions += version;
    totals->unknown_applied += unknown_applied;
    if (!unknown_applied && (value != key->value || revision != key->revision)) {
        mistake(totals,
                "%s has value %" PRIu64 " of revision %" PRIu64 ", acknowledged was %" PRIu64
                " of revision %" PRIu64,
                name, value, revision, key->value, key->revision);
    }
    if (version != expected) {
        mistake(totals, "%s was written %" PRIu64 " times, not %" PRIu64, name, version, expected);
    }
}

static void check_row(struct ledger *ledgers, size_t ledger_count, const json_t *row,
                      struct ledger_totals *totals)
{
    const char *name = json_string_value(json_object_get(row, "key"));
    unsigned writer = 0;
    size_t position = 0;

    if (name == NULL || sscanf(name, "/crash/%u/%zu", &writer, &position) != 2 ||
        writer >= ledger_count || position >= ledgers[writer].count) {
        mistake(totals, "%s was never written", name != NULL ? name : "(no name)");
        return;
    }
    compare(&ledgers[writer].keys[position], name, row, totals);
}

static void check_absent(const struct ledger *ledger, struct ledger_totals *totals)
{
    for (size_t i = 0; i < ledger->count; i++) {
        const struct ledger_key *key = &ledger->keys[i];

        totals->keys++;
        totals->acknowledged += key->version;
        totals->unknown += key->unknown != 0;
        if (!key->seen && key->version > 0) {
            char path[64];

            ledger_path(ledger, i, path, sizeof(path));
            mistake(totals, "%s is lost: acknowledged %" PRIu64 " times", path, key->version);
        }
    }
}

void ledger_check(struct ledger *ledgers, size_t ledger_count, struct connection *connection,
                  struct ledger_totals *totals)
{
    char after[64] = "";
    bool more = true;

    for (size_t i = 0; i < ledger_count; i++) {
        for (size_t j = 0; j < ledgers[i].count; j++) {
            ledgers[i].keys[j].seen = false;
        }
    }
    while (more) {
        char path[160];
        struct reply reply;
        json_error_t error;
        json_t *page;
        size_t rows;

        (void)snprintf(path, sizeof(path), "/crash/?prefix=true&limit=%d%s%s", PAGE_KEYS,
                       after[0] != '\0' ? "&after=" : "", after);
        connection_send(connection, "GET", path, "", "", &reply);
        check_that(reply.status == 200, "listing %s: status %d", path, reply.status);
        page = json_loads(reply.body, 0, &error);
        check_that(json_is_array(page), "listing %s: %s", path, error.text);
        rows = json_array_size(page);
        for (size_t i = 0; i < rows; i++) {
            check_row(ledgers, ledger_count, json_array_get(page, i), totals);
        }
        more = reply.more && rows > 0;
        if (more) {
            (void)snprintf(
                after, sizeof(after), "%s",
                json_string_value(json_object_get(json_array_get(page, rows - 1), "key")));
        }
        json_decref(page);
    }
    for (size_t i = 0; i < ledger_count; i++) {
        check_absent(&ledgers[i], totals);
    }
}
