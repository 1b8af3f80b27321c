/*
 * raft-conformance PATH...: runs conformance scripts against the Raft core.
 *
 * Each path is a script or a folder of them. Exits with 0 if all pass, 1 if one fails, 2 on
 * wrong usage. MS_SEED chooses the election timeouts, on which no script may depend.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/err.h"
#include "tests/conformance/buffer.h"
#include "tests/conformance/kinds.h"
#include "tests/conformance/script.h"

struct run {
    uint64_t seed;
    size_t passed;
    size_t failed;
};

static const struct kind *const kinds[] = {&kind_quorum, &kind_confchange, &kind_interaction};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* ---- one script ---- */

static bool folder_is(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    size_t len = strlen(name);

    return slash != NULL && (size_t)(slash - path) >= len && strncmp(slash - len, name, len) == 0 &&
           ((size_t)(slash - path) == len || slash[-(ptrdiff_t)len - 1] == '/');
}

/* By its first command; if that says nothing, by its folder. */
static const struct kind *recognise(const struct script *script)
{
    for (size_t k = 0; k < KINDS && script->count > 0; k++) {
        for (size_t c = 0; kinds[k]->commands[c] != NULL; c++) {
            if (strcmp(script->steps[0].command, kinds[k]->commands[c]) == 0) {
                return kinds[k];
            }
        }
    }
    for (size_t k = 0; k < KINDS; k++) {
        if (folder_is(script->path, kinds[k]->name)) {
            return kinds[k];
        }
    }
    return &kind_interaction;
}

/* The line of text in which position is. */
static void print_line(const char *label, const char *text, size_t position)
{
    size_t start = position;
    size_t len;

    while (start > 0 && text[start - 1] != '\n') {
        start--;
    }
    len = strcspn(text + start, "\n");
    if (text[start] == '\0') {
        (void)printf("  %s (nothing more)\n", label);
    } else {
        (void)printf("  %s |%.*s|\n", label, (int)len, text + start);
    }
}

static void print_difference(const struct script *script, const struct script_step *step,
                             const char *actual)
{
    size_t same = 0;
    size_t line = 1;

    while (actual[same] != '\0' && actual[same] == step->expected[same]) {
        line += actual[same] == '\n';
        same++;
    }
    (void)printf("FAIL %s:%zu: %s\n  output differs in its line %zu:\n", script->path, step->line,
                 step->directive, line);
    print_line("expected", step->expected, same);
    print_line("actual  ", actual, same);
}

static bool run_step(const struct script *script, const struct kind *kind, void *state,
                     const struct script_step *step)
{
    char error[KIND_ERROR_BYTES] = "";
    struct buffer out = {0};
    bool passed = false;

    if (kind->run(state, step, &out, error) != MS_OK) {
        (void)printf("FAIL %s:%zu: %s\n  %s\n", script->path, step->line, step->directive, error);
    } else {
        if (out.len > 0 && out.text[out.len - 1] != '\n') {
            buffer_add(&out, "\n");
        }
        passed = strcmp(buffer_text(&out), step->expected) == 0;
        if (!passed) {
            print_difference(script, step, buffer_text(&out));
        }
    }
    buffer_fini(&out);
    return passed;
}

static void run_script(struct run *run, const char *path)
{
    char error[SCRIPT_ERROR_BYTES] = "";
    const struct kind *kind;
    struct script script;
    bool passed = true;
    void *state;

    if (script_read(path, &script, error) != MS_OK) {
        (void)printf("FAIL %s\n", error);
        run->failed++;
        return;
    }
    kind = recognise(&script);
    state = kind->create(run->seed);
    /* What follows a difference would only repeat it. */
    for (size_t i = 0; i < script.count && passed; i++) {
        passed = run_step(&script, kind, state, &script.steps[i]);
    }
    kind->destroy(state);
    script_fini(&script);
    run->passed += passed;
    run->failed += !passed;
}

/* ---- paths ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The scripts and folders in a folder, sorted; the caller frees each and the array. */
static int list_folder(const char *path, char ***names, size_t *count)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;

    *names = NULL;
    *count = 0;
    if (dir == NULL) {
        return MS_EIO;
    }
    while ((entry = readdir(dir)) != NULL) {
        struct buffer full = {0};

        if (entry->d_name[0] == '.') {
            continue;
        }
        buffer_add(&full, "%s/%s", path, entry->d_name);
        *names = buffer_realloc(*names, (*count + 1) * sizeof(char *));
        (*names)[(*count)++] = full.text;
    }
    (void)closedir(dir);
    if (*count > 0) {
        qsort(*names, *count, sizeof(char *), compare_names);
    }
    return MS_OK;
}

static bool is_script_name(const char *path)
{
    size_t len = strlen(path);

    return len > 4 && strcmp(path + len - 4, ".txt") == 0;
}

/* MS_EUSAGE if a path that was named does not exist. Other files in folders are passed over. */
static int run_path(struct run *run, const char *path, bool named)
{
    struct stat status;
    char **names;
    size_t count;
    int rc = MS_OK;

    if (lstat(path, &status) != 0 || (named && stat(path, &status) != 0)) {
        (void)fprintf(stderr, "raft-conformance: %s: %s\n", path, strerror(errno));
        return MS_EUSAGE;
    }
    if (!S_ISDIR(status.st_mode)) {
        if (named || is_script_name(path)) {
            run_script(run, path);
        }
        return MS_OK;
    }
    if (list_folder(path, &names, &count) != MS_OK) {
        (void)fprintf(stderr, "raft-conformance: %s: %s\n", path, strerror(errno));
        return MS_EUSAGE;
    }
    for (size_t i = 0; i < count; i++) {
        int one = run_path(run, names[i], false);

        rc = rc == MS_OK ? one : rc;
        free(names[i]);
    }
    free(names);
    return rc;
}

int main(int argc, char **argv)
{
    struct run run = {.seed = 1};
    const char *seed = getenv("MS_SEED");
    int rc = MS_OK;

    if (argc < 2 || argv[1][0] == '-') {
        (void)fprintf(stderr, "usage: raft-conformance PATH...\n"
                              "Runs each script (or folder of scripts) against the Raft core.\n");
        return 2;
    }
    if (seed != NULL && !script_number(seed, &run.seed)) {
        (void)fprintf(stderr, "raft-conformance: MS_SEED is not a number: %s\n", seed);
        return 2;
    }
    (void)printf("seed %llu\n", (unsigned long long)run.seed);
    for (int i = 1; i < argc; i++) {
        int one = run_path(&run, argv[i], true);

        rc = rc == MS_OK ? one : rc;
    }
    (void)printf("%zu passed, %zu failed\n", run.passed, run.failed);
    if (rc != MS_OK) {
        return 2;
    }
    return run.failed > 0 ? 1 : 0;
}
