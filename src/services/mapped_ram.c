/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mapped_ram.c - files of QEMU with mapped-ram: blocks and bitmaps are read and checked whole before anything is used,
 * pages lie where they lie.
 */
#include "services/mapped_ram.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "core/mapped_ram_wire.h"
#include "core/range.h"
#include "sys/sys.h"
#include "sys/whole.h"

/* An extent ends after so many words of a bitmap: whoever asks for a page is not told about a terabyte. */
#define LOOK_WORDS 4096u

static int refuse(struct gm_error *err, int rc, const char *why)
{
	return gm_error_set(err, rc, 0, 0, "mapped-ram: %s", why);
}

/* Up to @len bytes, less where the file ends. */
static int read_some(
	int fd, uint64_t file_len, uint64_t at, uint8_t *bytes, size_t len, size_t *ret_len)
{
	uint64_t left = at < file_len ? file_len - at : 0;
	size_t done;

	*ret_len = len < left ? len : (size_t)left;
	return gm_pread_whole(fd, bytes, *ret_len, at, &done);
}

/* ---- bitmaps ---- */

uint64_t gm_mapped_ram_present(const struct gm_mapped_ram_block *block, const uint64_t *bits)
{
	uint64_t pages = 0;

	for (uint64_t i = 0; i < gm_mapram_bitmap_len(block) / 8; i++)
		pages += (uint64_t)__builtin_popcountll(bits[i]);
	return pages * block->page_size;
}

static int read_bitmap(struct gm_mapped_ram *ram, size_t index, struct gm_error *err)
{
	struct gm_mapped_ram_block *block = &ram->blocks[index];
	uint64_t len = gm_mapram_bitmap_len(block);
	uint64_t pages = block->len / block->page_size;
	uint64_t *bits = gm_sys_alloc(len);
	size_t done;
	int rc;

	if (!bits)
		return refuse(err, -ENOMEM, "no memory for its bitmaps");
	ram->bits[index] = bits;
	rc = gm_pread_whole(ram->fd, bits, len, block->bitmap_off, &done);
	if (rc)
		return gm_error_set(err, rc, 0, 0, "mapped-ram: the bitmap of block %s: %s",
			block->name, gm_error_word(rc));
	for (uint64_t i = 0; i < len / 8; i++)
		bits[i] = le64toh(bits[i]);
	if (pages % 64 && bits[pages / 64] >> pages % 64)
		return gm_error_set(err, -EPROTO, 0, 0,
			"mapped-ram: the bitmap of block %s has pages behind its end", block->name);
	block->present = gm_mapped_ram_present(block, bits);
	return 0;
}

/* ---- blocks ---- */

size_t gm_mapped_ram_find(const struct gm_mapped_ram *ram, const char *name)
{
	size_t i = 0;

	while (i < ram->nr && strcmp(ram->blocks[i].name, name) != 0)
		i++;
	return i;
}

static int add_block(
	struct gm_mapped_ram *ram, const struct gm_mapped_ram_block *block, struct gm_error *err)
{
	struct gm_mapped_ram_block *blocks;

	if (ram->nr == GM_MAPRAM_BLOCKS_MAX)
		return refuse(err, -EPROTO, "it has too many blocks");
	if (gm_mapped_ram_find(ram, block->name) < ram->nr)
		return gm_error_set(
			err, -EPROTO, 0, 0, "mapped-ram: two blocks are named %s", block->name);
	blocks = gm_sys_realloc(ram->blocks, ram->nr + 1, sizeof(*blocks));
	if (!blocks)
		return refuse(err, -ENOMEM, "no memory for its blocks");
	ram->blocks = blocks;
	blocks[ram->nr] = *block;
	blocks[ram->nr].off = ram->len;
	ram->nr++;
	ram->len += block->len;
	return 0;
}

