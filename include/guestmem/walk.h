/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * walk.h - what sizes of pages cost: loads of a page walk, page tables, what a TLB reaches.
 *
 * Arithmetic only: nothing is read from the machine. Page tables have 512 entries of 8 bytes and
 * leaves of 4 KiB, 2 MiB and 1 GiB (x86-64; arm64 with 4 KiB granules), in 4 or 5 levels. A page of
 * another size is walked as the largest leaf that is not larger. Loads are upper bounds: page-walk
 * caches and nested TLBs hide most of them.
 */
#ifndef GUESTMEM_WALK_H
#define GUESTMEM_WALK_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/error.h>
#include <guestmem/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/** enum gm_walk_paging - how guest addresses become host addresses */
enum gm_walk_paging {
	GM_WALK_NESTED = 0, /* two sets of tables, walked by hardware (EPT, NPT, stage 2) */
	GM_WALK_SHADOW,     /* one set, made by the hypervisor from the guest's and its own */
	GM_WALK_NATIVE,     /* no host: the guest's tables alone; host sizes are not looked at */
};

/* gm_walk_opts.flags, about the host's large pages; not both */
#define GM_WALK_TRANSPARENT                                                                        \
	0x1u /* 2 MiB pages are private transparent ones: the kernel keeps a table for each in     \
		case it is split */
#define GM_WALK_LEAN                                                                               \
	0x2u /* 2 MiB and 1 GiB pages are of a pool whose page structs are freed                   \
		(hugetlb_optimize_vmemmap) */

/**
 * struct gm_walk_opts - paging of guest and host; zero means default
 * @size:         sizeof(struct gm_walk_opts)
 * @paging:       enum gm_walk_paging
 * @guest_levels: levels of the guest's page tables: 4 or 5, 0 = 4; of shadow tables too
 * @host_levels:  levels of the host's page tables, of the second level too: 4 or 5, 0 = 4
 * @flags:        GM_WALK_TRANSPARENT or GM_WALK_LEAN
 */
struct gm_walk_opts {
	size_t size;
	uint32_t paging;
	uint32_t guest_levels;
	uint32_t host_levels;
	uint32_t flags;
};

/* Leaves, as indices. */
#define GM_WALK_4K 0
#define GM_WALK_2M 1
#define GM_WALK_1G 2
#define GM_WALK_LEAVES 3

/**
 * struct gm_walk_mix - memory by the size of its pages
 * @bytes: by size of leaf, each a multiple of the leaf; at least one is not 0
 */
struct gm_walk_mix {
	uint64_t bytes[GM_WALK_LEAVES];
};

/**
 * struct gm_walk_cost - one TLB miss
 * @size:        sizeof(struct gm_walk_cost), set by the caller
 * @loads:       loads of table entries if nothing is cached
 * @guest_loads: those of guest entries; the others are of host entries
 * @least:       loads if page-walk caches hold all but the last level of each side
 * @entry_log2:  what one TLB entry maps
 * @joined_log2: what it may map where the CPU joins neighbouring entries (pages of 16 KiB, 64 KiB…)
 * @reserved:    zero
 */
struct gm_walk_cost {
	size_t size;
	uint32_t loads;
	uint32_t guest_loads;
	uint32_t least;
	uint32_t entry_log2;
	uint32_t joined_log2;
	uint32_t reserved;
};

/**
 * struct gm_walk_mean - the mean over all bytes of a memory
 * @size:       sizeof(struct gm_walk_mean), set by the caller
 * @milliloads: thousandths of loads for one TLB miss at a random byte, rounded
 * @entries:    bytes by what the TLB entry for them maps; rounded down to whole entries, the rest
 * counts with smaller ones
 */
struct gm_walk_mean {
	size_t size;
	uint64_t milliloads;
	struct gm_walk_mix entries;
};

/**
 * struct gm_walk_footprint - what maps and describes a memory, in bytes
 * @size:          sizeof(struct gm_walk_footprint), set by the caller
 * @guest_tables:  page tables of the guest, each byte mapped once
 * @host_tables:   page tables of the monitor's process, with what is kept for splitting
 * @second_tables: second level (nested) or shadow tables
 * @guest_structs: page structs of the guest's kernel
 * @host_structs:  page structs of the host's kernel
 * @total:         all of them
 */
