/*
 * Commands come from disks and peers: any bytes are either refused, or exactly what encode writes.
 */
#include <stdlib.h>
#include <string.h>

#include "common/command.h"
#include "common/conf_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_command(const uint8_t *data, size_t size)
{
    struct ms_command command;
    uint8_t *again;

    if (ms_command_decode(data, size, &command) != MS_OK) {
        return;
    }
    again = malloc(size);
    if (again == NULL) {
        return;
    }
    if (ms_command_encoded_bytes(&command) != size) {
        abort();
    }
    ms_command_encode(&command, again);
    if (memcmp(again, data, size) != 0) {
        abort();
    }
    free(again);
}

static void fuzz_conf_state(const uint8_t *data, size_t size)
{
    static uint8_t again[MS_CONF_STATE_BYTES_MAX];
    struct ms_conf_state conf;

    if (ms_conf_state_decode(data, size, &conf) != MS_OK) {
        return;
    }
    if (ms_conf_state_encoded_bytes(&conf) != size) {
        abort();
    }
    ms_conf_state_encode(&conf, again);
    if (memcmp(again, data, size) != 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_command(data, size);
    fuzz_conf_state(data, size);
    return 0;
}
