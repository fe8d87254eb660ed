/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * block.c - making a block by the first page-size choice that works, describing it, and its life.
 *
 * Each choice is tried whole: file, mapping, advice, population, verification. A refusal costs one
 * line in the report and leaves nothing behind.
 */
#include "memory/block.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "memory/avail.h"
#include "memory/backend.h"
#include "memory/device.h"
#include "sys/sys.h"
#include "sys/whole.h"

#define FLAGS_KNOWN 0x1fffu

/* A file that this call made or grew, to be put back on failure. */
struct file_undo {
	const char *created;
	bool grown;
	uint64_t old_size;
};

static bool has_file(const struct gm_block *block)
{
	return block->backing == GM_BACKING_FILE || block->backing == GM_BACKING_FD;
}

static bool is_shmem(const struct gm_block *block)
{
	return block->backing != GM_BACKING_ANON;
}

bool gm_block_is_shareable(const struct gm_block *block)
{
	return block->fd >= 0 && !(block->opts.flags & GM_BLOCK_PRIVATE);
}

bool gm_block_is_exclusive(const struct gm_block *block)
{
	return !gm_block_is_shareable(block) && block->backing != GM_BACKING_POINTER &&
	       !gm_block_is_far(block);
}

bool gm_block_is_idle(struct gm_block *block)
{
	return gm_map_refs(&block->home) == 0;
}

/* What only a mapping could have. */
#define FLAGS_MAPPED                                                                               \
	(GM_BLOCK_PRIVATE | GM_BLOCK_POPULATE | GM_BLOCK_LOCK | GM_BLOCK_LOCK_ONFAULT |            \
		GM_BLOCK_DUMP | GM_BLOCK_FORK | GM_BLOCK_WIPEONFORK | GM_BLOCK_MERGE)

static const char *far_problem(const struct gm_block_opts *opts)
{
	bool ops = opts->backing == GM_BACKING_OPS;
	bool file = opts->backing == GM_BACKING_MEMFD || opts->backing == GM_BACKING_FILE ||
		    opts->backing == GM_BACKING_FD || (opts->flags & GM_BLOCK_SHARE);

	if (ops != !!opts->ops)
		return "GM_BACKING_OPS has callbacks, and no other backing has";
	if (ops && (opts->flags & ~GM_BLOCK_READONLY))
		return "memory of a backend takes no flags but GM_BLOCK_READONLY";
	if (!ops && !(opts->flags & GM_BLOCK_UNMAPPED))
		return NULL;
	if (!ops && !file)
		return "GM_BLOCK_UNMAPPED is for memfds, files and fds";
	if ((opts->flags & FLAGS_MAPPED) || opts->numa.mode || opts->align)
		return "what is not mapped cannot be populated, locked, inherited, merged, private "
		       "or placed";
	for (int i = 0; i < GM_PAGE_CHOICES_MAX; i++) {
		if (opts->pages[i].kind == GM_PAGE_THP || opts->pages[i].kind == GM_PAGE_BASE)
			return "transparent huge pages are chosen for a mapping, and it has none";
	}
	if (ops && (opts->pages[0].kind || opts->reserve))
		return "memory of a backend takes no pages and no reservation";
	return NULL;
}

