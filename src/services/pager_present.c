/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager_present.c - memory that is there in part when it is added: a bitmap says what. The rest is given back, so that
 * it is missing: a huge page may have brought it along, and of what is there nobody would be told.
 *
 * It is given back when the range is registered, as from then on the kernel makes no huge page of private memory in
 * which some are missing. Nothing is installed meanwhile: the caller has the userfaultfd's lock alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/bits.h"
#include "core/error.h"
#include "services/pagemap.h"
#include "services/pager.h"
#include "services/pager_present.h"
#include "sys/uapi.h"

#define UNIT UINT64_C(4096) /* of a bit */
#define REGIONS 256

/* The bits of @nr pages from @first on, of memory whose own begin at @at bytes. */
static struct gm_range bits_of(uint64_t at, uint64_t page, uint64_t first, uint64_t nr)
{
	uint64_t bit = at / UNIT + first * (page / UNIT);

	return (struct gm_range){bit, bit + (nr * (page / UNIT) - 1)};
}

/* A page of several bits has all of them or none. */
int gm_pager_present_check(const struct pager_place *place, const struct gm_pager_area_opts *opts,
	struct gm_error *err)
{
	uint64_t nr = place->len / place->page;

	if (!(opts->flags & GM_PAGER_PRESENT) || place->page == UNIT)
		return 0;
	for (uint64_t i = 0; i < nr; i++) {
		struct gm_range bits = bits_of(place->offset, place->page, i, 1);
		struct gm_range run;

		if (gm_bits_next(opts->present, bits.first, bits.last, &run) &&
			(run.first != bits.first || run.last != bits.last))
			return gm_error_set(err, -EINVAL,
				place->gpa ? place->gpa + i * place->page : 0, place->page,
				"pager: of the page of 0x%" PRIx64 " bytes at byte 0x%" PRIx64
				" a part is present",
				place->page, place->offset + i * place->page);
	}
	return 0;
}

/* What is given back must be missing then: private memory without a file, or a hole of the file that is continued. */
int gm_pager_present_way(
	const struct pager_area *area, const struct pager_place *place, struct gm_error *err)
{
	bool hole = area->way == GM_PAGER_CONTINUE && area->shared && area->source;
	bool own = (area->way == GM_PAGER_COPY || area->way == GM_PAGER_MOVE) && !area->shared &&
		   place->fd < 0 && (!area->block || area->block->backing == GM_BACKING_ANON);

	return hole || own ? 0
			   : gm_error_set(err, -ENOTSUP, area->gpa, place->len,
				     "pager: memory that is there in part is anonymous and "
				     "private, or shared with its file and a source");
}

/* Calls @fn for each stretch of pages that are there, or are not, of @pages of the area. */
static int each_stretch(struct pager_area *area, const struct pager_place *place,
	const struct gm_range *pages, const uint64_t *present, bool there,
	int (*fn)(struct pager_area *area, uint64_t first, uint64_t nr))
{
	uint64_t base = place->offset / UNIT;
	struct gm_range all = bits_of(place->offset, area->page, pages->first, gm_range_len(pages));
	uint64_t per = area->page / UNIT;
	uint64_t at = all.first;
	struct gm_range run;

	for (;;) {
		bool more = gm_bits_next(present, at, all.last, &run);
		uint64_t end = more ? run.first : all.last + 1;
		int rc = 0;

		if (!there && end > at)
			rc = fn(area, (at - base) / per, (end - at) / per);
		if (there && more)
			rc = fn(area, (run.first - base) / per, gm_range_len(&run) / per);
		if (rc || !more || run.last == all.last)
			return rc;
		at = run.last + 1;
	}
}

static int note_present(struct pager_area *area, uint64_t first, uint64_t nr)
{
	gm_pagestate_turn(area->states, first, nr, PAGER_IN(GM_PAGE_ABSENT), GM_PAGE_PRESENT);
	return 0;
}

void gm_pager_present_note(struct pager_area *area, const struct pager_place *place,
	const struct gm_pager_area_opts *opts)
{
	each_stretch(area, place, &(struct gm_range){0, area->nr - 1}, opts->present, true,
		note_present);
}

/* A hole is found in an eighth of the time that it takes to make one. */
static bool is_hole(const struct pager_area *area, uint64_t first, uint64_t len)
{
	uint64_t off = area->fd_off + first * area->page;
	int64_t data = gm_sys_seek(area->fd, off, SEEK_DATA);

	return data == -ENXIO ||
	       (data >= 0 && (uint64_t)data >= off && (uint64_t)data - off >= len);
}

static int give_back(struct pager_area *area, uint64_t first, uint64_t nr)
{
	uint8_t *at = (uint8_t *)(uintptr_t)(area->addr + first * area->page);
	uint64_t len = nr * area->page;
	int rc;

	if (area->way == GM_PAGER_CONTINUE && is_hole(area, first, len))
		return 0;

	do {
		if (area->way == GM_PAGER_CONTINUE)
			rc = gm_sys_fallocate(area->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				area->fd_off + first * area->page, len);
		else
			rc = gm_sys_madvise(at, len, MADV_DONTNEED);
		/* Locked memory has a call of its own. */
		if (rc == -EINVAL && area->way != GM_PAGER_CONTINUE)
			rc = gm_sys_madvise(at, len, MADV_DONTNEED_LOCKED);
	} while (rc == -EINTR);
	return rc;
}

/*
 * Private memory: what is there is looked up first, all in a few calls, rather than a call for each stretch that is
 * none. *ret_rc: why something could not be given back. Negative: it cannot be looked up here.
 */
static int give_back_mapped(struct pager_area *area, const struct pager_place *place,
	const uint64_t *present, int *ret_rc)
{
	struct page_region found[REGIONS] = {{0}};
	struct pm_scan_arg arg =
		gm_pagemap_of_pages(area->addr, area->nr * area->page, found, REGIONS);
	int pagemap = gm_sys_open("/proc/self/pagemap", O_RDONLY, 0);
	int nr = pagemap < 0 ? pagemap : 0;
	bool more = true;

	while (nr >= 0 && more && !*ret_rc) {
		nr = gm_pagemap_scan(pagemap, &arg, &more);
		for (int i = 0; i < nr && !*ret_rc; i++) {
			const struct gm_range pages = {(found[i].start - area->addr) / area->page,
				(found[i].end - 1 - area->addr) / area->page};

			*ret_rc = each_stretch(area, place, &pages, present, false, give_back);
		}
	}
	if (pagemap >= 0)
		gm_sys_close(pagemap);
	return nr;
}

int gm_pager_present_clear(struct pager_area *area, const struct pager_place *place,
	const struct gm_pager_area_opts *opts, struct gm_error *err)
{
	int rc = 0;

	if (area->way == GM_PAGER_CONTINUE || give_back_mapped(area, place, opts->present, &rc) < 0)
		rc = each_stretch(area, place, &(struct gm_range){0, area->nr - 1}, opts->present,
			false, give_back);

	return rc ? gm_error_set(err, rc, area->gpa, place->len,
			    "pager: what is absent at 0x%" PRIx64 " cannot be given back: %s",
			    area->addr, gm_error_word(rc))
		  : 0;
}
