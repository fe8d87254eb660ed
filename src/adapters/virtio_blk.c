/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio_blk.c - a block device as the driver sees it: features and configuration.
 */
#include "adapters/virtio_blk.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "core/range.h"
#include "sys/sys.h"

#define SEG_MAX 126u
#define DISCARD_MAX (UINT64_C(1) << 30)
#define DEVICE_BITS ((UINT64_C(1) << 24) - 1)
#define FLAGS_ALL                                                                                  \
	(GM_VIRTIO_BLK_READ_ONLY | GM_VIRTIO_BLK_NO_DISCARD | GM_VIRTIO_BLK_NO_WRITE_ZEROES)

/* The configuration, all little-endian; 5.2.4. */
struct blk_config {
	uint64_t capacity;
	uint32_t size_max;
	uint32_t seg_max;
	uint8_t geometry[4];
	uint32_t blk_size;
	uint8_t physical_exp;
	uint8_t alignment_offset;
	uint16_t min_io;
	uint32_t opt_io;
	uint8_t writeback;
	uint8_t unused0;
	uint16_t num_queues;
	uint32_t discard_sectors;
	uint32_t discard_seg;
	uint32_t discard_align;
	uint32_t zeroes_sectors;
	uint32_t zeroes_seg;
	uint8_t zeroes_may_unmap;
	uint8_t unused1[3];
};
_Static_assert(sizeof(struct blk_config) == 64 && GM_VIRTIO_BLK_CONFIG_LEN == 60, "5.2.4");

static uint64_t sectors_of(const struct gm_disk_info *info)
{
	return (info->len & ~((uint64_t)info->block - 1)) / BLK_SECTOR;
}

static uint64_t offer(const struct gm_virtio_blk_opts *o, const struct gm_disk_info *info)
{
	uint64_t bits = GM_VIRTIO_BLK_F_SEG_MAX | GM_VIRTIO_BLK_F_BLK_SIZE | GM_VIRTIO_BLK_F_FLUSH |
			GM_VIRTIO_BLK_F_TOPOLOGY | GM_VIRTIO_BLK_F_CONFIG_WCE | GM_VIRTIO_BLK_F_MQ;

	if ((o->flags & GM_VIRTIO_BLK_READ_ONLY) || (info->flags & GM_DISK_READ_ONLY))
		return bits | GM_VIRTIO_BLK_F_RO;
	if ((info->flags & GM_DISK_CAN_DISCARD) && !(o->flags & GM_VIRTIO_BLK_NO_DISCARD))
		bits |= GM_VIRTIO_BLK_F_DISCARD;
	if (!(o->flags & GM_VIRTIO_BLK_NO_WRITE_ZEROES))
		bits |= GM_VIRTIO_BLK_F_WRITE_ZEROES;
	return bits;
}

static int take_opts(
	const struct gm_virtio_blk_opts *opts, struct gm_virtio_blk_opts *o, struct gm_error *err)
{
	int rc = gm_opts_copy(o, sizeof(*o), opts, sizeof(*o));

	if (rc)
		return gm_opts_error(err, rc, "a block device");
	if ((o->flags & ~FLAGS_ALL) || o->reserved)
		return gm_error_set(
			err, -EINVAL, 0, 0, "block device: unknown flags 0x%" PRIx32, o->flags);
	o->nr_queues = o->nr_queues ? o->nr_queues : 1;
	o->seg_max = o->seg_max ? o->seg_max : SEG_MAX;
	o->discard_max = o->discard_max ? o->discard_max : DISCARD_MAX;
	if (!o->disk || o->nr_queues > 1024 || o->seg_max > GM_VIRTQ_NR_MAX - 2 ||
		o->discard_max < BLK_SECTOR || o->discard_max / BLK_SECTOR > UINT32_MAX)
		return gm_error_set(err, -EINVAL, 0, 0,
			"block device: a disk, 1 to 1024 queues, 1 to 32766 segments, and discards "
			"of 512 bytes to 2 TiB can be");
	return 0;
}

int gm_virtio_blk_create(
	const struct gm_virtio_blk_opts *opts, struct gm_virtio_blk **ret_blk, struct gm_error *err)
{
	struct gm_virtio_blk_opts o;
	struct gm_virtio_blk *blk;
	int rc = take_opts(opts, &o, err);

	if (rc)
		return rc;
	blk = gm_sys_alloc(sizeof(*blk));
	if (!blk)
		return gm_error_set(err, -ENOMEM, 0, 0, "block device: no memory");
	blk->disk = o.disk;
	blk->info.size = sizeof(blk->info);
	rc = gm_disk_look(o.disk, &blk->info);
	if (rc) {
		gm_sys_free(blk);
		return gm_error_set(err, rc, 0, 0, "block device: its disk cannot be used: %s",
			gm_error_word(rc));
	}
	blk->offered = offer(&o, &blk->info);
	blk->sectors = sectors_of(&blk->info);
	blk->writeback = 1;
	blk->nr_queues = o.nr_queues;
	blk->seg_max = o.seg_max;
	blk->discard_sectors =
		(uint32_t)((o.discard_max & ~((uint64_t)blk->info.block - 1)) / BLK_SECTOR);
	if (o.serial)
		memcpy(blk->serial, o.serial, strnlen(o.serial, BLK_ID_LEN));
	*ret_blk = blk;
	return 0;
}

