/* SPDX-License-Identifier: BSD-3-Clause */
/* json.c - the little that jansson does not have. */
#include "json.h"

#include <errno.h>

#include <guestmem/residency.h>

json_t *tool_json_text(const char *text)
{
	char shown[4096];
	json_t *json = json_string(text);

	return json ? json : json_string(tool_escape(text, shown, sizeof(shown)));
}

json_t *tool_json_number(uint64_t n)
{
	/* JSON integers here are signed. */
	return n > INT64_MAX ? json_null() : json_integer((json_int_t)n);
}

json_t *tool_json_sizes(const uint64_t *by_log2, uint32_t base_log2, uint32_t pmd_log2)
{
	json_t *sizes = json_object();

	for (uint32_t log2 = 0; log2 <= GM_USAGE_LOG2_MAX; log2++) {
		char name[TOOL_UNIT_CAP];

		if (by_log2[log2] == 0 && log2 != base_log2 && log2 != pmd_log2 && log2 != 30)
			continue;
		json_object_set_new(
			sizes, tool_page_name(log2, name), tool_json_number(by_log2[log2]));
	}
	return sizes;
}

json_t *tool_json_unseen(uint32_t unseen)
{
	static const struct {
		uint32_t bit;
		const char *text;
	} known[] = {
		{GM_UNSEEN_FOLIOS, "multi-size huge pages count as base pages"},
		{GM_UNSEEN_SHARED, "which pages are mapped more than once"},
		{GM_UNSEEN_ZERO, "zero pages count as present"},
		{GM_UNSEEN_PMD, "huge page-table entries are guessed or count as base pages"},
		{GM_UNSEEN_GUARD, "guard pages may count as swapped"},
	};
	json_t *list = json_array();

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (unseen & known[i].bit)
			json_array_append_new(list, json_string(known[i].text));
	}
	return list;
}

bool tool_json_write(json_t *json, struct tool_output *out, bool compact)
{
	size_t flags = (compact ? JSON_COMPACT : JSON_INDENT(2)) | JSON_REAL_PRECISION(9);
	FILE *file = tool_output_begin(out);
	bool well = false;

	if (file) {
		errno = 0;
		well = json_dumpf(json, file, flags) == 0;
		well = well && fputc('\n', file) != EOF && fflush(file) == 0;
		if (!well)
			tool_output_failed(out, errno);
	}
	json_decref(json);
	return well;
}
