/* SPDX-License-Identifier: BSD-3-Clause */
/* tree_compare.c - see tree_run.h. */
#include <errno.h>
#include <string.h>

#include "memory/render.h"
#include "memory/space.h"
#include "sys/sys.h"
#include "tree_run.h"

/* ---- bytes ---- */

static uint64_t word_at(int block, uint64_t off)
{
	return (off + (uint64_t)block * 0x1000003 + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

static uint8_t byte_at(int block, uint64_t off)
{
	return (uint8_t)(word_at(block, off & ~UINT64_C(7)) >> (off & 7) * 8);
}

void tree_fill_block(int block)
{
	struct gm_block_info info = {.size = sizeof(info)};

	assert_int_equal(gm_block_info(tree.blocks[block], &info), 0);
	for (uint64_t off = 0; off < info.len; off += 8) {
		uint64_t word = word_at(block, off);

		memcpy((char *)info.hva + off, &word, sizeof(word));
	}
}

/* ---- stretches ---- */

static void check_memory(const struct gm_region_info *info, const struct model_shown *shown)
{
	const struct model_node *node = &tree.map.nodes[shown->node];
	uint64_t off = node->off + shown->off;

	tree_check(info->block == tree.blocks[node->block] && info->block_off == off);
	tree_check(info->hva && *(const uint8_t *)info->hva == byte_at(node->block, off));
	tree_figures.placed += info->placed;
}

static void check_stretch(const struct gm_region_info *info, const struct model_shown *shown)
{
	const struct model_node *node = &tree.map.nodes[shown->node];

	if (info->id != node->id || info->gpa != shown->first ||
		info->len != shown->last - shown->first + 1 || info->off != shown->off ||
		info->perms != shown->perms)
		fail_msg("seed %lu step %lu: region %lx shows at %#lx +%#lx from %#lx (%x), not "
			 "%lx at %#lx +%#lx from %#lx (%x)",
			(unsigned long)tree.seed, tree.step, info->id, info->gpa, info->len,
			info->off, info->perms, node->id, shown->first,
			shown->last - shown->first + 1, shown->off, shown->perms);
	tree_check(info->part == shown->part && info->granule == node->granule);
	tree_check(info->private_block == (node->has_private ? tree.blocks[0] : NULL));
	tree_check(info->private_off == (node->has_private ? TREE_PRIVATE_OFF + shown->off : 0));
	tree_check(info->kind == node->kind && info->label == node->label);
	tree_check(info->priority == node->priority && info->flags == 0);
	if (model_is_memory(node))
		check_memory(info, shown);
	else
		tree_check(!info->block && !info->hva && !info->placed);
}

static void check_walk(const struct model_shown *shown, unsigned int nr)
{
	struct gm_region_info info = {.size = sizeof(info)};
	uint64_t gpa = 0;

	for (unsigned int i = 0; i < nr; i++) {
		tree_check(gm_space_next(tree.space, gpa, &info) == 0);
		check_stretch(&info, &shown[i]);
		gpa = info.gpa + info.len;
		/* Behind the last address there is nothing. */
		tree_check(gpa || i == nr - 1);
	}
	tree_check((nr && gpa == 0) || gm_space_next(tree.space, gpa, &info) == -ENOENT);
}

/* ---- what a view says ---- */

static int code_for(const struct model_shown *shown, uint32_t perms)
{
	if (shown->node < 0 || !model_is_memory(&tree.map.nodes[shown->node]) ||
		shown->part == GM_PART_UNPLUGGED)
		return -EFAULT;
	if (shown->part == GM_PART_PRIVATE)
		return -EACCES;
	return perms & ~shown->perms ? -EACCES : 0;
}

static void check_read(const struct gm_view *view, const struct model_shown *shown, uint64_t gpa)
{
	uint64_t skip = gpa - shown->first;
	uint64_t word = 0;
	uint8_t byte = 0;
	int code = code_for(shown, GM_PERM_R);
	uint64_t off = code ? 0 : tree.map.nodes[shown->node].off + shown->off + skip;
	int block = code ? 0 : tree.map.nodes[shown->node].block;

	tree_check(gm_read_u8(view, gpa, &byte) == code);
	tree_check(code || byte == byte_at(block, off));
	if (tree.map.unit < 8)
		return;
	tree_check(gm_read_u64(view, gpa & ~UINT64_C(7), &word) == code);
	tree_check(code || word == word_at(block, off & ~UINT64_C(7)));
	tree_figures.reads++;
}

/* A range must be answered as the first of its addresses that is not right. */
static void check_range(const struct gm_view *view, const struct model_shown *points)
{
	unsigned int from = tree_below(MODEL_POINTS);
	unsigned int nr = 1 + tree_below(U_SIZE - from % U_SIZE);
	uint32_t perms = tree_below(8);
	int code = 0;

	for (unsigned int i = 0; i < nr && !code; i++)
		code = code_for(&points[from + i], perms);
	tree_check(gm_view_check(view, points[from].first, nr * tree.map.unit, perms) == code);
}

/* The same stretches as the space tells of, without its lock. */
static void check_pieces(
	const struct gm_view *view, const struct model_shown *shown, unsigned int nr)
{
	struct gm_piece_info piece = {.size = sizeof(piece)};
	struct gm_view_info sum = {.size = sizeof(sum)};
	struct gm_view_info info = {.size = sizeof(info)};
	uint64_t gpa = 0;

	for (unsigned int i = 0; i < nr; i++) {
		const struct model_node *node = &tree.map.nodes[shown[i].node];
		uint64_t len = shown[i].last - shown[i].first + 1;

		tree_check(gm_view_next(view, gpa, &piece) == 0);
		tree_check(piece.gpa == shown[i].first && piece.len == len);
		tree_check(piece.id == node->id && piece.off == shown[i].off);
		tree_check(piece.kind == node->kind && piece.perms == shown[i].perms);
		tree_check(piece.part == shown[i].part);
		gpa = piece.gpa + piece.len;
		sum.memory += model_is_memory(node);
		sum.memory_len += model_is_memory(node) ? len : 0;
		sum.memory_last = model_is_memory(node) ? shown[i].last : sum.memory_last;
	}
	tree_check((nr && gpa == 0) || gm_view_next(view, gpa, &piece) == -ENOENT);
	tree_check(gm_view_info(view, &info) == 0);
	tree_check(info.pieces == nr && info.generation == gm_view_generation(view));
	tree_check(info.first == (nr ? shown[0].first : 0));
	tree_check(info.last == (nr ? shown[nr - 1].last : 0));
	tree_check(info.memory == sum.memory && info.memory_len == sum.memory_len);
	tree_check(info.memory_last == sum.memory_last);
}

static void check_place(const struct gm_view *view, const struct model_shown *shown, uint64_t gpa)
{
	uint64_t id = 77;
	uint64_t off = 77;
	int rc = gm_view_region(view, gpa, &id, &off);

	if (shown->node < 0) {
		tree_check(rc == -EFAULT && id == 77 && off == 77);
		return;
	}
	tree_check(rc == 0 && id == tree.map.nodes[shown->node].id);
	tree_check(off == shown->off + (gpa - shown->first));
}

static void check_view(const struct model_shown *stretches, unsigned int nr)
{
	const struct gm_view *view = gm_reader_enter(tree.reader);
	struct model_shown points[MODEL_POINTS];

	for (unsigned int i = 0; i < MODEL_POINTS; i++) {
		uint64_t within = rng_below(&tree.rng, tree.map.unit);
		uint32_t perms = tree_below(8);
		struct model_shown *shown = &points[i];

		*shown = model_show(&tree.map, model_address(&tree.map, i));
		tree_check(gm_view_check(view, shown->first + within, 0, perms) ==
			   code_for(shown, perms));
		check_read(view, shown, shown->first + within);
		check_place(view, shown, shown->first + within);
	}
	check_range(view, points);
	check_pieces(view, stretches, nr);
	gm_reader_leave(tree.reader);
}

/* ---- regions ---- */

static uint64_t parent_id(const struct model *m, int parent)
{
	if (parent == MODEL_ROOT)
		return 0;
	return parent == MODEL_DETACHED ? GM_REGION_DETACHED : m->nodes[parent].id;
}

static void check_parts(const struct model_node *node, const struct gm_region_info *info)
{
	uint64_t bytes[3] = {0};
	uint64_t nr = node->granule ? (node->last - node->first + 1) / node->granule : 0;

	tree_check(info->granule == node->granule && info->part == node->part);
	for (uint64_t i = 0; i < nr; i++)
		bytes[node->parts[i]] += node->granule;
	tree_check(info->unplugged == bytes[GM_PART_UNPLUGGED]);
	tree_check(info->private_len == bytes[GM_PART_PRIVATE]);
	for (uint64_t i = 0; i < nr; i++) {
		uint64_t end = i + 1;
		uint64_t len = 0;
		uint32_t state = 9;

		while (end < nr && node->parts[end] == node->parts[i])
			end++;
		tree_check(gm_space_part(
				   tree.space, node->id, i * node->granule + i, &state, &len) == 0);
		tree_check(state == node->parts[i] && len == (end - i) * node->granule - i);
	}
}

static void check_region(const struct model_node *node)
{
	struct gm_region_info info = {.size = sizeof(info)};

	tree_check(gm_space_region(tree.space, node->id, &info) == 0);
	tree_check(info.id == node->id && info.gpa == node->first);
	tree_check(info.len == node->last - node->first + 1 && info.kind == node->kind);
	tree_check(info.perms == node->perms && info.priority == node->priority);
	tree_check(info.flags == (node->enabled ? 0 : GM_REGION_DISABLED));
	tree_check(info.label == node->label);
	check_parts(node, &info);
	tree_check(info.parent == parent_id(&tree.map, node->parent));
	if (node->kind == GM_REGION_ALIAS)
		tree_check(info.target == tree.map.nodes[node->target].id);
	else
		tree_check(info.target == 0);
	if (model_is_memory(node))
		tree_check(info.block == tree.blocks[node->block]);
	else
		tree_check(!info.block && !info.hva);
	tree_check(info.block_off == node->off);
	if (info.hva)
		tree_check(*(const uint8_t *)info.hva == byte_at(node->block, node->off));
}

static void check_regions(void)
{
	struct gm_region_info info = {.size = sizeof(info)};

	for (int i = 0; i < MODEL_NODES; i++) {
		uint64_t planned = tree.plan.nodes[i].id;

		if (tree.map.nodes[i].id)
			check_region(&tree.map.nodes[i]);
		/* What is only planned does not exist. */
		if (planned && model_find(&tree.map, planned) < 0)
			tree_check(gm_space_region(tree.space, planned, &info) == -ENOENT);
	}
}

void tree_compare(void)
{
	struct model_shown shown[MODEL_POINTS];
	unsigned int nr = model_stretches(&tree.map, shown);

	check_walk(shown, nr);
	check_view(shown, nr);
	if (tree.checks_regions)
		check_regions();
	tree_figures.stretches += nr;
	tree_figures.trees++;
}

void tree_compare_whole(void)
{
	const struct gm_view *view = tree.space->view;
	struct gm_range all = {0, UINT64_MAX};
	struct gm_pieces pieces;
	uint64_t gpa = 0;

	tree_check(gm_render(tree.space->root, &all, &pieces) == 0);
	for (size_t i = 0; i < pieces.nr; i++) {
		const struct gm_piece *piece = &pieces.items[i];
		uint64_t off;
		const struct gm_span *span = gm_table_next(view, gpa, &off);

		tree_check(span);
		if (!span)
			break;
		tree_check(span->first == piece->range.first && span->last == piece->range.last);
		tree_check(span->node == gm_node_index(piece->node) && off == piece->off);
		tree_check(span->perms == piece->perms);
		gpa = span->last + 1;
		tree_check(gpa || i == pieces.nr - 1);
	}
	tree_check(((const struct gm_view_full *)(const void *)view)->nr_spans == pieces.nr);
	gm_sys_free(pieces.items);
}
