/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sparse_reclaim.c - taking memory of a sparse region back: pages of zeros, then what the caller knows to be cold.
 *
 * What a step has freed is what the count says afterwards, not what a call returned: where nothing can be swapped
 * the kernel pages nothing out and says so by no code.
 */
#include "services/sparse.h"

#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "memory/block.h"

#define CHUNK (UINT64_C(64) << 20)
#define RANGES 64u
#define IDLE_MAX 4 /* answers in a row that free nothing */

/* From where the last call stopped, round once at most; what cannot be trimmed is no error. */
static int take_zeros(struct gm_sparse *sparse, uint64_t goal, uint32_t flags,
	struct gm_sparse_reclaimed *r, struct gm_error *err)
{
	uint32_t how = flags & GM_SPARSE_STOPPED ? GM_TRIM_STOPPED : 0;
	int rc = 0;

	/* Beside writers only private memory can be. */
	if (!how && sparse->block->fd >= 0)
		return 0;
	for (uint64_t done = 0; !rc && r->after > goal && done < sparse->opts.len; done += CHUNK) {
		struct gm_trim_result trimmed = {.size = sizeof(trimmed)};
		int code = gm_space_trim(
			sparse->space, sparse->opts.gpa + sparse->hand, CHUNK, how, &trimmed, NULL);

		sparse->hand = (sparse->hand + CHUNK) % sparse->opts.len;
		r->zero += trimmed.freed;
		if (code) {
			r->code = code;
			break;
		}
		if (trimmed.freed)
			rc = gm_sparse_count(sparse, &r->after, NULL, err);
	}
	return rc;
}

static bool is_ours(const struct gm_sparse *sparse, const struct gm_sparse_cold *cold)
{
	uint64_t off = cold->gpa - sparse->opts.gpa;

	return cold->gpa >= sparse->opts.gpa && off < sparse->opts.len && cold->len != 0 &&
	       cold->len <= sparse->opts.len - off &&
	       (cold->mode == GM_DISCARD_NOW || cold->mode == GM_DISCARD_PAGEOUT ||
		       cold->mode == GM_DISCARD_COLD);
}

static void take_range(
	struct gm_sparse *sparse, const struct gm_sparse_cold *cold, struct gm_sparse_reclaimed *r)
{
	int code = is_ours(sparse, cold) ? gm_discard(sparse->space, cold->gpa, cold->len,
						   cold->mode, 0, NULL, NULL)
					 : -EINVAL;

	if (code) {
		r->refused++;
		r->code = code;
	}
}

static int take_cold(struct gm_sparse *sparse, uint64_t goal, struct gm_sparse_reclaimed *r,
	struct gm_error *err)
{
	struct gm_sparse_cold ranges[RANGES];
	int idle = 0;
	int rc = 0;

	while (!rc && sparse->opts.cold && r->after > goal && idle < IDLE_MAX) {
		uint64_t before = r->after;
		size_t nr = sparse->opts.cold(sparse->opts.ctx, before - goal, ranges, RANGES);

		if (nr == 0 || nr > RANGES)
			break;
		for (size_t i = 0; i < nr; i++)
			take_range(sparse, &ranges[i], r);
		rc = gm_sparse_count(sparse, &r->after, NULL, err);
		if (r->after < before)
			r->cold += before - r->after;
		idle = r->after < before ? 0 : idle + 1;
	}
	return rc;
}

int gm_sparse_reclaim_in(struct gm_sparse *sparse, uint64_t goal, uint32_t flags,
	struct gm_sparse_reclaimed *r, struct gm_error *err)
{
	int rc = gm_sparse_count(sparse, &r->before, NULL, err);

	r->after = r->before;
	if (!rc)
		rc = take_zeros(sparse, goal, flags, r, err);
	if (!rc)
		rc = take_cold(sparse, goal, r, err);
	return rc ? rc : r->after > goal;
}

int gm_sparse_reclaim(struct gm_sparse *sparse, uint64_t goal, uint32_t flags,
	struct gm_sparse_reclaimed *ret, struct gm_error *err)
{
	struct gm_sparse_reclaimed r = {.size = sizeof(r)};
	int rc;

	if ((flags & ~GM_SPARSE_STOPPED) || (ret && ret->size < sizeof(r)))
		return gm_error_set(err, -EINVAL, sparse->opts.gpa, sparse->opts.len,
			"%s: unknown flags, or the result's size is not set", sparse->name);
	rc = gm_sparse_enter(sparse, err);
	if (rc)
		return rc;
	rc = gm_sparse_reclaim_in(sparse, goal, flags, &r, err);
	gm_sparse_leave(sparse);
	if (ret) {
		r.size = ret->size;
		*ret = r;
	}
	return rc;
}
