/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager_space.c - memory of a space: its pieces as areas, its discards as pages that are zeros from now on.
 *
 * A discard is heard of twice. Before it nothing more is installed there, and afterwards its pages are removed: so what
 * was on its way does not come after the hole. A change of the map must not take absent pages along: memory that moves
 * loses its userfaultfd, and they would be zeros.
 */
#include <errno.h>
#include <guestmem/discard.h>
#include <guestmem/listener.h>
#include <inttypes.h>

#include "core/error.h"
#include "memory/filler.h"
#include "memory/reach.h"
#include "services/pager.h"
#include "services/pager_present.h"
#include "services/pager_wp.h"

struct gm_pager_space {
	struct gm_filler filler;
	struct gm_pager_space *next;
	struct gm_pager *pager;
	struct gm_space *space;
	struct gm_listener *listener;
};

/* ---- the map ---- */

static struct pager_area *first_area(const struct gm_pager_space *s)
{
	return __atomic_load_n(&s->pager->areas, __ATOMIC_ACQUIRE);
}

/* The pages of an area that lie in a range of host addresses. */
static bool pages_in(
	const struct pager_area *area, const void *hva, uint64_t len, uint64_t *first, uint64_t *nr)
{
	struct gm_range mine = {area->addr, area->addr + (area->nr * area->page - 1)};
	struct gm_range range;

	if (!hva || !gm_range_make((uintptr_t)hva, len, &range) ||
		!gm_range_intersect(&mine, &range, &range))
		return false;
	*first = (range.first - area->addr) / area->page;
	*nr = (range.last - area->addr) / area->page - *first + 1;
	return true;
}

static uint64_t absent_in(const struct pager_area *area, uint64_t first, uint64_t nr)
{
	uint64_t counts[GM_PAGE_STATES] = {0};

	gm_pagestate_count(area->states, first, nr, counts);
	return counts[GM_PAGE_ABSENT] + counts[GM_PAGE_LOADING] + counts[GM_PAGE_FILLED] +
	       counts[GM_PAGE_DROPPED];
}

static uint64_t absent_of_space(const struct gm_filler *filler)
{
	const struct gm_pager_space *s = (const void *)filler;
	uint64_t bytes = 0;

	for (const struct pager_area *area = first_area(s); area; area = area->next) {
		if (area->space == s->space && area->uffd)
			bytes += absent_in(area, 0, area->nr) * area->page;
	}
	return bytes;
}

static int on_prepare(void *ctx, const struct gm_change *changes, size_t nr, struct gm_error *err)
{
	const struct gm_pager_space *s = ctx;

	for (size_t i = 0; i < nr && !s->pager->stopped; i++) {
		const struct gm_section *section = &changes[i].section;

		if (changes[i].kind != GM_CHANGE_REMOVE)
			continue;
		for (struct pager_area *area = first_area(s); area; area = area->next) {
			uint64_t first;
			uint64_t pages;

			if (area->space != s->space || !area->uffd ||
				!pages_in(area, section->hva, section->len, &first, &pages))
				continue;
			if (gm_pager_wp_taker(area))
				return gm_error_set(err, -EBUSY, section->gpa, section->len,
					"pager: memory at gpa 0x%" PRIx64 " is being saved",
					section->gpa);
			if (absent_in(area, first, pages))
				return gm_error_set(err, -EBUSY, section->gpa, section->len,
					"pager: memory at gpa 0x%" PRIx64 " has 0x%" PRIx64
					" bytes that are absent yet, and would lose them",
					section->gpa, absent_in(area, first, pages) * area->page);
		}
	}
	return 0;
}

static void on_gone(void *ctx, const struct gm_section *section)
{
	const struct gm_pager_space *s = ctx;

	for (struct pager_area *area = first_area(s); area; area = area->next) {
		struct uffdio_range range;
		uint64_t first;
		uint64_t nr;

		if (area->space != s->space ||
			!pages_in(area, section->hva, section->len, &first, &nr))
			continue;
		if (!area->uffd) {
			pthread_mutex_lock(&s->pager->mapping);
			area->gone = true;
			pthread_mutex_unlock(&s->pager->mapping);
			continue;
		}
		range.start = area->addr + first * area->page;
		range.len = nr * area->page;
		pthread_rwlock_wrlock(&area->uffd->lock);
		gm_pager_spot_cut(area->uffd, range.start, range.len);
		gm_sys_ioctl(area->uffd->fd, UFFDIO_UNREGISTER, &range);
		pthread_rwlock_unlock(&area->uffd->lock);
	}
}

/* ---- discards ---- */

