/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager_plan.c - recorded working sets and a pager: first touches of its areas noted, sets brought ahead.
 *
 * A plan is a set and an area. It is gone through twice: by the cursor of what is brought, and in front of that, for
 * files, by one of what the host is asked to read meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "core/error.h"
#include "services/pagemap.h"
#include "services/pager.h"
#include "services/wp_async.h"

#define READ_AHEAD                                                                                 \
	(UINT64_C(64) << 20) /* bytes that a disk is asked for in front of what is brought */
#define ADVICES 64u          /* in a step: a disk's queue takes 10 us for each */
#define REGIONS 64u

struct cursor {
	uint64_t n;   /* of the order */
	uint64_t off; /* of the runs, when that is over */
};

struct gm_pager_plan {
	struct gm_pager_plan *next;
	struct pager_area *area;
	struct gm_wset *set;
	bool in_order;
	struct gm_range image; /* bytes of it that the area has */
	struct cursor at;
	struct cursor ahead;
	bool ahead_ends;
	uint64_t asked;                 /* bytes that the second one is in front */
	struct gm_source_extent extent; /* of the source, where the second one is; len 0: none */
	uint64_t first;                 /* the piece that is brought */
	uint64_t nr;                    /* pages left of it */
};

/* ---- going through a set ---- */

/* Pages that were touched one after the other and lie so. */
static struct gm_range next_touched(const struct gm_wset *set, struct cursor *c)
{
	struct gm_range piece;
	uint64_t off;

	gm_wset_touch(set, c->n++, &piece.first);
	piece.last = piece.first + (GM_WSET_PAGE - 1);
	while (!gm_wset_touch(set, c->n, &off) && off != 0 && piece.last == off - 1) {
		piece.last += GM_WSET_PAGE;
		c->n++;
	}
	return piece;
}

/* The next piece of the set that lies in the area; false: there is none. */
static bool next_piece(const struct gm_pager_plan *p, struct cursor *c, struct gm_range *ret)
{
	struct gm_wset_run run;

	while (p->in_order && c->n < p->set->body.nr_order) {
		struct gm_range piece = next_touched(p->set, c);

		if (gm_range_intersect(&piece, &p->image, ret))
			return true;
	}
	while (c->off <= p->image.last && !gm_wset_next(p->set, c->off, &run)) {
		struct gm_range piece = {run.off, run.off + (run.len - 1)};

		c->off = run.off + run.len;
		if (gm_range_intersect(&piece, &p->image, ret))
			return true;
	}
	return false;
}

/* ---- what the host reads meanwhile ---- */

/* Asks for a piece as far as it lies in files. */
static void ask(struct gm_pager_plan *p, struct gm_range piece)
{
	struct gm_source_extent *extent = &p->extent;

	if (!p->area->uffd) {
		gm_pager_map_advise(
			p->area, piece.first - p->image.first, gm_range_len(&piece), MADV_WILLNEED);
		return;
	}
	for (;;) {
		uint64_t left;
		uint64_t want = gm_range_len(&piece);

		if (extent->len == 0 || piece.first < extent->offset ||
			piece.first - extent->offset >= extent->len) {
			extent->len = 0;
			if (gm_source_extent(p->area->source->source, piece.first, extent))
				return;
		}
		left = extent->len - (piece.first - extent->offset);
		if (left > want)
			left = want;
		if (extent->kind == GM_SOURCE_RAW)
			gm_sys_will_need(
				extent->fd, extent->fd_off + (piece.first - extent->offset), left);
		if (left == want)
			return;
		piece.first += left;
	}
}

/* True if there is more to be asked for before the next piece is brought. */
static bool read_ahead(struct gm_pager_plan *p)
{
	struct gm_range piece;

	/* A source that waits is asked by requests. */
	if (p->area->uffd && (!p->area->source || p->area->source->fd >= 0))
		return false;
	for (unsigned int i = 0; !p->ahead_ends && p->asked < READ_AHEAD; i++) {
		if (i == ADVICES)
			return true;
		p->ahead_ends = !next_piece(p, &p->ahead, &piece);
		if (p->ahead_ends)
			break;
		p->asked += gm_range_len(&piece);
		ask(p, piece);
	}
	return false;
}

/* ---- bringing ---- */

