/* SPDX-License-Identifier: BSD-3-Clause */
/* tree_ops.c - see tree_run.h. */
#include <errno.h>
#include <string.h>

#include "tree_run.h"

#define CODES_MAX 8

/* What may come of an operation: 0 if nothing is wrong with it, else one of these. */
struct verdict {
	int codes[CODES_MAX];
	int nr;
	bool may_be_busy; /* a block that readers of old views may still see */
};

static void wrong(struct verdict *v, bool is_wrong, int code)
{
	if (is_wrong && v->nr < CODES_MAX)
		v->codes[v->nr++] = code;
}

/* True if it worked. */
static bool judge(const struct verdict *v, int rc, unsigned int which)
{
	bool expected = v->nr == 0 && rc == 0;

	for (int i = 0; i < v->nr; i++)
		expected |= rc == v->codes[i];
	if (!expected && !(v->may_be_busy && rc == -EBUSY))
		fail_msg("seed %lu step %lu: %s returned %d (%s), expected %d of %d",
			(unsigned long)tree.seed, tree.step, tree_operation_name(which), rc,
			rc ? err.text : "", v->nr ? v->codes[0] : 0, v->nr);
	(rc ? tree_figures.refused : tree_figures.ok)[which]++;
	return rc == 0;
}

/* ---- choices ---- */

static int any_node(void)
{
	int start = (int)tree_below(MODEL_NODES);

	for (int i = 0; i < MODEL_NODES; i++) {
		int index = (start + i) % MODEL_NODES;

		if (tree.plan.nodes[index].id)
			return index;
	}
	return -1;
}

/* One for which @suits holds, more likely than not. */
static int any_such(bool (*suits)(const struct model_node *))
{
	int index = any_node();

	for (int i = 0; i < 6 && index >= 0 && !suits(&tree.plan.nodes[index]); i++)
		index = any_node();
	return index;
}

static bool is_alias(const struct model_node *node)
{
	return node->kind == GM_REGION_ALIAS;
}

static bool is_whole(const struct model_node *node)
{
	return node->first == 0 && node->last == UINT64_MAX;
}

/* Does a child's address count from the beginning of the space? */
static bool is_absolute(int parent)
{
	return parent == MODEL_ROOT || (parent >= 0 && is_whole(&tree.plan.nodes[parent]));
}

static uint64_t any_address(int parent, unsigned int at)
{
	unsigned int which = is_absolute(parent) ? U_SIZE * tree_below(NR_UNIVERSES) : 0;

	return model_address(&tree.plan, which + at);
}

/* Units in which most children of @parent begin. */
static unsigned int likely_room(int parent)
{
	uint64_t units = U_SIZE;

	if (parent >= 0 && !is_absolute(parent) && tree_below(4))
		units = (tree.plan.nodes[parent].last - tree.plan.nodes[parent].first) /
				tree.plan.unit +
			1;
	return units < U_SIZE ? (unsigned int)units : U_SIZE;
}

static struct gm_range any_range(int parent)
{
	unsigned int at = tree_below(likely_room(parent));
	unsigned int nr = 1 + tree_below(tree_below(2) ? U_SIZE - at : (U_SIZE - at + 3) / 4);
	uint64_t first = any_address(parent, at);

	return (struct gm_range){first, first + (nr * tree.plan.unit - 1)};
}

static uint64_t any_target_off(const struct model_node *target)
{
	if (is_whole(target))
		return any_address(MODEL_ROOT, tree_below(U_SIZE));
	if (target->last - target->first >= U_SIZE * tree.plan.unit)
		return rng_below(&tree.rng, target->last - target->first);
	if (tree_below(8) == 0)
		return tree_below(U_SIZE + 2) * tree.plan.unit;
	/* Inside, most likely at its begin. */
	return tree_below(4) ? tree_below(4) * tree.plan.unit : tree_below(U_SIZE) * tree.plan.unit;
}

