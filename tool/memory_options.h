/* SPDX-License-Identifier: BSD-3-Clause */
/* memory_options.h - options about memory that several sub-commands take. */
#ifndef TOOL_MEMORY_OPTIONS_H
#define TOOL_MEMORY_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include <guestmem/block.h>
#include <guestmem/host.h>

/* --size: false after a message. */
bool memory_parse_size(const char *option, const char *value, uint64_t *ret);
/* --numa MODE:NODES: false after a message. */
bool memory_parse_numa(const char *value, struct gm_numa *ret);
/* Is @size a multiple of @page? False after a message. */
bool memory_size_fits(uint64_t size, uint64_t page);

/* What --pages takes: words such as base, 64K, thp, 2M, 1G, sparse, with commas between. */
struct memory_pages {
	const char *text; /* as it was given, or NULL */
	struct gm_page_choice choices[GM_PAGE_CHOICES_MAX];
	bool sparse; /* base pages, and nothing is promised */
};

/* @option: its name, for messages. False after a message. */
bool memory_parse_pages(const char *option, const char *value, struct memory_pages *ret);
/* The largest page that one of the choices is about, in bytes. */
uint64_t memory_largest_page(const struct memory_pages *pages, const struct gm_host *host);

/* What --backing takes: anon, shared, memfd or a file's path. */
struct memory_backing {
	uint32_t backing; /* enum gm_backing */
	const char *path; /* GM_BACKING_FILE */
};

/* False after a message. */
bool memory_parse_backing(const char *value, struct memory_backing *ret);

#endif
