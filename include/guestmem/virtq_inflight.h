/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtq_inflight.h - chains that are out are noted in memory that outlives the device's process, so that another one
 * serves them.
 *
 * Source: QEMU's docs/interop/vhost-user.rst, the section about I/O in flight (version 1), for split and for packed
 * queues. The area of a queue is shared with the front-end, which keeps it; all zeros is a fresh one.
 */
#ifndef GUESTMEM_VIRTQ_INFLIGHT_H
#define GUESTMEM_VIRTQ_INFLIGHT_H

#include <guestmem/space.h>
#include <guestmem/virtq.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * gm_virtq_inflight_len() - bytes of the area of a queue
 * @nr:    entries
 * @flags: GM_VIRTQ_* bits
 *
 * Returns them, a multiple of 64. Threads: any. Since: 0.1.
 */
GM_API uint64_t gm_virtq_inflight_len(uint32_t nr, uint32_t flags);

/**
 * gm_virtq_track() - from the next start on, note what is out
 * @vq:   borrowed, not started
 * @area: a space of its own with the area; borrowed until the queue is destroyed
 * @off:  address there, a multiple of 64
 * @err:  optional
 *
 * If the area is not fresh, gm_virtq_start() goes on where the one before ended, whatever base it is told: what was out
 * comes first from gm_virtq_pop(), in the order in which it was taken. What the area says is checked: -EPROTO. Then
 * gm_virtq_unpop() is -ENOTSUP.
 * Returns 0, -EINVAL, -EFAULT (the area is too short), -ENOMEM. Threads: as gm_virtq_start(). Since: 0.1.
 */
GM_API int gm_virtq_track(
	struct gm_virtq *vq, struct gm_space *area, uint64_t off, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
