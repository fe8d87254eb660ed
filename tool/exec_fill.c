/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exec_fill.c - what lent memory begins with. All of it is there before the command starts: the memory is mapped in the
 * command's address space, and only who has that could wait for its faults.
 */
#include <errno.h>
#include <string.h>

#include "exec.h"
#include "snapshot.h"

#define STEP (UINT64_C(1) << 20)

static bool read_all(struct gm_source *source, const char *names, uint8_t *to, bool quiet)
{
	uint64_t len = gm_source_len(source);
	struct gm_source_extent extent;
	struct gm_error err;

	for (uint64_t at = 0, nr; at < len; at += nr) {
		int rc = gm_source_extent(source, at, &extent);

		nr = extent.len;
		if (rc) {
			tool_error("--from %s: offset 0x%llx: %s", names, (unsigned long long)at,
				strerror(-rc));
			return false;
		}
		if (extent.kind != GM_SOURCE_ZERO) {
			nr = nr < STEP ? nr : STEP;
			if (gm_source_read(source, at, to + at, nr, &err)) {
				tool_error("--from %s: %s", names, err.text);
				return false;
			}
		}
		if (!quiet)
			saved_progress("guestmem: restoring", at + nr, len);
	}
	return true;
}

bool exec_fill(const struct exec_opts *o, void *at)
{
	struct image image;
	char names[512];
	bool well;

	if (!image_open(&image, o->from, o->nr_from, GM_MEMFILE_ANY))
		return false;
	memory_names(o->from, o->nr_from, names, sizeof(names));
	well = gm_source_len(image.source) <= o->size;
	if (!well)
		tool_error("--from %s: %llu bytes are more than --size", names,
			(unsigned long long)gm_source_len(image.source));
	well = well && read_all(image.source, names, at, o->quiet);
	image_close(&image);
	return well;
}
