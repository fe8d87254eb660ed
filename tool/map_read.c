/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * map_read.c - from the text of a layout to a list of nodes.
 *
 * The form of the file is described in guestmem(1). What can be judged by looking at one node or by
 * names is judged here; ranges, overlaps and permissions are left to the library.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "json_in.h"
#include "map.h"

#define WORD_CAP 40u

struct reading {
	struct map_layout *layout;
	struct json_in in;
	uint32_t cap;
};

bool map_fail(struct map_layout *layout, uint32_t line, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(layout->fault.why, sizeof(layout->fault.why), fmt, args);
	va_end(args);
	layout->fault.line = line;
	return false;
}

/* ---- values ---- */

/* A number, or a string that tool_parse_size() takes. */
static bool read_size(struct json_in *in, uint64_t *ret, const char *what)
{
	char word[WORD_CAP];

	if (json_in_peek(in) == JSON_IN_STRING) {
		if (!json_in_string(in, word, sizeof(word), what))
			return false;
	} else if (!json_in_number(in, word, sizeof(word), what)) {
		return false;
	}
	return tool_parse_size(word, ret) ||
	       json_in_fail(in, 0,
		       "%s \"%s\" is not a whole number below 2^64, such as 4096, "
		       "\"0x1000\" or \"640K\"",
		       what, word);
}

static bool read_number(
	struct json_in *in, int64_t min, int64_t max, int64_t *ret, const char *what)
{
	char word[WORD_CAP];
	char *end;

	if (!json_in_number(in, word, sizeof(word), what))
		return false;
	/* Longer ones, which would not fit, are outside of any bounds. */
	*ret = strlen(word) < 12 ? strtoll(word, &end, 10) : INT64_MAX;
	if (strlen(word) >= 12 || *end || *ret < min || *ret > max)
		return json_in_fail(in, 0,
			"%s %s is not a whole number from %" PRId64 " to %" PRId64, what, word, min,
			max);
	return true;
}

static bool read_kind(struct json_in *in, uint32_t *ret)
{
	char word[WORD_CAP];

	if (!json_in_string(in, word, sizeof(word), "kind"))
		return false;
	for (uint32_t kind = GM_REGION_RAM; kind <= GM_REGION_ACPI; kind++) {
		if (strcmp(word, gm_region_kind_name(kind)) == 0) {
			*ret = kind;
			return true;
		}
	}
	return json_in_fail(in, 0,
		"kind \"%s\" is none of ram, rom, romd, pmem, acpi, mmio, reserved, container, "
		"alias",
		word);
}

/* "rw", "r-x". */
static bool read_perms(struct json_in *in, uint32_t *ret)
{
	static const char letters[] = "rwx";
	char word[WORD_CAP];

	if (!json_in_string(in, word, sizeof(word), "perms"))
		return false;
	*ret = 0;
	for (const char *c = word; *c; c++) {
		const char *found = strchr(letters, *c);

		if (*c != '-' && (!found || *ret & 1u << (found - letters)))
			*ret = UINT32_MAX;
		else if (found)
			*ret |= 1u << (found - letters);
		if (*ret == UINT32_MAX)
			break;
	}
	if (*ret == 0 || *ret == UINT32_MAX)
		return json_in_fail(
			in, 0, "perms \"%s\" are not some of r, w and x, such as \"r-x\"", word);
	return true;
}

static bool read_name(struct json_in *in, char name[MAP_NAME_CAP], const char *what)
{
	char shown[5 * MAP_NAME_CAP];

	if (!json_in_string(in, name, MAP_NAME_CAP, what))
		return false;
	if (!*name)
		return json_in_fail(in, 0, "%s is empty", what);
	if (strcmp(tool_escape(name, shown, sizeof(shown)), name) != 0)
		return json_in_fail(in, 0, "%s has what cannot be shown: %s", what, shown);
	return true;
}

/* Is this the first of its name? @seen has a bit for each. */
static bool check_once(struct json_in *in, uint32_t *seen, int member, const char *name)
{
	if (*seen & 1u << member)
		return json_in_fail(in, 0, "\"%s\" stands here for the second time", name);
	*seen |= 1u << member;
	return true;
}

static int find_member(const char *const *names, const char *name)
{
	int i = 0;

	while (names[i] && strcmp(names[i], name) != 0)
		i++;
	return names[i] ? i : -1;
}

/* ---- a node ---- */

/* {"of": NAME, "offset": SIZE} */
static bool read_alias(struct json_in *in, struct map_node *node)
{
	static const char *const names[] = {"of", "offset", NULL};
	char name[WORD_CAP];
	uint32_t seen = 0;
	bool first = true;

	if (!json_in_open(in, '{'))
		return false;
	node->alias_line = in->seen;
	while (json_in_more(in, '}', &first)) {
		int member;

		if (!json_in_key(in, name, sizeof(name)))
			return false;
		member = find_member(names, name);
		if (member < 0)
			return json_in_fail(in, 0, "an alias has no \"%s\"", name);
		if (!check_once(in, &seen, member, name))
			return false;
		if (member == 0 ? !read_name(in, node->alias_of, "the name of the alias's target")
				: !read_size(in, &node->alias_off, "offset"))
			return false;
	}
	if (!in->failed && !(seen & 1))
		return json_in_fail(
			in, node->alias_line, "the alias does not say \"of\" which region it is");
	return !in->failed;
}

