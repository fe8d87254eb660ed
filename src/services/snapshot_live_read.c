/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapshot_live_read.c - armed memory as a source: read in order, and before that what somebody waits for.
 *
 * While pages are read they are busy: who wants to write one waits, and is let go when they have been read. Of what
 * lies behind the cursor protection is lifted block by block, so that huge pages stay in one piece.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "services/snapshot_live.h"

#define STUCK_NS 100000000u
#define WAIT_NS 100000u

static uint64_t addr_of(const struct live_part *part, uint64_t page)
{
	return part->addr + (page - part->page) * LIVE_PAGE;
}

/* ---- in order ---- */

static void advance(struct gm_snapshot_live *live, uint64_t page)
{
	while (live->cursor < page) {
		const struct live_part *part = gm_live_part(live, live->cursor);
		uint64_t in = addr_of(part, live->cursor) / LIVE_PAGE % part->block;
		uint64_t nr = part->block - in;
		uint64_t left = part->page + part->nr - live->cursor;

		nr = nr < left ? nr : left;
		if (live->cursor + nr > page)
			break;
		if (live_find(live->data, live->cursor, nr, true) < nr)
			gm_live_lift_surely(part, live->cursor, nr);
		live->cursor += nr;
	}
}

/* What has been read already, out of order, is ABSENT. */
static int live_extent(void *ctx, uint64_t offset, struct gm_source_extent *extent)
{
	struct gm_snapshot_live *live = ctx;
	uint64_t page = offset / LIVE_PAGE;
	const struct live_part *part = gm_live_part(live, page);
	uint64_t left = part->page + part->nr - page;
	uint64_t most = (live->chunk - offset % live->chunk) / LIVE_PAGE;
	bool data = live_get(live->data, page);

	advance(live, page);
	if (live_get(live->todo, page)) {
		most = most < left ? most : left;
		extent->kind = GM_SOURCE_CHUNK;
		extent->len = live_find(live->todo, page, most, false) * LIVE_PAGE;
		return 0;
	}
	extent->kind = data ? GM_SOURCE_ABSENT : GM_SOURCE_ZERO;
	left = live_find(live->todo, page, left, true);
	extent->len = live_find(live->data, page, left, !data) * LIVE_PAGE;
	return 0;
}

/* ---- reading ---- */

int gm_live_code(void *ctx)
{
	struct gm_snapshot_live *live = ctx;
	int code;

	pthread_mutex_lock(&live->lock);
	code = live->code;
	pthread_mutex_unlock(&live->lock);
	return code;
}

static int bring_one(struct gm_snapshot_live *live, const struct pager_run *run)
{
	uint64_t until = gm_sys_now_ns() + (uint64_t)live->opts.wait_ms * 1000000u;

	for (;;) {
		enum gm_pagestate state = gm_pagestate_get(run->area->states, run->first);
		int rc = gm_live_code(live);

		if (rc || state == GM_PAGE_PRESENT || state == GM_PAGE_REMOVED)
			return rc;
		if (state == GM_PAGE_POISONED)
			return -EIO;
		if (gm_sys_now_ns() >= until)
			return -ETIMEDOUT;
		rc = gm_pager_resolve_page(live->pager, run);
		if (rc == -ESRCH)
			return rc;
		if (rc == -EAGAIN)
			gm_sys_sleep_ns(WAIT_NS);
	}
}

/* What a pager has not brought is brought, protected. A copy is a copy, whatever became of the page. */
static int bring(
	struct gm_snapshot_live *live, const struct live_part *part, uint64_t page, uint64_t nr)
{
	struct pager_run run = {.area = part->area, .nr = 1};
	uint64_t last = UINT64_MAX;
	int rc = 0;

	for (uint64_t i = 0; i < nr && part->area->way != GM_PAGER_PROTECT && !rc; i++) {
		run.first = (addr_of(part, page + i) - part->area->addr) / part->area->page;
		if (run.first != last && live_get(live->held, page + i))
			rc = bring_one(live, &run);
		last = run.first;
	}
	return rc;
}

/*
 * With the lock. Somebody copies a page that went from under him, of memory that a pager fills: if he is who steps it
 * nobody else gives it to him. It is found out that it is not what it was.
 */
