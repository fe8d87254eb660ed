/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reclaim.h - sections of readers, and running something once all that had begun are over.
 *
 * Concurrency Kit's ck_epoch keeps the records. Where the kernel has private expedited membarrier
 * the reader's store-load fence is moved to the writer (docs/design.md says why that is right);
 * otherwise ck_epoch is used as it is. The embedder's own scheme (struct gm_section_ops) can stand
 * in for both.
 *
 * One thread at a time may defer, poll or wait: the holder of the space's transaction.
 */
#ifndef GM_MEMORY_RECLAIM_H
#define GM_MEMORY_RECLAIM_H

#include <ck_epoch.h>
#include <guestmem/error.h>
#include <guestmem/space.h>
#include <pthread.h>
#include <stdbool.h>

#include "memory/annotate.h"

struct gm_dirty;
struct gm_map;

/* Deferred work; embed it. */
struct gm_deferred {
	ck_epoch_entry_t entry;
	struct gm_reclaim *owner;
	void (*run)(struct gm_deferred *self);
	struct gm_deferred *next;
};

/* Readers whose sections keep the views of one space, or of several that lead to each other. */
struct gm_domain {
	uint32_t refs; /* atomic */
	ck_epoch_t epoch;
	bool moved_fence; /* sections have no fence, poll issues membarrier */
	bool has_ops;
	struct gm_section_ops ops;
	pthread_mutex_t lock;      /* readers */
	struct gm_reader *readers; /* all that were ever made; free ones are used again */
};

/* A space's side. */
struct gm_reclaim {
	struct gm_domain *domain;
	struct gm_reader *writer;    /* a record of its own */
	struct gm_deferred *pending; /* with ops only: ck_epoch keeps its own list */
	struct gm_deferred *due;
	uint32_t nr_deferred;
};

/* Where a reader's last lease lay, so that the next one need not be looked up (lease.h). */
struct gm_lease_spot {
	uint64_t generation; /* of the view in which it is so */
	uint64_t first;      /* above @last if nothing is known */
	uint64_t last;
	uint64_t delta;
	struct gm_map *map;
	struct gm_dirty *dirty;
	uint32_t perms;
};

struct gm_reader {
	ck_epoch_record_t record; /* first: found from it */
	struct gm_domain *domain;
	const struct gm_view *const *view; /* the space's published view */
	struct gm_reader *next;
	bool in_use;
	bool may_lease;            /* the domain's moved_fence */
	struct gm_map *leased;     /* atomic: by its thread, lease.h */
	struct gm_map *adopted;    /* atomic: pinned for the lease; changed with the lock */
	struct gm_lease_spot spot; /* of its thread */
	char name[32];
	const void *table_start; /* exception table of the caller's inlines */
	const void *table_end;
};

/* In the domain of @other, if that is not NULL, else in one of its own. */
int gm_reclaim_init(struct gm_reclaim *reclaim, const struct gm_section_ops *ops,
	const struct gm_reclaim *other);
/* No reader of what was deferred is left. Runs it. */
void gm_reclaim_fini(struct gm_reclaim *reclaim);

/* Runs @deferred->run when all sections that have begun are over. */
void gm_reclaim_defer(struct gm_reclaim *reclaim, struct gm_deferred *deferred);

/* Runs what is due, without waiting; the number of deferred items that are not due. */
uint32_t gm_reclaim_poll(struct gm_reclaim *reclaim);

/*
 * Waits until all deferred so far is due and has run: 0, or -ETIMEDOUT with the names of the
 * readers that are in sections.
 */
int gm_reclaim_wait(struct gm_reclaim *reclaim, uint64_t timeout_ns, struct gm_error *err);

int gm_reclaim_add_reader(
	struct gm_reclaim *reclaim, const char *name, struct gm_reader **ret_reader);
void gm_reclaim_drop_reader(struct gm_reader *reader);

/*
 * ck_epoch_begin() without its fence: the compiler keeps the order, gm_reclaim_poll() makes the
 * CPUs keep it. The acquire pairs with the epoch's advance by ck_epoch_poll(): whoever sees the new
 * epoch sees the new view. With moved_fence only.
 */
static inline const struct gm_view *gm_section_enter(struct gm_reader *reader)
{
	ck_epoch_record_t *record = &reader->record;
	uint32_t active = ck_pr_load_uint(&record->active);

	ck_pr_store_uint(&record->active, active + 1);
	if (active == 0) {
		ck_pr_barrier();
		ck_pr_store_uint(
			&record->epoch, __atomic_load_n(&record->global->epoch, __ATOMIC_ACQUIRE));
		ck_pr_barrier();
	}
	/* Pairs with the release in publish(). */
	return __atomic_load_n(reader->view, __ATOMIC_ACQUIRE);
}

static inline void gm_section_leave(struct gm_reader *reader)
{
	GM_TSAN(__tsan_release(reader));
	ck_epoch_end(&reader->record, NULL);
}

#endif
