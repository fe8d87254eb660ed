/* SPDX-License-Identifier: BSD-3-Clause */
/* wset.c - recorded working sets: made, asked, merged. */
#include "services/wset.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "core/range.h"
#include "core/sort.h"
#include "sys/sys.h"

/* ---- life ---- */

struct gm_wset *gm_wset_alloc(size_t nr_stretches, size_t nr_order)
{
	struct gm_wset *set = gm_sys_alloc(sizeof(*set));

	if (!set)
		return NULL;
	set->refs = 1;
	/* One more, as nothing is no allocation. */
	set->stretches = gm_sys_alloc_array(nr_stretches + 1, sizeof(*set->stretches));
	set->order = gm_sys_alloc_array(nr_order + 1, sizeof(*set->order));
	if (set->stretches && set->order)
		return set;
	gm_wset_destroy(set);
	return NULL;
}

void gm_wset_finish(struct gm_wset *set, size_t nr_stretches, size_t nr_order)
{
	const struct gm_wset_stretch *last =
		nr_stretches ? &set->stretches[nr_stretches - 1] : NULL;

	set->body.nr_stretches = nr_stretches;
	set->body.nr_order = nr_order;
	set->body.pages = last ? last->rank + last->nr : 0;
	set->body.stretches = set->stretches;
	set->body.order = set->order;
}

struct gm_wset *gm_wset_get(struct gm_wset *set)
{
	__atomic_fetch_add(&set->refs, 1, __ATOMIC_RELAXED);
	return set;
}

void gm_wset_destroy(struct gm_wset *set)
{
	/* Pairs with those of others: what they read of it has been read. */
	if (!set || __atomic_sub_fetch(&set->refs, 1, __ATOMIC_ACQ_REL))
		return;
	gm_sys_free(set->stretches);
	gm_sys_free(set->order);
	gm_sys_free(set);
}

int gm_wset_create(const struct gm_wset_run *runs, size_t nr, uint64_t len,
	const uint8_t identity[16], struct gm_wset **ret_set, struct gm_error *err)
{
	struct gm_wset_recorder_opts opts = {.size = sizeof(opts), .len = len, .order = UINT32_MAX};
	struct gm_wset_recorder *recorder;
	int rc = gm_wset_recorder_create(&opts, &recorder, err);

	if (rc)
		return rc;
	for (size_t i = 0; i < nr && !rc; i++) {
		struct gm_range range;

		if (!gm_range_make(runs[i].off, runs[i].len, &range) || range.last >= len) {
			rc = gm_error_set(err, -ERANGE, 0, 0,
				"working set: run %zu, 0x%" PRIx64 " bytes at 0x%" PRIx64
				", does not lie in an image of 0x%" PRIx64,
				i, runs[i].len, runs[i].off, len);
			break;
		}
		for (uint64_t page = range.first >> GM_WSET_BITS;
			page <= range.last >> GM_WSET_BITS; page++)
			gm_wset_note(recorder, page << GM_WSET_BITS);
	}
	if (!rc)
		rc = gm_wset_recorder_take(recorder, identity, ret_set, err);
	gm_wset_recorder_destroy(recorder);
	return rc;
}

/* ---- asked ---- */

int gm_wset_info(const struct gm_wset *set, struct gm_wset_info *ret_info)
{
	size_t size = ret_info->size;

	if (size < sizeof(*ret_info))
		return -EINVAL;
	*ret_info = (struct gm_wset_info){
		.size = size,
		.len = set->body.len,
		.pages = set->body.pages,
		.runs = set->body.nr_stretches,
		.ordered = set->body.nr_order,
		.recordings = set->body.recordings,
	};
	memcpy(ret_info->identity, set->body.identity, sizeof(ret_info->identity));
	return 0;
}

int gm_wset_next(const struct gm_wset *set, uint64_t off, struct gm_wset_run *ret_run)
{
	const struct gm_wset_stretch *s;
	uint64_t behind;
	size_t at;

	if (off >= set->body.len)
		return -ENOENT;
	at = gm_wset_find(set->stretches, set->body.nr_stretches, (uint32_t)(off >> GM_WSET_BITS));
	if (at == set->body.nr_stretches)
		return -ENOENT;
	s = &set->stretches[at];
	behind = ((uint64_t)s->first + s->nr) << GM_WSET_BITS;
	if (behind > set->body.len)
		behind = set->body.len;
	if (off < (uint64_t)s->first << GM_WSET_BITS)
		off = (uint64_t)s->first << GM_WSET_BITS;
	*ret_run = (struct gm_wset_run){.off = off, .len = behind - off, .seen = s->seen};
	return 0;
}

int gm_wset_touch(const struct gm_wset *set, uint64_t n, uint64_t *ret_off)
{
	if (n >= set->body.nr_order)
		return -ENOENT;
	*ret_off = (uint64_t)gm_wset_page(set->stretches, set->body.nr_stretches, set->order[n])
		   << GM_WSET_BITS;
	return 0;
}

/* ---- merged ---- */