void gm_virtio_blk_destroy(struct gm_virtio_blk *blk)
{
	gm_sys_free(blk);
}

uint64_t gm_virtio_blk_features(const struct gm_virtio_blk *blk)
{
	return blk->offered;
}

int gm_virtio_blk_accept(struct gm_virtio_blk *blk, uint64_t features, struct gm_error *err)
{
	uint64_t ours = features & DEVICE_BITS;

	if (ours & ~blk->offered)
		return gm_error_set(err, -EINVAL, 0, 0,
			"block device: the driver accepts features 0x%" PRIx64
			", which are not offered",
			ours & ~blk->offered);
	__atomic_store_n(&blk->accepted, ours, __ATOMIC_RELAXED);
	if (!(ours & GM_VIRTIO_BLK_F_CONFIG_WCE))
		__atomic_store_n(&blk->writeback, 1, __ATOMIC_RELAXED);
	return 0;
}

bool gm_blk_is_through(const struct gm_virtio_blk *blk)
{
	return !(__atomic_load_n(&blk->accepted, __ATOMIC_RELAXED) & GM_VIRTIO_BLK_F_FLUSH) ||
	       !__atomic_load_n(&blk->writeback, __ATOMIC_RELAXED);
}

/* ---- configuration ---- */

static void fill_in(const struct gm_virtio_blk *blk, struct blk_config *c)
{
	const struct gm_disk_info *info = &blk->info;
	uint32_t align = info->discard_align > info->block ? info->discard_align : info->block;

	*c = (struct blk_config){
		.capacity = htole64(__atomic_load_n(&blk->sectors, __ATOMIC_RELAXED)),
		.seg_max = htole32(blk->seg_max),
		.blk_size = htole32(info->block),
		.physical_exp = (uint8_t)__builtin_ctz(info->physical / info->block),
		.min_io = htole16(1),
		.writeback = (uint8_t)__atomic_load_n(&blk->writeback, __ATOMIC_RELAXED),
		.num_queues = htole16((uint16_t)blk->nr_queues),
	};
	if (blk->offered & GM_VIRTIO_BLK_F_DISCARD) {
		c->discard_sectors = htole32(blk->discard_sectors);
		c->discard_seg = htole32(BLK_SEGS);
		c->discard_align = htole32(align / BLK_SECTOR);
	}
	if (blk->offered & GM_VIRTIO_BLK_F_WRITE_ZEROES) {
		c->zeroes_sectors = htole32(blk->discard_sectors);
		c->zeroes_seg = htole32(BLK_SEGS);
		c->zeroes_may_unmap = info->flags & GM_DISK_CAN_FREE ? 1 : 0;
	}
}

void gm_virtio_blk_config_read(
	const struct gm_virtio_blk *blk, uint32_t off, void *buf, uint32_t len)
{
	struct blk_config config;
	uint32_t n = 0;

	fill_in(blk, &config);
	if (off < GM_VIRTIO_BLK_CONFIG_LEN) {
		n = GM_VIRTIO_BLK_CONFIG_LEN - off;
		n = n < len ? n : len;
		memcpy(buf, (const uint8_t *)&config + off, n);
	}
	memset((uint8_t *)buf + n, 0, len - n);
}

int gm_virtio_blk_config_write(
	struct gm_virtio_blk *blk, uint32_t off, const void *buf, uint32_t len)
{
	uint8_t value;

	if (off != offsetof(struct blk_config, writeback) || len != 1 ||
		!(blk->offered & GM_VIRTIO_BLK_F_CONFIG_WCE))
		return -EINVAL;
	memcpy(&value, buf, 1);
	if (value > 1)
		return -EINVAL;
	__atomic_store_n(&blk->writeback, value, __ATOMIC_RELAXED);
	return 0;
}

int gm_virtio_blk_resize(struct gm_virtio_blk *blk)
{
	struct gm_disk_info info = {.size = sizeof(info)};
	uint64_t sectors;
	int rc = gm_disk_look(blk->disk, &info);

	if (rc)
		return rc;
	info.block = blk->info.block;
	sectors = sectors_of(&info);
	return __atomic_exchange_n(&blk->sectors, sectors, __ATOMIC_RELAXED) != sectors;
}
