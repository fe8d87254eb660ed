/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memmap.h - the memory map that a guest is told: made from sizes, written as e820 or device tree.
 *
 * Plain data in, plain data out; a space is not needed. A map is a sorted array of entries. ACPI
 * tables are made from the same array (acpi.h); free addresses are given out by addr_pool.h.
 */
#ifndef GUESTMEM_MEMMAP_H
#define GUESTMEM_MEMMAP_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/error.h>
#include <guestmem/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What lies at some addresses. */
enum gm_memmap_kind {
	GM_MEMMAP_HOLE = 0,         /* nothing; in windows only */
	GM_MEMMAP_RAM = 1,          /* the guest may use it */
	GM_MEMMAP_RESERVED = 2,     /* the guest must leave it alone */
	GM_MEMMAP_ACPI_RECLAIM = 3, /* ACPI tables: RAM once they have been read */
	GM_MEMMAP_ACPI_NVS = 4,     /* firmware's: kept over sleep */
	GM_MEMMAP_UNUSABLE = 5,     /* broken memory */
	GM_MEMMAP_PMEM = 6,         /* persistent memory */
	GM_MEMMAP_SOFT_RESERVED = 7 /* memory for a special purpose, taken by drivers only */
};

/* Of an entry: flags. */
#define GM_MEMMAP_HOTPLUG 1u     /* can be unplugged or plugged while the guest runs */
#define GM_MEMMAP_NONVOLATILE 2u /* keeps its contents; GM_MEMMAP_PMEM implies it */
#define GM_MEMMAP_ABSENT 4u      /* only the addresses are known: nothing is plugged there yet */
#define GM_MEMMAP_OVER_RAM 8u    /* in windows only: the window hides RAM, does not move it */

#define GM_MEMMAP_NO_NODE UINT32_MAX /* belongs to no NUMA node */

/**
 * struct gm_memmap_entry - one stretch of guest physical addresses
 * @first:    first address
 * @last:     last address, inclusive: the stretch may end at 2^64
 * @kind:     enum gm_memmap_kind
 * @node:     NUMA node (ACPI: proximity domain), or GM_MEMMAP_NO_NODE
 * @flags:    GM_MEMMAP_* bits
 * @reserved: zero
 *
 * In a map entries rise and do not overlap; they may touch. The layout is frozen (32 bytes).
 */
struct gm_memmap_entry {
	uint64_t first;
	uint64_t last;
	uint32_t kind;
	uint32_t node;
	uint32_t flags;
	uint32_t reserved;
};

/**
 * gm_memmap_check() - look whether a map is well-formed
 * @map: borrowed
 * @nr:  number of entries
 * @err: optional; names the entry by its number and address
 *
 * All functions below do this by themselves.
 *
 * Returns 0; -EINVAL (an entry ends before it begins; kind or flags unknown or only for windows;
 * @reserved is not 0; not in rising order); -EEXIST (an entry overlaps the one before it: err->gpa
 * is the first common address).
 * Threads: any.
 * Since: 0.1.
 */
GM_API int gm_memmap_check(const struct gm_memmap_entry *map, size_t nr, struct gm_error *err);

/* ---- laying out RAM ---- */

/* Windows of x86: VGA and option ROMs below 1 MiB, in RAM that is not moved; 3 GiB to 4 GiB. */
#define GM_MEMMAP_X86_LEGACY                                                                       \
	{                                                                                          \
		0xa0000, 0xfffff, GM_MEMMAP_RESERVED, 0, GM_MEMMAP_OVER_RAM, 0                     \
	}
#define GM_MEMMAP_X86_PCI                                                                          \
	{                                                                                          \
		0xc0000000, 0xffffffff, GM_MEMMAP_HOLE, 0, 0, 0                                    \
	}
#define GM_MEMMAP_ARM64_RAM 0x40000000u /* where RAM begins on arm64's usual machine: 1 GiB */

/**
 * struct gm_memmap_ram - an amount of memory
 * @len:      bytes; 0 = none (a node without memory)
 * @kind:     enum gm_memmap_kind, 0 = GM_MEMMAP_RAM
 * @node:     NUMA node, or GM_MEMMAP_NO_NODE
 * @flags:    GM_MEMMAP_HOTPLUG, _NONVOLATILE, _ABSENT
 * @reserved: zero
 */
struct gm_memmap_ram {
	uint64_t len;
	uint32_t kind;
	uint32_t node;
	uint32_t flags;
	uint32_t reserved;
};

/**
 * struct gm_memmap_layout - what is to be laid out, and where
 * @size:       sizeof(struct gm_memmap_layout)
 * @first:      no memory lies below this address
 * @last:       none lies above this one; 0 = 2^64 - 1
 * @align:      bytes, a power of two; 0 = 4096
 * @ram:        borrowed; amounts in the order in which they are laid out
 * @nr_ram:     number of amounts
 * @windows:    borrowed; a map of addresses that are taken. RAM goes on behind a window. Its kind
 * says what the result has there; GM_MEMMAP_HOLE is nothing. One with GM_MEMMAP_OVER_RAM is cut out
 * of the RAM instead, which goes on in it and is that much smaller for the guest
 * @nr_windows: number of windows
 *
 * Each piece of RAM begins at a multiple of @align and is a multiple of it long, but for the last
 * piece of an amount, which may be shorter. With 1 GiB, huge mappings of any size fit.
 */
struct gm_memmap_layout {
	size_t size;
	uint64_t first;
	uint64_t last;
	uint64_t align;
	const struct gm_memmap_ram *ram;
	size_t nr_ram;
	const struct gm_memmap_entry *windows;
	size_t nr_windows;
};

