/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * device.h - regions that are answered by callbacks: MMIO, and ROM whose writes go to a device.
 *
 * An access to such a region is cut into pieces that the device takes, each naturally aligned in the
 * region unless the device says otherwise, and as large as it takes. Callbacks run in the accessing
 * thread, in its reader's section, with no lock of the library held: they may be called by several
 * threads at once, and must not wait for anything that waits for readers. A callback may access
 * guest memory and other devices; what comes back to the same device in the same thread is refused
 * with -EBUSY. It may change the map if that needs no waiting: else the commit is -EDEADLK.
 */
#ifndef GUESTMEM_DEVICE_H
#define GUESTMEM_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Pieces need not be aligned. */
#define GM_DEVICE_UNALIGNED 0x1u

/**
 * struct gm_device_ops - a device; zero means default
 * @size:     sizeof(struct gm_device_ops)
 * @min_size: bytes of the smallest access that it takes: 1, 2, 4 or 8; 0 = 1. What begins or ends
 *            with a smaller piece is refused with -EINVAL
 * @max_size: bytes of the largest; 0 = 8
 * @flags:    GM_DEVICE_* bits
 * @read:     @size bytes at byte @off of the region, as a little-endian number: 0 and *ret_value, or a
 *            negative error, which the access returns. NULL: reads are refused with -EACCES
 * @write:    the same for a write. NULL: writes are refused with -EACCES
 * @release:  optional: no region and no reader uses it any more; called once
 * @ctx:      passed to each
 */
struct gm_device_ops {
	size_t size;
	uint32_t min_size;
	uint32_t max_size;
	uint32_t flags;
	uint32_t reserved;
	int (*read)(void *ctx, uint64_t off, uint32_t size, uint64_t *ret_value);
	int (*write)(void *ctx, uint64_t off, uint32_t size, uint64_t value);
	void (*release)(void *ctx);
	void *ctx;
};

#ifdef __cplusplus
}
#endif

#endif
