/* SPDX-License-Identifier: BSD-3-Clause */
/* space.c - life of a space, publication of views, readers, and questions to the published map. */
#include "memory/space.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "memory/dirty.h"
#include "memory/listener.h"
#include "memory/txn.h"
#include "sys/guard.h"
#include "sys/probe.h"
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
	if (ret->sections && ret->over)
		return gm_error_set(
			err, -EINVAL, 0, 0, "space: one over another has the sections of that one");
	if (ret->gpa_limit > GM_WINDOW_LIMIT_MAX && ret->gpa_limit != GM_SPACE_NO_WINDOW)
		return gm_error_set(err, -EINVAL, ret->gpa_limit, 0,
			"%s: gpa_limit 0x%" PRIx64 " is above 2^46",
			ret->name ? ret->name : NAME_DEFAULT, ret->gpa_limit);
	return 0;
}

/* The space itself, in which all regions lie. */
static bool make_root(struct gm_space *space)
{
	struct gm_node *root = gm_node_alloc(&space->nodes);

	if (!root)
		return false;
	root->kind = GM_REGION_CONTAINER;
	root->s.range.last = UINT64_MAX;
	root->s.perms = GM_PERM_RWX;
	root->s.enabled = true;
	space->root = root;
	return true;
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
	if (opts.over && !gm_space_count(opts.over, &opts.over->nr_above))
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"space: \"%s\" has an IOMMU and logs, in which what is written through a "
			"space over it would not be",
			opts.over->name);
	space = gm_sys_alloc(sizeof(*space));
	view = gm_view_empty();
	if (space)
		space->dirty = gm_dirty_create(space);
	if (!space || !view || !space->dirty || !make_root(space)) {
		rc = gm_error_set(err, -ENOMEM, 0, 0, "space: out of memory");
		goto fail;
	}
	gm_copy_name(space->name, sizeof(space->name), opts.name ? opts.name : NAME_DEFAULT);
	rc = make_window(space, opts.gpa_limit, err);
	if (rc)
		goto fail;
	rc = gm_reclaim_init(
		&space->reclaim, opts.sections, opts.over ? &opts.over->reclaim : NULL);
	if (rc) {
		if (space->window)
			gm_window_put(space->window);
		gm_error_set(err, rc, 0, 0, "%s: out of memory", space->name);
		goto fail;
	}
	pthread_mutex_init(&space->lock, NULL);
	gm_gate_init(&space->gate);
	gm_dirty_set_barrier(space->dirty, space->reclaim.domain->moved_fence);
	space->over = opts.over;
	space->depth = opts.over ? opts.over->depth + 1 : 0;
	space->timeout_ns = opts.timeout_ns ? opts.timeout_ns : GM_TIMEOUT_DEFAULT_NS;
	space->generation = 1;
	view->dirty = space->dirty;
	if (space->window) {
		gm_dirty_get(space->dirty);
		space->window->dirty = space->dirty;
	}
	gm_view_finish(view, view, space->window, NULL, 0, space->generation);
	space->view = &view->pub;
	*ret_space = space;
	return 0;
fail:
	gm_view_discard(view);
	if (space)
		gm_nodes_fini(&space->nodes);
	if (space && space->dirty)
		gm_dirty_put(space->dirty);
	gm_sys_free(space);
	if (opts.over)
		gm_space_uncount(opts.over, &opts.over->nr_above);
	return rc;
}

void gm_space_destroy(struct gm_space *space)
{
	if (!space)
		return;
	gm_listeners_free(space);
	gm_dirty_close(space->dirty);
	gm_reclaim_fini(&space->reclaim);
	gm_view_free_all((struct gm_view_full *)(uintptr_t)space->view);
	gm_nodes_fini(&space->nodes);
	if (space->window)
		gm_window_put(space->window);
	if (space->over)
		gm_space_uncount(space->over, &space->over->nr_above);
	gm_dirty_put(space->dirty);
	gm_gate_fini(&space->gate);
	pthread_mutex_destroy(&space->lock);
	gm_sys_free(space);
}

bool gm_space_count(struct gm_space *space, uint64_t *counter)
{
	bool good;

	pthread_mutex_lock(&space->lock);
	++*counter;
	good = !space->nr_above || !space->nr_logs || !space->nr_iommus;
	if (!good)
		--*counter;
	pthread_mutex_unlock(&space->lock);
	return good;
}

