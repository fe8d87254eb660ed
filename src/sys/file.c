/* SPDX-License-Identifier: BSD-3-Clause */
/* file.c - system calls on file descriptors. */
#include "sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "sys/raw.h"
#include "sys/uapi.h"

int gm_sys_memfd(const char *name, unsigned int flags)
{
	int fd = memfd_create(name, flags | MFD_CLOEXEC | MFD_NOEXEC_SEAL);

	/* MFD_NOEXEC_SEAL is from Linux 6.3; it is a bonus, not a promise. */
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, flags | MFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int gm_sys_open(const char *path, int flags, unsigned int mode)
{
	int fd = open(path, flags | O_CLOEXEC, mode);

	return fd < 0 ? -errno : fd;
}

int gm_sys_openat(int dir, const char *path, int flags)
{
	int fd = openat(dir, path, flags | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int gm_sys_close(int fd)
{
	return close(fd) ? -errno : 0;
}

int gm_sys_dup(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	return copy < 0 ? -errno : copy;
}

int gm_sys_fstat(int fd, struct stat *ret)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	*ret = st;
	return 0;
}

int gm_sys_fchmod(int fd, unsigned int mode)
{
	return fchmod(fd, mode) ? -errno : 0;
}

int gm_sys_open_flags(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 ? -errno : flags;
}

/* May a file end there? RLIMIT_FSIZE holds for what grows, and the kernel answers with a signal. */
static bool may_end_at(int fd, uint64_t end)
{
	struct rlimit limit;
	struct stat st;

	return getrlimit(RLIMIT_FSIZE, &limit) || end <= limit.rlim_cur ||
	       (fstat(fd, &st) == 0 && end <= (uint64_t)st.st_size);
}

int gm_sys_ftruncate(int fd, uint64_t len)
{
	if (len > (uint64_t)INT64_MAX || !may_end_at(fd, len))
		return -EFBIG;
	return ftruncate(fd, (off_t)len) ? -errno : 0;
}

int gm_sys_fallocate(int fd, int mode, uint64_t off, uint64_t len)
{
	uint64_t end;

	if (__builtin_add_overflow(off, len, &end) || end > (uint64_t)INT64_MAX ||
		(!(mode & FALLOC_FL_KEEP_SIZE) && !may_end_at(fd, end)))
		return -EFBIG;
	return fallocate(fd, mode, (off_t)off, (off_t)len) ? -errno : 0;
}

int gm_sys_add_seals(int fd, int seals)
{
	return fcntl(fd, F_ADD_SEALS, seals) ? -errno : 0;
}

int gm_sys_get_seals(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals < 0 ? -errno : seals;
}

bool gm_sys_direct = true;

ssize_t gm_sys_read(int fd, void *buf, size_t len)
{
	return GM_RAW(read(fd, buf, len), SYS_read, fd, buf, len);
}

ssize_t gm_sys_pread(int fd, void *buf, size_t len, uint64_t off)
{
	if (off > (uint64_t)INT64_MAX)
		return -EINVAL;
	return GM_RAW(pread(fd, buf, len, (off_t)off), SYS_pread64, fd, buf, len, off);
}

ssize_t gm_sys_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	if (off > (uint64_t)INT64_MAX)
		return -EINVAL;
	return GM_RAW(pwrite(fd, buf, len, (off_t)off), SYS_pwrite64, fd, buf, len, off);
}

ssize_t gm_sys_write(int fd, const void *buf, size_t len)
{
	return GM_RAW(write(fd, buf, len), SYS_write, fd, buf, len);
}

ssize_t gm_sys_readv(int fd, const struct iovec *iov, size_t nr)
{
	return GM_RAW(readv(fd, iov, (int)nr), SYS_readv, fd, iov, nr);
}

ssize_t gm_sys_writev(int fd, const struct iovec *iov, size_t nr)
{
	return GM_RAW(writev(fd, iov, (int)nr), SYS_writev, fd, iov, nr);
}

ssize_t gm_sys_preadv(int fd, const struct iovec *iov, size_t nr, uint64_t off)
{
	if (off > (uint64_t)INT64_MAX)
		return -EINVAL;
	return GM_RAW(preadv(fd, iov, (int)nr, (off_t)off), SYS_preadv, fd, iov, nr, off);
}

ssize_t gm_sys_pwritev(int fd, const struct iovec *iov, size_t nr, uint64_t off)
{
	if (off > (uint64_t)INT64_MAX)
		return -EINVAL;
	return GM_RAW(pwritev(fd, iov, (int)nr, (off_t)off), SYS_pwritev, fd, iov, nr, off);
}

int gm_sys_sync(int fd, bool data_only)
{
	return (data_only ? fdatasync(fd) : fsync(fd)) ? -errno : 0;
}

int gm_sys_write_behind(int fd, uint64_t off, uint64_t len)
{
	return sync_file_range(fd, (off_t)off, (off_t)len, SYNC_FILE_RANGE_WRITE) ? -errno : 0;
}

int gm_sys_will_need(int fd, uint64_t off, uint64_t len)
{
	return -posix_fadvise(fd, (off_t)off, (off_t)len, POSIX_FADV_WILLNEED);
}

int64_t gm_sys_seek(int fd, uint64_t off, int whence)
{
	off_t at;

	if (off > (uint64_t)INT64_MAX)
		return -EINVAL;
	at = lseek(fd, (off_t)off, whence);
	return at < 0 ? -errno : at;
}

static int poll_for(int fd, short events, int timeout_ms)
{
	struct pollfd wait = {.fd = fd, .events = events};
	int nr = poll(&wait, 1, timeout_ms);

	if (nr > 0 && (wait.revents & POLLNVAL))
		return -EBADF;
	return nr < 0 ? -errno : nr;
}

int gm_sys_poll_in(int fd, int timeout_ms)
{
	return poll_for(fd, POLLIN, timeout_ms);
}

int gm_sys_poll_out(int fd, int timeout_ms)
{
	return poll_for(fd, POLLOUT, timeout_ms);
}

/* What is asked for in any case are errors and a hang-up. */
int gm_sys_poll_gone(int fd)
{
	return poll_for(fd, 0, 0);
}

int gm_sys_direct_align(int fd, uint32_t *ret_mem, uint32_t *ret_off)
{
#ifdef STATX_DIOALIGN /* headers of Linux 6.1 */
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx))
		return -errno;
	if (stx.stx_mask & STATX_DIOALIGN) {
		*ret_mem = stx.stx_dio_mem_align;
		*ret_off = stx.stx_dio_offset_align;
		return 0;
	}
