/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sparse.c - sparse regions: made, counted, their limit kept and told.
 *
 * The memory is anonymous, a memfd, or a file in a tmpfs of its own whose size is the limit. What is backed is never
 * remembered but asked of the kernel each time: blocks of the file, or page tables.
 */
#include "services/sparse.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/range.h"
#include "memory/avail.h"
#include "memory/block.h"
#include "sys/sys.h"
#include "sys/whole.h"

#define CPUID_EXTENDED 0x80000001u
#define CPUID_PAGE_1G (1u << 26)

/* ---- making ---- */

static const char *problem_of(const struct gm_sparse_opts *opts)
{
	uint64_t limit = opts->limit;

	if (opts->len == 0 || !gm_is_aligned(opts->gpa | opts->len, GM_SPARSE_UNIT))
		return "address and length are not multiples of 1 GiB";
	if (limit > opts->len || !gm_is_aligned(limit, gm_sys_page_size()))
		return "the limit is more than the length, or not a multiple of the page size";
	if ((opts->flags & ~(GM_SPARSE_SHARE | GM_SPARSE_HARD)) || opts->reserved)
		return "unknown flags";
	if (opts->at_limit > GM_SPARSE_RECLAIM)
		return "no such thing to do at the limit";
	if (opts->event_plus < 0)
		return "event_plus is 1 + an eventfd";
	for (int i = 0; i < GM_SPARSE_TELLS; i++) {
		if (opts->tell_at[i] > opts->len)
			return "a threshold is more than the length";
	}
	return NULL;
}

static int open_tmpfs(struct gm_sparse *sparse, struct gm_error *err)
{
	uint64_t limit = atomic_load(&sparse->limit);
	int rc;

	sparse->tmpfs = gm_sys_tmpfs(limit);
	if (sparse->tmpfs < 0)
		return gm_error_set(err, sparse->tmpfs, sparse->opts.gpa, limit,
			"%s: no tmpfs of %" PRIu64
			" bytes to keep the limit: %s (GM_SPARSE_HARD needs CAP_SYS_ADMIN)",
			sparse->name, limit, gm_error_word(sparse->tmpfs));
	sparse->fd = gm_sys_tmpfs_file(sparse->tmpfs);
	if (sparse->fd < 0)
		return gm_error_set(err, sparse->fd, 0, 0, "%s: no file in its tmpfs: %s",
			sparse->name, gm_error_word(sparse->fd));
	rc = gm_set_length(sparse->fd, sparse->opts.len);
	return rc ? gm_error_set(err, rc, 0, sparse->opts.len, "%s: cannot size its file: %s",
			    sparse->name, gm_error_word(rc))
		  : 0;
}

/* With the host's "always", small pages must be asked for. */
static bool host_gives_huge(bool shared)
{
	char text[96];
	const char *path = shared ? "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
				  : "/sys/kernel/mm/transparent_hugepage/enabled";

	if (gm_sys_read_text(path, text, sizeof(text)) < 0)
		return false;
	return strstr(text, "[always]") || strstr(text, "[within_size]") || strstr(text, "[force]");
}

static int add_region(struct gm_sparse *sparse, struct gm_error *err)
{
	bool hard = sparse->tmpfs >= 0;
	bool share = sparse->opts.flags & GM_SPARSE_SHARE;
	struct gm_block_opts backing = {
		.size = sizeof(backing),
		.len = sparse->opts.len,
		.backing = hard    ? GM_BACKING_FD
			   : share ? GM_BACKING_MEMFD
				   : GM_BACKING_ANON,
		.align = GM_SPARSE_UNIT,
		.reserve = GM_RESERVE_NONE,
		.fd = sparse->fd,
		.name = sparse->name,
	};
	struct gm_region_desc desc = {
		.size = sizeof(desc),
		.gpa = sparse->opts.gpa,
		.backing = &backing,
		.name = sparse->name,
		.numa_plus = sparse->opts.numa_plus,
	};
	struct gm_region_info info = {.size = sizeof(info)};
	int rc;

	if (!hard && host_gives_huge(share))
		backing.pages[0].kind = GM_PAGE_BASE;
	rc = gm_space_add(sparse->space, &desc, &sparse->region, err);
	if (rc)
		return rc;
	gm_space_region(sparse->space, sparse->region, &info);
	sparse->block = gm_block_get(info.block);
	sparse->hva = sparse->block->home.hva;
	return 0;
}