static uint32_t any_kind(void)
{
	static const uint32_t kinds[] = {GM_REGION_RESERVED, GM_REGION_RESERVED, GM_REGION_RESERVED,
		GM_REGION_RAM, GM_REGION_RAM, GM_REGION_ROM, GM_REGION_CONTAINER,
		GM_REGION_CONTAINER, GM_REGION_ALIAS, GM_REGION_ALIAS, GM_REGION_ALIAS};

	return kinds[tree_below(sizeof(kinds) / sizeof(*kinds))];
}

static uint32_t any_perms(uint32_t kind)
{
	if (kind == GM_REGION_RESERVED)
		return 0;
	if (kind == GM_REGION_ROM)
		return tree_below(2) ? GM_PERM_R : GM_PERM_RX;
	return tree_below(2) ? GM_PERM_RWX : 1 + tree_below(7);
}

static int any_parent(void)
{
	unsigned int pick = tree_below(8);
	int node = any_node();

	if (pick < 4 || node < 0)
		return MODEL_ROOT;
	return pick == 4 && tree_below(2) ? MODEL_DETACHED : node;
}

/* ---- verdicts ---- */

static uint64_t extent(const struct model_node *node)
{
	return node->last - node->first;
}

static bool is_past_target(const struct model_node *alias, const struct gm_range *range)
{
	uint64_t room = extent(&tree.plan.nodes[alias->target]);

	return alias->off > room || range->last - range->first > room - alias->off;
}

static bool is_past_block(const struct model_node *node, const struct gm_range *range)
{
	uint64_t room = TREE_BLOCK_PAGES * TREE_PAGE;

	return node->off > room || range->last - range->first >= room - node->off;
}

/* What a place of its own may be wrong with, for a node as it is planned to be. */
static void judge_place(
	struct verdict *v, const struct model_node *node, const struct gm_range *range, int self)
{
	wrong(v,
		node->enabled &&
			model_clashes(&tree.plan, node->parent, range, node->priority, self),
		-EEXIST);
	wrong(v, node->kind == GM_REGION_ALIAS && is_past_target(node, range), -ERANGE);
	wrong(v, model_is_memory(node) && is_past_block(node, range), -ERANGE);
	wrong(v,
		model_is_memory(node) &&
			((range->first | (range->last + 1) | node->off) & (TREE_PAGE - 1)),
		-EINVAL);
	wrong(v, node->granule && (range->last - range->first + 1) & (node->granule - 1), -EINVAL);
}

static void judge_block(struct verdict *v, const struct model_node *node)
{
	if (!model_is_memory(node) || node->block == 0)
		return;
	for (int i = 0; i < MODEL_NODES; i++) {
		const struct model_node *other = &tree.plan.nodes[i];

		wrong(v, other->id && model_is_memory(other) && other->block == node->block,
			-EBUSY);
	}
	v->may_be_busy = tree.was_used[node->block];
	tree.was_used[node->block] = true;
}

/* Where two of one priority meet is told if nothing else is wrong. */
static void check_clash(const struct verdict *v, int rc, const struct model_node *node,
	const struct gm_range *range, int self)
{
	if (rc == -EEXIST && v->nr == 1)
		tree_check(err.gpa ==
			   model_clash_at(&tree.plan, node->parent, range, node->priority, self));
}

/* ---- operations ---- */

static void pick_memory(struct model_node *node)
{
	unsigned int pages = 1 + tree_below(U_SIZE);

	if (!model_is_memory(node))
		return;
	node->block = tree_below(3) ? 0 : 1 + (int)tree_below(TREE_BLOCKS - 1);
	node->off = (uint64_t)tree_below(TREE_BLOCK_PAGES - 12) * TREE_PAGE;
	if (node->block && tree_below(2))
		node->off = 0;
	if (tree.plan.unit == TREE_PAGE)
		return;
	/* Larger than a universe of bytes: it is shown by aliases. */
	node->parent = MODEL_DETACHED;
	node->first = 0;
	node->last = pages * TREE_PAGE - 1;
}

static uint32_t any_part(const struct model_node *node)
{
	return tree_below(node->has_private ? 3 : 2);
}

