/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * unmapped.c - the backend of a block that has a file and no mapping.
 *
 * Bytes go by positioned I/O on the file. What has to be memory (atomic accesses, slices, and all
 * of hugetlbfs, which has no write) is mapped for as long as it is needed. Nothing is kept.
 */
#include <errno.h>
#include <sys/mman.h>

#include "memory/backend.h"
#include "memory/block.h"
#include "sys/sys.h"

static int prot_of(uint32_t perms)
{
	return PROT_READ | (perms & GM_PERM_W ? PROT_WRITE : 0);
}

/* The pages around. Its cookie is how many bytes lie in front of the answer. */
static int map_pages(
	void *ctx, uint64_t off, uint64_t len, uint32_t perms, struct gm_backend_piece *ret)
{
	const struct gm_block *block = ctx;
	uint64_t skip = off % block->page_size;
	uint64_t end = (off + len + block->page_size - 1) & ~(block->page_size - 1);
	void *addr;
	int rc = gm_sys_mmap(NULL, (size_t)(end - (off - skip)), prot_of(perms), MAP_SHARED,
		block->fd, block->offset + (off - skip), &addr);

	if (rc)
		return rc;
	ret->hva = (uint8_t *)addr + skip;
	ret->len = len;
	ret->perms = perms;
	ret->cookie = (void *)(uintptr_t)skip;
	return 0;
}

static void unmap_pages(void *ctx, const struct gm_backend_piece *piece)
{
	const struct gm_block *block = ctx;
	uint64_t skip = (uintptr_t)piece->cookie;
	uint64_t len = (skip + piece->len + block->page_size - 1) & ~(block->page_size - 1);

	gm_sys_munmap((uint8_t *)piece->hva - skip, (size_t)len);
}

/* Interrupted calls are made again; an end of the file before the block's is an error. */
static int finish(ssize_t n, size_t *ret_done)
{
	if (n < 0)
		return (int)n;
	*ret_done = (size_t)n;
	return n == 0 ? -EIO : 0;
}

static int read_file(void *ctx, uint64_t off, void *buf, size_t len, size_t *ret_done)
{
	const struct gm_block *block = ctx;
	ssize_t n;

	do {
		n = gm_sys_pread(block->fd, buf, len, block->offset + off);
	} while (n == -EINTR);
	return finish(n, ret_done);
}

static int write_file(void *ctx, uint64_t off, const void *buf, size_t len, size_t *ret_done)
{
	const struct gm_block *block = ctx;
	ssize_t n;

	do {
		n = gm_sys_pwrite(block->fd, buf, len, block->offset + off);
	} while (n == -EINTR);
	return finish(n, ret_done);
}

int gm_unmapped_create(struct gm_block *block, struct gm_backend **ret, struct gm_error *err)
{
	struct gm_backend_ops ops = {
		.size = sizeof(ops),
		.map = map_pages,
		.unmap = unmap_pages,
		.ctx = block,
	};

	if (!block->hugetlb) {
		ops.read = read_file;
		ops.write = write_file;
	}
	return gm_backend_create(&ops, ret, err);
}
