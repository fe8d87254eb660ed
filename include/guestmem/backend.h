/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backend.h - memory that somebody else provides: by host addresses on demand, or by messages.
 *
 * A block with GM_BACKING_OPS has no mapping; its bytes are reached by the callbacks of a backend. It
 * is memory like any other to regions, aliases, listeners and all access functions. A backend offers
 * at least one way to its bytes: translate, map and unmap, or read and write. What it answers is
 * checked as if it came from a peer: what cannot be is -EPROTO, and nothing is touched by it.
 *
 * Callbacks are called with no lock held, by any thread that accesses the memory, in its reader's
 * section. They may sleep; a change of the map that must wait for readers waits as long. A callback
 * that accesses its own memory gets -EBUSY.
 */
#ifndef GUESTMEM_BACKEND_H
#define GUESTMEM_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/error.h>
#include <guestmem/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct gm_backend_piece - an answer: where bytes are now
 * @hva:      host address of the first byte that was asked for; its last three bits are those of the offset
 * @len:      bytes from there on, at least 1, at most as many as were asked for
 * @perms:    GM_PERM_* bits, those asked for among them
 * @reserved: zero
 * @cookie:   the backend's own, for its unmap
 */
struct gm_backend_piece {
	void *hva;
	uint64_t len;
	uint32_t perms;
	uint32_t reserved;
	void *cookie;
};

/** enum gm_backend_atomic - operations of gm_backend_ops.atomic */
enum gm_backend_atomic {
	GM_BACKEND_EXCHANGE,
	GM_BACKEND_FETCH_ADD,
	GM_BACKEND_FETCH_AND,
	GM_BACKEND_FETCH_OR,
	GM_BACKEND_FETCH_XOR,
	GM_BACKEND_CMPXCHG,
};

/**
 * struct gm_backend_ops - a provider of memory; all offsets are bytes of its block
 * @size:      sizeof(struct gm_backend_ops)
 * @translate: optional: where @len bytes from @off on are, at least the first of them. The address
 *             is used in this access only, but until the reader's section ends: memory that is to go
 *             stays until gm_space_synchronize() returned after it was last told
 * @map:       optional: the same, and they stay there until @unmap. Slices need it
 * @unmap:     ends a map; called once for each that returned 0, by any thread
 * @read:      optional: copies bytes out. *ret_done is how many, also with an error; 0 of them without
 *             one is -EPROTO
 * @write:     the same, in; with @read, unless the memory is read-only
 * @atomic:    optional: read, modify and write @size (1, 2, 4, 8) bytes at an aligned @off as one,
 *             sequentially consistent. *seen is what is expected (GM_BACKEND_CMPXCHG), and is set to what was there
 * @release:   optional: the last use of the block is over
 * @ctx:       passed to each
 * @discard:   optional: gives whole pages back, which are zeros afterwards (discard.h)
 *
 * All but @unmap and @release return 0 or a negative errno value, which the access returns. The
 * first of these is used that there is: for bytes @translate, @read or @write, @map; for atomic
 * accesses @translate, @map, @atomic (a load or store: @read or @write of that size at once).
 */
struct gm_backend_ops {
	size_t size;
	int (*translate)(void *ctx, uint64_t off, uint64_t len, uint32_t perms,
		struct gm_backend_piece *ret);
	int (*map)(void *ctx, uint64_t off, uint64_t len, uint32_t perms,
		struct gm_backend_piece *ret);
	void (*unmap)(void *ctx, const struct gm_backend_piece *piece);
	int (*read)(void *ctx, uint64_t off, void *buf, size_t len, size_t *ret_done);
	int (*write)(void *ctx, uint64_t off, const void *buf, size_t len, size_t *ret_done);
	int (*atomic)(void *ctx, uint32_t op, uint64_t off, uint32_t size, uint64_t value,
		uint64_t *seen);
	void (*release)(void *ctx);
	void *ctx;
	int (*discard)(void *ctx, uint64_t off, uint64_t len);
};

#ifdef __cplusplus
}
#endif

#endif
