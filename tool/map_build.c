/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * map_build.c - a real space from the nodes of a layout, without any memory.
 *
 * All memory is one sparse memfd that nothing touches, in a space without a window: a region of a
 * tebibyte costs what one of a page does. Aliases are added last, those that others show first, so
 * that a name may be used before its region stands in the file.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "map.h"

struct building {
	struct map_layout *layout;
	struct gm_block *block; /* all memory, or NULL */
	uint64_t *offsets;      /* of each node's memory in it */
	uint32_t *aliases;      /* in the order in which they are added */
	uint32_t nr_aliases;
};

/* ---- before the space ---- */

static bool lay_out_memory(struct building *b)
{
	struct map_layout *layout = b->layout;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct gm_error err;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < layout->nr; i++) {
		const struct map_node *node = &layout->nodes[i];

		if (!gm_region_kind_is_memory(node->kind))
			continue;
		b->offsets[i] = sum;
		if (node->size > MAP_RAM_MAX - sum)
			return map_fail(layout, node->line,
				"with region \"%s\" there are more than 64T of memory", node->name);
		/* What is not a multiple of pages is refused when it is added. */
		sum += (node->size + (page - 1)) & ~(page - 1);
	}
	if (sum && gm_block_create(GM_OPTS(gm_block_opts, .len = sum, .backing = GM_BACKING_MEMFD,
					   .reserve = GM_RESERVE_NONE, .name = "guestmem-map"),
			   &b->block, &err))
		return map_fail(layout, 0, "cannot make a file without pages: %s", err.text);
	return true;
}

/*
 * What the alias shows comes before it: up the chain of targets, then down again. Marks: 0 not looked
 * at, 1 in the chain, 2 done.
 */
static bool order_chain(struct building *b, uint32_t start, uint8_t *marks, uint32_t *chain)
{
	struct map_node *nodes = b->layout->nodes;
	uint32_t nr = 0;
	uint32_t at = start;

	while (nodes[at].kind == GM_REGION_ALIAS && marks[at] == 0) {
		marks[at] = 1;
		chain[nr++] = at;
		at = nodes[at].target;
	}
	if (marks[at] == 1)
		return map_fail(b->layout, nodes[at].alias_line, "alias \"%s\" shows itself",
			nodes[at].name);
	while (nr) {
		at = chain[--nr];
		marks[at] = 2;
		b->aliases[b->nr_aliases++] = at;
	}
	return true;
}

static bool order_aliases(struct building *b)
{
	uint32_t nr = b->layout->nr;
	uint8_t *marks = tool_alloc(nr, sizeof(*marks));
	uint32_t *chain = tool_alloc(nr, sizeof(*chain));
	bool well = true;

	for (uint32_t i = 0; well && i < nr; i++) {
		if (b->layout->nodes[i].kind == GM_REGION_ALIAS)
			well = order_chain(b, i, marks, chain);
	}
	free(marks);
	free(chain);
	return well;
}

/* An alias without a size shows all from its offset on. */
static bool set_alias_size(struct map_layout *layout, struct map_node *node)
{
	const struct map_node *target = &layout->nodes[node->target];
	uint64_t last = target->size - 1; /* of size 0: 2^64 - 1 */

	if (node->size)
		return true;
	if (node->alias_off > last)
		return map_fail(layout, node->alias_line,
			"alias \"%s\" begins behind the end of \"%s\"", node->name, target->name);
	node->size = last - node->alias_off + 1;
	return node->size ||
	       map_fail(layout, node->line, "alias \"%s\" needs a size: \"%s\" has 2^64 bytes",
		       node->name, target->name);
}

/* ---- the space ---- */

/* The library's text, but for the name of the space. */
static const char *text_of(const struct map_layout *layout, const struct gm_error *err)
{
	size_t len = strlen(layout->name);
	bool named = strncmp(err->text, layout->name, len) == 0 &&
		     strncmp(err->text + len, ": ", 2) == 0;

	return named ? err->text + len + 2 : err->text;
}

/* It names the region in quotes, or the other one that is in its way. */
static bool fail_node(
	struct map_layout *layout, const struct map_node *node, const struct gm_error *err)
{
	char quoted[MAP_NAME_CAP + 2];
	const char *text = text_of(layout, err);

	snprintf(quoted, sizeof(quoted), "\"%s\"", node->name);
	if (strstr(text, quoted))
		return map_fail(layout, node->line, "%s", text);
	return map_fail(layout, node->line, "region %s: %s", quoted, text);
}

static bool add_node(struct building *b, struct gm_txn *txn, struct map_node *node)
{
	struct map_layout *layout = b->layout;
	bool own = node->kind == GM_REGION_ROMD;
	bool memory = gm_region_kind_is_memory(node->kind) && !own;
	struct gm_device_ops nothing = {.size = sizeof(nothing)};
	struct gm_block_opts romd = {.size = sizeof(romd), .reserve = GM_RESERVE_NONE};
	bool alias = node->kind == GM_REGION_ALIAS;
	struct gm_region_desc desc = {.size = sizeof(desc),
		.gpa = node->at,
		.len = node->size,
		.kind = node->kind,
		.perms = node->perms,
		.block = memory ? b->block : NULL,
		.backing = own ? &romd : NULL,
		.device = own || node->kind == GM_REGION_MMIO ? &nothing : NULL,
		.block_off = memory ? b->offsets[node - layout->nodes] : node->alias_off, /* or 0 */
		.name = node->name,
		.priority = node->priority,
		.flags = (node->disabled ? GM_REGION_DISABLED : 0) |
			 (node->hotplug ? GM_REGION_HOTPLUGGABLE : 0),
		.numa_plus = node->numa == MAP_NONE ? 0 : node->numa + 1,
		.label = node->label};
	struct gm_error err;

	if (alias)
		desc.target = layout->nodes[node->target].id;
	if (node->parent != MAP_NONE)
		desc.parent = layout->nodes[node->parent].id;
	else if (node->detached)
		desc.parent = GM_REGION_DETACHED;
	return gm_txn_add(txn, &desc, &node->id, &err) == 0 || fail_node(layout, node, &err);
}

