/*
 * config_options: the one table of options, private to config*.c.
 */
#ifndef METASTORE_COMMON_CONFIG_OPTIONS_H
#define METASTORE_COMMON_CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "common/err.h"

enum ms_option_kind {
    MS_OPTION_NUMBER, /* uint64_t between min and max */
    MS_OPTION_TEXT,   /* char array; never empty once given */
    MS_OPTION_CHOICE, /* uint32_t: position of the word in "first|second|..." */
    MS_OPTION_FLAG,   /* uint32_t, 0 or 1; no value on the command line */
};

enum ms_option_trait {
    MS_OPTION_PLAIN = 0,
    MS_OPTION_RELOADS = 1,   /* takes effect on SIGHUP */
    MS_OPTION_TLS = 2,       /* likewise, as long as TLS stays as it was, on or off */
    MS_OPTION_HIDDEN = 4,    /* not in --help */
    MS_OPTION_SHORTHAND = 8, /* says something only when it is set */
    MS_OPTION_NO_FILE = 16,  /* cannot be given in the file */
};

struct ms_option {
    const char *name; /* as on the command line, without the dashes */
    enum ms_option_kind kind;
    uint32_t traits;
    size_t offset;
    size_t size_bytes;
    const char *fallback; /* the default as text; "" where there is none to write down */
    uint64_t min;
    uint64_t max;
    const char *shape; /* what the value looks like; for a choice its words */
    const char *help;
};

enum ms_option_origin {
    MS_ORIGIN_DEFAULT,
    MS_ORIGIN_FILE,
    MS_ORIGIN_ENVIRONMENT,
    MS_ORIGIN_ARGUMENT,
};

/* Where a value was written, so that an error can say so. */
struct ms_option_source {
    enum ms_option_origin origin;
    const char *file; /* of MS_ORIGIN_FILE */
    unsigned line;
};

#define MS_OPTION_NAME_BYTES 64

/* The rows in the order of --help; NULL past the end. */
const struct ms_option *ms_option_at(size_t position);

/* The row of a name of name_bytes bytes, or NULL. */
const struct ms_option *ms_option_find(const char *name, size_t name_bytes);

/* The option's environment variable: METASTORE_DATA_DIR for data-dir. */
void ms_option_variable(const struct ms_option *option, char dst[MS_OPTION_NAME_BYTES]);

/* Checks the value and stores it in its field. MS_EUSAGE names option, source and what is allowed.
 */
int ms_option_set(struct ms_config *config, const struct ms_option *option,
                  const struct ms_option_source *source, const char *value, struct ms_err *err);

/* Sets everything that the INI file says. MS_ENOENT / MS_EIO / MS_EUSAGE. */
int ms_config_read_file(struct ms_config *config, const char *path, struct ms_err *err);

#endif
