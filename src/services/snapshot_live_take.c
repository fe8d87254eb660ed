/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapshot_live_take.c - pages that are about to be written, or given back, while they are saved.
 *
 * A page is copied to a slot of the pool, looked at once more (is it what it was?), and lifted. Without a free slot,
 * and of explicit huge pages, it is put into the queue: who saves reads it next, and lifts it then. What is being
 * read by who saves is left to him.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"
#include "services/snapshot_live.h"
#include "sys/uapi.h"

#define SOME 64u
#define WAKE_NS 1000000000u
#define GONE "a page went by another way than gm_discard() before it was saved,"

/* ---- the pool ---- */

int gm_live_pool_make(struct gm_snapshot_live *live)
{
	const int prot = PROT_READ | PROT_WRITE;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	void *at;
	int rc = gm_sys_mmap(NULL, live->nr_slots * LIVE_PAGE, prot, flags, -1, 0, &at);

	if (rc)
		return rc;
	live->pool = at;
	live->slots = gm_sys_alloc_array(live->nr_slots, sizeof(*live->slots));
	live->buckets = gm_sys_alloc_array(live->nr_slots, sizeof(*live->buckets));
	live->batch = gm_sys_alloc_array(live->nr_slots, sizeof(*live->batch));
	if (!live->slots || !live->buckets || !live->batch)
		return -ENOMEM;
	/* Its pages are there before the guest waits for them; if they cannot be they are made later. */
	(void)gm_sys_madvise(live->pool, live->nr_slots * LIVE_PAGE, MADV_POPULATE_WRITE);
	return 0;
}

void gm_live_pool_free(struct gm_snapshot_live *live)
{
	if (live->pool)
		gm_sys_munmap(live->pool, live->nr_slots * LIVE_PAGE);
	gm_sys_free(live->slots);
	gm_sys_free(live->buckets);
	gm_sys_free(live->batch);
}

void gm_live_pool_reset(struct gm_snapshot_live *live)
{
	live->free = LIVE_NONE;
	for (uint32_t i = 0; i < live->nr_slots; i++) {
		live->slots[i] = (struct live_slot){.next = live->free};
		live->free = i;
		live->buckets[i] = LIVE_NONE;
	}
	live->used = 0;
	live->copying = 0;
	live->nr_queue = 0;
	live->overflow = false;
	live->current.nr = 0;
	live->nr_batch = live->at_batch = 0;
	live->busy_nr = 0;
	live->busy_hit = false;
}

static uint32_t *bucket_of(const struct gm_snapshot_live *live, uint64_t page)
{
	uint64_t hash = page * UINT64_C(0x9e3779b97f4a7c15) >> 32;

	return &live->buckets[hash & (live->nr_slots - 1)];
}

uint32_t gm_live_slot(const struct gm_snapshot_live *live, uint64_t page)
{
	uint32_t slot = *bucket_of(live, page);

	while (slot != LIVE_NONE && live->slots[slot].page != page)
		slot = live->slots[slot].next;
	return slot;
}

void gm_live_slot_free(struct gm_snapshot_live *live, uint32_t slot)
{
	uint32_t *at = bucket_of(live, live->slots[slot].page);

	while (*at != slot)
		at = &live->slots[*at].next;
	*at = live->slots[slot].next;
	live->slots[slot] = (struct live_slot){.next = live->free};
	live->free = slot;
	live->used--;
}

uint32_t gm_live_slot_new(struct gm_snapshot_live *live, uint64_t page)
{
	uint32_t slot = live->free;
	uint32_t *bucket = bucket_of(live, page);

	live->free = live->slots[slot].next;
	live->slots[slot] = (struct live_slot){
		.page = page,
		.since = gm_sys_now_ns(),
		.state = LIVE_COPYING,
		.next = *bucket,
	};
	*bucket = slot;
	live->used++;
	live->copying++;
	return slot;
}

/* ---- bytes ---- */

int gm_live_copy(const struct gm_snapshot_live *live, const struct live_part *part, uint64_t page,
	uint64_t nr, void *buf)
{
	const struct saving_piece *piece = part->piece;
	uint64_t in = page * LIVE_PAGE - piece->off;

	/* Through its file: the mapping may have to be filled by the thread that asks. */
	return piece->file ? gm_source_read(piece->file, in, buf, nr * LIVE_PAGE, NULL)
			   : gm_saving_copy(&live->s, piece->reach.hva + in, buf, nr * LIVE_PAGE);
}

/* Of shared memory the file may have a hole where there was none. */
static int check_file(const struct live_part *part, uint64_t page, uint64_t nr)
{
	struct gm_source_extent extent;
	uint64_t in = page * LIVE_PAGE - part->piece->off;
	int rc = gm_source_extent(part->piece->file, in, &extent);

	if (rc)
		return rc;
	return extent.kind == GM_SOURCE_ZERO || extent.len < nr * LIVE_PAGE ? -ESTALE : 0;
}

