/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * addr_pool.c - a pool of addresses: core/tiles with memory, and with words for what is refused.
 *
 * What a change needs is allocated before anything is changed. A free tile that becomes taken, and
 * back, is the same piece of memory, so that giving back needs none.
 */
#include <guestmem/addr_pool.h>

#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "core/tiles.h"
#include "sys/sys.h"

#define RANGE "[0x%" PRIx64 ", 0x%" PRIx64 "]"

struct gm_addr_pool {
	struct gm_tiles tiles;
};

static struct gm_range to_range(const struct gm_addr_range *range)
{
	return (struct gm_range){.first = range->first, .last = range->last};
}

static int check_range(const struct gm_addr_range *range, struct gm_error *err)
{
	if (range->first <= range->last)
		return 0;
	return gm_error_set(err, -EINVAL, range->first, 0, "range " RANGE " ends before it begins",
		range->first, range->last);
}

/* ---- the pool ---- */

int gm_addr_pool_create(
	const struct gm_addr_range *range, struct gm_addr_pool **ret_pool, struct gm_error *err)
{
	int rc = check_range(range, err);
	struct gm_range all = to_range(range);
	struct gm_addr_pool *pool;
	struct gm_tile *tile;

	if (rc)
		return rc;
	pool = gm_sys_alloc(sizeof(*pool));
	tile = gm_sys_alloc(sizeof(*tile));
	if (!pool || !tile) {
		gm_sys_free(pool);
		gm_sys_free(tile);
		return gm_error_set(err, -ENOMEM, 0, 0, "no memory for a pool of addresses");
	}
	gm_tiles_init(&pool->tiles, &all, tile);
	*ret_pool = pool;
	return 0;
}

static void free_tiles(struct gm_tile *tile)
{
	if (!tile)
		return;
	free_tiles(tile->left);
	free_tiles(tile->right);
	gm_sys_free(tile);
}

void gm_addr_pool_destroy(struct gm_addr_pool *pool)
{
	if (!pool)
		return;
	free_tiles(pool->tiles.root);
	gm_sys_free(pool);
}

/* ---- taking ---- */

static int take(struct gm_addr_pool *pool, struct gm_tile *tile, const struct gm_range *part,
	uint32_t state, struct gm_error *err)
{
	unsigned int nr = gm_tiles_cuts(tile, part);
	struct gm_tile *spare[2] = {NULL, NULL};

	for (unsigned int i = 0; i < nr; i++) {
		spare[i] = gm_sys_alloc(sizeof(*spare[i]));
		if (!spare[i]) {
			gm_sys_free(spare[0]);
			return gm_error_set(err, -ENOMEM, part->first, gm_range_len(part),
				"no memory to note that addresses are taken");
		}
	}
	gm_tiles_take(&pool->tiles, tile, part, state, spare);
	return 0;
}

static const char *state_word(uint32_t state)
{
	switch (state) {
	case GM_ADDR_ALLOCATED:
		return "allocated";
	case GM_ADDR_RESERVED:
		return "reserved";
	default:
		return "free";
	}
}

/* The free tile that holds all of @part. */
static int find_free(const struct gm_addr_pool *pool, const struct gm_range *part,
	struct gm_tile **ret_tile, struct gm_error *err)
{
	struct gm_tile *tile;
	struct gm_range taken;

	if (!gm_range_contains(&pool->tiles.range, part))
		return gm_error_set(err, -ERANGE, part->first, gm_range_len(part),
			RANGE " is not in the pool, which is " RANGE, part->first, part->last,
			pool->tiles.range.first, pool->tiles.range.last);
	tile = gm_tiles_find(&pool->tiles, part->first);
	if (!tile->state && gm_range_contains(&tile->range, part)) {
		*ret_tile = tile;
		return 0;
	}
	/* Behind a free tile that ends too early lies a taken one. */
	if (!tile->state)
		tile = gm_tiles_find(&pool->tiles, tile->range.last + 1);
	taken = tile->range;
	if (taken.first < part->first)
		taken.first = part->first;
	return gm_error_set(err, -EEXIST, taken.first, gm_range_len(&taken),
		RANGE " is not free: " RANGE " is %s", part->first, part->last, tile->range.first,
		tile->range.last, state_word(tile->state));
}

int gm_addr_pool_reserve(
	struct gm_addr_pool *pool, const struct gm_addr_range *range, struct gm_error *err)
{
	struct gm_range part = to_range(range);
	struct gm_tile *tile;
	int rc = check_range(range, err);

	if (!rc)
		rc = find_free(pool, &part, &tile, err);
	if (!rc)
		rc = take(pool, tile, &part, GM_ADDR_RESERVED, err);
	return rc;
}

/* Copies the request, with defaults filled in. */
static int check_request(const struct gm_addr_pool *pool, const struct gm_addr_request *user,
	struct gm_addr_request *req, struct gm_error *err)
{
	int rc = gm_opts_copy(req, sizeof(*req), user, sizeof(*req));

	if (rc)
		return gm_opts_error(err, rc, "addresses");
	if (req->align == 0)
		req->align = 1;
	if (req->max == 0)
		req->max = pool->tiles.range.last;
	if (req->len == 0)
		return gm_error_set(err, -EINVAL, 0, 0, "no addresses are asked for (len is 0)");
	if (!gm_is_pow2(req->align))
		return gm_error_set(err, -EINVAL, 0, 0,
			"alignment 0x%" PRIx64 " is no power of two", req->align);
	if (req->min > req->max)
		return gm_error_set(err, -EINVAL, req->min, 0,
			"min 0x%" PRIx64 " is above max 0x%" PRIx64, req->min, req->max);
	if (req->policy > GM_ADDR_EXACT || req->reserved)
		return gm_error_set(err, -EINVAL, 0, 0,
			"policy %u is unknown, or reserved is not 0", req->policy);
	if (req->policy != GM_ADDR_EXACT && req->at)
		return gm_error_set(err, -EINVAL, req->at, 0,
			"an address is given, but the policy is not GM_ADDR_EXACT");
	return 0;
}

