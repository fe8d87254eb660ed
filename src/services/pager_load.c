/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager_load.c - what is done for a page, by its state: brought from the source, continued, filled with zeros, or left
 * to who is bringing it.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "services/pager.h"
#include "services/pager_wp.h"
#include "services/source.h"
#include "sys/uapi.h"

#define RAW_PAGES                                                                                  \
	4u /* of fewer, reading into a buffer is cheaper than a fault in the mapped file */

/* ---- what lies in the source ---- */

/* Does the whole run lie where the area's mapping of the file has it? */
static bool is_raw(const struct pager_run *run, const struct gm_source_extent *extent, uint64_t at)
{
	const struct pager_area *area = run->area;
	uint64_t skip = at - extent->offset;

	return area->raw && extent->kind == GM_SOURCE_RAW && extent->fd == area->raw_fd &&
	       extent->fd_off + skip == area->raw_off + run->first * area->page &&
	       run->nr * area->page <= extent->len - skip;
}

/* What the source has for a page, and behind it. Of one that somebody waits for no more is asked than costs nothing. */
static int ask(const struct pager_run *run, bool steps, struct gm_source_extent *ret)
{
	struct pager_area *area = run->area;
	uint64_t at = area->offset + run->first * area->page;
	int rc;

	if (steps && at >= area->extent.offset && at - area->extent.offset < area->extent.len) {
		*ret = area->extent;
		return 0;
	}
	rc = gm_source_extent_within(
		area->source->source, at, run->since ? run->nr * area->page : UINT64_MAX, ret);
	if (!rc && steps && ret->len > area->page)
		area->extent = *ret;
	return rc;
}

static uint8_t sort_of(const struct pager_run *run, uint32_t kind)
{
	const struct pager_area *area = run->area;

	if (!area->source)
		return GM_PAGER_CLASS_THERE;
	if (kind == GM_SOURCE_ZERO)
		return GM_PAGER_CLASS_ZERO;
	if (area->source->fd >= 0)
		return GM_PAGER_CLASS_REMOTE;
	return kind == GM_SOURCE_RAW ? GM_PAGER_CLASS_RAW : GM_PAGER_CLASS_PACKED;
}

/* Pages of @run from its first on that are brought in one go; true if they are zeros. */
static int look(struct pager_run *run, bool steps, struct gm_source_extent *extent, bool *ret_zero)
{
	struct pager_area *area = run->area;
	uint64_t at = area->offset + run->first * area->page;
	uint64_t most = area->uffd->pager->opts.request_len / area->page;
	uint64_t left;
	int rc;

	*ret_zero = false;
	run->sort = sort_of(run, GM_SOURCE_CHUNK);
	if (run->nr > most)
		run->nr = most ? most : 1;
	if (!area->source)
		return 0;
	rc = ask(run, steps, extent);
	if (rc)
		return rc;
	left = extent->len - (at - extent->offset);
	*ret_zero = extent->kind == GM_SOURCE_ZERO && left >= area->page;
	run->sort = sort_of(
		run, *ret_zero || extent->kind != GM_SOURCE_ZERO ? extent->kind : GM_SOURCE_CHUNK);
	/* The last page of a stretch of zeros may have other bytes; the last of others is read as a whole. */
	left = left / area->page + (!*ret_zero && left % area->page);
	if (extent->kind == GM_SOURCE_ZERO && !*ret_zero)
		left = 1;
	if (run->nr > left && gm_pager_move_whole(run)) {
		*ret_zero = false;
		run->raw = false;
		run->sort = sort_of(run, GM_SOURCE_CHUNK);
		return 0;
	}
	if (run->nr > left)
		run->nr = left;
	run->raw = is_raw(run, extent, at);
	return 0;
}

/* More than the page that is wanted, if that costs no more: then it has to be looked at again. */
static bool widen(struct pager_run *run, const struct gm_source_extent *extent)
{
	const struct pager_area *area = run->area;
	uint64_t at = area->offset + run->first * area->page;
	uint64_t behind;

	if (extent->unit <= area->page)
		return false;
	behind = (extent->unit - (at & (extent->unit - 1))) / area->page;
	run->nr = behind < area->nr - run->first ? behind : area->nr - run->first;
	if (run->nr == 0)
		run->nr = 1;
	return true;
}

