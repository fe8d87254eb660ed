/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_in_others.c - the guest's memory as a source for other processes' mappings of the same files.
 *
 * A page is written to its file once, by our own area of the pager. So a read is done when that has it: before, the
 * other process could write to a page that is then written once more. What it is told then is read from the file,
 * and the kernel finds that the page is there already.
 */
#include <errno.h>
#include <string.h>

#include <guestmem/source.h>

#include "services/migrate_in.h"
#include "services/pager.h"
#include "sys/sys.h"

/* Is what our own area has of it in the file for good? */
static bool is_settled(const struct gm_migrate_in *in, const struct gm_range *bits)
{
	const uint32_t there = PAGER_IN(GM_PAGE_FILLED) | PAGER_IN(GM_PAGE_PRESENT) |
			       PAGER_IN(GM_PAGE_REMOVED) | PAGER_IN(GM_PAGE_POISONED);

	for (size_t i = 0; i < in->nr_areas; i++) {
		const struct in_area *a = &in->areas[i];
		const struct gm_range all = {a->first, a->first + a->nr - 1};
		const struct pager_area *area = gm_pager_find(in->pager, a->id);
		struct gm_range both;

		if (!area || !gm_range_intersect(bits, &all, &both))
			continue;
		for (uint64_t bit = both.first; bit <= both.last; bit++) {
			uint64_t page = ((bit - a->first) << GM_MIGRATE_PAGE_LOG2) / a->page;

			if (!(PAGER_IN(gm_pagestate_get(area->states, page)) & there))
				return false;
		}
	}
	return true;
}

/* 1: it is done; 0: it has to wait. */
static int try(struct gm_migrate_in *in, struct gm_source_read *read)
{
	struct gm_range bits = gm_migrate_in_wants(read);
	struct gm_range run;
	int rc;

	if (gm_bits_next(in->machine.lost, bits.first, bits.last, &run))
		rc = -EIO;
	else if (!gm_bits_all(in->machine.have, &bits) || !is_settled(in, &bits))
		return 0;
	else
		rc = gm_migrate_in_read_there(in, &bits, read->buf);
	read->done(read, rc);
	return 1;
}

static int others_start(void *ctx, struct gm_source_read *read)
{
	struct gm_migrate_in *in = ctx;
	struct gm_range rest = gm_migrate_in_wants(read);

	if (try(in, read))
		return 0;
	read->own[0] = (uintptr_t)in->others_reads;
	in->others_reads = read;
	gm_migrate_in_want(in, &rest);
	return 0;
}

static int others_step(void *ctx)
{
	gm_migrate_in_others(ctx, false);
	return 0;
}

static int others_fd(void *ctx)
{
	return ((struct gm_migrate_in *)ctx)->others_fd;
}

int gm_migrate_in_others_open(struct gm_migrate_in *in)
{
	const struct gm_source_ops ops = {
		.size = sizeof(ops),
		.name = "migration",
		.len = in->map.pages << GM_MIGRATE_PAGE_LOG2,
		.extent = gm_migrate_in_extent,
		.start = others_start,
		.step = others_step,
		.fd = others_fd,
		.ctx = in,
	};

	in->others_fd = gm_sys_eventfd();
	return in->others_fd < 0 ? in->others_fd : gm_source_create(&ops, &in->others, NULL);
}

void gm_migrate_in_others(struct gm_migrate_in *in, bool fail)
{
	struct gm_source_read *all = in->others_reads;
	struct gm_source_read *next;

	in->others_reads = NULL;
	for (; all; all = next) {
		next = gm_migrate_in_next(all);
		if (fail) {
			all->done(all, -ECANCELED);
		} else if (!try(in, all)) {
			struct gm_range bits = gm_migrate_in_wants(all);

			all->own[0] = (uintptr_t)in->others_reads;
			in->others_reads = all;
			/* Ours is about to be written. */
			in->lines.busy |= gm_bits_all(in->machine.have, &bits);
		}
	}
}
