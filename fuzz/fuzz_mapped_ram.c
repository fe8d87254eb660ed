/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_mapped_ram.c - any bytes as a file of QEMU's with mapped-ram: decoded alone, then opened, read by its
 * extents, and rewritten; what was written is read back.
 *
 * The first FRONT bytes of an input are those of the file, the others begin at byte REST, where the records of a second
 * block are if the first has one page; what lies between and behind them, up to LEN, is 0.
 */
#include <guestmem/mapped_ram.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/mapped_ram_wire.h"

#define FRONT 2048u
#define REST 8192u
#define LEN (256u << 10)

static uint8_t file[LEN];

/* What is accepted lies in the file. False if it is no such file. */
static bool decode(void)
{
	struct gm_mapram_front front;
	struct gm_mapram_spot spot = {.file_len = LEN};
	const char *why = NULL;

	if (gm_mapram_get_front(file, GM_MAPRAM_FRONT_MAX, &front, &why)) {
		if (!why)
			abort();
		return false;
	}
	if (front.end > GM_MAPRAM_FRONT_MAX || !front.total)
		abort();
	spot.at = front.end;
	spot.left = front.total;
	for (int i = 0; i < 64 && spot.left; i++) {
		struct gm_mapped_ram_block block;
		uint64_t room = LEN - spot.at;
		size_t len = room < GM_MAPRAM_BLOCK_MAX ? (size_t)room : GM_MAPRAM_BLOCK_MAX;
		uint64_t at = spot.at;

		if (gm_mapram_get_block(file + at, len, &front, &spot, &block, &spot.at, &why))
			return false;
		if (spot.at <= at || spot.at > LEN || !block.len || block.len > spot.left)
			abort();
		spot.left -= block.len;
	}
	return spot.left == 0;
}

static void read_all(struct gm_source *source, uint8_t value, bool known)
{
	static uint8_t buf[LEN];
	uint64_t len = gm_source_len(source);
	struct gm_source_extent extent;
	int steps = 0;

	for (uint64_t at = 0; at < len && steps < 1000; at += extent.len, steps++) {
		size_t nr;
		int rc;

		if (gm_source_extent(source, at, &extent))
			abort();
		if (extent.kind == GM_SOURCE_RAW &&
			(extent.fd_off > LEN || extent.len > LEN - extent.fd_off))
			abort();
		nr = extent.len < LEN ? (size_t)extent.len : LEN;
		memset(buf, 1, nr);
		rc = gm_source_read(source, at, buf, nr, NULL);
		if ((extent.kind == GM_SOURCE_ABSENT) != (rc != 0))
			abort();
		if (extent.kind == GM_SOURCE_ZERO && (buf[0] || buf[nr - 1]))
			abort();
		if (known && !rc && (buf[0] != value || buf[nr - 1] != value))
			abort();
	}
}

static void look(int fd, uint8_t value, bool known)
{
	struct gm_mapped_ram *ram;
	struct gm_source *source;
	struct gm_error err;

	if (gm_mapped_ram_open(fd, &ram, &err)) {
		if (!err.text[0] || known)
			abort();
		return;
	}
	if (!gm_mapped_ram_source(ram, NULL, &source, &err)) {
		read_all(source, value, known);
		gm_source_destroy(source);
	} else if (known) {
		abort();
	}
	gm_mapped_ram_close(ram);
}

/* All blocks that are here get one value. */
static void rewrite(int fd, uint8_t value)
{
	static uint8_t memory[LEN];
	struct gm_mapped_ram *ram;
	struct gm_source *source;
	struct gm_error err;
	const struct gm_mapped_ram_block *blocks;
	size_t nr;

	if (gm_mapped_ram_open(fd, &ram, &err))
		return;
	blocks = gm_mapped_ram_blocks(ram, &nr);
	/* What is in a file of its own may be of any length. */
	if (blocks[nr - 1].off > LEN || blocks[nr - 1].len > LEN - blocks[nr - 1].off) {
		gm_mapped_ram_close(ram);
		return;
	}
	memset(memory, value, sizeof(memory));
	if (gm_source_memory(memory, sizeof(memory), &source, &err))
		abort();
	if (gm_mapped_ram_rewrite(ram, source, NULL, &err))
		abort();
	gm_source_destroy(source);
	gm_mapped_ram_close(ram);
	look(fd, value, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t front = size < FRONT ? size : FRONT;
	int fd;

	memset(file, 0, sizeof(file));
	memcpy(file, data, front);
	memcpy(file + REST, data + front, size - front < LEN - REST ? size - front : LEN - REST);
	if (!decode())
		return 0;
	fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd < 0 || pwrite(fd, file, LEN, 0) != (ssize_t)LEN)
		abort();
	look(fd, 0, false);
	rewrite(fd, 7);
	rewrite(fd, 0);
	close(fd);
	return 0;
}
