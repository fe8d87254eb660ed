/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_check.c - the memory that a listener is to make later: what cannot be is said at its start. */
#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "migrate.h"

/* What a file's name stands in; the file itself need not be there. */
static char *directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == path ? tool_strdup("/") : tool_printf("%.*s", (int)(slash - path), path);
}

static bool check_file(const char *path)
{
	char *directory = directory_of(path);
	struct stat st;
	int error = 0;

	if (stat(path, &st) == 0)
		error = S_ISREG(st.st_mode) ? access(path, R_OK | W_OK) ? errno : 0 : EINVAL;
	else if (errno != ENOENT || access(directory, W_OK | X_OK))
		error = errno;
	free(directory);
	if (error)
		tool_error("--backing: %s: %s", path,
			error == EINVAL ? "is no regular file" : strerror(error));
	return !error;
}

static uint64_t length_of(const struct gm_page_choice *choice, const struct gm_host *host)
{
	if (choice->log2)
		return UINT64_C(1) << choice->log2;
	return choice->kind == GM_PAGE_THP ? host->thp_page : host->base_page;
}

/* One page of this sort, where it is wished. */
static bool make_page(const struct run_memory_opts *m, const struct gm_page_choice *choice,
	const struct gm_host *host, struct gm_error *err)
{
	struct gm_block_opts opts = {.size = sizeof(opts),
		.len = length_of(choice, host),
		.backing = m->backing.path ? GM_BACKING_ANON : m->backing.backing,
		.flags = m->share && !m->backing.path ? GM_BLOCK_SHARE : 0,
		.fd = -1,
		.name = "memory",
		.numa = m->numa,
		.pages = {*choice}};
	struct gm_block *block;

	if (gm_block_create(&opts, &block, err) < 0)
		return false;
	gm_block_put(block);
	return true;
}

/* Of those that are wished one has to be there; how many a guest needs is known when it comes. */
static bool check_pages(const struct run_memory_opts *m, const struct gm_host *host)
{
	static const struct gm_page_choice any = {GM_PAGE_NONE, 0};
	const struct gm_page_choice *choices = m->pages.choices;
	struct gm_error first;
	struct gm_error err;

	/* Which pages a file has is the business of its file system. */
	if (m->backing.path || choices[0].kind == GM_PAGE_NONE) {
		if (make_page(m, &any, host, &first))
			return true;
	} else {
		for (size_t i = 0; i < GM_PAGE_CHOICES_MAX && choices[i].kind != GM_PAGE_NONE;
			i++) {
			if (make_page(m, &choices[i], host, i ? &err : &first))
				return true;
		}
	}
	run_memory_words(first.text);
	tool_error("migrate listen: a guest's memory could not be made: %s", first.text);
	return false;
}

/* Pages come on demand to anonymous memory, to memfds, and to files of their file systems. */
static bool on_demand(const struct memory_backing *backing)
{
	struct statfs fs;
	char *directory;
	bool known;

	if (!backing->path)
		return backing->backing != GM_BACKING_ANON_SHARED;
	directory = directory_of(backing->path);
	known = statfs(directory, &fs) == 0 &&
		(fs.f_type == TMPFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC);
	free(directory);
	return known;
}

bool migrate_check_memory(struct migrate_opts *o, const struct gm_host *host)
{
	const struct memory_backing *backing = &o->run.memory.backing;

	if ((backing->path && !check_file(backing->path)) || !check_pages(&o->run.memory, host))
		return false;
	if (o->in_flags & GM_MIGRATE_IN_NO_POSTCOPY || on_demand(backing))
		return true;
	o->in_flags |= GM_MIGRATE_IN_NO_POSTCOPY;
	if (!o->quiet)
		tool_note("--backing %s: pages do not come on demand to this memory: no post-copy "
			  "is taken",
			backing->path ? backing->path : "shared");
	return true;
}