#else
	(void)fd;
	(void)ret_mem;
	(void)ret_off;
#endif
	return -ENOTSUP;
}

int gm_sys_set_direct(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) < 0)
		return -errno;
	return 0;
}

int gm_sys_unlink(const char *path)
{
	return unlink(path) ? -errno : 0;
}

int gm_sys_create_at(int dir, const char *name, unsigned int mode)
{
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);

	return fd < 0 ? -errno : fd;
}

int gm_sys_stat_at(int dir, const char *name, struct stat *ret)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	*ret = st;
	return 0;
}

int gm_sys_rename_at(int dir, const char *from, const char *to)
{
	return renameat(dir, from, dir, to) ? -errno : 0;
}

int gm_sys_unlink_at(int dir, const char *name)
{
	return unlinkat(dir, name, 0) ? -errno : 0;
}

int gm_sys_stat(const char *path, struct stat *ret)
{
	struct stat st;

	if (stat(path, &st))
		return -errno;
	*ret = st;
	return 0;
}

int gm_sys_lock(int fd)
{
	return flock(fd, LOCK_EX | LOCK_NB) ? -errno : 0;
}

int64_t gm_sys_huge_page_size(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return -errno;
	return fs.f_type == HUGETLBFS_MAGIC ? (int64_t)fs.f_bsize : 0;
}

ssize_t gm_sys_read_text(const char *path, char *buf, size_t cap)
{
	size_t len = 0;
	ssize_t nr;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	do {
		nr = read(fd, buf + len, cap - 1 - len);
		if (nr > 0)
			len += (size_t)nr;
	} while (nr > 0 || (nr < 0 && errno == EINTR));
	if (nr < 0)
		nr = -errno;
	close(fd);
	buf[len] = '\0';
	return nr < 0 ? nr : (ssize_t)len;
}

ssize_t gm_sys_readlink(const char *path, char *buf, size_t cap)
{
	ssize_t nr = readlink(path, buf, cap - 1);

	if (nr < 0)
		return -errno;
	buf[nr] = '\0';
	return nr;
}

int gm_sys_ioctl(int fd, unsigned long request, void *arg)
{
	int rc = ioctl(fd, request, arg);

	return rc < 0 ? -errno : rc;
}

int gm_sys_uring_register(int ring_fd, unsigned int op, const void *arg, unsigned int nr)
{
	long rc = syscall(SYS_io_uring_register, ring_fd, op, arg, nr);

	return rc < 0 ? -errno : (int)rc;
}
