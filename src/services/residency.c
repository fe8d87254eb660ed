/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * residency.c - what backs the memory of a process: handles, the PAGEMAP_SCAN engine, sums.
 */
#include "services/residency.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "core/range.h"
#include "services/pagemap.h"
#include "services/text.h"
#include "sys/sys.h"
#include "sys/uapi.h"

#define SCAN_ROOM 512u
_Static_assert(SCAN_ROOM <= 512, "the kernel's own batch: see pagemap.h");
#define ALL_FLAGS (GM_RESIDENCY_FOLIOS | GM_RESIDENCY_SHARED | GM_RESIDENCY_NO_SCAN)

static int open_patiently(const char *path, int flags)
{
	int fd;

	do {
		fd = gm_sys_open(path, flags, 0);
	} while (fd == -EINTR);
	return fd;
}

int gm_residency_open(pid_t pid, struct gm_residency **ret, struct gm_error *err)
{
	struct gm_residency *res;
	char path[32] = "/proc/self";
	int rc;

	if (pid < 0)
		return gm_error_set(err, -ESRCH, 0, 0, "process %d: no such process", (int)pid);
	res = gm_sys_alloc(sizeof(*res));
	if (!res)
		return gm_error_set(err, -ENOMEM, 0, 0, "no memory for a handle");
	if (pid)
		snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	res->pid = pid;
	res->page_shift = 63 - (uint32_t)__builtin_clzll(gm_sys_page_size());
	res->pmd_shift = 2 * res->page_shift - 3;
	res->dir = open_patiently(path, O_PATH | O_DIRECTORY);
	if (res->dir < 0) {
		rc = res->dir == -ENOENT ? -ESRCH : res->dir;
		gm_sys_free(res);
		return gm_error_set(err, rc, 0, 0, "process %d: %s", (int)pid, gm_error_word(rc));
	}
	res->kpageflags = open_patiently("/proc/kpageflags", O_RDONLY);
	res->kpagecount = open_patiently("/proc/kpagecount", O_RDONLY);
	*ret = res;
	return 0;
}

void gm_residency_close(struct gm_residency *res)
{
	if (!res)
		return;
	if (res->kpageflags >= 0)
		gm_sys_close(res->kpageflags);
	if (res->kpagecount >= 0)
		gm_sys_close(res->kpagecount);
	gm_sys_close(res->dir);
	gm_sys_free(res);
}

/* A small file below /proc/PID into @buf, terminated. The length or -errno. */
static ssize_t read_proc(const struct gm_residency *res, const char *file, char *buf, size_t cap)
{
	int fd = gm_sys_openat(res->dir, file, O_RDONLY);
	size_t len = 0;
	ssize_t nr;

	if (fd < 0)
		return fd;
	do {
		nr = gm_sys_read(fd, buf + len, cap - 1 - len);
		if (nr > 0)
			len += (size_t)nr;
	} while (nr > 0 || nr == -EINTR);
	gm_sys_close(fd);
	buf[len] = '\0';
	return nr < 0 ? nr : (ssize_t)len;
}

int gm_residency_alive(const struct gm_residency *res)
{
	char text[128];
	uint64_t pages;
	ssize_t nr = read_proc(res, "statm", text, sizeof(text));

	if (nr == -ENOENT)
		return -ESRCH;
	if (nr < 0)
		return (int)nr;
	/* A zombie has no memory, nor has a kernel thread. */
	return gm_text_number(text, 10, &pages, NULL) && pages > 0 ? 0 : -ESRCH;
}

