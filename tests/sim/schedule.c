/*
 * schedule: see schedule.h.
 */
#include "tests/sim/schedule.h"

#include "tests/sim/report.h"

#include <stdlib.h>

static bool before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void swap(struct event *a, struct event *b)
{
    struct event kept = *a;

    *a = *b;
    *b = kept;
}

void schedule_add(struct schedule *schedule, const struct event *event)
{
    size_t at = schedule->count;

    if (schedule->count == schedule->capacity) {
        schedule->capacity = schedule->capacity == 0 ? 256 : 2 * schedule->capacity;
        schedule->items =
            report_realloc(schedule->items, schedule->capacity * sizeof(*schedule->items));
    }
    schedule->items[at] = *event;
    schedule->items[at].order = schedule->order++;
    schedule->count++;
    while (at > 0 && before(&schedule->items[at], &schedule->items[(at - 1) / 2])) {
        swap(&schedule->items[at], &schedule->items[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
}

bool schedule_next(struct schedule *schedule, struct event *out)
{
    struct event *items = schedule->items;
    size_t at = 0;

    if (schedule->count == 0) {
        return false;
    }
    *out = items[0];
    schedule->count--;
    items[0] = items[schedule->count];
    for (;;) {
        size_t least = at;

        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < schedule->count; child++) {
            if (before(&items[child], &items[least])) {
                least = child;
            }
        }
        if (least == at) {
            return true;
        }
        swap(&items[at], &items[least]);
        at = least;
    }
}

void schedule_fini(struct schedule *schedule)
{
    free(schedule->items);
    *schedule = (struct schedule){0};
}
