/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memmap_fdt.c - a memory map in a flattened device tree, by libfdt.
 *
 * Sources: Devicetree Specification 0.4, sections 3.4 (/memory) and 3.5 (/reserved-memory); Linux,
 * Documentation/devicetree/bindings/numa.txt and pmem/pmem-region.txt; "hotpluggable" is read by
 * Linux' drivers/of/fdt.c.
 *
 * The tree is changed in a copy that has room enough; the caller's is written once all went well.
 */
#include <errno.h>
#include <inttypes.h>
#include <libfdt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "core/memmap.h"
#include "sys/sys.h"

#define CELLS 2
/* Bytes that a node and its properties need at most, names of properties included. */
#define NODE_ROOM 256u
#define TREE_ROOM 1024u

struct tree {
	struct gm_memmap_entry *runs;
	size_t nr;
	uint32_t flags;
	void *fdt; /* the copy */
	size_t room;
	struct gm_error *err;
};

/* What libfdt says about @what. */
static int failed(const struct tree *tree, int rc, const char *what, uint64_t gpa)
{
	int code = rc == -FDT_ERR_EXISTS ? -EEXIST : -EINVAL;

	return gm_error_set(tree->err, code, gpa, 0, "device tree, %s: %s", what, fdt_strerror(rc));
}

/* ---- runs ---- */

/* Neighbours become one node if these are the same. */
static uint64_t class_of(const struct gm_memmap_entry *entry)
{
	uint64_t class = UINT64_C(1) << 63 | (uint64_t)entry->kind << 40;

	if (entry->flags & GM_MEMMAP_ABSENT)
		return 0;
	if (entry->kind == GM_MEMMAP_RAM)
		class |= (uint64_t)(entry->flags & GM_MEMMAP_HOTPLUG) << 32;
	if (entry->kind == GM_MEMMAP_RAM || entry->kind == GM_MEMMAP_PMEM)
		class |= entry->node;
	return class;
}

static int collect(struct tree *tree, const struct gm_memmap_entry *map, size_t nr)
{
	size_t at = 0;

	tree->runs = gm_sys_alloc_array(nr + 1, sizeof(*tree->runs));
	if (!tree->runs)
		return gm_error_set(tree->err, -ENOMEM, 0, 0, "no memory for a map");
	for (; gm_memmap_run(map, nr, class_of, &at, &tree->runs[tree->nr]); tree->nr++) {
		int rc = gm_memmap_check_run(&tree->runs[tree->nr], "a device tree", tree->err);

		if (rc)
			return rc;
	}
	return 0;
}

/* ---- nodes ---- */

static int put_reg(const struct tree *tree, int node, const struct gm_memmap_entry *run)
{
	const fdt64_t reg[2] = {cpu_to_fdt64(run->first), cpu_to_fdt64(run->last - run->first + 1)};

	return fdt_setprop(tree->fdt, node, "reg", reg, sizeof(reg));
}

static int put_numa(const struct tree *tree, int node, const struct gm_memmap_entry *run)
{
	if (!(tree->flags & GM_MEMMAP_FDT_NUMA) || run->node == GM_MEMMAP_NO_NODE)
		return 0;
	return fdt_setprop_u32(tree->fdt, node, "numa-node-id", run->node);
}

static int put_memory(const struct tree *tree, int node, const struct gm_memmap_entry *run)
{
	int rc = fdt_setprop_string(tree->fdt, node, "device_type", "memory");

	if (!rc && (run->flags & GM_MEMMAP_HOTPLUG))
		rc = fdt_setprop_empty(tree->fdt, node, "hotpluggable");
	if (!rc)
		rc = put_numa(tree, node, run);
	return rc;
}

static int put_pmem(const struct tree *tree, int node, const struct gm_memmap_entry *run)
{
	int rc = fdt_setprop_string(tree->fdt, node, "compatible", "pmem-region");

	return rc ? rc : put_numa(tree, node, run);
}

static const char *word_of(uint32_t kind)
{
	switch (kind) {
	case GM_MEMMAP_RAM:
		return "memory";
	case GM_MEMMAP_PMEM:
		return "pmem";
	case GM_MEMMAP_ACPI_RECLAIM:
		return "acpi";
	case GM_MEMMAP_ACPI_NVS:
		return "nvs";
	case GM_MEMMAP_UNUSABLE:
		return "unusable";
	case GM_MEMMAP_SOFT_RESERVED:
		return "special";
	default:
		return "reserved";
	}
}

static bool below_root(const struct gm_memmap_entry *run)
{
	return run->kind == GM_MEMMAP_RAM || run->kind == GM_MEMMAP_PMEM;
}

static int add_node(const struct tree *tree, int parent, const struct gm_memmap_entry *run)
{
	char name[40];
	int node;
	int rc;

	snprintf(name, sizeof(name), "%s@%" PRIx64, word_of(run->kind), run->first);
	node = fdt_add_subnode(tree->fdt, parent, name);
	if (node < 0)
		return failed(tree, node, name, run->first);
	rc = put_reg(tree, node, run);
	if (!rc && run->kind == GM_MEMMAP_RAM)
		rc = put_memory(tree, node, run);
	else if (!rc && run->kind == GM_MEMMAP_PMEM)
		rc = put_pmem(tree, node, run);
	else if (!rc)
		rc = fdt_setprop_empty(tree->fdt, node, "no-map");
	return rc ? failed(tree, rc, name, run->first) : 0;
}