static void let_go(struct gm_sparse *sparse)
{
	gm_block_put(sparse->block);
	if (sparse->fd >= 0)
		gm_sys_close(sparse->fd);
	if (sparse->tmpfs >= 0)
		gm_sys_close(sparse->tmpfs);
	gm_sys_free(sparse);
}

int gm_sparse_create(struct gm_space *space, const struct gm_sparse_opts *user,
	struct gm_sparse **ret_sparse, struct gm_error *err)
{
	struct gm_sparse_opts opts;
	struct gm_sparse *sparse;
	const char *problem;
	char name[sizeof(sparse->name)];
	int rc = gm_opts_copy(&opts, sizeof(opts), user, sizeof(opts));

	if (rc)
		return gm_opts_error(err, rc, "sparse region");
	gm_copy_name(name, sizeof(name), opts.name ? opts.name : "sparse");
	problem = problem_of(&opts);
	if (problem)
		return gm_error_set(err, -EINVAL, opts.gpa, opts.len, "%s: %s", name, problem);
	sparse = gm_sys_alloc(sizeof(*sparse));
	if (!sparse)
		return gm_error_set(err, -ENOMEM, opts.gpa, opts.len, "%s: out of memory", name);
	memcpy(sparse->name, name, sizeof(name));
	sparse->space = space;
	sparse->opts = opts;
	sparse->opts.name = NULL;
	sparse->tmpfs = -1;
	sparse->fd = -1;
	atomic_init(&sparse->limit, opts.limit ? opts.limit : opts.len);
	if (opts.at_limit == GM_SPARSE_REFUSE || (opts.flags & GM_SPARSE_HARD))
		rc = open_tmpfs(sparse, err);
	if (!rc)
		rc = add_region(sparse, err);
	if (rc) {
		let_go(sparse);
		return rc;
	}
	*ret_sparse = sparse;
	return 0;
}

int gm_sparse_destroy(struct gm_sparse *sparse, struct gm_error *err)
{
	int rc = sparse ? gm_space_remove(sparse->space, sparse->region, err) : 0;

	if (sparse && !rc)
		let_go(sparse);
	return rc;
}

/* ---- counting ---- */

static int count_pages(const struct gm_sparse *sparse, struct gm_usage *ret, struct gm_error *err)
{
	struct gm_residency *res;
	int rc = gm_residency_open(0, &res, err);

	if (rc)
		return rc;
	*ret = (struct gm_usage){.size = sizeof(*ret)};
	rc = gm_residency_usage(res, (uintptr_t)sparse->hva, sparse->opts.len, 0, ret, err);
	gm_residency_close(res);
	return rc;
}

int gm_sparse_count(const struct gm_sparse *sparse, uint64_t *ret_used, uint64_t *ret_huge,
	struct gm_error *err)
{
	int fd = sparse->block->fd;
	struct gm_usage use;
	struct stat st;
	int rc;

	if (fd < 0 || ret_huge) {
		rc = count_pages(sparse, &use, err);
		if (rc)
			return rc;
		*ret_used = use.present + use.swapped;
		if (ret_huge)
			*ret_huge = use.by_log2[gm_thp_pmd_log2()];
	}
	if (fd < 0)
		return 0;
	rc = gm_sys_fstat(fd, &st);
	if (rc)
		return gm_error_set(err, rc, sparse->opts.gpa, sparse->opts.len,
			"%s: cannot count what is backed: %s", sparse->name, gm_error_word(rc));
	*ret_used = (uint64_t)st.st_blocks * 512;
	return 0;
}