static void fill_parts(struct model_node *node, uint64_t from, uint64_t to, uint32_t state)
{
	for (uint64_t i = from / node->granule; i < to / node->granule; i++)
		node->parts[i] = (uint8_t)state;
}

/* A region of no more parts than the model can keep. */
static void pick_parts(struct model_node *node)
{
	if (!model_is_memory(node) || tree_below(2))
		return;
	node->granule = TREE_PAGE << (tree_below(4) == 0);
	node->has_private = tree_below(2);
	node->part = tree_below(2) ? GM_PART_SHARED : any_part(node);
	memset(node->parts, (int)node->part, sizeof(node->parts));
}

static struct model_node draw_node(void)
{
	int parent = any_parent();
	struct gm_range range = any_range(parent);
	struct model_node node = {
		.parent = parent,
		.first = range.first,
		.last = range.last,
		.kind = any_kind(),
		.priority = (int32_t)tree_below(13) - 6,
		.enabled = tree_below(12) != 0,
		.label = rng_next(&tree.rng),
		.target = -1,
	};

	node.perms = any_perms(node.kind);
	if (node.kind == GM_REGION_ALIAS && any_node() >= 0) {
		node.target = any_node();
		node.off = any_target_off(&tree.plan.nodes[node.target]);
	} else if (node.kind == GM_REGION_ALIAS) {
		node.kind = GM_REGION_CONTAINER;
	}
	if (node.kind == GM_REGION_CONTAINER && tree_below(4) == 0) {
		node.first = 0;
		node.last = UINT64_MAX;
	}
	pick_memory(&node);
	pick_parts(&node);
	return node;
}

static void op_add(struct gm_txn *txn, unsigned int which)
{
	struct model_node node = draw_node();
	struct gm_range range = {node.first, node.last};
	int at = model_unused(&tree.plan);
	struct model_node *parent = node.parent >= 0 ? &tree.plan.nodes[node.parent] : NULL;
	bool alias = is_alias(&node);
	struct gm_region_desc desc = {
		.size = sizeof(desc),
		.gpa = node.first,
		.len = node.last - node.first + 1,
		.kind = node.kind,
		.perms = node.perms,
		.block = model_is_memory(&node) ? tree.blocks[node.block] : NULL,
		.block_off = node.off,
		.parent = parent                      ? parent->id
			  : node.parent == MODEL_ROOT ? 0
						      : GM_REGION_DETACHED,
		.target = alias ? tree.plan.nodes[node.target].id : 0,
		.priority = node.priority,
		.flags = node.enabled ? 0 : GM_REGION_DISABLED,
		.label = node.label,
		.granule = node.granule,
		.part = node.part,
		.private_block = node.has_private ? tree.blocks[0] : NULL,
		.private_off = node.has_private ? TREE_PRIVATE_OFF : 0,
	};
	struct verdict v = {.nr = 0};
	int rc;

	if (at < 0)
		return;
	wrong(&v, parent && parent->kind == GM_REGION_ALIAS, -EINVAL);
	wrong(&v, alias && model_leads_to(&tree.plan, node.target, node.parent), -ELOOP);
	judge_place(&v, &node, &range, -1);
	judge_block(&v, &node);
	rc = gm_txn_add(txn, &desc, &node.id, &err);
	check_clash(&v, rc, &node, &range, -1);
	if (judge(&v, rc, which))
		tree.plan.nodes[at] = node;
}

static void op_remove(struct gm_txn *txn, unsigned int which)
{
	int at = any_node();
	struct verdict v = {.nr = 0};

	if (at < 0)
		return;
	wrong(&v, model_is_used(&tree.plan, at), -EBUSY);
	if (judge(&v, gm_txn_remove(txn, tree.plan.nodes[at].id, &err), which))
		tree.plan.nodes[at] = (struct model_node){.id = 0};
}

