/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * trim.c - giving back pages that hold only zeros, without losing what is written meanwhile.
 *
 *   zeros? (a first look)  →  write-protect  →  still zeros?  →  move away  →  let writers go on  →  free
 *
 * A writer to a protected page sleeps until the protection is lifted; nobody answers it. Between the second
 * look and the move nothing can be written by way of page tables, and the kernel does not move a page that
 * is pinned for a device or shared after fork. What is left behind is a hole, which reads as zeros. Closing the
 * userfaultfd undoes all protection, so no failure leaves a writer asleep.
 *
 * A huge page is moved as a whole or not at all: gm_policy_split() is there for its parts.
 */
#include <guestmem/discard.h>
#include <guestmem/policy.h>

#include <errno.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/mman.h>

#include "core/bits.h"
#include "core/error.h"
#include "memory/reach.h"
#include "services/pagemap.h"
#include "sys/guard.h"
#include "sys/probe.h"
#include "sys/sys.h"
#include "sys/uapi.h"
#include "sys/uffd.h"

#define PAGES_MAX 512u /* of a chunk */
#define FOUND_MAX 512u
#define LOOK 4096u
#define TRIES 3

struct trim {
	struct gm_space *space;
	uint32_t flags;
	struct gm_pass pass;
	int pagemap;
	int uffd;      /* or -1 */
	uint8_t *room; /* where pages are moved to: one chunk, aligned */
	void *room_map;
	uint64_t page;
	uint64_t chunk;
	struct gm_trim_result sum;
	struct page_region found[FOUND_MAX];
	uint64_t zeros[PAGES_MAX / 64]; /* of the chunk */
	bool huge;
};

/* A stretch of one chunk. */
struct stretch {
	uint8_t *hva;
	uint64_t nr; /* pages */
};

/* ---- looking ---- */

static bool is_zero(const struct trim *t, const uint8_t *hva)
{
	uint64_t words[LOOK / 8];

	for (uint64_t off = 0; off < t->page; off += LOOK) {
		struct gm_guard_fault fault;

		if (gm_guard_copy_from(words, hva + off, LOOK, &fault))
			return false;
		for (size_t i = 0; i < LOOK / 8; i++) {
			if (words[i])
				return false;
		}
	}
	return true;
}

static void note_zeros(struct trim *t, const struct stretch *s, const struct page_region *region)
{
	uint64_t first = (region->start - (uintptr_t)s->hva) / t->page;
	uint64_t nr = (region->end - region->start) / t->page;

	t->sum.looked += region->end - region->start;
	t->huge |= (region->categories & PAGE_IS_HUGE) != 0;
	for (uint64_t i = first; i < first + nr; i++) {
		if (is_zero(t, s->hva + i * t->page))
			t->zeros[i / 64] |= UINT64_C(1) << i % 64;
	}
}

/* Which pages of the stretch are there, not the shared page of zeros, and hold only zeros? */
static int find_zeros(struct trim *t, const struct stretch *s)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (uintptr_t)s->hva,
		.end = (uintptr_t)s->hva + s->nr * t->page,
		.vec = (uintptr_t)t->found,
		.vec_len = FOUND_MAX,
		.category_inverted = PAGE_IS_PFNZERO,
		.category_mask = PAGE_IS_PRESENT | PAGE_IS_PFNZERO,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_HUGE,
	};
	bool more;
	int nr;

	memset(t->zeros, 0, sizeof(t->zeros));
	t->huge = false;
	do {
		nr = gm_pagemap_scan(t->pagemap, &arg, &more);
		for (int i = 0; i < nr; i++)
			note_zeros(t, s, &t->found[i]);
	} while (more);
	return nr < 0 ? nr : 0;
}

/* The runs of pages of zeros that may go; a huge page only whole. */
static bool next_run(
	const struct trim *t, const struct stretch *s, uint64_t from, struct gm_range *ret)
{
	if (from >= s->nr || !gm_bits_next(t->zeros, from, s->nr - 1, ret))
		return false;
	return !t->huge || gm_range_len(ret) * t->page == t->chunk;
}

