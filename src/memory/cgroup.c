/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cgroup.c - the memory limits of the control group this process is in.
 *
 * A limit counts on every level from the group up to the root. Version 1 and version 2 may be
 * mounted at once; the one that has the memory controller decides.
 */
#include "memory/cgroup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "sys/sys.h"

#define PATH_CAP 4096
#define TEXT_CAP ((size_t)256 * 1024)

/* The files of a version, and the lines of memory.stat that count the pages of files. */
struct names {
	uint32_t version;
	const char *limit;
	const char *current;
	const char *inactive;
	const char *active;
};

static const struct names names_v1 = {
	.version = 1,
	.limit = "memory.limit_in_bytes",
	.current = "memory.usage_in_bytes",
	.inactive = "total_inactive_file ",
	.active = "total_active_file ",
};

static const struct names names_v2 = {
	.version = 2,
	.limit = "memory.max",
	.current = "memory.current",
	.inactive = "inactive_file ",
	.active = "active_file ",
};

struct place {
	char mount[PATH_CAP]; /* where the hierarchy is mounted */
	char root[PATH_CAP];  /* which group is at the mount point */
	char group[PATH_CAP]; /* the group of this process */
	char path[3 * PATH_CAP];
	char text[TEXT_CAP]; /* of a file */
	const struct names *names;
};

/* ---- where the group is ---- */

/* The @n-th (from 0) field of a line, separated by blanks; false if it is missing or too long. */
static bool field_at(const char *line, unsigned int n, char *ret, size_t cap)
{
	size_t len;

	for (; n > 0; n--) {
		line += strcspn(line, " \n");
		if (*line != ' ')
			return false;
		line++;
	}
	len = strcspn(line, " \n");
	if (len == 0 || len >= cap)
		return false;
	memcpy(ret, line, len);
	ret[len] = '\0';
	return true;
}

/* Finds a mount of @type (with @option among its options, if not NULL) in the text of mountinfo. */
static bool find_mount(const char *text, const char *type, const char *option, struct place *ret)
{
	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		char word[256];
		const char *tail;

		if (*line == '\n')
			line++;
		tail = strstr(line, " - ");
		if (!tail || !field_at(tail + 3, 0, word, sizeof(word)) || strcmp(word, type) != 0)
			continue;
		if (option && (!field_at(tail + 3, 2, word, sizeof(word)) || !strstr(word, option)))
			continue;
		if (field_at(line, 3, ret->root, PATH_CAP) &&
			field_at(line, 4, ret->mount, PATH_CAP))
			return true;
	}
	return false;
}

/* Is @word one of the words in @list, which are separated by commas and end at @len? */
static bool list_has(const char *list, size_t len, const char *word)
{
	size_t want = strlen(word);

	for (size_t at = 0; at <= len;) {
		size_t here = strcspn(list + at, ",:");

		if (here == want && strncmp(list + at, word, want) == 0)
			return true;
		at += here + 1;
	}
	return false;
}

/* "N:controllers:/path": the path of the line that has @controller ("" for version 2). */
static bool find_group(const char *text, const char *controller, struct place *ret)
{
	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		const char *names;
		const char *path;
		size_t len;

		if (*line == '\n')
			line++;
		names = strchr(line, ':');
		path = names ? strchr(names + 1, ':') : NULL;
		if (!path)
			return false;
		if (!list_has(names + 1, (size_t)(path - names - 1), controller))
			continue;
		len = strcspn(path + 1, "\n");
		if (len >= PATH_CAP)
			return false;
		memcpy(ret->group, path + 1, len);
		ret->group[len] = '\0';
		return true;
	}
	return false;
}

static bool find_v1(const char *mounts, const char *groups, struct place *place)
{
	place->names = &names_v1;
	return find_mount(mounts, "cgroup", "memory", place) && find_group(groups, "memory", place);
}

