/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_live.c - the pause of a live save, for 256 MiB, against one UFFDIO_WRITEPROTECT of the same range.
 *
 * usage: bench_live [--json FILE] [--pairs N]
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <guestmem/guestmem.h>

#include "bench.h"

#define LEN (UINT64_C(256) << 20)

static struct gm_space *space;
static struct gm_pager *pager;
static struct gm_snapshot_live *live;
static uint8_t *bare;
static int uffd;
static struct gm_error err;

static void make_ours(void)
{
	struct gm_region_info info = {.size = sizeof(info)};
	uint64_t id;

	bench_need(!gm_space_create(
			   GM_OPTS(gm_space_opts, .gpa_limit = UINT64_C(1) << 30), &space, &err),
		"space", err.text);
	bench_need(!gm_space_add(space,
			   GM_OPTS(gm_region_desc, .backing = GM_OPTS(gm_block_opts, .len = LEN,
							   .pages = {{.kind = GM_PAGE_BASE}})),
			   &id, &err),
		"memory", err.text);
	bench_need(!gm_space_region(space, id, &info), "region", NULL);
	memset(info.hva, 1, LEN);
	bench_need(!gm_pager_create(NULL, &pager, &err), "pager", err.text);
	bench_need(!gm_pager_add_space(pager, space, 0, LEN,
			   GM_OPTS(gm_pager_area_opts, .way = GM_PAGER_PROTECT), NULL, &err),
		"area", err.text);
	bench_need(!gm_snapshot_live_create(space, pager, NULL, &live, &err), "live", err.text);
}

static void protect_bare(bool on)
{
	struct uffdio_writeprotect wp = {
		.range = {(uintptr_t)bare, LEN}, .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0};

	bench_need(!ioctl(uffd, UFFDIO_WRITEPROTECT, &wp), "write protection", NULL);
}

static void make_bare(void)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_WP};

	bare = aligned_alloc(2u << 20, LEN);
	bench_need(bare, "memory", NULL);
	madvise(bare, LEN, MADV_NOHUGEPAGE);
	memset(bare, 1, LEN);
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	reg.range = (struct uffdio_range){(uintptr_t)bare, LEN};
	bench_need(
		uffd >= 0 && !ioctl(uffd, UFFDIO_API, &api) && !ioctl(uffd, UFFDIO_REGISTER, &reg),
		"userfaultfd", NULL);
}

static void arm(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	bench_need(!gm_snapshot_live_arm(live, NULL, &err), "arm", err.text);
}

static void arm_bare(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	protect_bare(true);
}

/* Both are not protected. */
static void let_go(void *ctx)
{
	(void)ctx;
	gm_snapshot_live_cancel(live);
	gm_snapshot_live_save(live, "/nowhere/at/all", NULL, NULL, NULL);
	protect_bare(false);
}

int main(int argc, char **argv)
{
	static const struct bench_row row = {.name = "arm 256 MiB of base pages",
		.ours = arm,
		.against = "UFFDIO_WRITEPROTECT",
		.other = arm_bare,
		.goal = 1.1,
		.before = let_go,
		.iters = 1};

	bench_begin(argc, argv);
	make_ours();
	make_bare();
	bench_run(&row);
	let_go(NULL);
	gm_snapshot_live_destroy(live);
	bench_need(
		!gm_pager_stop(pager, GM_PAGER_COMPLETE, 0, &err) && !gm_pager_destroy(pager, &err),
		"end", err.text);
	gm_space_destroy(space);
	return bench_end();
}