static int read_blocks(struct gm_mapped_ram *ram, uint64_t file_len, struct gm_error *err)
{
	uint8_t bytes[GM_MAPRAM_FRONT_MAX];
	struct gm_mapram_front front;
	struct gm_mapram_spot spot;
	uint64_t bitmaps = 0;
	const char *why;
	size_t len;
	int rc = read_some(ram->fd, file_len, 0, bytes, sizeof(bytes), &len);

	if (rc)
		return refuse(err, rc, gm_error_word(rc));
	rc = gm_mapram_get_front(bytes, len, &front, &why);
	if (rc)
		return refuse(err, rc, why);
	spot = (struct gm_mapram_spot){front.end, front.total, file_len};
	while (spot.left) {
		struct gm_mapped_ram_block block;

		rc = read_some(ram->fd, file_len, spot.at, bytes, GM_MAPRAM_BLOCK_MAX, &len);
		if (rc)
			return refuse(err, rc, gm_error_word(rc));
		rc = gm_mapram_get_block(bytes, len, &front, &spot, &block, &spot.at, &why);
		if (rc)
			return gm_error_set(err, rc, 0, 0,
				"mapped-ram: block %zu, at byte 0x%" PRIx64 ": %s", ram->nr,
				spot.at, why);
		spot.left -= block.len;
		if (!(block.flags & GM_MAPPED_RAM_ELSEWHERE))
			bitmaps += gm_mapram_bitmap_len(&block);
		if (bitmaps > GM_MAPRAM_BITMAPS_MAX)
			return refuse(err, -ENOTSUP, "its bitmaps are too long");
		rc = add_block(ram, &block, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int read_all(struct gm_mapped_ram *ram, struct gm_error *err)
{
	struct stat st;
	int rc = gm_sys_fstat(ram->fd, &st);

	if (rc)
		return refuse(err, rc, gm_error_word(rc));
	if (!S_ISREG(st.st_mode))
		return refuse(err, -EPROTO, "it is no regular file");
	rc = read_blocks(ram, (uint64_t)st.st_size, err);
	if (rc)
		return rc;
	ram->bits = gm_sys_alloc_array(ram->nr, sizeof(*ram->bits));
	if (!ram->bits)
		return refuse(err, -ENOMEM, "no memory for its bitmaps");
	for (size_t i = 0; i < ram->nr && !rc; i++) {
		if (!(ram->blocks[i].flags & GM_MAPPED_RAM_ELSEWHERE))
			rc = read_bitmap(ram, i, err);
	}
	return rc;
}

int gm_mapped_ram_open(int fd, struct gm_mapped_ram **ret_ram, struct gm_error *err)
{
	struct gm_mapped_ram *ram = gm_sys_alloc(sizeof(*ram));
	int rc;

	if (!ram)
		return refuse(err, -ENOMEM, "no memory");
	ram->refs = 1;
	ram->fd = gm_sys_dup(fd);
	if (ram->fd < 0) {
		rc = refuse(err, ram->fd, gm_error_word(ram->fd));
		gm_sys_free(ram);
		return rc;
	}
	rc = read_all(ram, err);
	if (rc)
		gm_mapped_ram_close(ram);
	else
		*ret_ram = ram;
	return rc;
}

void gm_mapped_ram_close(struct gm_mapped_ram *ram)
{
	/* Pairs with those of others: what they did with it has been done. */
	if (!ram || __atomic_sub_fetch(&ram->refs, 1, __ATOMIC_ACQ_REL))
		return;
	gm_sys_close(ram->fd);
	for (size_t i = 0; ram->bits && i < ram->nr; i++)
		gm_sys_free(ram->bits[i]);
	gm_sys_free(ram->bits);
	gm_sys_free(ram->blocks);
	gm_sys_free(ram);
}

const struct gm_mapped_ram_block *gm_mapped_ram_blocks(
	const struct gm_mapped_ram *ram, size_t *ret_nr)
{
	*ret_nr = ram->nr;
	return ram->blocks;
}

/* ---- as a source ---- */

struct mapped {
	struct gm_mapped_ram *ram;
	uint64_t base; /* of its first byte among all blocks */
};

/* The block that has byte @at of all blocks. */
static size_t block_at(const struct gm_mapped_ram *ram, uint64_t at)
{
	size_t low = 0;
	size_t high = ram->nr - 1;

	while (low < high) {
		size_t mid = low + (high - low + 1) / 2;

		if (ram->blocks[mid].off > at)
			high = mid - 1;
		else
			low = mid;
	}
	return low;
}

static bool is_there(const uint64_t *bits, uint64_t page)
{
	return bits[page / 64] >> page % 64 & 1;
}

/* Pages from @page on, of @nr, that are as it is. */
static uint64_t run_of(const uint64_t *bits, uint64_t page, uint64_t nr)
{
	uint64_t turn = is_there(bits, page) ? ~UINT64_C(0) : 0;
	uint64_t first = page;
	uint64_t end = page / 64 + LOOK_WORDS;

	while (page < nr && page / 64 < end) {
		uint64_t other = (bits[page / 64] ^ turn) >> page % 64;

		if (other) {
			page += (uint64_t)__builtin_ctzll(other);
			break;
		}
		page += 64 - page % 64;
	}
	return (page < nr ? page : nr) - first;
}

static int mapped_extent(void *ctx, uint64_t offset, struct gm_source_extent *extent)
{
	const struct mapped *mapped = ctx;
	const struct gm_mapped_ram *ram = mapped->ram;
	size_t index = block_at(ram, mapped->base + offset);
	const struct gm_mapped_ram_block *block = &ram->blocks[index];
	uint64_t in = mapped->base + offset - block->off;
	uint64_t page = in / block->page_size;
	uint64_t run;

	if (block->flags & GM_MAPPED_RAM_ELSEWHERE) {
		extent->kind = GM_SOURCE_ABSENT;
		extent->len = block->len - in;
		return 0;
	}
	run = run_of(ram->bits[index], page, block->len / block->page_size);
	extent->len = run * block->page_size - in % block->page_size;
	extent->kind = GM_SOURCE_ZERO;
	if (is_there(ram->bits[index], page)) {
		extent->kind = GM_SOURCE_RAW;
		extent->fd = ram->fd;
		extent->fd_off = block->pages_off + in;
	}
	return 0;
}

static int mapped_read(void *ctx, uint64_t offset, void *buf, size_t len, struct gm_error *err)
{
	struct gm_source_extent extent = {.len = 0};
	size_t done = 0;
	int rc = 0;

	while (done < len && !rc) {
		uint8_t *to = (uint8_t *)buf + done;
		size_t got = 0;
		size_t nr;

		mapped_extent(ctx, offset + done, &extent);
		nr = extent.len < len - done ? (size_t)extent.len : len - done;
		if (extent.kind == GM_SOURCE_ABSENT)
			rc = gm_error_set(err, -ENODATA, 0, 0,
				"mapped-ram: 0x%" PRIx64 " is in a file of its own", offset + done);
		else if (extent.kind == GM_SOURCE_ZERO)
			memset(to, 0, nr);
		else
			rc = gm_pread_whole(extent.fd, to, nr, extent.fd_off, &got);
		if (rc && extent.kind == GM_SOURCE_RAW)
			gm_error_set(err, rc, 0, 0,
				"mapped-ram: byte 0x%" PRIx64 " of the file cannot be read: %s",
				extent.fd_off + got, gm_error_word(rc));
		done += nr;
	}
	return rc;
}

static void mapped_destroy(void *ctx)
{
	struct mapped *mapped = ctx;

	gm_mapped_ram_close(mapped->ram);
	gm_sys_free(mapped);
}

/* Blocks from @first up to and without @end. */
static int check_finished(
	const struct gm_mapped_ram *ram, size_t first, size_t end, struct gm_error *err)
{
	for (size_t i = first; i < end; i++) {
		if (ram->blocks[i].flags & GM_MAPPED_RAM_UNFINISHED)
			return gm_error_set(err, -EBADMSG, 0, 0,
				"mapped-ram: block %s: rewriting it did not end, it is neither old "
				"nor new",
				ram->blocks[i].name);
	}
	return 0;
}

int gm_mapped_ram_source(struct gm_mapped_ram *ram, const char *name, struct gm_source **ret_source,
	struct gm_error *err)
{
	struct gm_source_ops ops = {
		.size = sizeof(ops),
		.name = "mapped-ram",
		.len = ram->len,
		.extent = mapped_extent,
		.read = mapped_read,
		.destroy = mapped_destroy,
	};
	size_t first = name ? gm_mapped_ram_find(ram, name) : 0;
	struct mapped *mapped;
	int rc;

	if (first == ram->nr)
		return gm_error_set(
			err, -ENOENT, 0, 0, "mapped-ram: there is no block named %s", name);
	rc = check_finished(ram, first, name ? first + 1 : ram->nr, err);
	if (rc)
		return rc;
	mapped = gm_sys_alloc(sizeof(*mapped));
	if (!mapped)
		return refuse(err, -ENOMEM, "no memory for a source");
	__atomic_fetch_add(&ram->refs, 1, __ATOMIC_RELAXED);
	mapped->ram = ram;
	mapped->base = ram->blocks[first].off;
	if (name)
		ops.len = ram->blocks[first].len;
	ops.ctx = mapped;
	rc = gm_source_create(&ops, ret_source, err);
	if (rc)
		mapped_destroy(mapped);
	return rc;
}
