/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * block.h - host memory objects: created by a page-size policy, placed, populated, described.
 *
 * A block is one piece of host memory with its file descriptor (if it has one), page policy,
 * NUMA placement and seals. It is reference-counted. Guest memory is not inherited by
 * fork() and not part of core dumps unless asked for.
 */
#ifndef GUESTMEM_BLOCK_H
#define GUESTMEM_BLOCK_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/backend.h>
#include <guestmem/error.h>
#include <guestmem/export.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_block;

/** enum gm_backing - where the bytes of a block live */
enum gm_backing {
	GM_BACKING_ANON =
		0, /* anonymous and private: cheapest; with GM_BLOCK_SHARE a sealed memfd */
	GM_BACKING_ANON_SHARED, /* anonymous and shared: seen by children if GM_BLOCK_FORK, no fd */
	GM_BACKING_MEMFD, /* memfd, sealed against growing and shrinking; shared with whoever gets
			     the fd */
	GM_BACKING_FILE,  /* the file at opts.path, from opts.offset */
	GM_BACKING_FD,    /* opts.fd (file, memfd, hugetlbfs), from opts.offset; the fd is dup'ed */
	GM_BACKING_POINTER, /* opts.addr: memory of the caller that outlives the block; never moved
			       or unmapped */
	GM_BACKING_OPS,     /* opts.ops: a backend provides it, it is not mapped (backend.h) */
};

/** enum gm_page_kind - what a page-size choice asks for */
enum gm_page_kind {
	GM_PAGE_NONE = 0, /* end of the list of choices; alone: whatever the host does by itself */
	GM_PAGE_BASE,     /* base pages only (4 KiB on x86-64) */
	GM_PAGE_THP,      /* transparent huge pages, see gm_page_choice.log2 */
	GM_PAGE_HUGETLB,  /* explicit huge pages from a reserved pool, of size 1 << log2 */
};

/**
 * struct gm_page_choice - one wish for page sizes
 * @kind: enum gm_page_kind
 * @log2: size of a page: for GM_PAGE_HUGETLB 21 (2 MiB), 30 (1 GiB), 0 = the host's default huge
 * page; for GM_PAGE_THP 0 or 21 = PMD-sized pages, 13 to 20 = a multi-size order that must be
 * enabled on the host; for GM_PAGE_BASE 0
 */
struct gm_page_choice {
	uint32_t kind;
	uint32_t log2;
};

#define GM_PAGE_CHOICES_MAX 6

/** enum gm_reserve - whether memory is promised when the block is made */
enum gm_reserve {
	GM_RESERVE_DEFAULT = 0, /* hugetlb: GM_RESERVE_REAL, otherwise GM_RESERVE_CHECK */
	GM_RESERVE_NONE, /* nothing is promised (sparse regions): a shortage shows at first touch */
	GM_RESERVE_CHECK, /* refused when more than what is available now (machine and cgroup) */
	GM_RESERVE_REAL,  /* taken from the pool or the file system at once */
};

/** enum gm_numa_mode - memory policy; the names are the kernel's (mbind(2)) */
enum gm_numa_mode {
	GM_NUMA_DEFAULT = 0,
	GM_NUMA_BIND,
	GM_NUMA_PREFERRED,
	GM_NUMA_PREFERRED_MANY,
	GM_NUMA_INTERLEAVE,
	GM_NUMA_WEIGHTED_INTERLEAVE,
};

#define GM_NUMA_WORDS 4

/**
 * struct gm_numa - placement on memory nodes, applied before a page is populated
 * @mode:      enum gm_numa_mode
 * @home_plus: 1 + home node (GM_NUMA_BIND and _PREFERRED_MANY), or 0 for none
 * @nodes:     bit n of word n / 64 stands for node n
 */
struct gm_numa {
	uint32_t mode;
	uint32_t home_plus;
	uint64_t nodes[GM_NUMA_WORDS];
};

/**
 * struct gm_populate_opts - how to fill a block with pages
 * @size:        sizeof(struct gm_populate_opts)
 * @off:         first byte, a multiple of the block's page size
 * @len:         bytes, or 0 for all from @off
 * @threads:     number of threads to work with, the calling one included; 0 = one for each 64 MiB,
 * at most one a CPU
 * @reserved:    zero
 * @cancel:      optional, borrowed: when it becomes non-zero (from any thread) the work stops with
 * -ECANCELED
 * @progress:    optional: called from the calling thread with bytes done and the total
 * @progress_arg: passed to @progress
 */
