/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_device.h - what a front-end (vhost_frontend.h) asks of a device: log, translations, configuration, status, the
 * area of what is in flight, post-copy, state.
 *
 * All are -ENOTSUP where the feature that they need was not agreed on, -EREMOTEIO where the back-end says no, and fail
 * as gm_vhost_frontend_ring_start() when the connection is lost.
 */
#ifndef GUESTMEM_VHOST_DEVICE_H
#define GUESTMEM_VHOST_DEVICE_H

#include <guestmem/vhost_frontend.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * gm_vhost_frontend_log_start() - have the back-end log what it writes
 * @frontend: borrowed; attached
 * @err:      optional
 *
 * The log is memory of the front-end, as long as the map needs; it grows ahead of the map and shrinks behind it.
 * Returns 0, -EINVAL (not attached), -EALREADY, -ENOMEM, or see above. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_log_start(struct gm_vhost_frontend *frontend, struct gm_error *err);

/**
 * gm_vhost_frontend_log_sync() - mark what the back-end wrote in the logs of the space (log.h)
 * @frontend:  borrowed
 * @ret_pages: optional: pages of 4096 bytes that were marked
 * @err:       optional
 *
 * Works while the connection is lost. Returns 0, -EINVAL (no log). Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_log_sync(
	struct gm_vhost_frontend *frontend, uint64_t *ret_pages, struct gm_error *err);

/**
 * gm_vhost_frontend_log_stop() - no more of it; what is left in the log is marked
 * @frontend: borrowed
 * @err:      optional
 *
 * Returns 0, -EINVAL (no log), or see above: then it is ended too. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_log_stop(struct gm_vhost_frontend *frontend, struct gm_error *err);

/**
 * gm_vhost_frontend_iotlb() - tell the back-end of a translation, or that there is none any more
 * @frontend: borrowed
 * @iotlb:    type GM_VHOST_IOTLB_UPDATE or _INVALIDATE; @user is a guest address
 * @err:      optional
 *
 * When it returns the back-end has it, or does not use it any more. Returns 0, -EINVAL, or see above.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_iotlb(struct gm_vhost_frontend *frontend,
	const struct gm_vhost_iotlb *iotlb, struct gm_error *err);

/**
 * gm_vhost_frontend_config_get() - read the device's configuration
 * @frontend: borrowed
 * @off:      first byte
 * @buf:      filled in
 * @len:      bytes, 1 to GM_VHOST_CONFIG_MAX
 * @err:      optional
 *
 * Returns 0, -EINVAL, or see above. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_config_get(struct gm_vhost_frontend *frontend, uint32_t off, void *buf,
	uint32_t len, struct gm_error *err);

/**
 * gm_vhost_frontend_config_set() - write the device's configuration
 * @frontend: borrowed
 * @off:      first byte
 * @buf:      borrowed
 * @len:      bytes, 1 to GM_VHOST_CONFIG_MAX
 * @migrated: it is what another host had, and not what the driver wrote
 * @err:      optional
 *
 * Returns 0, -EINVAL, or see above. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_config_set(struct gm_vhost_frontend *frontend, uint32_t off,
	const void *buf, uint32_t len, bool migrated, struct gm_error *err);

/**
 * gm_vhost_frontend_status_get() - the device's status, as virtio has it
 * @frontend:   borrowed
 * @ret_status: filled in
 * @err:        optional
 *
 * Returns 0, or see above. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_status_get(
	struct gm_vhost_frontend *frontend, uint8_t *ret_status, struct gm_error *err);

/**
 * gm_vhost_frontend_status_set() - set the device's status; it is set again after a reconnect
 * @frontend: borrowed
 * @status:   the bits
 * @err:      optional
 *
 * Returns 0, or see above. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_status_set(
	struct gm_vhost_frontend *frontend, uint8_t status, struct gm_error *err);

/**
 * gm_vhost_frontend_reset() - reset the device: its rings are stopped, its shared memory is unmapped
 * @frontend: borrowed
 * @err:      optional
 *
 * The back-end asks for no unmapping then: call gm_vhost_shmem_clear() afterwards.
 * Returns 0, or see above. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_reset(struct gm_vhost_frontend *frontend, struct gm_error *err);

/**
 * gm_vhost_frontend_inflight() - have the device note what it has begun, so that a crash loses nothing
 * @frontend:   borrowed; no ring is started
 * @queue_size: entries of the largest ring
 * @err:        optional
 *
 * The back-end makes the area; it is kept here and given to it again after a reconnect. Returns 0, -EINVAL, -EBUSY (a
 * ring is started), or see above. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_inflight(
	struct gm_vhost_frontend *frontend, uint16_t queue_size, struct gm_error *err);

/**
 * gm_vhost_frontend_postcopy_advise() - memory will come later
 * @frontend: borrowed
 * @ret_fd:   a userfaultfd of the back-end: the caller's
 * @err:      optional
 *
 * Returns 0, or see above. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_postcopy_advise(
	struct gm_vhost_frontend *frontend, int *ret_fd, struct gm_error *err);

/**
 * gm_vhost_frontend_postcopy_listen() - from the next table on, untouched memory faults
 * @frontend: borrowed; advised, and not attached
 * @mapped:   optional: a region that the back-end has mapped at @base of its own addresses. Called before it may touch
 *            it, so that its faults are expected: gpa and len of @region. May refuse. No callback may call @frontend
 * @ctx:      passed to it
 * @err:      optional
 *
 * Attach afterwards. Returns 0, -EINVAL, -EBUSY (attached), or see above. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_postcopy_listen(struct gm_vhost_frontend *frontend,
	int (*mapped)(void *ctx, const struct gm_vhost_region *region, uint64_t base), void *ctx,
	struct gm_error *err);

/**
 * gm_vhost_frontend_postcopy_gpa() - where a fault of the back-end is
 * @frontend: borrowed
 * @address:  of the back-end, as its userfaultfd says
 * @ret_gpa:  filled in
 *
 * Waits for nothing but a change of the table's bases. Returns 0, -ENOENT. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_postcopy_gpa(
	struct gm_vhost_frontend *frontend, uint64_t address, uint64_t *ret_gpa);

/**
 * gm_vhost_frontend_postcopy_end() - all memory is there
 * @frontend: borrowed
 * @err:      optional
 *
 * Returns 0, -EINVAL (not advised), or see above. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_postcopy_end(struct gm_vhost_frontend *frontend, struct gm_error *err);

/**
 * gm_vhost_frontend_state() - have the device write its state to, or read it from, a pipe
 * @frontend: borrowed; its rings are stopped
 * @load:     read it; otherwise write it
 * @fd:       the back-end's end, borrowed
 * @ret_fd:   a pipe of the back-end's that it wants to be used instead, the caller's; or -1
 * @err:      optional
 *
 * Returns 0, or see above. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_state(
	struct gm_vhost_frontend *frontend, bool load, int fd, int *ret_fd, struct gm_error *err);

/**
 * gm_vhost_frontend_state_check() - was all of its state written or read?
 * @frontend: borrowed
 * @err:      optional
 *
 * Returns 0, or see above. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_state_check(struct gm_vhost_frontend *frontend, struct gm_error *err);

/**
 * gm_vhost_frontend_shmem() - what shared memory regions the device has
 * @frontend:   borrowed
 * @ret_config: filled in: lengths by number, 0 = there is none
 * @err:        optional
 *
 * Returns 0, or see above. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_shmem(struct gm_vhost_frontend *frontend,
	struct gm_vhost_shmem_config *ret_config, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