/**
 * gm_memmap_place() - lay RAM around windows
 * @layout:     borrowed
 * @ret:        room for @cap entries; NULL if @cap is 0
 * @cap:        entries that @ret has room for
 * @ret_needed: entries of the map, also with -ENOBUFS
 * @err:        optional
 *
 * Amounts are laid out upwards, each behind the one before. The result is a map: pieces of RAM and
 * the windows that are not holes, those too that lie outside of [first, last].
 *
 * Returns 0; -ENOBUFS (more than @cap entries); -ENOSPC (does not fit: the text names the amount; err->len
 * is what is missing of it); -EINVAL, -EEXIST (options, amounts, windows); -E2BIG (options of a newer version).
 * Threads: any.
 * Since: 0.1.
 */
GM_API int gm_memmap_place(const struct gm_memmap_layout *layout, struct gm_memmap_entry *ret,
	size_t cap, size_t *ret_needed, struct gm_error *err);

/* ---- x86: e820 ---- */

/* Types of the ACPI specification 6.5, table 15.4, and of Linux' arch/x86/include/asm/e820/types.h.
 */
#define GM_E820_RAM 1u
#define GM_E820_RESERVED 2u
#define GM_E820_ACPI 3u
#define GM_E820_NVS 4u
#define GM_E820_UNUSABLE 5u
#define GM_E820_PMEM 7u
#define GM_E820_SOFT_RESERVED 0xefffffffu

#define GM_E820_WIRE_SIZE 20u /* bytes of a record as a guest reads it */
#define GM_E820_ZERO_PAGE_LEN 4096u
#define GM_E820_ZERO_PAGE_MAX 128u /* records in the zero page */

/**
 * struct gm_e820_entry - a record of the table
 * @addr:     first address
 * @len:      bytes
 * @type:     GM_E820_*
 * @reserved: zero
 */
struct gm_e820_entry {
	uint64_t addr;
	uint64_t len;
	uint32_t type;
	uint32_t reserved;
};

/**
 * gm_memmap_e820() - the e820 table of a map
 * @map:        borrowed
 * @nr:         number of entries
 * @ret:        room for @cap records; NULL if @cap is 0
 * @cap:        records that @ret has room for
 * @ret_needed: records of the table, also with -ENOBUFS
 * @err:        optional
 *
 * Neighbours of one type are one record. What is absent is left out.
 *
 * Returns 0; -ENOBUFS (more than @cap records); -ERANGE (a record would have 2^64 bytes, which its
 * length cannot say); or as gm_memmap_check().
 * Threads: any.
 * Since: 0.1.
 */
GM_API int gm_memmap_e820(const struct gm_memmap_entry *map, size_t nr, struct gm_e820_entry *ret,
	size_t cap, size_t *ret_needed, struct gm_error *err);

/**
 * gm_e820_encode() - write records as a guest reads them: packed, little-endian
 * @table: borrowed
 * @nr:    number of records
 * @buf:   room for @len bytes
 * @len:   GM_E820_WIRE_SIZE bytes for each record, or more: those are left as they are
 * @err:   optional
 *
 * Returns 0 or -ENOBUFS (nothing is written; err->len is what is needed).
 * Threads: any.
 * Since: 0.1.
 */
GM_API int gm_e820_encode(
	const struct gm_e820_entry *table, size_t nr, void *buf, size_t len, struct gm_error *err);

/**
 * gm_e820_zero_page() - put a table into the zero page of Linux' x86 boot protocol
 * @table: borrowed
 * @nr:    number of records
 * @page:  the page; e820_entries (byte 0x1e8) and e820_table (0x2d0) are written, records that are
 * not used are zeroed
 * @len:   bytes of @page, at least GM_E820_ZERO_PAGE_LEN
 * @err:   optional
 *
 * Returns 0; -E2BIG (more than GM_E820_ZERO_PAGE_MAX records: pass the rest by setup_data of type
 * SETUP_E820_EXT); -ENOBUFS (the page is too short). On failure nothing is written.
 * Threads: any.
 * Since: 0.1.
 */
GM_API int gm_e820_zero_page(
	const struct gm_e820_entry *table, size_t nr, void *page, size_t len, struct gm_error *err);

/* ---- device tree ---- */

#define GM_MEMMAP_FDT_NUMA 1u /* write numa-node-id */

/**
 * gm_memmap_fdt() - add a map to a flattened device tree
 * @map:        borrowed
 * @nr:         number of entries
 * @flags:      GM_MEMMAP_FDT_* bits
 * @fdt:        the tree, borrowed; checked before it is used
 * @cap:        bytes at @fdt, its free room included; afterwards the tree takes all of them
 * @ret_needed: optional; bytes that the tree needs, also with -ENOBUFS
 * @err:        optional
 *
 * RAM becomes nodes /memory@ADDRESS (neighbours of one node and the same flags are one); PMEM nodes
 * /pmem@ADDRESS; all other kinds nodes in /reserved-memory that are not to be mapped. What is absent
 * is left out. Cells for addresses and sizes are 2; a root that says nothing about them is told so.
 *
 * Returns 0; -ENOBUFS; -EINVAL (not a tree, or unknown flags); -EEXIST (the tree has such a node);
 * -ERANGE (2^64 bytes, which a size cannot say); -E2BIG (a tree of 2 GiB); -ENOTSUP (the tree has
 * other numbers of cells, or this library was built without libfdt); -ENOMEM; or as
 * gm_memmap_check(). On failure the tree is unchanged.
 * Threads: any.
 * Since: 0.1.
 */
GM_API int gm_memmap_fdt(const struct gm_memmap_entry *map, size_t nr, uint32_t flags, void *fdt,
	size_t cap, size_t *ret_needed, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
