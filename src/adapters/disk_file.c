/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disk_file.c - a raw file or block device as a disk: what it is, and of which system calls a request consists.
 *
 * A request goes on until all of its bytes are done: what a call leaves out is asked for again, and where the file
 * system has no holes, or cannot make zeros by itself, the next way is taken and remembered.
 */
#include "adapters/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <guestmem/slice.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/range.h"
#include "sys/sys.h"

/* ---- requests ---- */

static bool tried(const uint32_t *flag)
{
	return __atomic_load_n(flag, __ATOMIC_RELAXED);
}

static void remember(uint32_t *flag)
{
	__atomic_store_n(flag, 1, __ATOMIC_RELAXED);
}

static enum disk_way first_way(const struct disk_file *file, const struct gm_disk_req *req)
{
	switch (req->op) {
	case GM_DISK_FLUSH:
		return DISK_SYNC;
	case GM_DISK_DISCARD:
		return DISK_PUNCH;
	case GM_DISK_ZERO:
		if ((req->flags & GM_DISK_FREE) && !tried(&file->no_punch))
			return DISK_PUNCH;
		return tried(&file->no_zero) ? DISK_WRITE_ZEROS : DISK_ZERO_RANGE;
	default:
		return DISK_MOVE;
	}
}

void gm_disk_begin(struct disk_file *file, struct gm_disk_req *req)
{
	*disk_job(req) = (struct disk_job){.way = first_way(file, req)};
}

static void next_zeros(struct disk_file *file, const struct gm_disk_req *req, uint64_t at,
	struct iovec *room, struct disk_call *ret)
{
	uint64_t left = req->len - at;
	uint64_t nr = left / DISK_ZEROS;

	ret->write = true;
	ret->slices = file->zero_slices;
	ret->nr = (uint32_t)(nr < DISK_ZERO_SLICES ? nr : DISK_ZERO_SLICES);
	if (nr == 0) {
		*room = (struct iovec){file->zeros, (size_t)left};
		ret->slices = room;
		ret->nr = 1;
	}
}

void gm_disk_next(
	struct disk_file *file, struct gm_disk_req *req, struct iovec *room, struct disk_call *ret)
{
	const struct disk_job *job = disk_job(req);

	*ret = (struct disk_call){.off = req->off + job->at, .len = req->len - job->at};
	switch (job->way) {
	case DISK_MOVE:
		ret->slices = req->slices;
		ret->nr = req->nr;
		ret->write = req->op == GM_DISK_WRITE;
		ret->durable = req->flags & GM_DISK_DURABLE;
		return;
	case DISK_PUNCH:
		ret->mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
		return;
	case DISK_ZERO_RANGE:
		ret->mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
		return;
	case DISK_WRITE_ZEROS:
		next_zeros(file, req, job->at, room, ret);
		return;
	case DISK_SYNC:
		return;
	}
}

static int settle_bytes(struct gm_disk_req *req, uint64_t res)
{
	struct disk_job *job = disk_job(req);
	size_t nr = req->nr;

	/* Behind the end of a file that was made shorter. */
	if (res == 0)
		return -EIO;
	if (res > req->len - job->at)
		return -EPROTO;
	job->at += res;
	if (job->at == req->len)
		return 0;
	if (job->way == DISK_MOVE && gm_slices_advance(&req->slices, &nr, res))
		return -EPROTO;
	req->nr = job->way == DISK_MOVE ? (uint32_t)nr : req->nr;
	return 1;
}

/* Some devices discard what they cannot make zeros of. */
static int discard_device(struct disk_file *file, const struct gm_disk_req *req)
{
	uint64_t range[2] = {req->off, req->len};
	int rc = file->is_block ? gm_sys_ioctl(file->fd, BLKDISCARD, range) : 0;

	return rc == -EOPNOTSUPP || rc == -ENOTTY ? 0 : rc;
}

static int other_way(struct disk_file *file, struct gm_disk_req *req)
{
	struct disk_job *job = disk_job(req);

	remember(job->way == DISK_PUNCH ? &file->no_punch : &file->no_zero);
	if (req->op == GM_DISK_DISCARD)
		return discard_device(file, req);
	job->way = job->way == DISK_PUNCH && !tried(&file->no_zero) ? DISK_ZERO_RANGE
								    : DISK_WRITE_ZEROS;
	return 1;
}

