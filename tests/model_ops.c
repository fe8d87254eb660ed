/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * model_ops.c - operations of a transaction, planned in the space and in the model.
 *
 * The model tells beforehand which errors an operation may return. One that is refused leaves the
 * plan as it was: the comparison after the commit shows it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "model_run.h"

/* @rc of an operation for which the model allows @errors. True if it has worked and is to be done
 * in the model. */
static bool agree(int rc, unsigned int errors, const char *what)
{
	/* A call was made to fail: what it said is nobody's expectation. */
	if (rc && fault_hits() > 0 && !(errors & model_error_bit(rc))) {
		figures.faults++;
		return false;
	}
	if (rc ? !(errors & model_error_bit(rc)) : errors)
		fail_msg("seed %lu step %u: %s returned %d (%s), errors allowed: %#x",
			(unsigned long)t.seed, t.step, what, rc, rc ? err.text : "", errors);
	if (rc) {
		check(err.code == rc);
		figures.refused++;
	} else {
		figures.ok++;
	}
	return rc == 0;
}

/* A block for a new region: one that is kept, one that a region has, or -1 for one to be made in
 * place. */
static int some_block(void)
{
	uint64_t n = below(10);

	if (n < 4)
		return -1;
	if (n == 4 && t.map.nr > 0) {
		int block = t.map.regions[below(t.map.nr)].block;

		if (block >= 0 && model_blocks[block].block)
			return block;
	}
	return t.kept[below(NR_KEPT)];
}

/* A part of such a block would keep the addresses of the rest from others. */
static bool must_be_whole(int block)
{
	return t.strict && model_blocks[block].backing != MODEL_MEMFD &&
	       model_blocks[block].backing != MODEL_POINTER;
}

static uint64_t some_gpa(uint32_t kind, uint64_t len)
{
	uint64_t island = model_islands[below(MODEL_ISLANDS)];
	uint64_t room = len < MODEL_ISLAND_LEN ? MODEL_ISLAND_LEN - len : 0;
	uint64_t grain = kind == GM_REGION_RESERVED && below(2) ? MODEL_UNIT : MODEL_PAGE;
	uint64_t gpa = island + below(room / grain + 1) * grain;

	/* Wrong ones: not aligned, past the end of the space. */
	if (below(20) == 0 && kind != GM_REGION_RESERVED)
		return gpa + 1 + below(MODEL_PAGE - 1) / 512 * 512;
	if (below(20) == 0)
		return 0 - MODEL_PAGE * below(4);
	return gpa;
}

static uint64_t some_len(uint64_t most)
{
	uint64_t pages = 1 + below(below(2) ? 3 : MODEL_ISLAND_PAGES);

	if (pages * MODEL_PAGE > most && below(10))
		pages = most / MODEL_PAGE;
	return pages * MODEL_PAGE;
}

static void fill_desc(struct gm_region_desc *desc, struct gm_block_opts *backing,
	const struct model_region *want, int block)
{
	*desc = (struct gm_region_desc){
		.size = sizeof(*desc),
		.gpa = want->gpa,
		.len = want->len,
		.kind = want->kind,
		.perms = want->perms,
		.block_off = want->off,
		.name = want->name,
	};
	if (want->kind == GM_REGION_RESERVED)
		return;
	*backing = (struct gm_block_opts){.size = sizeof(*backing), .len = want->len};
	if (block < 0)
		desc->backing = backing;
	else
		desc->block = model_blocks[block].block;
}

/* A region to be added. Its block's number is that of a new one if it is to be made in place. */
static void some_region(struct model_region *want, int *ret_given)
{
	static const uint32_t kinds[] = {
		GM_REGION_RAM, GM_REGION_RAM, GM_REGION_RAM, GM_REGION_ROM, GM_REGION_RESERVED};
	uint64_t most = MODEL_ISLAND_LEN;
	bool zero;

	memset(want, 0, sizeof(*want));
	want->kind = kinds[below(5)];
	want->block = -1;
	*ret_given = -1;
	if (want->kind != GM_REGION_RESERVED) {
		*ret_given = some_block();
		if (*ret_given >= 0) {
			uint64_t len = model_blocks[*ret_given].len;

			want->off = below(3) || must_be_whole(*ret_given)
					    ? 0
					    : below(len / MODEL_PAGE) * MODEL_PAGE;
			most = len - want->off;
		}
		want->perms = below(2) ? 0 : (uint32_t)below(9);
	}
	want->len = some_len(most);
	if (want->kind == GM_REGION_RESERVED && below(2))
		want->len = MODEL_UNIT * (1 + below(8));
	/* 0 stands for the rest of the block. */
	zero = *ret_given >= 0 && (below(4) == 0 || must_be_whole(*ret_given));
	want->gpa = some_gpa(want->kind, zero ? most : want->len);
	if (zero)
		want->len = 0;
	snprintf(want->name, sizeof(want->name), "r%u.%u", t.step, (unsigned int)below(1000));
	want->block = *ret_given >= 0 || want->kind == GM_REGION_RESERVED
			      ? *ret_given
			      : model_block_new(MODEL_INPLACE, NULL, want->len, false);
}

