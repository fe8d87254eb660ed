/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_file.c - files of a peer: what they must be, and mapping a part of one. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>

#include <guestmem/guard.h>

#include "adapters/vhost_memory.h"
#include "core/error.h"
#include "sys/sys.h"

/* Without the seal a peer can make every access to the memory a SIGBUS; only the guard survives that. */
static bool can_shrink(int fd)
{
	int seals = gm_sys_get_seals(fd);

	return seals < 0 || !(seals & F_SEAL_SHRINK);
}

static int check_size(
	const struct stat *st, uint64_t off, uint64_t len, const char *what, struct gm_error *err)
{
	const uint64_t size = st->st_size > 0 ? (uint64_t)st->st_size : 0;

	if (off > size || len > size - off)
		return gm_error_set(err, -EINVAL, off, len,
			"vhost-user: %s is said to be %" PRIu64 " bytes at %" PRIu64
			" of a file that has %" PRIu64,
			what, len, off, size);
	return 0;
}

int gm_vhost_file_check(int fd, uint64_t off, uint64_t len, const char *what, struct stat *ret_stat,
	struct gm_error *err)
{
	struct stat st;
	struct gm_range range;
	int flags;
	int rc = gm_sys_fstat(fd, &st);

	if (rc)
		return gm_error_set(
			err, rc, 0, 0, "vhost-user: fstat of %s: %s", what, gm_error_word(rc));
	if (!S_ISREG(st.st_mode))
		return gm_error_set(err, -EINVAL, 0, 0,
			"vhost-user: %s is no regular file or memfd (mode 0%o)", what,
			(unsigned int)st.st_mode);
	if (!gm_range_make(off, len, &range))
		return gm_error_set(err, -EINVAL, off, len,
			"vhost-user: %s has no bytes, or wraps past 2^64", what);
	rc = check_size(&st, off, len, what, err);
	if (rc)
		return rc;
	flags = gm_sys_open_flags(fd);
	if (flags < 0 || (flags & O_PATH) || (flags & O_ACCMODE) != O_RDWR)
		return gm_error_set(err, flags < 0 ? flags : -EINVAL, 0, 0,
			"vhost-user: %s is not open for reading and writing", what);
	if (can_shrink(fd) && gm_guard_check())
		return gm_error_set(err, -EPERM, 0, 0,
			"vhost-user: the front-end can shrink the file of %s under us: have it "
			"sealed "
			"with F_SEAL_SHRINK, or install the fault guard",
			what);
	if (ret_stat)
		*ret_stat = st;
	return 0;
}

int gm_vhost_file_map(int fd, uint64_t off, uint64_t len, const char *what,
	struct gm_vhost_mapping *ret, struct gm_error *err)
{
	const uint64_t page = gm_sys_page_size();
	const uint64_t from = gm_align_down(off, page);
	struct stat st;
	uint64_t all;
	void *base;
	int rc = gm_vhost_file_check(fd, off, len, what, NULL, err);

	if (rc)
		return rc;
	/* The file is that long, so nothing here passes 2^63. */
	if (!gm_align_up(len, page, &all) || !gm_align_up(off - from + len, page, &all))
		return gm_error_set(err, -EINVAL, off, len, "vhost-user: %s is too long", what);
	rc = gm_sys_mmap(NULL, (size_t)all, PROT_READ | PROT_WRITE, MAP_SHARED, fd, from, &base);
	if (rc)
		return gm_error_set(err, rc, off, len,
			"vhost-user: cannot map %s (%" PRIu64 " bytes): %s", what, len,
			gm_error_word(rc));
	rc = gm_sys_fstat(fd, &st);
	if (rc)
		rc = gm_error_set(
			err, rc, 0, 0, "vhost-user: fstat of %s: %s", what, gm_error_word(rc));
	else
		rc = check_size(&st, off, len, what, err);
	if (rc) {
		gm_sys_munmap(base, (size_t)all);
		return rc;
	}
	gm_sys_madvise(base, (size_t)all, MADV_DONTDUMP);
	gm_sys_madvise(base, (size_t)all, MADV_DONTFORK);
	*ret = (struct gm_vhost_mapping){.base = base,
		.base_len = (size_t)all,
		.at = (uint8_t *)base + (off - from),
		.len = len};
	return 0;
}

void gm_vhost_file_unmap(struct gm_vhost_mapping *mapping)
{
	if (mapping->base)
		gm_sys_munmap(mapping->base, mapping->base_len);
	*mapping = (struct gm_vhost_mapping){0};
}