static const char *flags_problem(const struct gm_block_opts *opts)
{
	uint32_t flags = opts->flags;
	bool file = opts->backing == GM_BACKING_FILE || opts->backing == GM_BACKING_FD;
	bool pointer = opts->backing == GM_BACKING_POINTER;

	if (flags & ~FLAGS_KNOWN)
		return "unknown flags";
	if ((flags & GM_BLOCK_SHARE) && (flags & GM_BLOCK_PRIVATE))
		return "GM_BLOCK_SHARE and GM_BLOCK_PRIVATE exclude each other";
	if ((flags & GM_BLOCK_SHARE) && opts->backing != GM_BACKING_ANON)
		return "GM_BLOCK_SHARE is for GM_BACKING_ANON";
	if ((flags & GM_BLOCK_PRIVATE) && !file)
		return "GM_BLOCK_PRIVATE is for files and fds";
	if ((flags & GM_BLOCK_NO_SEAL) && opts->backing != GM_BACKING_MEMFD &&
		!(flags & GM_BLOCK_SHARE))
		return "GM_BLOCK_NO_SEAL is for memfds";
	if ((flags & GM_BLOCK_MERGE) &&
		(opts->backing == GM_BACKING_MEMFD || (flags & GM_BLOCK_SHARE) ||
			(file && !(flags & GM_BLOCK_PRIVATE))))
		return "GM_BLOCK_MERGE is for private memory: the kernel merges no shared pages";
	if ((flags & GM_BLOCK_CREATE) && opts->backing != GM_BACKING_FILE)
		return "GM_BLOCK_CREATE is for GM_BACKING_FILE";
	if ((flags & GM_BLOCK_WIPEONFORK) &&
		(opts->backing != GM_BACKING_ANON || (flags & GM_BLOCK_SHARE) ||
			!(flags & GM_BLOCK_FORK)))
		return "GM_BLOCK_WIPEONFORK is for private anonymous memory with GM_BLOCK_FORK";
	if ((flags & GM_BLOCK_LOCK) && (flags & GM_BLOCK_LOCK_ONFAULT))
		return "GM_BLOCK_LOCK and GM_BLOCK_LOCK_ONFAULT exclude each other";
	if (pointer && (flags || opts->pages[0].kind || opts->numa.mode || opts->reserve))
		return "memory of the caller takes no flags, pages, NUMA policy or reservation";
	if (pointer && (!opts->addr || !gm_is_aligned((uintptr_t)opts->addr, gm_sys_page_size())))
		return "addr must be page-aligned memory";
	if (pointer && opts->len - 1 > UINTPTR_MAX - (uintptr_t)opts->addr)
		return "addr and length wrap past the end of memory";
	if (opts->backing == GM_BACKING_FILE && !opts->path)
		return "GM_BACKING_FILE needs a path";
	if (!file && opts->offset)
		return "offset is for files and fds";
	return NULL;
}

static const char *choices_problem(const struct gm_block_opts *opts)
{
	bool ended = false;

	for (int i = 0; i < GM_PAGE_CHOICES_MAX; i++) {
		const struct gm_page_choice *choice = &opts->pages[i];

		if (choice->kind == GM_PAGE_NONE)
			ended = true;
		else if (ended)
			return "a page choice stands behind the end of the list";
		if (choice->kind > GM_PAGE_HUGETLB ||
			(choice->kind <= GM_PAGE_BASE && choice->log2))
			return "no such page choice";
		if (choice->log2 && (choice->log2 < 13 || choice->log2 > 40))
			return "a page size is given as log2 of its bytes, 13 to 40";
	}
	return NULL;
}

static const char *opts_problem(const struct gm_block_opts *opts)
{
	const char *problem;

	if (opts->len == 0)
		return "the length is 0";
	if (!gm_is_aligned(opts->len, gm_sys_page_size()))
		return "the length is not a multiple of the page size";
	if (opts->len > (uint64_t)INT64_MAX)
		return "the length is larger than any address space";
	if (opts->backing > GM_BACKING_OPS)
		return "no such backing";
	if (opts->reserve > GM_RESERVE_REAL)
		return "no such reservation mode";
	if (opts->numa.mode > GM_NUMA_WEIGHTED_INTERLEAVE)
		return "no such NUMA mode";
	if (opts->align && (!gm_is_pow2(opts->align) || opts->align > (UINT64_C(1) << 40)))
		return "the alignment is not a power of two up to 2^40";
	if (opts->numa.mode == GM_NUMA_DEFAULT &&
		(opts->numa.home_plus || opts->numa.nodes[0] || opts->numa.nodes[1] ||
			opts->numa.nodes[2] || opts->numa.nodes[3]))
		return "NUMA nodes are given without a mode";
	if (opts->populate && !(opts->flags & GM_BLOCK_POPULATE) &&
		opts->reserve != GM_RESERVE_REAL)
		return "populate is given without GM_BLOCK_POPULATE";
	if (opts->populate && (opts->populate->off || opts->populate->len))
		return "populating at creation is for the whole block";
	problem = flags_problem(opts);
	if (!problem)
		problem = far_problem(opts);
	return problem ? problem : choices_problem(opts);
}

