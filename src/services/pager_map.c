/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager_map.c - a raw file mapped in the place of private memory: the kernel pages, from its cache and with its
 * read-ahead, without a userfaultfd. Nobody is told of faults, and a page that is given back is the file's again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

#include "core/error.h"
#include "services/pager.h"
#include "sys/uapi.h"

#define PIECES 256u /* each is a mapping, and there are 65530 of them */

static int refuse(const struct pager_place *place, const char *why, struct gm_error *err)
{
	return gm_error_set(err, -ENOTSUP, 0, place->len,
		"pager: memory at 0x%" PRIx64 " cannot be mapped: %s", place->addr, why);
}

/* Every piece is whole pages of a file, or zeros. Pieces are looked at, and with @map mapped. */
static int go_through(const struct pager_place *place, const struct gm_pager_area_opts *opts,
	bool map, struct gm_error *err)
{
	uint64_t at = 0;

	for (unsigned int piece = 0; at < place->len; piece++) {
		struct gm_source_extent extent;
		uint64_t left = place->len - at;
		int rc = gm_source_extent(opts->source, opts->offset + at, &extent);
		void *got;

		if (rc)
			return gm_error_set(err, rc, 0, 0,
				"pager: what lies at byte 0x%" PRIx64
				" of the source is not known: %s",
				opts->offset + at, gm_error_word(rc));
		if (extent.len < left)
			left = extent.len;
		if (extent.kind > GM_SOURCE_RAW)
			return refuse(place, "the source is no raw file", err);
		if ((left & (place->page - 1)) ||
			(extent.kind == GM_SOURCE_RAW && (extent.fd_off & (place->page - 1))))
			return refuse(
				place, "its bytes do not lie at whole pages of the file", err);
		if (piece == PIECES)
			return refuse(place, "the file has too many holes", err);
		if (map && extent.kind == GM_SOURCE_RAW) {
			rc = gm_sys_mmap((void *)(uintptr_t)(place->addr + at), left,
				PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
				extent.fd, extent.fd_off, &got);
			if (rc)
				return gm_error_set(err, rc, 0, left,
					"pager: the file cannot be mapped: %s", gm_error_word(rc));
		}
		at += left;
	}
	return 0;
}

int gm_pager_map(struct gm_pager *pager, const struct pager_place *place,
	const struct gm_pager_area_opts *opts, uint64_t *ret_area, struct gm_error *err)
{
	struct pager_area *area;
	int rc;

	if (!opts->source || place->huge || place->shared ||
		((opts->offset | place->addr | place->len) & (place->page - 1)))
		return refuse(place, "that needs private memory of base pages and a source", err);
	if (opts->offset > gm_source_len(opts->source) ||
		place->len > gm_source_len(opts->source) - opts->offset)
		return gm_error_set(err, -ERANGE, 0, place->len, "pager: the source is shorter");
	if (gm_source_fd(opts->source) >= 0)
		return refuse(place, "the source has to be waited for", err);
	rc = go_through(place, opts, false, err);
	if (rc)
		return rc;
	area = gm_sys_alloc(sizeof(*area));
	if (!area)
		return gm_error_set(err, -ENOMEM, 0, 0, "pager: out of memory");
	rc = go_through(place, opts, true, err);
	if (rc) {
		gm_sys_free(area);
		return rc;
	}
	area->pager = pager;
	area->fd = -1;
	area->offset = opts->offset;
	area->addr = place->addr;
	area->page = place->page;
	area->nr = place->len / place->page;
	area->way = GM_PAGER_MAP;
	snprintf(area->why, sizeof(area->why), "%s: the kernel pages from the file",
		opts->way == GM_PAGER_MAP ? "asked for" : "it may be mapped");
	gm_pager_area_publish(pager, area);
	if (ret_area)
		*ret_area = area->id;
	return 0;
}

int gm_pager_map_block(struct gm_pager *pager, const struct pager_place *place, uint32_t asked,
	uint64_t *ret_area, struct gm_error *err)
{
	struct pager_area *area = gm_sys_alloc(sizeof(*area));

	if (!area)
		return gm_error_set(err, -ENOMEM, place->gpa, place->len, "pager: out of memory");
	area->pager = pager;
	area->fd = -1;
	area->offset = place->fd_off;
	area->addr = place->addr;
	area->gpa = place->gpa;
	area->page = place->page;
	area->nr = place->len / place->page;
	area->space = place->space;
	area->way = GM_PAGER_MAP;
	snprintf(area->why, sizeof(area->why),
		"%sits block is a private mapping of its file: the kernel pages",
		asked == GM_PAGER_MAP ? "asked for: " : "");
	gm_pager_area_publish(pager, area);
	*ret_area = area->id;
	return 0;
}

int gm_pager_map_advise(const struct pager_area *area, uint64_t off, uint64_t len, int advice)
{
	uint64_t first = off & ~(area->page - 1);
	uint64_t last = (off + (len - 1)) | (area->page - 1);
	void *at = (void *)(uintptr_t)(area->addr + first);
	int rc = 0;

	pthread_mutex_lock(&area->pager->mapping);
	if (!area->gone)
		rc = gm_sys_madvise(at, last - first + 1, advice);
	pthread_mutex_unlock(&area->pager->mapping);
	return rc;
}
