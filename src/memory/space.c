/* SPDX-License-Identifier: BSD-3-Clause */
/* space.c - life of a space, publication of views, readers, and questions to the published map. */
#include "memory/space.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "sys/guard.h"
#include "sys/sys.h"

#define NAME_DEFAULT "guest"
#define LIMIT_DEFAULT (UINT64_C(1) << 40)

static int make_window(struct gm_space *space, uint64_t limit, struct gm_error *err)
{
	if (limit == GM_SPACE_NO_WINDOW)
		return 0;
	if (limit == 0)
		limit = LIMIT_DEFAULT;
	limit = gm_align_down(limit + (GM_WINDOW_ALIGN - 1), GM_WINDOW_ALIGN);
	return gm_window_create(limit, &space->window, err);
}

int gm_space_opts_copy(
	struct gm_space_opts *ret, const struct gm_space_opts *user, struct gm_error *err)
{
	int rc;

	*ret = (struct gm_space_opts){.size = sizeof(*ret)};
	rc = user ? gm_opts_copy(ret, sizeof(*ret), user, sizeof(*ret)) : 0;
	if (rc)
		return gm_opts_error(err, rc, "space");
	if (ret->sections &&
		(!ret->sections->enter || !ret->sections->leave || !ret->sections->wait))
		return gm_error_set(
			err, -EINVAL, 0, 0, "space: sections needs all three functions");
	if (ret->gpa_limit > GM_WINDOW_LIMIT_MAX && ret->gpa_limit != GM_SPACE_NO_WINDOW)
		return gm_error_set(err, -EINVAL, ret->gpa_limit, 0,
			"%s: gpa_limit 0x%" PRIx64 " is above 2^46",
			ret->name ? ret->name : NAME_DEFAULT, ret->gpa_limit);
	return 0;
}

int gm_space_create(
	const struct gm_space_opts *user, struct gm_space **ret_space, struct gm_error *err)
{
	struct gm_space_opts opts;
	struct gm_view_full *view;
	struct gm_space *space;
	int rc = gm_space_opts_copy(&opts, user, err);

	if (rc)
		return rc;
	space = gm_sys_alloc(sizeof(*space));
	view = gm_view_alloc(0);
	if (!space || !view) {
		rc = gm_error_set(err, -ENOMEM, 0, 0, "space: out of memory");
		goto fail;
	}
	gm_copy_name(space->name, sizeof(space->name), opts.name ? opts.name : NAME_DEFAULT);
	rc = make_window(space, opts.gpa_limit, err);
	if (rc)
		goto fail;
	rc = gm_reclaim_init(&space->reclaim, opts.sections);
	if (rc) {
		if (space->window)
			gm_window_put(space->window);
		gm_error_set(err, rc, 0, 0, "%s: out of memory", space->name);
		goto fail;
	}
	pthread_mutex_init(&space->lock, NULL);
	space->timeout_ns = opts.timeout_ns ? opts.timeout_ns : GM_TIMEOUT_DEFAULT_NS;
	space->next_id = 1;
	space->generation = 1;
	gm_view_fill(view, space->window, NULL, 0, space->generation);
	space->view = &view->pub;
	*ret_space = space;
	return 0;
fail:
	gm_view_free(view);
	gm_sys_free(space);
	return rc;
}

void gm_space_destroy(struct gm_space *space)
{
	if (!space)
		return;
	gm_reclaim_fini(&space->reclaim);
	gm_view_free((struct gm_view_full *)(uintptr_t)space->view);
	for (size_t i = 0; i < space->regions.nr; i++)
		gm_region_free(space->regions.items[i]);
	gm_sys_free(space->regions.items);
	if (space->window)
		gm_window_put(space->window);
	pthread_mutex_destroy(&space->lock);
	gm_sys_free(space);
}

int gm_space_hold(struct gm_space *space, struct gm_error *err)
{
	bool busy;

	pthread_mutex_lock(&space->lock);
	busy = space->busy;
	space->busy = true;
	pthread_mutex_unlock(&space->lock);
	if (busy)
		return gm_error_set(
			err, -EBUSY, 0, 0, "%s: another change is under way", space->name);
	return 0;
}

void gm_space_release(struct gm_space *space)
{
	pthread_mutex_lock(&space->lock);
	space->busy = false;
	pthread_mutex_unlock(&space->lock);
}

static void free_retired(struct gm_deferred *deferred)
{
	gm_view_free((struct gm_view_full *)(void *)((char *)deferred -
						     offsetof(struct gm_view_full, deferred)));
}

void gm_space_publish(struct gm_space *space, struct gm_view_full *view, struct gm_regions regions,
	struct gm_regions dropped)
{
	struct gm_view_full *old = (struct gm_view_full *)(uintptr_t)space->view;
	struct gm_region **old_items;