/* The pages of an area that are bytes of a block: it may show in other places too. */
static bool pages_of(const struct pager_area *area, const struct gm_discard_event *event,
	uint64_t *first, uint64_t *nr)
{
	struct gm_range mine = {area->block_off, area->block_off + (area->nr * area->page - 1)};
	struct gm_range range;

	if (area->block != event->block || !gm_range_make(event->block_off, event->len, &range) ||
		!gm_range_intersect(&mine, &range, &range))
		return false;
	*first = (range.first - area->block_off) / area->page;
	*nr = (range.last - area->block_off) / area->page - *first + 1;
	return true;
}

static void hold(struct pager_uffd *u, uint64_t addr, uint64_t len)
{
	struct gm_range range = {addr, addr + (len - 1)};

	if (u->is_held) {
		range.first = range.first < u->held.first ? range.first : u->held.first;
		range.last = range.last > u->held.last ? range.last : u->held.last;
	}
	u->held = range;
	u->is_held = true;
}

static void on_phase(
	struct pager_area *area, const struct gm_discard_event *event, uint64_t first, uint64_t nr)
{
	struct pager_uffd *u = area->uffd;
	uint64_t absent = 0;

	pthread_rwlock_wrlock(&u->lock);
	if (event->phase == GM_DISCARD_ASK) {
		hold(u, area->addr + first * area->page, nr * area->page);
	} else {
		/* If it failed any of it may be gone: that is seen when it is touched. */
		if (event->phase == GM_DISCARD_DONE && event->code == 0 &&
			event->mode != GM_DISCARD_LAZY)
			absent = gm_pager_removed(area, first, nr);
		else if (event->phase == GM_DISCARD_DONE && event->code == 0)
			absent = gm_pagestate_turn(
				area->states, first, nr, PAGER_IN(GM_PAGE_ABSENT), GM_PAGE_REMOVED);
		u->is_held = false;
	}
	pthread_rwlock_unlock(&u->lock);
	if (absent)
		gm_pager_tell_dropped(area, first, nr);
}

/* Whoever saves them has not got these pages yet. */
static int take_first(
	const struct gm_pager_space *s, const struct gm_discard_event *event, struct gm_error *err)
{
	int rc = 0;

	for (struct pager_area *area = first_area(s); area && !rc; area = area->next) {
		uint64_t first;
		uint64_t nr;

		if (area->uffd && area->block && pages_of(area, event, &first, &nr))
			rc = gm_pager_wp_give_back(area, first, nr, err);
	}
	return rc;
}

static int on_discard(void *ctx, const struct gm_discard_event *event, struct gm_error *err)
{
	const struct gm_pager_space *s = ctx;
	int rc;

	if (event->phase == GM_DISCARD_ASK) {
		rc = take_first(s, event, err);
		if (rc)
			return rc;
	}
	for (struct pager_area *area = first_area(s); area; area = area->next) {
		uint64_t first;
		uint64_t nr;

		if (area->uffd && area->block && pages_of(area, event, &first, &nr))
			on_phase(area, event, first, nr);
	}
	return 0;
}

/* ---- adding ---- */

struct adding {
	struct gm_pager *pager;
	struct gm_space *space;
	struct pager_uffd *uffd;
	const struct gm_pager_area_opts *opts;
	bool looks; /* only: nothing is added yet */
	uint64_t gpa;
	uint64_t next; /* gpa that must come */
	uint64_t first;
};

/* Its file has the bytes, and the mapping is private: the kernel can page it. */
static bool is_clone(const struct gm_block *block, const struct gm_pager_area_opts *opts)
{
	return block->fd >= 0 && !gm_block_is_shareable(block) && !opts->source;
}

static int add_one(struct adding *a, const struct pager_place *place, bool clone, uint64_t *ret_id,
	struct gm_error *err)
{
	const uint32_t messages =
		GM_PAGER_SIGBUS | GM_PAGER_STATES | GM_PAGER_TAKEOVER | GM_PAGER_PRESENT;
	int rc = 0;

	if (clone && ((a->opts->way == GM_PAGER_MAP && !(a->opts->flags & GM_PAGER_PRESENT)) ||
			     (a->opts->way == GM_PAGER_AUTO && !(a->opts->flags & messages))))
		return gm_pager_map_block(a->pager, place, a->opts->way, ret_id, err);
	if (a->opts->way == GM_PAGER_MAP)
		return gm_error_set(err, -ENOTSUP, place->gpa, place->len,
			"pager: of a space only a block that is a private mapping of its file is "
			"mapped, without a source");
	if (!a->uffd)
		rc = gm_pager_uffd_open(a->pager, a->opts->flags, &a->uffd, err);
	return rc ? rc : gm_pager_add(a->pager, a->uffd, place, a->opts, ret_id, err);
}

