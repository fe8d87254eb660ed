/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapshot_live.h - what the files of live saving share.
 *
 * Pages are of 4096 bytes, and have the numbers that they have in the source. Three bits for each, and @there:
 *
 *	data  it was there at the instant, and is to be saved; constant while it is armed
 *	todo  of these: it has not been read for the file
 *	held  of these: it is protected, and nowhere but in the memory. todo and not held: a copy is in the pool
 *	there of explicit huge pages in files: it was mapped at the instant
 *
 * Locks: a userfaultfd's, then the live save's. No page is copied, and nothing lifted, with the lock.
 */
#ifndef GM_SERVICES_SNAPSHOT_LIVE_H
#define GM_SERVICES_SNAPSHOT_LIVE_H

#include <guestmem/snapshot_live.h>

#include "core/sort.h"
#include "services/pager_wp.h"
#include "services/snapshot.h"
#include "services/snapshot_space.h"
#include "sys/deadline.h"

#define LIVE_PAGE UINT64_C(4096)
#define LIVE_QUEUE 64u
#define LIVE_BLOCK 512u /* pages that are lifted in one go: a huge page stays one */
#define LIVE_NONE UINT32_MAX
#define LIVE_ENTRY_WP (UINT64_C(1) << 57) /* of /proc/PID/pagemap */
#define LIVE_ENTRY_SWAP (UINT64_C(1) << 62)
#define LIVE_ENTRY_PRESENT (UINT64_C(1) << 63)

/* A stretch of a piece that lies in one area. */
struct live_part {
	uint64_t page; /* the first */
	uint64_t nr;
	uint64_t addr;
	uint64_t unit;  /* pages in one of the memory */
	uint64_t block; /* pages that are lifted in one go */
	const struct saving_piece *piece;
	struct pager_area *area;
};

enum live_slot_state { LIVE_FREE, LIVE_COPYING, LIVE_FULL };

/* A copy of a page. */
struct live_slot {
	uint64_t page;
	uint64_t since;
	uint32_t state;
	uint32_t next; /* free, or of the same bucket */
};

/* Pages that somebody waits for. */
struct live_wait {
	uint64_t page;
	uint64_t nr;
	uint64_t since; /* 0: no writer */
};

struct gm_snapshot_live {
	struct pager_taker taker; /* the first member */
	void *owner;              /* of another taker */
	struct gm_space *space;
	struct gm_pager *pager;
	struct gm_snapshot_live_opts opts;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* something was copied, read, or ended */
	/* Constant while it is armed. */
	struct saving s;
	struct live_part *parts; /* by page */
	uint32_t *by_addr;       /* their numbers, by address */
	size_t nr_parts;
	size_t cap_parts;
	uint64_t *data;
	uint64_t *there;
	struct gm_log *log;
	struct saving_taken taken;
	bool armed;
	struct page_region found[512];
	/* With the lock; @held is read without. */
	uint64_t *todo;
	uint64_t *held;
	uint64_t busy_first; /* being read by who saves */
	uint64_t busy_nr;
	bool busy_hit; /* somebody waits for one of them */
	bool saving;
	int code; /* of what ended it */
	struct gm_error why;
	uint8_t *pool;
	struct live_slot *slots;
	uint32_t *buckets;
	uint32_t nr_slots; /* a power of two */
	uint32_t free;
	uint32_t used;
	uint32_t copying;
	struct live_wait queue[LIVE_QUEUE];
	uint32_t nr_queue;
	bool overflow; /* somebody waits that is not in it */
	struct gm_snapshot_live_stats stats;
	/* Of who saves. */
	struct live_wait current; /* of the queue; nr 0: none */
	struct gm_sort_pair *batch;
	uint32_t nr_batch;
	uint32_t at_batch;
	uint64_t chunk;
	uint64_t cursor; /* in front of it all is lifted */
};

static inline bool live_get(const uint64_t *bits, uint64_t page)
{
	return __atomic_load_n(&bits[page / 64], __ATOMIC_ACQUIRE) >> page % 64 & 1;
}

static inline uint64_t live_mask(uint64_t first, uint64_t nr)
{
	uint64_t low = first % 64;

	return (nr >= 64 - low ? ~UINT64_C(0) : (UINT64_C(1) << (nr + low)) - 1) & ~UINT64_C(0)
											   << low;
}

