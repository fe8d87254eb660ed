/* SPDX-License-Identifier: BSD-3-Clause */
/* newfile.c - see newfile.h. */
#include "services/newfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>

#include "core/error.h"
#include "core/range.h"
#include "sys/sys.h"

#define SUFFIX ".part"
#define TRIES 8
#define PAGE 4096u

static int failed(const struct gm_newfile *file, struct gm_error *err, int rc, const char *what)
{
	return gm_error_set(err, rc, 0, 0, "%s: %s: %s", file->path, what, gm_error_word(rc));
}

static int open_dir(struct gm_newfile *file, struct gm_error *err)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(file->path, '/');
	const char *name = slash ? slash + 1 : file->path;
	size_t name_len = strlen(name);
	size_t len = slash ? (size_t)(slash - file->path) : 0;

	if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
		return failed(file, err, -EISDIR, "it is no name of a file");
	if (name_len > sizeof(file->name) - 1 - sizeof(SUFFIX) || len > sizeof(dir) - 2)
		return failed(file, err, -ENAMETOOLONG, "its name");
	memcpy(dir, file->path, len);
	if (!slash)
		dir[len++] = '.';
	else if (len == 0)
		dir[len++] = '/';
	dir[len] = '\0';
	memcpy(file->name, name, name_len + 1);
	file->temp[0] = '.';
	memcpy(file->temp + 1, name, name_len);
	memcpy(file->temp + 1 + name_len, SUFFIX, sizeof(SUFFIX));
	do {
		file->dir = gm_sys_open(dir, O_RDONLY | O_DIRECTORY, 0);
	} while (file->dir == -EINTR);
	return file->dir < 0 ? failed(file, err, file->dir, "its directory") : 0;
}

/* Locks it: -EBUSY if it was taken for what a dead writer left, before it could be. */
static int keep(const struct gm_newfile *file)
{
	struct stat mine;
	struct stat there;
	int rc = gm_sys_lock(file->fd);

	if (!rc)
		rc = gm_sys_fstat(file->fd, &mine);
	if (!rc)
		rc = gm_sys_stat_at(file->dir, file->temp, &there);
	if (rc == -EWOULDBLOCK || rc == -ENOENT)
		return -EBUSY;
	return rc ? rc : mine.st_dev == there.st_dev && mine.st_ino == there.st_ino ? 0 : -EBUSY;
}