/* ---- bringing ---- */

static void note(const struct pager_run *run)
{
	struct gm_pager_stats *stats = &run->area->uffd->pager->stats;
	uint64_t len = run->nr * run->area->page;
	uint64_t ns;
	uint64_t us;
	unsigned int bucket;

	if (!run->since) {
		pager_count(&stats->bytes_ahead, len);
		return;
	}
	ns = gm_sys_now_ns() - run->since;
	us = ns / 1000;
	bucket = us ? 64 - (unsigned int)__builtin_clzll(us) : 0;
	bucket = bucket < GM_PAGER_BUCKETS ? bucket : GM_PAGER_BUCKETS - 1;
	pager_count(&stats->class_latency[run->sort][bucket], 1);
	pager_count(&stats->class_ns[run->sort], ns);
	pager_count(&stats->bytes_demand, len);
	pager_count(&stats->loaded, 1);
}

int gm_pager_go_on(const struct pager_run *run)
{
	struct pager_run rest = *run;
	uint64_t done;
	int rc;

	for (;;) {
		rc = gm_pager_install(&rest, PAGER_FILE, NULL, &done);
		rest.first += done;
		rest.nr -= done;
		if (rc != -ENODATA)
			return rc;
		gm_pagestate_change(rest.area->states, rest.first, GM_PAGE_FILLED, GM_PAGE_REMOVED);
		rest.nr = 1;
		rc = gm_pager_install(&rest, PAGER_ZERO, NULL, &done);
		if (rc)
			return rc;
		rest.first++;
		rest.nr = run->first + run->nr - rest.first;
		if (rest.nr == 0)
			return 0;
	}
}

/* Installs a run that is loading; what cannot be is put back. */
static int install(const struct pager_run *run, enum pager_how how, const void *buf)
{
	struct pager_run rest = *run;
	uint64_t done;
	int rc = gm_pager_install(run, how, buf, &done);

	rest.first += done;
	rest.nr -= done;
	if (rest.nr)
		gm_pager_unload(&rest);
	return rc;
}

/* The source's bytes of a run that is loading are at hand: in @buf, or in the file. */
static int finish(const struct pager_run *run, const void *buf)
{
	int rc;

	if (run->area->way == GM_PAGER_CONTINUE) {
		gm_pager_filled(run);
		rc = gm_pager_go_on(run);
	} else {
		rc = install(run, PAGER_DATA, buf);
	}
	if (!rc)
		note(run);
	return rc;
}

int gm_pager_target(const struct pager_run *run, uint8_t *buf, uint8_t **ret)
{
	const struct pager_area *area = run->area;
	int rc;

	*ret = buf;
	if (area->way != GM_PAGER_CONTINUE)
		return 0;
	*ret = area->file + run->first * area->page;
	do {
		rc = gm_sys_madvise(*ret, run->nr * area->page, MADV_POPULATE_WRITE);
	} while (rc == -EINTR || rc == -EAGAIN);
	return rc == -EINVAL ? 0 : rc;
}

static int read_now(const struct pager_run *run, uint8_t *buf)
{
	const struct pager_area *area = run->area;
	uint64_t at = area->offset + run->first * area->page;
	uint8_t *to;
	int rc;

	if (run->raw && run->nr >= RAW_PAGES) {
		const uint8_t *from = area->raw + run->first * area->page;

		/* The kernel copies in one go what is mapped. A file that has become shorter is -EFAULT of the copy. */
		gm_sys_madvise((void *)(uintptr_t)from, run->nr * area->page, MADV_POPULATE_READ);
		return finish(run, from);
	}
	rc = gm_pager_target(run, buf, &to);
	if (!rc)
		rc = gm_source_read(area->source->source, at, to, run->nr * area->page, NULL);
	if (!rc)
		return finish(run, buf);
	if (run->nr == 1) {
		gm_pager_poison(run, rc);
		return -EIO;
	}
	/* Which of them is bad? */
	for (uint64_t i = 0; i < run->nr; i++) {
		struct pager_run one = *run;

		one.first += i;
		one.nr = 1;
		read_now(&one, buf);
	}
	return 0;
}

