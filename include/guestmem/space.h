/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * space.h - the changeable map of a guest's physical addresses.
 *
 * A space holds a tree of regions: stretches of addresses with a kind, permissions and, for memory,
 * a block. Regions lie in the space itself or in another region, and may overlap: among those that
 * lie in the same one the highest priority shows, and what it leaves free shows the next. An alias
 * shows part of another region once more. Flattened, the tree is the map that readers see, sorted
 * and disjoint. Changes are made in transactions; each commit publishes one new view (view.h) that
 * readers get at their next section. Readers are never stopped.
 */
#ifndef GUESTMEM_SPACE_H
#define GUESTMEM_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <guestmem/block.h>
#include <guestmem/device.h>
#include <guestmem/error.h>
#include <guestmem/export.h>
#include <guestmem/view.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_space;
struct gm_iommu;

/** enum gm_region_kind - what a region is */
enum gm_region_kind {
	GM_REGION_RAM = 0,   /* memory, by default readable, writable, executable */
	GM_REGION_ROM,       /* memory, by default readable and executable; a write is -EACCES */
	GM_REGION_RESERVED,  /* an address range without memory: access is -EFAULT */
	GM_REGION_CONTAINER, /* nothing of its own: what lies in it shows, clipped to its range */
	GM_REGION_ALIAS,     /* shows part of another region; nothing can lie in it */
	GM_REGION_MMIO,      /* accesses call a device (device.h) */
	GM_REGION_ROMD,      /* memory that is read; writes call a device */
	GM_REGION_PMEM,      /* memory as RAM that keeps its contents: a label for others */
	GM_REGION_ACPI,      /* memory as RAM with tables of the firmware: a label */
	GM_REGION_IOMMU,     /* addresses are translated to those of another space (iommu.h) */
	GM_REGION_DEVMEM, /* memory of a device, as a BAR: aligned accesses of 1 to 8 bytes only */
};

/**
 * struct gm_section_ops - the embedder's own way to keep a view alive
 * @enter: begins a section of the calling thread (as rcu_read_lock)
 * @leave: ends it
 * @wait:  waits until all sections that had begun are over, at most @timeout_ns; 0 or -ETIMEDOUT
 * @ctx:   passed to each
 *
 * With these the space uses no reclaim scheme of its own. All three or none.
 */
struct gm_section_ops {
	void (*enter)(void *ctx);
	void (*leave)(void *ctx);
	int (*wait)(void *ctx, uint64_t timeout_ns);
	void *ctx;
};

/**
 * struct gm_space_opts - properties of a space; zero means default
 * @size:       sizeof(struct gm_space_opts)
 * @gpa_limit:  the window reserves host addresses for [0, gpa_limit); rounded up to 1 GiB; at most
 * 2^46; 0 = 2^40; GM_SPACE_NO_WINDOW = none
 * @timeout_ns: deadline for waits for readers, 0 = 1 second
 * @name:       copied (31 bytes); NULL = "guest"
 * @sections:   optional, copied
 * @over:       optional: a space to whose addresses regions of kind GM_REGION_IOMMU lead; borrowed, must
 *              outlive this one. Their readers' sections are one scheme, so @sections is NULL then
 */
struct gm_space_opts {
	size_t size;
	uint64_t gpa_limit;
	uint64_t timeout_ns;
	const char *name;
	const struct gm_section_ops *sections;
	struct gm_space *over;
};

#define GM_SPACE_NO_WINDOW UINT64_MAX

#define GM_REGION_DISABLED 0x1u     /* does not show until gm_txn_enable() */
#define GM_REGION_HOTPLUGGABLE 0x2u /* for memory maps: may go while the guest runs, or come */

/* As gm_region_desc.parent: in no other region; it shows by aliases only. */
#define GM_REGION_DETACHED UINT64_MAX

/**
 * struct gm_region_desc - a region to be added
 * @size:      sizeof(struct gm_region_desc)
 * @gpa:       first address in @parent; for memory a multiple of its page size
 * @len:       bytes; 0 = length of the memory; for a container or an IOMMU at address 0 all 2^64
 * @kind:      enum gm_region_kind
 * @perms:     GM_PERM_* bits, 0 = default of @kind; what lies in a container or shows by an alias has
 *             at most its permissions
 * @block:     existing block, borrowed (the region takes a reference); or
 * @backing:   options of a block to be made in place, borrowed (len 0 = @len); neither for what is
 *             no memory
 * @block_off: byte of @block where the region begins; of an alias: byte of @target
 * @name:      copied (31 bytes); NULL = name of the block
 * @parent:    number of the region in which it lies; 0 = the space; GM_REGION_DETACHED
 * @target:    of an alias: number of the region that it shows
 * @device:    of GM_REGION_MMIO and GM_REGION_ROMD: borrowed, copied; the block of the latter is no
 *             other region's
 * @iommu:     of GM_REGION_IOMMU: borrowed (the region takes a reference); the IOVA is the offset in
 *             the region
 * @priority:  the highest shows; regions of equal priority in one parent must not overlap
 * @flags:     GM_REGION_* bits
 * @label:     the caller's own, told again
 * @granule:   memory, but no ROM device: bytes of a part (part.h), a power of two and a multiple of
 *             the page size, of which @len is a multiple; 0 = the region has no parts
 * @private_block: optional: bytes that only the guest may use, such as those of a guest_memfd; borrowed
 *             (the region takes a reference)
 * @private_off: byte of @private_block where the region begins
 * @part:      enum gm_part: state of all its parts at first, and of those that it grows by
 * @numa_plus: 1 + NUMA node, for memory maps; 0 = none
 */
