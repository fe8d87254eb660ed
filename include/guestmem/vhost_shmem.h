/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_shmem.h - the shared memory regions of a vhost-user device, as a guest sees them.
 *
 * A device has up to 256 of them (gm_vhost_frontend_shmem()), and its back-end maps parts of files there. Each shows in
 * a container region of the monitor's (GM_REGION_CONTAINER), which lies where the guest looks for it, such as in a BAR,
 * and moves with it. What is mapped is a region in the container, so readers, KVM and other listeners follow; what is
 * not mapped has no memory.
 *
 *	int shmem_map(void *ctx, const struct gm_vhost_shmem_map *map, int fd)
 *	{
 *		return gm_vhost_shmem_map(ctx, map, fd, NULL);
 *	}
 *
 * The back-end is not trusted: what it asks for is checked, and refused as a whole.
 */
#ifndef GUESTMEM_VHOST_SHMEM_H
#define GUESTMEM_VHOST_SHMEM_H

#include <guestmem/space.h>
#include <guestmem/vhost_msg.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_vhost_shmem;

#define GM_VHOST_SHMEM_WRITE UINT64_C(0x1) /* gm_vhost_shmem_map.flags: writable */

/**
 * struct gm_vhost_shmem_opts - shared memory regions of a device; zero means default
 * @size:  sizeof(struct gm_vhost_shmem_opts)
 * @space: borrowed; must outlive them
 * @kind:  enum gm_region_kind of what is mapped; 0 = GM_REGION_DEVMEM. None that a front-end of the same space shares:
 *         it could not be asked while it does what its back-end asks for
 * @maps:  parts that can be mapped at once; 0 = 256
 */
struct gm_vhost_shmem_opts {
	size_t size;
	struct gm_space *space;
	uint32_t kind;
	uint32_t maps;
};

/**
 * gm_vhost_shmem_create() - a device without shared memory regions
 * @opts:      borrowed
 * @ret_shmem: the caller's, for gm_vhost_shmem_destroy()
 * @err:       optional
 *
 * Returns 0, -EINVAL, -E2BIG, -ENOMEM. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_shmem_create(const struct gm_vhost_shmem_opts *opts,
	struct gm_vhost_shmem **ret_shmem, struct gm_error *err);

/**
 * gm_vhost_shmem_destroy() - the end; what is mapped goes
 * @shmem: taken, unless the call fails; NULL is ignored
 * @err:   optional
 *
 * Returns as gm_vhost_shmem_clear(). Threads: any, when no other uses it. Since: 0.1.
 */
GM_API int gm_vhost_shmem_destroy(struct gm_vhost_shmem *shmem, struct gm_error *err);

/**
 * gm_vhost_shmem_place() - where a shared memory region shows
 * @shmem:  borrowed
 * @id:     its number with the device
 * @region: number of a container in the space, which stays as long as @shmem: its length is that of the region
 * @err:    optional
 *
 * Returns 0, -ENOENT (no such region), -EINVAL (it is no container), -EBUSY (@id has one). Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_shmem_place(
	struct gm_vhost_shmem *shmem, uint8_t id, uint64_t region, struct gm_error *err);

/**
 * gm_vhost_shmem_map() - part of a file in a shared memory region
 * @shmem: borrowed
 * @map:   borrowed: what the back-end says
 * @fd:    borrowed and dup'ed: a file that is long enough, sealed with F_SEAL_SHRINK unless the fault guard (guard.h)
 *         is installed
 * @err:   optional
 *
 * To be called by gm_vhost_frontend_ops.shmem_map. Returns 0; -ENOENT (@id was not placed); -ERANGE (outside of the
 * region); -EEXIST (something is mapped there); -EINVAL (misaligned, unknown flags, or another sort of file);
 * -EPERM (no seal); -ENOSPC (too many); -EBUSY (a transaction of the space is open: the back-end may ask again);
 * -ENOMEM, or what mapping failed with. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_shmem_map(struct gm_vhost_shmem *shmem, const struct gm_vhost_shmem_map *map,
	int fd, struct gm_error *err);

/**
 * gm_vhost_shmem_unmap() - no more
 * @shmem: borrowed
 * @map:   borrowed: what the back-end says; all that lies in it goes. Only @id, @off and @len count
 * @err:   optional
 *
 * From here on nobody finds it; readers that have found it keep it until they leave (gm_space_reclaim()). Returns 0;
 * -ENOENT (nothing is there); -EINVAL (something lies in it in part, or it wraps); -EBUSY, -ETIMEDOUT or -ENOMEM as
 * gm_txn_commit(). Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_shmem_unmap(
	struct gm_vhost_shmem *shmem, const struct gm_vhost_shmem_map *map, struct gm_error *err);

/**
 * gm_vhost_shmem_clear() - the device was reset, or its back-end is gone: nothing is mapped any more
 * @shmem: borrowed
 * @err:   optional
 *
 * Returns 0, or -EBUSY, -ETIMEDOUT, -ENOMEM: then all is as it was. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_shmem_clear(struct gm_vhost_shmem *shmem, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
