/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loader_move.c - bytes of a file into guest memory.
 *
 * Slices are pinned in a section and filled outside of it by pread(), so that a slow file holds up no
 * change of the map. Memory that has no slices gets its bytes by way of a small buffer. Devices are
 * refused: a loader does not talk to them.
 */
#include <errno.h>
#include <inttypes.h>

#include <guestmem/access.h>
#include <guestmem/slice.h>

#include "core/error.h"
#include "memory/access.h"
#include "services/loader.h"
#include "sys/sys.h"

#define READ_MAX UINT64_C(0x40000000)
#define FILL_MAX UINT64_C(0x200000) /* in one section */
#define BUFFER 4096u

int gm_load_open(struct gm_load *load)
{
	struct stat st;
	int rc = gm_sys_fstat(load->fd, &st);

	if (rc)
		return gm_error_set(load->err, rc, 0, 0, "%s: cannot look at the file: %s",
			load->what, gm_error_word(rc));
	if (!S_ISREG(st.st_mode))
		return gm_error_set(load->err, -EINVAL, 0, 0, "%s: not a regular file", load->what);
	load->file_len = (uint64_t)st.st_size;
	return 0;
}

/* What reading at @off has said: bytes, or an error that is not -EINTR. */
static int read_failed(const struct gm_load *load, ssize_t rc, uint64_t off, uint64_t gpa)
{
	if (rc == 0)
		return gm_error_set(load->err, -EIO, gpa, 0,
			"%s: the file ends at byte 0x%" PRIx64 ", it had 0x%" PRIx64, load->what,
			off, load->file_len);
	return gm_error_set(load->err, (int)rc, gpa, 0,
		"%s: cannot read the file at byte 0x%" PRIx64 ": %s", load->what, off,
		gm_error_word((int)rc));
}

int gm_load_read(const struct gm_load *load, uint64_t off, void *buf, size_t len)
{
	uint8_t *to = buf;

	while (len) {
		ssize_t nr = gm_sys_pread(load->fd, to, len, off);

		if (nr == -EINTR)
			continue;
		if (nr <= 0)
			return read_failed(load, nr, off, 0);
		to += nr;
		off += (uint64_t)nr;
		len -= (size_t)nr;
	}
	return 0;
}

/* ---- guest memory ---- */

static int no_memory(const struct gm_load *load, int rc, uint64_t gpa, uint64_t len)
{
	const char *why;

	switch (rc) {
	case -EFAULT:
		why = "nothing is mapped";
		break;
	case -EACCES:
		why = "memory may not be written";
		break;
	case -ENOTSUP:
		why = "a device, not memory, is";
		break;
	default:
		why = gm_error_word(rc);
	}
	return gm_error_set(load->err, rc, gpa, len, "%s: %s at 0x%" PRIx64, load->what, why, gpa);
}

/* How far memory goes on from there, less one. */
static int find_memory(
	const struct gm_view *view, uint64_t gpa, uint64_t extent, uint64_t *ret_extent)
{
	struct gm_spot spot;
	int rc = gm_access_spot(view, gpa, extent, GM_PERM_W, &spot);

	if (rc)
		return rc;
	*ret_extent = spot.extent;
	return spot.span->perms & (GM_SPAN_DEVICE | GM_SPAN_ROMD | GM_SPAN_DEVMEM) ? -ENOTSUP : 0;
}

int gm_load_check(const struct gm_load *load, const struct gm_range *range)
{
	const struct gm_view *view = gm_reader_enter(load->reader);
	struct gm_range left = *range;
	uint64_t extent;
	int rc;

	for (;;) {
		rc = find_memory(view, left.first, gm_range_extent(&left), &extent);
		if (rc || extent >= gm_range_extent(&left))
			break;
		left.first += extent + 1;
	}
	gm_reader_leave(load->reader);
	return rc ? no_memory(load, rc, left.first, gm_range_len(&left)) : 0;
}

/* A piece of memory without slices: at most @len bytes. Returns their number or an error. */
static int64_t move_by_buffer(const struct gm_load *load, uint64_t off, uint64_t gpa, uint64_t len)
{
	uint8_t buf[BUFFER];
	const struct gm_view *view;
	uint64_t extent;
	int rc;

	if (len > BUFFER)
		len = BUFFER;
	rc = gm_load_read(load, off, buf, (size_t)len);
	if (rc)
		return rc;
	view = gm_reader_enter(load->reader);
	rc = find_memory(view, gpa, len - 1, &extent);
	if (!rc) {
		len = extent + 1;
		rc = gm_write(view, gpa, buf, (size_t)len, NULL);
	}
	gm_reader_leave(load->reader);
	return rc ? no_memory(load, rc, gpa, len) : (int64_t)len;
}

/* The same by a slice that is pinned. */
static int64_t move_to_slice(const struct gm_load *load, uint64_t off, uint64_t gpa,
	const struct iovec *slice, struct gm_pin *pin)
{
	size_t len = slice->iov_len < READ_MAX ? slice->iov_len : READ_MAX;
	ssize_t nr = gm_sys_pread(load->fd, slice->iov_base, len, off);

	gm_pin_put_written(pin, nr > 0 ? (uint64_t)nr : 0);
	if (nr > 0)
		return nr;
	/* The file's bytes are in the kernel: what cannot be reached is the guest's page. */
	if (nr == -EFAULT)
		return no_memory(load, -EIO, gpa, slice->iov_len);
	return nr == -EINTR ? 0 : read_failed(load, nr, off, gpa);
}

int gm_load_move(const struct gm_load *load, uint64_t off, uint64_t gpa, uint64_t len)
{
	while (len) {
		const struct gm_view *view = gm_reader_enter(load->reader);
		struct iovec slice;
		struct gm_pin pin;
		int64_t nr = gm_pin_slice(view, gpa, len, GM_PERM_W, &slice, &pin);

		gm_reader_leave(load->reader);
		if (nr == 0)
			nr = move_to_slice(load, off, gpa, &slice, &pin);
		else if (nr == -ENOTSUP)
			nr = move_by_buffer(load, off, gpa, len);
		else
			nr = no_memory(load, (int)nr, gpa, len);
		if (nr < 0)
			return (int)nr;
		off += (uint64_t)nr;
		gpa += (uint64_t)nr;
		len -= (uint64_t)nr;
	}
	return 0;
}

int gm_load_zero(const struct gm_load *load, uint64_t gpa, uint64_t len)
{
	while (len) {
		const struct gm_view *view = gm_reader_enter(load->reader);
		size_t done = 0;
		uint64_t extent;
		int rc = find_memory(view, gpa, (len < FILL_MAX ? len : FILL_MAX) - 1, &extent);

		if (!rc)
			rc = gm_fill(view, gpa, 0, (size_t)extent + 1, &done);
		gm_reader_leave(load->reader);
		gpa += done;
		len -= done;
		if (rc)
			return no_memory(load, rc, gpa, len);
	}
	return 0;
}
