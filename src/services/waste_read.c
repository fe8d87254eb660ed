/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * waste_read.c - contents of pages: zeros, and what is there twice.
 *
 * A content is followed if its sum is one of every so many: so all copies of it are, and their number times
 * that is the estimate. Pages taken at random would miss most copies. What has the same sum is read once more
 * and compared.
 */
#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "core/root.h"
#include "services/checksum.h"
#include "services/waste.h"
#include "sys/sys.h"

static int follow(struct gm_wasting *w, uint64_t at, const uint8_t *bytes)
{
	struct gm_contents *c = &w->contents;
	uint64_t parts = w->opts.parts ? w->opts.parts : 1;
	uint64_t sum;

	if (!gm_checksum_bytes(bytes, w->page, &sum))
		return -ENOTSUP;
	if (sum % parts)
		return 0;
	if (c->nr == c->cap) {
		size_t cap = c->cap ? 2 * c->cap : 1024;
		struct gm_sort_pair *list = gm_sys_realloc(c->list, cap, sizeof(*list));

		if (!list)
			return -ENOMEM;
		c->list = list;
		c->cap = cap;
	}
	c->list[c->nr++] = (struct gm_sort_pair){sum, at};
	return 0;
}

/* Bytes from there, or an error: 0 where the page has gone. */
static ssize_t fetch(const struct gm_wasting *w, uint64_t at, void *to, size_t len)
{
	ssize_t nr;

	do {
		nr = gm_sys_process_read(w->pid, at, to, len);
	} while (nr == -EINTR);
	return nr == -EFAULT ? 0 : nr;
}

static int look_at(struct gm_wasting *w, uint64_t at, uint64_t len)
{
	int rc = 0;

	for (uint64_t off = 0; off < len && !rc; off += w->page) {
		if (gm_bytes_are_zero(w->bytes + off, w->page))
			w->unit.zero += w->page;
		else if (w->opts.flags & GM_WASTE_DUPLICATES)
			rc = follow(w, at + off, w->bytes + off);
	}
	w->sum.read += len;
	return rc;
}

int gm_waste_read(struct gm_wasting *w)
{
	int rc = 0;

	for (size_t i = 0; i < w->nr && !rc; i++) {
		uint64_t at = w->present[i].first;
		uint64_t end = w->present[i].last + 1;

		while (at < end && !rc) {
			uint64_t want = end - at < GM_WASTE_CHUNK ? end - at : GM_WASTE_CHUNK;
			uint64_t left = w->opts.budget ? w->opts.budget - w->sum.read : want;
			ssize_t nr;

			want = gm_align_down(left < want ? left : want, w->page);
			nr = want ? fetch(w, at, w->bytes, want) : 0;
			if (nr < 0)
				return (int)nr;
			nr -= nr % (ssize_t)w->page;
			rc = look_at(w, at, (uint64_t)nr);
			at += (uint64_t)nr;
			if ((uint64_t)nr == want && want)
				continue;
			/* A page that has gone, or the end of the budget. */
			w->sum.unread += want ? w->page : end - at;
			at = want ? at + w->page : end;
		}
	}
	return rc;
}

/* ---- duplicates ---- */

/* How many of those with one sum really hold what the first of them holds. */
static int count_same(struct gm_wasting *w, size_t from, size_t to, uint64_t *ret)
{
	uint8_t *first = w->bytes;
	uint8_t *other = w->bytes + GM_WASTE_CHUNK / 2;
	ssize_t nr = fetch(w, w->contents.list[from].value, first, w->page);

	*ret = 0;
	for (size_t i = from + 1; i < to && nr == (ssize_t)w->page; i++) {
		ssize_t got = fetch(w, w->contents.list[i].value, other, w->page);

		if (got < 0)
			return (int)got;
		*ret += got == (ssize_t)w->page && memcmp(first, other, w->page) == 0;
	}
	return nr < 0 ? (int)nr : 0;
}

int gm_waste_compare(struct gm_wasting *w)
{
	struct gm_contents *c = &w->contents;
	double parts = w->opts.parts ? w->opts.parts : 1;
	double variance = 0;
	uint64_t found = 0;
	uint64_t most;
	double half;
	double low;

	gm_sort_pairs(c->list, c->nr);
	for (size_t i = 0, to; i < c->nr; i = to) {
		uint64_t same = 0;
		int rc;

		for (to = i + 1; to < c->nr && c->list[to].key == c->list[i].key; to++)
			;
		rc = to > i + 1 ? count_same(w, i, to, &same) : 0;
		if (rc)
			return rc;
		if (to == i + 1)
			continue;
		found += same;
		variance += (double)same * (double)same;
	}
	w->sum.followed = c->nr;
	w->sum.duplicates = (uint64_t)((double)found * parts) * w->page;
	w->sum.low = w->sum.high = w->sum.duplicates;
	if (parts <= 1)
		return 0;
	/* Each content is followed or not, by chance; if none was, three in as many could have been missed. */
	half = GM_Z95 * parts * gm_root((1 - 1 / parts) * variance);
	low = (double)found * parts - half;
	w->sum.low = (low > (double)found ? (uint64_t)low : found) * w->page;
	w->sum.high = (uint64_t)((double)found * parts + half + (found ? 0 : 3 * parts)) * w->page;
	/* What is known, and all that was read and not followed. */
	most = w->sum.read - (c->nr - found) * w->page;
	w->sum.duplicates = w->sum.duplicates < most ? w->sum.duplicates : most;
	w->sum.high = w->sum.high < most ? w->sum.high : most;
	return 0;
}
