/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_tree.c - trees of regions against an oracle that asks each address who shows there.
 *
 * All small trees; and random ones, changed by transactions of right and wrong operations that are
 * committed or dropped. After each the walk over what shows, the questions to a view, the bytes and
 * the regions must be those of the model, and what was published by differences must be what is
 * flattened as a whole.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tree_run.h"

#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)
#define COMMITS 70u

struct tree_run tree;
struct tree_figures tree_figures;
struct gm_error err;

static void start(uint64_t seed, uint64_t unit, uint64_t gpa_limit)
{
	tree.seed = seed;
	tree.step = 0;
	tree.rng = (struct rng){seed};
	memset(&tree.map, 0, sizeof(tree.map));
	tree.map.unit = unit;
	tree.plan = tree.map;
	memset(tree.was_used, 0, sizeof(tree.was_used));
	assert_ok(
		gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = gpa_limit), &tree.space, &err));
	assert_ok(gm_reader_create(tree.space, "oracle", &tree.reader, &err));
	for (int i = 0; i < TREE_BLOCKS; i++) {
		if (tree.blocks[i])
			continue;
		assert_ok(gm_block_create(
			BLOCK(.len = TREE_BLOCK_PAGES * TREE_PAGE, .flags = i ? 0 : GM_BLOCK_SHARE),
			&tree.blocks[i], &err));
		tree_fill_block(i);
	}
}

static void stop(void)
{
	gm_reader_destroy(tree.reader);
	gm_space_destroy(tree.space);
}

static void drop_blocks(void)
{
	for (int i = 0; i < TREE_BLOCKS; i++) {
		gm_block_put(tree.blocks[i]);
		tree.blocks[i] = NULL;
	}
}

/* ---- random trees ---- */

static void one_transaction(void)
{
	unsigned int nr = 1 + tree_below(tree_below(4) ? 2 : 6);
	struct gm_txn *txn;
	bool looks;

	tree.step++;
	tree.checks_regions = tree_below(4) == 0;
	looks = tree_below(16) == 0;
	tree.plan = tree.map;
	assert_ok(gm_txn_begin(tree.space, &txn, &err));
	for (unsigned int i = 0; i < nr; i++) {
		tree_operate(txn);
		if (looks)
			tree_compare();
	}
	if (tree_below(8) == 0) {
		gm_txn_abort(txn);
		tree.plan = tree.map;
	} else {
		assert_ok(gm_txn_commit(txn, &err));
		tree.map = tree.plan;
	}
	tree_compare();
	tree_compare_whole();
}

static void one_run(uint64_t seed, uint64_t unit, uint64_t gpa_limit)
{
	start(seed, unit, gpa_limit);
	for (unsigned int i = 0; i < COMMITS; i++)
		one_transaction();
	stop();
}

static void random_trees_of_bytes_show_what_the_oracle_says(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < support_scale(950); i++)
		one_run(test_seed(10000) + i, 1, GM_SPACE_NO_WINDOW);
	drop_blocks();
}

static void random_trees_of_pages_show_the_bytes_of_their_blocks(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < support_scale(400); i++)
		one_run(test_seed(20000000) + i, TREE_PAGE, GM_SPACE_NO_WINDOW);
	drop_blocks();
}

static void random_trees_show_the_same_in_a_window(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < support_scale(150); i++)
		one_run(test_seed(30000000) + i, TREE_PAGE, GIB(1));
	assert_true(tree_figures.placed > 0);
	drop_blocks();
}

/* ---- all small trees ---- */

/* Takes one of @n off a number that stands for a choice of everything. */
static unsigned int choose(unsigned long *choice, unsigned int n)
{
	unsigned int chosen = (unsigned int)(*choice % n);

	*choice /= n;
	return chosen;
}

/* One of the ranges in the first @size addresses. */
static struct u_range choose_range(unsigned long *choice, unsigned int size)
{
	unsigned int nth = choose(choice, size * (size + 1) / 2);
	struct u_range r = {0, 0};

	while (nth >= size - r.first)
		nth -= size - r.first++;
	r.last = r.first + nth;
	return r;
}

/* Lies the node of a small tree where it may? */
static bool may_be_added(const struct model *m, const struct model_node *node)
{
	struct gm_range range = {node->first, node->last};

	if (node->parent >= 0 && m->nodes[node->parent].kind == GM_REGION_ALIAS)
		return false;
	if (model_clashes(m, node->parent, &range, node->priority, -1))
		return false;
	if (node->kind != GM_REGION_ALIAS)
		return true;
	return !model_leads_to(m, node->target, node->parent) &&
	       node->off + (node->last - node->first) <=
		       m->nodes[node->target].last - m->nodes[node->target].first;
}

/* Plans the nodes of @m, which have no numbers yet; true if all of them may be. */
static bool plan_small(struct gm_txn *txn, const struct model_node *nodes, int nr)
{
	for (int i = 0; i < nr; i++) {
		const struct model_node *node = &nodes[i];
		bool alias = node->kind == GM_REGION_ALIAS;
		bool right = may_be_added(&tree.plan, node);
		struct gm_region_desc desc = {
			.size = sizeof(desc),
			.gpa = node->first,
			.len = node->last - node->first + 1,
			.kind = node->kind,
			.block_off = node->off,
			.parent = node->parent < 0 ? 0 : tree.plan.nodes[node->parent].id,
			.target = alias ? tree.plan.nodes[node->target].id : 0,
			.priority = node->priority,
		};

		tree.plan.nodes[i] = *node;
		tree.plan.nodes[i].enabled = true;
		tree_check((gm_txn_add(txn, &desc, &tree.plan.nodes[i].id, &err) == 0) == right);
		if (!right)
			return false;
	}
	return true;
}