/* What the description's zeros stand for. */
static void apply_defaults(struct model_region *want)
{
	if (want->len == 0 && want->block >= 0)
		want->len = model_blocks[want->block].len - want->off;
	if (want->perms == 0 && want->kind == GM_REGION_RAM)
		want->perms = model_blocks[want->block].readonly ? GM_PERM_RX : GM_PERM_RWX;
	if (want->perms == 0 && want->kind == GM_REGION_ROM)
		want->perms = GM_PERM_RX;
}

/* What was replaced and then removed holds its last block until the transaction is over. */
static unsigned int busy_errors(int block)
{
	enum model_backing backing = model_blocks[block].backing;
	bool exclusive = backing == MODEL_ANON || backing == MODEL_INPLACE;

	return model_busy_errors(&t.plan, &t.map, block) |
	       (exclusive && t.spent[block] ? MODEL_BUSY : 0);
}

static void op_add(struct gm_txn *txn)
{
	struct model_region want;
	struct gm_region_desc desc;
	struct gm_block_opts backing;
	unsigned int errors;
	uint64_t common = 0;
	uint64_t id = 77;
	int given;
	int rc;

	if (t.plan.nr == MODEL_REGIONS)
		return;
	some_region(&want, &given);
	fill_desc(&desc, &backing, &want, given);
	apply_defaults(&want);
	errors = model_place_errors(&t.plan, &want, -1, &common) | model_perms_errors(&want);
	if (want.block >= 0)
		errors |= busy_errors(want.block);
	rc = gm_txn_add(txn, &desc, &id, &err);
	if (!agree(rc, errors, "add")) {
		check(id == 77);
		if (rc == -EEXIST)
			check(err.gpa == common);
		return;
	}
	check(model_find(&t.plan, id) < 0 && model_find(&t.map, id) < 0);
	want.id = id;
	model_put(&t.plan, &want, -1);
}

/* A region of the plan, or (rarely) a number that none has. */
static int some_planned(uint64_t *ret_id)
{
	int index = t.plan.nr > 0 && below(20) ? (int)below(t.plan.nr) : -1;

	*ret_id = index < 0 ? UINT64_MAX - below(3) : t.plan.regions[index].id;
	return index;
}

static void op_remove(struct gm_txn *txn)
{
	uint64_t id;
	int index = some_planned(&id);

	if (!agree(gm_txn_remove(txn, id, &err), index < 0 ? MODEL_NOENT : 0, "remove"))
		return;
	if (t.plan.regions[index].block >= 0 && model_find(&t.map, id) >= 0)
		t.spent[t.plan.regions[index].block] = true;
	model_drop(&t.plan, index);
}

static void op_move(struct gm_txn *txn)
{
	uint64_t id;
	uint64_t common = 0;
	int index = some_planned(&id);
	struct model_region want = {.gpa = MODEL_PAGE};
	unsigned int errors = MODEL_NOENT;
	int rc;

	if (index >= 0) {
		want = t.plan.regions[index];
		want.gpa = below(3) ? some_gpa(want.kind, want.len)
				    : want.gpa + MODEL_PAGE * (below(5) - 2);
		/* Between the islands there is nothing to compare with. */
		if (want.len - 1 <= UINT64_MAX - want.gpa &&
			(model_unit(want.gpa) < 0 || model_unit(want.gpa + (want.len - 1)) < 0))
			return;
		errors = model_place_errors(&t.plan, &want, index, &common);
	}
	rc = gm_txn_move(txn, id, want.gpa, &err);
	if (agree(rc, errors, "move"))
		model_put(&t.plan, &want, index);
	else if (rc == -EEXIST)
		check(err.gpa == common);
}

