/* SPDX-License-Identifier: BSD-3-Clause */
/* inspect_show.c - what "guestmem inspect" has found, as text, JSON and picture. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inspect.h"
#include "json.h"

#define MAP_WIDTH 64

static const struct {
	uint32_t flag;
	const char *name;
} flag_names[] = {
	{GM_MAPPING_HUGETLB, "hugetlb"},
	{GM_MAPPING_THP, "hugepage"},
	{GM_MAPPING_NOTHP, "nohugepage"},
	{GM_MAPPING_DONTFORK, "dontfork"},
	{GM_MAPPING_DONTDUMP, "dontdump"},
	{GM_MAPPING_MERGE, "mergeable"},
	{GM_MAPPING_LOCKED, "locked"},
	{GM_MAPPING_UFFD, "userfaultfd"},
};

static const struct {
	uint32_t source;
	const char *name;
} source_names[] = {
	{GM_SOURCE_SCAN, "PAGEMAP_SCAN"},
	{GM_SOURCE_PAGEMAP, "pagemap"},
	{GM_SOURCE_SMAPS, "smaps"},
	{GM_SOURCE_KPAGEFLAGS, "kpageflags"},
	{GM_SOURCE_QUERY, "PROCMAP_QUERY"},
};

#define NR(array) (sizeof(array) / sizeof((array)[0]))

static enum heat_style style_of(const struct inspect_result *r)
{
	if (r->opts->ascii)
		return HEAT_ASCII;
	return isatty(STDOUT_FILENO) && !getenv("NO_COLOR") ? HEAT_COLOUR : HEAT_UNICODE;
}

static const char *perms(const struct gm_mapping *m, char buf[5])
{
	buf[0] = m->flags & GM_MAPPING_R ? 'r' : '-';
	buf[1] = m->flags & GM_MAPPING_W ? 'w' : '-';
	buf[2] = m->flags & GM_MAPPING_X ? 'x' : '-';
	buf[3] = m->flags & GM_MAPPING_SHARED ? 's' : 'p';
	buf[4] = '\0';
	return buf;
}

/* "known" or "?" */
static const char *bytes_or(uint64_t bytes, char buf[TOOL_UNIT_CAP])
{
	if (bytes == UINT64_MAX)
		return "?";
	return tool_bytes(bytes, buf);
}

static void print_usage(const struct inspect_result *r, const struct gm_usage *u)
{
	char a[TOOL_UNIT_CAP];
	char b[TOOL_UNIT_CAP];
	const char *between = ": ";

	printf("present %s", tool_bytes(u->present, a));
	for (uint32_t log2 = 0; log2 <= GM_USAGE_LOG2_MAX; log2++) {
		if (!u->by_log2[log2])
			continue;
		printf("%s%s in %s pages", between, tool_bytes(u->by_log2[log2], a),
			tool_page_name(log2, b));
		between = ", ";
	}
	printf("; zero page %s, swapped %s", tool_bytes(u->zero, a), tool_bytes(u->swapped, b));
	if (!(u->unseen & GM_UNSEEN_SHARED))
		printf(", shared %s", tool_bytes(u->shared, a));
	if (u->ksm)
		printf(", merged %s", tool_bytes(u->ksm, a));
	if (u->split)
		printf(", %s of %s pages mapped in small ones", tool_bytes(u->split, a),
			tool_page_name(r->pmd_log2, b));
	putchar('\n');
}

static void print_piece(const struct inspect_result *r, const struct inspect_piece *p)
{
	const struct gm_mapping *m = &p->mapping;
	char name[4 * GM_MAPPING_NAME_MAX + 8];
	char access[5];
	char a[TOOL_UNIT_CAP];

	printf("\n%llx-%llx %s %s", (unsigned long long)m->start,
		(unsigned long long)(m->start + m->len), perms(m, access), tool_bytes(m->len, a));
	printf(" %s\n  ", m->name[0] ? tool_escape(m->name, name, sizeof(name)) : "[anonymous]");
	if (m->page_size)
		printf("pages of %s", tool_page_name(tool_log2(m->page_size), a));
	else
		fputs("page size not known", stdout);
	for (size_t i = 0; i < NR(flag_names); i++) {
		if (m->flags & flag_names[i].flag)
			printf(", %s", flag_names[i].name);
	}
	if (m->flags & GM_MAPPING_FILE)
		printf(", file offset 0x%llx, inode %llu, allocated %s",
			(unsigned long long)m->offset, (unsigned long long)m->inode,
			bytes_or(p->allocated, a));
	fputs("\n  ", stdout);
	print_usage(r, &p->usage);
	inspect_print_waste(r, p);
	heatmap_print(p->map, MAP_WIDTH, r->nr > 1 ? 4 : 16, style_of(r));
}

