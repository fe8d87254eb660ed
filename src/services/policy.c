/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy.c - sizes of pages at run time.
 *
 * Advice goes to the mapping by which the space reaches the memory. Blocks are those of host addresses, as
 * the kernel's huge pages are; what was reached is asked of the page tables.
 */
#include <guestmem/policy.h>

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/sort.h"
#include "memory/avail.h"
#include "memory/reach.h"
#include "sys/probe.h"
#include "sys/sys.h"
#include "sys/uapi.h"

#define CHUNK (UINT64_C(64) << 20)
#define TRIES 3 /* of what the kernel says to try again */

_Static_assert(sizeof(struct gm_heat) == sizeof(struct gm_sort_pair), "sorted as pairs");

struct job {
	struct gm_space *space;
	struct gm_residency *res;
	uint32_t flags;
	uint32_t log2;  /* of a block; the host is asked once */
	uint64_t block; /* bytes */
	const struct gm_page_choice *choice;
	struct gm_policy_result sum;
};

static int refuse(const struct gm_reach *reach, int rc, const char *why, struct gm_error *err)
{
	return gm_error_set(err, rc, reach->range.first, gm_range_len(&reach->range),
		"%s: at gpa 0x%" PRIx64 ": %s", reach->block->name, reach->range.first, why);
}

/* Transparent huge pages need a mapping of the library's. */
static int check(const struct gm_reach *reach, struct gm_error *err)
{
	const struct gm_block *block = reach->block;

	if (!reach->hva || block->dark || reach->kind == GM_REGION_DEVMEM)
		return refuse(reach, -ENOTSUP, "it is not memory that this space maps", err);
	if (block->backing == GM_BACKING_POINTER)
		return refuse(reach, -ENOTSUP, "it is memory of the caller", err);
	if (block->hugetlb)
		return refuse(reach, -ENOTSUP,
			"explicit huge pages stay what they are (gm_host_demote() makes small ones "
			"of those that nobody uses)",
			err);
	return 0;
}

static int madvise_fully(uint8_t *hva, uint64_t len, int advice)
{
	int rc;
	int tries = 0;

	do {
		rc = gm_sys_madvise(hva, (size_t)len, advice);
	} while (rc == -EINTR || (rc == -EAGAIN && ++tries < TRIES));
	return rc;
}

static int open_job(struct gm_space *space, uint32_t flags, uint32_t known, struct job *job,
	const struct gm_policy_result *ret, struct gm_error *err)
{
	*job = (struct job){.space = space, .flags = flags};
	if ((flags & ~known) || (ret && ret->size < sizeof(*ret)))
		return gm_error_set(err, -EINVAL, 0, 0,
			"%s: unknown flags, or the result's size is not set", space->name);
	job->log2 = gm_thp_pmd_log2();
	job->block = UINT64_C(1) << job->log2;
	return gm_residency_open(0, &job->res, err);
}

static void close_job(struct job *job, struct gm_policy_result *ret)
{
	gm_residency_close(job->res);
	if (ret) {
		job->sum.size = ret->size;
		*ret = job->sum;
	}
}

/* ---- wishes ---- */