struct gm_populate_opts {
	size_t size;
	uint64_t off;
	uint64_t len;
	uint32_t threads;
	uint32_t reserved;
	const int *cancel;
	void (*progress)(void *arg, uint64_t done, uint64_t total);
	void *progress_arg;
};

/* gm_block_opts.flags */
#define GM_BLOCK_SHARE 0x001u        /* ANON: a sealed memfd, so that there is an fd to give away */
#define GM_BLOCK_PRIVATE 0x002u      /* FILE, FD: copy on write; writes stay in this process */
#define GM_BLOCK_READONLY 0x004u     /* map without write permission */
#define GM_BLOCK_POPULATE 0x008u     /* fill with pages at once, as opts.populate says */
#define GM_BLOCK_LOCK 0x010u         /* mlock: never swapped; populates */
#define GM_BLOCK_LOCK_ONFAULT 0x020u /* mlock what is touched */
#define GM_BLOCK_DUMP 0x040u         /* keep in core dumps */
#define GM_BLOCK_FORK 0x080u         /* inherit by fork(): private memory is copied on write */
#define GM_BLOCK_WIPEONFORK 0x100u   /* a child finds zeros (anonymous private only) */
#define GM_BLOCK_MERGE 0x200u        /* let KSM merge equal pages of private memory */
#define GM_BLOCK_NO_SEAL 0x400u      /* memfd without GROW|SHRINK|SEAL seals */
#define GM_BLOCK_CREATE 0x800u       /* FILE: create it if missing, and extend it to offset + len */

/*
 * MEMFD, FILE, FD, and ANON with GM_BLOCK_SHARE: do not map it in this process. Accesses go by
 * positioned I/O on the file or map the pages for a moment; slices map them while they are held. A
 * read-only one still needs an fd that is open for reading.
 */
#define GM_BLOCK_UNMAPPED 0x1000u

/**
 * struct gm_block_opts - what a block is to be; zero means default
 * @size:     sizeof(struct gm_block_opts); bytes that the library does not know must be zero
 * @len:      bytes, a multiple of the page size that is got
 * @backing:  enum gm_backing
 * @flags:    GM_BLOCK_* bits
 * @pages:    choices of page size, best first; the first that works is taken; none: no advice is
 * given
 * @align:    alignment of the host address: a power of two, 0 = by page size (2 MiB at least, 1 GiB
 * for blocks that large)
 * @reserve:  enum gm_reserve
 * @fd:       GM_BACKING_FD: borrowed and dup'ed
 * @offset:   FILE, FD: byte in the file where the block begins, a multiple of the page size
 * @path:     GM_BACKING_FILE: borrowed
 * @addr:     GM_BACKING_POINTER: page-aligned memory of the caller
 * @name:     copied; shown in /proc/PID/maps, smaps and errors; NULL = "guestmem"
 * @numa:     placement
 * @populate: GM_BLOCK_POPULATE: its off and len must be 0; NULL = defaults; borrowed
 * @ops:      GM_BACKING_OPS: borrowed, copied
 */
struct gm_block_opts {
	size_t size;
	uint64_t len;
	uint32_t backing;
	uint32_t flags;
	struct gm_page_choice pages[GM_PAGE_CHOICES_MAX];
	uint64_t align;
	uint32_t reserve;
	int32_t fd;
	uint64_t offset;
	const char *path;
	void *addr;
	const char *name;
	struct gm_numa numa;
	const struct gm_populate_opts *populate;
	const struct gm_backend_ops *ops;
};

#define GM_BLOCK_WHY_MAX 400

