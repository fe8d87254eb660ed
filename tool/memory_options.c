/* SPDX-License-Identifier: BSD-3-Clause */
/* memory_options.c - options about memory that several sub-commands take. */
#include "memory_options.h"

#include <stdlib.h>
#include <string.h>

#include "tool.h"

#define NR(array) (sizeof(array) / sizeof((array)[0]))

bool memory_parse_size(const char *option, const char *value, uint64_t *ret)
{
	if (!tool_parse_size(value, ret) || *ret == 0)
		return tool_bad_value(option, value, "is not a size such as 512M");
	return true;
}

bool memory_size_fits(uint64_t size, uint64_t page)
{
	char name[TOOL_UNIT_CAP];

	if (size % page == 0)
		return true;
	tool_error("--size: %llu is not a multiple of the page size %s", (unsigned long long)size,
		tool_page_name(tool_log2(page), name));
	return false;
}

static bool parse_nodes(const char *text, struct gm_numa *numa)
{
	while (*text) {
		char *end;
		unsigned long first;
		unsigned long last;

		if (*text < '0' || *text > '9')
			return false;
		first = strtoul(text, &end, 10);
		last = first;
		if (*end == '-') {
			if (end[1] < '0' || end[1] > '9')
				return false;
			last = strtoul(end + 1, &end, 10);
		}
		if (last < first || last >= 64UL * GM_NUMA_WORDS)
			return false;
		for (; first <= last; first++)
			numa->nodes[first / 64] |= UINT64_C(1) << (first % 64);
		if (*end && *end != ',')
			return false;
		if (*end == ',' && !end[1])
			return false;
		text = *end ? end + 1 : end;
	}
	return true;
}

bool memory_parse_numa(const char *value, struct gm_numa *ret)
{
	static const struct {
		const char *name;
		uint32_t mode;
	} modes[] = {
		{"bind", GM_NUMA_BIND},
		{"preferred", GM_NUMA_PREFERRED},
		{"preferred-many", GM_NUMA_PREFERRED_MANY},
		{"interleave", GM_NUMA_INTERLEAVE},
		{"weighted-interleave", GM_NUMA_WEIGHTED_INTERLEAVE},
	};
	size_t len = strcspn(value, ":");

	*ret = (struct gm_numa){0};
	for (size_t i = 0; i < NR(modes); i++) {
		if (strlen(modes[i].name) == len && strncmp(modes[i].name, value, len) == 0)
			ret->mode = modes[i].mode;
	}
	if (ret->mode == GM_NUMA_DEFAULT || value[len] != ':' || !value[len + 1] ||
		!parse_nodes(value + len + 1, ret))
		return tool_bad_value("numa", value, "is not like bind:0 or interleave:0-1");
	return true;
}

static bool choice_of(const char *word, size_t len, struct gm_page_choice *ret)
{
	static const struct {
		const char *name;
		struct gm_page_choice choice;
	} words[] = {
		{"base", {GM_PAGE_BASE, 0}},
		{"4K", {GM_PAGE_BASE, 0}},
		{"16K", {GM_PAGE_THP, 14}},
		{"32K", {GM_PAGE_THP, 15}},
		{"64K", {GM_PAGE_THP, 16}},
		{"128K", {GM_PAGE_THP, 17}},
		{"256K", {GM_PAGE_THP, 18}},
		{"512K", {GM_PAGE_THP, 19}},
		{"1M", {GM_PAGE_THP, 20}},
		{"thp", {GM_PAGE_THP, 0}},
		{"2M", {GM_PAGE_HUGETLB, 21}},
		{"1G", {GM_PAGE_HUGETLB, 30}},
	};

	for (size_t i = 0; i < NR(words); i++) {
		if (strlen(words[i].name) == len && strncmp(words[i].name, word, len) == 0) {
			*ret = words[i].choice;
			return true;
		}
	}
	return false;
}

bool memory_parse_pages(const char *option, const char *value, struct memory_pages *ret)
{
	const char *at = value;

	*ret = (struct memory_pages){.text = value};
	if (strcmp(value, "default") == 0)
		return true;
	if (strcmp(value, "sparse") == 0) {
		ret->sparse = true;
		ret->choices[0].kind = GM_PAGE_BASE;
		return true;
	}
	for (size_t i = 0; i < GM_PAGE_CHOICES_MAX; i++) {
		size_t len = strcspn(at, ",");

		if (!choice_of(at, len, &ret->choices[i]))
			break;
		if (!at[len])
			return true;
		at += len + 1;
	}
	return tool_bad_value(option, value,
		"is not default, sparse, or up to six of base, 16K ... 1M, thp, 2M, 1G with "
		"commas");
}

uint64_t memory_largest_page(const struct memory_pages *pages, const struct gm_host *host)
{
	uint64_t largest = host->base_page;

	for (size_t i = 0; i < GM_PAGE_CHOICES_MAX; i++) {
		const struct gm_page_choice *choice = &pages->choices[i];
		uint64_t page = choice->log2 ? UINT64_C(1) << choice->log2 : 0;

		if (choice->kind == GM_PAGE_HUGETLB && page > largest)
			largest = page;
	}
	return largest;
}

bool memory_parse_backing(const char *value, struct memory_backing *ret)
{
	*ret = (struct memory_backing){.backing = GM_BACKING_ANON};
	if (strcmp(value, "anon") == 0)
		return true;
	if (strcmp(value, "shared") == 0)
		ret->backing = GM_BACKING_ANON_SHARED;
	else if (strcmp(value, "memfd") == 0)
		ret->backing = GM_BACKING_MEMFD;
	else if (strchr(value, '/'))
		*ret = (struct memory_backing){GM_BACKING_FILE, value};
	else
		return tool_bad_value("backing", value,
			"is none of anon, shared, memfd, and no path with a slash");
	return true;
}