struct gm_walk_footprint {
	size_t size;
	uint64_t guest_tables;
	uint64_t host_tables;
	uint64_t second_tables;
	uint64_t guest_structs;
	uint64_t host_structs;
	uint64_t total;
};

/**
 * gm_walk_cost() - loads of one TLB miss
 * @opts:       borrowed; NULL = defaults
 * @guest_log2: size of the guest's page, 12 to 38
 * @host_log2:  size of the host's page under the data; not looked at for GM_WALK_NATIVE
 * @table_log2: size of the host's pages under the guest's page tables; 0 = @host_log2; looked at
 * for GM_WALK_NESTED only
 * @ret:        filled in on success
 * @err:        optional
 *
 * With n, t and d loads for the three sizes: nested n(t + 1) + d, native n, shadow the loads of the
 * smaller page. Returns 0; -EINVAL (sizes, levels, flags; @size of @ret is less than that of
 * version 0.1); -E2BIG (options of a newer version).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_walk_cost(const struct gm_walk_opts *opts, uint32_t guest_log2, uint32_t host_log2,
	uint32_t table_log2, struct gm_walk_cost *ret, struct gm_error *err);

/**
 * gm_walk_mix_add() - add memory to a mix
 * @mix:   changed on success
 * @log2:  size of its pages, 12 to 38; they count as the largest leaf that is not larger
 * @bytes: a multiple of 4 KiB; what does not fill a leaf counts with the leaf below
 *
 * Returns 0; -EINVAL (@log2, @bytes); -ERANGE (a sum passes 2^57, which is all that 5 levels map).
 * Threads: one writer a mix. Since: 0.1.
 */
GM_API int gm_walk_mix_add(struct gm_walk_mix *mix, uint32_t log2, uint64_t bytes);

/**
 * gm_walk_mean() - expected loads of one TLB miss in a mix of page sizes
 * @opts:   borrowed; NULL = defaults
 * @guest:  borrowed: the guest's pages
 * @host:   borrowed: the host's pages under the data; NULL for GM_WALK_NATIVE. A share counts: it
 * may be of more or less memory than @guest
 * @tables: borrowed: the host's pages under the guest's page tables; NULL = as @host
 * @ret:    filled in on success; @ret->entries is of as much memory as @guest
 * @err:    optional
 *
 * Sizes of guest and host are taken as independent of each other, and each byte as likely to be
 * missed as another. Returns 0; -EINVAL (as gm_walk_cost(); an empty mix, bytes that are no whole
 * pages); -ERANGE (more memory than the levels map); -E2BIG.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_walk_mean(const struct gm_walk_opts *opts, const struct gm_walk_mix *guest,
	const struct gm_walk_mix *host, const struct gm_walk_mix *tables, struct gm_walk_mean *ret,
	struct gm_error *err);

/**
 * gm_walk_footprint() - page tables and page structs of a memory
 * @opts:  borrowed; NULL = defaults
 * @guest: borrowed: the guest's pages
 * @host:  borrowed: the host's pages, of as much memory; NULL for GM_WALK_NATIVE
 * @ret:   filled in on success; for GM_WALK_NATIVE the host's members are 0
 * @err:   optional
 *
 * The memory lies dense and aligned in each address space, larger pages first, so this is the least
 * that there can be. Shadow tables have what is large on both sides, taken as independent. Returns
 * 0 or as gm_walk_mean(); -EINVAL also if @guest and @host differ in bytes.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_walk_footprint(const struct gm_walk_opts *opts, const struct gm_walk_mix *guest,
	const struct gm_walk_mix *host, struct gm_walk_footprint *ret, struct gm_error *err);

/**
 * gm_walk_reach() - how much of a memory TLBs hold at once, at most
 * @entries:     borrowed: the memory by what one entry maps
 * @tlb_entries: how many entries there are for each size of leaf
 *
 * Each size has entries of its own; where sizes share them it is less. Returns bytes.
 * Threads: any. Since: 0.1.
 */
GM_API uint64_t gm_walk_reach(
	const struct gm_walk_mix *entries, const uint32_t tlb_entries[GM_WALK_LEAVES]);

#ifdef __cplusplus
}
#endif

#endif
