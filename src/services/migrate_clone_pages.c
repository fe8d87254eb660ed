/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_clone_pages.c - pages as they were at the instant: taken before they are written, read, and let go.
 *
 * A page of explicit huge ones is taken with all its neighbours, since protection is lifted of all. Of two threads that
 * take pages of the same one it is the last that lifts it. What cannot be taken is lost: nobody needs it any more, and
 * who asks for it all the same is told so. So nothing is ever sent that is not of the instant.
 */
#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "services/migrate_clone.h"

#define STUCK_NS 100000000u
#define WAKE_NS 1000000000u

/* ---- who needs what: with the lock ---- */

static uint64_t words_of(const struct gm_migrate_clone *clone)
{
	return clone->live->s.len / LIVE_PAGE / 64 + 1;
}

static void free_slots(struct gm_migrate_clone *clone, uint64_t word, uint64_t pages)
{
	struct gm_snapshot_live *live = clone->live;

	for (; pages; pages &= pages - 1) {
		uint32_t slot = gm_live_slot(live, word * 64 + (uint64_t)__builtin_ctzll(pages));

		/* One that is being copied is given back by who copies. */
		if (slot != LIVE_NONE && live->slots[slot].state == LIVE_FULL) {
			gm_live_slot_free(live, slot);
			clone->freed = true;
		}
	}
}

/* Of a word of pages: one does not need these; what nobody does is let go. */
static void let_go_of(struct clone_one *one, uint64_t word, uint64_t pages)
{
	struct gm_migrate_clone *clone = one->clone;
	struct gm_snapshot_live *live = clone->live;
	uint64_t others = 0;
	uint64_t gone;

	pages &= one->needs[word];
	one->needs[word] &= ~pages;
	if (!pages)
		return;
	for (uint32_t i = 0; i < clone->nr; i++)
		others |= clone->ones[i].needs ? clone->ones[i].needs[word] : 0;
	gone = pages & ~others;
	if (!gone)
		return;
	/* Who waits for room to write to one that is held needs none now. */
	clone->let_go |= (gone & live->held[word]) != 0;
	free_slots(clone, word, gone & ~live->held[word]);
	__atomic_fetch_and(&live->todo[word], ~gone, __ATOMIC_RELEASE);
	__atomic_fetch_and(&live->held[word], ~gone, __ATOMIC_RELEASE);
}

static void let_go(struct clone_one *one, uint64_t first, uint64_t nr)
{
	while (nr) {
		uint64_t some = 64 - first % 64 < nr ? 64 - first % 64 : nr;

		let_go_of(one, first / 64, live_mask(first, nr));
		first += some;
		nr -= some;
	}
}

/* It cannot be had any more: for nobody. */
static void lose(struct gm_migrate_clone *clone, uint64_t page)
{
	struct gm_snapshot_live *live = clone->live;

	if (live_get(live->todo, page))
		clone->lost++;
	for (uint32_t i = 0; i < clone->nr; i++) {
		if (clone->ones[i].needs)
			live_set(clone->ones[i].needs, page, 1, false);
	}
	if (live_get(live->held, page))
		clone->let_go = true;
	else
		free_slots(clone, page / 64, UINT64_C(1) << page % 64);
	live_set(live->todo, page, 1, false);
	live_set(live->held, page, 1, false);
}

void gm_clone_leave(struct clone_one *one)
{
	struct gm_migrate_clone *clone = one->clone;

	pthread_mutex_lock(&clone->live->lock);
	if (one->needs) {
		for (uint64_t i = 0; i < words_of(clone); i++)
			let_go_of(one, i, ~UINT64_C(0));
	}
	gm_sys_cond_wake(&clone->live->changed);
	pthread_mutex_unlock(&clone->live->lock);
}

void gm_clone_wake(struct gm_migrate_clone *clone)
{
	bool wake;

	pthread_mutex_lock(&clone->live->lock);
	wake = clone->full && (clone->freed || clone->let_go);
	if (wake) {
		clone->full = false;
		clone->tried = !clone->freed;
	}
	clone->freed = false;
	clone->let_go = false;
	if (wake)
		gm_sys_cond_wake(&clone->live->changed);
	pthread_mutex_unlock(&clone->live->lock);
	if (wake)
		gm_live_wake_all(clone->live);
}

/* ---- taking ---- */

