/* SPDX-License-Identifier: BSD-3-Clause */
/* clone.c - images for clones: a memfd, filled by one mapping, then sealed. */
#include <guestmem/clone.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/range.h"
#include "sys/sys.h"
#include "sys/whole.h"

#define PIECE (UINT64_C(2) << 20) /* between two calls of progress */
#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

struct filling {
	struct gm_source *source;
	const struct gm_clone_opts *opts;
	uint64_t len; /* of the source */
	uint8_t *at;
};

static int populate(const struct filling *f, uint64_t off, uint64_t len)
{
	uint64_t page = gm_sys_page_size();
	uint64_t first = off & ~(page - 1);
	uint64_t last = (off + (len - 1)) | (page - 1);
	int rc;

	/* So that there is an error where there is no memory, and no signal. */
	do {
		rc = gm_sys_madvise(f->at + first, last - first + 1, MADV_POPULATE_WRITE);
	} while (rc == -EINTR || rc == -EAGAIN);
	return rc == -EFAULT ? -ENOMEM : rc;
}

/* A piece of one kind; *ret_len: what there was of it. */
static int fill_piece(
	const struct filling *f, uint64_t off, uint64_t *ret_len, struct gm_error *err)
{
	struct gm_source_extent extent;
	uint64_t len;
	int rc = gm_source_extent(f->source, off, &extent);

	if (rc)
		return gm_error_set(err, rc, 0, 0,
			"image: what lies at byte 0x%" PRIx64 " of the source is not known: %s",
			off, gm_error_word(rc));
	len = extent.len < PIECE || extent.kind == GM_SOURCE_ZERO ? extent.len : PIECE;
	*ret_len = len;
	if (extent.kind == GM_SOURCE_ZERO)
		return 0;
	rc = populate(f, off, len);
	if (rc)
		return gm_error_set(err, rc, 0, 0,
			"image: no memory for byte 0x%" PRIx64 " and 0x%" PRIx64 " more: %s", off,
			len, gm_error_word(rc));
	return gm_source_read(f->source, off, f->at + off, len, err);
}

static int fill_all(const struct filling *f, struct gm_error *err)
{
	uint64_t len = 0;

	for (uint64_t off = 0; off < f->len; off += len) {
		int rc = fill_piece(f, off, &len, err);

		if (rc)
			return rc;
		if (f->opts->progress && f->opts->progress(f->opts->ctx, off + len, f->len))
			return gm_error_set(err, -ECANCELED, 0, 0, "image: it was cancelled");
	}
	return 0;
}

/* With no mapping that could be written to: that is what the seal wants. */
static int fill_fd(struct filling *f, int fd, uint64_t whole, struct gm_error *err)
{
	void *at;
	int rc = gm_set_length(fd, whole);

	if (rc)
		return gm_error_set(
			err, rc, 0, 0, "image: 0x%" PRIx64 " bytes: %s", whole, gm_error_word(rc));
	rc = gm_sys_mmap(
		NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0, &at);
	if (rc)
		return gm_error_set(
			err, rc, 0, 0, "image: it cannot be mapped: %s", gm_error_word(rc));
	f->at = at;
	rc = fill_all(f, err);
	gm_sys_munmap(at, whole);
	if (rc)
		return rc;
	rc = gm_sys_add_seals(fd, SEALS);
	return rc ? gm_error_set(err, rc, 0, 0, "image: it cannot be sealed: %s", gm_error_word(rc))
		  : 0;
}

int gm_clone_image(struct gm_source *source, const struct gm_clone_opts *opts, int *ret_fd,
	struct gm_error *err)
{
	struct gm_clone_opts copy = {.size = sizeof(copy)};
	struct filling f = {.source = source, .opts = &copy, .len = gm_source_len(source)};
	uint64_t mask = gm_sys_page_size() - 1;
	int rc = opts ? gm_opts_copy(&copy, sizeof(copy), opts, sizeof(copy)) : 0;
	int fd;

	if (rc)
		return gm_opts_error(err, rc, "an image");
	if (copy.flags || copy.reserved || f.len == 0 || f.len > (uint64_t)INT64_MAX - mask)
		return gm_error_set(err, -EINVAL, 0, f.len,
			"image: a flag is unknown, or the source has no possible length");
	fd = gm_sys_memfd(copy.name ? copy.name : "guestmem-image", MFD_ALLOW_SEALING);
	if (fd < 0)
		return gm_error_set(err, fd, 0, 0, "image: no memfd: %s", gm_error_word(fd));
	rc = fill_fd(&f, fd, ((f.len - 1) | mask) + 1, err);
	if (rc) {
		gm_sys_close(fd);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

int gm_clone_check(int fd, uint64_t *ret_len, struct gm_error *err)
{
	int seals = gm_sys_get_seals(fd);
	struct stat st;
	int rc;

	if (seals < 0)
		return gm_error_set(
			err, seals, 0, 0, "image: fd %d is no memfd: %s", fd, gm_error_word(seals));
	if ((seals & (F_SEAL_WRITE | F_SEAL_SHRINK)) != (F_SEAL_WRITE | F_SEAL_SHRINK))
		return gm_error_set(err, -EPERM, 0, 0,
			"image: fd %d is not sealed: somebody may change or cut it", fd);
	rc = gm_sys_fstat(fd, &st);
	if (rc)
		return gm_error_set(err, rc, 0, 0, "image: fd %d: %s", fd, gm_error_word(rc));
	if (st.st_size <= 0)
		return gm_error_set(err, -EINVAL, 0, 0, "image: fd %d is empty", fd);
	if (ret_len)
		*ret_len = (uint64_t)st.st_size;
	return 0;
}