/* Gives the extent that was held back to the user and the sums. */
static int flush(struct gm_walk *walk)
{
	const struct gm_extent *e = &walk->open;
	struct gm_usage *sum = &walk->sum;
	struct gm_extent done = *e;

	if (e->len == 0)
		return 0;
	sum->extents++;
	if (e->state == GM_EXTENT_ZERO)
		sum->zero += e->len;
	if (e->state == GM_EXTENT_SWAPPED)
		sum->swapped += e->len;
	if (e->state == GM_EXTENT_PRESENT) {
		sum->present += e->len;
		sum->by_log2[e->page_log2 <= GM_USAGE_LOG2_MAX ? e->page_log2
							       : GM_USAGE_LOG2_MAX] += e->len;
		sum->shared += e->flags & GM_EXTENT_SHARED ? e->len : 0;
		sum->ksm += e->flags & GM_EXTENT_KSM ? e->len : 0;
		sum->split += e->flags & GM_EXTENT_SPLIT ? e->len : 0;
	}
	walk->open.len = 0;
	walk->stopped = walk->fn ? walk->fn(walk->arg, &done) : 0;
	return walk->stopped ? GM_WALK_STOP : 0;
}

int gm_walk_emit(struct gm_walk *walk, const struct gm_extent *extent)
{
	struct gm_extent *open = &walk->open;
	int rc;

	if (open->len && open->start + open->len == extent->start && open->state == extent->state &&
		open->page_log2 == extent->page_log2 && open->flags == extent->flags) {
		open->len += extent->len;
		return 0;
	}
	rc = flush(walk);
	*open = *extent;
	return rc;
}

/* A huge extent, mapping by mapping: hugetlb has page sizes of its own. */
static int scan_huge(struct gm_walk *walk, uint64_t start, uint64_t end)
{
	while (start < end) {
		uint64_t stop = end;
		int rc = gm_walk_mapping_at(walk, start);

		if (rc < 0)
			return rc;
		/* A mapping that has gone meanwhile: what was seen there counts as PMD-sized. */
		if (rc > 0 && walk->here.end < stop)
			stop = walk->here.end;
		rc = gm_pages_huge(walk, start, stop, rc > 0 ? walk->here.page_size : 0);
		if (rc)
			return rc;
		start = stop;
	}
	return 0;
}

static int scan_extent(struct gm_walk *walk, const struct page_region *region)
{
	struct gm_extent e = {
		.start = region->start,
		.len = region->end - region->start,
		.state = GM_EXTENT_PRESENT,
		.page_log2 = walk->res->page_shift,
	};

	if (region->categories & PAGE_IS_GUARD)
		return 0;
	if (region->categories & PAGE_IS_PFNZERO) {
		e.state = GM_EXTENT_ZERO;
		if (region->categories & PAGE_IS_HUGE) {
			e.page_log2 = walk->res->pmd_shift;
			e.flags = GM_EXTENT_HUGE;
		}
		return gm_walk_emit(walk, &e);
	}
	if (!(region->categories & PAGE_IS_PRESENT)) {
		e.state = GM_EXTENT_SWAPPED;
		return gm_walk_emit(walk, &e);
	}
	if (region->categories & PAGE_IS_HUGE)
		return scan_huge(walk, region->start, region->end);
	if (walk->flags)
		return gm_pages_walk(walk, region->start, region->end, false);
	return gm_walk_emit(walk, &e);
}

/* *ret_missing: the kernel has no PAGEMAP_SCAN, or not this one; nothing was emitted then. */
static int scan(struct gm_walk *walk, struct page_region *room, bool *ret_missing)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = walk->start,
		.end = walk->end,
		.vec = (uintptr_t)room,
		.vec_len = SCAN_ROOM,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO | PAGE_IS_HUGE |
			       PAGE_IS_GUARD,
	};
	bool more = walk->start < walk->end;

	while (more) {
		int nr = gm_pagemap_scan(walk->pagemap, &arg, &more);

		if (nr == -EINVAL && (arg.return_mask & PAGE_IS_GUARD)) {
			arg.return_mask &= ~(uint64_t)PAGE_IS_GUARD;
			walk->sum.unseen |= GM_UNSEEN_GUARD;
			more = true;
			continue;
		}
		if (nr < 0) {
			*ret_missing = arg.start == walk->start && (nr == -ENOTTY || nr == -EINVAL);
			return nr;
		}
		for (int i = 0; i < nr; i++) {
			int rc = scan_extent(walk, &room[i]);

			if (rc)
				return rc;
		}
	}
	walk->sum.sources |= GM_SOURCE_SCAN;
	return 0;
}