static struct gm_migrate_clone *clone_of(const struct pager_taker *taker)
{
	return ((const struct gm_snapshot_live *)(const void *)taker)->owner;
}

static bool is_busy(const struct gm_snapshot_live *live, uint64_t first, uint64_t nr)
{
	return live->busy_nr &&
	       (first - live->busy_first < live->busy_nr || live->busy_first - first < nr);
}

static bool is_copying(const struct gm_snapshot_live *live, uint64_t first, uint64_t nr)
{
	for (uint32_t i = 0; i < live->nr_slots && live->copying; i++) {
		if (live->slots[i].state == LIVE_COPYING && live->slots[i].page - first < nr)
			return true;
	}
	return false;
}

static uint64_t count_held(const struct gm_snapshot_live *live, uint64_t first, uint64_t nr)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < nr; i++)
		count += live_get(live->held, first + i);
	return count;
}

/* With the lock, which is released meanwhile: of a page that is held; there is room. */
static void copy_page(struct gm_migrate_clone *clone, const struct live_part *part, uint64_t page)
{
	struct gm_snapshot_live *live = clone->live;
	uint32_t slot = gm_live_slot_new(live, page);
	int rc;

	if (live->used > clone->pre_most)
		clone->pre_most = live->used;
	live_set(live->held, page, 1, false);
	pthread_mutex_unlock(&live->lock);
	rc = gm_live_copy(live, part, page, 1, live->pool + slot * LIVE_PAGE);
	if (!rc)
		rc = gm_live_check(live, part, page, 1);
	pthread_mutex_lock(&live->lock);
	live->slots[slot].state = LIVE_FULL;
	live->copying--;
	if (rc)
		lose(clone, page);
	else if (!live_get(live->todo, page))
		free_slots(clone, page / 64, UINT64_C(1) << page % 64);
	if (clone->full && clone->freed)
		gm_clone_kick(clone);
	gm_sys_cond_wake(&live->changed);
}

/* With the lock: all that is held of some pages. -EINPROGRESS: not all of it, now; -ENOSPC: there is no room. */
static int take(struct gm_migrate_clone *clone, const struct live_part *part, uint64_t first,
	uint64_t nr, uint64_t *counter)
{
	struct gm_snapshot_live *live = clone->live;
	uint64_t at;

	if (is_busy(live, first, nr)) {
		live->busy_hit = true;
		return -EINPROGRESS;
	}
	if (count_held(live, first, nr) > live->nr_slots - live->used)
		return -ENOSPC;
	while ((at = live_find(live->held, first, nr, true)) < nr) {
		if (live->free == LIVE_NONE)
			return -ENOSPC;
		++*counter;
		copy_page(clone, part, first + at);
		/* Somebody may have begun to read. */
		if (is_busy(live, first, nr)) {
			live->busy_hit = true;
			return -EINPROGRESS;
		}
	}
	return is_copying(live, first, nr) ? -EINPROGRESS : 0;
}

static bool on_holds(const struct pager_taker *taker, uint64_t addr)
{
	const struct gm_snapshot_live *live = (const struct gm_snapshot_live *)(const void *)taker;
	const struct live_part *part = gm_live_part_at(live, addr);

	return part && live_find(live->held, live_page(part, addr), part->unit, true) < part->unit;
}

static int on_written(struct pager_taker *taker, uint64_t addr)
{
	struct gm_migrate_clone *clone = clone_of(taker);
	struct gm_snapshot_live *live = clone->live;
	const struct live_part *part = gm_live_part_at(live, addr);
	uint64_t first;
	int rc;

	if (!part)
		return 0;
	first = live_page(part, addr);
	first -= (first - part->page) % part->unit;
	pthread_mutex_lock(&live->lock);
	rc = take(clone, part, first, part->unit, &live->stats.pre_images);
	if (rc == -ENOSPC) {
		clone->full = true;
		live->stats.waits++;
	}
	pthread_mutex_unlock(&live->lock);
	/* Who steps gives somebody up, or finds out that there is room by now. */
	if (rc == -ENOSPC)
		gm_clone_kick(clone);
	return rc ? -EINPROGRESS : gm_live_lift(part, first, part->unit);
}

