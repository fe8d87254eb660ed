/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy.h - pages of a guest at run time: filled, looked at, made huge or small, by guest address.
 *
 * A block's page policy (block.h) says what its memory is made of; these functions change it for a
 * range while the guest runs, and tell what was reached: results are what page tables show, not what
 * was asked for. Where a range has no memory nothing is done.
 */
#ifndef GUESTMEM_POLICY_H
#define GUESTMEM_POLICY_H

#include <guestmem/residency.h>
#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- looking and filling ---- */

#define GM_EXTENT_HOLE 0u /* nothing is mapped there in this process */
#define GM_EXTENT_FAR 4u  /* memory that is not mapped in this process */

/**
 * struct gm_space_extent - neighbouring pages in the same state, by guest address
 * @gpa:       first address
 * @len:       bytes; 0 = 2^64
 * @hva:       host address of the first byte, or 0
 * @state:     GM_EXTENT_HOLE, _PRESENT, _ZERO, _SWAPPED or _FAR
 * @page_log2: size of the pages, of what is present
 * @flags:     GM_EXTENT_HUGE and so on
 * @reserved:  zero
 */
struct gm_space_extent {
	uint64_t gpa;
	uint64_t len;
	uint64_t hva;
	uint32_t state;
	uint32_t page_log2;
	uint32_t flags;
	uint32_t reserved;
};

/**
 * gm_space_extents() - call a function for each extent of memory in a range, in rising order
 * @space: borrowed
 * @gpa:   first address
 * @len:   bytes
 * @flags: GM_RESIDENCY_* bits (residency.h)
 * @fn:    called with @arg and the extent (borrowed for the call); non-zero stops; NULL: only sums
 * @arg:   passed to @fn
 * @ret:   optional: sums
 * @err:   optional
 *
 * Addresses without memory are left out; memory shows under each of its names. Shared memory that is
 * in the file's cache but in no page table of this process is a hole. Returns 0, what @fn returned,
 * -EINVAL, -ERANGE, -ENOMEM, or what /proc answered.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_space_extents(struct gm_space *space, uint64_t gpa, uint64_t len, uint32_t flags,
	int (*fn)(void *arg, const struct gm_space_extent *extent), void *arg, struct gm_usage *ret,
	struct gm_error *err);

/**
 * gm_space_populate() - fill a range with pages now
 * @space: borrowed
 * @gpa:   first address
 * @len:   bytes; rounded outwards to pages of each block
 * @opts:  borrowed; its off and len must be 0; NULL = defaults
 * @err:   optional; its gpa is in the range
 *
 * As gm_block_populate(); progress is told piece by piece. Memory that is not mapped is left out.
 * Returns as that, or -ERANGE. Threads: any. Since: 0.1.
 */
GM_API int gm_space_populate(struct gm_space *space, uint64_t gpa, uint64_t len,
	const struct gm_populate_opts *opts, struct gm_error *err);

/* ---- sizes ---- */

/**
 * gm_policy_set() - ask for a size of the pages that come
 * @space:  borrowed
 * @gpa:    first address
 * @len:    bytes; rounded inwards to base pages
 * @choice: GM_PAGE_THP, with log2 of a size that the host has enabled, or GM_PAGE_BASE
 * @err:    optional
 *
 * Pages that are there stay. A range that is part of a mapping makes it several ones; private
 * memory in several can be moved in the window by Linux 6.17 and later only. Returns 0; -EINVAL;
 * -ERANGE; -ENOTSUP (explicit huge pages, memory of the caller or not mapped; a size that the host does
 * not give: err->text names the knob); or what the kernel answered.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_policy_set(struct gm_space *space, uint64_t gpa, uint64_t len,
	const struct gm_page_choice *choice, struct gm_error *err);

/* Touch a page where a block has none, so that it can be collapsed. */
#define GM_POLICY_TOUCH 0x1u
/* gm_policy_promote(): as the caller has ordered it, not by heat. */
#define GM_POLICY_IN_ORDER 0x2u

/**
 * struct gm_policy_result - what was reached, in blocks of a PMD-sized page (2 MiB on x86-64)
 * @size:    sizeof(struct gm_policy_result), set by the caller
 * @blocks:  whole blocks that were looked at
 * @before:  of these, mapped by a huge page before
 * @huge:    and now
 * @added:   bytes of memory that were taken for it
 * @over:    gm_policy_promote(): blocks left out because of the budget
 * @code:    the last answer of the kernel that was no success, or 0
 */