/* Removes what somebody who was killed has left: nobody locks it. */
static int clear(struct gm_newfile *file)
{
	int fd = gm_sys_openat(file->dir, file->temp, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	int rc;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	rc = gm_sys_lock(fd);
	if (!rc)
		rc = gm_sys_unlink_at(file->dir, file->temp);
	gm_sys_close(fd);
	if (rc == -EWOULDBLOCK)
		return -EBUSY;
	return rc == -ENOENT ? 0 : rc;
}

static int create(struct gm_newfile *file)
{
	int rc = -EBUSY;

	for (int i = 0; i < TRIES; i++) {
		file->fd = gm_sys_create_at(file->dir, file->temp, 0600);
		if (file->fd == -EINTR)
			continue;
		if (file->fd == -EEXIST) {
			rc = clear(file);
			if (rc)
				return rc;
			continue;
		}
		if (file->fd < 0)
			return file->fd;
		rc = keep(file);
		if (!rc)
			return 0;
		if (rc != -EBUSY)
			gm_sys_unlink_at(file->dir, file->temp);
		gm_sys_close(file->fd);
		file->fd = -1;
		if (rc != -EBUSY)
			return rc;
	}
	return rc;
}

/* Only a file or a link makes room: a device, pipe or socket would be gone for all who use it. */
static int check_target(const struct gm_newfile *file, struct gm_error *err)
{
	struct stat there;
	int rc = gm_sys_stat_at(file->dir, file->name, &there);

	if (rc)
		return rc == -ENOENT ? 0 : failed(file, err, rc, "it cannot be looked at");
	if (S_ISREG(there.st_mode) || S_ISLNK(there.st_mode))
		return 0;
	if (S_ISDIR(there.st_mode))
		return failed(file, err, -EISDIR, "it is no name of a file");
	return gm_error_set(err, -EEXIST, 0, 0, "%s: it is a %s, and would be replaced by a file",
		file->path,
		S_ISFIFO(there.st_mode)   ? "pipe"
		: S_ISSOCK(there.st_mode) ? "socket"
					  : "device");
}

int gm_newfile_begin(struct gm_newfile *file, const char *path, struct gm_error *err)
{
	struct rlimit limit;
	int rc;

	*file = (struct gm_newfile){.dir = -1, .fd = -1, .path = path, .limit = INT64_MAX};
	rc = open_dir(file, err);
	if (rc)
		return rc;
	rc = check_target(file, err);
	if (rc) {
		gm_sys_close(file->dir);
		return rc;
	}
	rc = create(file);
	if (rc == -EBUSY)
		failed(file, err, rc, "somebody else writes it");
	else if (rc)
		failed(file, err, rc, "it cannot be made");
	if (rc) {
		gm_sys_close(file->dir);
		return rc;
	}
	if (!gm_sys_getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur < file->limit)
		file->limit = limit.rlim_cur;
	return 0;
}

void gm_newfile_direct(struct gm_newfile *file)
{
	uint32_t mem;
	uint32_t off;

	file->direct = !gm_sys_direct_align(file->fd, &mem, &off) && mem && off && mem <= PAGE &&
		       off <= PAGE && !gm_sys_set_direct(file->fd, true);
}

/* If it cannot, the write that follows says so. */
static void end_direct(struct gm_newfile *file)
{
	file->direct = false;
	gm_sys_set_direct(file->fd, false);
}

int gm_newfile_write(
	struct gm_newfile *file, const void *bytes, size_t len, uint64_t at, struct gm_error *err)
{
	size_t done = 0;

	/* The kernel answers with a signal. */
	if (at > file->limit || len > file->limit - at)
		return gm_error_set(err, -EFBIG, 0, 0,
			"%s: 0x%zx bytes at 0x%" PRIx64 " are over the limit of a file, 0x%" PRIx64,
			file->path, len, at, file->limit);
	if (file->direct && !gm_is_aligned(at | len | (uintptr_t)bytes, PAGE))
		end_direct(file);
	while (done < len) {
		ssize_t nr = gm_sys_pwrite(
			file->fd, (const uint8_t *)bytes + done, len - done, at + done);

		if (nr == -EINTR)
			continue;
		/* It fell short, or the file system takes less than it said. */
		if (nr == -EINVAL && file->direct) {
			end_direct(file);
			continue;
		}
		if (nr <= 0)
			return gm_error_set(err, nr ? (int)nr : -EIO, 0, 0,
				"%s: 0x%zx bytes at 0x%" PRIx64 " cannot be written: %s",
				file->path, len - done, at + done,
				gm_error_word(nr ? (int)nr : -EIO));
		done += (size_t)nr;
	}
	return 0;
}

static int sync_fd(int fd)
{
	int rc;

	do {
		rc = gm_sys_sync(fd, false);
	} while (rc == -EINTR);
	return rc;
}

int gm_newfile_publish(struct gm_newfile *file, struct gm_error *err)
{
	int rc = sync_fd(file->fd);

	if (rc) {
		failed(file, err, rc, "it cannot be made durable");
		gm_newfile_drop(file);
		return rc;
	}
	rc = gm_sys_rename_at(file->dir, file->temp, file->name);
	if (rc) {
		failed(file, err, rc, "it cannot get its name");
		gm_newfile_drop(file);
		return rc;
	}
	rc = sync_fd(file->dir);
	if (rc)
		failed(file, err, rc, "it is there, but its name may not outlive a loss of power");
	gm_sys_close(file->fd);
	gm_sys_close(file->dir);
	return rc;
}

bool gm_newfile_is(const char *path, int fd)
{
	struct stat mine;
	struct stat there;

	return !gm_sys_stat(path, &there) && !gm_sys_fstat(fd, &mine) &&
	       mine.st_dev == there.st_dev && mine.st_ino == there.st_ino;
}

void gm_newfile_drop(struct gm_newfile *file)
{
	gm_sys_unlink_at(file->dir, file->temp);
	gm_sys_close(file->fd);
	gm_sys_close(file->dir);
}
