/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * host_cgroup.c - the memory limit of the control group this process is in.
 *
 * The limit that counts is the smallest one on the way from the group to the root. Version 1 and
 * version 2 may be mounted at once; the one that has the memory controller decides.
 */
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "services/host.h"
#include "services/text.h"
#include "sys/sys.h"

#define PATH_CAP 4096

struct place {
	char mount[PATH_CAP]; /* where the hierarchy is mounted */
	char root[PATH_CAP];  /* which group is at the mount point */
	char group[PATH_CAP]; /* the group of this process */
	const char *limit_file;
	const char *current_file;
};

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

/* Walks from the group upwards to the mount point. */
static void smallest_limit(struct gm_host *host, struct place *place)
{
	char path[3 * PATH_CAP];
	char *group = place->group;
	size_t skip = strlen(place->root);

	/* In a namespace or a bind mount the mount point stands for @root. */
	if (skip > 1 && strncmp(group, place->root, skip) == 0)
		group += skip;
	for (;;) {
		char *slash = strrchr(group, '/');
		uint64_t limit;

		snprintf(path, sizeof(path), "%s%s/%s", place->mount, group, place->limit_file);
		limit = gm_text_file_number(path);
		/* Version 1 says "unlimited" as the largest multiple of a page in a long. */
		if (limit < (UINT64_C(1) << 62) && limit < host->cgroup_limit) {
			host->cgroup_limit = limit;
			gm_copy_name(host->cgroup_file, sizeof(host->cgroup_file), path);
			snprintf(path, sizeof(path), "%s%s/%s", place->mount, group,
				place->current_file);
			host->cgroup_current = gm_text_file_number(path);
		}
		if (!slash)
			return;
		*slash = '\0';
	}
}

static bool probe_v1(
	struct gm_host *host, const char *mounts, const char *groups, struct place *place)
{
	if (!find_mount(mounts, "cgroup", "memory", place) || !find_group(groups, "memory", place))
		return false;
	place->limit_file = "memory.limit_in_bytes";
	place->current_file = "memory.usage_in_bytes";
	host->cgroup_version = 1;
	smallest_limit(host, place);
	return true;
}

static bool probe_v2(
	struct gm_host *host, const char *mounts, const char *groups, struct place *place)
{
	char path[PATH_CAP + 32];
	char text[256];

	if (!find_mount(mounts, "cgroup2", NULL, place) || !find_group(groups, "", place))
		return false;
	snprintf(path, sizeof(path), "%s/cgroup.controllers", place->mount);
	if (gm_sys_read_text(path, text, sizeof(text)) < 0 || !strstr(text, "memory"))
		return false;
	place->limit_file = "memory.max";
	place->current_file = "memory.current";
	host->cgroup_version = 2;
	smallest_limit(host, place);
	return true;
}

void gm_host_probe_cgroup(struct gm_host *host)
{
	const size_t cap = (size_t)256 * 1024;
	char *mounts = gm_sys_alloc(cap);
	char *groups = gm_sys_alloc(cap);
	struct place *place = gm_sys_alloc(sizeof(*place));

	if (mounts && groups && place &&
		gm_sys_read_text("/proc/self/mountinfo", mounts, cap) > 0 &&
		gm_sys_read_text("/proc/self/cgroup", groups, cap) > 0) {
		if (!probe_v1(host, mounts, groups, place))
			probe_v2(host, mounts, groups, place);
	}
	gm_sys_free(place);
	gm_sys_free(groups);
	gm_sys_free(mounts);
}
