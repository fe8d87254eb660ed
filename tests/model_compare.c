/* SPDX-License-Identifier: BSD-3-Clause */
/* model_compare.c - does the space say what the model says? */
#include <errno.h>
#include <string.h>

#include "model_run.h"

bool may_be_placed(const struct model_region *r)
{
	const struct model_block *block;

	if (t.limit == GM_SPACE_NO_WINDOW || r->block < 0)
		return false;
	block = &model_blocks[r->block];
	if (block->backing == MODEL_POINTER)
		return false;
	if (block->backing != MODEL_MEMFD && r->off != 0)
		return false;
	return r->gpa + (r->len - 1) < t.limit;
}

static void compare_region(const struct gm_region_info *info, int index)
{
	const struct model_region *r = &t.map.regions[index];

	check(info->id == r->id);
	check(info->gpa == r->gpa && info->len == r->len);
	check(info->kind == r->kind && info->perms == r->perms);
	check(strcmp(info->name, r->name) == 0);
	check((info->hva == NULL) == (r->block < 0));
	figures.placeable += may_be_placed(r);
	figures.placed += info->placed;
	check(!info->placed || may_be_placed(r));
	if (t.strict && may_be_placed(r))
		check(info->placed);
	if (r->block < 0) {
		check(info->block == NULL);
		return;
	}
	check(info->block_off == r->off);
	if (!model_blocks[r->block].block)
		model_blocks[r->block].block = info->block;
	check(info->block == model_blocks[r->block].block);
}

/* The walk gives each region once, in rising order; a question from anywhere gives the next. */
static void compare_regions(void)
{
	struct gm_region_info info = {.size = sizeof(info)};
	unsigned int nr = 0;
	uint64_t gpa = 0;
	int index;

	while (gm_space_next(t.space, gpa, &info) == 0) {
		index = model_next(&t.map, gpa);
		check(index >= 0);
		compare_region(&info, index);
		nr++;
		if (__builtin_add_overflow(info.gpa, info.len, &gpa))
			break;
	}
	check(nr == t.map.nr);
	gpa = model_islands[below(MODEL_ISLANDS)] + below(MODEL_ISLAND_LEN);
	index = model_next(&t.map, gpa);
	check(gm_space_next(t.space, gpa, &info) == (index < 0 ? -ENOENT : 0));
	if (index >= 0)
		compare_region(&info, index);
	for (unsigned int i = 0; i < t.map.nr; i++) {
		check(gm_space_region(t.space, t.map.regions[i].id, &info) == 0);
		compare_region(&info, (int)i);
	}
	check(gm_space_region(t.space, UINT64_MAX, &info) == -ENOENT);
}

void some_range(uint64_t *ret_gpa, uint64_t *ret_len)
{
	uint64_t len = below(UINT64_C(1) << below(15));

	*ret_gpa = model_islands[below(MODEL_ISLANDS)] + below(MODEL_ISLAND_LEN + 64) - 32;
	if (below(3) == 0)
		*ret_gpa = *ret_gpa / MODEL_PAGE * MODEL_PAGE - below(16);
	if (below(20) == 0)
		len = 0 - *ret_gpa + below(3) - 1;
	*ret_len = len;
}

static void compare_access(const struct gm_view *view)
{
	static uint8_t buf[MODEL_ISLAND_LEN];
	uint32_t perms = (uint32_t)below(8);
	uint64_t want_done;
	size_t done = 77;
	uint64_t gpa;
	uint64_t len;
	int want;

	some_range(&gpa, &len);
	want = model_access(&t.map, gpa, len, perms, &want_done);
	check(gm_view_check(view, gpa, len, perms) == want);
	/* More than an island holds fails inside it, so the buffer is large enough. */
	want = model_access(&t.map, gpa, len, GM_PERM_R, &want_done);
	check(gm_read(view, gpa, buf, len, &done) == want);
	check(done == want_done);
	for (uint64_t i = 0; i < want_done; i++)
		check(buf[i] == *model_byte(&t.map, gpa + i));
}