/* ---- beside writers ---- */

static int protect(const struct trim *t, const struct stretch *s, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = {(uintptr_t)s->hva, s->nr * t->page},
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	int rc;

	do {
		rc = gm_sys_ioctl(t->uffd, UFFDIO_WRITEPROTECT, &wp);
	} while (rc == -EAGAIN || rc == -EINTR);
	return rc < 0 ? rc : 0;
}

/* Moves pages of zeros out; those that are held are counted. */
static int move_run(struct trim *t, const struct stretch *s, const struct gm_range *run)
{
	uint64_t at = run->first * t->page;
	uint64_t end = (run->last + 1) * t->page;
	int tries = 0;

	while (at != end) {
		struct uffdio_move move = {
			.dst = (uintptr_t)t->room + at,
			.src = (uintptr_t)s->hva + at,
			.len = end - at,
			.mode = 0,
		};
		int rc = gm_sys_ioctl(t->uffd, UFFDIO_MOVE, &move);

		if (move.move > 0) {
			at += (uint64_t)move.move;
			t->sum.freed += (uint64_t)move.move;
			tries = 0;
			continue;
		}
		if (rc == 0)
			return 0;
		if ((rc == -EAGAIN || rc == -EINTR) && ++tries < TRIES)
			continue;
		/* Pinned, shared after fork, or gone meanwhile. */
		if (rc != -EBUSY && rc != -EAGAIN && rc != -ENOENT && rc != -EINTR)
			return rc;
		t->sum.busy += t->page;
		at += t->page;
		tries = 0;
	}
	return 0;
}

static int move_zeros(struct trim *t, const struct stretch *s)
{
	struct gm_range run = {0, 0};
	uint64_t from = 0;
	int rc = 0;

	/* Those of the first look that were written since are not zeros any more. */
	for (uint64_t i = 0; i < s->nr; i++) {
		if ((t->zeros[i / 64] >> i % 64 & 1) && !is_zero(t, s->hva + i * t->page))
			t->zeros[i / 64] &= ~(UINT64_C(1) << i % 64);
	}
	while (!rc && next_run(t, s, from, &run)) {
		rc = move_run(t, s, &run);
		from = run.last + 1;
	}
	return rc;
}

static int trim_beside(struct trim *t, const struct stretch *s)
{
	struct gm_range run;
	int last;
	int rc = find_zeros(t, s);

	if (rc || !next_run(t, s, 0, &run))
		return rc;
	rc = protect(t, s, true);
	if (!rc)
		rc = move_zeros(t, s);
	last = protect(t, s, false);
	gm_sys_madvise(t->room, t->chunk, MADV_DONTNEED);
	return rc ? rc : last;
}

/* ---- nobody writes ---- */

static int trim_stopped(struct trim *t, const struct stretch *s, uint64_t gpa, struct gm_error *err)
{
	struct gm_range run;
	uint64_t from = 0;
	int rc = find_zeros(t, s);

	/* Explicit huge pages are rounded to by the discard. */
	t->huge = false;
	while (!rc && next_run(t, s, from, &run)) {
		struct gm_discard_result r = {.size = sizeof(r)};

		rc = gm_discard(t->space, gpa + run.first * t->page, gm_range_len(&run) * t->page,
			GM_DISCARD_NOW, 0, &r, err);
		t->sum.freed += r.done;
		from = run.last + 1;
	}
	return rc;
}

/* ---- pieces ---- */

static bool can_trim(const struct trim *t, const struct gm_reach *reach)
{
	const struct gm_block *b = reach->block;

	if (!reach->hva || b->dark || reach->kind != GM_REGION_RAM || !(reach->perms & GM_PERM_W) ||
		b->backing == GM_BACKING_POINTER ||
		(b->opts.flags & (GM_BLOCK_READONLY | GM_BLOCK_PRIVATE | GM_BLOCK_LOCK |
					 GM_BLOCK_LOCK_ONFAULT)))
		return false;
	return (t->flags & GM_TRIM_STOPPED) || (b->backing == GM_BACKING_ANON && !b->hugetlb);
}