static void on_lost(struct pager_taker *taker, uint64_t addr)
{
	struct gm_migrate_clone *clone = clone_of(taker);
	const struct live_part *part = gm_live_part_at(clone->live, addr);
	uint64_t first = part ? live_page(part, addr) : 0;

	pthread_mutex_lock(&clone->live->lock);
	for (uint64_t i = 0; part && i < part->unit; i++) {
		if (live_get(clone->live->held, first + i))
			lose(clone, first + i);
	}
	if (clone->full)
		gm_clone_kick(clone);
	pthread_mutex_unlock(&clone->live->lock);
}

/* With the lock. */
static int give_back(struct gm_snapshot_live *live, const struct live_part *part, uint64_t first,
	uint64_t nr, struct gm_error *err)
{
	struct gm_migrate_clone *clone = live->owner;
	uint64_t until = gm_sys_now_ns() + (uint64_t)clone->opts.wait_ms * 1000000u;

	for (uint64_t done = 0; done < nr; done += part->unit) {
		int rc = 0;

		while (live_find(live->held, first + done, part->unit, true) < part->unit ||
			is_copying(live, first + done, part->unit)) {
			uint64_t now = gm_sys_now_ns();

			rc = take(clone, part, first + done, part->unit, &live->stats.discarded);
			if (!rc)
				break;
			if (now >= until)
				return gm_error_set(err, -EBUSY,
					part->piece->reach.range.first +
						(first * LIVE_PAGE - part->piece->off),
					nr * LIVE_PAGE, "pager: the memory is being cloned");
			if (rc == -ENOSPC) {
				clone->full = true;
				gm_clone_kick(clone);
			}
			gm_sys_cond_wait(&live->changed, &live->lock,
				until - now < WAKE_NS ? until : now + WAKE_NS);
		}
	}
	return 0;
}

static int on_given_back(
	struct pager_taker *taker, uint64_t addr, uint64_t len, struct gm_error *err)
{
	return gm_live_give_back(clone_of(taker)->live, addr, len, give_back, err);
}

const struct pager_taker gm_clone_taker = {
	.holds = on_holds,
	.written = on_written,
	.lost = on_lost,
	.given_back = on_given_back,
};

/* ---- reading ---- */

/* From here on nobody takes pages of the range; those that are being copied are waited for. */
static void begin_read(struct gm_snapshot_live *live, uint64_t page, uint64_t nr)
{
	pthread_mutex_lock(&live->lock);
	live->busy_first = page;
	live->busy_nr = nr;
	live->busy_hit = false;
	while (is_copying(live, page, nr)) {
		gm_sys_cond_wait(&live->changed, &live->lock, gm_sys_now_ns() + STUCK_NS);
		gm_live_rescue(live);
	}
	pthread_mutex_unlock(&live->lock);
}

static void end_read(
	struct gm_snapshot_live *live, const struct live_part *part, uint64_t page, uint64_t nr)
{
	bool hit;

	pthread_mutex_lock(&live->lock);
	hit = live->busy_hit;
	live->busy_nr = 0;
	gm_sys_cond_wake(&live->changed);
	pthread_mutex_unlock(&live->lock);
	/* Who waits there is reported again, and the page is taken for him; all of a huge one. */
	if (hit) {
		uint64_t first = page - (page - part->page) % part->unit;
		uint64_t last = page + (nr - 1);

		last += part->unit - 1 - (last - part->page) % part->unit;
		gm_pager_uffd_wake(part->area->uffd, part->addr + (first - part->page) * LIVE_PAGE,
			(last - first + 1) * LIVE_PAGE);
	}
}

/* Memory: what is there is that of the instant if it is protected yet when it was read. */
static int read_held(struct gm_migrate_clone *clone, const struct live_part *part, uint64_t page,
	uint64_t nr, uint8_t *to)
{
	struct gm_snapshot_live *live = clone->live;
	int rc = gm_live_copy(live, part, page, nr, to);

	if (!rc)
		rc = gm_live_check(live, part, page, nr);
	if (rc && nr == 1) {
		pthread_mutex_lock(&live->lock);
		lose(clone, page);
		pthread_mutex_unlock(&live->lock);
	}
	return rc ? -EIO : 0;
}