void gm_space_uncount(struct gm_space *space, uint64_t *counter)
{
	pthread_mutex_lock(&space->lock);
	--*counter;
	pthread_mutex_unlock(&space->lock);
}

int gm_space_hold(struct gm_space *space, struct gm_error *err)
{
	bool busy;

	pthread_mutex_lock(&space->lock);
	busy = space->busy;
	space->busy = true;
	pthread_mutex_unlock(&space->lock);
	if (busy)
		return gm_error_set(err, -EBUSY, 0, 0,
			"%s: another change is under way, or a thread waits for readers",
			space->name);
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
	struct gm_view_full *view =
		(struct gm_view_full *)(void *)((char *)deferred -
						offsetof(struct gm_view_full, deferred));

	/* Its readers may have written to what was under other names by then. */
	if (view->changed.nr || view->all_changed)
		gm_dirty_settle(view->dirty, &view->changed, view->all_changed, true);
	gm_view_free(view);
}

struct gm_view_full *gm_space_publish(
	struct gm_space *space, struct gm_view_full *view, struct gm_txn *txn)
{
	struct gm_view_full *old = (struct gm_view_full *)(uintptr_t)space->view;

	pthread_mutex_lock(&space->lock);
	/* Pairs with the acquire in gm_reader_enter(): whoever sees the view sees what it holds. */
	__atomic_store_n(&space->view, &view->pub, __ATOMIC_RELEASE);
	space->generation = view->pub.generation;
	if (txn)
		gm_txn_shown(txn);
	pthread_mutex_unlock(&space->lock);
	GM_PROBE2(publish, space->name, view->pub.generation);
	return old;
}

void gm_space_republish(struct gm_space *space, struct gm_view_full *copy)
{
	gm_view_finish(copy, (const struct gm_view_full *)(const void *)space->view, space->window,
		NULL, 0, space->generation + 1);
	gm_space_retire(space, gm_space_publish(space, copy, NULL), &copy->garbage);
	gm_view_trim(copy);
}