int gm_sparse_info(struct gm_sparse *sparse, struct gm_sparse_info *ret_info, struct gm_error *err)
{
	struct gm_sparse_info info = {
		.size = sizeof(info),
		.region = sparse->region,
		.block = sparse->block,
		.gpa = sparse->opts.gpa,
		.len = sparse->opts.len,
		.limit = atomic_load(&sparse->limit),
		.added = atomic_load(&sparse->added),
		.fd = sparse->block->fd,
		.hard = sparse->tmpfs >= 0,
		.refused = atomic_load(&sparse->refused),
		.told = atomic_load(&sparse->told),
	};
	int rc;

	if (ret_info->size < sizeof(info))
		return gm_error_set(
			err, -EINVAL, 0, 0, "%s: the result's size is not set", sparse->name);
	rc = gm_sparse_count(sparse, &info.used, &info.huge, err);
	if (rc)
		return rc;
	info.size = ret_info->size;
	memcpy(ret_info, &info, sizeof(info));
	return 0;
}

/* ---- one at a time ---- */

int gm_sparse_enter(struct gm_sparse *sparse, struct gm_error *err)
{
	/* Pairs with the release in leave: what that thread wrote is seen. */
	if (!atomic_exchange_explicit(&sparse->busy, true, memory_order_acquire))
		return 0;
	return gm_error_set(err, -EBUSY, sparse->opts.gpa, sparse->opts.len,
		"%s: another thread is counting or taking back", sparse->name);
}

void gm_sparse_leave(struct gm_sparse *sparse)
{
	atomic_store_explicit(&sparse->busy, false, memory_order_release);
}

/* ---- telling ---- */

/* Once for each threshold, when it is passed upwards. */
static void tell_of(struct gm_sparse *sparse, int i, uint64_t at, uint64_t used)
{
	struct gm_sparse_event event = {sparse, used, at};
	uint64_t one = 1;
	bool over = at != 0 && used >= at;
	bool news = over && !sparse->over[i];

	sparse->over[i] = over;
	if (!news)
		return;
	atomic_fetch_add(&sparse->told, 1);
	if (sparse->opts.tell)
		sparse->opts.tell(sparse->opts.ctx, &event);
	/* Nobody waits for an eventfd that is full. */
	if (sparse->opts.event_plus)
		(void)gm_sys_write(sparse->opts.event_plus - 1, &one, sizeof(one));
}

static int poll_in(struct gm_sparse *sparse, uint64_t *ret_used, struct gm_error *err)
{
	uint64_t limit = atomic_load(&sparse->limit);
	uint64_t page = gm_sys_page_size();
	uint64_t goal = limit > page ? limit - page : 0;
	uint64_t used;
	int rc = gm_sparse_count(sparse, &used, NULL, err);

	if (rc)
		return rc;
	for (int i = 0; i < GM_SPARSE_TELLS; i++)
		tell_of(sparse, i, sparse->opts.tell_at[i], used);
	tell_of(sparse, GM_SPARSE_TELLS, limit, used);
	if (used >= limit && sparse->opts.at_limit == GM_SPARSE_RECLAIM) {
		struct gm_sparse_reclaimed r = {.size = sizeof(r)};

		/* Some room, or the next touch would be refused again. */
		rc = gm_sparse_reclaim_in(sparse, goal - goal / 32, 0, &r, err);
		used = r.after;
	}
	if (rc < 0)
		return rc;
	*ret_used = used;
	if (used < limit)
		return 0;
	atomic_fetch_add(&sparse->refused, 1);
	return 1;
}

int gm_sparse_poll(struct gm_sparse *sparse, uint64_t *ret_used, struct gm_error *err)
{
	uint64_t used = 0;
	int rc = gm_sparse_enter(sparse, err);

	if (rc)
		return rc;
	rc = poll_in(sparse, &used, err);
	gm_sparse_leave(sparse);
	if (rc >= 0 && ret_used)
		*ret_used = used;
	return rc;
}

/* ---- limit and pages ---- */

int gm_sparse_set_limit(struct gm_sparse *sparse, uint64_t limit, struct gm_error *err)
{
	int rc = 0;

	if (limit == 0 || limit > sparse->opts.len || !gm_is_aligned(limit, gm_sys_page_size()))
		return gm_error_set(err, -EINVAL, sparse->opts.gpa, limit,
			"%s: a limit of %" PRIu64 " bytes: it is from a page to the length, in "
			"whole pages",
			sparse->name, limit);
	if (sparse->tmpfs >= 0)
		rc = gm_sys_tmpfs_resize(sparse->tmpfs, limit);
	if (rc)
		return gm_error_set(err, rc, sparse->opts.gpa, limit,
			"%s: a limit of %" PRIu64 " bytes: %s%s", sparse->name, limit,
			gm_error_word(rc), rc == -EBUSY ? " (more is backed than that)" : "");
	atomic_store(&sparse->limit, limit);
	return 0;
}

