/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * residency.h - what backs the memory of this or another process, by size of page.
 *
 * A struct gm_residency looks at one process through /proc; the process is not stopped and not
 * changed. Addresses are host virtual addresses of that process. Results say which sources were
 * used and what could not be seen.
 */
#ifndef GUESTMEM_RESIDENCY_H
#define GUESTMEM_RESIDENCY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <guestmem/error.h>
#include <guestmem/export.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_residency;
struct gm_mappings;

/* Sources that a result was made from. */
#define GM_SOURCE_SCAN 0x01u       /* ioctl PAGEMAP_SCAN */
#define GM_SOURCE_PAGEMAP 0x02u    /* /proc/PID/pagemap, word by word */
#define GM_SOURCE_SMAPS 0x04u      /* /proc/PID/smaps */
#define GM_SOURCE_KPAGEFLAGS 0x08u /* /proc/kpageflags, kpagecount */
#define GM_SOURCE_QUERY 0x10u      /* ioctl PROCMAP_QUERY */

/* What a result could not see. */
#define GM_UNSEEN_FOLIOS                                                                           \
	0x01u /* multi-size huge pages count as base pages (not asked, not readable) */
#define GM_UNSEEN_SHARED 0x02u /* who else maps a page (not asked, or not visible) */
#define GM_UNSEEN_ZERO 0x04u   /* zero pages count as present base pages */
#define GM_UNSEEN_PMD 0x08u    /* PMD-mapped huge pages count as base pages */
#define GM_UNSEEN_GUARD 0x10u  /* guard pages and markers may count as swapped */

/* Flags of gm_residency_usage() and gm_residency_extents(). */
#define GM_RESIDENCY_FOLIOS 0x01u  /* look up the folio of each small page: huge pages, KSM */
#define GM_RESIDENCY_SHARED 0x02u  /* look up which pages are mapped more than once */
#define GM_RESIDENCY_NO_SCAN 0x04u /* do without PAGEMAP_SCAN, as on Linux before 6.7 */

/* gm_extent.state */
#define GM_EXTENT_PRESENT 1u /* in memory */
#define GM_EXTENT_ZERO 2u    /* the page table names the shared page of zeros */
#define GM_EXTENT_SWAPPED 3u /* swapped out; shared memory that is swapped out shows as absent */

/* gm_extent.flags */
#define GM_EXTENT_HUGE 0x1u   /* one page-table entry maps page_log2 (2 MiB, 1 GiB) */
#define GM_EXTENT_SHARED 0x2u /* mapped more than once */
#define GM_EXTENT_SPLIT                                                                            \
	0x4u /* a PMD-sized page mapped by small entries; page_log2 is that of a base page */
#define GM_EXTENT_KSM 0x8u /* merged by KSM */

/**
 * struct gm_extent - neighbouring pages in the same state
 * @start:     host address
 * @len:       bytes, not 0
 * @state:     GM_EXTENT_PRESENT, _ZERO or _SWAPPED; what is absent is not reported
 * @page_log2: size of the pages
 * @flags:     GM_EXTENT_* bits
 * @reserved:  zero
 */
struct gm_extent {
	uint64_t start;
	uint64_t len;
	uint32_t state;
	uint32_t page_log2;
	uint32_t flags;
	uint32_t reserved;
};

#define GM_USAGE_LOG2_MAX 40

/**
 * struct gm_usage - sums over a range
 * @size:      sizeof(struct gm_usage), set by the caller
 * @sources:   GM_SOURCE_* bits
 * @unseen:    GM_UNSEEN_* bits
 * @present:   bytes that are in memory and mapped, without the zero page
 * @zero:      bytes that are mapped to the zero page
 * @swapped:   bytes swapped out
 * @shared:    present bytes that are mapped more than once (GM_RESIDENCY_SHARED)
 * @ksm:       present bytes merged by KSM (GM_RESIDENCY_FOLIOS)
 * @split:     present bytes that are parts of PMD-sized pages but mapped by small entries
 * (GM_RESIDENCY_FOLIOS)
 * @extents:   number of extents
 * @by_log2:   present bytes by size of page: by_log2[12] is 4 KiB, [21] 2 MiB, [30] 1 GiB; their
 * sum is @present. A page counts by its page-table entry if that is huge, else by its folio if that
 * is smaller than a PMD and can be seen, else as a base page
 */
