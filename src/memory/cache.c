/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cache.c - ranges that are translated once, and again when the map has changed.
 *
 * A cache's host address is used with a view of the same generation only. What is kept when nothing
 * can be is the generation, so that the search is not made at each use; then read_len and write_len
 * are 0, and the ordinary access decides.
 */
#include <guestmem/cache.h>

#include <errno.h>

#include "core/table.h"
#include "memory/access.h"
#include "memory/annotate.h"

/* Spans whose bytes are not, or not always, at their host address. */
#define NOT_PLAIN                                                                                  \
	(GM_SPAN_HOLE | GM_SPAN_DEVICE | GM_SPAN_ROMD | GM_SPAN_IOMMU | GM_SPAN_FAR |              \
		GM_SPAN_PRIVATE | GM_SPAN_DEVMEM)

/* Memory that lies outside of the window, in one span. One inside that inline code may not use by
 * itself is one of which every access is to be seen. */
static void *find_unplaced(const struct gm_cache *cache, const struct gm_view *view)
{
	const struct gm_span *span = gm_table_find(view, cache->gpa);

	if (!span || span->delta == view->window_base || (span->perms & NOT_PLAIN) ||
		(cache->perms & ~span->perms) || cache->len - 1 > span->last - cache->gpa)
		return NULL;
	return gm_access_hva(span, cache->gpa);
}

static void translate(struct gm_cache *cache, const struct gm_view *view)
{
	void *hva = NULL;
	bool placed = gm_view_find(view, cache->gpa, cache->len, cache->perms, &hva);

	if (!placed)
		hva = find_unplaced(cache, view);
	cache->hva = (uintptr_t)hva;
	cache->generation = view->generation;
	cache->read_len = hva && (cache->perms & GM_PERM_R) ? cache->len : 0;
	/* The filter of the logs, at which inline code looks, ends with the window. */
	cache->write_len =
		hva && (cache->perms & GM_PERM_W) && (placed || !view->filter) ? cache->len : 0;
}

int gm_cache_init(struct gm_cache *cache, const struct gm_view *view, uint64_t gpa, uint64_t len,
	uint32_t perms)
{
	int rc;

	if (len == 0 || !perms || (perms & ~GM_PERM_RW))
		return -EINVAL;
	rc = gm_view_check(view, gpa, len, perms);
	if (rc)
		return rc;
	*cache = (struct gm_cache){.gpa = gpa, .len = len, .perms = perms};
	translate(cache, view);
	return 0;
}

/* May @len bytes at @off be used so? Then the cache is one of this view. */
static int enter(struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint64_t len,
	uint32_t perm)
{
	if (cache->len == 0 || len > cache->len || off > cache->len - len)
		return -ERANGE;
	if (!(cache->perms & perm))
		return -EACCES;
	if (cache->generation != view->generation)
		translate(cache, view);
	return 0;
}

int gm_cache_load_slow(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint32_t how, void *ret)
{
	int rc = enter(cache, view, off, GM_HOW_SIZE(how), GM_PERM_R);

	return rc ? rc : gm_load_slow(view, cache->gpa + off, how, ret);
}

int gm_cache_store_slow(struct gm_cache *cache, const struct gm_view *view, uint64_t off,
	uint32_t how, uint64_t value)
{
	int rc = enter(cache, view, off, GM_HOW_SIZE(how), GM_PERM_W);

	return rc ? rc : gm_store_slow(view, cache->gpa + off, how, value);
}

int gm_cache_read_slow(struct gm_cache *cache, const struct gm_view *view, uint64_t off, void *buf,
	size_t len, size_t *done)
{
	int rc = enter(cache, view, off, len, GM_PERM_R);

	if (rc || len == 0)
		return gm_access_end(done, 0, rc);
	if (cache->read_len) {
		gm_annotate_write(buf, len);
		if (!gm_guard_copy_from(buf, (void *)(uintptr_t)(cache->hva + off), len, NULL))
			return gm_access_end(done, len, 0);
	}
	return gm_read_slow(view, cache->gpa + off, buf, len, done);
}

int gm_cache_write_slow(struct gm_cache *cache, const struct gm_view *view, uint64_t off,
	const void *buf, size_t len, size_t *done)
{
	int rc = enter(cache, view, off, len, GM_PERM_W);

	if (rc || len == 0)
		return gm_access_end(done, 0, rc);
	if (cache->write_len) {
		gm_annotate_read(buf, len);
		if (!gm_guard_copy_to((void *)(uintptr_t)(cache->hva + off), buf, len, NULL)) {
			gm_view_mark(view, cache->gpa + off, len);
			return gm_access_end(done, len, 0);
		}
	}
	return gm_write_slow(view, cache->gpa + off, buf, len, done);
}