/* A new node is the first below its parent: those that come last go in first. */
static int add_nodes(const struct tree *tree, int parent, bool root)
{
	int rc = 0;

	for (size_t i = tree->nr; i-- > 0 && !rc;) {
		if (below_root(&tree->runs[i]) == root)
			rc = add_node(tree, parent, &tree->runs[i]);
	}
	return rc;
}

/* ---- what they hang on ---- */

static int put_cells(const struct tree *tree, int node, const char *prop, const char *what)
{
	int len;
	const fdt32_t *value = fdt_getprop(tree->fdt, node, prop, &len);

	if (!value && len == -FDT_ERR_NOTFOUND) {
		int rc = fdt_setprop_u32(tree->fdt, node, prop, CELLS);

		return rc ? failed(tree, rc, prop, 0) : 0;
	}
	if (value && len == (int)sizeof(*value) && fdt32_ld(value) == CELLS)
		return 0;
	return gm_error_set(
		tree->err, -ENOTSUP, 0, 0, "device tree: %s of %s is not %d", prop, what, CELLS);
}

static int put_both_cells(const struct tree *tree, int node, const char *what)
{
	/* libfdt puts a new property in front. */
	int rc = put_cells(tree, node, "#size-cells", what);

	return rc ? rc : put_cells(tree, node, "#address-cells", what);
}

/* An older node for memory would be believed beside ours. */
static int refuse_memory(const struct tree *tree)
{
	int node;

	fdt_for_each_subnode(node, tree->fdt, 0)
	{
		const char *name = fdt_get_name(tree->fdt, node, NULL);

		if (name && (strcmp(name, "memory") == 0 || strncmp(name, "memory@", 7) == 0))
			return gm_error_set(tree->err, -EEXIST, 0, 0,
				"device tree: there is a node /%s already", name);
	}
	return 0;
}

static int add_reserved(const struct tree *tree)
{
	static const char name[] = "reserved-memory";
	int node = fdt_subnode_offset(tree->fdt, 0, name);
	int rc = 0;

	if (node == -FDT_ERR_NOTFOUND) {
		node = fdt_add_subnode(tree->fdt, 0, name);
		if (node >= 0)
			rc = fdt_setprop_empty(tree->fdt, node, "ranges");
	}
	if (node < 0 || rc)
		return failed(tree, node < 0 ? node : rc, name, 0);
	rc = put_both_cells(tree, node, "/reserved-memory");
	return rc ? rc : add_nodes(tree, node, false);
}

static bool has_reserved(const struct tree *tree)
{
	for (size_t i = 0; i < tree->nr; i++) {
		if (!below_root(&tree->runs[i]))
			return true;
	}
	return false;
}

static int add_all(const struct tree *tree)
{
	int rc = put_both_cells(tree, 0, "the root");

	if (!rc)
		rc = refuse_memory(tree);
	if (!rc && has_reserved(tree))
		rc = add_reserved(tree);
	return rc ? rc : add_nodes(tree, 0, true);
}

/* ---- copies ---- */

static int open_copy(struct tree *tree, const void *fdt, size_t cap)
{
	int rc = fdt_check_full(fdt, cap);
	size_t room;

	if (rc)
		return failed(tree, rc, "as it was given", 0);
	if (__builtin_mul_overflow(tree->nr, NODE_ROOM, &room) ||
		__builtin_add_overflow(room, TREE_ROOM + (size_t)fdt_totalsize(fdt), &room) ||
		room > INT_MAX)
		return gm_error_set(tree->err, -E2BIG, 0, 0,
			"%zu entries are too many for a device tree", tree->nr);
	tree->room = room;
	tree->fdt = gm_sys_alloc(room);
	if (!tree->fdt)
		return gm_error_set(tree->err, -ENOMEM, 0, 0, "no memory for a device tree");
	rc = fdt_open_into(fdt, tree->fdt, (int)room);
	return rc ? failed(tree, rc, "as it was given", 0) : 0;
}

static int copy_back(const struct tree *tree, void *fdt, size_t cap, size_t *ret_needed)
{
	int rc = fdt_pack(tree->fdt);
	size_t needed;
	size_t used;

	if (rc)
		return failed(tree, rc, "packing", 0);
	needed = fdt_totalsize(tree->fdt);
	if (ret_needed)
		*ret_needed = needed;
	if (needed > cap)
		return gm_error_set(tree->err, -ENOBUFS, 0, needed,
			"the device tree needs %zu bytes, there is room for %zu", needed, cap);
	if (cap > INT_MAX)
		cap = INT_MAX;
	rc = fdt_open_into(tree->fdt, fdt, (int)cap);
	if (rc)
		return failed(tree, rc, "copying", 0);
	used = (size_t)fdt_off_dt_strings(fdt) + fdt_size_dt_strings(fdt);
	memset((char *)fdt + used, 0, cap - used);
	return 0;
}

int gm_memmap_fdt(const struct gm_memmap_entry *map, size_t nr, uint32_t flags, void *fdt,
	size_t cap, size_t *ret_needed, struct gm_error *err)
{
	struct tree tree = {.flags = flags, .err = err};
	int rc = gm_memmap_check(map, nr, err);

	if (!rc && (flags & ~GM_MEMMAP_FDT_NUMA))
		rc = gm_error_set(err, -EINVAL, 0, 0, "unknown flags 0x%x", flags);
	if (!rc)
		rc = collect(&tree, map, nr);
	if (!rc)
		rc = open_copy(&tree, fdt, cap);
	if (!rc)
		rc = add_all(&tree);
	if (!rc)
		rc = copy_back(&tree, fdt, cap, ret_needed);
	gm_sys_free(tree.fdt);
	gm_sys_free(tree.runs);
	return rc;
}