static void print_limits(const struct inspect_result *r)
{
	json_t *unseen = tool_json_unseen(r->total.unseen);
	const char *between = "\nread from: ";
	json_t *text;
	size_t i;

	for (i = 0; i < NR(source_names); i++) {
		if (!(r->total.sources & source_names[i].source))
			continue;
		printf("%s%s", between, source_names[i].name);
		between = ", ";
	}
	putchar('\n');
	json_array_foreach(unseen, i, text) printf("not seen: %s\n", json_string_value(text));
	json_decref(unseen);
}

void inspect_print(const struct inspect_result *r)
{
	char name[128];
	char a[TOOL_UNIT_CAP];
	char b[TOOL_UNIT_CAP];
	char c[TOOL_UNIT_CAP];

	printf("%s, process %d: resident %s, huge-page pool %s, page tables %s\n",
		tool_escape(r->process.name, name, sizeof(name)), (int)r->opts->pid,
		bytes_or(r->process.rss, a), bytes_or(r->process.hugetlb, b),
		bytes_or(r->process.page_tables, c));
	if (r->process.ksm_merging && r->process.ksm_merging != UINT64_MAX)
		printf("KSM merged %llu pages and saves %s\n",
			(unsigned long long)r->process.ksm_merging,
			bytes_or(r->process.ksm_profit, a));
	inspect_print_counters(r);
	printf("shown: %s\n", r->found_by);
	for (size_t i = 0; i < r->nr; i++)
		print_piece(r, &r->pieces[i]);
	if (r->nr > 1) {
		fputs("\ntotal: ", stdout);
		print_usage(r, &r->total);
	}
	heatmap_print_legend(style_of(r));
	print_limits(r);
}

static void set_usage(const struct inspect_result *r, json_t *json, const struct gm_usage *u)
{
	bool shared = !(u->unseen & GM_UNSEEN_SHARED);
	bool folios = !(u->unseen & GM_UNSEEN_FOLIOS);

	json_object_set_new(json, "present_bytes", tool_json_number(u->present));
	json_object_set_new(json, "present_by_page_size",
		tool_json_sizes(u->by_log2, r->base_log2, r->pmd_log2));
	json_object_set_new(json, "zero_bytes", tool_json_number(u->zero));
	json_object_set_new(json, "swapped_bytes", tool_json_number(u->swapped));
	json_object_set_new(
		json, "shared_bytes", tool_json_number(shared ? u->shared : UINT64_MAX));
	json_object_set_new(json, "ksm_bytes", tool_json_number(folios ? u->ksm : UINT64_MAX));
	json_object_set_new(json, "split_bytes", tool_json_number(folios ? u->split : UINT64_MAX));
	json_object_set_new(json, "extents", tool_json_number(u->extents));
}

static json_t *json_flags(const struct gm_mapping *m)
{
	json_t *list = json_array();

	if (!(m->flags & GM_MAPPING_DETAILS)) {
		json_decref(list);
		return json_null();
	}
	for (size_t i = 0; i < NR(flag_names); i++) {
		if (m->flags & flag_names[i].flag)
			json_array_append_new(list, json_string(flag_names[i].name));
	}
	return list;
}