/* It is protected yet, so nobody has written; and it is the page that was there. */
int gm_live_check(const struct gm_snapshot_live *live, const struct live_part *part, uint64_t page,
	uint64_t nr)
{
	uint64_t entries[SOME];
	uint64_t at = part->addr / LIVE_PAGE + (page - part->page);
	uint64_t some;

	for (uint64_t done = 0; done < nr; done += some) {
		ssize_t got;

		some = nr - done < SOME ? nr - done : SOME;
		do {
			got = gm_sys_pread(live->s.pagemap, entries, some * 8, (at + done) * 8);
		} while (got == -EINTR);
		if (got < 8)
			return got < 0 ? (int)got : -EIO;
		some = (uint64_t)got / 8;
		for (uint64_t i = 0; i < some; i++) {
			if (!(entries[i] & LIVE_ENTRY_WP) ||
				(!(entries[i] & LIVE_ENTRY_PRESENT) &&
					live_get(live->there, page + done + i)))
				return -ESTALE;
		}
	}
	return part->piece->file ? check_file(part, page, nr) : 0;
}

/* ---- the queue ---- */

void gm_live_note(struct gm_snapshot_live *live, uint64_t since)
{
	uint64_t ns = since ? gm_sys_now_ns() - since : 0;

	if (ns > live->stats.longest_ns)
		live->stats.longest_ns = ns;
}

/* With the lock. A range that is in it already is left as it is. */
static void enqueue(struct gm_snapshot_live *live, uint64_t page, uint64_t nr, bool writer)
{
	const struct live_wait *current = &live->current;

	if (current->nr && page >= current->page && page - current->page < current->nr)
		return;
	for (uint32_t i = 0; i < live->nr_queue; i++) {
		if (live->queue[i].page == page && live->queue[i].nr >= nr)
			return;
	}
	if (writer)
		live->stats.waits++;
	if (live->nr_queue == LIVE_QUEUE) {
		live->overflow = true;
		return;
	}
	live->queue[live->nr_queue++] = (struct live_wait){page, nr, writer ? gm_sys_now_ns() : 0};
}

/* Who waits for pages of which nothing is known is reported again. */
void gm_live_wake_all(const struct gm_snapshot_live *live)
{
	for (size_t i = 0; i < live->nr_parts; i++)
		gm_pager_uffd_wake(live->parts[i].area->uffd, live->parts[i].addr,
			live->parts[i].nr * LIVE_PAGE);
}

void gm_live_fail(struct gm_snapshot_live *live, int code, uint64_t page, const char *text)
{
	struct live_wait queue[LIVE_QUEUE];
	uint32_t nr;
	bool overflow;

	pthread_mutex_lock(&live->lock);
	if (!live->code) {
		const struct live_part *part = page == UINT64_MAX ? NULL : gm_live_part(live, page);
		uint64_t gpa = part ? part->piece->reach.range.first +
					       (page * LIVE_PAGE - part->piece->off)
				    : 0;

		live->code = code;
		gm_error_set(&live->why, code, gpa, part ? LIVE_PAGE : 0,
			part ? "saving a guest that runs: %s at gpa 0x%" PRIx64
			     : "saving a guest that runs: %s",
			text, gpa);
	}
	nr = live->nr_queue;
	memcpy(queue, live->queue, nr * sizeof(queue[0]));
	live->nr_queue = 0;
	overflow = live->overflow;
	live->overflow = false;
	gm_sys_cond_wake(&live->changed);
	pthread_mutex_unlock(&live->lock);
	for (uint32_t i = 0; i < nr; i++)
		gm_live_lift(gm_live_part(live, queue[i].page), queue[i].page, queue[i].nr);
	if (overflow)
		gm_live_wake_all(live);
}

/* ---- copying ---- */

/* With the lock, which is released meanwhile; of a page that is held. */
static void copy_page(struct gm_snapshot_live *live, const struct live_part *part, uint64_t page)
{
	uint32_t slot = gm_live_slot_new(live, page);
	int rc;

	live_set(live->held, page, 1, false);
	pthread_mutex_unlock(&live->lock);
	rc = gm_live_copy(live, part, page, 1, live->pool + slot * LIVE_PAGE);
	if (!rc)
		rc = gm_live_check(live, part, page, 1);
	if (rc)
		gm_live_fail(live, rc, page,
			rc == -ESTALE ? GONE : "a page cannot be read before it is written,");
	pthread_mutex_lock(&live->lock);
	live->slots[slot].state = LIVE_FULL;
	live->copying--;
	gm_sys_cond_wake(&live->changed);
}

/* In the file it may be half there, and in the memory it would have to be waited for. */
bool gm_live_is_absent(const struct live_part *part, uint64_t page)
{
	const struct pager_area *area = part->area;

	return area->way != GM_PAGER_PROTECT &&
	       gm_pagestate_get(area->states,
		       (part->addr - area->addr) / area->page + (page - part->page) / part->unit) !=
		       GM_PAGE_PRESENT;
}