/* Pages of the area; false: the set is done. */
static bool take_piece(struct gm_pager_plan *p)
{
	uint64_t page = p->area->page;
	struct gm_range piece;

	if (!next_piece(p, &p->at, &piece))
		return false;
	p->asked -= gm_range_len(&piece) < p->asked ? gm_range_len(&piece) : p->asked;
	p->first = (piece.first - p->image.first) / page;
	p->nr = (piece.last - p->image.first) / page - p->first + 1;
	return true;
}

/* The kernel maps what is in the file. While it is recorded what is mapped is what was touched. */
static int64_t map_pages(const struct gm_pager_plan *p, uint64_t nr)
{
	const struct pager_area *area = p->area;

	if (!__atomic_load_n(&area->record, __ATOMIC_ACQUIRE))
		gm_pager_map_advise(
			area, p->first * area->page, nr * area->page, MADV_POPULATE_READ);
	return (int64_t)nr;
}

static int64_t bring(struct gm_pager_plan *p, uint64_t nr)
{
	struct pager_area *area = p->area;
	struct pager_run run = {.area = area, .first = p->first, .nr = nr};
	uint64_t there;

	if (!area->uffd)
		return map_pages(p, nr);
	/* A block goes over the step's room, but for the rate's. */
	if (area->way == GM_PAGER_MOVE)
		nr = run.nr = gm_pager_move_step(
			area, p->first, area->uffd->pager->rate ? nr : p->nr, nr);
	there = gm_pagestate_find(area->states, p->first, nr, GM_PAGE_ABSENT);
	return there ? (int64_t)there : gm_pager_bring(&run, area->uffd->pager->bufs);
}

static struct gm_pager_plan *first_plan(struct gm_pager *pager)
{
	struct gm_pager_plan *p;

	pthread_mutex_lock(&pager->lock);
	p = pager->fill == GM_PAGER_FILL_NONE ? NULL : pager->plans;
	pthread_mutex_unlock(&pager->lock);
	return p;
}

static void drop_first(struct gm_pager *pager)
{
	struct gm_pager_plan *p;

	pthread_mutex_lock(&pager->lock);
	p = pager->plans;
	pager->plans = p->next;
	pthread_mutex_unlock(&pager->lock);
	gm_wset_destroy(p->set);
	gm_sys_free(p);
}

uint64_t gm_pager_plan_page(struct gm_pager *pager)
{
	const struct gm_pager_plan *p = first_plan(pager);

	return p ? p->area->page : 0;
}

int64_t gm_pager_plan_step(struct gm_pager *pager, uint64_t room)
{
	struct gm_pager_plan *p = first_plan(pager);
	uint64_t page = p ? p->area->page : 0;
	uint64_t brought = 0;

	if (!p || read_ahead(p))
		return 0;
	while (room - brought >= page) {
		uint64_t nr = (room - brought) / page;
		int64_t done;

		if (p->nr == 0 && !take_piece(p)) {
			drop_first(pager);
			break;
		}
		done = bring(p, p->nr < nr ? p->nr : nr);
		if (done == -ESRCH) {
			drop_first(pager);
			break;
		}
		if (done < 0)
			return brought ? (int64_t)brought : done;
		p->first += (uint64_t)done;
		p->nr -= (uint64_t)done < p->nr ? (uint64_t)done : p->nr;
		brought += (uint64_t)done * page < room - brought ? (uint64_t)done * page
								  : room - brought;
	}
	return (int64_t)brought;
}

void gm_pager_plans_end(struct gm_pager *pager)
{
	while (pager->plans)
		drop_first(pager);
}

static int add_plan(
	struct gm_pager *pager, struct pager_area *area, struct gm_wset *set, bool in_order)
{
	struct gm_pager_plan *p = gm_sys_alloc(sizeof(*p));
	struct gm_pager_plan **end;
	uint64_t from = gm_pager_image_off(area);

	if (!p)
		return -ENOMEM;
	p->area = area;
	p->set = gm_wset_get(set);
	p->in_order = in_order;
	p->image = (struct gm_range){from, from + (area->nr * area->page - 1)};
	p->at.off = from;
	p->ahead.off = from;
	pthread_mutex_lock(&pager->lock);
	for (end = &pager->plans; *end; end = &(*end)->next)
		;
	*end = p;
	if (pager->fill == GM_PAGER_FILL_NONE)
		pager->fill = GM_PAGER_FILL_RANGES;
	pthread_mutex_unlock(&pager->lock);
	return 0;
}