/* ---- sources that wait ---- */

static void loaded(struct gm_source_read *read, int rc)
{
	struct pager_load *load = read->ctx;
	struct gm_pager *pager = load->pager;
	struct pager_run run = load->run;
	bool again = false;

	if (!rc) {
		rc = finish(&run, load->buf);
		again = rc == -EAGAIN;
	} else if (run.nr == 1) {
		gm_pager_poison(&run, rc);
	} else {
		gm_pager_unload(&run);
		again = true;
	}
	load->next = pager->free;
	pager->free = load;
	pager->under_way--;
	/* Another pager of this thread, with the same source, has stepped that. */
	if (!__atomic_load_n(&pager->stepping, __ATOMIC_RELAXED))
		gm_pager_go_on_filling(pager);
	if (again)
		gm_pager_park(pager, &run, 0, rc != -EAGAIN);
}

static int start(const struct pager_run *run)
{
	struct pager_area *area = run->area;
	struct gm_pager *pager = area->uffd->pager;
	struct pager_load *load = pager->free;
	uint8_t *to = NULL;
	int rc = gm_pager_target(run, load->buf, &to);

	if (rc) {
		gm_pager_poison(run, rc);
		return -EIO;
	}
	pager->free = load->next;
	pager->under_way++;
	load->run = *run;
	load->read = (struct gm_source_read){
		.offset = area->offset + run->first * area->page,
		.len = run->nr * area->page,
		.buf = to,
		.done = loaded,
		.ctx = load,
	};
	rc = gm_source_start(area->source->source, &load->read);
	if (!rc)
		return -EINPROGRESS;
	load->next = pager->free;
	pager->free = load;
	pager->under_way--;
	if (rc == -EAGAIN) {
		gm_pager_unload(run);
		return rc;
	}
	gm_pager_poison(run, rc);
	return -EIO;
}

/* A run that is loading. -EINPROGRESS: it is under way. */
static int load(const struct pager_run *run, bool zero, uint8_t *buf)
{
	const struct pager_area *area = run->area;

	if (zero) {
		int rc = install(run, PAGER_BLANK, NULL);

		if (!rc)
			note(run);
		return rc;
	}
	if (!area->source)
		return finish(run, NULL);
	if (area->source->fd >= 0)
		return start(run);
	return read_now(run, buf);
}

/* ---- what is wanted ---- */

static bool may_start(const struct pager_area *area, bool steps, bool wanted)
{
	const struct gm_pager *pager = area->uffd->pager;

	if (!area->source || area->source->fd < 0)
		return true;
	/* A part of the requests is kept for faults. */
	return steps && pager->free &&
	       (wanted || pager->under_way < (pager->opts.requests + 1) * 3 / 4);
}

/* -EALREADY: somebody else has moved the page meanwhile. */
static int fetch(const struct pager_run *want, uint8_t *buf, bool steps, bool single)
{
	struct pager_run run = *want;
	struct gm_source_extent extent;
	bool zero;
	int rc;

	if (!may_start(run.area, steps, true))
		return -EAGAIN;
	rc = look(&run, steps, &extent, &zero);
	/* Who records wants to hear of each page. */
	if (!rc && !single && steps && run.area->source &&
		!__atomic_load_n(&run.area->record, __ATOMIC_ACQUIRE)) {
		if (run.area->way == GM_PAGER_MOVE && gm_pager_move_block(&run)) {
			zero = false;
			run.sort = sort_of(&run, run.raw ? GM_SOURCE_RAW : GM_SOURCE_CHUNK);
		}
		if (run.area->way != GM_PAGER_MOVE && !zero && widen(&run, &extent))
			rc = look(&run, steps, &extent, &zero);
	}
	if (gm_pagestate_get(run.area->states, run.first) == GM_PAGE_LOST)
		run.nr = gm_pagestate_claim(
			run.area->states, run.first, 1, GM_PAGE_LOST, GM_PAGE_LOADING);
	else
		run.nr = gm_pagestate_claim(run.area->states, run.first, rc ? 1 : run.nr,
			GM_PAGE_ABSENT, GM_PAGE_LOADING);
	if (run.nr == 0)
		return -EALREADY;
	if (rc) {
		gm_pager_poison(&run, rc);
		return -EIO;
	}
	return load(&run, zero, buf);
}

