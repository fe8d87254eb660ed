/* SPDX-License-Identifier: BSD-3-Clause */
/* overlap.c - whether two blocks have bytes in common. */
#include "core/range.h"
#include "memory/block.h"
#include "sys/sys.h"

static bool meet(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	struct gm_range x;
	struct gm_range y;

	return gm_range_make(a, a_len, &x) && gm_range_make(b, b_len, &y) &&
	       gm_range_overlaps(&x, &y);
}

/* Do two fds lead to one file? 1, 0, or an error. */
static int is_one_file(int a, int b)
{
	struct stat x;
	struct stat y;
	int rc = gm_sys_fstat(a, &x);

	if (!rc)
		rc = gm_sys_fstat(b, &y);
	return rc ? rc : x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int gm_block_overlaps(const struct gm_block *a, const struct gm_block *b)
{
	if (a == b)
		return 1;
	/* That of the caller is never moved. */
	if (a->backing == GM_BACKING_POINTER && b->backing == GM_BACKING_POINTER)
		return meet((uintptr_t)a->home.hva, a->len, (uintptr_t)b->home.hva, b->len);
	if (a->fd < 0 || b->fd < 0 || !meet(a->offset, a->len, b->offset, b->len))
		return 0;
	return is_one_file(a->fd, b->fd);
}
