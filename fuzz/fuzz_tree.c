/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_tree.c - bytes as transactions on a small space, against the model of test_tree.c: what shows
 * at each address, what a read returns there, and what two listeners were told.
 *
 * Eight bytes say how the space is made, then each eight are a step: operation, region, another
 * region, kind, place, length, offset, and a byte of permissions, priority or flags. The model
 * takes over what the library took; where it knows better whether that was right, it says so.
 */
#include <errno.h>
#include <guestmem/guestmem.h>
#include <stdlib.h>
#include <string.h>

#include "tree_model.h"

#define PAGE UINT64_C(4096)
#define BLOCK_PAGES 32u
#define STEP 8u
#define STEPS_MAX 96u
#define SECTIONS_MAX 128u

/* What a listener was told. */
struct told {
	struct gm_listener *listener;
	struct gm_section has[SECTIONS_MAX];
	unsigned int nr;
	unsigned int refuse; /* the n-th addition or change is refused; 0 = none */
	bool refused;
};

static struct gm_space *space;
static struct gm_txn *txn;
static struct gm_reader *reader;
static struct gm_block *shared; /* kept: byte i of it is tag(i) */
static struct model map;        /* as published */
static struct model plan;
static struct told told[2];

static void must(bool what)
{
	if (!what)
		abort();
}

static uint8_t tag(uint64_t off)
{
	return (uint8_t)(off * 151 + (off >> 8) * 59 + 7);
}

/* ---- listeners ---- */

static unsigned int place_of(const struct told *t, const struct gm_section *section)
{
	unsigned int at = 0;

	while (at < t->nr && t->has[at].gpa != section->gpa)
		at++;
	return at;
}

static bool refuses(struct told *t)
{
	if (t->refuse == 0 || --t->refuse > 0)
		return false;
	/* From here on things are given back, and nobody may refuse that. */
	told[0].refuse = told[1].refuse = 0;
	t->refused = true;
	return true;
}

static int on_prepare(void *ctx, const struct gm_change *changes, size_t nr, struct gm_error *err)
{
	(void)ctx;
	(void)err;
	must(nr > 0 && changes[nr - 1].kind <= GM_CHANGE_PERMS);
	return 0;
}

static void on_remove(void *ctx, const struct gm_section *section)
{
	struct told *t = ctx;
	unsigned int at = place_of(t, section);

	must(at < t->nr && t->has[at].len == section->len && t->has[at].id == section->id);
	t->has[at] = t->has[--t->nr];
}

static int on_add(void *ctx, const struct gm_section *section, struct gm_error *err)
{
	struct told *t = ctx;

	(void)err;
	must(t->nr < SECTIONS_MAX);
	for (unsigned int i = 0; i < t->nr; i++)
		must(t->has[i].gpa > section->gpa + (section->len - 1) ||
			section->gpa > t->has[i].gpa + (t->has[i].len - 1));
	if (refuses(t))
		return -ENOSPC;
	t->has[t->nr++] = *section;
	return 0;
}

static int on_change(
	void *ctx, const struct gm_section *section, uint32_t old_perms, struct gm_error *err)
{
	struct told *t = ctx;
	unsigned int at = place_of(t, section);

	(void)err;
	must(at < t->nr && t->has[at].perms == old_perms && t->has[at].len == section->len);
	if (refuses(t))
		return -EIO;
	t->has[at].perms = section->perms;
	return 0;
}

static void attach(unsigned int which, uint8_t flags)
{
	const struct gm_listener_ops ops = {
		.size = sizeof(ops),
		.priority = (int32_t)(flags & 3) - (int32_t)which,
		.kinds = which ? 0 : GM_KINDS_ALL,
		.join = which ? GM_JOIN_HOST + (flags >> 2 & 1) : GM_JOIN_NONE,
		.prepare = on_prepare,
		.remove = on_remove,
		.add = on_add,
		.change = flags & 8 ? on_change : NULL,
		.ctx = &told[which],
	};

	must(gm_listener_create(space, &ops, &told[which].listener, NULL) == 0);
}

static void detach(unsigned int which)
{
	must(gm_listener_destroy(told[which].listener, NULL) == 0);
	told[which].listener = NULL;
	must(told[which].nr == 0);
}

/* ---- what shows ---- */

static bool has_device(const struct model_node *node)
{
	return node->kind == GM_REGION_MMIO;
}

static int code_for(const struct model_shown *shown)
{
	const struct model_node *node = &map.nodes[shown->node < 0 ? 0 : shown->node];

	if (shown->node < 0 || node->kind == GM_REGION_RESERVED)
		return -EFAULT;
	return shown->perms & GM_PERM_R ? 0 : -EACCES;
}