/* Those that are no aliases, and the first aliases. */
static bool add_nodes(struct building *b, struct gm_txn *txn, uint32_t nr_aliases)
{
	struct map_layout *layout = b->layout;
	bool well = true;

	for (uint32_t i = 0; well && i < layout->nr; i++) {
		if (layout->nodes[i].kind != GM_REGION_ALIAS)
			well = add_node(b, txn, &layout->nodes[i]);
	}
	for (uint32_t i = 0; well && i < nr_aliases; i++) {
		struct map_node *alias = &layout->nodes[b->aliases[i]];

		well = set_alias_size(layout, alias) && add_node(b, txn, alias);
	}
	return well;
}

/* *ret_code: what the commit returned, if it comes to that. */
static bool try_space(struct building *b, uint32_t nr_aliases, int *ret_code)
{
	struct map_layout *layout = b->layout;
	struct gm_txn *txn = NULL;
	struct gm_error err;
	bool well = true;

	*ret_code = 0;
	if (gm_space_create(
		    GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW, .name = layout->name),
		    &layout->space, &err) ||
		gm_txn_begin(layout->space, &txn, &err))
		return map_fail(layout, 0, "%s", text_of(layout, &err));
	well = add_nodes(b, txn, nr_aliases);
	if (well) {
		*ret_code = gm_txn_commit(txn, &err);
		well = *ret_code == 0 || map_fail(layout, 0, "%s", text_of(layout, &err));
	}
	if (!well) {
		gm_txn_abort(txn);
		gm_space_destroy(layout->space);
		layout->space = NULL;
	}
	return well;
}

/*
 * The commit says that there is too much, but not which alias is too much. The more aliases, the
 * more shows: so there is a first one with which it fails.
 */
static bool find_culprit(struct building *b)
{
	struct map_layout *layout = b->layout;
	uint32_t lo = 0; /* so many are well */
	uint32_t hi = b->nr_aliases;
	struct map_fault fault = layout->fault;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;
		int code;

		if (try_space(b, mid, &code)) {
			gm_space_destroy(layout->space);
			layout->space = NULL;
			lo = mid;
		} else {
			hi = mid;
			fault = layout->fault;
		}
	}
	if (hi == 0)
		return false;
	return map_fail(layout, layout->nodes[b->aliases[hi - 1]].line, "with alias \"%s\": %s",
		layout->nodes[b->aliases[hi - 1]].name, fault.why);
}

/* ---- what shows ---- */

static int by_id(const void *a, const void *b)
{
	const struct map_node *x = *(const struct map_node *const *)a;
	const struct map_node *y = *(const struct map_node *const *)b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static const struct map_node *find_id(const struct map_node *const *list, uint32_t nr, uint64_t id)
{
	uint32_t lo = 0;
	uint32_t hi = nr;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (list[mid]->id <= id)
			lo = mid;
		else
			hi = mid;
	}
	return list[lo];
}

static void list_flat(struct map_layout *layout)
{
	const struct map_node **list = tool_alloc(layout->nr, sizeof(*list));
	struct gm_region_info info = {.size = sizeof(info)};
	uint64_t next = 0;
	size_t cap = 0;

	for (uint32_t i = 0; i < layout->nr; i++)
		list[i] = &layout->nodes[i];
	qsort(list, layout->nr, sizeof(*list), by_id);
	while (gm_space_next(layout->space, next, &info) == 0) {
		if (layout->nr_flat == cap) {
			cap = cap ? 2 * cap : 64;
			layout->flat = tool_realloc(layout->flat, cap, sizeof(*layout->flat));
		}
		layout->flat[layout->nr_flat++] = (struct map_stretch){.first = info.gpa,
			.last = info.gpa + (info.len - 1),
			.off = info.off,
			.perms = info.perms,
			.node = find_id(list, layout->nr, info.id)};
		next = info.gpa + info.len;
		if (next == 0)
			break;
	}
	free(list);
}

bool map_build(struct map_layout *layout)
{
	struct building b = {
		.layout = layout,
		.offsets = tool_alloc(layout->nr, sizeof(*b.offsets)),
		.aliases = tool_alloc(layout->nr, sizeof(*b.aliases)),
	};
	int code = 0;
	bool well = lay_out_memory(&b) && order_aliases(&b) && try_space(&b, b.nr_aliases, &code);

	if (code == -E2BIG || code == -ELOOP)
		find_culprit(&b);
	if (well)
		list_flat(layout);
	gm_block_put(b.block);
	free(b.offsets);
	free(b.aliases);
	return well;
}