static int explain(const struct trim *t, int rc, const struct gm_reach *reach, struct gm_error *err)
{
	return gm_error_set(err, rc, reach->range.first, gm_range_len(&reach->range),
		"%s: cannot trim memory at gpa 0x%" PRIx64 ": %s%s", t->space->name,
		reach->range.first, gm_error_word(rc),
		rc == -EBUSY ? " (another userfaultfd has it: a watch, or a pager)" : "");
}

/* Chunks of host addresses, so that a huge page is in one. */
static int trim_chunks(struct trim *t, const struct gm_reach *reach, const struct gm_range *range,
	struct gm_error *err)
{
	uint64_t end = gm_range_extent(range) + 1;
	uint64_t off = 0;

	while (off < end) {
		uint64_t at = range->first + off;
		uint64_t len = t->chunk - (at & (t->chunk - 1));
		struct stretch s = {.hva = (uint8_t *)(uintptr_t)at};
		int rc;

		len = len < end - off ? len : end - off;
		s.nr = len / t->page;
		if (t->flags & GM_TRIM_STOPPED)
			rc = trim_stopped(
				t, &s, reach->range.first + (at - (uintptr_t)reach->hva), err);
		else
			rc = trim_beside(t, &s);
		if (rc)
			return explain(t, rc, reach, err);
		off += len;
	}
	return 0;
}

/* Registering cuts the mapping at both ends, and that would cut a huge page in two. */
static struct uffdio_range whole_chunks(
	const struct trim *t, const struct gm_reach *reach, const struct gm_range *range)
{
	struct gm_range mapping = {
		(uintptr_t)reach->map->hva, (uintptr_t)reach->map->hva + (reach->map->len - 1)};
	struct gm_range chunks;

	gm_range_align_out(range, t->chunk, &chunks);
	gm_range_intersect(&chunks, &mapping, &chunks);
	return (struct uffdio_range){chunks.first, gm_range_len(&chunks)};
}

static int trim_one(void *ctx, struct gm_reach *reach, struct gm_error *err)
{
	struct gm_range range = {
		(uintptr_t)reach->hva, (uintptr_t)reach->hva + gm_range_extent(&reach->range)};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_WP};
	struct trim *t = ctx;
	int rc;

	if (!can_trim(t, reach) || !gm_range_align_in(&range, t->page, &range)) {
		t->sum.left += gm_range_len(&reach->range);
		return 0;
	}
	if (t->flags & GM_TRIM_STOPPED)
		return trim_chunks(t, reach, &range, err);
	rc = gm_gate_check(t->space, &t->pass, &reach->range, false, err);
	if (rc)
		return rc;
	reg.range = whole_chunks(t, reach, &range);
	rc = gm_sys_ioctl(t->uffd, UFFDIO_REGISTER, &reg);
	if (rc < 0)
		return explain(t, rc, reach, err);
	rc = trim_chunks(t, reach, &range, err);
	gm_sys_ioctl(t->uffd, UFFDIO_UNREGISTER, &reg.range);
	return rc;
}

static int trim_piece(void *ctx, struct gm_reach *reach, struct gm_error *err)
{
	struct trim *t = ctx;
	uint64_t freed = t->sum.freed;
	uint64_t left = t->sum.left;
	uint64_t start = gm_sys_now_ns();
	int rc = trim_one(t, reach, err);
	uint64_t ns = gm_sys_now_ns() - start;

	if (t->sum.left != left)
		return rc;
	freed = t->sum.freed - freed;
	gm_tally(&reach->block->tallies, GM_COUNT_TRIM, freed, ns, rc);
	gm_tally(&t->space->tallies, GM_COUNT_TRIM, freed, ns, rc);
	GM_PROBE5(trim, reach->range.first, gm_range_len(&reach->range), freed, ns, rc);
	return rc;
}