static int add_piece(void *ctx, struct gm_reach *reach, struct gm_error *err)
{
	const struct gm_block *block = reach->block;
	bool file = gm_block_is_shareable(block);
	struct adding *a = ctx;
	bool clone = is_clone(block, a->opts);
	struct pager_place place = {
		.addr = (uintptr_t)reach->hva,
		.len = gm_range_len(&reach->range),
		.page = block->hugetlb ? block->page_size : gm_sys_page_size(),
		.gpa = reach->range.first,
		.offset = reach->range.first - a->gpa,
		.fd = file || clone ? block->fd : -1,
		.fd_off = block->offset + reach->block_off,
		.shared = file,
		.huge = block->hugetlb,
		.space = a->space,
		.block = reach->block,
		.block_off = reach->block_off,
	};
	uint64_t id;
	int rc;

	if (reach->range.first != a->next)
		return gm_error_set(err, -EFAULT, a->next, 0,
			"pager: nothing is mapped at gpa 0x%" PRIx64, a->next);
	if (!reach->hva || reach->part != GM_PART_SHARED || block->dark ||
		(reach->kind != GM_REGION_RAM && a->opts->way != GM_PAGER_PROTECT))
		return gm_error_set(err, -ENOTSUP, reach->range.first, place.len,
			"pager: gpa 0x%" PRIx64 " is no RAM that is mapped here",
			reach->range.first);
	rc = a->looks ? gm_pager_present_check(&place, a->opts, err)
		      : add_one(a, &place, clone, &id, err);
	if (!rc && !a->looks && !a->first)
		a->first = id;
	a->next = reach->range.last + 1;
	return rc;
}

static int listen_to(struct gm_pager *pager, struct gm_space *space, struct gm_error *err)
{
	struct gm_listener_ops ops = {
		.size = sizeof(ops),
		.name = "pager",
		.kinds = GM_KINDS_MEMORY,
		.join = GM_JOIN_NONE,
		.prepare = on_prepare,
		.remove = on_gone,
		.discard = on_discard,
	};
	struct gm_pager_space *s;
	int rc;

	for (s = pager->spaces; s; s = s->next) {
		if (s->space == space)
			return 0;
	}
	s = gm_sys_alloc(sizeof(*s));
	if (!s)
		return gm_error_set(err, -ENOMEM, 0, 0, "pager: out of memory");
	s->pager = pager;
	s->space = space;
	ops.ctx = s;
	rc = gm_listener_create(space, &ops, &s->listener, err);
	if (rc) {
		gm_sys_free(s);
		return rc;
	}
	s->filler.absent = absent_of_space;
	gm_filler_add(space, &s->filler);
	s->next = pager->spaces;
	pager->spaces = s;
	return 0;
}

int gm_pager_add_space(struct gm_pager *pager, struct gm_space *space, uint64_t gpa, uint64_t len,
	const struct gm_pager_area_opts *opts, uint64_t *ret_area, struct gm_error *err)
{
	struct gm_pager_area_opts copy;
	struct adding a = {.pager = pager, .space = space, .opts = &copy, .gpa = gpa, .next = gpa};
	struct gm_range all;
	int rc = gm_pager_opts_check(opts, &copy,
		GM_PAGER_SIGBUS | GM_PAGER_USER_ONLY | GM_PAGER_STATES | GM_PAGER_TAKEOVER |
			GM_PAGER_PRESENT,
		err);

	if (rc)
		return rc;
	if (!gm_range_make(gpa, len, &all))
		return gm_error_set(err, -EINVAL, gpa, len, "pager: it is no range");
	/* A bitmap that is wrong is found before any of it is added. */
	a.looks = copy.flags & GM_PAGER_PRESENT;
	if (a.looks)
		rc = gm_reach_each(space, gpa, len, add_piece, &a, err);
	a.looks = false;
	a.next = gpa;
	if (!rc)
		rc = listen_to(pager, space, err);
	if (!rc)
		rc = gm_reach_each(space, gpa, len, add_piece, &a, err);
	if (!rc && a.next != all.last + 1)
		rc = gm_error_set(err, -EFAULT, a.next, 0,
			"pager: nothing is mapped at gpa 0x%" PRIx64, a.next);
	if (!rc && ret_area)
		*ret_area = a.first;
	return rc;
}

int gm_pager_spaces_end(struct gm_pager *pager, struct gm_error *err)
{
	while (pager->spaces) {
		struct gm_pager_space *s = pager->spaces;
		int rc = gm_listener_destroy(s->listener, err);

		if (rc)
			return rc;
		gm_filler_remove(s->space, &s->filler);
		pager->spaces = s->next;
		gm_sys_free(s);
	}
	return 0;
}