static uint8_t byte_for(const struct model_shown *shown, uint64_t within)
{
	const struct model_node *node = &map.nodes[shown->node];
	uint64_t off = shown->off + within;

	/* A device answers with the offset; memory of a region's own is never written. */
	if (has_device(node))
		return (uint8_t)off;
	return node->block ? 0 : tag(node->off + off);
}

static void check_points(void)
{
	const struct gm_view *view = gm_reader_enter(reader);

	for (unsigned int i = 0; i < MODEL_POINTS; i++) {
		struct model_shown shown = model_show(&map, model_address(&map, i));
		uint64_t within = i * 37 % map.unit;
		uint8_t byte = 0;
		int code = code_for(&shown);

		must(gm_read_u8(view, shown.first + within, &byte) == code);
		must(code || byte == byte_for(&shown, within));
	}
	gm_reader_leave(reader);
}

static bool is_told(const struct told *t, const struct gm_region_info *info)
{
	for (unsigned int i = 0; i < t->nr; i++) {
		const struct gm_section *s = &t->has[i];

		if (s->gpa == info->gpa)
			return s->len == info->len && s->id == info->id && s->off == info->off &&
			       s->perms == info->perms && s->kind == info->kind &&
			       s->hva == info->hva;
	}
	return false;
}

/* The byte at @gpa is in a section that leads to the host address @hva. */
static bool is_covered(const struct told *t, uint64_t gpa, const void *hva, uint32_t perms)
{
	for (unsigned int i = 0; i < t->nr; i++) {
		const struct gm_section *s = &t->has[i];

		if (gpa >= s->gpa && gpa - s->gpa < s->len)
			return s->perms == perms && (const char *)s->hva + (gpa - s->gpa) == hva;
	}
	return false;
}

static void check_told(const struct gm_region_info *info)
{
	const char *hva = info->hva;

	must(!told[0].listener || is_told(&told[0], info));
	if (!told[1].listener || !gm_region_kind_is_memory(info->kind))
		return;
	must(hva && is_covered(&told[1], info->gpa, hva, info->perms));
	must(is_covered(&told[1], info->gpa + (info->len - 1), hva + (info->len - 1), info->perms));
}

/* The walk is what the model shows; sections are the walk, or the same joined. */
static void check_walk(void)
{
	struct model_shown shown[MODEL_POINTS];
	unsigned int nr = model_stretches(&map, shown);
	struct gm_region_info info = {.size = sizeof(info)};
	uint64_t memory = 0;
	uint64_t gpa = 0;

	for (unsigned int i = 0; i < nr; i++) {
		must(gm_space_next(space, gpa, &info) == 0);
		must(info.gpa == shown[i].first && info.off == shown[i].off);
		must(info.len == shown[i].last - shown[i].first + 1);
		must(info.id == map.nodes[shown[i].node].id && info.perms == shown[i].perms);
		must(info.kind == map.nodes[shown[i].node].kind);
		check_told(&info);
		memory += gm_region_kind_is_memory(info.kind) ? info.len : 0;
		gpa = info.gpa + info.len;
		must(gpa || i == nr - 1);
	}
	must((nr && gpa == 0) || gm_space_next(space, gpa, &info) == -ENOENT);
	must(!told[0].listener || told[0].nr == nr);
	for (unsigned int i = 0; told[1].listener && i < told[1].nr; i++)
		memory -= told[1].has[i].len;
	must(!told[1].listener || memory == 0);
}

/* ---- operations ---- */

static int read_device(void *ctx, uint64_t off, uint32_t size, uint64_t *ret_value)
{
	(void)ctx;
	must(size == 1);
	*ret_value = (uint8_t)off;
	return 0;
}

static int parent_of(const uint8_t *step)
{
	unsigned int pick = step[2] % 64;

	if (pick < MODEL_NODES && plan.nodes[pick].id)
		return (int)pick;
	return pick == 63 ? MODEL_DETACHED : MODEL_ROOT;
}

static bool is_absolute(int parent)
{
	return parent == MODEL_ROOT || (parent >= 0 && plan.nodes[parent].first == 0 &&
					       plan.nodes[parent].last == UINT64_MAX);
}

/* A place that does not leave its universe, so that the model sees all of it. */
static struct gm_range range_of(const uint8_t *step, int parent, uint64_t units)
{
	unsigned int point = step[4] % (is_absolute(parent) ? MODEL_POINTS : U_SIZE);
	uint64_t room = U_SIZE - point % U_SIZE;
	uint64_t first = model_address(&plan, point);

	if (units > room)
		units = room;
	return (struct gm_range){first, first + (units * plan.unit - 1)};
}

