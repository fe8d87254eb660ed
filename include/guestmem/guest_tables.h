/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guest_tables.h - where a guest keeps its page tables (x86-64), and what they map.
 *
 * Each access of a guest that misses the TLB walks its tables, and each step of that walk is translated by the host's.
 * Tables that lie in huge pages of the host save a load in every step: find their blocks, and have these first.
 *
 *	gm_kvm_root(vcpu_fd, &root, &opts.levels, &err);
 *	gm_guest_tables_find(space, &root, 1, &opts, blocks, NR, &nr, &err);
 *	gm_policy_promote(space, blocks, nr < NR ? nr : NR, budget, GM_POLICY_TOUCH, &result, &err);
 *
 * The guest may have written anything. What is walked is bounded: a table is read once for each level and each set of
 * rights that leads to it, however many entries do.
 */
#ifndef GUESTMEM_GUEST_TABLES_H
#define GUESTMEM_GUEST_TABLES_H

#include <guestmem/policy.h>

#ifdef __cplusplus
extern "C" {
#endif

/* struct gm_guest_leaf: what all entries on the way allow. */
#define GM_GUEST_LEAF_WRITE 0x1u
#define GM_GUEST_LEAF_USER 0x2u
#define GM_GUEST_LEAF_EXEC 0x4u

/**
 * struct gm_guest_leaf - an entry that maps memory
 * @gpa:   guest physical address, a multiple of @len
 * @len:   4096, 2 MiB or 1 GiB
 * @times: in so many places of the guest's virtual addresses, at most UINT64_MAX
 * @flags: GM_GUEST_LEAF_* bits
 */
struct gm_guest_leaf {
	uint64_t gpa;
	uint64_t len;
	uint64_t times;
	uint32_t flags;
};

/**
 * struct gm_guest_tables_ops - who has the memory, and who is told; what returns other than 0 ends the walk with that
 * @read:  the 4096 bytes at @gpa, or -EFAULT: there is no memory, which is no error of the walk
 * @table: optional: a table of level 1 (its entries map 4 KiB) to 5 that was read; told once for each level
 * @leaf:  optional
 * @wild:  optional: an entry that leads to a table where there is no memory
 */
struct gm_guest_tables_ops {
	int (*read)(void *ctx, uint64_t gpa, void *page);
	int (*table)(void *ctx, uint64_t gpa, uint32_t level, uint64_t times);
	int (*leaf)(void *ctx, const struct gm_guest_leaf *leaf);
	int (*wild)(void *ctx, uint64_t gpa, uint32_t level, uint64_t times);
};

/* gm_guest_tables_find(): blocks with code of the guest's kernel as well, behind those with tables. */
#define GM_GUEST_TABLES_CODE 0x1u

/**
 * struct gm_guest_tables_opts - how far; zero means default
 * @size:   sizeof(struct gm_guest_tables_opts)
 * @flags:  GM_GUEST_TABLES_* bits
 * @levels: 4 or 5; 0 = 4
 * @max:    tables of one level at most, up to 2^28; 0 = 2^20, which have 4 GiB
 */
struct gm_guest_tables_opts {
	size_t size;
	uint32_t flags;
	uint32_t levels;
	uint64_t max;
};

/**
 * gm_guest_tables_walk() - goes through page tables, level by level from the top, each by rising address
 * @roots: addresses of uppermost tables, such as CR3 of each vCPU; only the bits of an address count
 * @nr:    number of them, at least 1
 * @opts:  or NULL; no flags
 * @ops:   borrowed
 * @ctx:   passed to it
 * @err:   optional
 *
 * Memory for it is 16 bytes for each table of two levels. Return: 0, -EINVAL, -E2BIG (more tables than @opts->max, or
 * options of a newer version), -ENOMEM, or what a function of @ops returned.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_guest_tables_walk(const uint64_t *roots, size_t nr,
	const struct gm_guest_tables_opts *opts, const struct gm_guest_tables_ops *ops, void *ctx,
	struct gm_error *err);

/**
 * gm_guest_tables_find() - the blocks of a PMD-sized page (2 MiB on x86-64) in which a guest's tables lie
 * @space:      borrowed
 * @roots:      as above
 * @nr:         as above
 * @opts:       or NULL
 * @ret_blocks: filled in, those with most tables first: address of the block, and as its heat twice the number of
 *              tables in it, and 1 more if code of the kernel is there
 * @max:        room for so many
 * @ret_nr:     number of blocks that there are, which may be more than @max
 * @err:        optional
 *
 * Only RAM is read, with the guest running or not: what it changes meanwhile may be missed. Entries that lead to memory
 * which is not backed make it backed. Return: as gm_guest_tables_walk(); -EFAULT: no root is in RAM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_guest_tables_find(struct gm_space *space, const uint64_t *roots, size_t nr,
	const struct gm_guest_tables_opts *opts, struct gm_heat *ret_blocks, size_t max,
	size_t *ret_nr, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