/* ---- one call ---- */

static int open_uffd(struct trim *t, struct gm_error *err)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MOVE,
	};
	int rc;

	/* One for faults of user code only would break the accesses of the kernel, and KVM's. */
	t->uffd = gm_uffd_open(0);
	if (t->uffd < 0)
		return gm_error_set(err, t->uffd, 0, 0, "%s: no userfaultfd: %s%s", t->space->name,
			gm_error_word(t->uffd), gm_uffd_hint(t->uffd));
	rc = gm_sys_ioctl(t->uffd, UFFDIO_API, &api);
	return rc < 0 ? gm_error_set(err, -ENOTSUP, 0, 0,
				"%s: the kernel moves no pages (Linux 6.8): %s", t->space->name,
				gm_error_word(rc))
		      : 0;
}

static int make_room(struct trim *t, struct gm_error *err)
{
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	uint64_t at;
	int rc = gm_sys_mmap(NULL, 2 * t->chunk, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, &t->room_map);

	if (rc) {
		t->room_map = NULL;
	} else {
		at = ((uintptr_t)t->room_map + t->chunk - 1) & ~(t->chunk - 1);
		t->room = (uint8_t *)(uintptr_t)at;
		reg.range = (struct uffdio_range){at, t->chunk};
		rc = gm_sys_ioctl(t->uffd, UFFDIO_REGISTER, &reg);
	}
	return rc < 0 ? gm_error_set(err, rc, 0, 0, "%s: no room to move pages to: %s",
				t->space->name, gm_error_word(rc))
		      : 0;
}

static int run(struct trim *t, uint64_t gpa, uint64_t len, struct gm_error *err)
{
	int rc;

	t->pagemap = gm_sys_open("/proc/self/pagemap", 0, 0);
	if (t->pagemap < 0)
		return gm_error_set(err, t->pagemap, 0, 0, "%s: /proc/self/pagemap: %s",
			t->space->name, gm_error_word(t->pagemap));
	if (t->flags & GM_TRIM_STOPPED)
		return gm_reach_each(t->space, gpa, len, trim_piece, t, err);
	rc = open_uffd(t, err);
	if (!rc)
		rc = make_room(t, err);
	if (!rc)
		rc = gm_gate_enter(t->space, &t->pass, err);
	if (rc)
		return rc;
	rc = gm_reach_each(t->space, gpa, len, trim_piece, t, err);
	gm_gate_leave(t->space, &t->pass);
	return rc;
}

int gm_space_trim(struct gm_space *space, uint64_t gpa, uint64_t len, uint32_t flags,
	struct gm_trim_result *ret, struct gm_error *err)
{
	struct trim *t;
	int rc;

	if ((flags & ~GM_TRIM_STOPPED) || (ret && ret->size < sizeof(*ret)))
		return gm_error_set(err, -EINVAL, gpa, len,
			"%s: unknown flags, or the result's size is not set", space->name);
	if (space->granted)
		return gm_error_set(err, -EPERM, gpa, len,
			"%s: it belongs to a grant: the space that grants is trimmed", space->name);
	t = gm_sys_alloc(sizeof(*t));
	if (!t)
		return gm_error_set(err, -ENOMEM, gpa, len, "%s: out of memory", space->name);
	t->space = space;
	t->flags = flags;
	t->uffd = -1;
	t->page = gm_sys_page_size();
	t->chunk = t->page * PAGES_MAX;
	rc = run(t, gpa, len, err);
	if (t->uffd >= 0)
		gm_sys_close(t->uffd);
	if (t->room_map)
		gm_sys_munmap(t->room_map, 2 * t->chunk);
	if (t->pagemap >= 0)
		gm_sys_close(t->pagemap);
	if (ret) {
		t->sum.size = ret->size;
		*ret = t->sum;
	}
	gm_sys_free(t);
	return rc;
}