struct gm_policy_result {
	size_t size;
	uint64_t blocks;
	uint64_t before;
	uint64_t huge;
	uint64_t added;
	uint64_t over;
	int32_t code;
	uint32_t reserved;
};

/**
 * gm_policy_collapse() - make huge pages of the small ones in a range now
 * @space: borrowed
 * @gpa:   first address
 * @len:   bytes
 * @flags: GM_POLICY_TOUCH
 * @ret:   optional
 * @err:   optional
 *
 * Blocks that lie whole in the range, by host address. Needs no setting of the host, for memfds
 * neither; what gm_policy_set() made base pages is left alone. A block in which nothing is stays
 * empty without GM_POLICY_TOUCH. Returns 0 if a block is huge now; -EINVAL (no whole block, or none that
 * could be collapsed); -ENOTSUP; -ENOMEM (no huge page to be had); or what the kernel answered.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_policy_collapse(struct gm_space *space, uint64_t gpa, uint64_t len, uint32_t flags,
	struct gm_policy_result *ret, struct gm_error *err);

/**
 * gm_policy_split() - make small pages of the transparent huge ones that a range touches
 * @space: borrowed
 * @gpa:   first address
 * @len:   bytes
 * @ret:   optional
 * @err:   optional
 *
 * So that parts of them can be discarded and really freed. khugepaged may join them again unless
 * gm_policy_set() says no. Returns 0 if none is left; -ENOTSUP (locked, explicit huge pages); -EBUSY (one
 * could not be split: somebody has it pinned); or what the kernel answered.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_policy_split(struct gm_space *space, uint64_t gpa, uint64_t len,
	struct gm_policy_result *ret, struct gm_error *err);

/** struct gm_heat - an address, and how often it is used in any unit */
struct gm_heat {
	uint64_t heat;
	uint64_t gpa;
};

/**
 * gm_policy_promote() - collapse the hottest blocks, as far as a budget goes
 * @space:  borrowed
 * @items:  @nr addresses, sorted in place unless GM_POLICY_IN_ORDER
 * @nr:     their number
 * @budget: bytes of memory that may be added: a block of which half is there costs half
 * @flags:  GM_POLICY_* bits
 * @ret:    optional
 * @err:    optional
 *
 * With GM_POLICY_IN_ORDER and GM_POLICY_TOUCH it is the way to have the addresses where the guest keeps
 * its page tables in huge pages first: that saves a level of each nested walk. Addresses without
 * memory are left out. Returns 0, -EINVAL, -ENOMEM, or what /proc answered; what the kernel would not
 * collapse shows in the result.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_policy_promote(struct gm_space *space, struct gm_heat *items, size_t nr,
	uint64_t budget, uint32_t flags, struct gm_policy_result *ret, struct gm_error *err);

/* ---- pages of zeros ---- */

#define GM_TRIM_STOPPED                                                                            \
	0x1u /* nobody writes to the range: also shared memory, without protection */

/**
 * struct gm_trim_result - what was trimmed
 * @size:   sizeof(struct gm_trim_result), set by the caller
 * @looked: bytes of pages that were present
 * @freed:  bytes of pages of zeros that were given back
 * @busy:   bytes of zeros that were left, as somebody has them pinned or shares them
 * @left:   bytes that cannot be trimmed: shared, explicit huge, not writable, not mapped
 */
struct gm_trim_result {
	size_t size;
	uint64_t looked;
	uint64_t freed;
	uint64_t busy;
	uint64_t left;
};

/**
 * gm_space_trim() - give back pages that hold only zeros
 * @space: borrowed
 * @gpa:   first address
 * @len:   bytes
 * @flags: GM_TRIM_* bits
 * @ret:   optional
 * @err:   optional
 *
 * No write is lost: private memory is write-protected meanwhile, 2 MiB at a time, and a writer, vCPU or
 * system call, waits for up to a millisecond; a page that a device has pinned is left alone. A huge page
 * is freed whole or not at all. Nothing changes for the guest, so nothing is marked, and listeners are
 * not asked; inhibitions hold. With GM_TRIM_STOPPED it is a gm_discard() of the pages found. Returns 0;
 * -EINVAL; -ERANGE; -EBUSY (inhibited; or another userfaultfd, a watch or a pager, has the memory);
 * -EPERM (the space of a grant; or userfaultfd for the kernel's accesses is not allowed:
 * CAP_SYS_PTRACE or vm.unprivileged_userfaultfd); -ENOTSUP (before Linux 6.8); -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_space_trim(struct gm_space *space, uint64_t gpa, uint64_t len, uint32_t flags,
	struct gm_trim_result *ret, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