/* How many units lie from @addr to the end of its universe. */
static unsigned int room_at(uint64_t addr)
{
	for (unsigned int point = MODEL_POINTS; point-- > 0;) {
		if (model_address(&tree.plan, point) <= addr)
			return U_SIZE - point % U_SIZE;
	}
	return 0;
}

/* What shows must stay in its universe. */
static bool stays(const struct model_node *node, const struct gm_range *range)
{
	return range->first <= range->last &&
	       (!is_absolute(node->parent) ||
		       (range->last - range->first) / tree.plan.unit < room_at(range->first));
}

/* A node at another place. */
static void change_range(struct gm_txn *txn, unsigned int which, bool move)
{
	int at = any_node();
	struct model_node *node = &tree.plan.nodes[at < 0 ? 0 : at];
	struct verdict v = {.nr = 0};
	struct gm_range range;
	int rc;

	if (at < 0 || is_whole(node))
		return;
	range = any_range(node->parent);
	if (move)
		range.last = range.first + extent(node);
	else
		range = (struct gm_range){node->first, node->first + (range.last - range.first)};
	if (!stays(node, &range))
		return;
	judge_place(&v, node, &range, at);
	rc = move ? gm_txn_move(txn, node->id, range.first, &err)
		  : gm_txn_resize(txn, node->id, range.last - range.first + 1, &err);
	check_clash(&v, rc, node, &range, at);
	if (!judge(&v, rc, which))
		return;
	/* Behind its end all is as what it may grow by. */
	if (node->granule)
		fill_parts(node, range.last - range.first + 1, MODEL_PARTS * node->granule,
			node->part);
	node->first = range.first;
	node->last = range.last;
}

static void op_move(struct gm_txn *txn, unsigned int which)
{
	change_range(txn, which, true);
}

static void op_resize(struct gm_txn *txn, unsigned int which)
{
	change_range(txn, which, false);
}

static void op_protect(struct gm_txn *txn, unsigned int which)
{
	int at = any_node();
	struct verdict v = {.nr = 0};
	uint32_t perms = tree_below(8);
	struct model_node *node = &tree.plan.nodes[at < 0 ? 0 : at];

	if (at < 0)
		return;
	wrong(&v, perms == 0 || node->kind == GM_REGION_RESERVED, -EINVAL);
	wrong(&v, node->kind == GM_REGION_ROM && (perms & GM_PERM_W), -EINVAL);
	if (judge(&v, gm_txn_protect(txn, node->id, perms, &err), which))
		node->perms = perms;
}

static void op_enable(struct gm_txn *txn, unsigned int which)
{
	int at = any_node();
	struct verdict v = {.nr = 0};
	bool enable = tree_below(6) != 0;
	struct model_node *node = &tree.plan.nodes[at < 0 ? 0 : at];
	struct gm_range range = {node->first, node->last};
	int rc;

	if (at < 0)
		return;
	wrong(&v,
		enable && !node->enabled &&
			model_clashes(&tree.plan, node->parent, &range, node->priority, at),
		-EEXIST);
	rc = gm_txn_enable(txn, node->id, enable, &err);
	check_clash(&v, rc, node, &range, at);
	if (judge(&v, rc, which))
		node->enabled = enable;
}

static void op_prioritize(struct gm_txn *txn, unsigned int which)
{
	int at = any_node();
	struct verdict v = {.nr = 0};
	struct model_node *node = &tree.plan.nodes[at < 0 ? 0 : at];
	struct model_node other = *node;
	struct gm_range range = {node->first, node->last};
	int rc;

	if (at < 0)
		return;
	other.priority = (int32_t)tree_below(13) - 6;
	wrong(&v,
		node->enabled &&
			model_clashes(&tree.plan, node->parent, &range, other.priority, at),
		-EEXIST);
	rc = gm_txn_prioritize(txn, node->id, other.priority, &err);
	check_clash(&v, rc, &other, &range, at);
	if (judge(&v, rc, which))
		node->priority = other.priority;
}