static int wish(void *ctx, struct gm_reach *reach, struct gm_error *err)
{
	const struct gm_page_choice *choice = ((struct job *)ctx)->choice;
	uint32_t log2 = choice->log2 ? choice->log2 : gm_thp_pmd_log2();
	bool thp = choice->kind == GM_PAGE_THP;
	struct gm_range range = {
		(uintptr_t)reach->hva, (uintptr_t)reach->hva + gm_range_extent(&reach->range)};
	char knob[160];
	int rc = check(reach, err);

	if (rc)
		return rc;
	if (thp &&
		!gm_thp_allowed(log2, reach->block->backing != GM_BACKING_ANON, knob, sizeof(knob)))
		return gm_error_set(err, -ENOTSUP, reach->range.first, gm_range_len(&reach->range),
			"%s: the host gives no transparent huge pages of %" PRIu64
			" kB to it: %s (gm_policy_collapse() needs no such setting)",
			reach->block->name, (UINT64_C(1) << log2) >> 10, knob);
	if (!gm_range_align_in(&range, gm_sys_page_size(), &range))
		return 0;
	rc = madvise_fully((uint8_t *)(uintptr_t)range.first, gm_range_len(&range),
		thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	/* A kernel without transparent huge pages gives base pages. */
	if (rc == -EINVAL && !thp)
		rc = 0;
	return rc ? refuse(reach, rc, gm_error_word(rc), err) : 0;
}

int gm_policy_set(struct gm_space *space, uint64_t gpa, uint64_t len,
	const struct gm_page_choice *choice, struct gm_error *err)
{
	struct job job = {.choice = choice};

	if ((choice->kind != GM_PAGE_THP && choice->kind != GM_PAGE_BASE) ||
		(choice->kind == GM_PAGE_BASE && choice->log2) ||
		(choice->log2 && (choice->log2 < 13 || choice->log2 > 40)))
		return gm_error_set(err, -EINVAL, gpa, len,
			"%s: at run time there are transparent huge pages and base pages, of a "
			"size given as log2",
			space->name);
	return gm_reach_each(space, gpa, len, wish, &job, err);
}

/* ---- blocks ---- */

/* Bytes that huge pages map, and bytes that are there, in a range of host addresses. */
static int look(const struct job *job, const struct gm_range *range, uint64_t *ret_huge,
	uint64_t *ret_present, struct gm_error *err)
{
	struct gm_usage use = {.size = sizeof(use)};
	int rc = gm_residency_usage(job->res, range->first, gm_range_len(range), 0, &use, err);

	*ret_huge = rc ? 0 : use.by_log2[job->log2];
	*ret_present = rc ? 0 : use.present;
	return rc;
}

/* A page in each block, so that there is something to collapse. */
static int touch(const struct job *job, const struct gm_range *range)
{
	int rc = 0;

	for (uint64_t at = range->first; !rc; at += job->block) {
		rc = madvise_fully(
			(uint8_t *)(uintptr_t)at, gm_sys_page_size(), MADV_POPULATE_WRITE);
		if (range->last - at < job->block)
			break;
	}
	return rc;
}

static void count_collapse(struct job *job, struct gm_block *block, const struct gm_range *range,
	uint64_t bytes, uint64_t ns)
{
	int rc = bytes ? 0 : job->sum.code;

	gm_tally(&block->tallies, GM_COUNT_COLLAPSE, bytes, ns, rc);
	gm_tally(&job->space->tallies, GM_COUNT_COLLAPSE, bytes, ns, rc);
	GM_PROBE5(collapse, range->first, gm_range_len(range), bytes, ns, rc);
}

/* Whole blocks of host addresses. */
static int collapse(
	struct job *job, struct gm_block *block, const struct gm_range *range, struct gm_error *err)
{
	uint64_t before;
	uint64_t huge;
	uint64_t was;
	uint64_t present;
	int code = 0;
	uint64_t start;
	int rc = look(job, range, &before, &was, err);

	if (rc)
		return rc;
	start = gm_sys_now_ns();
	if (job->flags & GM_POLICY_TOUCH)
		code = touch(job, range);
	for (uint64_t off = 0; !code && off <= gm_range_extent(range); off += CHUNK) {
		uint64_t left = gm_range_extent(range) - off + 1;
		int answer = madvise_fully((uint8_t *)(uintptr_t)(range->first + off),
			left < CHUNK ? left : CHUNK, MADV_COLLAPSE);

		/* An empty block does not stop the others. */
		if (answer)
			job->sum.code = answer;
	}
	if (code)
		job->sum.code = code;
	start = gm_sys_now_ns() - start;
	rc = look(job, range, &huge, &present, err);
	count_collapse(job, block, range, huge > before ? huge - before : 0, start);
	job->sum.blocks += gm_range_len(range) / job->block;
	job->sum.before += before / job->block;
	job->sum.huge += huge / job->block;
	job->sum.added += present > was ? present - was : 0;
	return rc;
}

static bool blocks_in(const struct job *job, const struct gm_reach *reach, struct gm_range *ret)
{
	struct gm_range range = {
		(uintptr_t)reach->hva, (uintptr_t)reach->hva + gm_range_extent(&reach->range)};

	return gm_range_align_in(&range, job->block, ret);
}

static int collapse_piece(void *ctx, struct gm_reach *reach, struct gm_error *err)
{
	struct job *job = ctx;
	struct gm_range range;
	int rc = check(reach, err);

	return rc || !blocks_in(job, reach, &range) ? rc : collapse(job, reach->block, &range, err);
}

int gm_policy_collapse(struct gm_space *space, uint64_t gpa, uint64_t len, uint32_t flags,
	struct gm_policy_result *ret, struct gm_error *err)
{
	struct job job;
	int rc = open_job(space, flags, GM_POLICY_TOUCH, &job, ret, err);

	if (rc)
		return rc;
	rc = gm_reach_each(space, gpa, len, collapse_piece, &job, err);
	close_job(&job, ret);
	if (rc || job.sum.huge || len == 0)
		return rc;
	rc = job.sum.code ? job.sum.code : -EINVAL;
	return gm_error_set(err, rc, gpa, len,
		"%s: no block of %" PRIu64 " kB in %" PRIu64 " bytes at gpa 0x%" PRIx64
		" became a huge page (%" PRIu64 " whole blocks): %s",
		space->name, job.block >> 10, len, gpa, job.sum.blocks, gm_error_word(rc));
}

/* ---- splitting ---- */

struct splitting {
	struct job *job;
	uint64_t found;
	int code;
};

static int split_extent(void *arg, const struct gm_extent *extent)
{
	struct splitting *s = arg;

	if (!(extent->flags & GM_EXTENT_HUGE))
		return 0;
	for (uint64_t off = 0; off < extent->len; off += s->job->block) {
		int rc = madvise_fully(
			(uint8_t *)(uintptr_t)(extent->start + off), gm_sys_page_size(), MADV_COLD);

		s->found++;
		if (rc)
			s->code = rc;
	}
	return 0;
}

/* The blocks around the piece, as far as its mapping goes. */
static int split_piece(void *ctx, struct gm_reach *reach, struct gm_error *err)
{
	struct job *job = ctx;
	struct splitting s = {.job = job};
	struct gm_range range = {
		(uintptr_t)reach->hva, (uintptr_t)reach->hva + gm_range_extent(&reach->range)};
	struct gm_range mapping = {
		(uintptr_t)reach->map->hva, (uintptr_t)reach->map->hva + (reach->map->len - 1)};
	uint64_t huge;
	uint64_t present;
	int rc = check(reach, err);

	if (rc)
		return rc;
	gm_range_align_out(&range, job->block, &range);
	if (!gm_range_intersect(&range, &mapping, &range))
		return 0;
	rc = gm_residency_extents(
		job->res, range.first, gm_range_len(&range), 0, split_extent, &s, NULL, err);
	if (!rc)
		rc = look(job, &range, &huge, &present, err);
	if (rc)
		return rc;
	job->sum.blocks += gm_range_len(&range) / job->block;
	job->sum.before += s.found;
	job->sum.huge += huge / job->block;
	if (huge == 0)
		return 0;
	rc = s.code == -EINVAL ? -ENOTSUP : s.code ? s.code : -EBUSY;
	job->sum.code = rc;
	return refuse(reach, rc,
		rc == -ENOTSUP ? "huge pages of locked memory are not split"
			       : "a huge page is in use and was not split",
		err);
}

int gm_policy_split(struct gm_space *space, uint64_t gpa, uint64_t len,
	struct gm_policy_result *ret, struct gm_error *err)
{
	struct job job;
	int rc = open_job(space, 0, 0, &job, ret, err);

	if (rc)
		return rc;
	rc = gm_reach_each(space, gpa, len, split_piece, &job, err);
	close_job(&job, ret);
	return rc;
}

/* ---- promoting ---- */

/* The block around an address. 0 also if there is none to be promoted. */
static int promote(struct gm_space *space, struct job *job, uint64_t gpa, uint64_t *budget,
	struct gm_error *err)
{
	struct gm_range around = {gm_align_down(gpa, job->block), gpa | (job->block - 1)};
	struct gm_reach reach;
	struct gm_range range;
	uint64_t present;
	uint64_t added;
	uint64_t huge;
	int rc;

	if (gm_reach_get(space, &around, &reach))
		return 0;
	rc = 0;
	if (reach.range.last != around.last || check(&reach, NULL) ||
		!blocks_in(job, &reach, &range))
		goto out;
	rc = look(job, &range, &huge, &present, err);
	if (rc)
		goto out;
	if (huge) {
		job->sum.blocks++;
		job->sum.before++;
		job->sum.huge++;
	} else if (job->block - present > *budget) {
		job->sum.blocks++;
		job->sum.over++;
	} else {
		added = job->sum.added;
		rc = collapse(job, reach.block, &range, err);
		added = job->sum.added - added;
		*budget -= added < *budget ? added : *budget;
	}
out:
	gm_reach_put(&reach);
	return rc;
}

int gm_policy_promote(struct gm_space *space, struct gm_heat *items, size_t nr, uint64_t budget,
	uint32_t flags, struct gm_policy_result *ret, struct gm_error *err)
{
	struct job job;
	int rc = open_job(space, flags, GM_POLICY_TOUCH | GM_POLICY_IN_ORDER, &job, ret, err);

	if (rc)
		return rc;
	if (!(flags & GM_POLICY_IN_ORDER))
		gm_sort_pairs((struct gm_sort_pair *)(void *)items, nr);
	for (size_t i = 0; i < nr && !rc; i++) {
		size_t at = flags & GM_POLICY_IN_ORDER ? i : nr - 1 - i;

		rc = promote(space, &job, items[at].gpa, &budget, err);
	}
	close_job(&job, ret);
	return rc;
}
