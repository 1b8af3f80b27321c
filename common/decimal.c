/*
 * decimal: see decimal.h.
 */
#include "common/decimal.h"

bool ms_decimal_parse(const char *text, size_t len_bytes, uint64_t *out)
{
    uint64_t value = 0;

    if (len_bytes == 0) {
        return false;
    }
    for (size_t i = 0; i < len_bytes; i++) {
        unsigned digit = (unsigned)(text[i] - '0');

        if (digit > 9 || value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}