/* ---- the file behind a block ---- */

static int check_file(struct gm_block *block, struct gm_error *err)
{
	bool write = !(block->opts.flags & (GM_BLOCK_READONLY | GM_BLOCK_PRIVATE));
	uint64_t end;
	struct stat st;
	int flags;
	int rc = gm_sys_fstat(block->fd, &st);

	if (rc)
		return gm_error_set(err, rc, 0, 0, "%s: fstat: %s", block->name, gm_error_word(rc));
	if (!S_ISREG(st.st_mode))
		return gm_error_set(
			err, -ENODEV, 0, 0, "%s: the fd is not a file or memfd", block->name);
	if (!gm_is_aligned(block->offset, block->page_size))
		return gm_error_set(err, -EINVAL, 0, 0,
			"%s: offset 0x%" PRIx64 " is not a multiple of the page size %" PRIu64,
			block->name, block->offset, block->page_size);
	if (__builtin_add_overflow(block->offset, block->len, &end) || end > (uint64_t)st.st_size)
		return gm_error_set(err, -ERANGE, 0, block->len,
			"%s: offset 0x%" PRIx64 " and %" PRIu64
			" bytes pass the end of the file, which has %" PRIu64 " bytes",
			block->name, block->offset, block->len, (uint64_t)st.st_size);
	flags = gm_sys_open_flags(block->fd);
	if (flags < 0)
		return gm_error_set(err, flags, 0, 0, "%s: %s", block->name, gm_error_word(flags));
	if ((flags & O_ACCMODE) == O_WRONLY || (write && (flags & O_ACCMODE) == O_RDONLY))
		return gm_error_set(err, -EACCES, 0, 0,
			"%s: the fd is not open for %s (GM_BLOCK_READONLY or GM_BLOCK_PRIVATE may "
			"be meant)",
			block->name, write ? "reading and writing" : "reading");
	return 0;
}

/* A file could not be given the size @end. */
static int explain_size(
	int rc, const char *name, const char *what, uint64_t end, struct gm_error *err)
{
	struct rlimit limit;

	if (rc == -EFBIG && !gm_sys_getrlimit(RLIMIT_FSIZE, &limit) && end > limit.rlim_cur)
		return gm_error_set(err, rc, 0, end,
			"%s: %s: %" PRIu64 " bytes are more than the limit on the size of files, "
			"%" PRIu64 " (RLIMIT_FSIZE: ulimit -f, LimitFSIZE=)",
			name, what, end, (uint64_t)limit.rlim_cur);
	return gm_error_set(err, rc, 0, 0, "%s: %s: %s", name, what, gm_error_word(rc));
}