/*
 * The kernel tells once that pages could not be written, and counts them as written from then on: a later flush, of
 * another queue perhaps, would promise what is gone. With O_DIRECT there are no such pages.
 */
void gm_disk_lose(struct disk_file *file, int rc)
{
	if (!file->is_direct)
		__atomic_store_n(&file->lost, rc, __ATOMIC_RELAXED);
}

static int settle_sync(struct disk_file *file, int64_t res)
{
	int rc = res < 0 ? gm_checked_code((int)res) : 0;

	if (rc)
		gm_disk_lose(file, rc);
	return rc ? rc : __atomic_load_n(&file->lost, __ATOMIC_RELAXED);
}

int gm_disk_settle(struct disk_file *file, struct gm_disk_req *req, int64_t res)
{
	const struct disk_job *job = disk_job(req);

	if (res == -EINTR)
		return 1;
	/* The kernel says so of its own sync behind a write too. */
	if (res == -EIO && req->op == GM_DISK_WRITE && (req->flags & GM_DISK_DURABLE))
		gm_disk_lose(file, -EIO);
	switch (job->way) {
	case DISK_MOVE:
	case DISK_WRITE_ZEROS:
		return res < 0 ? gm_checked_code((int)res) : settle_bytes(req, (uint64_t)res);
	case DISK_PUNCH:
	case DISK_ZERO_RANGE:
		if (res == -EOPNOTSUPP || res == -ENOSYS || res == -ENODEV)
			return other_way(file, req);
		return res < 0 ? gm_checked_code((int)res) : 0;
	default:
		return settle_sync(file, res);
	}
}

/* ---- what it is ---- */

static int look(void *ctx, struct gm_disk_info *ret)
{
	struct disk_file *file = ctx;
	struct stat st = {0};
	uint64_t len = 0;
	int rc = file->is_block ? gm_sys_ioctl(file->fd, BLKGETSIZE64, &len)
				: gm_sys_fstat(file->fd, &st);

	if (rc)
		return rc;
	*ret = file->info;
	ret->flags |= __atomic_load_n(&file->by_uring, __ATOMIC_RELAXED);
	ret->len = file->is_block ? len : (uint64_t)st.st_size;
	return 0;
}

static int find_block(struct disk_file *file)
{
	struct gm_disk_info *info = &file->info;
	int block = 0;
	int rc = gm_sys_ioctl(file->fd, BLKSSZGET, &block);

	if (rc)
		return rc;
	info->block = block > 512 ? (uint32_t)block : 512;
	return 0;
}

static int find_align(struct disk_file *file)
{
	struct gm_disk_info *info = &file->info;
	uint32_t mem = 0;
	uint32_t off = 0;
	int rc = gm_sys_direct_align(file->fd, &mem, &off);

	if (rc == 0 && (mem == 0 || off == 0))
		return -EINVAL;
	info->mem_align = rc ? info->physical : mem;
	info->align = rc ? info->physical : off;
	if (info->block < info->align)
		info->block = info->align;
	return 0;
}