static int find_exact(const struct gm_addr_pool *pool, const struct gm_addr_request *req,
	struct gm_range *ret_part, struct gm_tile **ret_tile, struct gm_error *err)
{
	struct gm_range part;

	if (!gm_is_aligned(req->at, req->align))
		return gm_error_set(err, -EINVAL, req->at, req->len,
			"address 0x%" PRIx64 " is no multiple of 0x%" PRIx64, req->at, req->align);
	if (!gm_range_make(req->at, req->len, &part))
		return gm_error_set(err, -ERANGE, req->at, req->len,
			"0x%" PRIx64 " bytes at 0x%" PRIx64 " pass the end of the address space",
			req->len, req->at);
	if (part.first < req->min || part.last > req->max)
		return gm_error_set(err, -ERANGE, req->at, req->len, RANGE " is not in " RANGE,
			part.first, part.last, req->min, req->max);
	*ret_part = part;
	return find_free(pool, &part, ret_tile, err);
}

static int none_free(
	const struct gm_addr_pool *pool, const struct gm_addr_request *req, struct gm_error *err)
{
	struct gm_range window = {req->min, req->max};
	struct gm_range best;

	if (!gm_tiles_longest(&pool->tiles, &window, &best))
		return gm_error_set(err, -ENOSPC, req->min, 0,
			"no 0x%" PRIx64 " bytes are free in " RANGE ": nothing is", req->len,
			req->min, req->max);
	return gm_error_set(err, -ENOSPC, best.first, gm_range_len(&best),
		"no 0x%" PRIx64 " bytes at a multiple of 0x%" PRIx64 " are free in " RANGE
		": the longest free range there is " RANGE "%s",
		req->len, req->align, req->min, req->max, best.first, best.last,
		req->len - 1 <= gm_range_extent(&best) ? ", which is long enough but not aligned"
						       : "");
}

static int find_room(const struct gm_addr_pool *pool, const struct gm_addr_request *req,
	struct gm_range *ret_part, struct gm_tile **ret_tile, struct gm_error *err)
{
	struct gm_tile_want want = {
		.window = {req->min, req->max},
		.extent = req->len - 1,
		.align = req->align,
	};

	if (req->policy == GM_ADDR_EXACT)
		return find_exact(pool, req, ret_part, ret_tile, err);
	*ret_tile = req->policy == GM_ADDR_LOWEST ? gm_tiles_lowest(&pool->tiles, &want, ret_part)
						  : gm_tiles_highest(&pool->tiles, &want, ret_part);
	return *ret_tile ? 0 : none_free(pool, req, err);
}

int gm_addr_pool_alloc(struct gm_addr_pool *pool, const struct gm_addr_request *user,
	struct gm_addr_range *ret_range, struct gm_error *err)
{
	struct gm_addr_request req;
	struct gm_tile *tile;
	struct gm_range part;
	int rc = check_request(pool, user, &req, err);

	if (!rc)
		rc = find_room(pool, &req, &part, &tile, err);
	if (!rc)
		rc = take(pool, tile, &part, GM_ADDR_ALLOCATED, err);
	if (!rc)
		*ret_range = (struct gm_addr_range){.first = part.first, .last = part.last};
	return rc;
}

/* ---- giving back, looking ---- */

int gm_addr_pool_free(
	struct gm_addr_pool *pool, const struct gm_addr_range *range, struct gm_error *err)
{
	struct gm_range part = to_range(range);
	struct gm_tile *spare[2];
	struct gm_tile *tile;
	unsigned int nr;
	int rc = check_range(range, err);

	if (rc)
		return rc;
	if (!gm_range_contains(&pool->tiles.range, &part))
		return gm_error_set(err, -ERANGE, part.first, gm_range_len(&part),
			RANGE " is not in the pool, which is " RANGE, part.first, part.last,
			pool->tiles.range.first, pool->tiles.range.last);
	tile = gm_tiles_find(&pool->tiles, part.first);
	if (!tile->state || tile->range.first != part.first || tile->range.last != part.last)
		return gm_error_set(err, -ENOENT, tile->range.first, gm_range_len(&tile->range),
			RANGE " was not taken as such: " RANGE " is %s", part.first, part.last,
			tile->range.first, tile->range.last, state_word(tile->state));
	nr = gm_tiles_give(&pool->tiles, tile, spare);
	for (unsigned int i = 0; i < nr; i++)
		gm_sys_free(spare[i]);
	return 0;
}

int gm_addr_pool_at(const struct gm_addr_pool *pool, uint64_t addr, struct gm_addr_info *ret_info)
{
	const struct gm_tile *tile;

	if (ret_info->size < sizeof(*ret_info))
		return -EINVAL;
	if (!gm_range_has(&pool->tiles.range, addr))
		return -ERANGE;
	tile = gm_tiles_find(&pool->tiles, addr);
	ret_info->range = (struct gm_addr_range){tile->range.first, tile->range.last};
	ret_info->state = tile->state;
	ret_info->reserved = 0;
	return 0;
}