/* Opens the path; a missing file is made and a short one grown if that was asked for. */
static int open_path(struct gm_block *block, struct file_undo *undo, struct gm_error *err)
{
	const struct gm_block_opts *opts = &block->opts;
	bool write = !(opts->flags & (GM_BLOCK_READONLY | GM_BLOCK_PRIVATE));
	int mode = write || (opts->flags & GM_BLOCK_CREATE) ? O_RDWR : O_RDONLY;
	uint64_t end;
	struct stat st;
	int fd = -ENOENT;
	int rc = 0;

	if (opts->flags & GM_BLOCK_CREATE) {
		fd = gm_sys_open(opts->path, mode | O_CREAT | O_EXCL, 0600);
		if (fd >= 0)
			undo->created = opts->path;
	}
	if (fd == -EEXIST || !(opts->flags & GM_BLOCK_CREATE))
		fd = gm_sys_open(opts->path, mode | O_NONBLOCK, 0);
	if (fd < 0)
		return gm_error_set(
			err, fd, 0, 0, "%s: cannot open: %s", opts->path, gm_error_word(fd));
	block->fd = fd;
	if (!(opts->flags & GM_BLOCK_CREATE))
		return 0;
	rc = gm_sys_fstat(fd, &st);
	if (__builtin_add_overflow(opts->offset, opts->len, &end) && !rc)
		rc = -EFBIG;
	if (!rc && S_ISREG(st.st_mode) && (uint64_t)st.st_size < end) {
		undo->old_size = (uint64_t)st.st_size;
		rc = gm_set_length(fd, end);
		undo->grown = !rc;
	}
	if (rc)
		return explain_size(rc, opts->path, "cannot extend to offset + length", end, err);
	return 0;
}

static int make_memfd(struct gm_block *block, struct gm_error *err)
{
	unsigned int flags = MFD_ALLOW_SEALING;
	int rc;

	if (block->hugetlb)
		flags |= MFD_HUGETLB | (block->got.log2 << MAP_HUGE_SHIFT);
	block->fd = gm_sys_memfd(block->name, flags);
	if (block->fd < 0)
		return gm_error_set(err, block->fd, 0, 0, "%s: memfd_create: %s", block->name,
			gm_error_word(block->fd));
	rc = gm_set_length(block->fd, block->len);
	if (!rc && !(block->opts.flags & GM_BLOCK_NO_SEAL))
		rc = gm_sys_add_seals(block->fd, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
	if (rc)
		return explain_size(
			rc, block->name, "cannot size and seal the memfd", block->len, err);
	return 0;
}

static int open_backing(struct gm_block *block, struct file_undo *undo, struct gm_error *err)
{
	int64_t huge;
	int rc = 0;

	if (block->backing == GM_BACKING_MEMFD)
		return make_memfd(block, err);
	if (!has_file(block))
		return 0;
	if (block->backing == GM_BACKING_FILE) {
		rc = open_path(block, undo, err);
	} else {
		block->fd = gm_sys_dup(block->opts.fd);
		if (block->fd < 0)
			rc = gm_error_set(err, block->fd, 0, 0, "%s: fd %d: %s", block->name,
				block->opts.fd, gm_error_word(block->fd));
	}
	if (rc)
		return rc;
	huge = gm_sys_huge_page_size(block->fd);
	if (huge > 0) {
		block->hugetlb = true;
		block->page_size = (uint64_t)huge;
	}
	return check_file(block, err);
}

static void close_backing(struct gm_block *block, const struct file_undo *undo)
{
	if (undo->grown && !undo->created)
		gm_set_length(block->fd, undo->old_size);
	if (undo->created)
		gm_sys_unlink(undo->created);
	if (block->fd >= 0)
		gm_sys_close(block->fd);
	block->fd = -1;
}

/* ---- one choice of page size ---- */

/* Settles got, hugetlb and page_size before anything is made. */
static int settle_choice(struct gm_block *block, struct gm_page_choice choice, struct gm_error *err)
{
	char knob[160];
	uint32_t log2 = choice.log2;
	struct gm_pool pool;

	block->hugetlb = false;
	block->page_size = gm_sys_page_size();
	block->got = choice;
	if (choice.kind == GM_PAGE_THP) {
		block->got.log2 = log2 ? log2 : gm_thp_pmd_log2();
		if (block->len >> block->got.log2 == 0)
			return gm_error_set(err, -EINVAL, 0, block->len,
				"%s: %" PRIu64 " bytes are less than one page of %" PRIu64 " kB",
				block->name, block->len, (UINT64_C(1) << block->got.log2) >> 10);
		if (gm_thp_allowed(block->got.log2, is_shmem(block), knob, sizeof(knob)))
			return 0;
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"%s: the host gives no transparent huge pages of %" PRIu64
			" kB to %s memory: %s",
			block->name, (UINT64_C(1) << block->got.log2) >> 10,
			is_shmem(block) ? "shared" : "anonymous", knob);
	}
	if (choice.kind != GM_PAGE_HUGETLB)
		return 0;
	block->got.log2 = log2 ? log2 : gm_pool_default();
	/* A file has the pages of its file system; check_size() compares. */
	if (has_file(block))
		return 0;
	if (gm_pool_read(block->got.log2, &pool))
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"%s: the host has no huge pages of %" PRIu64
			" kB (see /sys/kernel/mm/hugepages)",
			block->name, (UINT64_C(1) << block->got.log2) >> 10);
	block->hugetlb = true;
	block->page_size = pool.page_size;
	return 0;
}