static struct model_node draw_node(const uint8_t *step)
{
	static const uint32_t kinds[] = {GM_REGION_RAM, GM_REGION_ROM, GM_REGION_RESERVED,
		GM_REGION_CONTAINER, GM_REGION_ALIAS, GM_REGION_MMIO, GM_REGION_ROMD,
		GM_REGION_PMEM};
	int parent = parent_of(step);
	struct gm_range range = range_of(step, parent, 1 + step[5] % U_SIZE);
	struct model_node node = {
		.parent = parent,
		.first = range.first,
		.last = range.last,
		.kind = kinds[step[3] % 8],
		.off = step[6] % 24 * PAGE,
		.target = step[1] % MODEL_NODES,
		.priority = (step[7] & 15) - 8,
		.enabled = (step[7] & 0x70) != 0x70,
		.block = step[3] & 8 ? 1 : 0,
	};

	if (node.kind == GM_REGION_ALIAS)
		node.off = step[6] % 20 * plan.unit;
	if (node.kind == GM_REGION_ROMD)
		node.block = 1;
	/* Memory is made of pages, so among bytes it is shown by aliases only. */
	if (gm_region_kind_is_memory(node.kind) && plan.unit < PAGE) {
		node.parent = MODEL_DETACHED;
		node.first = 0;
		node.last = (1 + step[5] % 4) * PAGE - 1;
	}
	if (node.kind == GM_REGION_CONTAINER && step[5] >= 0xf0) {
		node.first = 0;
		node.last = UINT64_MAX;
	}
	if (node.block)
		node.off = 0;
	return node;
}

/* If the library took it, nothing of equal priority may be in the way; if it says so, it is. */
static bool judge(int rc, const struct model_node *node, const struct gm_range *range, int self)
{
	bool clashes =
		node->enabled && model_clashes(&plan, node->parent, range, node->priority, self);

	must(rc <= 0 && (rc || !clashes) && (rc != -EEXIST || clashes));
	return rc == 0;
}

static void op_add(const uint8_t *step)
{
	static const struct gm_device_ops device = {
		.size = sizeof(device), .max_size = 1, .read = read_device};
	struct model_node node = draw_node(step);
	struct gm_range range = {node.first, node.last};
	struct gm_block_opts backing = {.size = sizeof(backing), .len = node.last - node.first + 1};
	struct gm_region_info info = {.size = sizeof(info)};
	bool memory = gm_region_kind_is_memory(node.kind);
	bool calls = has_device(&node) || node.kind == GM_REGION_ROMD;
	int at = model_unused(&plan);
	struct gm_region_desc desc = {
		.size = sizeof(desc),
		.gpa = node.first,
		.len = node.last - node.first + 1,
		.kind = node.kind,
		.block = memory && !node.block ? shared : NULL,
		.backing = memory && node.block ? &backing : NULL,
		.block_off = memory || node.kind == GM_REGION_ALIAS ? node.off : 0,
		.parent = node.parent >= 0            ? plan.nodes[node.parent].id
			  : node.parent == MODEL_ROOT ? 0
						      : GM_REGION_DETACHED,
		.target = node.kind == GM_REGION_ALIAS ? plan.nodes[node.target].id : 0,
		.device = calls ? &device : NULL,
		.priority = node.priority,
		.flags = node.enabled ? 0 : GM_REGION_DISABLED,
	};

	if (at < 0 || !judge(gm_txn_add(txn, &desc, &node.id, NULL), &node, &range, -1))
		return;
	must(gm_space_region(space, node.id, &info) == -ENOENT);
	node.perms = node.kind == GM_REGION_RESERVED ? 0 : GM_PERM_RWX;
	if (node.kind == GM_REGION_ROM)
		node.perms = GM_PERM_RX;
	plan.nodes[at] = node;
}

static void op_move(const uint8_t *step, int at, bool move)
{
	struct model_node *node = &plan.nodes[at];
	uint64_t units = (node->last - node->first) / plan.unit + 1;
	struct gm_range range;
	int rc;

	if (node->last - node->first >= U_SIZE * plan.unit)
		return;
	range = range_of(step, node->parent, move ? units : 1 + step[5] % U_SIZE);
	if (!move) {
		/* No further than the end of its universe. */
		uint64_t len = range.last - range.first;

		range = (struct gm_range){node->first, node->first + len};
		if (is_absolute(node->parent) && len > node->last - node->first)
			return;
	} else if (range.last - range.first != node->last - node->first) {
		return;
	}
	rc = move ? gm_txn_move(txn, node->id, range.first, NULL)
		  : gm_txn_resize(txn, node->id, range.last - range.first + 1, NULL);
	if (!judge(rc, node, &range, at))
		return;
	node->first = range.first;
	node->last = range.last;
}