static json_t *json_piece(const struct inspect_result *r, const struct inspect_piece *p)
{
	const struct gm_mapping *m = &p->mapping;
	json_t *json = json_object();
	char access[5];
	char address[2][20];

	snprintf(address[0], sizeof(address[0]), "0x%llx", (unsigned long long)m->start);
	snprintf(address[1], sizeof(address[1]), "0x%llx", (unsigned long long)(m->start + m->len));
	json_object_set_new(json, "start", json_string(address[0]));
	json_object_set_new(json, "end", json_string(address[1]));
	json_object_set_new(json, "size", tool_json_number(m->len));
	json_object_set_new(json, "name", tool_json_text(m->name));
	json_object_set_new(json, "permissions", json_string(perms(m, access)));
	json_object_set_new(json, "file", json_boolean(m->flags & GM_MAPPING_FILE));
	json_object_set_new(json, "offset", tool_json_number(m->offset));
	json_object_set_new(json, "inode", tool_json_number(m->inode));
	json_object_set_new(json, "device", json_sprintf("%u:%u", m->dev_major, m->dev_minor));
	json_object_set_new(
		json, "page_size", tool_json_number(m->page_size ? m->page_size : UINT64_MAX));
	json_object_set_new(json, "flags", json_flags(m));
	json_object_set_new(json, "allocated_bytes", tool_json_number(p->allocated));
	set_usage(r, json, &p->usage);
	if (p->has_waste)
		json_object_set_new(json, "waste", inspect_json_waste(r, p));
	return json;
}

static json_t *json_sources(uint32_t sources)
{
	json_t *list = json_array();

	for (size_t i = 0; i < NR(source_names); i++) {
		if (sources & source_names[i].source)
			json_array_append_new(list, json_string(source_names[i].name));
	}
	return list;
}

bool inspect_json(const struct inspect_result *r, struct tool_output *out)
{
	json_t *json = json_object();
	json_t *list = json_array();
	json_t *total = json_object();

	for (size_t i = 0; i < r->nr; i++)
		json_array_append_new(list, json_piece(r, &r->pieces[i]));
	set_usage(r, total, &r->total);
	json_object_set_new(json, "pid", json_integer(r->opts->pid));
	json_object_set_new(json, "name", tool_json_text(r->process.name));
	json_object_set_new(json, "found_by", json_string(r->found_by));
	json_object_set_new(json, "rss_bytes", tool_json_number(r->process.rss));
	json_object_set_new(json, "hugetlb_bytes", tool_json_number(r->process.hugetlb));
	json_object_set_new(json, "swap_bytes", tool_json_number(r->process.swap));
	json_object_set_new(json, "locked_bytes", tool_json_number(r->process.locked));
	json_object_set_new(json, "page_table_bytes", tool_json_number(r->process.page_tables));
	json_object_set_new(json, "ksm_merging_pages", tool_json_number(r->process.ksm_merging));
	json_object_set_new(json, "ksm_zero_pages", tool_json_number(r->process.ksm_zero));
	json_object_set_new(json, "ksm_profit_bytes", tool_json_number(r->process.ksm_profit));
	inspect_json_counters(r, json);
	json_object_set_new(json, "sources", json_sources(r->total.sources));
	json_object_set_new(json, "not_seen", tool_json_unseen(r->total.unseen));
	json_object_set_new(json, "total", total);
	json_object_set_new(json, "mappings", list);
	/* Watching gives one object a line. */
	return tool_json_write(json, out, r->opts->watch);
}

/* All pieces in a row; one alone keeps its addresses. */
bool inspect_draw(const struct inspect_result *r, struct tool_output *out)
{
	struct heatmap *map = r->pieces[0].map;
	uint64_t size = 0;
	uint64_t at = 0;
	char *title;
	bool well;

	for (size_t i = 0; i < r->nr; i++)
		size += r->pieces[i].mapping.len;
	if (r->nr > 1)
		map = heatmap_new(0, size, UINT64_C(1) << r->base_log2, 4096);
	for (size_t i = 0; i < r->nr && r->nr > 1; i++) {
		heatmap_merge(map, at, r->pieces[i].map);
		at += r->pieces[i].mapping.len;
	}
	title = tool_printf("%s, process %d: %s", r->process.name, (int)r->opts->pid, r->found_by);
	well = heatmap_draw(map, title, out);
	free(title);
	if (r->nr > 1)
		heatmap_free(map);
	return well;
}