/* What the file or the length does not allow, once the page size is known. */
static int check_size(const struct gm_block *block, struct gm_error *err)
{
	uint64_t avail;

	if (block->got.kind == GM_PAGE_HUGETLB && has_file(block) &&
		(!block->hugetlb || block->page_size != UINT64_C(1) << block->got.log2))
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"%s: the file is not on a hugetlbfs with pages of %" PRIu64 " kB",
			block->name, (UINT64_C(1) << block->got.log2) >> 10);
	if (block->hugetlb && has_file(block) && block->got.kind != GM_PAGE_HUGETLB &&
		block->got.kind != GM_PAGE_NONE)
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"%s: the file has explicit huge pages of %" PRIu64 " kB, nothing else",
			block->name, block->page_size >> 10);
	if (!gm_is_aligned(block->len, block->page_size))
		return gm_error_set(err, -EINVAL, 0, block->len,
			"%s: the length %" PRIu64 " is not a multiple of the page size %" PRIu64,
			block->name, block->len, block->page_size);
	if (block->hugetlb || block->opts.reserve == GM_RESERVE_NONE || has_file(block))
		return 0;
	avail = gm_avail_bytes();
	if (block->len > avail)
		return gm_error_set(err, -ENOMEM, 0, block->len,
			"%s: %" PRIu64 " MiB are more than the %" PRIu64
			" MiB that are available (GM_RESERVE_NONE asks for no such check)",
			block->name, block->len >> 20, avail >> 20);
	return 0;
}

static int reserve_real(struct gm_block *block, struct gm_error *err)
{
	int rc;

	bool unmapped = block->opts.flags & GM_BLOCK_UNMAPPED;

	/* The mapping takes huge pages from the pool, and memory is populated by it. */
	if (block->opts.reserve != GM_RESERVE_REAL || (block->hugetlb && !unmapped) ||
		(!has_file(block) && !unmapped) ||
		(block->opts.flags & (GM_BLOCK_PRIVATE | GM_BLOCK_READONLY)))
		return 0;
	do {
		rc = gm_sys_fallocate(block->fd, 0, block->offset, block->len);
	} while (rc == -EINTR);
	if (rc)
		return gm_error_set(err, rc, 0, block->len,
			"%s: cannot reserve %" PRIu64 " bytes: %s", block->name, block->len,
			gm_error_word(rc));
	return 0;
}

/* Populates if it was asked for, and looks whether huge pages came of it. */
static int fill(struct gm_block *block, struct gm_error *err)
{
	bool wanted = (block->opts.flags & GM_BLOCK_POPULATE) ||
		      (block->opts.reserve == GM_RESERVE_REAL && !block->hugetlb &&
			      !has_file(block) && !gm_block_is_far(block));
	uint64_t huge;
	int rc;

	if (!wanted)
		return 0;
	rc = gm_map_populate(&block->home, block->opts.populate, err);
	if (rc || block->got.kind != GM_PAGE_THP || block->got.log2 != gm_thp_pmd_log2() ||
		block->len < UINT64_C(1) << block->got.log2 ||
		gm_map_count_huge(&block->home, &huge) || huge > 0)
		return rc;
	return gm_error_set(err, -ENOMEM, 0, block->len,
		"%s: populated, but the kernel gave no huge page (memory is fragmented, or the "
		"process forbids them: PR_SET_THP_DISABLE)",
		block->name);
}