/* It was installed, or given back, and somebody misses it. */
static int refill(const struct pager_run *want)
{
	struct gm_pager_stats *stats = &want->area->uffd->pager->stats;
	uint64_t done;
	int rc = -ENODATA;

	/* Of an image that is mapped privately the file has its bytes still, which were given back. */
	if (want->area->way == GM_PAGER_CONTINUE &&
		(want->area->shared ||
			gm_pagestate_get(want->area->states, want->first) != GM_PAGE_REMOVED)) {
		rc = gm_pager_install(want, PAGER_FILE, NULL, &done);
		if (!rc)
			pager_count(&stats->mapped, 1);
	}
	if (rc == -ENODATA) {
		rc = gm_pager_install(want, PAGER_ZERO, NULL, &done);
		if (!rc)
			pager_count(&stats->zeros, 1);
	}
	return rc;
}

static int refused(const struct pager_run *want, int rc)
{
	/* No answer of the kernel leaves somebody waiting for ever. */
	if (rc && rc != -EAGAIN && rc != -ESRCH && rc != -EIO && rc != -EINPROGRESS) {
		gm_pagestate_turn(want->area->states, want->first, want->nr,
			PAGER_ABSENT_STATES | PAGER_IN(GM_PAGE_REMOVED) | PAGER_IN(GM_PAGE_PRESENT),
			GM_PAGE_LOADING);
		gm_pager_poison(want, rc);
		return -EIO;
	}
	return rc;
}

int gm_pager_serve(const struct pager_run *want, uint8_t *buf, bool steps, bool single)
{
	struct gm_pager_stats *stats = &want->area->uffd->pager->stats;
	uint64_t done;
	int rc;

	if (want->write)
		return gm_pager_wp_serve(want);
	for (;;) {
		enum gm_pagestate state = gm_pagestate_get(want->area->states, want->first);

		switch (state) {
		case GM_PAGE_LOADING:
		case GM_PAGE_DROPPED:
			pager_count(&stats->duplicates, 1);
			return -EINPROGRESS;
		case GM_PAGE_PRESENT:
		case GM_PAGE_REMOVED:
			return refused(want, refill(want));
		case GM_PAGE_FILLED:
			return refused(want, gm_pager_go_on(want));
		case GM_PAGE_POISONED:
			rc = gm_pager_install(want, PAGER_TOXIC, NULL, &done);
			return rc == -EAGAIN || rc == -ESRCH ? rc : -EIO;
		default:
			rc = fetch(want, buf, steps, single);
			if (rc != -EALREADY)
				return refused(want, rc);
		}
	}
}

int64_t gm_pager_bring(const struct pager_run *want, uint8_t *buf)
{
	struct pager_run run = *want;
	struct gm_source_extent extent;
	bool zero;
	int rc = look(&run, true, &extent, &zero);

	if (!rc && !may_start(run.area, true, false))
		return -EAGAIN;
	run.nr = gm_pagestate_claim(
		run.area->states, run.first, rc ? 1 : run.nr, GM_PAGE_ABSENT, GM_PAGE_LOADING);
	if (run.nr == 0)
		return 1;
	if (rc)
		gm_pager_poison(&run, rc);
	else
		rc = load(&run, zero, buf);
	/* Others may have left these pages to us. */
	if (rc == -EAGAIN)
		gm_pager_park(run.area->uffd->pager, &run, 0, false);
	else if (rc && rc != -ESRCH && rc != -EIO && rc != -EINPROGRESS)
		gm_pager_park(run.area->uffd->pager, &run, 0, true);
	return rc == -ESRCH ? rc : (int64_t)run.nr;
}