enum {
	MEMBER_NAME,
	MEMBER_KIND,
	MEMBER_AT,
	MEMBER_SIZE,
	MEMBER_PRIORITY,
	MEMBER_PERMS,
	MEMBER_ALIAS,
	MEMBER_ENABLED,
	MEMBER_DETACHED,
	MEMBER_LABEL,
	MEMBER_NUMA,
	MEMBER_HOTPLUG,
	MEMBER_REGIONS,
	MEMBER_COMMENT,
};

static const char *const node_members[] = {"name", "kind", "at", "size", "priority", "perms",
	"alias", "enabled", "detached", "label", "numa", "hotplug", "regions", "comment", NULL};

static bool read_regions(struct reading *r, uint32_t parent, uint32_t depth);

/* Values of at most 32 bits. */
static bool read_small(struct json_in *in, struct map_node *node, int member)
{
	bool number = member == MEMBER_PRIORITY || member == MEMBER_NUMA;
	const char *name = node_members[member];
	int64_t n = 0;
	bool yes = false;

	if (number ? !read_number(in, member == MEMBER_NUMA ? 0 : INT32_MIN,
			     member == MEMBER_NUMA ? MAP_NUMA_MAX : INT32_MAX, &n, name)
		   : !json_in_bool(in, &yes, "true or false"))
		return false;
	if (member == MEMBER_PRIORITY)
		node->priority = (int32_t)n;
	else if (member == MEMBER_NUMA)
		node->numa = (uint32_t)n;
	else if (member == MEMBER_ENABLED)
		node->disabled = !yes;
	else if (member == MEMBER_HOTPLUG)
		node->hotplug = yes;
	else
		node->detached = yes;
	return true;
}

static bool read_member(struct reading *r, uint32_t index, int member, uint32_t depth)
{
	struct map_node *node = &r->layout->nodes[index];
	struct json_in *in = &r->in;

	switch (member) {
	case MEMBER_NAME:
		return read_name(in, node->name, "name");
	case MEMBER_KIND:
		return read_kind(in, &node->kind);
	case MEMBER_AT:
		return read_size(in, &node->at, "at");
	case MEMBER_SIZE:
		if (!read_size(in, &node->size, "size"))
			return false;
		return node->size || json_in_fail(in, 0, "size is 0");
	case MEMBER_PERMS:
		return read_perms(in, &node->perms);
	case MEMBER_ALIAS:
		return read_alias(in, node);
	case MEMBER_LABEL:
		return read_size(in, &node->label, "label");
	case MEMBER_REGIONS:
		return read_regions(r, index, depth + 1);
	case MEMBER_COMMENT:
		return json_in_string(in, NULL, 0, "comment");
	default:
		return read_small(in, node, member);
	}
}

/* What the members mean together. */
static bool check_node(struct reading *r, const struct map_node *node, uint32_t seen)
{
	const char *kind = gm_region_kind_name(node->kind);
	bool alias = node->kind == GM_REGION_ALIAS;

	if (!(seen & 1u << MEMBER_NAME))
		return json_in_fail(&r->in, node->line, "a region has no name");
	if (!(seen & 1u << MEMBER_KIND) && !alias)
		return json_in_fail(
			&r->in, node->line, "region \"%s\" does not say its kind", node->name);
	if (alias && !(seen & 1u << MEMBER_ALIAS))
		return json_in_fail(&r->in, node->line,
			"alias \"%s\" does not say what it shows: \"alias\": {\"of\": NAME}",
			node->name);
	if (!alias && seen & 1u << MEMBER_ALIAS)
		return json_in_fail(&r->in, node->alias_line,
			"region \"%s\" is of kind %s and cannot be an alias", node->name, kind);
	if (alias && seen & 1u << MEMBER_REGIONS)
		return json_in_fail(
			&r->in, node->line, "nothing can lie in alias \"%s\"", node->name);
	if (!(seen & 1u << MEMBER_SIZE) && !alias && node->kind != GM_REGION_CONTAINER)
		return json_in_fail(&r->in, node->line, "region \"%s\" has no size", node->name);
	if (!(seen & 1u << MEMBER_SIZE) && !alias && node->at)
		return json_in_fail(&r->in, node->line,
			"container \"%s\" has no size and does not begin at 0", node->name);
	if (node->detached && node->parent != MAP_NONE)
		return json_in_fail(&r->in, node->line,
			"region \"%s\" lies in another one and cannot be detached", node->name);
	return true;
}

static bool add_node(struct reading *r, uint32_t parent)
{
	struct map_layout *layout = r->layout;

	if (layout->nr == MAP_NODES_MAX)
		return json_in_fail(&r->in, 0, "more than %u regions", MAP_NODES_MAX);
	if (layout->nr == r->cap) {
		r->cap = r->cap ? 2 * r->cap : 16;
		layout->nodes = tool_realloc(layout->nodes, r->cap, sizeof(*layout->nodes));
	}
	layout->nodes[layout->nr++] = (struct map_node){.line = r->in.seen,
		.parent = parent,
		.target = MAP_NONE,
		.numa = MAP_NONE,
		.kind = GM_REGION_CONTAINER};
	return true;
}