struct gm_usage {
	size_t size;
	uint32_t sources;
	uint32_t unseen;
	uint64_t present;
	uint64_t zero;
	uint64_t swapped;
	uint64_t shared;
	uint64_t ksm;
	uint64_t split;
	uint64_t extents;
	uint64_t by_log2[GM_USAGE_LOG2_MAX + 1];
};

/* gm_mapping.flags */
#define GM_MAPPING_R 0x001u
#define GM_MAPPING_W 0x002u
#define GM_MAPPING_X 0x004u
#define GM_MAPPING_SHARED 0x008u   /* MAP_SHARED */
#define GM_MAPPING_FILE 0x010u     /* has a file or memfd behind it (inode is not 0) */
#define GM_MAPPING_HUGETLB 0x020u  /* explicit huge pages (needs details or a known page_size) */
#define GM_MAPPING_DETAILS 0x040u  /* the members and flags below were read from smaps */
#define GM_MAPPING_THP 0x080u      /* MADV_HUGEPAGE */
#define GM_MAPPING_NOTHP 0x100u    /* MADV_NOHUGEPAGE */
#define GM_MAPPING_DONTFORK 0x200u /* MADV_DONTFORK */
#define GM_MAPPING_DONTDUMP 0x400u /* MADV_DONTDUMP */
#define GM_MAPPING_MERGE 0x800u    /* MADV_MERGEABLE */
#define GM_MAPPING_LOCKED 0x1000u  /* mlock */
#define GM_MAPPING_UFFD 0x2000u    /* registered with a userfaultfd */

#define GM_MAPPING_NAME_MAX 256

/**
 * struct gm_mapping - one mapping of a process
 * @size:      sizeof(struct gm_mapping), set by the caller
 * @start:     host address
 * @len:       bytes
 * @offset:    byte of the file where it begins
 * @inode:     of the file, or 0
 * @dev_major, @dev_minor: device of the file
 * @flags:     GM_MAPPING_* bits
 * @reserved:  zero
 * @page_size: the kernel's page size for it (that of hugetlb), 0 = not known
 * @rss, @pss, @swap, @shared, @anon_huge, @shmem_huge, @file_huge, @hugetlb, @ksm, @locked: bytes,
 * as smaps says; @rss does not contain @hugetlb
 * @name:      path, [heap], [anon:NAME], memfd:NAME …, as the kernel writes it, cut to fit; may
 * hold any byte but 0 and newline
 */
struct gm_mapping {
	size_t size;
	uint64_t start;
	uint64_t len;
	uint64_t offset;
	uint64_t inode;
	uint32_t dev_major;
	uint32_t dev_minor;
	uint32_t flags;
	uint32_t reserved;
	uint64_t page_size;
	uint64_t rss;
	uint64_t pss;
	uint64_t swap;
	uint64_t shared;
	uint64_t anon_huge;
	uint64_t shmem_huge;
	uint64_t file_huge;
	uint64_t hugetlb;
	uint64_t ksm;
	uint64_t locked;
	char name[GM_MAPPING_NAME_MAX];
};

/**
 * struct gm_process_memory - sums of a whole process; UINT64_MAX = not known
 * @size:         sizeof(struct gm_process_memory), set by the caller
 * @page_tables:  bytes of page tables (VmPTE)
 * @rss:          bytes (VmRSS, without hugetlb)
 * @hugetlb:      bytes of explicit huge pages
 * @swap:         bytes (VmSwap)
 * @locked:       bytes (VmLck)
 * @ksm_merging:  pages that KSM has merged
 * @ksm_zero:     pages that KSM has made zero pages
 * @ksm_profit:   bytes that KSM saves less what it costs; 0 if it costs more
 * @name:         the process's name, may hold any byte
 * @minor_faults: page faults of all its threads, since it began
 * @major_faults: of them, those that waited for a disk
 */
