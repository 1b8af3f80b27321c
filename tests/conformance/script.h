/*
 * script: the conformance scripts' syntax.
 *
 *     command arg key=value key=(v1,v2)
 *     input lines
 *     ----
 *     expected output
 *     <blank line or end of file; or "----" twice around output with blank lines>
 */
#ifndef METASTORE_TESTS_CONFORMANCE_SCRIPT_H
#define METASTORE_TESTS_CONFORMANCE_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCRIPT_ERROR_BYTES 512

struct script_arg {
    char *key;
    bool has_values; /* there was a '=', even if the list after it is empty */
    char **values;
    size_t value_count;
};

struct script_step {
    size_t line; /* of the directive, from 1 */
    char *directive;
    char *command;
    struct script_arg *args;
    size_t arg_count;
    char *input;    /* trimmed */
    char *expected; /* each line with its newline */
};

struct script {
    const char *path; /* borrowed */
    struct script_step *steps;
    size_t count;
    void *memory; /* what everything above is made of */
};

/*
 * Reads a whole file. MS_OK: the caller calls script_fini(). Else error (SCRIPT_ERROR_BYTES)
 * says where and what: MS_EIO unreadable, MS_EINVAL malformed.
 */
int script_read(const char *path, struct script *out, char *error);
void script_fini(struct script *script);

/* The arg with that key, or NULL. */
const struct script_arg *script_find(const struct script_step *step, const char *key);
/* Decimal digits only; false for anything else or beyond 64 bits. */
bool script_number(const char *text, uint64_t *number);
/* true, false, and their usual spellings. */
bool script_bool(const char *text, bool *value);

#endif