static bool find_v2(const char *mounts, const char *groups, struct place *place)
{
	char text[256];

	place->names = &names_v2;
	if (!find_mount(mounts, "cgroup2", NULL, place) || !find_group(groups, "", place))
		return false;
	snprintf(place->path, sizeof(place->path), "%s/cgroup.controllers", place->mount);
	return gm_sys_read_text(place->path, text, sizeof(text)) >= 0 && strstr(text, "memory");
}

/* ---- what holds there ---- */

/* The text of a file of a group, or false. */
static bool read_file(struct place *place, const char *group, const char *file)
{
	snprintf(place->path, sizeof(place->path), "%s%s/%s", place->mount, group, file);
	return gm_sys_read_text(place->path, place->text, sizeof(place->text)) > 0;
}

/* "max" and what is no number are UINT64_MAX. */
static uint64_t read_number(struct place *place, const char *group, const char *file)
{
	if (!read_file(place, group, file) || place->text[0] < '0' || place->text[0] > '9')
		return UINT64_MAX;
	return strtoull(place->text, NULL, 10);
}

static uint64_t stat_line(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (strncmp(line, key, len) == 0)
			return strtoull(line + len, NULL, 10);
	}
	return 0;
}

/* Pages of files that are in use, but are dropped rather than that anybody is refused memory. */
static uint64_t reclaimable(struct place *place, const char *group)
{
	uint64_t inactive;
	uint64_t active;
	uint64_t sum;

	if (!read_file(place, group, "memory.stat"))
		return 0;
	inactive = stat_line(place->text, place->names->inactive);
	active = stat_line(place->text, place->names->active);
	return __builtin_add_overflow(inactive, active, &sum) ? 0 : sum;
}

static void look_at(struct place *place, const char *group, struct gm_cgroup *ret)
{
	uint64_t limit = read_number(place, group, place->names->limit);
	uint64_t current;
	uint64_t cache;
	uint64_t left;
	bool lowest;

	/* Version 1 says "unlimited" as the largest multiple of a page in a long. */
	if (limit >= (UINT64_C(1) << 62))
		return;
	lowest = limit < ret->limit;
	if (lowest)
		gm_copy_name(ret->file, sizeof(ret->file), place->path);
	current = read_number(place, group, place->names->current);
	if (lowest) {
		ret->limit = limit;
		ret->current = current;
	}
	if (current == UINT64_MAX)
		return;
	cache = reclaimable(place, group);
	current = current > cache ? current - cache : 0;
	left = limit > current ? limit - current : 0;
	if (left < ret->available)
		ret->available = left;
}

/* From the group upwards to the mount point. */
static void look_at_all(struct place *place, struct gm_cgroup *ret)
{
	char *group = place->group;
	size_t skip = strlen(place->root);

	/* In a namespace or a bind mount the mount point stands for @root. */
	if (skip > 1 && strncmp(group, place->root, skip) == 0)
		group += skip;
	for (;;) {
		char *slash = strrchr(group, '/');

		look_at(place, group, ret);
		if (!slash)
			return;
		*slash = '\0';
	}
}

void gm_cgroup_read(struct gm_cgroup *ret)
{
	char *mounts = gm_sys_alloc(TEXT_CAP);
	char *groups = gm_sys_alloc(TEXT_CAP);
	struct place *place = gm_sys_alloc(sizeof(*place));

	*ret = (struct gm_cgroup){
		.limit = UINT64_MAX, .current = UINT64_MAX, .available = UINT64_MAX};
	if (mounts && groups && place &&
		gm_sys_read_text("/proc/self/mountinfo", mounts, TEXT_CAP) > 0 &&
		gm_sys_read_text("/proc/self/cgroup", groups, TEXT_CAP) > 0 &&
		(find_v1(mounts, groups, place) || find_v2(mounts, groups, place))) {
		ret->version = place->names->version;
		look_at_all(place, ret);
	}
	gm_sys_free(place);
	gm_sys_free(groups);
	gm_sys_free(mounts);
}