struct gm_region_desc {
	size_t size;
	uint64_t gpa;
	uint64_t len;
	uint32_t kind;
	uint32_t perms;
	struct gm_block *block;
	const struct gm_block_opts *backing;
	uint64_t block_off;
	const char *name;
	uint64_t parent;
	uint64_t target;
	const struct gm_device_ops *device;
	struct gm_iommu *iommu;
	int32_t priority;
	uint32_t flags;
	uint64_t label;
	uint64_t granule;
	struct gm_block *private_block;
	uint64_t private_off;
	uint32_t part;
	uint32_t numa_plus;
};

/**
 * struct gm_region_info - a region, or what shows of it in one place
 * @size:      sizeof(struct gm_region_info), set by the caller
 * @id:        number that names the region in its space for ever
 * @gpa:       first address: in its parent, or of what shows
 * @len:       bytes; 0 = 2^64
 * @kind:      enum gm_region_kind
 * @perms:     GM_PERM_* bits
 * @placed:    1 if its memory lies in the window
 * @flags:     GM_REGION_* bits
 * @block:     borrowed until the region is removed; NULL for what is no memory
 * @block_off: byte of @block that is at @gpa; of an alias: byte of @target
 * @hva:       host address of the first byte, for slots of KVM or vhost, not for access; NULL for
 *             what is no memory or does not show at its own addresses
 * @name:      its name
 * @parent:    number of the region in which it lies, 0 (the space) or GM_REGION_DETACHED
 * @target:    of an alias: number of the region that it shows
 * @off:       of what shows: where in the region it begins
 * @priority:  as given
 * @part:      enum gm_part: of what shows; of a region: as given. Readers reach what is shared only
 * @label:     as given
 * @granule:   as given
 * @private_block: borrowed until the region is removed; NULL if it has none
 * @private_off: byte of @private_block that is at @gpa
 * @unplugged: bytes of the region that are unplugged
 * @private_len: bytes of the region that are private
 * @numa_plus: as given
 */
struct gm_region_info {
	size_t size;
	uint64_t id;
	uint64_t gpa;
	uint64_t len;
	uint32_t kind;
	uint32_t perms;
	uint32_t placed;
	uint32_t flags;
	struct gm_block *block;
	uint64_t block_off;
	void *hva;
	char name[32];
	uint64_t parent;
	uint64_t target;
	uint64_t off;
	int32_t priority;
	uint32_t part;
	uint64_t label;
	uint64_t granule;
	struct gm_block *private_block;
	uint64_t private_off;
	uint64_t unplugged;
	uint64_t private_len;
	uint32_t numa_plus;
	uint32_t reserved;
};

/**
 * gm_space_create() - make an empty space
 * @opts:      borrowed; NULL = defaults
 * @ret_space: the space, destroyed with gm_space_destroy()
 * @err:       optional
 *
 * Returns 0, -EINVAL, -E2BIG, -ENOTSUP (over one that has an IOMMU and logs), -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_space_create(
	const struct gm_space_opts *opts, struct gm_space **ret_space, struct gm_error *err);

/**
 * gm_space_build() - make a space with these regions, or nothing
 * @opts:      borrowed; NULL = defaults
 * @descs:     @nr descriptions, borrowed
 * @nr:        their number
 * @ret_space: the space
 * @err:       optional; its gpa is that of the region which failed
 *
 * Returns as gm_space_create() and gm_txn_add().
 * Threads: any. Since: 0.1.
 */
GM_API int gm_space_build(const struct gm_space_opts *opts, const struct gm_region_desc *descs,
	size_t nr, struct gm_space **ret_space, struct gm_error *err);

/**
 * gm_space_destroy() - free a space, its regions and its window
 * @space: taken; without readers and transactions; NULL is ignored
 *
 * Memory that is pinned stays mapped until the last pin is given back.
 * Threads: owner only. Since: 0.1.
 */
GM_API void gm_space_destroy(struct gm_space *space);

/**
 * gm_space_add() - a transaction with one gm_txn_add()
 * @space:  borrowed
 * @desc:   borrowed
 * @ret_id: optional
 * @err:    optional
 *
 * Returns as its parts.
 * Threads: any (-EBUSY while a transaction is open). Since: 0.1.
 */
GM_API int gm_space_add(struct gm_space *space, const struct gm_region_desc *desc, uint64_t *ret_id,
	struct gm_error *err);

/**
 * gm_space_remove() - a transaction with one gm_txn_remove()
 * @space: borrowed
 * @id:    of the region
 * @err:   optional
 *
 * Its memory is given back once all readers have left, by gm_space_reclaim() or a later change.
 * Returns as its parts.
 * Threads: any (-EBUSY while a transaction is open). Since: 0.1.
 */
GM_API int gm_space_remove(struct gm_space *space, uint64_t id, struct gm_error *err);

/**
 * gm_space_region() - describe the region with a number
 * @space:    borrowed
 * @id:       of the region
 * @ret_info: filled in
 *
 * Returns 0, -ENOENT, -EINVAL (size).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_space_region(struct gm_space *space, uint64_t id, struct gm_region_info *ret_info);

/**
 * gm_space_next() - walk over what shows, in rising order
 * @space:    borrowed
 * @gpa:      lowest address
 * @ret_info: what shows at @gpa or else the first above: the whole stretch of one region
 *
 * Go on with ret_info->gpa + ret_info->len unless that wraps to 0.
 * While a commit moves memory in the window (txn.h), what moves does not show here either.
 * Returns 0, -ENOENT (no more), -EINVAL (size).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_space_next(struct gm_space *space, uint64_t gpa, struct gm_region_info *ret_info);

#ifdef __cplusplus
}
#endif

#endif