/* One object of 1, 2, 4 or 8 bytes, as the inline functions read it. */
static void compare_typed(const struct gm_view *view)
{
	uint64_t size = UINT64_C(1) << below(4);
	uint64_t want_value = 0;
	uint64_t value = 0;
	uint64_t ignored;
	uint64_t gpa;
	uint64_t len;
	int want;
	int rc;

	some_range(&gpa, &len);
	if (below(2))
		gpa = gpa / MODEL_UNIT * MODEL_UNIT - below(9);
	want = model_access(&t.map, gpa, size, GM_PERM_R, &ignored);
	for (uint64_t i = 0; i < size && !want; i++)
		want_value |= (uint64_t)*model_byte(&t.map, gpa + i) << (8 * i);
	switch (size) {
	case 1:
		rc = gm_read_u8(view, gpa, (uint8_t *)&value);
		break;
	case 2:
		rc = gm_read_le16(view, gpa, (uint16_t *)&value);
		break;
	case 4:
		rc = gm_read_le32(view, gpa, (uint32_t *)&value);
		break;
	default:
		rc = gm_read_le64(view, gpa, &value);
	}
	check(rc == want);
	check(value == want_value);
}

static void compare_zero(const struct gm_view *view)
{
	uint64_t want_done;
	uint64_t first;
	size_t done = 77;
	uint64_t gpa;
	uint64_t len;
	int want;

	some_range(&gpa, &len);
	want = model_access(&t.map, gpa, len, GM_PERM_R, &want_done);
	for (first = 0; first < want_done && *model_byte(&t.map, gpa + first) == 0; first++)
		;
	check(gm_is_zero(view, gpa, len, &done) == (first < want_done ? 0 : want ? want : 1));
	check(done == first);
}

/* The lowest guest address whose memory lies at a host address. */
static void compare_hva(const struct gm_view *view, const uint8_t *hva)
{
	uint64_t lowest = 0;
	uint64_t got = 77;
	bool found = false;
	int rc = gm_view_gpa(view, hva, &got);

	for (unsigned int i = 0; i < t.map.nr; i++) {
		struct gm_region_info info = {.size = sizeof(info)};
		uint64_t off;

		check(gm_space_region(t.space, t.map.regions[i].id, &info) == 0);
		off = (uintptr_t)hva - (uintptr_t)info.hva;
		if (!info.hva || off >= info.len)
			continue;
		if (!found || info.gpa + off < lowest)
			lowest = info.gpa + off;
		found = true;
	}
	check(rc == (found ? 0 : -EFAULT));
	check(got == (found ? lowest : 77));
}

static void compare_hvas(const struct gm_view *view)
{
	struct gm_region_info info = {.size = sizeof(info)};

	if (t.map.nr == 0)
		return;
	check(gm_space_region(t.space, t.map.regions[below(t.map.nr)].id, &info) == 0);
	if (!info.hva)
		return;
	if (info.placed)
		check((uintptr_t)info.hva == view->window_base + info.gpa);
	compare_hva(view, (uint8_t *)info.hva + below(info.len));
	compare_hva(view, (uint8_t *)info.hva + info.len);
	compare_hva(view, (uint8_t *)info.hva - 1);
}

static void compare_all_bytes(const struct gm_view *view)
{
	for (unsigned int i = 0; i < t.map.nr; i++) {
		const struct model_region *r = &t.map.regions[i];
		static uint8_t buf[MODEL_ISLAND_LEN];

		if (r->block < 0 || !(r->perms & GM_PERM_R))
			continue;
		check(gm_read(view, r->gpa, buf, r->len, NULL) == 0);
		check(memcmp(buf, &model_blocks[r->block].bytes[r->off], r->len) == 0);
	}
}

void compare_pins(void)
{
	for (unsigned int i = 0; i < NR_PINS; i++) {
		const struct pin *pin = &t.pins[i];

		if (pin->pin.map)
			check(memcmp(pin->slice.iov_base, &model_blocks[pin->block].bytes[pin->off],
				      pin->slice.iov_len) == 0);
	}
}

void compare(bool bytes)
{
	const struct gm_view *view = gm_reader_enter(t.reader);

	check(gm_view_generation(view) >= t.generation);
	t.generation = gm_view_generation(view);
	compare_regions();
	for (int i = 0; i < 12; i++)
		compare_access(view);
	for (int i = 0; i < 12; i++)
		compare_typed(view);
	compare_zero(view);
	compare_hvas(view);
	if (bytes)
		compare_all_bytes(view);
	compare_pins();
	gm_reader_leave(t.reader);
}