static int find_out(struct disk_file *file, const struct gm_disk_file_opts *opts)
{
	struct gm_disk_info *info = &file->info;
	int flags = gm_sys_open_flags(file->fd);
	struct stat st;
	int rc = gm_sys_fstat(file->fd, &st);

	if (flags < 0 || rc)
		return rc ? rc : flags;
	if ((flags & O_ACCMODE) == O_WRONLY || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
		return -EINVAL;
	file->is_block = S_ISBLK(st.st_mode);
	file->is_direct = flags & O_DIRECT;
	info->block = 512;
	info->physical =
		st.st_blksize > 0 && gm_is_pow2((uint64_t)st.st_blksize) && st.st_blksize <= 65536
			? (uint32_t)st.st_blksize
			: 4096;
	info->discard_align = info->physical;
	info->flags = (flags & O_ACCMODE) == O_RDONLY ? GM_DISK_READ_ONLY
						      : GM_DISK_CAN_DISCARD | GM_DISK_CAN_FREE;
	info->flags |= file->is_direct ? GM_DISK_DIRECT : 0;
	if (file->is_block)
		rc = find_block(file);
	if (!rc && file->is_direct)
		rc = find_align(file);
	if (!rc && opts->block) {
		if (!gm_is_pow2(opts->block) || opts->block < info->block)
			return -ERANGE;
		info->block = opts->block;
	}
	return rc;
}

/* ---- channels ---- */

struct channel {
	const struct disk_engine *engine;
	void *own;
};

static int open_channel(void *ctx, uint32_t depth, void **ret_channel, struct gm_error *err)
{
	struct disk_file *file = ctx;
	struct channel *channel = gm_sys_alloc(sizeof(*channel));
	int rc;

	if (!channel)
		return gm_error_set(err, -ENOMEM, 0, 0, "disk: no memory");
	channel->engine = &gm_disk_uring;
	rc = file->flags & GM_DISK_NO_URING ? -ENOTSUP
					    : gm_disk_uring.open(file, depth, &channel->own);
	if (rc) {
		channel->engine = &gm_disk_plain;
		rc = gm_disk_plain.open(file, depth, &channel->own);
	}
	if (rc) {
		gm_sys_free(channel);
		return gm_error_set(
			err, rc, 0, 0, "disk: a channel cannot be made: %s", gm_error_word(rc));
	}
	__atomic_store_n(&file->by_uring, channel->engine == &gm_disk_uring ? GM_DISK_BY_URING : 0,
		__ATOMIC_RELAXED);
	*ret_channel = channel;
	return 0;
}

static void close_channel(void *own)
{
	struct channel *channel = own;

	channel->engine->close(channel->own);
	gm_sys_free(channel);
}

static int start(void *own, struct gm_disk_req *req)
{
	struct channel *channel = own;

	return channel->engine->start(channel->own, req);
}

static int step(void *own)
{
	struct channel *channel = own;

	return channel->engine->step(channel->own);
}

static int fd_of(void *own)
{
	struct channel *channel = own;

	return channel->engine->fd(channel->own);
}

/* ---- life ---- */

static void destroy(void *ctx)
{
	struct disk_file *file = ctx;

	if (file->zeros)
		gm_sys_munmap(file->zeros, DISK_ZEROS);
	if (file->fd >= 0)
		gm_sys_close(file->fd);
	gm_sys_free(file);
}

static int open_file(
	struct disk_file *file, const struct gm_disk_file_opts *opts, struct gm_error *err)
{
	int rc;

	file->fd = gm_sys_dup(opts->fd);
	if (file->fd < 0)
		return gm_error_set(err, file->fd, 0, 0, "disk: fd %d cannot be kept: %s", opts->fd,
			gm_error_word(file->fd));
	rc = find_out(file, opts);
	if (rc)
		return gm_error_set(err, rc == -ERANGE ? -EINVAL : rc, 0, 0,
			rc == -ERANGE ? "disk: blocks of %u bytes are no power of two, or less "
					"than the file allows"
				      : "disk: fd %d is no file or block device that can serve",
			rc == -ERANGE ? opts->block : (uint32_t)opts->fd);
	rc = gm_sys_mmap(
		NULL, DISK_ZEROS, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &file->zeros);
	if (rc)
		return gm_error_set(err, rc, 0, 0, "disk: no memory");
	for (unsigned int i = 0; i < DISK_ZERO_SLICES; i++)
		file->zero_slices[i] = (struct iovec){file->zeros, DISK_ZEROS};
	return 0;
}

int gm_disk_file(
	const struct gm_disk_file_opts *opts, struct gm_disk **ret_disk, struct gm_error *err)
{
	struct gm_disk_ops ops = {
		.size = sizeof(ops),
		.name = "file",
		.look = look,
		.open = open_channel,
		.close = close_channel,
		.start = start,
		.step = step,
		.fd = fd_of,
		.destroy = destroy,
	};
	struct gm_disk_file_opts copy;
	struct disk_file *file;
	int rc = gm_opts_copy(&copy, sizeof(copy), opts, sizeof(copy));

	if (rc)
		return gm_opts_error(err, rc, "a disk");
	if ((copy.flags & ~GM_DISK_NO_URING) || copy.reserved)
		return gm_error_set(err, -EINVAL, 0, 0, "disk: unknown flags 0x%x", copy.flags);
	file = gm_sys_alloc(sizeof(*file));
	if (!file)
		return gm_error_set(err, -ENOMEM, 0, 0, "disk: no memory");
	file->fd = -1;
	file->flags = copy.flags;
	rc = open_file(file, &copy, err);
	if (!rc) {
		ops.ctx = file;
		rc = gm_disk_create(&ops, ret_disk, err);
	}
	if (rc)
		destroy(file);
	return rc;
}