int gm_pager_prefetch_set(struct gm_pager *pager, uint64_t area, struct gm_wset *set,
	uint32_t flags, struct gm_error *err)
{
	struct pager_area *of = __atomic_load_n(&pager->areas, __ATOMIC_ACQUIRE);
	bool any = false;

	if (flags & ~GM_WSET_IN_ORDER)
		return gm_error_set(err, -EINVAL, 0, 0,
			"pager: flags 0x%x of a set that is brought are not known", flags);
	for (; of; of = of->next) {
		int rc;

		if (area && of->id != area)
			continue;
		any = true;
		rc = add_plan(pager, of, set, flags & GM_WSET_IN_ORDER);
		if (rc)
			return gm_error_set(err, rc, 0, 0, "pager: out of memory");
	}
	if (!any)
		return gm_error_set(err, -ENOENT, 0, 0, "pager: there is no area %" PRIu64, area);
	gm_pager_kick(pager);
	return 0;
}

/* ---- recording ---- */

/* So that one touch maps one page: memory with a userfaultfd has no fault-around. It protects nothing. */
static int watch_map(struct pager_area *area, struct gm_error *err)
{
	struct uffdio_register reg = {
		.range = {area->addr, area->nr * area->page}, .mode = UFFDIO_REGISTER_MODE_WP};
	int why;
	int fd = gm_wp_async_open(&why);
	int rc = fd < 0 ? fd : gm_sys_ioctl(fd, UFFDIO_REGISTER, &reg);

	if (rc < 0) {
		if (fd >= 0)
			gm_sys_close(fd);
		return gm_error_set(err, fd >= 0 && rc == -EINVAL ? -ENOTSUP : rc, 0, reg.range.len,
			"pager: touches of a mapped file cannot be seen: %s", gm_error_word(rc));
	}
	area->fd = fd;
	return 0;
}

static int record_area(
	struct pager_area *area, struct gm_wset_recorder *recorder, struct gm_error *err)
{
	int rc = 0;

	if (area->record)
		return area->record == recorder
			       ? 0
			       : gm_error_set(err, -EBUSY, area->gpa, area->nr * area->page,
					 "pager: area %" PRIu64 " has a recorder", area->id);
	if (!area->uffd)
		rc = watch_map(area, err);
	if (!rc)
		__atomic_store_n(&area->record, gm_wset_recorder_get(recorder), __ATOMIC_RELEASE);
	return rc;
}

int gm_pager_record(struct gm_pager *pager, uint64_t area, struct gm_wset_recorder *recorder,
	struct gm_error *err)
{
	bool any = false;
	int rc = 0;

	for (struct pager_area *of = __atomic_load_n(&pager->areas, __ATOMIC_ACQUIRE); of && !rc;
		of = of->next) {
		if (area && of->id != area)
			continue;
		any = true;
		rc = record_area(of, recorder, err);
	}
	if (!any)
		return gm_error_set(err, -ENOENT, 0, 0, "pager: there is no area %" PRIu64, area);
	return rc;
}

/* Bytes of a mapped area that have page-table entries. */
static int look_at(const struct pager_area *area, int pagemap)
{
	struct page_region found[REGIONS];
	struct pm_scan_arg arg =
		gm_pagemap_of_pages(area->addr, area->nr * area->page, found, REGIONS);
	bool more = true;

	while (more) {
		int nr = gm_pagemap_scan(pagemap, &arg, &more);

		if (nr < 0)
			return nr;
		for (int i = 0; i < nr; i++) {
			for (uint64_t at = found[i].start; at < found[i].end; at += GM_WSET_PAGE)
				gm_wset_note(
					area->record, gm_pager_image_off(area) + (at - area->addr));
		}
	}
	return 0;
}

int gm_pager_record_look(struct gm_pager *pager, struct gm_error *err)
{
	int pagemap = gm_sys_open("/proc/self/pagemap", O_RDONLY, 0);
	int rc = pagemap < 0 ? pagemap : 0;

	for (struct pager_area *area = __atomic_load_n(&pager->areas, __ATOMIC_ACQUIRE);
		area && !rc; area = area->next) {
		if (area->uffd || !area->record)
			continue;
		pthread_mutex_lock(&pager->mapping);
		if (!area->gone)
			rc = look_at(area, pagemap);
		pthread_mutex_unlock(&pager->mapping);
	}
	if (pagemap >= 0)
		gm_sys_close(pagemap);
	return rc ? gm_error_set(err, rc, 0, 0, "pager: what is mapped cannot be read: %s",
			    gm_error_word(rc))
		  : 0;
}