static bool read_node(struct reading *r, uint32_t parent, uint32_t depth)
{
	uint32_t index = r->layout->nr;
	char name[WORD_CAP];
	uint32_t seen = 0;
	bool first = true;

	if (!json_in_open(&r->in, '{') || !add_node(r, parent))
		return false;
	while (json_in_more(&r->in, '}', &first)) {
		int member;

		if (!json_in_key(&r->in, name, sizeof(name)))
			return false;
		member = find_member(node_members, name);
		if (member < 0)
			return json_in_fail(&r->in, 0, "a region has no \"%s\"", name);
		if (!check_once(&r->in, &seen, member, name) ||
			!read_member(r, index, member, depth))
			return false;
		/* Whoever says what it shows need not say its kind. */
		if (member == MEMBER_ALIAS && !(seen & 1u << MEMBER_KIND))
			r->layout->nodes[index].kind = GM_REGION_ALIAS;
	}
	return !r->in.failed && check_node(r, &r->layout->nodes[index], seen);
}

static bool read_regions(struct reading *r, uint32_t parent, uint32_t depth)
{
	bool first = true;

	if (!json_in_open(&r->in, '['))
		return false;
	if (depth > MAP_DEPTH_MAX)
		return json_in_fail(
			&r->in, 0, "regions lie in each other more than %u deep", MAP_DEPTH_MAX);
	while (json_in_more(&r->in, ']', &first)) {
		if (!read_node(r, parent, depth))
			return false;
	}
	return !r->in.failed;
}

static bool read_layout(struct reading *r)
{
	static const char *const names[] = {"name", "regions", "comment", NULL};
	char name[WORD_CAP];
	uint32_t seen = 0;
	bool first = true;
	bool well = json_in_open(&r->in, '{');

	while (well && json_in_more(&r->in, '}', &first)) {
		int member;

		if (!json_in_key(&r->in, name, sizeof(name)))
			return false;
		member = find_member(names, name);
		if (member < 0)
			return json_in_fail(&r->in, 0, "a layout has no \"%s\"", name);
		well = check_once(&r->in, &seen, member, name);
		if (well && member == 0)
			well = read_name(&r->in, r->layout->name, "name");
		else if (well && member == 1)
			well = read_regions(r, MAP_NONE, 1);
		else if (well)
			well = json_in_string(&r->in, NULL, 0, "comment");
	}
	if (!json_in_finish(&r->in))
		return false;
	return seen & 2 || json_in_fail(&r->in, 0, "the layout has no \"regions\"");
}

/* ---- names ---- */

struct named {
	const char *name;
	uint32_t index;
};

static int by_name(const void *a, const void *b)
{
	const struct named *x = a;
	const struct named *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : x->index < y->index ? -1 : 1;
}

static const struct named *find_name(const struct named *list, uint32_t nr, const char *name)
{
	uint32_t lo = 0;
	uint32_t hi = nr;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (strcmp(list[mid].name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < nr && strcmp(list[lo].name, name) == 0 ? &list[lo] : NULL;
}

/* The second node of a name that comes first in the file. */
static bool check_unique(struct map_layout *layout, const struct named *list)
{
	uint32_t again = MAP_NONE;
	uint32_t once = 0;

	for (uint32_t i = 1; i < layout->nr; i++) {
		if (strcmp(list[i].name, list[i - 1].name) == 0 && list[i].index < again) {
			again = list[i].index;
			once = list[i - 1].index;
		}
	}
	return again == MAP_NONE || map_fail(layout, layout->nodes[again].line,
					    "the name \"%s\" is that of the region on line %u",
					    layout->nodes[again].name, layout->nodes[once].line);
}

static bool resolve_names(struct map_layout *layout)
{
	struct named *list = tool_alloc(layout->nr, sizeof(*list));
	bool well;

	for (uint32_t i = 0; i < layout->nr; i++)
		list[i] = (struct named){layout->nodes[i].name, i};
	qsort(list, layout->nr, sizeof(*list), by_name);
	well = check_unique(layout, list);
	for (uint32_t i = 0; well && i < layout->nr; i++) {
		struct map_node *node = &layout->nodes[i];
		const struct named *found;

		if (node->kind != GM_REGION_ALIAS)
			continue;
		found = find_name(list, layout->nr, node->alias_of);
		if (!found)
			well = map_fail(layout, node->alias_line,
				"alias \"%s\": no region has the name \"%s\"", node->name,
				node->alias_of);
		else
			node->target = found->index;
	}
	free(list);
	return well;
}

bool map_read(struct map_layout *layout, const char *text, size_t len)
{
	struct reading r = {.layout = layout};

	json_in_start(&r.in, text, len);
	if (!read_layout(&r))
		return map_fail(layout, r.in.fault_line, "%s", r.in.why);
	return resolve_names(layout);
}
