/*
 * decimal: numbers as people write them.
 */
#ifndef METASTORE_COMMON_DECIMAL_H
#define METASTORE_COMMON_DECIMAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The number that len_bytes decimal digits stand for: no sign, no blanks, no silent wrap. False for
 * anything else, and for no digits; *out is then untouched.
 */
bool ms_decimal_parse(const char *text, size_t len_bytes, uint64_t *out);

#endif