int gm_sparse_pages(struct gm_sparse *sparse, uint64_t off, uint64_t len,
	const struct gm_page_choice *choice, struct gm_error *err)
{
	bool huge = choice->kind == GM_PAGE_THP &&
		    (choice->log2 == 0 || choice->log2 == gm_thp_pmd_log2());
	uint64_t gpa = sparse->opts.gpa;
	struct gm_range range;
	int rc;

	if (off > sparse->opts.len || len > sparse->opts.len - off)
		return gm_error_set(err, -ERANGE, gpa, len,
			"%s: offset 0x%" PRIx64 " and %" PRIu64 " bytes pass its end", sparse->name,
			off, len);
	if (sparse->tmpfs < 0 || !huge)
		return gm_policy_set(sparse->space, gpa + off, len, choice, err);
	/* The file system's own setting is "advise", whatever the host's is for others. */
	if (!gm_range_make((uintptr_t)sparse->hva + off, len, &range) ||
		!gm_range_align_in(&range, gm_sys_page_size(), &range))
		return 0;
	do {
		rc = gm_sys_madvise(
			(void *)(uintptr_t)range.first, gm_range_len(&range), MADV_HUGEPAGE);
	} while (rc == -EINTR);
	return rc ? gm_error_set(err, rc, gpa + off, len, "%s: huge pages: %s", sparse->name,
			    gm_error_word(rc))
		  : 0;
}

/* ---- huge pages ---- */

/* What promotions may still add: of the bloat that is allowed, and of the limit. */
static uint64_t room_for_bloat(const struct gm_sparse *sparse, uint64_t used)
{
	uint64_t added = atomic_load(&sparse->added);
	uint64_t limit = atomic_load(&sparse->limit);
	uint64_t useful = used > added ? used - added : 0;
	uint64_t allowed = useful / 1000 * sparse->opts.bloat;
	uint64_t room = limit > used ? limit - used : 0;

	allowed = allowed > added ? allowed - added : 0;
	return allowed < room ? allowed : room;
}

/* Addresses elsewhere go to the end; returns how many are left. */
static size_t keep_ours(const struct gm_sparse *sparse, struct gm_heat *items, size_t nr)
{
	size_t kept = 0;

	for (size_t i = 0; i < nr; i++) {
		struct gm_heat item = items[i];

		if (item.gpa < sparse->opts.gpa || item.gpa - sparse->opts.gpa >= sparse->opts.len)
			continue;
		items[i] = items[kept];
		items[kept++] = item;
	}
	return kept;
}

int gm_sparse_promote(struct gm_sparse *sparse, struct gm_heat *items, size_t nr, uint32_t flags,
	struct gm_policy_result *ret, struct gm_error *err)
{
	struct gm_policy_result r = {.size = sizeof(r)};
	uint64_t used;
	int rc;

	if (ret && ret->size < sizeof(r))
		return gm_error_set(
			err, -EINVAL, 0, 0, "%s: the result's size is not set", sparse->name);
	rc = gm_sparse_enter(sparse, err);
	if (rc)
		return rc;
	rc = gm_sparse_count(sparse, &used, NULL, err);
	/* What was discarded since is not counted as added for ever. */
	if (!rc && atomic_load(&sparse->added) > used)
		atomic_store(&sparse->added, used);
	if (!rc)
		rc = gm_policy_promote(sparse->space, items, keep_ours(sparse, items, nr),
			room_for_bloat(sparse, used), flags, &r, err);
	atomic_fetch_add(&sparse->added, r.added);
	gm_sparse_leave(sparse);
	if (ret) {
		r.size = ret->size;
		*ret = r;
	}
	return rc;
}

bool gm_sparse_cpuid(uint32_t leaf, uint32_t *edx)
{
	if (leaf != CPUID_EXTENDED)
		return false;
	*edx |= CPUID_PAGE_1G;
	return true;
}