static void op_retarget(struct gm_txn *txn, unsigned int which)
{
	int at = any_such(is_alias);
	struct verdict v = {.nr = 0};
	struct model_node *node = &tree.plan.nodes[at < 0 ? 0 : at];
	struct model_node other = *node;
	struct gm_range range = {node->first, node->last};

	if (at < 0)
		return;
	if (node->kind == GM_REGION_ALIAS) {
		other.off = any_target_off(&tree.plan.nodes[node->target]);
		wrong(&v, is_past_target(&other, &range), -ERANGE);
	} else {
		wrong(&v, true, -EINVAL);
	}
	if (judge(&v, gm_txn_retarget(txn, node->id, other.off, &err), which))
		node->off = other.off;
}

static void op_replace(struct gm_txn *txn, unsigned int which)
{
	int at = any_such(model_is_memory);
	struct verdict v = {.nr = 0};
	struct model_node *node = &tree.plan.nodes[at < 0 ? 0 : at];
	struct model_node other = *node;
	struct gm_range range = {node->first, node->last};
	struct gm_region_desc desc = {.size = sizeof(desc), .gpa = node->first};

	if (at < 0)
		return;
	other.block = tree_below(3) ? 0 : 1 + (int)tree_below(TREE_BLOCKS - 1);
	other.off = (uint64_t)tree_below(TREE_BLOCK_PAGES - 12) * TREE_PAGE;
	desc.block = tree.blocks[other.block];
	desc.block_off = other.off;
	if (model_is_memory(node))
		judge_block(&v, &other);
	wrong(&v, !model_is_memory(node), -EINVAL);
	wrong(&v, model_is_memory(node) && is_past_block(&other, &range), -ERANGE);
	if (!judge(&v, gm_txn_replace(txn, node->id, &desc, &err), which))
		return;
	node->block = other.block;
	node->off = other.off;
}

static bool has_parts(const struct model_node *node)
{
	return node->granule;
}

static void op_set_part(struct gm_txn *txn, unsigned int which)
{
	int at = any_such(has_parts);
	struct verdict v = {.nr = 0};
	struct model_node *node = &tree.plan.nodes[at < 0 ? 0 : at];
	uint64_t granule = node->granule ? node->granule : TREE_PAGE;
	uint64_t off = tree_below(MODEL_PARTS) * TREE_PAGE;
	uint64_t len = (1 + tree_below(tree_below(2) ? 2 : MODEL_PARTS)) * granule;
	uint32_t state = tree_below(3);

	if (at < 0)
		return;
	off &= tree_below(8) ? ~(granule - 1) : UINT64_MAX;
	if (tree_below(2) && off < extent(node) && len > extent(node) + 1 - off)
		len = extent(node) + 1 - off;
	wrong(&v, !node->granule, -EINVAL);
	wrong(&v, state == GM_PART_PRIVATE && !node->has_private, -EINVAL);
	wrong(&v, (off | len) & (granule - 1), -EINVAL);
	wrong(&v, node->granule && (off > extent(node) || len - 1 > extent(node) - off), -ERANGE);
	if (judge(&v, gm_txn_set_part(txn, node->id, off, len, state, &err), which))
		fill_parts(node, off, off + len, state);
}

static const struct {
	const char *name;
	void (*run)(struct gm_txn *txn, unsigned int which);
} operations[] = {
	{"add", op_add},
	{"remove", op_remove},
	{"move", op_move},
	{"resize", op_resize},
	{"protect", op_protect},
	{"enable", op_enable},
	{"prioritize", op_prioritize},
	{"retarget", op_retarget},
	{"replace", op_replace},
	{"set_part", op_set_part},
};

#define NR_OPERATIONS (sizeof(operations) / sizeof(*operations))

const char *tree_operation_name(unsigned int which)
{
	return which < NR_OPERATIONS ? operations[which].name : NULL;
}

void tree_operate(struct gm_txn *txn)
{
	/* Trees grow until there is no room. */
	unsigned int which = tree_below(NR_OPERATIONS + 3);

	if (which == 0 || which >= NR_OPERATIONS)
		which = model_unused(&tree.plan) < 0;
	operations[which].run(txn, which);
}
