/* SPDX-License-Identifier: BSD-3-Clause */
/* exec_memory.c - the memory that "guestmem exec" lends: what the host must allow for it, and its
 * fd. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>

#include "exec.h"

/* The word for PMD-sized pages of shared memory that counts; *ret_knob is the file that has it. */
static const char *shmem_setting(const struct gm_host *host, const char **ret_knob)
{
	static char knob[96];

	*ret_knob = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
	for (uint32_t i = 0; i < host->nr_thp; i++) {
		const struct gm_host_thp *thp = &host->thp[i];

		if (thp->page_size != host->thp_page || !thp->shmem_enabled[0] ||
			strcmp(thp->shmem_enabled, "inherit") == 0)
			continue;
		/* deny and force stand above the sizes. */
		if (strcmp(host->shmem_enabled, "deny") == 0 ||
			strcmp(host->shmem_enabled, "force") == 0)
			break;
		snprintf(knob, sizeof(knob),
			"/sys/kernel/mm/transparent_hugepage/hugepages-%llukB/shmem_enabled",
			(unsigned long long)(thp->page_size / 1024));
		*ret_knob = knob;
		return thp->shmem_enabled;
	}
	return host->shmem_enabled;
}

bool exec_host_allows(const struct exec_opts *o, const struct gm_host *host)
{
	const char *knob;
	const char *word;

	if (o->policy != EXEC_THP)
		return true;
	word = shmem_setting(host, &knob);
	if (!word[0]) {
		tool_error("--page-size thp: this kernel has no transparent huge pages for shared "
			   "memory");
		return false;
	}
	if (strcmp(word, "never") != 0 && strcmp(word, "deny") != 0)
		return true;
	tool_error("--page-size thp: the host says '%s' for shared memory: echo advise > %s", word,
		knob);
	return false;
}

/*
 * Base pages: the memory's user may advise huge pages (QEMU does), so it is forbidden for us and,
 * inherited over fork and exec, for the command. For THP an inherited prohibition is lifted.
 */
bool exec_set_thp_switch(const struct exec_opts *o)
{
	if (o->policy == EXEC_DEFAULT)
		return true;
	if (prctl(PR_SET_THP_DISABLE, o->policy == EXEC_BASE, 0, 0, 0) == 0)
		return true;
	tool_error("--page-size %s: PR_SET_THP_DISABLE: %s", exec_policy_name(o->policy),
		strerror(errno));
	return false;
}

static int dup_high(int from)
{
	int fd = fcntl(from, F_DUPFD_CLOEXEC, 10);

	if (fd < 0)
		tool_error("memory: no file descriptor is left: %s (ulimit -n)",
			errno == EINVAL ? "the limit is 10 or less" : strerror(errno));
	return fd;
}

/* Sparse memory of which the kernel gives no more than the limit; the file keeps its file system. */
static int make_limited(const struct exec_opts *o)
{
	struct gm_sparse_opts opts = {
		.size = sizeof(opts),
		.len = o->size,
		.limit = o->limit,
		.at_limit = GM_SPARSE_REFUSE,
		.name = o->name,
	};
	struct gm_space_opts space_opts = {.size = sizeof(space_opts), .gpa_limit = GM_SPARSE_UNIT};
	struct gm_sparse_info info = {.size = sizeof(info)};
	struct gm_sparse *sparse = NULL;
	struct gm_space *space = NULL;
	struct gm_error err;
	int fd = -1;

	if (gm_space_create(&space_opts, &space, &err) < 0 ||
		gm_sparse_create(space, &opts, &sparse, &err) < 0 ||
		gm_sparse_info(sparse, &info, &err) < 0)
		tool_error("memory of %llu bytes, limited to %llu: %s", (unsigned long long)o->size,
			(unsigned long long)o->limit, err.text);
	else
		fd = dup_high(info.fd);
	gm_sparse_destroy(sparse, NULL);
	gm_space_destroy(space);
	return fd;
}

/* The memory's fd, above the standard ones and close-on-exec; -1 after a message. */
int exec_make_memory(const struct exec_opts *o)
{
	static const struct gm_page_choice choices[] = {
		[EXEC_DEFAULT] = {GM_PAGE_NONE, 0},
		[EXEC_BASE] = {GM_PAGE_BASE, 0},
		[EXEC_THP] = {GM_PAGE_THP, 0},
		[EXEC_2M] = {GM_PAGE_HUGETLB, 21},
		[EXEC_1G] = {GM_PAGE_HUGETLB, 30},
	};
	struct gm_block_opts opts = {
		.size = sizeof(opts),
		.len = o->size,
		.backing = GM_BACKING_MEMFD,
		.flags = o->populate ? GM_BLOCK_POPULATE : 0,
		.pages = {choices[o->policy]},
		.fd = -1,
		.name = o->name,
		.numa = o->numa,
	};
	struct gm_block_info info = {.size = sizeof(info)};
	struct gm_block *block;
	struct gm_error err;
	int fd;

	if (o->limit)
		return make_limited(o);
	if (gm_block_create(&opts, &block, &err) < 0) {
		tool_error("memory of %llu bytes: %s", (unsigned long long)o->size, err.text);
		return -1;
	}
	/* The fd alone keeps pages, policy and reservation; our own mapping of it would only be in
	 * the way. */
	gm_block_info(block, &info);
	fd = !o->nr_from || exec_fill(o, info.hva) ? dup_high(info.fd) : -1;
	gm_block_put(block);
	return fd;
}
