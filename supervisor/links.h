/*
 * links: makes the rings between two workers and hands each its end.
 *
 * Rings are never repaired: whenever either end is (re)started, its pairs get new ones.
 */
#ifndef METASTORE_SUPERVISOR_LINKS_H
#define METASTORE_SUPERVISOR_LINKS_H

#include <stdint.h>

#include "common/err.h"
#include "supervisor/worker_table.h"

struct links {
    uint64_t generation; /* of the pair made last; zero at first */
};

/*
 * The size of each ring of a link: room for two of the largest requests where they pass, a power of
 * two. MS_ERANGE if no ring can be that large.
 */
int links_capacity_bytes(const struct worker_link *link, uint64_t max_request_bytes, uint64_t *out,
                         struct ms_err *err);

/* Called for a neighbour that does not take its end. */
typedef void links_failed_fn(void *ctx, struct worker *neighbour, const struct ms_err *err);

/*
 * Makes new links between worker and every neighbour that lives, and sends LINK to both ends. A
 * neighbour that is gone is left alone: it gets new links when it is back. One that refuses for
 * another reason is handed to failed. An error means that worker itself could not be connected.
 */
int links_connect(struct links *links, struct worker_table *table, struct worker *worker,
                  uint64_t max_request_bytes, links_failed_fn *failed, void *ctx,
                  struct ms_err *err);

#endif