struct gm_process_memory {
	size_t size;
	uint64_t page_tables;
	uint64_t rss;
	uint64_t hugetlb;
	uint64_t swap;
	uint64_t locked;
	uint64_t ksm_merging;
	uint64_t ksm_zero;
	uint64_t ksm_profit;
	char name[64];
	uint64_t minor_faults;
	uint64_t major_faults;
};

/**
 * gm_residency_open() - get ready to look at a process
 * @pid: the process; 0 = this one
 * @ret: closed with gm_residency_close()
 * @err: optional
 *
 * The handle stays with that process: if the PID is given to another one, calls fail with -ESRCH.
 * Returns 0; -ESRCH (no such process); -EACCES; -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_residency_open(pid_t pid, struct gm_residency **ret, struct gm_error *err);

/**
 * gm_residency_close() - give a handle back
 * @res: taken; NULL is ignored
 *
 * Threads: owner only. Since: 0.1.
 */
GM_API void gm_residency_close(struct gm_residency *res);

/**
 * gm_residency_usage() - sum up what backs a range
 * @res:   borrowed
 * @start: host address in that process, a multiple of the base page size
 * @len:   bytes, a multiple of the base page size
 * @flags: GM_RESIDENCY_* bits
 * @ret:   filled in on success
 * @err:   optional
 *
 * What is not mapped counts nothing. The process runs on meanwhile: each page is counted once, as
 * it was when it was looked at. Returns 0; -EINVAL; -ESRCH (the process has ended or has no
 * memory); -EACCES or -EPERM (not ours to look at); -ENOMEM.
 * Threads: one at a time a handle. Since: 0.1.
 */
GM_API int gm_residency_usage(struct gm_residency *res, uint64_t start, uint64_t len,
	uint32_t flags, struct gm_usage *ret, struct gm_error *err);

/**
 * gm_residency_extents() - call a function for each extent of a range, in rising order
 * @res:   borrowed
 * @start: as above
 * @len:   as above
 * @flags: as above
 * @fn:    called with @arg and the extent (borrowed for the call); extents do not overlap; non-zero
 * stops
 * @arg:   passed to @fn
 * @ret:   optional: sums over what was reported
 * @err:   optional
 *
 * Returns 0, what @fn returned, or an error as above.
 * Threads: one at a time a handle. Since: 0.1.
 */
GM_API int gm_residency_extents(struct gm_residency *res, uint64_t start, uint64_t len,
	uint32_t flags, int (*fn)(void *arg, const struct gm_extent *extent), void *arg,
	struct gm_usage *ret, struct gm_error *err);

/**
 * gm_residency_process() - sums of the whole process
 * @res: borrowed
 * @ret: filled in on success
 * @err: optional
 *
 * Returns 0, -EINVAL, -ESRCH. Threads: one at a time a handle. Since: 0.1.
 */
GM_API int gm_residency_process(
	struct gm_residency *res, struct gm_process_memory *ret, struct gm_error *err);

#define GM_MAPPINGS_DETAILS 0x1u /* read smaps: slower, the kernel walks the page tables */

/**
 * gm_mappings_open() - begin to list the mappings of a process
 * @res:   borrowed; must stay open
 * @flags: GM_MAPPINGS_* bits
 * @ret:   closed with gm_mappings_close()
 * @err:   optional
 *
 * Returns 0, -ESRCH, -EACCES, -ENOMEM. Threads: one at a time a handle. Since: 0.1.
 */
GM_API int gm_mappings_open(
	struct gm_residency *res, uint32_t flags, struct gm_mappings **ret, struct gm_error *err);

/**
 * gm_mappings_next() - the next mapping, in rising order
 * @it:  borrowed
 * @ret: its size member is set by the caller; filled in when 1 is returned
 *
 * Returns 1, 0 at the end, -ESRCH (the process has ended), -EINVAL, or what the kernel answered.
 * Threads: owner only. Since: 0.1.
 */
GM_API int gm_mappings_next(struct gm_mappings *it, struct gm_mapping *ret);

/**
 * gm_mappings_close() - end a listing
 * @it: taken; NULL is ignored
 *
 * Threads: owner only. Since: 0.1.
 */
GM_API void gm_mappings_close(struct gm_mappings *it);

#ifdef __cplusplus
}
#endif

#endif
