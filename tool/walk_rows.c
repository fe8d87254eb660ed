/* SPDX-License-Identifier: BSD-3-Clause */
/* walk_rows.c - what the library computes for each pair of a guest's and a host's pages. */
#include "walk.h"

const char *const walk_paging_names[WALK_PAGINGS] = {
	[GM_WALK_NESTED] = "nested",
	[GM_WALK_SHADOW] = "shadow",
	[GM_WALK_NATIVE] = "native",
};

static uint32_t flags_of(const struct walk *w, const struct walk_side *host)
{
	if (host->seen)
		return w->live.flags;
	for (size_t i = 0; i < host->nr; i++) {
		if (host->parts[i].transparent)
			return GM_WALK_TRANSPARENT;
	}
	return w->opts.flags;
}

/* What a paging costs at least does not depend on sizes. */
static uint32_t least_of(const struct gm_walk_opts *opts)
{
	struct gm_walk_cost cost = {.size = sizeof(cost)};

	gm_walk_cost(opts, 12, 12, 0, &cost, NULL);
	return cost.least;
}

/* Loads are those of the proportions, also where the memory is too small for a page. */
static int compute_loads(const struct walk *w, const struct gm_walk_opts *opts,
	const struct walk_row *row, struct gm_walk_mean *ret, struct gm_error *err)
{
	struct gm_walk_mix guest = walk_mix(&w->guests[row->guest], 0);
	struct gm_walk_mix host = walk_mix(&w->hosts[row->host], 0);
	struct gm_walk_mix tables = w->tables.nr ? walk_mix(&w->tables, 0) : host;

	ret->size = sizeof(*ret);
	return gm_walk_mean(opts, &guest, &host, &tables, ret, err);
}

static int compute_memory(const struct walk *w, const struct gm_walk_opts *opts,
	struct walk_row *row, struct gm_error *err)
{
	struct gm_walk_mix guest = walk_mix(&w->guests[row->guest], w->size);
	struct gm_walk_mix host = walk_mix(&w->hosts[row->host], w->size);
	struct gm_walk_footprint *f = &row->footprint[opts->paging];
	struct gm_walk_mean mean = {.size = sizeof(mean)};
	int rc = gm_walk_mean(opts, &guest, &host, NULL, &mean, err);

	if (rc)
		return rc;
	row->mean[opts->paging].entries = mean.entries;
	row->reach[opts->paging] = gm_walk_reach(&mean.entries, w->tlb.entries);
	f->size = sizeof(*f);
	return gm_walk_footprint(opts, &guest, &host, f, err);
}

static int compute(
	const struct walk *w, struct walk_row *row, uint32_t paging, struct gm_error *err)
{
	struct gm_walk_opts opts = w->opts;
	int rc;

	opts.paging = paging;
	opts.flags = flags_of(w, &w->hosts[row->host]);
	row->least[paging] = least_of(&opts);
	rc = compute_loads(w, &opts, row, &row->mean[paging], err);
	if (!rc && w->size)
		rc = compute_memory(w, &opts, row, err);
	return rc;
}

bool walk_compute(struct walk *w)
{
	struct gm_error err;

	w->nr_rows = 0;
	for (uint32_t i = 0; i < w->nr_guests * w->nr_hosts; i++) {
		struct walk_row *row = &w->rows[w->nr_rows++];

		*row = (struct walk_row){
			.guest = i / (uint32_t)w->nr_hosts, .host = i % (uint32_t)w->nr_hosts};
		for (uint32_t paging = 0; paging < WALK_PAGINGS; paging++) {
			if (compute(w, row, paging, &err)) {
				tool_error("%s", err.text);
				return false;
			}
		}
	}
	return true;
}
