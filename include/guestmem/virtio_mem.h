/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio_mem.h - memory that a guest plugs and unplugs block by block, as a virtio-mem device does.
 *
 * Calls for a device that has taken requests off its queue (virtio specification, 5.15). The memory is one region
 * with parts (part.h): what is unplugged is -EFAULT for accesses of this process, has no slot in KVM (with
 * GM_KVM_PARTS) or guard pages (GM_VIRTIO_MEM_GUARD), and was given back to the host.
 */
#ifndef GUESTMEM_VIRTIO_MEM_H
#define GUESTMEM_VIRTIO_MEM_H

#include <guestmem/part.h>
#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_virtio_mem;

/* Responses: what the calls return if it is not negative. */
#define GM_VIRTIO_MEM_ACK 0
#define GM_VIRTIO_MEM_NACK 1  /* more than is requested */
#define GM_VIRTIO_MEM_BUSY 2  /* not now */
#define GM_VIRTIO_MEM_ERROR 3 /* a request that cannot be */

/* States. */
#define GM_VIRTIO_MEM_PLUGGED 0u
#define GM_VIRTIO_MEM_UNPLUGGED 1u
#define GM_VIRTIO_MEM_MIXED 2u

/*
 * Guard pages in what is unplugged (gm_range_guard()): for a KVM that has one slot for the region. Not for explicit
 * huge pages and locked memory.
 */
#define GM_VIRTIO_MEM_GUARD 0x1u

/**
 * struct gm_virtio_mem_opts - a device; zero means default
 * @size:       sizeof(struct gm_virtio_mem_opts)
 * @block_size: bytes, a power of two and a multiple of the region's granule and of the block's pages; 0 = the
 *              granule, or 2 MiB if that is less
 * @requested:  bytes that the host wants plugged, a multiple of @block_size
 * @extra:      bytes of addresses that may be used besides; 0 = 128 MiB
 * @flags:      GM_VIRTIO_MEM_* bits
 * @reserved:   zero
 */
struct gm_virtio_mem_opts {
	size_t size;
	uint64_t block_size;
	uint64_t requested;
	uint64_t extra;
	uint32_t flags;
	uint32_t reserved;
};

/**
 * struct gm_virtio_mem_info - the configuration space, and counts
 * @size:       sizeof(struct gm_virtio_mem_info), set by the caller
 * @block_size: bytes
 * @addr:       first guest address
 * @region_size: bytes of addresses
 * @usable:     of these may be used now
 * @plugged:    bytes
 * @requested:  bytes
 * @acks, @nacks, @busy, @errors: responses
 * @freed:      bytes given back
 */
struct gm_virtio_mem_info {
	size_t size;
	uint64_t block_size;
	uint64_t addr;
	uint64_t region_size;
	uint64_t usable;
	uint64_t plugged;
	uint64_t requested;
	uint64_t acks;
	uint64_t nacks;
	uint64_t busy;
	uint64_t errors;
	uint64_t freed;
};

/**
 * gm_virtio_mem_create() - a device for a region with parts
 * @space:  borrowed; must outlive it
 * @region: number of the region; RAM in the space itself, at an address that is a multiple of the block size
 * @opts:   borrowed; NULL = defaults
 * @ret:    destroyed with gm_virtio_mem_destroy()
 * @err:    optional
 *
 * The parts' states are taken as they are: a block that is plugged whole is plugged, else it must be unplugged
 * whole. One for a region: each counts for itself what is plugged. Returns 0, -ENOENT (no such region), -EINVAL,
 * -E2BIG, -ENOTSUP (guard pages), -EBUSY, -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_virtio_mem_create(struct gm_space *space, uint64_t region,
	const struct gm_virtio_mem_opts *opts, struct gm_virtio_mem **ret, struct gm_error *err);

/**
 * gm_virtio_mem_destroy() - free it; the parts stay as they are
 * @mem: taken; NULL is ignored
 *
 * Threads: owner only. Since: 0.1.
 */
GM_API void gm_virtio_mem_destroy(struct gm_virtio_mem *mem);

/**
 * gm_virtio_mem_plug() - VIRTIO_MEM_REQ_PLUG
 * @mem:  borrowed
 * @addr: guest address, as the guest says
 * @nr:   blocks, as the guest says
 * @err:  optional: why, for the host
 *
 * ERROR: misaligned, no blocks, not all in the usable region, not all unplugged, or the region is gone. NACK:
 * plugged would be more than requested. BUSY: a transaction is open, a listener refuses, no memory. Plugged
 * memory is zeros.
 * Threads: any, but in no section. Since: 0.1.
 */
GM_API int gm_virtio_mem_plug(
	struct gm_virtio_mem *mem, uint64_t addr, uint16_t nr, struct gm_error *err);

/**
 * gm_virtio_mem_unplug() - VIRTIO_MEM_REQ_UNPLUG
 * @mem:  borrowed
 * @addr: guest address, as the guest says
 * @nr:   blocks, as the guest says
 * @err:  optional
 *
 * ERROR as above, or not all plugged. BUSY: also if it cannot be given back; then it is plugged as before. Waits
 * for readers up to the space's deadline; what one of them writes later is gone when it is plugged again.
 * Threads: any, but in no section. Since: 0.1.
 */
GM_API int gm_virtio_mem_unplug(
	struct gm_virtio_mem *mem, uint64_t addr, uint16_t nr, struct gm_error *err);

/**
 * gm_virtio_mem_unplug_all() - VIRTIO_MEM_REQ_UNPLUG_ALL, and what a reset does
 * @mem: borrowed
 * @err: optional
 *
 * Also makes the usable region as small as what is requested needs. BUSY: what could not be unplugged is plugged.
 * Threads: any, but in no section. Since: 0.1.
 */
GM_API int gm_virtio_mem_unplug_all(struct gm_virtio_mem *mem, struct gm_error *err);

/**
 * gm_virtio_mem_state() - VIRTIO_MEM_REQ_STATE
 * @mem:       borrowed
 * @addr:      guest address
 * @nr:        blocks
 * @ret_state: with ACK: GM_VIRTIO_MEM_PLUGGED, _UNPLUGGED or _MIXED
 *
 * ACK, or ERROR. Threads: any. Since: 0.1.
 */
GM_API int gm_virtio_mem_state(
	struct gm_virtio_mem *mem, uint64_t addr, uint16_t nr, uint32_t *ret_state);

/**
 * gm_virtio_mem_set_requested() - the host wants another size
 * @mem:   borrowed
 * @bytes: a multiple of the block size, at most the region's
 *
 * The usable region may grow. The caller tells the guest (a configuration change). Returns 0 or -EINVAL.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_virtio_mem_set_requested(struct gm_virtio_mem *mem, uint64_t bytes);

/**
 * gm_virtio_mem_info() - describe it
 * @mem: borrowed
 * @ret: filled in
 *
 * Returns 0 or -EINVAL (size). Threads: any. Since: 0.1.
 */
GM_API int gm_virtio_mem_info(struct gm_virtio_mem *mem, struct gm_virtio_mem_info *ret);

#ifdef __cplusplus
}
#endif

#endif
