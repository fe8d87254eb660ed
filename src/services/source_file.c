/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source_file.c - a raw file as a source: data may be mapped, holes are zeros.
 *
 * A hole is what the file system says lies between data and within the file. What lies behind the end of the file is no
 * hole: a file that became shorter is an error and never zeros.
 */
#include <guestmem/source.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <unistd.h>

#include "core/error.h"
#include "sys/sys.h"
#include "sys/whole.h"

#define FEW (64u << 10)

struct file {
	int fd;
	bool holes; /* it tells where they are */
	uint64_t start;
	uint64_t len;
};

/* *ret_full: it has blocks for all of it, so there is no hole worth a search. */
static int size_of(int fd, uint64_t *ret, bool *ret_full)
{
	struct stat st;
	int64_t end;
	int rc = gm_sys_fstat(fd, &st);

	if (rc)
		return rc;
	*ret_full = false;
	if (S_ISREG(st.st_mode)) {
		*ret = (uint64_t)st.st_size;
		*ret_full = st.st_blocks > (st.st_size - 1) / 512;
		return 0;
	}
	if (!S_ISBLK(st.st_mode))
		return -EINVAL;
	end = gm_sys_seek(fd, 0, SEEK_END);
	if (end < 0)
		return (int)end;
	*ret = (uint64_t)end;
	return 0;
}

/* Where data or a hole begins at or behind @at: INT64_MAX if there is none. */
static int64_t seek(const struct file *file, uint64_t at, int whence)
{
	int64_t found = gm_sys_seek(file->fd, at, whence);

	if (found == -ENXIO)
		return INT64_MAX;
	return found >= 0 && (uint64_t)found < at ? -EPROTO : found;
}

/*
 * A tmpfs finds the end of data page by page: a whole image takes milliseconds, in which a guest waits. So the end is
 * not looked for in a file without holes, nor if little was asked for.
 */
static int file_extent(void *ctx, uint64_t offset, struct gm_source_extent *extent)
{
	const struct file *file = ctx;
	uint64_t at = file->start + offset;
	uint64_t left = file->len - offset;
	bool few = extent->len <= FEW && extent->len < left;
	uint64_t size = 0;
	int64_t data = (int64_t)at;
	int64_t end = INT64_MAX;
	bool full;
	int rc = size_of(file->fd, &size, &full);

	if (rc)
		return rc;
	if (at >= size)
		return -ENODATA;
	if (file->holes && !full) {
		data = seek(file, at, SEEK_DATA);
		if (data != (int64_t)at)
			end = data;
		else
			end = few ? (int64_t)(at + extent->len) : seek(file, at, SEEK_HOLE);
	}
	if (data < 0 || end < 0)
		return data < 0 ? (int)data : (int)end;
	if (left > size - at)
		left = size - at;
	/* A hole there by now, where the data began: it was changed in between. */
	if ((uint64_t)end > at && left > (uint64_t)end - at)
		left = (uint64_t)end - at;
	extent->len = left;
	extent->kind = GM_SOURCE_ZERO;
	if (data == (int64_t)at) {
		extent->kind = GM_SOURCE_RAW;
		extent->fd = file->fd;
		extent->fd_off = at;
	}
	return 0;
}

static int file_read(void *ctx, uint64_t offset, void *buf, size_t len, struct gm_error *err)
{
	const struct file *file = ctx;
	uint64_t at = file->start + offset;
	size_t done;
	int rc = gm_pread_whole(file->fd, buf, len, at, &done);

	if (rc == -ENODATA)
		return gm_error_set(err, rc, 0, 0,
			"file: it ends at byte 0x%" PRIx64 ", and byte 0x%" PRIx64 " is wanted",
			at + done, at + len - 1);
	if (rc)
		return gm_error_set(err, rc, 0, 0, "file: byte 0x%" PRIx64 " cannot be read: %s",
			at + done, gm_error_word(rc));
	return 0;
}

static void file_destroy(void *ctx)
{
	struct file *file = ctx;

	gm_sys_close(file->fd);
	gm_sys_free(file);
}

/* Looks at the file; its length if the caller named none. */
static int look(int fd, uint64_t offset, uint64_t *len, struct gm_error *err)
{
	uint64_t size = 0;
	bool full;
	int rc = size_of(fd, &size, &full);
	int flags = rc ? 0 : gm_sys_open_flags(fd);

	if (rc == -EINVAL)
		return gm_error_set(err, rc, 0, 0,
			"file: fd %d is neither a regular file nor a block device", fd);
	if (rc || flags < 0)
		return gm_error_set(err, rc ? rc : flags, 0, 0,
			"file: fd %d cannot be looked at: %s", fd, gm_error_word(rc ? rc : flags));
	if ((flags & O_ACCMODE) == O_WRONLY || (flags & O_PATH))
		return gm_error_set(
			err, -EINVAL, 0, 0, "file: fd %d is not opened for reading", fd);
	if (offset > size || *len > size - offset)
		return gm_error_set(err, -ERANGE, 0, 0,
			"file: 0x%" PRIx64 " bytes at 0x%" PRIx64 " do not lie in its 0x%" PRIx64,
			*len, offset, size);
	if (*len == 0)
		*len = size - offset;
	return 0;
}

/* Takes @file, whose fd is open, on success. */
static int make(struct file *file, struct gm_source **ret_source, struct gm_error *err)
{
	const struct gm_source_ops ops = {
		.size = sizeof(ops),
		.name = "file",
		.len = file->len,
		.extent = file_extent,
		.read = file_read,
		.destroy = file_destroy,
		.ctx = file,
	};
	int64_t found = file->len ? gm_sys_seek(file->fd, file->start, SEEK_DATA) : 0;

	if (found < 0 && found != -ENXIO && found != -EINVAL)
		return gm_error_set(err, (int)found, 0, 0,
			"file: its holes cannot be looked for: %s", gm_error_word((int)found));
	/* Block devices know none. */
	file->holes = found >= 0 || found == -ENXIO;
	return gm_source_create(&ops, ret_source, err);
}

int gm_source_file(
	int fd, uint64_t offset, uint64_t len, struct gm_source **ret_source, struct gm_error *err)
{
	struct file *file;
	int rc = look(fd, offset, &len, err);

	if (rc)
		return rc;
	file = gm_sys_alloc(sizeof(*file));
	if (!file)
		return gm_error_set(err, -ENOMEM, 0, 0, "file: no memory for a source");
	file->start = offset;
	file->len = len;
	file->fd = gm_sys_dup(fd);
	rc = file->fd < 0 ? gm_error_set(err, file->fd, 0, 0, "file: fd %d cannot be kept: %s", fd,
				    gm_error_word(file->fd))
			  : make(file, ret_source, err);
	if (!rc)
		return 0;
	if (file->fd >= 0)
		gm_sys_close(file->fd);
	gm_sys_free(file);
	return rc;
}
