/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_snapshot.c - any bytes as a file of saved memory: opened, verified, read in all ways, as they are and once
 * more with the sums of header and tables made right, which would keep the fuzzer out.
 *
 * An input is shorter than its file: the first FRONT bytes are those of the header, whose rest is 0; then comes a
 * page that raw chunks may name, whose byte i is i % 251; then the rest of the input.
 */
#include <guestmem/snapshot.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/snapfile.h"
#include "services/checksum.h"

#define FRONT 128u
#define BODY (GM_SNAPFILE_HEAD + GM_SNAPFILE_PAGE)
#define READ_MAX (UINT64_C(1) << 20)

/* Makes the sums right, and a length that is wrong. */
static void mend(uint8_t *bytes, size_t size)
{
	uint64_t len = size;
	uint64_t tables;
	uint64_t sum;

	memcpy(bytes + 64, &len, 8);
	memcpy(&tables, bytes + 56, 8);
	if (tables <= size) {
		gm_checksum_bytes(bytes + tables, size - tables, &sum);
		memcpy(bytes + 72, &sum, 8);
	}
	gm_checksum_bytes(bytes, GM_SNAPFILE_HEAD_SUM, &sum);
	gm_snapfile_put_sum(bytes, sum);
}

/* All extents; they tell what reading does. */
static void read_all(struct gm_source *source, uint8_t *buf)
{
	uint64_t len = gm_source_len(source);
	struct gm_source_extent extent;
	int steps = 0;

	for (uint64_t at = 0; at < len && steps < 1000; at += extent.len, steps++) {
		uint64_t nr;
		int rc;

		if (gm_source_extent(source, at, &extent))
			abort();
		nr = extent.len < READ_MAX ? extent.len : READ_MAX;
		memset(buf, 1, nr);
		rc = gm_source_read(source, at, buf, nr, NULL);
		if (extent.kind == GM_SOURCE_ZERO && (rc || buf[0] || buf[nr - 1]))
			abort();
		if (extent.kind == GM_SOURCE_ABSENT && !rc)
			abort();
	}
}

static void look_at(int fd, uint8_t *buf)
{
	struct gm_snapshot_info info = {.size = sizeof(info)};
	struct gm_snapshot_label label;
	struct gm_snapshot *snapshot;
	struct gm_snapshot *twice[2];
	struct gm_source *source;
	struct gm_error err;

	if (gm_snapshot_open(fd, &snapshot, &err)) {
		if (!err.text[0])
			abort();
		return;
	}
	gm_snapshot_info(snapshot, &info);
	for (size_t i = 0; i < info.labels; i++) {
		if (gm_snapshot_label(snapshot, i, &label))
			abort();
	}
	gm_snapshot_verify(snapshot, NULL, NULL, NULL, &err);
	for (uint32_t flags = 0; flags < 2; flags++) {
		if (gm_snapshot_source(&snapshot, 1, flags, &source, &err))
			continue;
		read_all(source, buf);
		gm_source_destroy(source);
	}
	twice[0] = twice[1] = snapshot;
	if (!gm_snapshot_source(twice, 2, 0, &source, &err)) {
		read_all(source, buf);
		gm_source_destroy(source);
	}
	gm_snapshot_close(snapshot);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t front = size < FRONT ? size : FRONT;
	size_t len = BODY + (size - front);
	uint8_t *bytes = calloc(1, len);
	uint8_t *buf = malloc(READ_MAX);
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (!bytes || !buf || fd < 0)
		abort();
	memcpy(bytes, data, front);
	for (size_t i = 0; i < GM_SNAPFILE_PAGE; i++)
		bytes[GM_SNAPFILE_HEAD + i] = (uint8_t)(i % 251);
	memcpy(bytes + BODY, data + front, size - front);
	for (int mended = 0; mended < 2; mended++) {
		if (mended)
			mend(bytes, len);
		if (pwrite(fd, bytes, len, 0) != (ssize_t)len)
			abort();
		look_at(fd, buf);
	}
	close(fd);
	free(buf);
	free(bytes);
	return 0;
}