static void op_shape(const uint8_t *step, int at)
{
	struct model_node *node = &plan.nodes[at];
	struct gm_range range = {node->first, node->last};
	struct model_node other = *node;

	switch (step[0] % 4) {
	case 0:
		other.perms = step[7] & GM_PERM_RWX;
		if (gm_txn_protect(txn, node->id, other.perms, NULL))
			return;
		break;
	case 1:
		other.enabled = step[7] & 1;
		if (!judge(gm_txn_enable(txn, node->id, other.enabled, NULL), &other, &range, at))
			return;
		break;
	case 2:
		other.priority = (step[7] & 15) - 8;
		if (!judge(gm_txn_prioritize(txn, node->id, other.priority, NULL), &other, &range,
			    at))
			return;
		break;
	default:
		other.off = step[6] % 20 * plan.unit;
		if (gm_txn_retarget(txn, node->id, other.off, NULL))
			return;
		must(node->kind == GM_REGION_ALIAS);
	}
	*node = other;
}

static void op_replace(const uint8_t *step, int at)
{
	struct model_node *node = &plan.nodes[at];
	uint64_t off = step[6] % 24 * PAGE;
	const struct gm_region_desc desc = {
		.size = sizeof(desc), .gpa = node->first, .block = shared, .block_off = off};

	if (gm_txn_replace(txn, node->id, &desc, NULL))
		return;
	must(gm_region_kind_is_memory(node->kind));
	node->block = 0;
	node->off = off;
}

static void op_remove(int at)
{
	int rc = gm_txn_remove(txn, plan.nodes[at].id, NULL);

	must(rc == (model_is_used(&plan, at) ? -EBUSY : 0));
	if (rc == 0)
		plan.nodes[at] = (struct model_node){.id = 0};
}

/* ---- transactions ---- */

/* With a refusal on the way it may fail, and then nothing has changed. */
static void end_txn(bool commits, uint8_t refuse)
{
	int rc = -1;

	for (unsigned int i = 0; i < 2; i++) {
		told[i].refused = false;
		told[i].refuse = refuse >> (4 * i) & 15;
	}
	if (commits)
		rc = gm_txn_commit(txn, NULL);
	must(!commits || rc == 0 || told[0].refused || told[1].refused);
	told[0].refuse = told[1].refuse = 0;
	if (rc == 0)
		map = plan;
	else
		check_walk();
	if (rc)
		gm_txn_abort(txn);
	txn = NULL;
	plan = map;
	check_walk();
	check_points();
}

static void toggle(unsigned int which, uint8_t flags)
{
	if (told[which].listener)
		detach(which);
	else
		attach(which, flags);
}

static void one_step(const uint8_t *step)
{
	unsigned int op = step[0] % 32;
	int at = step[1] % MODEL_NODES;

	if (op == 31 && !txn)
		toggle(step[1] & 1, step[7]);
	if (!txn)
		must(gm_txn_begin(space, &txn, NULL) == 0);
	if (op >= 27) {
		end_txn(op != 30, op == 29 ? step[7] : 0);
		return;
	}
	if (op >= 16) {
		op_add(step);
		return;
	}
	if (!plan.nodes[at].id)
		return;
	if (op < 2)
		op_remove(at);
	else if (op < 6)
		op_move(step, at, op < 4);
	else if (op < 14)
		op_shape(step, at);
	else
		op_replace(step, at);
}

static void make_shared(void)
{
	const struct gm_block_opts opts = {
		.size = sizeof(opts), .len = BLOCK_PAGES * PAGE, .flags = GM_BLOCK_SHARE};
	struct gm_block_info info = {.size = sizeof(info)};

	must(gm_block_create(&opts, &shared, NULL) == 0 && gm_block_info(shared, &info) == 0);
	for (uint64_t i = 0; i < info.len; i++)
		((uint8_t *)info.hva)[i] = tag(i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gm_space_opts opts = {.size = sizeof(opts)};

	if (size < STEP)
		return 0;
	if (!shared)
		make_shared();
	memset(&map, 0, sizeof(map));
	memset(told, 0, sizeof(told));
	map.unit = data[0] & 1 ? PAGE : 1;
	opts.gpa_limit = data[0] & 2 ? UINT64_C(1) << 30 : GM_SPACE_NO_WINDOW;
	plan = map;
	must(gm_space_create(&opts, &space, NULL) == 0);
	must(gm_reader_create(space, NULL, &reader, NULL) == 0);
	for (unsigned int i = 0; i < 2; i++) {
		if (data[0] & 4u << i)
			attach(i, data[1 + i]);
	}
	for (size_t at = STEP; at + STEP <= size && at < STEP * STEPS_MAX; at += STEP)
		one_step(data + at);
	if (txn)
		end_txn(true, 0);
	for (unsigned int i = 0; i < 2; i++) {
		if (told[i].listener)
			detach(i);
	}
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	return 0;
}