static int read_copy(struct clone_one *one, uint64_t page, uint8_t *to)
{
	struct gm_snapshot_live *live = one->clone->live;
	uint32_t slot;

	pthread_mutex_lock(&live->lock);
	slot = live_get(one->needs, page) ? gm_live_slot(live, page) : LIVE_NONE;
	pthread_mutex_unlock(&live->lock);
	if (slot == LIVE_NONE)
		return -EIO;
	/* It is let go by who reads, and by nobody else. */
	memcpy(to, live->pool + slot * LIVE_PAGE, LIVE_PAGE);
	return 0;
}

static int read_part(struct clone_one *one, const struct live_part *part, uint64_t page,
	uint64_t nr, uint8_t *to)
{
	struct gm_snapshot_live *live = one->clone->live;
	int rc = 0;

	begin_read(live, page, nr);
	for (uint64_t i = 0, run; i < nr && !rc; i += run) {
		run = 1;
		if (!live_get(live->data, page + i)) {
			memset(to + i * LIVE_PAGE, 0, LIVE_PAGE);
		} else if (!live_get(one->needs, page + i)) {
			rc = -EIO;
		} else if (live_get(live->held, page + i)) {
			run = live_find(live->held, page + i, nr - i, false);
			run = live_find(one->needs, page + i, run, false);
			rc = read_held(one->clone, part, page + i, run, to + i * LIVE_PAGE);
		} else {
			rc = read_copy(one, page + i, to + i * LIVE_PAGE);
		}
	}
	end_read(live, part, page, nr);
	return rc;
}

static int then_read(void *ctx, uint64_t off, void *buf, size_t len)
{
	struct clone_one *one = ctx;
	struct gm_snapshot_live *live = one->clone->live;
	uint64_t page = off / LIVE_PAGE;
	uint64_t nr = len / LIVE_PAGE;
	uint8_t *to = buf;
	int rc = 0;

	if (!one->needs)
		return -EIO;
	while (nr && !rc) {
		const struct live_part *part = gm_live_part(live, page);
		uint64_t some = part->page + part->nr - page;

		some = some < nr ? some : nr;
		rc = read_part(one, part, page, some, to);
		to += some * LIVE_PAGE;
		page += some;
		nr -= some;
	}
	return rc;
}

static bool then_zeros(void *ctx, uint64_t off, uint64_t len)
{
	const struct clone_one *one = ctx;
	uint64_t nr = len / LIVE_PAGE;

	return one->needs && live_find(one->clone->live->data, off / LIVE_PAGE, nr, true) == nr;
}

/* ---- what has come ---- */

static bool then_may(void *ctx)
{
	const struct clone_one *one = ctx;

	return one->unknown < CLONE_WINDOW;
}

static void then_sent(void *ctx, uint32_t slot, const struct gm_migrate_place *place)
{
	struct clone_one *one = ctx;
	struct gm_range pages;

	/* Of other connections control cannot tell; what finds no room is kept until the end. */
	if (slot || one->nr_acks == CLONE_ACKS || !gm_migrate_out_bits(one->out, place, &pages))
		return;
	one->acks[(one->first_ack + one->nr_acks++) % CLONE_ACKS] =
		(struct clone_ack){pages, one->ping + 1};
	one->unpinged += place->nr;
	one->unknown += place->nr;
	if (one->unpinged >= CLONE_PING && gm_migrate_out_ping(one->out, one->ping + 1)) {
		one->ping++;
		one->unpinged = 0;
	}
}

static void on_pong(struct clone_one *one, uint64_t number)
{
	struct gm_snapshot_live *live = one->clone->live;

	if (number > one->ping)
		return;
	pthread_mutex_lock(&live->lock);
	while (one->nr_acks && one->acks[one->first_ack].ping <= number) {
		const struct gm_range *pages = &one->acks[one->first_ack].pages;

		if (one->needs)
			let_go(one, pages->first, gm_range_len(pages));
		one->unknown -= gm_range_len(pages);
		one->first_ack = (one->first_ack + 1) % CLONE_ACKS;
		one->nr_acks--;
	}
	gm_sys_cond_wake(&live->changed);
	pthread_mutex_unlock(&live->lock);
}

static void on_dropped(struct clone_one *one, const struct gm_migrate_msg *msg)
{
	struct gm_snapshot_live *live = one->clone->live;
	struct gm_range pages;

	pthread_mutex_lock(&live->lock);
	for (uint32_t i = 0; i < msg->nr && one->needs; i++) {
		if (gm_migrate_out_bits(one->out, &msg->places[i], &pages))
			let_go(one, pages.first, gm_range_len(&pages));
	}
	gm_sys_cond_wake(&live->changed);
	pthread_mutex_unlock(&live->lock);
}

