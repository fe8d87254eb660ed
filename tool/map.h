/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * map.h - what the parts of "guestmem map" share.
 *
 * A file is read into a list of nodes, each with the line on which it stands; a space is built from
 * them, without memory; what shows in it is listed. Whatever is wrong with a file is told as a line
 * and a reason.
 */
#ifndef TOOL_MAP_H
#define TOOL_MAP_H

#include <guestmem/guestmem.h>

#include "tool.h"

#define MAP_FILE_MAX (16u << 20) /* bytes of a file */
#define MAP_NODES_MAX 100000u    /* regions in it */
#define MAP_DEPTH_MAX 64u        /* regions within each other */
#define MAP_RAM_MAX (1ull << 46) /* bytes of memory in all of them */
#define MAP_NUMA_MAX 1023u
#define MAP_NAME_CAP 32u
#define MAP_NONE UINT32_MAX

/* What is wrong, and where. Line 0: with the file as a whole. */
struct map_fault {
	uint32_t line;
	char why[GM_ERROR_TEXT_MAX];
};

struct map_node {
	char name[MAP_NAME_CAP];
	char alias_of[MAP_NAME_CAP];
	uint32_t line;
	uint32_t parent; /* index, or MAP_NONE */
	uint32_t target; /* of an alias: index */
	uint32_t kind;
	uint32_t alias_line;
	uint32_t numa; /* or MAP_NONE */
	uint32_t perms;
	int32_t priority;
	uint64_t at;
	uint64_t size; /* 0: all that there is */
	uint64_t alias_off;
	uint64_t label;
	uint64_t id; /* in the space */
	bool disabled;
	bool detached;
	bool hotplug;
};

/* A stretch of what shows. */
struct map_stretch {
	uint64_t first;
	uint64_t last;
	uint64_t off; /* in its region */
	uint32_t perms;
	const struct map_node *node;
};

struct map_layout {
	const char *path;
	char name[MAP_NAME_CAP];
	struct map_node *nodes; /* a node stands before those that lie in it */
	uint32_t nr;
	struct gm_space *space;
	struct map_stretch *flat;
	size_t nr_flat;
	struct map_fault fault;
};

/* ---- map_read.c ---- */
/* Nodes from a text, names resolved; false with a fault. The text must not be longer than a file. */
bool map_read(struct map_layout *layout, const char *text, size_t len);
__attribute__((format(printf, 3, 4))) bool map_fail(
	struct map_layout *layout, uint32_t line, const char *fmt, ...);

/* ---- map_file.c ---- */
/* Reads a file and builds what it describes; "-" is standard input. False after a message. */
bool map_load(struct map_layout *layout, const char *path);
void map_free(struct map_layout *layout);

/* ---- map_build.c ---- */
/* The space and what shows in it; false with a fault. */
bool map_build(struct map_layout *layout);

/* ---- map_diff.c ---- */
/* A stretch that shows one thing before and another thing, or nothing, after. */
struct map_change {
	uint64_t first;
	uint64_t last;
	const struct map_stretch *before; /* or NULL */
	const struct map_stretch *after;  /* or NULL */
};

/* Calls @fn for each change by rising address. */
void map_compare(const struct map_layout *before, const struct map_layout *after,
	void (*fn)(void *ctx, const struct map_change *change), void *ctx);

/* ---- map_show.c ---- */
/* "rwx" with '-' for what is not allowed. */
const char *map_perms(uint32_t perms, char buf[4]);
/* As GM_DUMP_* says; false after a message, or if standard output takes no more. */
bool map_print(const struct map_layout *layout, uint32_t flags);
void map_print_change(const struct map_change *change);

/* ---- map_e820.c ---- */
struct map_e820 {
	struct gm_e820_entry *table;
	size_t nr;
};

/* Whoever calls it frees the table. False if there can be none, with the reason in *ret_err. */
bool map_make_e820(const struct map_layout *layout, struct map_e820 *ret, struct gm_error *ret_err);
const char *map_e820_meaning(uint32_t type);
/* False after a message. */
bool map_print_e820(const struct map_layout *layout);

/* ---- map_json.c ---- */
/* One layout, or two with the differences. False after a message. */
bool map_write_json(
	const struct map_layout *before, const struct map_layout *after, struct tool_output *out);

#endif