static int run_engine(struct gm_walk *walk)
{
	bool missing = walk->flags & GM_RESIDENCY_NO_SCAN;
	struct page_region *room;
	int rc = 0;

	if (!missing) {
		room = gm_sys_alloc_array(SCAN_ROOM, sizeof(*room));
		if (!room)
			return -ENOMEM;
		rc = scan(walk, room, &missing);
		gm_sys_free(room);
	}
	if (missing) {
		walk->flags |= GM_RESIDENCY_NO_SCAN;
		rc = gm_pages_walk(walk, walk->start, walk->end, true);
	}
	/* Addresses that a process cannot have: nothing is there. */
	return rc == -EFAULT ? 0 : rc;
}

static void what_was_not_seen(struct gm_walk *walk)
{
	bool frames = walk->res->kpageflags >= 0;

	if (!(walk->flags & GM_RESIDENCY_SHARED))
		walk->sum.unseen |= GM_UNSEEN_SHARED;
	if (!frames || !(walk->flags & (GM_RESIDENCY_FOLIOS | GM_RESIDENCY_NO_SCAN)))
		walk->sum.unseen |= GM_UNSEEN_FOLIOS;
	if (walk->flags & GM_RESIDENCY_NO_SCAN)
		walk->sum.unseen |= GM_UNSEEN_GUARD | (frames ? 0 : GM_UNSEEN_ZERO);
}

static int walk_range(struct gm_walk *walk)
{
	int rc;

	walk->pagemap = gm_sys_openat(walk->res->dir, "pagemap", O_RDONLY);
	if (walk->pagemap < 0)
		return walk->pagemap == -ENOENT ? -ESRCH : walk->pagemap;
	rc = run_engine(walk);
	if (rc == 0)
		rc = flush(walk);
	/* After the end of the process everything looks empty; our own has not ended. */
	if (rc == 0 && walk->res->pid)
		rc = gm_residency_alive(walk->res);
	what_was_not_seen(walk);
	gm_sys_close(walk->pagemap);
	if (walk->maps >= 0)
		gm_sys_close(walk->maps);
	gm_sys_free(walk->list);
	return rc;
}

static int check_range(uint64_t start, uint64_t len, uint64_t page, struct gm_error *err)
{
	struct gm_range range = {.last = 0};

	if ((start | len) & (page - 1))
		return gm_error_set(err, -EINVAL, 0, 0,
			"range 0x%llx+0x%llx does not consist of whole pages of %llu bytes",
			(unsigned long long)start, (unsigned long long)len,
			(unsigned long long)page);
	/* The last page of all has no end that could be written down; nobody has it. */
	if (len && (!gm_range_make(start, len, &range) || range.last == UINT64_MAX))
		return gm_error_set(err, -EINVAL, 0, 0,
			"range 0x%llx+0x%llx reaches 2^64, where no process has memory",
			(unsigned long long)start, (unsigned long long)len);
	return 0;
}

int gm_residency_extents(struct gm_residency *res, uint64_t start, uint64_t len, uint32_t flags,
	int (*fn)(void *arg, const struct gm_extent *extent), void *arg, struct gm_usage *ret,
	struct gm_error *err)
{
	uint64_t page = UINT64_C(1) << res->page_shift;
	struct gm_walk *walk;
	int rc = check_range(start, len, page, err);