void gm_live_rescue(struct gm_snapshot_live *live)
{
	for (uint32_t i = 0; i < live->nr_slots && live->copying; i++) {
		const struct live_slot *slot = &live->slots[i];
		const struct live_part *part = gm_live_part(live, slot->page);
		int64_t done;

		if (slot->state == LIVE_COPYING && !part->piece->file &&
			part->area->way != GM_PAGER_PROTECT &&
			gm_sys_now_ns() - slot->since > STUCK_NS)
			gm_sys_uffd_fill(part->area->uffd->fd, GM_UFFD_ZERO,
				addr_of(part, slot->page), 0, LIVE_PAGE, &done);
	}
}

/* From here on nobody takes pages of the range; those that are being copied are waited for. */
static int begin(struct gm_snapshot_live *live, uint64_t page, uint64_t nr)
{
	int rc;

	pthread_mutex_lock(&live->lock);
	live->busy_first = page;
	live->busy_nr = nr;
	live->busy_hit = false;
	for (uint64_t i = 0; i < nr && !live->code; i++) {
		uint32_t slot = LIVE_NONE;

		if (live_get(live->todo, page + i) && !live_get(live->held, page + i))
			slot = gm_live_slot(live, page + i);
		while (slot != LIVE_NONE && live->slots[slot].state == LIVE_COPYING) {
			gm_sys_cond_wait(&live->changed, &live->lock, gm_sys_now_ns() + STUCK_NS);
			gm_live_rescue(live);
		}
	}
	rc = live->code;
	pthread_mutex_unlock(&live->lock);
	return rc;
}

static int read_held(struct gm_snapshot_live *live, const struct live_part *part, uint64_t page,
	uint64_t nr, uint8_t *to)
{
	int rc = 0;

	for (uint64_t i = 0, run; i < nr && !rc; i += run) {
		run = 1;
		if (!live_get(live->held, page + i))
			continue;
		run = live_find(live->held, page + i, nr - i, false);
		rc = gm_live_copy(live, part, page + i, run, to + i * LIVE_PAGE);
		if (!rc)
			rc = gm_live_check(live, part, page + i, run);
	}
	return rc;
}

/* With the lock: what was copied to the pool. */
static void read_copies(struct gm_snapshot_live *live, uint64_t page, uint64_t nr, uint8_t *to)
{
	for (uint64_t i = 0; i < nr; i++) {
		uint32_t slot = LIVE_NONE;

		if (live_get(live->todo, page + i) && !live_get(live->held, page + i))
			slot = gm_live_slot(live, page + i);
		if (slot == LIVE_NONE)
			continue;
		memcpy(to + i * LIVE_PAGE, live->pool + slot * LIVE_PAGE, LIVE_PAGE);
		gm_live_slot_free(live, slot);
	}
}

/* All of it has been read, or none; who waits for it goes on. */
static void finish(struct gm_snapshot_live *live, const struct live_part *part, uint64_t page,
	uint64_t nr, uint8_t *to, bool good)
{
	bool hit;

	pthread_mutex_lock(&live->lock);
	if (good) {
		if (to)
			read_copies(live, page, nr, to);
		live_set(live->todo, page, nr, false);
		live_set(live->held, page, nr, false);
	}
	hit = live->busy_hit;
	live->busy_nr = 0;
	gm_sys_cond_wake(&live->changed);
	pthread_mutex_unlock(&live->lock);
	if (hit && good)
		gm_live_lift_surely(part, page, nr);
	else if (hit)
		gm_pager_uffd_wake(part->area->uffd, addr_of(part, page), nr * LIVE_PAGE);
}

static int read_part(struct gm_snapshot_live *live, const struct live_part *part, uint64_t page,
	uint64_t nr, uint8_t *to)
{
	int rc = bring(live, part, page, nr);
	bool lost;

	if (!rc)
		rc = begin(live, page, nr);
	if (!rc)
		rc = read_held(live, part, page, nr, to);
	/* Of one page it is recorded, and no more to be done. */
	lost = nr == 1 && (rc == -EIO || rc == -EBADMSG || rc == -EHWPOISON);
	finish(live, part, page, nr, lost ? NULL : to, !rc || lost);
	return rc;
}

