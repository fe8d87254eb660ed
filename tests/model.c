/* SPDX-License-Identifier: BSD-3-Clause */
/* model.c - see model.h. Simple before quick: everything is looked for from the begin. */
#include "model.h"

#include <errno.h>
#include <string.h>

#include "support.h"

const uint64_t model_islands[MODEL_ISLANDS] = {
	0,
	GIB(1) - MODEL_ISLAND_LEN / 2,
	0 - (uint64_t)MODEL_ISLAND_LEN,
};

struct model_block model_blocks[MODEL_BLOCKS];

unsigned int model_error_bit(int rc)
{
	switch (rc) {
	case -EINVAL:
		return MODEL_INVAL;
	case -ERANGE:
		return MODEL_RANGE;
	case -EEXIST:
		return MODEL_EXIST;
	case -EBUSY:
		return MODEL_BUSY;
	case -EACCES:
		return MODEL_ACCES;
	case -ENOENT:
		return MODEL_NOENT;
	default:
		return 0;
	}
}

/* Paints the map anew. */
static void paint(struct model *map)
{
	memset(map->owner, 0xff, sizeof(map->owner));
	for (unsigned int i = 0; i < map->nr; i++) {
		int unit = model_unit(map->regions[i].gpa);
		uint64_t units = map->regions[i].len / MODEL_UNIT;

		assert_true(unit >= 0 && (uint64_t)unit + units <= MODEL_UNITS);
		for (uint64_t j = 0; j < units; j++) {
			assert_int_equal(map->owner[(uint64_t)unit + j], -1);
			map->owner[(uint64_t)unit + j] = (int16_t)i;
		}
	}
}

void model_init(struct model *map)
{
	map->nr = 0;
	paint(map);
}

int model_block_new(enum model_backing backing, struct gm_block *block, uint64_t len, bool readonly)
{
	for (int i = 0; i < MODEL_BLOCKS; i++) {
		if (model_blocks[i].backing != MODEL_NONE)
			continue;
		memset(&model_blocks[i], 0, sizeof(model_blocks[i]));
		model_blocks[i].backing = backing;
		model_blocks[i].block = block;
		model_blocks[i].len = len;
		model_blocks[i].readonly = readonly;
		return i;
	}
	fail_msg("the model has no room for another block");
	return -1;
}

int model_unit(uint64_t addr)
{
	for (unsigned int i = 0; i < MODEL_ISLANDS; i++) {
		uint64_t off = addr - model_islands[i];

		if (addr >= model_islands[i] && off < MODEL_ISLAND_LEN)
			return (int)(i * MODEL_ISLAND_UNITS + off / MODEL_UNIT);
	}
	return -1;
}

int model_find(const struct model *map, uint64_t id)
{
	for (unsigned int i = 0; i < map->nr; i++) {
		if (map->regions[i].id == id)
			return (int)i;
	}
	return -1;
}

int model_next(const struct model *map, uint64_t addr)
{
	int best = -1;

	for (unsigned int i = 0; i < map->nr; i++) {
		const struct model_region *r = &map->regions[i];

		if (r->gpa + (r->len - 1) < addr)
			continue;
		if (best < 0 || r->gpa < map->regions[best].gpa)
			best = (int)i;
	}
	return best;
}

/* ---- errors ---- */

unsigned int model_place_errors(
	const struct model *map, const struct model_region *want, int self, uint64_t *ret_common)
{
	bool memory = want->kind != GM_REGION_RESERVED;
	unsigned int errors = 0;

	if (want->len == 0)
		return MODEL_INVAL;
	if (memory && ((want->gpa | want->len | want->off) % MODEL_PAGE))
		errors |= MODEL_INVAL;
	if (memory && (want->off > model_blocks[want->block].len ||
			      want->len > model_blocks[want->block].len - want->off))
		errors |= MODEL_RANGE;
	if (want->len - 1 > UINT64_MAX - want->gpa)
		return errors | MODEL_RANGE;
	for (uint64_t done = 0; done < want->len;
		done += MODEL_UNIT - (want->gpa + done) % MODEL_UNIT) {
		int unit = model_unit(want->gpa + done);

		if (unit < 0 || map->owner[unit] < 0 || map->owner[unit] == self)
			continue;
		*ret_common = want->gpa + done;
		return errors | MODEL_EXIST;
	}
	return errors;
}

unsigned int model_perms_errors(const struct model_region *want)
{
	if (want->kind == GM_REGION_RESERVED)
		return want->perms ? MODEL_INVAL : 0;
	if (want->perms == 0 || want->perms > GM_PERM_RWX)
		return MODEL_INVAL;
	if ((want->perms & GM_PERM_W) && want->kind == GM_REGION_ROM)
		return MODEL_INVAL | (model_blocks[want->block].readonly ? MODEL_ACCES : 0);
	if ((want->perms & GM_PERM_W) && model_blocks[want->block].readonly)
		return MODEL_ACCES;
	return 0;
}

static bool uses(const struct model *map, int block)
{
	for (unsigned int i = 0; i < map->nr; i++) {
		if (map->regions[i].block == block)
			return true;
	}
	return false;
}

unsigned int model_busy_errors(const struct model *plan, const struct model *published, int block)
{
	const struct model_block *b = &model_blocks[block];

	if (b->backing != MODEL_ANON && b->backing != MODEL_INPLACE)
		return 0;
	return b->pins || uses(plan, block) || uses(published, block) ? MODEL_BUSY : 0;
}

/* ---- changes ---- */

void model_put(struct model *map, const struct model_region *region, int self)
{
	if (self < 0) {
		assert_true(map->nr < MODEL_REGIONS);
		self = (int)map->nr++;
	}
	map->regions[self] = *region;
	paint(map);
}

void model_drop(struct model *map, int index)
{
	map->regions[index] = map->regions[--map->nr];
	paint(map);
}

void model_collect(const struct model *map)
{
	for (int i = 0; i < MODEL_BLOCKS; i++) {
		if (model_blocks[i].backing == MODEL_INPLACE && !model_blocks[i].pins &&
			!uses(map, i))
			model_blocks[i].backing = MODEL_NONE;
	}
}

/* ---- accesses ---- */

static int access_byte(const struct model *map, uint64_t gpa, uint32_t perms)
{
	int unit = model_unit(gpa);
	int owner = unit < 0 ? -1 : map->owner[unit];

	if (owner < 0 || map->regions[owner].kind == GM_REGION_RESERVED)
		return -EFAULT;
	return perms & ~map->regions[owner].perms ? -EACCES : 0;
}

int model_access(
	const struct model *map, uint64_t gpa, uint64_t len, uint32_t perms, uint64_t *ret_done)
{
	uint64_t done = 0;
	int rc = 0;

	*ret_done = 0;
	if (len == 0)
		return access_byte(map, gpa, perms);
	if (len - 1 > UINT64_MAX - gpa)
		return -ERANGE;
	while (done < len) {
		uint64_t step = MODEL_UNIT - (gpa + done) % MODEL_UNIT;

		rc = access_byte(map, gpa + done, perms);
		if (rc)
			break;
		done = step < len - done ? done + step : len;
	}
	*ret_done = done;
	return rc;
}

uint8_t *model_byte(const struct model *map, uint64_t gpa)
{
	int unit = model_unit(gpa);
	const struct model_region *r;

	assert_true(unit >= 0 && map->owner[unit] >= 0);
	r = &map->regions[map->owner[unit]];
	assert_true(r->block >= 0);
	return &model_blocks[r->block].bytes[r->off + (gpa - r->gpa)];
}
