/* SPDX-License-Identifier: BSD-3-Clause */
/* uffd.c - filling memory through a userfaultfd. */
#include "sys/uffd.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "sys/raw.h"
#include "sys/sys.h"
#include "sys/uapi.h"

static int copy(int fd, uint64_t at, uint64_t from, uint64_t len, uint64_t mode, int64_t *ret_done)
{
	struct uffdio_copy arg = {.dst = at, .src = from, .len = len, .mode = mode};
	int rc = (int)GM_RAW(ioctl(fd, UFFDIO_COPY, &arg), SYS_ioctl, fd, UFFDIO_COPY, &arg);

	*ret_done = arg.copy;
	return rc;
}

static int zero(int fd, uint64_t at, uint64_t len, int64_t *ret_done)
{
	struct uffdio_zeropage arg = {.range = {at, len}};
	int rc =
		(int)GM_RAW(ioctl(fd, UFFDIO_ZEROPAGE, &arg), SYS_ioctl, fd, UFFDIO_ZEROPAGE, &arg);

	*ret_done = arg.zeropage;
	return rc;
}

static int go_on(int fd, uint64_t at, uint64_t len, uint64_t mode, int64_t *ret_done)
{
	struct uffdio_continue arg = {.range = {at, len}, .mode = mode};
	int rc =
		(int)GM_RAW(ioctl(fd, UFFDIO_CONTINUE, &arg), SYS_ioctl, fd, UFFDIO_CONTINUE, &arg);

	*ret_done = arg.mapped;
	return rc;
}

static int poison(int fd, uint64_t at, uint64_t len, int64_t *ret_done)
{
	struct uffdio_poison arg = {.range = {at, len}};
	int rc = (int)GM_RAW(ioctl(fd, UFFDIO_POISON, &arg), SYS_ioctl, fd, UFFDIO_POISON, &arg);

	*ret_done = arg.updated;
	return rc;
}

static int move(int fd, uint64_t at, uint64_t from, uint64_t len, int64_t *ret_done)
{
	struct uffdio_move arg = {.dst = at, .src = from, .len = len};
	int rc = (int)GM_RAW(ioctl(fd, UFFDIO_MOVE, &arg), SYS_ioctl, fd, UFFDIO_MOVE, &arg);

	*ret_done = arg.move;
	return rc;
}

int gm_sys_uffd_fill(
	int fd, enum gm_uffd_fill how, uint64_t at, uint64_t from, uint64_t len, int64_t *ret_done)
{
	switch (how) {
	case GM_UFFD_COPY:
		return copy(fd, at, from, len, 0, ret_done);
	case GM_UFFD_ZERO:
		return zero(fd, at, len, ret_done);
	case GM_UFFD_CONTINUE:
		return go_on(fd, at, len, 0, ret_done);
	case GM_UFFD_COPY_WP:
		return copy(fd, at, from, len, UFFDIO_COPY_MODE_WP, ret_done);
	case GM_UFFD_CONTINUE_WP:
		return go_on(fd, at, len, UFFDIO_CONTINUE_MODE_WP, ret_done);
	case GM_UFFD_MOVE:
		return move(fd, at, from, len, ret_done);
	case GM_UFFD_POISON:
		return poison(fd, at, len, ret_done);
	}
	return -EINVAL;
}