static int live_read(void *ctx, uint64_t offset, void *buf, size_t len, struct gm_error *err)
{
	struct gm_snapshot_live *live = ctx;
	uint64_t page = offset / LIVE_PAGE;
	uint64_t nr = len / LIVE_PAGE;
	uint8_t *to = buf;
	int rc = 0;

	while (nr && !rc) {
		const struct live_part *part = gm_live_part(live, page);
		uint64_t some = part->page + part->nr - page;
		uint64_t gpa =
			part->piece->reach.range.first + (page * LIVE_PAGE - part->piece->off);

		some = some < nr ? some : nr;
		rc = read_part(live, part, page, some, to);
		if (rc)
			gm_error_set(err, rc, gpa, some * LIVE_PAGE,
				"%s: 0x%" PRIx64 " bytes at gpa 0x%" PRIx64
				" cannot be saved: %s%s",
				live->space->name, some * LIVE_PAGE, gpa, gm_error_word(rc),
				rc == -ESTALE      ? " (they went by another way than gm_discard())"
				: rc == -ETIMEDOUT ? " (who brings them does not)"
						   : "");
		to += some * LIVE_PAGE;
		page += some;
		nr -= some;
	}
	return rc;
}

int gm_live_source(
	struct gm_snapshot_live *live, struct gm_source **ret_source, struct gm_error *err)
{
	const struct gm_source_ops ops = {
		.size = sizeof(ops),
		.name = live->space->name,
		.len = live->s.len,
		.extent = live_extent,
		.read = live_read,
		.ctx = live,
	};

	return gm_source_create(&ops, ret_source, err);
}

/* ---- what goes first ---- */

/* With the lock, which is released: the range has been read. */
static void let_writer_go(struct gm_snapshot_live *live)
{
	struct live_wait done = live->current;

	live->current.nr = 0;
	gm_live_note(live, done.since);
	pthread_mutex_unlock(&live->lock);
	gm_live_lift_surely(gm_live_part(live, done.page), done.page, done.nr);
	pthread_mutex_lock(&live->lock);
}

/* With the lock: what is in the queue. */
static bool next_waiting(struct gm_snapshot_live *live, uint64_t *ret_page, uint64_t *ret_nr)
{
	for (;;) {
		struct live_wait *current = &live->current;
		uint64_t at = live_find(live->todo, current->page, current->nr, true);

		if (at < current->nr) {
			*ret_page = current->page + at;
			*ret_nr = live_find(live->todo, *ret_page, current->nr - at, false);
			return true;
		}
		if (current->nr)
			let_writer_go(live);
		if (!live->nr_queue)
			break;
		live->current = live->queue[0];
		live->nr_queue--;
		memmove(live->queue, live->queue + 1, live->nr_queue * sizeof(live->queue[0]));
	}
	if (live->overflow) {
		live->overflow = false;
		pthread_mutex_unlock(&live->lock);
		gm_live_wake_all(live);
		pthread_mutex_lock(&live->lock);
	}
	return false;
}

/* With the lock: all copies, sorted, when they have become many. */
static bool next_copies(struct gm_snapshot_live *live, uint64_t *ret_page, uint64_t *ret_nr)
{
	const struct live_part *part;
	uint64_t page;
	uint64_t nr = 1;

	if (live->at_batch == live->nr_batch && live->used >= live->nr_slots / 4) {
		live->at_batch = live->nr_batch = 0;
		for (uint32_t i = 0; i < live->nr_slots; i++) {
			if (live->slots[i].state == LIVE_FULL)
				live->batch[live->nr_batch++] =
					(struct gm_sort_pair){live->slots[i].page, i};
		}
		gm_sort_pairs(live->batch, live->nr_batch);
	}
	/* Some were read in order since. */
	while (live->at_batch < live->nr_batch &&
		!live_get(live->todo, live->batch[live->at_batch].key))
		live->at_batch++;
	if (live->at_batch == live->nr_batch)
		return false;
	page = live->batch[live->at_batch++].key;
	part = gm_live_part(live, page);
	while (live->at_batch < live->nr_batch && page + nr < part->page + part->nr &&
		nr * LIVE_PAGE < live->chunk && live->batch[live->at_batch].key == page + nr &&
		live_get(live->todo, page + nr)) {
		live->at_batch++;
		nr++;
	}
	*ret_page = page;
	*ret_nr = nr;
	return true;
}

bool gm_live_next(void *ctx, bool end, uint64_t *ret_off, uint64_t *ret_len)
{
	struct gm_snapshot_live *live = ctx;
	uint64_t page = 0;
	uint64_t nr = 0;
	bool any;

	pthread_mutex_lock(&live->lock);
	gm_live_rescue(live);
	any = next_waiting(live, &page, &nr) || next_copies(live, &page, &nr);
	pthread_mutex_unlock(&live->lock);
	if (!any && end)
		advance(live, live->s.len / LIVE_PAGE);
	*ret_off = page * LIVE_PAGE;
	*ret_len = nr * LIVE_PAGE;
	return any;
}
