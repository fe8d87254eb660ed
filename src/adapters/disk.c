/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disk.c - disks: handles, and what is checked of every request and every answer.
 */
#include "adapters/disk.h"

#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "core/range.h"
#include "sys/sys.h"

int gm_disk_create(const struct gm_disk_ops *ops, struct gm_disk **ret_disk, struct gm_error *err)
{
	struct gm_disk_info info = {.size = sizeof(info)};
	struct gm_disk_ops copy;
	struct gm_disk *disk;
	int rc = gm_opts_copy(&copy, sizeof(copy), ops, sizeof(copy));

	if (rc)
		return gm_opts_error(err, rc, "a disk");
	if (!copy.look || !copy.open || !copy.close || !copy.start || !copy.step || !copy.fd)
		return gm_error_set(err, -EINVAL, 0, 0,
			"disk: it has to have look, open, close, start, step and fd");
	disk = gm_sys_alloc(sizeof(*disk));
	if (!disk)
		return gm_error_set(err, -ENOMEM, 0, 0, "disk: no memory");
	disk->ops = copy;
	gm_copy_name(disk->name, sizeof(disk->name), copy.name ? copy.name : "disk");
	disk->ops.name = disk->name;
	rc = gm_disk_look(disk, &info);
	if (rc) {
		gm_error_set(err, rc, 0, 0, "disk %s: cannot be looked at: %s", disk->name,
			gm_error_word(rc));
		gm_sys_free(disk);
		return rc;
	}
	disk->flags = info.flags;
	disk->align = info.align;
	disk->mem_align = info.mem_align;
	*ret_disk = disk;
	return 0;
}

void gm_disk_destroy(struct gm_disk *disk)
{
	if (!disk)
		return;
	if (disk->ops.destroy)
		disk->ops.destroy(disk->ops.ctx);
	gm_sys_free(disk);
}

static bool is_good(const struct gm_disk_info *info)
{
	return info->len <= (uint64_t)INT64_MAX && gm_is_pow2(info->align) &&
	       gm_is_pow2(info->mem_align) && gm_is_pow2(info->block) && info->block >= 512 &&
	       gm_is_pow2(info->physical) && info->physical >= info->block &&
	       info->align <= (1u << 20) && info->mem_align <= (1u << 20) &&
	       info->block <= (1u << 20) && info->physical <= (1u << 24) &&
	       (info->discard_align == 0 || gm_is_pow2(info->discard_align));
}

int gm_disk_look(struct gm_disk *disk, struct gm_disk_info *ret_info)
{
	struct gm_disk_info info = {.size = sizeof(info)};
	int rc;

	if (ret_info->size < sizeof(*ret_info))
		return -E2BIG;
	rc = disk->ops.look(disk->ops.ctx, &info);
	if (rc)
		return gm_checked_code(rc);
	info.size = sizeof(info);
	info.align = info.align ? info.align : 1;
	info.mem_align = info.mem_align ? info.mem_align : 1;
	info.block = info.block ? info.block : 512;
	info.physical = info.physical > info.block ? info.physical : info.block;
	if (!is_good(&info))
		return -EPROTO;
	__atomic_store_n(&disk->len, info.len, __ATOMIC_RELAXED);
	*ret_info = info;
	return 0;
}

int gm_disk_open(struct gm_disk *disk, uint32_t depth, struct gm_disk_channel **ret_channel,
	struct gm_error *err)
{
	struct gm_disk_channel *channel;
	int rc;

	if (depth == 0 || depth > DISK_DEPTH_MAX)
		return gm_error_set(err, -EINVAL, 0, 0, "disk %s: a depth of %u: 1 to %u can be",
			disk->name, depth, DISK_DEPTH_MAX);
	channel = gm_sys_alloc(sizeof(*channel));
	if (!channel)
		return gm_error_set(err, -ENOMEM, 0, 0, "disk %s: no memory", disk->name);
	channel->disk = disk;
	rc = disk->ops.open(disk->ops.ctx, depth, &channel->own, err);
	if (rc) {
		gm_sys_free(channel);
		return gm_checked_code(rc);
	}
	*ret_channel = channel;
	return 0;
}

void gm_disk_close(struct gm_disk_channel *channel)
{
	if (!channel)
		return;
	channel->disk->ops.close(channel->own);
	gm_sys_free(channel);
}

static int check_move(const struct gm_disk *disk, const struct gm_disk_req *req)
{
	const uint32_t known = req->op == GM_DISK_WRITE ? GM_DISK_DURABLE : 0;
	uint64_t sum = 0;

	if (req->nr == 0 || req->nr > DISK_SLICES_MAX || (req->flags & ~known))
		return -EINVAL;
	for (uint32_t i = 0; i < req->nr; i++) {
		const struct iovec *slice = &req->slices[i];

		if ((uintptr_t)slice->iov_base & (disk->mem_align - 1) ||
			slice->iov_len & (disk->align - 1) || slice->iov_len > req->len - sum)
			return -EINVAL;
		sum += slice->iov_len;
	}
	return sum == req->len && req->len ? 0 : -EINVAL;
}

static int check(const struct gm_disk *disk, const struct gm_disk_req *req)
{
	uint64_t len = __atomic_load_n(&disk->len, __ATOMIC_RELAXED);

	if (req->op > GM_DISK_ZERO || req->reserved)
		return -EINVAL;
	if (req->op == GM_DISK_FLUSH)
		return req->flags ? -EINVAL : 0;
	if (req->op != GM_DISK_READ && (disk->flags & GM_DISK_READ_ONLY))
		return -EROFS;
	if (req->off > len || req->len > len - req->off)
		return -ERANGE;
	if ((req->off | req->len) & (disk->align - 1))
		return -EINVAL;
	if (req->op <= GM_DISK_WRITE)
		return check_move(disk, req);
	if (req->flags & ~(req->op == GM_DISK_ZERO ? GM_DISK_FREE : 0u))
		return -EINVAL;
	return req->len ? 0 : -EINVAL;
}

int gm_disk_start(struct gm_disk_channel *channel, struct gm_disk_req *req)
{
	int rc = check(channel->disk, req);

	return rc ? rc : gm_checked_code(channel->disk->ops.start(channel->own, req));
}

int gm_disk_step(struct gm_disk_channel *channel)
{
	int rc = channel->disk->ops.step(channel->own);

	return rc > 0 ? 1 : gm_checked_code(rc);
}

int gm_disk_fd(const struct gm_disk_channel *channel)
{
	return channel->disk->ops.fd(channel->own);
}
