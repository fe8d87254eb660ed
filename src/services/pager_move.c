/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager_move.c - private memory that is filled by blocks of 2 MiB: a block is read into a huge page of a buffer, and
 * that page is moved to where it is missing. Nothing is copied, and what comes is huge.
 *
 * It is done where all of a block is absent and most of it is no zeros, in however many extents the source has it.
 * What is left of blocks in which something is there already, or was given back, is copied page by page, as is what
 * the kernel refuses to move.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

#include "core/error.h"
#include "services/pager.h"
#include "services/source.h"

int gm_pager_move_check(
	struct pager_area *area, const struct pager_place *place, struct gm_error *err)
{
	struct gm_pager *pager = area->uffd->pager;

	if (!area->source || place->fd >= 0 || place->shared || place->huge || !area->uffd->local)
		return gm_error_set(err, -ENOTSUP, place->gpa, place->len,
			"pager: pages are moved into private memory of this process, from a "
			"source");
	if (pager->opts.request_len < PAGER_BLOCK)
		return gm_error_set(err, -EINVAL, place->gpa, place->len,
			"pager: blocks of 0x%x bytes are moved: request_len is 0x%" PRIx64,
			PAGER_BLOCK, pager->opts.request_len);
	/*
	 * Without huge pages small ones are moved. Where memory may not have any, who faults leaves a table of small pages
	 * there first, and a huge page would be split.
	 */
	gm_sys_madvise(pager->bufs, pager->bufs_len - PAGER_BLOCK, MADV_HUGEPAGE);
	gm_sys_madvise((void *)(uintptr_t)place->addr, place->len, MADV_HUGEPAGE);
	snprintf(area->why, sizeof(area->why),
		"asked for: blocks of 2 MiB are read into huge pages, which are moved in");
	return 0;
}

/* Pages of its block in front of a page. */
static uint64_t in_block(const struct pager_area *area, uint64_t page)
{
	return ((area->addr + page * area->page) & (PAGER_BLOCK - 1)) / area->page;
}

/* Of blocks that have more zeros than this the rest is copied: they are not worth a huge page. */
#define ZEROS_MOST (PAGER_BLOCK / 2)

/* Has the source bytes for most of a block? *ret_one: in one extent. */
static bool is_worth(
	const struct pager_area *area, uint64_t first, struct gm_source_extent *ret_one)
{
	uint64_t at = area->offset + first * area->page;
	struct gm_source_extent here;
	uint64_t zeros = 0;
	uint64_t len;

	ret_one->len = 0;
	for (uint64_t done = 0; done < PAGER_BLOCK; done += len) {
		uint64_t left = PAGER_BLOCK - done;

		if (gm_source_extent_within(area->source->source, at + done, left, &here) ||
			here.kind == GM_SOURCE_ABSENT)
			return false;
		len = here.len < left ? here.len : left;
		zeros += here.kind == GM_SOURCE_ZERO ? len : 0;
		if (zeros > ZEROS_MOST)
			return false;
		if (len == PAGER_BLOCK)
			*ret_one = here;
	}
	return true;
}

bool gm_pager_move_whole(const struct pager_run *run)
{
	const struct pager_area *area = run->area;
	struct gm_source_extent one;

	return area->way == GM_PAGER_MOVE && run->nr == PAGER_BLOCK / area->page &&
	       !in_block(area, run->first) && is_worth(area, run->first, &one);
}

bool gm_pager_move_block(struct pager_run *run)
{
	const struct pager_area *area = run->area;
	const uint64_t nr = PAGER_BLOCK / area->page;
	uint64_t in = in_block(area, run->first);
	struct gm_source_extent one;
	uint64_t first;

	if (in > run->first)
		return false;
	first = run->first - in;
	if (area->nr - first < nr || gm_pagestate_get(area->states, first) != GM_PAGE_ABSENT ||
		gm_pagestate_run(area->states, first, nr) < nr || !is_worth(area, first, &one))
		return false;
	run->first = first;
	run->nr = nr;
	run->raw = run->raw && one.len && one.kind == GM_SOURCE_RAW;
	return true;
}

uint64_t gm_pager_move_step(
	const struct pager_area *area, uint64_t first, uint64_t most, uint64_t nr)
{
	const uint64_t block = PAGER_BLOCK / area->page;
	uint64_t in = in_block(area, first);

	if (in == 0 && most >= block)
		return block;
	return nr < block - in ? nr : block - in;
}

bool gm_pager_move_fits(const struct pager_area *area, uint64_t addr, const void *buf, uint64_t nr)
{
	const struct gm_pager *pager = area->uffd->pager;

	return area->way == GM_PAGER_MOVE && nr * area->page == PAGER_BLOCK &&
	       !((addr | (uintptr_t)buf) & (PAGER_BLOCK - 1)) &&
	       (uintptr_t)buf - (uintptr_t)pager->bufs < pager->bufs_len;
}