static void op_resize(struct gm_txn *txn)
{
	uint64_t id;
	uint64_t common = 0;
	int index = some_planned(&id);
	struct model_region want = {.len = MODEL_PAGE};
	unsigned int errors = MODEL_NOENT;

	if (index >= 0) {
		want = t.plan.regions[index];
		/* A mapping in the window would keep the addresses that the region gives up. */
		if (want.block >= 0 && t.strict &&
			(model_blocks[want.block].backing != MODEL_MEMFD || may_be_placed(&want)))
			return;
		want.len = below(10) ? some_len(MODEL_ISLAND_LEN) : below(3) * 512;
		if (want.len && want.len - 1 <= UINT64_MAX - want.gpa &&
			(model_unit(want.gpa + (want.len - 1)) < 0 || want.len % MODEL_UNIT) &&
			want.kind == GM_REGION_RESERVED)
			return;
		if (want.len && want.len - 1 <= UINT64_MAX - want.gpa &&
			model_unit(want.gpa + (want.len - 1)) < 0)
			return;
		errors = model_place_errors(&t.plan, &want, index, &common);
	}
	if (agree(gm_txn_resize(txn, id, want.len, &err), errors, "resize"))
		model_put(&t.plan, &want, index);
}

static void op_protect(struct gm_txn *txn)
{
	uint64_t id;
	int index = some_planned(&id);
	struct model_region want = {.perms = (uint32_t)below(10)};
	unsigned int errors = MODEL_NOENT;

	if (index >= 0) {
		uint32_t perms = want.perms;

		want = t.plan.regions[index];
		want.perms = perms;
		errors = perms == 0 ? MODEL_INVAL : model_perms_errors(&want);
	}
	if (agree(gm_txn_protect(txn, id, want.perms, &err), errors, "protect"))
		model_put(&t.plan, &want, index);
}

static void op_replace(struct gm_txn *txn)
{
	uint64_t id;
	uint64_t common;
	int index = some_planned(&id);
	struct model_region want = {.gpa = MODEL_PAGE, .len = MODEL_PAGE, .block = -1};
	struct gm_region_desc desc;
	struct gm_block_opts backing;
	unsigned int errors = MODEL_NOENT;
	int given = -1;

	if (index >= 0) {
		want = t.plan.regions[index];
		errors = 0;
	}
	if (want.kind != GM_REGION_RESERVED) {
		given = some_block();
		if (given >= 0 && must_be_whole(given))
			given = -1;
		want.off = given >= 0 && below(2)
				   ? below(model_blocks[given].len) / MODEL_PAGE * MODEL_PAGE
				   : 0;
		want.block =
			given >= 0 ? given : model_block_new(MODEL_INPLACE, NULL, want.len, false);
	}
	fill_desc(&desc, &backing, &want, given);
	desc.name = NULL;
	if (below(20) == 0) {
		desc.gpa += MODEL_PAGE;
		errors |= MODEL_INVAL;
	}
	if (below(20) == 0) {
		desc.len += MODEL_PAGE;
		errors |= MODEL_INVAL;
	}
	if (index >= 0 && want.kind == GM_REGION_RESERVED)
		errors = MODEL_INVAL;
	else if (index >= 0)
		errors |= model_place_errors(&t.plan, &want, index, &common) |
			  model_perms_errors(&want) | busy_errors(want.block);
	if (agree(gm_txn_replace(txn, id, &desc, &err), errors, "replace"))
		model_put(&t.plan, &want, index);
}

void arm_sometimes(unsigned int most_calls)
{
	static const int errnos[] = {ENOMEM, EPERM, EAGAIN};
	const struct fault_plan plan = {.fn = FAULT_ANY,
		.nth = 1 + below(most_calls),
		.forever = below(2),
		.error = errnos[below(3)]};

	fault_set(below(6) == 0 && !t.strict ? &plan : NULL);
}

void some_operations(struct gm_txn *txn)
{
	static void (*const ops[])(struct gm_txn *) = {op_add, op_add, op_add, op_remove, op_move,
		op_move, op_resize, op_protect, op_replace};
	uint64_t nr = 1 + below(6);

	for (uint64_t i = 0; i < nr; i++) {
		arm_sometimes(8);
		ops[below(sizeof(ops) / sizeof(ops[0]))](txn);
		fault_disarm();
	}
	fault_set(NULL);
}