void gm_space_retire(struct gm_space *space, struct gm_view_full *view, struct gm_parts *parts)
{
	view->dropped = *parts;
	*parts = (struct gm_parts){0};
	view->deferred.run = free_retired;
	gm_reclaim_defer(&space->reclaim, &view->deferred);
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

/* What the caller wants to be done when the readers have left. */
struct errand {
	struct gm_deferred deferred;
	void (*fn)(void *ctx);
	void *ctx;
};

static void run_errand(struct gm_deferred *deferred)
{
	struct errand *errand =
		(struct errand *)(void *)((char *)deferred - offsetof(struct errand, deferred));

	if (errand->fn)
		errand->fn(errand->ctx);
	gm_sys_free(errand);
}

/* With the space held. */
static int defer(struct gm_space *space, void (*fn)(void *ctx), void *ctx, struct gm_error *err)
{
	struct errand *errand = gm_sys_alloc(sizeof(*errand));

	if (!errand)
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", space->name);
	*errand = (struct errand){.deferred = {.run = run_errand}, .fn = fn, .ctx = ctx};
	gm_reclaim_defer(&space->reclaim, &errand->deferred);
	return 0;
}

int gm_space_defer(struct gm_space *space, void (*fn)(void *ctx), void *ctx, struct gm_error *err)
{
	int rc = gm_space_hold(space, err);

	if (rc)
		return rc;
	rc = defer(space, fn, ctx, err);
	gm_space_release(space);
	return rc;
}

int gm_space_synchronize(struct gm_space *space, uint64_t timeout_ns, struct gm_error *err)
{
	int rc = gm_space_hold(space, err);

	if (rc)
		return rc;
	rc = defer(space, NULL, NULL, err);
	if (!rc)
		rc = gm_reclaim_wait(
			&space->reclaim, timeout_ns ? timeout_ns : space->timeout_ns, err);
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

const struct gm_node_state *gm_space_state(const struct gm_node *node)
{
	const struct gm_touch *touch = node->touch;

	if (!gm_node_is_used(node))
		return NULL;
	if (!touch)
		return &node->s;
	return touch->fresh ? NULL : &touch->old;
}

const char *gm_space_node_name(const struct gm_node *node)
{
	const struct gm_node_state *s = gm_space_state(node);

	while (node->kind == GM_REGION_ALIAS && !s->name) {
		node = s->target;
		s = gm_space_state(node);
	}
	return gm_node_name(node, s);
}

static void describe_parts(const struct gm_partset *parts, struct gm_region_info *info)
{
	if (!parts)
		return;
	info->part = parts->initial;
	info->granule = gm_partset_granule(parts);
	info->private_block = parts->private_block;
	info->private_off = parts->private_off;
	info->unplugged = gm_partset_bytes(parts, GM_PART_UNPLUGGED);
	info->private_len = gm_partset_bytes(parts, GM_PART_PRIVATE);
}

/* What readers do not reach may be placed all the same. */
static bool is_placed(const struct gm_space *space, const struct gm_span *span)
{
	if (gm_part_of(span->perms) == GM_PART_SHARED)
		return span->direct != 0;
	return space->window && span->delta == (uintptr_t)space->window->base;
}

void gm_space_describe(const struct gm_space *space, const struct gm_node *node,
	const struct gm_span *span, uint64_t off, struct gm_region_info *ret_info)
{
	const struct gm_node_state *s = gm_space_state(node);
	bool memory = gm_node_is_memory(node);
	struct gm_region_info info = {
		.size = ret_info->size,
		.id = node->id,
		.gpa = s->range.first,
		.len = gm_range_len(&s->range),
		.kind = node->kind,
		.perms = s->perms,
		.flags = (s->enabled ? 0 : GM_REGION_DISABLED) |
			 (node->hotpluggable ? GM_REGION_HOTPLUGGABLE : 0),
		.block = memory ? s->block : NULL,
		.block_off = s->block_off,
		.parent = GM_REGION_DETACHED,
		.target = node->kind == GM_REGION_ALIAS ? s->target->id : 0,
		.priority = s->priority,
		.label = node->label,
		.numa_plus = node->numa_plus,
	};

	describe_parts(gm_node_parts(node, s), &info);
	if (s->parent)
		info.parent = s->parent == space->root ? 0 : s->parent->id;
	if (memory && span && !(span->perms & GM_SPAN_FAR)) {
		info.hva = (void *)(uintptr_t)(span->delta + span->first);
		info.placed = is_placed(space, span);
	}
	gm_copy_name(info.name, sizeof(info.name), gm_space_node_name(node));
	if (span) {
		info.off = off;
		info.block_off += off;
		info.private_off += info.private_block ? off : 0;
		info.part = memory ? gm_part_of(span->perms) : GM_PART_SHARED;
		info.perms = span->perms & GM_PERM_RWX;
	}
	memcpy(ret_info, &info, sizeof(info));
}

/* The absolute address of a published node. */
static bool published_address(
	const struct gm_space *space, const struct gm_node *node, uint64_t *ret_addr)
{
	uint64_t addr = 0;

	while (node != space->root) {
		const struct gm_node_state *s = gm_space_state(node);

		if (!s->parent || __builtin_add_overflow(addr, s->range.first, &addr))
			return false;
		node = s->parent;
	}
	*ret_addr = addr;
	return true;
}

int gm_space_region(struct gm_space *space, uint64_t id, struct gm_region_info *ret_info)
{
	const struct gm_span *span = NULL;
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_node *node;
	uint64_t addr;
	uint64_t off = 0;
	int rc = -ENOENT;

	if (ret_info->size < sizeof(*ret_info))
		return -EINVAL;
	pthread_mutex_lock(&space->lock);
	node = gm_node_find(&space->nodes, id);
	if (node && node != space->root && gm_space_state(node)) {
		if (published_address(space, node, &addr))
			span = gm_table_next(space->view, addr, &off);
		if (span && (span->first != addr || span->node != gm_node_index(node) || off))
			span = NULL;
		gm_space_describe(space, node, NULL, 0, ret_info);
		if (span) {
			gm_space_describe(space, node, span, 0, &info);
			ret_info->hva = info.hva;
			ret_info->placed = info.placed;
		}
		rc = 0;
	}
	pthread_mutex_unlock(&space->lock);
	return rc;
}

int gm_space_next(struct gm_space *space, uint64_t gpa, struct gm_region_info *ret_info)
{
	const struct gm_span *span;
	int rc = -ENOENT;
	uint64_t off;

	if (ret_info->size < sizeof(*ret_info))
		return -EINVAL;
	pthread_mutex_lock(&space->lock);
	span = gm_table_next(space->view, gpa, &off);
	if (span) {
		gm_space_describe(
			space, gm_node_at(&space->nodes, span->node), span, off, ret_info);
		ret_info->gpa = span->first;
		ret_info->len = span->last - span->first + 1;
		rc = 0;
	}
	pthread_mutex_unlock(&space->lock);
	return rc;
}
