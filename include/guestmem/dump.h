/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dump.h - a space as a tree, as text and as a memory map, to be looked at and handed on.
 *
 * Walk and text take one snapshot of what is published and then call the caller without any lock:
 * what they tell is of one moment, also while another thread changes the space.
 */
#ifndef GUESTMEM_DUMP_H
#define GUESTMEM_DUMP_H

#include <guestmem/memmap.h>
#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

/* gm_walk_step.flags */
#define GM_WALK_ADDRESS 0x1u  /* addr is an address of the space */
#define GM_WALK_DETACHED 0x2u /* it, or what it lies in, is in no tree: addr counts from there */
#define GM_WALK_HIDDEN 0x4u   /* it, or what it lies in, is disabled */

/**
 * struct gm_walk_step - a region that the walk has come to
 * @info:        the region, as gm_space_region() describes it but for hva and placed, which are
 *               empty; borrowed during the call
 * @target_name: of an alias: name of what it shows, borrowed; else NULL
 * @addr:        address of its first byte, with GM_WALK_ADDRESS; with GM_WALK_DETACHED counted from
 *               the first byte of the region that is in no tree; else (it begins behind the last
 *               address) modulo 2^64
 * @depth:       regions in which it lies
 * @flags:       GM_WALK_* bits
 */
struct gm_walk_step {
	const struct gm_region_info *info;
	const char *target_name;
	uint64_t addr;
	uint32_t depth;
	uint32_t flags;
};

/**
 * gm_space_walk() - visit all regions of a space, from the outside inwards
 * @space: borrowed
 * @fn:    called for each region; if it returns other than 0 the walk ends
 * @ctx:   passed to @fn
 *
 * A region comes before those that lie in it; these come by rising address and, at one address, by
 * falling priority. Those that are in no tree come last, with what lies in them. A region's block
 * stays for as long as @fn runs, even if another thread removes the region meanwhile.
 * The callback may call any function for the space.
 *
 * Returns 0, -ENOMEM, or what @fn returned.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_space_walk(
	struct gm_space *space, int (*fn)(void *ctx, const struct gm_walk_step *step), void *ctx);

/* gm_space_dump(): flags */
#define GM_DUMP_TREE 0x1u /* the tree of regions */
#define GM_DUMP_FLAT 0x2u /* what shows: the flattened map */
#define GM_DUMP_HOST 0x4u /* in the flattened map also the blocks, and what lies in the window */
/* the listeners, by rising priority: how many sections each has, and which permissions are withheld
 * by some of them but not enforced by it (gm_listener_ops.enforces) */
#define GM_DUMP_LISTENERS 0x8u

/**
 * gm_space_dump() - write a space down as text
 * @space: borrowed
 * @flags: GM_DUMP_* bits; 0 = all of it
 * @write: called with pieces of the text: @len bytes at @text, which do not end with a zero; if it
 *         returns other than 0 the dump ends
 * @ctx:   passed to @write
 *
 * The text is for people and may change. It is ASCII but for bytes above 127 in names. All parts
 * are of the same moment. It may be called in a callback of a listener.
 *
 * Returns 0, -EINVAL (unknown flags), -ENOMEM, or what @write returned.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_space_dump(struct gm_space *space, uint32_t flags,
	int (*write)(void *ctx, const char *text, size_t len), void *ctx);

/**
 * gm_space_memmap() - what shows of a space as a memory map for its guest (memmap.h)
 * @space:      borrowed
 * @ret:        @cap entries, filled in from the lowest address on; NULL if @cap is 0
 * @cap:        their number
 * @ret_needed: number of entries of the map, also with -ENOBUFS
 * @err:        optional
 *
 * RAM, persistent memory and ACPI tables are what they are called; ROM, ROM devices and reserved
 * regions are GM_MEMMAP_RESERVED; MMIO and IOMMUs are left out, as firmware leaves device windows out.
 * Node and GM_MEMMAP_HOTPLUG are those of the region. Private parts are memory as others; unplugged
 * ones are GM_MEMMAP_ABSENT and GM_MEMMAP_HOTPLUG. Neighbours that are the same are one entry.
 * All is of one moment.
 *
 * Returns 0, or -ENOBUFS: as many as there was room for are filled in.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_space_memmap(struct gm_space *space, struct gm_memmap_entry *ret, size_t cap,
	size_t *ret_needed, struct gm_error *err);

/**
 * gm_region_kind_name() - a word for a kind of region
 * @kind: enum gm_region_kind
 *
 * Returns "ram", "rom" and so on, or "unknown"; static.
 * Threads: any. Since: 0.1.
 */
GM_API const char *gm_region_kind_name(uint32_t kind);

/**
 * gm_region_kind_is_memory() - has a region of this kind a block?
 * @kind: enum gm_region_kind
 *
 * Threads: any. Since: 0.1.
 */
GM_API bool gm_region_kind_is_memory(uint32_t kind);

#ifdef __cplusplus
}
#endif

#endif