	if (rc)
		return rc;
	if (flags & ~ALL_FLAGS)
		return gm_error_set(err, -EINVAL, 0, 0,
			"flags 0x%x: 0x%x is none of GM_RESIDENCY_*", flags, flags & ~ALL_FLAGS);
	if (ret && ret->size < sizeof(*ret))
		return gm_error_set(err, -EINVAL, 0, 0, "gm_usage.size is too small");
	walk = gm_sys_alloc(sizeof(*walk));
	if (!walk)
		return gm_error_set(err, -ENOMEM, 0, 0, "no memory for a walk");
	walk->res = res;
	walk->flags = flags;
	walk->maps = -1;
	walk->block_nr = UINT64_MAX;
	walk->start = start;
	walk->end = start + len;
	walk->fn = fn;
	walk->arg = arg;
	rc = walk_range(walk);
	if (rc == GM_WALK_STOP)
		rc = walk->stopped;
	else if (rc < 0)
		gm_error_set(err, rc, 0, 0, "process %d: %s", (int)res->pid, gm_error_word(rc));
	if (rc == 0 && ret) {
		walk->sum.size = ret->size;
		*ret = walk->sum;
	}
	gm_sys_free(walk);
	return rc;
}

int gm_residency_usage(struct gm_residency *res, uint64_t start, uint64_t len, uint32_t flags,
	struct gm_usage *ret, struct gm_error *err)
{
	return gm_residency_extents(res, start, len, flags, NULL, NULL, ret, err);
}

static uint64_t sum_known(uint64_t a, uint64_t b)
{
	if (a == UINT64_MAX || b == UINT64_MAX)
		return a == UINT64_MAX ? b : a;
	return a + b;
}

static void read_name(char *to, size_t cap, const char *status)
{
	const char *from = strncmp(status, "Name:\t", 6) == 0 ? status + 6 : "";
	size_t len = strcspn(from, "\n");

	if (len >= cap)
		len = cap - 1;
	memcpy(to, from, len);
	to[len] = '\0';
}

/* Fields 10 and 12 of stat; the name before them may hold anything. */
static void read_faults(struct gm_process_memory *m, const char *stat)
{
	const char *at = strrchr(stat, ')');
	uint64_t unused;

	m->minor_faults = m->major_faults = UINT64_MAX;
	for (int field = 3; at && field <= 10; field++)
		at = strchr(at + 1, ' ');
	if (!at || !gm_text_number(at + 1, 10, &m->minor_faults, &at) ||
		!gm_text_number(at + 1, 10, &unused, &at) ||
		!gm_text_number(at + 1, 10, &m->major_faults, NULL))
		m->minor_faults = m->major_faults = UINT64_MAX;
}

int gm_residency_process(
	struct gm_residency *res, struct gm_process_memory *ret, struct gm_error *err)
{
	char text[8192];
	struct gm_process_memory m = {.size = ret->size};
	ssize_t nr;

	if (ret->size < sizeof(*ret))
		return gm_error_set(err, -EINVAL, 0, 0, "gm_process_memory.size is too small");
	nr = read_proc(res, "status", text, sizeof(text));
	if (nr < 0) {
		nr = nr == -ENOENT ? -ESRCH : nr;
		return gm_error_set(err, (int)nr, 0, 0, "process %d: %s", (int)res->pid,
			gm_error_word((int)nr));
	}
	read_name(m.name, sizeof(m.name), text);
	/* Since Linux 4.15 VmPTE contains all levels; before, VmPMD was apart. */
	m.page_tables = sum_known(gm_text_field(text, "VmPTE:"), gm_text_field(text, "VmPMD:"));
	m.rss = gm_text_field(text, "VmRSS:");
	m.hugetlb = gm_text_field(text, "HugetlbPages:");
	m.swap = gm_text_field(text, "VmSwap:");
	m.locked = gm_text_field(text, "VmLck:");
	nr = read_proc(res, "ksm_stat", text, sizeof(text));
	if (nr < 0)
		text[0] = '\0';
	m.ksm_merging = gm_text_field(text, "ksm_merging_pages ");
	m.ksm_zero = gm_text_field(text, "ksm_zero_pages ");
	m.ksm_profit = gm_text_field(text, "ksm_process_profit ");
	if (strstr(text, "ksm_process_profit -"))
		m.ksm_profit = 0;
	nr = read_proc(res, "stat", text, sizeof(text));
	if (nr < 0)
		text[0] = '\0';
	read_faults(&m, text);
	*ret = m;
	return 0;
}