/**
 * struct gm_block_info - what a block is
 * @size:      sizeof(struct gm_block_info), set by the caller
 * @hva:       host address of its first byte; borrowed; it changes when an unplaced anonymous block
 * is added to a space; NULL if it is not mapped
 * @len:       bytes
 * @backing:   enum gm_backing, as it is (ANON with GM_BLOCK_SHARE is MEMFD)
 * @flags:     as asked
 * @fd:        its fd, borrowed, or -1
 * @choice:    index in opts.pages of the choice that was taken, or -1 without a policy
 * @offset:    byte of @fd where it begins
 * @page_size: the largest size of page that it can get, in bytes
 * @got:       the choice that was taken
 * @why:       one line for each choice that was refused, separated by "; "
 * @name:      its name
 */
struct gm_block_info {
	size_t size;
	void *hva;
	uint64_t len;
	uint32_t backing;
	uint32_t flags;
	int32_t fd;
	int32_t choice;
	uint64_t offset;
	uint64_t page_size;
	struct gm_page_choice got;
	char why[GM_BLOCK_WHY_MAX];
	char name[32];
};

/**
 * gm_block_create() - make a block in an address range of its own
 * @opts:      borrowed for the call
 * @ret_block: the block with one reference, given back with gm_block_put()
 * @err:       optional
 *
 * The range has a guard page at each end. Does what @opts says in one order: reserve, map, NUMA,
 * huge pages, flags, lock, populate. On failure nothing is left. Returns 0; -EINVAL (length 0 or
 * not a multiple of the page size, flags that exclude each other); -E2BIG (@opts of a newer
 * version); -EBADF or -ENODEV (an fd that is no file that can be mapped); -ERANGE (offset past the
 * end of the file); -EFBIG (RLIMIT_FSIZE); -ENOMEM (memory, pool, limit: the text says which and
 * what mends it); -ENOTSUP (page size that the host does not offer); -ECANCELED; or what the kernel
 * answered.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_block_create(
	const struct gm_block_opts *opts, struct gm_block **ret_block, struct gm_error *err);

/**
 * gm_block_get() - take one more reference
 * @block: borrowed
 *
 * Returns @block.
 * Threads: any. Since: 0.1.
 */
GM_API struct gm_block *gm_block_get(struct gm_block *block);

/**
 * gm_block_put() - give a reference back
 * @block: taken; NULL is ignored; the last reference unmaps the memory and closes the fd
 *
 * Regions and pins hold references of their own.
 * Threads: any. Since: 0.1.
 */
GM_API void gm_block_put(struct gm_block *block);

/**
 * gm_block_info() - describe a block
 * @block:    borrowed
 * @ret_info: filled in; its size member says how much
 *
 * Returns 0 or -EINVAL (size smaller than that of version 0.1).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_block_info(const struct gm_block *block, struct gm_block_info *ret_info);

/**
 * gm_block_overlaps() - have two blocks bytes in common?
 * @a: borrowed
 * @b: borrowed
 *
 * They do if they are one block; if both have some of the same bytes of one file, by whatever fd and
 * name, mapped here or not; or if both are memory of the caller that overlaps. A block that is mapped
 * private (GM_BLOCK_PRIVATE) has bytes of its file until it is written to, so it counts.
 * Returns 1, 0, or what the kernel answered about a file.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_block_overlaps(const struct gm_block *a, const struct gm_block *b);

/**
 * gm_block_populate() - fill (part of) a block with pages now
 * @block: borrowed
 * @opts:  borrowed; NULL = all, defaults
 * @err:   optional; its gpa is the offset in the block that failed
 *
 * Pages that are there already are kept. It may be called from a thread of the caller while a guest
 * runs. Returns 0, -ECANCELED, -ENOMEM (pool, cgroup), -EINVAL, -EFAULT (a page that cannot be
 * had: a hole in a hugetlb file that the pool cannot fill, a full file system, a file that is shorter).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_block_populate(
	struct gm_block *block, const struct gm_populate_opts *opts, struct gm_error *err);

/**
 * gm_block_bind() - NUMA placement of part of a block
 * @block: borrowed
 * @off:   first byte, a multiple of the page size
 * @len:   bytes, a multiple of the page size
 * @numa:  borrowed
 * @err:   optional
 *
 * Pages that are present stay where they are. Returns 0, -EINVAL, -ENOTSUP.
 * Threads: one writer. Since: 0.1.
 */
GM_API int gm_block_bind(struct gm_block *block, uint64_t off, uint64_t len,
	const struct gm_numa *numa, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