static bool is_busy(const struct gm_snapshot_live *live, uint64_t page)
{
	return page - live->busy_first < live->busy_nr;
}

/* With the lock: 0 if the page is to be lifted. */
static int take(struct gm_snapshot_live *live, const struct live_part *part, uint64_t page)
{
	uint64_t unit = page - (page - part->page) % part->unit;
	uint32_t slot;

	if (live->code)
		return 0;
	if (part->unit > 1) {
		if (live_find(live->todo, unit, part->unit, true) == part->unit &&
			!(is_busy(live, unit) || is_busy(live, unit + part->unit - 1) ||
				(live->busy_nr && live->busy_first - unit < part->unit)))
			return 0;
		enqueue(live, unit, part->unit, true);
		return -EINPROGRESS;
	}
	if (!live_get(live->held, page)) {
		slot = gm_live_slot(live, page);
		return slot != LIVE_NONE && live->slots[slot].state == LIVE_COPYING ? -EINPROGRESS
										    : 0;
	}
	if (is_busy(live, page)) {
		live->busy_hit = true;
		return -EINPROGRESS;
	}
	if (live->free == LIVE_NONE) {
		enqueue(live, page, 1, true);
		return -EINPROGRESS;
	}
	live->stats.pre_images++;
	copy_page(live, part, page);
	return 0;
}

static struct gm_snapshot_live *live_of(const struct pager_taker *taker)
{
	return (struct gm_snapshot_live *)(uintptr_t)taker;
}

/* ---- the pager's calls ---- */

static bool on_holds(const struct pager_taker *taker, uint64_t addr)
{
	const struct gm_snapshot_live *live = live_of(taker);
	const struct live_part *part = gm_live_part_at(live, addr);

	/* All pages of a huge one are held, or none that has not been read. */
	return part && live_find(live->held, live_page(part, addr), part->unit, true) < part->unit;
}

static int on_written(struct pager_taker *taker, uint64_t addr)
{
	struct gm_snapshot_live *live = live_of(taker);
	const struct live_part *part = gm_live_part_at(live, addr);
	uint64_t page = part ? live_page(part, addr) : 0;
	int rc;

	if (!part)
		return 0;
	pthread_mutex_lock(&live->lock);
	rc = take(live, part, page);
	pthread_mutex_unlock(&live->lock);
	if (rc)
		return rc;
	return gm_live_lift(part, page - (page - part->page) % part->unit, part->unit);
}

static void on_lost(struct pager_taker *taker, uint64_t addr)
{
	struct gm_snapshot_live *live = live_of(taker);
	const struct live_part *part = gm_live_part_at(live, addr);

	gm_live_fail(live, -ESTALE, part ? live_page(part, addr) : UINT64_MAX, GONE);
}

/* With the lock: is any of it nowhere but in the memory, or being copied? */
static bool is_needed(
	const struct gm_snapshot_live *live, uint64_t first, uint64_t nr, uint64_t *ret_page)
{
	uint64_t at = live_find(live->held, first, nr, true);

	*ret_page = first + at;
	if (at < nr)
		return true;
	if (live->busy_nr && (is_busy(live, first) || live->busy_first - first < nr))
		return true;
	for (uint32_t i = 0; i < live->nr_slots && live->copying; i++) {
		if (live->slots[i].state == LIVE_COPYING && live->slots[i].page - first < nr)
			return true;
	}
	return false;
}

/* With the lock. Pages that fit are copied, for others who saves is asked. */
static int give_back(struct gm_snapshot_live *live, const struct live_part *part, uint64_t first,
	uint64_t nr, struct gm_error *err)
{
	uint64_t until = gm_sys_now_ns() + (uint64_t)live->opts.wait_ms * 1000000u;
	uint64_t page;

	while (!live->code && is_needed(live, first, nr, &page)) {
		uint64_t now = gm_sys_now_ns();

		if (page < first + nr && part->unit == 1 && !is_busy(live, page) &&
			!gm_live_is_absent(part, page) && live->free != LIVE_NONE) {
			live->stats.discarded++;
			copy_page(live, part, page);
			continue;
		}
		if (now >= until || (!live->saving && page < first + nr))
			return gm_error_set(err, -EBUSY,
				part->piece->reach.range.first +
					(first * LIVE_PAGE - part->piece->off),
				nr * LIVE_PAGE, "pager: the memory is being saved");
		if (page < first + nr) {
			page -= (page - part->page) % part->unit;
			enqueue(live, page, first + nr > page ? first + nr - page : part->unit,
				false);
		}
		gm_sys_cond_wait(
			&live->changed, &live->lock, until - now < WAKE_NS ? until : now + WAKE_NS);
	}
	return 0;
}

static int on_given_back(
	struct pager_taker *taker, uint64_t addr, uint64_t len, struct gm_error *err)
{
	return gm_live_give_back(live_of(taker), addr, len, give_back, err);
}

const struct pager_taker gm_live_taker = {
	.holds = on_holds,
	.written = on_written,
	.lost = on_lost,
	.given_back = on_given_back,
};
