/*
 * le: integers in the byte order of disk and peers.
 *
 * Little-endian whatever the machine is, at any alignment.
 */
#ifndef METASTORE_COMMON_LE_H
#define METASTORE_COMMON_LE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline void ms_le_put_u16(uint8_t *dst, uint16_t value)
{
    value = htole16(value);
    memcpy(dst, &value, sizeof(value));
}

static inline void ms_le_put_u32(uint8_t *dst, uint32_t value)
{
    value = htole32(value);
    memcpy(dst, &value, sizeof(value));
}

static inline void ms_le_put_u64(uint8_t *dst, uint64_t value)
{
    value = htole64(value);
    memcpy(dst, &value, sizeof(value));
}

static inline uint16_t ms_le_get_u16(const uint8_t *src)
{
    uint16_t value;

    memcpy(&value, src, sizeof(value));
    return le16toh(value);
}

static inline uint32_t ms_le_get_u32(const uint8_t *src)
{
    uint32_t value;

    memcpy(&value, src, sizeof(value));
    return le32toh(value);
}

static inline uint64_t ms_le_get_u64(const uint8_t *src)
{
    uint64_t value;

    memcpy(&value, src, sizeof(value));
    return le64toh(value);
}

#endif
