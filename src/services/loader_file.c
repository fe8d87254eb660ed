/* SPDX-License-Identifier: BSD-3-Clause */
/* loader_file.c - files as they are, initial RAM disks, command lines. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <guestmem/access.h>

#include "core/error.h"
#include "services/loader.h"

#define PAGE UINT64_C(4096)
#define MEGABYTE UINT64_C(0x100000)
#define X86 (GM_MACHINE_I386 | GM_MACHINE_X86_64)

static int check_place(
	struct gm_load_place *ret, const struct gm_load_place *place, struct gm_error *err)
{
	int rc = gm_opts_copy(ret, sizeof(*ret), place, sizeof(*ret));

	if (rc)
		return gm_opts_error(err, rc, "place of a file");
	if ((ret->flags & ~GM_LOAD_AT) || ret->reserved)
		return gm_error_set(err, -EINVAL, 0, 0,
			"place of a file: flags 0x%" PRIx32 " or reserved are not known",
			ret->flags);
	if (ret->last == 0)
		ret->last = UINT64_MAX;
	if (ret->align == 0)
		ret->align = ret->flags & GM_LOAD_AT ? 1 : PAGE;
	if (!gm_is_pow2(ret->align))
		return gm_error_set(err, -EINVAL, 0, 0,
			"place of a file: align 0x%" PRIx64 " is no power of two", ret->align);
	if (ret->first > ret->last)
		return gm_error_set(err, -EINVAL, ret->first, 0,
			"place of a file: first 0x%" PRIx64 " is above last 0x%" PRIx64, ret->first,
			ret->last);
	if ((ret->flags & GM_LOAD_AT) && !gm_is_aligned(ret->first, ret->align))
		return gm_error_set(err, -EINVAL, ret->first, 0,
			"place of a file: first 0x%" PRIx64 " is no multiple of align 0x%" PRIx64,
			ret->first, ret->align);
	return 0;
}

/* How many bytes are to be loaded. */
static int count_bytes(
	const struct gm_load *load, const struct gm_load_place *place, uint64_t *ret_len)
{
	if (place->off >= load->file_len)
		return gm_error_set(load->err, -ENODATA, 0, 0,
			"%s: nothing to load from byte 0x%" PRIx64 " of 0x%" PRIx64, load->what,
			place->off, load->file_len);
	*ret_len = load->file_len - place->off;
	if (place->max_len && *ret_len > place->max_len)
		return gm_error_set(load->err, -EFBIG, 0, *ret_len,
			"%s: 0x%" PRIx64 " bytes are more than 0x%" PRIx64, load->what, *ret_len,
			place->max_len);
	return 0;
}

static int choose(const struct gm_load *load, const struct gm_load_place *place,
	const struct gm_load_want *want, uint64_t *ret_gpa)
{
	struct gm_range range;

	if (!(place->flags & GM_LOAD_AT))
		return gm_load_find(load, want, ret_gpa);
	if (!gm_range_make(place->first, want->len, &range) || range.last > place->last)
		return gm_error_set(load->err, -ERANGE, place->first, want->len,
			"%s: 0x%" PRIx64 " bytes at 0x%" PRIx64 " do not end below 0x%" PRIx64,
			load->what, want->len, place->first, place->last);
	*ret_gpa = place->first;
	return gm_load_check(load, &range);
}

static int load_file(
	struct gm_load *load, const struct gm_load_place *place, struct gm_loaded *ret_loaded)
{
	struct gm_load_want want = {
		.within = {place->first, place->last},
		.align = place->align,
	};
	uint64_t gpa;
	int rc = gm_load_open(load);

	if (!rc)
		rc = count_bytes(load, place, &want.len);
	if (!rc)
		rc = choose(load, place, &want, &gpa);
	if (!rc)
		rc = gm_load_move(load, place->off, gpa, want.len);
	if (!rc)
		*ret_loaded = (struct gm_loaded){gpa, want.len};
	return rc;
}

int gm_load_file(struct gm_reader *reader, int fd, const struct gm_load_place *place,
	struct gm_loaded *ret_loaded, struct gm_error *err)
{
	struct gm_load load = {.reader = reader, .fd = fd, .what = "file", .err = err};
	struct gm_load_place copy;
	int rc = check_place(&copy, place, err);

	return rc ? rc : load_file(&load, &copy, ret_loaded);
}

/* ---- initial RAM disk ---- */

static int check_kernel(const struct gm_kernel *kernel, struct gm_error *err)
{
	if (kernel->size < sizeof(*kernel) || kernel->first > kernel->last)
		return gm_error_set(
			err, -EINVAL, 0, 0, "no struct gm_kernel of a kernel that was loaded");
	return 0;
}

int gm_load_initrd(struct gm_reader *reader, int fd, const struct gm_kernel *kernel, uint64_t last,
	struct gm_loaded *ret_loaded, struct gm_error *err)
{
	struct gm_load load = {.reader = reader, .fd = fd, .what = "RAM disk", .err = err};
	struct gm_load_place place = {.align = PAGE};
	int rc = check_kernel(kernel, err);

	if (rc)
		return rc;
	if (last == 0 || last > kernel->initrd_last)
		last = kernel->initrd_last;
	rc = -ENOSPC;
	if (kernel->last < last) {
		place.first = kernel->last + 1;
		place.last = last;
		rc = load_file(&load, &place, ret_loaded);
	}
	place.first = kernel->machine & X86 ? MEGABYTE : 0;
	if (rc != -ENOSPC || kernel->first <= place.first || last <= place.first)
		return rc == -ENOSPC
			       ? gm_error_set(err, rc, 0, 0,
					 "RAM disk: no memory for it up to 0x%" PRIx64
					 " beside the kernel from 0x%" PRIx64 " to 0x%" PRIx64,
					 last, kernel->first, kernel->last)
			       : rc;
	place.last = kernel->first - 1 < last ? kernel->first - 1 : last;
	return load_file(&load, &place, ret_loaded);
}

/* ---- command line ---- */

int gm_load_cmdline(struct gm_reader *reader, const struct gm_kernel *kernel, uint64_t gpa,
	const char *text, struct gm_loaded *ret_loaded, struct gm_error *err)
{
	const struct gm_load load = {.reader = reader, .what = "command line", .err = err};
	size_t len = strlen(text);
	struct gm_range range;
	size_t done;
	int rc;

	if (kernel->size < sizeof(*kernel))
		return gm_error_set(err, -EINVAL, 0, 0, "command line: no kernel is given");
	if (len > kernel->cmdline_max)
		return gm_error_set(err, -E2BIG, gpa, len,
			"command line: %zu bytes, the kernel takes %" PRIu64, len,
			kernel->cmdline_max);
	if (!gm_range_make(gpa, len + 1, &range))
		return gm_error_set(err, -ERANGE, gpa, len + 1,
			"command line: at 0x%" PRIx64 " it wraps past the last address", gpa);
	rc = gm_load_check(&load, &range);
	if (rc)
		return rc;
	rc = gm_write(gm_reader_enter(reader), gpa, text, len + 1, &done);
	gm_reader_leave(reader);
	if (rc)
		return gm_error_set(err, rc, gpa + done, len + 1 - done,
			"command line: cannot be written at 0x%" PRIx64 ": %s", gpa + done,
			gm_error_word(rc));
	*ret_loaded = (struct gm_loaded){gpa, len + 1};
	return 0;
}
