/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * map_json.c - layouts and their differences as JSON.
 *
 * Addresses and lengths are strings such as "0x1000": they may be larger than numbers in JSON can
 * be relied upon to be. The layout is written so that it can be read again.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "json.h"
#include "map.h"

static json_t *hex(uint64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%" PRIx64, n);
	return json_string(text);
}

static json_t *json_node(const struct map_layout *layout, const struct map_node *node)
{
	struct gm_region_info info = {.size = sizeof(info)};
	json_t *json = json_object();
	char perms[4];

	gm_space_region(layout->space, node->id, &info);
	json_object_set_new(json, "name", tool_json_text(node->name));
	json_object_set_new(json, "kind", json_string(gm_region_kind_name(node->kind)));
	json_object_set_new(json, "at", hex(node->at));
	if (node->size)
		json_object_set_new(json, "size", hex(node->size));
	json_object_set_new(json, "priority", json_integer(node->priority));
	if (info.perms)
		json_object_set_new(json, "perms", json_string(map_perms(info.perms, perms)));
	if (node->kind == GM_REGION_ALIAS)
		json_object_set_new(json, "alias",
			json_pack("{s:o, s:o}", "of", tool_json_text(node->alias_of), "offset",
				hex(node->alias_off)));
	json_object_set_new(json, "enabled", json_boolean(!node->disabled));
	if (node->detached)
		json_object_set_new(json, "detached", json_true());
	if (node->label)
		json_object_set_new(json, "label", hex(node->label));
	if (node->numa != MAP_NONE)
		json_object_set_new(json, "numa", json_integer(node->numa));
	if (node->hotplug)
		json_object_set_new(json, "hotplug", json_true());
	return json;
}

static json_t *json_tree(const struct map_layout *layout)
{
	json_t **made = tool_alloc(layout->nr, sizeof(json_t *));
	json_t *top = json_array();

	for (uint32_t i = 0; i < layout->nr; i++) {
		uint32_t parent = layout->nodes[i].parent;
		json_t *list = top;

		made[i] = json_node(layout, &layout->nodes[i]);
		if (parent != MAP_NONE) {
			list = json_object_get(made[parent], "regions");
			if (!list) {
				list = json_array();
				json_object_set_new(made[parent], "regions", list);
			}
		}
		json_array_append_new(list, made[i]);
	}
	free(made);
	return json_pack("{s:o, s:o}", "name", tool_json_text(layout->name), "regions", top);
}

/* What shows of a stretch from @first to @last, which lie in it. */
static json_t *json_stretch(const struct map_stretch *s, uint64_t first)
{
	char perms[4];

	if (!s)
		return json_null();
	return json_pack("{s:o, s:s, s:s, s:o, s:o, s:o, s:b}", "name",
		tool_json_text(s->node->name), "kind", gm_region_kind_name(s->node->kind), "perms",
		map_perms(s->perms, perms), "offset", hex(s->off + (first - s->first)), "label",
		hex(s->node->label), "numa",
		s->node->numa == MAP_NONE ? json_null() : json_integer(s->node->numa), "hotplug",
		s->node->hotplug);
}

static json_t *json_flat(const struct map_layout *layout)
{
	json_t *list = json_array();

	for (size_t i = 0; i < layout->nr_flat; i++) {
		const struct map_stretch *s = &layout->flat[i];
		json_t *json =
			json_pack("{s:o, s:o}", "first", hex(s->first), "last", hex(s->last));
		json_t *what = json_stretch(s, s->first);

		json_object_update(json, what);
		json_decref(what);
		json_array_append_new(list, json);
	}
	return list;
}

static json_t *json_e820(const struct map_layout *layout)
{
	struct map_e820 e820 = {0};
	struct gm_error err;
	json_t *list;

	if (!map_make_e820(layout, &e820, &err))
		return json_null();
	list = json_array();
	for (size_t i = 0; i < e820.nr; i++) {
		const struct gm_e820_entry *e = &e820.table[i];

		json_array_append_new(
			list, json_pack("{s:o, s:o, s:I, s:s}", "first", hex(e->addr), "last",
				      hex(e->addr + (e->len - 1)), "type", (json_int_t)e->type,
				      "meaning", map_e820_meaning(e->type)));
	}
	free(e820.table);
	return list;
}

static json_t *json_layout(const struct map_layout *layout)
{
	return json_pack("{s:o, s:o, s:o, s:o}", "file", tool_json_text(layout->path), "layout",
		json_tree(layout), "flat", json_flat(layout), "e820", json_e820(layout));
}

static void add_change(void *ctx, const struct map_change *c)
{
	const char *what = !c->before ? "added" : !c->after ? "removed" : "changed";

	json_array_append_new(
		ctx, json_pack("{s:s, s:o, s:o, s:o, s:o}", "change", what, "first", hex(c->first),
			     "last", hex(c->last), "before", json_stretch(c->before, c->first),
			     "after", json_stretch(c->after, c->first)));
}

bool map_write_json(
	const struct map_layout *before, const struct map_layout *after, struct tool_output *out)
{
	json_t *differences;

	if (!after)
		return tool_json_write(json_layout(before), out, false);
	differences = json_array();
	map_compare(before, after, add_change, differences);
	return tool_json_write(json_pack("{s:o, s:o, s:o}", "before", json_layout(before), "after",
				       json_layout(after), "differences", differences),
		out, false);
}