static void release_memory(struct gm_block *block)
{
	if (gm_block_is_far(block))
		gm_backend_destroy(block->backend);
	else if (block->backing != GM_BACKING_POINTER)
		gm_map_release(&block->home);
	block->backend = NULL;
}

static int try_choice(struct gm_block *block, struct gm_page_choice choice,
	struct gm_window *window, uint64_t gpa, struct gm_error *err)
{
	struct file_undo undo = {0};
	int rc = settle_choice(block, choice, err);

	if (!rc)
		rc = open_backing(block, &undo, err);
	if (!rc)
		rc = check_size(block, err);
	if (!rc)
		rc = reserve_real(block, err);
	if (!rc && window && !gm_is_aligned(gpa, block->page_size))
		rc = gm_error_set(err, -EINVAL, gpa, block->len,
			"%s: gpa 0x%" PRIx64 " is not a multiple of the page size %" PRIu64,
			block->name, gpa, block->page_size);
	if (!rc && (block->opts.flags & GM_BLOCK_UNMAPPED))
		rc = gm_unmapped_create(block, &block->backend, err);
	else if (!rc)
		rc = gm_map_create(&block->home, window, gpa, err);
	if (rc) {
		close_backing(block, &undo);
		return rc;
	}
	rc = fill(block, err);
	/* The file may have shrunk between the first look and the mapping. */
	if (!rc && has_file(block))
		rc = check_file(block, err);
	if (rc) {
		release_memory(block);
		close_backing(block, &undo);
	}
	return rc;
}

static void note_refusal(struct gm_block *block, const struct gm_error *err)
{
	size_t used = strlen(block->why);
	const char *text = err->text;
	size_t name = strlen(block->name);

	/* The block's name stands in front of each text already. */
	if (strncmp(text, block->name, name) == 0 && text[name] == ':')
		text += name + 2;
	snprintf(block->why + used, sizeof(block->why) - used, "%s%s", used ? "; " : "", text);
}

static int try_choices(
	struct gm_block *block, struct gm_window *window, uint64_t gpa, struct gm_error *err)
{
	const struct gm_page_choice *pages = block->opts.pages;
	struct gm_error refusal = {0};
	int rc = 0;

	if (pages[0].kind == GM_PAGE_NONE) {
		block->choice = -1;
		return try_choice(block, pages[0], window, gpa, err);
	}
	for (int i = 0; i < GM_PAGE_CHOICES_MAX && pages[i].kind != GM_PAGE_NONE; i++) {
		block->choice = i;
		rc = try_choice(block, pages[i], window, gpa, &refusal);
		if (!rc)
			return 0;
		note_refusal(block, &refusal);
		/* The next choice cannot help against these. */
		if (rc == -ECANCELED || rc == -EEXIST)
			break;
	}
	return gm_error_set(err, rc, refusal.gpa, refusal.len, "%s: %s", block->name, block->why);
}

/* ---- life ---- */

static void init_home(struct gm_block *block)
{
	block->home = (struct gm_map){
		.block = block,
		.len = block->len,
		.home = true,
	};
}

static int make_memory(
	struct gm_block *block, struct gm_window *window, uint64_t gpa, struct gm_error *err)
{
	if (block->opts.flags & GM_BLOCK_UNMAPPED)
		return try_choices(block, NULL, 0, err);
	if (block->backing != GM_BACKING_POINTER && block->backing != GM_BACKING_OPS)
		return try_choices(block, window, gpa, err);
	block->page_size = gm_sys_page_size();
	block->choice = -1;
	if (block->backing == GM_BACKING_OPS)
		return gm_backend_create(block->opts.ops, &block->backend, err);
	block->home.hva = block->opts.addr;
	return 0;
}