static inline void live_set(uint64_t *bits, uint64_t first, uint64_t nr, bool on)
{
	while (nr) {
		uint64_t some = 64 - first % 64 < nr ? 64 - first % 64 : nr;

		if (on)
			__atomic_fetch_or(
				&bits[first / 64], live_mask(first, nr), __ATOMIC_RELEASE);
		else
			__atomic_fetch_and(
				&bits[first / 64], ~live_mask(first, nr), __ATOMIC_RELEASE);
		first += some;
		nr -= some;
	}
}

/* The first of @nr pages from @first on whose bit is @on: its number from @first; @nr if none is. */
static inline uint64_t live_find(const uint64_t *bits, uint64_t first, uint64_t nr, bool on)
{
	uint64_t done = 0;

	while (done < nr) {
		uint64_t at = first + done;
		uint64_t word = __atomic_load_n(&bits[at / 64], __ATOMIC_ACQUIRE);

		word = (on ? word : ~word) & live_mask(at, nr - done);
		if (word)
			return at / 64 * 64 + (uint64_t)__builtin_ctzll(word) - first;
		done += 64 - at % 64;
	}
	return nr;
}

static inline uint64_t live_page(const struct live_part *part, uint64_t addr)
{
	return part->page + (addr - part->addr) / LIVE_PAGE;
}

/* ---- snapshot_live_arm.c ---- */
int gm_live_arm(struct gm_snapshot_live *live, struct gm_log *log, struct gm_error *err);
/* Nobody is called any more, nothing is protected; of what was armed all is given back. */
void gm_live_let_go(struct gm_snapshot_live *live, bool good);
/* Lifts pages of a part, and wakes who waits there. */
int gm_live_lift(const struct live_part *part, uint64_t page, uint64_t nr);
void gm_live_lift_surely(const struct live_part *part, uint64_t page, uint64_t nr);
const struct live_part *gm_live_part(const struct gm_snapshot_live *live, uint64_t page);
const struct live_part *gm_live_part_at(const struct gm_snapshot_live *live, uint64_t addr);
/* A range of addresses is given back: @give is called with the lock, part by part until it fails. */
int gm_live_give_back(struct gm_snapshot_live *live, uint64_t addr, uint64_t len,
	int (*give)(struct gm_snapshot_live *live, const struct live_part *part, uint64_t first,
		uint64_t nr, struct gm_error *err),
	struct gm_error *err);

/* ---- snapshot_live_take.c ---- */
extern const struct pager_taker gm_live_taker;
int gm_live_pool_make(struct gm_snapshot_live *live);
void gm_live_pool_free(struct gm_snapshot_live *live);
void gm_live_pool_reset(struct gm_snapshot_live *live);
/* It is over: who waits goes on. */
void gm_live_fail(struct gm_snapshot_live *live, int code, uint64_t page, const char *text);
/* Bytes of pages of a part, as they are; and whether they are what they were at the instant. */
int gm_live_copy(const struct gm_snapshot_live *live, const struct live_part *part, uint64_t page,
	uint64_t nr, void *buf);
int gm_live_check(const struct gm_snapshot_live *live, const struct live_part *part, uint64_t page,
	uint64_t nr);
/* With the lock: the slot of a page, LIVE_NONE if it has none; and gives one back. */
uint32_t gm_live_slot(const struct gm_snapshot_live *live, uint64_t page);
void gm_live_slot_free(struct gm_snapshot_live *live, uint32_t slot);
/* With the lock: one for a page, in COPYING; there is a free one. */
uint32_t gm_live_slot_new(struct gm_snapshot_live *live, uint64_t page);
/* Is the page not there, of memory that a pager fills? */
bool gm_live_is_absent(const struct live_part *part, uint64_t page);
/* A writer waits no longer; and who is not in the queue is reported again. */
void gm_live_note(struct gm_snapshot_live *live, uint64_t since);
void gm_live_wake_all(const struct gm_snapshot_live *live);

/* ---- snapshot_live_read.c ---- */
/* The armed memory as a source, and what of it goes first. */
int gm_live_source(
	struct gm_snapshot_live *live, struct gm_source **ret_source, struct gm_error *err);
bool gm_live_next(void *ctx, bool end, uint64_t *ret_off, uint64_t *ret_len);
int gm_live_code(void *ctx);
/* With the lock: who copies a page that went from under him is given another. */
void gm_live_rescue(struct gm_snapshot_live *live);

#endif
