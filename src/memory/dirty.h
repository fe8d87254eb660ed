/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dirty.h - marking what was written: the logs of a space, and the filter in front of them.
 *
 * Writers go through the list of logs in a section; one that was taken off it is freed after their
 * grace period. The filter is a bitmap of 4 KiB pages: a bit says that all logs have all of its page
 * marked, so nothing is to be done. Views carry a pointer to it, NULL without logs.
 *
 * A pin outlives sections and perhaps the space: it holds a reference. It has no view to tell it whether
 * there are logs; @told does.
 */
#ifndef GM_MEMORY_DIRTY_H
#define GM_MEMORY_DIRTY_H

#include <guestmem/log.h>
#include <pthread.h>
#include <stdbool.h>

#include "core/bits.h"
#include "core/rangeset.h"
#include "memory/reclaim.h"

#define GM_FILTER_SHIFT 12
/* Bits of a log that are looked at together: 32 KiB of words, which stand for 1 GiB of pages of 4 KiB. */
#define GM_CHUNK_SHIFT 18

struct gm_view_full;

struct gm_log {
	struct gm_log *next; /* atomic */
	struct gm_deferred deferred;
	struct gm_dirty *dirty;
	struct gm_pages pages;
	uint64_t nr;      /* pages */
	uint64_t *words;  /* its own, or NULL: */
	uint8_t *storage; /* the consumer's */
	uint8_t *chunks;  /* atomic, behind @words: 0 if no bit of the chunk was ever set */
	void (*release)(void *ctx);
	void *ctx;
	uint64_t taken;             /* atomic */
	uint64_t outside;           /* atomic */
	uint64_t faults;            /* atomic */
	bool ready;                 /* atomic */
	struct gm_deferred settled; /* with GM_LOG_NOWAIT: all readers mark */
	uint64_t rate_since;        /* ns; with the lock */
	uint64_t rate_pages;
	char name[32];
};

/* gm_dirty.told: there are logs, here or in the space that is followed; */
#define GM_TOLD_LOGS 1u
/* threads cannot be made to pass a barrier, so whoever has written has a fence before he looks. */
#define GM_TOLD_FENCE 2u

struct gm_dirty {
	uint32_t told;            /* atomic; first, where inline code looks by way of a pin */
	uint32_t refs;            /* atomic */
	struct gm_log *logs;      /* atomic: the list */
	uint64_t *filter;         /* or NULL, if there never was a log */
	struct gm_range filtered; /* addresses that it knows */
	bool has_filtered;
	bool moved_fence;         /* takers issue membarrier, writers have no fence */
	bool pins_fence;          /* GM_TOLD_FENCE, whatever else is */
	bool refilled;            /* atomic: the filter may have bits */
	pthread_mutex_t lock;     /* list, filter and reader are changed; pins mark */
	struct gm_space *space;   /* NULL when it is gone */
	struct gm_reader *reader; /* of marks that are made in no section; with the lock */
	struct gm_dirty
		*forward; /* of the space that this one's space follows; reference; or NULL */
};

_Static_assert(offsetof(struct gm_dirty, told) == 0, "inline/slice_access.h reads it");

struct gm_dirty *gm_dirty_create(struct gm_space *space);
/* Before the space has pins: can all threads be made to pass a barrier? */
void gm_dirty_set_barrier(struct gm_dirty *dirty, bool can);
/* The list of logs has changed: says so to those who write by way of pins. With the lock. */
void gm_dirty_tell(struct gm_dirty *dirty);
/* Addresses for the filter, if it has none yet. */
int gm_dirty_map_filter(struct gm_dirty *dirty, const struct gm_space *space, struct gm_error *err);
/*
 * What is written through @space is told to the logs of @source, at the same addresses. Before it has
 * memory and readers. Its filter stays empty: every write looks whether there are logs.
 */
int gm_dirty_follow(struct gm_space *space, struct gm_space *source, struct gm_error *err);
/* The space goes: nothing is marked from now on. */
void gm_dirty_close(struct gm_dirty *dirty);
void gm_dirty_get(struct gm_dirty *dirty);
void gm_dirty_put(struct gm_dirty *dirty);

/* What a view is to have as its filter. */
const uint64_t *gm_dirty_filter(const struct gm_dirty *dirty, bool aliased);

/* Marks without a section, by the map of now. */
void gm_dirty_mark_later(struct gm_dirty *dirty, uint64_t gpa, uint64_t len);
/* The same for what has just been written by way of a pin, perhaps again and again. */
void gm_dirty_mark_pinned(struct gm_dirty *dirty, uint64_t gpa, uint64_t len);

/*
 * A change of the map put something new at these addresses (@all: everywhere), perhaps under names that
 * are not the only ones (@aliased).
 */
void gm_dirty_settle(
	struct gm_dirty *dirty, const struct gm_rangeset *changed, bool all, bool aliased);

/* Before bits of the words are set. Who does not see it sees none of the bits either, or may leave them. */
static inline void gm_log_note(struct gm_log *log, const struct gm_range *bits)
{
	for (uint64_t i = bits->first >> GM_CHUNK_SHIFT; i <= bits->last >> GM_CHUNK_SHIFT; i++) {
		if (!__atomic_load_n(&log->chunks[i], __ATOMIC_RELAXED))
			__atomic_store_n(&log->chunks[i], 1, __ATOMIC_RELEASE);
	}
}

/* Marks in one log. */
void gm_log_mark_range(struct gm_log *log, const struct gm_range *range);
/* All threads' stores that came before a look at a cleared bit are seen from now on. */
void gm_dirty_barrier(const struct gm_dirty *dirty);
/* Bits of the filter are to be asked for again. */
void gm_dirty_forget(struct gm_dirty *dirty, const struct gm_range *range);

/* Is anybody told of what is written? */
static inline bool gm_dirty_has_logs(const struct gm_dirty *dirty)
{
	return __atomic_load_n(&dirty->logs, __ATOMIC_ACQUIRE) || dirty->forward;
}

/* Are writes through a view looked at? */
static inline bool gm_view_is_logged(const struct gm_view *view)
{
	return __builtin_expect(view->filter != NULL, 0);
}

#endif