static int check_merge(struct gm_wset *const *sets, size_t nr,
	const struct gm_wset_merge_opts *opts, struct gm_wset_merge_opts *copy,
	struct gm_error *err)
{
	int rc = 0;

	*copy = (struct gm_wset_merge_opts){.size = sizeof(*copy)};
	if (opts)
		rc = gm_opts_copy(copy, sizeof(*copy), opts, sizeof(*copy));
	if (rc)
		return gm_opts_error(err, rc, "merging working sets");
	if (nr == 0)
		return gm_error_set(err, -EINVAL, 0, 0, "working set: there is none to be merged");
	for (size_t i = 1; i < nr; i++) {
		if (sets[i]->body.len != sets[0]->body.len ||
			memcmp(sets[i]->body.identity, sets[0]->body.identity, 16) != 0)
			return gm_error_set(err, -ESTALE, 0, 0,
				"working set: number %zu is of another image than the first", i);
	}
	return 0;
}

/* All of them on each other, with room for an order; *ret_recordings: how many they are. */
static struct gm_wset *join_all(
	struct gm_wset *const *sets, size_t nr, size_t nr_order, uint32_t *ret_recordings)
{
	struct gm_wset *all = gm_wset_alloc(0, 0);
	uint32_t recordings = 0;

	for (size_t i = 0; i < nr && all; i++) {
		const struct gm_wset_body *next = &sets[i]->body;
		struct gm_wset *both =
			gm_wset_alloc(2 * (all->body.nr_stretches + next->nr_stretches),
				i + 1 == nr ? nr_order : 0);

		if (both)
			gm_wset_finish(both,
				gm_wset_join(all->stretches, all->body.nr_stretches,
					sets[i]->stretches, next->nr_stretches, next->recordings,
					both->stretches),
				0);
		gm_wset_destroy(all);
		all = both;
		recordings += next->recordings;
		if (recordings > GM_WSET_RECORDINGS)
			recordings = GM_WSET_RECORDINGS;
	}
	*ret_recordings = recordings;
	return all;
}

/* The orders of all, the latest set's first, each page once. Returns how many: less than there were in all. */
static size_t join_orders(struct gm_wset *const *sets, size_t nr, const struct gm_wset *all,
	struct gm_sort_pair *pairs, uint32_t *to)
{
	size_t found = 0;
	size_t kept = 0;

	for (size_t i = nr; i-- > 0;) {
		const struct gm_wset_body *body = &sets[i]->body;

		for (size_t k = 0; k < body->nr_order; k++) {
			uint32_t page =
				gm_wset_page(body->stretches, body->nr_stretches, body->order[k]);
			uint32_t rank;

			if (!gm_wset_rank(all->stretches, all->body.nr_stretches, page, &rank))
				continue;
			pairs[found] = (struct gm_sort_pair){rank, found};
			found++;
		}
	}
	gm_sort_pairs(pairs, found);
	/* Of equal ranks the one that was found first. */
	for (size_t i = 0; i < found; i++) {
		if (kept && pairs[kept - 1].value == pairs[i].key) {
			if (pairs[i].value < pairs[kept - 1].key)
				pairs[kept - 1].key = pairs[i].value;
			continue;
		}
		pairs[kept++] = (struct gm_sort_pair){pairs[i].value, pairs[i].key};
	}
	gm_sort_pairs(pairs, kept);
	for (size_t i = 0; i < kept; i++)
		to[i] = (uint32_t)pairs[i].value;
	return kept;
}

int gm_wset_merge(struct gm_wset *const *sets, size_t nr, const struct gm_wset_merge_opts *opts,
	struct gm_wset **ret_set, struct gm_error *err)
{
	struct gm_wset_merge_opts copy;
	struct gm_sort_pair *pairs;
	struct gm_wset *all;
	size_t nr_order = 0;
	size_t stretches;
	uint32_t recordings;
	int rc = check_merge(sets, nr, opts, &copy, err);

	if (rc)
		return rc;
	for (size_t i = 0; i < nr; i++)
		nr_order += sets[i]->body.nr_order;
	all = join_all(sets, nr, nr_order, &recordings);
	pairs = all ? gm_sys_alloc_array(nr_order + 1, sizeof(*pairs)) : NULL;
	if (!pairs) {
		gm_wset_destroy(all);
		return gm_error_set(err, -ENOMEM, 0, 0, "working set: out of memory");
	}
	if (copy.last && copy.last < recordings)
		recordings = copy.last;
	if (copy.least == 0)
		copy.least = 1;
	stretches = gm_wset_keep(all->stretches, all->body.nr_stretches, recordings,
		copy.least == GM_WSET_EVERY ? recordings : copy.least);
	memcpy(all->body.identity, sets[0]->body.identity, sizeof(all->body.identity));
	all->body.len = sets[0]->body.len;
	all->body.recordings = recordings;
	gm_wset_finish(all, stretches, 0);
	gm_wset_finish(all, stretches, join_orders(sets, nr, all, pairs, all->order));
	gm_sys_free(pairs);
	*ret_set = all;
	return 0;
}
