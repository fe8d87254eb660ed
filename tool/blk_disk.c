/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blk_disk.c - what is behind "guestmem blk": a file, a block device, an export of an NBD server.
 *
 * A file is locked as long as queues run: not before, because where a guest migrates to the process is there before
 * the one where it comes from is done. The lock is the open file's: of a process that was killed it is gone only when
 * the kernel has done, or dropped, all that it had begun. So no write of a process that is gone comes after those of
 * the next one, which waits for the lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "blk.h"
#include "tool.h"

#define LOCK_WAIT 10.0

bool blk_is_export(const char *file)
{
	return strncmp(file, "nbd://", 6) == 0 || strncmp(file, "nbds://", 7) == 0 ||
	       strncmp(file, "nbd+", 4) == 0 || strncmp(file, "nbds+", 5) == 0;
}

/* Several may read, one may write. */
bool blk_lock(const struct blk *b)
{
	const struct timespec pause = {0, 2000000};
	double until = tool_now() + LOCK_WAIT;

	while (b->file >= 0 && flock(b->file, (b->opts.read_only ? LOCK_SH : LOCK_EX) | LOCK_NB)) {
		if (errno != EWOULDBLOCK && errno != EINTR) {
			tool_error("%s: lock: %s", b->opts.file, strerror(errno));
			return false;
		}
		if (tool_now() > until) {
			tool_error("%s: another process has locked it", b->opts.file);
			return false;
		}
		nanosleep(&pause, NULL);
	}
	return true;
}

void blk_unlock(const struct blk *b)
{
	if (b->file >= 0)
		flock(b->file, LOCK_UN);
}

static bool open_file(struct blk *b)
{
	struct gm_disk_file_opts opts = {
		.size = sizeof(opts),
		.flags = b->opts.plain ? GM_DISK_NO_URING : 0,
		.block = b->opts.block,
	};
	struct gm_error err = {0};
	int rc;

	opts.fd = open(b->opts.file, (b->opts.read_only ? O_RDONLY : O_RDWR) |
					     (b->opts.direct ? O_DIRECT : 0) | O_CLOEXEC |
					     O_NONBLOCK);
	if (opts.fd < 0) {
		tool_error("%s: %s", b->opts.file, strerror(errno));
		return false;
	}
	b->file = opts.fd;
	rc = gm_disk_file(&opts, &b->disk, &err);
	if (rc < 0)
		tool_error("%s: %s", b->opts.file, err.text);
	return rc == 0;
}

static bool open_nbd(struct blk *b)
{
	const struct gm_disk_nbd_opts opts = {
		.size = sizeof(opts),
		.uri = b->opts.file,
		.flags = b->opts.read_only ? GM_DISK_READ_ONLY : 0,
	};
	struct gm_error err = {0};
	int rc = gm_disk_nbd(&opts, &b->disk, &err);

	if (rc < 0)
		tool_error("%s: %s", b->opts.file, err.text);
	return rc == 0;
}

/* What is no fault, but seldom what was meant. */
static bool look_at(const struct blk *b)
{
	struct gm_disk_info info = {.size = sizeof(info)};
	static _Alignas(4096) char first[4096];
	int rc = gm_disk_look(b->disk, &info);

	if (rc < 0) {
		tool_error("%s: %s", b->opts.file, strerror(-rc));
		return false;
	}
	if (info.len < info.block)
		tool_note("%s has %" PRIu64
			  " bytes, less than a block of %u: the guest sees a disk without any",
			b->opts.file, info.len, info.block);
	else if (info.len % info.block)
		tool_note("%s: the guest does not see the last %" PRIu64
			  " bytes, less than a block of %u",
			b->opts.file, info.len % info.block, info.block);
	if (b->file >= 0 && pread(b->file, first, sizeof(first), 0) >= 4 &&
		memcmp(first, "QFI\xfb", 4) == 0)
		tool_note("%s looks like a qcow2 image, and is served as it is: qemu-nbd serves "
			  "what is in it (see guestmem-blk(1))",
			b->opts.file);
	return true;
}

bool blk_open_disk(struct blk *b)
{
	return (blk_is_export(b->opts.file) ? open_nbd(b) : open_file(b)) && look_at(b);
}