/* Makes a small tree, looks at it, and takes it away again. */
static void try_small(const struct model_node *nodes, int nr)
{
	struct gm_txn *txn;

	memset(tree.plan.nodes, 0, sizeof(tree.plan.nodes));
	assert_ok(gm_txn_begin(tree.space, &txn, &err));
	if (!plan_small(txn, nodes, nr)) {
		gm_txn_abort(txn);
		return;
	}
	assert_ok(gm_txn_commit(txn, &err));
	tree.map = tree.plan;
	tree_compare();
	assert_ok(gm_txn_begin(tree.space, &txn, &err));
	for (int i = nr - 1; i >= 0; i--)
		assert_ok(gm_txn_remove(txn, tree.map.nodes[i].id, &err));
	assert_ok(gm_txn_commit(txn, &err));
	memset(tree.map.nodes, 0, sizeof(tree.map.nodes));
}

/* Three nodes of each kind in and over each other, over as many addresses as given. */
static bool draw_three(unsigned long choice, unsigned int size, struct model_node nodes[3])
{
	static const uint32_t kinds[] = {
		GM_REGION_RESERVED, GM_REGION_CONTAINER, GM_REGION_ALIAS, GM_REGION_ALIAS};
	static const int32_t ranks[6][3] = {
		{1, 2, 3}, {1, 3, 2}, {2, 1, 3}, {2, 3, 1}, {3, 1, 2}, {3, 2, 1}};
	unsigned int base = choose(&choice, NR_UNIVERSES) * U_SIZE;
	const int32_t *rank = ranks[choose(&choice, 6)];

	for (int i = 0; i < 3; i++) {
		/* At the top the last of the addresses must be among them. */
		unsigned int at = base == (NR_UNIVERSES - 1) * U_SIZE ? U_SIZE - size : 0;
		struct u_range r = choose_range(&choice, size);
		unsigned int kind = choose(&choice, (unsigned int)i + 2);
		unsigned int parent = choose(&choice, (unsigned int)i + 1);
		unsigned int off = choose(&choice, 2);
		uint64_t zero = parent ? 0 : model_address(&tree.map, base + at);

		if (off && kinds[kind] != GM_REGION_ALIAS)
			return false;
		nodes[i] = (struct model_node){
			.first = zero + r.first,
			.last = zero + r.last,
			.off = off,
			.parent = (int)parent - 1,
			.target = (int)kind - 2,
			.kind = kinds[kind],
			.priority = rank[i],
			.perms = kinds[kind] == GM_REGION_RESERVED ? 0 : GM_PERM_RWX,
		};
	}
	return true;
}

/* 3 universes, 6 ranks; ranges, kinds, parents and offsets of three nodes. */
static unsigned long choices(unsigned int size)
{
	unsigned long ranges = (unsigned long)size * (size + 1) / 2;

	return ranges * ranges * ranges * 3 * 6 * (2UL * 3 * 4) * (1UL * 2 * 3) * 8;
}

/* Each @step-th of all trees of three nodes; all of them when the scale is as large. */
static void try_threes(unsigned int size, unsigned long step)
{
	unsigned long scale = support_scale(1);
	struct model_node nodes[3];

	start(size, 1, GM_SPACE_NO_WINDOW);
	for (unsigned long i = 0; i < choices(size); i += scale < step ? step / scale : 1) {
		tree.step = i;
		if (draw_three(i, size, nodes))
			try_small(nodes, 3);
	}
	stop();
}

static void all_trees_of_three_over_three_addresses(void **state)
{
	(void)state;
	try_threes(3, 53);
}

static void trees_of_three_over_sixteen_addresses(void **state)
{
	(void)state;
	/* 5 * 10^10: no scale tries all of them. */
	try_threes(U_SIZE, 1300021);
}

/* Else the tests above look at less than they seem to. */
static void every_operation_has_worked_and_been_refused(void **state)
{
	const char *name;

	(void)state;
	if (getenv("GM_SOAK"))
		printf("figure: random-trees %lu\n", tree_figures.trees);
	for (unsigned int i = 0; (name = tree_operation_name(i)); i++) {
		if (tree_figures.ok[i] < 100 || tree_figures.refused[i] < 20)
			fail_msg("%s: %lu worked, %lu were refused", name, tree_figures.ok[i],
				tree_figures.refused[i]);
	}
	assert_true(tree_figures.stretches > 3 * tree_figures.trees);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_trees_of_three_over_three_addresses),
		cmocka_unit_test(trees_of_three_over_sixteen_addresses),
		cmocka_unit_test(random_trees_of_bytes_show_what_the_oracle_says),
		cmocka_unit_test(random_trees_of_pages_show_the_bytes_of_their_blocks),
		cmocka_unit_test(random_trees_show_the_same_in_a_window),
		cmocka_unit_test(every_operation_has_worked_and_been_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