static int create(const struct gm_block_opts *user, struct gm_window *window, uint64_t gpa,
	bool dark, struct gm_block **ret, struct gm_error *err)
{
	struct gm_block_opts opts;
	struct gm_block *block;
	const char *problem;
	char name[sizeof(block->name)];
	int rc;

	rc = gm_opts_copy(&opts, sizeof(opts), user, sizeof(opts));
	if (rc)
		return gm_opts_error(err, rc, "block");
	gm_copy_name(name, sizeof(name), opts.name ? opts.name : "guestmem");
	problem = opts_problem(&opts);
	if (problem)
		return gm_error_set(err, -EINVAL, 0, opts.len, "%s: %s", name, problem);
	block = gm_sys_alloc(sizeof(*block));
	if (!block)
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", name);
	memcpy(block->name, name, sizeof(name));
	block->refs = 1;
	block->fd = -1;
	block->opts = opts;
	block->len = opts.len;
	block->offset = opts.offset;
	block->dark = dark;
	block->backing = opts.backing == GM_BACKING_ANON && (opts.flags & GM_BLOCK_SHARE)
				 ? GM_BACKING_MEMFD
				 : opts.backing;
	init_home(block);
	rc = make_memory(block, window, gpa, err);
	if (rc) {
		gm_sys_free(block);
		return rc;
	}
	block->opts.path = NULL;
	block->opts.name = NULL;
	block->opts.populate = NULL;
	block->opts.ops = NULL;
	pthread_mutex_init(&block->lock, NULL);
	*ret = block;
	return 0;
}

int gm_block_create_at(const struct gm_block_opts *opts, struct gm_window *window, uint64_t gpa,
	struct gm_block **ret, struct gm_error *err)
{
	return create(opts, window, gpa, false, ret, err);
}

int gm_block_create_dark(const struct gm_block_opts *opts, struct gm_window *window, uint64_t gpa,
	struct gm_block **ret, struct gm_error *err)
{
	return create(opts, window, gpa, true, ret, err);
}

int gm_block_create(
	const struct gm_block_opts *opts, struct gm_block **ret_block, struct gm_error *err)
{
	return gm_block_create_at(opts, NULL, 0, ret_block, err);
}

struct gm_block *gm_block_get(struct gm_block *block)
{
	__atomic_fetch_add(&block->refs, 1, __ATOMIC_RELAXED);
	return block;
}

void gm_block_put(struct gm_block *block)
{
	if (!block || __atomic_fetch_sub(&block->refs, 1, __ATOMIC_ACQ_REL) != 1)
		return;
	release_memory(block);
	if (block->fd >= 0)
		gm_sys_close(block->fd);
	pthread_mutex_destroy(&block->lock);
	gm_device_put(block->device);
	gm_sys_free(block);
}

int gm_block_info(const struct gm_block *block, struct gm_block_info *ret_info)
{
	struct gm_block_info info = {
		.size = sizeof(info),
		.len = block->len,
		.backing = block->backing,
		.flags = block->opts.flags,
		.fd = block->fd,
		.choice = block->choice,
		.offset = block->offset,
		.page_size = block->page_size,
		.got = block->got,
	};

	if (ret_info->size < sizeof(info))
		return -EINVAL;
	/* The one thing that can change while others look. */
	pthread_mutex_lock((pthread_mutex_t *)(uintptr_t)&block->lock);
	info.hva = block->home.hva;
	pthread_mutex_unlock((pthread_mutex_t *)(uintptr_t)&block->lock);
	if (block->got.kind == GM_PAGE_THP)
		info.page_size = UINT64_C(1) << block->got.log2;
	memcpy(info.why, block->why, sizeof(info.why));
	memcpy(info.name, block->name, sizeof(info.name));
	info.size = ret_info->size;
	memcpy(ret_info, &info, sizeof(info));
	return 0;
}