static bool has_bit(const struct gm_migrate_msg *have, uint32_t page)
{
	return page < have->place.nr && (have->bits[page / 8] >> page % 8 & 1);
}

/* After a line was lost: what had come, and nobody knew. */
static void on_have(struct clone_one *one, const struct gm_migrate_msg *msg)
{
	struct gm_snapshot_live *live = one->clone->live;
	struct gm_range pages;

	if (!gm_migrate_out_bits(one->out, &msg->place, &pages))
		return;
	pthread_mutex_lock(&live->lock);
	for (uint32_t i = 0, end; i < msg->place.nr && one->needs; i = end + 1) {
		for (end = i; has_bit(msg, end);)
			end++;
		let_go(one, pages.first + i, end - i);
	}
	gm_sys_cond_wake(&live->changed);
	pthread_mutex_unlock(&live->lock);
}

static void then_heard(void *ctx, const struct gm_migrate_msg *msg)
{
	if (msg->type == GM_MIGRATE_PONG)
		on_pong(ctx, msg->number);
	else if (msg->type == GM_MIGRATE_DROPPED)
		on_dropped(ctx, msg);
	else if (msg->type == GM_MIGRATE_HAVE)
		on_have(ctx, msg);
}

static void then_closed(void *ctx)
{
	struct clone_one *one = ctx;

	one->nr_acks = 0;
	one->unknown = 0;
	one->unpinged = 0;
}

const struct gm_migrate_then gm_clone_then = {
	.read = then_read,
	.zeros = then_zeros,
	.may = then_may,
	.sent = then_sent,
	.heard = then_heard,
	.closed = then_closed,
};

/* ---- the instant ---- */

/* Is all that there was at the instant there? What a pager brings later cannot be waited for. */
static bool is_there(const struct gm_snapshot_live *live)
{
	for (size_t i = 0; i < live->nr_parts; i++) {
		const struct live_part *part = &live->parts[i];

		for (uint64_t page = 0; page < part->nr && part->area->way != GM_PAGER_PROTECT;
			page += part->unit) {
			if (live_get(live->held, part->page + page) &&
				gm_live_is_absent(part, part->page + page))
				return false;
		}
	}
	return true;
}

static int make_needs(struct gm_migrate_clone *clone)
{
	struct gm_snapshot_live *live = clone->live;
	int rc = 0;

	for (uint32_t i = 0; i < clone->nr && !rc; i++) {
		uint64_t *needs = gm_sys_alloc_array(words_of(clone), sizeof(*needs));

		if (!needs)
			return -ENOMEM;
		pthread_mutex_lock(&live->lock);
		if (!clone->ones[i].ended)
			memcpy(needs, live->todo, words_of(clone) * sizeof(*needs));
		clone->ones[i].needs = needs;
		pthread_mutex_unlock(&live->lock);
	}
	return rc;
}

int gm_clone_arm(struct gm_migrate_clone *clone, struct gm_error *err)
{
	struct gm_snapshot_live *live = clone->live;
	int rc = gm_snapshot_live_arm(live, NULL, err);

	if (rc)
		return rc;
	if (!is_there(live))
		rc = gm_error_set(err, -EBUSY, 0, 0,
			"%s: a pager has to bring memory before it is cloned", live->space->name);
	for (size_t i = 0; i < live->nr_parts && !rc; i++) {
		if (live->parts[i].unit > live->nr_slots)
			rc = gm_error_set(err, -EINVAL, live->parts[i].area->gpa, 0,
				"%s: no room for a copy of a huge page", live->space->name);
	}
	if (!rc && make_needs(clone))
		rc = gm_error_set(err, -ENOMEM, 0, 0, "no memory for the pages' bits");
	if (rc)
		gm_clone_let_go(clone);
	return rc;
}

void gm_clone_let_go(struct gm_migrate_clone *clone)
{
	if (clone->live->armed)
		gm_live_let_go(clone->live, false);
	for (uint32_t i = 0; i < clone->nr; i++) {
		gm_sys_free(clone->ones[i].needs);
		clone->ones[i].needs = NULL;
	}
}