	pthread_mutex_lock(&space->lock);
	old_items = space->regions.items;
	space->regions = regions;
	/* Pairs with the acquire in gm_reader_enter(): whoever sees the view sees what it holds. */
	__atomic_store_n(&space->view, &view->pub, __ATOMIC_RELEASE);
	space->generation = view->pub.generation;
	pthread_mutex_unlock(&space->lock);
	if (old_items != regions.items)
		gm_sys_free(old_items);
	old->dropped = dropped;
	old->deferred.run = free_retired;
	gm_reclaim_defer(&space->reclaim, &old->deferred);
}

int gm_space_reclaim(struct gm_space *space)
{
	uint32_t left;
	int rc = gm_space_hold(space, NULL);

	if (rc)
		return rc;
	/* An epoch scheme may need a few rounds although nobody is in a section. */
	for (int round = 0; round < 4; round++) {
		left = gm_reclaim_poll(&space->reclaim);
		if (left == 0)
			break;
	}
	gm_space_release(space);
	return left > INT32_MAX ? INT32_MAX : (int)left;
}

int gm_space_wait(struct gm_space *space, uint64_t timeout_ns, struct gm_error *err)
{
	int rc = gm_space_hold(space, err);

	if (rc)
		return rc;
	rc = gm_reclaim_wait(&space->reclaim, timeout_ns ? timeout_ns : space->timeout_ns, err);
	gm_space_release(space);
	return rc;
}

/* ---- readers ---- */

int gm_reader_create_checked(struct gm_space *space, const char *name, size_t view_size,
	uint32_t version, const void *table, const void *table_end, struct gm_reader **ret_reader,
	struct gm_error *err)
{
	struct gm_reader *reader;
	int rc;

	if (view_size != sizeof(struct gm_view) || version != GM_VIEW_VERSION)
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"reader: compiled for view version %u of %zu bytes, the library has %u of "
			"%zu",
			version, view_size, GM_VIEW_VERSION, sizeof(struct gm_view));
	rc = gm_guard_add_table(table, table_end);
	if (rc)
		return gm_error_set(err, rc, 0, 0,
			"reader: the caller's inline accesses cannot be guarded: %s",
			rc == -ENOTSUP ? "this library wants callers compiled with GM_NO_INLINE"
				       : "its exception table was refused");
	rc = gm_reclaim_add_reader(&space->reclaim, name, &reader);
	if (rc) {
		gm_guard_drop_table(table, table_end);
		return gm_error_set(err, rc, 0, 0, "%s: out of memory", space->name);
	}
	reader->table_start = table;
	reader->table_end = table_end;
	reader->view = &space->view;
	*ret_reader = reader;
	return 0;
}

void gm_reader_destroy(struct gm_reader *reader)
{
	if (!reader)
		return;
	gm_guard_drop_table(reader->table_start, reader->table_end);
	gm_reclaim_drop_reader(reader);
}

/* ---- questions ---- */

static int describe(const struct gm_space *space, const struct gm_region *region,
	struct gm_region_info *ret_info)
{
	struct gm_region_info info = {
		.size = ret_info->size,
		.id = region->id,
		.gpa = region->range.first,
		.len = gm_range_len(&region->range),
		.kind = region->kind,
		.perms = region->perms,
		.placed = gm_region_is_placed(region, space->window),
		.block = region->block,
		.block_off = region->block_off,
		.hva = region->map ? (void *)(uintptr_t)gm_region_hva(region) : NULL,
	};

	memcpy(info.name, region->name, sizeof(info.name));
	memcpy(ret_info, &info, sizeof(info));
	return 0;
}

int gm_space_region(struct gm_space *space, uint64_t id, struct gm_region_info *ret_info)
{
	int rc = -ENOENT;

	if (ret_info->size < sizeof(*ret_info))
		return -EINVAL;
	pthread_mutex_lock(&space->lock);
	for (size_t i = 0; i < space->regions.nr && rc; i++) {
		if (space->regions.items[i]->id == id)
			rc = describe(space, space->regions.items[i], ret_info);
	}
	pthread_mutex_unlock(&space->lock);
	return rc;
}

int gm_space_next(struct gm_space *space, uint64_t gpa, struct gm_region_info *ret_info)
{
	int rc = -ENOENT;
	size_t i;

	if (ret_info->size < sizeof(*ret_info))
		return -EINVAL;
	pthread_mutex_lock(&space->lock);
	i = gm_regions_find(space->regions.items, space->regions.nr, gpa);
	if (i < space->regions.nr)
		rc = describe(space, space->regions.items[i], ret_info);
	pthread_mutex_unlock(&space->lock);
	return rc;
}
